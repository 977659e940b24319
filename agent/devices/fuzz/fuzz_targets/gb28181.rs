//! SIP of a recorder, as a stream in pieces of the size that its first byte says and as a datagram: every byte is given out once,
//! what is held is bounded, an answer is a message again, and whatever a body is it comes to something without a panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use linli_devices::gb28181::sip::{BODY_BYTES_MAX, Framer, HEAD_BYTES_MAX, Message, Piece, Start};
use linli_devices::gb28181::{digest, manscdp, map};
use linli_devices::device_event::DecodedMessage;
use linli_devices::text;

fn look(message: &Message<'_>) {
    if message.is_answerable() {
        let peer = ([10, 0, 0, 1], 5060).into();
        let answer = message.answer(200, peer, "tag", "");
        // What a few letters of GBK become is longer than they were: only then may a head be too long.
        if let Ok(read) = Message::datagram(&answer) {
            assert_eq!(read.start, Start::Response { code: 200 });
        } else {
            assert!(answer.len() > HEAD_BYTES_MAX);
        }
    }
    if let Some(header) = message.header("Authorization")
        && let Some(credentials) = digest::Credentials::read(header)
    {
        assert!(!credentials.prove("REGISTER", "3402000000", "a password that nobody knows"));
    }
    let text = text::lossy(message.body);
    let from = map::From {
        device: "34020000001180000001",
        call: "",
    };
    for body in manscdp::decode_all(&text).iter().flatten() {
        if let Ok(DecodedMessage::Events(device_events)) = from.said(body) {
            assert!(!device_events.is_empty());
            assert!(device_events.iter().all(|device_event| device_event.device.len() <= 64));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    if let Ok(message) = Message::datagram(stream) {
        look(&message);
    }
    let mut framer = Framer::default();
    let mut given = 0;
    let mut take = |piece: Piece<'_>| match piece {
        Piece::Alive(bytes) | Piece::Rejected(_, bytes, _) => {
            assert!(!bytes.is_empty());
            given += bytes.len();
        }
        Piece::Message(message, bytes) => {
            given += bytes.len();
            look(&message);
        }
    };
    for piece in stream.chunks(usize::from(*size).max(1)) {
        framer.feed(piece);
        while let Some(piece) = framer.take() {
            take(piece);
        }
        assert!(framer.held() < HEAD_BYTES_MAX + BODY_BYTES_MAX);
    }
    given += framer.held();
    assert_eq!(given, stream.len());
});
