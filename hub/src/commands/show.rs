//! Lists for a person or a script at the hub's own terminal.
use linli_shared::service::exit::Failure;
use linli_shared::service::{clock, output};
use serde::Serialize;

use super::console::{Console, failed};
use crate::commands::cli::ListArgs;
use crate::ingest::SKEW_MS_MIN;
use linli_domain::local_time;
use linli_store::cases::CaseFilter;
use linli_store::chunks::EventFilter;
use linli_store::outbox::NotificationFilter;
use linli_store::warnings::{WITHDRAWN, WarningFilter, WarningView};

/// The filters of a list, for the audit log.
fn words(filters: &[(&str, &Option<String>)]) -> String {
    let given = filters
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    given.collect::<Vec<_>>().join(" ")
}

fn print_json<T: Serialize>(item: &T) {
    match serde_json::to_string(item) {
        Ok(line) => output::line(line),
        Err(error) => tracing::error!(%error, "an item cannot be shown"),
    }
}

pub async fn events(
    console: &Console,
    site: Option<String>,
    kind: Option<String>,
    list: &ListArgs,
) -> Result<(), Failure> {
    console
        .reads("events", words(&[("site", &site), ("kind", &kind)]))
        .await?;
    let mut left = list.limit as usize;
    let mut cursor = None;
    while left > 0 {
        let filter = EventFilter {
            site: site.clone(),
            kind: kind.clone(),
            limit: left,
            ..EventFilter::default()
        };
        let page = console
            .services
            .events(&console.actor, filter, cursor.as_deref());
        let page = page.await.map_err(failed)?;
        left = left.saturating_sub(page.items.len());
        for event in page.items {
            if list.json {
                print_json(&event);
            } else {
                output::line(event);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

pub async fn warnings(
    console: &Console,
    site: Option<String>,
    rule: Option<String>,
    shadow: bool,
    list: &ListArgs,
) -> Result<(), Failure> {
    console
        .reads("warnings", words(&[("site", &site), ("rule", &rule)]))
        .await?;
    let filter = WarningFilter {
        site,
        rule,
        shadow,
        limit: list.limit as usize,
        ..WarningFilter::default()
    };
    let found = console.services.warnings(&console.actor, filter, None);
    for warning in found.await.map_err(failed)?.items {
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

/// The marks of a warning: on trial, late, withdrawn, over, muted, acknowledged or due.
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
    console: &Console,
    site: Option<String>,
    state: Option<String>,
    list: &ListArgs,
) -> Result<(), Failure> {
    console
        .reads("cases", words(&[("site", &site), ("state", &state)]))
        .await?;
    let filter = CaseFilter {
        site,
        state,
        limit: list.limit as usize,
        ..CaseFilter::default()
    };
    let found = console.services.cases(&console.actor, filter, None);
    for case in found.await.map_err(failed)?.items {
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

pub async fn agents(console: &Console, json: bool) -> Result<(), Failure> {
    let found = console.services.agents(&console.actor).await;
    for agent in found.map_err(failed)? {
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
    console: &Console,
    state: Option<String>,
    channel: Option<String>,
    list: &ListArgs,
) -> Result<(), Failure> {
    console
        .reads(
            "notifications",
            words(&[("state", &state), ("channel", &channel)]),
        )
        .await?;
    let filter = NotificationFilter {
        state,
        channel,
        before: None,
        limit: list.limit as usize,
    };
    let found = console.services.notifications(&console.actor, filter, None);
    for view in found.await.map_err(failed)?.items {
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

pub async fn api_tokens(console: &Console, json: bool) -> Result<(), Failure> {
    let now_ms = clock::wall_ms();
    let found = console.services.api_tokens(&console.actor).await;
    for token in found.map_err(failed)? {
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
