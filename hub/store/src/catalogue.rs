//! The catalogue of tables, each with its key and the retention of its rows.
//!
//! Every table of `hub/store/migrations` must be listed in [`TABLES`], or a test fails: a missing table is
//! neither copied between engines nor compared, and has no defined retention. Columns are read from the
//! schema, so a new column needs no change here.

use super::engine::schema;
use super::{Connection, StoreError};

/// How long the rows of a table stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// As configured in `[retention]`: the table of a class of `retention.rs`.
    Class,
    /// As long as the row that they belong to, in this table.
    With(&'static str),
    /// Permanently, or until replaced, for this reason.
    For(&'static str),
}

/// A table of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Primary key, in the order of the schema.
    pub key: &'static [&'static str],
    /// Retention of its rows.
    pub stay: Stay,
    /// It belongs to this database only and is not copied.
    pub own: bool,
}

const fn table(name: &'static str, key: &'static [&'static str], stay: Stay) -> Table {
    Table {
        name,
        key,
        stay,
        own: false,
    }
}

/// All tables, in the order in which they are copied.
pub const TABLES: &[Table] = &[
    table("agents", &["agent"], Stay::For("equipment, not people")),
    table("positions", &["agent", "lane", "epoch"], Stay::Class),
    table("chunks", &["id"], Stay::Class),
    table(
        "lost_ranges",
        &["agent", "lane", "epoch", "first_seq"],
        Stay::Class,
    ),
    table("quarantine", &["id"], Stay::Class),
    table("probe", &["id"], Stay::For("one row without content")),
    table("join_tokens", &["id"], Stay::Class),
    table("api_tokens", &["id"], Stay::Class),
    table("warnings", &["id"], Stay::Class),
    table(
        "warning_changes",
        &["warning_id", "number"],
        Stay::With("warnings"),
    ),
    table("mutes", &["id"], Stay::Class),
    table(
        "occurrences",
        &[
            "rule", "rule_key", "at_ms", "agent", "lane", "epoch", "sequence",
        ],
        Stay::Class,
    ),
    table("rules", &["id"], Stay::For("the rules that run")),
    table("cases", &["id"], Stay::Class),
    table("case_orgs", &["org", "case_id"], Stay::With("cases")),
    table("case_named", &["login", "case_id"], Stay::With("cases")),
    table(
        "case_warnings",
        &["case_id", "warning_id"],
        Stay::With("cases"),
    ),
    table("case_actions", &["case_id", "number"], Stay::With("cases")),
    table("attachments", &["case_id", "number"], Stay::With("cases")),
    table("outbox", &["id"], Stay::Class),
    table("stations", &["agent"], Stay::For("numbers without content")),
    table(
        "station_messages",
        &["agent", "number"],
        Stay::For("what waits for a station; 90 days after it has it, the writer deletes it"),
    ),
    table("orgs", &["id"], Stay::For("organisations, not people")),
    table("places", &["id"], Stay::For("places, not people")),
    table("versions", &["name"], Stay::For("numbers without content")),
    table(
        "users",
        &["login"],
        Stay::For("accounts of staff, whom the audit log names"),
    ),
    table("identities", &["issuer", "subject"], Stay::With("users")),
    table("sessions", &["id"], Stay::Class),
    table("changes", &["number"], Stay::Class),
    table("audit", &["number"], Stay::For("the audit log, a chain")),
    table(
        "deletions",
        &["number"],
        Stay::For("proofs of what was deleted"),
    ),
    Table {
        own: true,
        ..table("copying", &["name"], Stay::For("until the copy is whole"))
    },
];

/// The tables that are copied.
pub fn copied() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(|table| !table.own)
}

/// The tables of the catalogue that a database has; the inner error says why it is not usable. Errors:
/// [`StoreError`].
pub async fn there(
    connection: &mut Connection,
) -> Result<Result<Vec<&'static Table>, String>, StoreError> {
    let names = schema::tables(connection).await?;
    if !names.iter().any(|name| name == "chunks") {
        return Ok(Err("it is not the database of a hub".to_owned()));
    }
    let unknown = |name: &&String| !TABLES.iter().any(|table| table.name == **name);
    if let Some(name) = names.iter().find(unknown) {
        return Ok(Err(format!(
            "a newer program made it: it has a table {name:?}"
        )));
    }
    let is_there = |table: &&Table| names.iter().any(|name| name == table.name);
    Ok(Ok(TABLES.iter().filter(is_there).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{Place, Store};
    use super::*;
    use crate::retention::class::Class;

    const WHERE: &str =
        "add it to TABLES in hub/store/src/catalogue.rs, with its key and how long its rows stay";

    #[tokio::test]
    async fn every_table_of_the_schema_is_in_the_catalogue_with_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&Place::of_test(directory.path()), true)
            .await
            .expect("a store");
        let mut connection = store.connect().await.expect("a connection");
        let there = schema::tables(&mut connection).await.expect("tables");
        for name in &there {
            let listed = TABLES.iter().find(|table| table.name == name);
            let listed = listed.unwrap_or_else(|| {
                panic!("table {name:?} of hub/store/migrations is not in the catalogue: {WHERE}")
            });
            let key = schema::key(&mut connection, name).await;
            assert_eq!(key, listed.key, "the key of {name:?}: {WHERE}");
            let columns = schema::columns(&mut connection, name)
                .await
                .expect("columns");
            assert!(!columns.is_empty(), "{name}");
        }
        for table in TABLES {
            assert!(
                there.iter().any(|name| name == table.name),
                "{:?} is in the catalogue and not in hub/store/migrations",
                table.name
            );
        }
        assert_eq!(there.len(), TABLES.len(), "a table is listed twice");
    }

    #[test]
    fn what_stays_for_a_class_has_one_and_what_goes_with_others_goes_with_a_table() {
        for table in TABLES {
            let is_of_class = Class::ALL.iter().any(|class| class.table() == table.name);
            assert_eq!(
                table.stay == Stay::Class,
                is_of_class,
                "{:?}: a table of Stay::Class needs a class in hub/src/retention.rs, and no other has one",
                table.name
            );
            match table.stay {
                Stay::With(other) => assert!(TABLES.iter().any(|table| table.name == other)),
                Stay::For(reason) => assert!(!reason.is_empty()),
                Stay::Class => {}
            }
        }
    }
}
