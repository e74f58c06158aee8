//! `rlog-apply run --dry-run`: what would be applied, as SQL. `apply::preview` chooses, `dump` prints.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::tz::TimeZone;

use super::{RunArguments, eprint_line, open_to_look};
use crate::apply::options::{From, Init, Options};
use crate::apply::preview::preview;
use crate::dump::{self, Action, Format, sql::Dialect};
use crate::error::{Class, Error, Result};

pub(super) fn run(arguments: &RunArguments, from: &From, options: &Options, stop: &Arc<AtomicBool>) -> Result<()> {
    let mut target = match open_to_look(&arguments.place.target) {
        Ok(target) => Some(target),
        // It would be created.
        Err(error) if error.class() == Class::NoInput && options.init == Some(Init::Empty) => None,
        Err(error) => return Err(error),
    };
    let dialect = match target.as_ref().map_or("sqlite", |target| target.properties().family.as_str()) {
        "mariadb" => Dialect::MariaDb,
        "mysql" => Dialect::MySql,
        _ => Dialect::Sqlite,
    };
    // What is printed comes from a second reading, so that a writer's death is known before the first line.
    let mut file = tempfile::NamedTempFile::new().map_err(|error| Error::io("temporary file", error))?;
    let counts = match &mut target {
        Some(target) => preview(Some(&mut **target), from, options, stop, &mut file)?,
        None => preview(None, from, options, stop, &mut file)?,
    };
    file.flush().map_err(|error| Error::io("temporary file", error))?;
    if counts.transactions > 0 {
        let print = dump::Options {
            inputs: vec![file.path().to_owned()],
            action: Action::Print,
            format: Format::Sql,
            dialect: Some(dialect),
            zone: TimeZone::UTC,
            ..dump::Options::default()
        };
        let mut out = std::io::stdout().lock();
        dump::run(&print, &mut out, &mut |note| crate::cli::note(super::TOOL.name, note))?;
        out.flush().map_err(|error| Error::io("standard output", error))?;
    }
    if !arguments.quiet {
        eprint_line(&format!(
            "rlog-apply: dry run: {} transactions would be applied, {} passed over; nothing was changed",
            counts.transactions, counts.passed_over
        ));
    }
    Ok(())
}
