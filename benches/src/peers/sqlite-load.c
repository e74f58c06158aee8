/* A SQLite application, alone or with its changes captured as other tools capture them.
 *
 *   sqlite-load plain|session|trigger DATABASE LOAD SCALE    runs a load
 *   sqlite-load prepare DATABASE SCALE                       makes the base that every load starts from
 *   sqlite-load copy FILE TO                                 copies a log's bytes: the physical limit
 *   sqlite-load commits DATABASE N                           N small transactions, for the time that they take
 *   sqlite-load commits DATABASE N RATE                      the same, so many a second; prints the commits a second that came of
 *                                                            it, CPU time of one, and the 50th, 99th, 99.9th percentile
 *                                                            of how long one took: microseconds
 *
 * LOAD is one of: updates (one row a transaction), bulk-insert, bulk-update, bulk-delete. `session` records with SQLite's session
 * extension and makes one changeset a transaction; `trigger` has a trigger on each operation that writes a row's images
 * into a table. Built from the same sqlite3.c as rlog's own, with the session extension. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "sqlite3.h"

static void fail(const char *what, const char *why) {
  fprintf(stderr, "sqlite-load: %s: %s\n", what, why);
  exit(1);
}

static void run(sqlite3 *db, const char *sql) {
  char *error = 0;
  if (sqlite3_exec(db, sql, 0, 0, &error) != SQLITE_OK) fail(sql, error);
}

static long long rows_of(const char *scale) {
  double n = 300000 * atof(scale);
  return n < 1000 ? 1000 : (long long)n;
}

static const char *FILL =
    "WITH RECURSIVE n(x) AS (SELECT %lld UNION ALL SELECT x + 1 FROM n WHERE x < %lld) "
    "INSERT INTO t SELECT x, x * 7, 'some text of a usual length ' || x, x / 3.0 FROM n";

static const char *TRIGGERS =
    "CREATE TABLE log(n INTEGER PRIMARY KEY, op, id, a0, b0, c0, a1, b1, c1);"
    "CREATE TRIGGER li AFTER INSERT ON t BEGIN INSERT INTO log VALUES(NULL, 'i', new.id, NULL, NULL, NULL, new.a, new.b, new.c); END;"
    "CREATE TRIGGER lu AFTER UPDATE ON t BEGIN INSERT INTO log VALUES(NULL, 'u', old.id, old.a, old.b, old.c, new.a, new.b, new.c); END;"
    "CREATE TRIGGER ld AFTER DELETE ON t BEGIN INSERT INTO log VALUES(NULL, 'd', old.id, old.a, old.b, old.c, NULL, NULL, NULL); END;";

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int shorter(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Small transactions at a rate that leaves the processors time for others. */
static void paced(sqlite3 *db, sqlite3_stmt *update, long n, double rate) {
  double *took = malloc(n * sizeof *took), started = now(), spent = cpu();
  if (!took) fail("malloc", "no memory");
  for (long i = 0; i < n; i++) {
    double wait = started + i / rate - now();
    if (wait > 0) {
      struct timespec pause = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
      nanosleep(&pause, 0);
    }
    took[i] = now();
    sqlite3_bind_int64(update, 1, i * 7919 % 1000 + 1);
    if (sqlite3_step(update) != SQLITE_DONE) fail("update", sqlite3_errmsg(db));
    sqlite3_reset(update);
    took[i] = now() - took[i];
  }
  double all = now() - started;
  spent = cpu() - spent;
  qsort(took, n, sizeof *took, shorter);
  printf("%.0f %.1f %.1f %.1f %.1f\n", n / all, spent / n * 1e6, took[n / 2] * 1e6, took[n * 99 / 100] * 1e6,
         took[n * 999 / 1000] * 1e6);
  free(took);
}

static sqlite3_session *begin(sqlite3 *db, int captured) {
  sqlite3_session *session = 0;
  if (captured && (sqlite3session_create(db, "main", &session) || sqlite3session_attach(session, 0)))
    fail("session", sqlite3_errmsg(db));
  return session;
}

static long long end(sqlite3_session *session) {
  int bytes = 0;
  void *changeset = 0;
  if (!session) return 0;
  if (sqlite3session_changeset(session, &bytes, &changeset)) fail("changeset", "no");
  sqlite3_free(changeset);
  sqlite3session_delete(session);
  return bytes;
}

static void copy(const char *from, const char *to) {
  static char buffer[1 << 20];
  int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ssize_t n;
  if (in < 0 || out < 0) fail(from, "cannot be copied");
  while ((n = read(in, buffer, sizeof buffer)) > 0)
    if (write(out, buffer, n) != n) fail(to, "cannot be written");
}

int main(int argc, char **argv) {
  sqlite3 *db;
  char sql[512];
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "copy") && argc == 4) {
    copy(argv[2], argv[3]);
    return 0;
  }
  if (argc < 4) fail("usage", "see the head of sqlite-load.c");
  if (sqlite3_open(argv[2], &db) != SQLITE_OK) fail(argv[2], sqlite3_errmsg(db));
  run(db, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
  sqlite3_busy_timeout(db, 5000);
  if (!strcmp(mode, "prepare")) {
    run(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT, c REAL)");
    snprintf(sql, sizeof sql, FILL, 1LL, rows_of(argv[3]));
    run(db, sql);
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_close(db);
    return 0;
  }
  if (!strcmp(mode, "commits")) {
    long n = atol(argv[3]);
    sqlite3_stmt *update;
    sqlite3_prepare_v2(db, "UPDATE t SET a = a + 1 WHERE id = ?1", -1, &update, 0);
    if (argc > 4 && n > 0) {
      paced(db, update, n, atof(argv[4]));
      n = 0;
    }
    for (long i = 0; i < n; i++) {
      sqlite3_bind_int64(update, 1, i * 7919 % 1000 + 1);
      if (sqlite3_step(update) != SQLITE_DONE) fail("update", sqlite3_errmsg(db));
      sqlite3_reset(update);
    }
    sqlite3_finalize(update);
    sqlite3_close(db);
    return 0;
  }
  if (argc < 5) fail("usage", "see the head of sqlite-load.c");
  int captured = !strcmp(mode, "session");
  long long rows = rows_of(argv[4]), bytes = 0;
  const char *load = argv[3];
  if (!strcmp(mode, "trigger")) run(db, TRIGGERS);
  run(db, "PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF");
  if (!strcmp(load, "updates")) {
    sqlite3_stmt *update;
    sqlite3_prepare_v2(db, "UPDATE t SET a = a + 1 WHERE id = ?1", -1, &update, 0);
    for (long long i = 0; i < rows / 5; i++) {
      sqlite3_session *session = begin(db, captured);
      sqlite3_bind_int64(update, 1, i * 7919 % rows + 1);
      if (sqlite3_step(update) != SQLITE_DONE) fail("update", sqlite3_errmsg(db));
      sqlite3_reset(update);
      bytes += end(session);
    }
    sqlite3_finalize(update);
  } else {
    sqlite3_session *session = begin(db, captured);
    if (!strcmp(load, "bulk-insert")) {
      snprintf(sql, sizeof sql, FILL, rows + 1, 2 * rows);
      run(db, sql);
    } else if (!strcmp(load, "bulk-update")) {
      run(db, "UPDATE t SET a = a + 1");
    } else if (!strcmp(load, "bulk-delete")) {
      run(db, "DELETE FROM t WHERE id % 2");
    } else {
      fail(load, "no such load");
    }
    bytes += end(session);
  }
  /* The log stays for whoever reads it. */
  if (argc > 5 && !strcmp(argv[5], "keep")) {
    int on = 1;
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on, 0);
  }
  sqlite3_close(db);
  if (captured && bytes == 0) fail("session", "recorded nothing");
  return 0;
}
