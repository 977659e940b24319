//! The meaning of a unit's answer: the values of its points, and the states that they cause. Pure.
use super::map::{Answer, RegisterMap, Request, Value};
use super::watchers::Watchers;
use crate::device_event::{DecodedMessage, Reject};

impl Answer<'_> {
    /// Number of registers or bits.
    fn count(&self) -> usize {
        match self {
            Self::Words(words) => words.len(),
            Self::Bits(bits) => bits.len(),
        }
    }
}

/// Reads the values of a unit's points from the answer to a request: events or a sign of life, and a reject of the
/// values that cannot be. Only a reject: the answer is not one to this request.
pub fn read<'a>(
    answer: &Answer<'_>,
    request: &Request,
    (id, map): (&'a str, &'a RegisterMap),
    watchers: &mut Watchers,
    now_ms: u64,
) -> Vec<Result<DecodedMessage<'a>, Reject>> {
    let count = answer.count();
    if count != usize::from(request.count) {
        return vec![Err(Reject::new(format!(
            "{count} registers or bits, {} were asked for",
            request.count
        )))];
    }
    let mut device_events = Vec::new();
    let mut broken = Vec::new();
    for index in request.points.clone() {
        let point = &map.points[index];
        let Some(value) = point.value(request, answer) else {
            broken.push(format!("{} {}: none", point.name, point.part));
            continue;
        };
        if let Value::Invalid(number) = value {
            broken.push(format!("{} {}: {number}", point.name, point.part));
        }
        watchers.step(index, point, id, value, now_ms, &mut device_events);
    }
    let said = match device_events.is_empty() {
        true => DecodedMessage::heartbeat(id),
        false => DecodedMessage::Events(device_events),
    };
    let mut read = vec![Ok(said)];
    if !broken.is_empty() {
        let reject = Reject::new(format!(
            "values that cannot be (see valid in the map): {}",
            broken.join(", ")
        ));
        read.push(Err(reject));
    }
    read
}
