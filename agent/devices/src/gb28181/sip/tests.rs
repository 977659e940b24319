use super::*;
use proptest::prelude::*;

const PEER: &str = "10.1.0.7:5061";
const HEAD: &str = "MESSAGE sip:34020000002000000001@3402000000 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bK1\r\n\
    From: <sip:34020000001320000001@3402000000>;tag=1\r\n\
    To: <sip:34020000002000000001@3402000000>\r\n\
    Call-ID: 7@192.168.1.64\r\nCSeq: 20 MESSAGE\r\n";

fn with(more: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{more}\r\n{body}").into_bytes()
}

fn peer() -> SocketAddr {
    PEER.parse().expect("an address")
}

#[test]
fn a_datagram_with_padded_missing_short_and_long_content_length() {
    for more in [
        "Content-Length:   2\r\n",
        "l : 2\r\n",
        "",
        "CONTENT-LENGTH:\r\n 2\r\n",
    ] {
        let bytes = with(more, "ab");
        let message = Message::datagram(&bytes).expect("a message");
        assert_eq!(message.body, b"ab", "{more}");
        assert_eq!(message.from_user(), Some("34020000001320000001"));
        assert!(message.is_answerable());
    }
    let bytes = with("Content-Length: 1\r\n", "ab");
    assert_eq!(Message::datagram(&bytes).expect("a message").body, b"a");
    // The datagram has its own length.
    for length in ["3", "4294967296", "-1", "1 2", "99999999999999999999", ""] {
        let bytes = with(&format!("Content-Length: {length}\r\n"), "ab");
        assert_eq!(
            Message::datagram(&bytes).expect("a message").body,
            b"ab",
            "{length}"
        );
    }
    // Letters are counted instead of bytes, or nothing.
    let body = "<Notify><Name>大门</Name></Notify>";
    for length in [0, 1, body.chars().count(), body.len(), body.len() + 9] {
        let bytes = with(&format!("Content-Length: {length}\r\n"), body);
        let message = Message::datagram(&bytes).expect("a message");
        assert_eq!(message.body, body.as_bytes(), "{length}");
    }
}

#[test]
fn a_stream_without_a_length_has_the_xml_that_follows() {
    let body = "<?xml version=\"1.0\"?>\r\n<Notify><a>1</a></Notify>";
    let good = with("Content-Length: 2\r\n", "ok");
    let xml = "Content-Type: Application/MANSCDP+xml\r\n";
    for length in ["Content-Length: 0\r\n", "Content-Length: x\r\n", ""] {
        let more = format!("{xml}{length}");
        let stream = [with(&more, body), good.clone()].concat();
        for size in [1, 7, stream.len()] {
            let mut framer = Framer::default();
            let mut bodies = Vec::new();
            for piece in stream.chunks(size) {
                framer.feed(piece);
                while let Some(piece) = framer.take() {
                    if let Piece::Message(message, _) = piece {
                        bodies.push(String::from_utf8_lossy(message.body).into_owned());
                    }
                }
            }
            // In pieces of a byte the head is complete before the body has begun.
            assert_eq!(bodies, [body, "ok"], "{more} {size}");
        }
    }
}

#[test]
fn compact_folded_and_bare_newlines_are_read() {
    let bytes = b"REGISTER sip:a@b SIP/2.0\nv: SIP/2.0/TCP h;branch=z9hG4bK2\nf: \"\xc1\xda\" <sip:1@b>;tag=9\nt: <sip:1@b>\ni: x\n y\nCSeq: 1 REGISTER\nm: <sip:1@10.0.0.1:5060;transport=udp>;expires=60\nExpires: 3600\n\n";
    let message = Message::datagram(bytes).expect("a message");
    assert_eq!(message.header("call-id"), Some("x y"));
    assert_eq!(message.from_user(), Some("1"));
    assert_eq!(message.transport(), "TCP");
    assert_eq!(expires(&message), Some(60));
}

#[test]
fn an_answer_says_where_its_request_came_from_and_keeps_all_vias() {
    let text =
        String::from_utf8(with("Via: SIP/2.0/UDP proxy;branch=z9hG4bK0\r\n", "")).expect("text");
    let message = Message::datagram(text.as_bytes()).expect("a message");
    let answer = String::from_utf8(message.answer(200, peer(), "t1", "Date: x\r\n")).expect("text");
    let expected = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP 192.168.1.64:5060;branch=z9hG4bK1;rport=5061;received=10.1.0.7\r\n\
        Via: SIP/2.0/UDP proxy;branch=z9hG4bK0\r\n\
        From: <sip:34020000001320000001@3402000000>;tag=1\r\n\
        To: <sip:34020000002000000001@3402000000>;tag=t1\r\n\
        Call-ID: 7@192.168.1.64\r\nCSeq: 20 MESSAGE\r\nDate: x\r\nUser-Agent: Linli\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answer, expected);
    assert_eq!(
        Message::datagram(answer.as_bytes())
            .expect("a message")
            .start,
        Start::Response { code: 200 }
    );
    assert_eq!(
        seen_from("SIP/2.0/UDP a;branch=b, SIP/2.0/UDP c", peer()),
        "SIP/2.0/UDP a;branch=b;received=10.1.0.7, SIP/2.0/UDP c"
    );
}

#[test]
fn what_is_no_message_is_rejected() {
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "message sip:a@b SIP/2.0\r\n\r\n",
        "SIP/2.0 99 x\r\n\r\n",
        "SIP/2.0 abc\r\n\r\n",
        "MESSAGE  SIP/2.0\r\n\r\n",
        "MESSAGE sip:a@b SIP/2.0\r\nno header\r\n\r\n",
        "MESSAGE sip:a@b SIP/2.0\r\n: x\r\n\r\n",
        "MESSAGE sip:a@b SIP/2.0\r\nFrom: x\r\n",
    ] {
        assert!(Message::datagram(bytes.as_bytes()).is_err(), "{bytes}");
    }
    let many = format!(
        "OPTIONS sip:a@b SIP/2.0\r\n{}\r\n",
        "X: y\r\n".repeat(HEADERS_MAX + 1)
    );
    assert_eq!(
        Message::datagram(many.as_bytes()).expect_err("no").0,
        SipError::Headers
    );
    let endless = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nX: {}\r\n\r\n",
        "y".repeat(HEAD_BYTES_MAX)
    );
    assert_eq!(
        Message::datagram(endless.as_bytes()).expect_err("no").0,
        SipError::Endless
    );
}

#[test]
fn users_and_parameters() {
    assert_eq!(user("<sip:123@10.0.0.1:5060>;tag=1"), Some("123"));
    assert_eq!(user("\"x\" <SIP:123@a>"), Some("123"));
    assert_eq!(user("sip:10.0.0.1:5060"), None);
    assert_eq!(user("sip:123"), None);
    assert_eq!(user("tel:1"), None);
    assert_eq!(parameter(";Tag=\"x\";lr", "tag"), Some("x"));
    assert_eq!(parameter(";Tag=x;lr", "lr"), Some(""));
    assert_eq!(parameter("", "lr"), None);
}

/// All pieces of a stream that arrives in pieces of this size; `!` before rejected ones.
fn pieces(stream: &[u8], size: usize) -> Vec<String> {
    let mut framer = Framer::default();
    let mut found = Vec::new();
    let mut given = 0;
    for part in stream.chunks(size) {
        framer.feed(part);
        loop {
            match framer.take() {
                None => break,
                Some(Piece::Alive(bytes)) => given += bytes.len(),
                Some(Piece::Message(message, bytes)) => {
                    given += bytes.len();
                    found.push(String::from_utf8_lossy(message.body).into_owned());
                }
                Some(Piece::Rejected(_, bytes, _)) => {
                    given += bytes.len();
                    found.push("!".to_owned());
                }
            }
        }
        assert!(framer.held() < HEAD_BYTES_MAX + BODY_BYTES_MAX);
    }
    given += framer.held();
    assert_eq!(given, stream.len());
    found
}

#[test]
fn a_stream_is_cut_wherever_its_pieces_end() {
    let mut stream = b"\r\n\r\n".to_vec();
    stream.extend(with("Content-Length: 3\r\n", "one"));
    stream.extend(with("", ""));
    stream.extend(with("Content-Length: 5\r\n", "three"));
    for size in 1..stream.len() {
        assert_eq!(pieces(&stream, size), ["one", "", "three"], "{size}");
    }
}

#[test]
fn garbage_costs_itself_only() {
    let good = with("Content-Length: 2\r\n", "ok");
    for garbage in [
        b"\x00\xff garbage".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // An unannounced body that is no XML.
        with("", "Notify"),
        with("Content-Length: 4294967296\r\n", ""),
        vec![b'x'; 3 * HEAD_BYTES_MAX],
    ] {
        let stream = [garbage, good.clone()].concat();
        for size in [1, 7, 4096] {
            let found = pieces(&stream, size);
            assert_eq!(found.last().map(String::as_str), Some("ok"), "{found:?}");
            assert!(found.contains(&"!".to_owned()), "{found:?}");
        }
    }
}

#[test]
fn what_never_ends_is_given_up() {
    let mut framer = Framer::default();
    framer.feed(&with("Content-Length: 9\r\n", "<Not"));
    assert!(framer.take().is_none());
    assert!(matches!(
        framer.give_up(),
        Some(Piece::Message(message, _)) if message.body == b"<Not"
    ));
    assert_eq!(framer.held(), 0);
    assert!(framer.give_up().is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_cut_without_a_loss(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "(MESSAGE sip:a@b SIP/2.0\r\n|SIP/2.0 200 OK\r\n|l: [0-9]{1,3}\r\n|\r\n|[a-z:]{0,9}\r?\n)".prop_map(String::into_bytes),
            ],
            0..30,
        ),
        size in 1_usize..200,
    ) {
        let _ = pieces(&parts.concat(), size);
    }

    #[test]
    fn a_request_of_the_agent_is_read_back(body in "[ -~]{1,200}", device in "[0-9]{20}", v6: bool) {
        let own: SocketAddr = if v6 { "[::1]:5060" } else { "10.0.0.1:5060" }.parse().expect("an address");
        let request = Request {
            transport: "TCP", peer: peer(), own, device: &device, id: "34020000002000000001", realm: "3402000000",
            token: "abc", body: &body,
        };
        let bytes = request.message();
        let message = Message::datagram(&bytes).expect("a message");
        prop_assert_eq!(message.body, body.as_bytes());
        prop_assert_eq!(user(message.header("To").expect("To")), Some(device.as_str()));
        prop_assert_eq!(pieces(&bytes, 7), [body]);
    }
}
