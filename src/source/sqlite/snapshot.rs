//! A snapshot: every row that exists where a decoder stands, and the objects of the schema, before the log from exactly there.

use std::sync::Arc;

use super::ddl::Ddl;
use super::decode::{Change, Decoder, Sink, Txn};
use super::events::{Encoder, if_not_exists};
use super::schema::ObjectKind;
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Chunk, Kind, Snapshot};

/// A chunk is closed when it has this many bytes.
const CHUNK_BYTES: usize = 512 << 10;

/// Every row that exists at this position, and the objects of the schema. `digest` is the source's evidence of the position.
pub fn snapshot(encoder: &mut Encoder, decoder: &mut Decoder, filter: &TableFilter, digest: u32) -> Result<()> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|e| Error::new(Class::Io, format!("no random numbers: {e}")))?;
    let snapshot = Snapshot {
        uuid,
        at: encoder.reached(),
        incarnation: encoder.place().incarnation(),
        digest,
        ..Snapshot::default()
    };
    encoder.writer().frame(Kind::SnapshotBegin, |out| snapshot.encode(out));
    let schema = Arc::clone(decoder.schema());
    let mut ordinal = 0;
    let chunk = |table: u64, number: u64| Chunk { snapshot: uuid, table, number };

    encoder.begin_chunk(chunk(0, ordinal));
    let tables: Vec<_> =
        schema.tables.iter().filter(|table| !table.is_system() && encoder.tells(&table.name)).collect();
    for table in &tables {
        encoder.ddl_text("create table", &table.name, &if_not_exists(&table.sql))?;
    }
    encoder.end_chunk()?;
    ordinal += 1;
    for table in &tables {
        let key = encoder.key_of(table);
        let mut rows = SnapshotRows { encoder: &mut *encoder, key, number: 0, uuid, open: false };
        decoder.scan_table(table, &mut rows)?;
        rows.close()?;
    }
    encoder.begin_chunk(chunk(0, ordinal));
    let told = |encoder: &Encoder, name: &str| encoder.tells(name);
    let all = filter.is_empty();
    for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Virtual && all) {
        let sql = object.sql.clone().unwrap_or_default();
        encoder.declare_virtual(&object.name, &sql)?;
    }
    for kind in [ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
        for object in schema.objects.iter().filter(|object| object.kind == kind) {
            if let Some(sql) = object.sql.as_ref().filter(|_| told(encoder, &object.table)) {
                encoder.ddl_text("create", &object.name, &if_not_exists(sql))?;
            }
        }
    }
    for (table, value) in decoder.sequences()? {
        if encoder.tells(&table) {
            encoder.sequence_text(&table, Some(value))?;
        }
    }
    encoder.end_chunk()?;
    encoder.writer().frame(Kind::SnapshotEnd, |out| snapshot.encode(out));
    Ok(())
}

/// Cuts the rows of a table into chunks.
struct SnapshotRows<'a> {
    encoder: &'a mut Encoder,
    key: u64,
    number: u64,
    uuid: [u8; 16],
    open: bool,
}

impl SnapshotRows<'_> {
    fn close(&mut self) -> Result<()> {
        if std::mem::take(&mut self.open) {
            self.number += 1;
            self.encoder.end_chunk()?;
        }
        Ok(())
    }
}

impl Sink for SnapshotRows<'_> {
    fn begin(&mut self, _: &Txn) -> Result<()> {
        Ok(())
    }

    fn ddl(&mut self, _: &Ddl) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        if !self.open {
            self.encoder.begin_chunk(Chunk { snapshot: self.uuid, table: self.key, number: self.number });
            self.open = true;
        }
        Sink::row(self.encoder, change)?;
        if self.encoder.chunk_bytes() > CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn sequence(&mut self, _: &str, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: &Txn) -> Result<()> {
        Ok(())
    }
}
