//! A pushed body, read by a mapping with attributes and times: no panic, and no item without an end.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::mapping::Mapping;
use linli_devices::text;
use std::sync::LazyLock;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| {
    let text = include_str!("../../../../configs/mappings/police-incident.toml");
    let file = toml::from_str(text).expect("a mapping of the project");
    Mapping::new("fuzz", file).expect("a mapping of the project")
});

fuzz_target!(|data: &[u8]| {
    let text = text::lossy(data);
    // What is not JSON is an error and no more.
    let _ = MAPPING.items(&text, &mut |item| {
        if let Ok(mapped) = MAPPING.map(item) {
            assert!(!mapped.draft.kind.is_empty());
        }
    });
});
