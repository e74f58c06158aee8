//! Generates the binary logs that everything is measured on, with a real private MariaDB 10.11.
//!
//! | log  | what it is | at scale 1 |
//! |------|------------|------------|
//! | oltp | sysbench-like write-only transactions: two updates, a delete, an insert; 8 clients, durable commits | 60 k transactions, 240 k rows, about 130 MB |
//! | bulk | four transactions of narrow rows: two inserts, an update, a delete | 1 M rows each, about 320 MB |
//! | wide | rows of 29 columns with text, JSON text, decimals, temporals and blobs, 25 a transaction | 77.5 k rows, about 490 MB |
//!
//! Row metadata FULL, annotations, CRC32. Each log is a folder: `bin.000001` creates the tables and their first rows,
//! `bin.000002` is the load. They are kept from run to run (`RLOG_BENCH_LOGS`) and made anew when the scale changes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mysql::prelude::Queryable as _;

use crate::server::Server;

/// One generated log.
pub struct Log {
    /// `oltp`, `bulk` or `wide`.
    pub name: &'static str,
    /// What creates the tables and their first rows.
    pub setup: PathBuf,
    /// The load; this is what is measured.
    pub load: PathBuf,
    /// Row changes in the load.
    pub rows: u64,
}

/// How a workload is made on a running server: first its base, then its load.
struct Workload {
    name: &'static str,
    options: &'static [&'static str],
    setup: fn(&Server, f64) -> Result<()>,
    load: fn(&Server, f64) -> Result<u64>,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "oltp",
        options: &["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1"],
        setup: oltp_setup,
        load: oltp_load,
    },
    Workload { name: "bulk", options: &["--sync-binlog=0"], setup: bulk_setup, load: bulk_load },
    Workload { name: "wide", options: &["--sync-binlog=0"], setup: wide_setup, load: wide_load },
];

/// The logs in `folder`, generated there first if need be.
pub fn logs(folder: &Path, scale: f64) -> Result<Vec<Log>> {
    WORKLOADS.iter().map(|workload| log(folder, scale, workload)).collect()
}

fn log(folder: &Path, scale: f64, workload: &Workload) -> Result<Log> {
    let home = folder.join(workload.name);
    let made = home.join("made");
    let recipe = format!("scale {scale}");
    let have = fs::read_to_string(&made).unwrap_or_default();
    let mut lines = have.lines();
    if lines.next() == Some(&recipe)
        && let Some(rows) = lines.next().and_then(|rows| rows.strip_prefix("rows ")?.parse().ok())
    {
        return Ok(log_in(&home, workload.name, rows));
    }
    eprintln!("bench: generating {} at scale {scale} in {}", workload.name, home.display());
    let (server, rows) = generate(workload, scale)?;
    let closed = server.closed_logs();
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    for log in closed {
        fs::copy(&log, home.join(log.file_name().context("a log has a name")?))?;
    }
    fs::write(&made, format!("{recipe}\nrows {rows}\nserver {}\n", server.value("select version()")))?;
    Ok(log_in(&home, workload.name, rows))
}

/// A running server with the oltp load in its logs, which are closed: `bin.000001` the base, `bin.000002` the load. And the
/// rows of the load.
pub fn oltp_server(scale: f64) -> Result<(Server, u64)> {
    let generated = generate(&WORKLOADS[0], scale)?;
    generated.0.flush_logs();
    Ok(generated)
}

/// The same with the bulk load.
pub fn bulk_server(scale: f64) -> Result<(Server, u64)> {
    let generated = generate(&WORKLOADS[1], scale)?;
    generated.0.flush_logs();
    Ok(generated)
}

/// Transactions of the oltp load.
pub fn oltp_transactions(scale: f64) -> u64 {
    scaled(60_000, scale) / OLTP_CLIENTS * OLTP_CLIENTS
}

fn generate(workload: &Workload, scale: f64) -> Result<(Server, u64)> {
    let server = Server::new("mariadb-10.11")
        .log_bin()
        .options(["--binlog-row-metadata=FULL", "--binlog-row-image=FULL", "--binlog-checksum=CRC32"])
        .options(["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M", "--max-allowed-packet=64M"])
        .options(workload.options)
        .start();
    server.sql("create database bench; use bench");
    (workload.setup)(&server, scale)?;
    server.flush_logs();
    let rows = (workload.load)(&server, scale)?;
    Ok((server, rows))
}

fn log_in(home: &Path, name: &'static str, rows: u64) -> Log {
    Log { name, setup: home.join("bin.000001"), load: home.join("bin.000002"), rows }
}

fn scaled(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale) as u64).max(8)
}

const OLTP_ROWS: u64 = 100_000;
const OLTP_CLIENTS: u64 = 8;

fn oltp_setup(server: &Server, _scale: f64) -> Result<()> {
    server.sql(
        "create table sbtest1 (id int not null auto_increment primary key, k int not null default 0, \
         c char(120) not null default '', pad char(60) not null default '', key k_1 (k)) engine=innodb",
    );
    server.sql(&format!(
        "insert into sbtest1 select seq, 1 + floor(rand(1) * {OLTP_ROWS}), {}, {} from seq_1_to_{OLTP_ROWS}",
        digits(11, 10),
        digits(11, 5)
    ));
    Ok(())
}

/// SQL for `groups` groups of `len` random digits, as sysbench fills its columns.
fn digits(len: u32, groups: u32) -> String {
    let group = format!("lpad(floor(rand() * 1e{len}), {len}, '0')");
    format!("concat_ws('-', {})", vec![group; groups as usize].join(", "))
}

fn oltp_load(server: &Server, scale: f64) -> Result<u64> {
    let transactions = scaled(60_000, scale) / OLTP_CLIENTS;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..OLTP_CLIENTS)
            .map(|client| {
                scope.spawn(move || -> Result<u64> {
                    let mut conn = server.connect();
                    conn.query_drop("use bench")?;
                    let mut random = Random(client + 1);
                    let mut rows = 0;
                    for _ in 0..transactions {
                        rows += oltp_transaction(&mut conn, &mut random)?;
                    }
                    Ok(rows)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    })
}

/// One transaction of sysbench's oltp_write_only; the number of row changes that it logged.
fn oltp_transaction(conn: &mut mysql::Conn, random: &mut Random) -> Result<u64> {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const DEADLOCK: u16 = 1213;
    loop {
        let (a, b, c) = (random.below(OLTP_ROWS) + 1, random.below(OLTP_ROWS) + 1, random.below(OLTP_ROWS) + 1);
        let k = random.below(OLTP_ROWS) + 1;
        let statements = [
            "begin".to_string(),
            format!("UPDATE sbtest1 SET k=k+1 WHERE id={a}"),
            format!("UPDATE sbtest1 SET c='{}' WHERE id={b}", random.digits(11, 10)),
            format!("DELETE FROM sbtest1 WHERE id={c}"),
            format!(
                "INSERT INTO sbtest1 (id, k, c, pad) VALUES ({c}, {k}, '{}', '{}')",
                random.digits(11, 10),
                random.digits(11, 5)
            ),
            "commit".to_string(),
        ];
        let mut rows = 0;
        let done = statements.iter().try_for_each(|sql| {
            conn.query_drop(sql)?;
            rows += conn.affected_rows();
            Ok(())
        });
        match done {
            Ok(()) => return Ok(rows),
            Err(mysql::Error::MySqlError(error)) if [LOCK_WAIT_TIMEOUT, DEADLOCK, 1062].contains(&error.code) => {
                conn.query_drop("rollback")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn bulk_setup(server: &Server, _scale: f64) -> Result<()> {
    server.sql(
        "create table narrow (id int not null primary key, account int unsigned not null, amount decimal(12,2), \
         big bigint not null, at datetime not null, flag tinyint not null, word varchar(32)) engine=innodb",
    );
    Ok(())
}

fn bulk_load(server: &Server, scale: f64) -> Result<u64> {
    let rows = scaled(1_000_000, scale);
    let insert = |from: u64| {
        format!(
            "insert into narrow select seq, seq % 1000, (seq * 7 % 1000003) / 100, seq * 1000003, \
             from_unixtime(1700000000 + seq), seq % 3, concat(md5(seq)) from seq_{}_to_{}",
            from + 1,
            from + rows
        )
    };
    server.sql(&insert(0));
    server.sql(&insert(rows));
    server.sql(&format!(
        "update narrow set amount = amount + 1, flag = 1 - flag, word = left(word, 20) where id <= {rows}"
    ));
    server.sql(&format!("delete from narrow where id > {rows}"));
    Ok(4 * rows)
}

const WIDE_ROWS_PER_TRANSACTION: u64 = 25;

fn wide_setup(server: &Server, _scale: f64) -> Result<()> {
    server.sql(
        "create table wide (id bigint unsigned not null auto_increment primary key, \
         i1 int, i2 int unsigned, s1 smallint, t1 tinyint unsigned, m1 mediumint, b1 bigint, f1 float, d1 double, \
         dec1 decimal(10,2), dec2 decimal(30,10), dec3 decimal(65,30), y1 year, dt date, tm time(3), dtm datetime(6), \
         ts timestamp(3) null, bits bit(17), en enum('new','paid','sent','lost'), st set('a','b','c','d'), \
         ch char(36), vc varchar(255), vc2 varchar(1000) character set latin1, vb varbinary(64), \
         note text, doc json, doc2 json, blob1 blob, blob2 mediumblob) engine=innodb default charset=utf8mb4",
    );
    Ok(())
}

fn wide_load(server: &Server, scale: f64) -> Result<u64> {
    let transactions = scaled(77_500, scale).div_ceil(WIDE_ROWS_PER_TRANSACTION);
    let words =
        "the quick brown fox jumps over a lazy dog while zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich ";
    server
        .sql(&format!("set @words = repeat('{words}', 100), @bytes = ''; set session rand_seed1 = 7, rand_seed2 = 11"));
    server.sql(&format!("set @bytes = concat({})", vec!["random_bytes(1000)"; 20].join(", ")));
    // Pieces of one text and of one block of random bytes: cheap to make, and as incompressible as a blob usually is.
    let text = |len: u32| format!("substr(@words, 1 + floor(rand() * 1000), {len})");
    let bytes = |len: u32| format!("substr(@bytes, 1 + floor(rand() * 17000), {len})");
    let insert = format!(
        "insert into wide select null, rand() * 1e9, rand() * 4e9, rand() * 3e4, rand() * 255, rand() * 8e6, rand() * 9e18, \
         rand(), rand() * 1e100, rand() * 1e7, rand() * 1e18, rand() * 1e30, 1990 + rand() * 100, \
         date_add('2001-01-01', interval rand() * 9000 day), sec_to_time(rand() * 80000 - 40000.5), \
         from_unixtime(rand() * 2e9), from_unixtime(1 + rand() * 2e9), rand() * 131000, 1 + floor(rand() * 4), floor(rand() * 16), \
         uuid(), {}, {}, {}, {}, \
         json_object('id', seq, 'name', {}, 'tags', json_array('a', 'b', rand()), 'nested', json_object('price', rand() * 100, 'note', {})), \
         json_array(seq, {}, rand(), null, true), {}, {} from seq_1_to_{WIDE_ROWS_PER_TRANSACTION}",
        text(120),
        text(500),
        bytes(40),
        text(1500),
        text(40),
        text(500),
        text(300),
        bytes(1000),
        bytes(1800),
    );
    for _ in 0..transactions {
        server.sql(&insert);
    }
    Ok(transactions * WIDE_ROWS_PER_TRANSACTION)
}

/// A small generator (xorshift64*): the same load each time, apart from how the clients interleave.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn digits(&mut self, len: usize, groups: usize) -> String {
        let group = |random: &mut Random| format!("{:0len$}", random.next() % 10u64.pow(len as u32));
        (0..groups).map(|_| group(self)).collect::<Vec<_>>().join("-")
    }
}
