complete -c rlog-dump -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-dump -s V -l version -d 'Print version'
