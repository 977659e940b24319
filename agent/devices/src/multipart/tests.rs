use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn all(content_type: &str, stream: &[u8], slice: usize) -> Vec<Piece> {
    let mut scanner = Scanner::new(content_type);
    let mut pieces = Vec::new();
    for part in stream.chunks(slice.max(1)) {
        scanner.scan(part, &mut pieces);
    }
    scanner.finish(&mut pieces);
    pieces
}

/// Scans the stream whole, and cut at every byte and in every slice size up to 40: the result is always the same.
fn scan(stream: &[u8]) -> Vec<Piece> {
    let content_type = "multipart/mixed; boundary=MIME_boundary";
    let whole = all(content_type, stream, stream.len());
    for slice in 1..40 {
        assert_eq!(
            all(content_type, stream, slice),
            whole,
            "slices of {slice} of {}",
            String::from_utf8_lossy(stream)
        );
    }
    for cut in 1..stream.len() {
        let mut scanner = Scanner::new(content_type);
        let mut pieces = Vec::new();
        scanner.scan(&stream[..cut], &mut pieces);
        scanner.scan(&stream[cut..], &mut pieces);
        scanner.finish(&mut pieces);
        assert_eq!(
            pieces,
            whole,
            "cut at {cut} of {}",
            String::from_utf8_lossy(stream)
        );
    }
    whole
}

fn part(body: &str) -> Piece {
    Piece::Part(body.as_bytes().to_vec())
}

fn garbage(sample: &str) -> Piece {
    rejected(Damage::Garbage, sample)
}

fn rejected(damage: Damage, sample: &str) -> Piece {
    Piece::Rejected {
        damage,
        bytes: sample.len() as u64,
        sample: sample.as_bytes().to_vec(),
    }
}

const XML: &str = "<a><b>1 & 2</b></a>";

fn message(body: &str) -> String {
    format!(
        "--MIME_boundary\r\nContent-Type: application/xml; charset=\"UTF-8\"\r\nContent-Length: {}\r\n\r\n{body}\r\n",
        body.len()
    )
}

#[test]
fn parts_come_out_whole_however_they_are_cut() {
    let json = "{\"a\": \"}\\\"{\", \"b\": [1]}";
    let stream = [message(XML), message(json), message("Heartbeat")].concat();
    assert_eq!(
        scan(stream.as_bytes()),
        [part(XML), part(json), part("Heartbeat")]
    );
    let ended = format!("{stream}--MIME_boundary--\r\n");
    assert_eq!(scan(ended.as_bytes()), scan(stream.as_bytes()));
    assert_eq!(scan(b""), []);
}

#[test]
fn what_devices_get_wrong_is_taken_as_it_comes() {
    let good = message(XML);
    let cases = [
        ("doubled delimiters", format!("--MIME_boundary\r\n{good}")),
        (
            "tripled, with blank lines",
            format!("--MIME_boundary\r\n\r\n--MIME_boundary\r\n{good}"),
        ),
        ("line feeds only", good.replace("\r\n", "\n")),
        ("no space in the head", good.replace(": ", ":")),
        (
            "odd letters in the head",
            good.replace("Content-Length", "CONTENT-LENGTH"),
        ),
        ("no length", good.replace("Content-Length", "X-Length")),
        (
            "no head",
            good.replace("Content-Type: application/xml; charset=\"UTF-8\"\r\n", "")
                .replace("Content-Length: 19\r\n", ""),
        ),
        ("no blank line", good.replace("19\r\n\r\n", "19\r\n")),
        (
            "too short a length",
            good.replace("Length: 19", "Length: 7"),
        ),
        (
            "too long a length",
            good.replace("Length: 19", "Length: 190"),
        ),
        ("4 GiB", good.replace("Length: 19", "Length: 4294967296")),
        (
            "more than a number holds",
            good.replace("Length: 19", "Length: 99999999999999999999999"),
        ),
        ("below nothing", good.replace("Length: 19", "Length: -1")),
        ("no number", good.replace("Length: 19", "Length: many")),
        ("a dash more", good.replace("--MIME", "---MIME")),
    ];
    for (what, wrong) in cases {
        let stream = [wrong.as_str(), &good, &wrong].concat();
        assert_eq!(
            scan(stream.as_bytes()),
            [part(XML), part(XML), part(XML)],
            "{what}"
        );
    }
    // A delimiter right after the body.
    let stream = good.trim_end().repeat(3);
    assert_eq!(scan(stream.as_bytes()), [part(XML), part(XML), part(XML)]);
}

#[test]
fn a_length_that_lies_costs_no_other_part() {
    let text = "Code=A;action=Start;index=0";
    for lie in ["Length: 3", "Length: 40", "Length: 4000"] {
        let stream = message(text).replace("Length: 27", lie) + &message(XML);
        assert_eq!(scan(stream.as_bytes()), [part(text), part(XML)], "{lie}");
    }
    // Length in letters, not in bytes.
    let chinese = "{\"名\": \"单元门\"}";
    let stream = message(chinese).replace(&format!("Length: {}", chinese.len()), "Length: 12")
        + &message(XML);
    assert_eq!(scan(stream.as_bytes()), [part(chinese), part(XML)]);
}

#[test]
fn a_part_is_given_out_before_the_next_one_begins() {
    for body in [XML, "{\"a\":{\"b\":[1]}}", "Heartbeat"] {
        let mut scanner = Scanner::new("multipart/mixed; boundary=MIME_boundary");
        let mut pieces = Vec::new();
        let message = message(body);
        scanner.scan(message.as_bytes(), &mut pieces);
        assert_eq!(pieces, [part(body)]);
    }
    for length in ["", "Content-Length: 4294967295\r\n"] {
        let mut scanner = Scanner::new("multipart/mixed; boundary=MIME_boundary");
        let mut pieces = Vec::new();
        scanner.scan(
            format!("--MIME_boundary\r\n{length}\r\n{XML}").as_bytes(),
            &mut pieces,
        );
        assert_eq!(pieces, [part(XML)], "{length}");
    }
}

#[test]
fn the_stream_tells_its_boundary_where_the_head_does_not() {
    let stream = message(XML) + &message("Heartbeat");
    for content_type in [
        "multipart/mixed; boundary=MIME_boundary",
        "multipart/mixed;boundary=\"MIME_boundary\"; charset=UTF-8",
        "multipart/x-mixed-replace; Boundary=--MIME_boundary",
        "multipart/mixed; boundary=another",
        "multipart/mixed",
        "",
    ] {
        for slice in [1, 2, 7, 19, 4096] {
            let found = all(content_type, stream.as_bytes(), slice);
            assert_eq!(
                found,
                [part(XML), part("Heartbeat")],
                "{content_type:?} in {slice}"
            );
            let found = all(
                content_type,
                format!("\r\nhello\r\n--x\r\n{stream}").as_bytes(),
                slice,
            );
            assert_eq!(found.len(), 3, "{content_type:?} in {slice}: {found:?}");
        }
    }
    // After a part, no other boundary is accepted.
    let stray = message(XML) + "--other\r\nContent-Type: a/b\r\n\r\n" + &message("Heartbeat");
    let found = scan(stray.as_bytes());
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[2], part("Heartbeat"));
}

#[test]
fn garbage_is_told_once_and_the_next_part_is_found() {
    let good = message(XML);
    for waste in [
        "\u{0}\u{1}\u{2}",
        "</a></a>}}}",
        "-- \r\n-",
        "--MIME_bound",
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let stream = format!("{waste}\r\n{good}{waste}\r\n{good}");
        let found = scan(stream.as_bytes());
        let bodies = found.iter().filter(|piece| **piece == part(XML)).count();
        let rejects = found
            .iter()
            .filter(|piece| matches!(piece, Piece::Rejected { .. }))
            .count();
        assert_eq!((bodies, rejects), (2, 2), "{waste:?}: {found:?}");
    }
    // The rest of a body whose root ended early.
    let two = format!("--MIME_boundary\r\n\r\n{XML}\r\nrest\r\n{good}");
    assert_eq!(
        scan(two.as_bytes()),
        [part(XML), garbage("rest\r\n"), part(XML)]
    );
}

#[test]
fn pictures_are_counted_and_not_kept() {
    let picture: Vec<u8> = b"\xff\xd8"
        .iter()
        .copied()
        .chain((0..100_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8))
        .collect();
    for head in [
        "Content-Type: image/jpeg\r\nContent-Length: 100002\r\n\r\n",
        "Content-Type: image/jpeg\r\nContent-Length: 4294967296\r\n\r\n",
        "Content-Type: image/jpeg\r\n\r\n",
        "Content-Type: application/octet-stream\r\nContent-Length: 100002\r\n\r\n",
        "\r\n",
    ] {
        let mut stream = format!("--MIME_boundary\r\n{head}").into_bytes();
        stream.extend_from_slice(&picture);
        stream.extend_from_slice(b"\r\n");
        stream.extend_from_slice(message(XML).as_bytes());
        for slice in [1, 1000, 1 << 20] {
            let found = all("boundary=MIME_boundary", &stream, slice);
            assert!(
                matches!(
                    &found[..],
                    [
                        Piece::Picture {
                            bytes: 100_002..=100_004
                        },
                        Piece::Part(_)
                    ]
                ),
                "{head:?} in {slice}: {found:?}"
            );
        }
    }
}

/// Feeds the scanner; returns the largest number of held bytes and the time it took.
fn bear(start: &str, again: &[u8], bytes: usize) -> (usize, Duration, Vec<Piece>) {
    let mut scanner = Scanner::new("multipart/mixed; boundary=MIME_boundary");
    let mut pieces = Vec::new();
    let mut held = 0;
    scanner.scan(start.as_bytes(), &mut pieces);
    let started = Instant::now();
    for _ in 0..bytes / again.len() {
        scanner.scan(again, &mut pieces);
        held = held.max(scanner.held_bytes());
        assert!(pieces.len() < 10_000);
    }
    let took = started.elapsed();
    scanner.scan(format!("\r\n{}", message(XML)).as_bytes(), &mut pieces);
    assert_eq!(pieces.last(), Some(&part(XML)), "after {start:?}");
    (held, took, pieces)
}

#[test]
fn a_stream_without_an_end_is_bounded_in_memory_and_time() {
    let head = "--MIME_boundary\r\n";
    let json = format!("{head}\r\n{{");
    let text = format!("{head}Content-Length: 200000\r\n\r\nCode=");
    let xml = format!("{head}\r\n<a>");
    let prolog = format!("{head}\r\n");
    let picture = format!("{head}Content-Type: image/jpeg\r\n\r\n");
    let hostile: [(&str, &[u8]); 12] = [
        ("", b"x"),
        ("", b"\n--"),
        (head, b"a"),
        (head, b"X-Header: 1\r\n"),
        (&json, b"{"),
        (&json, b"\"}\n--"),
        (&text, b"a"),
        (&text, b"\n--MIME_boundar"),
        (&xml, b"</a </aa"),
        (&prolog, b"<!>"),
        (&picture, b"\n--MIME_"),
        (&picture, b"\xff"),
    ];
    for (start, again) in hostile {
        let (held, took, pieces) = bear(start, again, 3 << 20);
        assert!(
            held <= 2 * (PART_BYTES_MAX + SLICE_BYTES),
            "{start:?} {again:?} held {held}"
        );
        // A debug build takes a second where a release build takes 50 ms.
        assert!(
            took < Duration::from_secs(20),
            "{start:?} {again:?} took {took:?}"
        );
        let rejected = pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Rejected { .. } | Piece::Picture { .. }));
        assert!(rejected, "{start:?} {again:?}: {pieces:?}");
    }
}

#[test]
fn what_is_cut_off_at_the_end_says_so() {
    let good = message(XML);
    let found = scan(format!("{good}--MIME_boundary\r\nContent-Type: te").as_bytes());
    assert!(
        matches!(
            &found[..],
            [
                Piece::Part(_),
                Piece::Rejected {
                    damage: Damage::CutOff,
                    ..
                }
            ]
        ),
        "{found:?}"
    );
    // The decoder judges a body.
    let found = scan(format!("{good}--MIME_boundary\r\n\r\n<a><b>").as_bytes());
    assert_eq!(found, [part(XML), part("<a><b>")]);
    let found = scan(format!("--MIME_boundary\r\n\r\n{XML}\r\n--MIME_boundary--").as_bytes());
    assert_eq!(found, [part(XML)]);
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(
        pieces in proptest::collection::vec(prop_oneof![
            Just(b"--MIME_boundary".to_vec()), Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"--".to_vec()),
            Just(b"Content-Length: 9".to_vec()), Just(b"Content-Type: image/jpeg".to_vec()), Just(b"<a>".to_vec()),
            Just(b"</a>".to_vec()), Just(b"{\"".to_vec()), Just(b"}".to_vec()), Just(b"\xff\xd8".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20),
        ], 0..60),
        slice in 1usize..50,
    ) {
        let stream = pieces.concat();
        all("boundary=MIME_boundary", &stream, slice);
        all("", &stream, slice);
    }

    #[test]
    fn what_was_written_is_read(
        bodies in proptest::collection::vec("[a-zA-Z=;\\r\\n]{0,30}[a-z]", 1..8),
        slice in 1usize..50,
        gone in any::<bool>(),
    ) {
        // Without a length an empty line ends it.
        let bodies: Vec<String> = bodies
            .into_iter()
            .map(|body| if gone { body.replace(['\r', '\n'], " ") } else { body })
            .collect();
        let stream: String = bodies.iter().map(|body| {
            let body = body.trim();
            if gone { format!("--MIME_boundary\r\nContent-Type: text/plain\r\n\r\n{body}\r\n") } else { message(body) }
        }).collect();
        let found = all("boundary=MIME_boundary", stream.as_bytes(), slice);
        let wanted: Vec<Piece> = bodies.iter().map(|body| part(body.trim())).collect();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn documents_without_delimiters_are_parts() {
    let xml = |kind: &str| {
        format!("<EventNotificationAlert><eventType>{kind}</eventType></EventNotificationAlert>")
    };
    let wanted: Vec<Piece> = ["VMD", "IO"]
        .map(|kind| Piece::Part(xml(kind).into_bytes()))
        .into();
    let streams = [
        // A stream without any delimiter.
        format!("{}\r\n{}\r\n", xml("VMD"), xml("IO")),
        // Two documents in one part.
        format!(
            "--b\r\nContent-Type: application/xml\r\n\r\n{}\r\n{}\r\n--b\r\n",
            xml("VMD"),
            xml("IO")
        ),
        format!("--b\r\n\r\n{}{}\r\n--b--\r\n", xml("VMD"), xml("IO")),
    ];
    for stream in &streams {
        for slice in [1, 7, 64, stream.len()] {
            let found = all("multipart/mixed; boundary=b", stream.as_bytes(), slice);
            assert_eq!(found, wanted, "{slice}: {stream}");
        }
    }
    let lines = "--b\r\nContent-Type: text/plain\r\n\r\nCode=A;action=Start\r\n\r\nCode=B;action=Start\r\n\r\n--b\r\n";
    assert_eq!(
        all("multipart/mixed; boundary=b", lines.as_bytes(), 16).len(),
        2
    );
}

#[test]
fn a_stream_that_is_none_says_so() {
    let pieces = all("text/plain", b"OK\r\nWelcome\r\n", 16);
    let [Piece::Rejected { damage, .. }] = &pieces[..] else {
        panic!("{pieces:?}");
    };
    assert!(damage.to_string().contains("no delimiter"), "{damage}");
    let mut scanner = Scanner::new("");
    assert_eq!(scanner.trouble(), None);
    scanner.scan(b"OK\r\n", &mut Vec::new());
    assert_eq!(scanner.trouble(), Some(Damage::NoDelimiter));
    let mut scanner = Scanner::new("");
    scanner.scan(b"<EventNotificationAlert>", &mut Vec::new());
    assert_eq!(scanner.trouble(), Some(Damage::Unfinished));
}

#[test]
fn a_damaged_delimiter_or_head_costs_no_part_behind_it() {
    let part = |kind: &str| {
        let body = format!(
            "<EventNotificationAlert><eventType>{kind}</eventType></EventNotificationAlert>"
        );
        format!(
            "--boundary\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}\r\n",
            body.len()
        )
    };
    let stream = part("first") + &part("second") + &part("third");
    let second = part("first").len();
    let head = part("second")
        .find("<EventNotificationAlert>")
        .expect("a body");
    for at in second..second + head {
        for flip in [1, 4, 0x10, 0x20, 0x80] {
            let mut bytes = stream.clone().into_bytes();
            bytes[at] ^= flip;
            let pieces = all("multipart/mixed; boundary=boundary", &bytes, 50);
            let parts = pieces.iter().filter(|piece| matches!(piece, Piece::Part(body) if body.windows(6).any(|word| word == b"second")));
            assert_eq!(parts.count(), 1, "byte {at} ^ {flip}: {pieces:?}");
        }
    }
}
