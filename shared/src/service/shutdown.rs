//! Stopping: one token for "stop", and what makes it fire.
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Takes SIGTERM and SIGINT from now on; what it gives cancels `stop` when one has come, and ends then, or
/// when `stop` is cancelled elsewhere. Call it before anything can be seen to run: a signal that comes
/// before it kills.
pub fn on_signal(
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        // All three arms are cancel-safe: nothing is consumed by a wait that did not end.
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
