//! Stopping: one token for "stop", and what makes it fire.
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at SIGTERM or SIGINT. Runs until one comes or `stop` is cancelled elsewhere.
pub async fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // All three arms are cancel-safe: nothing is consumed by a wait that did not end.
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(signal = name, "stopping");
    stop.cancel();
    Ok(())
}
