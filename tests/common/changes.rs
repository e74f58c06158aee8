//! Streams of frames made by hand: a small source whose tables and transactions a test says itself.

use rlog::event::record::{close_record, open_record};
use rlog::event::rows::{RowsHead, set_row_count};
use rlog::event::table::{Column, ColumnKind, KeyPart, StringForm};
use rlog::event::{RecordKind, RowsOp, Sign, Statement, TableDefinition};
use rlog::frame::{
    Abort, Begin, Chunk, Commit, Coordinate, End, FrameWriter, Incarnation, Kind, Position, Progress, StreamHeader,
    begin_flags,
};

/// A value of [`table`]: id, v.
pub type Cells<'a> = (i32, Option<&'a str>);

/// `database.name (id INT PRIMARY KEY, v VARCHAR(100))`.
pub fn table(database: &str, name: &str) -> TableDefinition {
    let mut id = Column::new("id", ColumnKind::Int { bytes: 4, sign: Sign::Signed });
    id.nullable = Some(false);
    let mut v = Column::new("v", ColumnKind::String { form: StringForm::VarChar, bytes_max: 400 });
    v.charset = "utf8mb4".into();
    v.nullable = Some(true);
    TableDefinition {
        database: database.into(),
        table: name.into(),
        columns: vec![id, v],
        primary_key: vec![KeyPart { column: 0, prefix: 0 }],
        keys_known: true,
        names_known: true,
        family: "mariadb".into(),
        ..TableDefinition::default()
    }
}

/// The records of a transaction.
#[derive(Clone, Default)]
pub struct Records {
    bytes: Vec<u8>,
    definitions: Vec<TableDefinition>,
}

impl Records {
    fn image(out: &mut Vec<u8>, (id, v): Cells<'_>) {
        out.push(u8::from(v.is_none()) << 1);
        out.extend_from_slice(&id.to_le_bytes());
        if let Some(v) = v {
            assert!(v.len() < 128);
            out.push(v.len() as u8);
            out.extend_from_slice(v.as_bytes());
        }
    }

    fn rows(
        mut self,
        table: &TableDefinition,
        op: RowsOp,
        before: Option<Cells<'_>>,
        after: Option<Cells<'_>>,
    ) -> Records {
        if !self.definitions.contains(table) {
            self.definitions.push(table.clone());
        }
        let at = open_record(&mut self.bytes, op.record_kind());
        let head =
            RowsHead { key: table.key(), time_s: 0, columns: 2, before: &[3], after: &[3], unchanged: &[], diff: &[] };
        let count = head.encode(op, &mut self.bytes);
        for cells in [before, after].into_iter().flatten() {
            Records::image(&mut self.bytes, cells);
        }
        set_row_count(&mut self.bytes, count, 1);
        close_record(&mut self.bytes, at).unwrap();
        self
    }

    /// A row is inserted.
    pub fn insert(self, table: &TableDefinition, row: Cells<'_>) -> Records {
        self.rows(table, RowsOp::Insert, None, Some(row))
    }

    /// A row is updated.
    pub fn update(self, table: &TableDefinition, before: Cells<'_>, after: Cells<'_>) -> Records {
        self.rows(table, RowsOp::Update, Some(before), Some(after))
    }

    /// A row is deleted.
    pub fn delete(self, table: &TableDefinition, row: Cells<'_>) -> Records {
        self.rows(table, RowsOp::Delete, Some(row), None)
    }

    /// A statement or DDL.
    pub fn statement(mut self, kind: RecordKind, statement: &Statement<'_>) -> Records {
        let at = open_record(&mut self.bytes, kind);
        statement.encode(&mut self.bytes);
        close_record(&mut self.bytes, at).unwrap();
        self
    }
}

/// A source that writes a stream.
pub struct Source {
    writer: FrameWriter,
    /// What it has reached.
    pub at: u64,
    /// Its life.
    pub incarnation: Incarnation,
    /// Added to each commit's digest: another history.
    pub digest: u32,
    /// Whether the next transactions say that they depend on the one before.
    pub serial: bool,
    last: u64,
    /// Origins of the next transactions.
    pub origins: Vec<String>,
    /// When the next transactions commit, microseconds since 1970 UTC; 0: at times that follow from their places.
    pub time_us: i64,
    header: StreamHeader,
}

impl Source {
    /// A MariaDB whose log starts at 1:4.
    pub fn new() -> Source {
        Source::of("mariadb", 7)
    }

    /// Of a family, with a server hash.
    pub fn of(family: &str, server: u32) -> Source {
        let incarnation = Incarnation::new(server, 1_700_000_000);
        let at = Coordinate::new(1, 4).unwrap().0;
        let header = StreamHeader {
            source: family.into(),
            incarnation,
            start: Coordinate(at),
            cascades_logged: Some(family == "sqlite"),
            ..StreamHeader::default()
        };
        let mut source = Source {
            writer: FrameWriter::new(),
            at,
            incarnation,
            digest: 0,
            serial: false,
            last: 0,
            origins: Vec::new(),
            time_us: 0,
            header,
        };
        source.stream();
        source
    }

    /// Another stream header, from where the source is now.
    pub fn stream(&mut self) {
        self.header.start = Coordinate(self.at);
        let header = self.header.clone();
        self.writer.frame(Kind::Stream, |out| header.encode(out));
    }

    /// Another stream header, of a source with this server id.
    pub fn server_id(&mut self, id: u32) {
        self.header.server_id = id;
        self.stream();
    }

    /// A transaction; returns its position.
    pub fn transaction(&mut self, records: Records) -> Position {
        self.transaction_with(records, 0, Kind::Commit)
    }

    /// A transaction that stands alone.
    pub fn barrier(&mut self, records: Records) -> Position {
        self.transaction_with(records, begin_flags::BARRIER, Kind::Commit)
    }

    /// A transaction that waits for its XA decision.
    pub fn prepared(&mut self, records: Records) -> Position {
        self.transaction_with(records, 0, Kind::Prepared)
    }

    /// A chunk of a snapshot at what has been reached.
    pub fn chunk(&mut self, records: Records, chunk: Chunk) {
        let begin = Begin {
            prev: Coordinate(self.at),
            flags: begin_flags::SNAPSHOT,
            incarnation: self.incarnation,
            chunk: Some(chunk),
            ..Begin::default()
        };
        for definition in &records.definitions {
            let mut payload = Vec::new();
            definition.encode(&mut payload);
            self.writer.definition(definition.key(), &payload);
        }
        self.writer.begin(Coordinate(self.at), &begin);
        rlog::event::record::write_payload(&mut self.writer, &records.bytes);
        let mut commit = Commit { end: Coordinate(self.at), incarnation: self.incarnation, ..Commit::default() };
        self.writer.commit(Kind::Commit, &mut commit);
    }

    fn transaction_with(&mut self, records: Records, flags: u64, kind: Kind) -> Position {
        let txid = Coordinate(self.at);
        let begin = Begin {
            prev: txid,
            window_start: Coordinate(if self.serial { self.last } else { 0 }),
            flags,
            incarnation: self.incarnation,
            origins: self.origins.clone(),
            ..Begin::default()
        };
        for definition in &records.definitions {
            let mut payload = Vec::new();
            definition.encode(&mut payload);
            self.writer.definition(definition.key(), &payload);
        }
        self.last = txid.0;
        self.writer.begin(txid, &begin);
        rlog::event::record::write_payload(&mut self.writer, &records.bytes);
        self.at += 100;
        let mut commit = Commit {
            end: Coordinate(self.at),
            incarnation: self.incarnation,
            source_digest: (self.at as u32).wrapping_mul(2_654_435_761) ^ self.digest,
            time_us: match self.time_us {
                0 => 1_790_000_000_000_000 + self.at as i64 * 1_000,
                time_us => time_us,
            },
            ..Commit::default()
        };
        self.writer.commit(kind, &mut commit);
        commit.position(txid)
    }

    /// A range without transactions.
    pub fn progress(&mut self) {
        let from = self.at;
        self.at += 100;
        let progress = Progress {
            from: Coordinate(from),
            to: Coordinate(self.at),
            incarnation: self.incarnation,
            ..Progress::default()
        };
        self.writer.frame(Kind::Progress, |out| progress.encode(out));
    }

    /// The source goes on in its next file.
    pub fn next_file(&mut self) {
        let from = self.at;
        let file = Coordinate(from).file() + 1;
        self.at = Coordinate::new(file, 4).unwrap().0;
        // What the next file's stamp is, the end of this one does not say.
        let progress = Progress {
            from: Coordinate(from),
            to: Coordinate(self.at),
            incarnation: self.incarnation,
            ..Progress::default()
        };
        self.writer.frame(Kind::Progress, |out| progress.encode(out));
        self.incarnation = Incarnation::new(self.incarnation.server(), self.incarnation.stamp() + 1);
    }

    /// Any other frame.
    pub fn frame(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) {
        self.writer.frame(kind, encode);
    }

    /// The stream so far, and then its writer fails.
    pub fn abort(&self, status: u8) -> Vec<u8> {
        let abort = Abort { status, message: "the disk is on fire".into(), reached: Coordinate(self.at) };
        let mut last = FrameWriter::new();
        last.frame(Kind::Abort, |out| abort.encode(out));
        [self.writer.bytes(), last.bytes()].concat()
    }

    /// What was written so far, without an end.
    pub fn unfinished(&self) -> Vec<u8> {
        self.writer.bytes().to_vec()
    }

    /// The stream so far with its end. The source may go on.
    pub fn end(&self) -> Vec<u8> {
        let end = End { reached: Coordinate(self.at), incarnation: self.incarnation, ..End::default() };
        let mut last = FrameWriter::new();
        last.frame(Kind::End, |out| end.encode(out));
        [self.writer.bytes(), last.bytes()].concat()
    }
}
