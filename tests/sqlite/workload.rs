//! A seeded generator of SQL: whatever SQLite can put in a log, a little at a time. Statements may fail.

use rusqlite::{Connection, OptionalExtension as _};

/// A small generator of random numbers (splitmix64): the same seed, the same run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub struct Workload {
    pub rng: Rng,
    pub page_size: u64,
    names: u64,
    /// What names that it makes up contain.
    called: String,
    pub ran: u64,
    pub failed: u64,
    /// The last transaction, for messages.
    pub script: Vec<String>,
}

impl Workload {
    pub fn new(seed: u64, page_size: u64) -> Workload {
        Workload { rng: Rng(seed), page_size, names: 0, called: String::new(), ran: 0, failed: 0, script: Vec::new() }
    }

    /// A workload beside others, whose names are its own.
    pub fn called(self, name: &str) -> Workload {
        Workload { called: name.into(), ..self }
    }

    fn run(&mut self, db: &Connection, sql: &str) {
        self.ran += 1;
        let failed = db.execute_batch(sql).is_err();
        self.failed += u64::from(failed);
        self.script.push(format!("{}{sql}", if failed { "-- failed: " } else { "" }));
    }

    fn value(&mut self) -> String {
        let rng = &mut self.rng;
        match rng.below(12) {
            0 => "NULL".into(),
            1 => format!("{}", rng.next() as i64),
            2 => format!("{}", rng.below(5)),
            3 => format!("{}", rng.below(100_000) as i64 - 50_000),
            4 => format!("{}.0", rng.below(1000)),
            5 => format!("{}e{}", rng.below(1_000_000) as f64 / 7.0, rng.below(40)),
            6 => format!("'é{}ß漢😀'", rng.below(100)),
            7 => format!("randomblob({})", rng.below(60)),
            8 => {
                let len = rng.below(self.page_size * 3);
                format!("randomblob({len})")
            }
            9 => {
                let len = rng.below(self.page_size) / 4;
                format!("hex(randomblob({len}))")
            }
            10 => format!("'{}'", rng.pick(&["a", "A", "b ", "B", "x'' y", "", "12", "1.50"])),
            _ => format!("'text {}'", rng.below(500)),
        }
    }

    fn table(&mut self, db: &Connection) -> Option<String> {
        db.query_row(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage <> 0 AND name NOT LIKE 'sqlite%' \
             AND name NOT LIKE 'ft%' ORDER BY (rowid * 7919 + ?1) % 101 LIMIT 1",
            [self.rng.below(1000) as i64],
            |row| row.get(0),
        )
        .optional()
        .unwrap_or(None)
    }

    /// Columns that can be written.
    fn columns(&mut self, db: &Connection, table: &str) -> Vec<String> {
        let Ok(mut s) = db.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0") else { return vec![] };
        s.query_map([table], |row| row.get(0)).unwrap().filter_map(Result::ok).collect()
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}{}", self.called, self.names)
    }

    pub fn create_table(&mut self, db: &Connection) {
        let name = self.fresh("t");
        let sql = match self.rng.below(16) {
            0 => format!("CREATE TABLE {name}(a, b, c)"),
            1 => format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY, a TEXT, b REAL, c)"),
            2 => format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)"),
            3 => format!("CREATE TABLE {name}(k, a, b, PRIMARY KEY(k)) WITHOUT ROWID"),
            4 => format!("CREATE TABLE {name}(a, k TEXT COLLATE NOCASE, b, j, PRIMARY KEY(k, j DESC)) WITHOUT ROWID"),
            5 => format!("CREATE TABLE {name}(k TEXT COLLATE RTRIM PRIMARY KEY, v) WITHOUT ROWID"),
            6 => format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY DESC, a UNIQUE, b)"),
            7 => format!("CREATE TABLE {name}(a UNIQUE, b, c UNIQUE ON CONFLICT REPLACE)"),
            8 => format!("CREATE TABLE {name}(a INT, b TEXT, g AS (a || b) VIRTUAL, s AS (a + 1) STORED, c REAL)"),
            9 => format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY, i INT, t TEXT, r REAL, b BLOB, x ANY) STRICT"),
            10 => {
                format!("CREATE TABLE {name}(k BLOB PRIMARY KEY, a, s AS (length(a)) STORED, u UNIQUE) WITHOUT ROWID")
            }
            11 => format!("CREATE TABLE {name}(rowid, a, oid)"),
            12 => format!(
                "CREATE TABLE \"{name} \"\"odd\"(\"a b\" DEFAULT 'x', \"select\" INT DEFAULT -5, c DEFAULT 1.5)"
            ),
            13 => match self.table(db) {
                Some(other) => format!("CREATE TABLE {name} AS SELECT * FROM \"{}\"", other.replace('"', "\"\"")),
                None => format!("CREATE TABLE {name}(x)"),
            },
            14 => format!("CREATE TABLE {name}(a PRIMARY KEY, b NUMERIC, c REFERENCES t1 ON DELETE CASCADE)"),
            _ => format!("CREATE TABLE {name}(a REAL, b INTEGER, c TEXT, d BLOB, e, f, h, i, j, k, l, m)"),
        };
        self.run(db, &sql);
    }

    fn change_rows(&mut self, db: &Connection) {
        let Some(table) = self.table(db) else { return self.create_table(db) };
        let columns = self.columns(db, &table);
        if columns.is_empty() {
            return;
        }
        let quoted = format!("main.\"{}\"", table.replace('"', "\"\""));
        let name = |c: &String| format!("\"{}\"", c.replace('"', "\"\""));
        let some = name(self.rng.pick(&columns.clone()));
        let size = self.page_size;
        match self.rng.below(14) {
            0..=4 => {
                let n = if self.rng.one_in(4) { 1 + self.rng.below(40) } else { 1 + self.rng.below(3) };
                let verb = *self.rng.pick(&["INSERT OR IGNORE", "INSERT OR REPLACE", "INSERT"]);
                for _ in 0..n {
                    let k = 1 + self.rng.below(columns.len() as u64) as usize;
                    let from = self.rng.below((columns.len() - k + 1) as u64) as usize;
                    let names: Vec<String> = columns[from..from + k].iter().map(name).collect();
                    let values: Vec<String> = (0..k).map(|_| self.value()).collect();
                    let sql = format!("{verb} INTO {quoted}({}) VALUES ({})", names.join(", "), values.join(", "));
                    self.run(db, &sql);
                }
            }
            5 | 6 => {
                let (value, m) = (self.value(), 1 + self.rng.below(9));
                let r = self.rng.below(m);
                let sql =
                    format!("UPDATE OR IGNORE {quoted} SET {some} = {value} WHERE abs(length({some})) % {m} = {r}");
                self.run(db, &sql);
            }
            7 => {
                let (value, m) = (self.value(), 1 + self.rng.below(30));
                let sql = format!("UPDATE OR REPLACE {quoted} SET {some} = {value} WHERE rowid % 31 = {m}");
                self.run(db, &sql);
            }
            8 => {
                let m = 1 + self.rng.below(30);
                let sql = format!("DELETE FROM {quoted} WHERE rowid % 31 = {m}");
                self.run(db, &sql);
            }
            9 => {
                let value = self.value();
                let sql = format!("DELETE FROM {quoted} WHERE {some} > {value}");
                self.run(db, &sql);
            }
            10 if self.rng.one_in(4) => self.run(db, &format!("DELETE FROM {quoted}")),
            10 => {
                let m = 2 + self.rng.below(6);
                let sql = format!("UPDATE OR IGNORE {quoted} SET rowid = rowid + 100000 WHERE rowid % {m} = 0");
                self.run(db, &sql);
            }
            11 => {
                let n = 10 + self.rng.below(150);
                let len = 1 + self.rng.below(size / 8 + 1);
                let sql = format!(
                    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {n}) \
                     INSERT OR IGNORE INTO {quoted}({some}) SELECT randomblob(abs(random()) % {len}) FROM n"
                );
                self.run(db, &sql);
            }
            12 => {
                let names: Vec<String> = columns.iter().map(name).collect();
                let swap = if names.len() > 1 { names[1..].join(", ") } else { names[0].clone() };
                let sql = format!("INSERT OR IGNORE INTO {quoted}({swap}) SELECT {swap} FROM {quoted} LIMIT 60");
                self.run(db, &sql);
            }
            _ => self.blob_io(db, &table, &columns),
        }
    }

    /// Overwrites part of a stored blob in place: only overflow pages may change.
    fn blob_io(&mut self, db: &Connection, table: &str, columns: &[String]) {
        let column = self.rng.pick(columns).clone();
        let (t, c) = (table.replace('"', "\"\""), column.replace('"', "\"\""));
        let sql = format!(
            "SELECT _rowid_, length(\"{c}\") FROM main.\"{t}\" WHERE typeof(\"{c}\") = 'blob' AND length(\"{c}\") > 0 \
             ORDER BY length(\"{c}\") DESC LIMIT 1"
        );
        let found: Option<(i64, i64)> =
            db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional().unwrap_or(None);
        let Some((rowid, len)) = found else { return };
        let Ok(mut blob) = db.blob_open("main", table, column.as_str(), rowid, false) else { return };
        let at = self.rng.below(len as u64) as usize;
        let byte = [self.rng.next() as u8];
        let ok = blob.write_at(&byte, at).is_ok();
        drop(blob);
        self.script.push(format!("-- blob write into {table}.{column} row {rowid} at {at}: {ok}"));
    }

    fn change_schema(&mut self, db: &Connection) {
        let table = self.table(db);
        let (Some(table), false) = (table, self.rng.one_in(4)) else { return self.create_table(db) };
        let columns = self.columns(db, &table);
        if columns.is_empty() {
            return;
        }
        let quoted = format!("main.\"{}\"", table.replace('"', "\"\""));
        let column = format!("\"{}\"", self.rng.pick(&columns).replace('"', "\"\""));
        let fresh = self.fresh("x");
        let sql = match self.rng.below(18) {
            0 => format!("ALTER TABLE {quoted} RENAME TO t{fresh}"),
            1 => format!("ALTER TABLE {quoted} RENAME COLUMN {column} TO {fresh}"),
            2 => format!("ALTER TABLE {quoted} ADD COLUMN {fresh} INT DEFAULT {}", self.rng.below(100)),
            3 => format!("ALTER TABLE {quoted} ADD COLUMN {fresh} TEXT NOT NULL DEFAULT 'añ, (x'"),
            4 => format!(
                "ALTER TABLE {quoted} ADD COLUMN {fresh} REAL DEFAULT 7; ALTER TABLE {quoted} ADD COLUMN y{fresh}"
            ),
            5 => format!("ALTER TABLE {quoted} ADD COLUMN {fresh} AS (length({column})) VIRTUAL"),
            6 | 7 => format!("ALTER TABLE {quoted} DROP COLUMN {column}"),
            8 => format!("DROP TABLE {quoted}"),
            9 => format!("CREATE INDEX i{fresh} ON \"{}\"({column})", table.replace('"', "\"\"")),
            10 => format!("CREATE UNIQUE INDEX u{fresh} ON \"{}\"({column})", table.replace('"', "\"\"")),
            11 => match self.any(db, "index") {
                Some(index) => format!("DROP INDEX \"{index}\""),
                None => "ANALYZE".into(),
            },
            12 => format!("CREATE VIEW v{fresh} AS SELECT {column} AS c FROM \"{}\"", table.replace('"', "\"\"")),
            13 => format!(
                "CREATE TRIGGER g{fresh} AFTER DELETE ON {quoted} BEGIN DELETE FROM t1 WHERE rowid % 17 = 3; END"
            ),
            14 => match (self.any(db, "view"), self.any(db, "trigger")) {
                (Some(view), _) if self.rng.one_in(2) => format!("DROP VIEW \"{view}\""),
                (_, Some(trigger)) => format!("DROP TRIGGER \"{trigger}\""),
                _ => "REINDEX".into(),
            },
            15 => {
                let definition: String = db
                    .query_row("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1", [&table], |r| {
                        r.get(0)
                    })
                    .unwrap_or_default();
                format!("DROP TABLE {quoted}; {definition}")
            }
            16 => format!("ALTER TABLE {quoted} RENAME TO t{fresh}; CREATE TABLE {quoted}(n1, n2)"),
            _ => match self.any(db, "table").filter(|name| name.starts_with("ft")) {
                Some(name) if !name.contains('_') => format!("DROP TABLE {name}"),
                _ => format!(
                    "CREATE VIRTUAL TABLE ft{fresh} USING fts5(a, b); INSERT INTO ft{fresh} VALUES ('some words', 'x')"
                ),
            },
        };
        self.run(db, &sql);
    }

    fn any(&mut self, db: &Connection, kind: &str) -> Option<String> {
        db.query_row(
            "SELECT name FROM sqlite_schema WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite%' \
             ORDER BY (rowid * 7919 + ?2) % 101 LIMIT 1",
            (kind, self.rng.below(1000) as i64),
            |row| row.get(0),
        )
        .optional()
        .unwrap_or(None)
    }

    fn full_text(&mut self, db: &Connection) {
        let found: Option<String> = db
            .query_row("SELECT name FROM sqlite_schema WHERE name LIKE 'ft%' AND rootpage = 0", [], |row| row.get(0))
            .optional()
            .unwrap_or(None);
        if let Some(name) = found {
            let n = self.rng.below(1000);
            self.run(db, &format!("INSERT INTO {name} VALUES ('word{n} and more', hex(randomblob({n})))"));
        }
    }

    fn statement(&mut self, db: &Connection) {
        match self.rng.below(40) {
            0..=3 => self.change_schema(db),
            4 => self.full_text(db),
            5 => {
                let n = self.rng.below(20);
                self.run(db, &format!("PRAGMA incremental_vacuum({n})"));
            }
            6 => {
                let sql = *self.rng.pick(&[
                    "UPDATE sqlite_sequence SET seq = seq + 3",
                    "DELETE FROM sqlite_sequence",
                    "ANALYZE",
                ]);
                self.run(db, sql);
            }
            _ => self.change_rows(db),
        }
    }

    /// One transaction, or something that runs outside of one.
    pub fn transaction(&mut self, db: &Connection) {
        self.script.clear();
        match self.rng.below(30) {
            0 => return self.run(db, "VACUUM"),
            1..=12 => return self.statement(db),
            _ => {}
        }
        self.run(db, "BEGIN");
        for _ in 0..1 + self.rng.below(8) {
            match self.rng.below(12) {
                0 => {
                    self.run(db, "SAVEPOINT s");
                    for _ in 0..1 + self.rng.below(4) {
                        self.statement(db);
                    }
                    if self.rng.one_in(2) {
                        self.run(db, "ROLLBACK TO s");
                    }
                    self.run(db, "RELEASE s");
                }
                _ => self.statement(db),
            }
        }
        let end = if self.rng.one_in(8) { "ROLLBACK" } else { "COMMIT" };
        self.run(db, end);
        if !db.is_autocommit() {
            self.run(db, "ROLLBACK");
        }
    }
}
