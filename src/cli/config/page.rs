//! rlog.toml(5), made from the keys, so that it has all of them.

use std::fmt::Write as _;

use super::keys;
use crate::cli::manual::{body, escaped, heading, page_reference};

const DESCRIPTION: &str = "\
What would have to be typed again and again may stand in a file. It is a TOML file with a section for each channel, and one for what all
channels share:

    [defaults]
    queue = \"/var/spool/rlog\"

    [channel.orders]
    source = \"mysql://repl@db1.example.org\"
    target = \"mysql://repl@localhost\"
    do-db = [\"shop\", \"crm\"]

    [channel.orders.apply]
    workers = 4

Then `rlog-extract --follow --channel orders | rlog-queue put --channel orders` and `rlog-apply run --follow --channel orders` need no more arguments.
Everything also works without any file.

The file is the one that --config names, else $RLOG_CONFIG, else `rlog.toml` in the current directory if it is there. Without --channel a tool works for the channel
`default`, which may have a section `[channel.default]`, and needs none.

Every use reads the whole file and checks every value in it, whichever tool is run; a mistake ends the tool with 78 and names line and key.
`--check` of a tool does that and reports besides what would be done.";

const PRECEDENCE: &str = "\
What is typed wins. Then comes the channel's section for the tool, `[channel.NAME.TOOL]` (`extract`, `ship`, `queue`, `apply`), then `[channel.NAME]`,
`[defaults.TOOL]`, `[defaults]`, and at last what the tool does by itself. A list that is typed replaces a list of the file.

Filters and `rewrite-db` in `[channel.NAME]` are understood by rlog-extract and by rlog-apply: what is dropped by the one never reaches the other. Put them into
`[channel.NAME.apply]` when the queue is to hold everything, as a relay log does, and into `[channel.NAME.extract]` when it is not. Renames that form a chain or a swap
(a=b, b=c) belong into one of the two.

Addresses of sources and of other hosts, and credentials, stand in channels only, never in defaults. No key holds a password: it comes from a file that `defaults-file` in
the address names, or from the environment.

`_` and `-` in keys are the same. Upper and lower case of channels are the same.";

const KEYS_TEXT: &str = "\
Values are text, numbers, true or false; where an option may be repeated, a list as well. Each key is the long option of the same name, and the tool's page says
more about it.";

const FROM_MARIADB: &str = "\
For those who know CHANGE MASTER and its variables. The names in the first column that are variables (replicate_*, relay_log_space_limit, relay_log_purge,
max_relay_log_size, master_connect_retry, master_retry_count, slave_net_timeout, slave_compressed_protocol) are understood as keys too.

= CHANGE MASTER 'ch' TO ...
The section [channel.ch]: source, queue, target. The retired master_host ... master_ssl_* variables: only in the channel's `source`, never in defaults.
= START SLAVE [UNTIL], STOP SLAVE
`rlog-extract --follow` and `rlog-apply run --follow [--until]`; SIGTERM finishes the transaction at hand and exits 0.
= SHOW [ALL] SLAVE[S] STATUS
`rlog-apply status` (all channels of all targets of this file), `rlog-queue status`.
= MASTER_POS_WAIT
`rlog-apply wait`.
= RESET SLAVE [ALL]
`rlog-apply reset [--all]`, `rlog-queue reset`.
= LOAD DATA FROM MASTER, LOAD TABLE FROM MASTER
`rlog-extract --snapshot [--tables]`.
= SQL_SLAVE_SKIP_COUNTER, slave_skip_errors
`rlog-apply skip POSITION`; `skip-errors`.
= slave_exec_mode=IDEMPOTENT
`on-conflict = \"overwrite\"`.
= replicate_do_db and the like, replicate_rewrite_db
`do-db`, `ignore-db`, `do-table`, `ignore-table`, `wild-do-table`, `wild-ignore-table`, `rewrite-db`, with MariaDB's precedence; renames come before all filters.
= replicate_same_server_id
`same-server-id`: a transaction is passed over only when it has passed through this very target, which its state rows say; server ids are not needed for that.
= master_info_file, relay_log, relay_log_index, relay_log_info_file
The queue's place and layout, see rlog-queue(1). The files of the channel `default` never move when channels are added.
= relay_log_space_limit, relay_log_purge, max_relay_log_size
`space-limit`, `purge`, `segment-size`.
= master_connect_retry, master_retry_count, slave_net_timeout, slave_compressed_protocol
`connect-retry`, `retry-count`, `net-timeout`, `compress`.
= log_slave_updates
What rlog-apply writes is logged by the target as any client's changes are; the state rows in that log keep loops from forming. Nothing has to be set.
= read_only
rlog-apply needs a user who may write on a read-only server, or says so at its start.
= report_host, report_port
`report-name`: shown in SHOW SLAVE HOSTS of the source and in status.
= skip_slave_start
No equivalent is needed: nothing starts by itself; a supervisor or cron decides (see the units and lines in the examples).
= slave_load_tmpdir
No equivalent is needed: LOAD DATA travels in the stream, and what has to wait lies in the queue.";

/// The page.
pub fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = String::from(".\\\" Made from the definitions behind --help: BLESS=1 cargo test --test docs\n");
    let _ = writeln!(page, ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '");
    let _ = writeln!(page, ".TH \"RLOG.TOML\" 5 \"\" \"rlog {version}\" \"rlog manual\"");
    page.push_str(".SH NAME\nrlog.toml \\- configuration of rlog's channels\n");
    heading(&mut page, "DESCRIPTION");
    body(&mut page, DESCRIPTION);
    heading(&mut page, "PRECEDENCE");
    body(&mut page, PRECEDENCE);
    heading(&mut page, "KEYS");
    body(&mut page, KEYS_TEXT);
    for key in keys().values() {
        let (value, text) = match (key.place, key.options.first()) {
            (Some(text), _) => (" = PLACE".to_owned(), text.to_owned()),
            (None, Some((_, option))) => {
                let value = match option.get_action().takes_values() {
                    true => option
                        .get_value_names()
                        .and_then(|names| names.first())
                        .map_or("VALUE".into(), ToString::to_string),
                    false => "true".to_owned(),
                };
                let mut text = option.get_help().map(ToString::to_string).unwrap_or_default();
                let default: Vec<String> =
                    option.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
                if option.get_action().takes_values() && !default.is_empty() {
                    let _ = write!(text, " [default: {}]", default.join(" "));
                }
                (format!(" = {value}"), text)
            }
            (None, None) => continue,
        };
        let mut users: Vec<String> = key.options.iter().map(|(tool, _)| format!("rlog-{tool}(1)")).collect();
        if users.is_empty() {
            users = super::keys::TOOLS
                .iter()
                .filter(|tool| key.is_for(tool))
                .map(|tool| format!("rlog-{tool}(1)"))
                .collect();
        }
        let users: Vec<String> = users.iter().map(|user| page_reference(user)).collect();
        let only = if key.channels_only { " In channels only." } else { "" };
        let _ = writeln!(page, ".TP\n\\fB{}\\fR{}\n{}.{only}", escaped(&key.name), escaped(&value), escaped(&text));
        let _ = writeln!(page, "For {}.", users.join(", "));
    }
    heading(&mut page, "FOR THOSE WHO KNOW CHANGE MASTER");
    body(&mut page, FROM_MARIADB);
    heading(&mut page, "SEE ALSO");
    let pages: Vec<String> =
        crate::cli::TOOLS.iter().map(|tool| page_reference(&format!("{}(1)", tool.name))).collect();
    let _ = writeln!(page, "{},\n{}", pages.join(",\n"), page_reference("rlog(7)"));
    page
}
