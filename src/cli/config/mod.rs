//! rlog.toml: one configuration, many channels. What it means is in rlog.toml(5), which [`page`] makes from the definitions.
//!
//! ```text
//! [defaults]                 every channel's, unless it has its own         [defaults.apply]       for one tool
//! [channel.orders]           what belongs to one channel                    [channel.orders.apply]
//! ```
//!
//! A key is a long option of a tool ([`mod@keys`]), or one of the three places `source`, `queue` and `target`. The file is merged into the
//! tool's definition before the arguments are parsed ([`mod@merge`]): a key becomes the default of its option, so that what is typed
//! wins, and a place is put where the operand is missing. No tool knows whether a value was typed or configured, and every
//! value is checked by the option's own parser, in every section, whatever the tool that happens to run.
//!
//! Order of precedence: what is typed, `[channel.NAME.TOOL]`, `[channel.NAME]`, `[defaults.TOOL]`, `[defaults]`, the tool's own
//! default. Sources and credentials stand in channels only.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::queue;

mod keys;
mod merge;
pub mod page;

pub use keys::{Key, keys};
pub use merge::merge;

/// The file that is read when it is there and nothing else is named.
const FILE_NAME: &str = "rlog.toml";
/// Longest file that is read, in bytes: it is written by people.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A value as an option's parser takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `true` or `false`.
    Flag(bool),
    /// One word.
    Word(String),
    /// A list.
    List(Vec<String>),
}

impl Setting {
    /// As words of a command line.
    fn words(&self) -> Vec<String> {
        match self {
            Setting::Flag(flag) => vec![flag.to_string()],
            Setting::Word(word) => vec![word.clone()],
            Setting::List(list) => list.clone(),
        }
    }
}

/// A key with its value, and where it stands.
#[derive(Clone, Debug)]
struct Entry {
    setting: Setting,
    line: usize,
}

/// One section without its sections for single tools.
type Section = BTreeMap<String, Entry>;

/// `[defaults]` or `[channel.NAME]`.
#[derive(Clone, Debug, Default)]
struct Group {
    common: Section,
    tools: BTreeMap<String, Section>,
}

/// A configuration file that was read.
#[derive(Clone, Debug, Default)]
pub struct Config {
    name: String,
    defaults: Group,
    channels: BTreeMap<String, Group>,
}

/// Which file to read: the one that is named, or `rlog.toml` if it is there.
fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(FILE_NAME)).filter(|path| path.exists()))
}

impl Config {
    /// Reads a file and checks every section of it (78, with the line and the key).
    fn read(path: &Path) -> Result<Config> {
        let name = path.display().to_string();
        let length = std::fs::metadata(path).map_err(|error| Error::io(&name, error))?.len();
        if length > FILE_BYTES_MAX {
            return Err(Error::config(format!("a configuration of {length} bytes is none")).in_file(name));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(&name, error))?;
        Config::parse(&text, &name)
    }

    fn parse(text: &str, name: &str) -> Result<Config> {
        let file = File { text, name };
        let table = DeTable::parse(text).map_err(|error| file.wrong(error.span(), error.message()))?;
        let mut config = Config { name: name.to_owned(), ..Config::default() };
        for (key, value) in table.get_ref() {
            let word: &str = key.get_ref();
            match (word, value.get_ref()) {
                ("defaults", DeValue::Table(table)) => config.defaults = file.group(table, "defaults")?,
                ("channel", DeValue::Table(channels)) => {
                    for (channel, value) in channels {
                        let DeValue::Table(table) = value.get_ref() else {
                            return Err(file.wrong(Some(channel.span()), "`[channel.NAME]` is a section"));
                        };
                        let folded = queue::fold_name("channel", channel.get_ref())
                            .map_err(|error| file.wrong(Some(channel.span()), error.what()))?;
                        let group = file.group(table, &format!("channel.{folded}"))?;
                        if config.channels.insert(folded.clone(), group).is_some() {
                            return Err(file.wrong(
                                Some(channel.span()),
                                &format!("channel `{folded}` stands here twice; upper and lower case are one"),
                            ));
                        }
                    }
                }
                _ => {
                    return Err(file
                        .wrong(Some(key.span()), &format!("`{word}` stands outside of any section"))
                        .hint("keys belong into `[channel.NAME]`, or into `[defaults]` for all channels"));
                }
            }
        }
        Ok(config)
    }

    /// The names of the channels.
    fn names(&self) -> Vec<&str> {
        self.channels.keys().map(String::as_str).collect()
    }

    /// A key's value for a tool in a channel.
    fn get(&self, channel: &str, tool: &str, key: &str) -> Option<&Entry> {
        let channel = self.channels.get(channel);
        let own = channel.and_then(|group| group.tools.get(tool)).and_then(|section| section.get(key));
        own.or_else(|| channel.and_then(|group| group.common.get(key)))
            .or_else(|| self.defaults.tools.get(tool).and_then(|section| section.get(key)))
            .or_else(|| self.defaults.common.get(key))
    }
}

/// The text of a file, to say where in it something is wrong.
struct File<'a> {
    text: &'a str,
    name: &'a str,
}

impl File<'_> {
    /// Lines count from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn wrong(&self, span: Option<Range<usize>>, what: &str) -> Error {
        let what = what.trim_end().replace('\n', ", ");
        match span {
            Some(span) => Error::config(format!("line {}: {what}", self.line(span.start))).in_file(self.name),
            None => Error::config(what).in_file(self.name),
        }
    }

    fn group(&self, table: &DeTable<'_>, path: &str) -> Result<Group> {
        let mut group = Group::default();
        for (key, value) in table {
            let word = key.get_ref().as_ref();
            if let DeValue::Table(table) = value.get_ref() {
                if !keys::TOOLS.contains(&word) {
                    return Err(self
                        .wrong(Some(key.span()), &format!("[{path}.{word}] is no section"))
                        .hint(format!("sections for one tool are called {}", keys::TOOLS.join(", "))));
                }
                let section = self.section(table, &format!("{path}.{word}"), Some(word))?;
                group.tools.insert(word.to_owned(), section);
            } else {
                let (name, entry) = self.entry(key, value, path, None)?;
                self.insert(&mut group.common, name, entry, path)?;
            }
        }
        Ok(group)
    }

    fn section(&self, table: &DeTable<'_>, path: &str, tool: Option<&str>) -> Result<Section> {
        let mut section = Section::new();
        for (key, value) in table {
            let (name, entry) = self.entry(key, value, path, tool)?;
            self.insert(&mut section, name, entry, path)?;
        }
        Ok(section)
    }

    /// Two spellings of one key may not both stand in a section.
    fn insert(&self, section: &mut Section, name: String, entry: Entry, path: &str) -> Result<()> {
        if let Some(other) = section.get(&name) {
            let what = format!("line {}: {path}.{name} stands in line {} already", entry.line, other.line);
            return Err(Error::config(what).in_file(self.name));
        }
        section.insert(name, entry);
        Ok(())
    }

    fn entry(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        tool: Option<&str>,
    ) -> Result<(String, Entry)> {
        let typed = key.get_ref().as_ref();
        let name = keys::canonical(typed);
        let place = format!("{path}.{typed}");
        let known = keys();
        let Some(found) = known.get(name.as_str()) else {
            let wrong = self.wrong(Some(key.span()), &format!("`{place}` is not known"));
            return Err(match keys::nearest(known, &name) {
                Some(near) => wrong.hint(format!("did you mean `{near}`? rlog.toml(5) lists the keys")),
                None => wrong.hint("rlog.toml(5) lists the keys"),
            });
        };
        if let Some(tool) = tool
            && !found.is_for(tool)
        {
            return Err(self.wrong(Some(key.span()), &format!("`{place}` means nothing to rlog-{tool}")));
        }
        if path.starts_with("defaults") && found.channels_only {
            return Err(self
                .wrong(Some(key.span()), &format!("`{place}`: this belongs to one channel, not to all"))
                .hint(format!("put `{name}` into `[channel.NAME]`")));
        }
        let setting = self.setting(value, &place)?;
        found.check(&setting).map_err(|what| self.wrong(Some(value.span()), &format!("`{place}`: {what}")))?;
        Ok((name, Entry { setting, line: self.line(key.span().start) }))
    }

    fn setting(&self, value: &Spanned<DeValue<'_>>, place: &str) -> Result<Setting> {
        let word = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.as_str().to_owned()),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Datetime(time) => Ok(time.to_string()),
            _ => Err(self.wrong(Some(value.span()), &format!("`{place}` takes text or a number here"))),
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(Setting::Flag(*flag)),
            DeValue::Array(values) => Ok(Setting::List(values.iter().map(word).collect::<Result<_>>()?)),
            _ => Ok(Setting::Word(word(value)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn failure(text: &str) -> String {
        let error = Config::parse(text, "rlog.toml").unwrap_err();
        assert_eq!(error.class(), Class::Config);
        error.to_string()
    }

    #[test]
    fn the_nearest_section_wins() {
        let text = "
            [defaults]
            batch = 10
            retries = 3
            [defaults.apply]
            batch = 20
            [channel.orders]
            batch = 30
            tables = ['shop.*', 'crm.*']
            [channel.orders.apply]
            batch = 40
            [channel.other]
            delay = 1.5
        ";
        let config = Config::parse(text, "rlog.toml").unwrap();
        let word = |channel: &str, tool: &str, key: &str| {
            config.get(channel, tool, key).map(|entry| entry.setting.words().join(" "))
        };
        assert_eq!(word("orders", "apply", "batch").as_deref(), Some("40"));
        assert_eq!(word("orders", "queue", "batch").as_deref(), Some("30"));
        assert_eq!(word("other", "apply", "batch").as_deref(), Some("20"));
        assert_eq!(word("none", "queue", "batch").as_deref(), Some("10"));
        assert_eq!(word("orders", "apply", "retries").as_deref(), Some("3"));
        assert_eq!(word("orders", "apply", "tables").as_deref(), Some("shop.* crm.*"));
        assert_eq!(word("other", "apply", "tables"), None);
    }

    #[test]
    fn mistakes_name_line_and_key() {
        for (text, wanted) in [
            ("[channel.a]\nworkrs = 3\n", "line 2: `channel.a.workrs` is not known"),
            ("workers = 3\n", "line 1: `workers` stands outside of any section"),
            ("[channel.a]\n\nworkers = 'three'\n", "line 3: `channel.a.workers`: "),
            (
                "[channel.a.apply]\nspace-limit = '1G'\n",
                "line 2: `channel.a.apply.space-limit` means nothing to rlog-apply",
            ),
            ("[defaults]\nsource = 'mysql://db1'\n", "line 2: `defaults.source`: this belongs to one channel"),
            ("[channel.a]\nwindows = 'all'\n", "line 2: `channel.a.windows`: "),
            ("[channel.a]\ncreate-tables = 'yes'\n", "line 2: `channel.a.create-tables`: "),
            ("[channel.a]\nworkers = true\n", "line 2: `channel.a.workers`: "),
            ("[channel.'../x']\n", "line 1: \"../x\" is no name for a channel"),
            ("[channel.a]\n[channel.A]\n", "channel `a` stands here twice"),
            ("[channel.a]\ndo-db = 'x'\nreplicate_do_db = 'y'\n", "channel.a.do-db stands in line 2 already"),
            ("[channel.a]\nworkers = \n", "line 2: "),
            ("[channel.a.aply]\n", "line 1: [channel.a.aply] is no section"),
        ] {
            let found = failure(text);
            assert!(found.contains(wanted), "{text:?}: {found}");
        }
    }

    #[test]
    fn mariadbs_spellings_are_understood() {
        let config = Config::parse("[channel.a]\nreplicate_wild_do_table = 'shop.%'\n", "rlog.toml").unwrap();
        assert!(config.get("a", "apply", "wild-do-table").is_some());
    }
}
