//! A stream of an alarm panel, in pieces of the size that its first byte says; then the rest as one body whose length and
//! CRC are right. What is held stays bounded, and whatever a body says comes to something without a panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::dc09::cipher::Key;
use linli_devices::dc09::contact_id::Report;
use linli_devices::dc09::frame::{self, BODY_BYTES_MAX, FRAME_BYTES_MAX, Framer, Piece};
use linli_devices::dc09::map::{From, utc_ms};
use linli_devices::dc09::message::{self, Content, Header};
use linli_devices::dc09::sia_dcs::Block;
use linli_devices::device_event::DecodedMessage;
use std::sync::LazyLock;

static KEY: LazyLock<Key> = LazyLock::new(|| Key::from_digits(&"a5".repeat(16)).expect("a key"));

fn content(clear: &[u8]) {
    let Ok(content) = Content::read(clear) else {
        return;
    };
    let from = From {
        panel: "panel",
        account: "1234",
        stem: "panel-0001-0000-1",
        sent_ms: content.time.and_then(utc_ms),
        content: &content,
    };
    let mut said = Vec::new();
    said.extend(Report::read(&content.data).map(|report| from.report(report)));
    said.extend(Block::read(&content.data).map(|block| from.block(block)));
    for said in said {
        if let DecodedMessage::Events(device_events) = said {
            assert!(!device_events.is_empty());
        }
    }
}

fn body(body: &[u8]) {
    let Ok((header, rest)) = Header::read(body) else {
        return;
    };
    // What goes back is a good frame, whatever the fields are.
    let mut framer = Framer::default();
    framer.feed(&message::duh(&header));
    assert!(matches!(framer.take(), Some(Piece::Body(..))));
    if header.sealed {
        if let Ok(clear) = message::open(&header, rest, &KEY) {
            content(&clear);
        }
    } else {
        content(rest);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    let mut framer = Framer::default();
    for piece in stream.chunks(usize::from(*size).max(1)) {
        framer.feed(piece);
        while let Some(piece) = framer.take() {
            if let Piece::Body(found, _) = piece {
                body(found);
            }
        }
        assert!(framer.held() < FRAME_BYTES_MAX);
    }
    while framer.give_up().is_some() {}
    assert_eq!(framer.held(), 0);
    let inner: Vec<u8> = stream
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .take(BODY_BYTES_MAX - 1)
        .collect();
    let whole = [b"\"".as_slice(), &inner].concat();
    framer.feed(&frame::encode(&whole));
    let Some(Piece::Body(found, _)) = framer.take() else {
        panic!("a good frame");
    };
    body(found);
});
