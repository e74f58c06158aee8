//! The loop of rlog-extract: a source's frames to an output, and the abort frame when something fails.
//!
//! The output is written in pieces of [`WRITE_BYTES`], or what there is when the source is idle. Errors travel down the pipe (rule 2 of
//! the design): whatever fails, the last frame is an `abort` with the exit status, unless the output itself is gone.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::frame::{Abort, FrameWriter, Kind};
use crate::plugin::{Host, Stage};
use crate::source::{Source, Status, Step};

/// Least bytes of one write, except at the end and when the source is idle.
const WRITE_BYTES: usize = 256 << 10;
/// Pause before an idle source is asked again.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// Copies a source's frames to `output` until its end, or until `stop` is set, when it ends behind the transaction at hand. `report` is called now
/// and then with how far it has come and with remarks for people. Listeners are told of the channel's name; what they refuse travels down the pipe as an
/// abort frame like every other error.
pub fn run(
    source: &mut dyn Source,
    output: &mut dyn Write,
    name: &str,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Status, Vec<String>),
    listeners: Option<(Arc<Host>, &str)>,
) -> Result<Status> {
    let Some((listeners, channel)) = listeners else { return copy(source, output, name, stop, report, &mut None) };
    let mut stage = match Stage::start(listeners, channel) {
        Ok(stage) => Some(stage),
        Err(error) => {
            let mut writer = FrameWriter::new();
            abort(&mut writer, source, &error);
            write(&mut writer, output, name, &mut None)?;
            return Err(error);
        }
    };
    let mut status = None;
    let outcome = copy(source, output, name, stop, report, &mut stage).map(|done| status = Some(done));
    let outcome = stage.map_or(Ok(()), |stage| stage.stop(outcome));
    outcome.map(|()| status.unwrap_or_default())
}

fn copy(
    source: &mut dyn Source,
    output: &mut dyn Write,
    name: &str,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Status, Vec<String>),
    stage: &mut Option<Stage>,
) -> Result<Status> {
    let mut writer = FrameWriter::new();
    let mut told = false;
    loop {
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            source.stop();
        }
        let step = match source.step(&mut writer) {
            Ok(step) => step,
            Err(error) => {
                report(source.status(), source.take_notes());
                return Err(fail(writer, source, error, output, name, stage)?);
            }
        };
        let due = step != Step::More || writer.len() >= WRITE_BYTES;
        if due {
            if let Err(error) = write(&mut writer, output, name, stage) {
                // A listener's refusal travels down the pipe; a reader that is gone hears of nothing.
                if stage.is_some() && !error.is_broken_pipe() {
                    writer.clear();
                    return Err(fail(writer, source, error, output, name, &mut None)?);
                }
                return Err(error);
            }
            report(source.status(), source.take_notes());
        }
        match step {
            Step::More => {}
            Step::Waited => output.flush().map_err(|error| Error::io(name, error))?,
            Step::Idle => {
                output.flush().map_err(|error| Error::io(name, error))?;
                std::thread::sleep(IDLE_PAUSE);
            }
            Step::End => {
                output.flush().map_err(|error| Error::io(name, error))?;
                return Ok(source.status());
            }
        }
    }
}

/// Appends the abort frame that tells a reader why the stream ends.
fn abort(writer: &mut FrameWriter, source: &dyn Source, error: &Error) {
    let abort = Abort { status: error.class().exit_status(), message: error.to_string(), reached: source.reached() };
    writer.frame(Kind::Abort, |payload| abort.encode(payload));
}

/// An abort frame alone, for failures before there is a source.
pub fn write_abort(output: &mut dyn Write, error: &Error) {
    let mut writer = FrameWriter::new();
    let abort = Abort { status: error.class().exit_status(), message: error.to_string(), ..Abort::default() };
    writer.frame(Kind::Abort, |payload| abort.encode(payload));
    // The error is reported anyway; a reader that is gone needs no abort.
    let _ = output.write_all(writer.bytes()).and_then(|()| output.flush());
}

/// Writes what there is and the abort frame; gives back the error.
fn fail(
    mut writer: FrameWriter,
    source: &dyn Source,
    error: Error,
    output: &mut dyn Write,
    name: &str,
    stage: &mut Option<Stage>,
) -> Result<Error> {
    if stage.is_some()
        && let Err(refused) = write(&mut writer, output, name, stage)
        && refused.is_broken_pipe()
    {
        return Err(refused);
    }
    abort(&mut writer, source, &error);
    write(&mut writer, output, name, &mut None)?;
    Ok(error)
}

fn write(writer: &mut FrameWriter, output: &mut dyn Write, name: &str, stage: &mut Option<Stage>) -> Result<()> {
    if let Some(stage) = stage
        && !writer.is_empty()
    {
        let outcome = stage.frames(writer.bytes());
        writer.clear();
        // What came before a refusal is written: readers make whole transactions durable.
        write_bytes(stage.bytes(), output, name)?;
        stage.written();
        return outcome;
    }
    if !writer.is_empty() {
        write_bytes(writer.bytes(), output, name)?;
        writer.clear();
    }
    Ok(())
}

fn write_bytes(bytes: &[u8], output: &mut dyn Write, name: &str) -> Result<()> {
    output.write_all(bytes).map_err(|error| {
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        let error = Error::io(name, error);
        if gone { error.hint("the reader of this pipe has ended: its own message says why") } else { error }
    })
}
