//! A lane under random operations, over a disk that loses, tears and refuses: its contents equal those of a
//! model.
use super::bad_disk::{BadDisk, Random};
use super::*;
use rustix::io::Errno;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Steps per seed.
const STEPS: u64 = 40;

/// The expected state of a lane.
#[derive(Default, Clone)]
struct Model {
    /// Ids by sequence; `None` where numbering was skipped ahead.
    events: Vec<Option<String>>,
    /// Events being stored: a part from the beginning may exist already.
    pending: Vec<Option<String>>,
    acked: u64,
    /// The last append that was answered, or is still pending: name and number of events.
    answered: Option<(String, u64)>,
    asked: Option<(String, u64)>,
}

/// A lane after a power cut, and its expected contents.
struct Cut {
    directory: TempDir,
    model: Model,
}

impl Model {
    fn id(&self, sequence: u64) -> Option<&Option<String>> {
        let index = sequence as usize;
        self.events
            .get(index)
            .or_else(|| self.pending.get(index - self.events.len()))
    }

    /// Checks that everything from the acknowledged position exists once and in order, or is known to be
    /// lost. Returns the number of events lost by damage.
    async fn check(&self, spool: &Spool) -> u64 {
        let end = spool.status().borrow().next;
        assert!(end.0 >= self.events.len() as u64, "{end} is too low");
        let mut damaged = 0;
        let mut from = Sequence(self.acked);
        while from < end {
            let items = spool.read(from, 16 * 1024).await;
            assert!(!items.is_empty(), "nothing is read from {from} on");
            for item in items {
                match item {
                    Item::Lost(range) => {
                        assert!(range.first <= from && from < range.end);
                        for sequence in from.0..range.end.0.min(end.0) {
                            let id = self.id(sequence).expect("a number that was given");
                            if range.reason == LostReason::Damage {
                                damaged += 1;
                            } else {
                                assert_eq!(*id, None, "{sequence} is lost");
                            }
                        }
                        from = range.end;
                    }
                    Item::Chunk(chunk) => {
                        let header = chunk.header();
                        assert!(header.first <= from && from < header.end());
                        let events = chunk.events().expect("whole");
                        for (event, sequence) in events.iter().zip(header.first.0..) {
                            let id = format!("{}/{}", event.source, event.source_id);
                            assert_eq!(self.id(sequence), Some(&Some(id)));
                        }
                        from = header.end();
                    }
                }
            }
        }
        damaged
    }

    fn commit(&mut self) {
        self.events.append(&mut self.pending);
        self.answered = self.asked.take().or(self.answered.take());
    }
}

impl Cut {
    /// Checks that the lane opens, has its contents, and recognises repeats of stored events.
    async fn check(mut self, settings: &Settings, what: &str) {
        let mut settings = settings.clone();
        settings.directory = self.directory.path().join("routine");
        let (spool, thread) = Spool::open(settings).expect("a lane opens after a power cut");
        assert_eq!(self.model.check(&spool).await, 0, "{what}: damage");
        let status = spool.status().borrow().clone();
        assert_eq!((status.damaged, status.lost_events), (0, 0), "{what}");
        if let Some((name, count)) = self.model.answered.clone() {
            let again = append(&spool, &name, count).await.expect("stored");
            assert_eq!(again.doubled as u64, count, "{what}: {name} comes again");
        }
        if let Some((name, count)) = self.model.asked.clone() {
            let again = append(&spool, &name, count).await.expect("stored");
            assert_eq!((again.stored + again.doubled) as u64, count, "{what}");
            self.model.commit();
            assert_eq!(self.model.check(&spool).await, 0, "{what}: damage");
        }
        close(thread);
    }
}

/// A lane, its model, and the disk below it.
struct Run {
    settings: Settings,
    disk: Arc<BadDisk>,
    model: Arc<Mutex<Model>>,
    cuts: Arc<Mutex<Vec<Cut>>>,
    lane: Option<(Spool, SpoolThread)>,
    random: Random,
    seed: u64,
    /// Power cuts so far.
    checked: usize,
    _directory: TempDir,
}

impl Run {
    /// A run in which one of `cut_every` operations is followed by a power cut, in a copy.
    fn new(seed: u64, generation_bytes: u64, cut_every: u64) -> Self {
        let directory = tempdir().expect("temporary directory");
        let mut settings = settings(&directory, 1 << 30, WhenFull::Refuse);
        settings.generation_bytes = generation_bytes;
        std::fs::create_dir(&settings.directory).expect("the lane");
        let disk = BadDisk::new(&settings.directory);
        let model = Arc::new(Mutex::new(Model::default()));
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let (at_cut, made) = (model.clone(), cuts.clone());
        let mut random = Random::new(seed + 1000);
        disk.at_operations(move |disk| {
            if random.below(cut_every) == 0 {
                let directory = tempdir().expect("temporary directory");
                disk.image(&directory.path().join("routine"), &mut random);
                let model = at_cut.lock().expect("the model").clone();
                made.lock().expect("cuts").push(Cut { directory, model });
            }
        });
        let lane = Some(Spool::open(settings.clone()).expect("open"));
        Self {
            settings,
            disk,
            model,
            cuts,
            lane,
            random: Random::new(seed),
            seed,
            checked: 0,
            _directory: directory,
        }
    }

    fn spool(&self) -> Spool {
        self.lane.as_ref().expect("open").0.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model.lock().expect("the model"));
    }

    fn model(&self) -> Model {
        self.model.lock().expect("the model").clone()
    }

    fn reopen(&mut self, settings: Settings) {
        if let Some((_, thread)) = self.lane.take() {
            close(thread);
        }
        self.lane = Some(Spool::open(settings).expect("open again"));
    }

    async fn append(&mut self, step: u64) {
        let count = self.random.below(120) + 1;
        self.append_named(&format!("s{step}"), count).await;
    }

    /// Appends like a source: repeats the same append until it is answered.
    async fn append_named(&mut self, name: &str, count: u64) {
        let ids = (0..count).map(|number| Some(format!("{name}/{number}")));
        self.change(|model| {
            model.pending = ids.collect();
            model.asked = Some((name.to_owned(), count));
        });
        let mut tries = 0;
        loop {
            match append(&self.spool(), name, count).await {
                Ok(appended) => {
                    assert_eq!((appended.stored + appended.doubled) as u64, count);
                    assert!(tries > 0 || appended.doubled == 0);
                    break;
                }
                Err(AppendError::Disk { .. }) => tries += 1,
                Err(error) => panic!("{error}"),
            }
            // The lane is reopened after a pause.
            assert!(tries < 100_000, "the lane does not recover");
        }
        self.change(Model::commit);
    }

    async fn acknowledge(&mut self) {
        let model = self.model();
        let waits = model.events.len() as u64 - model.acked;
        let acked = model.acked + self.random.below(waits + 1);
        self.change(|model| model.acked = acked);
        self.spool().ack(Sequence(acked)).await;
    }

    async fn skip(&mut self, step: u64) {
        let more = self.random.below(50) as usize;
        let next = self.model().events.len() + more;
        self.change(|model| model.pending = vec![None; more]);
        let spool = self.spool();
        while spool.status().borrow().next.0 < next as u64 {
            spool.skip_to(Sequence(next as u64)).await;
            // It has no answer; one round later it is done or was refused.
            spool.read(Sequence(u64::MAX), 1).await;
        }
        self.change(Model::commit);
        self.append_named(&format!("s{step}"), 1).await;
    }

    async fn full(&mut self, step: u64) {
        let mut settings = self.settings.clone();
        settings.quota_bytes = 0;
        self.reopen(settings);
        let refused = append(&self.spool(), &format!("s{step}"), 3).await;
        assert!(
            matches!(refused, Err(AppendError::Quota { .. })),
            "{refused:?}"
        );
        self.reopen(self.settings.clone());
    }

    async fn step(&mut self, step: u64) {
        let may_refuse = self.random.below(3) == 0;
        if may_refuse {
            let error = [Errno::NOSPC, Errno::IO, Errno::DQUOT][self.random.below(3) as usize];
            self.disk.refuse_after(self.random.below(6), error);
        }
        match self.random.below(12) {
            0..6 => self.append(step).await,
            6..8 => self.acknowledge().await,
            8 => self.skip(step).await,
            9 => {
                let count = 1500 + self.random.below(500);
                self.append_named(&format!("s{step}"), count).await;
            }
            10 => {
                self.disk.refuse_nothing();
                self.full(step).await;
            }
            _ => self.reopen(self.settings.clone()),
        }
        // An acknowledgement has no answer; one round later it is done.
        let spool = self.spool();
        spool.read(Sequence(u64::MAX), 1).await;
        self.disk.refuse_nothing();
        let model = self.model();
        // A lane that failed reopens with the next request that needs it.
        while model.acked < model.events.len() as u64
            && spool.read(Sequence(model.acked), 1).await.is_empty()
        {}
        let what = format!("seed {}, step {step}", self.seed);
        assert_eq!(model.check(&spool).await, 0, "{what}");
        assert_eq!(spool.status().borrow().lost_events, 0, "{what}");
        assert_eq!(spool.status().borrow().blob_files, 0, "{what}");
        self.check_cuts(&what).await;
    }

    async fn check_cuts(&mut self, what: &str) {
        let cuts = std::mem::take(&mut *self.cuts.lock().expect("cuts"));
        self.checked += cuts.len();
        for (index, cut) in cuts.into_iter().enumerate() {
            cut.check(&self.settings, &format!("{what}, cut {index}"))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_lane_it_holds_what_a_model_of_it_holds_also_after_a_power_cut() {
    let mut runs = tokio::task::JoinSet::new();
    for seed in 1..=6 {
        runs.spawn(async move {
            // In some runs each append fills a generation, in others many go into one.
            let mut run = Run::new(seed, [96 << 10, 3 << 20][seed as usize % 2], 5);
            for step in 0..STEPS {
                run.step(step).await;
            }
            run.disk.remove();
            println!("seed {seed}: {} power cuts", run.checked);
            assert!(run.checked > 20);
        });
    }
    while let Some(ended) = runs.join_next().await {
        ended.expect("a run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_larger_than_sleds_segments_costs_nothing_that_was_answered_before() {
    for seed in 1..=2 {
        let mut run = Run::new(seed, 64 << 20, 4);
        for step in 0..4 {
            // sled moves pages and reuses their segments for new records meanwhile.
            run.append(step).await;
            let count = 5000 + run.random.below(3000);
            run.append_named(&format!("large{step}"), count).await;
            run.check_cuts(&format!("seed {seed}, step {step}")).await;
            let acked = run.model().events.len() as u64 - 400;
            run.change(|model| model.acked = acked);
            run.spool().ack(Sequence(acked)).await;
        }
        println!("seed {seed}: {} power cuts", run.checked);
        run.disk.remove();
    }
}

/// Damages the files of a lane: flipped bytes, zeroed sectors, truncated tails.
fn damage_lane(lane: &Path, random: &mut Random) {
    let entries = std::fs::read_dir(lane).expect("the lane").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path().join("db")).collect();
    files.sort();
    for file in files {
        let Ok(mut bytes) = std::fs::read(&file) else {
            continue;
        };
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let at = random.below(end) as usize;
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => {
                let sector = at / 512 * 512;
                let stop = bytes.len().min(sector + 512);
                bytes[sector..stop].fill(0);
            }
            2 => bytes.truncate(at),
            3 => bytes[..64].fill(0xa5),
            _ => continue,
        }
        std::fs::write(&file, bytes).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_damaged_in_a_lane_each_event_is_there_as_it_was_or_reported_as_lost() {
    for seed in 1..=12 {
        let mut random = Random::new(seed);
        let directory = tempdir().expect("temporary directory");
        let mut settings = settings(&directory, 1 << 30, WhenFull::Refuse);
        settings.generation_bytes = [96 << 10, 3 << 20][seed as usize % 2];
        let mut model = Model::default();
        for round in 0..4 {
            let (spool, thread) = Spool::open(settings.clone()).expect("a damaged lane opens");
            let before = spool.status().borrow().clone();
            let lost = model.check(&spool).await;
            assert!(lost >= before.lost_events, "seed {seed}, round {round}");
            // Once reported, the loss is known.
            close(thread);
            let (spool, thread) = Spool::open(settings.clone()).expect("open again");
            assert_eq!(
                model.check(&spool).await,
                lost,
                "seed {seed}, round {round}"
            );
            let after = spool.status().borrow().clone();
            assert_eq!((after.damaged, after.lost_events), (0, 0));
            for step in 0..6 {
                let (name, count) = (format!("r{round}s{step}"), random.below(150) + 1);
                let stored = append(&spool, &name, count).await.expect("stored").stored;
                assert_eq!(stored as u64, count);
                let ids = (0..count).map(|number| Some(format!("{name}/{number}")));
                model.events.extend(ids);
            }
            close(thread);
            damage_lane(&settings.directory, &mut random);
        }
        let (spool, _thread) = Spool::open(settings).expect("a damaged lane opens");
        model.check(&spool).await;
    }
}
