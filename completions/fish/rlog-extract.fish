complete -c rlog-extract -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-extract -s V -l version -d 'Print version'
