//! The tests in a rule file.
//!
//! ```toml
//! [[rule.test]]
//! name = "both orders, one duplicate, 48 h late"
//! start = "22:00"                    # time of day of "0m", if the rule has hours
//! events = ["0m fire.alarm building=B1", "5m door.forced building=B1"]
//! deliver = ["in-order", "shuffled", "reversed", "duplicated", "restarted", "delayed:48h"]
//! heard = "30m"                      # watermark of all agents at the end; default: the end of all windows
//! expect = [{ at = "5m", key = "B1", hits = 1, late_in = ["delayed:48h"] }]
//! ```
//!
//! An event consists of its time, its kind and its fields. Defaults: site `site`, agent `gw-1`.
//! `agent.started down_since=3m` reports a gap of the agent; `agent.heard agent=gw-2` is a sign of life, for
//! rosters of agents. `expect` lists all open warnings at the end. Their key consists of the values of the
//! rule's key, separated by `|`; the value of `site` may be left out if it is `site`. Every order of delivery
//! must give the same warnings.
use linli_shared::protocol::event::{DOWN_SINCE, Event};
use linli_shared::protocol::ids::Lane;
use linli_shared::service::config::Span;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Origin;
use super::engine::Engine;
use super::replay::Replay;
use super::roster::{AgentRoster, Silence};
use super::rule::{Field, Roster, Rule, TrialEntry, split_key};

/// 2026-03-02 00:00, local time of the centre.
const BASE_MS: i64 = 1_772_380_800_000;
const SITE: &str = "site";
const AGENT: &str = "gw-1";
/// Kind of a sign of life, for rosters of agents.
const HEARD: &str = "agent.heard";
/// Number of different orders of `shuffled`.
const SHUFFLES: u64 = 8;
const EVENTS_MAX: usize = 10_000;

/// The order and time in which events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// In order of time.
    InOrder,
    /// In several pseudo-random orders.
    Shuffled,
    /// In reverse order.
    Reversed,
    /// In order, each event three times.
    Duplicated,
    /// In order, with a restart after each event.
    Restarted,
    /// In order, each event later by this many milliseconds.
    Delayed(i64),
}

/// An event of a test.
#[derive(Debug, Clone)]
pub struct Brought {
    /// The event.
    pub event: Event,
    /// Its site.
    pub site: String,
    /// Its agent.
    pub agent: String,
    /// Its sequence number.
    pub sequence: u64,
}

/// A parsed test.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Start of the test, milliseconds since 1970 UTC.
    base_ms: i64,
    /// The events, as listed.
    pub events: Vec<Brought>,
    /// The deliveries to run, with their names; in-order is always the first.
    pub deliveries: Vec<(String, Delivery)>,
    /// Watermark of all agents at the end, milliseconds since 1970 UTC.
    heard_ms: i64,
    expected: Vec<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    at_ms: i64,
    /// The complete key.
    key: String,
    hits: Option<i64>,
    late_in: Vec<String>,
}

/// Parses a test. Errors: the problem, with the name of the test.
pub fn parse(rule: &Rule, entry: &TrialEntry) -> Result<Trial, String> {
    let wrong = |text: String| format!("{:?}: {text}", entry.name);
    let start_minute = match &entry.start {
        None => 0,
        Some(text) => super::rule::minute_of_day(text)
            .ok_or_else(|| wrong(format!("start {text:?} is not a time like \"22:00\"")))?,
    };
    let base_ms = BASE_MS + i64::from(start_minute) * 60_000;
    if entry.events.len() > EVENTS_MAX {
        return Err(wrong(format!("more than {EVENTS_MAX} events")));
    }
    let mut events = Vec::with_capacity(entry.events.len());
    for (number, text) in entry.events.iter().enumerate() {
        events.push(read(text, base_ms, number as u64).map_err(wrong)?);
    }
    let mut deliveries = vec![("in-order".to_owned(), Delivery::InOrder)];
    for name in &entry.deliver {
        let delivery = delivery(name).ok_or_else(|| {
            wrong(format!(
                "deliver {name:?} is none of in-order, shuffled, reversed, duplicated, restarted, delayed:48h"
            ))
        })?;
        if delivery != Delivery::InOrder {
            deliveries.push((name.clone(), delivery));
        }
    }
    let last_ms = events
        .iter()
        .map(|brought| brought.event.occurred_at_ms)
        .max();
    let heard_ms = match &entry.heard {
        Some(span) => base_ms + span.as_millis(),
        None => last_ms.unwrap_or(base_ms) + rule.kind.within_ms() + 60_000,
    };
    let expected = entry
        .expect
        .iter()
        .map(|expect| {
            let late = expect.late_in.iter().find(|name| delivery(name).is_none());
            if let Some(name) = late {
                return Err(wrong(format!("late_in {name:?} is not a way of delivery")));
            }
            Ok(Expected {
                at_ms: base_ms + expect.at.as_millis(),
                key: full_key(rule, &expect.key).map_err(wrong)?,
                hits: expect.hits,
                late_in: expect.late_in.clone(),
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(Trial {
        base_ms,
        events,
        deliveries,
        heard_ms,
        expected,
    })
}

fn delivery(name: &str) -> Option<Delivery> {
    Some(match name {
        "in-order" => Delivery::InOrder,
        "shuffled" => Delivery::Shuffled,
        "reversed" => Delivery::Reversed,
        "duplicated" => Delivery::Duplicated,
        "restarted" => Delivery::Restarted,
        _ => Delivery::Delayed(
            name.strip_prefix("delayed:")?
                .parse::<Span>()
                .ok()?
                .as_millis(),
        ),
    })
}

fn read(text: &str, base_ms: i64, number: u64) -> Result<Brought, String> {
    let mut words = text.split_whitespace();
    let at: Span = words.next().unwrap_or_default().parse()?;
    let kind = words.next().ok_or_else(|| {
        format!("{text:?} has no kind: write it like \"5m door.forced building=B1\"")
    })?;
    let mut brought = Brought {
        event: Event {
            kind: kind.to_owned(),
            occurred_at_ms: base_ms + at.as_millis(),
            ..Event::default()
        },
        site: SITE.to_owned(),
        agent: AGENT.to_owned(),
        sequence: number,
    };
    let event = &mut brought.event;
    event.received_at_ms = event.occurred_at_ms;
    for word in words {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} in {text:?} is not field=value"))?;
        let value = value.to_owned();
        match name {
            "site" => brought.site = value,
            "agent" => brought.agent = value,
            "device" => event.device = value,
            "source" => event.source = value,
            "building" => event.place.building = value,
            "unit" => event.place.unit = value,
            "address" => event.place.address = value,
            "down_since" => {
                let since: Span = value.parse()?;
                let since_ms = base_ms + since.as_millis();
                event
                    .attributes
                    .insert(DOWN_SINCE.to_owned(), since_ms.to_string());
            }
            "severity" => {
                event.severity = linli_shared::protocol::event::Severity::from_name(&value)
                    .ok_or_else(|| format!("{value:?} is not a severity"))?;
            }
            other => {
                let Some(Field::Attribute(name)) = Field::from_name(other) else {
                    return Err(format!("{other:?} in {text:?} is not a field of an event"));
                };
                event.attributes.insert(name, value);
            }
        }
    }
    Ok(brought)
}

/// Runs one test with all its deliveries. Returns the differences from the expectation.
pub fn run(rule: &Rule, entry: &TrialEntry) -> Vec<String> {
    let trial = match parse(rule, entry) {
        Ok(trial) => trial,
        Err(error) => return vec![error],
    };
    // A test covers the rule's logic, regardless of whether the rule is enabled today.
    let rule = Arc::new(Rule {
        enabled: true,
        expires_ms: None,
        ..rule.clone()
    });
    let mut wrong = Vec::new();
    for (name, delivery) in &trial.deliveries {
        for seed in 0..if *delivery == Delivery::Shuffled {
            SHUFFLES
        } else {
            1
        } {
            let found = if rule.roster == Roster::Agents {
                trial.signs(&rule)
            } else {
                trial.bring(&rule, *delivery, seed)
            };
            if let Some(difference) = trial.compare(name, *delivery, &found) {
                wrong.push(format!("{} [{name}]: {difference}", entry.name));
                break;
            }
        }
    }
    wrong
}

/// A warning at the end: time, key, hits, late.
type Found = (i64, String, i64, bool);

impl Trial {
    fn agents(&self, rule: &Rule) -> Vec<String> {
        let mut agents: Vec<String> = self
            .events
            .iter()
            .map(|brought| brought.agent.clone())
            .collect();
        if let Roster::Keys(keys) = &rule.roster {
            agents.extend(keys.values().cloned());
        }
        agents.sort();
        agents.dedup();
        agents
    }

    fn bring(&self, rule: &Arc<Rule>, delivery: Delivery, seed: u64) -> Vec<Found> {
        let mut order: Vec<&Brought> = self.events.iter().collect();
        order.sort_by_key(|brought| brought.event.occurred_at_ms);
        match delivery {
            Delivery::Shuffled => shuffle(&mut order, seed),
            Delivery::Reversed => order.reverse(),
            Delivery::InOrder
            | Delivery::Duplicated
            | Delivery::Restarted
            | Delivery::Delayed(_) => {}
        }
        let engine = || Replay::new(vec![Arc::clone(rule)], HashMap::new());
        let mut replay = engine();
        replay.expect_all(self.base_ms);
        let delay_ms = match delivery {
            Delivery::Delayed(delay_ms) => delay_ms,
            _ => 0,
        };
        let agents = self.agents(rule);
        let mut watermark_ms = 0;
        let in_order = !matches!(delivery, Delivery::Shuffled | Delivery::Reversed);
        // The deadlines between two events.
        let mut due: VecDeque<i64> = order
            .iter()
            .map(|brought| brought.event.occurred_at_ms + rule.kind.within_ms())
            .collect();
        for (count, brought) in order.iter().enumerate() {
            let at_ms = brought.event.occurred_at_ms;
            while in_order && let Some(due_ms) = due.pop_front_if(|due_ms| *due_ms < at_ms) {
                for agent in &agents {
                    replay.heard(agent, due_ms, due_ms + delay_ms);
                }
            }
            let now_ms = match delivery {
                Delivery::Shuffled | Delivery::Reversed => self.heard_ms,
                _ => at_ms + delay_ms,
            };
            let times = if delivery == Delivery::Duplicated {
                3
            } else {
                1
            };
            for _ in 0..times {
                replay.bring(&brought.event, &brought.origin(), now_ms);
            }
            if in_order {
                // The agents have reported everything before this event.
                watermark_ms = at_ms - 1;
                for agent in &agents {
                    replay.heard(agent, watermark_ms, now_ms);
                }
            }
            if delivery == Delivery::Restarted {
                replay.restart(self.engine(rule, &order[..=count], &agents, watermark_ms, now_ms));
            }
        }
        while in_order && let Some(due_ms) = due.pop_front_if(|due_ms| *due_ms < self.heard_ms) {
            for agent in &agents {
                replay.heard(agent, due_ms, due_ms + delay_ms);
            }
        }
        let end_ms = self.heard_ms + delay_ms;
        for agent in &agents {
            replay.heard(agent, self.heard_ms, end_ms);
        }
        replay
            .standing()
            .into_iter()
            .map(|raised| {
                let finding = &raised.finding;
                (
                    finding.from_ms,
                    raised.key.clone(),
                    finding.hits,
                    raised.late,
                )
            })
            .collect()
    }

    /// The engine after a restart, built from the stored events.
    fn engine(
        &self,
        rule: &Arc<Rule>,
        stored: &[&Brought],
        agents: &[String],
        watermark_ms: i64,
        now_ms: i64,
    ) -> Engine {
        let mut fresh = Replay::new(vec![Arc::clone(rule)], HashMap::new());
        fresh.expect_all(self.base_ms);
        for agent in agents {
            fresh.engine().advance(agent, watermark_ms);
        }
        for brought in stored {
            fresh
                .engine()
                .observe(&brought.event, &brought.origin(), now_ms);
        }
        let empty = Engine::in_memory(Vec::new(), HashMap::new());
        let mut engine = std::mem::replace(fresh.engine(), empty);
        // The results of these events exist already.
        engine.outcome();
        engine
    }

    /// Delivers signs of life, in order.
    fn signs(&self, rule: &Rule) -> Vec<Found> {
        let within_ms = rule.kind.within_ms();
        let mut roster = AgentRoster::default();
        let mut silences = Vec::new();
        let mut order: Vec<&Brought> = self
            .events
            .iter()
            .filter(|brought| brought.event.kind == HEARD)
            .collect();
        order.sort_by_key(|brought| brought.event.occurred_at_ms);
        for agent in self.agents(rule) {
            roster.expect(&agent, self.base_ms, false);
        }
        for brought in order {
            let at_ms = brought.event.occurred_at_ms;
            silences.extend(roster.overdue(within_ms, at_ms));
            roster.heard(&brought.agent, at_ms);
        }
        silences.extend(roster.overdue(within_ms, self.heard_ms));
        silences
            .into_iter()
            .filter_map(|silence| match silence {
                Silence::Begins { agent, at_ms, .. } => Some((at_ms, agent, 1, false)),
                Silence::Ends { .. } => None,
            })
            .collect()
    }

    fn compare(&self, name: &str, delivery: Delivery, found: &[Found]) -> Option<String> {
        let mut left: Vec<&Found> = found.iter().collect();
        let mut missing = Vec::new();
        for expected in &self.expected {
            let place = left.iter().position(|(at_ms, found_key, hits, late)| {
                // Whether a warning is late depends on the delivery; with all events at once it does not
                // matter.
                let late_fits = !matches!(delivery, Delivery::InOrder | Delivery::Delayed(_))
                    || *late == expected.late_in.iter().any(|way| way == name);
                *at_ms == expected.at_ms
                    && *found_key == expected.key
                    && expected.hits.is_none_or(|wanted| wanted == *hits)
                    && late_fits
            });
            match place {
                Some(place) => {
                    left.remove(place);
                }
                None => missing.push(expected),
            }
        }
        if missing.is_empty() && left.is_empty() {
            return None;
        }
        let words = |key: &str, at_ms: i64, hits: Option<i64>, late: bool| {
            let at = span_words(at_ms - self.base_ms);
            let hits = hits.map(|hits| format!(" ×{hits}")).unwrap_or_default();
            let late = if late { " 补报 late" } else { "" };
            format!("{key:?} at {at}{hits}{late}")
        };
        let missing: Vec<String> = missing
            .iter()
            .map(|expected| {
                let late = expected.late_in.iter().any(|way| way == name);
                words(&expected.key, expected.at_ms, expected.hits, late)
            })
            .collect();
        let left: Vec<String> = left
            .iter()
            .map(|(at_ms, key, hits, late)| words(key, *at_ms, Some(*hits), *late))
            .collect();
        Some(format!(
            "缺少 missing: [{}]; 多出 found beside: [{}]",
            missing.join(", "),
            left.join(", ")
        ))
    }
}

/// A time as tests write it: in the largest unit without a remainder.
fn span_words(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    if ms == 0 {
        return "0m".to_owned();
    }
    match UNITS.iter().find(|(unit_ms, _)| ms % unit_ms == 0) {
        Some((unit_ms, name)) => format!("{}{name}", ms / unit_ms),
        None => format!("{ms}ms"),
    }
}

impl Brought {
    /// The origin of the event.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            site: &self.site,
            agent: &self.agent,
            lane: Lane::Urgent,
            epoch: 1,
            sequence: self.sequence,
        }
    }
}

/// The key with all its values; completes the value of `site`. Errors: the problem.
fn full_key(rule: &Rule, key: &str) -> Result<String, String> {
    let mut values = if key.is_empty() {
        VecDeque::new()
    } else {
        VecDeque::from(split_key(key))
    };
    if values.len() == rule.key.len() {
        return Ok(key.to_owned());
    }
    let is_site = |field: &&Field| **field == Field::Site;
    if values.len() + rule.key.iter().filter(is_site).count() != rule.key.len() {
        let fields: Vec<String> = rule.key.iter().map(Field::name).collect();
        return Err(format!(
            "key {key:?} has {} values, and the rule's key is {:?}: write a value for each, with | between; \
             that of site may be left out",
            values.len(),
            fields.join("|")
        ));
    }
    let mut full = String::new();
    for (index, field) in rule.key.iter().enumerate() {
        if index > 0 {
            full.push('|');
        }
        let value = match field {
            Field::Site => SITE.to_owned(),
            _ => values.pop_front().unwrap_or_default(),
        };
        super::rule::push_escaped(&mut full, &value);
    }
    Ok(full)
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for at in (1..items.len()).rev() {
        // xorshift64: any order will do, if it is the same each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(at, (state % (at as u64 + 1)) as usize);
    }
}
