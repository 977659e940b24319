//! Cuts the bytes of devices into messages.
use linli_shared::service::clock;
use std::net::SocketAddr;
use std::sync::Arc;

use super::server::Server;
use super::talk::{Taking, without_credentials};
use crate::ingest::IngestBatch;
use crate::transport::inbound::{Line, Out, Rest};
use linli_devices::device_event::Reject;
use linli_devices::gb28181::sip::{Framer, Piece, SipError};

/// Reads a connection, or datagrams.
pub(crate) struct SipLine {
    framer: Framer,
    peer: Option<SocketAddr>,
    server: Arc<Server>,
}

impl SipLine {
    /// A line of this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self {
            framer: Framer::default(),
            peer: None,
            server,
        }
    }
}

impl Line for SipLine {
    fn feed(&mut self, peer: SocketAddr, bytes: &[u8]) {
        self.peer = Some(peer);
        self.framer.feed(bytes);
    }

    fn take(&mut self, batch: &mut IngestBatch, out: &mut Out, mut rest: Rest) {
        let Some(peer) = self.peer else { return };
        let now_ms = clock::monotonic_ms();
        let server = &*self.server;
        {
            // Refusing here is the cheapest defence against a flood: nothing is parsed yet.
            let mut registry = server.registry();
            if self.framer.held() > 0
                && registry.is_spent(peer.ip(), now_ms)
                && !registry.is_home(peer.ip())
            {
                drop(registry);
                self.framer.clear();
                server.ingest.count("flood", 1);
                out.bad();
                return;
            }
        }
        while !batch.is_full() {
            let piece = match rest {
                Rest::Coming => self.framer.take(),
                Rest::Late | Rest::Ended => self.framer.give_up(),
            };
            if rest == Rest::Late {
                rest = Rest::Coming;
            }
            match piece {
                None => return,
                Some(Piece::Alive(_)) => {}
                Some(Piece::Rejected(why, raw, head)) => {
                    out.bad();
                    if !server.registry().stranger_may(peer.ip(), now_ms) {
                        server.ingest.count("flood", 1);
                        continue;
                    }
                    if let Some(head) = head.filter(|head| head.is_answerable()) {
                        let code = match why {
                            SipError::TooLong(_) => 513,
                            _ => 400,
                        };
                        out.answers
                            .push(head.answer(code, peer, &server.tag(&head), ""));
                    }
                    batch.message(&without_credentials(raw), Err(Reject::new(why.to_string())));
                }
                Some(Piece::Message(message, raw)) => Taking {
                    server,
                    message: &message,
                    raw,
                    peer,
                    now_ms,
                    batch,
                    out,
                }
                .take(),
            }
        }
    }

    fn held(&self) -> usize {
        self.framer.held()
    }
}
