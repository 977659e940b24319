//! Reads the values of a mapping from a message, in one pass and without a tree of the rest.
//!
//! A [`Plan`] is the mapping's JSON pointers (RFC 6901) as a tree of keys, each with a slot. The JSON parser walks
//! the message along that tree; values without a pointer are skipped in place. A [`Capture`] holds one item's slots,
//! borrowed from the message wherever JSON has no escapes there. Called by `mapping`; knows nothing about events.
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

use crate::bounded::bounded;
use crate::lenient_json::scalar_text;
use crate::misspelling;
use crate::text;

/// The position of one pointer's value in a [`Capture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    place: usize,
    /// The value becomes a name, and is bounded as one.
    is_name: bool,
}

impl Slot {
    fn bounded<'m>(self, value: Cow<'m, str>) -> Cow<'m, str> {
        match self.is_name {
            true => bounded(value),
            false => value,
        }
    }
}

/// All pointers of a mapping.
#[derive(Debug, Default)]
pub struct Plan {
    root: Node,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    slot: Option<Slot>,
    children: Vec<Child>,
    /// Takes a key that is a damaged spelling of one of the watched children.
    near: Option<Slot>,
}

#[derive(Debug)]
struct Child {
    /// Tag of the key, see [`tag`].
    tag: u64,
    key: String,
    /// The key as an index of an array.
    index: Option<usize>,
    /// An item without it is left out, so one with a damaged spelling of it is none of these.
    is_watched: bool,
    node: Node,
}

/// The keys of a pointer.
fn keys(pointer: &str) -> impl Iterator<Item = String> {
    pointer
        .split('/')
        .skip(1)
        .map(|key| key.replace("~1", "/").replace("~0", "~"))
}

/// The length and the first bytes of a key in one number: nearly every key of a message is found or excluded by
/// comparing numbers.
fn tag(key: &[u8]) -> u64 {
    let length = key.len().min(255) as u64;
    // A loop: a copy of so few bytes costs a call.
    key.iter()
        .take(7)
        .fold(length, |tag, byte| (tag << 8) | u64::from(*byte))
}

/// A key as an index of an array: digits without a leading zero.
fn index(key: &str) -> Option<usize> {
    let canonical = key == "0" || !key.starts_with(['0', '+']);
    canonical.then(|| key.parse().ok()).flatten()
}

impl Plan {
    /// The slot of a pointer, the same for the same pointer.
    pub fn slot(&mut self, pointer: &str) -> Slot {
        let mut node = &mut self.root;
        for key in keys(pointer) {
            let at = node.find(&key).unwrap_or_else(|| {
                node.children.push(Child {
                    tag: tag(key.as_bytes()),
                    index: index(&key),
                    is_watched: false,
                    key,
                    node: Node::default(),
                });
                node.children.len() - 1
            });
            node = &mut node.children[at].node;
        }
        *node.slot.get_or_insert_with(|| {
            self.slots += 1;
            Slot {
                place: self.slots - 1,
                is_name: false,
            }
        })
    }

    /// Like [`slot`](Self::slot), for a value that becomes a name of the event: an id, a device, a place. A long one
    /// is shortened to its front and a hash, so that its length loses no event.
    pub fn name_slot(&mut self, pointer: &str) -> Slot {
        self.slot(pointer);
        let mut node = &mut self.root;
        for key in keys(pointer) {
            let Some(at) = node.find(&key) else { break };
            node = &mut node.children[at].node;
        }
        if let Some(slot) = &mut node.slot {
            slot.is_name = true;
        }
        self.slot(pointer)
    }

    /// The slot that takes a key which is a damaged spelling of the last key of a pointer; `None`: the pointer has none.
    pub fn near_slot(&mut self, pointer: &str) -> Option<Slot> {
        self.slot(pointer);
        let (parents, last) = pointer.rsplit_once('/')?;
        let last = keys(&format!("/{last}")).next()?;
        let mut node = &mut self.root;
        for key in keys(parents) {
            let at = node.find(&key)?;
            node = &mut node.children[at].node;
        }
        let at = node.find(&last)?;
        node.children[at].is_watched = true;
        Some(*node.near.get_or_insert_with(|| {
            self.slots += 1;
            Slot {
                place: self.slots - 1,
                is_name: false,
            }
        }))
    }

    /// The slot of a column of CSV, if a pointer names it.
    pub fn column(&self, name: &str) -> Option<Slot> {
        let at = self.root.find(name)?;
        self.root.children[at].node.slot
    }

    /// The columns of CSV that pointers name.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let children = self.root.children.iter();
        let columns = children.filter(|child| child.node.slot.is_some());
        columns.map(|child| child.key.as_str())
    }

    /// An empty capture.
    pub fn capture<'m>(&self) -> Capture<'m> {
        Capture {
            values: vec![None; self.slots],
            raw: None,
            damage: None,
        }
    }

    /// Reads a text that is one item.
    pub fn item<'m>(&self, text: &'m str, into: &mut Capture<'m>) -> Result<(), serde_json::Error> {
        into.values.fill(None);
        into.damage = None;
        into.raw = Some(Cow::Borrowed(text));
        let mut json = serde_json::Deserializer::from_str(text);
        NodeSeed {
            node: &self.root,
            into: &mut into.values,
        }
        .deserialize(&mut json)?;
        json.end()
    }

    /// Calls `each` with every item of the array at `pointer`; returns whether there is an array. An error can occur
    /// after items were handed over: the text behind them is not JSON.
    pub fn items<'m>(
        &self,
        text: &'m str,
        pointer: &str,
        keep_raw: bool,
        each: &mut dyn FnMut(&mut Capture<'m>),
    ) -> Result<bool, serde_json::Error> {
        let keys: Vec<String> = keys(pointer).collect();
        let mut json = serde_json::Deserializer::from_str(text);
        let found = ItemsSeed {
            plan: self,
            keys: &keys,
            keep_raw,
            each,
        }
        .deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }
}

impl Node {
    fn find(&self, key: &str) -> Option<usize> {
        let wanted = tag(key.as_bytes());
        self.children
            .iter()
            .position(|child| child.tag == wanted && (key.len() < 8 || child.key == key))
    }

    /// Whether a key is a damaged spelling of a watched child's.
    fn is_near(&self, key: &str) -> bool {
        let mut watched = self.children.iter().filter(|child| child.is_watched);
        self.near.is_some() && watched.any(|child| misspelling::is_flipped(key, &child.key))
    }
}

/// The values of one item by slot: trimmed text that is not empty, or nothing.
#[derive(Debug)]
pub struct Capture<'m> {
    values: Vec<Option<Cow<'m, str>>>,
    /// The whole item as received, if requested.
    pub raw: Option<Cow<'m, str>>,
    /// The damage of the item.
    pub damage: Option<String>,
}

impl<'m> Capture<'m> {
    /// The value of a slot.
    pub fn get(&self, slot: Slot) -> Option<&str> {
        self.values[slot.place].as_deref()
    }

    /// Puts a value into a slot.
    pub fn set(&mut self, slot: Slot, value: Cow<'m, str>) {
        let value = text::trimmed(value);
        self.values[slot.place] = (!value.is_empty()).then(|| slot.bounded(value));
    }
}

/// Reads a value along one node of the plan.
struct NodeSeed<'p, 'c, 'm> {
    node: &'p Node,
    into: &'c mut [Option<Cow<'m, str>>],
}

impl<'m> DeserializeSeed<'m> for NodeSeed<'_, '_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some(slot) = self.node.slot else {
            return deserializer.deserialize_any(self);
        };
        // Raw, because a number would change on its way through a float.
        let raw = <&'m RawValue>::deserialize(deserializer)?.get();
        if let Some(value) = scalar_text(raw).filter(|value| !value.is_empty()) {
            // The last non-empty value of a repeated key counts.
            self.into[slot.place] = Some(slot.bounded(value));
        } else if !self.node.children.is_empty() && raw.starts_with(['{', '[']) {
            serde_json::Deserializer::from_str(raw)
                .deserialize_any(self)
                .map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

impl<'m> Visitor<'m> for NodeSeed<'_, '_, 'm> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut seq: A) -> Result<(), A::Error> {
        for place in 0.. {
            let child = self
                .node
                .children
                .iter()
                .find(|child| child.index == Some(place));
            let more = match child {
                Some(child) => seq.next_element_seed(NodeSeed {
                    node: &child.node,
                    into: &mut *self.into,
                })?,
                None => seq.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'m>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(self.node))? {
            match key {
                Key::Child(at) => map.next_value_seed(NodeSeed {
                    node: &self.node.children[at].node,
                    into: &mut *self.into,
                })?,
                Key::Near(key) => {
                    if let Some(slot) = self.node.near {
                        self.into[slot.place] = Some(Cow::Owned(key));
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key of an object, as a node sees it.
enum Key {
    /// The key of a child.
    Child(usize),
    /// A damaged spelling of a watched child's.
    Near(String),
    Other,
}

/// Finds the child of a node that a key names.
struct KeySeed<'p>(&'p Node);

impl<'m> DeserializeSeed<'m> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(match self.0.find(key) {
            Some(at) => Key::Child(at),
            None if self.0.is_near(key) => Key::Near(key.to_owned()),
            None => Key::Other,
        })
    }
}

/// Walks to the array of items, and over it.
struct ItemsSeed<'p, 'f, 'm> {
    plan: &'p Plan,
    keys: &'p [String],
    keep_raw: bool,
    each: &'f mut dyn FnMut(&mut Capture<'m>),
}

impl<'p, 'm> ItemsSeed<'p, '_, 'm> {
    fn deeper(&mut self) -> ItemsSeed<'p, '_, 'm> {
        ItemsSeed {
            plan: self.plan,
            keys: &self.keys[1..],
            keep_raw: self.keep_raw,
            each: &mut *self.each,
        }
    }
}

impl<'m> DeserializeSeed<'m> for ItemsSeed<'_, '_, 'm> {
    type Value = bool;

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'m> Visitor<'m> for ItemsSeed<'_, '_, 'm> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON")
    }

    fn visit_borrowed_str<E>(self, _: &'m str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'m>>(mut self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if self.keys.first().is_some_and(|wanted| *wanted == key) {
                found |= map.next_value_seed(self.deeper())?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'m>>(mut self, mut seq: A) -> Result<bool, A::Error> {
        if let Some(key) = self.keys.first() {
            let wanted = index(key);
            let mut found = false;
            for place in 0.. {
                let more = if wanted == Some(place) {
                    seq.next_element_seed(self.deeper())?
                        .map(|there| found |= there)
                } else {
                    seq.next_element::<IgnoredAny>()?.map(|_| ())
                };
                if more.is_none() {
                    break;
                }
            }
            return Ok(found);
        }
        let mut capture = self.plan.capture();
        loop {
            if self.keep_raw {
                let Some(raw) = seq.next_element::<&'m RawValue>()? else {
                    break;
                };
                self.plan
                    .item(raw.get(), &mut capture)
                    .map_err(serde::de::Error::custom)?;
            } else {
                capture.values.fill(None);
                let next = seq.next_element_seed(NodeSeed {
                    node: &self.plan.root,
                    into: &mut capture.values,
                })?;
                if next.is_none() {
                    break;
                }
            }
            (self.each)(&mut capture);
            capture.damage = None;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// JSON with few keys, so that pointers hit them.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ a-c\"\\\\\u{90bb}\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~01]{0,2}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The value of a pointer in a tree, by serde_json's own walk.
    fn by_tree(item: &Value, pointer: &str) -> Option<String> {
        let text = match item.pointer(pointer)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    proptest! {
        #[test]
        fn a_capture_finds_what_a_tree_has_there(
            item in any_json(),
            pointers in prop::collection::vec("(/([ab01]|~0|~1){0,2}){0,3}", 1..8),
        ) {
            let mut plan = Plan::default();
            let slots: Vec<Slot> = pointers.iter().map(|pointer| plan.slot(pointer)).collect();
            let text = item.to_string();
            let mut capture = plan.capture();
            plan.item(&text, &mut capture).expect("JSON");
            for (pointer, slot) in pointers.iter().zip(&slots) {
                prop_assert_eq!(
                    capture.get(*slot).map(str::to_owned),
                    by_tree(&item, pointer),
                    "{} in {}", pointer, text
                );
            }
            let list = format!("{{\"list\":[{text},{text}]}}");
            for keep_raw in [false, true] {
                let mut seen = 0;
                let found = plan.items(&list, "/list", keep_raw, &mut |capture| {
                    seen += 1;
                    for (pointer, slot) in pointers.iter().zip(&slots) {
                        assert_eq!(capture.get(*slot).map(str::to_owned), by_tree(&item, pointer));
                    }
                    assert_eq!(capture.raw.is_some(), keep_raw);
                });
                prop_assert!(found.expect("JSON"));
                prop_assert_eq!(seen, 2);
            }
        }
    }

    #[test]
    fn what_is_not_json_is_an_error_with_its_place() {
        let mut plan = Plan::default();
        plan.slot("/a");
        for (text, place) in [
            ("{\"a\":1", "line 1 column 6"),
            ("[{\"a\":1}] x", "line 1 column 11"),
            ("[{\"a\":\n01}]", "line 2 column 2"),
        ] {
            let error = plan
                .items(text, "", false, &mut |_| {})
                .expect_err("not JSON");
            assert!(error.to_string().contains(place), "{error}");
        }
        let mut deep = "[".repeat(100_000);
        deep.push_str(&"]".repeat(100_000));
        // Values without a pointer are skipped without a stack.
        assert!(plan.items(&deep, "", false, &mut |_| {}).expect("JSON"));
    }
}
