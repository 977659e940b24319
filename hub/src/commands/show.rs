//! Lists for a person or a script at the hub's own terminal, read from the store.
use linli_shared::service::{clock, output};
use serde::Serialize;

use crate::api::EventView;
use crate::commands::cli::ListArgs;
use crate::ingest::SKEW_MS_MIN;
use linli_domain::local_time;
use linli_store::agents;
use linli_store::cases::{self, CaseFilter};
use linli_store::chunks::{self, EventFilter};
use linli_store::outbox::{self, NotificationFilter};
use linli_store::tokens;
use linli_store::warnings::{self, WITHDRAWN, WarningFilter, WarningView};
use linli_store::{Store, StoreError};

fn print_json<T: Serialize>(item: &T) {
    match serde_json::to_string(item) {
        Ok(line) => output::line(line),
        Err(error) => tracing::error!(%error, "an item cannot be shown"),
    }
}

pub async fn events(
    store: &Store,
    site: Option<String>,
    kind: Option<String>,
    list: &ListArgs,
) -> Result<(), StoreError> {
    let mut left = list.limit as usize;
    let mut filter = EventFilter {
        site,
        kind,
        ..EventFilter::default()
    };
    while left > 0 {
        filter.limit = left;
        let (found, next) = chunks::events(store.readers(), &filter).await?;
        left = left.saturating_sub(found.len());
        for event in found.into_iter().map(EventView::from) {
            if list.json {
                print_json(&event);
            } else {
                output::line(event);
            }
        }
        filter.before = next;
        if next.is_none() {
            break;
        }
    }
    Ok(())
}

pub async fn warnings(
    store: &Store,
    site: Option<String>,
    rule: Option<String>,
    shadow: bool,
    list: &ListArgs,
) -> Result<(), StoreError> {
    let filter = WarningFilter {
        site,
        rule,
        shadow,
        limit: list.limit as usize,
        ..WarningFilter::default()
    };
    for warning in warnings::list(store.readers(), &filter).await? {
        if list.json {
            print_json(&warning);
            continue;
        }
        output::line(format_args!(
            "#{} {} {:8} {} [{}]{}{} → {}",
            warning.id,
            clock::rfc3339(warning.at_ms),
            warning.severity,
            warning.name,
            warning.key,
            marks(&warning),
            if warning.hits > 1 {
                format!(" ×{}", warning.hits)
            } else {
                String::new()
            },
            warning.cases.join(", "),
        ));
    }
    Ok(())
}

/// What stands beside a warning: that it is on trial, late, withdrawn, over, muted, acknowledged or to be.
pub fn marks(warning: &WarningView) -> String {
    let mut marks = String::new();
    if let Some(late_ms) = warning.late_ms {
        let (chinese, english) = local_time::age(late_ms);
        marks.push_str(&format!(" 补报 late（{chinese} {english}）"));
    }
    for (is_so, mark) in [
        (warning.shadow, " 试运行 shadow"),
        (warning.state == WITHDRAWN, " 已撤销 withdrawn"),
        (warning.ended_ms.is_some(), " 已解除 over"),
        (warning.muted_by.is_some(), " 静默 muted"),
        (warning.inhibited_by.is_some(), " 抑制 inhibited"),
        (warning.acked_ms.is_some(), " 已签收 acknowledged"),
    ] {
        if is_so {
            marks.push_str(mark);
        }
    }
    if let Some(due_ms) = warning.ack_due_ms {
        let due = clock::rfc3339(due_ms);
        marks.push_str(&format!(" 待签收 to be acknowledged until {due}"));
    }
    marks
}

pub async fn cases(
    store: &Store,
    site: Option<String>,
    state: Option<String>,
    list: &ListArgs,
) -> Result<(), StoreError> {
    let filter = CaseFilter {
        site,
        state,
        limit: list.limit as usize,
        ..CaseFilter::default()
    };
    for case in cases::list(&mut *store.snapshot().await?, &filter).await? {
        if list.json {
            print_json(&case);
            continue;
        }
        let warnings: Vec<String> = case.warnings.iter().map(i64::to_string).collect();
        output::line(format_args!(
            "{} {} {:10} {} ← #{}",
            case.code,
            clock::rfc3339(case.opened_ms),
            case.state,
            case.title,
            warnings.join(", #"),
        ));
    }
    Ok(())
}

pub async fn agents(store: &Store, json: bool) -> Result<(), StoreError> {
    for agent in agents::list(store.readers()).await? {
        if json {
            print_json(&agent);
            continue;
        }
        output::line(format_args!(
            "{:20} {:20} {:8} 最近 seen {}  待传 waiting {}{}{}{}",
            agent.agent,
            agent.site,
            agent.software,
            if agent.seen_ms == 0 {
                "从未 never".to_owned()
            } else {
                clock::rfc3339(agent.seen_ms)
            },
            agent.waiting_events,
            match agent.skew_ms {
                Some(skew_ms) if skew_ms.saturating_abs() >= SKEW_MS_MIN =>
                    format!("  时钟偏差 clock off {:+.1} s", skew_ms as f64 / 1000.0),
                _ => String::new(),
            },
            match agent.clock_synchronised {
                Some(true) => "  时钟已同步 clock synchronised",
                Some(false) => "  时钟未同步 clock not synchronised",
                None => "",
            },
            if agent.station {
                "  派出所 station"
            } else {
                ""
            },
        ));
    }
    Ok(())
}

pub async fn notifications(
    store: &Store,
    state: Option<String>,
    channel: Option<String>,
    list: &ListArgs,
) -> Result<(), StoreError> {
    let filter = NotificationFilter {
        state,
        channel,
        before: None,
        limit: list.limit as usize,
    };
    for view in outbox::list(store.readers(), &filter).await? {
        if list.json {
            print_json(&view);
            continue;
        }
        let state = match view.state.as_str() {
            "waiting" => "待发 waiting",
            "sent" => "已发 sent",
            "dead" => "放弃 dead",
            _ => "取消 dropped",
        };
        output::line(format_args!(
            "{} {} {:16} {state} ×{} {} {}{}",
            view.id,
            clock::rfc3339(view.created_ms),
            view.channel,
            view.attempts,
            view.decision,
            view.notice["place"].as_str().unwrap_or_default(),
            view.error
                .map(|error| format!("  {error}"))
                .unwrap_or_default(),
        ));
    }
    Ok(())
}

pub async fn api_tokens(store: &Store, json: bool) -> Result<(), StoreError> {
    let now_ms = clock::wall_ms();
    for token in tokens::list_api(store.readers()).await? {
        if json {
            print_json(&token);
            continue;
        }
        let state = match token.revoked_ms {
            Some(_) => "已吊销 revoked",
            None if token.expires_ms <= now_ms => "已过期 expired",
            None => "有效 good",
        };
        output::line(format_args!(
            "{} {:20} {state}  到期 until {}",
            token.id,
            token.name,
            clock::rfc3339(token.expires_ms),
        ));
    }
    Ok(())
}
