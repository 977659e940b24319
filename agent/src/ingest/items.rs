//! Items that mappings read, on their way into a batch.
use linli_shared::protocol::event::{ClockQuality, DEVICE_OFFLINE};
use std::borrow::Cow;

use super::IngestBatch;
use super::batch::StateNews;
use super::live_tap::event as watched_event;
use super::source_status::SourceStatus;
use crate::intake::SUBMIT_EVENTS_MAX;
use linli_devices::mapping::capture::Capture;
use linli_devices::mapping::{self, Mapped, Mapping, MessageError};
use linli_devices::time::Claim;

/// Rejected items of one message whose reasons are kept.
const REASONS_MAX: usize = 20;

/// Outcome of the items that mappings read from a message.
#[derive(Debug, Default)]
pub struct Items {
    /// Events, new or repeated under their id.
    pub events: usize,
    /// Those among them whose device time was not trusted or could not be read.
    pub implausible_times: usize,
    /// States that were known.
    pub known: usize,
    /// Items that the mapping leaves out.
    pub left_out: usize,
    /// The rule that left out the first of them.
    pub rule: Option<mapping::Rule>,
    /// Items that the mapping rejects.
    pub rejected: usize,
    /// The first reasons, each with the number of its item if it concerns one.
    pub reasons: Vec<(Option<usize>, String)>,
    /// Item count of the mapping that read the most.
    pub most: usize,
}

impl Items {
    /// Counts a rejected item and keeps the reason.
    pub fn reject(&mut self, index: Option<usize>, reason: String) {
        self.rejected += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push((index, reason));
        }
    }

    /// The reason of the first rejection.
    fn reason(&self) -> Option<String> {
        let (index, reason) = self.reasons.first()?;
        Some(match index {
            Some(index) if self.most > 1 => format!("item {index}: {reason}"),
            _ => reason.clone(),
        })
    }
}

impl IngestBatch {
    /// Adds an item of a mapping; returns the quality of its time.
    fn item(
        &mut self,
        mapping: &Mapping,
        item: &Capture<'_>,
    ) -> Result<ClockQuality, mapping::Reject> {
        self.mapped_item(mapping.map(item)?)
    }

    /// Adds a mapped event.
    fn mapped_item(&mut self, mapped: Mapped<'_>) -> Result<ClockQuality, mapping::Reject> {
        let Mapped {
            mut draft,
            claim,
            replayed,
            end_id,
            lane,
            retention,
            persons,
            state,
            anew,
        } = mapped;
        self.begin_event();
        let ingest = self.ingest.clone();
        let inner = &ingest.0;
        if let Some(id) = &end_id {
            draft.source_id = id;
        }
        let pseudonyms: Vec<(&str, String)> = persons
            .iter()
            .filter_map(|(person, value)| {
                let pseudonym = inner.shared.pseudonyms.of(*person, value)?;
                Some((person.attribute(), pseudonym))
            })
            .collect();
        if !pseudonyms.is_empty() || matches!(claim, Claim::Unreadable(_)) {
            draft.attributes.extend(
                pseudonyms
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
            if let Claim::Unreadable(text) = &claim {
                draft.attributes.push(("device_time", text));
            }
            draft.attributes.sort_by_key(|(name, _)| *name);
            draft.attributes.dedup_by_key(|(name, _)| *name);
        }
        if draft.place.building.is_empty()
            && let Some(place) = inner.place(draft.device)
        {
            draft.place.building = &place.building;
            draft.place.unit = &place.unit;
        }
        draft.delivery = self.delivery(replayed);
        let is_offline = draft.kind == DEVICE_OFFLINE;
        // A replayed message is no sign of life, unless the source watches for silence.
        let is_alive = inner.settings.silent_after.is_some() || draft.delivery.is_live();
        let moment = self.receive(
            draft.device,
            is_alive && !is_offline,
            is_offline,
            &claim,
            draft.delivery,
        );
        self.count_time(&moment, draft.delivery);
        draft.occurred_at_ms = moment.occurred_at_ms;
        draft.received_at_ms = self.received_ms();
        draft.monotonic_ms = self.arrival.monotonic_ms();
        draft.clock = moment.clock;
        draft.device_time_ms = moment.device_time_ms;
        let news = match &state {
            None => StateNews::Late,
            Some(state) => {
                // Times order the messages of a state only if the source writes them.
                let at_ms = match claim {
                    Claim::Ms(claim_ms) => Some(claim_ms),
                    Claim::None | Claim::Unreadable(_) => None,
                };
                let news = self.news(draft.device, state, at_ms)?;
                if matches!(news, StateNews::Known) && !anew {
                    return Err(mapping::Reject::Repeated);
                }
                news
            }
        };
        // An item that creates no event creates none here either.
        if self.submission.len() >= SUBMIT_EVENTS_MAX {
            return Err(mapping::Reject::Event(format!(
                "more than {SUBMIT_EVENTS_MAX} events in one message"
            )));
        }
        if inner.tap.is_watched() {
            self.watched(watched_event(&draft));
        }
        let way = (lane, retention);
        self.push(way, draft)
            .map_err(|error| mapping::Reject::Event(error.to_string()))?;
        if let StateNews::Changed(staged) = news {
            self.fly(staged, Some(way));
        }
        Ok(moment.clock)
    }

    /// Adds a message that these mappings read: each takes the items it knows, independently of the others. A message
    /// that all of them leave out is of no interest.
    pub fn mapped(&mut self, raw: &[u8], text: &str, mappings: &[&Mapping]) {
        self.begin(raw);
        let mut all = Items::default();
        for mapping in mappings {
            if let Err(error) = self.items(mapping, text, &mut all) {
                // The message cannot be fetched again: the other mappings' items, and those read up to here, are
                // kept.
                all.reject(None, error.to_string());
            }
        }
        all.left_out = usize::from(all.events == 0 && all.known == 0 && all.rejected == 0);
        all.rejected = all.rejected.min(1);
        self.came_to(raw, &all);
    }

    /// Adds the items of the current message, as a mapping reads them. After an error the items before it are in the
    /// batch: a caller who can get the message again does not store it.
    pub fn items(
        &mut self,
        mapping: &Mapping,
        text: &str,
        all: &mut Items,
    ) -> Result<(), MessageError> {
        if !mapping.has_id() {
            self.hash(text.as_bytes());
        }
        let mut index = 0;
        let read = mapping.items(text, &mut |item| {
            match self.item(mapping, item) {
                Ok(clock) => {
                    all.events += 1;
                    all.implausible_times += usize::from(matches!(
                        clock,
                        ClockQuality::Implausible | ClockQuality::Receipt | ClockQuality::Unknown
                    ));
                }
                Err(mapping::Reject::Repeated) => all.known += 1,
                Err(mapping::Reject::Filtered(rule)) => {
                    all.left_out += 1;
                    all.rule.get_or_insert(rule);
                }
                Err(reject) => all.reject(Some(index), reject.to_string()),
            }
            index += 1;
        });
        all.most = all.most.max(index);
        read
    }

    /// Counts the outcome of the current message's items, and shows why some were rejected.
    pub fn came_to(&mut self, raw: &[u8], all: &Items) {
        self.tally.repeated += all.known as u64;
        self.tally.left_out += all.left_out as u64;
        self.tally.rejected += all.rejected as u64;
        let reason = all.reason();
        if let Some(reason) = &reason {
            SourceStatus::sample(&mut self.tally.samples, reason, raw);
        }
        if let Some(seen) = self.seen.last_mut() {
            seen.outcome = Cow::Borrowed(match all {
                _ if reason.is_some() => "rejected",
                Items { events: 1.., .. } => "event",
                Items { known: 1.., .. } => "repeated",
                _ => "left_out",
            });
            let rule = all.rule.filter(|_| seen.outcome == "left_out");
            seen.reason = reason.or_else(|| Some(mapping::Reject::Filtered(rule?).to_string()));
        }
    }
}
