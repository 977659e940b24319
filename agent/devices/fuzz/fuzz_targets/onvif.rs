//! An answer of an ONVIF device: no panic, bounded, and every notification comes to something.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::onvif::{map, soap};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(answer) = soap::read(text) else { return };
    assert!(answer.notifications.len() <= soap::NOTIFICATIONS_MAX);
    for told in &answer.notifications {
        assert!(
            text.get(told.bytes.clone()).is_some(),
            "a notification stands in its answer"
        );
        let _ = map::said("camera", told);
    }
});
