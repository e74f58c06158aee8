//! Reads what `mariadb-binlog` and `mysqlbinlog` print with `--base64-output=decode-rows -vv`: the rows, with the servers' own
//! idea of every value, to compare with ours.

use std::path::Path;

use super::server_program;

/// One row change as the server's tool prints it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerboseRow {
    /// `insert`, `update` or `delete`.
    pub op: String,
    /// Its database.
    pub database: String,
    /// Its table.
    pub table: String,
    /// Column number from 1, and value; empty for inserts.
    pub before: Vec<(usize, VerboseValue)>,
    /// The same; empty for deletes.
    pub after: Vec<(usize, VerboseValue)>,
}

/// A value as printed.
#[derive(Clone, Debug, PartialEq)]
pub struct VerboseValue {
    /// As it stands there, without the quotes around it: control characters are `\xNN`, everything else is raw.
    pub text: Vec<u8>,
    /// The type that the tool names behind it, `VARSTRING(1020)` for example, without `meta=…`; empty if it names none.
    pub kind: String,
    /// Whether the value stood in quotes.
    pub quoted: bool,
}

impl VerboseValue {
    /// SQL's NULL.
    pub fn is_null(&self) -> bool {
        self.text == b"NULL" && !self.quoted
    }
}

/// Runs the tool of a fetched server on a log. `None` when it cannot read the log to its end.
pub fn verbose_rows(server: &str, log: &Path) -> Option<Vec<VerboseRow>> {
    let tool = if server.starts_with("mariadb") { "mariadb-binlog" } else { "mysqlbinlog" };
    let mut command = server_program(server, tool);
    // It writes the files of LOAD DATA events somewhere, by default into the system's folder for all.
    let files = super::scratch();
    command.args(["--no-defaults", "--base64-output=decode-rows", "-vv"]).arg("--local-load").arg(files.path());
    let output = command.arg(log).output().expect("it runs");
    output.status.success().then(|| parse(&output.stdout))
}

/// The rows of the tool's output.
pub fn parse(output: &[u8]) -> Vec<VerboseRow> {
    let mut rows: Vec<VerboseRow> = Vec::new();
    let mut in_after = false;
    for line in output.split(|byte| *byte == b'\n') {
        let Some(line) = line.strip_prefix(b"### ") else { continue };
        let starts = [("insert", "INSERT INTO "), ("update", "UPDATE "), ("delete", "DELETE FROM ")];
        if let Some((op, name)) = starts.iter().find_map(|(op, words)| Some((op, line.strip_prefix(words.as_bytes())?)))
        {
            let name = String::from_utf8_lossy(name).into_owned();
            let (database, table) = name.split_once("`.`").unwrap_or_else(|| panic!("a table's name: {name}"));
            rows.push(VerboseRow {
                op: op.to_string(),
                database: database.trim_start_matches('`').into(),
                table: table.trim_end().trim_end_matches('`').into(),
                ..VerboseRow::default()
            });
        } else if line == b"SET" || line == b"WHERE" {
            in_after = line == b"SET";
        } else if let Some(column) = line.strip_prefix(b"  @") {
            let row = rows.last_mut().expect("a column belongs to a row");
            let image = if in_after { &mut row.after } else { &mut row.before };
            image.push(parse_column(column));
        } else if line.starts_with(b"Extra row info") {
            // Partition numbers and the like, which are no values.
        } else {
            panic!("an unknown line: {}", String::from_utf8_lossy(line));
        }
    }
    rows
}

/// `12='text' /* STRING(4) meta=… nullable=1 is_null=0 */`
fn parse_column(column: &[u8]) -> (usize, VerboseValue) {
    let equals = column.iter().position(|byte| *byte == b'=').expect("a column has a value");
    let number = String::from_utf8_lossy(&column[..equals]).parse().expect("a column's number");
    let rest = &column[equals + 1..];
    let comment = rest.windows(4).rposition(|window| window == b" /* ");
    let (value, kind) = match comment {
        Some(at) => (&rest[..at], String::from_utf8_lossy(&rest[at + 4..]).into_owned()),
        None => (rest, String::new()),
    };
    let kind = kind.split(" meta=").next().unwrap_or_default().to_string();
    let value = value.trim_ascii_end();
    let quoted = value.len() >= 2 && value.ends_with(b"'") && value.starts_with(b"'");
    let text = if quoted { &value[1..value.len() - 1] } else { value };
    (number, VerboseValue { text: text.to_vec(), kind, quoted })
}
