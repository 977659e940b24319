//! Datagrams of callers: all that are waiting become durable with one sync.
use std::io;
use std::net::SocketAddr;
use tokio::net::UdpSocket;

use super::{Line, Out, REFUSED_PAUSE, Rest};
use crate::ingest::SourceIngest;
use crate::transport::reconnect::Ended;

/// Longest datagram that UDP has.
const DATAGRAM_BYTES: usize = 65_535;
/// Datagrams that are stored with one sync.
const DATAGRAMS_MAX: usize = 64;

/// Receives datagrams until the socket fails.
pub(crate) async fn receive(
    socket: &UdpSocket,
    ingest: &SourceIngest,
    mut line: impl Line,
) -> Ended {
    let mut bytes = vec![0; DATAGRAM_BYTES];
    // The sender whose frames did not fit into the last batch.
    let mut unread: Option<SocketAddr> = None;
    loop {
        if unread.is_none() {
            // The read reports any error other than that of the wait.
            let _ = socket.readable().await;
        }
        let mut batch = ingest.batch();
        let mut answers: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        let mut pieces = 0;
        for _ in 0..DATAGRAMS_MAX {
            let address = match unread.take() {
                Some(address) => address,
                None => match socket.try_recv_from(&mut bytes) {
                    Ok((count, address)) => {
                        let from = SocketAddr::new(address.ip().to_canonical(), address.port());
                        line.feed(from, &bytes[..count]);
                        address
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The error of an earlier answer to a peer that is gone.
                    Err(error) if is_of_a_peer(&error) => continue,
                    Err(error) => {
                        return Ended::lost(format!("datagrams cannot be received: {error}"));
                    }
                },
            };
            let mut out = Out::default();
            line.take(&mut batch, &mut out, Rest::Ended);
            pieces += out.pieces;
            answers.extend(out.answers.into_iter().map(|answer| (address, answer)));
            if line.held() > 0 {
                unread = Some(address);
                break;
            }
        }
        if pieces == 0 {
            continue;
        }
        if let Err(error) = ingest.store(batch).await {
            tracing::debug!(source = ingest.name(), %error, "datagrams are not answered");
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        }
        for (address, answer) in answers {
            // A device that does not get it sends again.
            let _ = socket.send_to(&answer, address).await;
        }
    }
}

fn is_of_a_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
