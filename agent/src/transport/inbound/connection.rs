//! One connection of a caller: frames, batches, answers, until it ends.
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Line, Out, REFUSED_PAUSE, Rest};
use crate::ingest::SourceIngest;
use crate::transport::reconnect::Ended;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 4096;
/// Deadline of the first good frame.
pub(crate) const FIRST_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline from the first byte of a frame to its last.
pub(crate) const PARTIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline for writing an answer.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Consecutive rejects that close the connection.
pub(crate) const BAD_PIECES_MAX: usize = 64;

/// A caller that is connected.
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    device: Option<String>,
}

impl Connection {
    /// A connection without bytes yet.
    pub fn new(stream: TcpStream, address: SocketAddr) -> Self {
        Self {
            stream,
            address,
            device: None,
        }
    }

    /// The connected device, if known.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Serves the connection until it ends.
    pub async fn talk(
        &mut self,
        ingest: &SourceIngest,
        mut line: impl Line,
        idle: Duration,
    ) -> Ended {
        let mut bytes = vec![0; READ_BYTES];
        let mut until = Instant::now() + FIRST_DEADLINE.min(idle);
        let mut partial: Option<Instant> = None;
        let mut bad = 0;
        loop {
            let wait = partial.map_or(until, |partial| partial.min(until));
            let read = timeout_at(wait, self.stream.read(&mut bytes)).await;
            let mut rest = Rest::Coming;
            match read {
                Ok(Ok(0)) => rest = Rest::Ended,
                Ok(Ok(count)) => line.feed(self.address, &bytes[..count]),
                Ok(Err(error)) => return Ended::lost(error.to_string()),
                Err(_) if Instant::now() >= until => {
                    return Ended::lost("it said nothing for too long");
                }
                Err(_) => {}
            }
            let is_late = partial.is_some_and(|partial| Instant::now() >= partial);
            if is_late && rest == Rest::Coming {
                rest = Rest::Late;
            }
            let mut found = false;
            loop {
                let mut batch = ingest.batch();
                let mut out = Out {
                    bad,
                    ..Out::default()
                };
                line.take(&mut batch, &mut out, rest);
                bad = out.bad;
                if out.good > 0 {
                    until = Instant::now() + idle;
                }
                if out.device.is_some() {
                    self.device = out.device;
                }
                if out.pieces == 0 {
                    break;
                }
                found = true;
                if rest == Rest::Late {
                    rest = Rest::Coming;
                }
                if let Err(error) = ingest.store(batch).await {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    return Ended::lost(format!(
                        "it could not be stored and was not answered: {error}"
                    ));
                }
                let answers = out.answers.concat();
                match timeout(WRITE_DEADLINE, self.stream.write_all(&answers)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Ended::lost(error.to_string()),
                    Err(_) => return Ended::lost("it does not take its answers"),
                }
                if bad >= BAD_PIECES_MAX {
                    return Ended::lost(format!(
                        "{BAD_PIECES_MAX} pieces one after another were no frames"
                    ));
                }
            }
            if rest == Rest::Ended {
                return Ended::lost("it ended the connection");
            }
            // The deadline of an incomplete frame continues; another frame gets a new one.
            partial = match line.held() {
                0 => None,
                _ if found => Some(Instant::now() + PARTIAL_DEADLINE),
                _ => partial.or(Some(Instant::now() + PARTIAL_DEADLINE)),
            };
        }
    }
}
