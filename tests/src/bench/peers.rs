//! The same job done by others: events are fed to an edge program, which buffers them and forwards
//! them to a hub program, which stores and acknowledges them.
//!
//! Every peer comes from Debian 12 and is set up as its documentation recommends for reliable
//! forwarding. A thread cannot enter a namespace without unsafe code, so what talks to a peer runs
//! as a child: the benchmark starts itself with the subcommand `FEED`, which calls `feed_main`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::host::{
    Hosts, Meter, POLL, Result, Row, Running, STARTUP_MAX, Scratch, Side, find_program,
    wait_for_events,
};

/// The hidden subcommand under which the benchmark's own binary calls `feed_main`.
pub const FEED: &str = "feed";

/// How much is read from a file or handed to a socket at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many published events may wait for their acknowledgement by NATS.
const IN_FLIGHT_MAX: u64 = 1024;
/// How long NATS may take to acknowledge or reply.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// How long a request may take before it is repeated, while NATS still starts.
const REPLY_AT_START_MAX: Duration = Duration::from_millis(250);

const SYSLOG_PORT: u16 = 5140;
const RELP_PORT: u16 = 2514;
const NATS_PORT: u16 = 4222;
const NATS_LEAF_PORT: u16 = 7422;

/// Where a peer runs: what its edge and its hub have in common.
struct Peer<'a> {
    hosts: &'a Hosts,
    scratch: Scratch,
    program: PathBuf,
    /// The arguments before the path of the configuration.
    options: &'static [&'static str],
}

impl Peer<'_> {
    fn start(&self, side: Side, name: &'static str, config: String, port: u16) -> Result<Running> {
        let file = self.scratch.path().join(format!("{name}.conf"));
        fs::write(&file, config)?;
        let mut command = self.hosts.command(side, &self.program);
        command.args(self.options).arg(file);
        let mut running = Running::start(name, command, self.scratch.path())?;
        running.wait_for_port(port)?;
        Ok(running)
    }

    fn errand(&self, side: Side, name: &'static str, args: &[&str]) -> Result<Running> {
        errand(self.hosts, side, name, args, self.scratch.path())
    }
}

/// Starts one of the errands of `feed_main`, with the log `<directory>/<name>.log`.
pub fn errand(
    hosts: &Hosts,
    side: Side,
    name: &'static str,
    args: &[&str],
    directory: &Path,
) -> Result<Running> {
    let mut command = hosts.command(side, std::env::current_exe()?);
    command.arg(FEED).args(args);
    Running::start(name, command, directory)
}

/// Runs rsyslog on both hosts: a disk-assisted queue, then RELP, then a file.
pub fn rsyslog(hosts: &Hosts, events: &Path, count: u64) -> Result<Row> {
    let program = find_program("rsyslogd", "rsyslog")?;
    // The folder of modules lies in one named after the architecture.
    let mut folders = fs::read_dir("/usr/lib")?.flatten();
    if !folders.any(|folder| folder.path().join("rsyslog/omrelp.so").is_file()) {
        return Err("omrelp.so is missing: install the Debian package rsyslog-relp".into());
    }
    let peer = Peer {
        hosts,
        scratch: Scratch::new("rsyslog")?,
        program,
        options: &["-n", "-iNONE", "-f"],
    };
    let dir = peer.scratch.path();
    // The hub comes first: an edge that finds nobody waits 30 seconds before it tries again.
    let hub_config = rsyslog_hub(dir);
    let mut hub = peer.start(Side::Hub, "rsyslog-hub", hub_config, RELP_PORT)?;
    let edge_config = rsyslog_edge(dir, hosts);
    let mut edge = peer.start(Side::Edge, "rsyslog-edge", edge_config, SYSLOG_PORT)?;

    let stored = dir.join("stored");
    let mut lines = LineCount::default();
    let address = format!("127.0.0.1:{SYSLOG_PORT}");
    let events = path_text(events)?;
    let feed = |name, count: u64| {
        let args = ["lines", &address, events, &count.to_string()];
        peer.errand(Side::Feed, name, &args)
    };
    // One event opens the RELP session. A flood that meets a closed one spills to the disk queue,
    // whose worker now and then sleeps through the rest of the run, and the spilled events with it.
    feed("rsyslog-opener", 1)?.wait()?;
    wait_for_events(1, &mut [&mut edge, &mut hub], || lines.read(&stored))?;

    let meter = Meter::start(hosts, &edge, &hub)?;
    let mut feeder = feed("rsyslog-feeder", count)?;
    let programs = &mut [&mut feeder, &mut edge, &mut hub];
    wait_for_events(count, programs, || Ok(lines.read(&stored)? - 1))?;
    let note = "plaintext, on disk only when its memory is full, not synced";
    meter.finish("rsyslog RELP, disk-assisted", count, note)
}

fn rsyslog_edge(dir: &Path, hosts: &Hosts) -> String {
    let (dir, hub_ip) = (dir.display(), hosts.hub_ip());
    format!(
        r#"global(workDirectory="{dir}")
module(load="imptcp")
module(load="omrelp")
template(name="raw" type="string" string="%rawmsg%")
input(type="imptcp" address="127.0.0.1" port="{SYSLOG_PORT}" ruleset="forward"
      supportOctetCountedFraming="off")
ruleset(name="forward") {{
  action(type="omrelp" target="{hub_ip}" port="{RELP_PORT}" template="raw"
         queue.type="LinkedList" queue.filename="forward" queue.maxDiskSpace="10g"
         queue.saveOnShutdown="on" action.resumeRetryCount="-1")
}}
# What rsyslog says of itself.
action(type="omfile" file="{dir}/rsyslog-edge.log")
"#
    )
}

fn rsyslog_hub(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"global(workDirectory="{dir}")
module(load="imrelp")
template(name="line" type="string" string="%rawmsg%\n")
input(type="imrelp" port="{RELP_PORT}" ruleset="store")
ruleset(name="store") {{
  action(type="omfile" file="{dir}/stored" template="line")
}}
# What rsyslog says of itself.
action(type="omfile" file="{dir}/rsyslog-hub.log")
"#
    )
}

/// Counts the lines of a growing file; every byte is read once.
#[derive(Default)]
struct LineCount {
    file: Option<File>,
    lines: u64,
}

impl LineCount {
    fn read(&mut self, path: &Path) -> Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            // The hub makes the file when the first event arrives.
            None if !path.exists() => return Ok(0),
            none => none.insert(File::open(path)?),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(self.lines);
            }
            let ends = buffer[..length].iter().filter(|&&byte| byte == b'\n');
            self.lines += ends.count() as u64;
        }
    }
}

/// Runs NATS with JetStream on both hosts: the edge is a leaf of the hub, which sources the edge's
/// stream into its own.
pub fn nats(hosts: &Hosts, events: &Path, count: u64) -> Result<Row> {
    let peer = Peer {
        hosts,
        scratch: Scratch::new("nats")?,
        program: find_program("nats-server", "nats-server")?,
        options: &["-c"],
    };
    let hub_ip = hosts.hub_ip();
    let start = |side, name, domain, leaf| {
        let store = peer.scratch.path().join(domain);
        let config = format!(
            "server_name: {domain}\nlisten: \"127.0.0.1:{NATS_PORT}\"\n\
             jetstream {{ store_dir: \"{}\", domain: {domain} }}\nleafnodes {{ {leaf} }}\n",
            store.display()
        );
        peer.start(side, name, config, NATS_PORT)
    };
    let leaf = format!("listen: \"{hub_ip}:{NATS_LEAF_PORT}\"");
    let mut hub = start(Side::Hub, "nats-hub", "hub", leaf)?;
    let leaf = format!("remotes: [{{ url: \"nats-leaf://{hub_ip}:{NATS_LEAF_PORT}\" }}]");
    let mut edge = start(Side::Edge, "nats-edge", "edge", leaf)?;

    let address = format!("127.0.0.1:{NATS_PORT}");
    let request = |side, name, subject, body| {
        let args = ["nats-request", &address, subject, body];
        peer.errand(side, name, &args)?.wait()
    };
    let create = "$JS.API.STREAM.CREATE.EVENTS";
    let stream = r#"{"name":"EVENTS","subjects":["ev.>"],"storage":"file"}"#;
    request(Side::Feed, "nats-edge-stream", create, stream)?;
    // The reply crosses the leaf connection, which is up from then on.
    let info = "$JS.edge.API.STREAM.INFO.EVENTS";
    request(Side::Hub, "nats-leaf", info, "")?;
    // The hub's stream takes no subjects: events come from the edge's stream only, once.
    let stream = r#"{"name":"EVENTS","storage":"file",
        "sources":[{"name":"EVENTS","external":{"api":"$JS.edge.API"}}]}"#;
    request(Side::Hub, "nats-hub-stream", create, stream)?;
    let mut watch = peer.errand(Side::Hub, "nats-watch", &["nats-watch", &address])?;

    let meter = Meter::start(hosts, &edge, &hub)?;
    let count_text = count.to_string();
    let feed = ["nats-publish", &address, path_text(events)?, &count_text];
    let mut feeder = peer.errand(Side::Feed, "nats-feeder", &feed)?;
    let watched = peer.scratch.path().join("nats-watch.log");
    let programs = &mut [&mut feeder, &mut edge, &mut hub, &mut watch];
    wait_for_events(count, programs, || {
        let printed = fs::read_to_string(&watched)?;
        // The last line may be half written.
        let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().rev().find_map(|line| line.parse().ok());
        Ok(last.unwrap_or(0))
    })?;
    let note = "plaintext, on disk, not synced";
    meter.finish("NATS JetStream, leaf and source", count, note)
}

fn path_text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("the path of the events is not text")?)
}

/// The errands that run inside a namespace, by what follows `FEED` on the command line.
pub fn feed_main(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["lines", address, events, count] => feed_lines(address, events, count.parse()?),
        ["nats-publish", address, events, count] => nats_publish(address, events, count.parse()?),
        ["nats-request", address, subject, body] => nats_request(address, subject, body),
        ["nats-watch", address] => nats_watch(address),
        _ => Err("no such errand".into()),
    };
    done.map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(late) if late.kind() == io::ErrorKind::WouldBlock => {
            format!("{args:?}: no reply in time").into()
        }
        _ => format!("{args:?}: {error}").into(),
    })
}

/// Writes one event a line, as fast as the other side reads.
fn feed_lines(address: &str, events: &str, count: u64) -> Result<()> {
    let mut socket = BufWriter::with_capacity(CHUNK_BYTES, TcpStream::connect(address)?);
    each_event(events, count, |event| {
        socket.write_all(event)?;
        Ok(socket.write_all(b"\n")?)
    })?;
    Ok(socket.flush()?)
}

/// Publishes to the edge's stream; every event is acknowledged.
fn nats_publish(address: &str, events: &str, count: u64) -> Result<()> {
    let mut nats = Nats::connect(address, REPLY_MAX)?;
    let mut in_flight = 0;
    each_event(events, count, |event| {
        nats.publish("ev.bench", event)?;
        in_flight += 1;
        if in_flight == IN_FLIGHT_MAX {
            // The other half stays with the server while the next events are written.
            while in_flight > IN_FLIGHT_MAX / 2 {
                nats.reply()?;
                in_flight -= 1;
            }
        }
        Ok(())
    })?;
    for _ in 0..in_flight {
        nats.reply()?;
    }
    Ok(())
}

/// Asks until an answer comes: the server, or the leaf connection behind it, may still start.
fn nats_request(address: &str, subject: &str, body: &str) -> Result<()> {
    let deadline = Instant::now() + STARTUP_MAX;
    loop {
        let mut nats = Nats::connect(address, REPLY_AT_START_MAX)?;
        nats.publish(subject, body.as_bytes())?;
        match nats.reply() {
            Err(error) if error.is::<io::Error>() && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}

/// Prints the length of the hub's stream whenever it has changed, until it is killed.
fn nats_watch(address: &str) -> Result<()> {
    let mut nats = Nats::connect(address, REPLY_MAX)?;
    let mut last = 0;
    loop {
        nats.publish("$JS.API.STREAM.INFO.EVENTS", b"")?;
        nats.reply()?;
        let info = String::from_utf8_lossy(&nats.payload);
        let (_, state) = info
            .split_once(r#""state":{"messages":"#)
            .ok_or_else(|| format!("no length in {info}"))?;
        let messages = state.split(',').next().unwrap_or_default().parse()?;
        if last != messages {
            println!("{messages}");
            last = messages;
        }
        sleep(POLL);
    }
}

/// A client of the text protocol of NATS that asks for a reply to every message.
struct Nats {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
    inbox: String,
    line: String,
    payload: Vec<u8>,
}

impl Nats {
    fn connect(address: &str, reply_max: Duration) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(reply_max))?;
        // An inbox is known on both sides of the leaf connection, so every client has its own.
        let inbox = format!("_INBOX.linli.{}", std::process::id());
        let mut writer = BufWriter::with_capacity(CHUNK_BYTES, socket.try_clone()?);
        write!(writer, "CONNECT {{\"verbose\":false}}\r\nSUB {inbox} 1\r\n")?;
        Ok(Self {
            reader: BufReader::with_capacity(CHUNK_BYTES, socket),
            writer,
            inbox,
            line: String::new(),
            payload: Vec::new(),
        })
    }

    fn publish(&mut self, subject: &str, body: &[u8]) -> Result<()> {
        let (inbox, length) = (&self.inbox, body.len());
        write!(self.writer, "PUB {subject} {inbox} {length}\r\n")?;
        self.writer.write_all(body)?;
        Ok(self.writer.write_all(b"\r\n")?)
    }

    /// Sends what is still buffered and reads one reply into `payload`.
    fn reply(&mut self) -> Result<()> {
        self.writer.flush()?;
        loop {
            self.line.clear();
            if self.reader.read_line(&mut self.line)? == 0 {
                return Err("NATS hung up".into());
            }
            if self.line.starts_with("MSG ") {
                let length = self.line.split_whitespace().next_back().unwrap_or_default();
                // Two more bytes end the line of the payload.
                self.payload.resize(length.parse::<usize>()? + 2, 0);
                self.reader.read_exact(&mut self.payload)?;
                let text = String::from_utf8_lossy(&self.payload);
                return match text.contains(r#""error""#) {
                    true => Err(text.into()),
                    false => Ok(()),
                };
            }
            if self.line.starts_with("PING") {
                self.writer.write_all(b"PONG\r\n")?;
                self.writer.flush()?;
            } else if self.line.starts_with("-ERR") {
                return Err(self.line.trim().into());
            }
        }
    }
}

/// Calls `send` with the first `count` lines of a file.
fn each_event(path: &str, count: u64, mut send: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut line = Vec::new();
    for there in 0..count {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Err(format!("{path} has {there} events, {count} are wanted").into());
        }
        send(line.strip_suffix(b"\n").unwrap_or(&line))?;
    }
    Ok(())
}
