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

mod bytes;
pub mod escape;
pub mod feed;
mod hex;
mod input;
mod json;
pub mod moment;
mod orphan;
mod output;
mod pen;
mod scan;
pub mod select;
pub mod sql;
mod stats;
mod table;
mod text;
mod verify;
mod walk;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::error::{Class, Error, Result};
use crate::frame::{Abort, Frame, Kind, SliceFrames};
use crate::plugin::{Host, Stage};
use crate::source::Look;
use crate::{queue, source};

pub use json::Separator;
pub use select::Selection;

use input::{Input, Next, Opening, Operand};
use json::{JsonPrinter, ReproPrinter};
use output::Output;
use select::Bound;
use sql::{Dialect, SqlPrinter};
use stats::StatsPrinter;
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
    /// They are printed as JSON lines with hashes in place of values.
    Repro,
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
    /// Statistics and reports as JSON lines.
    pub json: bool,
    /// Dialect of SQL; `None`: that of the source.
    pub dialect: Option<Dialect>,
    /// Between JSON objects.
    pub separator: Separator,
    /// Go on when the last input grows.
    pub follow: bool,
    /// Which channel of a queue; empty: the default one.
    pub channel: String,
    /// How logs are decoded.
    pub source: source::Options,
    /// Zone of the times in text output.
    pub zone: TimeZone,
    /// Whether text output has colours.
    pub color: bool,
    /// Who hears of what is read, and may change it.
    pub listeners: Option<Arc<Host>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            inputs: Vec::new(),
            action: Action::default(),
            format: Format::default(),
            selection: Selection::default(),
            json: false,
            dialect: None,
            separator: Separator::default(),
            follow: false,
            channel: String::new(),
            source: source::Options::default(),
            zone: TimeZone::UTC,
            color: false,
            listeners: None,
        }
    }
}

/// How long `--follow` sleeps before it looks again whether the file has grown.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// Dumps to `sink`. What a person should know besides goes to `note`.
pub fn run(options: &Options, sink: &mut dyn Write, note: &mut dyn FnMut(&str)) -> Result<()> {
    let mut out = Output::new(sink);
    let operands = input::operands(&options.inputs)?;
    if options.listeners.is_some()
        && (!matches!(options.action, Action::Print | Action::Repro) || options.format == Format::Hex)
    {
        return Err(Error::usage(
            "plug-ins and --exec hear of what is printed as text, JSON or SQL, and of statistics",
        )
        .hint("--verify, --salvage, --undo and --format hex show what is in the file: leave out --plugin and --exec"));
    }
    match (options.action, options.format) {
        (Action::Verify, _) => {
            let mut report = Report::new(options.json || options.format == Format::Json);
            for operand in &operands {
                report.verify(operand, &options.opening(false), &mut out)?;
            }
            report.into_result()
        }
        (Action::Undo, _) => {
            let input = Input::mapped_all(&operands, &options.opening(false))?;
            let taken_back = sql::undo::undo(&input, &options.selection, options.dialect, &mut out);
            out.flush()?;
            if taken_back? == 0 { Err(Error::new(Class::Nothing, "")) } else { Ok(()) }
        }
        (Action::Print, Format::Hex) => {
            let shown = bytes::show(options, &operands, &mut out);
            out.flush()?;
            if shown? { Ok(()) } else { Err(Error::new(Class::Nothing, "")) }
        }
        _ => print(options, &operands, &mut out, note),
    }
}

fn print(options: &Options, operands: &[Operand], out: &mut Output<'_>, note: &mut dyn FnMut(&str)) -> Result<()> {
    let mut printer = printer(options)?;
    let mut walk = Walk::new(&options.selection);
    let result = match options.action {
        Action::Salvage => salvage_all(options, operands, &mut walk, &mut *printer, out, note),
        _ => walk_all(options, operands, &mut walk, &mut *printer, out, note),
    };
    // What was printed before an error is complete up to there.
    if result.is_err() {
        walk.cut_off("its end was not read", &mut *printer, out)?;
    }
    let nothing = walk.hits() == 0 && !options.selection.is_everything();
    if !nothing || result.is_err() {
        printer.finish(out)?;
    }
    out.flush()?;
    result?;
    if nothing { Err(Error::new(Class::Nothing, "")) } else { Ok(()) }
}

impl Options {
    /// What a log has to be read for.
    fn look(&self) -> Look {
        let selection = &self.selection;
        let plain = self.action == Action::Print;
        Look {
            rows: selection.look(),
            // JSON and text say how many rows a whole transaction has, JSON also which of them a row is.
            passed_count: !plain || !matches!(self.format, Format::Sql | Format::Stats),
            sizes_only: plain
                && self.format == Format::Stats
                && selection.conditions.is_empty()
                && selection.limit.is_none(),
        }
    }

    fn opening(&self, follow: bool) -> Opening {
        let channel = if self.channel.is_empty() { queue::DEFAULT_CHANNEL } else { &self.channel };
        let mut source = self.source.clone();
        source.salvage = matches!(self.action, Action::Verify | Action::Salvage);
        // What a log holds is shown; that some tables never enter a replica is not the dump's business.
        source.system_tables = true;
        if let Some(Bound::Time(us)) = self.selection.since {
            source.since_us = Some(us);
        }
        Opening { follow, channel: channel.to_owned(), source, in_process: false, raw: false }
    }
}

fn printer(options: &Options) -> Result<Box<dyn Printer>> {
    let fields = &options.selection.fields;
    if options.action == Action::Repro {
        return Ok(Box::new(ReproPrinter::default()));
    }
    Ok(match options.format {
        Format::Json => Box::new(JsonPrinter::new(options.separator, fields)),
        Format::Text => Box::new(TextPrinter::new(options.zone.clone(), options.color, fields)),
        Format::Sql => Box::new(SqlPrinter::new(options.dialect)),
        Format::Stats | Format::Hex => Box::new(StatsPrinter::new(options.json, options.zone.clone(), options.color)),
    })
}

fn salvage_all(
    options: &Options,
    operands: &[Operand],
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut report = Report::default();
    for operand in operands {
        let before = report.problems();
        report.salvage(operand, &options.opening(false), walk, printer, out, note)?;
        if let Operand::Logs(paths) = operand
            && let [path] = paths.as_slice()
            && report.problems() > before
            && orphan::is_log(path)
            && !orphan::is_one(path)
        {
            match options.format {
                Format::Text => orphan::behind(path, out, note)?,
                _ => note(&format!(
                    "{}: frames behind the damage may be whole: --format text shows the pages in them",
                    path.display()
                )),
            }
        }
    }
    report.into_result()
}

fn walk_all(
    options: &Options,
    operands: &[Operand],
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let channel = if options.channel.is_empty() { queue::DEFAULT_CHANNEL } else { &options.channel };
    let mut stage = match &options.listeners {
        Some(host) => Some(Stage::start(host.clone(), channel)?),
        None => None,
    };
    let outcome = walk_operands(options, operands, walk, printer, out, note, &mut stage);
    match stage {
        Some(mut stage) => {
            // What a closed pipe took is nobody's commit.
            let outcome = outcome.and_then(|()| out.flush().map(|()| stage.written()));
            stage.stop(outcome)
        }
        None => outcome,
    }
}

fn walk_operands(
    options: &Options,
    operands: &[Operand],
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
    note: &mut dyn FnMut(&str),
    stage: &mut Option<Stage>,
) -> Result<()> {
    let mut abort = None;
    for (number, operand) in operands.iter().enumerate() {
        let follow = options.follow && number + 1 == operands.len();
        // Listeners hear of everything, in the form that it travels in.
        let mut opening = Opening { in_process: stage.is_none(), ..options.opening(follow) };
        if stage.is_none() {
            opening.source.look = options.look();
        }
        // Statistics have no use for the text of statements that rows stand for.
        opening.source.no_annotate |= opening.source.look.sizes_only;
        let mut input = Input::open(operand, &opening)?;
        let walked = walk_one(&mut input, walk, printer, out, stage);
        input.take_notes().iter().for_each(|text| note(text));
        abort = walked?;
        if walk.is_done() {
            return Ok(());
        }
    }
    abort.map_or(Ok(()), Err)
}

/// Walks one input to its end. The error of an abort frame is returned apart: what follows it is still read.
fn walk_one(
    input: &mut Input,
    walk: &mut Walk<'_>,
    printer: &mut dyn Printer,
    out: &mut Output<'_>,
    stage: &mut Option<Stage>,
) -> Result<Option<Error>> {
    let name = input.name.clone();
    let mut abort = None;
    let mut frames = 0u64;
    loop {
        if input.may_wait() {
            out.flush()?;
        }
        let at = input.at();
        let frame = match input.next()? {
            Next::Frame(frame) => frame,
            Next::Unit(unit) => {
                frames += 1;
                walk.unit(unit, at, printer, out).map_err(|error| error.in_file(&name))?;
                if walk.is_done() {
                    return Ok(None);
                }
                continue;
            }
            Next::Idle => {
                out.flush()?;
                if input.polls() {
                    std::thread::sleep(FOLLOW_PAUSE);
                }
                continue;
            }
            Next::End => break,
        };
        if frame.kind() == Some(Kind::Abort) {
            let message = Abort::decode(frame.payload, frame.at).map_err(|e| Error::from(e).in_file(&name))?;
            abort = Some(walk::abort_error(&message).at(frame.at).in_file(&name));
        }
        frames += 1;
        match stage {
            None => walk.frame(&frame, printer, out).map_err(|error| error.in_file(&name))?,
            Some(stage) => {
                stage.frame(&frame)?;
                let at = frame.at;
                let mut changed = SliceFrames::new(stage.bytes(), 0);
                while let Some(frame) = changed.next()? {
                    walk.frame(&Frame { at, ..frame }, printer, out).map_err(|error| error.in_file(&name))?;
                }
                stage.written();
            }
        }
        if walk.is_done() {
            return Ok(None);
        }
    }
    let at = input.at();
    if let Some(txid) = walk.open_transaction() {
        return Err(Error::new(Class::Torn, format!("the stream ends inside transaction {txid}"))
            .at(at)
            .in_file(name)
            .hint("everything before it is shown; its writer died or is still writing (--follow waits for it)"));
    }
    if !walk.finished() && !input.has_no_end() {
        let what =
            if frames == 0 { "no frames" } else { "the stream has no end frame: its writer died or still writes" };
        // A pipe's writer may do better next time; a file stays as it is.
        let class = if input.is_stream() { Class::TryAgain } else { Class::Torn };
        return Err(Error::new(class, what).at(at).in_file(name));
    }
    Ok(abort)
}
