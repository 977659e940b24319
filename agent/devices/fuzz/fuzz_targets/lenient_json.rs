//! Any text as JSON: what is repaired is JSON, at most six times as long, and of JSON that is valid it is the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::lenient_json::{self, repair::repair};
use linli_devices::text;

fuzz_target!(|data: &[u8]| {
    let text = text::lossy(data);
    let _ = lenient_json::pick(&text, ["a", "a/b", ""]);
    let Some(repaired) = repair(&text) else { return };
    assert!(repaired.text.len() <= 6 * text.len() + 2);
    let documents: Vec<serde_json::Value> = repaired
        .texts()
        .map(|document| serde_json::from_str(document).expect("JSON"))
        .collect();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
        && (value.is_object() || value.is_array())
    {
        assert_eq!(documents.len(), 1);
    }
});
