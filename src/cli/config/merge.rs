//! What a file says becomes the defaults of a tool's options, before its arguments are parsed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Command};

use super::{Config, Setting, file, keys};
use crate::cli::Tool;
use crate::error::{Error, Result};
use crate::queue;

/// The definition and the arguments of a tool, completed by the configuration.
pub fn merge(tool: &Tool, command: Command, args: Vec<OsString>) -> Result<(Command, Vec<OsString>)> {
    let typed = Typed::new(&command, &args);
    let named =
        typed.config.or_else(|| std::env::var_os("RLOG_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from));
    let is_named = named.is_some();
    let Some(path) = file(named) else { return Ok((command, args)) };
    if typed.asks_for_help {
        return Ok((command, args));
    }
    let config = Config::read(&path)?;
    let channel = match &typed.channel {
        Some(name) => queue::fold_name("channel", name)?,
        None => queue::DEFAULT_CHANNEL.to_owned(),
    };
    // With a file that was named and a channel that was named, one of them is meant to have the other.
    if is_named && typed.channel.is_some() && !config.channels.contains_key(&channel) {
        let known = config.names();
        let error = Error::config(format!("there is no section [channel.{channel}]")).in_file(&config.name);
        return Err(match known.is_empty() {
            true => error.hint(format!("write one: `[channel.{channel}]`")),
            false => error.hint(format!("it has channels {}", known.join(", "))),
        });
    }
    let name = tool.name.strip_prefix("rlog-").unwrap_or(tool.name);
    let of = |key: &str| config.get(&channel, name, key).map(|entry| entry.setting.clone());
    let verb = typed.verb.as_ref().map(|(_, verb)| verb.as_str());
    let command = with_defaults(command, verb, &of);
    let operands = operands(name, verb, &of, &config, typed.channel.is_some())?;
    let args = with_operands(&command, args, &operands, typed.verb.map(|(at, _)| at));
    Ok((command, args))
}

/// What can be seen in the arguments before they are parsed.
#[derive(Debug, Default)]
struct Typed {
    config: Option<PathBuf>,
    channel: Option<String>,
    /// The verb and its place.
    verb: Option<(usize, String)>,
    asks_for_help: bool,
}

impl Typed {
    fn new(command: &Command, args: &[OsString]) -> Typed {
        let mut typed = Typed::default();
        let mut at = 1;
        while let Some(word) = args.get(at) {
            let text = word.to_string_lossy();
            if text == "--" {
                break;
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (text.as_ref(), args.get(at + 1).cloned()),
            };
            match name {
                "--config" => typed.config = value.map(PathBuf::from),
                "--channel" => typed.channel = value.map(|value| value.to_string_lossy().into_owned()),
                "--help" | "-h" | "--version" | "-V" => typed.asks_for_help = true,
                _ => {}
            }
            if let Some(long) = name.strip_prefix("--") {
                let takes = |command: &Command| {
                    command.get_arguments().any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values())
                };
                let verb = typed.verb.as_ref().and_then(|(_, verb)| command.find_subcommand(verb));
                if !text.contains('=') && (takes(command) || verb.is_some_and(takes)) {
                    at += 1;
                }
            } else if !name.starts_with('-') && typed.verb.is_none() && command.find_subcommand(word).is_some() {
                typed.verb = Some((at, text.into_owned()));
            }
            at += 1;
        }
        typed
    }
}

/// Every option of the command and of its verb that has a key with a value gets that value as its default.
fn with_defaults(command: Command, verb: Option<&str>, of: &dyn Fn(&str) -> Option<Setting>) -> Command {
    let fill = |mut command: Command| {
        let options: Vec<(String, String)> = command
            .get_arguments()
            .filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned())))
            .filter(|(_, long)| keys().get(long).is_some_and(|key| key.place.is_none()))
            .collect();
        for (id, long) in options {
            let Some(setting) = of(&long) else { continue };
            command = command.mut_arg(id, |arg| match (&setting, arg.get_action()) {
                (Setting::Flag(true), ArgAction::SetTrue) => arg.default_value("true"),
                // Not given is what `false` means.
                (Setting::Flag(_), _) => arg,
                _ => arg.required(false).default_values(setting.words()),
            });
        }
        command
    };
    let command = fill(command);
    match verb {
        Some(verb) if command.find_subcommand(verb).is_some() => command.mut_subcommand(verb, fill),
        _ => command,
    }
}

/// Where an operand goes when it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    /// Behind the verb.
    First(Vec<String>),
    /// At the end.
    Last(Vec<String>),
    /// An option with a value, at the end, unless it was typed.
    Option(&'static str, String),
}

/// What the places mean to a tool and its verb.
fn operands(
    tool: &str,
    verb: Option<&str>,
    of: &dyn Fn(&str) -> Option<Setting>,
    config: &Config,
    channel_is_typed: bool,
) -> Result<Vec<Operand>> {
    let words = |key: &str| of(key).map(|setting| setting.words());
    let word = |key: &str| words(key).and_then(|words| words.into_iter().next());
    let mut operands = Vec::new();
    match (tool, verb) {
        ("extract", _) => {
            if let Some(words) = words("source") {
                let mut sources = Vec::new();
                for word in words {
                    sources.extend(expand(&word)?);
                }
                operands.push(Operand::First(sources));
            }
            if of("confirm").is_none() {
                operands.extend(word("queue").map(|queue| Operand::Option("confirm", queue)));
            }
        }
        ("queue", _) => operands.extend(words("queue").map(Operand::First)),
        ("apply", Some("run")) => {
            operands.extend(words("target").map(Operand::Last));
            operands.extend(word("queue").map(|queue| Operand::Option("from", queue)));
        }
        ("apply", Some("status")) if !channel_is_typed => {
            // Every channel's target, each once.
            let mut targets: Vec<String> = Vec::new();
            for name in config.names() {
                let target = config.get(name, tool, "target").map(|entry| entry.setting.words()).unwrap_or_default();
                targets.extend(target.into_iter().filter(|target| !targets.contains(target)).collect::<Vec<_>>());
            }
            if !targets.is_empty() {
                operands.push(Operand::Last(targets));
            }
        }
        ("apply", Some("status")) => {
            operands.extend(words("target").map(Operand::Last));
            operands.extend(word("queue").map(|queue| Operand::Option("from", queue)));
        }
        ("apply", Some(_)) => operands.extend(words("target").map(Operand::Last)),
        ("ship", Some("push")) => operands.extend(word("queue").map(|queue| Operand::Option("from", queue))),
        ("ship", Some(_)) => operands.extend(words("queue").map(Operand::First)),
        ("dump", _) if channel_is_typed => operands.extend(words("queue").map(Operand::Last)),
        _ => {}
    }
    Ok(operands)
}

/// The files that a pattern names, sorted; a word that is no pattern, or matches nothing, is itself (the tool says that it is not there).
fn expand(word: &str) -> Result<Vec<String>> {
    let is_address = word.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_lowercase()));
    if is_address || !word.contains(['*', '?', '[']) {
        return Ok(vec![word.to_owned()]);
    }
    let path = PathBuf::from(word);
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
    let pattern = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let glob = globset::GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| Error::config(format!("`{word}` is no pattern of files: {}", error.kind())))?
        .compile_matcher();
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(vec![word.to_owned()]) };
    let mut found: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| glob.is_match(name))
        .map(|name| path.with_file_name(name).to_string_lossy().into_owned())
        .collect();
    found.sort();
    if found.is_empty() {
        found.push(word.to_owned());
    }
    Ok(found)
}

/// Puts operands where they are missing.
fn with_operands(
    command: &Command,
    mut args: Vec<OsString>,
    operands: &[Operand],
    verb_at: Option<usize>,
) -> Vec<OsString> {
    let has_option = |args: &[OsString], long: &str| {
        let exact = format!("--{long}");
        let with_value = format!("--{long}=");
        args.iter().any(|word| word == OsStr::new(&exact) || word.to_string_lossy().starts_with(&with_value))
    };
    for operand in operands {
        if let Operand::Option(long, value) = operand
            && !has_option(&args, long)
        {
            let at = verb_at.unwrap_or(0) + 1;
            args.insert(at.min(args.len()), format!("--{long}={value}").into());
        }
    }
    for operand in operands {
        let (Operand::First(words) | Operand::Last(words)) = operand else { continue };
        // Whether it is missing is for the parser to say.
        let missing = match command.clone().try_get_matches_from(&args) {
            Err(error) => error.kind() == ErrorKind::MissingRequiredArgument,
            Ok(matches) => optional_operand_is_missing(&matches),
        };
        if missing {
            let at = if matches!(operand, Operand::First(_)) { verb_at.unwrap_or(0) + 1 } else { args.len() };
            args.splice(at..at, words.iter().map(OsString::from));
        }
    }
    args
}

/// Whether a tool whose operand may be left out (rlog-dump) got none.
fn optional_operand_is_missing(matches: &clap::ArgMatches) -> bool {
    matches.subcommand().is_none() && matches!(matches.try_get_raw_occurrences("inputs"), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    const FILE: &str = "
        [defaults]
        queue = 'spool'
        batch = 7
        [channel.default]
        source = ['a.000001', 'a.000002']
        target = 'sqlite:a.db'
        create-tables = true
        tables = ['shop.*', 'crm.*']
        [channel.b]
        source = 'mysql://db2'
        target = 'sqlite:b.db'
    ";

    fn parsed(line: &str) -> std::result::Result<(clap::ArgMatches, String), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rlog.toml");
        std::fs::write(&path, FILE).unwrap();
        let mut args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let tool = cli::TOOLS.into_iter().find(|tool| args[0] == *tool.name).unwrap();
        args.push(format!("--config={}", path.display()).into());
        let (command, args) = merge(tool, cli::manual::command(tool), args).map_err(|error| error.to_string())?;
        let typed = args
            .iter()
            .map(|word| word.to_string_lossy())
            .filter(|word| !word.starts_with("--config"))
            .collect::<Vec<_>>()
            .join(" ");
        command.try_get_matches_from(&args).map(|matches| (matches, typed)).map_err(|error| error.to_string())
    }

    fn line(line: &str) -> String {
        parsed(line).unwrap().1
    }

    #[test]
    fn places_stand_in_for_missing_operands_and_what_is_typed_wins() {
        assert_eq!(line("rlog-extract"), "rlog-extract a.000001 a.000002 --confirm=spool");
        assert_eq!(line("rlog-extract x --confirm none"), "rlog-extract x --confirm none");
        assert_eq!(line("rlog-extract --channel B"), "rlog-extract mysql://db2 --confirm=spool --channel B");
        assert_eq!(line("rlog-queue put"), "rlog-queue put spool");
        assert_eq!(line("rlog-queue --channel b put"), "rlog-queue --channel b put spool");
        assert_eq!(line("rlog-queue put q"), "rlog-queue put q");
        assert_eq!(line("rlog-queue ack --reader r 1:2"), "rlog-queue ack spool --reader r 1:2");
        assert_eq!(line("rlog-apply run"), "rlog-apply run --from=spool sqlite:a.db");
        assert_eq!(line("rlog-apply run --from - sqlite:x"), "rlog-apply run --from - sqlite:x");
        assert_eq!(line("rlog-apply last --channel b"), "rlog-apply last --channel b sqlite:b.db");
        assert_eq!(line("rlog-apply skip 1:2"), "rlog-apply skip 1:2 sqlite:a.db");
    }

    #[test]
    fn keys_are_defaults_of_options() {
        let (matches, _) = parsed("rlog-apply run").unwrap();
        let (_, run) = matches.subcommand().unwrap();
        assert_eq!(run.get_one::<u32>("batch"), Some(&7));
        assert!(run.get_flag("create_tables"));
        let tables: Vec<&String> = run.get_many("tables").unwrap().collect();
        assert_eq!(tables, ["shop.*", "crm.*"]);
        let (matches, _) = parsed("rlog-apply run --batch 9 --tables x").unwrap();
        let (_, run) = matches.subcommand().unwrap();
        assert_eq!(run.get_one::<u32>("batch"), Some(&9));
        let tables: Vec<&String> = run.get_many("tables").unwrap().collect();
        assert_eq!(tables, ["x"]);
    }

    #[test]
    fn a_channel_that_is_not_there_is_named() {
        let error = parsed("rlog-apply run --channel nope").unwrap_err();
        assert!(error.contains("[channel.nope]"), "{error}");
    }
}
