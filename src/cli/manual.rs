//! One definition per tool; `--help`, `--version`, the manual page and the completions are drawn from it.
//!
//! A tool's file in `cli/` supplies its clap command (names, short and long help of every option) and a [`Manual`]:
//! what a manual page says besides. Nothing of it is written twice: [`command`] adds EXAMPLES and EXIT STATUS to
//! `--help`, [`page`] renders section 1 of the manual, [`completions`] the three shells' completions. The results
//! are committed in `man/` and `completions/`, undated; `tests/docs.rs` compares them and tries every example.

use std::fmt::Write as _;

use clap_mangen::Man;

use crate::cli::Tool;
use crate::error::Class;

/// What the manual of a tool says besides its options. Start from [`Manual::EMPTY`].
///
/// Texts are plain: paragraphs stand between blank lines, lines that begin with four spaces are shown as they are,
/// and a line `= TERM` begins an entry whose text follows on the next lines.
pub struct Manual {
    /// What a command line is good for, and the command line. Shown in `--help` too.
    pub examples: &'static [(&'static str, &'static str)],
    /// Further sections, in order: the title in capitals and its text. Only in the manual page.
    pub sections: &'static [(&'static str, &'static str)],
    /// Files that the tool reads or writes by itself, and what they are.
    pub files: &'static [(&'static str, &'static str)],
    /// Environment variables, besides those that every tool reads.
    pub environment: &'static [(&'static str, &'static str)],
    /// Other pages, `mariadb-binlog(1)` for example, besides those of rlog itself.
    pub see_also: &'static [&'static str],
}

impl Manual {
    /// A manual of the options alone.
    pub const EMPTY: Manual = Manual { examples: &[], sections: &[], files: &[], environment: &[], see_also: &[] };
}

/// Every tool reads these.
const COMMON_FILES: &[(&str, &str)] = &[(
    "rlog.toml",
    "Configuration, read from the current directory if it is there and neither --config nor $RLOG_CONFIG names another.",
)];

/// Every tool reads these.
const COMMON_ENVIRONMENT: &[(&str, &str)] =
    &[("RLOG_CONFIG", "The configuration file."), ("NO_COLOR", "Set to anything: no colours.")];

/// The pages of rlog that are not a tool's.
const COMMON_PAGES: &[&str] = &["rlog(7)", "rlog.toml(5)", "rlog-format(5)"];

/// The shells that have completions.
pub const SHELLS: [clap_complete::Shell; 3] =
    [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish];

/// The command as the user meets it: the tool's own definition, with version, EXAMPLES and EXIT STATUS.
pub fn command(tool: &Tool) -> clap::Command {
    let config = clap::Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(std::path::PathBuf))
        .global(true)
        .help_heading("Configuration")
        .help("Configuration file, rlog.toml(5)");
    (tool.command)()
        .arg(config)
        .version(env!("CARGO_PKG_VERSION"))
        .long_version(version())
        .disable_help_subcommand(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .after_long_help(format!("{}{}", examples_text(tool.manual), exit_status_text()))
}

/// What `--version` prints after the name: the version, and the format versions written and readable.
pub fn version() -> String {
    format!(
        "{}\nformat (rlog-format(5)): writes envelope {frame}, events {event}; reads envelope 1 to {frame}, events 1 to {event}",
        env!("CARGO_PKG_VERSION"),
        frame = crate::frame::VERSION,
        event = crate::event::EVENT_VERSION,
    )
}

fn examples_text(manual: &Manual) -> String {
    if manual.examples.is_empty() {
        return String::new();
    }
    let mut text = String::from("Examples:\n");
    for (purpose, line) in manual.examples {
        let _ = writeln!(text, "  {purpose}:");
        for line in line.lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
    text.push('\n');
    text
}

fn exit_status_text() -> String {
    let mut text = String::from("Exit status:\n   0  done\n");
    for (class, words) in Class::ALL {
        let _ = writeln!(text, "  {:2}  {words}", class.exit_status());
    }
    text
}

/// The manual page, section 1, of a tool. The same definitions give the same bytes: it has no date.
pub fn page(tool: &Tool) -> String {
    // EXAMPLES and EXIT STATUS get sections of their own.
    let mut definition = command(tool).after_long_help(None::<&str>).long_version(None::<&str>);
    definition.build();
    let verbs: Vec<clap::Command> = definition.get_subcommands().cloned().collect();
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(definition);

    let mut page = String::from(".\\\" Made from the definitions behind --help: BLESS=1 cargo test --test docs\n");
    let _ = writeln!(page, ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '");
    let _ = writeln!(page, ".TH \"{}\" 1 \"\" \"rlog {version}\" \"rlog manual\"", escaped(&tool.name.to_uppercase()));
    page.push_str(&rendered(|out| {
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_options_section(out)
    }));
    for verb in verbs {
        verb_section(&mut page, verb);
    }
    let manual = tool.manual;
    for (title, text) in manual.sections {
        heading(&mut page, title);
        body(&mut page, text);
    }
    if !manual.examples.is_empty() {
        heading(&mut page, "EXAMPLES");
        for (purpose, line) in manual.examples {
            let _ = writeln!(page, ".PP\n{}:", escaped(purpose));
            verbatim(&mut page, line.lines());
        }
    }
    heading(&mut page, "EXIT STATUS");
    entry(&mut page, "0", "done");
    for (class, words) in Class::ALL {
        entry(&mut page, &class.exit_status().to_string(), words);
    }
    page.push_str(".PP\nOnly 75 is worth repeating without a person.\n");
    heading(&mut page, "ENVIRONMENT");
    for (name, text) in manual.environment.iter().chain(COMMON_ENVIRONMENT) {
        entry(&mut page, name, text);
    }
    heading(&mut page, "FILES");
    for (name, text) in manual.files.iter().chain(COMMON_FILES) {
        entry(&mut page, name, text);
    }
    heading(&mut page, "SEE ALSO");
    let siblings = crate::cli::TOOLS.iter().filter(|other| other.name != tool.name);
    let pages = siblings.map(|other| format!("{}(1)", other.name));
    let pages = pages.chain(COMMON_PAGES.iter().chain(manual.see_also).map(ToString::to_string));
    let pages: Vec<String> = pages.map(|page| page_reference(&page)).collect();
    page.push_str(&pages.join(",\n"));
    page.push('\n');
    page
}

/// The completions of a tool for one shell.
pub fn completions(tool: &Tool, shell: clap_complete::Shell) -> String {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command(tool), tool.name, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Where completions are found by their shell, below the folder of that shell's completions.
pub fn completions_file(tool: &Tool, shell: clap_complete::Shell) -> String {
    match shell {
        clap_complete::Shell::Zsh => format!("_{}", tool.name),
        clap_complete::Shell::Fish => format!("{}.fish", tool.name),
        _ => tool.name.to_string(),
    }
}

/// A section for one verb: its synopsis, its words and its own options.
fn verb_section(page: &mut String, verb: clap::Command) {
    let title = verb.get_bin_name().unwrap_or(verb.get_name()).to_string();
    // Options of the whole tool, and --help, stand above.
    let verb = verb.mut_args(|arg| {
        let elsewhere = arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version");
        arg.hide(elsewhere)
    });
    let has_options = verb.get_arguments().any(|arg| !arg.is_hide_set());
    let man = Man::new(verb);
    heading(page, &title);
    let body = rendered(|out| {
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        if has_options { man.render_options_section(out) } else { Ok(()) }
    });
    for line in body.lines() {
        match line {
            ".SH SYNOPSIS" | ".SH OPTIONS" => {}
            ".SH DESCRIPTION" => page.push_str(".PP\n"),
            line => {
                page.push_str(line);
                page.push('\n');
            }
        }
    }
}

/// What clap_mangen writes, without the preamble that it repeats before every section.
fn rendered(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = render(&mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    let is_preamble = |line: &str| line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq");
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !is_preamble(line)) {
        kept.push_str(line.trim_end());
        kept.push('\n');
    }
    kept
}

pub(super) fn heading(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH \"{}\"", escaped(title));
}

pub(super) fn entry(page: &mut String, term: &str, text: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(text));
}

pub(super) fn verbatim<'a>(page: &mut String, lines: impl Iterator<Item = &'a str>) {
    page.push_str(".PP\n.RS 4\n.nf\n");
    for line in lines {
        let _ = writeln!(page, "{}", escaped(line));
    }
    page.push_str(".fi\n.RE\n");
}

/// Plain text, as [`Manual`] describes it.
pub(super) fn body(page: &mut String, text: &str) {
    let mut lines = text.trim_matches('\n').lines().peekable();
    let mut paragraph_is_open = true; // a heading opens one
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            paragraph_is_open = false;
        } else if let Some(shown) = line.strip_prefix("    ") {
            let mut block = vec![shown];
            while let Some(next) = lines.next_if(|next| next.starts_with("    ") || next.trim().is_empty()) {
                block.push(next.strip_prefix("    ").unwrap_or(""));
            }
            while block.last().is_some_and(|line| line.is_empty()) {
                block.pop();
            }
            verbatim(page, block.into_iter());
            paragraph_is_open = false;
        } else if let Some(term) = line.strip_prefix("= ") {
            let _ = writeln!(page, ".TP\n\\fB{}\\fR", escaped(term));
            paragraph_is_open = true;
        } else {
            if !paragraph_is_open {
                page.push_str(".PP\n");
                paragraph_is_open = true;
            }
            let _ = writeln!(page, "{}", escaped(line.trim()));
        }
    }
}

/// `name(1)` with its name in bold.
pub(super) fn page_reference(page: &str) -> String {
    match page.split_once('(') {
        Some((name, section)) => format!("\\fB{}\\fR({}", escaped(name), escaped(section)),
        None => escaped(page),
    }
}

/// Text that roff shows as it is.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '`' => out.push_str("\\(ga"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_paragraphs_entries_and_blocks() {
        let mut page = String::new();
        body(&mut page, "First.\n\n.Second\n= --term\nWhat it is.\n\n    a  'b'\n\n    c\n\nLast.\n");
        assert_eq!(
            page,
            "First.\n.PP\n\\&.Second\n.TP\n\\fB\\-\\-term\\fR\nWhat it is.\n.PP\n.RS 4\n.nf\na  \\(aqb\\(aq\n\nc\n.fi\n.RE\n.PP\nLast.\n"
        );
    }

    #[test]
    fn every_definition_is_sound() {
        for tool in crate::cli::TOOLS {
            command(tool).debug_assert();
            assert_eq!(command(tool).get_name(), tool.name);
        }
    }
}
