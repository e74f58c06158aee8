//! A log whose database is gone: pages are all there is. What changed cannot be told without the pages before, but what
//! pages held can: rows of table leaves, under their table's name where the log also has the schema and the way there.
//!
//! Only pages of whole transactions are looked at, each in its last version of each transaction. What lies on overflow pages is
//! taken from the log too, if it is there. Damaged frames are passed over, and told; what comes next may then be the rest of a transaction that
//! has lost frames.

use std::collections::HashMap;
use std::sync::Arc;

use super::page::{DB_HEADER_LEN, DbHeader, Encoding, PageHead, TreeKind};
use super::record::{self, Field, Value};
use super::schema::{self, ObjectKind};
use super::wal::{self, FRAME_HEADER_LEN, ReadAt, Scanner, Span, Tail, be32, frame_at};
use crate::error::{Error, Result};

/// Receives what is found.
pub trait Finder {
    /// Frames that are damaged, or stand in one transaction with one that is. What is told next may be the rest of that transaction.
    fn lost(&mut self, first: u32, last: u32) -> Result<()>;
    /// A whole transaction: its frames, and how many pages the database had after it.
    fn transaction(&mut self, span: &Span, pages: usize) -> Result<()>;
    /// A page of it; `what` is its kind for a person.
    fn page(&mut self, frame: u32, page: u32, what: &str, table: Option<&str>) -> Result<()>;
    /// A row on that page. Text is in `encoding`; `lost` is the overflow page on which it goes on and that the log does not have.
    fn row(&mut self, rowid: Option<i64>, values: &[Value<'_>], encoding: Encoding, lost: Option<u32>) -> Result<()>;
}

/// Most bytes of one row that are put together.
const ROW_BYTES_MAX: u64 = 64 << 20;

struct Log<'a> {
    wal: &'a Arc<dyn ReadAt>,
    size: usize,
    usable: u32,
    encoding: Encoding,
    /// The last frame of each page so far.
    last: HashMap<u32, u32>,
    /// From child to parent, as interior pages said.
    parents: HashMap<u32, u32>,
    /// Names of tables by root page.
    names: HashMap<u32, String>,
}

impl Log<'_> {
    fn read(&self, frame: u32, out: &mut Vec<u8>) -> Result<()> {
        out.resize(self.size, 0);
        let at = frame_at(self.size as u32, frame) + FRAME_HEADER_LEN as u64;
        let got = self.wal.read_at(out, at).map_err(|e| Error::io("", e))?;
        if got < self.size { Err(Error::damage("the log ends inside a frame").at(at)) } else { Ok(()) }
    }

    fn table(&self, page: u32) -> Option<&str> {
        let mut page = page;
        for _ in 0..=super::page::DEPTH_MAX {
            if let Some(name) = self.names.get(&page) {
                return Some(name);
            }
            page = *self.parents.get(&page)?;
        }
        None
    }

    /// The payload of a cell as far as the log has it, and the first overflow page that it has not.
    fn payload(&self, local: &[u8], len: u64, overflow: u32) -> Result<(Vec<u8>, Option<u32>)> {
        let mut payload = local.to_vec();
        let mut next = overflow;
        let mut page = Vec::new();
        while next != 0 && (payload.len() as u64) < len.min(ROW_BYTES_MAX) {
            let Some(frame) = self.last.get(&next) else { return Ok((payload, Some(next))) };
            self.read(*frame, &mut page)?;
            next = be32(&page, 0);
            let left = usize::try_from(len - payload.len() as u64).unwrap_or(usize::MAX);
            let part = page.get(4..(self.usable as usize).min(left.saturating_add(4))).unwrap_or_default();
            payload.extend_from_slice(part);
        }
        Ok((payload, None))
    }

    fn rows(
        &self,
        number: u32,
        page: &[u8],
        head: &PageHead,
        mut tell: impl FnMut(Option<i64>, &[u8], &[Field], Option<u32>) -> Result<()>,
    ) -> Result<()> {
        let mut fields = Vec::new();
        for nth in 0..head.cells {
            let Ok(cell) = head.cell(number, page, self.usable, nth) else { continue };
            let from = cell.local_at as usize;
            let local = page.get(from..from + cell.local_len as usize).unwrap_or_default();
            let (payload, lost) = self.payload(local, cell.payload_len, cell.overflow)?;
            let rowid = (head.kind == TreeKind::Table).then_some(cell.rowid);
            match record::parse(&payload, &mut fields) {
                Ok(()) => tell(rowid, &payload, &fields, lost)?,
                // The header says more than there is: what is known is the key.
                Err(_) => tell(rowid, &[], &[], lost)?,
            }
        }
        Ok(())
    }

    /// Learns from page 1 what the schema's first page says.
    fn learn(&mut self, page: &[u8]) -> Result<()> {
        if let Ok(header) = DbHeader::parse(page.get(..DB_HEADER_LEN).unwrap_or_default()) {
            (self.usable, self.encoding) = (header.usable, header.encoding);
        }
        Ok(())
    }
}

/// Tells `finder` what the log's whole transactions hold; returns why it ends. `database` is its header, where that is there: else page 1 in the log says how
/// text is stored, and until then it is taken for UTF-8.
pub fn read(log_file: &Arc<dyn ReadAt>, database: Option<&DbHeader>, finder: &mut dyn Finder) -> Result<Tail> {
    let mut scanner = Scanner::new();
    if !scanner.restart(&**log_file)? {
        return Ok(Tail::NoHeader);
    }
    let size = scanner.header().map_or(0, |header| header.page_size);
    let database = database.filter(|header| header.page_size == size);
    let mut log = Log {
        wal: log_file,
        size: size as usize,
        usable: database.map_or(size, |header| header.usable),
        encoding: database.map_or(Encoding::Utf8, |header| header.encoding),
        last: HashMap::new(),
        parents: HashMap::new(),
        names: HashMap::new(),
    };
    let mut page = Vec::new();
    loop {
        let span = match scanner.next(&**log_file, None)? {
            Ok(span) => span,
            Err(tail) => {
                // Checksums are a chain, but each frame says what the next goes on from: so one damaged frame does not end the log.
                let from = scanner.mark();
                let header = *scanner.header().ok_or_else(|| Error::damage("the log's header is invalid"))?;
                let Some(mark) = wal::behind_damage(&**log_file, &header, from)? else { return Ok(tail) };
                finder.lost(from.frame + 1, mark.frame)?;
                scanner.seek(mark);
                continue;
            }
        };
        let mut of_transaction: Vec<(u32, u32)> = Vec::new();
        for (number, frame) in scanner.pages() {
            log.last.insert(number, frame);
        }
        for (number, frame) in scanner.pages() {
            if log.last.get(&number) == Some(&frame) {
                of_transaction.push((number, frame));
            }
        }
        finder.transaction(&span, of_transaction.len())?;
        of_transaction.sort_unstable();
        // First what says how to read the rest.
        for &(number, frame) in &of_transaction {
            log.read(frame, &mut page)?;
            if number == 1 {
                log.learn(&page)?;
            }
            let Some(head) = PageHead::peek(number, &page) else { continue };
            if !head.leaf && PageHead::parse(number, &page, head.kind).is_ok() {
                for nth in 0..=head.cells {
                    log.parents.insert(head.child(&page, nth), number);
                }
            }
        }
        for &(number, frame) in &of_transaction {
            log.read(frame, &mut page)?;
            let Some(head) = PageHead::peek(number, &page).filter(|head| head.leaf && head.kind == TreeKind::Table)
            else {
                continue;
            };
            // A leaf of the schema: page 1, or what hangs below it.
            if number == 1 || log.parents.get(&number) == Some(&1) {
                let mut found = Vec::new();
                let encoding = log.encoding;
                log.rows(number, &page, &head, |rowid, payload, fields, _| {
                    found.extend(schema::object(rowid.unwrap_or(0), payload, fields, encoding));
                    Ok(())
                })?;
                for object in found.into_iter().filter(|object| object.kind == ObjectKind::Table) {
                    log.names.insert(object.root, object.name);
                }
                log.names.insert(1, "sqlite_schema".into());
            }
        }
        for &(number, frame) in &of_transaction {
            log.read(frame, &mut page)?;
            let head = PageHead::peek(number, &page).filter(|head| PageHead::parse(number, &page, head.kind).is_ok());
            let what = match head {
                Some(head) if head.kind == TreeKind::Table && head.leaf => "leaf of a table",
                Some(head) if head.kind == TreeKind::Table => "interior page of a table",
                Some(head) if head.leaf => "leaf of an index",
                Some(_) => "interior page of an index",
                None => "overflow, free or pointer-map page",
            };
            finder.page(frame, number, what, log.table(number))?;
            if let Some(head) =
                head.filter(|head| head.leaf && (head.kind == TreeKind::Table || log.table(number).is_some()))
            {
                let encoding = log.encoding;
                log.rows(number, &page, &head, |rowid, payload, fields, lost| {
                    let values: Vec<Value<'_>> = fields.iter().map(|field| record::value(payload, *field)).collect();
                    finder.row(rowid, &values, encoding, lost)
                })?;
            }
        }
    }
}
