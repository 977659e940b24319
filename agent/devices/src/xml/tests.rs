use super::*;
use proptest::prelude::*;
use std::fmt::Write;
use std::time::Instant;

/// Each leaf as `parents/name=value`, and whether the message is complete.
#[derive(Default)]
struct Leaves(Vec<String>);

impl<'a> Elements<'a> for Leaves {
    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: Cow<'a, str>) {
        let mut path = parents.join("/");
        if !path.is_empty() {
            path.push('/');
        }
        let _ = write!(path, "{name}={value}");
        self.0.push(path);
    }
}

fn leaves(text: &str) -> (Vec<String>, bool) {
    let mut leaves = Leaves::default();
    let is_cut = read(text, &mut leaves).expect(text);
    (leaves.0, !is_cut)
}

#[test]
fn xml_is_read_whatever_its_dress() {
    for text in [
        "<a><b>1</b><c>x &amp; y</c></a>",
        "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<!-- <b>0</b> --><a x='>'>\r\n <b> 1 </b>\n<c>x & y</c></a >\0",
        "<n:a xmlns:n=\"u\"><n:b>1</n:b><m:c><![CDATA[x & y]]></m:c></n:a>",
        "<a><b>&#49;</b><c>x &#x26; y</c></a>",
    ] {
        let wanted = vec!["a/b=1".to_owned(), "a/c=x & y".to_owned()];
        assert_eq!(leaves(text), (wanted, true), "{text}");
    }
    let (found, _) = leaves("<a><b/><c d=\"1\"/><e></e></a><f>2</f>");
    assert_eq!(found, ["a/b=", "a/c=", "a/e=", "f=2"]);
    let (found, _) = leaves("<a>&bomb; &nbsp;&#xffffffff;&#0; &</a>");
    assert_eq!(found, ["a=&bomb; &nbsp;\u{fffd}\u{fffd} &"]);
}

#[test]
fn damage_costs_the_element_that_has_it() {
    for (text, wanted) in [
        ("<a><b>1</b><c>2", vec!["a/b=1"]),
        ("<a><b>1</b><c>2</c", vec!["a/b=1"]),
        ("<a><b>1<c>2</c></a>", vec!["a/b=1", "a/c=2"]),
        ("<a><door>1</doos><c>2</c></a>", vec!["a/door=1", "a/c=2"]),
        ("<a><n>|door>1</door><c>2</c></n></a>", vec!["a/n/c=2"]),
        ("<a><b>1<xb><c>2</c></a>", vec!["a/b=1", "a/c=2"]),
        ("<a>b>1</b><c>2</c></a>", vec!["a/c=2"]),
        ("<a><b>1<2</b><c>2</c></a>", vec!["a/b=1<2", "a/c=2"]),
        ("<a><b>1<x</b><c>2</c></a>", vec!["a/b=1<x", "a/c=2"]),
        ("<a><b|1</b><c>2</c></a>", vec!["a/c=2"]),
        ("<a><b>1</b|<c>2</c></a>", vec!["a/b=1", "a/c=2"]),
        ("<a x=\"1><b>1</b><c>2</c></a>", vec!["a/b=1", "a/c=2"]),
    ] {
        let (found, _) = leaves(text);
        let wanted_last = wanted.last();
        assert!(
            wanted_last.is_none_or(|last| found.iter().any(|leaf| leaf == last)),
            "{text}: {found:?}"
        );
        for leaf in wanted {
            assert!(
                found.iter().any(|found| found == leaf),
                "{text}: {found:?} without {leaf}"
            );
        }
    }
    assert!(!leaves("<a><b>1</b>").1);
}

#[test]
fn attributes_are_found_by_their_names() {
    let Some(Token::Start { attributes, .. }) =
        Scanner::new("<a x:Name=\"V &quot;1&quot;\" Value = 'a=b' bare=1 />").take()
    else {
        panic!("a tag");
    };
    assert_eq!(attributes.get("Name").as_deref(), Some("V \"1\""));
    assert_eq!(attributes.get("Value").as_deref(), Some("a=b"));
    assert_eq!(attributes.get("bare").as_deref(), Some("1"));
    assert_eq!(attributes.get("b"), None);
}

#[test]
fn hostile_messages_are_refused_or_cost_their_size() {
    let refused = read(
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        &mut Leaves::default(),
    );
    assert!(
        refused
            .expect_err("a document type")
            .reason
            .contains("document type")
    );
    let started = Instant::now();
    for text in [
        "<a>".repeat(1 << 18),
        "<a".repeat(1 << 18),
        "<a \"".repeat(1 << 17),
        "<!--".repeat(1 << 16),
        "<?".repeat(1 << 16),
        "<![CDATA[".repeat(1 << 16),
        "&".repeat(1 << 18),
        "&#".repeat(1 << 18),
        format!("<a {}>", "b=\"c\" ".repeat(1 << 17)),
        "</a".repeat(1 << 17),
    ] {
        leaves(&text);
    }
    // A bound against quadratic time, far above that of a slow machine.
    assert!(started.elapsed().as_secs() < 60);
}

proptest! {
    #[test]
    fn whatever_it_is_it_ends(text in "(</?[a-zA-Z:]{1,6}( [a-z]=\"x\")?/?>|<!--|-->|<!\\[CDATA\\[|\\]\\]>|<\\?|&[a-z#0-9]{0,4};?|[ -~邻]{0,9}){0,40}") {
        let _ = read(&text, &mut Leaves::default());
    }

    #[test]
    fn what_was_written_is_read(values in prop::collection::vec("\\PC{0,12}", 1..6)) {
        let mut text = String::from("<r>");
        for (index, value) in values.iter().enumerate() {
            let _ = write!(text, "<v{index}>{}</v{index}>", quick_xml::escape::escape(value));
        }
        text.push_str("</r>");
        let (found, whole) = leaves(&text);
        prop_assert!(whole);
        let wanted: Vec<String> = values.iter().enumerate().map(|(index, value)| format!("r/v{index}={}", value.trim())).collect();
        prop_assert_eq!(found, wanted);
    }
}
