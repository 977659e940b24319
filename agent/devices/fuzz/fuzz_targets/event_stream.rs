//! Bytes of a device's event stream, cut anywhere: the scanner neither panics nor holds more than it may, and its decoders
//! take what it gives.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::hikvision::{alert, map::Mapper};
use linli_devices::multipart::{PART_BYTES_MAX, Piece, Scanner};
use linli_devices::{dahua, text};

fuzz_target!(|data: &[u8]| {
    let Some((&slice, stream)) = data.split_first() else { return };
    let content_type = if slice % 2 == 0 { "multipart/mixed; boundary=b" } else { "" };
    let mut scanner = Scanner::new(content_type);
    let mut pieces = Vec::new();
    for bytes in stream.chunks(usize::from(slice).max(1)) {
        scanner.scan(bytes, &mut pieces);
    }
    scanner.finish(&mut pieces);
    let mut mapper = Mapper::new("fuzz", true);
    for piece in pieces {
        let Piece::Part(body) = piece else { continue };
        assert!(body.len() <= PART_BYTES_MAX + (64 << 10));
        let text = text::lossy(&body);
        let alerts = alert::decode_all(&text);
        assert!(!alerts.is_empty());
        for alert in alerts.iter().flatten() {
            let _ = mapper.map(alert, 0);
        }
        let events = dahua::message::decode_all(&text);
        assert!(!events.is_empty());
        for message in events.iter().flatten() {
            let _ = dahua::map::map("fuzz", true, message);
        }
    }
    let _ = mapper.quiet(u64::MAX);
});
