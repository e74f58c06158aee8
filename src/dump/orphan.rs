//! `--salvage` of a SQLite log without its database, and of what stands behind damage in one: pages and what stood on them, since changes cannot be told
//! without the pages before.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::escape::one_line;
use super::output::Output;
use crate::error::{Error, Result};
use crate::source::FileKind;
use crate::source::sqlite::orphan::{self, Finder};
use crate::source::sqlite::page::{DB_HEADER_LEN, DbHeader, Encoding};
use crate::source::sqlite::record::{self, Value};
use crate::source::sqlite::wal::{ReadAt, Span, Tail};

/// Bytes of one value that are shown.
const VALUE_BYTES_MAX: usize = 4096;

/// Whether `path` is a SQLite log.
pub fn is_log(path: &Path) -> bool {
    matches!(FileKind::of_file(path), Ok(FileKind::SqliteWal))
}

/// Whether `path` is a SQLite log whose database is not there.
pub fn is_one(path: &Path) -> bool {
    is_log(path) && database_of(path).is_none_or(|database| !database.exists())
}

fn database_of(log: &Path) -> Option<PathBuf> {
    log.to_string_lossy().strip_suffix("-wal").map(PathBuf::from)
}

/// What the database beside a log says of its pages.
fn header_of(log: &Path) -> Option<DbHeader> {
    let mut head = [0; DB_HEADER_LEN];
    File::open(database_of(log)?).ok()?.read_exact(&mut head).ok()?;
    DbHeader::parse(&head).ok()
}

struct Shown<'a, 'b> {
    out: &'a mut Output<'b>,
    scratch: Vec<u8>,
    transactions: u64,
    pages: u64,
    rows: u64,
    cut: u64,
    lost: u64,
    /// The next transaction may be the rest of one that has lost frames.
    after_loss: bool,
    /// What stands in front of the first damage is told elsewhere.
    silent: bool,
}

impl Finder for Shown<'_, '_> {
    fn lost(&mut self, first: u32, last: u32) -> Result<()> {
        self.silent = false;
        self.lost += u64::from(last - first) + 1;
        self.out.text(&format!(
            "\nframes {first} to {last} are damaged, or stand in a transaction with one that is: passed over\n"
        ));
        self.after_loss = true;
        self.out.spill()
    }

    fn transaction(&mut self, span: &Span, pages: usize) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        // A damaged frame may have been the last of the one before it; nobody can tell.
        let may_be_a_rest = std::mem::take(&mut self.after_loss);
        self.transactions += u64::from(!may_be_a_rest);
        let what = if may_be_a_rest { "transaction, or the rest of one," } else { "transaction" };
        self.out.text(&format!(
            "\n{what} of frames {} to {}: {pages} pages; the database has {} pages after it\n",
            span.first, span.last, span.db_pages
        ));
        self.out.spill()
    }

    fn page(&mut self, frame: u32, page: u32, what: &str, table: Option<&str>) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        self.pages += 1;
        let table = table.map(|name| format!(" {}", one_line(name))).unwrap_or_default();
        self.out.text(&format!("  page {page}, frame {frame}: {what}{table}\n"));
        Ok(())
    }

    fn row(&mut self, rowid: Option<i64>, values: &[Value<'_>], encoding: Encoding, lost: Option<u32>) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        self.rows += 1;
        let mut line = rowid.map_or_else(|| "    ".to_owned(), |rowid| format!("    rowid {rowid}: "));
        for (nth, value) in values.iter().enumerate() {
            if nth > 0 {
                line.push_str(", ");
            }
            match value {
                Value::Null => line.push_str("NULL"),
                Value::Int(n) => line.push_str(&n.to_string()),
                Value::Real(r) => line.push_str(&format!("{r:?}")),
                Value::Text(text) => {
                    record::to_utf8(text, encoding, &mut self.scratch);
                    let shown = self.scratch.get(..self.scratch.len().min(VALUE_BYTES_MAX)).unwrap_or_default();
                    let more = if shown.len() < self.scratch.len() { "…" } else { "" };
                    line.push_str(&format!(
                        "'{}'{more}",
                        one_line(&String::from_utf8_lossy(shown)).replace('\'', "''")
                    ));
                }
                Value::Blob(bytes) => {
                    line.push_str("0x");
                    bytes.iter().take(VALUE_BYTES_MAX).for_each(|byte| line.push_str(&format!("{byte:02x}")));
                    line.push_str(if bytes.len() > VALUE_BYTES_MAX { "…" } else { "" });
                }
            }
        }
        if let Some(page) = lost {
            self.cut += 1;
            line.push_str(&format!("  (goes on on page {page}, which the log does not have)"));
        }
        line.push('\n');
        self.out.text(&line);
        self.out.spill()
    }
}

/// Shows what the log at `path` holds. What is missing goes to `note`.
pub fn salvage(path: &Path, out: &mut Output<'_>, note: &mut dyn FnMut(&str)) -> Result<()> {
    let shown_name = one_line(&path.display().to_string());
    out.text(&format!(
        "{shown_name}: its database is missing. Pages have no base: what their rows were before is not known, nor what was deleted.\n"
    ));
    let counts = show(path, None, false, out, note)?;
    note(&format!(
        "{shown_name}: {counts}; with the database file beside it, `rlog-dump {shown_name}` tells the changes"
    ));
    Ok(())
}

/// Shows what the log at `path` holds behind the first damage: the database's pages do not tell any more what changed there.
pub fn behind(path: &Path, out: &mut Output<'_>, note: &mut dyn FnMut(&str)) -> Result<()> {
    let shown_name = one_line(&path.display().to_string());
    out.text(&format!(
        "\n{shown_name}: behind the damage pages have no base: what their rows were before is not known, nor what was deleted.\n"
    ));
    let counts = show(path, header_of(path), true, out, note)?;
    note(&format!("{shown_name}: behind the damage: {counts}"));
    Ok(())
}

/// Shows it, and returns the counts.
fn show(
    path: &Path,
    database: Option<DbHeader>,
    silent: bool,
    out: &mut Output<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<String> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::io(&name, error))?;
    let wal: Arc<dyn ReadAt> = Arc::new(file);
    let shown_name = one_line(&name);
    let mut shown = Shown {
        out,
        scratch: Vec::new(),
        transactions: 0,
        pages: 0,
        rows: 0,
        cut: 0,
        lost: 0,
        after_loss: false,
        silent,
    };
    let tail = orphan::read(&wal, database.as_ref(), &mut shown).map_err(|error| error.in_file(&name))?;
    let Shown { transactions, pages, rows, cut, lost, .. } = shown;
    match tail {
        Tail::NoHeader if silent => return Ok("nothing can be read without the log's header".into()),
        Tail::NoHeader => return Err(Error::damage("the log's header is invalid").in_file(&name).at(0)),
        Tail::Invalid => note(&format!("{shown_name}: a frame with a wrong checksum ends the log behind these")),
        Tail::Uncommitted { frames } => {
            note(&format!("{shown_name}: {frames} frames behind the last commit belong to no whole transaction"));
        }
        Tail::End | Tail::Stale => {}
    }
    if lost > 0 {
        note(&format!("{shown_name}: {lost} frames were passed over, since some of them are damaged"));
    }
    Ok(format!(
        "{transactions} whole transactions, {pages} pages without a base, {rows} rows on them, {cut} of these cut off"
    ))
}
