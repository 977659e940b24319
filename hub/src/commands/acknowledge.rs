//! `linli-hub acknowledge`.
use linli_shared::service::exit::Failure;
use linli_shared::service::output;

use super::console::{Console, failed};

/// Acknowledges a warning in the name of `by`.
pub async fn acknowledge(console: &Console, id: i64, by: &str, note: &str) -> Result<(), Failure> {
    console
        .changes(&format!("warning/{id}"), format!("acknowledge by {by}"))
        .await?;
    let done = console.services.acknowledge(&console.actor, id, by, note);
    done.await.map_err(failed)?;
    output::line(format_args!("已签收 acknowledged: {id}"));
    Ok(())
}
