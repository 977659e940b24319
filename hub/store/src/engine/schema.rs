//! The tables and columns of a database, as its engine reports them.
use sqlx::Row as _;

use super::super::{Connection, StoreError, failed};
use super::is_postgres;

/// Kind of a column's values, the same on both engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// An integer of any size.
    Integer,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

impl ColumnKind {
    /// By an engine's word for a type; `None` for a type that no table of a hub uses.
    fn of(word: &str) -> Option<Self> {
        match word.to_ascii_uppercase().as_str() {
            "BIGINT" | "INTEGER" | "SMALLINT" => Some(Self::Integer),
            "TEXT" => Some(Self::Text),
            "BYTEA" => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Kind of its values.
    pub kind: ColumnKind,
}

/// The names of all tables of a hub, sorted; without tables of the engine and of the migrations. Errors:
/// [`StoreError`].
pub async fn tables(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let statement = if is_postgres(connection) {
        "SELECT tablename::TEXT FROM pg_tables WHERE schemaname = current_schema() AND tablename <> '_sqlx_migrations'"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations'"
    };
    let rows = sqlx::query(statement)
        .fetch_all(connection)
        .await
        .map_err(failed("listing the tables"))?;
    let mut tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    tables.sort();
    Ok(tables)
}

/// The columns of a table, ordered by name; empty if the table does not exist. Errors: [`StoreError`].
pub async fn columns(connection: &mut Connection, table: &str) -> Result<Vec<Column>, StoreError> {
    let statement = if is_postgres(connection) {
        "SELECT column_name::TEXT, data_type::TEXT FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1"
    } else {
        "SELECT name, type FROM pragma_table_info($1)"
    };
    let reading = "reading the columns of a table";
    let rows = sqlx::query(statement)
        .bind(table)
        .fetch_all(connection)
        .await
        .map_err(failed(reading))?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let (name, word): (String, String) = (row.get(0), row.get(1));
        let kind = ColumnKind::of(&word).ok_or_else(|| {
            let message = format!("column {name} of {table} is of type {word}: tables have BIGINT, INTEGER, SMALLINT, TEXT and BYTEA");
            failed(reading)(sqlx::Error::Decode(message.into()))
        })?;
        columns.push(Column { name, kind });
    }
    columns.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(columns)
}

/// The columns of a table's primary key, in order.
#[cfg(test)]
pub async fn key(connection: &mut Connection, table: &str) -> Vec<String> {
    let statement = if is_postgres(connection) {
        "SELECT k.column_name::TEXT FROM information_schema.key_column_usage k \
         JOIN information_schema.table_constraints c ON c.constraint_name = k.constraint_name \
         AND c.table_name = k.table_name WHERE c.constraint_type = 'PRIMARY KEY' AND k.table_name = $1 \
         AND k.table_schema = current_schema() ORDER BY k.ordinal_position"
    } else {
        "SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk"
    };
    let rows = sqlx::query(statement)
        .bind(table)
        .fetch_all(connection)
        .await;
    rows.expect("a key").iter().map(|row| row.get(0)).collect()
}
