//! rlog-dump: shows what a log holds.
//!
//! ```text
//! input    frames: mapped files, streams, sources decoded on the way
//!   │
//! walk     order and digests checked, definitions kept, the selection applied      select, table
//!   │
//! printer  text | json | sql | hex | stats                                         escape, moment
//!   │
//! output   one buffer before standard output
//! ```
//!
//! Promises: inputs are never changed; memory is bounded by the largest record (of `--undo` also by an index of offsets),
//! whatever the size of a transaction; nothing that comes from a log can end a JSON string, an SQL literal or a comment
//! early, or control a terminal; equal input gives equal output, also on another host (text output in equal time zones).
//!
//! A transaction is printed as it is read, not after its end was seen: one that is cut off is closed as discarded (SQL:
//! ROLLBACK), and the run ends with the class of what went wrong.

pub mod escape;
mod input;
mod json;
pub mod moment;
mod output;
mod scan;
pub mod select;
pub mod sql;
mod table;
mod text;
mod verify;
mod walk;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::error::{Class, Error, Result};

pub use json::Separator;
pub use select::Selection;

use input::Input;
use json::JsonPrinter;
use output::Output;
use sql::{Dialect, SqlPrinter};
use text::TextPrinter;
use verify::Report;
use walk::{Printer, Walk};

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Statements that do it again.
    Sql,
    /// Annotated bytes.
    Hex,
    /// Counts.
    Stats,
}

/// What is done with the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// They are printed.
    #[default]
    Print,
    /// They are checked.
    Verify,
    /// What is intact in them is printed.
    Salvage,
    /// SQL that takes them back is printed.
    Undo,
}

/// A whole dump.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files; `-` is standard input, and so is an empty list.
    pub inputs: Vec<PathBuf>,
    /// What is done.
    pub action: Action,
    /// How it is printed.
    pub format: Format,
    /// What is printed.
    pub selection: Selection,
    /// Dialect of SQL; `None`: that of the source.
    pub dialect: Option<Dialect>,
    /// Between JSON objects.
    pub separator: Separator,
    /// Go on when the last file grows.
    pub follow: bool,
    /// Zone of the times in text output.
    pub zone: TimeZone,
    /// Whether text output has colours.
    pub color: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            inputs: Vec::new(),
            action: Action::default(),
            format: Format::default(),
            selection: Selection::default(),
            dialect: None,
            separator: Separator::default(),
            follow: false,
            zone: TimeZone::UTC,
            color: false,
        }
    }
}

/// How long `--follow` sleeps before it looks again whether the file has grown.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// Dumps to `sink`. What a person should know besides goes to `note`.
pub fn run(options: &Options, sink: &mut dyn Write, note: &mut dyn FnMut(&str)) -> Result<()> {
    let mut out = Output::new(sink);
    if options.action == Action::Verify {
        let mut report = Report::new(options.format == Format::Json);
        for path in input::operands(&options.inputs) {
            report.verify(&Input::mapped(&path)?, &mut out)?;
        }
        return report.into_result();
    }
    if options.action == Action::Undo {
        let input = Input::mapped_all(&input::operands(&options.inputs))?;
        let taken_back = sql::undo::undo(&input, &options.selection, options.dialect, &mut out);
        out.flush()?;
        return if taken_back? == 0 { Err(Error::new(Class::Nothing, "")) } else { Ok(()) };
    }
    let mut printer = printer(options)?;
    let mut walk = Walk::new(&options.selection);
    let result = match options.action {
        Action::Salvage => salvage_all(options, &mut walk, &mut *printer, &mut out, note),
        _ => walk_all(options, &mut walk, &mut *printer, &mut out),
    };
    // What was printed before an error is complete up to there.
    if result.is_err() {
        walk.cut_off("its end was not read", &mut *printer, &mut out)?;
    }
    printer.finish(&mut out)?;
    out.flush()?;
    result?;
    if walk.hits() == 0 && !options.selection.is_everything() {
        return Err(Error::new(Class::Nothing, ""));
    }
    Ok(())
}

fn printer(options: &Options) -> Result<Box<dyn Printer>> {
    let fields = &options.selection.fields;
    Ok(match options.format {
        Format::Json => Box::new(JsonPrinter::new(options.separator, fields)),
        Format::Text => Box::new(TextPrinter::new(options.zone.clone(), options.color, fields)),
        Format::Sql => Box::new(SqlPrinter::new(options.dialect)),
        _ => return Err(Error::new(Class::Unavailable, "this format is not built yet in this version")),
    })
}

fn salvage_all(
    options: &Options,
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut report = Report::default();
    for path in input::operands(&options.inputs) {
        report.salvage(&Input::mapped(&path)?, walk, printer, out, note)?;
    }
    report.into_result()
}

fn walk_all(options: &Options, walk: &mut Walk<'_>, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
    let paths = input::operands(&options.inputs);
    let mut abort = None;
    for (number, path) in paths.iter().enumerate() {
        let growing = options.follow && number + 1 == paths.len();
        let mut input = Input::open(path, growing)?;
        abort = walk_one(&mut input, growing, walk, printer, out)?;
        if walk.is_done() {
            return Ok(());
        }
    }
    abort.map_or(Ok(()), Err)
}

/// Walks one input to its end. The error of an abort frame is returned apart: what follows it is still read.
fn walk_one(
    input: &mut Input,
    growing: bool,
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
) -> Result<Option<Error>> {
    let name = input.name.clone();
    let mut abort = None;
    let mut frames = 0u64;
    loop {
        if input.may_wait() {
            out.flush()?;
        }
        let frame = if growing { input.next_growing()? } else { input.next()? };
        match frame {
            Some(frame) => {
                if frame.kind() == Some(crate::frame::Kind::Abort) {
                    let message = crate::frame::Abort::decode(frame.payload, frame.at)?;
                    abort = Some(walk::abort_error(&message).at(frame.at).in_file(&name));
                }
                frames += 1;
                walk.frame(&frame, printer, out).map_err(|error| error.in_file(&name))?;
                if walk.is_done() {
                    return Ok(None);
                }
            }
            None if growing => {
                out.flush()?;
                std::thread::sleep(FOLLOW_PAUSE);
            }
            None => break,
        }
    }
    let at = input.at();
    if let Some(txid) = walk.checker().open_transaction() {
        return Err(Error::new(Class::Torn, format!("the stream ends inside transaction {txid}"))
            .at(at)
            .in_file(name)
            .hint("everything before it is shown; its writer died or is still writing (--follow waits for it)"));
    }
    if !walk.checker().finished() {
        let what =
            if frames == 0 { "no frames" } else { "the stream has no end frame: its writer died or still writes" };
        // A pipe's writer may do better next time; a file stays as it is.
        let class = if input.is_stream() { Class::TryAgain } else { Class::Torn };
        return Err(Error::new(class, what).at(at).in_file(name));
    }
    Ok(abort)
}
