use super::*;
use linli_shared::service::config::WrongValue;
use std::path::Path;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    channel: Vec<ChannelEntry>,
    #[serde(default)]
    route: Vec<RouteEntry>,
}

fn read(text: &str) -> Result<(Vec<Channel>, Vec<Route>), String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let say = |(key, fix): WrongValue| format!("{key}: {fix}");
    let channels = channels(file.channel, Path::new("/etc/linli")).map_err(say)?;
    let routes = routes(file.route, &channels).map_err(say)?;
    Ok((channels, routes))
}

const HOOK: &str = "[[channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"https://a.example/x\"\nsecret_file = \"s\"\n";

#[test]
fn without_routes_the_usual_ones_exist_and_tell_nobody() {
    let (channels, routes) = read("").expect("good");
    assert!(channels.is_empty());
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, DEFAULT_ROUTES);
    assert!(routes.iter().all(|route| route.channels.is_empty()));
}

#[test]
fn every_kind_has_its_own_keys_and_a_rate() {
    let (channels, routes) = read(&format!(
        "{HOOK}severity_min = \"alarm\"\ngrades = [\"red\"]\nca_file = \"ca.pem\"\n\
         [[channel]]\nname = \"wecom\"\nkind = \"wecom\"\nkey_file = \"/run/k\"\n\
         [[channel]]\nname = \"ding\"\nkind = \"dingtalk\"\nkey_file = \"k\"\nsecret_file = \"s\"\nrate = {{ messages = 5, per = \"10s\" }}\n\
         [[channel]]\nname = \"feishu\"\nkind = \"feishu\"\nkey_file = \"k\"\nsecret_file = \"s\"\n\
         [[channel]]\nname = \"mail\"\nkind = \"mail\"\nsmtp = \"localhost\"\ntls = \"none\"\nfrom = \"a@b.example\"\nto = [\"值班 <c@d.example>\"]\n\
         [[channel]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:9093\"\n\
         [[route]]\nname = \"duty-centre\"\nchannels = [\"hook\", \"am\"]\nescalate = \"police\"\n\
         [[route]]\nname = \"police\"\n"
    ))
    .expect("good");
    let rates: Vec<u32> = channels
        .iter()
        .map(|channel| channel.rate.messages)
        .collect();
    assert_eq!(rates, [600, 20, 5, 20, 30, 600]);
    assert_eq!(channels[0].severity_min, Severity::Alarm);
    assert_eq!(
        channels[0].ca_file.as_deref(),
        Some(Path::new("/etc/linli/ca.pem"))
    );
    assert!(
        matches!(&channels[1].target, Target::Wecom { key_file, .. } if key_file == Path::new("/run/k"))
    );
    assert!(matches!(&channels[4].target, Target::Mail(mail) if mail.port == 25));
    assert_eq!(routes[0].escalate.as_deref(), Some("police"));
}

#[test]
fn what_is_wrong_is_named_with_its_fix() {
    let mail = "[[channel]]\nname = \"m\"\nkind = \"mail\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";
    for (text, says) in [
        (format!("{HOOK}{HOOK}"), vec!["channel \"hook\"", "another channel"]),
        (format!("{HOOK}[[route]]\nname = \"r\"\nchannels = [\"hoook\"]"), vec!["route \"r\"", "\"hoook\"", "one of hook"]),
        (format!("{HOOK}[[route]]\nname = \"r\"\nchannels = [\"hook\", \"hook\"]"), vec!["route \"r\"", "twice"]),
        ("[[route]]\nname = \"r\"\n[[route]]\nname = \"r\"".to_owned(), vec!["another route"]),
        ("[[route]]\nname = \"a\"\nescalate = \"b\"\n[[route]]\nname = \"b\"\nescalate = \"a\"".to_owned(), vec!["a → b → a", "remove"]),
        ("[[route]]\nname = \"a\"\nescalate = \"a\"".to_owned(), vec!["a → a"]),
        ("[[route]]\nname = \"a\"\nescalate = \"b\"".to_owned(), vec!["no route \"b\""]),
        ("[[route]]\nname = \"a b\"".to_owned(), vec!["\"a b\" is not a name"]),
        (HOOK.replace("https", "http"), vec!["channel \"hook\" url", "plaintext"]),
        (HOOK.replace("https://a.example/x", "a.example"), vec!["not a URL"]),
        (HOOK.replace("https", "ftp"), vec!["write https"]),
        (HOOK.replace("a.example/x", "u:p@a.example/x"), vec!["password_file"]),
        (HOOK.replace("secret_file", "key_file"), vec!["secret_file", "is missing"]),
        (format!("{HOOK}smtp = \"x\""), vec!["smtp", "no meaning"]),
        (format!("{HOOK}rate = {{ messages = 0, per = \"1m\" }}"), vec!["messages = 20"]),
        (format!("{HOOK}severity_min = \"huge\""), vec!["info, notice, warning, alarm, life"]),
        (format!("{HOOK}grades = [\"pink\"]"), vec!["\"pink\"", "red, orange"]),
        (format!("{HOOK}colour = \"pink\""), vec!["colour"]),
        ("[[channel]]\nname = \"w\"\nkind = \"wecom\"\nurl = \"https://a.example/send?key=1\"\nkey_file = \"k\"".to_owned(), vec!["key_file"]),
        ("[[channel]]\nname = \"w\"\nkind = \"pigeon\"".to_owned(), vec!["pigeon", "wecom"]),
        (mail.to_owned(), vec!["smtp", "is missing"]),
        (format!("{mail}smtp = \"mail.example\"\ntls = \"none\""), vec!["this machine", "required"]),
        (format!("{mail}smtp = \"mail.example\"\nuser = \"u\""), vec!["password_file"]),
        (format!("{mail}smtp = \"m.example\"\ntls = \"opportunistic\"\nuser = \"u\"\npassword_file = \"p\""), vec!["never sent without TLS"]),
        (mail.replace("c@d.example", "nobody") + "smtp = \"m.example\"", vec!["\"nobody\" is not an address"]),
    ] {
        let said = read(&text).expect_err(&text);
        for word in says {
            assert!(said.contains(word), "{text}\n{said}");
        }
    }
}
