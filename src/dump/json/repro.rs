//! `--repro`: transactions and their schema with every value replaced by a hash, for bug reports.
//!
//! Names of databases, tables and columns stay, and so do types, sizes, NULLs, what is absent, and which values are equal. A
//! value is `#` and a hash that is keyed anew in each run, so that short values cannot be found by trying, a colon, and its length in
//! bytes. In SQL text strings, numbers and comments are replaced.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::{Times, lines};
use crate::dump::escape::put_json_string;
use crate::dump::output::Output;
use crate::dump::table::Table;
use crate::dump::walk::{Ending, Printer, Transaction};
use crate::error::Result;
use crate::event::text::render;
use crate::event::{Image, RecordKind, Row, Rows, Statement, TableDefinition, Value};
use crate::frame::{Step, StreamHeader};

/// Prints JSON lines without values.
pub struct ReproPrinter {
    key: RandomState,
    scratch: Vec<u8>,
}

impl Default for ReproPrinter {
    fn default() -> ReproPrinter {
        ReproPrinter { key: RandomState::new(), scratch: Vec::new() }
    }
}

impl ReproPrinter {
    fn hashed(&self, bytes: &[u8]) -> String {
        format!("#{:016x}:{}", self.key.hash_one(bytes), bytes.len())
    }

    fn image(&mut self, out: &mut Vec<u8>, name: &str, image: &Image<'_>, table: &TableDefinition) -> Result<()> {
        out.extend_from_slice(format!(",\"{name}\":{{").as_bytes());
        let mut first = true;
        for (value, column) in image.columns().zip(&table.columns) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            put_json_string(out, column.name.as_bytes());
            out.push(b':');
            match value? {
                Value::Null => out.extend_from_slice(b"null"),
                Value::Absent => out.extend_from_slice(b"\"absent\""),
                Value::Unchanged => out.extend_from_slice(b"\"unchanged\""),
                value => {
                    let mut scratch = std::mem::take(&mut self.scratch);
                    let hash = self.hashed(render(value, column, &mut scratch).bytes);
                    self.scratch = scratch;
                    put_json_string(out, hash.as_bytes());
                }
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// SQL text whose strings, numbers and comments are hashes.
    fn scrubbed(&self, sql: &[u8]) -> String {
        let text = String::from_utf8_lossy(sql);
        let mut out = String::new();
        let mut rest: &str = &text;
        while let Some(c) = rest.chars().next() {
            let after_word = out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '@');
            let length = match c {
                '\'' | '"' => quoted_len(rest, c),
                '#' => line_len(rest),
                _ if rest.starts_with("--") => line_len(rest),
                _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
                // A name in backticks stays, and so do digits within a name.
                '`' => {
                    let (name, tail) = rest.split_at(quoted_len(rest, c));
                    out.push_str(name);
                    rest = tail;
                    continue;
                }
                c if c.is_ascii_digit() && !after_word => {
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len())
                }
                c => {
                    out.push(c);
                    rest = rest.get(c.len_utf8()..).unwrap_or("");
                    continue;
                }
            };
            let (value, tail) = rest.split_at(length);
            out.push_str(&format!("'{}'", self.hashed(value.as_bytes())));
            rest = tail;
        }
        out
    }
}

/// Bytes up to the quote that ends what `text` begins with.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

fn line_len(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

fn open(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
}

impl Printer for ReproPrinter {
    fn stream(&mut self, out: &mut Output<'_>, header: &StreamHeader) -> Result<()> {
        let out = out.buffer();
        open(out, "stream");
        lines::stream(out, header);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn table(&mut self, out: &mut Output<'_>, table: &Table) -> Result<()> {
        let mut definition = table.definition.clone();
        for column in &mut definition.columns {
            for member in &mut column.members {
                *member = self.hashed(member).into_bytes();
            }
            column.default_sql = self.scrubbed(column.default_sql.as_bytes());
            // ENUM and SET types list their members.
            column.sql_type = self.scrubbed(column.sql_type.as_bytes());
        }
        definition.create_sql = self.scrubbed(definition.create_sql.as_bytes());
        let out = out.buffer();
        open(out, "table");
        lines::table(out, &definition);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn begin(&mut self, out: &mut Output<'_>, transaction: &Transaction) -> Result<()> {
        let out = out.buffer();
        open(out, "begin");
        out.extend_from_slice(format!(",\"txid\":\"{}\"", transaction.txid).as_bytes());
        lines::begin(out, &transaction.begin, &mut Times::default());
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn row(
        &mut self,
        out: &mut Output<'_>,
        _: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        ordinal: u64,
    ) -> Result<()> {
        out.spill()?;
        let out = out.buffer();
        open(out, "row");
        out.extend_from_slice(format!(",\"op\":\"{}\",\"database\":", rows.op.name()).as_bytes());
        put_json_string(out, table.definition.database.as_bytes());
        out.extend_from_slice(b",\"table\":");
        put_json_string(out, table.definition.table.as_bytes());
        out.extend_from_slice(format!(",\"ordinal\":{ordinal}").as_bytes());
        if let Some(image) = &row.before {
            self.image(out, "before", image, &table.definition)?;
        }
        if let Some(image) = &row.after {
            self.image(out, "after", image, &table.definition)?;
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn statement(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        let mut statement = statement.clone();
        statement.sql = self.scrubbed(&statement.sql).into_bytes().into();
        statement.block = if statement.block.is_empty() {
            Vec::new().into()
        } else {
            self.hashed(&statement.block).into_bytes().into()
        };
        for variable in &mut statement.user_variables {
            variable.value = variable
                .value
                .as_ref()
                .map(|value| crate::event::statement::UserValue::Decimal(self.hashed(format!("{value:?}").as_bytes())));
        }
        let out = out.buffer();
        open(out, kind.name());
        lines::statement(out, kind, &statement, transaction.ordinal);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn end(&mut self, out: &mut Output<'_>, transaction: &Transaction, ending: Ending<'_>) -> Result<()> {
        let out = out.buffer();
        match ending {
            Ending::Commit(commit) | Ending::Prepared(commit) => {
                open(out, if matches!(ending, Ending::Commit(..)) { "commit" } else { "prepared" });
                lines::commit(out, transaction.txid, commit, &mut Times::default());
            }
            Ending::Discarded(why) => {
                open(out, "discard");
                out.extend_from_slice(b",\"reason\":");
                put_json_string(out, why.as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn mark(&mut self, _: &mut Output<'_>, _: &Step) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_literal_survives_in_sql() {
        let printer = ReproPrinter::default();
        let out = printer
            .scrubbed(b"insert into t1 /* secret */ values (42, 'se\\'cret', \"secret\", 0xSECRET, 1.5e3) -- secret");
        assert!(!out.contains("secret") && !out.contains("SECRET") && !out.contains("(42"), "{out}");
        assert!(out.starts_with("insert into t1 '#"), "{out}");
        assert_eq!(printer.scrubbed(b"`a1` = b2"), "`a1` = b2");
    }
}
