//! Every column type of a server with its edge values: a table, and a load that inserts, updates and deletes all of them.
//!
//! ```text
//! let server = Server::new("mariadb-10.11").log_bin().option("--binlog-row-image=MINIMAL").start();
//! let types = Types::of(&server);
//! types.create(&server, "shop");        // database and table `shop`.`types`
//! types.load(&server, "shop");          // each value inserted, updated to the next one, some rows deleted
//! ```
//!
//! Row `id` holds, in each column, the value number `id` modulo the number of that column's values; an update moves a row to
//! the next values. So every value appears as a before image and as an after image, beside many others.

use std::fmt::Write as _;

use super::Server;

/// A column of the table.
#[derive(Clone, Debug)]
pub struct TypeColumn {
    /// Its name, which tells the type.
    pub name: String,
    /// Its definition in SQL.
    pub definition: String,
    /// Edge values as SQL expressions; NULL is among them.
    pub values: Vec<String>,
}

/// The columns that a server can have.
pub struct Types {
    /// In the order of the table, after the key `id`.
    pub columns: Vec<TypeColumn>,
}

/// Types of both families: definition, edge values. NULL is added to each.
const COMMON: &[(&str, &[&str])] = &[
    ("tinyint", &["-128", "-1", "0", "1", "127"]),
    ("tinyint unsigned", &["0", "127", "128", "255"]),
    ("smallint", &["-32768", "-1", "0", "32767"]),
    ("smallint unsigned", &["0", "32768", "65535"]),
    ("mediumint", &["-8388608", "-1", "0", "8388607"]),
    ("mediumint unsigned", &["0", "8388608", "16777215"]),
    ("int", &["-2147483648", "-1", "0", "2147483647"]),
    ("int unsigned", &["0", "2147483648", "4294967295"]),
    ("bigint", &["-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807"]),
    ("bigint unsigned", &["0", "9223372036854775808", "18446744073709551615"]),
    ("float", &["0", "-0.0", "1.5", "-3.4028e38", "1.17549e-38", "16777217"]),
    ("double", &["0", "-0.0", "0.1", "-1.7976931348623157e308", "2.2250738585072014e-308", "5e-324"]),
    ("decimal(1,0)", &["0", "9", "-9"]),
    ("decimal(10,2)", &["0", "0.01", "-0.01", "12345678.90", "99999999.99", "-99999999.99"]),
    ("decimal(9,9)", &["0", "0.000000001", "-0.999999999"]),
    ("decimal(18,9)", &["123456789.987654321", "-0.000000001", "100000000.000000000"]),
    (
        "decimal(65,30)",
        &[
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
        ],
    ),
    ("decimal(65,0)", &["99999999999999999999999999999999999999999999999999999999999999999", "-1", "0"]),
    ("decimal(20,5) unsigned", &["0", "999999999999999.99999"]),
    ("bit(1)", &["b'0'", "b'1'"]),
    ("bit(9)", &["b'0'", "b'100000001'", "b'111111111'"]),
    ("bit(64)", &["b'0'", "~0", "1 << 63"]),
    ("year", &["0", "1901", "2000", "2155"]),
    ("date", &["'0000-00-00'", "'1000-01-01'", "'2024-02-29'", "'9999-12-31'", "'2024-00-00'", "'2024-05-00'"]),
    ("time", &["'00:00:00'", "'-00:00:01'", "'838:59:59'", "'-838:59:59'", "'500:20:30'"]),
    ("time(3)", &["'00:00:00.001'", "'-00:00:00.001'", "'-12:34:56.789'", "'838:59:58.999'"]),
    ("time(6)", &["'00:00:00.000001'", "'-00:00:00.000001'", "'-00:00:01.999999'", "'23:59:59.999999'"]),
    ("datetime", &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2024-00-10 01:02:03'"]),
    ("datetime(1)", &["'2024-02-29 23:59:59.9'", "'0000-00-00 00:00:00.0'"]),
    ("datetime(3)", &["'2024-02-29 23:59:59.999'", "'1970-01-01 00:00:00.001'"]),
    ("datetime(6)", &["'9999-12-31 23:59:59.999999'", "'1000-01-01 00:00:00.000001'"]),
    ("timestamp null", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"]),
    ("timestamp(4) null", &["'1970-01-01 00:00:01.0001'", "'2024-06-30 12:00:00.9999'"]),
    ("timestamp(6) null", &["'2038-01-19 03:14:07.999999'", "'2001-09-09 01:46:40.000001'"]),
    ("char(1)", &["''", "'x'", "'é'"]),
    ("char(255) character set utf8mb4", &["''", "'trailing blanks go  '", "repeat('ü', 255)", "'😀'"]),
    ("char(30) character set latin1", &["_latin1 x'e4f6fc80'", "''", "'plain'"]),
    ("varchar(0)", &["''"]),
    ("varchar(255) character set latin1", &["''", "repeat('x', 255)", "_latin1 x'a4'"]),
    ("varchar(256) character set latin1", &["''", "repeat('y', 256)"]),
    (
        "varchar(100) character set utf8mb4",
        &["'😀 naïve'", "'line\\nbreak\\ttab'", "'quote '' \" ` \\\\'", "'\\0'", "'\u{202e}'"],
    ),
    ("varchar(50) character set utf16", &["'😀'", "'a'", "''"]),
    ("varchar(50) character set sjis", &["_utf8mb4'日本語'", "'ascii'", "''"]),
    ("varchar(50) character set gbk", &["_utf8mb4'中文'", "''"]),
    ("varchar(50) character set binary", &["x'00ff80'", "''", "'text'"]),
    ("binary(1)", &["x'00'", "x'ff'"]),
    ("binary(16)", &["x'00112233445566778899aabbccddeeff'", "x'01000000000000000000000000000000'", "''"]),
    ("varbinary(300)", &["''", "x'00'", "repeat(x'ff', 300)", "x'c328'"]),
    ("tinyblob", &["''", "repeat(x'00', 255)"]),
    ("blob", &["''", "x'00ff'", "repeat('b', 65535)"]),
    ("mediumblob", &["''", "repeat(x'fe', 70000)"]),
    ("longblob", &["''", "x'deadbeef'"]),
    ("tinytext", &["''", "'tiny'", "repeat('t', 255)"]),
    ("text character set utf8mb4", &["''", "'a\\nb'", "repeat('€', 1000)"]),
    ("mediumtext", &["''", "repeat('m', 66000)"]),
    ("longtext", &["''", "'long'"]),
    ("enum('', 'a', 'ünï', 'x''y,z')", &["''", "'a'", "'ünï'", "'x''y,z'", "0"]),
    ("set('a', 'b', 'c d', 'é')", &["''", "'a'", "'a,b'", "'é'", "15 & 11"]),
    ("point", &["st_geomfromtext('POINT(1 -2.5)')"]),
    (
        "geometry",
        &["st_geomfromtext('POLYGON((0 0,1 0,1 1,0 0))')", "st_geomfromtext('GEOMETRYCOLLECTION(POINT(1 2))')"],
    ),
];

const MARIADB: &[(&str, &[&str])] = &[
    ("json", &["'{\"a\": [1, 2.50, null, true]}'", "'[]'", "'\"é\"'"]),
    ("uuid", &["'00112233-4455-6677-8899-aabbccddeeff'", "'00000000-0000-0000-0000-000000000000'"]),
    ("inet6", &["'::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"]),
    ("inet4", &["'0.0.0.0'", "'255.255.255.255'", "'192.0.2.17'"]),
    ("varchar(1000) compressed", &["''", "'short'", "repeat('compress me ', 80)"]),
    ("text compressed character set utf8mb4", &["''", "repeat('ü', 2000)"]),
    ("blob compressed", &["''", "repeat(x'00', 5000)", "x'ff'"]),
];

const MYSQL: &[(&str, &[&str])] = &[
    (
        "json",
        &[
            "cast('null' as json)",
            "'{\"b\": 1, \"aa\": 1.0, \"a\": -9223372036854775808, \"u\": 18446744073709551615}'",
            "'[true, false, null, \"\", \"é😀\\\\u0001\", 0.1, 1e300, [], {}]'",
            "json_object('d', cast('12.50' as decimal(10,2)), 't', cast('2024-02-29 01:02:03.000004' as datetime(6)))",
            "json_array(cast('-12:34:56.7' as time(1)), cast('2024-02-29' as date), cast(x'00ff' as binary))",
            "json_object('long', repeat('x', 70000))",
        ],
    ),
    ("vector(3)", &["to_vector('[0,0,0]')", "to_vector('[1.5,-2.25,3e10]')"]),
    ("point srid 4326", &["st_srid(point(10, 20), 4326)"]),
];

impl Types {
    /// The types of this server, as it says itself.
    pub fn of(server: &Server) -> Types {
        let family = if server.is_mariadb() { MARIADB } else { MYSQL };
        server.sql("set sql_mode = ''; create database if not exists rlog_types_tried; use rlog_types_tried");
        let mut columns = Vec::new();
        for (definition, values) in COMMON.iter().chain(family) {
            // A server that does not know a type has no column of it: features, not versions.
            if server.try_sql(&format!("create table tried (x {definition})")).is_err() {
                eprintln!("{} has no {definition}", server.name());
                continue;
            }
            server.sql("drop table tried");
            let words: Vec<&str> =
                definition.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            let name = format!("c{}_{}", columns.len() + 1, words.join("_").to_lowercase());
            let values = values.iter().map(ToString::to_string).chain(["null".to_string()]).collect();
            let name = name.chars().filter(char::is_ascii).take(60).collect();
            columns.push(TypeColumn { name, definition: definition.to_string(), values });
        }
        server.sql("drop database rlog_types_tried");
        Types { columns }
    }

    /// The number of rows that bring every value once.
    pub fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.values.len()).max().unwrap_or(0)
    }

    /// The table's definition.
    pub fn create_table(&self, table: &str) -> String {
        let mut sql = format!("create table {table} (id int not null primary key");
        for column in &self.columns {
            let _ = write!(sql, ", `{}` {}", column.name, column.definition);
        }
        // The columns together are longer than one page may hold otherwise.
        sql.push_str(") engine=innodb default charset=utf8mb4 row_format=dynamic");
        sql
    }

    /// Creates the database, in it the table `types`, and makes the session accept every value (`sql_mode = ''`, UTC).
    pub fn create(&self, server: &Server, database: &str) {
        server.sql(&format!(
            "create database {database}; use {database}; set sql_mode = '', time_zone = '+00:00', names utf8mb4"
        ));
        server.sql(&self.create_table("types"));
    }

    /// The values of row `id`, as SQL, when it has been updated `updates` times.
    pub fn values(&self, id: usize, updates: usize) -> Vec<&str> {
        self.columns.iter().map(|column| column.values[(id + updates) % column.values.len()].as_str()).collect()
    }

    /// Inserts every value, updates every row to the next values, and deletes every third row, each in a transaction of its own;
    /// then updates a single column of what is left, which minimal row images show alone.
    pub fn load(&self, server: &Server, database: &str) {
        server.sql(&format!("use {database}; set sql_mode = '', time_zone = '+00:00', names utf8mb4"));
        for id in 0..self.rows() {
            server.sql(&format!("insert into types values ({id}, {})", self.values(id, 0).join(", ")));
        }
        for id in 0..self.rows() {
            let names = self.columns.iter().map(|column| &column.name);
            let set: Vec<String> =
                names.zip(self.values(id, 1)).map(|(name, value)| format!("`{name}` = {value}")).collect();
            server.sql(&format!("update types set {} where id = {id}", set.join(", ")));
        }
        server.sql("delete from types where id % 3 = 2");
        for column in &self.columns {
            server.sql(&format!("update types set `{}` = {} where id = 1", column.name, column.values[0]));
        }
    }
}
