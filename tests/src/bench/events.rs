//! The events that are fed: one JSON object a line, about 300 bytes, what a smart door says.
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::host::Result;
use crate::harness::Random;

/// How the agent maps them: everything that a line says is kept.
pub const MAPPING: &str = r#"
schema = 1
id = "/serial"
device = "/device"
building = "/building"
unit = "/unit"
retention = "access"
[kind]
pointer = "/type"
table = { "open" = "door.opened", "close" = "door.closed", "denied" = "door.denied" }
[occurred_at]
pointer = "/time"
formats = ["epoch_ms"]
[attributes.verify]
pointer = "/verify"
purpose = "bench"
[attributes.direction]
pointer = "/direction"
purpose = "bench"
[attributes.credential]
pointer = "/credential"
purpose = "bench"
[attributes.firmware]
pointer = "/firmware"
purpose = "bench"
[attributes.text]
pointer = "/text"
purpose = "bench"
"#;

/// Writes `count` events. The same seed gives the same file, but for the times.
pub fn write(path: &Path, count: u64) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut random = Random::new(300);
    let start_ms = jiff::Timestamp::now().as_millisecond() - 60_000;
    let kinds = ["open", "close", "open", "close", "denied"];
    let verify = ["card", "face-terminal", "code", "button"];
    for number in 0..count {
        let pick = random.draw();
        writeln!(
            out,
            "{{\"serial\":\"{number:010}\",\"device\":\"door-{:04}\",\"building\":\"B{:03}\",\"unit\":\"U{}\",\
             \"type\":\"{}\",\"time\":{},\"verify\":\"{}\",\"direction\":\"{}\",\"credential\":\"{:016x}\",\
             \"firmware\":\"V3.2.{} build 230714\",\"text\":\"access point {} reports a regular passage, lock {} released\"}}",
            pick % 200,
            pick % 40,
            pick % 6 + 1,
            kinds[(pick >> 8) as usize % kinds.len()],
            start_ms + (number / 20) as i64,
            verify[(pick >> 16) as usize % verify.len()],
            if pick & 1 == 0 { "in" } else { "out" },
            random.draw(),
            pick % 5,
            pick % 200,
            pick % 4,
        )?;
    }
    out.flush()?;
    Ok(())
}
