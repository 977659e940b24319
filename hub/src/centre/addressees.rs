//! The channels of a notice: those of its route that accept its severity and grade. Pure.
use std::collections::HashMap;

use crate::centre::channels::{Channel, Route, Target};
use linli_domain::notice::Notice;

/// The routes, and what their channels accept.
#[derive(Debug, Clone, Default)]
pub struct Addressees(HashMap<String, Vec<Channel>>);

impl Addressees {
    /// From the config, which has checked that every channel of a route exists.
    pub fn new(channels: &[Channel], routes: &[Route]) -> Self {
        let of = |route: &Route| {
            route
                .channels
                .iter()
                .filter_map(|name| {
                    channels
                        .iter()
                        .find(|channel| channel.name == *name)
                        .cloned()
                })
                .collect()
        };
        Self(
            routes
                .iter()
                .map(|route| (route.name.clone(), of(route)))
                .collect(),
        )
    }

    /// True if the route has a channel.
    pub fn has_any(&self, route: &str) -> bool {
        self.0
            .get(route)
            .is_some_and(|channels| !channels.is_empty())
    }

    /// True if the route has a channel that accepts news of cases.
    pub fn takes_news(&self, route: &str) -> bool {
        let channels = self.0.get(route).into_iter().flatten();
        channels
            .into_iter()
            .any(|channel| !matches!(channel.target, Target::Alertmanager { .. }))
    }

    /// The names of the channels of a notice.
    pub fn of<'a>(&'a self, notice: &'a Notice) -> impl Iterator<Item = &'a str> {
        self.0
            .get(&notice.route)
            .into_iter()
            .flatten()
            .filter(|channel| {
                // An alert lasts until it is resolved, and nothing resolves news of a case.
                let is_taken =
                    notice.news.is_none() || !matches!(channel.target, Target::Alertmanager { .. });
                is_taken
                    && notice.severity >= channel.severity_min
                    && (channel.grades.is_empty() || channel.grades.contains(&notice.grade))
            })
            .map(|channel| channel.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::channels::Rate;
    use crate::centre::notice_examples::fire;
    use linli_shared::protocol::event::Severity;
    use linli_shared::service::config::Span;

    fn channel(name: &str, severity_min: Severity, grades: &[&str]) -> Channel {
        Channel {
            name: name.to_owned(),
            target: Target::Alertmanager {
                url: "http://127.0.0.1:9093".parse().expect("a URL"),
                login: None,
            },
            ca_file: None,
            rate: Rate {
                messages: 20,
                per: Span::from_secs(60),
            },
            severity_min,
            grades: grades.iter().map(|grade| (*grade).to_owned()).collect(),
        }
    }

    #[test]
    fn a_notice_goes_to_the_channels_of_its_route_that_take_its_severity_and_grade() {
        let channels = [
            channel("all", Severity::Info, &[]),
            channel("grave", Severity::Life, &[]),
            channel("red", Severity::Info, &["red"]),
        ];
        let routes = [Route {
            name: "duty-centre".to_owned(),
            channels: channels
                .iter()
                .map(|channel| channel.name.clone())
                .collect(),
            escalate: None,
        }];
        let addressees = Addressees::new(&channels, &routes);
        let told = |notice: &Notice| addressees.of(notice).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(told(&fire(1)), ["all", "grave", "red"]);
        let lesser = Notice {
            severity: Severity::Alarm,
            grade: "orange".to_owned(),
            ..fire(1)
        };
        assert_eq!(told(&lesser), ["all"]);
        let elsewhere = Notice {
            route: "police".to_owned(),
            ..fire(1)
        };
        assert!(told(&elsewhere).is_empty());
    }
}
