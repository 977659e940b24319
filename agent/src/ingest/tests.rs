use super::*;
use crate::app::Spools;
use crate::config::Config;
use crate::gateway_clock::GatewayClock;
use crate::ingest::state_store::StateStore;
use crate::intake::SUBMIT_EVENTS_MAX;
use crate::pseudonym::PseudonymConfig;
use linli_devices::device_event::{DeviceTime, Person, State};
use linli_devices::mapping::Mapping;
use linli_shared::protocol::event::ClockQuality;
use linli_shared::protocol::ids::Lane;
use linli_shared::service::config::Bytes;
use serde_json::json;
use std::sync::LazyLock;

/// An ingest with spools of its own on a real disk.
struct Scene {
    _directory: tempfile::TempDir,
    spools: Option<Spools>,
    ingest: SourceIngest,
}

impl Scene {
    fn new(silent_after: Option<Duration>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut config = Config {
            data_dir: directory.path().to_owned(),
            pseudonyms: PseudonymConfig {
                enabled: true,
                ..PseudonymConfig::default()
            },
            ..Config::default()
        };
        config.spool.free_min = Bytes(8 << 20);
        let spools = Spools::open(&config).expect("spools");
        let metrics = Metrics::new().expect("metrics");
        let boot = clock::boot_id().expect("boot id");
        let gateway = GatewayClock::default();
        gateway.look(true, crate::clock_anchors::offset_ms());
        let place = DevicePlace {
            id: "panel".to_owned(),
            building: "3号楼".to_owned(),
            unit: "1单元".to_owned(),
        };
        let shared = Shared {
            agent: "test".into(),
            down_since_ms: None,
            intake: Intake::new(spools.handles.clone(), boot, gateway, metrics.clone()),
            pending: Pending::default(),
            places: Arc::new(HashMap::from([("panel".to_owned(), place)])),
            pseudonyms: Pseudonyms::load(directory.path(), &config.pseudonyms, 0),
            raw: None,
            metrics,
        };
        let settings = Settings {
            name: "test".to_owned(),
            kind: "test",
            zone: TimeZone::get("Asia/Shanghai").expect("a zone"),
            keep_raw_for: Duration::from_secs(60),
            silent_after,
            clock_bound: Duration::from_secs(120),
        };
        let ingest = SourceIngest::new(settings, &[], shared);
        Self {
            _directory: directory,
            spools: Some(spools),
            ingest,
        }
    }

    /// The same source after a start of the agent.
    fn started(&self) -> SourceIngest {
        let inner = &self.ingest.0;
        SourceIngest::new(inner.settings.clone(), &[], inner.shared.clone())
    }

    fn watch(&self) -> tokio::sync::broadcast::Receiver<Arc<Seen>> {
        self.ingest.tap().subscribe()
    }

    async fn take(&self, raw: &[u8], device_event: DeviceEvent<'_>) -> Submitted {
        let said = Ok(DecodedMessage::Events(vec![device_event]));
        self.ingest.take(raw, said).await.expect("stored")
    }

    fn figure(&self, name: &str) -> u64 {
        let figures = &self.ingest.0.figures;
        match name {
            "stored" => figures.stored.get(),
            "repeated" => figures.repeated.get(),
            "rejected" => figures.rejected.get(),
            "refused" => figures.refused.get(),
            other => panic!("no figure {other}"),
        }
    }
}

fn mapping(toml: &str) -> Mapping {
    let file = toml::from_str(&format!("schema = 1\n{toml}")).expect("TOML of a mapping");
    Mapping::new("test", file).expect("a mapping")
}

/// Stores a message that mappings read, as a batch of its own.
async fn map(scene: &Scene, text: &str, mappings: &[&Mapping]) -> Submitted {
    let mut batch = scene.ingest.batch();
    batch.mapped(text.as_bytes(), text, mappings);
    scene.ingest.store(batch).await.expect("stored")
}

fn fire(active: bool) -> DeviceEvent<'static> {
    let kind = if active {
        "fire.alarm"
    } else {
        "fire.restored"
    };
    DeviceEvent {
        state: Some(State {
            point: "fire".into(),
            active,
            initial: false,
        }),
        ..DeviceEvent::new(kind, Severity::Life, "panel/1-2")
    }
}

fn last(seen: &mut tokio::sync::broadcast::Receiver<Arc<Seen>>) -> Seen {
    Seen::clone(&seen.try_recv().expect("a message"))
}

#[tokio::test]
async fn a_state_that_is_known_is_no_event_and_only_what_is_durable_is_known() {
    let mut scene = Scene::new(None);
    scene.take(b"on", fire(true)).await;
    scene.take(b"on", fire(true)).await;
    assert_eq!((scene.figure("stored"), scene.figure("repeated")), (1, 1));
    scene.take(b"off", fire(false)).await;
    assert_eq!(scene.figure("stored"), 2);
    // The spools end: a state that they refuse is not known, so the device may report it again.
    let spools = scene.spools.take().expect("open");
    tokio::task::spawn_blocking(|| spools.close())
        .await
        .expect("closed");
    for _ in 0..2 {
        let said = Ok(DecodedMessage::Events(vec![fire(true)]));
        assert!(scene.ingest.take(b"on", said).await.is_err());
    }
    assert_eq!((scene.figure("refused"), scene.figure("repeated")), (2, 1));
}

#[tokio::test]
async fn a_part_lives_with_its_panel_and_an_alarm_that_began_anew_is_an_event() {
    let scene = Scene::new(Some(Duration::from_secs(60)));
    let part = |active, anew| DeviceEvent {
        by: Some("panel".into()),
        anew,
        ..fire(active)
    };
    scene.take(b"on", part(true, false)).await;
    // The panel came online, and the alarm; the part is no device that could fall silent.
    assert_eq!(scene.figure("stored"), 2);
    let count = scene.ingest.status().devices.count();
    assert_eq!((count.online, count.unknown), (1, 0));
    scene.take(b"on", part(true, false)).await;
    assert_eq!(scene.figure("repeated"), 1);
    scene.take(b"on", part(true, true)).await;
    assert_eq!((scene.figure("stored"), scene.figure("repeated")), (3, 1));
    scene.take(b"off", part(false, false)).await;
    assert_eq!(scene.figure("stored"), 4);
    // When the panel falls silent, the states of its parts become stale.
    scene.ingest.status().devices.told_silent("panel");
    scene.take(b"off", part(false, false)).await;
    assert_eq!(scene.figure("stored"), 6);
}

#[tokio::test]
async fn a_state_that_comes_and_goes_in_one_group_is_two_events() {
    let scene = Scene::new(None);
    let mut batch = scene.ingest.batch();
    for active in [true, true, false, false, true] {
        batch.message(b"x", Ok(DecodedMessage::Events(vec![fire(active)])));
    }
    let submitted = scene.ingest.store(batch).await.expect("stored");
    assert_eq!((submitted.stored, scene.figure("repeated")), (3, 2));
}

#[tokio::test]
async fn a_device_that_replays_its_event_is_stored_once() {
    let scene = Scene::new(None);
    let opened = || DeviceEvent {
        id: "panel-17-2026".into(),
        ..DeviceEvent::new("door.opened", Severity::Info, "panel")
    };
    assert_eq!(scene.take(b"x", opened()).await.stored, 1);
    assert_eq!(scene.take(b"x", opened()).await.doubled, 1);
}

#[tokio::test]
async fn place_time_and_pseudonyms_are_put_to_an_event_and_nothing_of_a_person_is_left() {
    let scene = Scene::new(None);
    let mut seen = scene.watch();
    let device_event = DeviceEvent {
        time: DeviceTime::Text("2026-07-01T12:00:00"),
        replayed: true,
        persons: vec![
            (Person::Card, "0012345678".into()),
            (Person::Name, "王小明".into()),
        ],
        ..DeviceEvent::new("door.opened", Severity::Info, "panel/1-2").with("mode", "card")
    };
    scene.take("raw 邻里".as_bytes(), device_event).await;
    let seen = last(&mut seen);
    assert_eq!(seen.raw, "raw 邻里");
    let event = &seen.events[0];
    assert_eq!(event["occurred_at"], "2026-07-01T04:00:00Z");
    assert_eq!(event["building"], "3号楼");
    assert_eq!(event["attributes"]["mode"], "card");
    let text = event.to_string();
    assert!(
        event["attributes"]["card_pseudonym"]
            .as_str()
            .is_some_and(|text| text.starts_with("k1-"))
    );
    assert!(
        !text.contains("12345678") && !text.contains("王小明"),
        "{text}"
    );
}

#[tokio::test]
async fn a_time_that_cannot_be_or_cannot_be_read_costs_no_event() {
    let scene = Scene::new(None);
    let mut seen = scene.watch();
    for (text, replayed, clock, device_time) in [
        (
            "1970-01-01T00:00:09",
            false,
            "receipt",
            json!("1969-12-31T16:00:09Z"),
        ),
        (
            "2199-01-01T00:00:00Z",
            false,
            "receipt",
            json!("2199-01-01T00:00:00Z"),
        ),
        ("noon", false, "unknown", json!(null)),
        ("0000-00-00 00:00:00", true, "unknown", json!(null)),
    ] {
        let device_event = DeviceEvent {
            time: DeviceTime::Text(text),
            replayed,
            ..DeviceEvent::new("door.opened", Severity::Info, "panel")
        };
        assert_eq!(scene.take(b"x", device_event).await.stored, 1);
        let event = &last(&mut seen).events[0];
        assert_eq!(
            (&event["clock"], &event["device_time"]),
            (&json!(clock), &device_time)
        );
        assert_eq!(event["occurred_at"], event["received_at"]);
        let kept = &event["attributes"]["device_time"];
        assert_eq!(kept == text, clock == "unknown", "{event}");
    }
    let figures = &scene.ingest.0.figures;
    assert_eq!(figures.unreadable_times.get(), 2);
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_once_and_so_is_that_it_is_right_again() {
    let scene = Scene::new(None);
    let opened = |behind_s: i64| DeviceEvent {
        time: DeviceTime::Ms(clock::wall_ms() - behind_s * 1000),
        ..DeviceEvent::new("door.opened", Severity::Info, "panel")
    };
    for behind_s in [960, 961, 960] {
        assert_eq!(scene.take(b"x", opened(behind_s)).await.stored, 1);
    }
    // Three openings, and one report of the wrong clock.
    assert_eq!(scene.figure("stored"), 4);
    let view = scene.ingest.view();
    assert_eq!(
        (view.clocks_off, view.clocks[0].device.as_str()),
        (1, "panel")
    );
    assert!(
        view.lines()
            .join("\n")
            .contains("panel: 慢 16 分 / 16 min behind")
    );
    scene.ingest.scrape();
    assert_eq!(scene.ingest.0.figures.clocks_off.get(), 1);
    scene.take(b"x", opened(0)).await;
    assert_eq!(scene.figure("stored"), 6);
    assert_eq!(scene.ingest.view().clocks_off, 0);
    // A sign of life shows a clock too.
    let time = DeviceTime::Ms(clock::wall_ms() + 8 * 3_600_000);
    let alive = DecodedMessage::Heartbeat {
        device: "panel".into(),
        time,
    };
    scene.ingest.take(b"h", Ok(alive)).await.expect("stored");
    assert_eq!(scene.figure("stored"), 7);
    let words = &scene.ingest.view().clocks[0].words;
    assert!(words.contains("设备的时区？"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_lane_has_stored_is_never_stored_again_because_another_refuses() {
    let mut scene = Scene::new(Some(Duration::from_secs(60)));
    let spools = scene.spools.as_mut().expect("open");
    tokio::task::block_in_place(|| spools.close_lane(Lane::Routine));
    let forced = || DeviceEvent::new("door.forced", Severity::Alarm, "panel");
    let opened = || DeviceEvent::new("door.opened", Severity::Info, "panel");
    // Events without ids; one of them is a state.
    let message = || vec![forced(), fire(true), opened(), forced()];
    for _ in 0..3 {
        let decoded = Ok(DecodedMessage::Events(message()));
        assert!(scene.ingest.take(b"x", decoded).await.is_err());
        assert_eq!(scene.figure("stored"), 3);
    }
    // The alarm is stored, although its device's `device.online` is refused.
    assert_eq!(scene.take(b"y", forced()).await.stored, 1);
    let alive = Ok(DecodedMessage::heartbeat("panel"));
    assert!(scene.ingest.take(b"h", alive).await.is_ok());
    assert_eq!(scene.figure("stored"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_repeats_a_state_in_flight_is_answered_when_it_is_durable_and_not_before() {
    let mut scene = Scene::new(None);
    // The first reports "on" and its store has not begun; the second reports the same.
    let mut first = scene.ingest.batch();
    first.message(b"on", Ok(DecodedMessage::Events(vec![fire(true)])));
    let mut second = scene.ingest.batch();
    second.message(b"on", Ok(DecodedMessage::Events(vec![fire(true)])));
    let ingest = scene.ingest.clone();
    let waits = tokio::spawn(async move { ingest.store(second).await });
    assert_eq!(scene.ingest.store(first).await.expect("stored").stored, 1);
    assert_eq!(waits.await.expect("ended").expect("stored").stored, 0);
    // If the first is refused, so is the second: its device reports it again.
    let spools = scene.spools.as_mut().expect("open");
    tokio::task::block_in_place(|| spools.close_lane(Lane::Urgent));
    let mut first = scene.ingest.batch();
    let off = || DeviceEvent {
        severity: Severity::Alarm,
        ..fire(false)
    };
    first.message(b"off", Ok(DecodedMessage::Events(vec![off()])));
    let mut second = scene.ingest.batch();
    second.message(b"off", Ok(DecodedMessage::Events(vec![off()])));
    let (first, second) = tokio::join!(scene.ingest.store(first), scene.ingest.store(second));
    assert!(
        matches!(first, Err(SubmitError::Append { .. })),
        "{first:?}"
    );
    assert!(matches!(second, Err(SubmitError::Earlier)), "{second:?}");
    // The same holds if the first is dropped.
    let mut first = scene.ingest.batch();
    first.message(b"off", Ok(DecodedMessage::Events(vec![off()])));
    let mut second = scene.ingest.batch();
    second.message(b"off", Ok(DecodedMessage::Events(vec![off()])));
    drop(first);
    let second = scene.ingest.store(second).await;
    assert!(matches!(second, Err(SubmitError::Earlier)), "{second:?}");
}

#[tokio::test]
async fn a_store_that_has_begun_is_finished_though_its_asker_is_gone() {
    let scene = Scene::new(None);
    let mut batch = scene.ingest.batch();
    batch.message(b"on", Ok(DecodedMessage::Events(vec![fire(true)])));
    {
        let mut store = Box::pin(scene.ingest.store(batch));
        // The store begins, and its caller gives up.
        assert!(futures_util::poll!(&mut store).is_pending());
    }
    while scene.figure("stored") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.take(b"on", fire(true)).await.stored, 0);
    assert_eq!(scene.figure("repeated"), 1);
}

#[tokio::test]
async fn mapped_states_that_arrive_out_of_order_are_each_stored_once() {
    let scene = Scene::new(None);
    let mapping = mapping(
        "device = \"/at\"\nid = \"/id\"\nkind = \"/kind\"\noccurred_at = { pointer = \"/time\" }\n\
         [state]\npoint = \"door\"\nactive = [\"door.opened\"]\n",
    );
    let text = |number: usize| {
        let kind = ["door.opened", "door.closed"][number % 2];
        let minute = number % 60;
        format!(
            r#"{{"at":"d","id":"{number}","kind":"{kind}","time":"2026-11-30 09:{minute:02}:00"}}"#
        )
    };
    // Every seventh of forty: a shuffled order.
    let shuffled: Vec<usize> = (0..40).map(|number| number * 7 % 40).collect();
    let mut stored = 0;
    for number in &shuffled {
        stored += map(&scene, &text(*number), &[&mapping]).await.stored;
    }
    assert_eq!(stored, 40);
    for number in &shuffled {
        assert_eq!(map(&scene, &text(*number), &[&mapping]).await.stored, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_kept_as_a_bounded_sample() {
    let scene = Scene::new(None);
    for number in 0..20 {
        let said = Err(Reject::new(format!("reason {number}")));
        scene
            .ingest
            .take(&vec![b'x'; 10_000], said)
            .await
            .expect("counted");
    }
    // An event beyond the limits of the model, too.
    let long = "x".repeat(200);
    scene
        .ingest
        .take(
            b"long",
            Ok(DecodedMessage::Events(vec![DeviceEvent::new(
                "door.opened",
                Severity::Info,
                long,
            )])),
        )
        .await
        .expect("counted");
    assert_eq!(scene.figure("rejected"), 21);
    let view = scene.ingest.view();
    assert_eq!(view.samples.len(), 8);
    assert!(view.samples.iter().all(|sample| sample.raw.len() <= 256));
    assert!(
        view.samples[7].reason.contains("device has 200 bytes"),
        "{}",
        view.samples[7].reason
    );
}

#[tokio::test]
async fn a_device_that_falls_silent_is_told_and_told_again_when_it_is_back() {
    let scene = Scene::new(Some(Duration::from_millis(1)));
    scene
        .ingest
        .take(b"h", Ok(DecodedMessage::heartbeat("panel")))
        .await
        .expect("stored");
    scene.take(b"on", fire(true)).await;
    let before = scene.figure("stored");
    while scene.ingest.view().unknown < 2 {
        scene.ingest.tick().await;
        tokio::task::yield_now().await;
    }
    // Two devices fell silent: the panel and its part.
    assert_eq!(scene.figure("stored"), before + 2);
    assert_eq!(scene.ingest.view().online, 0);
    // The state of a silent device is unknown: the same state is news, and the device is back.
    scene.take(b"on", fire(true)).await;
    assert_eq!(scene.figure("stored"), before + 4);
}

#[tokio::test]
async fn two_that_tell_of_one_device_at_once_are_compared_one_after_the_other() {
    let scene = Scene::new(None);
    scene.take(b"off", fire(false)).await;
    // The first has looked at the state and is not stored; the second waits for it.
    let mut first = scene.ingest.batch();
    first.message(b"on", Ok(DecodedMessage::Events(vec![fire(true)])));
    let second = async {
        let mut batch = scene.ingest.batch();
        batch.message(b"off", Ok(DecodedMessage::Events(vec![fire(false)])));
        scene.ingest.store(batch).await.expect("stored").stored
    };
    let (first, second) = tokio::join!(scene.ingest.store(first), second);
    assert_eq!((first.expect("stored").stored, second), (1, 1));
    assert_eq!(scene.take(b"on", fire(true)).await.stored, 1);
}

#[tokio::test]
async fn a_batch_that_is_never_stored_has_told_nothing() {
    let scene = Scene::new(Some(Duration::from_secs(60)));
    let mut batch = scene.ingest.batch();
    batch.message(b"h", Ok(DecodedMessage::heartbeat("panel")));
    drop(batch);
    assert_eq!(scene.figure("stored"), 0);
    let said = Ok(DecodedMessage::heartbeat("panel"));
    scene.ingest.take(b"h", said).await.expect("stored");
    assert_eq!(scene.figure("stored"), 1);
}

#[tokio::test]
async fn a_session_that_panics_is_begun_anew_and_what_it_held_is_free() {
    let scene = Scene::new(Some(Duration::from_secs(30)));
    let stop = tokio_util::sync::CancellationToken::new();
    let sessions = std::sync::atomic::AtomicU32::new(0);
    let session = || async {
        if sessions.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            let mut batch = scene.ingest.batch();
            batch.message(b"on", Ok(DecodedMessage::Events(vec![fire(true)])));
            panic!("what a fault of a decoder does");
        }
        scene.take(b"on", fire(true)).await;
        stop.cancel();
        std::future::pending().await
    };
    crate::transport::reconnect::run_with_reconnect(&scene.ingest, &[], &stop, session).await;
    // Nothing of the first was stored or known: the second reports the alarm and its device as online.
    assert_eq!((scene.figure("stored"), scene.figure("repeated")), (2, 0));
    let text = scene.ingest.0.shared.metrics.text().expect("metrics");
    assert!(
        text.contains(r#"outcome="session_panicked",source="test"} 1"#),
        "{text}"
    );
}

/// The end of a fire, from a snapshot.
fn found_over() -> DecodedMessage<'static> {
    let mut over = fire(false);
    over.state = over.state.map(|state| State {
        initial: true,
        ..state
    });
    DecodedMessage::Events(vec![over])
}

#[tokio::test]
async fn states_outlive_a_start_and_are_written_where_they_have_changed() {
    let scene = Scene::new(None);
    let directory = scene._directory.path();
    let file = directory.join("states/test");
    let keeper = StateStore::open(directory, vec![scene.ingest.clone()]);
    keeper.keep().await;
    assert!(!file.exists());
    scene.take(b"on", fire(true)).await;
    // A disk that accepts nothing: the write is tried again.
    std::fs::write(directory.join("states"), "in the way").expect("written");
    keeper.keep_now();
    std::fs::remove_file(directory.join("states")).expect("removed");
    keeper.keep().await;
    assert!(file.exists());
    // At rest nothing is written.
    let kept = std::fs::read(&file).expect("a file");
    std::fs::remove_file(&file).expect("removed");
    scene.take(b"on", fire(true)).await;
    keeper.keep().await;
    keeper.keep_now();
    assert!(!file.exists());

    // It ended while the agent was away, and the device sends only a snapshot.
    std::fs::write(&file, &kept).expect("written");
    std::fs::write(directory.join("states/gone"), "x").expect("written");
    let ingest = scene.started();
    let keeper = StateStore::open(directory, vec![ingest.clone()]);
    keeper.remove_others();
    assert!(file.exists() && !directory.join("states/gone").exists());
    for stored in [1, 0] {
        let submitted = ingest.take(b"off", Ok(found_over())).await.expect("stored");
        assert_eq!(submitted.stored, stored);
    }
}

#[tokio::test]
async fn a_damaged_file_of_states_is_dropped_and_what_it_had_is_unknown() {
    let scene = Scene::new(None);
    let directory = scene._directory.path();
    let file = directory.join("states/test");
    let keeper = StateStore::open(directory, vec![scene.ingest.clone()]);
    scene.take(b"on", fire(true)).await;
    keeper.keep().await;
    let mut kept = std::fs::read(&file).expect("a file");
    kept[3] ^= 1;
    std::fs::write(&file, kept).expect("written");
    let ingest = scene.started();
    StateStore::open(directory, vec![ingest.clone()]);
    assert!(!file.exists());
    let submitted = ingest.take(b"off", Ok(found_over())).await.expect("stored");
    assert_eq!(submitted.stored, 0);
    let said = Ok(DecodedMessage::Events(vec![fire(true)]));
    assert_eq!(ingest.take(b"on", said).await.expect("stored").stored, 1);
}

#[tokio::test]
async fn what_begins_under_another_id_has_begun_anew_and_its_end_is_told_once() {
    let scene = Scene::new(None);
    let mapping = "schema = 1\nid = \"/id\"\ndevice = \"/at\"\nkind = { value = \"camera.intrusion\" }\n\
                   [state]\npoint = \"event\"\npointer = \"/rule\"\nby = \"/status\"\non = [\"1\", \"3\"]\noff = [\"2\"]\n\
                   over = { \"camera.intrusion\" = \"camera.restored\" }\n";
    let mapping = toml::from_str(mapping).expect("TOML of a mapping");
    let mapping = Mapping::new("test", mapping).expect("a mapping");
    for (id, rule, status, stored) in [
        ("1", "a", 1, 1),
        // The alarm continues; another place is another point.
        ("1", "a", 3, 0),
        ("2", "b", 1, 1),
        // The end of the previous alarm was lost.
        ("3", "a", 1, 1),
        ("3", "a", 2, 1),
        ("3", "a", 2, 0),
        ("2", "b", 2, 1),
        // A momentary event is no state; its id identifies it.
        ("4", "a", 0, 1),
        ("5", "a", 0, 1),
        ("5", "a", 0, 0),
    ] {
        let text = format!(r#"{{"id":"{id}","at":"cam","rule":"{rule}","status":{status}}}"#);
        let mut batch = scene.ingest.batch();
        batch.mapped(text.as_bytes(), &text, &[&mapping]);
        let submitted = scene.ingest.store(batch).await.expect("stored");
        assert_eq!(submitted.stored, stored, "{text}");
    }
    assert_eq!((scene.figure("rejected"), scene.figure("repeated")), (0, 0));
}

/// Builds a callback of iSecure with these events of one camera: id and status. All happen at one time.
fn callback(events: &[(&str, u8)]) -> String {
    static HAPPENED: LazyLock<String> = LazyLock::new(|| clock::rfc3339(clock::wall_ms()));
    let events: Vec<_> = events
        .iter()
        .map(|(id, status)| {
            json!({"eventId": id, "eventType": 131588, "srcIndex": "cam", "status": status,
                   "happenTime": *HAPPENED})
        })
        .collect();
    json!({"params": {"events": events}}).to_string()
}

#[tokio::test]
async fn occurrences_that_overlap_or_come_again_in_a_batch_each_have_one_beginning_and_one_end() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../configs/mappings/isecure-events.toml");
    let mapping = crate::files::load_mapping("test", &path).expect("a mapping of the project");
    let (begun, over) = ("camera.intrusion", "camera.restored");
    let long = "x".repeat(128);
    let long = long.as_str();
    for (what, sequence, expected) in [
        (
            "one after the other",
            &[("a", 1), ("a", 2), ("b", 1), ("b", 2)][..],
            &[begun, over, begun, over][..],
        ),
        (
            "at once",
            &[("a", 1), ("b", 1), ("a", 2), ("b", 2)],
            &[begun, begun, over, over],
        ),
        (
            "an end was lost",
            &[("a", 1), ("b", 1), ("b", 3), ("b", 2), ("c", 1)],
            &[begun, begun, over, begun],
        ),
        (
            "an id as long as one may be",
            &[(long, 1), (long, 2)],
            &[begun, over],
        ),
        ("a beginning was lost", &[("a", 2), ("b", 2)], &[over, over]),
    ] {
        // In one batch, and one by one; both arrive twice.
        let whole = vec![callback(sequence); 2];
        let each = sequence.iter().map(|event| callback(&[*event]));
        let each: Vec<String> = each.clone().chain(each).collect();
        for texts in [whole, each] {
            let scene = Scene::new(None);
            let (mut stored, mut known) = (0, 0);
            let mut seen = scene.watch();
            for text in &texts {
                let submitted = map(&scene, text, &[&mapping]).await;
                stored += submitted.stored;
                known += submitted.doubled;
            }
            assert_eq!(stored, expected.len(), "{what}: {texts:?}");
            assert_eq!(known, sequence.len() * 2 - stored, "{what}: {texts:?}");
            let mut kinds = Vec::new();
            while let Ok(seen) = seen.try_recv() {
                for event in &seen.events {
                    let id = event["source_id"].as_str().unwrap_or_default().to_owned();
                    if !kinds.iter().any(|(known, _)| *known == id) {
                        kinds.push((id, event["kind"].as_str().unwrap_or_default().to_owned()));
                    }
                }
            }
            let kinds: Vec<&str> = kinds.iter().map(|(_, kind)| kind.as_str()).collect();
            assert_eq!(kinds, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn a_kind_whose_end_is_left_out_is_no_state_and_each_of_it_is_an_event() {
    let scene = Scene::new(None);
    let mapping = mapping(
        "device = \"/at\"\nkind = \"/kind\"\n[state]\npoint = \"event\"\nby = \"/status\"\non = [\"1\"]\noff = [\"2\"]\n\
         over = { \"camera.intrusion\" = \"camera.restored\" }\n",
    );
    let mut stored = Vec::new();
    for status in [1, 2, 1, 2] {
        let text = format!(r#"{{"at":"d","kind":"door.held","status":{status}}}"#);
        stored.push(map(&scene, &text, &[&mapping]).await.stored);
    }
    assert_eq!(stored, [1, 0, 1, 0]);
    assert_eq!((scene.figure("rejected"), scene.figure("repeated")), (0, 0));
}

#[tokio::test]
async fn what_is_known_of_points_is_bounded_however_long_their_names_are() {
    let scene = Scene::new(Some(Duration::from_secs(60)));
    let directory = scene._directory.path();
    let keeper = StateStore::open(directory, vec![scene.ingest.clone()]);
    let mapping = mapping(
        "device = \"/at\"\nkind = { value = \"smoke.alarm\" }\n\
         [state]\npoint = \"p\"\npointer = \"/rule\"\nactive = [\"smoke.alarm\"]\n",
    );
    let long = "x".repeat(900_000);
    let mut stored = Vec::new();
    for end in ["a", "b", "a"] {
        let text = format!(r#"{{"at":"d","rule":"{long}{end}"}}"#);
        stored.push(map(&scene, &text, &[&mapping]).await.stored);
    }
    // The third is a point that is known.
    assert_eq!(stored, [1, 1, 0]);
    // States that are only noted, of a part of a device and of one whose name is too long for an event.
    let noted = |device: &str, by: Option<&str>| {
        let mut device_event = fire(true);
        device_event.device = Cow::Owned(device.to_owned());
        device_event.by = by.map(|by| Cow::Owned(by.to_owned()));
        device_event.state = Some(State {
            point: Cow::Owned(long.clone()),
            active: true,
            initial: true,
        });
        device_event
    };
    scene.take(b"x", noted("panel/1", Some("panel"))).await;
    scene.take(b"x", noted(&long, Some("panel"))).await;
    assert_eq!(scene.figure("rejected"), 0);
    scene.take(b"x", noted(&long, None)).await;
    assert_eq!(scene.figure("rejected"), 1);
    let said = &scene.ingest.view().samples[0].reason;
    assert!(said.contains("900000 bytes, at most 128"), "{said}");
    keeper.keep().await;
    let file = std::fs::metadata(directory.join("states/test"));
    assert!(file.expect("a file").len() < 1024);
    assert_eq!(scene.ingest.view().online, 2);
}

#[tokio::test]
async fn events_beyond_what_one_message_may_have_are_counted_and_said() {
    let scene = Scene::new(None);
    let mapping = mapping("kind = { value = \"door.opened\" }\n");
    let text = format!("[{}{{}}]", "{},".repeat(SUBMIT_EVENTS_MAX));
    let submitted = map(&scene, &text, &[&mapping]).await;
    assert_eq!(submitted.stored, SUBMIT_EVENTS_MAX);
    assert_eq!(scene.figure("rejected"), 1);
    let sample = &scene.ingest.view().samples[0].reason;
    assert!(sample.contains("more than 4096 events"), "{sample}");
}

#[tokio::test]
async fn an_alarm_behind_many_items_that_are_left_out_or_known_is_stored() {
    let scene = Scene::new(None);
    let mapping = mapping(
        "device = \"/at\"\nkind = \"/kind\"\n[[only]]\npointer = \"/take\"\nvalues = [\"1\"]\n\
         [state]\npoint = \"p\"\nactive = [\"smoke.alarm\"]\n",
    );
    let alarm = r#"{"take":1,"at":"d","kind":"smoke.alarm"}"#;
    let left_out = format!("[{}{alarm}]", "{},".repeat(5000));
    assert_eq!(map(&scene, &left_out, &[&mapping]).await.stored, 1);
    // Known states create no events either, even if there is no room for one more.
    let full: String = (0..SUBMIT_EVENTS_MAX)
        .map(|number| format!(r#"{{"take":1,"at":"e{number}","kind":"smoke.alarm"}},"#))
        .collect();
    let submitted = map(&scene, &format!("[{full}{alarm}]"), &[&mapping]).await;
    assert_eq!(submitted.stored, SUBMIT_EVENTS_MAX);
    assert_eq!((scene.figure("rejected"), scene.figure("repeated")), (0, 1));
}

#[tokio::test]
async fn a_mapping_that_cannot_read_a_message_takes_nothing_from_the_others() {
    let scene = Scene::new(None);
    let of_a_list = mapping("items = \"/list\"\nkind = { value = \"door.opened\" }\n");
    let of_one = mapping("kind = { value = \"smoke.alarm\" }\n");
    let deep = mapping("kind = { value = \"door.opened\" }\nid = \"/id\"\n");
    for mappings in [[&of_a_list, &of_one], [&of_one, &of_a_list]] {
        assert_eq!(map(&scene, r#"{"other":1}"#, &mappings).await.stored, 1);
    }
    // Complete items before the break are kept; of the rest the readable part, and the damage is reported.
    let broken = r#"[{"id":"1"},{"id":"2"},{"id"#;
    assert_eq!(map(&scene, broken, &[&deep, &of_one]).await.stored, 6);
    assert_eq!(scene.figure("rejected"), 2);
    let samples = scene.ingest.view().samples;
    assert_eq!(samples[0].reason, samples[1].reason);
    assert!(samples[0].reason.starts_with("no array at /list"));
}

#[tokio::test]
async fn who_is_refused_again_and_again_pushes_out_no_other_sample() {
    let scene = Scene::new(None);
    let said = Err(Reject::new("a message that cannot be read"));
    scene.ingest.take(b"x", said).await.expect("counted");
    for number in 0..20 {
        let why = format!("the {number}th time");
        scene.ingest.refused("cut_off", &[], &why);
        scene.ingest.refused("unauthorized", &[], &why);
    }
    let view = scene.ingest.view();
    let reasons: Vec<&str> = view.samples.iter().map(|sample| &*sample.reason).collect();
    assert_eq!(
        reasons,
        [
            "a message that cannot be read",
            "the 19th time",
            "the 19th time"
        ]
    );
}

fn opened(open: bool) -> DeviceEvent<'static> {
    DeviceEvent {
        state: Some(State {
            point: "contact".into(),
            active: open,
            initial: false,
        }),
        ..DeviceEvent::new(
            if open { "door.opened" } else { "door.closed" },
            Severity::Info,
            "d",
        )
    }
}

#[tokio::test]
async fn a_device_whose_first_word_is_offline_is_not_online() {
    let scene = Scene::new(Some(Duration::from_secs(30)));
    let offline = DeviceEvent::new("device.offline", Severity::Notice, "lamp");
    assert_eq!(scene.take(b"offline", offline).await.stored, 1);
    let online = |scene: &Scene| scene.ingest.with_devices(|devices| devices.count().online);
    assert_eq!(online(&scene), 0);
    // Nothing of the agent's own was stored: a broker spoke in its place.
    assert_eq!(scene.figure("stored"), 1);
    assert_eq!(scene.take(b"open", fire(true)).await.stored, 1);
    let back = DeviceEvent::new("door.held", Severity::Notice, "lamp");
    scene.take(b"held", back).await;
    assert_eq!(online(&scene), 2);
}

#[tokio::test]
async fn a_retry_keeps_its_arrival_and_does_not_replace_a_state_that_arrived_since() {
    let scene = Scene::new(None);
    scene.take(b"closed", opened(false)).await;
    let mut first = scene.ingest.batch();
    let mut earlier = scene.ingest.arrival();
    earlier.arrived_ms -= 5000;
    earlier.receipt.received_ms -= 5000;
    earlier.is_tried = true;
    // What arrived since is stored; then comes what waited.
    first.message(b"open", Ok(DecodedMessage::Events(vec![opened(true)])));
    scene.ingest.store(first).await.expect("stored");
    let mut seen = scene.watch();
    let mut retry = scene.ingest.batch();
    retry.set_arrival(&mut earlier);
    retry.message(b"closed", Ok(DecodedMessage::Events(vec![opened(false)])));
    let submitted = scene.ingest.store(retry).await.expect("stored");
    assert_eq!(submitted.stored, 1);
    let event = &last(&mut seen).events[0];
    assert_eq!(
        event["received_at"],
        clock::rfc3339(earlier.receipt.received_ms)
    );
    // It is open still.
    assert_eq!(scene.take(b"open again", opened(true)).await.stored, 0);
    assert_eq!(scene.take(b"closed now", opened(false)).await.stored, 1);
}

#[tokio::test]
async fn a_message_that_is_held_while_the_clock_is_set_keeps_the_time_since_boot_of_its_arrival() {
    let scene = Scene::new(None);
    let mut arrival = scene.ingest.arrival();
    arrival.receipt.is_synchronised = false;
    arrival.receipt.received_ms -= 10_800_000;
    arrival.arrived_ms -= 60_000;
    let claim = |time| DeviceEvent { time, ..fire(true) };
    for time in [DeviceTime::None, DeviceTime::Ms(clock::wall_ms())] {
        let mut batch = scene.ingest.batch();
        batch.set_arrival(&mut arrival);
        batch.message(b"on", Ok(DecodedMessage::Events(vec![claim(time)])));
        let events = std::mem::replace(
            &mut batch.submission,
            scene.ingest.0.shared.intake.submission(),
        );
        let event = &events.events()[0];
        assert_eq!(event.clock, ClockQuality::Unset, "{time:?}");
        assert_eq!(event.monotonic_ms, Some(arrival.arrived_ms), "{time:?}");
    }
}

#[tokio::test]
async fn a_state_that_goes_on_says_nothing_of_its_panels_clock() {
    let scene = Scene::new(Some(Duration::from_secs(60)));
    let part = |active, initial, behind_s: i64| {
        let mut event = DeviceEvent {
            by: Some("panel".into()),
            time: DeviceTime::Ms(clock::wall_ms() - behind_s * 1000),
            ..fire(active)
        };
        event.state.as_mut().expect("a state").initial = initial;
        event
    };
    // The panel reports parts that have been normal for hours.
    scene.take(b"off", part(false, true, 10_800)).await;
    scene.take(b"off", part(false, true, 10_700)).await;
    assert_eq!(scene.ingest.view().clocks_off, 0);
    // Only that the panel is online is an event.
    assert_eq!(scene.figure("stored"), 1);
    scene.take(b"on", part(true, false, 10_800)).await;
    assert_eq!(scene.ingest.view().clocks_off, 1);
}
