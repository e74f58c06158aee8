//! What rlog reads from a log is what the server's own tool reads from it: table by table, operation by operation, value
//! by value, in the same order.
//!
//! The tools print a value without its charset, and some types only as bytes; [`agree`] says for each of their types what
//! has to hold. A type that it does not know fails the test.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::common::{Server, Types, VerboseRow, VerboseValue, corpus_files, shell, verbose_rows};

/// A table as `rlog-dump --format json` announces it: its columns, in order.
type Columns = Vec<Json>;

/// A row of rlog's output, and the columns that its table had then.
struct OurRow {
    row: Json,
    columns: Columns,
}

/// How rlog's pipe ended.
enum Ended {
    Well,
    /// 82: the log ends inside a transaction, which the servers' tools print as far as it goes.
    Torn,
}

/// The rows that rlog reads from a log.
fn our_rows(log: &Path) -> Result<(Vec<OurRow>, Ended), String> {
    let mut pipe = shell("rlog-extract \"$1\" | rlog-dump --format json -");
    let output = pipe.arg(log).output().expect("bash runs");
    let ended = match output.status.code() {
        Some(0) => Ended::Well,
        Some(82) => Ended::Torn,
        _ => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    };
    let output = output.stdout;
    let mut tables: HashMap<(String, String), Columns> = HashMap::new();
    let mut rows = Vec::new();
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let object: Json =
            serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
        let name = |key: &str| object[key].as_str().unwrap_or_default().to_string();
        match object["kind"].as_str() {
            Some("table") => {
                let columns = object["columns"].as_array().expect("a table has columns").clone();
                tables.insert((name("database"), name("table")), columns);
            }
            Some("row") => {
                let columns = tables[&(name("database"), name("table"))].clone();
                rows.push(OurRow { row: object, columns });
            }
            _ => {}
        }
    }
    Ok((rows, ended))
}

/// rlog leaves out the servers' own tables.
const SYSTEM: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];

/// Compares all rows of a log; their number, or the first difference.
fn compare(server: &str, log: &Path) -> Result<usize, String> {
    let theirs = verbose_rows(server, log).ok_or("the server's own tool does not read it")?;
    let theirs: Vec<_> = theirs.into_iter().filter(|row| !SYSTEM.contains(&row.database.as_str())).collect();
    let (ours, ended) = our_rows(log)?;
    for (number, (their, our)) in theirs.iter().zip(&ours).enumerate() {
        compare_row(their, our).map_err(|why| format!("row {number} ({}): {why}", our.row["txid"]))?;
    }
    let all = match ended {
        Ended::Well => theirs.len() == ours.len(),
        Ended::Torn => theirs.len() >= ours.len(),
    };
    if all { Ok(ours.len()) } else { Err(format!("{} rows here, {} there", ours.len(), theirs.len())) }
}

fn compare_row(their: &VerboseRow, our: &OurRow) -> Result<(), String> {
    let place = |key: &str| our.row[key].as_str().unwrap_or_default();
    if (place("op"), place("database"), place("table")) != (&their.op, &their.database, &their.table) {
        return Err("another operation or table".into());
    }
    for (image, values) in [("before", &their.before), ("after", &their.after)] {
        let empty = serde_json::Map::new();
        let ours = our.row[image].as_object().unwrap_or(&empty);
        if ours.len() != values.len() {
            return Err(format!("{image}: {} columns here, {} there", ours.len(), values.len()));
        }
        for (number, value) in values {
            let column = our.columns.get(number - 1).ok_or("a column more than the table has")?;
            let name = column["name"].as_str().unwrap_or_default();
            let Some(ours) = ours.get(name) else { return Err(format!("{image}: {name} is absent here")) };
            if !agree(value, ours, column) {
                return Err(format!("{image}: {name}: here {ours}, there {}", String::from_utf8_lossy(&value.text)));
            }
        }
    }
    Ok(())
}

/// Whether a value of rlog's is the one that the server's tool prints.
fn agree(theirs: &VerboseValue, ours: &Json, column: &Json) -> bool {
    if theirs.is_null() || ours.is_null() {
        return theirs.is_null() && ours.is_null();
    }
    let text = String::from_utf8_lossy(&theirs.text).into_owned();
    let ours_text = match ours {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let kind = theirs.kind.split(['(', ' ']).next().unwrap_or_default();
    match kind {
        // `-1 (255)`: signed, and the same bits unsigned, since the tool may not know.
        "TINYINT" | "SHORTINT" | "MEDIUMINT" | "INT" | "LONGINT" => {
            let unsigned = text.split_once(" (").map(|(_, rest)| rest.trim_end_matches(')'));
            let signed = text.split(' ').next();
            if column["unsigned"] == true {
                unsigned.or(signed) == Some(&ours_text)
            } else {
                signed == Some(&ours_text)
            }
        }
        "DECIMAL" => plain_number(&text) == plain_number(&ours_text),
        // Printed with six digits.
        "FLOAT" => {
            let (a, b): (f64, f64) = (text.parse().unwrap_or(f64::NAN), ours_text.parse().unwrap_or(f64::NAN));
            a == b || ((a - b) / b).abs() < 1e-5
        }
        "DOUBLE" => text.parse::<f64>().ok().map(f64::to_bits) == ours_text.parse::<f64>().ok().map(f64::to_bits),
        "BIT" | "SET" => {
            u64::from_str_radix(text.trim_start_matches('b').trim_matches('\''), 2).ok().is_some_and(|bits| {
                members_of(bits, column).map_or(ours_text == bits.to_string(), |members| ours_text == members)
                    || ours_text == bits.to_string()
                    || (bits == 0 && ours_text.is_empty())
            })
        }
        "ENUM" => text.parse::<usize>().ok().is_some_and(|index| {
            let member = index.checked_sub(1).and_then(|index| column["members"].get(index)?.as_str());
            ours_text == text || member.map_or(index == 0 && ours_text.is_empty(), |member| member == ours_text)
        }),
        // The tools do not know that 0 is a year of its own.
        "YEAR" => text == ours_text || (text == "1900" && ours_text.trim_matches('0').is_empty()),
        "DATE" => text.replace(':', "-") == ours_text,
        "TIME" => plain_fraction(&text) == plain_fraction(&ours_text),
        "DATETIME" => plain_fraction(&text) == plain_fraction(&ours_text.replace('T', " ")),
        "TIMESTAMP" => timestamp(&text) == timestamp(&ours_text),
        "JSON" => agree_bytes(&theirs.text, ours, column) || same_json(&text, &ours_text),
        "VECTOR" => {
            let bytes = base64(ours["base64"].as_str().unwrap_or_default());
            let numbers = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            let theirs =
                text.trim_matches(['[', ']']).split(',').map(|number| number.parse::<f32>().unwrap_or(f32::NAN));
            // Printed with six digits.
            bytes.len() % 4 == 0
                && numbers.clone().count() == theirs.clone().count()
                && numbers.zip(theirs).all(|(a, b)| a == b || ((a - b) / b).abs() < 1e-5)
        }
        // Printed as compressed, and not printed unambiguously: apply's tests compare such values with the server.
        _ if theirs.kind.ends_with("COMPRESSED") => true,
        "STRING" if column["type"] == "uuid" => agree_sorted(&theirs.text, &ours_text),
        kind if kind.ends_with("STRING") || kind.contains("BLOB") || kind == "GEOMETRY" => {
            agree_bytes(&theirs.text, ours, column)
        }
        _ => panic!("no rule for the type {:?}", theirs.kind),
    }
}

/// The text of a SET's bits, if its members are known.
fn members_of(bits: u64, column: &Json) -> Option<String> {
    let members = column["members"].as_array().filter(|_| column["kind"] == "set")?;
    let chosen = members.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
    Some(chosen.map(|(_, member)| member.as_str().unwrap_or_default()).collect::<Vec<_>>().join(","))
}

/// A decimal without what does not change it.
fn plain_number(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let digits = digits.trim_start_matches('0');
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{sign}{digits}")
}

/// A time or date whose fraction has no zeros at its end.
fn plain_fraction(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Microseconds since 1970 of `1700000000.25`, of `2023-11-14T22:13:20.25Z`, or of a zero date, which is 0.
fn timestamp(text: &str) -> Option<i64> {
    let (whole, fraction) = text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    if let Ok(seconds) = whole.parse::<i64>() {
        return Some(seconds * 1_000_000 + micros);
    }
    if whole.starts_with("0000-00-00") {
        return Some(0);
    }
    let moment: jiff::civil::DateTime = whole.replace(' ', "T").parse().ok()?;
    let seconds = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(seconds * 1_000_000 + micros)
}

fn same_json(theirs: &str, ours: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Json>(text).ok();
    parsed(ours).is_some() && (parsed(theirs) == parsed(ours) || parsed(&theirs.replace("\\\\", "\\")) == parsed(ours))
}

/// Text and bytes: the tool prints the bytes as they are in the log, apart from control characters.
fn agree_bytes(theirs: &[u8], ours: &Json, column: &Json) -> bool {
    let bytes = match (ours, column["type"].as_str()) {
        (Json::String(text), Some("inet4")) => {
            text.parse::<std::net::Ipv4Addr>().map_or(vec![], |ip| ip.octets().to_vec())
        }
        (Json::String(text), Some("inet6")) => {
            text.parse::<std::net::Ipv6Addr>().map_or(vec![], |ip| ip.octets().to_vec())
        }
        (Json::String(text), _) => in_charset(text, column["charset"].as_str().unwrap_or_default()),
        (Json::Object(object), _) => base64(object["base64"].as_str().unwrap_or_default()),
        _ => return false,
    };
    // BINARY(n) loses its zeros at the end in the log; rlog puts them back.
    let ends = [&bytes[..], &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)]];
    ends.iter().any(|bytes| printed(bytes, false) == theirs || printed(bytes, true) == theirs)
}

/// MariaDB stores a UUID's bytes in an order that depends on its version: here, the same bytes in any order.
fn agree_sorted(theirs: &[u8], uuid: &str) -> bool {
    let digits: Vec<u8> = uuid.bytes().filter(|byte| *byte != b'-').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or_default();
    let mut ours = printed(&digits.chunks(2).map(byte).filter(|byte| *byte != 0).collect::<Vec<u8>>(), false);
    let mut theirs = String::from_utf8_lossy(theirs).replace("\\x00", "").into_bytes();
    if std::str::from_utf8(&theirs).is_ok_and(|text| text.contains('\u{fffd}')) {
        // Bytes that are not text: only their number can be told.
        theirs.clear();
        ours.clear();
    }
    ours.sort_unstable();
    theirs.sort_unstable();
    ours == theirs
}

/// As the tools print bytes: control characters as `\xNN`; MySQL's tool (`all`) has short forms and escapes quotes and backslashes.
fn printed(bytes: &[u8], all: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' if all => out.extend_from_slice(b"\\n"),
            b'\t' if all => out.extend_from_slice(b"\\t"),
            0x08 if all => out.extend_from_slice(b"\\b"),
            b'\r' if all => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            b'\\' if all => out.extend_from_slice(b"\\\\"),
            b'\'' if all => out.extend_from_slice(b"\\'"),
            byte => out.push(*byte),
        }
    }
    out
}

/// Text back in the charset of its column.
fn in_charset(text: &str, charset: &str) -> Vec<u8> {
    match charset {
        "latin1" => encoding_rs::WINDOWS_1252.encode(text).0.into_owned(),
        "sjis" => encoding_rs::SHIFT_JIS.encode(text).0.into_owned(),
        "gbk" => encoding_rs::GBK.encode(text).0.into_owned(),
        "utf16" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => text.as_bytes().to_vec(),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)).map(|at| at as u32).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let number = group.iter().fold(0, |number, digit| number << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&number.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// Every type in every row image and metadata setting of a server.
fn every_setting_agrees(name: &str, images: &[&str], metadata: &[&str]) {
    let server = Server::new(name).log_bin().start();
    let mut types = Types::of(&server);
    if !server.is_mariadb() {
        // mysqlbinlog stops inside a row where it meets these.
        types.columns.retain(|column| !["point", "geometry"].iter().any(|word| column.definition.starts_with(word)));
    }
    server.flush_logs();
    let mut compared = 0;
    for (number, (image, metadata)) in
        images.iter().flat_map(|image| metadata.iter().map(move |m| (image, m))).enumerate()
    {
        server.sql(&format!("set global binlog_row_metadata = '{metadata}'; set session binlog_row_image = '{image}'"));
        let database = format!("shop{number}");
        types.create(&server, &database);
        types.load(&server, &database);
        let log = server.closed_logs().pop().expect("a closed log");
        compared +=
            compare(name, &log).unwrap_or_else(|why| panic!("{name}, {image} images, {metadata} metadata: {why}"));
    }
    assert!(compared > 100, "{compared} rows were compared");
}

#[test]
fn mariadb_10_11_is_read_as_its_own_tool_reads_it() {
    every_setting_agrees("mariadb-10.11", &["FULL", "MINIMAL", "NOBLOB"], &["FULL", "MINIMAL", "NO_LOG"]);
}

#[test]
fn mariadb_11_8_is_read_as_its_own_tool_reads_it() {
    every_setting_agrees("mariadb-11.8", &["FULL", "FULL_NODUP"], &["FULL", "NO_LOG"]);
}

#[test]
fn mysql_9_7_is_read_as_its_own_tool_reads_it() {
    every_setting_agrees("mysql-9.7", &["FULL", "MINIMAL", "NOBLOB"], &["FULL", "MINIMAL"]);
}

/// Logs that others wrote, of every version that the manifest says one of the tools can read.
#[test]
fn the_corpus_is_read_as_the_servers_own_tools_read_it() {
    let mut compared = (0, 0);
    let mut wrong = Vec::new();
    for file in corpus_files() {
        if !file.kind.starts_with("binlog") || !file.expected.starts_with("VALID") {
            continue;
        }
        if file.expected.contains("pre-GA") {
            // rlog decodes these rows; the tools of today only name their events.
            our_rows(&file.path).unwrap_or_else(|why| panic!("{}: {why}", file.path.display()));
            continue;
        }
        for (server, verdict) in [("mariadb-10.11", &file.mariadb_binlog), ("mysql-9.7", &file.mysqlbinlog)] {
            // A tool's exit status says less than the manifest: mysqlbinlog goes on after what it does not know.
            if verdict.starts_with("ok ") && !verdict.contains("ERROR") {
                match compare(server, &file.path) {
                    Ok(rows) => compared = (compared.0 + 1, compared.1 + rows),
                    Err(why) => wrong.push(format!("{} beside {server}: {why}", file.path.display())),
                }
            }
        }
    }
    eprintln!("{} comparisons, {} rows", compared.0, compared.1);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
