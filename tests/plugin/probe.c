/*
 * A plug-in for tests: does and writes down what its arguments say, separated by ';'.
 *
 *     log=FILE        a line for each event: kind, thread, transaction, details
 *     only=KIND,...   listens to these only (numbers); without it to all
 *     veto=KIND:N     refuses the Nth event of a kind; retry=KIND:N asks for another attempt
 *     kill=KIND:N     kill -9 of the process at the Nth; crash=KIND:N: a segmentation fault
 *     off=KIND:N      takes the listener for rows before back at the Nth; on=KIND:N puts it there again
 *     set=COLUMN:N    sets the column's after image to the integer N in every row before
 *     refuse=1        does not start
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rlog_plugin.h>

#ifndef PROBE_ABI
#define PROBE_ABI RLOG_PLUGIN_ABI
#endif
#ifndef PROBE_FLAGS
#define PROBE_FLAGS 0
#endif

struct rule {
    int kind, number;
};

static struct {
    const rlog_host *host;
    rlog_plugin *plugin;
    FILE *log;
    char path[1000], only[200];
    struct rule veto, retry, kill, crash, off, on, set;
    int seen[16];
    int inside, most;
    uint64_t before;
    pthread_mutex_t lock;
} probe = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int hits(struct rule rule, int kind, int number)
{
    return rule.number > 0 && rule.kind == kind && rule.number == number;
}

static void put_value(char *line, size_t room, rlog_call *call, size_t column, const rlog_value *value)
{
    char text[64];
    size_t length = probe.host->text(call, column, value, text, sizeof text);
    size_t at = strlen(line);
    if (value->type == RLOG_ABSENT)
        length = (size_t)snprintf(text, sizeof text, "-");
    if (length > sizeof text)
        length = sizeof text;
    snprintf(line + at, room - at, " %.*s", (int)length, text);
}

static int32_t hear(rlog_call *call, const rlog_event *event, void *user)
{
    static const char *const names[] = {"?", "start", "stop", "begin", "end", "commit", "rollback", "statement", "finish", "ddl", "before", "after", "error"};
    char line[2000] = "";
    int kind = (int)event->kind, number, answer = RLOG_OK;
    (void)user;
    if (event->struct_size < sizeof *event)
        abort();
    __atomic_add_fetch(&probe.inside, 1, __ATOMIC_SEQ_CST);
    number = __atomic_add_fetch(&probe.seen[kind], 1, __ATOMIC_SEQ_CST);
    snprintf(line, sizeof line, "%s", names[kind]);
    if (event->channel)
        snprintf(line + strlen(line), sizeof line - strlen(line), " %.*s %.*s '%.*s'", (int)event->channel->tool.length, event->channel->tool.data,
                 (int)event->channel->name.length, event->channel->name.data, (int)event->channel->position.length, event->channel->position.data);
    if (event->transaction)
        snprintf(line + strlen(line), sizeof line - strlen(line), " %llu", (unsigned long long)event->transaction->txid);
    if (event->statement)
        snprintf(line + strlen(line), sizeof line - strlen(line), " %u %.*s.%.*s%.*s", event->statement->operation, (int)event->statement->database.length,
                 event->statement->database.data, (int)event->statement->table.length, event->statement->table.data, (int)event->statement->sql.length,
                 event->statement->sql.data);
    if (event->row) {
        for (uint32_t image = RLOG_IMAGE_BEFORE; image <= RLOG_IMAGE_AFTER; image++) {
            const rlog_value *values = probe.host->values(call, image);
            if (!values)
                continue;
            if (!(event->row->images & image))
                abort();
            snprintf(line + strlen(line), sizeof line - strlen(line), " |");
            for (size_t at = 0; at < event->row->columns; at++)
                put_value(line, sizeof line, call, at, &values[at]);
        }
        if (probe.host->column(call, event->row->columns) != NULL)
            abort();
    }
    if (event->error.length)
        snprintf(line + strlen(line), sizeof line - strlen(line), " [%d %.*s]", event->status, (int)event->error.length, event->error.data);
    if (probe.log) {
        pthread_mutex_lock(&probe.lock);
        fprintf(probe.log, "%lu %s\n", (unsigned long)pthread_self(), line);
        fflush(probe.log);
        pthread_mutex_unlock(&probe.lock);
    }
    if (hits(probe.kill, kind, number))
        kill(getpid(), SIGKILL);
    if (hits(probe.crash, kind, number))
        *(volatile int *)8 = 1;
    if (hits(probe.off, kind, number) && probe.host->unlisten(probe.plugin, probe.before) != 0)
        abort();
    if (hits(probe.off, kind, number) && probe.host->unlisten(probe.plugin, probe.before) != -1)
        abort();
    if (hits(probe.on, kind, number))
        probe.before = probe.host->listen(probe.plugin, RLOG_ROW_BEFORE, hear, NULL);
    if (probe.set.number && event->row) {
        rlog_value value = {.type = RLOG_INT, .number = {.i = probe.set.number}};
        int32_t set = probe.host->set_value(call, RLOG_IMAGE_AFTER, (size_t)probe.set.kind, &value);
        int32_t wanted = kind != RLOG_ROW_BEFORE ? RLOG_SET_NOT_NOW : event->row->images & RLOG_IMAGE_AFTER ? RLOG_SET_OK : RLOG_SET_NO_COLUMN;
        if (set != wanted)
            abort();
        value.type = RLOG_DATE;
        if (kind == RLOG_ROW_BEFORE && wanted == RLOG_SET_OK && probe.host->set_value(call, RLOG_IMAGE_AFTER, (size_t)probe.set.kind, &value) != RLOG_SET_WRONG_TYPE)
            abort();
    }
    if (hits(probe.veto, kind, number)) {
        probe.host->set_error(call, "not this one", 12);
        answer = RLOG_VETO;
    }
    if (hits(probe.retry, kind, number)) {
        probe.host->set_error(call, "not yet", 7);
        answer = RLOG_RETRY;
    }
    /* The most functions of this plug-in that were at work at once. */
    if (probe.inside > probe.most)
        probe.most = probe.inside;
    if (getenv("PROBE_SLOW"))
        usleep(300);
    __atomic_sub_fetch(&probe.inside, 1, __ATOMIC_SEQ_CST);
    return answer;
}

static struct rule rule(const char *text)
{
    struct rule out = {0, 0};
    sscanf(text, "%d:%d", &out.kind, &out.number);
    return out;
}

static int32_t start(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state)
{
    char text[2000];
    void *memory = host->allocate(100);
    if (host->struct_size < sizeof *host || host->abi_version < 1 || memory == NULL)
        return RLOG_VETO;
    memset(memory, 7, 100);
    *state = memory;
    probe.host = host;
    probe.plugin = plugin;
    snprintf(text, sizeof text, "%s", arguments);
    for (char *part = strtok(text, ";"); part; part = strtok(NULL, ";")) {
        char *value = strchr(part, '=');
        if (!value)
            return RLOG_VETO;
        *value++ = 0;
        if (!strcmp(part, "log")) probe.log = fopen(value, "a");
        else if (!strcmp(part, "only")) snprintf(probe.only, sizeof probe.only, ",%s,", value);
        else if (!strcmp(part, "veto")) probe.veto = rule(value);
        else if (!strcmp(part, "retry")) probe.retry = rule(value);
        else if (!strcmp(part, "kill")) probe.kill = rule(value);
        else if (!strcmp(part, "crash")) probe.crash = rule(value);
        else if (!strcmp(part, "off")) probe.off = rule(value);
        else if (!strcmp(part, "on")) probe.on = rule(value);
        else if (!strcmp(part, "set")) probe.set = rule(value);
        else {
            host->set_error(call, "I will not", 10);
            host->release(memory);
            return RLOG_VETO;
        }
    }
    for (uint32_t kind = 1; kind <= 12; kind++) {
        char name[10];
        uint64_t listener;
        snprintf(name, sizeof name, ",%u,", kind);
        if (probe.only[0] && !strstr(probe.only, name))
            continue;
        listener = host->listen(plugin, kind, hear, NULL);
        if (listener == 0)
            return RLOG_VETO;
        if (kind == RLOG_ROW_BEFORE)
            probe.before = listener;
    }
    if (host->listen(plugin, 999, hear, NULL) != 0 || host->listen(plugin, RLOG_BEGIN, NULL, NULL) != 0)
        return RLOG_VETO;
    host->log(plugin, RLOG_LOG_NOTE, "probing", 7);
    return RLOG_OK;
}

static void stop(void *state)
{
    probe.host->release(state);
    if (probe.log) {
        fprintf(probe.log, "0 stopped at once %d\n", probe.most);
        fclose(probe.log);
        /* Given twice, it is stopped twice, with one set of variables. */
        probe.log = NULL;
    }
}

const rlog_plugin_descriptor *rlog_plugin_entry(void)
{
    static const rlog_plugin_descriptor descriptor = {
        .struct_size = sizeof descriptor,
        .abi_version = PROBE_ABI,
        .flags = PROBE_FLAGS,
        .name = "probe",
        .version = "1",
        .start = start,
        .stop = stop,
    };
    return &descriptor;
}
