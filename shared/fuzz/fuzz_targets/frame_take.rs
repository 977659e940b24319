//! A stream of any bytes: no panic, and every accepted frame reads the same after it is encoded again.
#![no_main]
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use linli_shared::protocol::frame::{self, Frame};

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = frame::take(&mut buffer) {
        if let Frame::Batch(chunks) = &frame {
            for chunk in chunks {
                let _ = chunk.events();
            }
        }
        let bytes = frame.encode().expect("what was read can be written");
        // Packed CBOR is never longer than other encodings of the same value, so it stays within the limits
        // that applied to the first reading.
        let again = frame::take(&mut BytesMut::from(&bytes[..]));
        assert_eq!(again.expect("our own frame"), Some(frame));
    }
});
