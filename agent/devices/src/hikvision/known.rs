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

const fn moment(kind: &'static str, severity: Severity) -> Option<Known> {
    Some(Known {
        kind,
        severity,
        end: None,
        fades: true,
        part: "",
    })
}

const fn state(kind: &'static str, severity: Severity, end: &'static str) -> Option<Known> {
    Some(Known {
        kind,
        severity,
        end: Some(end),
        fades: true,
        part: "",
    })
}

const fn fault(part: &'static str) -> Option<Known> {
    Some(Known {
        kind: "device.fault",
        severity: Severity::Notice,
        end: Some("device.restored"),
        fades: false,
        part,
    })
}

/// Looks up an event type in lower case.
pub fn known(event_type: &str) -> Option<Known> {
    match event_type {
        "vmd" | "pir" => moment("camera.motion", Severity::Info),
        "linedetection" => moment("camera.line_crossed", Severity::Info),
        "fielddetection" | "regionentrance" => moment("camera.intrusion", Severity::Notice),
        "shelteralarm" => state("camera.blind", Severity::Warning, "camera.restored"),
        "tamperdetection" | "scenechangedetection" => {
            state("camera.tamper", Severity::Warning, "camera.restored")
        }
        "videoloss" => Some(Known {
            kind: "camera.blind",
            severity: Severity::Warning,
            end: Some("camera.restored"),
            fades: false,
            part: "",
        }),
        "io" => state("input.active", Severity::Info, "input.inactive"),
        "firedetection" => state("fire.alarm", Severity::Life, "fire.restored"),
        "smokedetection" | "smokeandfiredetection" => {
            state("smoke.alarm", Severity::Life, "smoke.restored")
        }
        "diskfull" => fault("disk full"),
        "diskerror" | "hdbadblock" => fault("disk"),
        "raidexception" => fault("disk array"),
        "recordexception" | "recordingfailure" => fault("recording"),
        "nicbroken" => fault("network"),
        "ipconflict" => fault("network address"),
        "videomismatch" | "badvideo" => fault("video"),
        _ => None,
    }
}
