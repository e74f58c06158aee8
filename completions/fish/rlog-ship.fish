# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rlog_ship_global_optspecs
    string join \n config= h/help V/version
end

function __fish_rlog_ship_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rlog_ship_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rlog_ship_using_subcommand
    set -l cmd (__fish_rlog_ship_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -s V -l version -d 'Print version'
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -f -a "push" -d 'Send a stream or a queue to a queue on another host'
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -f -a "pull" -d 'Receive what a queue on another host holds'
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -f -a "serve" -d 'Let other hosts push into a queue and pull from it'
complete -c rlog-ship -n "__fish_rlog_ship_needs_command" -f -a "keygen" -d 'Make a key pair, or show the public half of one'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l to -d 'Where to: tls://HOST[:PORT][/CHANNEL], ssh://[USER@]HOST[:PORT][/QUEUE], or exec:PROGRAM ARGUMENTS' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l from -d 'As QUEUE; the operand wins' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l cursor -d 'Keep the position that is durable over there in FILE, replaced atomically' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l reader -d 'Name of the reader that is registered in the queue [default: push-HOST-PORT]' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l channel -d 'Channel, here and, unless the address names another, over there' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l key -d 'Our private key' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l server-key -d 'The server must have this key (`rlog-ed25519 BASE64`); may be repeated' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l known-servers -d 'The servers\' keys, a line `HOST:PORT rlog-ed25519 BASE64` each' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l compress -d 'Compress with zstd: `none`, or a level from 1 to 19' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l connect-retry -d 'First pause before connecting again; doubled each time up to a minute' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l retry-count -d 'Connect again so many times without any progress in between, then end with 75' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l report-name -d 'The name that the server reports for us' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l config -d 'Configuration file' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l net-timeout -d 'A peer from which nothing comes for this long is gone' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l rate-limit -d 'Move at most this many bytes a second in a connection' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l metrics-file -d 'Keep counters in FILE in Prometheus\' text format, replaced atomically' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -s f -l follow -d 'Go on at the end of the queue'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l json -d 'With --check: as JSON'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -l check -d 'Tell whether it could work, and change nothing'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -s q -l quiet -d 'Print errors only'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -s v -l verbose -d 'Tell what was done'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l from -d 'Where from: tls://HOST[:PORT][/CHANNEL], ssh://[USER@]HOST[:PORT][/QUEUE], or exec:PROGRAM ARGUMENTS' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l cursor -d 'Into a queue: keep its durable position in FILE. To standard output: FILE says what is safe behind us' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l reader -d 'A name for what the server keeps for us, if one key pulls a channel several times; `none` keeps nothing' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l space-limit -d 'Wait before a transaction while the channel occupies more than this' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l segment-size -d 'Start a new file of the queue when one has this many bytes' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l sync-interval -d 'Wait this long for more before a sync' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l purge -d 'Remove by itself what all readers have acknowledged, or not' -r -f -a "auto\t''
never\t''"
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l channel -d 'Channel, here and, unless the address names another, over there' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l key -d 'Our private key' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l server-key -d 'The server must have this key (`rlog-ed25519 BASE64`); may be repeated' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l known-servers -d 'The servers\' keys, a line `HOST:PORT rlog-ed25519 BASE64` each' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l compress -d 'Compress with zstd: `none`, or a level from 1 to 19' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l connect-retry -d 'First pause before connecting again; doubled each time up to a minute' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l retry-count -d 'Connect again so many times without any progress in between, then end with 75' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l report-name -d 'The name that the server reports for us' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l config -d 'Configuration file' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l net-timeout -d 'A peer from which nothing comes for this long is gone' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l rate-limit -d 'Move at most this many bytes a second in a connection' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l metrics-file -d 'Keep counters in FILE in Prometheus\' text format, replaced atomically' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -s f -l follow -d 'Go on at the end'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l force -d 'Write to a terminal'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l json -d 'With --check: as JSON'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -l check -d 'Tell whether it could work, and change nothing'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -s q -l quiet -d 'Print errors only'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -s v -l verbose -d 'Tell what was done'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l listen -d 'Listen there: ADDRESS:PORT, or a port alone for all addresses; may be repeated' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l channel -d 'Serve this channel only; may be repeated' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l key -d 'The server\'s private key' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l authorized-keys -d 'The keys that may come in, and what each may do' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l connections -d 'Serve at most so many connections at the same time' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l handshake-timeout -d 'A client that is not welcomed after this long is cut off' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l min-free -d 'Refuse to store when the file system has less than this left' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l compress -d 'Compress with zstd what a client pulls that asks for it, at this level' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l space-limit -d 'Wait before a transaction while the channel occupies more than this' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l segment-size -d 'Start a new file of the queue when one has this many bytes' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l sync-interval -d 'Wait this long for more before a sync' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l purge -d 'Remove by itself what all readers have acknowledged, or not' -r -f -a "auto\t''
never\t''"
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l config -d 'Configuration file' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l lock-wait -d 'Wait this long for a lock that another process holds' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l net-timeout -d 'A peer from which nothing comes for this long is gone' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l rate-limit -d 'Move at most this many bytes a second in a connection' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l metrics-file -d 'Keep counters in FILE in Prometheus\' text format, replaced atomically' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l progress -d 'Show progress on standard error' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l stdio -d 'Serve one connection over standard input and output'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l put-only -d 'Clients may only push'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l get-only -d 'Clients may only pull'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -l check -d 'Tell whether it could work, and change nothing'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -s q -l quiet -d 'Print errors only'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -s v -l verbose -d 'Tell what was done'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand keygen" -l key -d 'Where the private key goes; never replaced [default: ~/.config/rlog/ship.key]' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand keygen" -l comment -d 'What to write behind the key [default: USER@HOST]' -r
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand keygen" -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand keygen" -l show -d 'Make nothing: print the public half of the key that is there'
complete -c rlog-ship -n "__fish_rlog_ship_using_subcommand keygen" -s h -l help -d 'Print help'
