//! Organisations and the places that they are responsible for. Pure.
//!
//! * **Organisations** form a tree under the one district centre: a town and sub-district offices, police
//!   stations and departments under the centre; mediation rooms, volunteer teams and grids under an office, a
//!   town or the centre.
//! * **Places** form a tree too, from the district down to a unit. Each names the responsible office, station
//!   and grid, or inherits them from the place above.
//! * Both are written in one file (`file`), loaded and changed by `linli-hub org` and the API, and kept in
//!   the store. Nothing is ever deleted, because cases refer to it: an entry removed from the file is
//!   retired. Each change is recorded with the previous value.
//! * **Jurisdiction**: the centre covers everything; an office, a town, a station and a grid cover the places
//!   that name them; departments, rooms and teams cover no place, only the cases assigned to them.
pub mod file;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of organisations and places together.
pub const ENTRIES_MAX: usize = 100_000;
/// Id of the centre of every hub, also without a directory.
pub const CENTRE: &str = "centre";
/// Maximum depth of the trees.
const DEPTH_MAX: usize = 16;

/// Kind of an organisation.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OrgKind {
    /// 区综治中心: the district centre; there is exactly one.
    Centre,
    /// 镇: town.
    Town,
    /// 街道办事处: sub-district office.
    Office,
    /// 派出所: police station.
    Station,
    /// 部门: department.
    Department,
    /// 调解室: mediation room.
    Room,
    /// 志愿调解队: volunteer team.
    Volunteers,
    /// 网格: grid.
    Grid,
}

impl OrgKind {
    /// The word in files, the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Centre => "centre",
            Self::Town => "town",
            Self::Office => "office",
            Self::Station => "station",
            Self::Department => "department",
            Self::Room => "room",
            Self::Volunteers => "volunteers",
            Self::Grid => "grid",
        }
    }

    /// The permitted kinds of its parent.
    fn parents(self) -> &'static [Self] {
        match self {
            Self::Centre => &[],
            Self::Town | Self::Office | Self::Station | Self::Department => &[Self::Centre],
            Self::Room | Self::Volunteers => &[Self::Centre, Self::Town, Self::Office],
            Self::Grid => &[Self::Town, Self::Office],
        }
    }
}

/// Kind of a place, from the top down.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// 区: district.
    District,
    /// 镇、街道辖区: area of a town or sub-district.
    Area,
    /// 社区、村: community or village.
    Community,
    /// 小区: compound, or another place with a gateway.
    Compound,
    /// 楼栋: building.
    Building,
    /// 单元: unit.
    Unit,
}

impl PlaceKind {
    /// The word in files, the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::District => "district",
            Self::Area => "area",
            Self::Community => "community",
            Self::Compound => "compound",
            Self::Building => "building",
            Self::Unit => "unit",
        }
    }
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Org {
    /// Permanent id: lower-case letters, digits and hyphens.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Kind.
    pub kind: OrgKind,
    /// Id of the organisation above; empty for the centre.
    #[serde(default)]
    pub parent: String,
    /// Name of its working calendar; empty: that of the organisation above.
    #[serde(default)]
    pub calendar: String,
    /// For a station: the agent that delivers its incidents and receives the answers.
    #[serde(default)]
    pub agent: String,
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Permanent id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Kind.
    pub kind: PlaceKind,
    /// Id of the place above; empty for the district.
    #[serde(default)]
    pub parent: String,
    /// The responsible town or office; empty: as above.
    #[serde(default)]
    pub office: String,
    /// The responsible police station; empty: as above.
    #[serde(default)]
    pub station: String,
    /// The responsible grid; empty: as above.
    #[serde(default)]
    pub grid: String,
    /// For a compound: the site whose agents report from it; for a building or unit: its name in events.
    #[serde(default)]
    pub site: String,
}

/// All organisations and places that are not retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// Organisations by id.
    pub orgs: BTreeMap<String, Org>,
    /// Places by id.
    pub places: BTreeMap<String, Place>,
}

/// The organisations responsible for a place; empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answering<'a> {
    /// Id of the town or office.
    pub office: &'a str,
    /// Id of the police station.
    pub station: &'a str,
    /// Id of the grid.
    pub grid: &'a str,
}

/// What an organisation below the centre may watch: the sites of its places, and a station its own agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Names of sites.
    pub sites: BTreeSet<String>,
    /// Id of the agent; empty: none.
    pub agent: String,
}

impl Watched {
    /// True if the organisation may watch something of this site and agent.
    pub fn has(&self, site: &str, agent: &str) -> bool {
        self.sites.contains(site) || (!self.agent.is_empty() && self.agent == agent)
    }
}

impl Directory {
    /// True if the organisation covers everything: the centre, or no organisation.
    pub fn has_all(&self, org: &str) -> bool {
        org.is_empty() || self.centre().is_some_and(|centre| centre.id == org)
    }

    /// What an organisation may watch; `None`: everything.
    pub fn watched(&self, org: &str) -> Option<Watched> {
        if self.has_all(org) {
            return None;
        }
        let compounds = self.places.values().filter(|place| {
            let is_compound = place.kind == PlaceKind::Compound && !place.site.is_empty();
            is_compound && self.covers(org, &place.id)
        });
        Some(Watched {
            sites: compounds.map(|place| place.site.clone()).collect(),
            agent: self
                .orgs
                .get(org)
                .map(|org| org.agent.clone())
                .unwrap_or_default(),
        })
    }

    /// The district centre.
    pub fn centre(&self) -> Option<&Org> {
        self.orgs.values().find(|org| org.kind == OrgKind::Centre)
    }

    /// The place and all places above it, up to the district.
    pub fn chain<'a>(&'a self, place: &str) -> impl Iterator<Item = &'a Place> {
        let first = self.places.get(place);
        std::iter::successors(first, |place| self.places.get(&place.parent)).take(DEPTH_MAX)
    }

    /// The organisations responsible for a place.
    pub fn answering(&self, place: &str) -> Answering<'_> {
        let mut answering = Answering::default();
        for place in self.chain(place) {
            for (found, own) in [
                (&mut answering.office, place.office.as_str()),
                (&mut answering.station, place.station.as_str()),
                (&mut answering.grid, place.grid.as_str()),
            ] {
                if found.is_empty() {
                    *found = own;
                }
            }
        }
        answering
    }

    /// The compound of a site.
    pub fn of_site(&self, site: &str) -> Option<&Place> {
        self.places
            .values()
            .find(|place| place.kind == PlaceKind::Compound && place.site == site)
    }

    /// The smallest known place of an event's location.
    pub fn locate(&self, site: &str, building: &str, unit: &str) -> Option<&Place> {
        let mut found = self.of_site(site)?;
        for (kind, name) in [(PlaceKind::Building, building), (PlaceKind::Unit, unit)] {
            let below = self.places.values().find(|place| {
                place.kind == kind
                    && place.parent == found.id
                    && !name.is_empty()
                    && (place.site == name || place.name == name)
            });
            match below {
                Some(below) => found = below,
                None => break,
            }
        }
        Some(found)
    }

    /// The station with this agent.
    pub fn station_of(&self, agent: &str) -> Option<&Org> {
        self.orgs
            .values()
            .find(|org| !org.agent.is_empty() && org.agent == agent)
    }

    /// True if `org` is `above` or below it.
    pub fn is_within(&self, org: &str, above: &str) -> bool {
        std::iter::successors(self.orgs.get(org), |org| self.orgs.get(&org.parent))
            .take(DEPTH_MAX)
            .any(|org| org.id == above)
    }

    /// True if a place lies in the jurisdiction of an organisation.
    pub fn covers(&self, org: &str, place: &str) -> bool {
        let Some(org) = self.orgs.get(org) else {
            return false;
        };
        let answering = self.answering(place);
        match org.kind {
            OrgKind::Centre => true,
            OrgKind::Town | OrgKind::Office => answering.office == org.id,
            OrgKind::Station => answering.station == org.id,
            OrgKind::Grid => answering.grid == org.id,
            OrgKind::Department | OrgKind::Room | OrgKind::Volunteers => false,
        }
    }

    /// Name of the working calendar of an organisation; empty: none.
    pub fn calendar(&self, org: &str) -> &str {
        std::iter::successors(self.orgs.get(org), |org| self.orgs.get(&org.parent))
            .take(DEPTH_MAX)
            .map(|org| org.calendar.as_str())
            .find(|calendar| !calendar.is_empty())
            .unwrap_or_default()
    }

    /// Checks the directory. Errors: the entry and the problem.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.orgs.len() + self.places.len() > ENTRIES_MAX {
            let message = format!("more than {ENTRIES_MAX} organisations and places");
            return Err(("org".to_owned(), message));
        }
        let centres = self.orgs.values().filter(|org| org.kind == OrgKind::Centre);
        if centres.count() != 1 {
            let message = "there must be one of kind = \"centre\"".to_owned();
            return Err(("org".to_owned(), message));
        }
        let mut agents: BTreeMap<&str, &str> = BTreeMap::new();
        for org in self.orgs.values() {
            self.check_org(org)
                .map_err(|message| (format!("org {:?}", org.id), message))?;
            if !org.agent.is_empty()
                && let Some(other) = agents.insert(&org.agent, &org.id)
            {
                let message = format!("agent {:?} is that of {other:?} already", org.agent);
                return Err((format!("org {:?}", org.id), message));
            }
        }
        let mut sites: BTreeMap<&str, &str> = BTreeMap::new();
        for place in self.places.values() {
            let entry = || format!("place {:?}", place.id);
            self.check_place(place)
                .map_err(|message| (entry(), message))?;
            if place.kind == PlaceKind::Compound
                && !place.site.is_empty()
                && let Some(other) = sites.insert(&place.site, &place.id)
            {
                let message = format!("site {:?} is that of {other:?} already", place.site);
                return Err((entry(), message));
            }
        }
        Ok(())
    }

    fn check_org(&self, org: &Org) -> Result<(), String> {
        check_words(&org.id, &org.name)?;
        let parents = org.kind.parents();
        let parent = self.orgs.get(&org.parent);
        if parents.is_empty() {
            if !org.parent.is_empty() {
                return Err("the centre has no parent: remove it".to_owned());
            }
            if org.id != CENTRE {
                return Err(format!(
                    "the id of the centre is {CENTRE:?}: cases are with it from before there is a directory"
                ));
            }
        } else if !parent.is_some_and(|parent| parents.contains(&parent.kind)) {
            let kinds: Vec<&str> = parents.iter().map(|kind| kind.as_str()).collect();
            return Err(format!(
                "parent {:?} must be the id of an org of kind {}",
                org.parent,
                kinds.join(", ")
            ));
        }
        if !org.agent.is_empty() && org.kind != OrgKind::Station {
            return Err("agent is of stations only: remove it".to_owned());
        }
        Ok(())
    }

    fn check_place(&self, place: &Place) -> Result<(), String> {
        check_words(&place.id, &place.name)?;
        if place.kind == PlaceKind::District {
            if !place.parent.is_empty() {
                return Err("the district has no parent: remove it".to_owned());
            }
        } else {
            let parent = self.places.get(&place.parent);
            // The parent's kind is always larger, so there can be no cycle.
            if parent.is_none_or(|parent| parent.kind >= place.kind) {
                return Err(format!(
                    "parent {:?} must be the id of a place of a larger kind than {}",
                    place.parent,
                    place.kind.as_str()
                ));
            }
        }
        for (key, id, kinds) in [
            (
                "office",
                &place.office,
                &[OrgKind::Town, OrgKind::Office][..],
            ),
            ("station", &place.station, &[OrgKind::Station]),
            ("grid", &place.grid, &[OrgKind::Grid]),
        ] {
            let known = self
                .orgs
                .get(id)
                .is_some_and(|org| kinds.contains(&org.kind));
            if !id.is_empty() && !known {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                return Err(format!(
                    "{key} {id:?} must be the id of an org of kind {}",
                    kinds.join(", ")
                ));
            }
        }
        let answering = self.answering(&place.id);
        if place.kind >= PlaceKind::Compound
            && (answering.office.is_empty() || answering.station.is_empty())
        {
            return Err("needs an office and a station, its own or of a place above".to_owned());
        }
        if !place.site.is_empty() && place.kind < PlaceKind::Compound {
            return Err("site is of a compound, a building or a unit: remove it".to_owned());
        }
        Ok(())
    }
}

fn check_words(id: &str, name: &str) -> Result<(), String> {
    let letters = id
        .chars()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    if id.is_empty() || id.len() > 40 || !letters {
        return Err(
            "id must be 1 to 40 lower-case letters, digits and hyphens, like \"office-1\""
                .to_owned(),
        );
    }
    let chars = name.trim().chars().count();
    if chars == 0 || chars > 100 {
        return Err("name needs 1 to 100 characters".to_owned());
    }
    Ok(())
}

/// A changed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An organisation changed.
    Org {
        /// Before; `None`: added.
        before: Option<Org>,
        /// After; `None`: retired.
        after: Option<Org>,
    },
    /// A place changed.
    Place {
        /// Before; `None`: added.
        before: Option<Place>,
        /// After; `None`: retired.
        after: Option<Place>,
    },
}

impl Change {
    /// Id of the entry.
    pub fn id(&self) -> &str {
        match self {
            Self::Org { before, after } => {
                after.as_ref().or(before.as_ref()).map_or("", |org| &org.id)
            }
            Self::Place { before, after } => after
                .as_ref()
                .or(before.as_ref())
                .map_or("", |place| &place.id),
        }
    }

    /// The action: added, changed or retired.
    pub fn action(&self) -> &'static str {
        let (before, after) = match self {
            Self::Org { before, after } => (before.is_some(), after.is_some()),
            Self::Place { before, after } => (before.is_some(), after.is_some()),
        };
        match (before, after) {
            (false, _) => "added",
            (true, true) => "changed",
            (true, false) => "retired",
        }
    }
}

/// The changes from one directory to another.
pub fn changes(before: &Directory, after: &Directory) -> Vec<Change> {
    let mut changes = Vec::new();
    for (before, after) in both(&before.orgs, &after.orgs) {
        changes.push(Change::Org { before, after });
    }
    for (before, after) in both(&before.places, &after.places) {
        changes.push(Change::Place { before, after });
    }
    changes
}

/// The entries that differ.
fn both<T: Clone + PartialEq>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Vec<(Option<T>, Option<T>)> {
    let gone = before.keys().filter(|id| !after.contains_key(*id));
    after
        .keys()
        .chain(gone)
        .map(|id| (before.get(id).cloned(), after.get(id).cloned()))
        .filter(|(before, after)| before != after)
        .collect()
}

#[cfg(test)]
mod tests;
