//! Lists and openings with a district's cases of many years in the store. `cargo bench -p linli-hub --bench cases`
//!
//! On SQLite in a temporary directory, and on PostgreSQL where `LINLI_BENCH_POSTGRES` names the directory of its
//! socket (see `tests/postgres`). `LINLI_BENCH_CASES` cases with ten actions each are written, 1,000,000 unless it
//! says otherwise; then each list is asked for again and again, from its beginning and from somewhere in it, and
//! cases are opened through the writer by many at once.
use linli_domain::cases::case::Case;
use linli_domain::cases::decide::{By, decide, register};
use linli_domain::cases::moves::Move;
use linli_domain::rights::{Actor, Role};
use linli_domain::{cases, orgs};
use linli_hub::health::Health;
use linli_hub::ingest::casework::NewRegistration;
use linli_hub::ingest::metrics::IngestMetrics;
use linli_hub::{case_policy, clock_watch, ingest};
use linli_shared::service::metrics::Registrar;
use linli_store::cases::{CaseFilter, list};
use linli_store::{self as store, sealed};
use linli_store::{Place, Store};
use sqlx::AssertSqlSafe;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS_OF_INSERT: usize = 500;
const ASKED: usize = 300;
const OPENING_FOR: Duration = Duration::from_secs(10);
const OPENERS: usize = 64;
const ROOMS: i64 = 14;

fn main() {
    let count: i64 = std::env::var("LINLI_BENCH_CASES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "| {count} cases, {} actions | list | p50 ms | p99 ms |",
        count * 10
    );
    println!("| --- | --- | --: | --: |");
    let directory = tempfile::tempdir().expect("a directory");
    let place = Place::Sqlite(directory.path().join("hub.db"));
    runtime.block_on(measure("SQLite", &place, directory.path(), count));
    if let Ok(socket) = std::env::var("LINLI_BENCH_POSTGRES") {
        let made = std::process::Command::new("createdb")
            .args(["--host", &socket, "--username", "postgres", "bench_cases"])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "a database");
        let url = format!("postgres://postgres@localhost/bench_cases?host={socket}");
        let place = Place::postgres(&url, None).expect("an address");
        runtime.block_on(measure("PostgreSQL", &place, directory.path(), count));
    } else {
        println!("PostgreSQL is left out: LINLI_BENCH_POSTGRES is not set");
    }
}

fn district() -> orgs::Directory {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/district.toml");
    orgs::file::read(&path).expect("the example of the project")
}

async fn measure(engine: &str, place: &Place, directory: &Path, count: i64) {
    sealed::init(directory).expect("a key");
    let sealer = Arc::new(sealed::Sealer::load(directory).expect("the key"));
    let mut work = case_policy::CasePolicy::new(Default::default(), Arc::clone(&sealer));
    work.set_directory(district());
    let store = Store::open(place, true).await.expect("a store");
    let started = Instant::now();
    fill(place, &store, &sealer, &work, count).await;
    eprintln!(
        "{engine}: filled in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    for (name, filter) in filters(count) {
        let mut took = Vec::with_capacity(ASKED);
        for turn in 0..ASKED {
            let filter = CaseFilter {
                before: (turn % 2 == 1).then(|| (turn as i64 * 7_919_317) % count + 1),
                ..filter.clone()
            };
            let started = Instant::now();
            let mut snapshot = store.snapshot().await.expect("a snapshot");
            let page = list(&mut snapshot, &filter).await.expect("a page");
            took.push(started.elapsed());
            std::hint::black_box(page);
        }
        took.sort();
        let ms = |at: usize| took[at].as_secs_f64() * 1000.0;
        println!(
            "| {engine} | {name} | {:.1} | {:.1} |",
            ms(ASKED / 2),
            ms(ASKED * 99 / 100)
        );
    }
    open(engine, &store, work).await;
}

fn filters(count: i64) -> Vec<(&'static str, CaseFilter)> {
    let page = || CaseFilter {
        limit: 51,
        login: Some("wang".to_owned()),
        ..CaseFilter::default()
    };
    let text = |value: &str| Some(value.to_owned());
    vec![
        ("all", page()),
        (
            "being handled (1 in 100)",
            CaseFilter {
                state: text("handling"),
                ..page()
            },
        ),
        (
            "suspended (none)",
            CaseFilter {
                state: text("suspended"),
                ..page()
            },
        ),
        (
            "of a kind",
            CaseFilter {
                kind: text("02"),
                ..page()
            },
        ),
        (
            "of a site",
            CaseFilter {
                site: text("site-7"),
                ..page()
            },
        ),
        (
            "of a room",
            CaseFilter {
                org: text("room-3"),
                ..page()
            },
        ),
        (
            "of a room, being handled",
            CaseFilter {
                org: text("room-3"),
                state: text("handling"),
                ..page()
            },
        ),
        (
            "of a room and a kind",
            CaseFilter {
                org: text("room-3"),
                kind: text("02"),
                ..page()
            },
        ),
        (
            "of a room and a kind that it has none of",
            CaseFilter {
                org: text("room-3"),
                kind: text("99"),
                ..page()
            },
        ),
        (
            "of an office",
            CaseFilter {
                org: text("office-1"),
                ..page()
            },
        ),
        (
            "of a department with few",
            CaseFilter {
                org: text("department-1"),
                ..page()
            },
        ),
        (
            "of a key",
            CaseFilter {
                key: Some(format!("key-{}", count / 2)),
                ..page()
            },
        ),
    ]
}

/// Writes cases with ten actions each: one in a hundred is being handled, the others are archived.
async fn fill(
    place: &Place,
    store: &Store,
    sealer: &sealed::Sealer,
    work: &case_policy::CasePolicy,
    count: i64,
) {
    let mut connection = store.connect().await.expect("a connection");
    let now_ms = linli_shared::service::clock::wall_ms();
    let by = |organisation: &str, person: &str| By {
        person: person.to_owned(),
        organisation: organisation.to_owned(),
        seen_version: None,
    };
    let text = || "双方自愿达成调解协议并当场履行".to_owned();
    for first in (1..=count).step_by(ROWS_OF_INSERT) {
        let mut rows = [String::new(), String::new(), String::new()];
        for id in first..(first + ROWS_OF_INSERT as i64).min(count + 1) {
            let room = format!("room-{}", id % ROOMS + 1);
            let registration = cases::action::Registration {
                code: cases::code(id, now_ms),
                kind: if id % 5 == 0 { "02" } else { "13" }.to_owned(),
                risk: "blue".to_owned(),
                centre: "centre".to_owned(),
                rung: cases::moves::Rung::Office,
                named_only: false,
                warnings: Default::default(),
            };
            let context = work.context(now_ms);
            let opened = register(registration, &by("centre", "desk"), &context).expect("a case");
            let mut log = vec![opened];
            let mut case = Case::replay(&log).expect("a case");
            let handling = id % 100 == 0;
            let room_by = by(&room, "li");
            let centre_by = by("centre", "zhao");
            let moves = [
                (&centre_by, Move::Accept {}),
                (
                    &centre_by,
                    Move::Dispatch {
                        organisation: room.clone(),
                    },
                ),
                (&room_by, Move::Sign {}),
                (&room_by, Move::Note { text: text() }),
                (&room_by, Move::Answer { text: text() }),
                (
                    &centre_by,
                    Move::Verify {
                        passed: true,
                        reason: String::new(),
                    },
                ),
                (
                    &centre_by,
                    Move::Revisit {
                        satisfied: true,
                        reason: String::new(),
                    },
                ),
                (&centre_by, Move::Evaluate { marks: 5 }),
                (&centre_by, Move::Archive {}),
            ];
            for (by, wanted) in moves {
                if handling && matches!(wanted, Move::Answer { .. }) {
                    break;
                }
                let action = decide(&case, by, &wanted, &context).expect("a move");
                case = case.apply(&action);
                log.push(action);
            }
            while log.len() < 10 {
                let note = Move::Note { text: text() };
                let action = decide(&case, &room_by, &note, &context).expect("a note");
                case = case.apply(&action);
                log.push(action);
            }
            let seal = |value: &str, belongs: String| sealer.seal(value, &belongs);
            let detail = seal(
                &serde_json::to_string(&case).expect("JSON"),
                format!("cases.detail/{id}"),
            );
            let narrative = seal(
                "{\"text\":\"楼上漏水，多次交涉未果\"}",
                format!("cases.narrative/{id}"),
            );
            let wake =
                cases::due::next_wake_ms(&case).map_or("NULL".to_owned(), |at| at.to_string());
            let _ = write!(
                rows[0],
                "{}({id}, '{}', '{}', '漏水', '{}', 'blue', 'site-{}', 'yuyuan', 'key-{}', '', 'desk', '', '', '', \
                 '{}', '', 0, {now_ms}, {now_ms}, NULL, {wake}, {}, '{detail}', '{narrative}')",
                if rows[0].is_empty() { "" } else { ", " },
                case.code,
                case.kind,
                case.state.as_str(),
                id % 101,
                id / 3,
                case.lead,
                case.version,
            );
            for org in work.orgs(&case, "yuyuan") {
                let comma = if rows[1].is_empty() { "" } else { ", " };
                let _ = write!(rows[1], "{comma}('{org}', {id}, '{}')", case.state.as_str());
            }
            if id % 10_000 == 0 {
                let _ = write!(
                    rows[1],
                    ", ('department-1', {id}, '{}')",
                    case.state.as_str()
                );
            }
            for action in &log {
                let comma = if rows[2].is_empty() { "" } else { ", " };
                let json = serde_json::to_string(action).expect("JSON");
                let sealed = seal(&json, format!("case_actions/{id}/{}", action.number));
                let _ = write!(
                    rows[2],
                    "{comma}({id}, {}, {}, '{}', '{}', '{}', '{sealed}')",
                    action.number,
                    action.at_ms,
                    action.actor,
                    action.organisation,
                    action.word()
                );
            }
        }
        let mut transaction = store::begin(&mut connection).await.expect("a transaction");
        let [cases, orgs, actions] = rows;
        for statement in [
            format!("INSERT INTO cases VALUES {cases}"),
            format!("INSERT INTO case_orgs VALUES {orgs}"),
            format!("INSERT INTO case_actions VALUES {actions}"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await
                .expect("rows");
        }
        transaction.commit().await.expect("a commit");
    }
    // A server that begins to tidy up after the load would be measured with it.
    let statement = match place {
        Place::Sqlite(_) => "ANALYZE",
        Place::Postgres(_) => "VACUUM ANALYZE",
    };
    sqlx::raw_sql(statement)
        .execute(&mut connection)
        .await
        .expect("statistics");
}

/// Cases a second, each acknowledged when it is committed.
async fn open(engine: &str, store: &Store, work: case_policy::CasePolicy) {
    let (ingest, inbox) = ingest::Ingest::channel();
    let figures = IngestMetrics::register(&Registrar::default()).expect("figures");
    let writer = ingest::Writer::open(
        store,
        Vec::new(),
        Default::default(),
        work,
        inbox,
        figures,
        (&Default::default(), clock_watch::ClockWatch::channel().0),
    )
    .await
    .expect("a writer");
    let writer = tokio::spawn(writer.run(Health::default().part("writer")));
    let actor = Actor {
        login: "wang".to_owned(),
        role: Role::Dispatcher,
        org: String::new(),
    };
    let started = Instant::now();
    let mut openers = tokio::task::JoinSet::new();
    for opener in 0..OPENERS {
        let (ingest, actor) = (ingest.clone(), actor.clone());
        openers.spawn(async move {
            let mut opened = 0_u64;
            while started.elapsed() < OPENING_FOR {
                let new = NewRegistration {
                    kind: "02".to_owned(),
                    title: "楼上漏水".to_owned(),
                    place: String::new(),
                    key: format!("new-{opener}-{opened}"),
                    external: String::new(),
                    risk: String::new(),
                    narrative: "{\"text\":\"楼上漏水，多次交涉未果\"}".to_owned(),
                };
                let code = ingest
                    .register(actor.clone(), new)
                    .await
                    .expect("an answer");
                code.expect("a case");
                opened += 1;
            }
            opened
        });
    }
    let opened: u64 = openers.join_all().await.into_iter().sum();
    let rate = opened as f64 / started.elapsed().as_secs_f64();
    println!("| {engine} | opened by {OPENERS} at once, a second | {rate:.0} | |");
    drop(ingest);
    writer.await.expect("the writer").expect("its end");
}
