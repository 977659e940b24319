//! Statements whose text depends on a query. Values are numbered from `$1`, which both engines accept.
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type};
use std::fmt::Write;

use linli_domain::orgs::Watched;

/// A statement under construction.
#[derive(Default)]
pub struct Statement {
    text: String,
    values: AnyArguments,
}

impl Statement {
    /// Begins with a text without values.
    pub fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            values: AnyArguments::default(),
        }
    }

    /// Appends text, which must come from the program, never from a person.
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a placeholder and its value.
    pub fn bind<'v>(&mut self, value: impl Encode<'v, Any> + Type<Any>) -> &mut Self {
        // Numbers, text and bytes: every bindable value can be encoded.
        self.values.add(value).expect("a value of a column's type");
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// Appends values separated by commas.
    pub fn bind_all<'v, T>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self
    where
        T: Encode<'v, Any> + Type<Any>,
    {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self.bind(value);
        }
        self
    }

    /// Appends the condition that `site` or `agent` of a row may be watched.
    pub fn watched(&mut self, watched: &Watched) -> &mut Self {
        self.push(" AND (agent = ").bind(watched.agent.as_str());
        if !watched.sites.is_empty() {
            self.push(" OR site IN (")
                .bind_all(watched.sites.iter().map(String::as_str))
                .push(")");
        }
        self.push(")")
    }

    /// Appends `VALUES (…), (…)`, one row for each item.
    pub fn rows<I>(
        &mut self,
        items: impl IntoIterator<Item = I>,
        mut row: impl FnMut(&mut ValuesOfRow<'_>, I),
    ) -> &mut Self {
        self.text.push_str("VALUES ");
        for (index, item) in items.into_iter().enumerate() {
            self.text.push_str(if index > 0 { ", (" } else { "(" });
            let mut values = ValuesOfRow {
                statement: self,
                is_first: true,
            };
            row(&mut values, item);
            self.text.push(')');
        }
        self
    }

    /// Builds the query; empties the statement.
    pub fn build(&mut self) -> Query<'static, Any, AnyArguments> {
        let text = std::mem::take(&mut self.text);
        let values = std::mem::take(&mut self.values);
        sqlx::query_with(AssertSqlSafe(text), values)
    }
}

/// The values of one row.
pub struct ValuesOfRow<'s> {
    statement: &'s mut Statement,
    is_first: bool,
}

impl ValuesOfRow<'_> {
    /// Appends a value.
    pub fn bind<'v>(&mut self, value: impl Encode<'v, Any> + Type<Any>) -> &mut Self {
        if !std::mem::take(&mut self.is_first) {
            self.statement.text.push_str(", ");
        }
        self.statement.bind(value);
        self
    }
}
