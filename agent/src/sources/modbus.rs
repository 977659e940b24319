//! Modbus TCP (MODBUS Messaging on TCP/IP V1.0b): registers of charging piles and relays, polled by a map.
//!
//! One connection an address; the units behind a gateway are polled in turn. A poll reads all of a unit's registers
//! by [`map`](linli_devices::modbus::map) and derives states from them by [`watchers`](linli_devices::modbus::watchers); an answered poll is a sign of life.
//!
//! * An exception is counted as an unreadable message, and names the registers. A unit that answers only exceptions
//!   is as unknown as a silent one. A gateway's exception about a unit it cannot reach (10 and 11) is no answer of
//!   the unit.
//! * A silent unit affects only itself: the other units behind its address are polled over a new connection.
//! * States survive a reconnect: a lost connection neither ends an alarm nor begins it anew.
//! * An answer that is cut, damaged, or one to another request is an unreadable message with its bytes as its sample.
//! * An answer takes at most [`ANSWER_DEADLINE`], and has at most the protocol's 260 bytes.
//! * Devices expect no acknowledgement, so nothing waits for the spool: a refused event is reported again at the next
//!   poll.

mod heard;

use linli_shared::service::clock;
use linli_shared::service::config::{ConfigError, Span, load};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::prelude::SlaveContext;
use tokio_modbus::{ExceptionCode, Slave};
use tokio_util::sync::CancellationToken;

use super::{Check, Source};
use crate::ingest::SourceIngest;
use crate::transport::reconnect::{Ended, all, run_with_reconnect};
use heard::{Heard, Remembering};
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::modbus::map::{Answer, Area, MapFile, RegisterMap, Request};
use linli_devices::modbus::watchers::Watchers;
use linli_devices::modbus::{answer, exception};

/// Least silence after which a device is unknown, if three polls take less.
const SILENT_AFTER_MIN: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// Pause before a silent unit is polled again, so that it does not delay the others.
const SILENT_PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    device: Vec<DeviceConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceConfig {
    /// Id, as `[[device]]` has it.
    id: String,
    /// `host:port`; the standard port is 502.
    address: String,
    /// Unit identifier, 0 to 255.
    #[serde(default = "default_unit")]
    unit: u8,
    /// Poll interval.
    #[serde(default = "default_every")]
    every: Span,
    /// Register map.
    map: PathBuf,
}

fn default_unit() -> u8 {
    1
}

fn default_every() -> Span {
    Span::from_secs(5)
}

/// A unit behind an address.
struct Unit {
    id: String,
    unit: u8,
    every: Duration,
    map: RegisterMap,
}

pub(crate) struct Modbus {
    /// The units by address.
    lines: BTreeMap<String, Vec<Unit>>,
}

impl Source for Modbus {
    const TYPE: &'static str = "modbus";
    type Config = Config;
    const NO_ZONE: Option<&'static str> =
        Some("Modbus devices tell no times; leave it out, events have the time of the poll");

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let mut lines: BTreeMap<String, Vec<Unit>> = BTreeMap::new();
        for (index, device) in config.device.into_iter().enumerate() {
            let wrong = |key: &str, message: String| {
                check.wrong(&format!("device[{index}].{key}"), message)
            };
            let port = device
                .address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(wrong(
                    "address",
                    format!(
                        "{:?} is not host:port, like \"10.0.0.9:502\"",
                        device.address
                    ),
                ));
            }
            if device.every.0 < Duration::from_millis(100)
                || device.every.0 > Duration::from_secs(3600)
            {
                return Err(wrong(
                    "every",
                    "must be between \"100ms\" and \"1h\"".to_owned(),
                ));
            }
            if device.id.is_empty() || lines.values().flatten().any(|unit| unit.id == device.id) {
                return Err(wrong(
                    "id",
                    format!("{:?} is empty or there twice", device.id),
                ));
            }
            let path = check.file(&device.map);
            let file: MapFile = load(&path)?;
            let map = RegisterMap::new(file).map_err(|(key, message)| ConfigError::Value {
                path,
                key,
                message,
            })?;
            lines.entry(device.address).or_default().push(Unit {
                id: device.id,
                unit: device.unit,
                every: device.every.0,
                map,
            });
        }
        if lines.is_empty() {
            return Err(check.wrong("device", "needs at least one [[source.device]]"));
        }
        Ok(Self { lines })
    }

    fn devices(&self) -> Vec<String> {
        self.lines
            .values()
            .flatten()
            .map(|unit| unit.id.clone())
            .collect()
    }

    fn silent_after(&self) -> Option<Duration> {
        let three_times = self.interval().unwrap_or_default() * 3;
        Some(SILENT_AFTER_MIN.max(three_times))
    }

    fn interval(&self) -> Option<Duration> {
        self.lines.values().flatten().map(|unit| unit.every).max()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let mut lines = JoinSet::new();
        for (address, units) in self.lines {
            let (ingest, stop) = (ingest.clone(), stop.clone());
            lines.spawn(async move {
                let ids: Vec<String> = units.iter().map(|unit| unit.id.clone()).collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let polled = units.into_iter().map(Polled::new).collect();
                let polled: Mutex<Vec<Polled>> = Mutex::new(polled);
                run_with_reconnect(&ingest, &ids, &stop, || session(&address, &polled, &ingest))
                    .await;
            });
        }
        all(lines).await;
    }
}

/// A unit with its state, which survives reconnects.
struct Polled {
    unit: Unit,
    watchers: Watchers,
    due: Instant,
}

impl Polled {
    fn new(unit: Unit) -> Self {
        Self {
            watchers: Watchers::new(&unit.map),
            due: Instant::now(),
            unit,
        }
    }
}

/// Why a poll is incomplete.
enum Missed {
    /// The unit is silent, or a gateway reports it as unreachable.
    Silent(String),
    /// The connection is unusable.
    Broken(String),
}

/// Polls over connections to an address, until none can be made or the last unit behind it is silent.
async fn session(address: &str, polled: &Mutex<Vec<Polled>>, ingest: &SourceIngest) -> Ended {
    // One session at a time: the lock is free.
    let mut polled = polled.lock().await;
    loop {
        let mut line = match connect(address).await {
            Ok(line) => line,
            Err(ended) => return ended,
        };
        // Until the connection must be made anew.
        loop {
            let Some(next) = (0..polled.len()).min_by_key(|index| polled[*index].due) else {
                return Ended::lost(format!("{address}: there is nothing to read"));
            };
            let alone = polled.len() == 1;
            let polled = &mut polled[next];
            tokio::time::sleep_until(polled.due).await;
            let missed = poll(&mut line, &polled.unit, &mut polled.watchers, ingest).await;
            let pause = match missed {
                Ok(()) => polled.unit.every,
                Err(_) => polled.unit.every.max(SILENT_PAUSE),
            };
            polled.due = (polled.due + pause).max(Instant::now());
            match missed {
                Ok(()) => {}
                Err(Missed::Broken(why)) => return Ended::lost(format!("{address}: {why}")),
                Err(Missed::Silent(why)) if alone => {
                    return Ended::lost(format!("{address}: {why}"));
                }
                // The other units behind the gateway are polled on; its late answer must not be taken for theirs.
                Err(Missed::Silent(why)) => {
                    ingest.trouble(&polled.unit.id, &format!("{address}: {why}"));
                    polled.due = Instant::now() + pause;
                    break;
                }
            }
        }
    }
}

/// A connection.
struct Line {
    context: Context,
    heard: Heard,
}

async fn connect(address: &str) -> Result<Line, Ended> {
    let lost = |what: String| Ended::lost(format!("{address}: {what}"));
    match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Requests are small and one after the other.
            let _ = stream.set_nodelay(true);
            let heard = Heard::default();
            let context = tcp::attach(Remembering::new(stream, heard.clone()));
            Ok(Line { context, heard })
        }
        Ok(Err(error)) => Err(lost(format!("cannot connect: {error}"))),
        Err(_) => Err(lost(format!(
            "no connection within {} s",
            CONNECT_DEADLINE.as_secs()
        ))),
    }
}

/// Reads all registers of a unit once, and stores the results.
async fn poll(
    line: &mut Line,
    unit: &Unit,
    watchers: &mut Watchers,
    ingest: &SourceIngest,
) -> Result<(), Missed> {
    line.context.set_slave(Slave(unit.unit));
    let mut answers = Vec::with_capacity(unit.map.requests.len());
    let mut missed = Ok(());
    for request in &unit.map.requests {
        line.heard.take();
        match timeout(ANSWER_DEADLINE, ask(&mut line.context, request)).await {
            Ok(Ok(Err(
                code @ (ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice),
            ))) => {
                // The gateway's answer is a regular one.
                line.heard.take();
                missed = Err(Missed::Silent(format!(
                    "the gateway says of unit {}: {}",
                    unit.unit,
                    exception::meaning(code.into())
                )));
                break;
            }
            Ok(Ok(answer)) => answers.push((request, answer, line.heard.take())),
            Ok(Err(tokio_modbus::Error::Protocol(_))) => {
                let why = format!("unit {} {}", unit.unit, exception::ANOTHER_REQUEST);
                missed = Err(Missed::Broken(why));
                break;
            }
            Ok(Err(tokio_modbus::Error::Transport(error))) => {
                missed = Err(Missed::Broken(format!("unit {}: {error}", unit.unit)));
                break;
            }
            Err(_) => {
                missed = Err(Missed::Silent(format!(
                    "unit {} does not answer within {} s",
                    unit.unit,
                    ANSWER_DEADLINE.as_secs()
                )));
                break;
            }
        }
    }
    // Who answers nothing but exceptions, and be it that it is busy, says nothing of its points: that is unknown, not normal.
    let is_heard = answers.iter().any(|(_, answer, _)| answer.is_ok());
    if !is_heard && missed.is_ok() {
        missed = Err(Missed::Silent(format!(
            "unit {} answers nothing but exceptions",
            unit.unit
        )));
    }
    let mut batch = ingest.batch();
    let heard = line.heard.take();
    if let Err(Missed::Broken(why) | Missed::Silent(why)) = &missed
        && !heard.is_empty()
    {
        // Something was answered that is no answer: cut, damaged, or one to another request.
        let reject = Reject::new(why.as_str()).of(&unit.id);
        batch.message(&heard, Err(reject));
    }
    let now_ms = clock::monotonic_ms();
    for (request, answer, bytes) in &answers {
        let (raw, read) = match answer {
            Err(code) => {
                let reject = Reject::new(format!(
                    "{}: unit {} answers to {:?} {}..{}: {}",
                    unit.id,
                    unit.unit,
                    request.area,
                    request.address,
                    u32::from(request.address) + u32::from(request.count),
                    exception::meaning((*code).into())
                ));
                (bytes.clone(), vec![Err(reject)])
            }
            Ok(answer) => {
                let answer = answer.as_answer();
                let of = (unit.id.as_str(), &unit.map);
                let read = answer::read(&answer, request, of, watchers, now_ms);
                (raw(&answer), read)
            }
        };
        if is_heard && read.iter().all(Result::is_err) {
            // It answers, so it is online.
            batch.message(&[], Ok(DecodedMessage::heartbeat(unit.id.as_str())));
        }
        for said in read {
            batch.message(&raw, said.map_err(|reject| reject.of(&unit.id)));
        }
    }
    match ingest.store(batch).await {
        Ok(_) => watchers.stored(),
        Err(error) => {
            tracing::debug!(source = ingest.name(), %error, "values are told again at the next poll");
        }
    }
    missed
}

/// The answer to a request, owned.
enum Owned {
    Words(Vec<u16>),
    Bits(Vec<bool>),
}

impl Owned {
    fn as_answer(&self) -> Answer<'_> {
        match self {
            Self::Words(words) => Answer::Words(words),
            Self::Bits(bits) => Answer::Bits(bits),
        }
    }
}

/// Requests registers. The inner error is an exception that the unit answers.
async fn ask(
    context: &mut Context,
    request: &Request,
) -> Result<Result<Owned, tokio_modbus::ExceptionCode>, tokio_modbus::Error> {
    use tokio_modbus::{Request as Pdu, Response};
    let (address, count) = (request.address, request.count);
    let pdu = match request.area {
        Area::Coil => Pdu::ReadCoils(address, count),
        Area::Discrete => Pdu::ReadDiscreteInputs(address, count),
        Area::Holding => Pdu::ReadHoldingRegisters(address, count),
        Area::Input => Pdu::ReadInputRegisters(address, count),
    };
    let answer = context.call(pdu).await?;
    Ok(answer.map(|response| match response {
        Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits) => {
            // The last byte has eight bits, whatever the number that was asked for.
            if bits.len().div_ceil(8) == usize::from(count).div_ceil(8) {
                bits.truncate(count.into());
            }
            Owned::Bits(bits)
        }
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
            Owned::Words(words)
        }
        // The library has compared the function of the answer with that of the request.
        _ => Owned::Words(Vec::new()),
    }))
}

/// Renders an answer for people and for the raw log: registers in hexadecimal, bits as 0 and 1.
fn raw(answer: &Answer<'_>) -> Vec<u8> {
    let words: Vec<String> = match answer {
        Answer::Words(words) => words.iter().map(|word| format!("{word:04x}")).collect(),
        Answer::Bits(bits) => bits.iter().map(|bit| u8::from(*bit).to_string()).collect(),
    };
    words.join(" ").into_bytes()
}
