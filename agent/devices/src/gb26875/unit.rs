//! The data unit of a frame (clause 8): its kind, and its objects. Pure.
//!
//! ```text
//! kind u8 | number of objects u8 | object, object, …
//!
//!  1 state of a system       type u8, address u8, bits u16, time                                       10 bytes
//!  2 state of a part         type u8, address u8, part u8, place u32, bits u16, text 31 bytes, time    46
//!  3 value of a part         type u8, address u8, part u8, place u32, what u8, value i16, time         16
//!  4 operation of a system   type u8, address u8, bits u8, operator u8, time                           10
//!  5 version of a system     type u8, address u8, main u8, minor u8                                     4
//!  6 config of a system      type u8, address u8, length u8, text                                  3 + length
//!  7 config of a part        type u8, address u8, part u8, place u32, text 31 bytes                    38
//!  8 time of a system        type u8, address u8, time                                                  8
//! 21 state of the device     bits u8, time                                                              7
//! 24 operation at the device bits u8, operator u8, time                                                 8
//! 25 version of the device   main u8, minor u8                                                          2
//! 26 config of the device    length u8, text                                                       1 + length
//! 28 time of the device      time                                                                       6
//! 90 set the clock           time          91 duty check   minutes u8
//! ```
//!
//! *Place* is a zone (u16) and a number in it (u16). Texts are GB18030, padded with NULs or spaces. Kinds, layouts
//! and bits were compared with two public implementations and public examples; they are the only source here for the
//! missing time of types 5, 6, 7, 25 and 26.
//!
//! Lenient reading: if the number of bytes is exactly that of the objects without their times, they have none; bytes
//! behind the last object are ignored. Of a truncated unit the complete objects are read, and the rest of the last
//! one if it extends to its bits. A count of 0 before objects is ignored.
use encoding_rs::GB18030;
use std::borrow::Cow;

use super::frame::WireTime;

/// Kind of a unit by which the centre sets a device's clock.
pub const SET_CLOCK: u8 = 90;
/// Kind of a unit by which a centre asks whether somebody is on duty.
const DUTY_CHECK: u8 = 91;
/// The first kind of the vendors' own.
const VENDOR_FIRST: u8 = 128;
/// Length of the text of a part, bytes.
const TEXT_BYTES: usize = 31;
/// Length of a time, bytes.
const TIME_BYTES: usize = 6;

/// A system behind a device: a fire alarm controller, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    /// Type, table 4.
    pub kind: u8,
    /// Its number at the device.
    pub address: u8,
}

/// A part of a system: a detector, a button, a valve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// System of the part.
    pub system: System,
    /// Type, table 5.
    pub kind: u8,
    /// Zone.
    pub zone: u16,
    /// Number in the zone.
    pub number: u16,
}

/// State of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemState {
    /// The system.
    pub system: System,
    /// Table 4's bits.
    pub bits: u16,
    /// Time since which it holds.
    pub time: Option<WireTime>,
}

/// State of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartState<'a> {
    /// The part.
    pub part: Part,
    /// Its bits.
    pub bits: u16,
    /// Place or description, in the device's words.
    pub text: Cow<'a, str>,
    /// Time since which it holds.
    pub time: Option<WireTime>,
}

/// State of the device itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceState {
    /// Its bits.
    pub bits: u8,
    /// Time since which it holds.
    pub time: Option<WireTime>,
}

/// An operation by a person, at a system or at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The system; `None`: the device.
    pub system: Option<System>,
    /// The operation's bits.
    pub bits: u8,
    /// Number of the operator.
    pub operator: u8,
    /// Time of the operation.
    pub time: Option<WireTime>,
}

/// The content of a data unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit<'a> {
    /// No data at all: a sign of life.
    Empty,
    /// 1.
    SystemStates(Vec<SystemState>),
    /// 2.
    PartStates(Vec<PartState<'a>>),
    /// 4 and 24.
    Operations(Vec<Operation>),
    /// 21.
    DeviceStates(Vec<DeviceState>),
    /// 8 and 28: the time of the system's or device's clock.
    Clock(Option<WireTime>),
    /// 90: sets a clock, or requests the time if none is given.
    SetClock(Option<WireTime>),
    /// 91.
    DutyCheck,
    /// Values, versions, configs, and reserved kinds: only the number is kept, of no interest here.
    Other(u8),
    /// 128 to 255.
    Vendor(u8),
}

/// Why data are no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Only one byte.
    #[error("the data unit ends before the number of its objects")]
    NoCount,
    /// Less than one whole object.
    #[error("a data unit of kind {kind} has {bytes} bytes, one object takes {needed}")]
    Short {
        /// Kind.
        kind: u8,
        /// Bytes of objects.
        bytes: usize,
        /// Bytes of one object.
        needed: usize,
    },
    /// The count says that nothing follows.
    #[error("a data unit of kind {0} says that it has no objects")]
    None(u8),
}

/// Reads the text of a part: GB18030 by the standard, UTF-8 by some devices. A short Chinese text can be valid UTF-8
/// by accident, in letters that are never used here: so it is read as UTF-8 only if all of it is ASCII or East Asian.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    if let Ok(text) = std::str::from_utf8(bytes)
        && text
            .chars()
            .all(|letter| letter.is_ascii() || letter >= '\u{2e80}')
    {
        return clean(Cow::Borrowed(text));
    }
    // A letter that the field's end cuts in two becomes a replacement character, which is removed.
    let (text, _) = GB18030.decode_without_bom_handling(bytes);
    clean(text)
}

/// Removes control and replacement characters.
fn clean(text: Cow<'_, str>) -> Cow<'_, str> {
    let strange = |letter: char| letter.is_control() || letter == char::REPLACEMENT_CHARACTER;
    if !text.contains(strange) {
        return text;
    }
    Cow::Owned(text.replace(strange, "").trim().to_owned())
}

/// Bytes, read from the front; the caller checks the length.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count);
        self.0 = rest;
        front
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn word(&mut self) -> u16 {
        let bytes = self.bytes(2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn system(&mut self) -> System {
        System {
            kind: self.byte(),
            address: self.byte(),
        }
    }

    fn part(&mut self) -> Part {
        Part {
            system: self.system(),
            kind: self.byte(),
            zone: self.word(),
            number: self.word(),
        }
    }

    /// Takes the time at the end of an object.
    fn time(&mut self) -> Option<WireTime> {
        self.0.first_chunk().map(|bytes| WireTime(*bytes))
    }
}

/// The length of an object.
struct Size {
    /// Length without its time.
    body: usize,
    /// Length from its start to the end of its bits: a shorter one is unusable.
    least: usize,
}

/// The objects of a unit.
fn objects<T>(
    kind: u8,
    count: usize,
    bytes: &[u8],
    size: Size,
    mut each: impl FnMut(Fields<'_>) -> T,
) -> Result<Vec<T>, UnitError> {
    let Size { body, least } = size;
    let count = match count {
        // The count is zero, and there is an object.
        0 => bytes.len().div_ceil(body + TIME_BYTES),
        count => count,
    };
    let without_times = bytes.len() == count * body;
    let length = if without_times {
        body
    } else {
        body + TIME_BYTES
    };
    let objects = bytes.chunks_exact(length).take(count);
    let rest = objects.len() * length;
    let mut found: Vec<T> = objects.map(|object| each(Fields(object))).collect();
    let rest = bytes.get(rest..).unwrap_or_default();
    if found.len() < count && rest.len() >= least {
        // Its time may be present but incomplete.
        let mut object = rest[..rest.len().min(body)].to_vec();
        object.resize(body, 0);
        found.push(each(Fields(&object)));
    }
    if found.is_empty() {
        return Err(UnitError::Short {
            kind,
            bytes: bytes.len(),
            needed: least,
        });
    }
    Ok(found)
}

impl<'a> Unit<'a> {
    /// Reads the data of a frame.
    pub fn decode(data: &'a [u8]) -> Result<Self, UnitError> {
        let Some((&kind, rest)) = data.split_first() else {
            return Ok(Self::Empty);
        };
        if kind >= VENDOR_FIRST {
            return Ok(Self::Vendor(kind));
        }
        let Some((&count, bytes)) = rest.split_first() else {
            return Err(UnitError::NoCount);
        };
        let count = usize::from(count);
        let told = matches!(kind, 1 | 2 | 4 | 21 | 24);
        if told && count == 0 && bytes.is_empty() {
            return Err(UnitError::None(kind));
        }
        let size = |body, least| Size { body, least };
        Ok(match kind {
            1 => Self::SystemStates(objects(kind, count, bytes, size(4, 4), |mut fields| {
                SystemState {
                    system: fields.system(),
                    bits: fields.word(),
                    time: fields.time(),
                }
            })?),
            2 => Self::PartStates(objects(kind, count, bytes, size(40, 9), |mut fields| {
                PartState {
                    part: fields.part(),
                    bits: fields.word(),
                    text: text(fields.bytes(TEXT_BYTES)).into_owned().into(),
                    time: fields.time(),
                }
            })?),
            4 => Self::Operations(objects(kind, count, bytes, size(4, 3), |mut fields| {
                Operation {
                    system: Some(fields.system()),
                    bits: fields.byte(),
                    operator: fields.byte(),
                    time: fields.time(),
                }
            })?),
            8 => Self::Clock(bytes.get(2..).and_then(|bytes| Fields(bytes).time())),
            21 => Self::DeviceStates(objects(kind, count, bytes, size(1, 1), |mut fields| {
                DeviceState {
                    bits: fields.byte(),
                    time: fields.time(),
                }
            })?),
            24 => Self::Operations(objects(kind, count, bytes, size(2, 1), |mut fields| {
                Operation {
                    system: None,
                    bits: fields.byte(),
                    operator: fields.byte(),
                    time: fields.time(),
                }
            })?),
            28 => Self::Clock(Fields(bytes).time()),
            SET_CLOCK => Self::SetClock(Fields(bytes).time()),
            DUTY_CHECK => Self::DutyCheck,
            other => Self::Other(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: [u8; 6] = [4, 0, 9, 2, 7, 21];

    fn unit(kind: u8, objects: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![kind, objects.len() as u8];
        for object in objects {
            bytes.extend_from_slice(object);
            bytes.extend_from_slice(&TIME);
        }
        bytes
    }

    fn part_object(bits: u16, words: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 3, 40, 0x0a, 0, 2, 0];
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(words);
        bytes.resize(40, 0);
        bytes
    }

    #[test]
    fn the_public_frame_has_its_part_and_text() {
        let data = hex::decode(
            "020101030 0d9000600 0200 a3c1c7f8a3b1b2e3dfc8b2b8d7dfc0c8
             000000000000000000000000000000 301213010814"
                .replace(char::is_whitespace, ""),
        )
        .expect("hexadecimal");
        let Ok(Unit::PartStates(states)) = Unit::decode(&data) else {
            panic!("states of parts");
        };
        assert_eq!(states.len(), 1);
        let state = &states[0];
        assert_eq!((state.part.system.kind, state.part.system.address), (1, 3));
        assert_eq!(
            (state.part.kind, state.part.zone, state.part.number),
            (0, 217, 6)
        );
        assert_eq!(state.bits, 2);
        assert_eq!(state.text, "Ａ区１层呷哺走廊");
        assert_eq!(state.time, Some(WireTime([48, 18, 19, 1, 8, 20])));
    }

    #[test]
    fn several_objects_are_read_with_and_without_their_times() {
        let with = unit(2, &[&part_object(2, b"a"), &part_object(4, b"b")]);
        let Ok(Unit::PartStates(states)) = Unit::decode(&with) else {
            panic!("states of parts");
        };
        assert_eq!(states.len(), 2);
        assert_eq!((states[0].bits, states[1].bits), (2, 4));
        assert_eq!(states[1].time, Some(WireTime(TIME)));
        let without = [vec![2, 2], part_object(2, b"a"), part_object(4, b"b")].concat();
        let Ok(Unit::PartStates(states)) = Unit::decode(&without) else {
            panic!("states of parts");
        };
        assert_eq!((states[0].time, states[1].time), (None, None));
        assert_eq!(states[1].text, "b");
    }

    #[test]
    fn each_kind_is_read() {
        assert_eq!(Unit::decode(b""), Ok(Unit::Empty));
        let system = System {
            kind: 1,
            address: 2,
        };
        assert_eq!(
            Unit::decode(&unit(1, &[&[1, 2, 4, 2]])),
            Ok(Unit::SystemStates(vec![SystemState {
                system,
                bits: 0x0204,
                time: Some(WireTime(TIME)),
            }]))
        );
        assert_eq!(
            Unit::decode(&unit(4, &[&[1, 2, 0x84, 0xfa]])),
            Ok(Unit::Operations(vec![Operation {
                system: Some(system),
                bits: 0x84,
                operator: 0xfa,
                time: Some(WireTime(TIME)),
            }]))
        );
        assert_eq!(
            Unit::decode(&unit(21, &[&[8]])),
            Ok(Unit::DeviceStates(vec![DeviceState {
                bits: 8,
                time: Some(WireTime(TIME)),
            }]))
        );
        assert_eq!(
            Unit::decode(&unit(24, &[&[0x20, 1]])),
            Ok(Unit::Operations(vec![Operation {
                system: None,
                bits: 0x20,
                operator: 1,
                time: Some(WireTime(TIME)),
            }]))
        );
        assert_eq!(
            Unit::decode(&unit(28, &[&[]])),
            Ok(Unit::Clock(Some(WireTime(TIME))))
        );
        assert_eq!(
            Unit::decode(&unit(8, &[&[1, 2]])),
            Ok(Unit::Clock(Some(WireTime(TIME))))
        );
        assert_eq!(
            Unit::decode(&unit(SET_CLOCK, &[&[]])),
            Ok(Unit::SetClock(Some(WireTime(TIME))))
        );
        assert_eq!(Unit::decode(&[SET_CLOCK, 1, 0]), Ok(Unit::SetClock(None)));
        assert_eq!(Unit::decode(&[DUTY_CHECK, 1, 10]), Ok(Unit::DutyCheck));
        for other in [3, 5, 6, 7, 25, 26, 60] {
            assert_eq!(Unit::decode(&[other, 1, 1]), Ok(Unit::Other(other)));
        }
        for vendor in [128, 200, 255] {
            assert_eq!(Unit::decode(&[vendor]), Ok(Unit::Vendor(vendor)));
        }
    }

    #[test]
    fn what_is_cut_short_gives_what_is_whole_or_says_so() {
        let whole = unit(2, &[&part_object(2, b"a"), &part_object(4, b"b")]);
        for end in 0..whole.len() {
            let found = Unit::decode(&whole[..end]);
            match end {
                0 => assert_eq!(found, Ok(Unit::Empty)),
                1 => assert_eq!(found, Err(UnitError::NoCount)),
                2..11 => assert!(
                    matches!(found, Err(UnitError::Short { kind: 2, .. })),
                    "{end}"
                ),
                _ => {
                    let Ok(Unit::PartStates(states)) = found else {
                        panic!("{end}");
                    };
                    // The second one from its bits on; as many bytes as two without times take are two.
                    let count = 1 + usize::from(end >= 48 + 9);
                    assert_eq!(states.len(), count, "{end}");
                    assert_eq!(states[0].bits, 2);
                    assert_eq!(states[0].time.is_some(), end >= 48 && end != 82, "{end}");
                }
            }
        }
        assert_eq!(Unit::decode(&[2, 0]), Err(UnitError::None(2)));
        let uncounted = [&[2, 0], &whole[2..]].concat();
        assert!(
            matches!(Unit::decode(&uncounted), Ok(Unit::PartStates(states)) if states.len() == 2)
        );
        assert!(matches!(
            Unit::decode(&[21, 1, 2]),
            Ok(Unit::DeviceStates(_))
        ));
    }

    #[test]
    fn texts_are_read_whatever_they_are_written_in() {
        assert_eq!(
            text(b"7\xc2\xa5\x30\x32\xca\xd2\xd1\xcc\xb8\xd0\0\0\0"),
            "7楼02室烟感"
        );
        assert_eq!(text("7楼02室烟感".as_bytes()), "7楼02室烟感");
        assert_eq!(text(b"  \0\0"), "");
        assert_eq!(text(b"Lobby 1 "), "Lobby 1");
        // Valid UTF-8 by accident.
        assert_eq!(text(b"\xc4\xa3"), "模");
        // Cut in the middle of a letter.
        assert_eq!(text(b"\xc2\xa5\xca"), "楼");
        assert_eq!(text(b"a\x01\x02b"), "ab");
    }

    proptest! {
        #[test]
        fn no_data_makes_it_panic(data in prop::collection::vec(any::<u8>(), 0..1024)) {
            let _ = Unit::decode(&data);
        }

        #[test]
        fn no_unit_of_a_known_kind_makes_it_panic(
            kind in prop::sample::select(vec![1_u8, 2, 3, 4, 5, 6, 7, 8, 21, 24, 25, 26, 28, 90, 91]),
            count: u8,
            rest in prop::collection::vec(any::<u8>(), 0..1022))
        {
            let data = [vec![kind, count], rest].concat();
            let _ = Unit::decode(&data);
        }
    }
}
