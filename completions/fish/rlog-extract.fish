complete -c rlog-extract -l after -d 'Resume behind this position' -r
complete -c rlog-extract -l until -d 'Stop there, inclusive' -r
complete -c rlog-extract -l since -d 'Pass over transactions before this time' -r
complete -c rlog-extract -l confirm -d 'What is durable there may be forgotten by the source, and is where reading resumes' -r
complete -c rlog-extract -l max-wal -d 'Largest log that is held back for what is not confirmed, or `none`' -r
complete -c rlog-extract -l server-id -d 'Id to register with at a server, unlike those of all its replicas and its own' -r
complete -c rlog-extract -l report-name -d 'Name to show in the server\'s SHOW REPLICAS (SHOW SLAVE HOSTS); without it `rlog@HOST`' -r
complete -c rlog-extract -l connect-retry -d 'Longest pause between two tries to connect; the first is a tenth of a second, and it doubles' -r
complete -c rlog-extract -l retry-count -d 'How often in a row connecting may fail before it ends with 75; without it 10, with --follow for ever' -r
complete -c rlog-extract -l net-timeout -d 'A server that says nothing for so long is taken for gone' -r
complete -c rlog-extract -l handover -d 'Go on with this server when SOURCE is gone for good (--retry-count)' -r
complete -c rlog-extract -l snapshot-sessions -d 'Sessions that read a server\'s rows at the same time, all at one position' -r
complete -c rlog-extract -l shadow -d 'A copy of the database at the confirmed position, to bridge gaps (SQLite)' -r -F
complete -c rlog-extract -l schema -d 'CREATE TABLE statements, for logs without column names' -r -F
complete -c rlog-extract -l key-file -d 'Keys of encrypted MariaDB logs, in the format of file_key_management' -r -F
complete -c rlog-extract -l key-secret -d 'File with the secret of a key file that is itself encrypted (file_key_management_filekey)' -r -F
complete -c rlog-extract -l log-name -d 'Name of the log, when its file does not tell' -r
complete -c rlog-extract -l windows -d 'How to tell which transactions may run at the same time' -r -f -a "source\t''
writeset\t''
serial\t''"
complete -c rlog-extract -l raw -d 'Keep byte-exact copies of a server\'s logs here too' -r -F
complete -c rlog-extract -l progress -d 'Show how far it is' -r -f -a "auto\t''
always\t''
never\t''"
complete -c rlog-extract -l metrics-file -d 'Write counters there, in Prometheus\' text format' -r -F
complete -c rlog-extract -l channel -d 'Channel, whose section of the configuration is used' -r
complete -c rlog-extract -l tables -d 'Only these tables: globs over `database.table`, or over the table alone' -r
complete -c rlog-extract -l ignore-tables -d 'Not these tables' -r
complete -c rlog-extract -l rewrite-db -d 'Rename a database, before all filters' -r
complete -c rlog-extract -l do-db -d 'Only these databases (replicate_do_db)' -r
complete -c rlog-extract -l ignore-db -d 'Not these databases (replicate_ignore_db); without effect when there is any --do-db' -r
complete -c rlog-extract -l do-table -d 'Only these tables (replicate_do_table)' -r
complete -c rlog-extract -l ignore-table -d 'Not these tables (replicate_ignore_table)' -r
complete -c rlog-extract -l wild-do-table -d 'Only tables like these: `%` and `_` as LIKE has them (replicate_wild_do_table)' -r
complete -c rlog-extract -l wild-ignore-table -d 'Not tables like these (replicate_wild_ignore_table)' -r
complete -c rlog-extract -l plugin -d 'Load a plug-in: it hears of every transaction and row, may refuse them (80), and may change rows' -r
complete -c rlog-extract -l exec -d 'Run a shell command and feed it what happens, as the JSON lines of rlog-dump' -r
complete -c rlog-extract -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-extract -l no-annotate -d 'Leave out the SQL text that caused rows'
complete -c rlog-extract -l once -d 'Read what is there when it starts, then end (the default)'
complete -c rlog-extract -s f -l follow -d 'Wait for more at the end, through rotations'
complete -c rlog-extract -l snapshot -d 'Write the existing rows first, then the log from exactly there (SQLite databases and servers)'
complete -c rlog-extract -l resnapshot -d 'Write the existing rows anew, whatever is confirmed'
complete -c rlog-extract -l no-turnover -d 'Never make the source start its log again'
complete -c rlog-extract -l semi-sync -d 'Acknowledge to a semi-synchronous server what --confirm says is durable'
complete -c rlog-extract -l force -d 'Write to a terminal'
complete -c rlog-extract -l check -d 'Look at the sources and print what would be read; write nothing'
complete -c rlog-extract -s q -l quiet -d 'Say less: no notes'
complete -c rlog-extract -s v -l verbose -d 'Say more: what was written, at the end'
complete -c rlog-extract -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-extract -s V -l version -d 'Print version'
