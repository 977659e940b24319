use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

const MOTION: &str = "<EventNotificationAlert version=\"2.0\" xmlns=\"http://www.hikvision.com/ver20/XMLSchema\">\r\n\
    <channelID>1</channelID>\r\n<dateTime>2021-07-02T14:27:55+08:00</dateTime>\r\n<activePostCount>1</activePostCount>\r\n\
    <eventType>VMD</eventType>\r\n<eventState>active</eventState>\r\n<channelName></channelName>\r\n\
    <Extensions version=\"1.0\" xmlns=\"urn:psialliance-org\"><eventPush>IO&amp;&amp;a</eventPush></Extensions>\r\n\
    </EventNotificationAlert>\r\n";

#[test]
fn xml_is_read_whatever_its_dress() {
    let wanted = Alert {
        event_type: "VMD".into(),
        channel: "1".into(),
        time: "2021-07-02T14:27:55+08:00".into(),
        ..Alert::default()
    };
    let dresses = [
        MOTION.to_owned(),
        format!("<?xml version=\"1.0\" encoding=\"GB2312\" ?>\n{MOTION}"),
        MOTION
            .replace("ver20", "ver10")
            .replace("\"2.0\"", "\"1.0\""),
        MOTION.replace(
            "http://www.hikvision.com/ver20/XMLSchema",
            "http://www.std-cgi.com/ver20/XMLSchema",
        ),
        MOTION.replace(
            "http://www.hikvision.com/ver20/XMLSchema",
            "http://www.isapi.org/ver20/XMLSchema",
        ),
        MOTION.replace("channelID", "dynChannelID"),
        MOTION.replace("<activePostCount>1</activePostCount>", "<activePostCount/>"),
        MOTION.replace(
            "<channelName></channelName>",
            "<channelName>Gate & yard &nbsp; &lt;1&gt; &#x4e00;</channelName>",
        ),
        MOTION.replace("<eventType>VMD<", "<eventType> \r\n<![CDATA[VMD]]> <"),
        MOTION
            .replace("<eventType>", "<h:eventType xmlns:h=\"x\">")
            .replace("</eventType>", "</h:eventType>"),
        MOTION.replace("VMD", "&#86;M&#x44;"),
    ];
    for dress in dresses {
        assert_eq!(decode(&dress).as_ref(), Ok(&wanted), "{dress}");
    }
    // An undeclared entity stays as written; an invalid character reference affects only itself.
    let strange = MOTION.replace("<channelName>", "<channelName>&#xFFFFFFFF; &bomb;");
    assert_eq!(decode(&strange).as_ref(), Ok(&wanted));
    let over = MOTION.replace(">active<", ">Inactive<");
    assert_eq!(decode(&over).map(|alert| alert.stage), Ok(Stage::Inactive));
}

#[test]
fn json_and_xml_of_a_door_read_the_same() {
    let json = r#"{"dateTime": "2025-06-22T10:37:39-04:00", "eventType": "AccessControllerEvent", "eventState": "active",
        "channelID": 1, "unknown": {"a": [1, {"b": null}]}, "AccessControllerEvent": {"majorEventType": 5, "subEventType": "75",
        "doorNo": 1, "serialNo": 18, "currentEvent": false, "currentVerifyMode": "cardOrFace", "employeeNo": 7, "name": "王\u5c0f明",
        "cardNo": null, "FaceRect": {"height": 0.1}}}"#;
    let xml = "<EventNotificationAlert><channelID>1</channelID><dateTime>2025-06-22T10:37:39-04:00</dateTime>\
        <eventType>AccessControllerEvent</eventType><eventState>active</eventState><AccessControllerEvent>\
        <majorEventType>5</majorEventType><subEventType>75</subEventType><doorNo>1</doorNo><serialNo>18</serialNo>\
        <FaceRect><name>not this</name></FaceRect>\
        <currentEvent>false</currentEvent><currentVerifyMode>cardOrFace</currentVerifyMode><employeeNo>7</employeeNo>\
        <name>王小明</name><cardNo></cardNo></AccessControllerEvent></EventNotificationAlert>";
    let alert = decode(json).expect("JSON");
    assert_eq!(decode(xml).as_ref(), Ok(&alert));
    assert_eq!(
        decode(&format!("{{\"EventNotificationAlert\": {json}}}")).as_ref(),
        Ok(&alert)
    );
    let door = alert.door.expect("a door");
    assert_eq!(
        (door.major, door.minor, door.employee.as_ref()),
        (5, Some(75), "7")
    );
}

#[test]
fn what_is_no_alert_says_what_it_is() {
    for (text, reason) in [
        ("", "neither XML nor JSON"),
        ("OK", "neither XML nor JSON"),
        ("{", "no eventType"),
        ("{}", "no eventType"),
        ("[]", "no eventType"),
        (
            "<EventNotificationAlert><eventType/></EventNotificationAlert>",
            "no eventType",
        ),
        (
            "<ResponseStatus><statusCode>4</statusCode></ResponseStatus>",
            "ResponseStatus",
        ),
        (
            "<EventNotificationAlert><channelID>1</channelID><eventType>VMD</even",
            "ends before its root does",
        ),
        ("<html><body>Login</body></html>", "the root is \"html\""),
        (
            "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><EventNotificationAlert/>",
            "document type",
        ),
    ] {
        let reject = decode(text).expect_err(text);
        assert!(reject.reason.contains(reason), "{text:?}: {reject}");
    }
}

#[test]
fn of_a_message_that_is_cut_or_damaged_what_is_whole_counts() {
    let kind = MOTION.find("</eventType>").expect("a type") + "</eventType>".len();
    for end in (0..MOTION.len()).filter(|end| MOTION.is_char_boundary(*end)) {
        let alert = decode(&MOTION[..end]);
        if end >= kind {
            assert_eq!(alert.expect("an alert").event_type, "VMD");
        } else {
            assert!(alert.is_err(), "{}", &MOTION[..end]);
        }
    }
    let json = r#"{"eventType":"VMD","channelID":1,"dateTime":"2026-07-01T12:00:00","eventState":"active"}"#;
    for end in r#"{"eventType":"VMD""#.len()..json.len() {
        assert_eq!(decode(&json[..end]).expect("an alert").event_type, "VMD");
    }
    for nearly in [
        json.replace('"', "'"),
        json.replace("1,", "NaN,"),
        json.replace("VMD\"", "VMD\",\"eventType\":\"VMD\""),
        json.replace('}', ",}"),
    ] {
        assert_eq!(decode(&nearly).expect(&nearly).event_type, "VMD");
    }
}

#[test]
fn each_of_several_alerts_is_read() {
    let json =
        |kind: &str| format!(r#"{{"eventType":"{kind}","eventState":"active","channelID":1}}"#);
    let (one, two) = (json("VMD"), json("IO"));
    let xml = MOTION.trim();
    for text in [
        format!("[{one},{two}]"),
        format!("{one}\r\n{two}"),
        format!("{{\"EventNotificationAlert\":[{one},{two}]}}"),
        format!("{{\"events\":[{one},{two}]}}"),
        format!("{xml}{}", xml.replace("VMD", "IO")),
        format!(
            "<EventNotificationAlertList>{xml}{}</EventNotificationAlertList>",
            xml.replace("VMD", "IO")
        ),
        format!(
            "{}{}",
            xml.replace("</EventNotificationAlert>", ""),
            xml.replace("VMD", "IO")
        ),
    ] {
        let read = decode_all(&text);
        let kinds: Vec<&str> = read
            .iter()
            .flatten()
            .map(|alert| alert.event_type.as_ref())
            .collect();
        assert_eq!(kinds, ["VMD", "IO"], "{text}");
    }
    // A broken alert affects only itself.
    let text = format!("[{one},{{\"channelID\":1}},{two}]");
    let read = decode_all(&text);
    assert_eq!(
        read.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn regions_targets_and_what_lasts_are_read() {
    let regions = |text: &str| {
        let alert = decode(text).expect(text);
        let regions = alert.regions.iter();
        regions
            .map(|region| format!("{}:{}", region.id, region.target))
            .collect::<Vec<_>>()
    };
    let xml = |inner: &str| {
        format!(
            "<EventNotificationAlert><eventType>fielddetection</eventType>{inner}</EventNotificationAlert>"
        )
    };
    let entry = |id: &str, target: &str| {
        format!(
            "<DetectionRegionEntry><regionID>{id}</regionID><RegionCoordinatesList><x>1</x></RegionCoordinatesList>{target}</DetectionRegionEntry>"
        )
    };
    let target = |name: &str| format!("<detectionTarget>{name}</detectionTarget>");
    let list = |inner: String| {
        xml(&format!(
            "<DetectionRegionList>{inner}</DetectionRegionList>"
        ))
    };
    assert_eq!(regions(&list(entry("3", &target("human")))), ["3:human"]);
    assert_eq!(
        regions(&list(
            entry("3", &target("human")) + &entry("2", &target("vehicle"))
        )),
        ["3:human", "2:vehicle"]
    );
    assert_eq!(
        regions(&xml(&format!(
            "{}<DetectionRegionList>{}</DetectionRegionList>",
            target("human"),
            entry("1", "")
        ))),
        ["1:human"]
    );
    assert_eq!(regions(&xml(&target("human"))), [":human"]);
    assert_eq!(regions(&xml("")), Vec::<String>::new());
    for json in [
        r#"{"eventType":"fielddetection","DetectionRegionList":[{"regionID":3,"detectionTarget":"human"},{"regionID":2}]}"#,
        r#"{"eventType":"fielddetection","DetectionRegionList":[{"DetectionRegionEntry":{"regionID":"3","detectionTarget":"human"}},{"DetectionRegionEntry":{"regionID":"2"}}]}"#,
    ] {
        assert_eq!(regions(json), ["3:human", "2:"], "{json}");
    }
    let lasting = "<EventNotificationAlert><eventType>duration</eventType><eventState>active</eventState><durationList><duration><relationEvent>fielddetection</relationEvent></duration></durationList></EventNotificationAlert>";
    assert_eq!(
        decode(lasting).expect("an alert").event_type,
        "fielddetection"
    );
    let json = r#"{"eventType":"duration","eventState":"active","durationList":[{"relationEvent":"fielddetection"},{"relationEvent":"linedetection"}]}"#;
    assert_eq!(decode_all(json).len(), 2);
    let bare = "<EventNotificationAlert><eventType>duration</eventType></EventNotificationAlert>";
    assert_eq!(decode(bare).expect("an alert").event_type, "duration");
}

#[test]
fn bombs_cost_no_more_than_their_size() {
    let laughs: String = (0..30)
        .map(|level| {
            format!(
                "<!ENTITY l{} \"{}\">",
                level + 1,
                format!("&l{level};").repeat(10)
            )
        })
        .collect();
    let bombs = [
        format!(
            "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY l0 \"ha\">{laughs}]><EventNotificationAlert>&l30;</EventNotificationAlert>"
        ),
        "<EventNotificationAlert>".repeat(10_000),
        format!(
            "<EventNotificationAlert><a>{}</a><eventType>VMD</eventType>",
            "&l30;".repeat(50_000)
        ),
        format!("<EventNotificationAlert><a {}>", "b=\"c\" ".repeat(40_000)),
        "[".repeat(250_000),
        format!("{{\"eventType\": \"VMD\", \"x\": {}", "[".repeat(250_000)),
    ];
    let started = Instant::now();
    for bomb in &bombs {
        // The intact part before the bomb counts.
        if let Ok(alert) = decode(bomb) {
            assert_eq!(alert.event_type, "VMD");
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = decode(&text);
        let _ = decode(&format!("<EventNotificationAlert>{text}</EventNotificationAlert>"));
        let _ = decode(&format!("{{\"eventType\": {text}}}"));
    }

    #[test]
    fn what_was_written_is_read(kind in "[a-zA-Z]{1,20}", channel in 0u32..100, active in any::<bool>(), name in "\\PC{0,30}") {
        let state = if active { "active" } else { "inactive" };
        let escaped = quick_xml::escape::escape(&name);
        let xml = format!("<EventNotificationAlert><channelName>{escaped}</channelName><channelID>{channel}</channelID>\
            <eventType>{kind}</eventType><eventState>{state}</eventState></EventNotificationAlert>");
        let json = serde_json::json!({"eventType": kind, "eventState": state, "channelID": channel, "channelName": name}).to_string();
        let alert = decode(&xml).expect("XML");
        let same = decode(&json);
        prop_assert_eq!(same.as_ref(), Ok(&alert));
        prop_assert_eq!(alert.event_type.as_ref(), kind.as_str());
        prop_assert_eq!(alert.channel.as_ref(), channel.to_string());
        prop_assert_eq!(alert.stage == Stage::Active, active);
    }
}
