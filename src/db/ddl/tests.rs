//! Statements and dumps, and what the schema knows after them.

use super::*;
use crate::event::table::{ColumnKind, KeyPart, Sign, StringForm};

fn follow(statements: &[&str]) -> Schema {
    let mut schema = Schema::new();
    for sql in statements {
        let effect = schema.apply("d", sql.as_bytes());
        assert_eq!(effect.note, None, "{sql}");
    }
    schema
}

/// Columns with what matters of their kinds, then keys.
fn shape(schema: &Schema, table: &str) -> String {
    let Some(table) = schema.lookup("d", table) else { return "unknown".into() };
    let mut out = String::new();
    for column in &table.definition.columns {
        let kind = match column.kind {
            ColumnKind::Int { bytes, sign } => format!("{}{bytes}", if sign == Sign::Unsigned { "u" } else { "i" }),
            ColumnKind::String { form, bytes_max } => format!("{form:?}({bytes_max}) {}", column.charset),
            ColumnKind::Enum | ColumnKind::Set => {
                let members: Vec<_> = column.members.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect();
                format!("{:?}[{}]", column.kind, members.join("|"))
            }
            kind => format!("{kind:?}"),
        };
        let flags =
            [(column.generated, " generated"), (column.invisible, " invisible"), (column.nullable == Some(false), "!")];
        let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
        out.push_str(&format!("{} {}{flags}, ", column.name, kind.trim_end()));
    }
    let parts = |parts: &[KeyPart]| {
        let part = |part: &KeyPart| {
            let name = table.definition.columns[part.column as usize].name.clone();
            if part.prefix > 0 { format!("{name}({})", part.prefix) } else { name }
        };
        parts.iter().map(part).collect::<Vec<_>>().join(" ")
    };
    if !table.definition.primary_key.is_empty() {
        out.push_str(&format!("primary({}) ", parts(&table.definition.primary_key)));
    }
    for key in &table.definition.unique_keys {
        out.push_str(&format!("{}({}) ", key.name, parts(&key.parts)));
    }
    out.trim_end_matches([',', ' ']).to_owned()
}

#[test]
fn every_type_has_its_kind() {
    for (sql, kind) in [
        ("tinyint", "i1"),
        ("bool not null default true", "i1!"),
        ("int(10) unsigned zerofill", "u4"),
        ("mediumint zerofill", "u3"),
        ("BIGINT", "i8"),
        ("serial", "u8!, a(a)"),
        ("dec", "Decimal { precision: 10, scale: 0 }"),
        ("numeric(65,30) unsigned", "Decimal { precision: 65, scale: 30 }"),
        ("float(7,4)", "Float"),
        ("float(25)", "Double"),
        ("double precision", "Double"),
        ("bit", "Bit { bits: 1 }"),
        ("year(4)", "Year"),
        ("timestamp(6) not null default current_timestamp(6) on update current_timestamp(6)", "Timestamp { fsp: 6 }!"),
        ("char", "Char(1)"),
        ("varchar(10) character set latin1", "VarChar(10) latin1"),
        ("varchar(10) charset utf8 collate utf8_bin", "VarChar(30) utf8mb3"),
        ("varchar(10) collate utf8mb4_unicode_ci", "VarChar(40) utf8mb4"),
        ("char(3) byte", "Char(3) binary"),
        ("national varchar(5)", "VarChar(15) utf8mb3"),
        ("char varying(5)", "VarChar(5)"),
        ("binary(16)", "Char(16) binary"),
        ("varbinary(300)", "VarChar(300) binary"),
        ("text(70000)", "Medium(16777215)"),
        ("blob(10)", "Tiny(255) binary"),
        ("long varchar", "Medium(16777215)"),
        ("longblob compressed", "Long(4294967295) binary"),
        ("enum('a','b''c','d,e)') default 'a'", "Enum[a|b'c|d,e)]"),
        ("set('x','y ') character set latin1", "Set[x|y]"),
        ("json check (json_valid(`a`))", "JsonBinary"),
        ("point srid 4326", "Geometry"),
        ("vector(3)", "Vector"),
        ("uuid default uuid()", "Other(0)"),
        ("int generated always as (b + 1) stored", "i4 generated"),
        ("int as (concat('(', b)) persistent comment 'x, y)'", "i4 generated"),
        ("int /*!80023 invisible */ default 5", "i4 invisible"),
        ("int default (1 + 2) not null", "i4!"),
        ("int default -1 comment \"it's\"", "i4"),
        ("int references other (id) on delete set null on update cascade", "i4"),
        ("timestamp(6) generated always as row start", "Timestamp { fsp: 6 } generated!"),
        ("int constraint c check (a > 0) not enforced", "i4"),
    ] {
        let schema = follow(&[&format!("create table t (a {sql}, b int)")]);
        let wanted = match kind.split_once("!, ").map(|(column, key)| (format!("{column}!"), key)) {
            Some((column, key)) => format!("a {column}, b i4, {key}"),
            None => format!("a {kind}, b i4"),
        };
        assert_eq!(shape(&schema, "t"), wanted, "{sql}");
    }
}

#[test]
fn what_show_create_table_prints_is_read() {
    let schema = follow(&[
        "CREATE TABLE `t` (\n  `id` int(10) unsigned NOT NULL AUTO_INCREMENT,\n  `sku` varchar(20) NOT NULL DEFAULT '',\n  \
         `n``ame` char(3) COLLATE latin1_german2_ci DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`sku`(10),`n``ame`) USING HASH,\n  \
         KEY `k` (`sku`),\n  FULLTEXT KEY `f` (`sku`),\n  CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `o` (`id`) ON DELETE CASCADE,\n  \
         CONSTRAINT `x` CHECK (`id` > 0)\n) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=latin1 COMMENT='a;b'\n/*!50100 PARTITION BY HASH (id) PARTITIONS 4 */",
    ]);
    assert_eq!(
        shape(&schema, "t"),
        "id u4!, sku VarChar(20) latin1!, n`ame Char(3) latin1, primary(id) u(sku(10) n`ame)"
    );
    let table = schema.lookup("d", "t").unwrap();
    assert_eq!(table.definition.foreign_keys, Some(true));
    assert_eq!(table.definition.columns[1].default_sql, "''");
    assert_eq!(table.definition.columns[0].sql_type, "int(10) unsigned");
    assert_eq!(table.definition.columns[2].collation, 31);
}

#[test]
fn alter_table_is_followed() {
    let start = "create table t (id int primary key, a int, b varchar(5) unique) default charset latin1";
    for (alter, after) in [
        (
            "add c int first, add column d int after id",
            "c i4, id i4!, d i4, a i4, b VarChar(5) latin1, primary(id) b(b)",
        ),
        ("add (c int, d int), drop a", "id i4!, b VarChar(5) latin1, c i4, d i4, primary(id) b(b)"),
        ("drop column if exists zz, drop b", "id i4!, a i4, primary(id)"),
        ("modify a bigint unsigned first", "a u8, id i4!, b VarChar(5) latin1, primary(id) b(b)"),
        ("change id ID2 bigint after b", "a i4, b VarChar(5) latin1, ID2 i8!, primary(ID2) b(b)"),
        ("rename column a to aa, alter aa set default 5", "id i4!, aa i4, b VarChar(5) latin1, primary(id) b(b)"),
        ("drop primary key, add primary key (a, b(3))", "id i4!, a i4!, b VarChar(5) latin1!, primary(a b(3)) b(b)"),
        (
            "add unique key (a), add unique (a, id), drop index b",
            "id i4!, a i4, b VarChar(5) latin1, primary(id) a(a) a_2(a id)",
        ),
        ("convert to character set utf8mb4", "id i4!, a i4, b VarChar(20) utf8mb4, primary(id) b(b)"),
        (
            "character set utf8mb4, add c char(2)",
            "id i4!, a i4, b VarChar(5) latin1, c Char(8) utf8mb4, primary(id) b(b)",
        ),
        (
            "engine=innodb, algorithm=inplace, lock none, add c int",
            "id i4!, a i4, b VarChar(5) latin1, c i4, primary(id) b(b)",
        ),
        (
            "add index k (a), add constraint f foreign key (a) references o(id), comment 'x'",
            "id i4!, a i4, b VarChar(5) latin1, primary(id) b(b)",
        ),
        (
            "add system versioning",
            "id i4!, a i4, b VarChar(5) latin1, row_start Timestamp { fsp: 6 } generated invisible!, row_end Timestamp { fsp: 6 } generated invisible!, primary(id) b(b)",
        ),
        (
            "partition by range (id) (partition p0 values less than (5), partition p1 values less than maxvalue)",
            "id i4!, a i4, b VarChar(5) latin1, primary(id) b(b)",
        ),
    ] {
        let schema = follow(&[start, &format!("alter table d.t {alter}")]);
        assert_eq!(shape(&schema, "t"), after, "{alter}");
    }
    let schema = follow(&[start, "alter table t rename to e.x, add c int"]);
    assert!(schema.lookup("d", "t").is_none());
    assert_eq!(schema.lookup("e", "x").unwrap().definition.columns.len(), 4);
    let versioned = "create table t (id int) with system versioning";
    let schema = follow(&[versioned, "alter table t add a int", "alter table t drop system versioning"]);
    assert_eq!(shape(&schema, "t"), "id i4, a i4");
}

#[test]
fn tables_come_go_and_change_their_names() {
    let schema = follow(&[
        "create table a (x int)",
        "create table b like a",
        "create table if not exists a (y int)",
        "rename table a to c, b to a",
        "create index i on c (x)",
        "create unique index u on c (x)",
        "truncate c",
        "create temporary table c (z int)",
        "drop temporary table if exists c",
    ]);
    assert_eq!(shape(&schema, "a"), "x i4");
    assert_eq!(shape(&schema, "c"), "x i4, u(x)");
    assert_eq!(shape(&schema, "b"), "unknown");
    let mut schema = schema;
    assert_eq!(schema.apply("d", b"drop index u on c").kind, "drop index");
    assert_eq!(shape(&schema, "c"), "x i4");
    assert_eq!(schema.apply("x", b"DROP TABLE IF EXISTS `d`.`a`,d.c /* generated by server */").tables.len(), 2);
    assert!(schema.is_empty());
    schema.apply("d", b"create or replace table s (x int)");
    schema.apply("d", b"create sequence q");
    assert_eq!(schema.lookup("d", "q").unwrap().definition.columns.len(), 8);
    schema.apply("", b"drop database d");
    assert!(schema.is_empty());
}

#[test]
fn the_charset_of_a_database_and_of_the_server_is_inherited() {
    let mut schema = Schema::new();
    schema.apply("", b"create database a character set utf16");
    schema.apply_in(&Session { server: 8, ..Session::default() }, b"create database b");
    for database in ["a", "b", "c"] {
        schema.apply(database, b"create table t (x char(1), e enum('\xc3\xa9'))");
    }
    let column = |database, at: usize| schema.lookup(database, "t").unwrap().definition.columns[at].clone();
    assert_eq!([column("a", 0).charset, column("b", 0).charset, column("c", 0).charset], ["utf16", "latin1", ""]);
    assert_eq!(column("b", 1).members, [b"\xe9".to_vec()], "members are in the column's charset");
    assert_eq!(column("a", 1).members, [b"\x00\xe9".to_vec()]);
}

#[test]
fn a_statement_that_cannot_be_followed_makes_its_table_unknown_and_says_so() {
    for sql in [
        "create table t select 1 as a",
        "create table t (a int) select 2 as b",
        "create table t (a int) as select 2 as b",
        "create table t (a nosuchtype)",
        "create table t (a int",
        "create table t (a int, primary key (b))",
        "create table t like nowhere.u",
        "alter table t frobnicate the columns",
        "alter table t drop column nosuch",
        "alter table t add column a bigint",
        "alter table t modify a",
        "rename table t",
    ] {
        let mut schema = follow(&["create table t (a int)"]);
        let effect = schema.apply("d", sql.as_bytes());
        if sql.starts_with("rename") {
            continue;
        }
        assert!(effect.note.is_some(), "{sql}");
        assert_eq!(effect.tables, [("d".to_owned(), "t".to_owned())], "{sql}");
        assert_eq!(shape(&schema, "t"), "unknown", "{sql}");
        assert!(schema.why_unknown("d", "t").is_some());
        schema.apply("d", b"create table t (b int)");
        assert_eq!(shape(&schema, "t"), "b i4", "known again");
    }
}

#[test]
fn statements_that_are_no_ddl_of_tables_change_nothing() {
    let mut schema = follow(&["create table t (a int)"]);
    for (sql, kind) in [
        ("insert into t values ('create table t (b int)')", ""),
        ("/* x */ update t set a = 1", ""),
        ("create definer=`root`@`%` sql security definer view v as select 1", "create view"),
        ("CREATE DEFINER=`a`@`b` TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN DROP TABLE t; END", "create trigger"),
        ("drop procedure p", "drop procedure"),
        ("create user u", "create user"),
        ("-- c\n# d\n/*!50003 drop function f */", "drop function"),
        ("", ""),
    ] {
        let effect = schema.apply("d", sql.as_bytes());
        assert_eq!((effect.kind, effect.note), (kind, None), "{sql}");
        assert_eq!(shape(&schema, "t"), "a i4");
    }
}

#[test]
fn a_dump_is_loaded_and_its_routines_are_passed_over() {
    let mut schema = Schema::new();
    let notes = schema.load(
        "/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump\n/*!40101 SET @x=1 */;\nCREATE TABLE `t` (a int);\n\
         CREATE DATABASE /*!32312 IF NOT EXISTS*/ `e` /*!40100 DEFAULT CHARACTER SET latin1 */;\nUSE `e`;\n\
         /*!40101 SET character_set_client = utf8 */;\nCREATE TABLE `u` (\n  `b` char(2)\n) ENGINE=InnoDB;\n\
         DELIMITER ;;\nCREATE TRIGGER x BEFORE INSERT ON u FOR EACH ROW BEGIN\nDROP TABLE u;\nEND ;;\nDELIMITER ;\n\
         INSERT INTO u VALUES ('; create table u (z int)');\nCREATE TABLE w (a nosuch);\n",
    );
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(shape(&schema, "t"), "a i4", "under any database");
    assert_eq!(schema.lookup("e", "u").unwrap().definition.columns[0].charset, "latin1");
    schema.apply("d", b"alter table t add b int");
    assert_eq!(shape(&schema, "t"), "a i4, b i4");
    assert_eq!(schema.lookup("other", "t").unwrap().definition.columns.len(), 1);
    schema.apply("d", b"drop table t");
    assert_eq!(shape(&schema, "t"), "unknown");
}

#[test]
fn what_the_client_shows_of_show_create_table_is_loaded() {
    let mut schema = Schema::new();
    // Batch mode: names, tabs, and line breaks as escapes; several rows without semicolons.
    schema.load("Table\tCreate Table\nt\tCREATE TABLE `t` (\\n  `a` int(11) DEFAULT NULL,\\n  `b` char(1)\\n) ENGINE=InnoDB\nu\tCREATE TABLE `u` (\\n  `c` int\\n) ENGINE=InnoDB\n");
    assert_eq!(shape(&schema, "t"), "a i4, b Char(1)");
    assert_eq!(shape(&schema, "u"), "c i4");
    let mut schema = Schema::new();
    schema.load("*************************** 1. row ***************************\n       Table: t\nCreate Table: CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB");
    assert_eq!(shape(&schema, "t"), "a i4");
}

#[test]
fn no_text_panics() {
    let seeds = [
        "create table `d`.t (id int unsigned primary key, a varchar(5) character set latin1 default 'x' comment 'y', unique key u (a(3))) charset=utf8",
        "alter table t add column (b enum('x','y'), c int), modify a int first, drop column id, convert to character set utf8, rename to z",
        "/*!50100 create */ table if not exists t like x; rename table a to b, c to d; drop table a, b",
    ];
    let mut state = 88_172_645_463_325_252u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for seed in seeds {
        for _ in 0..3000 {
            let mut bytes = seed.as_bytes().to_vec();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                match if bytes.is_empty() { 3 } else { random(4) } {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, b"(),'`\"\\;*/ "[random(11)]),
                }
            }
            let mut schema = follow(&["create table d.t (id int, a int)", "create table d.x (id int)"]);
            schema.apply("d", &bytes);
            schema.load(&String::from_utf8_lossy(&bytes));
        }
    }
    let _ = StringForm::Char;
}
