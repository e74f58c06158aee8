//! Which tables are wanted: the filters of extract, apply and dump.
//!
//! Order, which never changes:
//! 1. `rewrite-db` renames databases, before everything else; all rules see the new name.
//! 2. The database: when there is any `do-db`, only those pass; else all but `ignore-db`. Names compare exactly.
//! 3. The table: `do-table`, `ignore-table`, `wild-do-table`, `wild-ignore-table`; the first list that has it decides. A table in
//!    none of them passes unless there is a do list.
//! 4. `--ignore-tables`, then `--tables`: what an ignored glob matches is dropped, and with any `--tables` one of them must match.
//!
//! 1 to 3 are MariaDB's rules (MySQL rewrites before the filters too). Rows are judged by the database that their table is in; statements and
//! DDL by the default database (2) and the tables that they change (3, 4), as there: the first table that a list of 3 has decides.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};

/// The rules as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRules {
    /// Renames of databases: from, to; the first that matches is taken.
    pub rewrite_db: Vec<(String, String)>,
    /// Databases that alone pass.
    pub do_db: Vec<String>,
    /// Databases that do not pass.
    pub ignore_db: Vec<String>,
    /// `database.table` that pass.
    pub do_table: Vec<String>,
    /// `database.table` that do not pass.
    pub ignore_table: Vec<String>,
    /// Patterns over `database.table` with `%`, `_` and `\`, as LIKE has them, that pass.
    pub wild_do_table: Vec<String>,
    /// Likewise, that do not pass.
    pub wild_ignore_table: Vec<String>,
    /// Globs over `database.table`, or over the table alone when they have no dot; one must match.
    pub tables: Vec<String>,
    /// Likewise, none may match.
    pub ignore_tables: Vec<String>,
}

/// Rules that can be asked.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    rules: FilterRules,
    tables: Vec<TableGlob>,
    ignore_tables: Vec<TableGlob>,
}

/// A glob over `database.table` or over the table alone.
#[derive(Clone, Debug)]
struct TableGlob {
    glob: GlobMatcher,
    whole: bool,
}

impl TableGlob {
    fn new(text: &str) -> Result<TableGlob> {
        let glob = GlobBuilder::new(text)
            .literal_separator(false)
            .backslash_escape(true)
            .build()
            .map_err(|error| Error::usage(format!("`{text}` is no table glob: {}", error.kind())))?;
        Ok(TableGlob { glob: glob.compile_matcher(), whole: text.contains('.') })
    }

    fn matches(&self, name: &str, table: &str) -> bool {
        self.glob.is_match(if self.whole { name } else { table })
    }
}

impl TableFilter {
    /// Compiles the rules. A glob that is none is a usage error (64), a table without its database likewise.
    pub fn new(rules: FilterRules) -> Result<TableFilter> {
        for name in rules.do_table.iter().chain(&rules.ignore_table) {
            if !name.contains('.') {
                return Err(Error::usage(format!("`{name}` names no database; write DATABASE.TABLE")));
            }
        }
        let globs = |texts: &[String]| texts.iter().map(|text| TableGlob::new(text)).collect::<Result<Vec<_>>>();
        Ok(TableFilter { tables: globs(&rules.tables)?, ignore_tables: globs(&rules.ignore_tables)?, rules })
    }

    /// The rules as they were given.
    pub fn rules(&self) -> &FilterRules {
        &self.rules
    }

    /// Whether everything passes and nothing is renamed.
    pub fn is_empty(&self) -> bool {
        self.rules == FilterRules::default()
    }

    /// A database's name behind `rewrite-db`.
    pub fn rewrite<'a>(&'a self, database: &'a str) -> &'a str {
        self.rules.rewrite_db.iter().find(|(from, _)| from == database).map_or(database, |(_, to)| to)
    }

    /// Whether rows of a table pass. The name is the source's: it is rewritten here.
    pub fn rows_pass(&self, database: &str, table: &str) -> bool {
        let database = self.rewrite(database);
        self.database_passes(database) && self.tables_pass(&[(database, table)])
    }

    /// Whether a statement or DDL passes that runs in `default_database` and changes `tables` (database, table), each with the default database
    /// filled in. The names are the source's. One that changes no table is judged by its database alone.
    pub fn statement_passes(&self, default_database: &str, tables: &[(String, String)]) -> bool {
        let default_database = self.rewrite(default_database);
        if !default_database.is_empty() && !self.database_passes(default_database) {
            return false;
        }
        let names: Vec<(&str, &str)> =
            tables.iter().map(|(database, table)| (self.rewrite(database), table.as_str())).collect();
        names.is_empty() || self.tables_pass(&names)
    }

    /// Whether CREATE, ALTER or DROP DATABASE of `database` (the source's name) passes: the database rules, and wild rules that match `database.` with
    /// any table.
    pub fn database_ddl_passes(&self, database: &str) -> bool {
        let database = self.rewrite(database);
        if !self.database_passes(database) {
            return false;
        }
        let name = format!("{database}.");
        let hit = |patterns: &[String]| patterns.iter().any(|pattern| wild(pattern.as_bytes(), name.as_bytes()));
        if hit(&self.rules.wild_do_table) {
            return true;
        }
        if hit(&self.rules.wild_ignore_table) {
            return false;
        }
        self.rules.wild_do_table.is_empty()
    }

    fn database_passes(&self, database: &str) -> bool {
        let has = |list: &[String]| list.iter().any(|name| name == database);
        if self.rules.do_db.is_empty() { !has(&self.rules.ignore_db) } else { has(&self.rules.do_db) }
    }

    /// Steps 3 and 4; the names are rewritten already.
    fn tables_pass(&self, tables: &[(&str, &str)]) -> bool {
        let rules = &self.rules;
        let mut decided = None;
        for (database, table) in tables {
            let name = if database.is_empty() { (*table).to_owned() } else { format!("{database}.{table}") };
            let has = |list: &[String]| list.contains(&name);
            let hit = |list: &[String]| list.iter().any(|pattern| wild(pattern.as_bytes(), name.as_bytes()));
            let here = if has(&rules.do_table) {
                Some(true)
            } else if has(&rules.ignore_table) {
                Some(false)
            } else if hit(&rules.wild_do_table) {
                Some(true)
            } else if hit(&rules.wild_ignore_table) {
                Some(false)
            } else {
                None
            };
            if here.is_some() {
                decided = here;
                break;
            }
        }
        if !decided.unwrap_or(rules.do_table.is_empty() && rules.wild_do_table.is_empty()) {
            return false;
        }
        tables.iter().any(|(database, table)| {
            let name = if database.is_empty() { (*table).to_owned() } else { format!("{database}.{table}") };
            !self.ignore_tables.iter().any(|glob| glob.matches(&name, table))
                && (self.tables.is_empty() || self.tables.iter().any(|glob| glob.matches(&name, table)))
        })
    }

    /// One text for all ways to write the same rules: a line for each, lists sorted and without repeats. Empty when everything passes.
    pub fn canonical(&self) -> String {
        let rules = &self.rules;
        let mut out = String::new();
        for (from, to) in &rules.rewrite_db {
            out.push_str(&format!("rewrite-db={}={}\n", escaped(from), escaped(to)));
        }
        for (name, list) in rules.lists() {
            for value in list.iter().collect::<BTreeSet<_>>() {
                out.push_str(&format!("{name}={}\n", escaped(value)));
            }
        }
        out
    }

    /// The filter that [`TableFilter::canonical`] has written down; `None` when the text is none of ours (a newer version's, say).
    pub fn from_canonical(text: &str) -> Option<TableFilter> {
        let mut rules = FilterRules::default();
        for line in text.lines() {
            let (name, value) = line.split_once('=')?;
            if name == "rewrite-db" {
                let (from, to) = unescaped(value)?;
                rules.rewrite_db.push((from, to?));
                continue;
            }
            let (value, None) = unescaped(value)? else { return None };
            rules.list_mut(name)?.push(value);
        }
        TableFilter::new(rules).ok()
    }

    /// Whether all that passes here provably passed `before` under the same name too. False when that cannot be seen from the rules.
    pub fn is_within(&self, before: &TableFilter) -> bool {
        let (now, then) = (&self.rules, &before.rules);
        if now.rewrite_db != then.rewrite_db {
            return false;
        }
        let within = |a: &[String], b: &[String]| a.iter().all(|value| b.contains(value));
        let databases = if then.do_db.is_empty() {
            within(&then.ignore_db, &now.ignore_db) && now.do_db.is_empty()
                || !now.do_db.is_empty() && now.do_db.iter().all(|database| !then.ignore_db.contains(database))
        } else {
            !now.do_db.is_empty() && within(&now.do_db, &then.do_db)
        };
        let had_do = !then.do_table.is_empty() || !then.wild_do_table.is_empty();
        let has_do = !now.do_table.is_empty() || !now.wild_do_table.is_empty();
        let had_rules = had_do || !then.ignore_table.is_empty() || !then.wild_ignore_table.is_empty();
        let tables = !had_rules
            || within(&now.do_table, &then.do_table)
                && within(&now.wild_do_table, &then.wild_do_table)
                && within(&then.ignore_table, &now.ignore_table)
                && within(&then.wild_ignore_table, &now.wild_ignore_table)
                && (!had_do || has_do);
        let globs = within(&then.ignore_tables, &now.ignore_tables)
            && (then.tables.is_empty() || !now.tables.is_empty() && within(&now.tables, &then.tables));
        databases && tables && globs
    }
}

impl FilterRules {
    /// The lists by the names of their options.
    fn lists(&self) -> [(&'static str, &[String]); 8] {
        [
            ("do-db", &self.do_db),
            ("ignore-db", &self.ignore_db),
            ("do-table", &self.do_table),
            ("ignore-table", &self.ignore_table),
            ("wild-do-table", &self.wild_do_table),
            ("wild-ignore-table", &self.wild_ignore_table),
            ("tables", &self.tables),
            ("ignore-tables", &self.ignore_tables),
        ]
    }

    /// One of them by the name of its option.
    fn list_mut(&mut self, name: &str) -> Option<&mut Vec<String>> {
        Some(match name {
            "do-db" => &mut self.do_db,
            "ignore-db" => &mut self.ignore_db,
            "do-table" => &mut self.do_table,
            "ignore-table" => &mut self.ignore_table,
            "wild-do-table" => &mut self.wild_do_table,
            "wild-ignore-table" => &mut self.wild_ignore_table,
            "tables" => &mut self.tables,
            "ignore-tables" => &mut self.ignore_tables,
            _ => return None,
        })
    }
}

/// What [`escaped`] made of one value, or of two with `=` between them.
fn unescaped(text: &str) -> Option<(String, Option<String>)> {
    let (mut first, mut second) = (String::new(), None::<String>);
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let plain = match next {
            '=' if second.is_none() => {
                second = Some(String::new());
                continue;
            }
            '=' => return None,
            '\\' => match rest.next()? {
                'n' => '\n',
                other => other,
            },
            other => other,
        };
        second.as_mut().unwrap_or(&mut first).push(plain);
    }
    Some((first, second))
}

/// A name on one line, with nothing in it that ends a line or a value.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\n', "\\n").replace('=', "\\=")
}

/// LIKE without regard to ASCII case: `%` any characters, `_` one character, `\` takes the next one literally.
///
/// Takes time in proportion to the product of the lengths at most: on a mismatch only the last `%` is tried again.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut text_at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(at), text.get(text_at)) {
            (None, None) => return true,
            (Some(b'%'), _) => {
                retry = Some((at + 1, text_at));
                at += 1;
                continue;
            }
            (Some(b'_'), Some(first)) => {
                let follows =
                    text.get(text_at + 1..).unwrap_or(&[]).iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
                Some((1, 1 + if *first >= 0xc0 { follows } else { 0 }))
            }
            (Some(b'\\'), Some(found))
                if pattern.get(at + 1).is_some_and(|wanted| wanted.eq_ignore_ascii_case(found)) =>
            {
                Some((2, 1))
            }
            (Some(wanted), Some(found)) if *wanted != b'\\' && wanted.eq_ignore_ascii_case(found) => Some((1, 1)),
            _ => None,
        };
        match (step, retry) {
            (Some((pattern_step, text_step)), _) => {
                at += pattern_step;
                text_at += text_step;
            }
            (None, Some((pattern_at, tried))) if tried < text.len() => {
                retry = Some((pattern_at, tried + 1));
                at = pattern_at;
                text_at = tried + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(change: impl FnOnce(&mut FilterRules)) -> TableFilter {
        let mut rules = FilterRules::default();
        change(&mut rules);
        TableFilter::new(rules).unwrap()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn wild_patterns_match_as_like_does() {
        for (pattern, text, matches) in [
            ("shop.%", "shop.orders", true),
            ("shop.%", "shop.", true),
            ("shop.%", "shops.orders", false),
            ("%.order_", "shop.orders", true),
            ("%.order_", "shop.order", false),
            (r"%.order\_", "shop.orders", false),
            (r"%.order\_", "shop.order_", true),
            ("%a%b%c", "xxaxxbxxbxxc", true),
            ("%a%b%c", "xxaxxbxxbxx", false),
            ("_.t", "é.t", true),
            ("SHOP.t", "shop.T", true),
            ("", "", true),
            ("%", "", true),
            ("", "a", false),
        ] {
            assert_eq!(wild(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
        assert!(!wild("%a".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
    }

    #[test]
    fn a_do_list_of_databases_decides_alone() {
        let filter = filter(|rules| {
            rules.do_db = list(&["a"]);
            rules.ignore_db = list(&["a", "b"]);
        });
        assert!(filter.rows_pass("a", "t"));
        assert!(!filter.rows_pass("b", "t"));
        assert!(!filter.rows_pass("c", "t"));
        assert!(!filter.rows_pass("A", "t"), "databases compare exactly");
    }

    #[test]
    fn the_first_list_that_has_the_table_decides() {
        let filter = filter(|rules| {
            rules.do_table = list(&["d.wanted"]);
            rules.ignore_table = list(&["d.wanted", "d.not"]);
            rules.wild_do_table = list(&["d.n%"]);
            rules.wild_ignore_table = list(&["%"]);
        });
        assert!(filter.rows_pass("d", "wanted"));
        assert!(!filter.rows_pass("d", "not"));
        assert!(filter.rows_pass("d", "new"));
        assert!(!filter.rows_pass("d", "other"));
    }

    #[test]
    fn a_table_in_no_list_passes_only_without_a_do_list() {
        assert!(filter(|rules| rules.ignore_table = list(&["d.a"])).rows_pass("d", "b"));
        assert!(!filter(|rules| rules.do_table = list(&["d.a"])).rows_pass("d", "b"));
    }

    #[test]
    fn a_statement_is_judged_by_its_default_database_and_the_first_table_in_a_list() {
        let filter = filter(|rules| {
            rules.ignore_db = list(&["off"]);
            rules.do_table = list(&["d.a"]);
            rules.ignore_table = list(&["d.b"]);
        });
        let table = |name: &str| ("d".to_owned(), name.to_owned());
        assert!(filter.statement_passes("d", &[table("x"), table("a"), table("b")]));
        assert!(!filter.statement_passes("d", &[table("x"), table("b"), table("a")]));
        assert!(!filter.statement_passes("d", &[table("x")]));
        assert!(!filter.statement_passes("off", &[table("a")]), "though its table is in another database");
        assert!(filter.statement_passes("d", &[]));
    }

    #[test]
    fn databases_are_renamed_before_any_rule_sees_them() {
        let filter = filter(|rules| {
            rules.rewrite_db = vec![("old".into(), "new".into())];
            rules.do_db = list(&["new"]);
            rules.tables = list(&["new.*"]);
        });
        assert_eq!(filter.rewrite("old"), "new");
        assert!(filter.rows_pass("old", "t"));
        assert!(filter.rows_pass("new", "t"));
    }

    #[test]
    fn ignored_globs_win_and_one_wanted_glob_must_match() {
        let filter = filter(|rules| {
            rules.tables = list(&["shop.*", "log_?"]);
            rules.ignore_tables = list(&["*_old", "shop.{a,b}"]);
        });
        for (database, table, passes) in [
            ("shop", "orders", true),
            ("shop", "orders_old", false),
            ("shop", "a", false),
            ("any", "log_1", true),
            ("any", "log_12", false),
            ("shops", "orders", false),
            ("", "log_1", true),
        ] {
            assert_eq!(filter.rows_pass(database, table), passes, "{database}.{table}");
        }
        assert!(TableFilter::new(FilterRules { tables: list(&["a["]), ..FilterRules::default() }).is_err());
        assert!(TableFilter::new(FilterRules { do_table: list(&["t"]), ..FilterRules::default() }).is_err());
    }

    #[test]
    fn statements_about_databases_are_judged_by_wild_rules() {
        let filter = filter(|rules| rules.wild_do_table = list(&["shop%.%"]));
        assert!(filter.database_ddl_passes("shop2"));
        assert!(!filter.database_ddl_passes("other"));
        assert!(self::filter(|_| ()).database_ddl_passes("any"));
    }

    #[test]
    fn equal_rules_have_one_text() {
        let one = filter(|rules| rules.do_db = list(&["b", "a", "b"]));
        let other = filter(|rules| rules.do_db = list(&["a", "b"]));
        assert_eq!(one.canonical(), other.canonical());
        assert_eq!(one.canonical(), "do-db=a\ndo-db=b\n");
        assert_eq!(filter(|_| ()).canonical(), "");
    }

    #[test]
    fn a_canonical_text_says_the_rules_again() {
        let all = filter(|rules| {
            for (number, list) in ["do-db", "ignore-db", "tables", "ignore-tables"].iter().enumerate() {
                *rules.list_mut(list).unwrap() = vec![format!("a{number}"), "b=\\n\n".into()];
            }
            rules.wild_do_table = list(&["w.%"]);
            rules.wild_ignore_table = list(&["w.x%"]);
            rules.do_table = list(&["d.t"]);
            rules.ignore_table = list(&["d.u"]);
            rules.rewrite_db = vec![("z=".into(), "y".into()), ("a".into(), "\\n".into())];
        });
        let again = TableFilter::from_canonical(&all.canonical()).unwrap();
        assert_eq!(again.rules(), all.rules());
        assert!(TableFilter::from_canonical("").unwrap().is_empty());
        for other in ["x", "do-db=a=b\n", "newer=1\n", "rewrite-db=a\n", "do-db=\\"] {
            assert!(TableFilter::from_canonical(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn narrower_rules_are_seen_to_be_and_others_are_not() {
        let all = filter(|_| ());
        let some = filter(|rules| rules.tables = list(&["a.*", "b.*"]));
        let fewer = filter(|rules| {
            rules.tables = list(&["a.*"]);
            rules.ignore_tables = list(&["a.x"]);
        });
        assert!(some.is_within(&all) && fewer.is_within(&some) && fewer.is_within(&fewer));
        assert!(!all.is_within(&some) && !some.is_within(&fewer));
        let ignoring = filter(|rules| rules.ignore_db = list(&["x"]));
        assert!(!filter(|rules| rules.do_db = list(&["x"])).is_within(&ignoring));
        assert!(filter(|rules| rules.do_db = list(&["y"])).is_within(&ignoring));
        let doing = filter(|rules| rules.do_table = list(&["d.a"]));
        assert!(!filter(|rules| rules.ignore_table = list(&["d.z"])).is_within(&doing), "without a do list all pass");
        assert!(!filter(|rules| rules.rewrite_db = vec![("a".into(), "b".into())]).is_within(&all));
    }
}
