//! SEC: its rules and its process.
//!
//! Its rule types for pairs check every open pair for every event that does not open one, so their cost grows
//! with the number of open keys. Contexts, which are found by name, express the same; the benchmark shows
//! both.
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::log::Subject;

/// What SEC writes when it is ready.
const READY: &str = "ready";

/// The form of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `SingleWithThreshold`, `Pair`, `PairWithWindow`: the rule types that its manual gives for this.
    Pairs,
    /// `SingleWithThreshold`, and `Single` with contexts.
    Contexts,
}

impl Form {
    /// All forms, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Pairs, Self::Contexts];

    /// Its name in the table.
    pub fn program(self, subject: Subject) -> &'static str {
        match (self, subject) {
            (_, Subject::Threshold) => "sec, SingleWithThreshold",
            (Self::Pairs, Subject::Pair) => "sec, Pair",
            (Self::Pairs, Subject::Absence) => "sec, PairWithWindow",
            (Self::Pairs, Subject::All) => "sec, all of these",
            (Self::Contexts, _) => "sec, contexts",
        }
    }
}

/// Windows, seconds.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Window of threshold and pair.
    pub long_s: u32,
    /// Window of absence.
    pub short_s: u32,
}

impl Windows {
    /// The windows of the rules.
    pub const REAL: Self = Self {
        long_s: 600,
        short_s: 300,
    };
}

/// SEC with its rules in a file.
pub struct Sec {
    rules: PathBuf,
    raised: PathBuf,
}

/// True if `sec` is installed and is the right program.
pub fn is_installed() -> bool {
    let output = Command::new("sec").arg("--version").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"SEC (Simple Event Correlator)"))
}

impl Sec {
    /// Writes the rules to a file in `directory`.
    pub fn new(directory: &Path, form: Form, subject: Subject, windows: Windows) -> Result<Self> {
        let rules = directory.join("sec.conf");
        let raised = directory.join("raised");
        fs::write(&raised, "")?;
        fs::write(&rules, text(form, subject, windows, &raised)?)?;
        Ok(Self { rules, raised })
    }

    /// The command that reads a file, or standard input for `-`, to its end. It writes no log.
    pub fn command(&self, input: &Path) -> Command {
        let mut command = Command::new("sec");
        command
            .arg(format!("--conf={}", self.rules.display()))
            .arg(format!("--input={}", input.display()))
            .args(["--notail", "--nodetach", "--intevents", "--debug=2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn written(&self) -> Result<String> {
        fs::read_to_string(&self.raised).context("what SEC has written")
    }

    /// How often it has started.
    pub fn starts(&self) -> Result<usize> {
        Ok(self
            .written()?
            .lines()
            .filter(|line| *line == READY)
            .count())
    }

    /// Number of warnings that it has raised.
    pub fn raised(&self) -> Result<usize> {
        Ok(self
            .written()?
            .lines()
            .filter(|line| *line != READY)
            .count())
    }
}

/// The rules, in the cheapest order: frequent and cheap ones first.
fn text(
    form: Form,
    subject: Subject,
    windows: Windows,
    raised: &Path,
) -> Result<String, std::fmt::Error> {
    let out = raised.display();
    let Windows { long_s, short_s } = windows;
    let mut text = String::new();
    if subject.includes(Subject::Threshold) {
        write!(
            text,
            "type=SingleWithThreshold\nptype=RegExp\npattern=door\\.denied site=(\\S+) key=(\\S+)\ndesc=denied $1 $2\n\
             action=write {out} %s\nwindow={long_s}\nthresh=3\n\n"
        )?;
    }
    if subject.includes(Subject::Absence) {
        let opened = "ptype=RegExp\npattern=door\\.opened site=(\\S+) key=(\\S+)\n";
        match form {
            Form::Pairs => write!(
                text,
                "type=PairWithWindow\n{opened}desc=open $1 $2\naction=write {out} %s\n\
                 ptype2=SubStr\npattern2=door.closed site=$1 key=$2\ndesc2=closed\naction2=none\nwindow={short_s}\n\n"
            )?,
            Form::Contexts => write!(
                text,
                "type=Single\n{opened}context=!OPEN_$1_$2\ndesc=open\n\
                 action=create OPEN_$1_$2 {short_s} ( write {out} open $1 $2 )\n\n\
                 type=Single\nptype=RegExp\npattern=door\\.closed site=(\\S+) key=(\\S+)\ndesc=closed\naction=delete OPEN_$1_$2\n\n"
            )?,
        }
    }
    if subject.includes(Subject::Pair) {
        let fire = "ptype=RegExp\npattern=fire\\.alarm site=(\\S+) key=(\\S+)\n";
        match form {
            Form::Pairs => write!(
                text,
                "type=Pair\n{fire}desc=fire $1 $2\naction=none\n\
                 ptype2=SubStr\npattern2=door.forced site=$1 key=$2\ndesc2=forced\naction2=write {out} %s\nwindow={long_s}\n\n"
            )?,
            Form::Contexts => write!(
                text,
                "type=Single\n{fire}desc=fire\naction=create FIRE_$1_$2 {long_s}\n\n\
                 type=Single\nptype=RegExp\npattern=door\\.forced site=(\\S+) key=(\\S+)\ncontext=FIRE_$1_$2\n\
                 desc=forced $1 $2\naction=write {out} %s\n\n"
            )?,
        }
    }
    write!(
        text,
        "type=Single\nptype=RegExp\npattern=^SEC_STARTUP$\ndesc=start\naction=write {out} {READY}\n"
    )?;
    Ok(text)
}
