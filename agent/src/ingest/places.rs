//! `devices_file`: the places of devices, as a table that a spreadsheet exports.
//!
//! ```text
//! id,building,unit
//! door-3-1,3号楼,1单元
//! ```
//!
//! CSV in UTF-8 or GB18030, with the columns `id`, `building` and `unit` in any order, or 编号, 楼栋 and 单元; the last two
//! may be missing. Other columns are ignored. Lines without a value are skipped. An error names line and column.
use linli_shared::service::config::ConfigError;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

use linli_devices::text;

/// Largest number of rows of one file.
const ROWS_MAX: usize = 100_000;
/// The columns' names, in any case.
const COLUMNS: [[&str; 2]; 3] = [["id", "编号"], ["building", "楼栋"], ["unit", "单元"]];

/// The column with this name.
fn column(name: &str) -> Option<usize> {
    COLUMNS
        .iter()
        .position(|names| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// `[[device]]`: the place of a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePlace {
    /// Id as the device's messages carry it.
    pub id: String,
    /// Building, shed or zone.
    #[serde(default)]
    pub building: String,
    /// Unit of the place.
    #[serde(default)]
    pub unit: String,
}

/// Adds the devices of a file to those of the config.
pub fn read(path: &Path, devices: &mut HashMap<String, DevicePlace>) -> Result<(), ConfigError> {
    let wrong = |key: String, message: String| ConfigError::Value {
        path: path.to_owned(),
        key,
        message,
    };
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let text = text::lossy(&bytes);
    // No rule would match a garbled place.
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(wrong(
            "devices_file".to_owned(),
            "is neither UTF-8 nor GB18030 text: export it as CSV UTF-8".to_owned(),
        ));
    }
    let mut table = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    // The position of csv is where it began to read: before the empty lines above a record.
    let line = |position: Option<&csv::Position>| {
        let from = position.map_or(0, |position| position.byte() as usize);
        let rest = text.get(from..).unwrap_or_default();
        let skipped = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let before = text.get(..from + skipped).unwrap_or_default();
        1 + before.matches('\n').count()
    };
    let unread = |error: csv::Error| {
        wrong(
            format!("line {}", line(error.position())),
            format!("is no CSV: {error}"),
        )
    };
    let head = table.headers().map_err(unread)?.clone();
    let mut places = [None; COLUMNS.len()];
    for (number, name) in head.iter().enumerate() {
        let Some(at) = column(name) else {
            continue;
        };
        if places[at].replace(number).is_some() {
            return Err(wrong(
                format!("line 1, column {}", number + 1),
                format!("{name:?} is there twice: remove one"),
            ));
        }
    }
    let Some(id_column) = places[0] else {
        return Err(wrong(
            "line 1".to_owned(),
            "has no column id: write id,building,unit or 编号,楼栋,单元, with commas between them"
                .to_owned(),
        ));
    };
    if head.len() > 1 && places[1..].iter().all(Option::is_none) {
        // A mistake in the table: without places it would have no effect.
        return Err(wrong(
            "line 1".to_owned(),
            "has neither building nor unit: write id,building,unit or 编号,楼栋,单元, with commas between them"
                .to_owned(),
        ));
    }
    for (row, record) in table.records().enumerate() {
        let record = record.map_err(unread)?;
        let at = || format!("line {}", line(record.position()));
        if record.iter().all(str::is_empty) {
            continue;
        }
        if row >= ROWS_MAX {
            return Err(wrong(
                at(),
                format!("is beyond the {ROWS_MAX} rows that are accepted"),
            ));
        }
        if record.len() > head.len() {
            return Err(wrong(
                format!("{}, column {}", at(), head.len() + 1),
                format!(
                    "the table has {} columns: put a value with a comma between quotes",
                    head.len()
                ),
            ));
        }
        let value = |place: Option<usize>| {
            let value = place.and_then(|place| record.get(place));
            value.unwrap_or_default().to_owned()
        };
        let [id, building, unit] = places.map(value);
        let at_id = || format!("{}, column {} (id)", at(), id_column + 1);
        if id.is_empty() {
            return Err(wrong(
                at_id(),
                "is empty: write the id as the device's messages carry it".to_owned(),
            ));
        }
        let device = DevicePlace {
            id: id.clone(),
            building,
            unit,
        };
        if devices.insert(id.clone(), device).is_some() {
            return Err(wrong(
                at_id(),
                format!("{id:?} is there twice, here or as [[device]]: remove one of the two"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<HashMap<String, DevicePlace>, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("devices.csv");
        std::fs::write(&path, bytes).expect("written");
        let known = DevicePlace {
            id: "known".to_owned(),
            building: String::new(),
            unit: String::new(),
        };
        let mut devices = HashMap::from([("known".to_owned(), known)]);
        read(&path, &mut devices).map(|()| devices)
    }

    #[test]
    fn a_table_is_read_as_spreadsheets_export_it() {
        let text = "id,building,unit\r\ndoor-1,3号楼,1单元\r\n,,\r\n\"a,b\",车棚,\r\ndoor-2\r\n";
        let (gb18030, _, _) = encoding_rs::GB18030.encode(text);
        let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        for bytes in [text.as_bytes(), &marked, &gb18030] {
            let devices = read_bytes(bytes).expect("a good table");
            assert_eq!(devices.len(), 4);
            let door = &devices["door-1"];
            assert_eq!(
                (door.building.as_str(), door.unit.as_str()),
                ("3号楼", "1单元")
            );
            assert_eq!(devices["a,b"].building, "车棚");
            assert_eq!(devices["door-2"].unit, "");
        }
        let other = read_bytes(b"unit,id\n2,d\n").expect("columns in any order");
        assert_eq!(other["d"].unit, "2");
        let chinese = "序号,编号,型号,楼栋,单元\n1,d,DS-K1T,3号楼,1单元\n";
        let (gb18030, _, _) = encoding_rs::GB18030.encode(chinese);
        for bytes in [
            chinese.as_bytes(),
            &gb18030,
            b"ID,Building,UNIT,note\nd,B,U,\n",
        ] {
            let devices = read_bytes(bytes).expect("columns in Chinese, in any case, and others");
            assert!(!devices["d"].building.is_empty() && !devices["d"].unit.is_empty());
        }
    }

    #[test]
    fn the_config_names_a_table_beside_it_and_blocks_add_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.toml");
        let config = "devices_file = \"devices.csv\"\n[[device]]\nid = \"b\"\nbuilding = \"2\"\n";
        std::fs::write(&path, config).expect("written");
        assert!(matches!(
            crate::config::Config::load(&path),
            Err(ConfigError::Read { path, .. }) if path.ends_with("devices.csv")
        ));
        std::fs::write(directory.path().join("devices.csv"), "id,building\na,1\n")
            .expect("written");
        let checked = crate::config::Config::load(&path).expect("a good config");
        assert_eq!(checked.devices["a"].building, "1");
        assert_eq!(checked.devices["b"].building, "2");
    }

    #[test]
    fn a_wrong_table_names_line_and_column() {
        for (text, key, fix) in [
            ("", "line 1", "id,building,unit"),
            ("building,unit\na,b\n", "line 1", "id,building,unit"),
            ("id,house\n", "line 1", "building"),
            ("id;building;unit\n", "line 1", "commas"),
            ("id,unit,id\n", "line 1, column 3", "twice"),
            ("building,id\na,d\nb,\n", "line 3, column 2 (id)", "empty"),
            ("id\nd\n\nd\n", "line 4, column 1 (id)", "twice"),
            ("id\nknown\n", "line 2, column 1 (id)", "[[device]]"),
            ("id,unit\nd,1,2\n", "line 2, column 3", "quotes"),
        ] {
            match read_bytes(text.as_bytes()) {
                Err(ConfigError::Value {
                    key: named,
                    message,
                    ..
                }) => {
                    assert_eq!(named, key, "{text:?}: {message}");
                    assert!(message.contains(fix), "{text:?}: {message}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(read_bytes(b"id\n\xff\xff\xff\n").is_err());
    }
}
