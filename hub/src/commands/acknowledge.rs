//! `linli-hub acknowledge`.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, output};

use crate::ingest::attend::{self, Acknowledged};
use linli_domain::warnings::TEXT_CHARS_MAX;
use linli_store::Store;

fn wrong(text: String) -> Failure {
    Failure {
        text,
        code: exit::DATA,
    }
}

/// Acknowledges a warning.
pub async fn acknowledge(store: &Store, id: i64, by: &str, note: &str) -> Result<(), Failure> {
    for (name, text, least) in [("--by", by, 1), ("--note", note, 0)] {
        let chars = text.trim().chars().count();
        if chars < least || chars > TEXT_CHARS_MAX {
            return Err(wrong(format!(
                "{name}: {least} to {TEXT_CHARS_MAX} characters"
            )));
        }
    }
    let done = store.in_transaction(async |connection| {
        attend::acknowledge(connection, id, by.trim(), note, clock::wall_ms()).await
    });
    match done.await.map_err(|error| failure(exit::IO)(&error))? {
        Acknowledged::Now => {
            output::line(format_args!("已签收 acknowledged: {id}"));
            Ok(())
        }
        Acknowledged::Before => Err(wrong(format!("warning {id} is acknowledged already"))),
        Acknowledged::Unknown => Err(wrong(format!(
            "there is no warning {id}: `linli-hub warnings` shows them"
        ))),
    }
}
