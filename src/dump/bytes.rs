//! `--format hex` over all inputs: which bytes are shown, and the selection by transaction.

use std::path::PathBuf;

use super::hex::log::{LogHex, Ranges};
use super::hex::{self, wal};
use super::input::{Input, Next, Operand, map_path};
use super::output::Output;
use super::select::Reached;
use super::{Options, Selection};
use crate::error::{Error, Result};
use crate::frame::{Begin, Commit, Coordinate, Kind};
use crate::source::mysql::decrypt::Keys;
use crate::source::mysql::files;
use crate::source::{self, FileKind};

/// Prints the bytes that are selected; returns whether there were any. Damage is shown, and is the error in the end.
pub fn show(options: &Options, operands: &[Operand], out: &mut Output<'_>) -> Result<bool> {
    let selection = &options.selection;
    if selection.is_narrow() || selection.limit.is_some() || !selection.fields.is_empty() {
        return Err(Error::usage(
            "--format hex shows whole transactions: it goes with --since, --until and --txn only",
        ));
    }
    let mut reached = Reached::default();
    let (mut shown, mut failed) = (false, None);
    for operand in operands {
        let (found, error) = match operand {
            Operand::Logs(paths) if operand.is_known() => logs(options, paths, out)?,
            _ => frames(options, operand, &mut reached, out)?,
        };
        shown |= found;
        failed = failed.or(error);
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(shown || selection.is_everything()),
    }
}

/// Frames one after the other; a binary log that comes through a pipe instead.
fn frames(
    options: &Options,
    operand: &Operand,
    reached: &mut Reached,
    out: &mut Output<'_>,
) -> Result<(bool, Option<Error>)> {
    let selection = &options.selection;
    let everything = selection.is_everything();
    let opening = super::input::Opening { raw: true, ..options.opening(false) };
    let mut input = Input::open(operand, &opening)?;
    let name = input.name.clone();
    if let Some(file) = input.take_spool()? {
        let stream = Box::new(file);
        let ranges =
            ranges(selection, || source::open(source::Input::Stream(name.clone(), stream), opening.source.clone()))?;
        let keys = opening.source.keys.as_ref().map(Keys::parse).transpose()?;
        let mut hex = LogHex::new(keys.as_ref(), &ranges);
        hex.file(&name, opening.source.log_name.as_deref(), false, input.bytes(), out)?;
        return Ok((hex.shown, hex.error));
    }
    let (mut time_us, mut inside, mut shown) = (0, false, false);
    while let Next::Frame(frame) = input.next()? {
        if frame.kind() == Some(Kind::Begin) {
            let begin = Begin::decode(frame.payload, frame.at).map_err(|e| Error::from(e).in_file(&name))?;
            time_us = if begin.time_us != 0 { begin.time_us } else { time_us };
            inside = selection.transaction(reached, Coordinate(frame.header.id), &begin, time_us);
        }
        if everything || inside {
            hex::frame(out, &frame)?;
            shown = true;
        }
        if matches!(frame.kind(), Some(Kind::Commit | Kind::Prepared | Kind::Discard)) {
            inside = false;
        }
    }
    Ok((shown, None))
}

/// Logs of one server, or SQLite's.
fn logs(options: &Options, paths: &[PathBuf], out: &mut Output<'_>) -> Result<(bool, Option<Error>)> {
    let opening = options.opening(false);
    let first = paths.first().map(|path| FileKind::of_file(path)).transpose()?;
    if matches!(first, Some(FileKind::SqliteDatabase | FileKind::SqliteWal)) {
        if !options.selection.is_everything() {
            return Err(Error::usage("--format hex shows all of a SQLite log: leave --since, --until and --txn out"));
        }
        let mut failed = None;
        for path in paths {
            let (log, database) = match FileKind::of_file(path)? {
                FileKind::SqliteDatabase => {
                    let mut log = path.clone().into_os_string();
                    log.push("-wal");
                    (PathBuf::from(log), Some(path))
                }
                _ => (path.clone(), None),
            };
            if let Some(map) = database.map(|path| map_path(path)).transpose()?.flatten() {
                wal::database(&map, out)?;
            }
            if let Some(map) = log.exists().then(|| map_path(&log)).transpose()?.flatten() {
                failed = failed.or(wal::log(&log.display().to_string(), &map, out)?);
            }
        }
        return Ok((true, failed));
    }
    let ranges =
        ranges(&options.selection, || source::open(source::Input::Files(paths.to_vec()), opening.source.clone()))?;
    let keys = opening.source.keys.as_ref().map(Keys::parse).transpose()?;
    let mut hex = LogHex::new(keys.as_ref(), &ranges);
    // A name that was given is the first file's.
    let mut given = opening.source.log_name.clone();
    for probe in files::in_order(paths.to_vec())?.0 {
        let Some(map) = map_path(&probe.path)? else { continue };
        let log_name = given.take().unwrap_or_else(|| probe.name.clone());
        hex.file(&probe.path.display().to_string(), Some(&log_name), probe.relay, &map, out)?;
    }
    Ok((hex.shown, hex.error))
}

/// Where the selected transactions of a log stand: it is decoded once for that. `None`: everything is selected.
fn ranges(selection: &Selection, open: impl FnOnce() -> Result<Box<dyn source::Source>>) -> Result<Ranges> {
    if selection.is_everything() {
        return Ok(None);
    }
    let mut input = Input::from_source(String::new(), open()?);
    let (mut reached, mut time_us) = (Reached::default(), 0);
    let mut open_at = None;
    let mut out = Vec::new();
    // What cannot be decoded is in no range; the bytes will show it.
    while let Ok(Next::Frame(frame)) = input.next() {
        match frame.kind() {
            Some(Kind::Begin) => {
                let begin = Begin::decode(frame.payload, frame.at)?;
                time_us = if begin.time_us != 0 { begin.time_us } else { time_us };
                let txid = Coordinate(frame.header.id);
                open_at = selection.transaction(&mut reached, txid, &begin, time_us).then_some(txid);
            }
            Some(Kind::Commit | Kind::Prepared) => {
                let commit = Commit::decode(frame.payload, frame.at)?;
                out.extend(open_at.take().map(|start| (start, commit.end)));
            }
            _ => {}
        }
    }
    Ok(Some(out))
}
