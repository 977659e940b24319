//! Any text as XML: every element that begins is over in the end, within as many levels as are allowed.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::text;
use linli_devices::xml::{self, Attributes, DEPTH_MAX, Elements};
use std::borrow::Cow;

#[derive(Default)]
struct Levels {
    open: usize,
    bytes: usize,
}

impl<'a> Elements<'a> for Levels {
    fn open(&mut self, _: &'a str, parents: &[&'a str], attributes: Attributes<'a>, _: usize) {
        assert_eq!(parents.len(), self.open);
        assert!(self.open < DEPTH_MAX);
        self.open += 1;
        let _ = attributes.get("a");
    }

    fn leaf(&mut self, _: &'a str, parents: &[&'a str], value: Cow<'a, str>) {
        assert!(parents.len() < DEPTH_MAX);
        self.bytes += value.len();
    }

    fn close(&mut self, _: &'a str, parents: &[&'a str], _: usize) {
        self.open -= 1;
        assert_eq!(parents.len(), self.open);
    }
}

fuzz_target!(|data: &[u8]| {
    let text = text::lossy(data);
    let mut levels = Levels::default();
    if let Ok(is_cut) = xml::read(&text, &mut levels) {
        assert_eq!(is_cut, levels.open > 0);
        assert!(levels.bytes <= text.len());
    }
});
