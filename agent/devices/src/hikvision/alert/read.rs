//! Builds alerts from the elements of XML, or the members of JSON. Both have the same names, so one reader serves
//! both.
use std::borrow::Cow;

use super::super::door::DoorEvent;
use super::{Alert, REGIONS_MAX, Region, Stage};
use crate::device_event::Reject;
use crate::lenient_json::parse::{self, Damage, Scalar, Sink};
use crate::text;
use crate::xml::{self, Attributes, Elements};

/// Largest number of alerts of one message.
const ALERTS_MAX: usize = 1024;
/// Element of a door's event within an alert.
const DOOR: &str = "AccessControllerEvent";
/// Element of an alert.
const ALERT: &str = "EventNotificationAlert";

/// The elements around a value.
#[derive(Clone, Copy, Default)]
struct Around<'n> {
    levels: usize,
    /// The innermost element; empty if there is none.
    parent: &'n str,
    is_in_door: bool,
    is_in_region: bool,
}

impl<'n> Around<'n> {
    /// Built from the names of all levels, the root first.
    fn of(names: impl Iterator<Item = &'n str>) -> Self {
        let mut around = Self::default();
        for name in names {
            around.levels += 1;
            around.parent = name;
            around.is_in_door |= name == DOOR;
            around.is_in_region |= matches!(name, "DetectionRegionList" | "DetectionRegionEntry");
        }
        around
    }
}

/// An alert that is being read.
#[derive(Default)]
struct Draft<'a> {
    alert: Alert<'a>,
    state: Cow<'a, str>,
    dynamic: Cow<'a, str>,
    relations: Vec<Cow<'a, str>>,
    region: Region<'a>,
    /// The target of the whole alert, outside of a region.
    whole: Region<'a>,
    door: Option<DoorEvent<'a>>,
    /// A value was read.
    is_begun: bool,
}

/// The alerts of a message.
#[derive(Default)]
pub struct Alerts<'a> {
    draft: Draft<'a>,
    /// The first root.
    root: &'a str,
    is_broken: bool,
    read: Vec<Result<Alert<'a>, Reject>>,
}

impl<'a> Alerts<'a> {
    pub fn of_xml(text: &'a str) -> Result<Self, Reject> {
        let mut alerts = Self::default();
        alerts.is_broken = xml::read(text, &mut alerts)?;
        Ok(alerts)
    }

    pub fn of_json(text: &'a str) -> Self {
        let mut alerts = Self::default();
        let mut from = 0;
        loop {
            let mut walk = Walk {
                alerts: &mut alerts,
                levels: Vec::new(),
            };
            let Some(document) = parse::document(text, from, &mut walk) else {
                break;
            };
            alerts.next();
            from = document.end;
        }
        alerts
    }

    /// Returns all alerts.
    pub fn finish(mut self) -> Vec<Result<Alert<'a>, Reject>> {
        self.next();
        self.read
    }

    /// Ends an alert.
    fn next(&mut self) {
        let mut draft = std::mem::take(&mut self.draft);
        if !draft.is_begun || self.read.len() > ALERTS_MAX {
            return;
        }
        if self.read.len() == ALERTS_MAX {
            let reject = Reject::new(format!("more than {ALERTS_MAX} alerts in one message"));
            self.read.push(Err(reject));
            return;
        }
        draft.finish_regions();
        let is_duration = |name: &str| name.is_empty() || name.eq_ignore_ascii_case("duration");
        let relations = match is_duration(&draft.alert.event_type) {
            true => std::mem::take(&mut draft.relations),
            false => Vec::new(),
        };
        let read = self.checked(draft, relations.first());
        // A lasting event is reported as a duration of the events that it relates to.
        for relation in relations.into_iter().skip(1) {
            if let Ok(first) = &read {
                self.read.push(Ok(Alert {
                    event_type: relation,
                    ..first.clone()
                }));
            }
        }
        self.read.push(read);
    }

    fn checked(
        &self,
        draft: Draft<'a>,
        relation: Option<&Cow<'a, str>>,
    ) -> Result<Alert<'a>, Reject> {
        let mut alert = draft.alert;
        if draft.state.eq_ignore_ascii_case("inactive") {
            alert.stage = Stage::Inactive;
        }
        if alert.channel.is_empty() {
            alert.channel = draft.dynamic;
        }
        if let Some(relation) = relation {
            alert.event_type = relation.clone();
        }
        alert.door = draft.door;
        if alert.event_type.is_empty() && alert.door.as_ref().is_some_and(DoorEvent::has_code) {
            alert.event_type = Cow::Borrowed(DOOR);
        }
        if !alert.event_type.is_empty() {
            return Ok(alert);
        }
        Err(if self.is_broken {
            Reject::new("XML ends before its root does, and has no eventType")
        } else if self.root.is_empty() || self.root == ALERT {
            Reject::new("has no eventType")
        } else {
            let root: String = self.root.chars().take(40).collect();
            Reject::new(format!(
                "the root is {root:?} and not EventNotificationAlert"
            ))
        })
    }

    /// Takes a value, by its name and the elements around it.
    fn value(&mut self, name: &str, around: Around<'_>, value: Cow<'a, str>) {
        let Around { parent, .. } = around;
        let draft = &mut self.draft;
        if parent == DOOR {
            draft.is_begun = true;
            return draft.door.get_or_insert_default().set(name, value);
        }
        if around.is_in_door {
            return;
        }
        // A root of any name, or none if it was damaged; lists of alerts have one level more.
        let is_top = around.levels <= 1 || parent == ALERT || is_list(parent);
        let region = match around.is_in_region {
            true => &mut draft.region,
            false => &mut draft.whole,
        };
        let place = match name {
            "eventType" if is_top => &mut draft.alert.event_type,
            "eventState" if is_top => &mut draft.state,
            "channelID" if is_top => &mut draft.alert.channel,
            "dynChannelID" if is_top => &mut draft.dynamic,
            "inputIOPortID" | "dynInputIOPortID" if is_top => &mut draft.alert.input,
            "dateTime" if is_top => &mut draft.alert.time,
            "eventDescription" if is_top => &mut draft.alert.description,
            "relationEvent" => {
                let relations = &mut draft.relations;
                if !value.is_empty() && relations.len() < REGIONS_MAX && !relations.contains(&value)
                {
                    relations.push(value);
                }
                return;
            }
            "regionID" | "sid" => &mut region.id,
            "detectionTarget" | "targetType" => &mut region.target,
            _ => {
                draft.is_begun |= is_top;
                return;
            }
        };
        draft.is_begun = true;
        // The last non-empty value of a repeated name counts.
        if !value.is_empty() {
            *place = value;
        }
    }

    /// Begins a list, an object or an element with children.
    fn begin(&mut self, name: &str, around: Around<'_>) {
        match name {
            // The next alert, although the previous one has no end.
            ALERT => self.next(),
            "DetectionRegionList" | "DetectionRegionEntry" => self.draft.next_region(),
            DOOR if !around.is_in_door => {
                self.draft.is_begun = true;
                self.draft.door.get_or_insert_default();
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, is_last: bool) {
        match name {
            ALERT => self.next(),
            "DetectionRegionList" | "DetectionRegionEntry" => self.draft.next_region(),
            _ if is_last || is_list(name) => self.next(),
            _ => {}
        }
    }
}

impl Draft<'_> {
    /// The target of the whole alert applies to its regions, or becomes one.
    fn finish_regions(&mut self) {
        self.next_region();
        let whole = std::mem::take(&mut self.whole);
        if self.alert.regions.is_empty() && whole != Region::default() {
            self.alert.regions.push(whole);
            return;
        }
        for region in &mut self.alert.regions {
            if region.target.is_empty() {
                region.target = whole.target.clone();
            }
        }
    }

    /// Ends a region.
    fn next_region(&mut self) {
        let region = std::mem::take(&mut self.region);
        let regions = &mut self.alert.regions;
        if region != Region::default() && regions.len() < REGIONS_MAX && !regions.contains(&region)
        {
            regions.push(region);
        }
    }
}

/// Whether it is a list of alerts, built by a platform in between.
fn is_list(name: &str) -> bool {
    const NAMES: [&str; 6] = ["alerts", "alertlist", "events", "eventlist", "data", "list"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether the name belongs within an alert: if it stands alone, its root was damaged.
fn is_field(name: &str) -> bool {
    name == DOOR || name.ends_with("List") || name.starts_with(|letter: char| letter.is_lowercase())
}

impl<'a> Elements<'a> for Alerts<'a> {
    fn open(&mut self, name: &'a str, parents: &[&'a str], _: Attributes<'a>, _: usize) {
        if parents.is_empty() && self.root.is_empty() {
            self.root = name;
        }
        self.begin(name, Around::of(parents.iter().copied()));
    }

    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: Cow<'a, str>) {
        if parents.is_empty() && !is_field(name) {
            // An empty root.
            self.draft.is_begun = true;
        }
        self.value(name, Around::of(parents.iter().copied()), value);
    }

    fn close(&mut self, name: &'a str, parents: &[&'a str], _: usize) {
        self.end(name, parents.is_empty() && !is_field(name));
    }
}

/// Reads members of JSON as elements: the items of a list appear under the list's name.
struct Walk<'w, 'a> {
    alerts: &'w mut Alerts<'a>,
    /// The name of each level, and whether it is a list.
    levels: Vec<(String, bool)>,
}

impl<'a> Sink<'a> for Walk<'_, 'a> {
    fn open(&mut self, key: Option<&str>, is_list: bool) {
        let name = key.map(str::to_owned).unwrap_or_else(|| {
            let list = self.levels.last().filter(|(_, is_list)| *is_list);
            list.map(|(name, _)| name.clone()).unwrap_or_default()
        });
        if !is_list {
            self.alerts.begin(&name, Around::of(objects(&self.levels)));
        }
        self.levels.push((name, is_list));
    }

    fn close(&mut self) {
        let Some((name, is_list)) = self.levels.pop() else {
            return;
        };
        if !is_list {
            // An object without a name is a document, or an item of a list that is one.
            let is_last = name.is_empty() && objects(&self.levels).next().is_none();
            self.alerts.end(&name, is_last);
        }
    }

    fn value(&mut self, key: Option<&str>, value: Scalar<'a>) {
        let Some(key) = key else { return };
        let text = value.text().map(text::trimmed).unwrap_or_default();
        let around = Around::of(objects(&self.levels));
        self.alerts.value(key, around, text);
    }

    fn damage(&mut self, _: Damage) {}
}

/// The names of the levels that are objects.
fn objects(levels: &[(String, bool)]) -> impl Iterator<Item = &str> {
    let objects = levels.iter().filter(|(_, is_list)| !is_list);
    objects.map(|(name, _)| name.as_str())
}
