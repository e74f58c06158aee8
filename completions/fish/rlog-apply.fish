# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rlog_apply_global_optspecs
    string join \n config= h/help V/version
end

function __fish_rlog_apply_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rlog_apply_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rlog_apply_using_subcommand
    set -l cmd (__fish_rlog_apply_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -s V -l version -d 'Print version'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "run" -d 'Apply transactions until the end, a limit or a signal'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "status" -d 'Tell what each channel has applied, and how far it is behind'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "last" -d 'Print the applied position; exit status 1 when there is none'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "wait" -d 'Wait until a position is applied (0), the time is up (75) or the applier has stopped (80)'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "skip" -d 'Step over one failing transaction, and no other, in the next run'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "reset" -d 'Forget the last error, recorded conflicts and a pending skip; with --all the channel itself'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "errors" -d 'List the conflicts that were stepped over, one JSON object a line'
complete -c rlog-apply -n "__fish_rlog_apply_needs_command" -f -a "compare" -d 'Compare the tables of two databases row by row; exit status 80 when something differs'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l from -d 'Where transactions come from: a queue (a directory), a file of frames, or `-`, standard input' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l init -d 'What the target holds: `empty`, or everything up to a position; does nothing once there is state' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l until -d 'Stop behind the last transaction that ends at this position, or before the first that committed after this time' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l workers -d 'Sessions that apply at the same time, where the target has several writers (a server; SQLite has one) [default: as many as this machine has cores, 4 at most]' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l order -d 'Order of commits: the source\'s, or any that the transactions\' windows allow' -r -f -a "commit\t'The source\'s'
relaxed\t'Any that the windows allow'"
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l batch -d 'Source transactions merged into one target transaction at most; 1 by itself when there is no more input' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l on-conflict -d 'What to do about conflicts: stop, skip (the row) or overwrite; or CLASS=ACTION, several with commas' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l skip-errors -d 'Error numbers of the target\'s engine that are stepped over, with commas; or all' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l dead-letter -d 'Keep source transactions of which something was skipped in this file, as frames' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l retries -d 'Retries of deadlocks, lock time-outs and lost connections' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l ddl -d 'What to do with statements that change the schema' -r -f -a "apply\t'Apply it, translated where the engines differ'
ignore\t'Leave it out'
stop\t'Stop (80)'"
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l triggers -d 'Let the target\'s triggers fire for applied rows: `fire`' -r -f -a "fire\t''
off\t''"
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l cursor -d 'Keep the applied position in FILE, replaced atomically: what `rlog-extract --confirm @FILE` goes by' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l delay -d 'Stay behind the source by this long: `30`, `90s`, `15m`, `2h`' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l lock-wait -d 'Wait this long for another run of the channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l progress -d 'Show progress' -r -f -a "auto\t'On a terminal, and not with --follow'
always\t'Always'
never\t'Never'"
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l metrics-file -d 'Keep figures for Prometheus in this file, replaced atomically' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l tables -d 'Only these tables: globs over `database.table`, or over the table alone' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l ignore-tables -d 'Not these tables' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l rewrite-db -d 'Rename a database, before all filters' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l do-db -d 'Only these databases (replicate_do_db)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l ignore-db -d 'Not these databases (replicate_ignore_db); without effect when there is any --do-db' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l do-table -d 'Only these tables (replicate_do_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l ignore-table -d 'Not these tables (replicate_ignore_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l wild-do-table -d 'Only tables like these: `%` and `_` as LIKE has them (replicate_wild_do_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l wild-ignore-table -d 'Not tables like these (replicate_wild_ignore_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l plugin -d 'Load a plug-in: it hears of every transaction and row, may refuse them (80), and may change rows' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l exec -d 'Run a shell command and feed it what happens, as the JSON lines of rlog-dump' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l once -d 'Apply what is there, and end (the default)'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l follow -d 'Wait for more at the end'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l check-before -d 'Compare rows with their whole before image, not only by key'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l create-tables -d 'Create tables that are missing, from the stream\'s own definitions'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l qualify -d 'Name tables `db.table` in a target without databases'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l replace -d 'Let a snapshot replace the rows that its tables have'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l allow-nontransactional -d 'Apply also to tables whose engine cannot roll back: at least once, not exactly once'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l accept-filters -d 'Go on although the filters may now let through what those of earlier runs held back'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l same-server-id -d 'Apply also what this server itself has executed first, as its server id tells (replicate_same_server_id)'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l check -d 'Report what would be done and whether it can be, and change nothing'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -l dry-run -d 'Print what would be applied as SQL, and change nothing'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -s q -l quiet -d 'No remarks'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -s v -l verbose -d 'Say at the end what was done'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -l channel -d 'Only this channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -l from -d 'The queue that it reads, to tell how far it is behind' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -l format -d 'How to print' -r -f -a "text\t'For people'
mysql\t'The field names of SHOW ALL SLAVES STATUS'"
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -l json -d 'One JSON object a line'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand last" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand last" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand last" -s h -l help -d 'Print help'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand wait" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand wait" -l position -d 'The position: as rlog prints it, or FILE:OFFSET as the server does' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand wait" -l timeout -d 'How long: `30`, `90s`, `15m`; 0 waits for ever' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand wait" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand wait" -s h -l help -d 'Print help'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand skip" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand skip" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand skip" -s h -l help -d 'Print help'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand reset" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand reset" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand reset" -l all -d 'Forget the channel itself, its position included'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand reset" -s h -l help -d 'Print help'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand errors" -l channel -d 'The channel' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand errors" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand errors" -s h -l help -d 'Print help'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l channel -d 'The channel through which the target follows the source, which may be at work' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l timeout -d 'How long the target may take to come up to the source' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l looks -d 'How often to look at differences before they are reported; 1 without --channel, else 3' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l ranges -d 'Ranges of rows that are listed for one table at most' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l tables -d 'Only these tables: globs over `database.table`, or over the table alone' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l ignore-tables -d 'Not these tables' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l rewrite-db -d 'Rename a database, before all filters' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l do-db -d 'Only these databases (replicate_do_db)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l ignore-db -d 'Not these databases (replicate_ignore_db); without effect when there is any --do-db' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l do-table -d 'Only these tables (replicate_do_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l ignore-table -d 'Not these tables (replicate_ignore_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l wild-do-table -d 'Only tables like these: `%` and `_` as LIKE has them (replicate_wild_do_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l wild-ignore-table -d 'Not tables like these (replicate_wild_ignore_table)' -r
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l qualify -d 'The target names tables `db.table`'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -l json -d 'One JSON object a line'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -s q -l quiet -d 'Print only what differs'
complete -c rlog-apply -n "__fish_rlog_apply_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
