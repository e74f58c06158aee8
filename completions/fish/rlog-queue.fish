# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rlog_queue_global_optspecs
    string join \n channel= lock-wait= check progress= q/quiet v/verbose metrics-file= config= h/help V/version
end

function __fish_rlog_queue_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rlog_queue_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rlog_queue_using_subcommand
    set -l cmd (__fish_rlog_queue_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -s V -l version -d 'Print version'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "put" -d 'Store whole transactions from standard input, durably'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "get" -d 'Write transactions to standard output, in order; reading does not delete'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "last" -d 'Print the last durable position; exit 1 when there is none'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "ack" -d 'Tell that a reader needs nothing up to and including a position'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "status" -d 'Tell where the queue and its readers stand'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "purge" -d 'Remove what every registered reader has acknowledged'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "verify" -d 'Check every byte; print each error with file and offset'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "channels" -d 'List the channels'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "reset" -d 'Forget what a channel holds, and its readers'
complete -c rlog-queue -n "__fish_rlog_queue_needs_command" -f -a "upgrade" -d 'Bring the files to the newest layout'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l cursor -d 'Keep the last durable position in FILE, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l space-limit -d 'Wait before a transaction while the channel occupies more than this' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l segment-size -d 'Start a new file when one has this many bytes' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l sync-interval -d 'Wait this long for more before a sync' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l sync-bytes -d 'Sync at the latest when this many bytes wait' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l purge -d 'Remove by itself what all readers have acknowledged, or not' -r -f -a "auto\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l pass -d 'Write the stream on to standard output, once it is durable'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand put" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l after -d 'Start behind this position' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l until -d 'Stop behind the transaction that reaches this position' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l reader -d 'Register this reader, and start behind what it has acknowledged' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -s f -l follow -d 'Wait for more at the end'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l force -d 'Write to a terminal'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand get" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand last" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l reader -d 'The reader; registered if it is not' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand ack" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l json -d 'As JSON, one object a channel'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand status" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l dry-run -d 'Only tell which'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand purge" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand verify" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand channels" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l reader -d 'Forget only this reader' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand reset" -s h -l help -d 'Print help'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l channel -d 'The channel' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l metrics-file -d 'Keep counters in FILE in Prometheus text format, replaced atomically' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -l check -d 'Tell whether the verb could work, and change nothing'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -s q -l quiet -d 'Print errors only'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -s v -l verbose -d 'Tell what was done'
complete -c rlog-queue -n "__fish_rlog_queue_using_subcommand upgrade" -s h -l help -d 'Print help'
