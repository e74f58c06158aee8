//! Every column type with its edge values, in every row image and metadata setting: what comes out of the log is what the server itself selects.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

use crate::common::{Server, scratch, shell};

/// How a column is asked for, so that its text is the one that rlog gives.
#[derive(Clone, Copy)]
enum Shown {
    /// As a number.
    Number,
    /// As text.
    Text,
    /// As hexadecimal digits of its bytes.
    Bytes,
}

/// Name, type, how it is shown, values as SQL.
type Spec = (&'static str, &'static str, Shown, &'static [&'static str]);

/// Columns of both families. Floats are such that binary32 holds them.
const COLUMNS: &[Spec] = &[
    ("i1", "tinyint", Shown::Number, &["-128", "127", "null"]),
    ("u1", "tinyint unsigned", Shown::Number, &["255", "0"]),
    ("i2", "smallint", Shown::Number, &["-32768", "32767"]),
    ("u2", "smallint unsigned", Shown::Number, &["65535", "null"]),
    ("i3", "mediumint", Shown::Number, &["-8388608", "8388607"]),
    ("u3", "mediumint unsigned zerofill", Shown::Number, &["16777215", "0"]),
    ("i4", "int", Shown::Number, &["-2147483648", "2147483647"]),
    ("y", "year", Shown::Number, &["1901", "2155", "0000"]),
    ("u4", "int unsigned", Shown::Number, &["4294967295", "7"]),
    ("i8", "bigint", Shown::Text, &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("u8", "bigint unsigned", Shown::Text, &["18446744073709551615", "9223372036854775808"]),
    ("f", "float", Shown::Number, &["1.5", "-0.25", "1048576"]),
    ("db", "double", Shown::Number, &["1.7976931348623157e308", "-2.2250738585072014e-308", "0.1"]),
    (
        "dec65",
        "decimal(65,30)",
        Shown::Text,
        &[
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "0",
        ],
    ),
    ("dec5", "decimal(5,0)", Shown::Text, &["-99999", "1"]),
    ("dec4", "decimal(4,4) unsigned", Shown::Text, &["0.9999", "0.0001"]),
    ("bit1", "bit(1)", Shown::Number, &["b'1'", "b'0'"]),
    ("bit17", "bit(17)", Shown::Number, &["b'10000000000000001'"]),
    ("bit64", "bit(64)", Shown::Text, &["x'ffffffffffffffff'", "x'8000000000000000'"]),
    ("da", "date", Shown::Text, &["'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2026-00-00'"]),
    ("t0", "time", Shown::Text, &["'-838:59:59'", "'838:59:59'", "'00:00:00'"]),
    ("t2", "time(2)", Shown::Text, &["'-00:00:00.01'", "'-00:00:01.00'", "'-00:00:01.01'"]),
    ("t6", "time(6)", Shown::Text, &["'-00:00:00.000001'", "'23:59:59.999999'", "'-838:59:58.999999'"]),
    ("dt0", "datetime", Shown::Text, &["'9999-12-31 23:59:59'", "'0000-00-00 00:00:00'"]),
    ("dt3", "datetime(3)", Shown::Text, &["'2026-11-21 10:11:12.345'", "'1000-01-01 00:00:00.001'"]),
    ("dt6", "datetime(6)", Shown::Text, &["'9999-12-31 23:59:59.999999'", "null"]),
    ("ts0", "timestamp null", Shown::Text, &["'1970-01-01 00:00:01'", "'0000-00-00 00:00:00'", "null"]),
    ("ts6", "timestamp(6) null", Shown::Text, &["'2038-01-19 03:14:07.999999'", "'1970-01-01 00:00:01.000001'"]),
    ("c", "char(10)", Shown::Text, &["''", "'é😀'", "'abcdefghij'"]),
    ("cl", "char(255)", Shown::Text, &["repeat('é', 255)", "'x'"]),
    ("c1", "char(5) character set latin1", Shown::Text, &["'é€'", "''"]),
    ("bi", "binary(4)", Shown::Bytes, &["x'01000000'", "x''", "x'ffffffff'"]),
    ("vb", "varbinary(300)", Shown::Bytes, &["x'00ff00'", "repeat(x'ab', 280)", "x''"]),
    ("v", "varchar(20)", Shown::Text, &["'it''s \"quoted\" \\\\ \\n'", "''"]),
    ("vl", "varchar(500)", Shown::Text, &["repeat('x', 127)", "repeat('x', 128)", "repeat('é', 500)"]),
    ("vj", "varchar(10) character set sjis", Shown::Text, &["'あいう'", "'a'"]),
    ("vu", "varchar(10) character set ucs2", Shown::Text, &["'añ'"]),
    ("tb", "tinyblob", Shown::Bytes, &["x'00'", "null"]),
    ("tt", "tinytext", Shown::Text, &["repeat('t', 200)"]),
    ("te", "text", Shown::Text, &["repeat('text ', 50)", "''"]),
    ("mt", "mediumtext", Shown::Text, &["repeat('medium ', 100)"]),
    ("lb", "longblob", Shown::Bytes, &["repeat(x'0102ff', 30000)", "x''"]),
    ("e", "enum('a','é','c,d')", Shown::Text, &["'a'", "'é'", "'c,d'", "''"]),
    ("s", "set('x','é','z')", Shown::Text, &["'x,z'", "'é'", "''"]),
    ("j", "json", Shown::Text, &["'{\"a\": [1, 2.5, null, true, \"é\"], \"bb\": {}}'", "'[]'", "null"]),
    ("g", "geometry", Shown::Bytes, &["st_geomfromtext('POINT(1 2)')", "st_geomfromtext('LINESTRING(0 0, 1 1)')"]),
    ("tail", "int", Shown::Number, &["1", "2"]),
];

const MARIADB: &[Spec] = &[
    ("uu", "uuid", Shown::Text, &["'123e4567-e89b-12d3-a456-426655440000'", "'f47ac10b-58cc-4372-8567-0e02b2c3d400'"]),
    ("ip4", "inet4", Shown::Text, &["'10.1.0.0'", "'255.255.255.255'"]),
    ("ip6", "inet6", Shown::Text, &["'2001:db8::ff00:42:0'", "'::'", "'::ffff:1.2.3.4'"]),
    ("vz", "varchar(300) compressed", Shown::Text, &["repeat('z', 300)", "'short'", "''"]),
    ("tz", "text compressed", Shown::Text, &["repeat('text ', 1000)"]),
    ("bz", "mediumblob compressed", Shown::Bytes, &["repeat(x'00ff', 900)", "x'01'"]),
];

/// Of MariaDB 11.8 besides.
const MARIADB_VECTOR: &[Spec] =
    &[("ve", "vector(3)", Shown::Bytes, &["vec_fromtext('[1,2.5,-3]')", "vec_fromtext('[0,0,0]')", "null"])];

const MYSQL: &[Spec] = &[
    ("ve", "vector(3)", Shown::Bytes, &["to_vector('[1,2.5,-3]')"]),
    (
        "jx",
        "json",
        Shown::Text,
        &[
            "json_object('d', cast('2015-01-15' as date), 't', cast('-10:20:30.5' as time(6)), 'n', cast(1.250 as decimal(10,3)), \
         'u', 18446744073709551615, 'f', 1.0, 'e', 1e-20, 'i', -70000, 'b', x'0102')",
            "json_array(json_array(), json_object(), repeat('long', 100))",
        ],
    ),
];

/// Rows as `id -> column -> value` of one database.
type Rows = BTreeMap<u64, BTreeMap<String, Value>>;

fn columns(server: &Server) -> Vec<Spec> {
    let own = if server.is_mariadb() { MARIADB } else { MYSQL };
    let vector = if server.try_sql("select vec_fromtext('[1]')").is_ok() { MARIADB_VECTOR } else { &[] };
    COLUMNS.iter().chain(own).chain(vector).copied().collect()
}

/// Inserts, changes and deletes rows so that every column takes each of its values and moves on to its next.
fn write(server: &Server, database: &str, columns: &[Spec]) {
    let defined: Vec<String> = columns.iter().map(|(name, sql, ..)| format!("{name} {sql}")).collect();
    server.sql(&format!(
        "create database {database} character set utf8mb4; \
         create table {database}.t (id int primary key, {}) charset=utf8mb4",
        defined.join(", ")
    ));
    let value = |spec: &Spec, number: usize| spec.3[number % spec.3.len()];
    for row in 1..=4usize {
        let names: Vec<&str> = columns.iter().map(|spec| spec.0).collect();
        let values: Vec<&str> = columns.iter().map(|spec| value(spec, row)).collect();
        let (names, values) = (names.join(","), values.join(","));
        server.sql(&format!("insert into {database}.t (id,{names}) values ({row},{values})"));
    }
    server.sql(&format!("insert into {database}.t (id) values (5), (6), (7)"));
    for (number, spec) in columns.iter().enumerate() {
        let row = number % 4 + 1;
        server.sql(&format!("update {database}.t set {} = {} where id = {row}", spec.0, value(spec, row + 1)));
    }
    let all: Vec<String> = columns.iter().map(|spec| format!("{} = {}", spec.0, value(spec, 0))).collect();
    server.sql(&format!("update {database}.t set {} where id in (5, 6)", all.join(", ")));
    server.sql(&format!("update {database}.t set tail = 9, te = null where id > 4"));
    server.sql(&format!("delete from {database}.t where id in (3, 6)"));
}

/// What the log says, per database.
fn read(server: &Server) -> BTreeMap<String, Rows> {
    let folder = scratch();
    let out = folder.path().join("out.rlog");
    let mut command = shell("out=$1; shift; rlog-extract \"$@\" > \"$out\" && rlog-dump --format json \"$out\"");
    let output = command.arg(&out).args(server.closed_logs()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, Rows> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["kind"] != "row" {
            continue;
        }
        let rows = found.entry(event["database"].as_str().unwrap().to_owned()).or_default();
        let image = |name: &str| event[name].as_object().into_iter().flatten();
        let id = |name: &str| event[name]["id"].as_u64();
        let id = id("before").or(id("after")).expect("every image has the key");
        if event["op"] == "delete" {
            assert!(rows.remove(&id).is_some(), "{line}");
            continue;
        }
        // In a minimal image a column that an insert does not have takes its default, one that an update does not have stays.
        let row = if event["op"] == "insert" { rows.entry(id).or_default() } else { rows.get_mut(&id).unwrap() };
        row.extend(image("after").map(|(name, value)| (name.clone(), value.clone())));
    }
    found
}

/// What the server selects.
fn compare(server: &Server, database: &str, columns: &[Spec], rows: &Rows) {
    server.sql("set time_zone = '+00:00'");
    let shown: Vec<String> = columns
        .iter()
        .map(|(name, sql, shown, _)| match shown {
            Shown::Bytes => format!("hex({name})"),
            _ if *name == "y" || sql.starts_with("bit") => format!("cast({name} + 0 as char)"),
            // A float's own text has six digits.
            _ if *sql == "float" => format!("convert(cast({name} as double) using utf8mb4)"),
            _ => format!("convert({name} using utf8mb4)"),
        })
        .collect();
    let selected = server.rows(&format!("select id, {} from {database}.t order by id", shown.join(", ")));
    let ids: Vec<u64> =
        selected.iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap().parse().unwrap()).collect();
    assert_eq!(ids, rows.keys().copied().collect::<Vec<_>>(), "{database}");
    for (cells, (id, row)) in selected.iter().zip(rows) {
        for ((name, sql, shown, _), cell) in columns.iter().zip(&cells[1..]) {
            let wanted = cell.clone().map(|bytes| String::from_utf8(bytes).unwrap());
            let found = row.get(*name).unwrap_or(&Value::Null);
            let same = match (found, &wanted, shown) {
                (Value::Null, None, _) => true,
                (Value::Number(number), Some(wanted), Shown::Number) => number.as_f64() == wanted.parse().ok(),
                (Value::Number(number), Some(wanted), Shown::Text) => number.to_string() == *wanted,
                (Value::String(text), Some(wanted), _) => text == wanted,
                (Value::Object(object), Some(wanted), Shown::Bytes) => {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(object["base64"].as_str().unwrap());
                    bytes.unwrap().iter().map(|byte| format!("{byte:02X}")).collect::<String>() == *wanted
                }
                _ => false,
            };
            assert!(same, "{database}.t row {id} column {name} ({sql}): the log has {found}, the server {wanted:?}");
        }
    }
}

/// Row images, as both families call them.
const IMAGES: [&str; 3] = ["full", "minimal", "noblob"];

fn check(server: &Server, metadata: &[&str], images: &[&str], session: &[&str]) {
    let columns = columns(server);
    server.sql("set time_zone = '+00:00'; set sql_mode = ''");
    let mut databases = Vec::new();
    for metadata in metadata {
        server.sql(&format!("set global binlog_row_metadata = {metadata}"));
        for image in images {
            for (number, session) in session.iter().enumerate() {
                server.sql(&format!("set binlog_row_image = {image}; {session}"));
                let database = format!("{}_{image}_{number}", metadata.to_lowercase());
                write(server, &database, &columns);
                databases.push(database);
            }
        }
    }
    let found = read(server);
    assert_eq!(found.len(), databases.len());
    for database in &databases {
        compare(server, database, &columns, &found[database]);
    }
}

#[test]
fn every_type_and_image_of_mariadb_reads_as_the_server_selects_it() {
    let server = Server::new("mariadb-10.11").log_bin().start();
    check(
        &server,
        &["full", "minimal", "no_log"],
        &IMAGES,
        &["set column_compression_zlib_wrap = 1", "set column_compression_zlib_wrap = 0"],
    );
}

#[test]
fn every_type_and_image_of_mysql_reads_as_the_server_selects_it() {
    let server = Server::new("mysql-9.7").log_bin().start();
    check(
        &server,
        &["full", "minimal"],
        &IMAGES,
        &["set binlog_transaction_compression = off", "set binlog_transaction_compression = on"],
    );
}

/// Images without the columns that stay, vectors, compressed events, end positions that the server does not say and that it does.
#[test]
fn every_type_and_image_of_mariadb_11_8_reads_as_the_server_selects_it() {
    let server = Server::new("mariadb-11.8").log_bin().start();
    assert!(server.try_sql("set binlog_row_image = full_nodup").is_ok(), "this server is too old for the test");
    check(
        &server,
        &["full", "minimal", "no_log"],
        &["full", "minimal", "noblob", "full_nodup"],
        &[
            "set global log_bin_compress = 0; set global binlog_legacy_event_pos = 0",
            "set global log_bin_compress = 1; set global log_bin_compress_min_len = 10; set global binlog_legacy_event_pos = 1",
        ],
    );
}

/// A document with MySQL's diffs applied, as far as paths of names and indexes go.
fn patched(document: &str, diffs: &Value) -> Value {
    let mut document: Value = serde_json::from_str(document).unwrap();
    for diff in diffs.as_array().unwrap() {
        let path = diff["path"].as_str().unwrap().trim_start_matches('$');
        let legs: Vec<String> = path
            .replace('[', ".#")
            .replace(']', "")
            .split('.')
            .filter(|leg| !leg.is_empty())
            .map(|leg| leg.trim_matches('"').to_owned())
            .collect();
        let (last, parents) = legs.split_last().unwrap();
        let mut at = &mut document;
        for leg in parents {
            at = match leg.strip_prefix('#') {
                Some(index) => &mut at[index.parse::<usize>().unwrap()],
                None => &mut at[leg.as_str()],
            };
        }
        let index = last.strip_prefix('#').map(|index| index.parse::<usize>().unwrap());
        let value = diff["value"].clone();
        match (diff["op"].as_str().unwrap(), index) {
            ("replace", Some(index)) => at[index] = value,
            ("insert", Some(index)) => {
                let items = at.as_array_mut().unwrap();
                items.insert(index.min(items.len()), value);
            }
            ("remove", Some(index)) => drop(at.as_array_mut().unwrap().remove(index)),
            ("remove", None) => drop(at.as_object_mut().unwrap().shift_remove(last)),
            (_, None) => drop(at.as_object_mut().unwrap().insert(last.clone(), value)),
            other => panic!("{other:?}"),
        }
    }
    document
}

/// Partial JSON updates, in every row image, compressed and not: the diffs lead to what the server selects.
#[test]
fn partial_updates_of_json_lead_to_what_the_server_selects() {
    let server = Server::new("mysql-9.7").log_bin().start();
    let mut databases = Vec::new();
    for image in IMAGES {
        for compression in ["off", "on"] {
            let database = format!("{image}_{compression}");
            server.sql(&format!(
                "set binlog_row_value_options = partial_json, binlog_row_image = {image}, binlog_transaction_compression = {compression}; \
                 create database {database}; use {database}; create table t (id int primary key, a json, b json, n int)"
            ));
            let long = format!("repeat('long ', {})", 200);
            for id in 1..=4 {
                server.sql(&format!(
                    "insert into t values ({id}, json_object('k', {id}, 'text', {long}, 'list', json_array(1, 2, 3), \
                     'deep', json_object('x y', json_array(json_object('z', 1.5)))), json_array({long}, 'two', 3), 0)"
                ));
            }
            for change in [
                "a = json_set(a, '$.k', 70000)",
                "a = json_replace(a, '$.list[1]', 'middle')",
                "a = json_remove(a, '$.list[0]'), n = n + 1",
                "a = json_set(a, '$.fresh', cast('2026-11-25' as date))",
                "a = json_set(a, '$.deep.\"x y\"[0].z', null), b = json_set(b, '$[1]', json_object('q', 1))",
                "b = json_array_insert(b, '$[1]', 'new'), a = json_remove(a, '$.text')",
                "b = json_replace(b, '$[0]', 'short')",
                "b = null, a = json_set(a, '$.k', 1)",
                "b = json_array(1), n = 5",
            ] {
                server.sql(&format!("update t set {change} where id < 4"));
            }
            databases.push(database);
        }
    }
    let folder = scratch();
    let out = folder.path().join("out.rlog");
    let mut command = shell("out=$1; shift; rlog-extract \"$@\" > \"$out\" && rlog-dump --format json \"$out\"");
    let output = command.arg(&out).args(server.closed_logs()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<(String, u64), BTreeMap<String, Value>> = BTreeMap::new();
    let mut diffs = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["kind"] != "row" {
            continue;
        }
        let id = event["before"]["id"].as_u64().or(event["after"]["id"].as_u64()).unwrap();
        let row = found.entry((event["database"].as_str().unwrap().to_owned(), id)).or_default();
        for (name, value) in event["after"].as_object().unwrap() {
            let value = match value {
                Value::Array(_) => {
                    diffs += 1;
                    Value::String(patched(row[name].as_str().unwrap(), value).to_string())
                }
                value => value.clone(),
            };
            row.insert(name.clone(), value);
        }
    }
    assert!(diffs > 100, "only {diffs} diffs were logged");
    for database in databases {
        for row in server.rows(&format!(
            "select id, convert(a using utf8mb4), convert(b using utf8mb4) from {database}.t order by id"
        )) {
            let text = |index: usize| row[index].clone().map(|bytes| String::from_utf8(bytes).unwrap());
            let id: u64 = text(0).unwrap().parse().unwrap();
            for (name, wanted) in [("a", text(1)), ("b", text(2))] {
                let ours = &found[&(database.clone(), id)][name];
                let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                let same = match (ours, &wanted) {
                    (Value::Null, None) => true,
                    (Value::String(ours), Some(wanted)) => parse(ours) == parse(wanted),
                    _ => false,
                };
                assert!(same, "{database} {id} {name}: here {ours}, there {wanted:?}");
            }
        }
    }
}
