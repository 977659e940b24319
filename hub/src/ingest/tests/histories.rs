//! A hub with a real store against the definition: whatever the order in which a history comes, in however
//! many transactions, and however often the hub starts again meanwhile, the warnings that stand in the end are
//! those of the same events in the order of their times.
use super::*;
use linli_domain::correlate::Origin;
use linli_domain::correlate::replay::Replay;
use linli_domain::correlate::rule::Vocabulary;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const KINDS: [&str; 3] = ["fire.alarm", "door.forced", "door.closed"];
const MINUTES: i64 = 300;

fn rules() -> Vec<Arc<Rule>> {
    let rule = |kind: &str, more: &str| {
        format!(
            "[[rule]]\nid = \"{kind}\"\nname = \"{kind}\"\nkind = \"{kind}\"\nseverity = \"alarm\"\n\
             key = [\"building\"]\nfold = \"6m\"\nthen = {{ case = \"c\" }}\n{more}\n"
        )
    };
    let (fire, door, closed) = (
        "{ type = \"fire.alarm\" }",
        "{ type = \"door.forced\" }",
        "{ type = \"door.closed\" }",
    );
    let texts = [
        "schema = 1\n".to_owned(),
        rule("match", &format!("on = [{fire}]")),
        rule(
            "count",
            &format!("times = 3\nwithin = \"20m\"\non = [{fire}, {door}]"),
        ),
        rule(
            "all_of",
            &format!("within = \"10m\"\non = [{fire}, {door}, {closed}]"),
        ),
        rule(
            "sequence",
            &format!("within = \"15m\"\non = [{fire}, {door}]\nunless = [{closed}]"),
        ),
        rule(
            "absent",
            &format!("within = \"10m\"\non = [{door}]\nuntil = [{closed}]"),
        ),
        rule(
            "repeat",
            &format!("times = 4\nwithin = \"60m\"\non = [{fire}]"),
        ),
        rule(
            "surge",
            &format!("times = 3\nwithin = \"20m\"\nratio = 1.5\np = 0.2\non = [{fire}]"),
        ),
    ];
    let mut rules = Vec::new();
    load_text(
        Path::new("test.toml"),
        &texts.concat(),
        &Vocabulary::default(),
        &mut rules,
    )
    .expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

/// Rule, first and last hit, hits, end, and the times of what it rests on.
type Standing = (String, i64, i64, i64, Option<i64>, Vec<i64>);

/// What the definition wants of events with the numbers that they came under.
fn wanted(rules: &[Arc<Rule>], events: &[(&str, i64)], heard_ms: i64) -> Vec<Standing> {
    let mut replay = Replay::new(rules.to_vec(), HashMap::new());
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|place| events[*place].1);
    for place in order {
        let (kind, at_ms) = events[place];
        let chunk = chunk(Lane::Routine, place as u64, &[(kind, at_ms)]);
        let event = chunk.events().expect("an event").remove(0);
        let origin = Origin {
            site: "yuyuan",
            agent: "gw-1",
            lane: Lane::Routine,
            epoch: 1,
            sequence: place as u64,
        };
        replay.bring(&event, &origin, heard_ms);
    }
    replay.heard("gw-1", heard_ms, heard_ms);
    let mut standing: Vec<Standing> = replay
        .standing()
        .into_iter()
        .map(|raised| {
            let finding = &raised.finding;
            (
                raised.rule.clone(),
                finding.from_ms,
                finding.to_ms,
                finding.hits,
                finding.ended_ms,
                finding.reasons.iter().map(|reason| reason.at_ms).collect(),
            )
        })
        .collect();
    standing.sort();
    standing
}

async fn found(hub: &Hub) -> Vec<Standing> {
    let filter = WarningFilter {
        state: Some(warnings::ACTIVE.to_owned()),
        limit: 1000,
        ..WarningFilter::default()
    };
    let listed = warnings::list(hub.store.readers(), &filter)
        .await
        .expect("warnings");
    let mut standing: Vec<Standing> = listed
        .into_iter()
        .map(|warning| {
            let reasons = warning.reasons.as_array().expect("reasons");
            (
                warning.rule,
                warning.at_ms,
                warning.until_ms,
                warning.hits,
                warning.ended_ms,
                reasons
                    .iter()
                    .filter_map(|reason| reason["at_ms"].as_i64())
                    .collect(),
            )
        })
        .collect();
    standing.sort();
    standing
}

#[test]
fn a_hub_that_starts_again_and_again_ends_with_the_warnings_of_the_events_alone() {
    let one = (0..KINDS.len(), 0..MINUTES);
    let histories = (
        prop::collection::vec(one, 5..45),
        // After how many events a transaction ends, and whether the hub starts again then.
        prop::collection::vec((1..6_usize, prop::bool::weighted(0.25)), 45),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&histories, |(drawn, parts)| {
        runtime.block_on(async {
            let now_ms = clock::wall_ms() / MINUTE_MS * MINUTE_MS;
            let events: Vec<(&str, i64)> = drawn
                .iter()
                .map(|(kind, minute)| (KINDS[*kind], now_ms - (MINUTES + 30 - minute) * MINUTE_MS))
                .collect();
            let rules = rules();
            let mut hub = Hub::new(rules.clone()).await;
            let mut rest = events.as_slice();
            for (count, starts) in parts {
                let (part, more) = rest.split_at(count.min(rest.len()));
                if part.is_empty() {
                    break;
                }
                hub.bring(Lane::Routine, part).await;
                rest = more;
                if starts {
                    hub.start_again(rules.clone()).await;
                }
            }
            prop_assert!(rest.is_empty());
            hub.tell(now_ms).await;
            prop_assert_eq!(found(&hub).await, wanted(&rules, &events, now_ms));
            Ok(())
        })
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
}
