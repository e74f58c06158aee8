//! `rlog-apply compare`: arguments and report.

use std::time::Duration;

use serde_json::{Value, json};

use super::{open_to_look, print_lines};
use crate::apply::compare::{self, KeyValues, Report};
use crate::apply::rules::Rules;
use crate::cli::filters::Filters;
use crate::cli::units;
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::queue;

/// COMPARING in rlog-apply(1).
pub(super) const MANUAL: &str = "\
`compare` reads the same tables of two databases, SQLite, MariaDB or MySQL, also one of each, as canonical text in the order of their keys, and says which
rows are missing in the target, which are extra there, and which are different. Each side is read in one statement, as of one moment.
Generated columns are not compared, nor are columns that only the target has. A table without a key, or with one whose order the two databases
do not share, is compared by the number and the hashes of its rows: that tells whether it is equal, but not where it is not.

Without --channel both sides have to be at rest: then equal means equal, and different means different.

With --channel NAME they may be at work. Before each look the source's log position is read (SHOW MASTER STATUS; SQLite has none, and
is refused with 78), and the target is waited for until that channel has applied as much. Each table must be equal at one of --looks looks, and a row
is reported only if it differed at every one of them: what was just on its way does not. A row that is changed all the time may be
reported all the same.

Exit status 0: everything is equal. 80: something differs. With --json each table is an object with `kind` `table`, each range of rows that differ
one with `kind` `range`; values are the canonical text of the key's columns.";

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The database that is right: sqlite:PATH or mysql://USER@HOST[:PORT]/[DATABASE]
    #[arg(value_name = "SOURCE")]
    source: String,

    /// The database that should be equal
    #[arg(value_name = "TARGET")]
    target: String,

    /// The channel through which the target follows the source, which may be at work
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// How long the target may take to come up to the source
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::duration, requires = "channel")]
    timeout: Duration,

    /// How often to look at differences before they are reported; 1 without --channel, else 3
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    looks: Option<u32>,

    /// The target names tables `db.table`
    #[arg(long)]
    qualify: bool,

    /// Ranges of rows that are listed for one table at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    ranges: usize,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// Print only what differs
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    filters: Filters,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let channel = arguments.channel.as_deref().map(|name| queue::fold_name("channel", name)).transpose()?;
    let looks = arguments.looks.unwrap_or(if channel.is_some() { 3 } else { 1 });
    let options = compare::Options {
        rules: Rules::new(TableFilter::new(arguments.filters.rules()?)?),
        qualify: arguments.qualify,
        channel,
        timeout: arguments.timeout,
        looks,
    };
    let mut source = open_to_look(&arguments.source)?;
    let mut target = open_to_look(&arguments.target)?;
    let mut tables = 0;
    let differing = compare::compare(&mut *source, &mut *target, &options, &mut |report| {
        tables += 1;
        match (arguments.json, report.equal && arguments.quiet) {
            (_, true) => Ok(()),
            (true, false) => print_lines(&lines_of_json(report, arguments.ranges)),
            (false, false) => print_lines(&lines(report, arguments.ranges)),
        }
    })?;
    match differing {
        0 => Ok(()),
        _ => Err(Error::new(Class::Conflict, format!("{differing} of {tables} tables differ"))),
    }
}

fn lines(report: &Report, ranges_max: usize) -> Vec<String> {
    let name = if report.source.is_empty() { &report.target } else { &report.source };
    let outcome = match (&report.why, report.equal) {
        (_, true) => format!("equal, {} rows", report.rows.0),
        (Some(why), false) if report.rows == (0, 0) => format!("different: {why}"),
        (why, false) => {
            let why = why.as_ref().map_or(String::new(), |why| format!("; {why}"));
            format!("different, {} rows in the source, {} in the target{why}", report.rows.0, report.rows.1)
        }
    };
    let mut out = vec![format!("{name}: {outcome}")];
    for range in report.ranges.iter().take(ranges_max) {
        let kind = range.kind.name();
        out.push(match range.rows {
            1 => format!("  {kind}: {}", key_text(&report.key, &range.from)),
            rows => format!(
                "  {kind}: {rows} rows from {} to {}",
                key_text(&report.key, &range.from),
                key_text(&report.key, &range.to)
            ),
        });
    }
    let left = report.ranges.iter().skip(ranges_max).map(|range| range.rows).sum::<u64>() + report.more;
    if left > 0 {
        out.push(format!("  and {left} more rows"));
    }
    out
}

fn key_text(names: &[String], key: &KeyValues) -> String {
    let parts = names.iter().zip(key).map(|(name, value)| match value {
        Some(value) => format!("{name}={}", String::from_utf8_lossy(value)),
        None => format!("{name}=NULL"),
    });
    parts.collect::<Vec<String>>().join(", ")
}

fn lines_of_json(report: &Report, ranges_max: usize) -> Vec<String> {
    let name = |name: &str| if name.is_empty() { Value::Null } else { name.into() };
    let key = |values: &KeyValues| -> Value {
        let pairs = report.key.iter().zip(values).map(|(name, value)| {
            let value = value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            (name.clone(), value.map_or(Value::Null, Value::from))
        });
        pairs.collect::<serde_json::Map<String, Value>>().into()
    };
    let mut out = Vec::new();
    for range in report.ranges.iter().take(ranges_max) {
        out.push(json!({
            "kind": "range", "source_table": name(&report.source), "target_table": name(&report.target),
            "difference": range.kind.name(), "rows": range.rows, "from": key(&range.from), "to": key(&range.to),
        }));
    }
    out.push(json!({
        "kind": "table", "source_table": name(&report.source), "target_table": name(&report.target), "equal": report.equal,
        "source_rows": report.rows.0, "target_rows": report.rows.1,
        "source_checksum": format!("{:032x}", report.checksums.0), "target_checksum": format!("{:032x}", report.checksums.1),
        "different_rows": report.ranges.iter().map(|range| range.rows).sum::<u64>() + report.more,
        "why": report.why,
    }));
    out.into_iter().map(|value| value.to_string()).collect()
}
