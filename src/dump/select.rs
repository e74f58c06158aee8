//! What a dump shows: times, positions, tables, operations, transactions, values.
//!
//! A transaction is selected by when and where it happened ([`Selection::transaction`]), a record by its table and
//! operation, and a row by its values. `since` and `until` are half open for times (`since <= t < until`) and for server
//! coordinates (groups that begin at or behind `since` and end at or before `until`); a position or a GTID names a
//! transaction, which is included on both sides.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::moment;
use super::table::Table;
use crate::error::{Error, Result};
use crate::event::text::render;
use crate::event::{Image, RecordKind, Row, RowsOp, Statement, TableDefinition, Value};
use crate::frame::{Begin, Coordinate, Incarnation, PositionSpec};
use crate::source::LookAtRows;

/// One end of a range of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// A place between groups.
    Coordinate(Coordinate),
    /// A transaction by its txid, of one life of the source.
    Transaction(Coordinate, Incarnation),
    /// A transaction by its GTID.
    Gtid(String),
}

impl Bound {
    /// Reads a time (local to `zone` unless it says otherwise) or a position.
    pub fn parse(text: &str, zone: &TimeZone, now: Timestamp) -> Result<Bound> {
        if let Some(us) = moment::parse(text, zone, now) {
            return Ok(Bound::Time(us));
        }
        match text.parse() {
            Ok(PositionSpec::Position(position)) => Ok(Bound::Transaction(position.txid, position.incarnation)),
            Ok(PositionSpec::Server { at, .. }) => Ok(Bound::Coordinate(at)),
            Ok(PositionSpec::Gtid(gtid)) if !gtid.contains(',') => Ok(Bound::Gtid(gtid)),
            Ok(PositionSpec::Oldest) => Ok(Bound::Coordinate(Coordinate(0))),
            _ => Err(Error::usage(format!("'{text}' is neither a time nor a position"))
                .hint("write 10:00, '2026-11-21 10:00', 2026-11-21T10:00:00Z, mysql-bin.000042:1234, a position as rlog prints it, or one GTID")),
        }
    }
}

/// One transaction, by any of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionName {
    /// Its txid.
    Txid(Coordinate),
    /// Its txid in one life of the source.
    Position(Coordinate, Incarnation),
    /// Its GTID.
    Gtid(String),
}

impl TransactionName {
    /// Reads a txid (`42:1234`, `mysql-bin.000042:1234`), a position or a GTID.
    pub fn parse(text: &str) -> Result<TransactionName> {
        match text.parse() {
            Ok(PositionSpec::Position(position)) => Ok(TransactionName::Position(position.txid, position.incarnation)),
            Ok(PositionSpec::Server { at, .. }) => Ok(TransactionName::Txid(at)),
            Ok(PositionSpec::Gtid(gtid)) => Ok(TransactionName::Gtid(gtid)),
            _ => Err(Error::usage(format!("'{text}' names no transaction"))
                .hint("write its txid (42:1234), its position as rlog prints it, or its GTID")),
        }
    }

    /// Whether this is the transaction's name.
    pub fn is(&self, txid: Coordinate, begin: &Begin) -> bool {
        match self {
            TransactionName::Txid(name) => *name == txid,
            TransactionName::Position(name, incarnation) => *name == txid && *incarnation == begin.incarnation,
            TransactionName::Gtid(gtid) => *gtid == begin.gtid,
        }
    }
}

/// A pattern for tables: `database.table` or `table`, with `*`, `?` and `[…]`.
#[derive(Clone, Debug)]
pub struct TablePattern {
    database: Option<GlobMatcher>,
    table: GlobMatcher,
}

impl TablePattern {
    /// Compiles the pattern. Everything behind the first point is the table.
    pub fn parse(text: &str) -> Result<TablePattern> {
        let glob = |part: &str| {
            GlobBuilder::new(part)
                .backslash_escape(true)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| Error::usage(format!("table pattern '{text}': {}", error.kind())))
        };
        match text.split_once('.') {
            Some((database, table)) => Ok(TablePattern { database: Some(glob(database)?), table: glob(table)? }),
            None => Ok(TablePattern { database: None, table: glob(text)? }),
        }
    }

    /// Whether the table is meant.
    pub fn matches(&self, database: &str, table: &str) -> bool {
        self.database.as_ref().is_none_or(|pattern| pattern.is_match(database)) && self.table.is_match(table)
    }
}

/// Operations that `--op` names.
pub const OPS: [(&str, RecordKind); 6] = [
    ("insert", RecordKind::Insert),
    ("update", RecordKind::Update),
    ("delete", RecordKind::Delete),
    ("statement", RecordKind::Statement),
    ("ddl", RecordKind::Ddl),
    ("truncate", RecordKind::Truncate),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Matches,
    MatchesNot,
}

/// A test of one column's value: `COLUMN=VALUE` and the like.
#[derive(Clone, Debug)]
pub struct Predicate {
    column: String,
    relation: Relation,
    value: String,
    regex: Option<regex::Regex>,
}

impl Predicate {
    /// Reads `COLUMN` `=`, `!=`, `<`, `<=`, `>`, `>=`, `~` or `!~` `VALUE`. `NULL` as a value of `=` and `!=` is SQL's NULL.
    pub fn parse(text: &str) -> Result<Predicate> {
        use Relation::*;
        const SIGNS: [(&str, Relation); 8] = [
            ("!=", NotEqual),
            ("!~", MatchesNot),
            ("<=", LessOrEqual),
            (">=", GreaterOrEqual),
            ("=", Equal),
            ("<", Less),
            (">", Greater),
            ("~", Matches),
        ];
        let wrong = || {
            Error::usage(format!("'{text}' is no condition"))
                .hint("write COLUMN=VALUE, or !=, <, <=, >, >=, ~REGEX, !~REGEX in place of =, in quotes for the shell")
        };
        let at = text.find(['=', '!', '<', '>', '~']).filter(|at| *at > 0).ok_or_else(wrong)?;
        let (column, rest) = text.split_at(at);
        let (sign, relation) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(wrong)?;
        let value = rest.get(sign.len()..).unwrap_or("").to_owned();
        let regex = match relation {
            Matches | MatchesNot => Some(
                regex::RegexBuilder::new(&value)
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|error| Error::usage(format!("in '{text}': {error}")))?,
            ),
            _ => None,
        };
        Ok(Predicate { column: column.trim().to_owned(), relation: *relation, value, regex })
    }

    /// Tests a value; `text` is its text, or `None` for NULL.
    fn holds(&self, text: Option<&str>) -> bool {
        use Relation::*;
        let Some(text) = text else {
            // As in SQL nothing else is true of NULL.
            return match self.relation {
                Equal => self.value == "NULL",
                _ => false,
            };
        };
        if self.value == "NULL" && matches!(self.relation, Equal | NotEqual) {
            return self.relation == NotEqual;
        }
        if let Some(regex) = &self.regex {
            return regex.is_match(text) == (self.relation == Matches);
        }
        let order = compare_numbers(text, &self.value).unwrap_or_else(|| text.cmp(&self.value));
        match self.relation {
            Equal => order.is_eq(),
            NotEqual => order.is_ne(),
            Less => order.is_lt(),
            LessOrEqual => order.is_le(),
            Greater => order.is_gt(),
            GreaterOrEqual => order.is_ge(),
            Matches | MatchesNot => false,
        }
    }
}

/// Compares two decimal numbers of any length exactly; `None` when one of them is none.
fn compare_numbers(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    fn parts(text: &str) -> Option<(bool, &str, &str)> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Some((negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction))
    }
    match (parts(a), parts(b)) {
        (Some((a_negative, a_whole, a_fraction)), Some((b_negative, b_whole, b_fraction))) => {
            if a_negative != b_negative {
                return Some(b_negative.cmp(&a_negative));
            }
            let order = (a_whole.len(), a_whole, a_fraction).cmp(&(b_whole.len(), b_whole, b_fraction));
            Some(if a_negative { order.reverse() } else { order })
        }
        _ => {
            // Floats with exponents.
            let number =
                |text: &str| text.parse::<f64>().ok().filter(|_| !text.starts_with(|c: char| c.is_alphabetic()));
            number(a)?.partial_cmp(&number(b)?)
        }
    }
}

/// What is to be shown. The default is everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Not before this.
    pub since: Option<Bound>,
    /// Not after this.
    pub until: Option<Bound>,
    /// Tables; empty for all.
    pub tables: Vec<TablePattern>,
    /// Operations; empty for all.
    pub ops: Vec<RecordKind>,
    /// Transactions; empty for all.
    pub transactions: Vec<TransactionName>,
    /// All must hold of one image of a row.
    pub conditions: Vec<Predicate>,
    /// Columns that are shown; empty for all.
    pub fields: Vec<String>,
    /// Most rows and statements that are shown.
    pub limit: Option<u64>,
}

/// What a source needs to know of a selection, to pass over rows that it leaves out.
struct SelectedRows {
    tables: Vec<TablePattern>,
    ops: Vec<RecordKind>,
    columns: Vec<String>,
}

impl LookAtRows for SelectedRows {
    fn looks_at(&self, op: RowsOp, table: &TableDefinition) -> bool {
        // A condition on a column that the table does not have is true of none of its rows.
        has_op(&self.ops, op.record_kind())
            && has_table(&self.tables, &table.database, &table.table)
            && self.columns.iter().all(|column| table.column_index(column).is_some())
    }
}

fn has_op(ops: &[RecordKind], kind: RecordKind) -> bool {
    let kind = match kind {
        RecordKind::LoadBlock | RecordKind::XaDecision => RecordKind::Statement,
        kind => kind,
    };
    ops.is_empty() || ops.contains(&kind) || (kind == RecordKind::Truncate && ops.contains(&RecordKind::Ddl))
}

fn has_table(tables: &[TablePattern], database: &str, table: &str) -> bool {
    tables.is_empty() || tables.iter().any(|pattern| pattern.matches(database, table))
}

/// How far a run has come within its selection, for bounds that name a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    since: bool,
    until: bool,
}

impl Selection {
    /// Whether it leaves anything out.
    pub fn is_everything(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.transactions.is_empty() && !self.is_narrow()
    }

    /// Whether it may leave out a part of a transaction.
    pub fn is_narrow(&self) -> bool {
        !self.tables.is_empty() || !self.ops.is_empty() || !self.conditions.is_empty()
    }

    /// What a source has to look at for it; `None`: all rows.
    pub fn look(&self) -> Option<Arc<dyn LookAtRows>> {
        self.is_narrow().then(|| {
            let columns = self.conditions.iter().map(|condition| condition.column.clone()).collect();
            Arc::new(SelectedRows { tables: self.tables.clone(), ops: self.ops.clone(), columns }) as _
        })
    }

    /// Whether the transaction lies within `since` and `until` and is one of those named. Transactions must come in order.
    pub fn transaction(&self, reached: &mut Reached, txid: Coordinate, begin: &Begin, time_us: i64) -> bool {
        let names = |bound: &str| begin.gtid == bound;
        let since = match &self.since {
            None => true,
            Some(Bound::Time(us)) => time_us >= *us,
            Some(Bound::Coordinate(at)) => txid >= *at,
            Some(Bound::Transaction(at, incarnation)) => {
                reached.since |= begin.incarnation == *incarnation && txid >= *at;
                reached.since
            }
            Some(Bound::Gtid(gtid)) => {
                reached.since |= names(gtid);
                reached.since
            }
        };
        let until = match &self.until {
            None => true,
            Some(Bound::Time(us)) => time_us < *us,
            Some(Bound::Coordinate(at)) => txid < *at,
            Some(Bound::Transaction(at, incarnation)) => {
                let here = !reached.until;
                reached.until |= begin.incarnation == *incarnation && txid >= *at;
                here && !(begin.incarnation == *incarnation && txid > *at)
            }
            Some(Bound::Gtid(gtid)) => {
                let here = !reached.until;
                reached.until |= names(gtid);
                here
            }
        };
        since && until && (self.transactions.is_empty() || self.transactions.iter().any(|name| name.is(txid, begin)))
    }

    /// Whether rows of this operation and table may be shown.
    pub fn rows(&self, kind: RecordKind, database: &str, table: &str) -> bool {
        self.op(kind) && self.table(database, table)
    }

    /// Whether the table is selected.
    pub fn table(&self, database: &str, table: &str) -> bool {
        has_table(&self.tables, database, table)
    }

    /// Whether the operation is selected. Records that belong to a statement go with it.
    pub fn op(&self, kind: RecordKind) -> bool {
        has_op(&self.ops, kind)
    }

    /// Whether a statement is shown: one that names no table belongs to none, and its default database is no proof.
    pub fn statement(&self, kind: RecordKind, statement: &Statement<'_>) -> bool {
        self.op(kind)
            && self.conditions.is_empty()
            && (self.tables.is_empty()
                || statement.tables.iter().any(|(database, table)| {
                    self.table(if database.is_empty() { &statement.database } else { database }, table)
                }))
    }

    /// Whether the row has an image of which every condition holds. `scratch` is a reused buffer.
    pub fn row(&self, row: &Row<'_>, table: &Table, scratch: &mut Vec<u8>) -> Result<bool> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        for image in [row.before, row.after].into_iter().flatten() {
            if self.image(&image, table, scratch)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn image(&self, image: &Image<'_>, table: &Table, scratch: &mut Vec<u8>) -> Result<bool> {
        for condition in &self.conditions {
            let Some(index) = table.definition.column_index(&condition.column) else { return Ok(false) };
            let (Some(value), Some(column)) = (image.columns().nth(index), table.definition.columns.get(index)) else {
                return Ok(false);
            };
            let holds = match value? {
                Value::Absent | Value::Unchanged => false,
                Value::Null => condition.holds(None),
                value => {
                    let rendered = render(value, column, scratch);
                    condition.holds(Some(&String::from_utf8_lossy(rendered.bytes)))
                }
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn numbers_compare_as_numbers_however_long_they_are() {
        let order = |a, b| compare_numbers(a, b);
        assert_eq!(order("10", "9"), Some(Ordering::Greater));
        assert_eq!(order("18446744073709551615", "18446744073709551614"), Some(Ordering::Greater));
        assert_eq!(order("-1.50", "-1.5"), Some(Ordering::Equal));
        assert_eq!(order("-2", "-1"), Some(Ordering::Less));
        assert_eq!(order("-0", "0.000"), Some(Ordering::Equal));
        assert_eq!(order("0.09", "0.1"), Some(Ordering::Less));
        assert_eq!(order("1e3", "999"), Some(Ordering::Greater));
        assert_eq!(order("abc", "1"), None);
        assert_eq!(order("nan", "1"), None);
    }

    #[test]
    fn conditions_are_read_with_their_longest_sign() {
        let holds = |text: &str, value: Option<&str>| Predicate::parse(text).unwrap().holds(value);
        assert!(holds("id=5", Some("5.0")) && !holds("id=5", Some("6")));
        assert!(holds("id!=5", Some("6")) && !holds("id!=5", None));
        assert!(holds("id<=5", Some("5")) && holds("id>=5", Some("10")) && holds("id<9", Some("8")));
        assert!(holds("name~^a.c$", Some("abc")) && holds("name!~^a", Some("b")));
        assert!(holds("a=NULL", None) && holds("a!=NULL", Some("x")) && !holds("a=NULL", Some("NULL")));
        assert!(holds("a=b=c", Some("b=c")), "only the first sign counts");
        for wrong in ["", "id", "=5", "a~("] {
            assert!(Predicate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn table_patterns_cut_at_the_first_point() {
        let matches = |pattern: &str, database, table| TablePattern::parse(pattern).unwrap().matches(database, table);
        assert!(matches("shop.orders", "shop", "orders") && !matches("shop.orders", "shop2", "orders"));
        assert!(matches("orders", "any", "orders") && matches("o*", "", "orders"));
        assert!(matches("s*.*", "shop", "a.b") && !matches("s*.*", "x", "a"));
    }

    #[test]
    fn a_bound_that_names_a_transaction_includes_it_on_both_sides() {
        let selection = Selection {
            since: Some(Bound::Gtid("0-1-2".into())),
            until: Some(Bound::Gtid("0-1-3".into())),
            ..Selection::default()
        };
        let mut reached = Reached::default();
        let shown: Vec<bool> = (1..=4)
            .map(|number| {
                let begin = Begin { gtid: format!("0-1-{number}"), ..Begin::default() };
                selection.transaction(&mut reached, Coordinate(number), &begin, 0)
            })
            .collect();
        assert_eq!(shown, [false, true, true, false]);
    }
}
