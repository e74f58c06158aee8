//! Imports run downwards only. This test holds the table of modules and looks for `crate::` paths in `src/`.
//!
//! That `queue` and `ship` do not know `event` earns most: kinds of a newer version pass through them unharmed, what is
//! not decoded is not corrupted, and copying is fast. The reasons for the other lines are in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import, besides itself. `cli` may import everything, and nothing may import `cli`.
const TABLE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sys", &["error"]),
    ("frame", &["error"]),
    ("event", &["error", "frame"]),
    // Listeners hear of events in frames; no backend hears of them.
    ("plugin", &["error", "frame", "event"]),
    ("db", &["error", "sys", "event"]),
    // A source yields frames, so that extract pipes them and dump reads them in memory from the same decoder.
    ("source", &["error", "sys", "event", "db", "frame"]),
    // Of `frame`, only the positions that a target keeps: see FRAME_POSITIONS_ONLY.
    ("target", &["error", "sys", "event", "db", "frame"]),
    ("queue", &["error", "sys", "frame", "db"]),
    ("extract", &["error", "sys", "frame", "event", "plugin", "source"]),
    ("ship", &["error", "sys", "frame", "queue"]),
    ("apply", &["error", "sys", "frame", "event", "plugin", "queue", "target"]),
    ("dump", &["error", "sys", "frame", "event", "plugin", "queue", "source"]),
    (
        "cli",
        &[
            "error", "sys", "frame", "event", "plugin", "db", "source", "target", "queue", "extract", "ship", "apply",
            "dump",
        ],
    ),
];

/// Modules that share the envelope's words for positions, but neither read nor write frames.
const FRAME_POSITIONS_ONLY: [&str; 1] = ["target"];

/// What [`FRAME_POSITIONS_ONLY`] may not name.
const FRAME_MACHINERY: [&str; 4] = ["Reader", "Writer", "Encoder", "Decoder"];

/// One `crate::…` path in the sources.
#[derive(Debug)]
struct Import {
    /// The module whose file it stands in.
    from: String,
    /// The module that it names.
    to: String,
    /// The path's words, those of a group in braces included.
    rest: String,
    /// File and line.
    place: String,
}

#[test]
fn imports_run_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut wrong = Vec::new();
    for import in imports(&source_folder()) {
        let Some(may) = allowed.get(import.from.as_str()) else {
            wrong.push(format!("{}: module `{}` is not in the table of tests/layers.rs", import.place, import.from));
            continue;
        };
        if import.to != import.from && !may.contains(&import.to.as_str()) {
            wrong.push(format!("{}: `{}` may not import `{}`", import.place, import.from, import.to));
        }
        let machinery = |name: &&&str| words(&import.rest).any(|word| word.ends_with(**name));
        if import.to == "frame"
            && FRAME_POSITIONS_ONLY.contains(&import.from.as_str())
            && let Some(name) = FRAME_MACHINERY.iter().find(machinery)
        {
            wrong.push(format!("{}: `{}` may use the positions of `frame`, not a {name}", import.place, import.from));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_lists_every_module_and_only_downwards() {
    let listed: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_string()).collect();
    let found: BTreeSet<String> = modules(&source_folder()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, found, "src/ and the table of tests/layers.rs");
    let mut above = BTreeSet::new();
    for (name, may) in TABLE {
        assert!(may.iter().all(|below| above.contains(below)), "`{name}` may import only what stands before it");
        above.insert(*name);
    }
}

#[test]
fn only_mains_name_cli() {
    for file in files_below(&source_folder().join("bin")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() <= 5, "{}: a main is five lines; everything is in the library", file.display());
    }
}

/// The looking itself must be able to fail.
#[test]
fn a_path_is_seen_however_it_is_written() {
    let seen = |text: &str| -> Vec<String> { paths_in(&code_of(text)).into_iter().map(|(_, to, _)| to).collect() };
    assert_eq!(seen("use crate::event::Value;"), ["event"]);
    assert_eq!(seen("use crate::{frame::{Reader, Writer}, sys::{self, fs}, error};"), ["frame", "sys", "error"]);
    assert_eq!(seen("pub(crate) use crate :: queue\n  ::dir;"), ["queue"]);
    assert_eq!(seen("let x = crate::target::open(y)?; // crate::event in a comment\n/// [`crate::cli`]"), ["target"]);
    assert_eq!(seen("/* crate::a /* crate::b */ crate::c */ \"crate::d\" '\"' crate::e::f"), ["e"]);
    assert_eq!(seen("r#\"crate::d\"# 'x: b\"crate::z\" crate::g"), ["g"]);
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level modules: name, and its file or folder.
fn modules(src: &Path) -> Vec<(String, PathBuf)> {
    let mut modules = Vec::new();
    for entry in fs::read_dir(src).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if name != "lib" && name != "bin" {
            modules.push((name, path));
        }
    }
    modules.sort();
    modules
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|extension| extension == "rs") { vec![path.into()] } else { vec![] };
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path).unwrap().flat_map(|entry| files_below(&entry.unwrap().path())).collect();
    files.sort();
    files
}

fn imports(src: &Path) -> Vec<Import> {
    let mut imports = Vec::new();
    for (from, path) in modules(src) {
        for file in files_below(&path) {
            let text = fs::read_to_string(&file).unwrap();
            let shown = file.strip_prefix(src.parent().unwrap()).unwrap().display().to_string();
            for (line, to, rest) in paths_in(&code_of(&text)) {
                imports.push(Import { from: from.clone(), to, rest, place: format!("{shown}:{line}") });
            }
        }
    }
    assert!(imports.len() > 5, "no imports were found: the looking is broken");
    imports
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The text without comments and literals; line breaks stay.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let skip = |code: &mut String, rest: &mut &str, len: usize| {
        code.extend(rest[..len].chars().filter(|c| *c == '\n'));
        *rest = &rest[len..];
    };
    while let Some(c) = rest.chars().next() {
        let before = code.chars().next_back();
        let starts_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            let len = rest.find('\n').unwrap_or(rest.len());
            skip(&mut code, &mut rest, len);
        } else if rest.starts_with("/*") {
            let (mut depth, mut len) = (0, 0);
            loop {
                let tail = &rest[len..];
                if tail.starts_with("/*") {
                    depth += 1;
                    len += 2;
                } else if tail.starts_with("*/") {
                    depth -= 1;
                    len += 2;
                } else {
                    len += tail.chars().next().map_or(0, char::len_utf8);
                }
                if depth == 0 || len >= rest.len() {
                    break;
                }
            }
            skip(&mut code, &mut rest, len);
        } else if let Some(hashes) = raw_string(rest).filter(|_| starts_word) {
            let open = rest.find('"').unwrap_or(0) + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let len = rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len());
            skip(&mut code, &mut rest, len);
        } else if c == '"' {
            let mut len = 1;
            let mut escaped = false;
            for c in rest[1..].chars() {
                len += c.len_utf8();
                if !escaped && c == '"' {
                    break;
                }
                escaped = !escaped && c == '\\';
            }
            skip(&mut code, &mut rest, len);
        } else if c == '\'' && (rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'')) {
            // A character, not a lifetime.
            let from = if rest[1..].starts_with('\\') { 3 } else { 1 };
            let len = rest.get(from..).and_then(|tail| tail.find('\'')).map_or(rest.len(), |at| from + at + 1);
            skip(&mut code, &mut rest, len);
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// The number of hashes of a raw string literal that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let tail = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    tail[hashes..].starts_with('"').then_some(hashes)
}

/// Every path that begins with `crate::`: line, first module, and the rest of the path.
fn paths_in(code: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate") {
        let starts_word = !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let Some(path) = code[at + "crate".len()..].trim_start().strip_prefix("::") else { continue };
        if !starts_word {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let path = path.trim_start();
        match path.strip_prefix('{') {
            Some(group) => {
                for item in group_items(group) {
                    found.push((line, first_word(item), item.to_string()));
                }
            }
            None => {
                let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
                let group = path[end..].strip_prefix('{').filter(|_| path[..end].ends_with(':'));
                let rest = group.map_or(String::new(), |group| group_items(group).join(" "));
                found.push((line, first_word(path), format!("{} {rest}", &path[..end])));
            }
        }
    }
    found
}

fn first_word(path: &str) -> String {
    words(path.trim_start()).next().unwrap_or_default().to_string()
}

/// The items of `{a::{b, c}, d}`, given what follows the first brace.
fn group_items(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}
