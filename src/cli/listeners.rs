//! `--plugin` and `--exec`: the same options for every tool that has listeners. What they mean is in `plugin` and `dump::feed`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dump::feed::Feed;
use crate::error::Result;
use crate::plugin::{Host, Level, Listener, Plugin};

/// The options.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Listeners")]
pub struct Listeners {
    /// Load a plug-in: it hears of every transaction and row, may refuse them (80), and may change rows
    ///
    /// May be repeated; they are called in this order. What follows the colon is given to the plug-in. See rlog-plugin(3).
    #[arg(long = "plugin", value_name = "FILE.so[:ARGS]")]
    pub plugins: Vec<String>,

    /// Run a shell command and feed it what happens, as the JSON lines of rlog-dump
    ///
    /// May be repeated. The pipe holds back: what the command does not read is not committed much further. When it ends with a status but 0, no further
    /// transaction is committed, and the exit status is 80 (75 when its own is); with 0, it is not fed any more. At the end it is waited for. It hears of
    /// rows as the plug-ins left them. See rlog-plugin(3).
    #[arg(long = "exec", value_name = "COMMAND")]
    pub commands: Vec<String>,
}

impl Listeners {
    /// Starts them; `None` when there are none. `stdout_is_taken`: standard output is for something else than what commands print.
    pub fn start(&self, tool: &'static str, quiet: bool, stdout_is_taken: bool) -> Result<Option<Arc<Host>>> {
        if self.plugins.is_empty() && self.commands.is_empty() {
            return Ok(None);
        }
        let mut all: Vec<Box<dyn Listener>> = Vec::new();
        for text in &self.plugins {
            let (path, arguments) = split(text);
            let log = move |level: Level, text: &str| {
                if level == Level::Error || !quiet {
                    super::note(tool, text);
                }
            };
            all.push(Box::new(Plugin::load(&path, arguments, Box::new(log))?));
        }
        for command in &self.commands {
            all.push(Box::new(Feed::start(command, stdout_is_taken)?));
        }
        Ok(Some(Arc::new(Host::new(tool, all))))
    }
}

/// The file, and what follows the first colon behind it. A file whose name has a colon is found as it is.
fn split(text: &str) -> (PathBuf, &str) {
    if !Path::new(text).exists() {
        // Folders may have colons in their names: the one behind a file that exists counts.
        let colons = text.match_indices(':').map(|(at, _)| at);
        let named = colons.clone().find(|at| text.get(..*at).is_some_and(|path| Path::new(path).is_file()));
        let first = text.find(".so:").map(|at| at + 3).or_else(|| colons.clone().next());
        if let Some((path, arguments)) = named.or(first).and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
            return (path.into(), arguments);
        }
    }
    (text.into(), "")
}
