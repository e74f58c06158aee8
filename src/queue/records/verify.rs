//! Checks everything that a log holds, record by record; damage of one does not hide the next.

use crate::error::{Error, Result};
use crate::frame::Kind;

use super::super::{ReadFrom, ReadMode, Tail, Verified};
use super::{Log, LogReader, read_state};

/// Reads every record. `seen` is told of each transaction: number of its unit and position.
pub(in super::super) fn verify<L: Log>(
    log: L,
    finding: &mut dyn FnMut(Error),
    seen: &mut dyn FnMut(&Tail) -> Result<()>,
) -> Result<Verified> {
    let mut out = Verified::default();
    let mut report = |out: &mut Verified, error: Error| {
        out.errors += 1;
        finding(error);
    };
    let mut reader = match LogReader::open(log, &ReadFrom::Oldest, ReadMode::ONCE) {
        Ok(reader) => reader,
        Err(error) => {
            report(&mut out, error);
            return Ok(out);
        }
    };
    let mut record = 0;
    loop {
        let step = reader.step();
        if reader.record() != record {
            record = reader.record();
            out.files += 1;
        }
        match step {
            Ok(None) => break,
            Ok(Some((kind, _))) => {
                if matches!(kind, Some(Kind::Commit | Kind::Prepared)) {
                    out.transactions += 1;
                    if let Err(error) = seen(reader.tail()) {
                        report(&mut out, error);
                    }
                }
            }
            Err(error) => {
                report(&mut out, error);
                if !resume(&mut reader)? {
                    break;
                }
            }
        }
    }
    Ok(out)
}

/// Goes on behind the record at hand; `false` when there is no further.
fn resume<L: Log>(reader: &mut LogReader<L>) -> Result<bool> {
    let after = reader.record();
    let last = reader.log().last()?;
    let Some(next) = reader.log().next(after)?.filter(|next| *next <= last) else { return Ok(false) };
    let mut bytes = Vec::new();
    reader.log().piece(&mut bytes)?;
    // Damage of its head is found when it is read: then it is stepped over as well.
    let tail = read_state(&bytes).map_or_else(|_| Tail::default(), |segment| Tail::at_segment(&segment));
    reader.skip_to(next - 1, tail)?;
    Ok(true)
}
