/*
 * An audit trail: every row that rlog-apply, rlog-extract or rlog-dump handles becomes a line of a file, on disk before the target commits.
 *
 *     cc -O2 -shared -fPIC -I../../include -o audit.so audit.c
 *     rlog-apply run --plugin ./audit.so:audit.log --from spool sqlite:replica.db
 *
 * Lines of a transaction stand together, between "begin POSITION" and "end POSITION"; "commit POSITION" follows once the target has it. A
 * transaction that was rolled back, or whose commit nobody saw because of a kill, is there more than once: the last one counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rlog_plugin.h>

struct audit {
    const rlog_host *host;
    int file;
};

/* All events of one attempt at a transaction come from one thread: its lines need no lock. */
static _Thread_local struct {
    char *data;
    size_t length, room;
    int failed;
} lines;

static void put(const char *data, size_t length)
{
    if (lines.length + length > lines.room) {
        size_t room = (lines.length + length) * 2;
        char *grown = realloc(lines.data, room);
        if (grown == NULL) {
            lines.failed = 1;
            return;
        }
        lines.data = grown;
        lines.room = room;
    }
    memcpy(lines.data + lines.length, data, length);
    lines.length += length;
}

static void put_string(const char *text)
{
    put(text, strlen(text));
}

/* Control characters must not make lines. */
static void put_clean(const char *data, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        unsigned char c = (unsigned char)data[at];
        char escaped[5];
        if (c < 0x20 || c == 0x7f || c == '\\') {
            put(escaped, (size_t)snprintf(escaped, sizeof escaped, "\\x%02x", c));
        } else {
            put(data + at, 1);
        }
    }
}

static int32_t fail(const struct audit *audit, rlog_call *call, const char *what)
{
    char text[200];
    int length = snprintf(text, sizeof text, "the audit trail cannot be written: %s", what);
    audit->host->set_error(call, text, (size_t)length);
    return RLOG_VETO;
}

/* Lines are written with one call each time, so that those of several threads do not mix. */
static int32_t write_lines(const struct audit *audit, rlog_call *call, int durable)
{
    size_t written = 0;
    if (lines.failed) {
        lines.failed = 0;
        lines.length = 0;
        return fail(audit, call, "no memory");
    }
    while (written < lines.length) {
        ssize_t now = write(audit->file, lines.data + written, lines.length - written);
        if (now < 0 && errno == EINTR)
            continue;
        if (now < 0)
            return fail(audit, call, strerror(errno));
        written += (size_t)now;
    }
    lines.length = 0;
    if (durable && fdatasync(audit->file) != 0 && errno != EINVAL)
        return fail(audit, call, strerror(errno));
    return RLOG_OK;
}

static void put_transaction(const char *word, const rlog_transaction *transaction)
{
    char number[64];
    put_string(word);
    if (transaction->position.length > 0)
        put_clean(transaction->position.data, transaction->position.length);
    else
        put(number, (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)transaction->txid));
    put("\n", 1);
}

static int32_t on_begin(rlog_call *call, const rlog_event *event, void *user)
{
    (void)call, (void)user;
    lines.length = 0;
    put_transaction("begin ", event->transaction);
    return RLOG_OK;
}

static void put_image(const struct audit *audit, rlog_call *call, const rlog_row *row, uint32_t image, const char *word)
{
    const rlog_value *values = audit->host->values(call, image);
    if (values == NULL)
        return;
    put_string(word);
    for (size_t at = 0; at < row->columns; at++) {
        char text[256];
        size_t length;
        const rlog_column *column = audit->host->column(call, at);
        if (values[at].type == RLOG_ABSENT || values[at].type == RLOG_UNCHANGED)
            continue;
        put(" ", 1);
        put_clean(column->name.data, column->name.length);
        put("=", 1);
        length = audit->host->text(call, at, &values[at], text, sizeof text);
        if (length <= sizeof text) {
            put_clean(text, length);
        } else {
            put_clean(text, sizeof text);
            put("...", 3);
        }
    }
}

static int32_t on_row(rlog_call *call, const rlog_event *event, void *user)
{
    static const char *const words[] = {"", "insert ", "update ", "delete "};
    const struct audit *audit = user;
    put_string(event->row->operation <= RLOG_DELETE ? words[event->row->operation] : "change ");
    put_clean(event->statement->database.data, event->statement->database.length);
    put(".", 1);
    put_clean(event->statement->table.data, event->statement->table.length);
    put_image(audit, call, event->row, RLOG_IMAGE_BEFORE, " from");
    put_image(audit, call, event->row, RLOG_IMAGE_AFTER, " to");
    put("\n", 1);
    /* A huge transaction does not wait in memory for its end. */
    return lines.length > 1u << 20 ? write_lines(audit, call, 0) : RLOG_OK;
}

static int32_t on_statement(rlog_call *call, const rlog_event *event, void *user)
{
    (void)call, (void)user;
    if (event->statement->operation > RLOG_DELETE) {
        put_string("statement ");
        put_clean(event->statement->sql.data, event->statement->sql.length);
        put("\n", 1);
    }
    return RLOG_OK;
}

static int32_t on_end(rlog_call *call, const rlog_event *event, void *user)
{
    put_transaction("end ", event->transaction);
    return write_lines(user, call, 1);
}

static int32_t on_commit(rlog_call *call, const rlog_event *event, void *user)
{
    lines.length = 0;
    put_transaction("commit ", event->transaction);
    return write_lines(user, call, 0);
}

static int32_t start(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state)
{
    struct audit *audit = host->allocate(sizeof *audit);
    if (audit == NULL)
        return RLOG_VETO;
    audit->host = host;
    audit->file = open(arguments, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (audit->file < 0) {
        char text[300];
        int length = snprintf(text, sizeof text, "give it the file of the trail, as in --plugin audit.so:audit.log ('%.100s': %s)",
                              arguments, strerror(errno));
        host->set_error(call, text, (size_t)length);
        host->release(audit);
        return RLOG_VETO;
    }
    host->listen(plugin, RLOG_BEGIN, on_begin, audit);
    host->listen(plugin, RLOG_ROW_AFTER, on_row, audit);
    host->listen(plugin, RLOG_STATEMENT_FINISH, on_statement, audit);
    host->listen(plugin, RLOG_END, on_end, audit);
    host->listen(plugin, RLOG_COMMIT, on_commit, audit);
    *state = audit;
    return RLOG_OK;
}

static void stop(void *state)
{
    struct audit *audit = state;
    const rlog_host *host = audit->host;
    free(lines.data); /* the main thread's; threads that have ended took theirs along only as far as the process does */
    lines.data = NULL;
    lines.length = lines.room = 0;
    close(audit->file);
    host->release(audit);
}

const rlog_plugin_descriptor *rlog_plugin_entry(void)
{
    static const rlog_plugin_descriptor descriptor = {
        .struct_size = sizeof descriptor,
        .abi_version = RLOG_PLUGIN_ABI,
        .name = "audit",
        .version = "1",
        .start = start,
        .stop = stop,
    };
    return &descriptor;
}
