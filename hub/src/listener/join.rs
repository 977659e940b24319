//! A gateway joins: one request with a token, one certificate.
use linli_shared::protocol::frame::{Frame, Join, Joined, Refuse};
use linli_shared::service::link::{CLOSE_DONE, FrameReader};
use linli_shared::service::telemetry;
use quinn::{Connection, SendStream};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::ca::Authority;

const DEADLINE: Duration = Duration::from_secs(10);
/// A gateway whose clock is off by more than this is told, milliseconds.
const SKEW_MS_MAX: u64 = 5 * 60 * 1000;

pub async fn serve(connection: Connection, shared: Arc<Shared>) {
    let remote = connection.remote_address();
    let outcome = tokio::time::timeout(DEADLINE, exchange(&connection, &shared)).await;
    let outcome = match outcome {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            tracing::info!(%remote, error = %telemetry::chain(error.as_ref()), "a join broke off");
            "join_broken"
        }
        Err(_) => "join_slow",
    };
    shared.metrics.sessions.with_label_values(&[outcome]).inc();
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(connection: &Connection, shared: &Shared) -> Result<&'static str, Broken> {
    let (mut send, receive) = connection.accept_bi().await?;
    let Some(Frame::Join(join)) = FrameReader::new(receive).next().await? else {
        return Ok("join_broken");
    };
    let (answer, outcome) = answer(join, shared).await;
    write(&mut send, &answer).await?;
    // The gateway closes after reading; the caller's deadline cuts it off.
    connection.closed().await;
    connection.close(CLOSE_DONE, b"");
    Ok(outcome)
}

async fn write(send: &mut SendStream, answer: &Frame) -> Result<(), Broken> {
    send.write_all(&answer.encode()?).await?;
    send.finish()?;
    Ok(())
}

fn refuse(code: &str, message: String) -> Frame {
    Frame::Refuse(Refuse {
        code: code.to_owned(),
        message,
        retry_ms: 0,
    })
}

async fn answer(join: Join, shared: &Shared) -> (Frame, &'static str) {
    let serial = Authority::new_serial();
    // The token is used up with the agent's record, then the certificate is made: a gateway that did
    // not receive it needs a new token, and nobody else can use the old one. The request is checked
    // first, so that a bad one costs no token.
    let probe = shared.authority.sign(
        &join.csr_pem,
        &join.agent,
        &"probe".parse().expect("a name"),
        &serial,
    );
    if let Err(error) = probe {
        let text = telemetry::chain(&error);
        return (
            refuse(
                "request",
                format!("the certificate request cannot be signed: {text}"),
            ),
            "join_refused",
        );
    }
    let used = shared
        .ingest
        .join(
            join.token_id.clone(),
            join.token_secret.clone(),
            join.agent.clone(),
            serial.clone(),
        )
        .await;
    let site = match used {
        Ok(Ok(site)) => site,
        Ok(Err(refusal)) => {
            tracing::warn!(agent = %join.agent, token = join.token_id, %refusal, "a join is refused");
            return (refuse("token", refusal.to_string()), "join_refused");
        }
        Err(_) => {
            return (
                refuse(
                    "busy",
                    "the hub cannot write at the moment, try again".to_owned(),
                ),
                "join_refused",
            );
        }
    };
    let skew_ms = shared.clock.now_ms().saturating_sub(join.wall_ms);
    if skew_ms.unsigned_abs() > SKEW_MS_MAX {
        tracing::warn!(agent = %join.agent, skew_s = skew_ms / 1000, "the clock of a gateway is off");
    }
    match shared
        .authority
        .sign(&join.csr_pem, &join.agent, &site, &serial)
    {
        Ok(certificate_pem) => {
            tracing::info!(agent = %join.agent, %site, serial, "an agent has joined");
            let joined = Joined {
                certificate_pem,
                root_pem: shared.authority.root_pem.clone(),
                site,
                hubs: shared.announce.clone(),
            };
            (Frame::Joined(joined), "joined")
        }
        Err(error) => (refuse("request", telemetry::chain(&error)), "join_refused"),
    }
}
