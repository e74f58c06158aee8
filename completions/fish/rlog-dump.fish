complete -c rlog-dump -s f -l format -d 'What to print; text if not given' -r -f -a "text\t'For people: a block for each transaction, times local'
json\t'One object a line, see JSON LINES'
sql\t'Statements that do it again'
hex\t'Annotated bytes, see BYTES'
stats\t'Counts, sizes and durations'"
complete -c rlog-dump -l since -d 'Only what happened at or after this time or position (see TIMES AND POSITIONS)' -r
complete -c rlog-dump -l until -d 'Only what happened before this time or up to this position' -r
complete -c rlog-dump -s t -l table -d 'Only these tables: `database.table` or `table`, with `*`, `?` and `[...]`' -r
complete -c rlog-dump -l op -d 'Only these operations, separated by commas: insert, update, delete, statement, ddl, truncate' -r -f -a "insert\t''
update\t''
delete\t''
statement\t''
ddl\t''
truncate\t''"
complete -c rlog-dump -l txn -d 'Only this transaction: its txid (42:1234), its position, or its GTID' -r
complete -c rlog-dump -s c -l where -d 'Only rows of which this is true before or after the change; several must all be true' -r
complete -c rlog-dump -l fields -d 'Print only these columns of rows, separated by commas' -r
complete -c rlog-dump -s n -l limit -d 'Stop after so many rows and statements' -r
complete -c rlog-dump -l repro -d 'One transaction and its tables for a bug report: names and sizes stay, every value is replaced by a hash' -r
complete -c rlog-dump -l dialect -d 'Dialect of SQL; that of the log\'s source if not given' -r -f -a "mariadb\t''
mysql\t''
sqlite\t''
postgres\t''"
complete -c rlog-dump -l schema -d 'CREATE TABLE statements for logs without column names, as `mariadb-dump --no-data` writes them' -r -F
complete -c rlog-dump -l key-file -d 'Keys of an encrypted MariaDB log, in the form of its file_key_management plugin' -r -F
complete -c rlog-dump -l key-secret -d 'File with the secret of a key file that is itself encrypted (file_key_management_filekey)' -r -F
complete -c rlog-dump -l log-name -d 'Name of the (first) log file, when it was renamed or comes from standard input' -r
complete -c rlog-dump -l channel -d 'Channel of a queue' -r
complete -c rlog-dump -l color -d 'Colours in text output' -r -f -a "auto\t'On a terminal, unless $NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c rlog-dump -l plugin -d 'Load a plug-in: it hears of every transaction and row, may refuse them (80), and may change rows' -r
complete -c rlog-dump -l exec -d 'Run a shell command and feed it what happens, as the JSON lines of rlog-dump' -r
complete -c rlog-dump -l config -d 'Configuration file, rlog.toml(5)' -r -F
complete -c rlog-dump -l undo -d 'SQL that takes the selected changes back, newest first'
complete -c rlog-dump -l verify -d 'Check instead of printing: every problem with its offset, and which ranges are proven contiguous'
complete -c rlog-dump -l salvage -d 'Print the transactions that are whole, and say what is lost'
complete -c rlog-dump -l follow -d 'Wait for more at the end of the last input'
complete -c rlog-dump -l json -d 'JSON: short for --format json, and the form of --format stats and --verify for programs'
complete -c rlog-dump -l json-seq -d 'Separate JSON objects as RFC 7464 says: a record separator (0x1e) before each'
complete -c rlog-dump -s 0 -l null -d 'End each JSON object with a zero byte in place of a newline'
complete -c rlog-dump -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rlog-dump -s V -l version -d 'Print version'
