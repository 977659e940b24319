//! The centre as the hub's config describes it: sites and offices, routes and their channels, grades. Rules may refer to
//! these names.
pub mod addressees;
pub mod case_notices;
pub mod channels;
#[cfg(test)]
pub mod notice_examples;

use linli_shared::protocol::event::Severity;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use addressees::Addressees;
use case_notices::CaseNotice;
use channels::{Channel, DEFAULT_ROUTES, Route};
use linli_domain::cases::intake::Taxonomy;
use linli_domain::correlate::rule::Vocabulary;
use linli_domain::warnings::Grades;

/// Default maximum of warnings of one agent in a minute.
pub const WARNINGS_PER_AGENT_MINUTE: u32 = 60;

/// `[[site]]`: a compound or a station.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its name, as in join tokens.
    pub name: String,
    /// The office that it belongs to.
    #[serde(default)]
    pub office: String,
    /// Its buildings; empty: any.
    #[serde(default)]
    pub buildings: Vec<String>,
}

/// The facts of the config that decisions use beside the rules.
#[derive(Debug, Clone)]
pub struct Centre {
    /// The channels of each route.
    pub addressees: Addressees,
    /// The words of severities.
    pub grades: Grades,
    /// Warnings of life safety may be muted.
    pub mute_life: bool,
    /// Maximum of warnings of one agent in a minute; one more warning holds the others.
    pub warnings_per_agent_minute: u32,
    /// The `[[case_notice]]` entries.
    pub case_notices: Vec<CaseNotice>,
    routes: HashMap<String, Option<String>>,
    sites: BTreeMap<String, Site>,
}

impl Default for Centre {
    fn default() -> Self {
        Self::new(&[], &[], &[], Grades::default(), false)
    }
}

impl Centre {
    /// From the checked parts of a config.
    pub fn new(
        channels: &[Channel],
        routes: &[Route],
        sites: &[Site],
        grades: Grades,
        mute_life: bool,
    ) -> Self {
        Self {
            addressees: Addressees::new(channels, routes),
            grades,
            mute_life,
            warnings_per_agent_minute: WARNINGS_PER_AGENT_MINUTE,
            case_notices: Vec::new(),
            routes: routes
                .iter()
                .map(|route| (route.name.clone(), route.escalate.clone()))
                .collect(),
            sites: sites
                .iter()
                .map(|site| (site.name.clone(), site.clone()))
                .collect(),
        }
    }

    /// With another maximum of warnings of one agent.
    #[must_use]
    pub fn bounding_warnings(self, warnings_per_agent_minute: u32) -> Self {
        Self {
            warnings_per_agent_minute,
            ..self
        }
    }

    /// With these `[[case_notice]]` entries.
    #[must_use]
    pub fn telling_of_cases(self, case_notices: Vec<CaseNotice>) -> Self {
        Self {
            case_notices,
            ..self
        }
    }

    /// Warns in the log about `[[case_notice]]` entries that notify nobody.
    pub fn warn_of_case_notices(&self, taxonomy: &Taxonomy) {
        for entry in &self.case_notices {
            let route = entry.route.as_str();
            if !self.addressees.takes_news(route) {
                tracing::warn!(
                    route,
                    "[[case_notice]]: the route has no channel that takes news of cases (Alertmanager does not)"
                );
            }
            let unknown = |kind: &&String| taxonomy.of_code(kind).is_none();
            for kind in entry.kinds.iter().filter(unknown) {
                tracing::warn!(
                    kind,
                    "[[case_notice]]: no kind of the taxonomy, so only cases that a rule opens can have it"
                );
            }
        }
    }

    /// The names that rules may use.
    pub fn vocabulary(&self) -> Vocabulary {
        let mut routes: Vec<String> = self.routes.keys().cloned().collect();
        routes.sort();
        let buildings = |site: &Site| site.buildings.iter().cloned().collect::<BTreeSet<_>>();
        Vocabulary {
            routes,
            default_routes: &DEFAULT_ROUTES,
            sites: self
                .sites
                .iter()
                .map(|(name, site)| (name.clone(), buildings(site)))
                .collect(),
        }
    }

    /// The names of its sites.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.sites.keys().map(String::as_str)
    }

    /// The next route of the escalation.
    pub fn next_route(&self, route: &str) -> Option<&str> {
        self.routes.get(route)?.as_deref()
    }

    /// The office of each site that has one.
    pub fn offices(&self) -> HashMap<String, String> {
        self.sites
            .values()
            .filter(|site| !site.office.is_empty())
            .map(|site| (site.name.clone(), site.office.clone()))
            .collect()
    }

    /// Name and words of the grade of a severity.
    pub fn grade(&self, severity: Severity) -> (&str, &str) {
        self.grades.of(severity)
    }
}

/// Checks the sites of a config.
pub fn check_sites(sites: &[Site]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for site in sites {
        site.name
            .parse::<linli_shared::protocol::ids::SiteId>()
            .map_err(|error| format!("{:?}: {error}", site.name))?;
        if !names.insert(site.name.as_str()) {
            return Err(format!("there are two sites {:?}", site.name));
        }
    }
    Ok(())
}
