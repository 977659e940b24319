//! What a message of each source costs, from its bytes to its readings: framing, decoding, mapping, and the answer.
//!
//! `cargo bench -p linli-devices --bench decode`. One thread, nothing stored: the time of a message is its CPU.
use divan::Bencher;
use divan::counter::ItemsCount;

/// Messages of one round.
const MESSAGES: usize = 1000;

fn main() {
    divan::main();
}

mod gb26875 {
    use super::*;
    use jiff::civil::date;
    use linli_devices::gb26875::answer::Answer;
    use linli_devices::gb26875::frame::{Address, Command, Frame, Framer, Head, Piece, WireTime};
    use linli_devices::gb26875::map;
    use linli_devices::gb26875::unit::Unit;

    /// Frames with the states of so many parts each.
    fn stream(parts: u8) -> Vec<u8> {
        let time = [48, 18, 19, 1, 8, 26];
        let mut stream = Vec::new();
        for serial in 0..MESSAGES {
            let mut data = vec![2, parts];
            for part in 0..parts {
                data.extend([1, 3, 40, 10, 0, part, 0, 2, 0]);
                data.extend(b"\xa3\xc1\xc7\xf8\xa3\xb1\xb2\xe3\xdf\xc8\xb2\xb8\xd7\xdf\xc0\xc8");
                data.extend([0; 15]);
                data.extend(time);
            }
            let head = Head {
                serial: serial as u16,
                version: [1, 1],
                time: WireTime(time),
                source: Address([1, 2, 3, 0, 0, 0]),
                destination: Address([0; 6]),
                command: Command::Send,
            };
            stream.extend(Frame { head, data: &data }.encode());
        }
        stream
    }

    #[divan::bench(args = [1, 22])]
    fn part_states(bencher: Bencher, parts: u8) {
        let stream = stream(parts);
        let now = date(2026, 8, 1).at(19, 19, 0, 0);
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            let mut framer = Framer::default();
            let mut device_events = 0;
            for read in stream.chunks(4096) {
                framer.feed(read);
                while let Some(Piece::Frame(frame, _)) = framer.take() {
                    let unit = Unit::decode(frame.data).expect("a unit");
                    let said = map::said("fire-1", &frame.head, unit, now);
                    device_events += usize::from(said.is_ok());
                    divan::black_box((said.ok(), Answer::Confirm.encode(&frame.head, Some(now))));
                }
            }
            assert_eq!(device_events, MESSAGES);
        });
    }
}

mod gb28181 {
    use super::*;
    use linli_devices::gb28181::sip::{Framer, Piece};
    use linli_devices::gb28181::{manscdp, map};
    use linli_devices::text;
    use std::net::SocketAddr;

    const DEVICE: &str = "34020000001180000001";

    /// An alarm of a channel, its words in GB18030.
    #[divan::bench]
    fn alarm(bencher: Bencher) {
        let mut stream = Vec::new();
        for sn in 0..MESSAGES {
            let mut body = format!("<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n<SN>{sn}</SN>\r\n<DeviceID>34020000001320000001</DeviceID>\r\n<AlarmPriority>4</AlarmPriority>\r\n<AlarmMethod>5</AlarmMethod>\r\n<AlarmTime>2026-08-01T19:19:00</AlarmTime>\r\n<AlarmDescription>").into_bytes();
            body.extend(b"\xb4\xc5\xc5\xcc\xb9\xca\xd5\xcf");
            body.extend(b"</AlarmDescription>\r\n<Info>\r\n<AlarmType>6</AlarmType>\r\n</Info>\r\n</Notify>\r\n");
            stream.extend(format!("MESSAGE sip:34020000002000000001@3402000000 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.40:5060;rport;branch=z9hG4bK{sn}\r\nFrom: <sip:{DEVICE}@3402000000>;tag={sn}\r\nTo: <sip:34020000002000000001@3402000000>\r\nCall-ID: {sn}@10.1.0.40\r\nCSeq: 20 MESSAGE\r\nContent-Type: Application/MANSCDP+xml\r\nMax-Forwards: 70\r\nUser-Agent: IP Camera\r\nContent-Length:   {}\r\n\r\n", body.len()).into_bytes());
            stream.extend(body);
        }
        let peer = SocketAddr::from(([10, 1, 0, 40], 5060));
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            let mut framer = Framer::default();
            let mut device_events = 0;
            for read in stream.chunks(4096) {
                framer.feed(read);
                while let Some(Piece::Message(message, _)) = framer.take() {
                    let text = text::lossy(message.body);
                    let body = manscdp::decode(&text).expect("a body");
                    let from = map::From {
                        device: DEVICE,
                        call: "",
                    };
                    let said = from.said(&body);
                    device_events += usize::from(said.is_ok());
                    divan::black_box((said.ok(), message.answer(200, peer, "tag", "")));
                }
            }
            assert_eq!(device_events, MESSAGES);
        });
    }
}

mod dc09 {
    use super::*;
    use jiff::civil::date;
    use linli_devices::dc09::cipher::{Key, PAD_BYTES_MAX};
    use linli_devices::dc09::contact_id::Report;
    use linli_devices::dc09::frame::{self, Framer, Piece};
    use linli_devices::dc09::map::From;
    use linli_devices::dc09::message::{self, Content, Header};
    use linli_devices::dc09::sia_dcs::Block;

    const RANDOM: [u8; PAD_BYTES_MAX] = [7; PAD_BYTES_MAX];

    fn stream(id: &str, data: &str, key: Option<&Key>) -> Vec<u8> {
        let clear = format!("{data}]_19:19:00,08-01-2026");
        let mut stream = Vec::new();
        for number in 0..MESSAGES {
            let body = match key {
                Some(key) => {
                    let sealed = key.seal(format!("|{clear}").as_bytes(), &RANDOM);
                    format!("\"*{id}\"{number:04}L0#1234[{sealed}")
                }
                None => format!("\"{id}\"{number:04}L0#1234[{clear}"),
            };
            stream.extend(frame::encode(body.as_bytes()));
        }
        stream
    }

    fn read(bencher: Bencher, id: &'static str, data: &'static str, key: Option<Key>) {
        let stream = stream(id, data, key.as_ref());
        let now = date(2026, 8, 1).at(19, 19, 0, 0);
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            let mut framer = Framer::default();
            let mut messages = 0;
            for read in stream.chunks(4096) {
                framer.feed(read);
                while let Some(Piece::Body(body, _)) = framer.take() {
                    let (header, rest) = Header::read(body).expect("a header");
                    let opened = key
                        .as_ref()
                        .map(|key| message::open(&header, rest, key).expect("the key"));
                    let content =
                        Content::read(opened.as_deref().unwrap_or(rest)).expect("content");
                    let from = From {
                        panel: "panel-1",
                        account: header.account,
                        stem: "panel-1-0001-abcd-1",
                        sent_ms: content.time.and_then(linli_devices::dc09::map::utc_ms),
                        content: &content,
                    };
                    let said = match id {
                        "ADM-CID" => from.report(Report::read(&content.data).expect("a report")),
                        _ => from.block(Block::read(&content.data).expect("a block")),
                    };
                    divan::black_box((said, message::ack(&header, key.as_ref(), now, &RANDOM)));
                    messages += 1;
                }
            }
            assert_eq!(messages, MESSAGES);
        });
    }

    #[divan::bench]
    fn contact_id(bencher: Bencher) {
        read(bencher, "ADM-CID", "#1234|1130 01 015", None);
    }

    #[divan::bench]
    fn sia(bencher: Bencher) {
        read(
            bencher,
            "SIA-DCS",
            "#1234|Nri1/BA015^Hall^|AFront door",
            None,
        );
    }

    #[divan::bench]
    fn sia_sealed_256(bencher: Bencher) {
        let key = Key::from_digits(&"a5".repeat(32));
        read(
            bencher,
            "SIA-DCS",
            "#1234|Nri1/BA015^Hall^|AFront door",
            key,
        );
    }
}

mod event_streams {
    use super::*;
    use linli_devices::hikvision::{alert, map::Mapper};
    use linli_devices::multipart::{Piece, Scanner};
    use linli_devices::{dahua, text};

    fn stream(body: impl Fn(usize) -> String) -> Vec<u8> {
        let part = |index| {
            let body = body(index);
            format!(
                "--b\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}\r\n",
                body.len()
            )
        };
        (0..MESSAGES).map(part).collect::<String>().into_bytes()
    }

    fn parts(stream: &[u8], mut take: impl FnMut(&str)) {
        let mut scanner = Scanner::new("multipart/mixed; boundary=b");
        let mut pieces = Vec::new();
        for bytes in stream.chunks(1460) {
            scanner.scan(bytes, &mut pieces);
            for piece in pieces.drain(..) {
                if let Piece::Part(body) = piece {
                    take(&text::lossy(&body));
                }
            }
        }
    }

    fn hikvision(bencher: Bencher, stream: &[u8]) {
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            let mut mapper = Mapper::new("gate", false);
            let mut count = 0;
            parts(stream, |text| {
                let alert = alert::decode(text).expect("an alert");
                divan::black_box(mapper.map(&alert, 0).expect("a meaning"));
                count += 1;
            });
            assert_eq!(count, MESSAGES);
        });
    }

    #[divan::bench]
    fn hikvision_xml_motion(bencher: Bencher) {
        let bytes = stream(|index| {
            format!(
                "<EventNotificationAlert version=\"2.0\" xmlns=\"http://www.hikvision.com/ver20/XMLSchema\">\r\n<ipAddress>192.0.2.1</ipAddress>\r\n\
             <portNo>80</portNo>\r\n<protocol>HTTP</protocol>\r\n<macAddress>ff:ff:ff:ff:ff:ff</macAddress>\r\n<channelID>{}</channelID>\r\n\
             <dateTime>2026-07-01T12:00:00+08:00</dateTime>\r\n<activePostCount>1</activePostCount>\r\n<eventType>VMD</eventType>\r\n\
             <eventState>active</eventState>\r\n<eventDescription>Motion alarm</eventDescription>\r\n</EventNotificationAlert>\r\n",
                index % 32
            )
        });
        hikvision(bencher, &bytes);
    }

    #[divan::bench]
    fn hikvision_json_door(bencher: Bencher) {
        let bytes = stream(|index| {
            format!(
                "{{\"ipAddress\": \"192.0.2.1\", \"portNo\": 443, \"dateTime\": \"2026-07-01T12:00:00+08:00\", \"activePostCount\": 1, \
             \"eventType\": \"AccessControllerEvent\", \"eventState\": \"active\", \"AccessControllerEvent\": {{\"deviceName\": \"gate\", \
             \"majorEventType\": 5, \"subEventType\": 75, \"doorNo\": 1, \"serialNo\": {index}, \"currentVerifyMode\": \"cardOrFace\", \
             \"cardNo\": \"3271\", \"name\": \"resident\", \"employeeNoString\": \"17\", \"mask\": \"unknown\"}}}}"
            )
        });
        hikvision(bencher, &bytes);
    }

    #[divan::bench]
    fn dahua_access(bencher: Bencher) {
        let bytes = stream(|index| {
            format!(
                "Code=AccessControl;action=Pulse;index=0;data={{\n  \"CardNo\" : \"0BADCAFE\",\n  \"Door\" : 0,\n  \"Method\" : 1,\n  \
             \"RecNo\" : {index},\n  \"RealUTC\" : 1782878400,\n  \"Status\" : 1,\n  \"Type\" : \"Entry\"\n}}\n"
            )
        });
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            parts(&bytes, |text| {
                let message = dahua::message::decode(text).expect("a message");
                divan::black_box(dahua::map::map("gate", false, &message).expect("an event"));
            });
        });
    }
}

mod mqtt {
    use super::*;
    use linli_devices::mapping::Mapping;
    use linli_devices::mqtt::message;

    #[divan::bench]
    fn smoke_sensor(bencher: Bencher) {
        let text = include_str!("../../../configs/mappings/zigbee-smoke.toml");
        let mapping =
            Mapping::new("bench", toml::from_str(text).expect("TOML")).expect("a mapping");
        let payload = br#"{"smoke":true,"battery_low":false,"tamper":false,"linkquality":120,"voltage":3000}"#;
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            for _ in 0..MESSAGES {
                let text = message::json("zigbee2mqtt/smoke-3", false, payload);
                let mut events = 0;
                let read = mapping.items(&text, &mut |item| {
                    events += usize::from(mapping.map(item).is_ok());
                });
                assert!(read.is_ok() && events == 1);
            }
        });
    }
}

mod modbus {
    use super::*;
    use linli_devices::modbus::map::{Answer, RegisterMap};
    use linli_devices::modbus::watchers::Watchers;

    /// Answers with so many registers, each a point with an alarm.
    #[divan::bench(args = [10, 125])]
    fn registers(bencher: Bencher, count: usize) {
        let map = format!(
            "schema = 1\n[[point]]\nname = \"t\"\narea = \"input\"\naddress = 0\ntype = \"i16\"\nscale = 0.1\nrepeat = {{ count = {count}, stride = 1 }}\n\
             [[point.alarm]]\nabove = 70.0\nclear = 60.0\nkind = \"pile.overheat\"\nrestored = \"pile.restored\"\nseverity = \"alarm\"\n"
        );
        let map = RegisterMap::new(toml::from_str(&map).expect("TOML")).expect("a map");
        let words = vec![251; count];
        let mut watchers = Watchers::new(&map);
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            let mut device_events = Vec::new();
            for now_ms in 0..MESSAGES {
                let request = &map.requests[0];
                for (index, point) in map.points.iter().enumerate() {
                    let value = point
                        .value(request, &Answer::Words(&words))
                        .expect("a value");
                    watchers.step(
                        index,
                        point,
                        "shed-1",
                        value,
                        now_ms as u64,
                        &mut device_events,
                    );
                }
                watchers.stored();
                device_events.clear();
            }
        });
    }
}

mod ocpp {
    use super::*;
    use linli_devices::ocpp::message::{self, Message, Reply};

    #[divan::bench]
    fn status_notification(bencher: Bencher) {
        let text = r#"[2,"19223201","StatusNotification",{"connectorId":1,"errorCode":"HighTemperature","status":"Faulted","timestamp":"2026-07-01T04:00:00Z"}]"#;
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            for _ in 0..MESSAGES {
                let Ok(Message::Call {
                    id,
                    action,
                    payload,
                }) = message::messages(text).remove(0)
                else {
                    panic!("a call")
                };
                let (said, reply) = message::call("cp-1", &action, payload.get(), "now", 60);
                let Reply::Result(payload) = reply else {
                    panic!("a result")
                };
                divan::black_box((said.is_ok(), message::result(&id, &payload)));
            }
        });
    }
}

mod onvif {
    use super::*;
    use linli_devices::onvif::{map, soap};

    #[divan::bench]
    fn motion(bencher: Bencher) {
        let one = r#"<wsnt:NotificationMessage><wsnt:Topic Dialect="d">tns1:VideoSource/MotionAlarm</wsnt:Topic><wsnt:Message><tt:Message UtcTime="2026-07-01T04:00:00Z" PropertyOperation="Changed"><tt:Source><tt:SimpleItem Name="VideoSourceToken" Value="V1"/></tt:Source><tt:Data><tt:SimpleItem Name="State" Value="true"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>"#;
        let text = format!(
            "<e:Envelope><e:Body><tev:PullMessagesResponse>{}</tev:PullMessagesResponse></e:Body></e:Envelope>",
            one.repeat(10)
        );
        bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
            for _ in 0..MESSAGES / 10 {
                let answer = soap::read(&text).expect("an answer");
                let events = answer
                    .notifications
                    .iter()
                    .filter(|told| map::said("cam", told).is_ok())
                    .count();
                assert_eq!(events, 10);
            }
        });
    }
}
