//! Table of the event types of Hikvision devices.
use linli_shared::protocol::event::Severity;

/// The meaning of an event type.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The kind of its event.
    pub kind: &'static str,
    /// The severity of its event.
    pub severity: Severity,
    /// The kind of its end; `None`: it is momentary.
    pub end: Option<&'static str>,
    /// It is over when it is no longer repeated.
    pub fades: bool,
    /// The affected part.
    pub part: &'static str,
}

const fn moment(kind: &'static str, severity: Severity) -> Known {
    Known {
        kind,
        severity,
        end: None,
        fades: true,
        part: "",
    }
}

const fn state(kind: &'static str, severity: Severity, end: &'static str) -> Known {
    Known {
        kind,
        severity,
        end: Some(end),
        fades: true,
        part: "",
    }
}

const fn fault(part: &'static str) -> Known {
    Known {
        kind: "device.fault",
        severity: Severity::Notice,
        end: Some("device.restored"),
        fades: false,
        part,
    }
}

/// A lost picture: it stays lost until the device says otherwise.
const PICTURE_LOST: Known = Known {
    fades: false,
    ..state("camera.blind", Severity::Warning, "camera.restored")
};

/// Event types in lower case.
const KNOWN: &[(&[&str], Known)] = &[
    (&["vmd", "pir"], moment("camera.motion", Severity::Info)),
    (
        &["linedetection"],
        moment("camera.line_crossed", Severity::Info),
    ),
    (
        &["fielddetection", "regionentrance"],
        moment("camera.intrusion", Severity::Notice),
    ),
    (
        &["shelteralarm"],
        state("camera.blind", Severity::Warning, "camera.restored"),
    ),
    (
        &["tamperdetection", "scenechangedetection"],
        state("camera.tamper", Severity::Warning, "camera.restored"),
    ),
    (&["videoloss"], PICTURE_LOST),
    (
        &["io"],
        state("input.active", Severity::Info, "input.inactive"),
    ),
    (
        &["firedetection"],
        state("fire.alarm", Severity::Life, "fire.restored"),
    ),
    (
        &["smokedetection", "smokeandfiredetection"],
        state("smoke.alarm", Severity::Life, "smoke.restored"),
    ),
    (&["diskfull"], fault("disk full")),
    (&["diskerror", "hdbadblock"], fault("disk")),
    (&["raidexception"], fault("disk array")),
    (&["recordexception", "recordingfailure"], fault("recording")),
    (&["nicbroken"], fault("network")),
    (&["ipconflict"], fault("network address")),
    (&["videomismatch", "badvideo"], fault("video")),
];

/// Looks up an event type in lower case.
pub fn known(event_type: &str) -> Option<Known> {
    let mut table = KNOWN.iter();
    let found = table.find(|(names, _)| names.contains(&event_type))?;
    Some(found.1)
}

/// All event types that are read, with those that are no alarms.
pub fn names() -> impl Iterator<Item = &'static str> {
    let alarms = KNOWN.iter().flat_map(|(names, _)| names.iter().copied());
    alarms.chain(["accesscontrollerevent", "heartbeat"])
}
