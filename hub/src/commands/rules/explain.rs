//! Explains why a warning was raised. `why_not` explains why one was not.
use linli_shared::protocol::event::Event;
use linli_shared::service::{clock, output};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::commands::show::marks;
use linli_domain::correlate::rule::Rule;
use linli_store::chunks;
use linli_store::warnings::WarningView;
use linli_store::{Store, StoreError};

/// Shows a warning with the events that it rests on.
pub async fn why(
    store: &Store,
    rules: &[Arc<Rule>],
    warning: WarningView,
    as_json: bool,
) -> Result<(), StoreError> {
    let mut reader = store.reader().await?;
    let mut events = Vec::new();
    for reason in warning.reasons.as_array().into_iter().flatten() {
        let identity = reason["event"].as_str().unwrap_or_default().to_owned();
        let event = chunks::event(&mut reader, &identity).await?;
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
        return Ok(());
    }
    output::line(headline(&warning));
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
    Ok(())
}

/// A warning in one line.
pub fn headline(warning: &WarningView) -> String {
    format!(
        "#{} {} {} [{}] {} … {} ×{} {}{}",
        warning.id,
        warning.severity,
        warning.name,
        warning.key,
        clock::rfc3339(warning.at_ms),
        clock::rfc3339(warning.until_ms),
        warning.hits,
        warning.state,
        marks(warning)
    )
}

/// An event in one line.
pub fn words(event: &Event) -> String {
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
