complete -c rlog-apply -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-apply -s V -l version -d 'Print version'
