//! Compares the warnings that rules would have raised from the stored events with the raised ones.
use linli_shared::protocol::event::AGENT_STARTED;
use linli_shared::protocol::event::Event;
use linli_shared::service::output;
use serde::Serialize;
use sqlx::Connection as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use linli_domain::correlate::Origin;
use linli_domain::correlate::coverage::Gap;
use linli_domain::correlate::replay::Replay;
use linli_domain::correlate::rule::{Roster, Rule};
use linli_store::chunks::{self, correct};
use linli_store::warnings::{self, ACTIVE, WarningFilter};
use linli_store::{Store, StoreError, agents};

/// Rows that are read at once.
const PAGE_ROWS: i64 = 500;
/// Warnings that are read at once.
const WARNINGS_PAGE: usize = 1000;

/// From one time up to another, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// Shows the rules every stored event of their kinds that happened in a period, in the order of arrival, with
/// the time at which it came. A start of an agent belongs to it by when the agent went down: how much of the
/// period it heard may be told long after.
pub async fn each_event(
    store: &Store,
    rules: &[Arc<Rule>],
    period: Period,
    mut take: impl FnMut(&Event, &Origin<'_>, i64),
) -> Result<(), StoreError> {
    let steps = rules.iter().flat_map(|rule| &rule.steps);
    let mut kinds: BTreeSet<String> = steps.map(|step| step.kind.clone()).collect();
    kinds.insert(AGENT_STARTED.to_owned());
    let kinds: Vec<String> = kinds.into_iter().collect();
    let mut connection = store.connect().await?;
    let (last_chunk, _) = chunks::last_ids(&mut connection).await?;
    let mut after = 0;
    while after < last_chunk {
        let last = (after + PAGE_ROWS).min(last_chunk);
        let page = chunks::replay(&mut connection, &kinds, period.from_ms, after, last).await?;
        for stored in page.chunks.iter().rev() {
            let header = stored.chunk.header();
            for (index, mut event) in stored
                .chunk
                .events()
                .unwrap_or_default()
                .into_iter()
                .enumerate()
            {
                if stored.withholds(&event.kind) {
                    continue;
                }
                correct(&mut event, stored.clocks, stored.stored_ms);
                let from_ms =
                    Gap::before_start(&event).map_or(event.occurred_at_ms, |gap| gap.from_ms);
                if event.occurred_at_ms < period.from_ms || from_ms >= period.to_ms {
                    continue;
                }
                let origin = Origin {
                    site: &stored.site,
                    agent: &stored.agent,
                    lane: header.lane,
                    epoch: header.epoch.0,
                    sequence: header.first.0 + index as u64,
                };
                take(&event, &origin, stored.stored_ms);
            }
        }
        after = last;
    }
    // It has read all it will.
    let _ = connection.close().await;
    Ok(())
}

/// How far each agent has told everything.
pub async fn agents_heard(store: &Store) -> Result<Vec<(String, i64)>, StoreError> {
    let mut connection = store.connect().await?;
    let roster = agents::roster(&mut connection).await?;
    let _ = connection.close().await;
    Ok(roster
        .into_iter()
        .map(|entry| (entry.agent, entry.watermark_ms))
        .collect())
}

/// How many there were of a rule in an office, and how many there would be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub office: String,
    pub rule: String,
    pub warnings_then: usize,
    pub warnings_now: usize,
    pub cases_then: usize,
    pub cases_now: usize,
}

/// Compares, office by office. A case is counted for each kind, key and route.
pub async fn backtest(
    store: &Store,
    rules: &[Arc<Rule>],
    offices: HashMap<String, String>,
    period: Period,
) -> Result<Vec<Difference>, StoreError> {
    let longest_ms = rules
        .iter()
        .map(|rule| rule.kind.reach_ms() + rule.fold_ms)
        .max();
    let read = Period {
        from_ms: period.from_ms.saturating_sub(longest_ms.unwrap_or(0)),
        ..period
    };
    let mut replay = Replay::new(rules.to_vec(), offices.clone());
    replay.expect_all(read.from_ms);
    let mut last_ms = period.from_ms;
    each_event(store, rules, read, |event, origin, now_ms| {
        replay.bring(event, origin, now_ms);
        last_ms = last_ms.max(now_ms);
    })
    .await?;
    for (agent, watermark_ms) in agents_heard(store).await? {
        replay.heard(&agent, watermark_ms.min(period.to_ms), last_ms);
    }
    let office_of = |site: &str| {
        offices
            .get(site)
            .cloned()
            .unwrap_or_else(|| site.to_owned())
    };
    let mut differences: BTreeMap<(String, String), Difference> = BTreeMap::new();
    let mut cases: BTreeSet<(bool, String, String, String)> = BTreeSet::new();
    let mut count = |then: bool, site: &str, rule: &str, case: Option<String>, key: &str| {
        let office = office_of(site);
        let difference = differences
            .entry((office.clone(), rule.to_owned()))
            .or_insert_with(|| Difference {
                office: office.clone(),
                rule: rule.to_owned(),
                ..Difference::default()
            });
        let opens = case.is_some_and(|case| cases.insert((then, office, case, key.to_owned())));
        if then {
            difference.warnings_then += 1;
            difference.cases_then += usize::from(opens);
        } else {
            difference.warnings_now += 1;
            difference.cases_now += usize::from(opens);
        }
    };
    let case_of = |id: &str| {
        let rule = rules.iter().find(|rule| rule.id == id)?;
        Some(format!("{} {}", rule.case.clone()?, rule.route))
    };
    for raised in replay.standing() {
        let at_ms = raised.finding.from_ms;
        if (period.from_ms..period.to_ms).contains(&at_ms) {
            count(
                false,
                &raised.finding.site,
                &raised.rule,
                case_of(&raised.rule),
                &raised.key,
            );
        }
    }
    let mut before = None;
    loop {
        let filter = WarningFilter {
            state: Some(ACTIVE.to_owned()),
            from_ms: Some(period.from_ms),
            to_ms: Some(period.to_ms),
            before,
            limit: WARNINGS_PAGE,
            ..WarningFilter::default()
        };
        let page = warnings::list(store.readers(), &filter).await?;
        for warning in &page {
            // Signs of life are not stored: findings about silence cannot be reproduced.
            let of_signs = rules
                .iter()
                .any(|rule| rule.id == warning.rule && rule.roster == Roster::Agents);
            if !of_signs {
                let case = (!warning.cases.is_empty())
                    .then(|| case_of(&warning.rule))
                    .flatten();
                count(true, &warning.site, &warning.rule, case, &warning.key);
            }
        }
        before = page.last().map(|warning| warning.id);
        if page.len() < WARNINGS_PAGE {
            break;
        }
    }
    Ok(differences.into_values().collect())
}

/// Shows the differences as a table, or as JSON Lines.
pub fn show(differences: &[Difference], as_json: bool) {
    if as_json {
        for difference in differences {
            output::line(serde_json::to_string(difference).unwrap_or_default());
        }
        return;
    }
    output::line("单位 office | 规则 rule | 预警 warnings 当时 then → 回测 now | 案件 cases");
    for difference in differences {
        output::line(format_args!(
            "{} | {} | {} → {} | {} → {}",
            difference.office,
            difference.rule,
            difference.warnings_then,
            difference.warnings_now,
            difference.cases_then,
            difference.cases_now
        ));
    }
}
