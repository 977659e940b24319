//! The writer with a real store, asked by hand.
use super::*;
use crate::case_policy::CasePolicy;
use crate::centre::Centre;
use crate::clock_watch::ClockWatch;
use crate::health::Health;
use crate::ingest::metrics::IngestMetrics;
use linli_domain::cases::action::Action;
use linli_domain::clock_guard::{ClockConfig, Unsynchronised};
use linli_domain::correlate::rule::{Rule, Vocabulary, load_text};
use linli_domain::warnings::Mute;
use linli_shared::protocol::chunk::{ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::{Draft, PlaceDraft, Severity};
use linli_shared::protocol::ids::{Epoch, Retention};
use linli_shared::service::clock;
use linli_shared::service::metrics::Registrar;
use linli_store::agents::{self, Sign};
use linli_store::cases::{self, CaseFilter, CaseView};
use linli_store::chunks::{self, EventFilter};
use linli_store::warnings::{self, WarningFilter, WarningView};
use linli_store::{Place, Store, stations, tokens};
use sha2::{Digest, Sha256};
use sqlx::Row;
use std::path::Path;
use tempfile::TempDir;
use tokio::task::JoinHandle;

mod histories;
mod poison;
mod times;

const MINUTE_MS: i64 = 60_000;

struct Hub {
    _directory: TempDir,
    centre: Centre,
    store: Store,
    metrics: IngestMetrics,
    registrar: Registrar,
    ingest: Ingest,
    writer: JoinHandle<()>,
    /// What the next chunk of each lane begins with.
    next: HashMap<Lane, u64>,
}

/// A rule by its kind with all that belongs to it.
fn rule(id: &str, kind: &str, event: &str, severity: Severity, route: &str) -> Arc<Rule> {
    let severity = severity.as_str();
    let text = format!(
        "schema = 1\n[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = {kind}\nkey = [\"building\"]\n\
         on = [{{ type = \"{event}\" }}]\nseverity = \"{severity}\"\nfresh = \"15m\"\nfold = \"30m\"\n\
         then = {{ case = \"public-safety\", route = \"{route}\" }}\n"
    );
    let vocabulary = Vocabulary {
        routes: vec![route.to_owned()],
        ..Vocabulary::default()
    };
    let mut rules = Vec::new();
    load_text(Path::new("test.toml"), &text, &vocabulary, &mut rules).expect("a good rule");
    Arc::new(rules.remove(0))
}

impl Hub {
    async fn new(rules: Vec<Arc<Rule>>) -> Self {
        Self::of(rules, Centre::default()).await
    }

    async fn of(rules: Vec<Arc<Rule>>, centre: Centre) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&Place::of_test(directory.path()), true)
            .await
            .expect("a store");
        let registrar = Registrar::default();
        let metrics = IngestMetrics::register(&registrar).expect("figures");
        let (ingest, writer) = start(&store, rules, centre.clone(), &metrics).await;
        Self {
            _directory: directory,
            centre,
            store,
            metrics,
            registrar,
            ingest,
            writer,
            next: HashMap::new(),
        }
    }

    /// Ends the writer, and begins another with these rules.
    async fn start_again(&mut self, rules: Vec<Arc<Rule>>) {
        self.ingest = Ingest::channel().0;
        (&mut self.writer).await.expect("the writer");
        (self.ingest, self.writer) =
            start(&self.store, rules, self.centre.clone(), &self.metrics).await;
    }

    /// Brings events of these kinds and times to the writer, as one chunk.
    async fn bring(&mut self, lane: Lane, events: &[(&str, i64)]) {
        let answer = self.hand(lane, events).await;
        answer.await.expect("an answer").expect("stored");
    }

    /// The same, of another building.
    async fn bring_of(&mut self, building: &str, lane: Lane, events: &[(&str, i64)]) {
        let answer = self.hand_of(building, lane, events).await;
        answer.await.expect("an answer").expect("stored");
    }

    async fn hand(
        &mut self,
        lane: Lane,
        events: &[(&str, i64)],
    ) -> oneshot::Receiver<Result<Sequence, Rejection>> {
        self.hand_of("B1", lane, events).await
    }

    async fn hand_of(
        &mut self,
        building: &str,
        lane: Lane,
        events: &[(&str, i64)],
    ) -> oneshot::Receiver<Result<Sequence, Rejection>> {
        let next = self.next.get(&lane).copied().unwrap_or_default();
        let chunk = chunk_of(building, lane, next, events);
        self.hand_chunk(lane, chunk, events.len()).await
    }

    /// Hands over a chunk of so many events.
    async fn hand_chunk(
        &mut self,
        lane: Lane,
        chunk: Chunk,
        events: usize,
    ) -> oneshot::Receiver<Result<Sequence, Rejection>> {
        *self.next.entry(lane).or_default() += events as u64;
        let (reply, answer) = Reply::channel();
        let decoded = Decoded {
            events: Ok(chunk.events().expect("events")),
            chunk,
        };
        let place = self
            .ingest
            .place(&"gw-1".parse().expect("a name"), lane)
            .await
            .expect("a writer");
        place.send(Request::Arrive {
            key: LaneKey {
                agent: "gw-1".parse().expect("a name"),
                lane,
                epoch: Epoch(1),
            },
            site: "yuyuan".parse().expect("a name"),
            offsets: Arc::default(),
            arrival: Arrival::Batch(vec![decoded]),
            reply,
        });
        answer
    }

    /// The agent has told everything up to a time.
    async fn tell(&mut self, watermark_ms: i64) {
        let sign = Sign {
            software: String::new(),
            seen_ms: watermark_ms,
            watermark_ms: Some(watermark_ms),
            waiting_events: 0,
            skew_ms: None,
            clock_set: true,
        };
        let agent = "gw-1".parse().expect("a name");
        assert!(self.ingest.sign(agent, sign).await);
        // It comes after the sign, in the same queue, and is no rule's.
        let event = [("lift.called", watermark_ms)];
        self.bring(Lane::Routine, &event).await;
    }

    async fn warning(&self, id: i64) -> WarningView {
        let found = warnings::get(self.store.readers(), id).await;
        found.expect("a warning").expect("it is there")
    }

    async fn warnings(&self) -> Vec<WarningView> {
        let filter = WarningFilter {
            limit: 100,
            ..WarningFilter::default()
        };
        let found = warnings::list(self.store.readers(), &filter).await;
        found.expect("warnings")
    }

    async fn cases(&self) -> Vec<CaseView> {
        let filter = CaseFilter {
            limit: 100,
            ..CaseFilter::default()
        };
        let mut snapshot = self.store.snapshot().await.expect("a snapshot");
        let found = cases::list(&mut snapshot, &filter).await;
        found.expect("cases")
    }
}

/// The machine of a test may have a kernel whose clock nobody keeps.
fn trusting() -> ClockConfig {
    ClockConfig {
        unsynchronised: Unsynchronised::Trust,
        ..ClockConfig::default()
    }
}

async fn start(
    store: &Store,
    rules: Vec<Arc<Rule>>,
    centre: Centre,
    metrics: &IngestMetrics,
) -> (Ingest, JoinHandle<()>) {
    let (ingest, inbox) = Ingest::channel();
    let casework = CasePolicy::of_test();
    let clock = (&trusting(), ClockWatch::channel().0);
    let writer = Writer::open(
        store,
        rules,
        centre,
        casework,
        inbox,
        metrics.clone(),
        clock,
    )
    .await;
    let line = Health::default().part("writer");
    let writer = writer.expect("a writer").run(line);
    let ended = async move { writer.await.expect("a writer that ends with its handles") };
    (ingest, tokio::spawn(ended))
}

fn chunk(lane: Lane, first: u64, events: &[(&str, i64)]) -> Chunk {
    chunk_of("B1", lane, first, events)
}

fn chunk_of(building: &str, lane: Lane, first: u64, events: &[(&str, i64)]) -> Chunk {
    let draft = |&(kind, at_ms): &(_, i64)| Draft {
        kind,
        occurred_at_ms: at_ms,
        received_at_ms: at_ms,
        place: PlaceDraft {
            building,
            ..PlaceDraft::default()
        },
        ..Draft::default()
    };
    let drafts: Vec<Draft<'_>> = events.iter().map(draft).collect();
    chunk_of_drafts(lane, first, &drafts)
}

fn chunk_of_drafts(lane: Lane, first: u64, drafts: &[Draft<'_>]) -> Chunk {
    let mut packed = Packed::default();
    for draft in drafts {
        packed.push(draft).expect("an event");
    }
    let run = Run {
        lane,
        retention: Retention::Standard,
        epoch: Epoch(1),
        first: Sequence(first),
        boot: BootId(1),
    };
    let mut builder = ChunkBuilder::new().expect("a builder");
    let mut built = Vec::new();
    // It learns how well the events compress, until they all fit one chunk.
    while built.len() != 1 {
        built.clear();
        builder.build(run, &packed, &mut built).expect("chunks");
    }
    built.remove(0)
}

#[tokio::test]
async fn a_key_of_the_longest_values_is_no_longer_than_an_index_takes_and_they_stay_apart() {
    let text = "schema = 1\n[[rule]]\nid = \"long\"\nname = \"long\"\nkind = \"match\"\n\
                key = [\"attributes.a\", \"attributes.b\", \"attributes.c\", \"attributes.d\"]\n\
                on = [{ type = \"fire.alarm\" }]\nseverity = \"alarm\"\nfold = \"30m\"\n\
                then = { case = \"public-safety\", route = \"duty\" }\n";
    let vocabulary = Vocabulary {
        routes: vec!["duty".to_owned()],
        ..Vocabulary::default()
    };
    let mut rules = Vec::new();
    load_text(Path::new("test.toml"), text, &vocabulary, &mut rules).expect("a good rule");
    let mut hub = Hub::new(vec![Arc::new(rules.remove(0))]).await;
    // What does not compress: a server squeezes what it puts into an index.
    let value = |seed: u8, last: char| {
        let hash = |number: u16| {
            hex::encode(Sha256::digest(
                [&[seed][..], &number.to_be_bytes()].concat(),
            ))
        };
        let text: String = (0..16).map(hash).collect();
        format!("{}{last}", &text[..1_023])
    };
    let now_ms = clock::wall_ms();
    for last in ['x', 'y', 'x'] {
        let values: Vec<String> = (0..4).map(|seed| value(seed, last)).collect();
        let names = ["a", "b", "c", "d"];
        let draft = Draft {
            kind: "fire.alarm",
            occurred_at_ms: now_ms,
            received_at_ms: now_ms,
            attributes: names
                .into_iter()
                .zip(values.iter().map(String::as_str))
                .collect(),
            ..Draft::default()
        };
        let first = hub.next.get(&Lane::Urgent).copied().unwrap_or_default();
        let chunk = chunk_of_drafts(Lane::Urgent, first, &[draft]);
        let answer = hub.hand_chunk(Lane::Urgent, chunk, 1).await;
        answer.await.expect("an answer").expect("stored");
    }
    let warnings = hub.warnings().await;
    let hits: Vec<i64> = warnings.iter().map(|warning| warning.hits).collect();
    assert_eq!(hits, [1, 2], "they differ in their last letter alone");
    assert!(
        warnings
            .iter()
            .all(|warning| warning.key.split('|').count() == 4)
    );
    assert_eq!(hub.cases().await.len(), 2);
}

#[tokio::test]
async fn what_was_reported_late_and_goes_on_is_late_no_longer() {
    let now_ms = clock::wall_ms();
    let fire = rule("fire", "\"match\"", "fire.alarm", Severity::Life, "duty");
    let at = |minutes: i64| ("fire.alarm", now_ms - minutes * MINUTE_MS);
    // In one transaction, and each in its own; the oldest is too old to belong to the others.
    for parts in [
        vec![vec![at(60), at(20), at(1), at(16), at(0)]],
        vec![
            vec![at(60)],
            vec![at(20)],
            vec![at(1)],
            vec![at(16)],
            vec![at(0)],
        ],
    ] {
        let mut hub = Hub::new(vec![fire.clone()]).await;
        for part in &parts {
            hub.bring(Lane::Urgent, part).await;
        }
        let raised: Vec<(bool, i64)> = hub
            .warnings()
            .await
            .iter()
            .map(|warning| (warning.late, warning.hits))
            .collect();
        assert_eq!(raised, [(false, 4), (true, 1)]);
    }
}

#[tokio::test]
async fn what_has_been_missing_for_weeks_ends_with_what_comes_after_all_also_over_a_start() {
    let day_ms = 1440 * MINUTE_MS;
    let now_ms = clock::wall_ms();
    let held = {
        let kind = "\"absent\"\nwithin = \"10m\"\nuntil = [{ type = \"door.closed\" }]";
        rule("held", kind, "door.opened", Severity::Alarm, "duty")
    };
    for starts in [false, true] {
        let mut hub = Hub::new(vec![Arc::clone(&held)]).await;
        let (agent, site) = ("gw-1".parse(), "yuyuan".parse());
        let (agent, site) = (agent.expect("a name"), site.expect("a name"));
        let mut writer = hub.store.connect().await.expect("a writer");
        let joining = agents::JoiningAgent {
            agent: &agent,
            site: &site,
            station: false,
            serial: "1",
        };
        let joined = agents::save(&mut writer, joining, 1).await;
        joined.expect("an agent");
        let opened_ms = now_ms - 30 * day_ms;
        hub.bring(Lane::Urgent, &[("door.opened", opened_ms)]).await;
        hub.tell(opened_ms + day_ms).await;
        let raised = hub.warnings().await;
        assert_eq!((raised.len(), raised[0].ended_ms), (1, None));
        // Another door, so that what is over is let go of.
        let other = [("door.opened", now_ms - MINUTE_MS)];
        hub.bring_of("B2", Lane::Urgent, &other).await;
        if starts {
            hub.start_again(vec![Arc::clone(&held)]).await;
        }
        hub.bring(Lane::Urgent, &[("door.closed", now_ms)]).await;
        let ended = hub.warnings().await;
        assert_eq!((ended.len(), ended[0].ended_ms), (1, Some(now_ms)));
        let (before, after) = (&raised[0], &ended[0]);
        assert_eq!(before.at_ms, after.at_ms);
        assert_eq!((before.hits, &before.reasons), (after.hits, &after.reasons));
        let change = &hub.warning(after.id).await.changes;
        let actions: Vec<&str> = change.iter().map(|change| change.action.as_str()).collect();
        assert_eq!(actions, ["raised", "ended"]);
    }
}

#[tokio::test]
async fn a_mute_that_begins_later_keeps_back_what_waits_then() {
    let now_ms = clock::wall_ms();
    let fire = rule("fire", "\"match\"", "fire.alarm", Severity::Alarm, "duty");
    let fire = Arc::new(Rule {
        ack_ms: Some(60 * MINUTE_MS),
        ..(*fire).clone()
    });
    let mut hub = Hub::new(vec![fire]).await;
    hub.bring(Lane::Urgent, &[("fire.alarm", now_ms)]).await;
    assert!(hub.warnings().await[0].ack_due_ms.is_some());
    let mute = Mute {
        id: 0,
        rule: "fire".to_owned(),
        site: String::new(),
        key: String::new(),
        reason: "演练".to_owned(),
        owner: "王工".to_owned(),
        from_ms: clock::wall_ms() + 500,
        until_ms: clock::wall_ms() + 60 * MINUTE_MS,
        life: false,
    };
    let id = hub.ingest.mute(mute).await.expect("a mute");
    assert_eq!(hub.warnings().await[0].muted_by, None);
    let muted = async {
        while hub.warnings().await[0].muted_by.is_none() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), muted).await;
    in_time.expect("muted when it begins");
    let warning = hub.warnings().await.remove(0);
    assert_eq!((warning.muted_by, warning.ack_due_ms), (Some(id), None));
}

#[tokio::test]
async fn a_graver_warning_raises_the_case_it_joins_and_other_routes_have_their_own() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(vec![
        rule(
            "object",
            "\"match\"",
            "object.fallen",
            Severity::Alarm,
            "office",
        ),
        rule(
            "smoke",
            "\"match\"",
            "smoke.alarm",
            Severity::Warning,
            "duty",
        ),
        rule("fire", "\"match\"", "fire.alarm", Severity::Life, "duty"),
        rule("door", "\"match\"", "door.held", Severity::Notice, "duty"),
    ])
    .await;
    for kind in ["object.fallen", "smoke.alarm", "fire.alarm", "door.held"] {
        hub.bring(Lane::Urgent, &[(kind, now_ms)]).await;
    }
    let found = hub.cases().await;
    let shown: Vec<(&str, &str, &[i64])> = found
        .iter()
        .map(|case| {
            (
                case.route.as_str(),
                case.risk.as_str(),
                case.warnings.as_slice(),
            )
        })
        .collect();
    let wanted: [(&str, &str, &[i64]); 2] =
        [("duty", "red", &[2, 3, 4]), ("office", "orange", &[1])];
    assert_eq!(shown, wanted);
    let sealer = linli_store::sealed::Sealer::of_test();
    let mut snapshot = hub.store.snapshot().await.expect("a snapshot");
    let id = cases::id_of(&mut snapshot, &found[0].code).await;
    let id = id.expect("a number").expect("it is there");
    let log = cases::log(&mut snapshot, &sealer, id).await.expect("a log");
    let actions: Vec<&str> = log.iter().map(Action::word).collect();
    let wanted = ["registered", "link_warning", "set_risk", "link_warning"];
    assert_eq!(actions, wanted);
}

#[tokio::test]
async fn a_start_fills_windows_with_what_came_late_and_passes_over_damaged_rows() {
    let now_ms = clock::wall_ms();
    let day_ms = 1440 * MINUTE_MS;
    let repeat = rule(
        "repeat",
        "\"count\"\ntimes = 3\nwithin = \"7d\"",
        "smoke.alarm",
        Severity::Warning,
        "mediation",
    );
    let mut hub = Hub::new(vec![repeat.clone()]).await;
    // It came within the horizon and happened before it: with others of its time it counts.
    for days in [12, 11] {
        let old = ("smoke.alarm", now_ms - days * day_ms);
        hub.bring(Lane::Routine, &[old]).await;
    }
    let mut answers = Vec::new();
    for _ in 0..1200 {
        answers.push(hub.hand(Lane::Routine, &[("door.opened", now_ms)]).await);
    }
    for answer in answers {
        answer.await.expect("an answer").expect("stored");
    }
    let pool = hub.store.readers();
    let aged = sqlx::query("UPDATE chunks SET stored_ms = $1 WHERE id <= 2")
        .bind(now_ms - 11 * day_ms)
        .execute(pool);
    aged.await.expect("older rows");
    // The newest rows, more than a page of them, are of a kind that is wanted and cannot be read.
    let damaged = sqlx::query("UPDATE chunks SET bytes = $1, kinds = ',smoke.alarm,' WHERE id > 2")
        .bind(vec![0_u8])
        .execute(pool);
    damaged.await.expect("damaged rows");
    hub.start_again(vec![repeat]).await;
    let last = ("smoke.alarm", now_ms - 6 * day_ms);
    hub.bring(Lane::Routine, &[last]).await;
    assert_eq!(hub.warnings().await.len(), 1);
}

#[tokio::test]
async fn commands_that_write_meanwhile_do_not_disturb_a_transaction() {
    const TOKENS: usize = 200;
    let now_ms = clock::wall_ms();
    let hub = Hub::new(Vec::new()).await;
    let create = async |name: &str| {
        for number in 0..TOKENS {
            let id = format!("{name}{number}");
            let grant = tokens::JoinGrant {
                site: "yuyuan".to_owned(),
                station: false,
            };
            let added = hub.store.in_transaction(async |connection| {
                tokens::add_join(connection, &id, "s", &grant, now_ms, now_ms + MINUTE_MS).await
            });
            added.await.expect("a token");
        }
    };
    create("used").await;
    // A join reads its token before it writes.
    let join = async {
        for number in 0..TOKENS {
            let agent = format!("gw-{number}").parse().expect("a name");
            let id = format!("used{number}");
            let joined = hub.ingest.join(id, "s".to_owned(), agent, "1".to_owned());
            let site = joined.await.expect("an answer").expect("a good token");
            assert_eq!(site.as_str(), "yuyuan");
        }
    };
    tokio::join!(join, create("other"));
    assert_eq!(hub.metrics.store_failures.get(), 0);
}

#[tokio::test]
async fn an_alarm_does_not_share_a_transaction_with_what_waits_beside_it() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(Vec::new()).await;
    // This task does not let the writer run before all of it waits.
    let routine = [("door.opened", now_ms); 256];
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(hub.hand(Lane::Routine, &routine).await);
    }
    let mut alarm = hub.hand(Lane::Urgent, &[("fire.alarm", now_ms)]).await;
    let committed_before = loop {
        match alarm.try_recv() {
            Ok(answer) => {
                answer.expect("stored");
                let all = waiting.len();
                waiting.retain_mut(|answer| answer.try_recv().is_err());
                break all - waiting.len();
            }
            Err(_) => tokio::task::yield_now().await,
        }
    };
    // It went first, alone; at most what was under way when it was answered may have ended too.
    assert!(committed_before <= 8, "{committed_before} of 40 chunks");
    for answer in waiting {
        answer.await.expect("an answer").expect("stored");
    }
    let commits = hub.metrics.commit_seconds.get_sample_count();
    assert!(commits > 40 * 256 / 2_048, "{commits} transactions");
}

#[tokio::test]
async fn a_question_looks_at_so_many_rows_and_goes_on_where_it_stopped() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(Vec::new()).await;
    let mut answers = Vec::new();
    hub.bring(Lane::Urgent, &[("fire.alarm", now_ms)]).await;
    for _ in 0..2500 {
        answers.push(hub.hand(Lane::Routine, &[("door.opened", now_ms)]).await);
    }
    for answer in answers {
        answer.await.expect("an answer").expect("stored");
    }
    sqlx::query("UPDATE chunks SET site = 'other' WHERE id > 1")
        .execute(hub.store.readers())
        .await
        .expect("another site");
    let mut filter = EventFilter {
        kind: Some("fire.alarm".to_owned()),
        limit: 10,
        ..EventFilter::default()
    };
    let pool = hub.store.readers();
    let (found, next) = chunks::events(pool, &filter).await.expect("a page");
    assert!(found.is_empty(), "it looked at more than its share");
    assert_eq!(next, Some((502, 0)));
    filter.before = next;
    let (found, next) = chunks::events(pool, &filter).await.expect("a page");
    assert_eq!((found.len(), next), (1, None));
    // Rows of other sites are not its own.
    filter.before = None;
    filter.site = Some("yuyuan".to_owned());
    let (found, next) = chunks::events(pool, &filter).await.expect("a page");
    assert_eq!((found.len(), next), (1, None));
}

#[tokio::test]
async fn what_comes_under_numbers_that_were_given_up_says_so_in_quarantine() {
    let now_ms = clock::wall_ms();
    let mut hub = Hub::new(Vec::new()).await;
    let (reply, answer) = Reply::channel();
    let place = hub
        .ingest
        .place(&"gw-1".parse().expect("a name"), Lane::Routine)
        .await
        .expect("a writer");
    place.send(Request::Arrive {
        key: LaneKey {
            agent: "gw-1".parse().expect("a name"),
            lane: Lane::Routine,
            epoch: Epoch(1),
        },
        site: "yuyuan".parse().expect("a name"),
        offsets: Arc::default(),
        arrival: Arrival::Lost {
            first: Sequence(0),
            end: Sequence(2),
            reason: "damage".to_owned(),
        },
        reply,
    });
    assert_eq!(answer.await.expect("an answer"), Ok(Sequence(2)));
    for _ in 0..2 {
        hub.next.insert(Lane::Routine, 0);
        hub.bring(Lane::Routine, &[("door.opened", now_ms)]).await;
    }
    let rows = sqlx::query("SELECT reason FROM quarantine")
        .fetch_all(hub.store.readers())
        .await
        .expect("the quarantine");
    let reasons: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, ["its numbers were given up as lost before"]);
    assert_eq!(hub.metrics.quarantined.get(), 1);
}

#[test]
fn offsets_that_a_skewed_agent_tells_are_put_right_and_the_hubs_own_are_not() {
    let offsets = ClockOffsets::new(
        [(BootId(1), 50_000), (BootId(2), 60_000)].into(),
        Some((BootId(2), 70_000)),
    );
    let of = |boot| offsets.of(BootId(boot));
    for (estimate_ms, wanted) in [
        (None, (None, Some(50_000))),
        (Some(1_999), (None, Some(50_000))),
        (Some(-2_000), (Some(-2_000), Some(52_000))),
        (Some(5_000), (Some(5_000), Some(45_000))),
        (Some(0), (None, Some(50_000))),
    ] {
        offsets.set_skew(estimate_ms);
        assert_eq!((offsets.skew_ms(), of(1)), wanted);
        assert_eq!((of(2), of(3)), (Some(70_000), None));
    }
}

#[test]
fn a_batch_is_cut_by_events_and_by_chunks() {
    let large = chunk(Lane::Routine, 0, &[("door.opened", 0); 256]);
    let middle = chunk(Lane::Routine, 0, &[("door.opened", 0); 200]);
    let small = chunk(Lane::Routine, 0, &[("door.opened", 0)]);
    for (chunks, sizes) in [
        (Vec::new(), vec![0]),
        (vec![large; 3], vec![1, 1, 1]),
        (vec![middle; 5], vec![2, 2, 1]),
        (vec![small; 40], vec![16, 16, 8]),
    ] {
        let cut: Vec<usize> = arrivals(chunks).iter().map(Vec::len).collect();
        assert_eq!(cut, sizes);
    }
}

#[tokio::test]
async fn who_waits_for_messages_to_a_station_is_woken_by_their_commit_and_can_acknowledge_them() {
    let hub = Hub::new(Vec::new()).await;
    let mut news = hub.ingest.stations();
    let message = stations::Message {
        case: "AJ-1".to_owned(),
        source: "police".to_owned(),
        source_id: "J9".to_owned(),
        kind: linli_shared::protocol::frame::case_kind::RECEIPT,
        state: "registered".to_owned(),
        at_ms: 1,
        text: "已收到".to_owned(),
    };
    for (agent, number) in [("gw-1", 1), ("gw-1", 2), ("gw-2", 1)] {
        let queue = &hub.ingest.of(Owner::District).urgent;
        let told = ask(queue, |reply| Request::TellStation {
            agent: agent.to_owned(),
            message: message.clone(),
            reply,
        })
        .await;
        assert_eq!(told, Ok(number));
    }
    let wanted = [("gw-1", 2), ("gw-2", 1)].map(|(agent, last)| (agent.to_owned(), last));
    news.wait_for(|last| *last == wanted.clone().into())
        .await
        .expect("a writer");
    let agent: AgentId = "gw-1".parse().expect("a name");
    let waiting = async |after| {
        let found = stations::unacked(hub.store.readers(), &agent, after, 10).await;
        found.expect("read").len()
    };
    assert_eq!(waiting(0).await, 2);
    let ask = |through, begins| hub.ingest.station(agent.clone(), through, begins);
    assert_eq!(ask(1, false).await, Ok(()));
    assert_eq!(waiting(0).await, 1);
    assert_eq!(ask(0, true).await, Ok(()));
    assert_eq!(waiting(0).await, 2);
    assert_eq!(ask(2, true).await, Ok(()));
    assert_eq!(waiting(0).await, 0);
    // Nothing new for sessions in that.
    assert!(!news.has_changed().expect("a writer"));
}
