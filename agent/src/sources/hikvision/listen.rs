//! Devices that push by themselves ("HTTP listening", ISAPI `httpHosts`): `POST /push/<source>/<secret>/<device>`, XML,
//! JSON or `multipart/form-data` with pictures.
//!
//! They cannot send a token, so the secret is in the path: it belongs to this source alone, is compared in constant
//! time, and appears in no log line of the agent.
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use linli_shared::service::problem::Problem;
use linli_shared::service::telemetry::chain;
use std::collections::HashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

use super::HikvisionDevice;
use crate::ingest::SourceIngest;
use crate::transport::bodies::{Bodies, Proof};
use linli_devices::multipart::{Piece, Scanner};

/// Largest push: a message and its pictures.
const PUSH_BYTES_MAX: usize = 4 << 20;
/// Retry-After when the spool refuses, seconds.
const RETRY_AFTER_S: u32 = 10;

struct Listener {
    ingest: SourceIngest,
    secret: Vec<u8>,
    devices: HashMap<String, Arc<HikvisionDevice>>,
    bodies: Bodies,
}

/// The push route of a source.
pub(super) fn router(
    ingest: &SourceIngest,
    secret: Vec<u8>,
    devices: Vec<Arc<HikvisionDevice>>,
) -> Router {
    let devices = devices
        .into_iter()
        .map(|device| (device.known.id.clone(), device));
    let listener = Listener {
        ingest: ingest.clone(),
        secret,
        devices: devices.collect(),
        bodies: Bodies::new(PUSH_BYTES_MAX),
    };
    let path = format!("/push/{}/{{secret}}/{{device}}", ingest.name());
    Router::new()
        .route(&path, post(receive))
        .with_state(Arc::new(listener))
}

async fn receive(
    State(listener): State<Arc<Listener>>,
    Path((secret, device)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let ingest = &listener.ingest;
    let refused = |outcome, problem: Problem| {
        ingest.count(outcome, 1);
        // No sample of the message: its sender is unknown until the secret is verified.
        ingest.refused(outcome, &[], &problem.detail);
        problem
    };
    if !bool::from(secret.as_bytes().ct_eq(&listener.secret)) {
        let detail =
            "the secret in the URL is wrong: it is the text of push_secret_file of the source";
        return Err(refused(
            "unauthorized",
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail),
        ));
    }
    let Some(known) = listener.devices.get(&device) else {
        let detail = format!(
            "{device:?} is no [[source.device]] of the agent's config: check the URL or add it"
        );
        return Err(refused(
            "unknown_device",
            Problem::new(StatusCode::NOT_FOUND, "unknown-device", detail),
        ));
    };
    let (head, body) = request.into_parts();
    let (body, _place) = listener
        .bodies
        .read(Proof::Given, body)
        .await
        .map_err(|error| {
            let (outcome, status) = error.outcome();
            refused(outcome, Problem::new(status, "body", chain(&error)))
        })?;
    if body.trim_ascii().is_empty() {
        // A device that tests its URL gets a success; the request has no event.
        ingest.count("empty", 1);
        return Ok(StatusCode::OK);
    }
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut pieces = pieces(content_type.unwrap_or_default(), &body);
    drop(body);
    known
        .state
        .take(ingest, &mut pieces)
        .await
        .map_err(|error| {
            // The ingest has counted it.
            let detail = chain(&error);
            ingest.refused("refused", &[], &detail);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "spool", detail)
                .retry_after(RETRY_AFTER_S)
        })?;
    ingest.error_is_over();
    Ok(StatusCode::OK)
}

/// Splits a push into its pieces.
fn pieces(content_type: &str, body: &[u8]) -> Vec<Piece> {
    let body = body.trim_ascii();
    // Some devices declare XML and send parts.
    if body.starts_with(b"--") {
        let mut pieces = Vec::new();
        let mut scanner = Scanner::new(content_type);
        scanner.scan(body, &mut pieces);
        scanner.finish(&mut pieces);
        return pieces;
    }
    if body.is_empty() {
        return Vec::new();
    }
    vec![Piece::Part(body.to_vec())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_one_message_or_parts_whatever_its_head_says() {
        let part = |text: &str| Piece::Part(text.as_bytes().to_vec());
        assert_eq!(pieces("application/xml", b" <a/> "), [part("<a/>")]);
        assert_eq!(pieces("", b""), []);
        let form = "--x\r\nContent-Disposition: form-data; name=\"event_log\"\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}\r\n\
            --x\r\nContent-Disposition: form-data; name=\"Picture\"\r\nContent-Type: image/jpeg\r\n\r\n\u{1}\u{2}\r\n--x--\r\n";
        for content_type in [
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "application/xml",
        ] {
            let found = pieces(content_type, form.as_bytes());
            assert!(
                matches!(&found[..], [first, Piece::Picture { bytes: 2..=4 }] if *first == part("{\"a\": 1}")),
                "{content_type}: {found:?}"
            );
        }
    }
}
