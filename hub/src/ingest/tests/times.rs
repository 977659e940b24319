//! Clocks of devices, replays and imported history: what pages, what is 补报, and what is nothing.
use super::*;
use crate::centre::channels::{Channel, Rate, Route, Target};
use linli_domain::notice::Notice;
use linli_domain::warnings::Grades;
use linli_shared::protocol::event::{ClockQuality, Delivery};
use linli_shared::service::config::Span;

const DAY_MS: i64 = 1440 * MINUTE_MS;
const DESK: &str = "desk";

/// A centre with a desk that is told of everything on the route `duty`.
fn with_desk() -> Centre {
    let channel = Channel {
        name: DESK.to_owned(),
        target: Target::Alertmanager {
            url: "http://127.0.0.1:9093".parse().expect("a URL"),
            login: None,
        },
        ca_file: None,
        rate: Rate {
            messages: 20,
            per: Span::from_secs(60),
        },
        severity_min: Severity::Info,
        grades: Vec::new(),
    };
    let route = Route {
        name: "duty".to_owned(),
        channels: vec![DESK.to_owned()],
        escalate: None,
    };
    Centre::new(&[channel], &[route], &[], Grades::default(), false)
}

impl Hub {
    /// Brings drafts to the writer, as one chunk.
    async fn bring_drafts(&mut self, lane: Lane, drafts: &[Draft<'_>]) {
        let next = self.next.get(&lane).copied().unwrap_or_default();
        let chunk = chunk_of_drafts(lane, next, drafts);
        let answer = self.hand_chunk(lane, chunk, drafts.len()).await;
        answer.await.expect("an answer").expect("stored");
    }

    async fn told(&self, warning: i64) -> Vec<Notice> {
        let rows = sqlx::query("SELECT notice FROM outbox WHERE warning_id = $1 ORDER BY id")
            .bind(warning)
            .fetch_all(self.store.readers())
            .await
            .expect("the outbox");
        rows.iter()
            .map(|row| serde_json::from_str(row.get("notice")).expect("a notice"))
            .collect()
    }
}

/// What a device says the time is, when it is this.
type Claim = fn(i64) -> i64;

/// What people get of an event.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Wanted {
    /// Told, and somebody is to acknowledge it.
    Page,
    /// Recorded as late; about life the desk is told, with its age.
    Late,
    /// No warning, no case.
    Nothing,
}

fn draft<'a>(kind: &'a str, building: &'a str, claim_ms: i64) -> Draft<'a> {
    Draft {
        kind,
        occurred_at_ms: claim_ms,
        place: PlaceDraft {
            building,
            ..PlaceDraft::default()
        },
        ..Draft::default()
    }
}

#[tokio::test]
async fn what_pages_is_decided_by_receipt_and_delivery_and_never_by_a_devices_clock() {
    let claims: [(&str, Claim); 7] = [
        ("right", |now_ms| now_ms),
        ("16 min slow", |now_ms| now_ms - 16 * MINUTE_MS),
        ("8 h slow", |now_ms| now_ms - 480 * MINUTE_MS),
        ("8 days slow", |now_ms| now_ms - 8 * DAY_MS),
        ("3 years slow", |now_ms| now_ms - 1095 * DAY_MS),
        ("3 years ahead", |now_ms| now_ms + 1095 * DAY_MS),
        ("1970", |_| 77_000),
    ];
    let ways = [
        ("live", Delivery::Live, 0, Wanted::Page),
        ("replayed", Delivery::Replayed, 0, Wanted::Late),
        (
            "gateway offline for an hour",
            Delivery::Live,
            60 * MINUTE_MS,
            Wanted::Late,
        ),
        ("history", Delivery::History, 0, Wanted::Nothing),
    ];
    let with_ack = |severity| {
        let kind = match severity {
            Severity::Life => "fire.alarm",
            _ => "door.forced",
        };
        let rule = rule(
            kind.split_once('.').expect("a kind").0,
            "\"match\"",
            kind,
            severity,
            "duty",
        );
        Arc::new(Rule {
            ack_ms: Some(60 * MINUTE_MS),
            ..(*rule).clone()
        })
    };
    let rules = vec![with_ack(Severity::Life), with_ack(Severity::Alarm)];
    for (device, claim) in claims {
        for (way, delivery, offline_ms, wanted) in ways {
            // As an agent of before tells it, with the claim as its time; and as one of today does where the clock is off.
            for clock_rule in [ClockQuality::Device, ClockQuality::Receipt] {
                let mut hub = Hub::of(rules.clone(), with_desk()).await;
                let now_ms = clock::wall_ms();
                // Something of the present before it, so that the rules know how late it is.
                for kind in ["fire.alarm", "door.forced"] {
                    let present = Draft {
                        received_at_ms: now_ms,
                        ..draft(kind, "B9", now_ms)
                    };
                    hub.bring_drafts(Lane::Urgent, &[present]).await;
                }
                let received_ms = now_ms - offline_ms;
                let claim_ms = claim(received_ms);
                let is_receipt = clock_rule == ClockQuality::Receipt;
                for kind in ["fire.alarm", "door.forced"] {
                    let event = Draft {
                        occurred_at_ms: if is_receipt { received_ms } else { claim_ms },
                        device_time_ms: is_receipt.then_some(claim_ms),
                        received_at_ms: received_ms,
                        clock: clock_rule,
                        delivery,
                        ..draft(kind, "B1", claim_ms)
                    };
                    hub.bring_drafts(Lane::Urgent, &[event]).await;
                }
                let name = format!("{device}, {way}, {clock_rule:?}");
                let warnings = hub.warnings().await;
                let found: Vec<&WarningView> = warnings
                    .iter()
                    .filter(|warning| warning.key == "B1")
                    .collect();
                if wanted == Wanted::Nothing {
                    assert!(found.is_empty(), "{name}");
                    assert_eq!(hub.cases().await.len(), 1, "{name}");
                    continue;
                }
                assert_eq!(found.len(), 2, "{name}");
                for warning in found {
                    let is_life = warning.severity == "life";
                    let told = hub.told(warning.id).await;
                    let is_late = wanted == Wanted::Late;
                    assert_eq!(warning.late, is_late, "{name} {}", warning.severity);
                    assert_eq!(warning.ack_due_ms.is_some(), !is_late, "{name}");
                    let is_told = !is_late || is_life;
                    assert_eq!(
                        told.len(),
                        usize::from(is_told),
                        "{name} {}",
                        warning.severity
                    );
                    for notice in told {
                        assert_eq!((notice.late, notice.late_ms.is_some()), (is_late, is_late));
                        if offline_ms > 0 {
                            assert!(notice.late_ms >= Some(offline_ms), "{name} {notice:?}");
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_replayed_and_happens_again_now_is_told_as_what_happens_now() {
    let fire = rule("fire", "\"match\"", "fire.alarm", Severity::Life, "duty");
    let mut hub = Hub::of(vec![fire], with_desk()).await;
    let now_ms = clock::wall_ms();
    for delivery in [Delivery::Replayed, Delivery::Live, Delivery::Replayed] {
        let event = Draft {
            received_at_ms: now_ms,
            delivery,
            ..draft("fire.alarm", "B1", now_ms - 10 * MINUTE_MS)
        };
        hub.bring_drafts(Lane::Urgent, &[event]).await;
    }
    let warnings = hub.warnings().await;
    let found: Vec<(bool, i64)> = warnings
        .iter()
        .map(|warning| (warning.late, warning.hits))
        .collect();
    assert_eq!(found, [(false, 3)]);
    let told: Vec<bool> = hub
        .told(warnings[0].id)
        .await
        .iter()
        .map(|notice| notice.late)
        .collect();
    assert_eq!(told, [true, false]);
}

#[tokio::test]
async fn history_is_the_past_of_rules_that_look_back_whatever_the_order_and_raises_nothing() {
    let kind = "\"repeat\"\ntimes = 3\nwithin = \"28d\"";
    let rules = vec![
        rule("repeat", kind, "smoke.alarm", Severity::Warning, "duty"),
        rule("match", "\"match\"", "smoke.alarm", Severity::Life, "duty"),
    ];
    let now_ms = clock::wall_ms();
    let event = |delivery, days: i64| Draft {
        received_at_ms: now_ms,
        delivery,
        ..draft("smoke.alarm", "B1", now_ms - days * DAY_MS)
    };
    let history: Vec<Draft<'_>> = [20, 9, 3, 2]
        .map(|days| event(Delivery::History, days))
        .into();
    let mut standing = Vec::new();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        for starts in [false, true] {
            for live_at in 0..=history.len() {
                let mut hub = Hub::of(rules.clone(), with_desk()).await;
                for (count, place) in order.into_iter().enumerate() {
                    if count == live_at {
                        hub.bring_drafts(Lane::Urgent, &[event(Delivery::Live, 1)])
                            .await;
                    } else if live_at == history.len() {
                        assert!(hub.warnings().await.is_empty(), "history raises nothing");
                        assert!(hub.cases().await.is_empty());
                    }
                    hub.bring_drafts(Lane::Routine, &history[place..=place])
                        .await;
                    if starts {
                        hub.start_again(rules.clone()).await;
                    }
                }
                if live_at == history.len() {
                    hub.bring_drafts(Lane::Urgent, &[event(Delivery::Live, 1)])
                        .await;
                }
                let mut found: Vec<(String, i64, i64, usize)> = hub
                    .warnings()
                    .await
                    .into_iter()
                    .map(|warning| {
                        let reasons = warning.reasons.as_array().map_or(0, Vec::len);
                        (warning.rule, warning.at_ms, warning.hits, reasons)
                    })
                    .collect();
                found.sort();
                standing.push(found);
            }
        }
    }
    let at_ms = now_ms - DAY_MS;
    let wanted = vec![
        ("match".to_owned(), at_ms, 1, 1),
        ("repeat".to_owned(), at_ms, 1, 3),
    ];
    for found in standing {
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn a_storm_of_one_agent_is_held_by_one_warning_that_says_what_it_holds() {
    let rules = vec![
        rule("smoke", "\"match\"", "smoke.alarm", Severity::Alarm, "duty"),
        rule("fire", "\"match\"", "fire.alarm", Severity::Life, "duty"),
    ];
    let centre = with_desk().bounding_warnings(10);
    let mut hub = Hub::of(rules, centre).await;
    let now_ms = clock::wall_ms();
    let buildings: Vec<String> = (0..1_000).map(|number| format!("B{number}")).collect();
    for kind in ["smoke.alarm", "fire.alarm"] {
        for part in buildings.chunks(100) {
            let drafts: Vec<Draft<'_>> = part
                .iter()
                .map(|building| Draft {
                    received_at_ms: now_ms,
                    ..draft(kind, building, now_ms)
                })
                .collect();
            hub.bring_drafts(Lane::Urgent, &drafts).await;
        }
    }
    let warnings = hub.warnings().await;
    assert_eq!(warnings.len(), 11);
    let held: Vec<&WarningView> = warnings
        .iter()
        .filter(|warning| warning.rule == "agent.flood")
        .collect();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].hits, held[0].severity.as_str()), (1_990, "life"));
    let words = &held[0].reading;
    assert!(
        words.contains("smoke ×990: B18, B19, ") && words.contains("fire ×1000: B0, B1, B10, "),
        "{words}"
    );
    // Told as an alarm, and again when something about life came.
    let told: Vec<String> = hub
        .told(held[0].id)
        .await
        .iter()
        .map(|notice| format!("{} {}", notice.what.as_str(), notice.severity.as_str()))
        .collect();
    assert_eq!(told, ["raised alarm", "amended life"]);
    assert!(hub.cases().await.len() <= 10);
}

#[tokio::test]
async fn what_only_stations_report_is_stored_and_withheld_from_rules_and_cases_of_any_other_agent()
{
    let rules = vec![rule(
        "dispute",
        "\"match\"",
        "dispute.reported",
        Severity::Life,
        "duty",
    )];
    for is_station in [false, true] {
        let mut hub = Hub::of(rules.clone(), with_desk()).await;
        let (agent, site) = ("gw-1".parse(), "yuyuan".parse());
        let (agent, site) = (agent.expect("a name"), site.expect("a name"));
        let joining = agents::JoiningAgent {
            agent: &agent,
            site: &site,
            station: is_station,
            serial: "1",
        };
        let mut writer = hub.store.connect().await.expect("a writer");
        agents::save(&mut writer, joining, 1)
            .await
            .expect("an agent");
        hub.start_again(rules.clone()).await;
        let now_ms = clock::wall_ms();
        hub.bring(
            Lane::Urgent,
            &[("dispute.reported", now_ms), ("door.opened", now_ms)],
        )
        .await;
        // Nor after a start, which reads them again.
        hub.start_again(rules.clone()).await;
        hub.bring_of("B2", Lane::Urgent, &[("dispute.reported", now_ms)])
            .await;
        let raised = if is_station { 2 } else { 0 };
        assert_eq!(hub.warnings().await.len(), raised);
        let filter = EventFilter {
            limit: 10,
            ..EventFilter::default()
        };
        let (stored, _) = chunks::events(hub.store.readers(), &filter)
            .await
            .expect("events");
        let withheld: Vec<(&str, bool)> = stored
            .iter()
            .map(|stored| (stored.event.kind.as_str(), stored.withheld))
            .collect();
        assert_eq!(
            withheld,
            [
                ("dispute.reported", !is_station),
                ("door.opened", false),
                ("dispute.reported", !is_station),
            ]
        );
        let counted = hub.registrar.text().expect("figures");
        let line = "linli_hub_events_withheld_total{agent=\"gw-1\"} 2";
        assert_eq!(counted.contains(line), !is_station);
    }
}

#[tokio::test]
async fn an_agent_whose_name_differs_in_the_case_of_its_letters_only_does_not_join() {
    let hub = Hub::new(Vec::new()).await;
    let now_ms = clock::wall_ms();
    let join = async |number: u32, name: &str| {
        let id = format!("t{number}");
        let grant = tokens::JoinGrant {
            site: "yuyuan".to_owned(),
            station: false,
        };
        let added = hub.store.in_transaction(async |connection| {
            tokens::add_join(connection, &id, "s", &grant, now_ms, now_ms + MINUTE_MS).await
        });
        added.await.expect("a token");
        let agent = name.parse().expect("a name");
        let joined = hub.ingest.join(id, "s".to_owned(), agent, "1".to_owned());
        joined.await.expect("an answer")
    };
    assert!(join(1, "gw-1").await.is_ok());
    let refused = tokens::TokenRefusal::NameAlike("gw-1".to_owned());
    assert_eq!(join(2, "Gw-1").await, Err(refused));
    assert!(join(3, "gw-1").await.is_ok(), "the same joins again");
    assert!(join(4, "gw-2").await.is_ok());
}
