use super::file::MappingError;
use super::*;
use crate::time::Claim;
use linli_shared::protocol::codec;
use linli_shared::protocol::event::{Event, Place};
use linli_shared::protocol::limits::ATTRIBUTES_MAX;
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z.
const NOW_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;

fn load(toml: &str) -> Result<Mapping, MappingError> {
    let file: MappingFile = toml::from_str(toml).expect("the mapping is TOML of its schema");
    Mapping::new("desk", file)
}

fn mapping(toml: &str) -> Mapping {
    load(&format!("schema = 1\n{toml}")).expect("the mapping is good")
}

fn refused(toml: &str) -> MappingError {
    match load(&format!("schema = 1\n{toml}")) {
        Ok(_) => panic!("must be refused: {toml}"),
        Err(error) => error,
    }
}

/// A mapping of doors whose `occurred_at` table has these lines.
fn timed(lines: &str) -> Mapping {
    mapping(&format!(
        "kind = {{ value = \"door.opened\" }}\n[occurred_at]\npointer = \"/time\"\n{lines}"
    ))
}

/// The event of a mapped item, read back from the bytes that would be stored.
#[derive(Debug, PartialEq)]
struct Admitted {
    event: Event,
    lane: Lane,
    retention: Retention,
}

/// Maps the one object of a line.
fn mapped_line<T>(
    mapping: &Mapping,
    line: &str,
    look: impl Fn(Result<Mapped<'_>, Reject>) -> T,
) -> T {
    let mut found = Vec::new();
    let read = mapping.line(line, &mut |item| found.push(look(mapping.map(item))));
    read.expect("JSON");
    assert_eq!(found.len(), 1, "{line}");
    found.swap_remove(0)
}

fn live(mapping: &Mapping, item: &Value) -> Result<Admitted, Reject> {
    mapped_line(mapping, &item.to_string(), |mapped| admitted(mapped?))
}

fn admitted(mapped: Mapped<'_>) -> Result<Admitted, Reject> {
    mapped
        .draft
        .check()
        .map_err(|error| Reject::Event(error.to_string()))?;
    let bytes = codec::encode("event", &mapped.draft).expect("plain values are CBOR");
    Ok(Admitted {
        event: codec::decode("event", &bytes).expect("an event"),
        lane: mapped.lane,
        retention: mapped.retention,
    })
}

fn event(mapping: &Mapping, item: &Value) -> Event {
    live(mapping, item).expect("the item is good").event
}

/// The time that an item claims.
fn claim_of(mapping: &Mapping, time: Value) -> Claim<'static> {
    let text = json!({ "time": time }).to_string();
    mapped_line(mapping, &text, |mapped| {
        match mapped.expect("a time costs no event").claim {
            Claim::None => Claim::None,
            Claim::Ms(ms) => Claim::Ms(ms),
            Claim::Unreadable(text) => Claim::Unreadable(text.into_owned().into()),
        }
    })
}

#[test]
fn each_field_comes_from_where_the_mapping_says() {
    let mapping = mapping(
        r#"
        id = "/no"
        kind = { pointer = "/nature", table = { FIGHT = "dispute.reported" } }
        severity = { pointer = "/grade", table = { "1" = "alarm" } }
        device = { value = "110-desk" }
        building = "/where/building"
        unit = "/where/units/1"
        address = "/where/a~1b"
        retention = "incident"
        [attributes.nature]
        pointer = "/nature"
        purpose = "type of dispute for dispatch"
        table = { FIGHT = "fight" }
        [attributes.armed]
        pointer = "/armed"
        purpose = "safety of who is sent"
        "#,
    );
    let admitted = live(
        &mapping,
        &json!({
            "no": 42, "nature": " FIGHT ", "grade": 1, "armed": false,
            "where": { "building": "B1", "units": ["U0", "U1"], "a/b": "A9" },
        }),
    )
    .expect("the item is good");
    assert_eq!(
        admitted,
        Admitted {
            lane: Lane::Urgent,
            retention: Retention::Incident,
            event: Event {
                kind: "dispute.reported".to_owned(),
                severity: Severity::Alarm,
                source: "desk".to_owned(),
                source_id: "42".to_owned(),
                device: "110-desk".to_owned(),
                place: Place {
                    building: "B1".to_owned(),
                    unit: "U1".to_owned(),
                    address: "A9".to_owned(),
                },
                attributes: [
                    ("nature".to_owned(), "fight".to_owned()),
                    ("armed".to_owned(), "false".to_owned()),
                ]
                .into(),
                ..Event::default()
            },
        }
    );
}

#[test]
fn the_lane_follows_the_severity_unless_the_mapping_names_one() {
    let by_severity = mapping("kind = { value = \"a.b\" }\nseverity = \"/s\"");
    for (severity, lane) in [
        ("info", Lane::Routine),
        ("warning", Lane::Routine),
        ("alarm", Lane::Urgent),
        ("life", Lane::Urgent),
    ] {
        let admitted = live(&by_severity, &json!({ "s": severity })).expect("good");
        assert_eq!(admitted.lane, lane, "{severity}");
    }
    let named = mapping("kind = { value = \"a.b\" }\nseverity = \"/s\"\nlane = \"media\"");
    let admitted = live(&named, &json!({ "s": "life" })).expect("good");
    assert_eq!(
        (admitted.lane, admitted.retention),
        (Lane::Media, Retention::Standard)
    );
}

#[test]
fn a_value_that_is_not_in_the_table_does_what_otherwise_says() {
    let with = |otherwise: &str| {
        mapping(&format!(
            "kind = {{ pointer = \"/k\", table = {{ OPEN = \"door.opened\" }}{otherwise} }}"
        ))
    };
    let other = json!({ "k": "SHUT" });
    assert_eq!(
        live(&with(", otherwise = \"skip\""), &other),
        Err(Reject::Filtered(Rule::Table("kind")))
    );
    for reject in ["", ", otherwise = \"reject\""] {
        assert_eq!(
            live(&with(reject), &other),
            Err(Reject::Unknown {
                field: "kind",
                value: "SHUT".to_owned(),
            })
        );
    }
    let value = with(", otherwise = \"door.held\"");
    assert_eq!(event(&value, &other).kind, "door.held");
    assert_eq!(event(&value, &json!({ "k": "OPEN" })).kind, "door.opened");
}

#[test]
fn a_fixed_value_stands_in_for_a_pointer_that_finds_nothing() {
    let mapping = mapping(
        "kind = { value = \"a.b\" }\ndevice = { pointer = \"/d\", value = \"gate\" }\nunit = \"/u\"",
    );
    assert_eq!(event(&mapping, &json!({ "d": "cam" })).device, "cam");
    for nothing in [
        json!({}),
        json!({ "d": null }),
        json!({ "d": "  " }),
        json!({ "d": [1] }),
    ] {
        let event = event(&mapping, &nothing);
        assert_eq!(
            (event.device.as_str(), event.place.unit.as_str()),
            ("gate", "")
        );
    }
}

#[test]
fn a_required_field_that_is_missing_is_named_with_its_pointer() {
    let missing = |field, pointer: &str| {
        Err(Reject::Missing {
            field,
            pointer: pointer.to_owned(),
        })
    };
    let by_pointer = mapping("kind = \"/k\"\nid = { pointer = \"/no\", required = true }");
    assert_eq!(
        live(&by_pointer, &json!({ "no": 1 })),
        missing("kind", "/k")
    );
    assert_eq!(
        live(&by_pointer, &json!({ "k": "a.b" })),
        missing("id", "/no")
    );
    assert_eq!(
        live(&by_pointer, &json!({ "k": "a.b", "no": {} })),
        missing("id", "/no")
    );
}

#[test]
fn a_mapping_that_is_wrong_is_refused_with_its_key() {
    let kind = "kind = { value = \"a.b\" }\n";
    let by = "[state]\npoint = \"p\"\nby = \"/s\"\non = [\"1\"]\n";
    for (key, toml) in [
        ("kind", "kind = \"nature\"".to_owned()),
        ("kind", "kind = {}".to_owned()),
        ("kind", "kind = { value = \"Door Opened\" }".to_owned()),
        (
            "kind",
            "kind = { pointer = \"/k\", table = { A = \"opened\" } }".to_owned(),
        ),
        (
            "kind",
            "kind = { pointer = \"/k\", table = { A = \"a.b\" }, otherwise = \"rejct\" }"
                .to_owned(),
        ),
        ("id", format!("{kind}id = \"no\"")),
        (
            "address",
            format!("{kind}address = {{ pointer = \"place\" }}"),
        ),
        ("device", format!("{kind}device = {{ required = true }}")),
        ("items", format!("{kind}items = \"data\"")),
        (
            "severity",
            format!("{kind}severity = {{ value = \"loud\" }}"),
        ),
        (
            "severity",
            format!("{kind}severity = {{ pointer = \"/s\", table = {{ A = \"loud\" }} }}"),
        ),
        (
            "severity",
            format!(
                "{kind}severity = {{ pointer = \"/s\", table = {{ A = \"info\" }}, otherwise = \"loud\" }}"
            ),
        ),
        (
            "occurred_at.pointer",
            format!("{kind}occurred_at = {{ pointer = \"t\" }}"),
        ),
        (
            "occurred_at.zone",
            format!("{kind}occurred_at = {{ pointer = \"/t\", zone = \"Asia/Peking\" }}"),
        ),
        (
            "occurred_at.formats",
            format!("{kind}occurred_at = {{ pointer = \"/t\", formats = [\"iso\"] }}"),
        ),
        (
            "occurred_at.formats",
            format!("{kind}occurred_at = {{ pointer = \"/t\", formats = [] }}"),
        ),
        (
            "attributes.floor",
            format!("{kind}[attributes.floor]\npointer = \"f\"\npurpose = \"p\""),
        ),
        (
            "attributes.floor.purpose",
            format!("{kind}[attributes.floor]\npointer = \"/f\"\npurpose = \" \""),
        ),
        ("state", format!("{kind}[state]\npoint = \"p\"")),
        (
            "state",
            format!("{kind}[state]\npoint = \"p\"\nactive = []\non = [\"1\"]"),
        ),
        (
            "state.active",
            format!("{kind}[state]\npoint = \"p\"\nactive = [\"other.kind\"]"),
        ),
        (
            "state.by",
            format!("{kind}[state]\npoint = \"p\"\nby = \"s\""),
        ),
        ("state.off", format!("{kind}{by}over = {{}}")),
        ("state.off", format!("{kind}{by}off = [\"2\", \"1\"]")),
        ("state.over", format!("{kind}{by}off = [\"2\"]")),
        (
            "state.over",
            format!("{kind}{by}off = [\"2\"]\nover = {{ \"x.y\" = \"a.b\" }}"),
        ),
        (
            "state.over",
            format!("{kind}{by}off = [\"2\"]\nover = {{ \"a.b\" = \"Over\" }}"),
        ),
        (
            "state.pointer",
            format!("{kind}[state]\npoint = \"p\"\npointer = \"t\"\nactive = []"),
        ),
    ] {
        let error = refused(&toml);
        assert_eq!(error.key, key, "{toml}");
        assert!(error.to_string().starts_with(&format!("{key}: ")));
        assert!(error.message.len() > 10, "says what to do: {error}");
    }
    let later = load("schema = 2\nkind = { value = \"a.b\" }").map(|_| ());
    assert_eq!(later.expect_err("a later schema").key, "schema");
}

#[test]
fn unknown_keys_and_an_attribute_without_purpose_are_no_mapping() {
    for (toml, named) in [
        (
            "schema = 1\nkind = { value = \"a.b\" }\nfilter = \"/x\"",
            "filter",
        ),
        (
            "schema = 1\nkind = { value = \"a.b\" }\n[attributes.a]\npointer = \"/a\"",
            "purpose",
        ),
        (
            "schema = 1\nkind = { value = \"a.b\" }\n[occurred_at]\npointer = \"/t\"\nformat = \"x\"",
            "format",
        ),
    ] {
        let error = toml::from_str::<MappingFile>(toml).expect_err("must be refused");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn there_is_room_for_the_time_of_the_device_beside_the_attributes() {
    let with = |count: usize| {
        let attributes: String = (0..count)
            .map(|n| format!("[attributes.a{n}]\npointer = \"/a\"\npurpose = \"p\"\n"))
            .collect();
        load(&format!(
            "schema = 1\nkind = {{ value = \"a.b\" }}\noccurred_at = {{ pointer = \"/t\" }}\n{attributes}"
        ))
    };
    let most = with(ATTRIBUTES_MAX - 1).expect("within the limit");
    let event = event(&most, &json!({ "a": 1, "t": "2000-01-01 00:00:00" }));
    assert_eq!(event.attributes.len(), ATTRIBUTES_MAX - 1);
    let error = with(ATTRIBUTES_MAX).map(|_| ()).expect_err("one too many");
    assert_eq!(error.key, "attributes");
}

#[test]
fn times_are_read_in_each_format_and_the_first_that_fits_counts() {
    let formats = timed("formats = [\"%d/%m/%Y %H:%M %z\", \"epoch_ms\"]");
    for (time, shift_ms) in [
        (json!("2026-01-01T00:00:00Z"), 0),
        (json!("2026-01-01T08:00:00.250+08:00"), 250),
        // No zone in the text: the mapping's, which is +08:00 unless it says otherwise.
        (json!("2026-01-01 08:00:00"), 0),
        (json!(" 2026-01-01 00:00:00 "), -8 * HOUR_MS),
        // A zone in the text counts more than the mapping's.
        (json!("01/01/2026 02:00 +0200"), 0),
        (json!(NOW_MS), 0),
        (json!((NOW_MS - 1).to_string()), -1),
        // A platform that changes its unit, or writes a float, is still read.
        (json!(NOW_MS / 1000), 0),
        (json!(NOW_MS as f64), 0),
    ] {
        let claim = claim_of(&formats, time.clone());
        assert_eq!(claim, Claim::Ms(NOW_MS + shift_ms), "{time}");
    }
    let seconds = timed("formats = [\"epoch_s\"]");
    assert_eq!(claim_of(&seconds, json!(NOW_MS / 1000)), Claim::Ms(NOW_MS));
    assert_eq!(claim_of(&seconds, json!(NOW_MS)), Claim::Ms(NOW_MS));
    for bad in [
        json!("yesterday"),
        json!("2026-13-01 00:00:00"),
        json!("0000-00-00 00:00:00"),
        json!(1.5),
        json!(0),
        json!(99_999),
    ] {
        let text = bad.as_str().map_or_else(|| bad.to_string(), str::to_owned);
        let unreadable = Claim::Unreadable(text.into());
        assert_eq!(claim_of(&formats, bad.clone()), unreadable, "{bad}");
    }
    for none in [json!(null), json!(""), json!({}), json!([])] {
        assert_eq!(claim_of(&formats, none), Claim::None);
    }
}

#[test]
fn local_times_follow_their_zone_through_the_change_of_the_clocks() {
    let chicago = timed("zone = \"America/Chicago\"");
    let utc = timed("zone = \"UTC\"");
    for (local, in_utc) in [
        ("2025-01-15 12:00:00", "2025-01-15 18:00:00"),
        ("2025-07-15 12:00:00", "2025-07-15 17:00:00"),
        // 02:30 is skipped that night: it reads as 03:30 of the new time.
        ("2025-03-09 02:30:00", "2025-03-09 08:30:00"),
        ("2025-03-09 01:59:59", "2025-03-09 07:59:59"),
        ("2025-03-09 03:00:00", "2025-03-09 08:00:00"),
        // 01:30 occurs twice that night: the first is taken.
        ("2025-11-02 01:30:00", "2025-11-02 06:30:00"),
        ("2025-11-02 02:00:00", "2025-11-02 08:00:00"),
    ] {
        let claim = claim_of(&chicago, json!(local));
        assert!(matches!(claim, Claim::Ms(_)), "{local}");
        assert_eq!(claim, claim_of(&utc, json!(in_utc)), "{local}");
    }
}

#[test]
fn a_mapping_says_which_items_report_the_past() {
    let replayed = |lines: &str, item: Value| {
        let mapping = mapping(&format!("kind = {{ value = \"door.opened\" }}\n{lines}"));
        mapped_line(&mapping, &item.to_string(), |mapped| {
            mapped.expect("an event").replayed
        })
    };
    assert!(!replayed("", json!({})));
    assert!(replayed("replayed = true", json!({})));
    let by_value = "[replayed]\npointer = \"/history\"\nvalues = [\"true\", \"1\"]";
    assert!(replayed(by_value, json!({ "history": true })));
    assert!(replayed(by_value, json!({ "history": 1 })));
    assert!(!replayed(by_value, json!({ "history": false })));
    assert!(!replayed(by_value, json!({})));
}

#[test]
fn what_a_mapping_does_not_declare_never_reaches_the_event() {
    let mapping = mapping(
        r#"
        id = "/no"
        kind = { value = "dispute.reported" }
        address = "/place"
        [attributes.nature]
        pointer = "/nature"
        purpose = "type of dispute for dispatch"
        "#,
    );
    let event = event(
        &mapping,
        &json!({
            "no": "J1", "place": "A1", "nature": "noise",
            "caller": "SECRET", "phone": "SECRET", "SECRET": 1,
            "deep": { "id_number": "SECRET", "list": ["SECRET"] },
        }),
    );
    assert_eq!(event.raw, None);
    let shown = serde_json::to_string(&event).expect("an event is JSON");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert_eq!(event.attributes.len(), 1);
}

#[test]
fn an_attribute_that_points_at_more_than_a_value_takes_nothing() {
    let mapping = mapping(
        "kind = { value = \"a.b\" }\n[attributes.a]\npointer = \"/a\"\npurpose = \"p\"\n\
         [attributes.all]\npointer = \"\"\npurpose = \"p\"",
    );
    for item in [
        json!({ "a": { "phone": "1" } }),
        json!({ "a": ["1"] }),
        json!({ "a": null }),
    ] {
        assert_eq!(event(&mapping, &item).attributes.len(), 0, "{item}");
    }
}

#[test]
fn a_long_attribute_is_cut_where_a_character_ends() {
    let mapping =
        mapping("kind = { value = \"a.b\" }\n[attributes.a]\npointer = \"/a\"\npurpose = \"p\"");
    let cut = |text: String| event(&mapping, &json!({ "a": text })).attributes["a"].clone();
    assert_eq!(cut("x".repeat(1024)).len(), 1024);
    assert_eq!(cut("x".repeat(1025)).len(), 1024);
    // Three bytes a character: 341 fit into 1,024, and one byte stays free.
    assert_eq!(cut("门".repeat(342)), "门".repeat(341));
    assert_eq!(
        cut(format!("x{}", "门".repeat(342))),
        format!("x{}", "门".repeat(341))
    );
    assert_eq!(cut("🚪".repeat(257)), "🚪".repeat(256));
}

#[test]
fn items_are_found_where_the_mapping_points() {
    let count = |mapping: &Mapping, message: Value| {
        let mut count = 0;
        mapping
            .items(&message.to_string(), &mut |_| count += 1)
            .map(|()| count)
            .map_err(|error| error.to_string())
    };
    let pointed = mapping("kind = { value = \"a.b\" }\nitems = \"/data/list\"");
    let message = json!({ "data": { "list": [1, 2] } });
    assert_eq!(count(&pointed, message.clone()), Ok(2));
    for wrong in [json!({}), json!({ "data": { "list": {} } }), json!([1])] {
        let error = count(&pointed, wrong).expect_err("there is no array");
        assert!(error.contains("no array at /data/list"), "{error}");
    }
    let plain = mapping("kind = { value = \"a.b\" }");
    assert_eq!(count(&plain, json!([1, 2])), Ok(2));
    assert_eq!(count(&plain, message), Ok(1));
    let nested = mapping("kind = { value = \"a.b\" }\nitems = \"/1/x\"");
    assert_eq!(count(&nested, json!([0, { "x": [1, 2, 3] }])), Ok(3));
}

#[test]
fn the_message_is_kept_only_where_the_mapping_wants_it_and_only_up_to_its_limit() {
    let keep = mapping("kind = { value = \"a.b\" }\nkeep_raw = true");
    // The JSON around the text has eight bytes.
    let item = |bytes: usize| json!({ "t": "x".repeat(bytes - 8) });
    let raw_of = |item: &Value| event(&keep, item).raw.map(|raw| raw.into_vec());
    let most = item(RAW_BYTES_MAX);
    assert_eq!(raw_of(&most), Some(most.to_string().into_bytes()));
    assert_eq!(raw_of(&most).map(|raw| raw.len()), Some(RAW_BYTES_MAX));
    assert_eq!(raw_of(&item(RAW_BYTES_MAX + 1)), None);
    let forget = mapping("kind = { value = \"a.b\" }");
    assert_eq!(event(&forget, &most).raw, None);
}

#[test]
fn what_breaks_a_limit_costs_the_event_only_where_it_is_the_kind() {
    let mapping = mapping("kind = \"/k\"\ndevice = \"/d\"\nseverity = \"/s\"");
    let reject = live(&mapping, &json!({ "k": "Not a kind" })).expect_err("breaks a limit");
    assert!(reject.to_string().contains("kind"));
    // A name that is too long stays distinct; an unknown severity is at least an alarm.
    let long =
        |end: &str| event(&mapping, &json!({ "k": "a.b", "d": "x".repeat(200) + end })).device;
    assert!(long("a").len() <= 128 && long("a") != long("b"));
    let loud = event(&mapping, &json!({ "k": "a.b", "s": "loud" }));
    assert_eq!(loud.severity, Severity::Alarm);
}

#[test]
fn a_field_that_is_broken_costs_itself() {
    let mapping = mapping(
        r#"
        id = "/no"
        kind = { pointer = "/k", table = { FIRE = "fire.alarm", OPEN = "door.opened" } }
        severity = { pointer = "/grade", table = { "1" = "life", "2" = "notice" } }
        device = { pointer = "/d", table = { "1" = "lobby" } }
        address = "/where"
        occurred_at = { pointer = "/t" }
        [attributes.floor]
        pointer = "/floor"
        purpose = "p"
        "#,
    );
    let whole = json!({ "no": "1", "k": "FIRE", "grade": 1, "d": "1", "where": "A", "t": "2026-01-01 00:00:00", "floor": 3 });
    for field in ["no", "grade", "d", "where", "t", "floor"] {
        for broken in [
            json!(null),
            json!({ "a": 1 }),
            json!([1]),
            json!("?"),
            json!(1e300),
            json!(true),
            json!("x".repeat(5000)),
        ] {
            let mut item = whole.clone();
            item[field] = broken;
            let event = event(&mapping, &item);
            assert_eq!(
                (event.kind.as_str(), event.severity),
                ("fire.alarm", Severity::Life),
                "{item}"
            );
        }
    }
    assert_eq!(
        event(&mapping, &json!({ "k": "OPEN", "grade": "2.0" })).severity,
        Severity::Notice
    );
    assert_eq!(event(&mapping, &json!({ "k": "fire", "d": 7 })).device, "7");
}

#[test]
fn the_first_of_several_pointers_that_finds_a_value_counts() {
    let mapping = mapping(
        "kind = { pointer = [\"/p/state\", \"/p\"], table = { offline = \"device.offline\" } }\ndevice = [\"/a\", \"/b\"]",
    );
    for item in [
        json!({ "p": "OFFLINE", "b": 1 }),
        json!({ "p": { "state": "offline" }, "a": 1, "b": 2 }),
    ] {
        let event = event(&mapping, &item);
        assert_eq!(
            (event.kind.as_str(), event.device.as_str()),
            ("device.offline", "1")
        );
    }
}

/// `kind id device`, or the reject, of each item of a message.
fn read(mapping: &Mapping, message: &str) -> Vec<String> {
    let mut found = Vec::new();
    let read = mapping.items(message, &mut |item| {
        found.push(match mapping.map(item) {
            Ok(mapped) => format!(
                "{} {} {}",
                mapped.draft.kind, mapped.draft.source_id, mapped.draft.device
            ),
            Err(reject) => {
                assert!(!reject.to_string().is_empty());
                format!(
                    "{}: {reject}",
                    if reject.is_left_out() {
                        "left out"
                    } else {
                        "rejected"
                    }
                )
            }
        });
    });
    if let Err(error) = read {
        found.push(format!("error: {error}"));
    }
    found
}

#[test]
fn a_message_that_is_nearly_json_is_read_item_by_item() {
    let mapping = mapping(
        "id = \"/id\"\nkind = { pointer = \"/k\", otherwise = \"skip\", table = { F = \"fire.alarm\" } }\ndevice = \"/d\"",
    );
    for (message, wanted) in [
        (
            r#"{"id":310112202611300000000001,"k":"F","d":00042}"#,
            vec!["fire.alarm 310112202611300000000001 00042"],
        ),
        (
            r#"[{"id":9007199254740993,"k":"F"},{"id":9007199254740994.0,"k":"F"}]"#,
            vec![
                "fire.alarm 9007199254740993 ",
                "fire.alarm 9007199254740994.0 ",
            ],
        ),
        (
            "{\"id\":1,\"k\":\"F\"}\n{\"id\":2,\"k\":\"F\"}\n",
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        (
            "[{\"id\":1,\"k\":\"F\"}][{\"id\":2,\"k\":\"F\"}]",
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        (r#"{'id': 1, 'k': 'F', 'd': None}"#, vec!["fire.alarm 1 "]),
        (
            r#"{"id":1,"k":"X","k":"F","d":"a","d":null}"#,
            vec!["fire.alarm 1 a"],
        ),
        (
            r#"[{"id":1,"k":"F"},{"id":2,"k":"F",},]"#,
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        // A damaged item: an event if its kind is intact, else a reject and never left out.
        (r#"{"k":"F","id":12"#, vec!["fire.alarm  "]),
        (
            r#"{"id":1,"k":"F"#,
            vec!["rejected: the JSON is cut off: no kind at /k: the message has no such value"],
        ),
        (
            r#"[{"id":1,"k":"F"},{"id":2,"k":"F","d":"lo"#,
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        (
            r#"[{"id":1,"k":"F"},{"id":2,"k":"X","d":"lo"#,
            vec![
                "fire.alarm 1 ",
                "rejected: the JSON is cut off: left out by the mapping's table for kind",
            ],
        ),
        (
            r#"[{"id":1,"k":"F"},{"id":"2,"k":"F"},{"id":3,"k":"F"}]"#,
            vec!["fire.alarm 1 ", "fire.alarm  ", "fire.alarm 3 "],
        ),
        (
            r#"[{"id":1,"k":"F"},{"id":2,"k":"X"}"#,
            vec![
                "fire.alarm 1 ",
                "left out: left out by the mapping's table for kind",
                "rejected: the JSON is cut off: no kind at /k: the message has no such value",
            ],
        ),
        (
            "",
            vec!["error: the body is not JSON: EOF while parsing a value at line 1 column 0"],
        ),
        (
            "fire",
            vec!["error: the body is not JSON: expected ident at line 1 column 2"],
        ),
        (
            "offline <html>",
            vec!["error: the body is not JSON: expected value at line 1 column 1"],
        ),
    ] {
        assert_eq!(read(&mapping, message), wanted, "{message}");
    }
    let listed = self::mapping("items = \"/l\"\nid = \"/id\"\nkind = { value = \"fire.alarm\" }");
    for (message, wanted) in [
        (
            r#"{"l":[{"id":1},{"id":2},]}"#,
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        (
            "{\"l\":[{\"id\":1}]}\n{\"l\":[{\"id\":2}]}",
            vec!["fire.alarm 1 ", "fire.alarm 2 "],
        ),
        (
            r#"{"l":[{"id":1},{"id":2"#,
            vec!["fire.alarm 1 ", "fire.alarm  "],
        ),
        (
            r#"{"l":NaN}"#,
            vec![
                "error: the body has no item that can be read: no array at /l: the mapping's items points at it",
            ],
        ),
    ] {
        assert_eq!(read(&listed, message), wanted, "{message}");
    }
}

#[test]
fn states_with_ids_are_each_an_event_in_whatever_order_they_come() {
    let mapping = mapping(
        "id = \"/id\"\nkind = { pointer = \"/k\", table = { O = \"door.opened\", C = \"door.closed\" } }\n[state]\npoint = \"door\"\nactive = [\"door.opened\"]",
    );
    let anew = |item: Value| {
        mapped_line(&mapping, &item.to_string(), |mapped| {
            mapped.expect("an event").anew
        })
    };
    assert!(anew(json!({ "id": 1, "k": "O" })));
    assert!(anew(json!({ "id": 2, "k": "C" })));
    assert!(!anew(json!({ "k": "C" })));
}

#[test]
fn each_object_of_a_line_is_an_item_and_a_damaged_one_affects_no_other() {
    let mapping = mapping(
        "id = \"/id\"\nkind = { pointer = \"/k\", table = { FIRE = \"fire.alarm\" }, otherwise = \"skip\" }",
    );
    let read = |line: &str| {
        let mut found = Vec::new();
        let read = mapping.line(line, &mut |item| {
            found.push(match mapping.map(item) {
                Ok(mapped) => mapped.draft.source_id.to_owned(),
                Err(reject) if reject.is_left_out() => "left out".to_owned(),
                Err(_) => "rejected".to_owned(),
            });
        });
        read.map(|()| found).map_err(|error| error.to_string())
    };
    let (one, two) = ("{\"id\":1,\"k\":\"FIRE\"}", "{\"id\":2,\"k\":\"FIRE\"}");
    for (line, expected) in [
        (format!("{one}{two}"), &["1", "2"][..]),
        (format!("{one} , {two}"), &["1", "2"]),
        (
            format!("{one}{{\"id\":3,\"k\":\"DOOR\"}}{two}"),
            &["1", "left out", "2"],
        ),
        (
            format!("{one}{{\"id\":3,\"k\":}}{two}"),
            &["1", "rejected", "2"],
        ),
        (
            format!("{one}{}", &two[..two.len() - 4]),
            &["1", "rejected"],
        ),
        (format!("{one} noise {two}"), &["1", "2", "rejected"]),
        ("{\"id\":4,\"k\":\"FIRD\"}".to_owned(), &["rejected"]),
    ] {
        assert_eq!(read(&line).expect("objects"), expected, "{line}");
    }
    assert!(read("no JSON").is_err());
}

#[test]
fn a_damaged_spelling_of_a_known_value_is_rejected_and_another_value_is_left_out() {
    let mapping = mapping(
        "kind = { pointer = \"/k\", table = { FIRE = \"fire.alarm\", \"131588\" = \"smoke.alarm\", \"消防\" = \"fire.fault\" }, otherwise = \"skip\" }\n[[only]]\npointer = \"/s\"\nvalues = [\"begin\"]",
    );
    let of = |kind: &str, state: &str| {
        let found = live(&mapping, &json!({ "k": kind, "s": state }));
        found.map(|_| ()).map_err(|reject| match reject {
            Reject::Filtered(rule) => rule.to_string(),
            other => other.to_string(),
        })
    };
    let table = Err("table for kind".to_owned());
    assert_eq!(of("fire", "begin"), Ok(()));
    assert_eq!(of("DOOR", "begin"), table);
    // A number next to a known one, and another Chinese word, are values of their own.
    assert_eq!(of("131589", "begin"), table);
    assert_eq!(of("消费", "begin"), table);
    assert_eq!(of("FIRE", "end"), Err("[[only]]".to_owned()));
    for (kind, state) in [
        ("FIRD", "begin"),
        ("沈防", "begin"),
        ("消\u{fffd}", "begin"),
        ("FIRE", "bggin"),
    ] {
        let why = of(kind, state).expect_err(kind);
        assert!(why.contains("is damaged"), "{why}");
    }
}
