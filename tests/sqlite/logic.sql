CREATE TABLE t1(a INTEGER, b INTEGER, c TEXT)
;
INSERT INTO t1 VALUES(101, 104, 'one'), (107, 106, 'two'), (110, 114, 'three'), (NULL, 119, 'four')
;
INSERT INTO t1(b, a) SELECT a + b, a * b FROM t1
;
INSERT INTO t1 VALUES(1, 2)
;
UPDATE t1 SET c = coalesce(c, 'none') || '-' || b WHERE a > (SELECT avg(a) FROM t1)
;
UPDATE t1 SET nowhere = 1
;
CREATE INDEX t1a ON t1(a)
;
CREATE INDEX t1a ON t1(b)
;
CREATE UNIQUE INDEX t1ba ON t1(b, a DESC)
;
DELETE FROM t1 WHERE b BETWEEN 104 AND 106
;
REPLACE INTO t1(rowid, a, b, c) VALUES(1, 5, 6, 'again'), (2, 7, 8, 'again')
;
CREATE VIEW v1 AS SELECT a, count(*) AS n FROM t1 GROUP BY a HAVING n > 0
;
UPDATE v1 SET a = 1
;
CREATE TRIGGER v1i INSTEAD OF UPDATE ON v1 BEGIN UPDATE t1 SET c = 'through the view' WHERE a IS old.a; END
;
UPDATE v1 SET a = 1
;
CREATE TABLE log(n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, at REAL DEFAULT 2.5)
;
CREATE TRIGGER t1d AFTER DELETE ON t1 BEGIN INSERT INTO log(what) VALUES('gone ' || old.rowid); END
;
CREATE TRIGGER t1u AFTER UPDATE OF a ON t1 WHEN new.a IS NOT old.a BEGIN INSERT INTO log(what) VALUES(new.a); END
;
UPDATE t1 SET a = NULL WHERE rowid % 2
;
UPDATE t1 SET a = rowid
;
DELETE FROM t1 WHERE rowid IN (SELECT rowid FROM t1 ORDER BY b LIMIT 2)
;
INSERT INTO log(what) VALUES(NULL)
;
DELETE FROM log WHERE n > 3
;
INSERT INTO log(what) VALUES('numbers are not used twice')
;
CREATE TABLE k(name TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID
;
INSERT INTO k VALUES('Alpha', 1), ('beta', x'00ff'), ('GAMMA', 1e300), ('', NULL)
;
INSERT INTO k VALUES('ALPHA', 2)
;
INSERT OR REPLACE INTO k VALUES('ALPHA', 2)
;
INSERT INTO k VALUES('beta', 3) ON CONFLICT(name) DO UPDATE SET v = excluded.v, name = 'BETA'
;
UPDATE OR IGNORE k SET name = 'beta'
;
UPDATE k SET v = zeroblob(20000) WHERE name = 'gamma'
;
UPDATE k SET v = substr(v, 1, 9000) WHERE name = 'gamma'
;
BEGIN
;
CREATE TABLE lost(x)
;
INSERT INTO t1 SELECT * FROM t1
;
ROLLBACK
;
BEGIN
;
INSERT INTO k VALUES('kept', 1)
;
SAVEPOINT one
;
INSERT INTO k VALUES('not kept', 2)
;
DELETE FROM log
;
ROLLBACK TO one
;
INSERT INTO k VALUES('kept too', 3)
;
RELEASE one
;
COMMIT
;
CREATE TABLE parent(id INTEGER PRIMARY KEY, code UNIQUE)
;
CREATE TABLE child(id, parent REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL, code REFERENCES parent(code))
;
INSERT INTO parent VALUES(1, 'a'), (2, 'b'), (3, 'c')
;
INSERT INTO child VALUES(10, 1, 'a'), (20, 2, 'a'), (30, 3, NULL), (40, NULL, 'c')
;
INSERT INTO child VALUES(50, 4, 'd')
;
DELETE FROM parent WHERE id = 2
;
UPDATE parent SET id = 33 WHERE id = 3
;
DELETE FROM parent WHERE code = 'c'
;
UPDATE parent SET code = CASE code WHEN 'a' THEN 'c' ELSE 'a' END WHERE id <> 2
;
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 700) INSERT INTO t1 SELECT x, x * 7 % 701 - 9000, printf('%.*c', x % 90, 'x') FROM n
;
UPDATE t1 SET c = c || c WHERE a % 3 = 0
;
DELETE FROM t1 WHERE a % 7 = 1
;
ALTER TABLE t1 ADD COLUMN d DEFAULT 'a default'
;
UPDATE t1 SET d = NULL WHERE a < 30
;
ALTER TABLE t1 RENAME COLUMN c TO words
;
ALTER TABLE k RENAME TO kinds
;
INSERT INTO kinds SELECT DISTINCT 'word ' || length(words), max(a) FROM t1 GROUP BY 1
;
ALTER TABLE t1 DROP COLUMN a
;
DROP TRIGGER t1u
;
DROP VIEW v1
;
ALTER TABLE t1 DROP COLUMN d
;
CREATE TABLE copied AS SELECT rowid AS r, * FROM t1 WHERE b < 0 ORDER BY b
;
CREATE TABLE g(a INT, twice AS (a * 2) STORED, thrice AS (a * 3), CHECK (a < 100))
;
INSERT INTO g(a) VALUES(1), (2), ('3'), (4.0), ('five')
;
INSERT INTO g(a) VALUES(100)
;
UPDATE g SET a = a + 1 WHERE twice > 3
;
CREATE TABLE s(i INT, t TEXT, a ANY) STRICT
;
INSERT INTO s VALUES('12', 12, '12'), (NULL, NULL, x'12')
;
INSERT INTO s VALUES('twelve', 'twelve', 12)
;
DELETE FROM copied
;
DROP TABLE copied
;
CREATE TABLE copied(r INTEGER PRIMARY KEY, other)
;
INSERT INTO copied SELECT rowid, words FROM t1 WHERE rowid % 5 = 0
;
VACUUM
;
REINDEX
;
ANALYZE
;
DROP INDEX t1ba
;
DROP INDEX t1ba
;
UPDATE copied SET r = -r WHERE r % 2
;
UPDATE OR REPLACE copied SET r = r + 5
;
DELETE FROM t1
;
DROP TABLE parent
;
PRAGMA user_version = 7
;
INSERT INTO log(what, at) SELECT 'last', count(*) FROM copied
