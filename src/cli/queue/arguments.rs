//! rlog-queue(1): options and text.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::cli::{Manual, units};
use crate::queue::DEFAULT_CHANNEL;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "Keep what a server logged since the last time; from cron, any number of times",
            "rlog-extract --confirm /var/spool/rlog mysql-bin.0000* | rlog-queue put /var/spool/rlog",
        ),
        (
            "Keep and apply in one pipeline",
            "rlog-extract mysql-bin.0000* | rlog-queue put --pass spool | rlog-apply run sqlite:replica.db",
        ),
        ("Read everything again", "rlog-queue get spool | rlog-dump -"),
        ("Where does it stand?", "rlog-queue status spool"),
        (
            "Queue and replica in one file, applied and removed in one transaction",
            "rlog-queue put sqlite:replica.db < monday.rlog\nrlog-apply run --from sqlite:replica.db --init empty sqlite:replica.db",
        ),
        ("On three servers, three copies", "rlog-queue put 'nats://n1,n2,n3/RLOG?replicas=3' < monday.rlog"),
    ],
    sections: &[
        (
            "PROMISES",
            "What put has taken, it has made durable: no crash and no loss of power loses it. Whatever is put again is \
             recognised by its ids and by the source's own evidence, and changes nothing. What is missing in between is \
             refused (81), and so is another source, or another life of the same one (83).\n\nOnly whole transactions can \
             be read. They can be read as soon as they are written, an instant before they are synced; put --pass hands \
             them on only after that.\n\nA write that a crash cut short is set aside in a file NUMBER.rlog.broken and \
             forgotten. Damage to what was durable is refused (65) with file and byte, and nothing is cut.",
        ),
        (
            "CHANNELS AND READERS",
            "A queue holds any number of channels, one source each, and `default` is the channel of whoever names none. A \
             reader registers once, by acknowledging or by being an applier; from then on purge keeps what it has not \
             acknowledged. Without a reader nothing is purged.",
        ),
        (
            "QUEUES IN A SQLITE DATABASE",
            "sqlite:PATH keeps the queue in tables: in a file of its own, which then carries the application id 0x726c6f67 \
             (`rlog`), or in the database of a target that rlog-apply has set up. What is put is readable once it is \
             durable. When rlog-apply writes into the database that it reads from (`rlog-apply run --from sqlite:X sqlite:X`), \
             applying, acknowledging and removing from the queue are one transaction.\n\nPlain SQL may read it: the view \
             rlog_queue_transactions has a row a transaction (channel, sequence, position, kind, commit_time, inserts, updates, \
             deletes, statements, tables, bytes; tables is a JSON array of counts by the key of a table's definition), the view \
             rlog_queue_readers a row a reader. Writing is refused by triggers; what an administrator would do with SQL is done by \
             verbs:\n\nDELETE of what is done: ack, then purge. DELETE of everything: reset. Forgetting a reader: reset --reader. \
             Checking: verify, which also runs SQLite's integrity_check. Free pages are given back by purge.",
        ),
        (
            "QUEUES ON NATS JETSTREAM",
            "nats://[USER@]HOST[:PORT][,HOST[:PORT]…]/STREAM[?OPTION=VALUE&…] keeps the queue in the streams STREAM and STREAM_state of a \
             cluster; each channel has its own subjects, rlog.STREAM.frames.CHANNEL among them. Names a shell would take apart need \
             quotes.\n\nreplicas=N (1), storage=file|memory (file) and max-bytes=BYTES say how put creates the streams; a stream that is \
             full makes put wait and then end with 75. timeout=SECONDS (30) is how long servers may be away before 75. creds=FILE, \
             nkey=FILE, token-file=FILE, and USER@ with password-file=FILE say who you are: files that others may read are refused, and no \
             secret stands in an address. tls=auto|required|first, tls-ca=FILE, tls-cert=FILE and tls-key=FILE are for TLS. monitor=PORT \
             is where --check asks a server for its sync_interval.\n\nWhat put has taken is stored once: each message only behind the one \
             that is known to be the last of its subject, with an id made of its coordinate and the writer's epoch. Readers check number and \
             digest of each record besides. A writer that dies on another host keeps the channel locked for 15 seconds.\n\nWhat \
             counts of a reader is its state, a message in STREAM_state: a durable consumer could neither keep what is pinned, nor be \
             changed only as it was seen. Beside it NATS's own tools see each registered reader as a durable consumer READER@CHANNEL of \
             STREAM, which stands where the reader has acknowledged (`nats consumer report STREAM` shows who is how many messages behind; \
             servers from 2.14 on). Nothing reads from it: do not pull from it; one that was deleted comes back with the next acknowledgement, \
             and a user who may not make consumers does without.\n\nA \
             server acknowledges before it has synced, unless it is set up with `sync_interval: always` (2.10.23 or later), and even then an \
             acknowledged message may be lost with the power (nats-server#7549). So the source's log is kept until the target has \
             committed: rlog-extract --confirm confirms what every registered reader has acknowledged, and nothing while none is; it goes on \
             reading behind what is queued. If a cluster does lose what it had acknowledged, the next put is refused as a gap (81): extract \
             again with --after \"$(rlog-queue last QUEUE)\". put --cursor tells what the cluster has acknowledged, not more. --check \
             tells what the version and settings of the servers do not promise.",
        ),
    ],
    files: &[
        (".queue", "What makes a directory a queue. In QUEUE."),
        ("CHANNEL/0000000000000001.rlog", "Segments; rlog-dump reads each alone."),
        ("CHANNEL/*.broken", "What a crash left half written, for a person to look at; may be removed."),
        (
            "CHANNEL/writer, CHANNEL/low-water, CHANNEL/readers/",
            "State; a missing one is an error, never a fresh start.",
        ),
        ("CHANNEL.lock", "Held by the one writer. Never remove it."),
        ("PATH-rlog-queue-CHANNEL.lock", "The same, beside a SQLite database."),
    ],
    environment: &[],
    see_also: &["rlog-extract(1)", "rlog-apply(1)", "rlog-dump(1)"],
};

pub(super) fn command() -> Command {
    Command::new("rlog-queue")
        .args_override_self(true)
        .about("Keep transactions safe between a reader of logs and an applier")
        .long_about(
            "Keep transactions safe between a reader of logs and an applier.\n\nQUEUE is a directory, PATH or dir:PATH, or \
             tables in a SQLite database, sqlite:PATH, or streams of NATS JetStream, nats://HOST[:PORT][,HOST…]/STREAM. put creates it \
             if only the last component of its path is missing (the streams, on JetStream).",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(common())
        .subcommand(
            verb("put", "Store whole transactions from standard input, durably")
                .long_about(
                    "Store whole transactions from standard input, durably. Repeats are recognised and change nothing; a gap is \
                     refused. Prints nothing. When the stream ends with its writer's failure, what is whole is made durable \
                     and put ends with the writer's exit status.",
                )
                .args([
                    flag("pass", "Write the stream on to standard output, once it is durable"),
                    value("cursor", "FILE", "Keep the last durable position in FILE, replaced atomically")
                        .value_parser(value_parser!(PathBuf)),
                    value("space-limit", "BYTES", "Wait before a transaction while the channel occupies more than this")
                        .value_parser(units::bytes),
                    value("segment-size", "BYTES", "Start a new file when one has this many bytes")
                        .value_parser(units::bytes)
                        .default_value("64M"),
                    value("sync-interval", "TIME", "Wait this long for more before a sync")
                        .value_parser(units::duration)
                        .default_value("0"),
                    value("sync-bytes", "BYTES", "Sync at the latest when this many bytes wait")
                        .value_parser(units::bytes)
                        .default_value("4M"),
                    value("purge", "WHEN", "Remove by itself what all readers have acknowledged, or not")
                        .value_parser(["auto", "never"])
                        .default_value("auto"),
                ]),
        )
        .subcommand(
            verb("get", "Write transactions to standard output, in order; reading does not delete").args([
                value("after", "POSITION", "Start behind this position"),
                value("until", "POSITION", "Stop behind the transaction that reaches this position"),
                flag("follow", "Wait for more at the end").short('f'),
                value("reader", "NAME", "Register this reader, and start behind what it has acknowledged").conflicts_with("after"),
                flag("force", "Write to a terminal"),
            ]),
        )
        .subcommand(verb("last", "Print the last durable position; exit 1 when there is none"))
        .subcommand(
            verb("ack", "Tell that a reader needs nothing up to and including a position").args([
                Arg::new("position").value_name("POSITION").required(true).help(
                    "As last and get print it, FILE:OFFSET, or `oldest` to register a reader that needs everything",
                ),
                value("reader", "NAME", "The reader; registered if it is not").required(true),
            ]),
        )
        .subcommand(verb("status", "Tell where the queue and its readers stand").arg(flag("json", "As JSON, one object a channel")))
        .subcommand(
            verb("purge", "Remove what every registered reader has acknowledged")
                .arg(flag("dry-run", "Only tell which")),
        )
        .subcommand(verb("verify", "Check every byte; print each error with file and offset"))
        .subcommand(verb("channels", "List the channels"))
        .subcommand(
            verb("reset", "Forget what a channel holds, and its readers")
                .arg(value("reader", "NAME", "Forget only this reader")),
        )
        .subcommand(verb("upgrade", "Bring the files to the newest layout"))
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).args_override_self(true).about(about).arg(
        Arg::new("queue")
            .value_name("QUEUE")
            .required(true)
            .help("The queue: PATH, dir:PATH, sqlite:PATH or nats://HOST/STREAM"),
    )
}

fn value(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn common() -> [Arg; 7] {
    [
        value("channel", "NAME", "The channel").default_value(DEFAULT_CHANNEL).global(true),
        value("lock-wait", "TIME", "Wait this long for a lock that another process holds")
            .value_parser(units::duration)
            .default_value("0")
            .global(true),
        flag("check", "Tell whether the verb could work, and change nothing").global(true),
        value("progress", "WHEN", "Show progress on standard error")
            .value_parser(["auto", "always", "never"])
            .default_value("auto")
            .global(true),
        Arg::new("quiet").short('q').long("quiet").help("Print errors only").action(ArgAction::SetTrue).global(true),
        Arg::new("verbose").short('v').long("verbose").help("Tell what was done").action(ArgAction::Count).global(true),
        value("metrics-file", "FILE", "Keep counters in FILE in Prometheus text format, replaced atomically")
            .value_parser(value_parser!(PathBuf))
            .global(true),
    ]
}
