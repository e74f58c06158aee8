//! `--verify`: every problem with its offset, and the proof of what is contiguous; `--salvage`: what is intact all the same.
//!
//! A range is proven contiguous when every transaction and every progress in it says that it goes on from what the one
//! before had reached; counts and digests prove each transaction whole. Neither looks into events of files of frames.
//!
//! A log is decoded, and read on behind what is damaged in it ([`crate::source::Options::salvage`]): what it says itself is wrong is told with its offset in the log.

use super::escape::{one_line, put_json_string};
use super::input::{Input, Next, Opening, Operand};
use super::output::Output;
use super::scan::{Found, Scan};
use super::walk::{Printer, Walk};
use crate::error::{Class, Error, Result};
use crate::frame::{Checker, Coordinate, Passed, Step};
use crate::source::Problem;

/// What was found in one or more files.
#[derive(Default)]
pub struct Report {
    json: bool,
    problems: u64,
    /// Gaps are what the source found damaged, and are told as that.
    gaps_are_told: bool,
    /// The class of the run: damage before gap before torn.
    class: Option<Class>,
}

/// A proven range and what it holds.
#[derive(Clone, Copy, Default)]
struct Range {
    from: Option<Coordinate>,
    to: Coordinate,
    transactions: u64,
}

impl Report {
    /// A report in lines for people, or as JSON lines.
    pub fn new(json: bool) -> Report {
        Report { json, ..Report::default() }
    }

    /// Checks one input and writes what is wrong with it and what is proven.
    pub fn verify(&mut self, operand: &Operand, opening: &Opening, out: &mut Output<'_>) -> Result<()> {
        match operand {
            Operand::Queue(_) => {
                let input = Input::open(operand, opening)?;
                self.queue(&input, out)?;
            }
            Operand::Logs(_) if operand.is_known() => {
                let mut input = Input::open(operand, opening)?;
                self.stream(&mut input, out)?;
            }
            Operand::Stdin => {
                let mut input = Input::open(operand, opening)?;
                if input.is_source() {
                    self.stream(&mut input, out)?;
                } else {
                    self.mapped(input.into_mapped()?, out)?;
                }
            }
            _ => self.mapped(Input::mapped(operand, opening)?, out)?,
        }
        out.flush()
    }

    fn mapped(&mut self, (input, error): (Input, Option<Error>), out: &mut Output<'_>) -> Result<()> {
        self.bytes(&input, out)?;
        if let Some(error) = error {
            self.problem(&input.name, input.at(), &error, None, out);
        }
        Ok(())
    }

    /// A queue checks itself.
    fn queue(&mut self, input: &Input, out: &mut Output<'_>) -> Result<()> {
        let Some(queue) = input.queue() else { return Ok(()) };
        let mut found = Vec::new();
        let before = self.problems;
        let verified = queue.verify(&mut |error| found.push(error))?;
        for error in found {
            let place = error.place().cloned();
            let name = place.as_ref().map_or(input.name.as_str(), |place| place.name.as_str());
            let at = place.as_ref().and_then(|place| place.at).unwrap_or(0);
            self.problem(name, at, &error, None, out);
        }
        let problems = self.problems - before;
        self.summary(&input.name, verified.bytes, (verified.transactions, "transactions"), problems, out);
        Ok(())
    }

    /// A log is checked by decoding it: its own checksums, and that what it becomes is contiguous.
    fn stream(&mut self, input: &mut Input, out: &mut Output<'_>) -> Result<()> {
        let name = input.name.clone();
        let mut checker = Checker::contiguous();
        let mut range = Range::default();
        let (mut frames, before) = (0u64, self.problems);
        self.gaps_are_told = true;
        loop {
            for problem in input.take_problems() {
                self.source_problem(&name, &problem, out);
            }
            let at = input.at();
            let step = match input.next() {
                Ok(Next::Frame(frame)) => {
                    frames += 1;
                    checker.frame(&frame).map_err(Error::from)
                }
                Ok(_) => break,
                Err(error) => Err(error),
            };
            match step {
                Ok(step) => self.step(&step, checker.reached(), &mut range, &name, at, out),
                Err(error) => {
                    let transaction = checker.open_transaction();
                    self.range(&mut range, &name, out);
                    let at = error.place().and_then(|place| place.at).unwrap_or(at);
                    self.problem(&name, at, &error, transaction, out);
                    break;
                }
            }
            out.spill()?;
        }
        for problem in input.take_problems() {
            self.source_problem(&name, &problem, out);
        }
        self.range(&mut range, &name, out);
        for text in input.take_notes() {
            self.note(&name, &text, out);
        }
        self.gaps_are_told = false;
        let bytes = input.log_bytes().unwrap_or(input.at());
        self.summary(&name, bytes, (frames, "frames"), self.problems - before, out);
        Ok(())
    }

    /// What a source has told of.
    fn source_problem(&mut self, name: &str, problem: &Problem, out: &mut Output<'_>) {
        let place = problem.error.place();
        let name = place.map_or(name, |place| place.name.as_str());
        let at = place.and_then(|place| place.at).unwrap_or(0);
        self.problem_with(name, at, &problem.error, problem.lost, Some(problem.to), out);
    }

    /// A remark, such as that a log has no checksums.
    fn note(&self, name: &str, text: &str, out: &mut Output<'_>) {
        if self.json {
            let buffer = out.buffer();
            buffer.extend_from_slice(b"{\"kind\":\"note\",\"file\":");
            put_json_string(buffer, name.as_bytes());
            buffer.extend_from_slice(b",\"message\":");
            put_json_string(buffer, text.as_bytes());
            buffer.extend_from_slice(b"}\n");
        } else {
            out.text(&format!("{}: note: {}\n", one_line(name), one_line(text)));
        }
    }

    fn bytes(&mut self, input: &Input, out: &mut Output<'_>) -> Result<()> {
        let bytes = input.bytes();
        let mut scan = Scan::new(bytes);
        let mut range = Range::default();
        let mut frames = 0u64;
        let before = self.problems;
        while let Some(found) = scan.pass() {
            match found {
                Found::Frame(_, passed) => {
                    frames += 1;
                    match passed {
                        Passed::Begin(prev) if range.from.is_none() => {
                            range = Range { from: Some(prev), to: prev, transactions: 0 };
                        }
                        Passed::End => {
                            range.transactions += 1;
                            range.to = scan.reached().unwrap_or(range.to);
                        }
                        Passed::Begin(_) | Passed::Data => continue,
                        Passed::Other(step) => {
                            self.step(&step, scan.reached(), &mut range, &input.name, scan.at(), out);
                        }
                    }
                }
                Found::Problem { at, error, transaction, to } => {
                    if to != at || transaction.is_some() || error.class() != Class::Torn {
                        self.range(&mut range, &input.name, out);
                    }
                    self.problem(&input.name, at, &error, transaction, out);
                }
            }
            out.spill()?;
        }
        self.range(&mut range, &input.name, out);
        let problems = self.problems - before;
        self.summary(&input.name, bytes.len() as u64, (frames, "frames"), problems, out);
        Ok(())
    }

    /// Takes what an intact frame meant into the range that is being proven.
    fn step(
        &mut self,
        step: &Step,
        reached: Option<Coordinate>,
        range: &mut Range,
        name: &str,
        at: u64,
        out: &mut Output<'_>,
    ) {
        match step {
            Step::Stream(header, _) => {
                // A second stream may begin anywhere.
                if range.from.is_some() && range.to != header.start {
                    self.range(range, name, out);
                }
                if range.from.is_none() {
                    *range = Range { from: Some(header.start), to: header.start, transactions: 0 };
                }
            }
            Step::Begin(_, begin) if range.from.is_none() => {
                *range = Range { from: Some(begin.prev), to: begin.prev, transactions: 0 };
            }
            Step::Commit(..) | Step::Prepared(..) => {
                range.transactions += 1;
                range.to = reached.unwrap_or(range.to);
            }
            Step::Gap(gap) => {
                self.range(range, name, out);
                *range = Range { from: Some(gap.to), to: gap.to, transactions: 0 };
                if self.gaps_are_told {
                    return;
                }
                let what = format!("gap: the source lost {} to {} ({})", gap.from, gap.to, gap.reason);
                self.problem(name, at, &Error::new(Class::Gap, what), None, out);
            }
            Step::Abort(abort) => {
                let error = super::walk::abort_error(abort);
                self.problem(name, at, &error, None, out);
            }
            Step::Progress(progress) => {
                range.from.get_or_insert(progress.from);
                range.to = progress.to;
            }
            Step::Handover(_) | Step::SnapshotEnd(_) => range.to = reached.unwrap_or(range.to),
            _ => {}
        }
    }

    /// Prints the whole transactions of a damaged input. What was lost goes to `note`.
    pub fn salvage(
        &mut self,
        operand: &Operand,
        opening: &Opening,
        walk: &mut Walk<'_>,
        printer: &mut dyn Printer,
        out: &mut Output<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        if let Operand::Logs(paths) = operand
            && let [path] = paths.as_slice()
            && super::orphan::is_one(path)
        {
            super::orphan::salvage(path, out, note)?;
            self.count(Class::Damage);
            return Ok(());
        }
        let (mut input, failed) = Input::mapped(operand, opening)?;
        let told = input.take_problems();
        let bytes = input.bytes();
        let mut scan = Scan::new(bytes);
        let mut begun_at = None;
        let (mut lost_bytes, mut lost_transactions, mut saved) = (0u64, 0u64, 0u64);
        for problem in &told {
            self.count(problem.error.class());
            lost_transactions += u64::from(problem.lost.is_some());
            let at = problem.error.place().and_then(|place| place.at);
            lost_bytes += at.zip(problem.to).map_or(0, |(at, to)| to.saturating_sub(at));
            let lost = problem.lost.map_or(String::new(), |txid| format!("; transaction {txid} is lost"));
            note(&format!("{}{lost}; {}", one_line(&problem.error.to_string()), goes_on(problem.to)));
        }
        while let Some(found) = scan.next() {
            match found {
                Found::Frame(frame, step) => match step {
                    Step::Begin(..) => begun_at = Some(frame.at),
                    Step::Commit(position, commit) | Step::Prepared(position, commit) => {
                        let Some(start) = begun_at.take() else { continue };
                        let unknown =
                            commit.tables.iter().find(|table| !walk.defines(table.key, bytes, start, frame.at));
                        if let Some(table) = unknown {
                            lost_transactions += 1;
                            note(&format!(
                                "{}: byte {start}: transaction {} is whole, but the definition of its table {:016x} is lost",
                                input.name, position.txid, table.key
                            ));
                            self.count(Class::Damage);
                            continue;
                        }
                        if walk.replay(bytes, start, scan.at(), printer, out).map_err(|e| e.in_file(&input.name))? {
                            saved += 1;
                        }
                    }
                    Step::Discard(_) => begun_at = None,
                    Step::Data => {}
                    _ if begun_at.is_none() => {
                        walk.replay(bytes, frame.at, scan.at(), printer, out).map_err(|e| e.in_file(&input.name))?;
                    }
                    Step::Stream(..) | Step::Abort(_) => {
                        begun_at = None;
                        walk.replay(bytes, frame.at, scan.at(), printer, out).map_err(|e| e.in_file(&input.name))?;
                    }
                    _ => {}
                },
                Found::Problem { at, to, error, transaction } => {
                    begun_at = None;
                    lost_bytes += to - at;
                    lost_transactions += u64::from(transaction.is_some());
                    self.count(error.class());
                    let lost = match transaction {
                        Some(txid) => format!("; transaction {txid} is lost"),
                        None => String::new(),
                    };
                    let bytes = if to > at { format!("; {} bytes are passed over", to - at) } else { String::new() };
                    note(&format!("{}: byte {at}: {}{lost}{bytes}", input.name, one_line(error.what())));
                    walk.resynchronise(printer, out)?;
                }
            }
        }
        if let Some(error) = failed {
            self.count(error.class());
            note(&format!("{error}"));
        }
        note(&format!(
            "{}: {saved} whole transactions are shown; {lost_transactions} that had begun and {lost_bytes} bytes are lost",
            input.name
        ));
        Ok(())
    }

    /// How much was wrong so far.
    pub fn problems(&self) -> u64 {
        self.problems
    }

    /// The error of the run, if anything was wrong.
    pub fn into_result(self) -> Result<()> {
        match self.class {
            None => Ok(()),
            Some(class) => {
                let plural = if self.problems == 1 { "problem" } else { "problems" };
                Err(Error::new(class, format!("{} {plural}", self.problems)))
            }
        }
    }

    fn count(&mut self, class: Class) {
        self.problems += 1;
        let rank = |class: Class| match class {
            Class::Damage => 0,
            Class::Version => 1,
            Class::Gap => 2,
            Class::Torn => 4,
            _ => 3,
        };
        if self.class.is_none_or(|known| rank(class) < rank(known)) {
            self.class = Some(class);
        }
    }

    fn problem(&mut self, name: &str, at: u64, error: &Error, transaction: Option<Coordinate>, out: &mut Output<'_>) {
        self.problem_with(name, at, error, transaction, None, out);
    }

    /// `to`: where a source goes on, if it is one, and if it does in this file.
    fn problem_with(
        &mut self,
        name: &str,
        at: u64,
        error: &Error,
        transaction: Option<Coordinate>,
        to: Option<Option<u64>>,
        out: &mut Output<'_>,
    ) {
        self.count(error.class());
        let lost = transaction.map(|txid| txid.to_string());
        if self.json {
            let buffer = out.buffer();
            buffer.extend_from_slice(b"{\"kind\":\"problem\",\"file\":");
            put_json_string(buffer, name.as_bytes());
            buffer.extend_from_slice(format!(",\"at\":{at},\"status\":{}", error.class().exit_status()).as_bytes());
            buffer.extend_from_slice(b",\"message\":");
            put_json_string(buffer, error.what().as_bytes());
            if let Some(txid) = lost {
                buffer.extend_from_slice(format!(",\"lost\":\"{txid}\"").as_bytes());
            }
            if let Some(to) = to.flatten() {
                buffer.extend_from_slice(format!(",\"to\":{to}").as_bytes());
            }
            buffer.extend_from_slice(b"}\n");
        } else {
            out.text(&format!("{}: byte {at}: {}", one_line(name), one_line(error.what())));
            if let Some(txid) = lost {
                out.text(&format!("; transaction {txid} is lost"));
            }
            if let Some(to) = to {
                out.text(&format!("; {}", goes_on(to)));
            }
            out.text("\n");
        }
    }

    /// Writes the proven range and starts another.
    fn range(&mut self, range: &mut Range, name: &str, out: &mut Output<'_>) {
        let Range { from: Some(from), to, transactions } = std::mem::take(range) else { return };
        if from == to && transactions == 0 {
            return;
        }
        if self.json {
            let buffer = out.buffer();
            buffer.extend_from_slice(b"{\"kind\":\"contiguous\",\"file\":");
            put_json_string(buffer, name.as_bytes());
            buffer.extend_from_slice(
                format!(",\"from\":\"{from}\",\"to\":\"{to}\",\"transactions\":{transactions}}}\n").as_bytes(),
            );
        } else {
            out.text(&format!("{}: {from} to {to} is contiguous, {transactions} transactions\n", one_line(name)));
        }
    }

    fn summary(&self, name: &str, bytes: u64, (count, what): (u64, &str), problems: u64, out: &mut Output<'_>) {
        if self.json {
            let buffer = out.buffer();
            buffer.extend_from_slice(b"{\"kind\":\"verified\",\"file\":");
            put_json_string(buffer, name.as_bytes());
            buffer.extend_from_slice(
                format!(",\"bytes\":{bytes},\"{what}\":{count},\"problems\":{problems}}}\n").as_bytes(),
            );
        } else {
            let problems = match problems {
                0 => "no problem".to_owned(),
                1 => "1 problem".to_owned(),
                number => format!("{number} problems"),
            };
            out.text(&format!("{}: {bytes} bytes, {count} {what}, {problems}\n", one_line(name)));
        }
    }
}

/// Where a source goes on behind damage.
fn goes_on(to: Option<u64>) -> String {
    match to {
        Some(to) => format!("reading goes on at byte {to}"),
        None => "nothing more of this file can be decoded".into(),
    }
}
