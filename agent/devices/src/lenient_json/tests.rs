use super::repair::repair;
use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::time::Instant;

/// The documents of a message as strict JSON, and whether all of it was readable.
fn repaired(message: &str) -> (Vec<String>, bool) {
    let Some(repaired) = repair(message) else {
        return (Vec::new(), false);
    };
    let whole = repaired.places(&(0..repaired.text.len() + 1)) == 0 && !repaired.stray;
    (repaired.texts().map(str::to_owned).collect(), whole)
}

#[test]
fn whatever_it_is_it_is_a_text_and_keeps_its_digits() {
    let read = |json: &str| {
        serde_json::from_str::<LenientText<'_>>(json).map(|lenient| lenient.0.into_owned())
    };
    for (json, text) in [
        ("\" a \"", "a"),
        ("\"\\u90bb\\n\"", "邻"),
        ("\"\\ud800\"", "\u{fffd}"),
        ("7", "7"),
        ("-7", "-7"),
        ("1.0", "1.0"),
        ("1e3", "1e3"),
        ("310112202611300000000001", "310112202611300000000001"),
        ("true", "true"),
        ("null", ""),
        ("[1, {\"a\": 2}]", ""),
        ("{\"a\": [1]}", ""),
    ] {
        assert_eq!(read(json).expect(json), text);
    }
    assert!(read("[1").is_err());
}

#[test]
fn what_is_nearly_json_is_read() {
    for (message, wanted) in [
        (r#"{"t":NaN,"smoke":true}"#, r#"{"t":null,"smoke":true}"#),
        (r#"{"t":-Infinity,"u":+inf}"#, r#"{"t":null,"u":null}"#),
        (r#"{'smoke': True}"#, r#"{"smoke":true}"#),
        (
            r#"{'a': None, 'b': False, 'c': "it's", 'd': 'x\'y', u'e': u'\u90bb'}"#,
            r#"{"a":null,"b":false,"c":"it's","d":"x'y","e":"邻"}"#,
        ),
        (r#"{"a":1,}"#, r#"{"a":1}"#),
        (r#"{"a":[1,2,],}"#, r#"{"a":[1,2]}"#),
        (r#"{,"a":1,,"b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"a":1 "b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"a":"1" "b":2}"#, r#"{"a":"1","b":2}"#),
        ("{\"a\":\"1\"\n\"b\":2}", r#"{"a":"1","b":2}"#),
        (r#"{"a":,"b":}"#, r#"{"a":null,"b":null}"#),
        (
            r#"{smoke: true, name: 3号楼}"#,
            r#"{"smoke":true,"name":"3号楼"}"#,
        ),
        (r#"{"a"=1,"b"=>2}"#, r#"{"a":1,"b":2}"#),
        (
            r#"{"t":2026-11-30 18:26:22}"#,
            r#"{"t":"2026-11-30 18:26:22"}"#,
        ),
        (
            r#"{"id":007,"n":+1,"h":0x1f,"p":.5}"#,
            r#"{"id":"007","n":"+1","h":"0x1f","p":".5"}"#,
        ),
        (
            r#"{"id":310112202611300000000001,"x":1.0}"#,
            r#"{"id":310112202611300000000001,"x":1.0}"#,
        ),
        (
            "{\"a\":\"x\ty\nz\u{1}\"}",
            "{\"a\":\"x\\u0009y\\u000az\\u0001\"}",
        ),
        (
            r#"{"a":"C:\dir","b":"\x41\u12"}"#,
            r#"{"a":"C:\\dir","b":"A\\u12"}"#,
        ),
        (r#"{"a":"\ud83d\ude00\ud800!"}"#, "{\"a\":\"😀\u{fffd}!\"}"),
        (r#"{"a":"3"楼","b":1}"#, r#"{"a":"3\"楼","b":1}"#),
        ("\u{feff}{\"a\":1}\0\0", r#"{"a":1}"#),
        ("{\"a\":1 // one\n,/* two */\"b\":2}", r#"{"a":1,"b":2}"#),
        (
            "{\u{3000}\"a\":\u{a0}\"x\",\u{85}\"b\":[\u{3000}1,\u{a0}]\u{3000}}",
            r#"{"a":"x","b":[1]}"#,
        ),
        (
            r#"{"a":3402E0000002,"b":1e999,"c":1e12,}"#,
            r#"{"a":"3402E0000002","b":"1e999","c":1e12}"#,
        ),
        (r#"callback({"a":1});"#, r#"{"a":1}"#),
        (r#"data={"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":{"b":[{"c":null}]}}"#, r#"{"a":{"b":[{"c":null}]}}"#),
    ] {
        assert_eq!(
            repaired(message),
            (vec![wanted.to_owned()], true),
            "{message}"
        );
    }
}

#[test]
fn several_documents_are_each_read() {
    let two = vec![r#"{"a":1}"#.to_owned(), r#"{"b":2}"#.to_owned()];
    for message in [
        r#"{"a":1}{"b":2}"#,
        "{\"a\":1}\n{\"b\":2}\n",
        "{\"a\":1},\r\n{\"b\":2}",
        "\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n",
    ] {
        assert_eq!(repaired(message), (two.clone(), true), "{message}");
    }
    let (documents, whole) = repaired("{\"a\":1} and {\"b\":2}");
    assert_eq!((documents, whole), (two, false));
    assert_eq!(repaired("offline"), (vec![], false));
}

#[test]
fn what_is_broken_costs_itself_and_not_its_neighbours() {
    for (message, wanted) in [
        (r#"{"a":1,"b":"cut"#, vec![r#"{"a":1}"#]),
        (r#"{"a":1,"b":12"#, vec![r#"{"a":1}"#]),
        (r#"{"a":1,"b":true"#, vec![r#"{"a":1,"b":true}"#]),
        (r#"[{"a":1},{"b":2},{"c""#, vec![r#"[{"a":1},{"b":2},{}]"#]),
        (r#"[{"a":"x},{"b":2}]"#, vec![r#"[{},{"b":2}]"#]),
        (r#"[{"a":"x,"c":3},{"b":2}]"#, vec![r#"[{"c":3},{"b":2}]"#]),
        (r#"[{"a":1,{"b":2}]"#, vec![r#"[{"a":1},{"b":2}]"#]),
        (
            r#"{"l":[{"a":1},{"b":[2},{"c":3}]}"#,
            vec![r#"{"l":[{"a":1},{"b":[2]},{"c":3}]}"#],
        ),
        (r#"[{garbage},{"b":2}]"#, vec![r#"[{},{"b":2}]"#]),
        (r#"[{"a":1}}},{"b":2}]"#, vec![r#"[{"a":1},{"b":2}]"#]),
        ("{\"a\":\"x\n{\"b\":2}\n", vec!["{}", r#"{"b":2}"#]),
    ] {
        let (documents, whole) = repaired(message);
        assert_eq!(
            (documents, whole),
            (wanted.iter().map(ToString::to_string).collect(), false),
            "{message}"
        );
    }
}

#[test]
fn damage_is_told_of_the_item_that_has_it() {
    let message = r#"[{"a":1},{"b":"x,"c":3},{"d":4},{"e":5"#;
    let repaired = repair(message).expect("a list");
    let of = |item: &str| {
        let begin = repaired.text.find(item).expect(item);
        repaired.damage(&(begin..begin + item.len()))
    };
    assert_eq!(of(r#"{"a":1}"#), None);
    assert_eq!(of(r#"{"c":3}"#), Some(Damage::Text));
    assert_eq!(of(r#"{"d":4}"#), None);
    assert_eq!(of("{}"), Some(Damage::Cut));
    let whole = repair(r#"[{"a":1}"#).expect("a list");
    assert_eq!(whole.damage(&(1..8)), None);
    assert_eq!(whole.places(&(0..9)), 1);
}

#[test]
fn values_are_picked_by_their_places() {
    let picked = pick(
        r#"{"A":1,"b":{"C":" x ","d":[{"e":2.50}]},"a":null,"f":{"a":9},"b":{"c":"y"}"#,
        ["a", "B/c", "b/d/e", "g"],
    )
    .expect("a document");
    assert_eq!(picked.values, ["1", "y", "2.50", ""]);
    assert_eq!(picked.damage, Some(Damage::Cut));
    assert_eq!(pick("no document", ["a"]), None);
}

#[test]
fn hostile_messages_cost_no_more_than_their_size() {
    let started = Instant::now();
    for message in [
        "[".repeat(1 << 20),
        "{\"a\":".repeat(1 << 18),
        format!("[{}\"a\":", "\"x,".repeat(1 << 18)),
        format!("{{{}", "\"x\" ".repeat(1 << 18)),
        "/*".repeat(1 << 18),
        format!("[{}", "/*".repeat(1 << 18)),
        format!("[\"{}", "\\".repeat(1 << 19)),
        format!("{{\"k\":{}", "\"x\n".repeat(1 << 18)),
    ] {
        if let Some(repaired) = repair(&message) {
            assert!(repaired.text.len() <= 6 * message.len() + 2);
            for text in repaired.texts() {
                serde_json::from_str::<Value>(text).expect("JSON");
            }
        }
    }
    // A bound against quadratic time, far above that of a slow machine.
    assert!(started.elapsed().as_secs() < 60);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        "[ -~\u{90bb}\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn valid_json_is_read_as_every_parser_reads_it(value in any_json(), pretty: bool) {
        let value = serde_json::json!([value]);
        let message = if pretty { format!("{value:#}") } else { value.to_string() };
        let (documents, whole) = repaired(&message);
        prop_assert_eq!(documents.len(), 1);
        prop_assert!(whole);
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        prop_assert_eq!(read(&documents[0]), read(&message));
    }

    #[test]
    fn whatever_is_read_is_json(message in "([\\[\\]{}:\u{3000}\u{85}\u{0},\"'\\\\ \n/*=u]|true|NaN|[0-9a]{1,3}|邻){0,60}") {
        if let Some(repaired) = repair(&message) {
            prop_assert!(repaired.text.len() <= 6 * message.len() + 2);
            for text in repaired.texts() {
                prop_assert!(serde_json::from_str::<Value>(text).is_ok(), "{}: {}", message, text);
            }
        }
    }

    #[test]
    fn a_cut_or_flipped_message_keeps_its_other_items(at in 0usize..1000, flip in 1u8..128) {
        let items: Vec<Value> = (0..5).map(|n| serde_json::json!({"id": n, "type": "fire", "name": "3号楼"})).collect();
        let message = Value::from(items.clone()).to_string();
        let mut bytes = message.into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let text = crate::text::lossy(&bytes);
        let (documents, _) = repaired(&text);
        let read = documents.concat();
        let whole = items.iter().filter(|item| read.contains(&item.to_string())).count();
        prop_assert!(whole >= 3, "{} of 5 in {}: {}", whole, text, read);
    }
}
