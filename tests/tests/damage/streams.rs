//! Devices with an event stream in one endless answer: Dahua, and Hikvision with its pages of missed events.
use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use linli_tests::harness::{Equipped, free_tcp_port, until};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::cases::{Cases, Expected, Made, account, behind, whole};

const PASSWORD: &str = "a password: of devices";

/// Devices with an event stream, each at a loopback address of its own.
#[derive(Clone, Default)]
struct Devices(Arc<Mutex<Standing>>);

#[derive(Default)]
struct Standing {
    /// Open streams by the host of their device.
    streams: HashMap<String, UnboundedSender<Bytes>>,
    /// Answers to the first question of a device for what was missed.
    pages: HashMap<String, Vec<u8>>,
    /// What every device says at the beginning of its stream.
    first: Vec<u8>,
}

impl Devices {
    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves them on every loopback address; the port.
    async fn serve(&self) -> Result<u16> {
        let port = free_tcp_port()?;
        let router = Router::new()
            .route("/cgi-bin/eventManager.cgi", get(open))
            .route("/ISAPI/Event/notification/alertStream", get(open))
            .route("/ISAPI/AccessControl/AcsEvent", post(page))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
        tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(port)
    }

    /// Waits until so many streams are open.
    async fn are_heard(&self, count: usize) -> Result<()> {
        until("the streams of all devices", async || {
            Ok((self.standing().streams.len() == count).then_some(()))
        })
        .await
    }

    /// Says this on all streams.
    fn say(&self, bytes: &[u8]) -> Result<()> {
        for stream in self.standing().streams.values() {
            stream
                .send(Bytes::copy_from_slice(bytes))
                .ok()
                .context("a stream that is open")?;
        }
        Ok(())
    }
}

fn host(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    host.unwrap_or_default().to_owned()
}

async fn open(State(devices): State<Devices>, headers: HeaderMap) -> Response {
    let (sender, receiver) = unbounded_channel();
    let mut standing = devices.standing();
    if !standing.first.is_empty() {
        let _ = sender.send(Bytes::from(standing.first.clone()));
    }
    standing.streams.insert(host(&headers), sender);
    drop(standing);
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(chunk), receiver))
    });
    let kind = "multipart/x-mixed-replace; boundary=myboundary";
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(chunks)).into_response()
}

async fn page(State(devices): State<Devices>, headers: HeaderMap) -> Response {
    match devices.standing().pages.remove(&host(&headers)) {
        Some(page) => page.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What stands before each part.
const DELIMITER: &str = "--myboundary\r\n";

fn part(kind: &str, body: &str) -> String {
    let length = body.len();
    format!("{DELIMITER}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}\r\n")
}

/// The damaged parts, each with a whole one behind it, on the stream of one device; all must be accounted for.
async fn one_stream(
    (kind, keys, first_channel): (&str, &str, u32),
    cases: &Cases,
    make: impl Fn(u32) -> Made,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let devices = Devices::default();
    let port = devices.serve().await?;
    let blocks = format!(
        "[[source]]\nname = \"cams\"\ntype = \"{kind}\"\npassword_file = \"secrets/device\"\n{keys}\
         [[source.device]]\nid = \"cam\"\naddress = \"127.0.0.1:{port}\"\nparts = true\n"
    );
    let files = [("secrets/device", PASSWORD)];
    let scene = Equipped::start(directory.path(), &blocks, &files).await?;
    devices.are_heard(1).await?;
    let cases = cases.of(&make);
    let mut events = whole(&cases);
    for (good, case) in (50_000..).zip(&cases) {
        devices.say(&case.bytes)?;
        devices.say(&make(good).bytes)?;
        events.push((good, format!("whole, behind {}", case.what)));
    }
    // What is cut within its delimiter has nothing of a message.
    let nothing = cases
        .iter()
        .filter(|case| case.bytes.len() < DELIMITER.len())
        .count();
    let expected = Expected {
        source: "cams",
        sent: 2 * cases.len() - nothing,
        // Two fires of which the channel is damaged are one that goes on.
        left_out: cases.iter().filter(|case| !case.is_whole).count(),
        events,
    };
    account(&scene, &expected, |event| {
        behind(&event.device, '/')?.checked_sub(first_channel)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_dahuas_stream() -> Result<()> {
    let cases = Cases {
        step: 2,
        first: 20_000,
    };
    // Its channels are counted from 0, those of events from 1.
    one_stream(("dahua", "", 1), &cases, |number| {
        let index = format!("index={number}");
        let body = format!(
            "Code=FireWarning;action=Pulse;{index};data={{ \"Object\" : {{ \"ObjectType\" : \"Fire\" }} }}"
        );
        let head = format!("Code=FireWarning;action=Pulse;{index};");
        Made::new(part("text/plain", &body), &[&head])
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_hikvisions_stream() -> Result<()> {
    // A device has few conditions at once, so few messages say that one began.
    let cases = Cases {
        step: 5,
        first: 20_000,
    };
    one_stream(("hikvision", "catch_up = \"0s\"\n", 0), &cases, |number| {
        let channel = format!("<channelID>{number}</channelID>");
        let body = format!(
            "<EventNotificationAlert version=\"2.0\"><ipAddress>10.0.0.7</ipAddress>{channel}<eventType>firedetection</eventType>\
             <eventState>active</eventState><activePostCount>1</activePostCount></EventNotificationAlert>"
        );
        let heads = [&channel, "<eventType>firedetection</eventType>", "<eventState>active</eventState>"];
        Made::new(part("application/xml", &body), &heads)
    })
    .await
}

/// The address of a device by its number.
fn address(number: u32, port: u16) -> String {
    format!("127.0.{}.{}:{port}", 1 + number / 200, 1 + number % 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_what_hikvisions_doors_missed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let devices = Devices::default();
    let port = devices.serve().await?;
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let row = |serial: u32, minor: u32| {
        format!(
            "{{\"major\":5,\"minor\":{minor},\"time\":\"{now}\",\"doorNo\":1,\"serialNo\":{serial}}}"
        )
    };
    let cases = Cases { step: 5, first: 0 }.of(|_| {
        let forced = row(90_001, 27);
        let page = format!(
            "{{\"AcsEvent\":{{\"searchID\":\"1\",\"responseStatusStrg\":\"OK\",\"numOfMatches\":2,\"InfoList\":[{forced},{}]}}}}",
            row(90_002, 28)
        );
        Made::new(page, &["{\"AcsEvent\":{", "\"InfoList\":[{\"major\":5,\"minor\":27,"])
    });
    let mut blocks = "[[source]]\nname = \"doors-1\"\ntype = \"hikvision\"\npassword_file = \"secrets/device\"\n".to_owned();
    {
        let mut standing = devices.standing();
        // A sign of life tells the device's clock, and that its page may be asked for.
        let beat = format!(
            "<EventNotificationAlert><dateTime>{now}</dateTime><eventType>videoloss</eventType><eventState>inactive</eventState></EventNotificationAlert>"
        );
        standing.first = [
            part("application/xml", &beat),
            part("application/xml", &beat),
        ]
        .concat()
        .into_bytes();
        for case in &cases {
            let address = address(case.number, port);
            blocks += &format!(
                "[[source.device]]\nid = \"d-{}\"\naddress = \"{address}\"\n",
                case.number
            );
            standing.pages.insert(address, case.bytes.clone());
        }
    }
    let files = [("secrets/device", PASSWORD)];
    let scene = Equipped::start(directory.path(), &blocks, &files).await?;
    devices.are_heard(cases.len()).await?;
    until("all pages to be asked for", async || {
        Ok(devices.standing().pages.is_empty().then_some(()))
    })
    .await?;
    let expected = Expected {
        source: "doors-1",
        // Two signs of life and a page of each.
        sent: 3 * cases.len(),
        // An unknown minor type of a door.
        left_out: cases.len(),
        events: whole(&cases),
    };
    account(&scene, &expected, |event| {
        (event.kind == "door.forced").then(|| behind(&event.device, '-'))?
    })
    .await?;
    // The agent goes on with each of them.
    let fire = "<EventNotificationAlert><channelID>1</channelID><eventType>firedetection</eventType><eventState>active</eventState></EventNotificationAlert>";
    devices.say(part("application/xml", fire).as_bytes())?;
    let expected = Expected {
        sent: 4 * cases.len(),
        events: cases
            .iter()
            .map(|case| (case.number, case.what.clone()))
            .collect(),
        ..expected
    };
    account(&scene, &expected, |event| {
        (event.kind == "fire.alarm").then(|| behind(&event.device, '-'))?
    })
    .await?;
    let standing = scene.source("doors-1")?;
    ensure!(standing["rejected"].as_u64() > Some(0), "{standing:#}");
    Ok(())
}
