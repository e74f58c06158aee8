//! What servers test of their own replication (suites rpl and binlog, by the features they cover; the statements are ours), run on a source while it is
//! followed into a replica of the same kind. At the end all tables are equal, and so are their definitions.

use std::process::{Child, Command, Stdio};

use crate::common::{Server, rlog, scratch, shell};

/// For every server: subject, script for the command-line client.
const COMMON: &[(&str, &str)] = &[
    (
        "row_types",
        "create table types (id int primary key, a tinyint, b smallint unsigned, c mediumint, d bigint unsigned, e float, f double, g decimal(65,30), h bit(33), \
           i date, j time(6), k datetime(3), l timestamp(6) null, m year, n char(10), o varchar(300), p tinyblob, q text, r mediumblob, s longtext, \
           t enum('x','y','ä'), u set('a','b','c'), v binary(5), w varbinary(400));\n\
         insert into types values (1, -128, 65535, -8388608, 18446744073709551615, -1.5e-30, 1.7e308, -12345678901234567890.000000000000000000000000000001, \
           b'111000111000111000111000111000111', '9999-12-31', '-838:59:59.000000', '1000-01-01 00:00:00.001', '2038-01-19 03:14:07.999999', 2155, 'x', \
           repeat('o', 300), '', 'q', repeat('r', 70000), repeat('s', 300000), 'ä', 'a,c', 'ab', x'00ff');\n\
         insert into types (id) values (2);\n\
         update types set h = h + 1, j = '12:13:14.151617', t = 'x', u = '' where id = 1; update types set s = null, o = 'later' where id = 2; delete from types where id = 1;\n",
    ),
    (
        "row_keys",
        "create table nokey (a int, b varchar(10)); insert into nokey values (1, 'x'), (1, 'x'), (1, 'x'), (null, null), (null, null);\n\
         delete from nokey where a = 1 limit 1; update nokey set b = 'y' where a is null limit 1;\n\
         create table uniq (a int, b int, c int not null, unique (a, b), key (c)); insert into uniq values (1, null, 1), (1, null, 1), (2, 2, 2); update uniq set c = 3; delete from uniq where a = 1 limit 1;\n\
         create table compound (a varchar(20) character set utf8mb4, b int, c text, primary key (b, a(5))); insert into compound values ('aaaaab', 1, 'x'), ('AAAAC', 2, 'y'); \
         update compound set b = b + 10 order by b desc; delete from compound where b = 11;\n",
    ),
    (
        "upserts",
        "create table up (id int primary key auto_increment, u int unique, n int default 0);\n\
         insert into up (u) values (1), (2), (3); insert into up (u) values (2), (4) on duplicate key update n = n + 1; insert ignore into up (u) values (1), (5);\n\
         replace into up (id, u, n) values (1, 5, 9); replace into up (u, n) values (2, 7), (3, 7); set auto_increment_increment = 10, auto_increment_offset = 3; insert into up (u) values (100), (101);\n",
    ),
    (
        "multi_table",
        "create table m1 (id int primary key, v int); create table m2 (id int primary key, v int); create table m3 (id int primary key, v int);\n\
         insert into m1 values (1, 1), (2, 2), (3, 3); insert into m2 select id, v * 10 from m1; insert into m3 select * from m2;\n\
         update m1, m2 set m1.v = m2.v, m2.v = 0 where m1.id = m2.id and m1.id < 3; delete m1, m3 from m1 join m3 using (id) where m1.id = 2; update m1 left join m3 using (id) set m1.v = -1 where m3.id is null;\n",
    ),
    (
        "savepoints",
        "create table sp (id int primary key); begin; insert into sp values (1); savepoint a; insert into sp values (2); rollback to a; insert into sp values (3); \
         savepoint `b``c`; insert into sp values (4); release savepoint a; commit; begin; insert into sp values (5); rollback; set autocommit = 0; insert into sp values (6); \
         create table sp2 (id int primary key); insert into sp2 values (1); commit;\n",
    ),
    (
        "temporary",
        "create temporary table tmp (a int primary key, b int); insert into tmp values (1, 2), (3, 4); create table of_tmp (a int primary key, b int); insert into of_tmp select * from tmp; \
         update of_tmp join tmp using (a) set of_tmp.b = tmp.b * 2; create table real_one (a int primary key); create temporary table real_one (z int); insert into real_one values (7); drop temporary table real_one; \
         insert into real_one values (8); alter table tmp add c int; drop table tmp; create temporary table gone select 1 as x;\n",
    ),
    (
        "create_variants",
        "create table c0 (id int primary key, v varchar(10) default 'd', key (v)) comment 'it''s'; insert into c0 values (1, 'x'); create table c1 like c0; insert into c1 select * from c0; \
         create table c2 (primary key (id)) select id, v, id * 2 as twice from c0; create table if not exists c2 (id int); drop table if exists nothing_there, c1; create table c1 (a int primary key); truncate table c1; \
         insert into c1 values (5); rename table c1 to c9, c0 to c1, c9 to c0;\n",
    ),
    (
        "alter_variants",
        "create table al (id int primary key, a int, b varchar(10) character set latin1, c int); insert into al values (1, 1, 'ä', 1), (2, 2, 'b', 2);\n\
         alter table al add column d int not null default 7 first, add column e text after a; insert into al (id, a, e) values (3, 3, 'e'); alter table al drop column c; alter table al change b bb varchar(40) character set utf8mb4; \
         insert into al (id, bb) values (4, '😀'); alter table al modify a bigint; update al set a = 5000000000 where id = 1; alter table al rename column e to ee, add index (ee(3)), add unique u (id, a); \
         alter table al drop primary key, add primary key (id, d); update al set d = 8 where id = 2; alter table al alter column d set default 9; insert into al (id) values (5); alter table al convert to character set utf8mb4; \
         update al set bb = 'ö' where id = 2; alter table al rename to altered, comment = 'x'; alter table altered order by id; delete from altered where id = 3; alter table altered drop index u, drop column ee;\n",
    ),
    (
        "partitions",
        "create table pt (id int, k int, v varchar(20), primary key (id, k)) partition by range (k) (partition p0 values less than (10), partition p1 values less than (20), partition p2 values less than maxvalue);\n\
         insert into pt values (1, 1, 'a'), (2, 11, 'b'), (3, 30, 'c'), (4, 12, 'd'); update pt set k = 25 where id = 2; alter table pt truncate partition p0; alter table pt reorganize partition p2 into (partition p2 values less than (28), partition p3 values less than maxvalue); \
         create table px (id int, k int, v varchar(20), primary key (id, k)); insert into px values (9, 15, 'ex'); alter table pt exchange partition p1 with table px; alter table pt drop partition p3; \
         create table ph (id int primary key) partition by hash (id) partitions 2; insert into ph values (1), (2), (3); alter table ph add partition partitions 2; alter table ph coalesce partition 1; alter table ph remove partitioning; insert into ph values (4);\n",
    ),
    (
        "generated",
        "create table ge (id int primary key, a int, v int generated always as (a + 1) virtual, s int generated always as (a * 2) stored, w varchar(20) generated always as (concat('w', a)) virtual, unique (s), key (w)); \
         insert into ge (id, a) values (1, 10), (2, 20); update ge set a = 11 where s = 20; alter table ge add column t int generated always as (id + a) stored; insert into ge (id, a) values (3, 30); alter table ge drop column v; delete from ge where w = 'w20';\n",
    ),
    (
        "routines",
        "create table r1 (id int primary key auto_increment, v varchar(40)); create table r2 (id int primary key auto_increment, of_id int, what varchar(40));\n\
         create trigger r1_ai after insert on r1 for each row insert into r2 (of_id, what) values (new.id, concat('new ', new.v)); create trigger r1_bu before update on r1 for each row set new.v = concat(new.v, '!'); \
         create trigger r1_ad after delete on r1 for each row delete from r2 where of_id = old.id;\n\
         delimiter //\ncreate function put_one(x varchar(40)) returns int modifies sql data begin insert into r1 (v) values (x); return last_insert_id(); end//\n\
         create procedure many(in n int) begin declare i int default 0; declare exit handler for sqlexception rollback; while i < n do insert into r1 (v) values (concat('many', i)); set i = i + 1; end while; insert into r1 (id) values (1); end//\ndelimiter ;\n\
         insert into r1 (v) values ('a'), ('b'); select put_one('c'); do put_one('d'); call many(3); update r1 set v = 'changed' where v = 'b'; delete from r1 where v = 'a'; \
         drop trigger r1_ai; insert into r1 (v) values ('quiet'); drop procedure many; alter function put_one comment 'x'; drop function put_one;\n",
    ),
    (
        "foreign_keys",
        "create table fp (id int primary key, v int); create table fc (id int primary key, p int, foreign key (p) references fp (id) on delete cascade on update cascade); create table fn (id int primary key, p int, foreign key (p) references fp (id) on delete set null);\n\
         insert into fp values (1, 1), (2, 2), (3, 3); insert into fc values (1, 1), (2, 2), (3, 3); insert into fn values (1, 1), (2, 2), (3, 3); delete from fp where id = 1; update fp set id = 20 where id = 3 and 0; \
         delete from fp where id = 2; set foreign_key_checks = 0; insert into fc values (9, 99); delete from fc where id = 9; set foreign_key_checks = 1; insert into fp values (4, 4); begin; insert into fc values (4, 4); delete from fp where id = 4; commit;\n",
    ),
    (
        "identifiers",
        "create table `we``ird \"name\".x` (`a b` int primary key, `select` int, `ключ` varchar(10), `ä` int); insert into `we``ird \"name\".x` values (1, 2, 'три', 4); update `we``ird \"name\".x` set `select` = 3, `ключ` = '四'; \
         create table `Groß` (`日本語` int primary key); insert into `Groß` values (1); alter table `Groß` add `новый столбец` int; set sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'; \
         create table \"ansi\" (\"id\" int primary key, v varchar(20) default 'a\\'); insert into \"ansi\" (id) values (1); insert into \"ansi\" values (2, 'x' || '\\');\n",
    ),
    (
        "charsets",
        "create table cs (id int primary key, a varchar(20) character set big5, b varchar(20) character set sjis, c varchar(20) character set utf8mb4, d varchar(20) character set ucs2, e varchar(20) character set cp1251, f varchar(20) character set latin1, g enum('é','ü') character set latin1) ;\n\
         insert into cs values (1, '功夫', 'ソ表', '😀𝄞', 'ひ', 'Привет', 'naïve', 'ü'); set names latin1; insert into cs (id, f) values (2, _latin1 x'e4f6fc'); set names utf8mb4; update cs set a = '許', c = concat(c, 'x') where id = 1; \
         alter table cs modify a varchar(20) character set utf8mb4; update cs set a = concat(a, '蓋') where id = 1;\n",
    ),
    (
        "times",
        "create table ti (id int primary key, ts timestamp(6) null, dt datetime(6) default current_timestamp(6) on update current_timestamp(6), t time, v int); set time_zone = '+05:30'; set timestamp = 1700000000.123456; insert into ti (id, ts, v) values (1, now(6), 1); \
         set time_zone = '-11:00'; insert into ti (id, ts, v) values (2, '2000-01-01 00:00:00', 1); update ti set v = 2; set sql_mode = 'ALLOW_INVALID_DATES'; insert into ti (id, dt) values (3, '0000-00-00 00:00:00'), (4, '2001-02-31 00:00:00'), (5, '2024-00-00');\n",
    ),
    (
        "xa",
        "create table xa1 (id int primary key); xa start 'one'; insert into xa1 values (1); xa end 'one'; xa prepare 'one'; xa commit 'one'; xa start 'two', 'b', 5; insert into xa1 values (2); xa end 'two', 'b', 5; xa prepare 'two', 'b', 5; xa rollback 'two', 'b', 5; \
         xa start 'three'; insert into xa1 values (3); xa end 'three'; xa commit 'three' one phase; begin; insert into xa1 values (4); commit;\n",
    ),
    (
        "load_data",
        "create table ld (a int primary key, b varchar(20), c int); load data local infile 'LOADFILE' into table ld fields terminated by ',' (a, b) set c = a * 2; load data local infile 'LOADFILE' replace into table ld fields terminated by ',' (a, @b) set b = upper(@b);\n",
    ),
    (
        "json_and_space",
        "create table js (id int primary key, j json, g geometry, p point); insert into js values (1, '{\"a\": [1, 2, {\"b\": null}], \"c\": \"ä\"}', st_geomfromtext('linestring(0 0, 1 2)'), point(1, 2)); update js set j = json_set(j, '$.a[0]', 100, '$.d', 1.5); insert into js (id, j) values (2, '[]');\n",
    ),
    (
        "prepared_and_locked",
        "create table pr (id int primary key, v int); prepare s from 'insert into pr values (?, ?)'; set @a = 1, @b = 2; execute s using @a, @b; deallocate prepare s; prepare d from 'create table pr2 (id int primary key)'; execute d; lock tables pr write, pr2 write; insert into pr values (2, 2); insert into pr2 values (1); unlock tables; \
         start transaction with consistent snapshot; insert into pr values (3, rand() * 1000), (4, connection_id()); commit; insert into pr select id + 10, floor(rand() * 100) from pr;\n",
    ),
    (
        "views_and_databases",
        "create table vw (id int primary key, v int); create view vv as select * from vw where v > 1 with check option; insert into vv values (1, 5); update vv set v = 6; create or replace view vv as select id from vw; drop view vv; \
         create database rpl_two default character set latin1; create table rpl_two.t (id int primary key, v varchar(10)); insert into rpl_two.t values (1, 'x'); alter database rpl_two default character set utf8mb4; create table rpl_two.u (a varchar(10) primary key); insert into rpl_two.u values ('😀'); \
         create database rpl_gone; create table rpl_gone.t (id int); insert into rpl_gone.t values (1); drop database rpl_gone; insert into rpl_two.t select id + 1, 'y' from rpl_two.t;\n",
    ),
    (
        "failures",
        "create table fa (id int primary key); insert into fa values (1); begin; insert into fa values (2); insert ignore into fa values (2), (3); commit; drop table if exists fa_not; create table if not exists fa (id int); insert into fa select 4 from dual where 1; delete from fa where id = 77; update fa set id = id;\n",
    ),
];

/// What only MariaDB has.
const MARIADB: &[(&str, &str)] = &[
    (
        "sequences",
        "create sequence sq start with 100 increment by 10 cache 2; create table of_sq (id int primary key default nextval(sq), v int); insert into of_sq (v) values (1), (2), (3); select nextval(sq); do setval(sq, 1000); insert into of_sq (v) values (4); alter sequence sq restart 5000; insert into of_sq (v) values (5); create sequence sq_gone; drop sequence sq_gone;\n",
    ),
    (
        // No history of versioned tables: a server that gets it as row events outside of its replica thread makes a duplicate key of it.
        "periods",
        "create table pe (id int, s date, e date, period for p (s, e), primary key (id, p without overlaps)); insert into pe values (1, '2020-01-01', '2021-01-01'); delete from pe for portion of p from '2020-03-01' to '2020-04-01'; update pe for portion of p from '2020-05-01' to '2020-06-01' set id = 2;\n",
    ),
    (
        "returning_and_invisible",
        "create table iv (id int primary key, a int invisible default 5, b int); insert into iv (id, b) values (1, 1); insert into iv (id, a, b) values (2, 2, 2) returning id; update iv set a = 9 where id = 1; delete from iv where id = 2 returning *; create or replace table iv2 (a int primary key); insert into iv2 values (1); create or replace table iv2 (b int primary key); insert into iv2 values (2); \
         create table ty (id uuid primary key, i inet6); insert into ty values ('123e4567-e89b-12d3-a456-426655440000', '2001:db8::1'); update ty set i = '::';\n",
    ),
    (
        "compressed_columns",
        "create table cc (id int primary key, a blob compressed, b varchar(2000) compressed); insert into cc values (1, repeat('x', 5000), repeat('y', 1500)), (2, 'short', ''); update cc set a = repeat('z', 300) where id = 1;\n",
    ),
    (
        "statements_in_one",
        "create table so (id int primary key);\ndelimiter //\nbegin not atomic insert into so values (1); insert into so values (2); commit; insert into so values (3); end//\n",
    ),
];

/// What only MySQL has.
const MYSQL: &[(&str, &str)] = &[
    (
        "invisible",
        "create table iv (id int primary key, a int invisible default 5, b int default (7 * 6)); insert into iv (id) values (1); insert into iv (id, a, b) values (2, 2, 2); update iv set a = 9 where id = 1; set sql_generate_invisible_primary_key = 1; create table ip (v int); insert into ip values (1), (1), (2); delete from ip where v = 2; update ip set v = 3 limit 1;\n",
    ),
    (
        "functional_indexes",
        "create table fi (id int primary key, a varchar(20), key ((lower(a))), key d (a desc)); insert into fi values (1, 'A'), (2, 'b'); update fi set a = 'C' where lower(a) = 'a'; create table ja (id int primary key, j json, key m ((cast(j->'$.x' as unsigned array)))); insert into ja values (1, '{\"x\": [1, 2]}'); update ja set j = json_set(j, '$.x[0]', 9);\n",
    ),
    (
        "instant",
        "create table ins (id int primary key, a int); insert into ins values (1, 1); alter table ins add column b int default 3, algorithm=instant; insert into ins values (2, 2, 2); alter table ins drop column a, algorithm=instant; update ins set b = 4; alter table ins add key kb (b); alter table ins rename index kb to kc;\n",
    ),
];

/// A program of a pipeline that follows.
struct Follower(Child);

impl Follower {
    fn start(script: &str, arguments: &[&str]) -> Follower {
        let path =
            shell("").get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap().to_owned();
        let child = Command::new("bash")
            .args(["-uo", "pipefail", "-c", script, "bash"])
            .args(arguments)
            .env("PATH", path)
            .env("HOME", "/nonexistent")
            .env_remove("RLOG_CONFIG")
            .stdin(Stdio::null())
            .spawn()
            .expect("bash runs");
        Follower(child)
    }

    fn stop(mut self) -> i32 {
        // SAFETY: a plain system call on a child that was not waited for.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn definitions(server: &Server) -> Vec<String> {
    let names = server.text(
        "select table_schema, table_name from information_schema.tables where table_schema in ('rpl', 'rpl_two') and table_type <> 'VIEW' order by 1, 2",
    );
    let of = |line: &str| {
        let (database, table) = line.split_once('\t').unwrap();
        let quoted = table.replace('`', "``");
        let text = server.text(&format!("show create table {database}.`{quoted}`"));
        // The counter counts what was rolled back, too.
        let text = text.split(" AUTO_INCREMENT=").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        format!("{line}: {}", text.collect::<String>())
    };
    names.lines().map(of).collect()
}

#[test]
fn statements_of_every_kind_arrive_while_they_are_followed() {
    for name in ["mariadb-10.11", "mariadb-11.8", "mysql-9.7"] {
        let builder = || {
            let builder = Server::new(name).options([
                "--binlog-row-metadata=FULL",
                "--log-bin-trust-function-creators=1",
                "--local-infile=1",
                "--max-allowed-packet=64M",
            ]);
            if name.starts_with("mysql") { builder.gtid() } else { builder }
        };
        let (source, replica) = (builder().log_bin().start(), builder().start());
        let folder = scratch();
        let file = folder.path().join("rows.csv");
        std::fs::write(&file, "1,one\n2,two\n3,three\n").unwrap();
        source.sql("create database rpl default character set utf8mb4");
        let spool = folder.path().join("spool").display().to_string();
        let (url, target) = (source.url(""), replica.url(""));
        let put = "rlog-extract -q --confirm \"$1\" \"$2\" | rlog-queue put --lock-wait 30 \"$1\"";
        let once = |script: &str, last: &str| {
            let output = shell(script).args([&spool, last]).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        };
        once(put, &url);
        let feed = "trap 'kill $!' TERM; rlog-queue put --lock-wait 30 \"$1\" < <(exec rlog-extract -q --follow --confirm \"$1\" \"$2\") & wait $!; wait $!";
        let fed = Follower::start(feed, &[&spool, &url]);
        let apply =
            "exec rlog-apply run -q --follow --workers 2 --allow-nontransactional --from \"$1\" --init empty \"$2\"";
        let applied = Follower::start(apply, &[&spool, &target]);
        let own = if source.is_mariadb() { MARIADB } else { MYSQL };
        for (number, (subject, script)) in COMMON.iter().chain(own).enumerate() {
            let script = script.replace("LOADFILE", &file.display().to_string());
            // `client` asserts; what was asked is told by the subject in the text.
            source.client(format!("select 'subject {subject}'; use rpl;\n{script}"));
            if number % 5 == 4 {
                source.flush_logs();
            }
        }
        let _ = fed.stop();
        let status = applied.stop();
        assert!(matches!(status, 0 | 75), "{name}: {status}");
        once(put, &url);
        once("rlog-apply run -q --allow-nontransactional --from \"$1\" --init empty \"$2\"", &target);
        let output = rlog("rlog-apply")
            .args(["compare", &source.url(""), &replica.url(""), "--tables", "rpl*.*"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {text}");
        for (wanted, found) in definitions(&source).iter().zip(definitions(&replica)) {
            assert_eq!(*wanted, found, "{name}");
        }
        assert_eq!(definitions(&source).len(), definitions(&replica).len(), "{name}");
    }
}
