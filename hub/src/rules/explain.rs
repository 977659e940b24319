//! Why a warning was raised, and why a rule has not raised one.
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{AgentId, Epoch, Lane, Sequence};
use linli_shared::service::{clock, output};
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::collections::HashMap;
use std::sync::Arc;

use super::backtest::{Period, agents_heard, each_event};
use crate::correlate::replay::Replay;
use crate::correlate::rule::{Kind, Rule, Subject};
use crate::store::chunks;
use crate::store::positions::LaneKey;
use crate::store::warnings::{self, WarningView};
use crate::store::{Store, StoreError};

/// Events of one step that are listed.
const LISTED_MAX: usize = 10;

/// Shows a warning with the events that it rests on; false if there is none of this number.
pub async fn why(
    store: &Store,
    rules: &[Arc<Rule>],
    id: i64,
    as_json: bool,
) -> Result<bool, StoreError> {
    let Some(warning) = warnings::get(store.readers(), id).await? else {
        return Ok(false);
    };
    let mut events = Vec::new();
    for reason in warning.reasons.as_array().into_iter().flatten() {
        let identity = reason["event"].as_str().unwrap_or_default().to_owned();
        let event = find(store, &identity).await?;
        events.push((identity, event));
    }
    let rule = rules.iter().find(|rule| rule.id == warning.rule);
    if as_json {
        let events: Vec<Value> = events
            .iter()
            .map(|(identity, event)| json!({ "event": identity, "found": event.as_ref().map(describe) }))
            .collect();
        output::line(
            json!({ "warning": warning, "rule_unchanged": rule.map(|rule| rule.hash == warning.rule_hash), "events": events }),
        );
        return Ok(true);
    }
    headline(&warning);
    output::line(match rule {
        Some(rule) if rule.hash == warning.rule_hash => {
            "  规则未变 the rule is what it was then".to_owned()
        }
        Some(rule) => format!(
            "  规则已改 the rule is another now: {} → {}",
            warning.rule_hash, rule.hash
        ),
        None => "  规则已删 the rule is no more".to_owned(),
    });
    if !warning.reading.is_empty() {
        output::line(format_args!("  读数 reading: {}", warning.reading));
    }
    output::line(format_args!(
        "  网关 {} 数据完整至 complete up to: {}",
        warning.agent,
        clock::rfc3339(warning.watermark_ms)
    ));
    for (identity, event) in &events {
        match event {
            Some(event) => {
                output::line(format_args!("  依据 because: {} {identity}", words(event)))
            }
            None => output::line(format_args!(
                "  依据 because: {identity} (原始数据已清理 no longer stored)"
            )),
        }
    }
    for change in &warning.changes {
        output::line(format_args!(
            "  {} {} {} {}",
            clock::rfc3339(change.at_ms),
            change.actor,
            change.action,
            change.note
        ));
    }
    Ok(true)
}

fn headline(warning: &WarningView) {
    output::line(format_args!(
        "#{} {} {} [{}] {} … {} ×{} {}",
        warning.id,
        warning.severity,
        warning.name,
        warning.key,
        clock::rfc3339(warning.at_ms),
        clock::rfc3339(warning.until_ms),
        warning.hits,
        warning.state
    ));
}

/// The event of an identity, `agent/lane/epoch/sequence`.
async fn find(store: &Store, identity: &str) -> Result<Option<Event>, StoreError> {
    let parts: Vec<&str> = identity.split('/').collect();
    let &[agent, lane, epoch, sequence] = parts.as_slice() else {
        return Ok(None);
    };
    let (Ok(agent), Some(lane), Ok(epoch), Ok(sequence)) = (
        agent.parse::<AgentId>(),
        Lane::ALL.into_iter().find(|known| known.as_str() == lane),
        u64::from_str_radix(epoch, 16),
        sequence.parse::<u64>(),
    ) else {
        return Ok(None);
    };
    let key = LaneKey {
        agent,
        lane,
        epoch: Epoch(epoch),
    };
    let mut connection = store.connect().await?;
    let first = Sequence(sequence);
    let found = chunks::overlapping(&mut connection, &key, first, first.plus(1)).await?;
    // It has read all it will.
    let _ = connection.close().await;
    Ok(found.first().and_then(|chunk| {
        let at = sequence.checked_sub(chunk.header().first.0)? as usize;
        chunk.events().ok()?.into_iter().nth(at)
    }))
}

fn words(event: &Event) -> String {
    let place = &event.place;
    let parts = [
        place.building.as_str(),
        place.unit.as_str(),
        place.address.as_str(),
        event.device.as_str(),
    ];
    let place: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!(
        "{} {} {}",
        clock::rfc3339(event.occurred_at_ms),
        event.kind,
        place.join(" ")
    )
}

fn describe(event: &Event) -> Value {
    json!({
        "type": event.kind,
        "occurred_at": clock::rfc3339(event.occurred_at_ms),
        "device": event.device,
        "building": event.place.building,
        "unit": event.place.unit,
        "address": event.place.address,
        "source": event.source,
    })
}

/// Why the events of a rule's kinds around a time are not a warning for a key.
#[derive(Default)]
struct LeftOut {
    other_key: usize,
    no_key: usize,
    not_fitting: usize,
    out_of_hours: usize,
}

/// Shows what a rule had of a key at a time, and what it lacked.
pub async fn why_not(
    store: &Store,
    rule: &Arc<Rule>,
    offices: HashMap<String, String>,
    key: &str,
    at_ms: i64,
) -> Result<(), StoreError> {
    let within_ms = rule.kind.reach_ms();
    let from_ms = at_ms.saturating_sub(within_ms);
    let period = Period {
        from_ms: from_ms
            .saturating_sub(within_ms)
            .saturating_sub(rule.fold_ms),
        to_ms: at_ms.saturating_add(within_ms),
    };
    let mut replay = Replay::new(vec![Arc::clone(rule)], offices.clone());
    replay.expect_all(period.from_ms);
    let mut had: Vec<Vec<String>> = vec![Vec::new(); rule.steps.len()];
    let mut left_out = LeftOut::default();
    each_event(
        store,
        std::slice::from_ref(rule),
        period,
        |event, origin, now_ms| {
            replay.bring(event, origin, now_ms);
            if event.occurred_at_ms < from_ms || event.occurred_at_ms > at_ms {
                return;
            }
            let subject = Subject {
                event,
                site: origin.site,
                agent: origin.agent,
                office: offices.get(origin.site).map_or(origin.site, String::as_str),
            };
            sort_in(rule, subject, key, &mut had, &mut left_out);
        },
    )
    .await?;
    let agents = agents_heard(store).await?;
    for (agent, watermark_ms) in &agents {
        replay.heard(agent, (*watermark_ms).min(period.to_ms), at_ms);
    }
    output::line(format_args!(
        "{} {} [{key}] {} … {}",
        rule.id,
        rule.kind.as_str(),
        clock::rfc3339(from_ms),
        clock::rfc3339(at_ms)
    ));
    for (step, events) in rule.steps.iter().zip(&had) {
        let more = events.len().saturating_sub(LISTED_MAX);
        output::line(format_args!("  {}: {} 条 events", step.kind, events.len()));
        for event in events.iter().take(LISTED_MAX) {
            output::line(format_args!("    {event}"));
        }
        if more > 0 {
            output::line(format_args!("    … {more} 条 more"));
        }
    }
    for (count, words) in [
        (left_out.other_key, "其他键 of other keys"),
        (left_out.no_key, "缺键字段 without a field of the key"),
        (left_out.not_fitting, "条件不符 not as the steps want them"),
        (left_out.out_of_hours, "不在时段 out of hours"),
    ] {
        if count > 0 {
            output::line(format_args!("  {words}: {count}"));
        }
    }
    for raised in replay.standing() {
        let finding = &raised.finding;
        if raised.key == key && finding.from_ms <= at_ms && finding.to_ms >= from_ms {
            output::line(format_args!(
                "  条件成立于 it does hold at: {} … {} ×{}",
                clock::rfc3339(finding.from_ms),
                clock::rfc3339(finding.to_ms),
                finding.hits
            ));
            return Ok(());
        }
    }
    output::line(format_args!(
        "  未成立 it does not hold: {}",
        lacks(rule, &had)
    ));
    Ok(())
}

fn sort_in(
    rule: &Rule,
    subject: Subject<'_>,
    key: &str,
    had: &mut [Vec<String>],
    left_out: &mut LeftOut,
) {
    let mut own = String::new();
    if !rule.write_key(subject, &mut own) {
        left_out.no_key += 1;
        return;
    }
    if own != key {
        left_out.other_key += 1;
        return;
    }
    if !rule.in_hours(subject.event.occurred_at_ms) {
        left_out.out_of_hours += 1;
        return;
    }
    let mut fits = false;
    for (step, events) in rule.steps.iter().zip(had) {
        if step.kind == subject.event.kind && step.fits(subject) {
            events.push(words(subject.event));
            fits = true;
        }
    }
    left_out.not_fitting += usize::from(!fits);
}

/// What was not there.
fn lacks(rule: &Rule, had: &[Vec<String>]) -> String {
    let on: usize = had[..rule.on].iter().map(Vec::len).sum();
    match rule.kind {
        Kind::Match => "没有事件 no event".to_owned(),
        Kind::Count { times, .. } | Kind::Repeat { times, .. } | Kind::Distinct { times, .. } => {
            format!("{on}/{times}")
        }
        Kind::AllOf { .. } | Kind::Sequence { .. } => {
            let missing: Vec<&str> = rule.steps[..rule.on]
                .iter()
                .zip(had)
                .filter(|(_, events)| events.is_empty())
                .map(|(step, _)| step.kind.as_str())
                .collect();
            if missing.is_empty() {
                "顺序或时限不符，或有排除事件 not in order, not in time, or with an event of unless".to_owned()
            } else {
                format!("缺 missing: {}", missing.join(", "))
            }
        }
        Kind::Absent { .. } => {
            "已有后续事件，或网关当时离线或数据未到齐 it was followed, or its agent did not hear all of that time".to_owned()
        }
        Kind::Silent { .. } => {
            "有事件，或不在名册，或网关当时离线或数据未到齐 it was heard, is not on the roster, or its agent did not hear all of that time".to_owned()
        }
        Kind::Surge { times, .. } => format!("{on} 条，至少 {times}；或历史不足 or too little history"),
    }
}
