//! `linli-hub clock`
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, output};

use crate::clock_watch;
use crate::commands::cli::ClockCommand;
use linli_domain::audit::AuditRecord;
use linli_domain::clock_guard::Doubt;
use linli_store::{Store, StoreError, audit, hub_clock};

/// Carries out `clock`.
pub async fn clock(
    store: &Store,
    command: Option<ClockCommand>,
    as_json: bool,
) -> Result<(), Failure> {
    let done = match command {
        None => show(store, as_json).await,
        Some(ClockCommand::Trust) => trust(store).await,
    };
    done.map_err(|error| failure(exit::IO)(&error))
}

async fn show(store: &Store, as_json: bool) -> Result<(), StoreError> {
    let mut reader = store.reader().await?;
    let doubt = hub_clock::doubt(&mut reader).await?;
    let kept = hub_clock::kept(&mut reader).await?;
    let asked = hub_clock::trust_asked(&mut reader).await?.is_some();
    drop(reader);
    let now = clock_watch::reading();
    let known = kept.map(|kept| clock::rfc3339(kept.known.wall_ms));
    if as_json {
        output::line(serde_json::json!({
            "wall_time": clock::rfc3339(now.wall_ms), "kernel_synchronised": now.synchronised,
            "doubtful": doubt.is_some(), "reason": doubt.map(Doubt::as_str), "detail": doubt.map(Doubt::words),
            "known_time": known, "trust_asked": asked,
        }));
        return Ok(());
    }
    output::line(format_args!(
        "本机时间 wall clock: {}",
        clock::rfc3339(now.wall_ms)
    ));
    let synchronised = if now.synchronised {
        "已同步 synchronised"
    } else {
        "未同步 not synchronised"
    };
    output::line(format_args!("内核 kernel: {synchronised}"));
    if let Some(known) = known {
        output::line(format_args!(
            "中枢最近确认的时间 last known to the hub: {known}"
        ));
    }
    match doubt {
        None => output::line("中枢信任时钟 the hub believes its clock"),
        Some(doubt) => {
            output::line(format_args!(
                "时钟存疑 the clock is doubtful: {}",
                doubt.words()
            ));
            output::line(
                "清理、过期、升级暂停；确认时间正确后执行 held: retention, expiry, escalation; once the time is right: \
                 linli-hub clock trust",
            );
        }
    }
    if asked {
        output::line("已确认，待中枢执行 trusted; the hub does so when it looks next");
    }
    Ok(())
}

async fn trust(store: &Store) -> Result<(), StoreError> {
    let now_ms = clock::wall_ms();
    store
        .in_transaction(async |connection| {
            hub_clock::trust(connection).await?;
            let deed = AuditRecord {
                at_ms: now_ms,
                actor: super::console::actor().login,
                action: "clock.trusted".to_owned(),
                object: "clock".to_owned(),
                reason: String::new(),
                detail: clock::rfc3339(now_ms),
            };
            audit::append(connection, deed).await
        })
        .await?;
    output::line(format_args!(
        "已确认时钟 the clock is trusted: {}",
        clock::rfc3339(now_ms)
    ));
    Ok(())
}
