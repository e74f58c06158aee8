complete -c rlog-queue -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-queue -s V -l version -d 'Print version'
