//! Which tables a statement changes the rows of: INSERT, REPLACE, UPDATE, DELETE (of one table or several), LOAD DATA, with or without WITH in front.
//!
//! Filters judge statements by this, as a server's own filters do: by the tables that are written, not by those that are read. What a routine or a
//! trigger writes cannot be told from the text; nor can anything about a text that does not look like one of these. Then no table
//! is named, and nothing is guessed.
//!
//! Only as much of a text is read as is needed: of an INSERT of many megabytes the first words.

use super::Session;
use super::token::{Kind, Lexer, Token};

/// Database and table, in the order of the text.
pub type Changed = Vec<(String, String)>;

/// Tables in one statement; more are not told apart.
const TABLES_MAX: usize = 4096;
/// Parentheses inside each other in a list of tables.
const DEPTH_MAX: usize = 64;

/// Words that cannot be an alias, since something else begins with them.
const NO_ALIAS: [&str; 24] = [
    "join",
    "inner",
    "cross",
    "left",
    "right",
    "full",
    "outer",
    "natural",
    "straight_join",
    "on",
    "using",
    "use",
    "force",
    "ignore",
    "set",
    "where",
    "order",
    "limit",
    "for",
    "partition",
    "returning",
    "values",
    "value",
    "select",
];

/// The tables whose rows a statement changes; empty where that cannot be told.
pub fn changed(session: &Session<'_>, mariadb: Option<bool>, sql: &[u8]) -> Changed {
    let text = session.text(sql);
    let mut words = Words::new(&text, Lexer::new(&text, 0, session.dialect(mariadb)), session.database);
    words.statement().unwrap_or_default()
}

/// The texts that an INSERT puts into a column that it names, as far as they are plain strings. (What rlog's own appliers write into a log of
/// statements is read so.)
pub fn inserted_texts(session: &Session<'_>, mariadb: Option<bool>, sql: &[u8], column: &str) -> Vec<String> {
    let text = session.text(sql);
    let mut words = Words::new(&text, Lexer::new(&text, 0, session.dialect(mariadb)), session.database);
    words.inserted(column).unwrap_or_default()
}

/// A table of a list, and what it is called there.
struct Named {
    alias: Option<String>,
    table: (String, String),
}

/// The tokens of a text, read as they are needed.
struct Words<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Option<Token>,
    database: &'a str,
}

impl<'a> Words<'a> {
    fn new(text: &'a str, mut lexer: Lexer<'a>, database: &'a str) -> Words<'a> {
        let token = lexer.next();
        Words { text, lexer, token, database }
    }

    fn bump(&mut self) {
        self.token = self.lexer.next();
    }

    fn word(&self) -> Option<&'a str> {
        match &self.token {
            Some(Token { kind: Kind::Word, from, to }) => self.text.get(*from..*to),
            _ => None,
        }
    }

    fn is(&self, keyword: &str) -> bool {
        self.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }

    fn is_one_of(&self, keywords: &[&str]) -> bool {
        self.word().is_some_and(|word| keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)))
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.bump();
        }
        found
    }

    fn takes_all_of(&mut self, keywords: &[&str]) {
        while self.is_one_of(keywords) {
            self.bump();
        }
    }

    fn is_symbol(&self, symbol: char) -> bool {
        self.token.as_ref().is_some_and(|token| token.kind == Kind::Symbol(symbol))
    }

    fn takes_symbol(&mut self, symbol: char) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.bump();
        }
        found
    }

    fn is_end(&self) -> bool {
        self.token.is_none() || self.is_symbol(';')
    }

    fn name(&mut self) -> Option<String> {
        let found = match &self.token {
            Some(Token { kind: Kind::Quoted(name), .. }) => name.clone(),
            Some(Token { kind: Kind::Word, from, to }) => self.text.get(*from..*to)?.to_owned(),
            _ => return None,
        };
        self.bump();
        Some(found)
    }

    /// `table`, `database.table`, and (`.table`, which ODBC writes) the default database's.
    fn table_name(&mut self) -> Option<(String, String)> {
        if self.takes_symbol('.') {
            return Some((self.database.to_owned(), self.name()?));
        }
        let first = self.name()?;
        if self.takes_symbol('.') {
            if self.takes_symbol('*') {
                return Some((self.database.to_owned(), first));
            }
            let second = self.name()?;
            if self.takes_symbol('.') {
                self.takes_symbol('*').then_some(())?;
            }
            return Some((first, second));
        }
        Some((self.database.to_owned(), first))
    }

    /// From the parenthesis here to behind its partner.
    fn skip_parentheses(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match &self.token.as_ref()?.kind {
                Kind::Symbol('(') => depth += 1,
                Kind::Symbol(')') => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.bump();
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn statement(&mut self) -> Option<Changed> {
        if self.takes("with") {
            self.takes("recursive");
            loop {
                self.name()?;
                if self.is_symbol('(') {
                    self.skip_parentheses()?;
                }
                self.takes("as").then_some(())?;
                self.skip_parentheses()?;
                if self.takes("cycle") {
                    while !self.takes("restrict") {
                        self.token.as_ref()?;
                        self.bump();
                    }
                }
                if !self.takes_symbol(',') {
                    break;
                }
            }
        }
        let verb = self.word()?.to_ascii_lowercase();
        self.bump();
        match verb.as_str() {
            "insert" | "replace" => {
                self.takes_all_of(&["low_priority", "delayed", "high_priority", "ignore"]);
                self.takes("into");
                Some(vec![self.table_name()?])
            }
            "update" => self.update(),
            "delete" => self.delete(),
            "load" => {
                self.takes_all_of(&["data", "xml", "low_priority", "concurrent", "local", "infile"]);
                // The file's name, and what stands there instead of it in what servers write.
                while !self.is("into") {
                    self.token.as_ref()?;
                    self.bump();
                }
                self.bump();
                self.takes("table").then_some(())?;
                Some(vec![self.table_name()?])
            }
            _ => None,
        }
    }

    fn update(&mut self) -> Option<Changed> {
        self.takes_all_of(&["low_priority", "ignore"]);
        let tables = self.tables(0)?;
        self.takes("set").then_some(())?;
        if let [one] = tables.as_slice() {
            return Some(vec![one.table.clone()]);
        }
        let mut hit = vec![false; tables.len()];
        loop {
            let mut parts = vec![self.name()?];
            while self.takes_symbol('.') {
                parts.push(self.name()?);
            }
            match parts.as_slice() {
                [table, _] => mark(&tables, &mut hit, None, table),
                [database, table, _] => mark(&tables, &mut hit, Some(database), table),
                // A column of any of them.
                _ => hit.fill(true),
            }
            // Up to the next assignment.
            loop {
                if self.is_symbol('(') {
                    self.skip_parentheses()?;
                    continue;
                }
                if self.is_end() || self.is_symbol(',') || self.is_one_of(&["where", "order", "limit", "returning"]) {
                    break;
                }
                self.bump();
            }
            if !self.takes_symbol(',') {
                break;
            }
        }
        Some(chosen(tables, &hit))
    }

    fn delete(&mut self) -> Option<Changed> {
        self.takes_all_of(&["low_priority", "quick", "ignore", "history"]);
        let from_first = self.takes("from");
        let mut names = Vec::new();
        loop {
            names.push(self.target()?);
            if names.len() > TABLES_MAX {
                return None;
            }
            if !self.takes_symbol(',') {
                break;
            }
        }
        let many = if from_first { self.takes("using") } else { self.takes("from") };
        if !many {
            // One table, perhaps under another name. Without FROM it is no DELETE.
            return names
                .pop()
                .filter(|_| from_first && names.is_empty())
                .map(|(database, table)| vec![(database.unwrap_or_else(|| self.database.to_owned()), table)]);
        }
        let tables = self.tables(0)?;
        let mut hit = vec![false; tables.len()];
        for (database, table) in &names {
            mark(&tables, &mut hit, database.as_deref(), table);
        }
        Some(chosen(tables, &hit))
    }

    /// A name of DELETE's list, which may be an alias: `t`, `d.t`, `t.*`, `d.t.*`.
    fn target(&mut self) -> Option<(Option<String>, String)> {
        let first = self.name()?;
        if !self.takes_symbol('.') || self.takes_symbol('*') {
            return Some((None, first));
        }
        let second = self.name()?;
        if self.takes_symbol('.') {
            self.takes_symbol('*').then_some(())?;
        }
        Some((Some(first), second))
    }

    /// A list of tables with their joins. Derived tables are passed over: nothing can be changed in them.
    fn tables(&mut self, depth: usize) -> Option<Vec<Named>> {
        let mut out = Vec::new();
        if depth > DEPTH_MAX {
            return None;
        }
        loop {
            self.factor(depth, &mut out)?;
            if out.len() > TABLES_MAX {
                return None;
            }
            // Conditions, hints and words of joins, up to the next table.
            loop {
                if self.takes_symbol(',') {
                    break;
                }
                if self.takes("join") || self.takes("straight_join") {
                    break;
                }
                if self.is_end()
                    || self.is_symbol(')')
                    || self.is_one_of(&["set", "where", "order", "limit", "returning"])
                {
                    return Some(out);
                }
                if self.is_symbol('(') {
                    self.skip_parentheses()?;
                } else if self.takes("for") {
                    // `USE INDEX FOR JOIN (…)` is no join; `FOR PORTION OF p FROM a TO b` and FOR ORDER BY are no ends.
                    self.bump();
                } else {
                    self.bump();
                }
            }
        }
    }

    fn factor(&mut self, depth: usize, out: &mut Vec<Named>) -> Option<()> {
        // `{ OJ … }`, as ODBC writes outer joins.
        if self.takes_symbol('{') {
            self.name()?;
        }
        self.takes("lateral");
        if self.is_symbol('(') {
            let mut inside = Words { text: self.text, lexer: self.lexer.clone(), token: None, database: self.database };
            inside.bump();
            if !inside.is_one_of(&["select", "with", "values", "table"])
                && let Some(found) = inside.tables(depth + 1)
            {
                inside.takes_symbol(')').then_some(())?;
                (self.lexer, self.token) = (inside.lexer, inside.token);
                out.extend(found);
                return Some(());
            }
            self.skip_parentheses()?;
            self.alias();
            if self.is_symbol('(') {
                self.skip_parentheses()?;
            }
            return Some(());
        }
        let table = self.table_name()?;
        if self.is_symbol('(') {
            // JSON_TABLE(…) and the like.
            self.skip_parentheses()?;
            self.alias();
            return Some(());
        }
        if self.takes("partition") {
            self.skip_parentheses()?;
        }
        out.push(Named { alias: self.alias(), table });
        Some(())
    }

    fn alias(&mut self) -> Option<String> {
        if self.takes("as") {
            return self.name();
        }
        match &self.token {
            Some(Token { kind: Kind::Quoted(_), .. }) => self.name(),
            Some(Token { kind: Kind::Word, .. }) if !self.is_one_of(&NO_ALIAS) => self.name(),
            _ => None,
        }
    }

    /// See [`inserted_texts`].
    fn inserted(&mut self, column: &str) -> Option<Vec<String>> {
        self.takes("insert").then_some(())?;
        self.takes_all_of(&["low_priority", "delayed", "high_priority", "ignore"]);
        self.takes("into");
        self.table_name()?;
        self.takes_symbol('(').then_some(())?;
        let mut wanted = None;
        let mut index = 0;
        loop {
            if self.name()?.eq_ignore_ascii_case(column) {
                wanted = Some(index);
            }
            index += 1;
            if !self.takes_symbol(',') {
                break;
            }
        }
        self.takes_symbol(')').then_some(())?;
        let wanted = wanted?;
        let mut out = Vec::new();
        if self.takes("select") {
            out.extend(self.item(wanted)?);
            return Some(out);
        }
        self.takes_all_of(&["values", "value"]);
        while self.takes_symbol('(') {
            out.extend(self.item(wanted)?);
            while !self.takes_symbol(')') {
                self.token.as_ref()?;
                if self.is_symbol('(') {
                    self.skip_parentheses()?;
                } else {
                    self.bump();
                }
            }
            if !self.takes_symbol(',') {
                break;
            }
        }
        Some(out)
    }

    /// The expression with this index in a list, if it is a string and nothing else. `None`: the list ends before it.
    fn item(&mut self, index: usize) -> Option<Option<String>> {
        for _ in 0..index {
            while !self.takes_symbol(',') {
                self.token.as_ref()?;
                if self.is_symbol('(') {
                    self.skip_parentheses()?;
                } else if self.is_symbol(')') {
                    return None;
                } else {
                    self.bump();
                }
            }
        }
        let found = match &self.token {
            Some(Token { kind: Kind::Text(text), .. }) => text.clone(),
            _ => return Some(None),
        };
        self.bump();
        let whole = self.is_end() || self.is_symbol(',') || self.is_symbol(')') || self.is("from");
        Some(whole.then_some(found))
    }
}

/// Marks the tables that go by a name. A name that none has is no reason to doubt the others.
fn mark(tables: &[Named], hit: &mut [bool], database: Option<&str>, name: &str) {
    for (named, hit) in tables.iter().zip(hit) {
        let found = match (&named.alias, database) {
            (Some(alias), None) => alias.eq_ignore_ascii_case(name),
            (None, None) => named.table.1 == name,
            // A qualified name may be that of a table that has an alias too, in old texts.
            (_, Some(database)) => named.table.0 == database && named.table.1 == name,
        };
        *hit |= found;
    }
}

fn chosen(tables: Vec<Named>, hit: &[bool]) -> Changed {
    let mut out: Changed = Vec::new();
    for (named, _) in tables.into_iter().zip(hit).filter(|(_, hit)| **hit) {
        if !out.contains(&named.table) {
            out.push(named.table);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> String {
        let session = Session { database: "d", ..Session::default() };
        let names: Vec<String> =
            changed(&session, None, sql.as_bytes()).into_iter().map(|(db, table)| format!("{db}.{table}")).collect();
        names.join(" ")
    }

    #[test]
    fn the_table_that_is_written_is_found_and_not_those_that_are_read() {
        for (sql, tables) in [
            ("insert into t values (1)", "d.t"),
            ("INSERT IGNORE INTO `x`.`T 1` (a) SELECT a FROM y", "x.T 1"),
            ("insert low_priority t set a=1", "d.t"),
            ("replace into .t values ('update z set a=1')", "d.t"),
            ("/* c */ insert /*! ignore */ into e.t select * from f.u on duplicate key update a=1", "e.t"),
            ("with a as (select 1), b (x) as (select 2) insert into t select * from a", "d.t"),
            ("with a as (select ')'), b (x) as (select 2) update t join a set t.x = 1", "d.t"),
            ("update low_priority ignore t set a=1, b='x' where c in (select c from u)", "d.t"),
            ("update t as a partition (p0) set a.x=1", "d.t"),
            ("update t for portion of p from '2020' to '2021' set x=1", "d.t"),
            ("update t a, u b set b.x = a.x where a.i = b.i", "d.u"),
            (
                "update t a inner join e.u on a.i=u.i left join (select 1) z on 1 set a.x=1, e.u.y=concat(',', 2)",
                "d.t e.u",
            ),
            ("update (t, u) join v using (i) set v.x=1", "d.v"),
            ("update t join u on t.i=u.i set x=1", "d.t d.u"),
            ("update t use index for join (i) join u set u.x=1 order by 1", "d.u"),
            ("update t, u set t.a = case when u.b=1 then 2 else 3 end, t.c=1 where u.d = 1", "d.t"),
            ("delete from t where a=1", "d.t"),
            ("delete quick from e.t as x where x.a=1 order by a limit 1", "e.t"),
            ("delete a from t a join u on a.i=u.i", "d.t"),
            ("delete t.*, e.u.* from t, e.u, v where 1", "d.t e.u"),
            ("delete from a, b using t a join u b on 1 where a.x=2", "d.t d.u"),
            ("load data local infile 'into table z' replace into table e.t fields terminated by ','", "e.t"),
            ("LOAD DATA INFILE '/tmp/SQL_LOAD_MB-1-0' INTO TABLE `t` FIELDS TERMINATED BY '\\t' (`a`)", "d.t"),
        ] {
            assert_eq!(of(sql), tables, "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for sql in [
            "",
            "select f(1)",
            "call p()",
            "set @a = 1",
            "create table t (a int)",
            "do release_lock('x')",
            "update",
            "update t",
            "update t set",
            "delete from",
            "delete t, u",
            "insert into",
            "load data infile 'x'",
            "with a as select 1 insert into t",
            "update t, (u set a.b=1",
            "savepoint t",
        ] {
            let found = of(sql);
            // `update t set` is one table all the same.
            assert!(found.is_empty() || sql == "update t set", "{sql}: {found}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_insert_is_read() {
        let session = Session { database: "d", ..Session::default() };
        let mut sql = b"insert into t values ".to_vec();
        sql.extend(b"(1,'x'),".repeat(1 << 20));
        let text = session.text(&sql);
        let mut words = Words::new(&text, Lexer::new(&text, 0, session.dialect(None)), "d");
        assert_eq!(words.statement().unwrap().len(), 1);
        assert!(words.token.unwrap().to < 100);
    }

    #[test]
    fn the_text_of_an_inserted_column_is_found_in_values_and_in_a_select() {
        let texts = |sql: &str| inserted_texts(&Session::default(), None, sql.as_bytes(), "origins");
        assert_eq!(
            texts(
                "INSERT INTO rlog.rlog_applied (channel, prev, origins) SELECT channel, 1, 'a b' FROM rlog.rlog_channel WHERE x='y'"
            ),
            ["a b"]
        );
        assert_eq!(texts("insert into t (a, `origins`, b) values (f(1, 2), 'x', 3), ('(', 'y\\'z', 4)"), ["x", "y'z"]);
        assert_eq!(texts("insert into t (origins) values (concat('x', 'y'))"), [""; 0]);
        assert_eq!(texts("insert into t (origins) values ('x' 'y')"), [""; 0]);
        assert_eq!(texts("insert into t values ('x')"), [""; 0]);
        assert_eq!(texts("insert into t (a) values ('x')"), [""; 0]);
    }

    #[test]
    fn no_text_panics_or_takes_long() {
        let seeds = [
            "update t a inner join e.u on a.i=u.i left join (select 1) z on 1 set a.x=1, e.u.y=concat(',', 2) where 1",
            "delete from a, b using t a join u b on 1 where a.x=2",
            "with a as (select ')'), b (x) as (select 2) insert into rlog.rlog_applied (a, origins) values (1, 'x')",
        ];
        let mut state = 88_172_645_463_325_252u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for seed in seeds {
            for _ in 0..5000 {
                let mut bytes = seed.as_bytes().to_vec();
                for _ in 0..1 + random(4) {
                    let at = random(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                    match if bytes.is_empty() { 3 } else { random(4) } {
                        0 => bytes[at] = random(256) as u8,
                        1 => drop(bytes.remove(at)),
                        2 => bytes.truncate(at + 1),
                        _ => bytes.insert(at, b"(),'`\"\\;*/ ."[random(12)]),
                    }
                }
                let session = Session { database: "d", ..Session::default() };
                changed(&session, None, &bytes);
                inserted_texts(&session, None, &bytes, "origins");
            }
        }
        assert_eq!(of(&format!("update {} t", "(".repeat(100_000))), "");
    }
}
