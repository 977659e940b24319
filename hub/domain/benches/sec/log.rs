//! The log that both read, and the true findings in it.
use linli_shared::protocol::event::{Event, Place};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Number of keys. Each has an event every 50 s; one in ten is bad.
pub const KEYS: usize = 1_000;
const START_S: i64 = 1_800_000_000;
const EVENTS_PER_S: usize = 20;
/// The windows of the rules, seconds.
const LONG_S: i64 = 600;
const SHORT_S: i64 = 300;

/// The cycle of events of a good key: no rule matches.
const GOOD: [&str; 16] = [
    "door.opened",
    "door.closed",
    "door.denied",
    "door.opened",
    "door.closed",
    "fire.alarm",
    "door.opened",
    "door.closed",
    "door.opened",
    "door.closed",
    "door.opened",
    "door.closed",
    "door.opened",
    "door.closed",
    "door.opened",
    "door.closed",
];
/// The cycle of events of a bad key: one finding of each rule.
const BAD: [&str; 16] = [
    "door.opened",
    "door.closed",
    "door.denied",
    "door.denied",
    "door.denied",
    "fire.alarm",
    "door.opened",
    "door.closed",
    "door.forced",
    "door.opened",
    "door.held",
    "door.held",
    "door.held",
    "door.held",
    "door.held",
    "door.held",
];

/// One rule, or all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Three refusals within 10 minutes.
    Threshold,
    /// A fire, followed by a forced door within 10 minutes.
    Pair,
    /// A door opened and not closed within 5 minutes.
    Absence,
    /// All three.
    All,
}

impl Subject {
    /// All subjects, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Threshold, Self::Pair, Self::Absence, Self::All];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Pair => "pair",
            Self::Absence => "absence",
            Self::All => "all three",
        }
    }

    /// The subject with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// True if it equals or includes the other.
    pub fn includes(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

fn event(number: usize) -> (i64, &'static str, usize) {
    let key = number % KEYS;
    let kinds = if key.is_multiple_of(10) { BAD } else { GOOD };
    let at_s = START_S + (number / EVENTS_PER_S) as i64;
    // The keys are at different positions of their cycles.
    (at_s, kinds[(number / KEYS + key / 10) % kinds.len()], key)
}

/// One line of the log.
pub fn line(at_s: i64, kind: &str, key: usize) -> String {
    format!("{at_s} {kind} site=yuyuan key=B{key:04}\n")
}

/// Writes the first `events` of `all` events.
pub fn write(path: &Path, all: usize, events: usize) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for number in 0..events.min(all) {
        let (at_s, kind, key) = event(number);
        out.write_all(line(at_s, kind, key).as_bytes())?;
    }
    out.flush()
}

/// Parses a line: the site and the event.
pub fn read(line: &str) -> Option<(&str, Event)> {
    let mut words = line.split_ascii_whitespace();
    let at_s: i64 = words.next()?.parse().ok()?;
    let kind = words.next()?;
    let site = words.next()?.strip_prefix("site=")?;
    let key = words.next()?.strip_prefix("key=")?;
    let event = Event {
        kind: kind.to_owned(),
        occurred_at_ms: at_s * 1000,
        place: Place {
            building: key.to_owned(),
            ..Place::default()
        },
        ..Event::default()
    };
    Some((site, event))
}

/// The number of findings of each rule in the first `events`, by plain counting, because they are in order.
pub fn truth(events: usize, subject: Subject) -> usize {
    #[derive(Clone, Default)]
    struct Key {
        denied_s: [i64; 2],
        fire_s: i64,
        opened_s: Vec<i64>,
    }
    let mut keys = vec![Key::default(); KEYS];
    let (mut threshold, mut pair, mut absence) = (0, 0, 0);
    let mut last_s = START_S;
    for number in 0..events {
        let (at_s, kind, key) = event(number);
        last_s = at_s;
        let key = &mut keys[key];
        match kind {
            "door.denied" => {
                threshold += usize::from(at_s - key.denied_s[0] <= LONG_S);
                key.denied_s = [key.denied_s[1], at_s];
            }
            "fire.alarm" => key.fire_s = at_s,
            "door.forced" => pair += usize::from(at_s - key.fire_s <= LONG_S),
            "door.opened" => key.opened_s.push(at_s),
            "door.closed" => {
                let open = key.opened_s.drain(..);
                absence += open.filter(|opened_s| at_s - opened_s > SHORT_S).count();
            }
            _ => {}
        }
    }
    let open = keys.iter().flat_map(|key| &key.opened_s);
    absence += open
        .filter(|opened_s| last_s - **opened_s >= SHORT_S)
        .count();
    let of_each = [
        (Subject::Threshold, threshold),
        (Subject::Pair, pair),
        (Subject::Absence, absence),
    ];
    let wanted = of_each.iter().filter(|(of, _)| subject.includes(*of));
    wanted.map(|(_, count)| count).sum()
}
