/*
 * A plug-in for tests: holds rlog to what rlog_plugin.h says of memory, structures, order and answers, and aborts where that does not hold.
 *
 *     FILE            what it has seen, at stop(): a line each
 *     FILE:threads    a thread of its own calls what may be called at any time, until stop()
 *     FILE:odd        answers END with a number that means nothing
 *     FILE:error      says something important
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rlog_plugin.h>

#ifndef CONTRACT_SIZE
#define CONTRACT_SIZE sizeof(rlog_plugin_descriptor)
#endif
#ifndef CONTRACT_START
#define CONTRACT_START start
#endif

#define MUST(claim) ((claim) ? (void)0 : (fprintf(stderr, "contract.c:%d: " #claim "\n", __LINE__), abort()))

static const rlog_host *rlog;
static rlog_plugin *self;
static FILE *out;
static int odd, first_was_called, over, loops;
static pthread_t thread;

/* The first function for rows before. */
static int32_t first(rlog_call *call, const rlog_event *event, void *user)
{
    const rlog_row *row = event->row;
    const rlog_value *after = rlog->values(call, RLOG_IMAGE_AFTER), *before = rlog->values(call, RLOG_IMAGE_BEFORE);
    char text[8] = "#######";
    rlog_value value = {.type = RLOG_STRING};
    uint8_t *bytes;
    MUST(user == &first_was_called);
    MUST(event->struct_size >= sizeof *event && event->kind == RLOG_ROW_BEFORE && event->status == 0);
    MUST(event->channel == NULL && event->error.data != NULL && event->error.length == 0);
    MUST(event->transaction->struct_size >= sizeof *event->transaction && event->statement->struct_size >= sizeof *event->statement);
    MUST(row->struct_size >= sizeof *row && row->operation == event->statement->operation && row->columns == 2);
    MUST((before != NULL) == ((row->images & RLOG_IMAGE_BEFORE) != 0) && (after != NULL) == ((row->images & RLOG_IMAGE_AFTER) != 0));
    MUST(row->ordinal >= event->statement->ordinal && row->ordinal < event->statement->ordinal + event->statement->rows);
    MUST(event->statement->table_id != 0 && event->statement->sql.data != NULL && event->statement->sql.length == 0);
    MUST(rlog->values(call, 3) == NULL && rlog->values(call, 0) == NULL);
    for (size_t at = 0; at < row->columns; at++) {
        const rlog_column *column = rlog->column(call, at);
        MUST(column->struct_size >= sizeof *column && column->name.length > 0 && column->sql_type.data && column->charset.data);
        MUST(column == rlog->column(call, at));
    }
    MUST(rlog->column(call, row->columns) == NULL && rlog->column(call, SIZE_MAX) == NULL);
    MUST(rlog->column(call, 0)->flags & RLOG_COLUMN_KEY);
    first_was_called++;
    if (!after)
        return RLOG_OK;
    /* Whoever has room for two characters gets two, and hears of all. */
    MUST(rlog->text(call, 1, &after[1], text, 2) == after[1].length && memcmp(text, after[1].data, 2) == 0 && text[2] == '#');
    MUST(rlog->text(call, 1, &after[1], NULL, 0) == after[1].length);
    MUST(rlog->text(call, 2, &after[1], text, 2) == 0 && rlog->text(call, 1, NULL, text, 2) == 0);
    /* What cannot be set. */
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 1, NULL) == RLOG_SET_NOT_NOW);
    MUST(rlog->set_value(call, 3, 1, &value) == RLOG_SET_NO_COLUMN);
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 2, &value) == RLOG_SET_NO_COLUMN);
    MUST(before || rlog->set_value(call, RLOG_IMAGE_BEFORE, 1, &value) == RLOG_SET_NO_COLUMN);
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 0, &value) == RLOG_SET_WRONG_TYPE);
    value.type = RLOG_NULL;
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 0, &value) == RLOG_SET_NOT_NULLABLE);
    value.type = 4711;
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 1, &value) == RLOG_SET_WRONG_TYPE);
    value.type = RLOG_STRING;
    value.length = 1;
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 1, &value) == RLOG_SET_WRONG_TYPE);
    /* What is passed is copied: it may go at once. */
    bytes = malloc(7);
    memcpy(bytes, "changed", 7);
    value.data = bytes;
    value.length = 7;
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 1, &value) == RLOG_SET_OK);
    memset(bytes, 'x', 7);
    free(bytes);
    /* This event's values are what they were. */
    MUST(rlog->values(call, RLOG_IMAGE_AFTER) == after && after[1].data[0] == 'v');
    return RLOG_OK;
}

/* The second one. */
static int32_t second(rlog_call *call, const rlog_event *event, void *user)
{
    (void)call, (void)event;
    MUST(user == &odd);
    MUST(first_was_called > 0);
    first_was_called--;
    return RLOG_OK;
}

static int32_t nothing(rlog_call *call, const rlog_event *event, void *user)
{
    (void)call, (void)event, (void)user;
    return RLOG_OK;
}

static int32_t on_row_after(rlog_call *call, const rlog_event *event, void *user)
{
    const rlog_value *after = rlog->values(call, RLOG_IMAGE_AFTER);
    (void)event, (void)user;
    MUST(!after || (after[1].length == 7 && memcmp(after[1].data, "changed", 7) == 0));
    return RLOG_OK;
}

static int32_t on_transaction(rlog_call *call, const rlog_event *event, void *user)
{
    static const char *const names[] = {"?", "?", "?", "begin", "end", "commit", "rollback"};
    char why[] = "because";
    (void)user;
    MUST(event->row == NULL && event->statement == NULL && event->channel == NULL);
    MUST(rlog->values(call, RLOG_IMAGE_AFTER) == NULL && rlog->column(call, 0) == NULL);
    MUST(rlog->set_value(call, RLOG_IMAGE_AFTER, 0, &(rlog_value){.type = RLOG_NULL}) == RLOG_SET_NOT_NOW);
    fprintf(out, "%s %llx%s\n", names[event->kind], (unsigned long long)event->transaction->flags, event->transaction->position.length ? "" : " nowhere");
    if (odd && event->kind == RLOG_END)
        return 4711;
    if (event->kind == RLOG_COMMIT || event->kind == RLOG_ROLLBACK) {
        /* Too late, and passed over. */
        rlog->set_error(call, why, sizeof why - 1);
        memset(why, 'x', sizeof why);
        return RLOG_VETO;
    }
    return RLOG_OK;
}

static void *at_any_time(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
        uint64_t number = rlog->listen(self, RLOG_ROW_AFTER, nothing, NULL);
        void *memory = rlog->allocate(1000);
        MUST(number != 0 && memory != NULL);
        memset(memory, 1, 1000);
        rlog->release(memory);
        MUST(rlog->unlisten(self, number) == 0 && rlog->unlisten(self, number) == -1);
        if (loops++ < 3)
            rlog->log(self, RLOG_LOG_NOTE, "from a thread", 13);
    }
    return NULL;
}

static int32_t start(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state)
{
    char path[1000], *option;
    char word[] = "starting";
    void *none;
    MUST(host->struct_size >= sizeof *host && host->abi_version >= RLOG_PLUGIN_ABI);
    /* Nothing is a row yet. */
    MUST(host->values(call, RLOG_IMAGE_AFTER) == NULL && host->column(call, 0) == NULL);
    rlog = host;
    self = plugin;
    host->release(NULL);
    none = host->allocate(0);
    MUST(none != NULL && host->allocate((size_t)1 << 62) == NULL);
    host->release(none);
    snprintf(path, sizeof path, "%s", arguments);
    option = strchr(path, ':');
    if (option)
        *option++ = 0;
    out = fopen(path, "a");
    MUST(out != NULL);
    *state = out;
    host->listen(plugin, RLOG_BEGIN, on_transaction, NULL);
    host->listen(plugin, RLOG_END, on_transaction, NULL);
    host->listen(plugin, RLOG_COMMIT, on_transaction, NULL);
    host->listen(plugin, RLOG_ROLLBACK, on_transaction, NULL);
    MUST(host->listen(plugin, 13, nothing, NULL) == 0 && host->listen(plugin, 0, nothing, NULL) == 0);
    if (option && !strcmp(option, "odd"))
        odd = 1;
    else if (option && !strcmp(option, "error"))
        host->log(plugin, RLOG_LOG_ERROR, "this is important", 17);
    else if (option && !strcmp(option, "marks"))
        return RLOG_OK;
    host->listen(plugin, RLOG_ROW_BEFORE, first, &first_was_called);
    host->listen(plugin, RLOG_ROW_BEFORE, second, &odd);
    host->listen(plugin, RLOG_ROW_AFTER, on_row_after, NULL);
    host->log(plugin, RLOG_LOG_NOTE, word, sizeof word - 1);
    memset(word, 'x', sizeof word);
    if (option && !strcmp(option, "threads"))
        MUST(pthread_create(&thread, NULL, at_any_time, NULL) == 0);
    return RLOG_OK;
}

static void stop(void *state)
{
    over = 1;
    if (thread)
        pthread_join(thread, NULL);
    MUST(state == out && out != NULL);
    fprintf(out, "stop\n");
    fclose(out);
    out = NULL;
}

const rlog_plugin_descriptor *rlog_plugin_entry(void)
{
    static const rlog_plugin_descriptor descriptor = {
        .struct_size = CONTRACT_SIZE,
        .abi_version = RLOG_PLUGIN_ABI,
        .name = "contract",
        .version = "1",
        .start = CONTRACT_START,
        .stop = stop,
    };
    (void)start;
#ifdef CONTRACT_NONE
    (void)descriptor;
    return NULL;
#else
    return &descriptor;
#endif
}
