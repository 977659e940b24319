//! Explains why a rule raised no warning for a key: its events around a time, and the missing ones.
//!
//! The stored events of the time are brought to the rule again, as a backtest does it. Where that does not
//! say why the condition does not hold, the events of the key and the hearing of their agents do.
use linli_shared::service::{clock, output};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::backtest::{Period, agents_heard, each_event};
use super::explain::{headline, words};
use linli_domain::correlate::Finding;
use linli_domain::correlate::coverage::Coverage;
use linli_domain::correlate::hits::SURGE_WINDOWS_MIN;
use linli_domain::correlate::replay::Replay;
use linli_domain::correlate::rule::{Field, Kind, Roster, Rule, Subject, push_escaped, split_key};
use linli_store::{Store, StoreError, agents, warnings};

/// Events of one step, and warnings, that are listed.
const LISTED_MAX: usize = 10;
/// A rule without a window is asked about its fold, and about no less than this, milliseconds.
const LOOK_MS_MIN: i64 = 60_000;

/// Checks a key for a rule. Error: what is wrong.
pub fn check_key(rule: &Rule, key: &str) -> Result<(), String> {
    let given = if key.is_empty() {
        0
    } else {
        split_key(key).len()
    };
    if given == rule.key.len() {
        return Ok(());
    }
    let fields: Vec<String> = rule.key.iter().map(Field::name).collect();
    Err(format!(
        "key {key:?} has {given} values, and the key of rule {:?} has {}: write it as {:?}",
        rule.id,
        fields.len(),
        fields.join("|")
    ))
}

/// The times of a question, milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Events from then on are listed.
    from_ms: i64,
    at_ms: i64,
    /// What is asked about is decided by then.
    decided_ms: i64,
    /// From when until when events matter.
    read: Period,
}

impl Times {
    fn of(rule: &Rule, at_ms: i64) -> Self {
        let reach_ms = rule.kind.reach_ms();
        let look_ms = match rule.kind {
            Kind::Match => rule.fold_ms.max(LOOK_MS_MIN),
            // What began a window ago is decided now, and what is said of then began another one before.
            _ if rule.kind.waits() => reach_ms.saturating_mul(2),
            _ => reach_ms,
        };
        let from_ms = at_ms.saturating_sub(look_ms);
        let decided_ms = if rule.kind.waits() {
            at_ms.saturating_add(reach_ms)
        } else {
            at_ms
        };
        Self {
            from_ms,
            at_ms,
            decided_ms,
            read: Period {
                from_ms: from_ms.saturating_sub(reach_ms.saturating_add(rule.fold_ms)),
                to_ms: decided_ms.saturating_add(1),
            },
        }
    }
}

/// An event of a step of the rule.
struct Seen {
    at_ms: i64,
    agent: String,
    words: String,
}

/// The events of the key.
#[derive(Default)]
struct Had {
    /// By step, then by time.
    steps: Vec<Vec<Seen>>,
    /// Different values, where they are counted.
    values: BTreeSet<String>,
    other_key: usize,
    no_key: usize,
    not_fitting: usize,
    out_of_hours: usize,
    other_agent: usize,
}

impl Had {
    fn sort_in(&mut self, rule: &Rule, subject: Subject<'_>, key: &str, times: Times) {
        let event = subject.event;
        let at_ms = event.occurred_at_ms;
        if at_ms < times.from_ms || at_ms > times.decided_ms {
            return;
        }
        let mut fitting: Vec<usize> = (0..rule.steps.len())
            .filter(|step| rule.steps[*step].kind == event.kind)
            .collect();
        if fitting.is_empty() {
            return;
        }
        let mut own = String::new();
        let count = |count: &mut usize| *count += usize::from(at_ms <= times.at_ms);
        if !rule.write_key(subject, &mut own) {
            return count(&mut self.no_key);
        }
        if own != key {
            return count(&mut self.other_key);
        }
        if let Roster::Keys(keys) = &rule.roster
            && keys.get(key).is_some_and(|agent| agent != subject.agent)
        {
            return count(&mut self.other_agent);
        }
        fitting.retain(|step| rule.steps[*step].fits(subject));
        if fitting.is_empty() {
            return count(&mut self.not_fitting);
        }
        // What was to follow may come at any hour, and after the time that is asked about.
        let in_hours = rule.in_hours(at_ms);
        let in_time = at_ms <= times.at_ms;
        fitting.retain(|step| *step >= rule.on || (in_hours && in_time));
        if fitting.is_empty() && !in_hours {
            return count(&mut self.out_of_hours);
        }
        if matches!(rule.kind, Kind::AllOf { .. }) {
            fitting.truncate(1);
        }
        if let (false, Some(field)) = (fitting.is_empty(), &rule.distinct)
            && let Some(value) = field.of(subject)
        {
            self.values.insert(value.to_owned());
        }
        for step in fitting {
            self.steps[step].push(Seen {
                at_ms,
                agent: subject.agent.to_owned(),
                words: words(event),
            });
        }
    }

    /// The events of some steps, by time.
    fn of(&self, steps: std::ops::Range<usize>) -> Vec<&Seen> {
        let mut seen: Vec<&Seen> = self.steps[steps].iter().flatten().collect();
        seen.sort_by_key(|seen| seen.at_ms);
        seen
    }

    fn show(&self, rule: &Rule) {
        for (step, seen) in rule.steps.iter().zip(&self.steps) {
            output::line(format_args!("  {}: {} 条 events", step.kind, seen.len()));
            for seen in seen.iter().take(LISTED_MAX) {
                output::line(format_args!("    {}", seen.words));
            }
            let more = seen.len().saturating_sub(LISTED_MAX);
            if more > 0 {
                output::line(format_args!("    … {more} 条 more"));
            }
        }
        for (count, words) in [
            (self.other_key, "其他键 of other keys"),
            (self.no_key, "缺键字段 without a field of the key"),
            (self.not_fitting, "条件不符 not as the steps want them"),
            (self.out_of_hours, "不在时段 out of hours"),
            (
                self.other_agent,
                "由名册以外的网关报来 told by another agent than the roster's",
            ),
        ] {
            if count > 0 {
                output::line(format_args!("  {words}: {count}"));
            }
        }
    }
}

/// Shows the events of a key around a time, and the missing ones.
pub async fn why_not(
    store: &Store,
    rule: &Arc<Rule>,
    offices: HashMap<String, String>,
    key: &str,
    at_ms: i64,
) -> Result<(), StoreError> {
    let times = Times::of(rule, at_ms);
    output::line(format_args!(
        "{} {} [{key}] {} … {}",
        rule.id,
        rule.kind.as_str(),
        clock::rfc3339(times.from_ms),
        clock::rfc3339(at_ms)
    ));
    show_mode(rule);
    if rule.roster == Roster::Agents {
        show_signs(store, rule, key).await?;
        show_near(store, rule, key, times).await?;
        return Ok(());
    }
    // The explanation assumes that the rule is switched on.
    let rule = &Arc::new(Rule {
        enabled: true,
        expires_ms: None,
        ..(**rule).clone()
    });
    // The same without `unless`: whether that was the reason.
    let has_unless = matches!(rule.kind, Kind::Sequence { .. }) && rule.on < rule.steps.len();
    let mut lenient = has_unless.then(|| {
        let steps = rule.steps[..rule.on].to_vec();
        let lenient = Rule {
            steps,
            ..(**rule).clone()
        };
        Replay::new(vec![Arc::new(lenient)], offices.clone())
    });
    let mut replay = Replay::new(vec![Arc::clone(rule)], offices.clone());
    replay.expect_all(times.read.from_ms);
    let mut had = Had {
        steps: rule.steps.iter().map(|_| Vec::new()).collect(),
        ..Had::default()
    };
    each_event(
        store,
        std::slice::from_ref(rule),
        times.read,
        |event, origin, now_ms| {
            replay.bring(event, origin, now_ms);
            if let Some(lenient) = &mut lenient {
                lenient.bring(event, origin, now_ms);
            }
            let subject = Subject {
                event,
                site: origin.site,
                agent: origin.agent,
                office: offices.get(origin.site).map_or(origin.site, String::as_str),
            };
            had.sort_in(rule, subject, key, times);
        },
    )
    .await?;
    for (agent, watermark_ms) in agents_heard(store).await? {
        replay.heard(&agent, watermark_ms.min(times.read.to_ms), at_ms);
    }
    for seen in &mut had.steps {
        seen.sort_by_key(|seen| seen.at_ms);
    }
    had.show(rule);
    let holds = finding(&replay, key, times);
    if let Some(finding) = &holds {
        output::line(format_args!(
            "  条件成立于 it does hold at: {} … {} ×{}",
            clock::rfc3339(finding.from_ms),
            clock::rfc3339(finding.to_ms),
            finding.hits
        ));
    }
    let is_near = show_near(store, rule, key, times).await?;
    if holds.is_some() {
        if !is_near {
            output::line(
                "  但没有预警：规则当时可能不同或停用 but there is no warning: the rule may have been another \
                 then, or switched off",
            );
        }
        return Ok(());
    }
    let only_unless = lenient
        .as_ref()
        .is_some_and(|lenient| finding(lenient, key, times).is_some());
    for lack in lacks(
        rule,
        key,
        &had,
        replay.engine().coverage(),
        times,
        only_unless,
    ) {
        output::line(format_args!("  未成立 it does not hold: {lack}"));
    }
    Ok(())
}

/// Says that the rule is off or on trial.
fn show_mode(rule: &Rule) {
    if !rule.enabled {
        output::line("  规则已停用 the rule is switched off (enabled = false): it raises nothing");
    } else if !rule.runs(clock::wall_ms()) {
        output::line("  规则已到期 the rule has expired: it raises nothing");
    }
    if rule.shadow {
        output::line(
            "  规则试运行，预警只记录 the rule is on trial, its warnings are recorded only: linli-hub warnings --shadow",
        );
    }
}

/// Signs of life are not stored: only the last is known.
async fn show_signs(store: &Store, rule: &Rule, key: &str) -> Result<(), StoreError> {
    let agents = agents::list(store.readers()).await?;
    let agent = agents.iter().find(|agent| {
        let mut own = String::new();
        push_escaped(&mut own, &agent.agent);
        own == key && agent.revoked_ms.is_none()
    });
    let Some(agent) = agent else {
        output::line(
            "  未成立 it does not hold: 不在名册 it is not on the roster: linli-hub agents shows who has joined",
        );
        return Ok(());
    };
    output::line(format_args!(
        "  最近的生命信号 last sign of life: {}（更早的不留存 earlier ones are not kept）",
        if agent.seen_ms == 0 {
            "从未 never".to_owned()
        } else {
            clock::rfc3339(agent.seen_ms)
        }
    ));
    let due_ms = agent.seen_ms.saturating_add(rule.kind.within_ms());
    if agent.seen_ms > 0 && due_ms > clock::wall_ms() {
        output::line(format_args!(
            "  现未成立 it does not hold now: 至 {} 无信号才算失联 it is silent if it gives no sign until then",
            clock::rfc3339(due_ms)
        ));
    }
    Ok(())
}

/// Shows the warnings of the rule and key near a time; false: there are none.
async fn show_near(
    store: &Store,
    rule: &Rule,
    key: &str,
    times: Times,
) -> Result<bool, StoreError> {
    let limit = LISTED_MAX as i64;
    let (from_ms, to_ms) = (times.from_ms, times.decided_ms);
    let near = warnings::near(store.readers(), &rule.id, key, from_ms, to_ms, limit).await?;
    for warning in &near {
        output::line(format_args!(
            "  已有预警 there is a warning: {}",
            headline(warning)
        ));
    }
    Ok(!near.is_empty())
}

fn finding(replay: &Replay, key: &str, times: Times) -> Option<Finding> {
    let touches =
        |finding: &Finding| finding.from_ms <= times.decided_ms && finding.to_ms >= times.from_ms;
    let standing = replay.standing();
    let raised = standing
        .iter()
        .find(|raised| raised.key == key && touches(&raised.finding));
    raised.map(|raised| raised.finding.clone())
}

/// The missing condition. `only_unless`: without `unless` it would hold.
fn lacks(
    rule: &Rule,
    key: &str,
    had: &Had,
    coverage: &Coverage,
    times: Times,
    only_unless: bool,
) -> Vec<String> {
    let on = had.of(0..rule.on);
    let lack = match rule.kind {
        Kind::Match => "没有事件 no event".to_owned(),
        Kind::Count { times, .. } | Kind::Repeat { times, .. } => format!("{}/{times}", on.len()),
        Kind::Distinct { times, .. } => {
            format!("不同的值 different values: {}/{times}", had.values.len())
        }
        Kind::AllOf { .. } | Kind::Sequence { .. } => {
            let missing: Vec<&str> = rule.steps[..rule.on]
                .iter()
                .zip(&had.steps)
                .filter(|(_, events)| events.is_empty())
                .map(|(step, _)| step.kind.as_str())
                .collect();
            if !missing.is_empty() {
                format!("缺 missing: {}", missing.join(", "))
            } else if only_unless {
                "其间有排除事件 an event of unless lies between".to_owned()
            } else {
                "顺序不符 not in this order".to_owned()
            }
        }
        Kind::Absent { within_ms } => {
            let until = had.of(rule.on..rule.steps.len());
            let skipped = on.len().saturating_sub(LISTED_MAX);
            let each: Vec<String> = on[skipped..]
                .iter()
                .map(|opening| not_absent(opening, &until, coverage, within_ms))
                .collect();
            if !each.is_empty() {
                return each;
            }
            "没有起始事件 no event that something was to follow".to_owned()
        }
        Kind::Silent { within_ms } => not_silent(rule, key, &on, coverage, times, within_ms),
        Kind::Surge {
            times, within_ms, ..
        } => not_surging(&on, times, within_ms),
    };
    vec![lack]
}

/// Why an event is not one that nothing followed.
fn not_absent(opening: &Seen, until: &[&Seen], coverage: &Coverage, within_ms: i64) -> String {
    let due_ms = opening.at_ms.saturating_add(within_ms);
    let after = |seen: &&&Seen| (opening.at_ms..=due_ms).contains(&seen.at_ms);
    let why = match until.iter().find(after) {
        Some(followed) => format!("有后续 it was followed: {}", followed.words),
        None => unheard(coverage, &opening.agent, opening.at_ms, due_ms)
            .unwrap_or_else(|| "不在规则所存之内 it is not among what the rule holds".to_owned()),
    };
    format!("{} → {why}", opening.words)
}

/// Why a thing on a roster is not silent.
fn not_silent(
    rule: &Rule,
    key: &str,
    on: &[&Seen],
    coverage: &Coverage,
    times: Times,
    within_ms: i64,
) -> String {
    let agent = match &rule.roster {
        Roster::Keys(keys) => keys.get(key),
        _ => None,
    };
    let Some(agent) = agent else {
        return "不在名册 it is not on the roster of the rule".to_owned();
    };
    let since_ms = on.last().map_or(times.from_ms, |last| last.at_ms);
    let due_ms = since_ms.saturating_add(within_ms);
    match on.last() {
        Some(last) if due_ms > times.at_ms => format!("有消息 it was heard: {}", last.words),
        _ => unheard(coverage, agent, since_ms, due_ms)
            .unwrap_or_else(|| "其间有消息 it was heard meanwhile".to_owned()),
    }
}

/// Why a number is no surge.
fn not_surging(on: &[&Seen], times: usize, within_ms: i64) -> String {
    let (Some(first), Some(last)) = (on.first(), on.last()) else {
        return format!("0/{times}");
    };
    let present_ms = last.at_ms.saturating_sub(within_ms);
    let now = on.iter().filter(|seen| seen.at_ms > present_ms).count();
    let known_ms = present_ms.saturating_sub(first.at_ms).max(0);
    if now < times {
        format!("{now}/{times}")
    } else if (known_ms as f64) < SURGE_WINDOWS_MIN * within_ms as f64 {
        "历史不足 too little history to tell what is usual".to_owned()
    } else {
        format!("{now} 条，未明显多于往常 not so many more than usual")
    }
}

/// Why nothing follows from not having heard of something in a time; `None`: all of it was heard.
fn unheard(coverage: &Coverage, agent: &str, from_ms: i64, to_ms: i64) -> Option<String> {
    if let Some(gap) = coverage.gap_in(agent, from_ms, to_ms) {
        let until = clock::rfc3339(gap.to_ms);
        return Some(if gap.from_ms <= 0 {
            format!("网关 {agent} 当时尚未运行 the agent did not hear before {until}")
        } else {
            let from = clock::rfc3339(gap.from_ms);
            format!("网关 {agent} 当时停机 the agent did not hear from {from} to {until}")
        });
    }
    let told_ms = coverage.watermark_ms(agent);
    if told_ms == 0 {
        return Some(format!(
            "网关 {agent} 尚无数据 nothing has been heard of the agent yet"
        ));
    }
    (told_ms < to_ms).then(|| {
        let (told, wanted) = (clock::rfc3339(told_ms), clock::rfc3339(to_ms));
        format!(
            "网关 {agent} 的数据未到齐 the agent has told all up to {told}, and {wanted} is wanted"
        )
    })
}
