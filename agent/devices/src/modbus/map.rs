//! Register maps: which registers of a device are read, their meaning, and their alarm limits.
//!
//! ```toml
//! schema = 1
//! gaps = 0                           # unneeded registers between two points that are read to save a request; true: 8
//! [[point]]
//! name = "temperature"               # unique within the device
//! area = "input"                     # coil | discrete | holding | input
//! address = 0                        # as in the protocol, from 0: 30001 of a manual is input 0
//! type = "i16"                       # bit (coil, discrete) | u16 | i16 | u32 | i32 | f32; 32 bits are two registers
//! words = "high-first"               # or "low-first": the order of the two
//! scale = 0.1                        # value = number · scale + offset
//! unit = "°C"
//! valid = [-40.0, 200.0]             # a number outside is a broken sensor, not a value
//! repeat = { count = 10, stride = 8 }    # ten piles, eight registers apart: devices <id>/1 … <id>/10
//!
//! [[point.alarm]]
//! above = 70.0                       # or below = …; for a bit: is = true
//! clear = 60.0                       # over only beyond this: no flutter
//! lasting = "10s"                    # only if it goes on for this long
//! kind = "pile.overheat"
//! restored = "pile.restored"
//! severity = "alarm"
//! ```
//!
//! [`RegisterMap::requests`] combines neighbours: function codes 1–4, at most [`WORDS_MAX`] registers or [`BITS_MAX`]
//! bits a request (MODBUS Application Protocol V1.1b3, § 6.1–6.4). Registers without a point are read only if `gaps`
//! allows it: many devices refuse a whole request because of one register that they do not have.
use linli_shared::protocol::event::{Severity, is_kind};
use linli_shared::service::config::Span;
use serde::Deserialize;
use std::ops::Range;

/// Largest number of registers of one request.
pub const WORDS_MAX: u16 = 125;
/// Largest number of bits of one request.
pub const BITS_MAX: u16 = 2000;
/// Value of `gaps = true`: unneeded registers or bits that are read to save a request.
const GAP_OF_TRUE: u16 = 8;
/// The widest gap that a map may allow.
const GAP_MAX: u16 = WORDS_MAX;
/// Largest number of points of one device.
const POINTS_MAX: usize = 4096;

/// A map as in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapFile {
    schema: u32,
    #[serde(default)]
    gaps: Gaps,
    point: Vec<PointFile>,
}

/// Whether registers without a point are read.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Gaps {
    Flag(bool),
    Width(u16),
}

impl Default for Gaps {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl Gaps {
    fn width(self) -> u16 {
        match self {
            Self::Flag(false) => 0,
            Self::Flag(true) => GAP_OF_TRUE,
            Self::Width(width) => width,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointFile {
    name: String,
    area: Area,
    address: u16,
    #[serde(rename = "type")]
    format: Option<Format>,
    #[serde(default)]
    words: WordOrder,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default)]
    offset: f64,
    #[serde(default)]
    unit: String,
    valid: Option<[f64; 2]>,
    repeat: Option<Repeat>,
    #[serde(default)]
    alarm: Vec<AlarmFile>,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    count: u16,
    stride: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmFile {
    above: Option<f64>,
    below: Option<f64>,
    is: Option<bool>,
    clear: Option<f64>,
    #[serde(default = "at_once")]
    lasting: Span,
    kind: String,
    restored: String,
    severity: String,
}

fn at_once() -> Span {
    Span::from_secs(0)
}

/// The four tables of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Function code 1.
    Coil,
    /// Function code 2.
    Discrete,
    /// Function code 3.
    Holding,
    /// Function code 4.
    Input,
}

impl Area {
    fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// The encoding of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Bit,
    U16,
    I16,
    U32,
    I32,
    F32,
}

impl Format {
    fn width(self) -> u16 {
        match self {
            Self::Bit | Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WordOrder {
    #[default]
    HighFirst,
    LowFirst,
}

/// The condition of an alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Limit, and the value at which the alarm is over.
    pub limit: Limit,
    /// Least duration, milliseconds.
    pub lasting_ms: u64,
    /// Kind of the beginning.
    pub kind: String,
    /// Kind of the end.
    pub restored: String,
    /// Severity.
    pub severity: Severity,
}

/// The limit of an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// On at `on` and above, off at `off` and below.
    Above {
        /// Limit.
        on: f64,
        /// Value at which it is over.
        off: f64,
    },
    /// On at `on` and below, off at `off` and above.
    Below {
        /// Limit.
        on: f64,
        /// Value at which it is over.
        off: f64,
    },
    /// On while the bit has this value.
    Is(bool),
}

/// One point of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name.
    pub name: String,
    /// Number of the repeated part; 0: the device itself.
    pub part: u16,
    /// Unit of the value.
    pub unit: String,
    /// Alarms.
    pub alarms: Vec<Alarm>,
    area: Area,
    address: u16,
    format: Format,
    words: WordOrder,
    scale: f64,
    offset: f64,
    valid: Option<[f64; 2]>,
}

/// One request, and the points in its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Table.
    pub area: Area,
    /// First register or bit.
    pub address: u16,
    /// Number of registers or bits.
    pub count: u16,
    /// Range in [`RegisterMap::points`].
    pub points: Range<usize>,
}

/// A value of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A number with scale and offset.
    Number(f64),
    /// A bit.
    Bit(bool),
    /// A number outside of the valid range: a broken sensor.
    Invalid(f64),
}

/// The answer to a request.
pub enum Answer<'a> {
    /// Registers.
    Words(&'a [u16]),
    /// Bits.
    Bits(&'a [bool]),
}

/// A map that is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterMap {
    /// Points in the order of their tables and addresses.
    pub points: Vec<Point>,
    /// Requests of a poll.
    pub requests: Vec<Request>,
}

/// The key, and the remedy.
type Wrong = (String, String);

impl RegisterMap {
    /// Checks a map.
    pub fn new(file: MapFile) -> Result<Self, Wrong> {
        if file.schema != 1 {
            return Err((
                "schema".to_owned(),
                format!(
                    "{} is not known here: this version reads schema 1",
                    file.schema
                ),
            ));
        }
        let gaps = file.gaps.width();
        if gaps > GAP_MAX {
            return Err((
                "gaps".to_owned(),
                format!("is {gaps}: at most {GAP_MAX} registers are read in vain"),
            ));
        }
        let mut points: Vec<Point> = Vec::new();
        for (index, point) in file.point.into_iter().enumerate() {
            let key = format!("point[{index}]");
            points.extend(
                expand(point).map_err(|(field, message)| (format!("{key}.{field}"), message))?,
            );
            if points.len() > POINTS_MAX {
                return Err((
                    key,
                    format!("are more than {POINTS_MAX} points with their repetitions"),
                ));
            }
        }
        if points.is_empty() {
            return Err(("point".to_owned(), "needs at least one".to_owned()));
        }
        points.sort_by_key(|point| (point.area, point.address));
        let mut names: Vec<(&str, u16)> = points
            .iter()
            .map(|point| (point.name.as_str(), point.part))
            .collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err((
                "point.name".to_owned(),
                format!(
                    "{:?} is there twice: give each point a name of its own",
                    pair[0].0
                ),
            ));
        }
        let requests = requests(&points, gaps);
        Ok(Self { points, requests })
    }
}

fn expand(file: PointFile) -> Result<Vec<Point>, (&'static str, String)> {
    let format = file.format.unwrap_or(if file.area.is_bits() {
        Format::Bit
    } else {
        Format::U16
    });
    if (format == Format::Bit) != file.area.is_bits() {
        return Err((
            "type",
            "bit is for the areas coil and discrete, and for no others".to_owned(),
        ));
    }
    if file.name.is_empty() || file.name.len() > 32 {
        return Err(("name", format!("{:?} has not 1 to 32 bytes", file.name)));
    }
    let mut alarms = Vec::new();
    for alarm in file.alarm {
        alarms.push(checked(alarm, format)?);
    }
    let (count, stride) = match file.repeat {
        Some(repeat) if repeat.count == 0 || repeat.stride == 0 => {
            return Err(("repeat", "count and stride must be at least 1".to_owned()));
        }
        Some(repeat) => (repeat.count, repeat.stride),
        None => (1, 0),
    };
    let last = u32::from(file.address)
        + u32::from(count - 1) * u32::from(stride)
        + u32::from(format.width());
    if last > 1 << 16 {
        return Err(("address", format!("ends at {last}, beyond 65536")));
    }
    let part = |at: u16| if file.repeat.is_some() { at + 1 } else { 0 };
    Ok((0..count)
        .map(|at| Point {
            name: file.name.clone(),
            part: part(at),
            unit: file.unit.clone(),
            alarms: alarms.clone(),
            area: file.area,
            address: file.address + at * stride,
            format,
            words: file.words,
            scale: file.scale,
            offset: file.offset,
            valid: file.valid,
        })
        .collect())
}

fn checked(file: AlarmFile, format: Format) -> Result<Alarm, (&'static str, String)> {
    let limit = match (file.above, file.below, file.is) {
        (Some(on), None, None) => Limit::Above {
            on,
            off: file.clear.unwrap_or(on),
        },
        (None, Some(on), None) => Limit::Below {
            on,
            off: file.clear.unwrap_or(on),
        },
        (None, None, Some(bit)) => Limit::Is(bit),
        _ => return Err(("alarm", "needs one of above, below and is".to_owned())),
    };
    let fits = match limit {
        Limit::Is(_) => format == Format::Bit && file.clear.is_none(),
        Limit::Above { on, off } => format != Format::Bit && off <= on,
        Limit::Below { on, off } => format != Format::Bit && off >= on,
    };
    if !fits {
        return Err((
            "alarm",
            "is is for bits; clear lies below above, or above below: where the alarm is over"
                .to_owned(),
        ));
    }
    for kind in [&file.kind, &file.restored] {
        if !is_kind(kind) {
            return Err((
                "alarm.kind",
                format!("{kind:?} is not a dotted lower-case kind like \"pile.overheat\""),
            ));
        }
    }
    let severity = Severity::from_name(&file.severity).ok_or_else(|| {
        let names = Severity::ALL.map(Severity::as_str).join(", ");
        (
            "alarm.severity",
            format!("{:?} is none of {names}", file.severity),
        )
    })?;
    Ok(Alarm {
        limit,
        lasting_ms: file.lasting.as_millis() as u64,
        kind: file.kind,
        restored: file.restored,
        severity,
    })
}

/// Combines neighbours, also across gaps of this width.
fn requests(points: &[Point], gaps: u16) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let end = u32::from(point.address) + u32::from(point.format.width());
        let limit = u32::from(if point.area.is_bits() {
            BITS_MAX
        } else {
            WORDS_MAX
        });
        if let Some(last) = requests.last_mut() {
            let last_end = u32::from(last.address) + u32::from(last.count);
            let near = u32::from(point.address) <= last_end + u32::from(gaps);
            let count = last_end.max(end) - u32::from(last.address);
            if last.area == point.area && near && count <= limit {
                last.count = count as u16;
                last.points.end = index + 1;
                continue;
            }
        }
        requests.push(Request {
            area: point.area,
            address: point.address,
            count: point.format.width(),
            points: index..index + 1,
        });
    }
    requests
}

impl Point {
    /// The value of the point in an answer to `request`; `None` if the answer is too short.
    pub fn value(&self, request: &Request, answer: &Answer<'_>) -> Option<Value> {
        let at = usize::from(self.address - request.address);
        let words = match answer {
            Answer::Bits(bits) => return bits.get(at).copied().map(Value::Bit),
            Answer::Words(words) => words.get(at..at + usize::from(self.format.width()))?,
        };
        let long = || {
            let (high, low) = match self.words {
                WordOrder::HighFirst => (words[0], words[1]),
                WordOrder::LowFirst => (words[1], words[0]),
            };
            u32::from(high) << 16 | u32::from(low)
        };
        let number = match self.format {
            Format::Bit => return Some(Value::Bit(words[0] != 0)),
            Format::U16 => f64::from(words[0]),
            Format::I16 => f64::from(words[0].cast_signed()),
            Format::U32 => f64::from(long()),
            Format::I32 => f64::from(long().cast_signed()),
            Format::F32 => f64::from(f32::from_bits(long())),
        };
        let value = number * self.scale + self.offset;
        let good = value.is_finite()
            && self
                .valid
                .is_none_or(|[low, high]| (low..=high).contains(&value));
        Some(if good {
            Value::Number(value)
        } else {
            Value::Invalid(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Result<RegisterMap, Wrong> {
        RegisterMap::new(toml::from_str(text).expect("TOML of a map"))
    }

    #[test]
    fn neighbours_are_read_together_up_to_the_limits_of_the_protocol() {
        let map = map(
            "schema = 1\ngaps = true\n\
             [[point]]\nname = \"t\"\narea = \"input\"\naddress = 0\ntype = \"i16\"\nrepeat = { count = 40, stride = 4 }\n\
             [[point]]\nname = \"far\"\narea = \"input\"\naddress = 5000\ntype = \"f32\"\n\
             [[point]]\nname = \"relay\"\narea = \"coil\"\naddress = 3\nrepeat = { count = 16, stride = 1 }\n",
        )
        .expect("a map");
        let asked: Vec<_> = map
            .requests
            .iter()
            .map(|request| {
                (
                    request.area,
                    request.address,
                    request.count,
                    request.points.len(),
                )
            })
            .collect();
        assert_eq!(
            asked,
            [
                (Area::Coil, 3, 16, 16),
                (Area::Input, 0, 125, 32),
                (Area::Input, 128, 29, 8),
                (Area::Input, 5000, 2, 1)
            ]
        );
        assert_eq!(
            map.points.iter().filter(|point| point.part == 40).count(),
            1
        );
    }

    #[test]
    fn registers_that_no_point_names_are_read_only_where_the_map_says_so() {
        let points = "[[point]]\nname = \"t\"\narea = \"holding\"\naddress = 0\nrepeat = { count = 3, stride = 4 }\n\
             [[point]]\nname = \"u\"\narea = \"holding\"\naddress = 1\n\
             [[point]]\nname = \"v\"\narea = \"holding\"\naddress = 0\ntype = \"u32\"\n";
        let asked = |gaps: &str| {
            let map = map(&format!("schema = 1\n{gaps}{points}")).expect("a map");
            let asked = map.requests.iter();
            asked
                .map(|request| (request.address, request.count))
                .collect::<Vec<_>>()
        };
        // Neighbours, and points over the same registers, are still read together.
        let each = [(0, 2), (4, 1), (8, 1)];
        assert_eq!(asked(""), each);
        assert_eq!(asked("gaps = false\n"), each);
        assert_eq!(asked("gaps = 2\n"), [(0, 5), (8, 1)]);
        assert_eq!(asked("gaps = true\n"), [(0, 9)]);
        let wide = map(&format!("schema = 1\ngaps = 126\n{points}")).expect_err("too wide");
        assert_eq!(wide.0, "gaps");
    }

    #[test]
    fn registers_become_values() {
        let read = |line: &str, words: &[u16]| {
            let map = map(&format!(
                "schema = 1\n[[point]]\nname = \"v\"\narea = \"holding\"\naddress = 10\n{line}\n"
            ))
            .expect("a map");
            map.points[0].value(&map.requests[0], &Answer::Words(words))
        };
        assert_eq!(
            read("type = \"i16\"\nscale = 0.5", &[0xffff]),
            Some(Value::Number(-0.5))
        );
        assert_eq!(read("offset = -40.0", &[65]), Some(Value::Number(25.0)));
        assert_eq!(
            read("type = \"u32\"", &[1, 2]),
            Some(Value::Number(65_538.0))
        );
        assert_eq!(
            read("type = \"i32\"\nwords = \"low-first\"", &[0xfffe, 0xffff]),
            Some(Value::Number(-2.0))
        );
        let [high, low] = [0x4248, 0x0000];
        assert_eq!(
            read("type = \"f32\"", &[high, low]),
            Some(Value::Number(50.0))
        );
        assert!(matches!(
            read("type = \"f32\"", &[0x7fc0, 0]),
            Some(Value::Invalid(_))
        ));
        assert_eq!(
            read("type = \"i16\"\nvalid = [-40.0, 200.0]", &[0x7fff]),
            Some(Value::Invalid(32_767.0))
        );
        // An answer that is shorter than requested.
        assert_eq!(read("type = \"u32\"", &[1]), None);
        assert_eq!(read("", &[]), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let point = "[[point]]\nname = \"v\"\narea = \"holding\"\naddress = 10\n";
        for (text, key, word) in [
            ("schema = 2\n".to_owned() + point, "schema", "schema 1"),
            (format!("schema = 1\n{point}{point}"), "point.name", "twice"),
            (
                format!("schema = 1\n{point}type = \"bit\"\n"),
                "point[0].type",
                "coil",
            ),
            (
                format!("schema = 1\n{point}repeat = {{ count = 0, stride = 1 }}\n"),
                "point[0].repeat",
                "at least 1",
            ),
            (
                format!("schema = 1\n{point}repeat = {{ count = 9000, stride = 9 }}\n"),
                "point[0].address",
                "beyond",
            ),
            (
                format!(
                    "schema = 1\n{point}[[point.alarm]]\nkind = \"a.b\"\nrestored = \"a.c\"\nseverity = \"alarm\"\n"
                ),
                "point[0].alarm",
                "one of",
            ),
            (
                format!(
                    "schema = 1\n{point}[[point.alarm]]\nabove = 1.0\nclear = 2.0\nkind = \"a.b\"\nrestored = \"a.c\"\nseverity = \"alarm\"\n"
                ),
                "point[0].alarm",
                "clear lies below",
            ),
            (
                format!(
                    "schema = 1\n{point}[[point.alarm]]\nabove = 1.0\nkind = \"A\"\nrestored = \"a.c\"\nseverity = \"alarm\"\n"
                ),
                "point[0].alarm.kind",
                "dotted",
            ),
        ] {
            let (found, message) = map(&text).expect_err("wrong");
            assert_eq!(found, key, "{message}");
            assert!(message.contains(word), "{message}");
        }
    }
}
