complete -c rlog-ship -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-ship -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-ship -s V -l version -d 'Print version'
