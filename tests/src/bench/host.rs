//! What every benched program shares: two hosts in a box, a way to run a program on one of them,
//! what that program cost, and the table that compares the costs.
//!
//! ```text
//!   namespace "edge", core 0                namespace "hub", core 1
//!   feeder (any core) -> edge program == veth == hub program
//! ```
//!
//! Every host is a network namespace of its own, so fixed ports never clash with the machine's
//! services and the bytes between the programs can be read off one interface. Root is needed.
//! Everything made here (namespaces, processes, directories) goes away on drop; a benchmark that
//! is killed leaves `linli-bench-<pid>-*` behind, in `ip netns list` and in `/var/tmp`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

/// The error of a benchmark: a sentence for the person who runs it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of a step of a benchmark.
pub type Result<T> = std::result::Result<T, Error>;

/// How long a program may take until it listens or answers.
pub const STARTUP_MAX: Duration = Duration::from_secs(10);
/// A run that moves fewer events than this a second, after `STARTUP_MAX`, counts as stuck.
const EVENTS_PER_S_MIN: u64 = 2_000;
/// How often ports and arrivals are looked at: 1 % of a run of one second.
pub const POLL: Duration = Duration::from_millis(10);
/// How much of a program's log an error quotes.
const TAIL_LINES_MAX: usize = 15;
/// The unit of CPU time in `/proc/<pid>/stat`, which is 100 on every architecture of Debian.
const CLOCK_TICKS_PER_S: f64 = 100.0;
/// The name of the veth in both namespaces.
const WIRE: &str = "wire";
/// Where scratch directories are made. `/tmp` is memory on many machines, and a disk queue in
/// memory would cost nothing.
const SCRATCH_ROOT: &str = "/var/tmp";

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// The edge's namespace and core.
    Edge,
    /// The hub's namespace and core.
    Hub,
    /// The edge's namespace without a core of its own: a source of events, which runs wherever
    /// there is room.
    Feed,
}

/// Two hosts joined by one wire.
#[derive(Debug)]
pub struct Hosts {
    edge: Namespace,
    hub: Namespace,
    hub_ip: Ipv4Addr,
    pinned: bool,
}

impl Hosts {
    /// Makes both namespaces and the veth between them.
    pub fn new() -> Result<Self> {
        find_program("ip", "iproute2")?;
        let pinned = available_parallelism()?.get() >= 2;
        if pinned {
            find_program("taskset", "util-linux")?;
        }
        let pid = std::process::id();
        let edge = Namespace::add(format!("linli-bench-{pid}-edge"))?;
        let hub = Namespace::add(format!("linli-bench-{pid}-hub"))?;
        let net = u8::try_from(pid % 256).expect("a remainder of 256 fits a byte");
        let edge_ip = Ipv4Addr::new(10, 83, net, 1);
        let hub_ip = Ipv4Addr::new(10, 83, net, 2);
        let peer = ["type", "veth", "peer", "name", WIRE, "netns", &hub.0];
        edge.ip(&[&["link", "add", WIRE], &peer[..]].concat())?;
        for (host, address) in [(&edge, edge_ip), (&hub, hub_ip)] {
            host.ip(&["address", "add", &format!("{address}/24"), "dev", WIRE])?;
            host.ip(&["link", "set", "lo", "up"])?;
            host.ip(&["link", "set", WIRE, "up"])?;
        }
        Ok(Self {
            edge,
            hub,
            hub_ip,
            pinned,
        })
    }

    /// Gives the edge more addresses, as if more gateways stood there.
    pub fn add_edge_addresses(&self, count: u8) -> Result<Vec<Ipv4Addr>> {
        let [a, b, net, _] = self.hub_ip.octets();
        (0..count)
            .map(|number| {
                let address = Ipv4Addr::new(a, b, net, 10 + number);
                let text = format!("{address}/24");
                self.edge.ip(&["address", "add", &text, "dev", WIRE])?;
                Ok(address)
            })
            .collect()
    }

    /// The address by which the edge reaches the hub.
    pub fn hub_ip(&self) -> Ipv4Addr {
        self.hub_ip
    }

    /// A command that runs `program` on one side. `ip` and `taskset` replace themselves by it, so
    /// the id of the started child is the id of the program.
    pub fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Command {
        let (host, core) = match side {
            Side::Edge => (&self.edge, Some("0")),
            Side::Hub => (&self.hub, Some("1")),
            Side::Feed => (&self.edge, None),
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.0]);
        if let Some(core) = core.filter(|_| self.pinned) {
            command.args(["taskset", "-c", core]);
        }
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// The bytes that crossed the wire so far, both ways. They are counted before segmentation, so
    /// up to 64 KiB of TCP (or of batched UDP) carry one set of headers.
    pub fn wire_bytes(&self) -> Result<u64> {
        let counters = ["tx_bytes", "rx_bytes"]
            .map(|counter| format!("/sys/class/net/{WIRE}/statistics/{counter}"));
        let text = output_of(self.command(Side::Feed, "cat").args(counters))?;
        let counts = text.lines().map(|line| Ok(line.parse::<u64>()?));
        counts.sum()
    }
}

/// A network namespace, deleted on drop (which deletes its end of the veth, and so both).
#[derive(Debug)]
struct Namespace(String);

impl Namespace {
    fn add(name: String) -> Result<Self> {
        output_of(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Self(name))
    }

    fn ip(&self, args: &[&str]) -> Result<String> {
        output_of(Command::new("ip").args(["-n", &self.0]).args(args))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = output_of(Command::new("ip").args(["netns", "delete", &self.0])) {
            eprintln!("The namespace {} stays behind: {error}", self.0);
        }
    }
}

/// A directory on disk for one run, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory, which must not exist.
    pub fn new(name: &str) -> Result<Self> {
        let path = format!("{SCRATCH_ROOT}/linli-bench-{}-{name}", std::process::id());
        fs::create_dir(&path).map_err(|error| format!("cannot make {path}: {error}"))?;
        Ok(Self(path.into()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// A started program, killed on drop.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, which prints to `<directory>/<name>.log`.
    pub fn start(name: &'static str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command.stdout(out.try_clone()?).stderr(out).spawn();
        let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name, child, log })
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program listens on a TCP port.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + STARTUP_MAX;
        while !listens(self.pid(), port) {
            self.check().map_err(|error| self.with_tail(error))?;
            if Instant::now() > deadline {
                return Err(self.with_tail(format!("{} has no port {port}", self.name).into()));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until the program ends by itself. It is an error if it fails.
    pub fn wait(&mut self) -> Result<()> {
        self.child.wait()?;
        self.check().map_err(|error| self.with_tail(error))
    }

    /// It is an error if the program has failed.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => {
                Err(format!("{} ended with {status}", self.name).into())
            }
            _ => Ok(()),
        }
    }

    fn with_tail(&self, error: Error) -> Error {
        format!("{error}\n{}", self.tail()).into()
    }

    fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_else(|error| error.to_string().into());
        let log = String::from_utf8_lossy(&log);
        let skipped = log.lines().count().saturating_sub(TAIL_LINES_MAX);
        let lines: Vec<&str> = log.lines().skip(skipped).collect();
        format!(
            "--- end of the log of {}\n{}\n",
            self.name,
            lines.join("\n")
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the program has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `arrived` reports `events`. It is an error if one of `programs` fails first or the
/// events are not there in time.
pub fn wait_for_events(
    events: u64,
    programs: &mut [&mut Running],
    mut arrived: impl FnMut() -> Result<u64>,
) -> Result<()> {
    let deadline = Instant::now() + STARTUP_MAX + Duration::from_secs(events / EVENTS_PER_S_MIN);
    loop {
        let there = arrived()?;
        if there >= events {
            return Ok(());
        }
        let late = Instant::now() > deadline;
        let failed = programs
            .iter_mut()
            .find_map(|program| program.check().err());
        if late || failed.is_some() {
            let reason = failed.map_or("too slow or stuck".to_owned(), |error| error.to_string());
            let tails: String = programs.iter().map(|program| program.tail()).collect();
            let missing = events - there;
            return Err(
                format!("{missing} of {events} events are missing: {reason}\n{tails}").into(),
            );
        }
        sleep(POLL);
    }
}

/// What a live process has used since it began.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads, including those that ended, in seconds.
    pub cpu_s: f64,
    /// The most memory that was ever resident, in millions of bytes.
    pub peak_mb: f64,
    /// The memory that is resident now, in millions of bytes.
    pub resident_mb: f64,
}

impl Usage {
    /// Reads the usage from `/proc`.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program may hold spaces and brackets; fields count from its last one.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/<pid>/stat")?;
        let mut ticks = 0.0;
        for time in fields.split_whitespace().skip(11).take(2) {
            ticks += time.parse::<f64>()?;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let figure_mb = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|text| text.split_whitespace().next());
            let kib: f64 = kib
                .ok_or_else(|| format!("no {name} in /proc/<pid>/status"))?
                .parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok(Self {
            cpu_s: ticks / CLOCK_TICKS_PER_S,
            peak_mb: figure_mb("VmHWM:")?,
            resident_mb: figure_mb("VmRSS:")?,
        })
    }
}

/// A measurement under way.
#[derive(Debug)]
pub struct Meter<'a> {
    hosts: &'a Hosts,
    pids: [u32; 2],
    cpu_s: [f64; 2],
    wire_bytes: u64,
    started: Instant,
}

impl<'a> Meter<'a> {
    /// Begins right before the first event is fed: what the programs used until now is left out.
    pub fn start(hosts: &'a Hosts, edge: &Running, hub: &Running) -> Result<Self> {
        let pids = [edge.pid(), hub.pid()];
        Ok(Self {
            hosts,
            pids,
            cpu_s: [Usage::of(pids[0])?.cpu_s, Usage::of(pids[1])?.cpu_s],
            wire_bytes: hosts.wire_bytes()?,
            started: Instant::now(),
        })
    }

    /// Ends when the last event has arrived, with both programs still alive.
    pub fn finish(self, name: &str, events: u64, note: &str) -> Result<Row> {
        let seconds = self.started.elapsed().as_secs_f64();
        let [edge, hub] = [Usage::of(self.pids[0])?, Usage::of(self.pids[1])?];
        Ok(Row {
            name: name.to_owned(),
            events,
            seconds,
            edge_cpu_s: edge.cpu_s - self.cpu_s[0],
            hub_cpu_s: hub.cpu_s - self.cpu_s[1],
            edge_peak_mb: edge.peak_mb,
            wire_bytes: self.hosts.wire_bytes()? - self.wire_bytes,
            note: note.to_owned(),
        })
    }
}

/// One program's run.
#[derive(Clone, Debug)]
pub struct Row {
    /// The program.
    pub name: String,
    /// How many events went through.
    pub events: u64,
    /// From the first event fed to the last one stored on the hub.
    pub seconds: f64,
    /// CPU time of the edge program.
    pub edge_cpu_s: f64,
    /// CPU time of the hub program.
    pub hub_cpu_s: f64,
    /// Peak resident memory of the edge program.
    pub edge_peak_mb: f64,
    /// Bytes on the wire, both ways.
    pub wire_bytes: u64,
    /// What a reader must know to compare fairly.
    pub note: String,
}

impl Row {
    /// Events a second.
    pub fn events_per_s(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// CPU seconds of the edge program per million events.
    pub fn edge_s_per_million(&self) -> f64 {
        self.edge_cpu_s * 1e6 / self.events as f64
    }

    /// CPU seconds of the hub program per million events.
    pub fn hub_s_per_million(&self) -> f64 {
        self.hub_cpu_s * 1e6 / self.events as f64
    }

    /// Bytes on the wire per event.
    pub fn wire_bytes_per_event(&self) -> f64 {
        self.wire_bytes as f64 / self.events as f64
    }

    /// The figures of the table, each with its digits after the point.
    fn figures(&self) -> [(f64, usize); 5] {
        [
            (self.events_per_s(), 0),
            (self.edge_s_per_million(), 2),
            (self.hub_s_per_million(), 2),
            (self.edge_peak_mb, 1),
            (self.wire_bytes_per_event(), 0),
        ]
    }
}

/// The rows as a Markdown table. A ratio divides by the figure of the first row: above 1, a rate
/// is better and a cost is worse than the first row's.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| program | events/s | × | edge s/M | × | hub s/M | × | edge peak MB | × \
         | wire B/event | × | note |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let _ = write!(text, "| {} |", row.name);
        for ((value, digits), (base, _)) in row.figures().into_iter().zip(rows[0].figures()) {
            let _ = write!(text, " {value:.digits$} | {:.2} |", value / base);
        }
        let _ = writeln!(text, " {} |", row.note);
    }
    text
}

/// The path of an installed program. If it is missing, the error names its Debian package.
pub fn find_program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The PATH of an ordinary user leaves out the folder where servers live.
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{name} is missing: install the Debian package {package}").into())
}

/// Whether somebody listens on a TCP port in the network namespace of a process.
fn listens(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().take(4).collect();
            matches!(fields[..], [_, local, _, LISTEN] if local.ends_with(&port))
        })
    })
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {}", reason.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
