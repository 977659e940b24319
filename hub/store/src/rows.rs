//! Whole rows of any table, in a form that is the same on both engines: for copies, comparisons and
//! deletions.
//!
//! The canonical form of a row is its columns ordered by name, each as a tag and the value: null 0, integer 1
//! and 8 bytes, text 2 and bytes 3 prefixed by their length in 8 bytes; numbers are big-endian. The digest of
//! a table is the number of its rows and the sum, modulo 2^256, of the SHA-256 of each: the engines sort text
//! differently, and a sum is independent of the order. It detects errors of a copy; against forged rows there
//! is the audit log's chain.
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};
use std::fmt::Write as _;

use super::catalogue::Table;
use super::engine::schema::{self, Column, ColumnKind};
use super::{Connection, Row, StoreError, failed};

/// Maximum number of values of one INSERT: SQLite looks each up by name, so twice as many take four times as
/// long.
const VALUES_MAX: usize = 256;
/// Maximum number of rows of one transaction.
const ROWS_MAX: usize = 2000;
/// Size of text and bytes at which a transaction accepts no more rows, bytes.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A value of either engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer of any size.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    fn read(row: &Row, index: usize, kind: ColumnKind) -> Result<Self, sqlx::Error> {
        Ok(match kind {
            ColumnKind::Integer => row
                .try_get::<Option<i64>, _>(index)?
                .map_or(Self::Null, Self::Integer),
            ColumnKind::Text => row
                .try_get::<Option<String>, _>(index)?
                .map_or(Self::Null, Self::Text),
            ColumnKind::Bytes => row
                .try_get::<Option<Vec<u8>>, _>(index)?
                .map_or(Self::Null, Self::Bytes),
        })
    }

    /// Adds the value to the arguments of a statement; a null gets the type of its column.
    fn bind(&self, kind: ColumnKind, values: &mut AnyArguments) {
        let added = match (self, kind) {
            (Self::Integer(value), _) => values.add(*value),
            (Self::Text(value), _) => values.add(value.as_str()),
            (Self::Bytes(value), _) => values.add(value.as_slice()),
            (Self::Null, ColumnKind::Integer) => values.add(None::<i64>),
            (Self::Null, ColumnKind::Text) => values.add(None::<String>),
            (Self::Null, ColumnKind::Bytes) => values.add(None::<Vec<u8>>),
        };
        added.expect("sequences, text and bytes can be encoded");
    }

    fn hash(&self, hash: &mut Sha256) {
        let mut long = |tag: u8, bytes: &[u8]| {
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Null => hash.update([0]),
            Self::Integer(value) => {
                hash.update([1]);
                hash.update(value.to_be_bytes());
            }
            Self::Text(value) => long(2, value.as_bytes()),
            Self::Bytes(value) => long(3, value),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) => 8,
            Self::Text(value) => value.len(),
            Self::Bytes(value) => value.len(),
        }
    }
}

/// A digest of rows, independent of their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// Number of rows.
    pub rows: u64,
    sum: [u8; 32],
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: &[Value]) {
        let mut hash = Sha256::new();
        for value in row {
            value.hash(&mut hash);
        }
        let mut carry = 0u16;
        for (byte, other) in self.sum.iter_mut().zip(hash.finalize()).rev() {
            carry += u16::from(*byte) + u16::from(other);
            *byte = carry as u8;
            carry >>= 8;
        }
        self.rows += 1;
    }

    /// The sum, hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(self.sum)
    }
}

/// A table and its columns, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    name: &'static str,
    key: Vec<usize>,
    columns: Vec<Column>,
}

impl Shape {
    /// Reads the shape from a database. Errors: [`StoreError`].
    pub async fn read(connection: &mut Connection, table: &Table) -> Result<Self, StoreError> {
        let columns = schema::columns(connection, table.name).await?;
        let wrong = || {
            let message = format!("table {} has no such key", table.name);
            failed("reading the shape of a table")(sqlx::Error::Decode(message.into()))
        };
        let key = table.key.iter().map(|name| {
            let at = columns.iter().position(|column| column.name == *name);
            at.ok_or_else(wrong)
        });
        Ok(Self {
            name: table.name,
            key: key.collect::<Result<_, _>>()?,
            columns,
        })
    }

    /// The key of a row as JSON.
    pub fn key_of(&self, row: &[Value]) -> String {
        let key = self.key.iter().map(|at| match &row[*at] {
            Value::Integer(value) => json!(value),
            Value::Text(value) => json!(value),
            Value::Null | Value::Bytes(_) => json!(null),
        });
        serde_json::Value::from_iter(key).to_string()
    }

    fn names(&self, which: impl IntoIterator<Item = usize>) -> String {
        let mut names = String::new();
        for at in which {
            let comma = if names.is_empty() { "" } else { ", " };
            // The names come from the program's own migrations.
            let _ = write!(names, "{comma}\"{}\"", self.columns[at].name);
        }
        names
    }

    /// `SELECT` of all columns ordered by the key: all rows, or those on one side of a key.
    fn select(&self, side: Option<(Side, &str)>) -> Result<(String, AnyArguments), StoreError> {
        let key = self.names(self.key.iter().copied());
        let all = self.names(0..self.columns.len());
        let mut text = format!("SELECT {all} FROM {}", self.name);
        let mut values = AnyArguments::default();
        if let Some((side, last)) = side {
            let unread = |what: String| {
                failed("reading how far a copy has come")(sqlx::Error::Decode(what.into()))
            };
            let last: Vec<serde_json::Value> =
                serde_json::from_str(last).map_err(|error| unread(error.to_string()))?;
            if last.len() != self.key.len() {
                return Err(unread(format!("{} has another key", self.name)));
            }
            let sign = match side {
                Side::After => ">",
                Side::UpTo => "<=",
            };
            let _ = write!(text, " WHERE ({key}) {sign} (");
            for (index, (value, at)) in last.iter().zip(&self.key).enumerate() {
                let value = match (value.as_i64(), value.as_str()) {
                    (Some(value), _) => Value::Integer(value),
                    (_, Some(value)) => Value::Text(value.to_owned()),
                    _ => Value::Null,
                };
                value.bind(self.columns[*at].kind, &mut values);
                let comma = if index > 0 { ", " } else { "" };
                let _ = write!(text, "{comma}${}", index + 1);
            }
            text.push(')');
        }
        let _ = write!(text, " ORDER BY {key}");
        Ok((text, values))
    }

    /// Passes each row to `take`, in this engine's order of the key. Errors: [`StoreError`].
    pub async fn each(
        &self,
        connection: &mut Connection,
        side: Option<(Side, &str)>,
        mut take: impl AsyncFnMut(Vec<Value>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (text, values) = self.select(side)?;
        let mut rows = sqlx::query_with(AssertSqlSafe(text), values).fetch(connection);
        let reading = "reading the rows of a table";
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed(reading))?;
            let values = self.columns.iter().enumerate();
            let values = values.map(|(index, column)| Value::read(&row, index, column.kind));
            take(values.collect::<Result<_, _>>().map_err(failed(reading))?).await?;
        }
        Ok(())
    }

    /// The digest of all rows, or of those on one side of a key. Errors: [`StoreError`].
    pub async fn digest(
        &self,
        connection: &mut Connection,
        side: Option<(Side, &str)>,
    ) -> Result<Digest, StoreError> {
        let mut digest = Digest::default();
        self.each(connection, side, async |row| {
            digest.add(&row);
            Ok(())
        })
        .await?;
        Ok(digest)
    }

    /// Inserts rows. Errors: [`StoreError`].
    pub async fn insert(
        &self,
        connection: &mut Connection,
        rows: &[Vec<Value>],
    ) -> Result<(), StoreError> {
        let all = self.names(0..self.columns.len());
        // All full parts have the same statement, which is prepared once.
        for rows in rows.chunks((VALUES_MAX / self.columns.len().max(1)).max(1)) {
            let mut text = format!("INSERT INTO {} ({all}) VALUES ", self.name);
            let mut values = AnyArguments::default();
            let mut number = 0;
            for (index, row) in rows.iter().enumerate() {
                text.push_str(if index > 0 { ", (" } else { "(" });
                for (at, (value, column)) in row.iter().zip(&self.columns).enumerate() {
                    number += 1;
                    let comma = if at > 0 { ", " } else { "" };
                    let _ = write!(text, "{comma}${number}");
                    value.bind(column.kind, &mut values);
                }
                text.push(')');
            }
            sqlx::query_with(AssertSqlSafe(text), values)
                .execute(&mut *connection)
                .await
                .map_err(failed("inserting copied rows"))?;
        }
        Ok(())
    }

    /// Number of rows. Errors: [`StoreError`].
    pub async fn count(&self, connection: &mut Connection) -> Result<u64, StoreError> {
        let text = format!("SELECT COUNT(*) FROM {}", self.name);
        let row = sqlx::query(AssertSqlSafe(text))
            .fetch_one(connection)
            .await
            .map_err(failed("counting rows"))?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }

    /// Deletes all rows. Errors: [`StoreError`].
    pub async fn empty(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let text = format!("DELETE FROM {}", self.name);
        sqlx::query(AssertSqlSafe(text))
            .execute(connection)
            .await
            .map_err(failed("emptying a table"))?;
        Ok(())
    }
}

/// The rows on one side of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Rows after the key.
    After,
    /// Rows up to the key, included.
    UpTo,
}

/// Rows collected for one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    bytes: usize,
}

impl Batch {
    /// Adds a row; returns true if the batch is full.
    pub fn push(&mut self, row: Vec<Value>) -> bool {
        self.bytes += row.iter().map(Value::bytes).sum::<usize>();
        self.rows.push(row);
        self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[Vec<Value>]) -> Digest {
        let mut digest = Digest::default();
        rows.iter().for_each(|row| digest.add(row));
        digest
    }

    #[test]
    fn a_digest_is_of_the_set_of_rows_and_of_every_value() {
        let text = |text: &str| Value::Text(text.to_owned());
        let rows = vec![
            vec![Value::Integer(1), text("门"), Value::Null],
            vec![Value::Integer(2), text(""), Value::Bytes(vec![0])],
        ];
        let mut turned = rows.clone();
        turned.reverse();
        assert_eq!(digest(&rows), digest(&turned));
        for (row, column, other) in [
            (0, 0, Value::Integer(-1)),
            (0, 2, text("")),
            (1, 1, Value::Null),
            (1, 2, Value::Bytes(vec![])),
            (1, 2, Value::Text("\0".to_owned())),
        ] {
            let mut changed = rows.clone();
            changed[row][column] = other;
            assert_ne!(digest(&rows), digest(&changed));
        }
        // Moving text from one column to the next changes the digest.
        assert_ne!(
            digest(&[vec![text("ab"), text("c")]]),
            digest(&[vec![text("a"), text("bc")]])
        );
    }
}
