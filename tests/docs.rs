//! The manual tells what the programs do: pages and completions are those that the definitions give, and every command
//! line shown anywhere is one that the programs accept.
//!
//! `BLESS=1 cargo test --test docs` writes man/*.1 and completions/ anew.

use std::fs;
use std::path::{Path, PathBuf};

use rlog::cli::{TOOLS, Tool, manual};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a committed file with what it should be, or writes it when asked to.
fn compare(path: &str, wanted: &str, stale: &mut Vec<String>) {
    let file = repository().join(path);
    if fs::read_to_string(&file).is_ok_and(|found| found == wanted) {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, wanted).unwrap();
    } else {
        stale.push(path.to_string());
    }
}

#[test]
fn pages_and_completions_are_current() {
    let mut stale = Vec::new();
    for tool in TOOLS {
        compare(&format!("man/{}.1", tool.name), &manual::page(tool), &mut stale);
        for shell in manual::SHELLS {
            let path = format!("completions/{shell}/{}", manual::completions_file(tool, shell));
            compare(&path, &manual::completions(tool, shell), &mut stale);
        }
    }
    compare("man/rlog.toml.5", &rlog::cli::config::page::page(), &mut stale);
    assert!(stale.is_empty(), "out of date: {}\nafter a look: BLESS=1 cargo test --test docs", stale.join(", "));
}

#[test]
fn help_and_version_say_what_the_manual_says() {
    for tool in TOOLS {
        let help = manual::command(tool).render_long_help().to_string();
        for (class, words) in rlog::error::Class::ALL {
            assert!(help.contains(&format!("{}  {words}", class.exit_status())), "{}: {class:?}", tool.name);
        }
        // The help is as wide as a terminal: a long command goes on in its next line.
        let unwrapped = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = unwrapped(&help);
        for (_, example) in tool.manual.examples {
            assert!(all.contains(&unwrapped(example.lines().next().unwrap())), "{}: {example}", tool.name);
        }
        let version = manual::command(tool).render_long_version();
        assert!(version.contains(&format!("writes envelope {}", rlog::frame::VERSION)), "{version}");
    }
}

/// rlog(7) is written by hand, but its table of exit statuses is that of the code.
#[test]
fn the_exit_statuses_of_rlog_7_are_those_of_the_code() {
    let page = fs::read_to_string(repository().join("man/rlog.7")).unwrap();
    for (class, words) in rlog::error::Class::ALL {
        let row = format!("\n{}|{words}\n", class.exit_status());
        assert!(page.contains(&row), "man/rlog.7 lacks {row:?}");
    }
}

/// rlog-plugin(3) is written by hand, and has every event, answer and function of the header.
#[test]
fn rlog_plugin_3_has_what_the_header_has() {
    let page = fs::read_to_string(repository().join("man/rlog-plugin.3")).unwrap();
    let header = fs::read_to_string(repository().join("include/rlog_plugin.h")).unwrap();
    let mut wanted =
        vec!["RLOG_PLUGIN_ABI".to_owned(), "RLOG_PLUGIN_SERIAL".to_owned(), "RLOG_TRANSACTION_SNAPSHOT".to_owned()];
    let words =
        |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect::<Vec<_>>();
    let mut block = "";
    for line in header.lines() {
        if line.starts_with("/* Kinds of events")
            || line.starts_with("/* What a listener")
            || line.starts_with("/* What set_value")
        {
            block = "numbers";
        } else if line.starts_with("typedef struct rlog_host") {
            block = "host";
        } else if line.starts_with('}') {
            block = "";
        }
        let words = words(line.trim());
        match block {
            "numbers" if line.contains(" = ") => wanted.push(words[0].clone()),
            // `void *(*allocate)(size_t bytes);`
            "host" => {
                wanted.extend(line.split_once("(*").and_then(|(_, rest)| Some(rest.split_once(')')?.0.to_owned())))
            }
            _ => {}
        }
    }
    assert!(wanted.len() > 25, "{wanted:?}");
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|word| !page.contains(*word) && *word != "log" && !page.contains(&word.replace('-', "\\-")))
        .collect();
    assert!(missing.is_empty(), "man/rlog-plugin.3 lacks {missing:?}");
}

/// A page or a README that tells of an option that does not exist is worse than none.
#[test]
fn every_command_line_shown_is_one_that_the_programs_accept() {
    let mut shown: Vec<(String, String)> = Vec::new();
    for tool in TOOLS {
        for (_, example) in tool.manual.examples {
            shown.extend(example.lines().map(|line| (tool.name.to_string(), line.to_string())));
        }
    }
    for (path, is_roff) in
        [("README.md", false), ("man/rlog.7", true), ("man/rlog-format.5", true), ("man/rlog-plugin.3", true)]
    {
        let Ok(text) = fs::read_to_string(repository().join(path)) else { continue };
        shown.extend(blocks(&text, is_roff).into_iter().map(|line| (path.to_string(), line)));
    }
    for file in files_below(&repository().join("examples")) {
        let path = file.strip_prefix(repository()).unwrap().display().to_string();
        // What somebody has built there is no text.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        shown.extend(text.lines().map(|line| (path.clone(), line.to_string())));
    }
    let mut wrong = Vec::new();
    for (place, line) in shown {
        for words in commands(&line) {
            let Some(tool) = TOOLS.iter().find(|tool| words.first().is_some_and(|word| word == tool.name)) else {
                continue;
            };
            if let Err(error) = accepted(tool, &words) {
                wrong.push(format!("{place}: {line}\n{error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn accepted(tool: &Tool, words: &[String]) -> Result<(), String> {
    use clap::error::ErrorKind;
    match manual::command(tool).try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The lines of a page that are shown as they are: fenced blocks of Markdown, `.nf` blocks of roff.
fn blocks(text: &str, is_roff: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    let mut pending = String::new();
    for line in text.lines() {
        let (opens, closes) = match is_roff {
            true => (line == ".nf" || line == ".EX", line == ".fi" || line == ".EE"),
            false => (!inside && line.starts_with("```"), inside && line.starts_with("```")),
        };
        if opens || closes {
            inside = opens;
        } else if inside {
            let line = if is_roff { unroff(line) } else { line.to_string() };
            match line.strip_suffix('\\') {
                Some(begun) => pending.push_str(begun),
                None => lines.push(std::mem::take(&mut pending) + &line),
            }
        }
    }
    lines
}

fn unroff(line: &str) -> String {
    let plain = [("\\-", "-"), ("\\(dq", "\""), ("\\(aq", "'"), ("\\(ha", "^"), ("\\(ga", "`"), ("\\(ti", "~")];
    let line = plain.iter().fold(line.to_string(), |line, (from, to)| line.replace(from, to));
    ["\\fB", "\\fI", "\\fR", "\\&"].iter().fold(line, |line, font| line.replace(font, "")).replace("\\e", "\\")
}

/// The simple commands of a line of shell: enough of its grammar for pipelines with quotes and redirections.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut redirected = false;
    let mut quote = None;
    let end_word = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>, redirected: &mut bool| {
        if let Some(word) = word.take() {
            let last: &mut Vec<String> = commands.last_mut().unwrap();
            let is_prompt_or_assignment = last.is_empty() && (word == "$" || word == "!" || word.contains('='));
            if !std::mem::take(redirected) && !is_prompt_or_assignment {
                last.push(word);
            }
        }
    };
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&') => {
                end_word(&mut word, &mut commands, &mut redirected);
                commands.push(Vec::new());
            }
            (None, '<' | '>') => {
                // A descriptor's number belongs to the redirection.
                if word.as_deref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                    word = None;
                }
                end_word(&mut word, &mut commands, &mut redirected);
                redirected = true;
                while chars.next_if(|c| matches!(c, '<' | '>' | '&')).is_some() {}
            }
            (None, c) if c.is_whitespace() => end_word(&mut word, &mut commands, &mut redirected),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    end_word(&mut word, &mut commands, &mut redirected);
    commands.retain(|words| !words.is_empty());
    commands
}

#[test]
fn a_line_of_shell_is_cut_into_its_commands() {
    let cut = |line: &str| -> Vec<String> { commands(line).into_iter().map(|words| words.join(" ")).collect() };
    assert_eq!(cut("$ rlog-dump a.b | head -1   # look"), ["rlog-dump a.b", "head -1"]);
    assert_eq!(cut("TZ=UTC rlog-dump --where 'a=b c' < in >out 2>&1; echo $?"), ["rlog-dump --where a=b c", "echo $?"]);
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// misc/rlog.magic, tried with file(1) itself.
#[test]
fn file_1_names_a_stream_by_the_installed_magic() {
    use std::io::Write as _;
    let mut writer = rlog::frame::FrameWriter::new();
    writer.frame(rlog::frame::Kind::Heartbeat, |_| {});
    let mut stream = tempfile::NamedTempFile::new().unwrap();
    stream.write_all(writer.bytes()).unwrap();
    let magic = repository().join("misc/rlog.magic");
    let file = std::process::Command::new("file").arg("-b").arg("-m").arg(magic).arg(stream.path()).output();
    let Ok(output) = file else {
        eprintln!("no file(1) here: nothing to try");
        return;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim(), format!("rlog transaction stream, format {}", rlog::frame::VERSION));
}

/// A table of rules whose tests were renamed or lost proves nothing.
#[test]
fn the_tests_that_hold_the_rules_exist() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("### The rules that keep the promise").nth(1).unwrap().split("\n##").next().unwrap();
    let mut rules = std::collections::BTreeSet::new();
    let mut missing = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [rule, _, test] = &cells[..] else { panic!("three cells: {row}") };
        rules.extend(rule.split(' ').next().and_then(|number| number.parse::<u32>().ok()));
        let (place, name) = test.trim_matches('`').rsplit_once("::").unwrap_or_else(|| panic!("no test: {row}"));
        let (suite, module) = place.split_once(' ').unwrap();
        let file = format!("tests/{suite}/{module}.rs");
        let there = fs::read_to_string(repository().join(&file)).unwrap_or_default().contains(&format!("fn {name}"));
        if !there {
            missing.push(format!("{name} in {file}"));
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    assert!(rules.into_iter().eq(1..=17), "every rule has a row");
}
