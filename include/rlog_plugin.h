/*
 * rlog_plugin.h: listeners that rlog-apply, rlog-extract and rlog-dump load at run time (--plugin FILE.so[:ARGS]).
 *
 * The manual is rlog-plugin(3). This file may be copied into a project of any licence.
 *
 * A plug-in is a shared object that exports one function, rlog_plugin_entry(), which returns its descriptor. rlog then calls start(), in which the
 * plug-in registers a function for each kind of event that it wants to hear of.
 *
 * Compatibility. RLOG_PLUGIN_ABI is raised when something changes its meaning; rlog loads plug-ins of its own version and of all
 * before. Within a version, structures only grow at their end: each begins with its size as its writer knew it, and whoever reads looks at no member
 * beyond it (rlog_text and rlog_value never grow). New kinds of events and of values get new numbers: pass over what you do not know.
 *
 * Memory. Whatever rlog passes belongs to rlog and lives until the function that it was passed to returns. Whatever a plug-in passes is copied before
 * rlog's function returns. Nobody ever frees the memory of the other; allocate() and release() are there for those who want
 * rlog's allocator.
 *
 * Threads. start(), stop(), channel events and errors come from the main thread. All events of one attempt at one transaction come from one thread,
 * in order; with `rlog-apply --workers N` (into a server several by default) those of different transactions come from up to N threads at the same time, unless the descriptor has
 * RLOG_PLUGIN_SERIAL. Functions of rlog_host that take an rlog_call may be called only within that call, on its thread; all
 * others at any time, from any thread.
 *
 * Failures. No exception, panic or longjmp may leave a function of the plug-in. A plug-in that crashes takes the process along: for rlog
 * that is a kill like any other, and the same command again loses and doubles nothing.
 */
#ifndef RLOG_PLUGIN_H
#define RLOG_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. */
#define RLOG_PLUGIN_ABI 1u

/* What a listener returns. */
enum {
    RLOG_OK = 0,    /* go on */
    RLOG_VETO = 1,  /* refuse: the channel stops as at a conflict (exit status 80); say why with set_error() */
    RLOG_RETRY = 2  /* not now: the transaction is rolled back and tried again as often as --retries says, then exit status 75 */
    /* anything else is taken as RLOG_VETO */
};

/* Kinds of events, in the order in which they come. */
enum {
    RLOG_CHANNEL_START = 1,     /* a run begins; channel->position is what had been reached: all up to there is done */
    RLOG_CHANNEL_STOP = 2,      /* it ends, after an error (error, status) or well; the last event */
    RLOG_BEGIN = 3,             /* a transaction begins, perhaps not for the first time: a retry begins it again */
    RLOG_END = 4,               /* it is complete and not yet committed: the last moment for a veto */
    RLOG_COMMIT = 5,            /* it is committed (rlog-extract, rlog-dump: written); too late for a veto */
    RLOG_ROLLBACK = 6,          /* nothing of it remains (error says why); it may begin again */
    RLOG_STATEMENT_START = 7,   /* a statement, or the rows of one table that one statement has changed */
    RLOG_STATEMENT_FINISH = 8,  /* the target has taken it */
    RLOG_DDL = 9,               /* within its statement, before it is applied: it changes the schema */
    RLOG_ROW_BEFORE = 10,       /* before a row is applied: set_value() changes it */
    RLOG_ROW_AFTER = 11,        /* the target has taken the row, as the listeners left it */
    RLOG_ERROR = 12             /* the run ends with this error; CHANNEL_STOP follows */
};

/* Operations. */
enum {
    RLOG_INSERT = 1,
    RLOG_UPDATE = 2,
    RLOG_DELETE = 3,
    RLOG_STATEMENT = 4,
    RLOG_STATEMENT_DDL = 5,
    RLOG_TRUNCATE = 6,
    RLOG_LOAD_BLOCK = 7,    /* bytes of a file that a later LOAD DATA reads */
    RLOG_XA_DECISION = 8
};

/* Images of a row. */
enum {
    RLOG_IMAGE_BEFORE = 1,
    RLOG_IMAGE_AFTER = 2
};

/* Types of values: what `number`, `real`, `data` and `detail` hold. */
enum {
    RLOG_ABSENT = 0,     /* the image does not have the column */
    RLOG_UNCHANGED = 1,  /* likewise, since the statement left it as it was */
    RLOG_NULL = 2,
    RLOG_INT = 3,        /* number.i */
    RLOG_UINT = 4,       /* number.u */
    RLOG_FLOAT = 5,      /* number.d, as exact as binary32 is */
    RLOG_DOUBLE = 6,     /* number.d */
    RLOG_DECIMAL = 7,    /* data: MySQL's packed form; detail: precision << 8 | scale */
    RLOG_BIT = 8,        /* data: most significant byte first; detail: bits */
    RLOG_YEAR = 9,       /* number.u, 0 for 0000 */
    RLOG_DATE = 10,      /* number.u: year << 9 | month << 5 | day; parts may be zero */
    RLOG_TIME = 11,      /* number.i: microseconds; detail: digits of the fraction */
    RLOG_DATETIME = 12,  /* number.i: ((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second, that << 24 | microsecond */
    RLOG_TIMESTAMP = 13, /* number.i: microseconds since 1970 UTC, INT64_MIN for the zero date */
    RLOG_STRING = 14,    /* data: characters in the column's charset, or bytes */
    RLOG_ENUM = 15,      /* number.u: index of the member, from 1 */
    RLOG_SET = 16,       /* number.u: bitmap of the members */
    RLOG_JSON = 17,      /* data: MySQL's binary form */
    RLOG_JSON_DIFF = 18, /* data: MySQL's binary diffs against the before image; cannot be set */
    RLOG_GEOMETRY = 19,  /* data: SRID and WKB */
    RLOG_VECTOR = 20,    /* data: binary32 numbers */
    RLOG_TEXT = 21,      /* data: text of a column without a type of its own (SQLite) */
    RLOG_BLOB = 22       /* data: bytes of such a column */
};

/* Levels of log(). */
enum {
    RLOG_LOG_NOTE = 1,  /* for people; not with --quiet */
    RLOG_LOG_ERROR = 2
};

/* Bits of rlog_plugin_descriptor.flags. */
#define RLOG_PLUGIN_SERIAL 1u  /* never call two functions of this plug-in at the same time */

/* Bits of rlog_transaction.flags. */
#define RLOG_TRANSACTION_BARRIER 1u           /* it stands alone */
#define RLOG_TRANSACTION_MERGED 2u            /* several of the source's, which its log does not keep apart */
#define RLOG_TRANSACTION_SNAPSHOT 4u          /* rows that were there already */
#define RLOG_TRANSACTION_NONTRANSACTIONAL 8u  /* of tables that cannot roll back at the source */
#define RLOG_TRANSACTION_PREPARED 0x100u      /* an XA transaction that waits for its decision (rlog-extract, rlog-dump; END and COMMIT) */

/* Bits of rlog_column.flags. */
#define RLOG_COLUMN_KEY 1u        /* of the primary key */
#define RLOG_COLUMN_BINARY 2u     /* bytes, not characters */
#define RLOG_COLUMN_GENERATED 4u  /* computed from others, never written */

/* Text or bytes: not terminated; `data` is never NULL. */
typedef struct rlog_text {
    const char *data;
    size_t length;
} rlog_text;

typedef struct rlog_value {
    uint32_t type;
    uint32_t detail;
    union {
        int64_t i;
        uint64_t u;
        double d;
    } number;
    const uint8_t *data;
    size_t length;
} rlog_value;

typedef struct rlog_column {
    size_t struct_size;
    rlog_text name;      /* @1, @2 ... where the log does not tell */
    rlog_text sql_type;  /* empty when not known */
    rlog_text charset;   /* empty when not known or without meaning */
    uint32_t flags;
    uint32_t reserved;
} rlog_column;

typedef struct rlog_channel {
    size_t struct_size;
    rlog_text tool;      /* rlog-apply, rlog-extract, rlog-dump */
    rlog_text name;
    rlog_text position;  /* empty when nothing had been reached, or it is not known */
} rlog_channel;

typedef struct rlog_transaction {
    size_t struct_size;
    uint64_t txid;       /* unlike that of every other transaction of this source incarnation, and greater than those before */
    uint64_t incarnation;
    rlog_text position;  /* as rlog prints it; empty while it is not known (rlog-extract and rlog-dump: before END) */
    rlog_text gtid;      /* empty when it has none */
    int64_t time_us;     /* microseconds since 1970 UTC; 0: not known */
    uint32_t server_id;  /* 0: not known */
    uint32_t thread;     /* 0: not known */
    uint64_t flags;
} rlog_transaction;

typedef struct rlog_statement {
    size_t struct_size;
    uint32_t operation;
    uint32_t reserved;
    rlog_text database;  /* of the table; of statements, the default database */
    rlog_text table;     /* of rows */
    rlog_text sql;       /* of statements, in the client's charset */
    rlog_text ddl;       /* such as `create table`; empty when it is none, or not classified */
    uint64_t rows;       /* of rows: how many */
    uint64_t ordinal;    /* rows and statements of the transaction before this */
    uint64_t table_id;   /* of rows: unlike that of every other definition of this run, so that you can keep what you derive from column() */
} rlog_statement;

typedef struct rlog_row {
    size_t struct_size;
    uint32_t operation;
    uint32_t images;     /* RLOG_IMAGE_BEFORE | RLOG_IMAGE_AFTER, which of them there are */
    uint64_t ordinal;
    size_t columns;
} rlog_row;

/* What is not of an event's kind is NULL: channel in CHANNEL_*, transaction in BEGIN to ROW_AFTER, statement in STATEMENT_* to ROW_AFTER, row in ROW_*. */
typedef struct rlog_event {
    size_t struct_size;
    uint32_t kind;
    int32_t status;      /* of ERROR and CHANNEL_STOP: the exit status, 0 when all is well */
    const rlog_channel *channel;
    const rlog_transaction *transaction;
    const rlog_statement *statement;
    const rlog_row *row;
    rlog_text error;     /* of ERROR, ROLLBACK and CHANNEL_STOP; empty when there is none */
} rlog_event;

/* One call of a function of the plug-in. */
typedef struct rlog_call rlog_call;
/* The plug-in as rlog knows it. */
typedef struct rlog_plugin rlog_plugin;

typedef int32_t (*rlog_listener)(rlog_call *call, const rlog_event *event, void *user);

/* What set_value() returns. */
enum {
    RLOG_SET_OK = 0,
    RLOG_SET_NOT_NOW = -1,      /* only in ROW_BEFORE */
    RLOG_SET_NO_COLUMN = -2,    /* there is no such image or column, or the image does not have the column */
    RLOG_SET_WRONG_TYPE = -3,   /* the column cannot hold such a value, or not one so long */
    RLOG_SET_NOT_NULLABLE = -4
};

/* What rlog offers. Valid until stop() has returned. */
typedef struct rlog_host {
    size_t struct_size;
    uint32_t abi_version;
    uint32_t reserved;

    /* rlog's allocator; NULL when there is no memory. release(NULL) does nothing. */
    void *(*allocate)(size_t bytes);
    void (*release)(void *memory);

    /* Registers a function for a kind of events; 0 when the kind is not known, else a number for unlisten(). Several for one kind are called in
     * the order of their registration. Takes effect with the next event. */
    uint64_t (*listen)(rlog_plugin *plugin, uint32_t kind, rlog_listener function, void *user);
    /* Takes it back; 0, or -1 when there is none. From the next event on it is not called any more; a call on another thread may still be under way. */
    int32_t (*unlisten)(rlog_plugin *plugin, uint64_t number);

    /* Tells people something, on standard error. */
    void (*log)(rlog_plugin *plugin, uint32_t level, const char *text, size_t length);

    /* Says why the function returns something else than RLOG_OK. */
    void (*set_error)(rlog_call *call, const char *text, size_t length);

    /* In ROW_*: a column of the table, of which there are row->columns. NULL when there is none. */
    const rlog_column *(*column)(rlog_call *call, size_t index);
    /* In ROW_*: the values of an image, row->columns of them, as the log and the listeners before have it. NULL when there is no such image. */
    const rlog_value *(*values)(rlog_call *call, uint32_t image);
    /* In ROW_BEFORE: changes a value of an image. The image must have the column, the value must be NULL or of the type that the column has. Plug-ins that
     * come later see the change; values() does not within this event, whichever function of this plug-in asks. The before image is how the row is found in the target. */
    int32_t (*set_value)(rlog_call *call, uint32_t image, size_t column, const rlog_value *value);
    /* In ROW_*: writes a value as text, as rlog-dump prints it (UTF-8; what is no text as hexadecimal digits), at most `capacity` bytes of it, and
     * returns how many bytes all of it has. */
    size_t (*text)(rlog_call *call, size_t column, const rlog_value *value, char *buffer, size_t capacity);
} rlog_host;

typedef struct rlog_plugin_descriptor {
    size_t struct_size;    /* sizeof(rlog_plugin_descriptor) */
    uint32_t abi_version;  /* RLOG_PLUGIN_ABI */
    uint32_t flags;
    const char *name;      /* in messages */
    const char *version;

    /* The plug-in is loaded: registers listeners. `arguments` is what follows the colon in --plugin. What it puts into *state is given to stop(). Anything but
     * RLOG_OK refuses to start (exit status 78; set_error() says why); stop() is not called then. */
    int32_t (*start)(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state);
    /* The run is over, and no listener will be called again. May be NULL. */
    void (*stop)(void *state);
} rlog_plugin_descriptor;

/* The one function that a plug-in exports. The descriptor lives as long as the shared object is loaded. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const rlog_plugin_descriptor *rlog_plugin_entry(void);

#ifdef __cplusplus
}
#endif

#endif
