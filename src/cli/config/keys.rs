//! The keys of rlog.toml: the long options of the tools that run a channel, and the three places.
//!
//! Nothing is written twice: what an option is called, takes and means stands in its tool's definition. Here is only what is *not* a key
//! (what asks for one run, a report or a look), and what a channel alone may hold.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use clap::{Arg, ArgAction, Command};

use super::Setting;
use crate::cli::{self, Tool};

/// Names of sections for one tool.
pub(super) const TOOLS: [&str; 4] = ["extract", "ship", "queue", "apply"];

/// Where keys come from: tools, and those of their verbs that run a channel.
const SOURCES: [(&Tool, &[&str]); 4] = [
    (&cli::extract::TOOL, &[]),
    (&cli::ship::TOOL, &["push", "pull", "serve"]),
    (&cli::queue::TOOL, &["put"]),
    (&cli::apply::TOOL, &["run"]),
];

/// Options that ask for one run, a report or a look, and are no keys.
const NO_KEYS: [&str; 22] = [
    "help",
    "version",
    "config",
    "channel",
    "check",
    "force",
    "json",
    "once",
    "follow",
    "after",
    "until",
    "since",
    "quiet",
    "verbose",
    "progress",
    "dry-run",
    "from",
    "pass",
    "resnapshot",
    "log-name",
    "stdio",
    "put-only",
];

/// Keys that stand in a channel's section only: addresses of sources and other hosts, and credentials.
const CHANNELS_ONLY: [&str; 7] = ["source", "to", "from", "key", "server-key", "key-file", "handover"];

/// The places: key, what it is.
const PLACES: [(&str, &str); 3] = [
    (
        "source",
        "What rlog-extract reads: files (a list, in which `*`, `?` and `[...]` are what they are in a shell), or the address of a database",
    ),
    (
        "queue",
        "The queue: what rlog-queue keeps, rlog-apply reads, and --confirm of rlog-extract asks unless `confirm` is set",
    ),
    ("target", "The database that rlog-apply writes"),
];

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Whether it may not stand in `[defaults]`.
    pub channels_only: bool,
    /// Tools (without `rlog-`) that understand it, with the option.
    pub options: Vec<(&'static str, Arg)>,
    /// What it means, for those that are no option.
    pub place: Option<&'static str>,
}

impl Key {
    /// Whether a tool understands it.
    pub fn is_for(&self, tool: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == tool)
            || match self.name.as_str() {
                "source" => tool == "extract",
                "queue" => true,
                "target" => tool == "apply",
                _ => false,
            }
    }

    /// Whether the value is one that the option takes; what is wrong with it, else.
    pub(super) fn check(&self, setting: &Setting) -> Result<(), String> {
        let Some((_, option)) = self.options.first() else {
            let fits = match setting {
                Setting::Flag(_) => false,
                Setting::Word(word) => !word.is_empty(),
                Setting::List(list) => self.name == "source" && !list.is_empty() && !list.iter().any(String::is_empty),
            };
            return if fits { Ok(()) } else { Err("this is a place, written as on the command line".to_owned()) };
        };
        let is_flag = !option.get_action().takes_values();
        match (setting, is_flag) {
            (Setting::Flag(_), true) => return Ok(()),
            (Setting::Flag(_), false) => return Err("this takes a value, not true or false".to_owned()),
            (_, true) => return Err("this is true or false".to_owned()),
            (Setting::List(list), false) if !is_list(option) && list.len() != 1 => {
                return Err("this takes one value".to_owned());
            }
            _ => {}
        }
        // By the parser of the option itself, away from what it requires and excludes.
        let mut alone = Arg::new("value")
            .long("value")
            .action(option.get_action().clone())
            .value_parser(option.get_value_parser().clone());
        if let Some(delimiter) = option.get_value_delimiter() {
            alone = alone.value_delimiter(delimiter);
        }
        let command = Command::new("value").no_binary_name(true).arg(alone);
        for word in setting.words() {
            let parsed = command.clone().try_get_matches_from([format!("--value={word}")]);
            if let Err(error) = parsed {
                // The first paragraph without the words that clap puts around it.
                let text = error.to_string();
                let text = text.lines().next().unwrap_or_default();
                let text = text.strip_prefix("error: ").unwrap_or(text);
                let allowed = error
                    .to_string()
                    .lines()
                    .find(|line| line.contains("possible values"))
                    .map(|line| line.trim().to_owned());
                let text = text.replace(" for '--value <value>'", "");
                return Err(allowed.map_or(text.clone(), |allowed| format!("{text} {allowed}")));
            }
        }
        Ok(())
    }
}

/// Whether an option may be given several values.
pub(super) fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
        || option.get_num_args().is_some_and(|range| range.max_values() > 1)
}

/// A key as it is kept: `_` and `-` are one, and MariaDB's variables are called as they are there.
pub(super) fn canonical(typed: &str) -> String {
    let name = typed.replace('_', "-");
    match name.as_str() {
        "replicate-do-db" => "do-db",
        "replicate-ignore-db" => "ignore-db",
        "replicate-do-table" => "do-table",
        "replicate-ignore-table" => "ignore-table",
        "replicate-wild-do-table" => "wild-do-table",
        "replicate-wild-ignore-table" => "wild-ignore-table",
        "replicate-rewrite-db" => "rewrite-db",
        "replicate-same-server-id" => "same-server-id",
        "relay-log-space-limit" => "space-limit",
        "relay-log-purge" => "purge",
        "max-relay-log-size" => "segment-size",
        "master-connect-retry" => "connect-retry",
        "master-retry-count" => "retry-count",
        "slave-net-timeout" => "net-timeout",
        "slave-compressed-protocol" => "compress",
        _ => name.as_str(),
    }
    .to_owned()
}

/// All keys, by name.
pub fn keys() -> &'static BTreeMap<String, Key> {
    static KEYS: OnceLock<BTreeMap<String, Key>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = BTreeMap::new();
        for (name, text) in PLACES {
            let key = Key {
                name: name.to_owned(),
                channels_only: CHANNELS_ONLY.contains(&name),
                options: Vec::new(),
                place: Some(text),
            };
            keys.insert(key.name.clone(), key);
        }
        for (tool, verbs) in SOURCES {
            let short = tool.name.strip_prefix("rlog-").unwrap_or(tool.name);
            let command = (tool.command)();
            let verbs = command.get_subcommands().filter(|verb| verbs.contains(&verb.get_name()));
            let options: Vec<&Arg> = command.get_arguments().chain(verbs.flat_map(Command::get_arguments)).collect();
            for option in options {
                let Some(name) = option.get_long().filter(|name| !NO_KEYS.contains(name) && !option.is_hide_set())
                else {
                    continue;
                };
                if PLACES.iter().any(|(place, _)| place == &name) {
                    continue;
                }
                let key = keys.entry(name.to_owned()).or_insert_with(|| Key {
                    name: name.to_owned(),
                    channels_only: CHANNELS_ONLY.contains(&name),
                    options: Vec::new(),
                    place: None,
                });
                if key.options.iter().all(|(other, _)| *other != short) {
                    key.options.push((short, option.clone()));
                }
            }
        }
        keys
    })
}

/// A key whose name is like `name`, for those who mistyped.
pub(super) fn nearest<'a>(keys: &'a BTreeMap<String, Key>, name: &str) -> Option<&'a str> {
    let near = keys.keys().map(|key| (distance(key, name), key.as_str())).min()?;
    (near.0 <= name.chars().count() / 3).then_some(near.1)
}

/// How many letters have to be put in, left out or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let (above, left) = (row.get(j + 1).copied().unwrap_or(0), row.get(j).copied().unwrap_or(0));
            let here = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            corner = above;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = here;
            }
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_recognised() {
        assert_eq!(nearest(keys(), "workrs"), Some("workers"));
        assert_eq!(nearest(keys(), "xyzzy"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    /// What a DBA who comes from CHANGE MASTER looks for (DESIGN.md section 6).
    #[test]
    fn the_keys_that_were_promised_are_there() {
        for name in [
            "source",
            "queue",
            "target",
            "workers",
            "retries",
            "delay",
            "do-db",
            "ignore-db",
            "do-table",
            "ignore-table",
            "wild-do-table",
            "wild-ignore-table",
            "rewrite-db",
            "skip-errors",
            "on-conflict",
            "space-limit",
            "purge",
            "segment-size",
            "confirm",
            "max-wal",
        ] {
            assert!(keys().contains_key(name), "{name}");
        }
    }
}
