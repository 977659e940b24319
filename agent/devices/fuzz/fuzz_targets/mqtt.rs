//! A message of a broker: topics against filters, and the payload as mappings see it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::mapping::Mapping;
use linli_devices::mqtt::message;
use std::sync::LazyLock;

static MAPPINGS: LazyLock<Vec<Mapping>> = LazyLock::new(|| {
    [
        include_str!("../../../../configs/mappings/zigbee-smoke.toml"),
        include_str!("../../../../configs/mappings/frigate-events.toml"),
    ]
    .map(|text| {
        let file = toml::from_str(text).expect("a mapping of the project");
        Mapping::new("fuzz", file).expect("a mapping of the project")
    })
    .into()
});

fuzz_target!(|data: &[u8]| {
    let (head, payload) = data.split_at(data.len().min(40));
    let topic = String::from_utf8_lossy(head);
    for filter in ["#", "+/+", "zigbee2mqtt/+", &topic] {
        if message::is_filter(filter) {
            let _ = message::matches(filter, &topic);
        }
    }
    if message::is_filter(&topic) && !topic.contains(['+', '#', '$']) {
        assert!(
            message::matches(&topic, &topic),
            "a topic without wildcards covers itself"
        );
    }
    let text = message::json(&topic, false, payload);
    for mapping in &*MAPPINGS {
        // Deep JSON is an error and no more.
        let _ = mapping.items(&text, &mut |item| {
            let _ = mapping.map(item);
        });
    }
});
