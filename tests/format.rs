//! The format has one description, rlog-format(5): these tests read its tables and compare them with the code, and
//! read the golden files of every released version.

use std::collections::BTreeMap;
use std::path::Path;

use rlog::event::{RecordKind, RecordReader, Rows, RowsOp, Statement, TableDefinition, statement, table};
use rlog::frame::{self, Checker, SliceFrames, Step};

const MANUAL: &str = include_str!("../man/rlog-format.5");

/// The rows of a table of the manual, split at blanks, without the words behind the columns that are compared.
fn rows_of(name: &str) -> Vec<Vec<&'static str>> {
    let start = format!(".\\\" TABLE {name}\n");
    let (_, rest) = MANUAL.split_once(&start).unwrap_or_else(|| panic!("no table {name} in the manual"));
    let (rows, _) = rest.split_once(".\\\" END\n").expect("the table ends");
    rows.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn numbered(name: &str) -> Vec<(u64, String)> {
    rows_of(name).iter().map(|row| (row[0].parse().expect("a number"), row[1].to_owned())).collect()
}

#[test]
fn header_offsets_are_those_in_the_manual() {
    let manual: Vec<(usize, usize, &str)> = rows_of("HEADER")
        .iter()
        .skip(1)
        .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2]))
        .collect();
    assert_eq!(manual, frame::header::LAYOUT);
    assert!(MANUAL.contains(&format!("header of {} bytes", frame::HEADER_LEN)));
    assert!(MANUAL.contains(&format!("at most {} bytes", frame::FRAME_PAYLOAD_MAX)));
    assert!(MANUAL.contains(&format!("data exceed {} bytes", frame::TRANSACTION_ALONE_ABOVE_BYTES)));
}

#[test]
fn frame_and_record_kinds_are_those_in_the_manual() {
    let code: Vec<_> =
        frame::Kind::ALL.iter().map(|(_, number, name)| (u64::from(*number), name.to_string())).collect();
    assert_eq!(numbered("KINDS"), code);
    let code: Vec<_> = RecordKind::ALL.iter().map(|(_, number, name)| (u64::from(*number), name.to_string())).collect();
    assert_eq!(numbered("RECORDS"), code);
}

#[test]
fn every_field_has_the_tag_that_the_manual_gives_it() {
    let tables = [frame::envelope::FIELD_TABLES, table::FIELD_TABLES, statement::FIELD_TABLES].concat();
    for (name, code) in tables {
        let code: BTreeMap<u64, String> = code.iter().map(|(tag, name)| (u64::from(*tag), name.to_string())).collect();
        let manual: BTreeMap<u64, String> = numbered(name).into_iter().collect();
        assert_eq!(manual, code, "table {name}");
    }
}

#[test]
fn column_kinds_are_those_in_the_manual() {
    let manual: Vec<(u8, &str, usize)> =
        rows_of("COLUMN-KINDS").iter().map(|row| (row[0].parse().unwrap(), row[1], row[2].parse().unwrap())).collect();
    assert_eq!(manual, table::COLUMN_KINDS);
}

/// Reads every value of a stream and returns how many transactions, rows and statements it holds.
fn read_all(bytes: &[u8]) -> (usize, usize, usize) {
    let mut frames = SliceFrames::new(bytes, 0);
    let mut checker = Checker::contiguous();
    let mut tables = BTreeMap::new();
    let mut records = RecordReader::new();
    let (mut transactions, mut rows_seen, mut statements) = (0, 0, 0);
    while let Some(frame) = frames.next().expect("frames are whole") {
        match checker.frame(&frame).expect("frames are in order") {
            Step::Definition(key) => drop(tables.insert(key, TableDefinition::decode(frame.payload).unwrap())),
            Step::Commit(..) | Step::Prepared(..) => transactions += 1,
            Step::Data => {
                let mut records = records.frame(&frame);
                while let Some((kind, body)) = records.next().unwrap() {
                    let Some(op) = RowsOp::of_record(kind) else {
                        Statement::decode(body).unwrap();
                        statements += 1;
                        continue;
                    };
                    let rows = Rows::decode(op, body).unwrap();
                    let mut iter = rows.iter(&tables[&rows.key]).unwrap();
                    while let Some(row) = iter.next().unwrap() {
                        for image in [row.before, row.after].into_iter().flatten() {
                            assert!(image.columns().all(|value| value.is_ok()));
                        }
                        rows_seen += 1;
                    }
                }
            }
            _ => {}
        }
    }
    assert!(checker.finished());
    (transactions, rows_seen, statements)
}

/// `tests/golden/v1/*.rlog` beside a text that says what each holds: `transactions rows statements`.
#[test]
fn golden_files_of_every_version_are_read_for_ever() {
    let mut seen = 0;
    for version in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "rlog") {
                let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
                let (transactions, rows, statements) = read_all(&std::fs::read(&path).unwrap());
                assert_eq!(format!("{transactions} {rows} {statements}\n"), expected, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "there are golden files");
}

/// Every frame kind of the envelope, every record kind, every column kind, in one stream.
fn every_kind() -> Vec<u8> {
    use rlog::event::record::{close_record, open_record};
    use rlog::event::rows::{RowsHead, set_row_count};
    use rlog::event::statement::{UserValue, UserVariable};
    use rlog::event::table::{Column, ColumnKind, Key, KeyPart, Sign, StringForm};
    use rlog::frame::*;

    let at = |offset| Coordinate::new(42, offset).unwrap();
    let incarnation = Incarnation::new(7, 1_700_000_000);
    let mut kinds = vec![ColumnKind::Float, ColumnKind::Double, ColumnKind::Year, ColumnKind::Date];
    kinds.extend([1, 2, 3, 4, 8].map(|bytes| ColumnKind::Int { bytes, sign: Sign::Unsigned }));
    kinds.extend([Sign::Unknown, Sign::Signed].map(|sign| ColumnKind::Int { bytes: 4, sign }));
    kinds.extend([ColumnKind::Decimal { precision: 65, scale: 30 }, ColumnKind::Bit { bits: 10 }]);
    kinds.extend([ColumnKind::Time { fsp: 6 }, ColumnKind::DateTime { fsp: 3 }, ColumnKind::Timestamp { fsp: 0 }]);
    kinds.extend([ColumnKind::String { form: StringForm::VarChar, bytes_max: 80 }, ColumnKind::Enum, ColumnKind::Set]);
    kinds.extend([ColumnKind::JsonBinary, ColumnKind::Geometry, ColumnKind::Vector, ColumnKind::Any]);
    let mut image = vec![0u8; kinds.len().div_ceil(8)];
    for kind in &kinds {
        let bytes = match *kind {
            ColumnKind::Int { bytes, .. } => usize::from(bytes),
            ColumnKind::Float => 4,
            ColumnKind::Year | ColumnKind::Enum | ColumnKind::Bit { .. } => 2,
            ColumnKind::Date => 3,
            ColumnKind::Decimal { precision, scale } => table::decimal_len(precision, scale),
            ColumnKind::Any => {
                image.extend_from_slice(&[3, 4]);
                4
            }
            ColumnKind::String { .. } | ColumnKind::JsonBinary | ColumnKind::Geometry | ColumnKind::Vector => {
                image.push(5);
                5
            }
            _ => 8,
        };
        image.extend((0..bytes as u8).map(|byte| byte + 1));
    }
    let mut columns: Vec<Column> =
        kinds.iter().enumerate().map(|(index, kind)| Column::new(format!("c{index}"), *kind)).collect();
    columns[0].nullable = Some(false);
    columns[17].members = vec![b"one".to_vec(), vec![0xe9]];
    columns[17].charset = "latin1".into();
    columns[17].collation = 8;
    columns[3].generated = true;
    columns[4].default_sql = "'7'".into();
    columns[4].sql_type = "tinyint(4) unsigned".into();
    let definition = TableDefinition {
        database: "shop".into(),
        table: "everything".into(),
        columns,
        primary_key: vec![KeyPart { column: 4, prefix: 0 }],
        keys_known: true,
        unique_keys: vec![Key { name: "u".into(), parts: vec![KeyPart { column: 16, prefix: 10 }] }],
        names_known: true,
        family: "mariadb".into(),
        create_sql: String::new(),
        foreign_keys: Some(false),
    };

    let mut writer = FrameWriter::new();
    let header = StreamHeader {
        source: "mariadb".into(),
        server_version: "10.11.19-MariaDB".into(),
        incarnation,
        server_id: 1,
        start: at(4),
        log_name: "mysql-bin".into(),
        filters: "do-db shop".into(),
        cascades_logged: Some(false),
        gtid_state: "0-1-99".into(),
        facts: vec!["binlog_format=ROW".into()],
        windows: "source".into(),
        ..StreamHeader::default()
    };
    writer.frame(Kind::Stream, |out| header.encode(out));
    writer.frame(Kind::SnapshotBegin, |out| Snapshot { uuid: [9; 16], at: at(4), ..Snapshot::default() }.encode(out));
    writer.frame(Kind::SnapshotEnd, |out| Snapshot { uuid: [9; 16], at: at(4), ..Snapshot::default() }.encode(out));
    let progress = |from, to| Progress { from: at(from), to: at(to), incarnation, ..Progress::default() };
    writer.frame(Kind::Progress, |out| progress(4, 300).encode(out));
    writer.frame(Kind::Heartbeat, |out| progress(300, 300).encode(out));

    let mut payload = Vec::new();
    definition.encode(&mut payload);
    writer.definition(definition.key(), &payload);
    let full = vec![0xff; kinds.len().div_ceil(8)];
    let mut records = Vec::new();
    for op in [RowsOp::Insert, RowsOp::Update, RowsOp::Delete] {
        let record = open_record(&mut records, op.record_kind());
        let head = RowsHead {
            key: definition.key(),
            time_s: 1_700_000_001,
            columns: kinds.len(),
            before: &full,
            after: &full,
            unchanged: &[],
            diff: &[],
        };
        let count = head.encode(op, &mut records);
        for _ in 0..if op == RowsOp::Update { 2 } else { 1 } {
            records.extend_from_slice(&image);
        }
        set_row_count(&mut records, count, 1);
        close_record(&mut records, record).unwrap();
    }
    let text = Statement {
        sql: b"INSERT INTO t SELECT @a".as_slice().into(),
        database: "shop".into(),
        time_s: 1_700_000_002,
        sql_mode: Some(1),
        charset: Some((33, 33, 8)),
        rand: Some((1, 2)),
        user_variables: vec![UserVariable { name: b"a".to_vec(), value: Some(UserValue::Int(-1)), collation: 0 }],
        tables: vec![("shop".into(), "t".into())],
        ..Statement::default()
    };
    for (kind, _, _) in RecordKind::ALL.iter().filter(|(kind, ..)| RowsOp::of_record(*kind).is_none()) {
        let record = open_record(&mut records, *kind);
        text.encode(&mut records);
        close_record(&mut records, record).unwrap();
    }
    let begin = Begin {
        prev: at(300),
        window_start: at(4),
        flags: begin_flags::BARRIER,
        incarnation,
        gtid: "0-1-100".into(),
        server_id: 1,
        thread: 12,
        origins: vec!["a8098c1a-f86e-11da-bd1a-00112444be1e".into()],
        time_us: 1_700_000_001_000_000,
        ..Begin::default()
    };
    let commit = |end: u64| Commit { end: at(end), incarnation, source_digest: 0x1a2b_3c4d, ..Commit::default() };
    writer.begin(at(300), &begin);
    rlog::event::record::write_payload(&mut writer, &records);
    let tables = vec![TableCount { key: definition.key(), inserts: 1, updates: 1, deletes: 1 }];
    let counted =
        Commit { tables, statements: 6, gtid: "0-1-100".into(), time_us: 1_700_000_003_000_000, ..commit(900) };
    writer.commit(Kind::Commit, &mut counted.clone());
    writer.begin(at(900), &Begin { prev: at(900), incarnation, xid: vec![1, 2, 3], ..Begin::default() });
    writer.commit(Kind::Prepared, &mut Commit { xid: vec![1, 2, 3], ..commit(1000) });
    writer.begin(at(1000), &Begin { prev: at(1000), incarnation, ..Begin::default() });
    writer.discard();
    writer.frame(Kind::Gap, |out| Progress { reason: "file missing".into(), ..progress(1000, 2000) }.encode(out));
    let handover = Handover { from: incarnation, to: Incarnation::new(8, 1), start: at(2000), ..Handover::default() };
    writer.frame(Kind::Handover, |out| handover.encode(out));
    let end = End { reached: at(2000), incarnation, transactions: 2, notes: vec!["a note".into()], ..End::default() };
    writer.frame(Kind::End, |out| end.encode(out));
    writer.bytes().to_vec()
}

/// Fails when a byte of version 1 changes, which only a new version may do. `BLESS=1` writes a file that is missing, and never over one.
#[test]
fn what_is_written_today_is_what_the_golden_file_of_its_version_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/every-kind.rlog");
    let bytes = every_kind();
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let (transactions, rows, statements) = read_all(&bytes);
        std::fs::write(path.with_extension("expected"), format!("{transactions} {rows} {statements}\n")).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == bytes, "the golden file differs from what is written today");
}

/// The fields of a type in the Kaitai description: name and either a width in bytes or the field that holds the size.
fn kaitai_fields(text: &str, type_name: &str) -> Vec<(String, Result<usize, String>)> {
    let (_, rest) = text.split_once(&format!("\n  {type_name}:\n")).expect("the type is described");
    let mut fields: Vec<(String, Result<usize, String>)> = Vec::new();
    for line in rest.lines().take_while(|line| line.starts_with("    ")) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("- id: ") {
            fields.push((name.to_owned(), Ok(0)));
        } else if let Some(last) = fields.last_mut() {
            if let Some(width) = line.strip_prefix("type: u") {
                last.1 = Ok(width.parse().unwrap());
            } else if let Some(list) = line.strip_prefix("contents: [") {
                last.1 = Ok(list.split(',').count());
            } else if let Some(size) = line.strip_prefix("size: ") {
                last.1 = Err(size.to_owned());
            }
        }
    }
    fields
}

fn kaitai_enum(text: &str, name: &str) -> Vec<(u8, String)> {
    let (_, rest) = text.split_once(&format!("\n  {name}:\n    1:")).expect("the enum is described");
    let rows = format!("    1:{rest}");
    let rows = rows.lines().take_while(|line| line.starts_with("    "));
    rows.map(|row| row.trim().split_once(": ").unwrap())
        .map(|(n, name)| (n.parse().unwrap(), name.to_owned()))
        .collect()
}

#[test]
fn the_kaitai_description_walks_the_golden_file_as_the_code_does() {
    let text = include_str!("../misc/rlog.ksy");
    let bytes = every_kind();
    let fields = kaitai_fields(text, "frame");
    let mut at = 0;
    let mut frames = SliceFrames::new(&bytes, 0);
    while let Some(frame) = frames.next().unwrap() {
        let mut values = BTreeMap::new();
        for (name, size) in &fields {
            let size = size.clone().unwrap_or_else(|field| values[&field]);
            let raw = &bytes[at..at + size];
            let number = raw.iter().take(8).rev().fold(0usize, |sum, byte| sum.wrapping_shl(8) | usize::from(*byte));
            values.insert(name.clone(), number);
            at += size;
        }
        let header = frame.header;
        assert_eq!((values["kind"], values["flags"]), (header.kind.into(), header.flags.into()));
        assert_eq!((values["seq"], values["id"] as u64), (header.seq as usize, header.id));
        assert_eq!(values["payload_crc"], header.payload_crc as usize);
        assert_eq!(at, frames.at());
    }
    assert_eq!(at, bytes.len());
    let plain = |name: &str| name.replace('-', "_");
    let kinds: Vec<_> = frame::Kind::ALL.iter().map(|(_, number, name)| (*number, plain(name))).collect();
    assert_eq!(kaitai_enum(text, "kind"), kinds);
    let kinds: Vec<_> = RecordKind::ALL.iter().map(|(_, number, name)| (*number, plain(name))).collect();
    assert_eq!(kaitai_enum(text, "record_kind"), kinds);
}

mod properties {
    //! Encode, decode, equal.
    use proptest::prelude::*;
    use rlog::event::table::{Column, ColumnKind, Key, KeyPart, Sign, StringForm, TableDefinition};
    use rlog::frame::*;

    fn kind() -> impl Strategy<Value = ColumnKind> {
        let sign = prop_oneof![Just(Sign::Unknown), Just(Sign::Signed), Just(Sign::Unsigned)];
        prop_oneof![
            (prop_oneof![Just(1u8), Just(2), Just(3), Just(4), Just(8)], sign)
                .prop_map(|(bytes, sign)| ColumnKind::Int { bytes, sign }),
            (1u8..=65, 0u8..=38)
                .prop_map(|(precision, scale)| ColumnKind::Decimal { precision, scale: scale.min(precision) }),
            (1u8..=64).prop_map(|bits| ColumnKind::Bit { bits }),
            (0u8..=6).prop_map(|fsp| ColumnKind::Timestamp { fsp }),
            any::<u32>().prop_map(|bytes_max| ColumnKind::String { form: StringForm::Long, bytes_max }),
            Just(ColumnKind::Any),
            Just(ColumnKind::JsonBinary),
        ]
    }

    fn column() -> impl Strategy<Value = Column> {
        (
            ".{0,20}",
            kind(),
            any::<Option<bool>>(),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4),
        )
            .prop_map(|(name, kind, nullable, members)| Column {
                nullable,
                members,
                ..Column::new(name, kind)
            })
    }

    proptest! {
        #[test]
        fn table_definitions_come_back(columns in prop::collection::vec(column(), 1..40), database in ".{0,20}", name in ".{1,20}", prefix: u32) {
            let part = KeyPart { column: columns.len() as u32 - 1, prefix };
            let table = TableDefinition {
                database, columns, table: name.clone(),
                primary_key: vec![part], unique_keys: vec![Key { name, parts: vec![part, part] }],
                ..TableDefinition::default()
            };
            let mut out = Vec::new();
            table.encode(&mut out);
            prop_assert_eq!(TableDefinition::decode(&out).unwrap(), table);
        }

        #[test]
        fn envelopes_come_back(numbers: [u64; 6], text in ".{0,40}", flag: bool, xid: Vec<u8>, time: i64) {
            let begin = Begin {
                prev: Coordinate(numbers[0]), window_start: Coordinate(numbers[1]), flags: numbers[2],
                incarnation: Incarnation(numbers[3]), gtid: text.clone(), origins: vec![text.clone(), String::new()],
                time_us: time, chunk: flag.then_some(Chunk { snapshot: [1; 16], table: numbers[4], number: numbers[5] }),
                xid: xid.clone(), ..Begin::default()
            };
            let mut out = Vec::new();
            begin.encode(&mut out);
            prop_assert_eq!(Begin::decode(&out, 0).unwrap(), begin);
            let commit = Commit {
                end: Coordinate(numbers[0]), gtid: text.clone(), time_us: time, xid,
                tables: vec![TableCount { key: numbers[1], inserts: numbers[2], updates: numbers[3], deletes: numbers[4] }],
                frame_digest: numbers[5], ..Commit::default()
            };
            out.clear();
            commit.encode(&mut out);
            prop_assert_eq!(Commit::decode(&out, 0).unwrap(), commit);
            let end = End { reached: Coordinate(numbers[0]), in_use: flag, notes: vec![text.clone()], gtid_state: text, ..End::default() };
            out.clear();
            end.encode(&mut out);
            prop_assert_eq!(End::decode(&out, 0).unwrap(), end);
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
            let _ = TableDefinition::decode(&bytes);
            let _ = rlog::event::Statement::decode(&bytes);
            let _ = StreamHeader::decode(&bytes, 0);
            let _ = Begin::decode(&bytes, 0);
            let _ = Commit::decode(&bytes, 0);
            let _ = rlog::event::Rows::decode(rlog::event::RowsOp::Update, &bytes);
            let _ = SliceFrames::new(&bytes, 0).next();
        }
    }
}
