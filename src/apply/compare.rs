//! Comparing tables of two databases row by row, also of different engines.
//!
//! ```text
//! source ── rows as canonical text, in key order ──▶ hash each row ─┐
//!                                                                   ├─▶ merge by key: missing, extra, different
//! target ── the same columns, in the same order ───▶ hash each row ─┘
//! ```
//!
//! Each side is read in one statement, so as of one moment, and streamed: memory is bounded by what differs, of which at most
//! [`KEPT_ROWS_MAX`] rows of a table are kept. An order that both engines have in common is asked for (numbers as numbers, everything else by
//! the bytes of its text, whatever the collations); the merge checks that the rows really come so. Where they do not, and where there is no
//! key, the sums of all rows' hashes are compared: that tells whether, and not where.
//!
//! # What is guaranteed
//!
//! Two databases at rest: equal means equal, different means different. While they change, with a channel: before each look the source's log
//! position is read, and the target waits until it has applied that much. "Equal" then means that each table was seen equal. A
//! row is reported only if it differed at every look; what differs because it was just being changed does not do so again and again,
//! unless it is changed all the time.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_128;

use super::rules::Rules;
use super::state::{Reached, facts};
use crate::error::{Class, Error, Result};
use crate::event::{Column, ColumnKind, TableDefinition};
use crate::target::{Cell, KeyOrder, Scan, Target};

/// Rows that differ, kept for one table; beyond that they are counted.
pub const KEPT_ROWS_MAX: usize = 10_000;
/// Rows that go from a reader to the merge at once.
const BATCH_ROWS: usize = 256;
/// Batches that wait for the merge.
const BATCHES_MAX: usize = 16;
/// How often the target is asked whether it has come far enough.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Filters and rewrites: which tables, and under which databases the target has them.
    pub rules: Rules,
    /// The target names tables `db.table`.
    pub qualify: bool,
    /// The channel through which the target follows the source; `None`: both are at rest.
    pub channel: Option<String>,
    /// How long the target may take to come up to the source.
    pub timeout: Duration,
    /// How often differences are looked at before they are reported.
    pub looks: u32,
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only the source has it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Both have the key, with other values.
    Different,
}

impl Kind {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Different => "different",
        }
    }
}

/// Values of a key's columns.
pub type KeyValues = Vec<Option<Vec<u8>>>;

/// Rows one behind the other that differ in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// How.
    pub kind: Kind,
    /// Key of the first.
    pub from: KeyValues,
    /// Key of the last.
    pub to: KeyValues,
    /// How many.
    pub rows: u64,
}

/// What came out for a table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// `database.table` at the source; empty when only the target has it.
    pub source: String,
    /// The same at the target; empty when it has none.
    pub target: String,
    /// Rows of source and target.
    pub rows: (u64, u64),
    /// Sums of the hashes of all rows.
    pub checksums: (u128, u128),
    /// Columns of the key.
    pub key: Vec<String>,
    /// What differs.
    pub ranges: Vec<Range>,
    /// Rows that differ and are not in `ranges`, since they are too many.
    pub more: u64,
    /// Why it could not be compared in full, or not at all.
    pub why: Option<String>,
    /// Whether nothing differs.
    pub equal: bool,
    differing: Vec<Differing>,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Differing {
    kind: Kind,
    key: KeyValues,
    /// Rows between which no equal one stands have the same number.
    run: u64,
}

/// A table of the source and its counterpart.
struct Pair {
    source: TableDefinition,
    target: Option<TableDefinition>,
}

/// Compares; each table's outcome goes to `report`. Returns how many tables differ.
pub fn compare(
    source: &mut dyn Target,
    target: &mut dyn Target,
    options: &Options,
    report: &mut dyn FnMut(&Report) -> Result<()>,
) -> Result<usize> {
    let (here, there) = (source.tables()?, target.tables()?);
    let (mut pairs, extra) = pairs(here, there, options)?;
    let mut differing = 0;
    for name in extra {
        differing += 1;
        let why = Some("the source has no such table".to_owned());
        report(&Report { target: name, why, ..Report::default() })?;
    }
    // What is left to be looked at, with what differed so far.
    let mut before: Vec<Option<Report>> = pairs.iter().map(|_| None).collect();
    for look in 1..=options.looks.max(1) {
        if let Some(channel) = &options.channel {
            wait_for(source, target, channel, options.timeout)?;
        }
        let last = look >= options.looks;
        let (mut left, mut left_before) = (Vec::new(), Vec::new());
        for (pair, before) in std::mem::take(&mut pairs).into_iter().zip(std::mem::take(&mut before)) {
            let mut found = table(source, target, &pair)?;
            if let Some(before) = before {
                found.keep_what_differed_in(&before);
            }
            if found.equal || last || pair.target.is_none() {
                differing += usize::from(!found.equal);
                report(&found)?;
            } else {
                left.push(pair);
                left_before.push(Some(found));
            }
        }
        (pairs, before) = (left, left_before);
        if pairs.is_empty() {
            break;
        }
    }
    Ok(differing)
}

fn full_name(table: &TableDefinition) -> String {
    if table.database.is_empty() { table.table.clone() } else { format!("{}.{}", table.database, table.table) }
}

/// Which table belongs to which, and the names of those that only the target has.
fn pairs(
    here: Vec<TableDefinition>,
    there: Vec<TableDefinition>,
    options: &Options,
) -> Result<(Vec<Pair>, Vec<String>)> {
    let without_databases = there.iter().all(|table| table.database.is_empty());
    let mut taken = HashSet::new();
    let mut databases = HashSet::new();
    let mut out = Vec::new();
    for source in here {
        if !options.rules.rows_pass(&source.database, &source.table) {
            continue;
        }
        let mut database = source.database.clone();
        options.rules.rewrite(&mut database);
        let found = there.iter().position(|target| match (without_databases, database.is_empty()) {
            (true, false) if options.qualify => {
                target.table.eq_ignore_ascii_case(&format!("{database}.{}", source.table))
            }
            (true, _) => target.table.eq_ignore_ascii_case(&source.table),
            (false, true) => target.table == source.table,
            (false, false) => target.database == database && target.table == source.table,
        });
        if let Some(found) = found
            && !taken.insert(found)
        {
            return Err(Error::config(format!("two tables of the source would be {} in the target", source.table))
                .hint("name one of them with --tables; or --qualify if the target has them as db.table"));
        }
        databases.insert(database);
        out.push(Pair { source, target: found.and_then(|found| there.get(found)).cloned() });
    }
    let filtered = !options.rules.text().is_empty();
    let extra = there.iter().enumerate().filter(|(index, table)| {
        !filtered && !taken.contains(index) && (without_databases || databases.contains(&table.database))
    });
    let extra = extra.map(|(_, table)| full_name(table)).collect();
    if out.is_empty() {
        return Err(Error::new(Class::NoInput, "the source has no table that is to be compared"));
    }
    Ok((out, extra))
}

/// Waits until the target has applied what the source has logged by now.
fn wait_for(source: &mut dyn Target, target: &mut dyn Target, channel: &str, timeout: Duration) -> Result<()> {
    let Some(at) = source.log_position()? else {
        return Err(Error::config(format!("{} does not tell its log position", source.name()))
            .hint("stop its writers, let the target catch up (`rlog-apply wait`), and compare without --channel"));
    };
    let started = Instant::now();
    loop {
        let state = target.state(channel)?.ok_or_else(|| {
            Error::config(format!("{} has no state of channel {channel}", target.name()))
                .hint("`rlog-apply status TARGET` lists the channels that it knows")
        })?;
        let reached = Reached::new(&state)?;
        if !state.facts.contains_key(facts::LOADING) && reached.at.is_some_and(|reached| reached >= at) {
            return Ok(());
        }
        if started.elapsed() >= timeout {
            let reached = reached.at.map_or("nothing".into(), |at| at.to_string());
            return Err(Error::new(
                Class::TryAgain,
                format!("the source has reached {at}, the target only {reached}, after {timeout:?}"),
            )
            .hint("extract and apply must both be at work (--follow), or everything at rest and --channel left out"));
        }
        std::thread::sleep(WAIT_STEP);
    }
}

/// Compares one table.
fn table(source: &mut dyn Target, target: &mut dyn Target, pair: &Pair) -> Result<Report> {
    let mut out = Report { source: full_name(&pair.source), ..Report::default() };
    let Some(other) = &pair.target else {
        out.why = Some("the target has no such table".into());
        return Ok(out);
    };
    out.target = full_name(other);
    // Whoever knows types says how values are written.
    let kinds = if pair.source.family == "sqlite" && other.family != "sqlite" { other } else { &pair.source };
    let mut columns: Vec<&Column> = Vec::new();
    for column in pair.source.columns.iter().filter(|column| !column.generated) {
        match (other.column_index(&column.name), kinds.column_index(&column.name)) {
            (Some(_), Some(index)) => columns.extend(kinds.columns.get(index)),
            _ => {
                out.why = Some(format!("the target has no column {}", column.name));
                return Ok(out);
            }
        }
    }
    let key: Option<Vec<usize>> = kinds.identity().and_then(|parts| {
        let name = |part: &crate::event::KeyPart| kinds.columns.get(part.column as usize).map(|column| &column.name);
        parts.iter().map(|part| columns.iter().position(|column| Some(&column.name) == name(part))).collect()
    });
    let order: Vec<(usize, KeyOrder)> =
        key.iter().flatten().filter_map(|index| Some((*index, key_order(columns.get(*index)?.kind)))).collect();
    out.key = order.iter().filter_map(|(index, _)| Some(columns.get(*index)?.name.clone())).collect();
    let scans = |order| {
        let of = |table| scan_of(table, &columns, order);
        (of(&pair.source), of(other))
    };
    if !order.is_empty() {
        let (here, there) = scans(order.as_slice());
        if merge(source, &here, target, &there, &mut out)? {
            return Ok(out);
        }
    }
    let (here, there) = scans(&[]);
    sums(source, &here, target, &there, &mut out)?;
    Ok(out)
}

fn scan_of<'a>(table: &'a TableDefinition, columns: &'a [&'a Column], order: &'a [(usize, KeyOrder)]) -> Scan<'a> {
    Scan { database: &table.database, table: &table.table, columns, order }
}

fn key_order(kind: ColumnKind) -> KeyOrder {
    match kind {
        ColumnKind::Int { .. } | ColumnKind::Year | ColumnKind::Bit { .. } | ColumnKind::Float | ColumnKind::Double => {
            KeyOrder::Number
        }
        // Above, SQLite has text.
        ColumnKind::Decimal { precision: ..=15, .. } => KeyOrder::Number,
        _ => KeyOrder::Bytes,
    }
}

/// A row on its way to the merge.
struct Entry {
    key: KeyValues,
    hash: u128,
}

/// Hashes the cells of a row.
fn hash(cells: &[Cell<'_>], columns: &[&Column], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    for (cell, column) in cells.iter().zip(columns) {
        match cell {
            None => scratch.push(0),
            Some(text) => {
                // Equal in SQL, and SQLite keeps no sign of a zero.
                let zero = matches!(column.kind, ColumnKind::Float | ColumnKind::Double) && *text == b"-0";
                let text: &[u8] = if zero { b"0" } else { text };
                scratch.push(1);
                scratch.extend_from_slice(&(text.len() as u64).to_le_bytes());
                scratch.extend_from_slice(text);
            }
        }
    }
    xxh3_128(scratch)
}

/// Reads one side, hashed, into a channel; ends early when nobody reads the other end.
fn read(database: &mut dyn Target, scan: &Scan<'_>, out: &SyncSender<Vec<Entry>>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    let mut scratch = Vec::new();
    database.scan(scan, &mut |cells| {
        let key = scan.order.iter().map(|(index, _)| cells.get(*index).copied().flatten().map(<[u8]>::to_vec));
        batch.push(Entry { key: key.collect(), hash: hash(cells, scan.columns, &mut scratch) });
        batch.len() < BATCH_ROWS || out.send(std::mem::take(&mut batch)).is_ok()
    })?;
    let _ = out.send(batch);
    Ok(())
}

/// One side of the merge.
struct Side<'a> {
    input: Receiver<Vec<Entry>>,
    batch: std::vec::IntoIter<Entry>,
    scan: &'a Scan<'a>,
    last: Option<KeyValues>,
    rows: u64,
    sum: u128,
    in_order: bool,
}

impl<'a> Side<'a> {
    fn new(input: Receiver<Vec<Entry>>, scan: &'a Scan<'a>) -> Side<'a> {
        Side { input, batch: Vec::new().into_iter(), scan, last: None, rows: 0, sum: 0, in_order: true }
    }

    fn next(&mut self) -> Option<Entry> {
        let entry = loop {
            match self.batch.next() {
                Some(entry) => break entry,
                None => self.batch = self.input.recv().ok()?.into_iter(),
            }
        };
        self.rows += 1;
        self.sum = self.sum.wrapping_add(entry.hash);
        if self.last.as_ref().is_some_and(|last| compare_keys(last, &entry.key, self.scan) == Ordering::Greater) {
            self.in_order = false;
        }
        self.last = Some(entry.key.clone());
        Some(entry)
    }
}

/// Runs both readers and `work` on what they read.
fn with_sides<T>(
    source: &mut dyn Target,
    here: &Scan<'_>,
    target: &mut dyn Target,
    there: &Scan<'_>,
    work: impl FnOnce(Side<'_>, Side<'_>) -> T,
) -> Result<T> {
    let (source_out, source_in) = sync_channel(BATCHES_MAX);
    let (target_out, target_in) = sync_channel(BATCHES_MAX);
    std::thread::scope(|scope| {
        // The channels close with their readers, so that the merge ends whatever happens to one.
        let readers = [
            scope.spawn(move || read(source, here, &source_out)),
            scope.spawn(move || read(target, there, &target_out)),
        ];
        let outcome = work(Side::new(source_in, here), Side::new(target_in, there));
        for reader in readers {
            reader.join().unwrap_or_else(|_| Err(Error::new(Class::Bug, "a reader of tables panicked")))?;
        }
        Ok(outcome)
    })
}

/// Compares by key. `false`: the rows do not come in an order that both have; nothing is known yet.
fn merge(
    source: &mut dyn Target,
    here: &Scan<'_>,
    target: &mut dyn Target,
    there: &Scan<'_>,
    report: &mut Report,
) -> Result<bool> {
    let mut found = Found::default();
    let (in_order, rows, sums) = with_sides(source, here, target, there, |mut left, mut right| {
        let (mut one, mut other) = (left.next(), right.next());
        while left.in_order && right.in_order {
            let order = match (&one, &other) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => compare_keys(&one.key, &other.key, here),
            };
            match order {
                Ordering::Less => {
                    found.add(Kind::Missing, one.take());
                    one = left.next();
                }
                Ordering::Greater => {
                    found.add(Kind::Extra, other.take());
                    other = right.next();
                }
                Ordering::Equal => {
                    let same = one.as_ref().map(|one| one.hash) == other.as_ref().map(|other| other.hash);
                    if same {
                        found.run += 1
                    } else {
                        found.add(Kind::Different, one.take())
                    }
                    (one, other) = (left.next(), right.next());
                }
            }
        }
        (left.in_order && right.in_order, (left.rows, right.rows), (left.sum, right.sum))
    })?;
    if in_order {
        (report.rows, report.checksums) = (rows, sums);
        (report.differing, report.more) = (found.rows, found.more);
        report.fold();
    }
    Ok(in_order)
}

/// Compares counts and sums.
fn sums(
    source: &mut dyn Target,
    here: &Scan<'_>,
    target: &mut dyn Target,
    there: &Scan<'_>,
    report: &mut Report,
) -> Result<()> {
    let all = |mut side: Side<'_>| {
        while side.next().is_some() {}
        (side.rows, side.sum)
    };
    let ((rows_here, sum_here), (rows_there, sum_there)) = with_sides(source, here, target, there, |left, right| {
        std::thread::scope(|scope| {
            let other = scope.spawn(move || all(right));
            let one = all(left);
            (one, other.join().unwrap_or_default())
        })
    })?;
    (report.rows, report.checksums) = ((rows_here, rows_there), (sum_here, sum_there));
    report.equal = report.rows.0 == report.rows.1 && report.checksums.0 == report.checksums.1;
    if !report.equal {
        report.why = Some(match report.key.is_empty() {
            true => "without a key it cannot be told which rows".into(),
            false => "the keys have no order that both databases share, so it cannot be told which rows".into(),
        });
    }
    Ok(())
}

/// What differs.
#[derive(Default)]
struct Found {
    rows: Vec<Differing>,
    more: u64,
    run: u64,
}

impl Found {
    fn add(&mut self, kind: Kind, entry: Option<Entry>) {
        let Some(Entry { key, .. }) = entry else { return };
        if self.rows.len() >= KEPT_ROWS_MAX {
            self.more += 1;
        } else {
            self.rows.push(Differing { kind, key, run: self.run });
        }
    }
}

impl Report {
    /// Makes ranges of rows.
    fn fold(&mut self) {
        self.ranges.clear();
        let mut run = None;
        for row in &self.differing {
            match self.ranges.last_mut().filter(|range| run == Some(row.run) && range.kind == row.kind) {
                Some(range) => {
                    range.to.clone_from(&row.key);
                    range.rows += 1;
                }
                None => {
                    let (from, to) = (row.key.clone(), row.key.clone());
                    self.ranges.push(Range { kind: row.kind, from, to, rows: 1 });
                }
            }
            run = Some(row.run);
        }
        self.equal = self.ranges.is_empty() && self.more == 0;
    }

    /// A second look: what is equal now was on its way, and what differs now for the first time is.
    fn keep_what_differed_in(&mut self, before: &Report) {
        // Without keys, or with too many of them, only the whole can be judged.
        if self.equal || self.why.is_some() || before.why.is_some() || self.more + before.more > 0 {
            return;
        }
        let known: HashSet<&KeyValues> = before.differing.iter().map(|row| &row.key).collect();
        self.differing.retain(|row| known.contains(&row.key));
        self.fold();
    }
}

/// The order that [`Scan::order`] asks for.
fn compare_keys(one: &KeyValues, other: &KeyValues, scan: &Scan<'_>) -> Ordering {
    for ((one, other), (index, order)) in one.iter().zip(other).zip(scan.order) {
        let by = match (one, other) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(other)) => {
                let typed = scan.columns.get(*index).is_some_and(|column| column.kind == ColumnKind::Any);
                match (typed, order) {
                    (true, _) => compare_typed(one, other),
                    (false, KeyOrder::Number) => compare_numbers(one, other),
                    (false, KeyOrder::Bytes) => one.cmp(other),
                }
            }
        };
        if by != Ordering::Equal {
            return by;
        }
    }
    Ordering::Equal
}

fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }
    if let (Some(one), Some(other)) = (parsed::<i128>(one), parsed::<i128>(other)) {
        return one.cmp(&other);
    }
    match (parsed::<f64>(one), parsed::<f64>(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

/// SQLite's order of types: numbers, text, bytes.
fn compare_typed(one: &[u8], other: &[u8]) -> Ordering {
    let (Some((one_type, one)), Some((other_type, other))) = (one.split_first(), other.split_first()) else {
        return one.cmp(other);
    };
    let rank = |kind: u8| match kind {
        b'i' | b'r' => 0,
        b't' => 1,
        _ => 2,
    };
    match rank(*one_type).cmp(&rank(*other_type)) {
        Ordering::Equal if rank(*one_type) == 0 => compare_numbers(one, other),
        Ordering::Equal => one.cmp(other),
        by => by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyValues {
        vec![Some(text.as_bytes().to_vec())]
    }

    #[test]
    fn keys_are_ordered_as_the_databases_order_them() {
        let int = Column::new("a", ColumnKind::Int { bytes: 8, sign: crate::event::Sign::Unsigned });
        let any = Column::new("b", ColumnKind::Any);
        let ordered = |column: &Column, order, keys: &[&str]| {
            let (columns, order) = ([column], [(0, order)]);
            let scan = Scan { database: "", table: "t", columns: &columns, order: &order };
            for pair in keys.windows(2) {
                assert_eq!(compare_keys(&key(pair[0]), &key(pair[1]), &scan), Ordering::Less, "{pair:?}");
            }
            assert_eq!(compare_keys(&vec![None], &key(keys[0]), &scan), Ordering::Less);
        };
        ordered(&int, KeyOrder::Number, &["-1", "0", "9", "10", "9223372036854775808", "18446744073709551615"]);
        ordered(&any, KeyOrder::Bytes, &["i-1", "r0.5", "i2", "i10", "r1e100", "t1", "t10", "t2", "b1"]);
    }

    #[test]
    fn rows_that_differ_alike_and_stand_together_are_one_range() {
        let mut found = Found::default();
        let entry = |text: &str| Some(Entry { key: key(text), hash: 0 });
        found.add(Kind::Missing, entry("1"));
        found.add(Kind::Missing, entry("2"));
        found.add(Kind::Different, entry("3"));
        found.run += 1;
        found.add(Kind::Different, entry("5"));
        let mut report = Report { differing: found.rows, ..Report::default() };
        report.fold();
        let seen: Vec<_> = report.ranges.iter().map(|range| (range.kind, range.rows)).collect();
        assert_eq!(seen, [(Kind::Missing, 2), (Kind::Different, 1), (Kind::Different, 1)]);
        assert_eq!(report.ranges[0], Range { kind: Kind::Missing, from: key("1"), to: key("2"), rows: 2 });
    }

    #[test]
    fn only_what_differs_again_is_reported() {
        let looked = |keys: &[&str]| {
            let row = |text: &&str| Differing { kind: Kind::Different, key: key(text), run: 0 };
            let mut report = Report { differing: keys.iter().map(row).collect(), ..Report::default() };
            report.fold();
            report
        };
        let before = looked(&["1", "2"]);
        let mut now = looked(&["2", "3"]);
        now.keep_what_differed_in(&before);
        assert_eq!((now.ranges.len(), now.equal), (1, false));
        assert_eq!(now.ranges[0].from, key("2"));
        let mut now = looked(&["3"]);
        now.keep_what_differed_in(&before);
        assert!(now.equal);
    }
}
