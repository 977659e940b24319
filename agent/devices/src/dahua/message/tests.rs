use super::*;
use proptest::prelude::*;

fn one(text: &str) -> Event<'_> {
    match decode(text).expect(text) {
        Message::Events(mut events) if events.len() == 1 => events.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parts_are_read_as_devices_write_them() {
    assert_eq!(decode("Heartbeat"), Ok(Message::Heartbeat));
    assert_eq!(decode("\r\nHeartbeat\r\n\r\n"), Ok(Message::Heartbeat));
    let bare = one("Code=VideoMotion;action=Start;index=0\r\n");
    assert_eq!(
        (bare.code, bare.action, bare.index),
        ("VideoMotion", Action::Start, "0")
    );
    assert_eq!(one("Code=AlarmLocal; action=Stop").index, "");
    let door = one(
        "Code=AccessControl;action=Pulse;index=0;data={\n  \"CardNo\" : \"3271\",\n \"Status\" : 1,\n \"Method\": 15,\n\
        \"Object\" : null, \"X\": [{\"data=\": 1}], \"UTC\" : 1782878400, \"LocaleTime\": \"2026-07-01 12:00:00\"\n}\n",
    );
    assert_eq!(door.data.card_no.0, "3271");
    assert_eq!(
        (door.data.status.0.as_ref(), door.data.utc.0.as_ref()),
        ("1", "1782878400")
    );
    let line = one(
        "Code=CrossLineDetection;action=Start;index=2;data={\"Object\": {\"ObjectType\": \"Human\", \"BoundingBox\": [1]}}",
    );
    assert_eq!(line.data.object.object_type, "Human");
    assert_eq!(
        one("Code=X;action=Start;index=2;data={\"Object\": [1]}")
            .data
            .object
            .object_type,
        ""
    );
    // Several events in one part.
    let Ok(Message::Events(events)) = decode(
        "Code=A;action=Pulse;index=0;data={ \"Status\" : \"Open\" }\r\nCode=B;action=Pulse;index=1;data={\n\"Method\":4}",
    ) else {
        panic!("no events");
    };
    assert_eq!(
        events.iter().map(|event| event.code).collect::<Vec<_>>(),
        ["A", "B"]
    );
    assert_eq!(events[1].data.method.0, "4");
}

#[test]
fn what_is_none_says_why() {
    for (text, reason) in [
        ("", "neither"),
        ("OK", "neither"),
        ("ErrorCode=1", "neither"),
        ("Code=;action=Start", "Code is empty"),
        ("Code= ", "Code is empty"),
    ] {
        let reject = decode(text).expect_err(text);
        assert!(reject.reason.contains(reason), "{text:?}: {reject}");
    }
    let many = "Code=A;action=Start\n".repeat(EVENTS_MAX + 1);
    let read = decode_all(&many);
    assert_eq!(read.iter().filter(|read| read.is_ok()).count(), EVENTS_MAX);
    assert!(read.last().is_some_and(Result::is_err));
    let deep = format!("Code=A;action=Start;data={{\"a\":{}", "[".repeat(100_000));
    assert_eq!(one(&deep).code, "A");
}

#[test]
fn what_is_broken_in_an_event_costs_itself() {
    for text in [
        "Code=FireWarning;action=Start;index=6;data={\"a\":",
        "Code=FireWarning;action=Start;index=6;data={ \"Object\" : { \"ObjectType\" : \"Fire\", \"uuid\" : \"2401",
        "Code=FireWarning;action=Start;index=6;data={\"a\":1}}",
        "Code=FireWarning;action=Start;index=6;data=",
        "Code=FireWarning;action=Start;index=6;data={'a': None}",
        "Code=FireWarning;action=Start;index=6;dbta={\"a\":1}",
        "Code=FireWarning;action=Start;index=6;x",
        "code=FireWarning; Action=start; index=6",
    ] {
        let event = one(text);
        assert_eq!(
            (event.code, event.action, event.index),
            ("FireWarning", Action::Start, "6"),
            "{text}"
        );
    }
    for text in [
        "Code=FireWarning",
        "Code=FireWarning;action=Dance",
        "Code=FireWarning;action=",
    ] {
        assert_eq!(one(text).action, Action::Pulse, "{text}");
    }
    let cut = one(
        "Code=AccessControl;action=Pulse;index=0;data={\"Status\":0,\"CardNo\":\"0042\",\"RecNo\":12",
    );
    assert_eq!(
        (
            cut.data.status.0.as_ref(),
            cut.data.card_no.0.as_ref(),
            cut.data.rec_no.0.as_ref()
        ),
        ("0", "0042", "")
    );
    let large = one(
        "Code=A;action=Pulse;data={\"RecNo\":310112202611300000000001,\"CardNo\":00042,\"Status\":1,\"Status\":2}",
    );
    assert_eq!(large.data.rec_no.0, "310112202611300000000001");
    assert_eq!(
        (large.data.card_no.0.as_ref(), large.data.status.0.as_ref()),
        ("00042", "2")
    );
}

#[test]
fn each_of_several_events_is_read_by_itself() {
    for text in [
        "Code=CrossLineDetection;action=Start;index=2;data={ \"Name\" : \"IVS-1\", \"uuid\" : \"2401\nCode=Duress;action=Pulse;index=0;data={ \"Index\" : 0 }\n",
        "Code=CrossLineDetection;action=Start;index=2;data={\"a\":1} Code=Duress;action=Pulse;index=0",
        "Code=CrossLineDetection;action=Start;index=2;data={\"a\":1}Code=Duress;action=Pulse;index=0",
        "Heartbeat\r\nCode=CrossLineDetection;action=Start;index=2\r\nCode=Duress;action=Pulse;index=0",
        "junk\nCode=CrossLineDetection;action=Start;index=2\nCode=Duress;action=Pulse;index=0\nCode=",
    ] {
        let Ok(Message::Events(events)) = decode(text) else {
            panic!("{text}");
        };
        let codes: Vec<&str> = events.iter().map(|event| event.code).collect();
        assert_eq!(codes, ["CrossLineDetection", "Duress"], "{text}");
    }
    let read = decode_all("junk\nCode=A;action=Start\nCode=");
    assert_eq!(
        read.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, true, false]
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = decode(&text);
        let _ = decode(&format!("Code={text}"));
        let _ = decode(&format!("Code=A;action=Start;index=0;data={{{text}"));
    }

    #[test]
    fn what_was_written_is_read(code in "[A-Za-z]{1,30}", index in 0u32..64, card in "\\PC{0,20}") {
        let data = serde_json::json!({"CardNo": card});
        let text = format!("Code={code};action=Stop;index={index};data={data:#}");
        let event = one(&text);
        prop_assert_eq!(event.code, code);
        prop_assert_eq!(event.index, index.to_string());
        prop_assert_eq!(event.action, Action::Stop);
        prop_assert_eq!(event.data.card_no.0.as_ref(), card.trim());
    }
}
