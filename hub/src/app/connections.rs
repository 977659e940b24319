//! Connections to the API: at most [`CONNECTIONS_MAX`], and none whose peer has vanished.
use axum_server::accept::Accept;
use rustix::net::sockopt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that are open at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 2_000;
/// A connection is closed when its peer has acknowledged nothing of what was sent for so long, milliseconds: a stream of
/// changes would else wait for a client that was switched off.
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// Takes connections while there is room.
#[derive(Clone)]
pub struct BoundedAcceptor(Arc<Semaphore>);

impl Default for BoundedAcceptor {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS_MAX)))
    }
}

impl<S> Accept<TcpStream, S> for BoundedAcceptor {
    type Stream = HeldConnection;
    type Service = S;
    type Future = Ready<io::Result<(HeldConnection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.hold(stream).map(|held| (held, service)))
    }
}

impl BoundedAcceptor {
    fn hold(&self, stream: TcpStream) -> io::Result<HeldConnection> {
        let place = Arc::clone(&self.0)
            .try_acquire_owned()
            .map_err(|_| io::Error::other("too many connections to the API"))?;
        stream.set_nodelay(true)?;
        sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?;
        Ok(HeldConnection {
            stream,
            _place: place,
        })
    }
}

/// A connection with its place, which is free again when it closes.
pub struct HeldConnection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for HeldConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for HeldConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
