//! A stream of a fire alarm host, in pieces of the size that its first byte says: every byte is given out once, a frame that
//! was read is built the same, and whatever its data are comes to something without a panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::gb26875::frame::{FRAME_BYTES_MAX, Framer, Piece};
use linli_devices::gb26875::map;
use linli_devices::gb26875::unit::Unit;
use linli_devices::device_event::DecodedMessage;

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    let now = jiff::civil::date(2026, 8, 1).at(19, 19, 0, 0);
    let mut framer = Framer::default();
    let mut given = 0;
    let mut look = |piece: Piece<'_>| match piece {
        Piece::Rejected { bytes, .. } => {
            assert!(!bytes.is_empty());
            given += bytes.len();
        }
        Piece::Frame(frame, bytes) => {
            assert_eq!(frame.encode(), bytes);
            given += bytes.len();
            let Ok(unit) = Unit::decode(frame.data) else {
                return;
            };
            if let Ok(DecodedMessage::Events(device_events)) = map::said("host", &frame.head, unit, now) {
                assert!(!device_events.is_empty());
                assert!(device_events.iter().all(|device_event| device_event.id.len() <= 128));
            }
        }
    };
    for piece in stream.chunks(usize::from(*size).max(1)) {
        framer.feed(piece);
        while let Some(piece) = framer.take() {
            look(piece);
        }
        assert!(framer.held() < FRAME_BYTES_MAX);
    }
    while let Some(piece) = framer.give_up() {
        look(piece);
    }
    assert_eq!(given, stream.len());
});
