//! What rlog-ship(1) says besides the options.

use crate::cli::Manual;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("On each host, once: make its key", "rlog-ship keygen"),
        ("On the receiving host: serve a queue", "rlog-ship serve --listen 7707 /var/spool/rlog"),
        (
            "Send what a server logs to another host, from cron, any number of times",
            "rlog-extract --confirm @at mysql-bin.0000* | rlog-ship push --cursor at --to tls://backup",
        ),
        (
            "Send what a queue holds, and what will come",
            "rlog-ship push --follow --to tls://backup:7707 /var/spool/rlog",
        ),
        ("Fetch it instead", "rlog-ship pull --follow --from tls://db1:7707 /var/spool/rlog"),
        ("Over ssh", "rlog-ship push --to ssh://backup/var/spool/rlog /var/spool/rlog"),
        ("Look at what another host holds", "rlog-ship pull --from tls://db1 - | rlog-dump -"),
    ],
    sections: &[("PROMISES", PROMISES), ("KEYS", KEYS), ("SSH", SSH), ("LIMITS", LIMITS), ("PROTOCOL", PROTOCOL)],
    files: &[
        ("~/.config/rlog/ship.key", "The private key, PKCS#8 in PEM, mode 0600."),
        ("~/.config/rlog/known_servers", "The servers that push and pull know."),
        ("~/.config/rlog/authorized_keys", "The clients that serve lets in."),
        ("/etc/rlog/", "Where each of these is looked for if the user has none."),
    ],
    environment: &[
        ("RLOG_SHIP_KEY", "The private key."),
        ("XDG_CONFIG_HOME", "Instead of ~/.config."),
        (
            "TMPDIR",
            "Where a transaction from standard input waits that is larger than 16 MiB, until it is durable over there.",
        ),
    ],
    see_also: &["rlog-queue(1)", "ssh(1)", "sshd(8)"],
};

const PROMISES: &str = "\
What push reports as safe, by exit status 0, in its cursor file, or by acknowledging it to its own queue, is durable in the queue on the other side. Kill
either side, cut the connection anywhere, and run the same command again: the receiver tells where it durably stands, the sender goes on there, and what comes twice
changes nothing.

A cut is mended by itself: push and pull connect again, after --connect-retry and then twice as long each time up to a minute, until --retry-count attempts made no
progress. From standard input, what is not yet durable over there is kept to be sent again.

push and serve read a queue as its writer writes it, not only once it is synced, as rlog-apply does. So a power cut on the sending side can leave the receiving queue ahead of its
source: it waits, passes over what comes twice, and refuses (83) a source that has another transaction in the place of one that it holds.

The receiving queue judges as rlog-queue put does: a gap (81) or a stream of another source (83) is refused, with its message. If the queue on the other side has lost what it had
confirmed, that is refused (81) too. A stream whose writer failed ends push with that writer's exit status, once everything whole is safe.";

const KEYS: &str = "\
Each host has a key pair; each side is told the other's public key. There are no certificates, and nothing to expire unless you say so.

    db1$ rlog-ship keygen
    rlog-ed25519 hTm2ScV1pGkFQJDqKcUJhC5kTRk8n0QX3EJ7sO2vEtY= root@db1

This line goes into the server's authorized keys, perhaps behind options; the server's own, behind HOST:PORT, into the client's known servers. A client that meets a
server that it does not know refuses (77) and prints the line that would make it known, for you to compare.

    channels=\"orders,shop\",verbs=\"push\" rlog-ed25519 hTm2ScV1pGkFQJDqKcUJhC5kTRk8n0QX3EJ7sO2vEtY= db1

= channels=\"NAME,NAME\"
Only these channels.
= verbs=\"push,pull\"
Only these.
= expires=\"2027-01-31\"
Not from then on (UTC); a time as 2027-01-31T12:00:00Z.
= connections=\"N\"
At most so many at the same time.
= rate-limit=\"BYTES\", space-limit=\"BYTES\"
As the options of serve, for this key.

A key file that others may read, or a list that others may write, is not used (77).";

const SSH: &str = "\
`--to ssh://HOST/QUEUE` runs `ssh HOST rlog-ship serve --stdio QUEUE` and speaks the same protocol through it; ssh is then what proves who both are. In the authorized_keys of
sshd, a forced command narrows what a key may do:

    restrict,command=\"rlog-ship serve --stdio --put-only --channel shop /var/spool/rlog\" ssh-ed25519 AAAA... db1

What the client asked ssh to run (SSH_ORIGINAL_COMMAND) is not looked at.";

const LIMITS: &str = "\
Before a key is known, a connection may take --handshake-timeout; at most 64 such exist, and one more closes the oldest. A peer that is silent, takes nothing, or does not finish a message for --net-timeout is
cut off; heartbeats keep an idle connection alive. A connection may be ahead of its receiver by 4 MiB and occupies at most about 32 MiB. A client that connects again
takes the place of its own earlier connection; another process that pushes into the same channel is told to try again (75).

--space-limit holds a sender back, --min-free refuses it (75), and neither drops anything.

pull registers a reader `ship-KEY` in the server's queue, which then keeps what is not durable here. One that never comes back is forgotten with `rlog-queue reset --reader NAME`.";

const PROTOCOL: &str = "\
Version 1. TLS 1.3 with raw public keys (RFC 7250, Ed25519) on both sides and the ALPN name `rlog-ship/1`; or a pair of pipes. Both sides send messages: kind (1 byte), flags (1 byte), two bytes of zero, length of the payload (4 bytes,
little-endian), payload. Control messages are at most 16 KiB; their payload is fields as in rlog-format(5): tag, length, value; an odd tag must be understood.

= 1 hello
The client's first message: 8 bytes of magic (0x89 RLSHIP and a line feed), then protocol versions (tags 1, 3), verb (5: 1 put, 2 get), channel (7), a random number of the process (10), capabilities (4: 1 zstd), net time-out in ms (6); to get also what its queue durably holds (11 position, 13 inside of a snapshot), first credit (9), whether to
follow (15), reader (17). With 19 it only asks.
= 2 welcome
The answer: version (3), capabilities that both have, net time-out, first credit (to put), and what the server's queue durably holds (11, 13). A sender goes on from there.
= 3 data
A piece of a stream as in rlog-format(5), at most 256 KiB, cut anywhere. Flag 1: the payload is the size of the piece (4 bytes) and a zstd frame of exactly that.
= 4 credit
From the receiver: payload bytes of data that may come in all, counted from the start of the connection (9).
= 5 ack
From the receiver: how many units (transactions, prepared groups, progress, handovers, marks of snapshots) of this connection's stream are durable (21), and what its queue durably holds (11, 13).
= 6 heartbeat
Sent when nothing else was for a third of the smaller net time-out.
= 7 end
From the sender: no more data.
= 8 done
From the receiver, behind its last ack: the stream ended well.
= 9 refuse
The last word of a side that fails: exit status (23), message (25), hint (26), whether connecting again is worth it (27).";
