//! Shutdown: one token for "stop", and the signals that cancel it.
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Handles SIGTERM and SIGINT from now on. The returned future cancels `stop` on a signal and then ends; it
/// also ends when `stop` is cancelled elsewhere. Call it before the process is visibly running: an earlier
/// signal kills it.
pub fn on_signal(
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        // All three arms are cancel-safe: a wait that did not end consumes nothing.
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = stop.cancelled() => return Ok(()),
        };
        tracing::info!(signal = name, "stopping");
        stop.cancel();
        Ok(())
    })
}
