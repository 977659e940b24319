//! Organisations, and the places that they answer for: who is whose, and whose is what. Pure.
//!
//! * **Organisations** make a tree under the one district centre: a town and sub-district offices, police
//!   stations and departments under the centre; mediation rooms, volunteer teams and grids under an office, a
//!   town or the centre.
//! * **Places** make a tree too, from the district down to a unit. Each says which office, station and grid
//!   answer for it, or has that from the place above.
//! * Both are written in one file (`file`), loaded and changed by `linli-hub org` and the API, and kept in the
//!   store. Nothing is ever deleted, for cases name them: what is not in the file any more is retired. Each
//!   change is noted with what was before.
//! * **Jurisdiction**: the centre covers all; an office, a town, a station and a grid cover the places that name
//!   them; departments, rooms and teams cover no place, only the cases that are given to them.
pub mod file;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Organisations and places at most, together.
pub const ENTRIES_MAX: usize = 100_000;
/// The id of the centre of each hub, also where no directory is loaded.
pub const CENTRE: &str = "centre";
/// From a place to the district at most.
const DEPTH_MAX: usize = 16;

/// What an organisation is.
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
    /// 区综治中心: there is one.
    Centre,
    /// 镇
    Town,
    /// 街道办事处
    Office,
    /// 派出所
    Station,
    /// 部门
    Department,
    /// 调解室
    Room,
    /// 志愿调解队
    Volunteers,
    /// 网格
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

    /// The kinds under which it stands.
    fn parents(self) -> &'static [Self] {
        match self {
            Self::Centre => &[],
            Self::Town | Self::Office | Self::Station | Self::Department => &[Self::Centre],
            Self::Room | Self::Volunteers => &[Self::Centre, Self::Town, Self::Office],
            Self::Grid => &[Self::Town, Self::Office],
        }
    }
}

/// What a place is, from the top down.
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
    /// 区
    District,
    /// 镇、街道辖区
    Area,
    /// 社区、村
    Community,
    /// 小区, or another place with a gateway
    Compound,
    /// 楼栋
    Building,
    /// 单元
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
    /// Short name, for ever: lower-case letters, digits and hyphens.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: OrgKind,
    /// The organisation above; empty for the centre.
    #[serde(default)]
    pub parent: String,
    /// Its working calendar; empty: that of the organisation above.
    #[serde(default)]
    pub calendar: String,
    /// The agent at a station, where its incidents come from and answers go.
    #[serde(default)]
    pub agent: String,
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Short name, for ever.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: PlaceKind,
    /// The place above; empty for the district.
    #[serde(default)]
    pub parent: String,
    /// The town or office that answers for it; empty: as above.
    #[serde(default)]
    pub office: String,
    /// The police station; empty: as above.
    #[serde(default)]
    pub station: String,
    /// The grid; empty: as above.
    #[serde(default)]
    pub grid: String,
    /// Name of the site whose agents tell of it, for a compound; for a building or unit, how events name it.
    #[serde(default)]
    pub site: String,
}

/// All organisations and places that are not retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    pub orgs: BTreeMap<String, Org>,
    pub places: BTreeMap<String, Place>,
}

/// Who answers for a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answering<'a> {
    pub office: &'a str,
    pub station: &'a str,
    pub grid: &'a str,
}

/// What an organisation other than the centre watches: the sites that it answers for, and a station its own agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    pub sites: BTreeSet<String>,
    /// Empty: it has none.
    pub agent: String,
}

impl Watched {
    /// Something of this site and agent is its own.
    pub fn has(&self, site: &str, agent: &str) -> bool {
        self.sites.contains(site) || (!self.agent.is_empty() && self.agent == agent)
    }
}

impl Directory {
    /// Whoever is of this organisation has to do with all there is: it is the centre, or none is named.
    pub fn has_all(&self, org: &str) -> bool {
        org.is_empty() || self.centre().is_some_and(|centre| centre.id == org)
    }

    /// What an organisation watches; `None`: all, as the centre does.
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

    /// The place itself and those above it, up to the district.
    pub fn chain<'a>(&'a self, place: &str) -> impl Iterator<Item = &'a Place> {
        let first = self.places.get(place);
        std::iter::successors(first, |place| self.places.get(&place.parent)).take(DEPTH_MAX)
    }

    /// Who answers for a place.
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

    /// The smallest place known of where an event says that it happened.
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

    /// The station whose agent this is.
    pub fn station_of(&self, agent: &str) -> Option<&Org> {
        self.orgs
            .values()
            .find(|org| !org.agent.is_empty() && org.agent == agent)
    }

    /// An organisation is another, or stands under it.
    pub fn is_within(&self, org: &str, above: &str) -> bool {
        std::iter::successors(self.orgs.get(org), |org| self.orgs.get(&org.parent))
            .take(DEPTH_MAX)
            .any(|org| org.id == above)
    }

    /// A place is of an organisation's jurisdiction.
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

    /// The working calendar of an organisation.
    pub fn calendar(&self, org: &str) -> &str {
        std::iter::successors(self.orgs.get(org), |org| self.orgs.get(&org.parent))
            .take(DEPTH_MAX)
            .map(|org| org.calendar.as_str())
            .find(|calendar| !calendar.is_empty())
            .unwrap_or_default()
    }

    /// What is wrong with it: the entry, and what would be right.
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
            // Each step down is to a smaller kind, so there is no way round in a circle.
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

/// One entry that is other than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Org {
        before: Option<Org>,
        after: Option<Org>,
    },
    Place {
        before: Option<Place>,
        after: Option<Place>,
    },
}

impl Change {
    /// Its id.
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

    /// added, changed or retired.
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

/// What makes one directory of another.
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

/// Entries that are not the same in both.
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
