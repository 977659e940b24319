//! Configs of sources that are refused: keys without effect on their type, and spans out of range.
use linli_shared::service::config::ConfigError;
use std::path::Path;

use crate::config::Config;

/// Returns the named key and the message of the error; `None`: the config is accepted.
fn refused(source: &str) -> Option<(String, String)> {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    std::fs::write(directory.path().join("secret"), "0123456789abcdef").expect("written");
    let path = directory.path().join("agent.toml");
    let text = format!("[[source]]\nname = \"s\"\n{source}\n")
        .replace("CONFIGS", &configs.display().to_string());
    std::fs::write(&path, text).expect("written");
    match Config::load(&path) {
        Ok(_) => None,
        Err(ConfigError::Value { key, message, .. }) => Some((key, message)),
        Err(other) => panic!("{source}: {other}"),
    }
}

/// A good source of each type that can be refused; `MORE` stands among its keys, `DEVICE` among its device's.
const MODBUS: &str = "type = \"modbus\"\nMORE\n[[source.device]]\nid = \"a\"\naddress = \"h:502\"\nmap = \"CONFIGS/registers/charging-pile.toml\"\nDEVICE";
const OCPP: &str = "type = \"ocpp\"\nlisten = \"127.0.0.1:0\"\nMORE";
const DC09: &str = "type = \"dc09\"\ntcp = \"127.0.0.1:0\"\nMORE\n[[source.account]]\naccount = \"1234\"\nid = \"a\"";
const MQTT: &str = "type = \"mqtt\"\nbroker = \"mqtt://h\"\nMORE\n[[source.topic]]\nfilter = \"a/+\"\nmappings = [\"CONFIGS/mappings/zigbee-smoke.toml\"]";
const PUSH: &str = "mapping = \"CONFIGS/mappings/doors.toml\"\nMORE";
const DAHUA: &str = "type = \"dahua\"\npassword_file = \"secret\"\nMORE\n[[source.device]]\nid = \"a\"\naddress = \"10.0.0.9\"\nDEVICE";
const ONVIF: &str = "type = \"onvif\"\npassword_file = \"secret\"\nMORE\n[[source.device]]\nid = \"a\"\naddress = \"10.0.0.9\"\nDEVICE";
const HIKVISION: &str = "type = \"hikvision\"\npush_secret_file = \"secret\"\nMORE\n[[source.device]]\nid = \"a\"\nDEVICE";

fn with(block: &str, more: &str, device: &str) -> String {
    block.replace("MORE", more).replace("DEVICE", device)
}

#[test]
fn a_silence_that_is_shorter_than_the_signs_of_life_is_refused_where_they_are_known() {
    let every = "every = \"1m\"";
    for (block, more, device, fix) in [
        (MODBUS, "silent_after = \"1m\"", every, "180000ms"),
        (MODBUS, "silent_after = \"4s\"", "", "15000ms"),
        (OCPP, "silent_after = \"30s\"", "", "180000ms"),
        (
            OCPP,
            "silent_after = \"5s\"\nheartbeat = \"5s\"",
            "",
            "15000ms",
        ),
        (DAHUA, "silent_after = \"5s\"", "", "15000ms"),
        (ONVIF, "silent_after = \"20s\"", "", "60000ms"),
    ] {
        let text = with(block, more, device);
        let (key, message) = refused(&text).unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(key, "source \"s\".silent_after", "{text}");
        assert!(message.contains(fix), "{message}");
    }
    for (block, more, device) in [
        (MODBUS, "silent_after = \"61s\"", every),
        (OCPP, "silent_after = \"6s\"\nheartbeat = \"5s\"", ""),
        (DAHUA, "silent_after = \"6s\"", ""),
        (ONVIF, "silent_after = \"21s\"", ""),
        // The agent does not know the interval of these devices.
        (HIKVISION, "silent_after = \"1s\"", ""),
        (DC09, "silent_after = \"1s\"", ""),
        (MQTT, "silent_after = \"1s\"", ""),
        (PUSH, "silent_after = \"1s\"", ""),
    ] {
        assert_eq!(refused(&with(block, more, device)), None, "{block} {more}");
    }
}

#[test]
fn keys_that_say_nothing_to_their_type_are_refused_with_what_to_do() {
    let zone = "zone = \"UTC\"";
    let roots = "ca_file = \"secret\"";
    for (block, more, device, key, fix) in [
        (MODBUS, zone, "", "zone", "no times"),
        (DC09, zone, "", "zone", "in UTC"),
        (MQTT, zone, "", "zone", "[occurred_at]"),
        (PUSH, zone, "", "zone", "[occurred_at]"),
        (
            PUSH,
            "token_file = \"secret\"\nhmac_header = \"x\"",
            "",
            "hmac_header",
            "hmac_secret_file",
        ),
        (ONVIF, "", "parts = true", "device[0].parts", "id/token"),
        (
            ONVIF,
            "",
            "parts = false",
            "device[0].parts",
            "leave it out",
        ),
        (ONVIF, roots, "", "ca_file", "https://"),
        (DAHUA, roots, "", "ca_file", "https://"),
        (HIKVISION, roots, "", "ca_file", "https://"),
        (HIKVISION, "", "user = \"x\"", "device[0].user", "address"),
        (
            HIKVISION,
            "",
            "password_file = \"secret\"",
            "device[0].password_file",
            "address",
        ),
        (HIKVISION, "catch_up = \"1h\"", "", "catch_up", "address"),
        (OCPP, "only_these = true", "", "only_these", "chargers"),
    ] {
        let text = with(block, more, device);
        let (named, message) = refused(&text).unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(named, format!("source \"s\".{key}"), "{text}");
        assert!(message.contains(fix), "{text}: {message}");
    }
    // Each of them is accepted where it has an effect.
    for (block, more, device) in [
        (ONVIF, zone, ""),
        (OCPP, "only_these = true\nchargers = [\"a\"]", ""),
        (DAHUA, zone, "parts = true"),
        (
            PUSH,
            "hmac_secret_file = \"secret\"\nhmac_header = \"x\"",
            "",
        ),
        (
            HIKVISION,
            "catch_up = \"1h\"",
            "address = \"10.0.0.9\"\nuser = \"x\"\npassword_file = \"secret\"",
        ),
    ] {
        assert_eq!(refused(&with(block, more, device)), None, "{block} {more}");
    }
}

#[test]
fn an_address_stands_at_one_device_and_a_port_at_one_source() {
    for block in [DAHUA, ONVIF] {
        let twice = "[[source.device]]\nid = \"b\"\naddress = \"http://10.0.0.9:80\"";
        let text = with(block, "", twice);
        let (key, message) = refused(&text).unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(key, "source \"s\".device[1].address");
        assert!(message.contains("address of \"a\" too"), "{message}");
        let other = twice.replace(":80", ":8080");
        assert_eq!(refused(&with(block, "", &other)), None, "{block}");
    }
    let ocpp = "type = \"ocpp\"\nlisten = \"0.0.0.0:PORT\"";
    let panels = "[[source]]\nname = \"p\"\ntype = \"dc09\"\ntcp = \"10.0.0.1:5200\"\nudp = \"10.0.0.1:5201\"\n\
                  [[source.account]]\naccount = \"1234\"\nid = \"a\"";
    for (port, other) in [("5200", Some("source \"s\".listen")), ("5201", None)] {
        let text = format!("{}\n{panels}", ocpp.replace("PORT", port));
        let found = refused(&text);
        assert_eq!(found.is_some(), other.is_some(), "{found:?}");
        if let (Some((key, message)), Some(other)) = (found, other) {
            assert_eq!(key, "source \"p\".tcp");
            assert!(message.contains(other), "{message}");
        }
    }
    let (key, message) = refused(&ocpp.replace("PORT", "8420")).expect("the port of pushes");
    assert_eq!(key, "source \"s\".listen");
    assert!(message.contains("push.listen"), "{message}");
}

#[test]
fn what_cannot_be_read_names_the_source_and_its_key() {
    for (text, key, said) in [
        (
            "type = \"ocpp\"\nlisten = \"0.0.0.0\"",
            "source \"s\"",
            "listen",
        ),
        (
            "mapping = \"CONFIGS/mappings/doors.toml\"\ntoken_file = \"none\"",
            "source \"s\".token_file",
            "umask 077",
        ),
        (
            "type = \"ocpp\"\nlisten = \"127.0.0.1:0\"\npassword_file = \"none\"",
            "source \"s\".password_file",
            "umask 077",
        ),
    ] {
        let (named, message) = refused(text).unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(named, key, "{message}");
        assert!(message.contains(said), "{message}");
    }
}
