//! Cameras that are asked by ONVIF: each answer to a PullMessages is a damaged one.
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use linli_tests::harness::{Equipped, free_tcp_port};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cases::{Cases, Expected, Made, account, behind, whole};

/// An answer that cannot be read ends its session, so the answers are those of several cameras.
const CAMERAS: usize = 24;

type Waiting = Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>;

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:tt=\"t\"><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn notification(time: &str, number: u32) -> String {
    format!(
        "<tev:PullMessagesResponse><wsnt:NotificationMessage><wsnt:Topic Dialect=\"d\">tns1:RuleEngine/LineDetector/Crossed</wsnt:Topic>\
         <wsnt:Message><tt:Message UtcTime=\"{time}\" PropertyOperation=\"Changed\"><tt:Source>\
         <tt:SimpleItem Name=\"VideoSourceConfigurationToken\" Value=\"V2\"/></tt:Source><tt:Data>\
         <tt:SimpleItem Name=\"ObjectId\" Value=\"{number}\"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>\
         </tev:PullMessagesResponse>"
    )
}

/// What a camera answers; the same to each question, but for what it has to tell.
async fn answer(State(waiting): State<Waiting>, headers: HeaderMap, text: String) -> Vec<u8> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default().to_owned();
    if text.contains("PullMessages>") || text.contains("PullMessages ") {
        let next = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.get_mut(&host).and_then(Vec::pop)
        };
        return match next {
            Some(next) => next,
            // Nothing more happens.
            None => std::future::pending().await,
        };
    }
    let body = if text.contains("GetCapabilities") {
        format!(
            "<r><tt:Capabilities><tt:Events><tt:XAddr>http://{host}/onvif/events</tt:XAddr></tt:Events></tt:Capabilities></r>"
        )
    } else if text.contains("CreatePullPointSubscription") {
        format!(
            "<r><tev:SubscriptionReference><wsa:Address>http://{host}/onvif/sub</wsa:Address></tev:SubscriptionReference></r>"
        )
    } else {
        "<r/>".to_owned()
    };
    envelope(&body).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_onvif() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let time = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let message = format!("<tt:Message UtcTime=\"{time}\" PropertyOperation=\"Changed\">");
    let cases = Cases {
        step: 4,
        first: 20_000,
    }
    .of(|number| {
        let object = format!("<tt:SimpleItem Name=\"ObjectId\" Value=\"{number}\"/>");
        let heads = [
            "<wsnt:Topic Dialect=\"d\">tns1:RuleEngine/LineDetector/Crossed</wsnt:Topic>",
            // Without a time there is no id, and without an id no number.
            &message,
            &object,
        ];
        Made::new(envelope(&notification(&time, number)), &heads)
    });
    let mut events = whole(&cases);
    let waiting = Waiting::default();
    let mut blocks =
        "[[source]]\nname = \"cams\"\ntype = \"onvif\"\npassword_file = \"secrets/device\"\n"
            .to_owned();
    let mut sent = cases.len();
    for camera in 0..CAMERAS {
        let address = format!("127.0.1.{}:{port}", camera + 1);
        blocks += &format!("[[source.device]]\nid = \"cam-{camera}\"\naddress = \"{address}\"\n");
        // The last is whole, and answered first of what was pushed first.
        let number = 50_000 + camera as u32;
        let mut answers = vec![envelope(&notification(&time, number)).into_bytes()];
        answers.extend(
            cases
                .iter()
                .skip(camera)
                .step_by(CAMERAS)
                .map(|case| case.bytes.clone()),
        );
        events.push((number, format!("whole, of camera {camera}")));
        sent += 1;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(address, answers);
    }
    let router = Router::new().fallback(answer).with_state(waiting);
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await?;
    tokio::spawn(async move {
        // It ends with the test.
        let _ = axum::serve(listener, router).await;
    });
    let files = [("secrets/device", "a password")];
    let scene = Equipped::start(directory.path(), &blocks, &files).await?;
    let expected = Expected {
        source: "cams",
        sent,
        left_out: 0,
        events,
    };
    account(&scene, &expected, |event| {
        (event.kind == "camera.line_crossed").then(|| behind(&event.source_id, ' '))?
    })
    .await
}
