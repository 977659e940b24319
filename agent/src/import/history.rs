//! Classifies the rows of an import for the hub: history, or news.
//!
//! History is stored for rules that look back and for statistics; it raises no warning and opens no case. By default
//! it is every event more than [`HISTORY_AFTER_MS`] ago by the hub's clock.
use linli_shared::protocol::event::Delivery;
use serde::Serialize;
use std::collections::BTreeMap;

/// Older events are history, milliseconds: 7 days, as far as the hub's rules look at late events.
pub const HISTORY_AFTER_MS: i64 = 7 * 86_400_000;

/// The choice of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The age of each row decides.
    #[default]
    ByAge,
    /// All rows are history.
    All,
    /// No row is.
    None,
}

impl Mode {
    /// The delivery of a row with this time of occurrence, at this time of the hub's clock.
    pub fn delivery(self, occurred_ms: i64, hub_now_ms: i64) -> Delivery {
        let is_history = match self {
            Self::All => true,
            Self::None => false,
            Self::ByAge => occurred_ms < hub_now_ms.saturating_sub(HISTORY_AFTER_MS),
        };
        if is_history {
            Delivery::History
        } else {
            Delivery::Replayed
        }
    }
}

/// The effect of importing a file, determined before anything is stored.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Rows of the file.
    pub rows: u64,
    /// Events that are history.
    pub history: u64,
    /// Events that are news, by kind: they can raise warnings and open cases.
    pub news: BTreeMap<String, u64>,
    /// Rows that the mapping leaves out or rejects.
    pub no_events: u64,
}

impl Preview {
    /// Counts an event.
    pub fn add(&mut self, kind: &str, delivery: Delivery) {
        if delivery == Delivery::History {
            self.history += 1;
            return;
        }
        match self.news.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.news.insert(kind.to_owned(), 1);
            }
        }
    }

    /// The preview for people, Chinese first.
    pub fn text(&self) -> String {
        let news: u64 = self.news.values().sum();
        let kinds: Vec<String> = self
            .news
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let days = HISTORY_AFTER_MS / 86_400_000;
        let mut text = format!(
            "导入之前 before the import: {} 行 rows，{} 行不成为事件 become no events\n  历史 history: {} 条，只供回溯规则和统计，不产生预警、不立案 for rules that look back and statistics only, raises nothing\n",
            self.rows, self.no_events, self.history
        );
        if news > 0 {
            text.push_str(&format!(
                "  新事件 news: {news} 条，可能产生预警和案件 can raise warnings and open cases: {}\n  （早于 {days} 天的为历史；全部作为历史：--history / older than {days} days is history; for all of it: --history）\n",
                kinds.join(", ")
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_week_is_history_unless_the_command_says_otherwise() {
        let now_ms = 1_790_000_000_000;
        let (new, old) = (now_ms - HISTORY_AFTER_MS, now_ms - HISTORY_AFTER_MS - 1);
        let delivery = |mode: Mode, ms| mode.delivery(ms, now_ms);
        assert_eq!(delivery(Mode::ByAge, new), Delivery::Replayed);
        assert_eq!(delivery(Mode::ByAge, old), Delivery::History);
        assert_eq!(delivery(Mode::All, new), Delivery::History);
        assert_eq!(delivery(Mode::None, old), Delivery::Replayed);
        let mut preview = Preview::default();
        preview.add("fire.alarm", Delivery::Replayed);
        preview.add("fire.alarm", Delivery::History);
        preview.add("fire.alarm", Delivery::Replayed);
        assert_eq!((preview.history, preview.news["fire.alarm"]), (1, 2));
        assert!(preview.text().contains("fire.alarm 2"));
    }
}
