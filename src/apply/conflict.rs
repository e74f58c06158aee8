//! Conflicts: what policy says about each class, and the report that a person gets.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::error::{Class, Error, Result};
use crate::event::{Image, Row, RowsOp, TableDefinition, Value};
use crate::frame::Position;
use crate::queue::DEFAULT_CHANNEL;
use crate::target::{ConflictClass, Failure};

/// What to do about a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Stop; a person must look (80).
    #[default]
    Stop,
    /// Step over the row.
    Skip,
    /// Make the row as the source's after image says.
    Overwrite,
}

/// Actions per class, and engine error numbers that are stepped over.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    actions: [Action; ConflictClass::ALL.len()],
    skip_errors: BTreeSet<u32>,
    skip_all: bool,
}

impl Policy {
    /// Takes one `--on-conflict` argument: `ACTION`, or `CLASS=ACTION`, or several with commas.
    pub fn set(&mut self, text: &str) -> Result<()> {
        for part in text.split(',').map(str::trim) {
            let (class, action) = match part.split_once('=') {
                Some((class, action)) => (Some(class.trim()), action.trim()),
                None => (None, part),
            };
            let action = match action {
                "stop" => Action::Stop,
                "skip" => Action::Skip,
                "overwrite" => Action::Overwrite,
                _ => {
                    return Err(Error::usage(format!("'{action}' is no action for a conflict"))
                        .hint("actions are stop, skip and overwrite"));
                }
            };
            let mut known = false;
            for ((candidate, name), slot) in ConflictClass::ALL.iter().zip(self.actions.iter_mut()) {
                let named = class == Some(*name);
                // A row that cannot be written at all cannot be overwritten either; the general word means the rest.
                let general = class.is_none() && (action != Action::Overwrite || overwritable(*candidate));
                if named && action == Action::Overwrite && !overwritable(*candidate) {
                    return Err(Error::usage(format!("a {name} conflict cannot be overwritten")));
                }
                if named || general {
                    *slot = action;
                }
                known |= named;
            }
            if let (Some(class), false) = (class, known) {
                let names: Vec<&str> = ConflictClass::ALL.iter().map(|(_, name)| *name).collect();
                return Err(Error::usage(format!("'{class}' is no class of conflicts"))
                    .hint(format!("classes are {}", names.join(", "))));
            }
        }
        Ok(())
    }

    /// Takes `--skip-errors`: `all`, or engine error numbers with commas.
    pub fn set_skip_errors(&mut self, text: &str) -> Result<()> {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "all" => self.skip_all = true,
                _ => {
                    let code = part.parse().map_err(|_| {
                        Error::usage(format!("'{part}' is no error number"))
                            .hint("give numbers of the target's engine, or all")
                    })?;
                    self.skip_errors.insert(code);
                }
            }
        }
        Ok(())
    }

    /// What to do about this failure; `None` when it is no conflict at all.
    pub fn action(&self, failure: &Failure) -> Option<Action> {
        let class = failure.conflict();
        let listed = failure.code.is_some_and(|code| self.skip_errors.contains(&code));
        if listed || (self.skip_all && class.is_some()) {
            return Some(Action::Skip);
        }
        let at = ConflictClass::ALL.iter().position(|(candidate, _)| Some(*candidate) == class)?;
        self.actions.get(at).copied()
    }
}

fn overwritable(class: ConflictClass) -> bool {
    matches!(class, ConflictClass::DuplicateKey | ConflictClass::RowNotFound | ConflictClass::RowDiffers)
}

/// A conflict as it is reported, and as `errors` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The channel.
    pub channel: String,
    /// Position of the source transaction.
    pub position: String,
    /// `duplicate-key` ….
    pub class: String,
    /// What was done about it: `stopped`, `skipped`, `overwritten`.
    pub outcome: &'static str,
    /// The engine's own number.
    pub code: Option<u32>,
    /// The engine's words.
    pub message: String,
    /// `db.table`, empty for statements.
    pub table: String,
    /// `insert`, `update`, `delete`, `statement` or `ddl`.
    pub op: &'static str,
    /// Columns and values that identify the row.
    pub key: String,
    /// The images, `column=value`, empty when the operation has none.
    pub before: String,
    /// Likewise.
    pub after: String,
}

/// Bytes of an image that a report quotes at most.
const QUOTED_BYTES_MAX: usize = 2_000;

impl Conflict {
    /// A row's conflict.
    pub fn row(
        channel: &str,
        position: &Position,
        table: &TableDefinition,
        op: RowsOp,
        row: &Row<'_>,
        failure: &Failure,
    ) -> Conflict {
        let identity: Vec<usize> = table.identity().unwrap_or(&[]).iter().map(|part| part.column as usize).collect();
        let keyed = row.before.as_ref().or(row.after.as_ref());
        Conflict {
            table: format!("{}.{}", table.database, table.table),
            op: op.name(),
            key: keyed.map(|image| image_text(image, table, Some(&identity))).unwrap_or_default(),
            before: row.before.as_ref().map(|image| image_text(image, table, None)).unwrap_or_default(),
            after: row.after.as_ref().map(|image| image_text(image, table, None)).unwrap_or_default(),
            ..Conflict::other(channel, position, "", failure)
        }
    }

    /// A conflict without a row.
    pub fn other(channel: &str, position: &Position, op: &'static str, failure: &Failure) -> Conflict {
        Conflict {
            channel: channel.to_owned(),
            position: position.to_string(),
            class: failure.conflict().map_or("error", ConflictClass::name).to_owned(),
            outcome: "stopped",
            code: failure.code,
            message: failure.error.what().to_owned(),
            table: String::new(),
            op,
            key: String::new(),
            before: String::new(),
            after: String::new(),
        }
    }

    /// The error that stops a run.
    pub fn into_error(self, failure: &Failure) -> Error {
        let mut what = format!("channel {}, transaction {}: {}", self.channel, self.position, self.class);
        if !self.table.is_empty() {
            let _ = write!(what, " on {} of {}", self.op, self.table);
        }
        let _ = write!(what, ": {}", self.message);
        for (name, text) in [("key", &self.key), ("before", &self.before), ("after", &self.after)] {
            if !text.is_empty() {
                let _ = write!(what, "\n  {name}: {text}");
            }
        }
        let skip = match self.channel.as_str() {
            DEFAULT_CHANNEL => format!("`rlog-apply skip {} TARGET`", self.position),
            channel => format!("`rlog-apply skip --channel {channel} {} TARGET`", self.position),
        };
        let class = if failure.conflict().is_some() { Class::Conflict } else { failure.error.class() };
        let hint = match failure.error.hint_text() {
            Some(hint) => {
                format!("{hint}; {skip} steps over this transaction alone")
            }
            None => format!(
                "repair the row and run again, or choose with --on-conflict; {skip} steps over this transaction alone"
            ),
        };
        Error::new(class, what).hint(hint)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "channel": self.channel, "position": self.position, "class": self.class, "outcome": self.outcome,
            "code": self.code, "message": self.message, "table": self.table, "op": self.op, "key": self.key,
            "before": self.before, "after": self.after,
        })
        .to_string()
    }
}

/// `column=value, …` of an image; `only` these columns.
fn image_text(image: &Image<'_>, table: &TableDefinition, only: Option<&[usize]>) -> String {
    let mut out = Vec::new();
    for (index, (value, column)) in image.columns().zip(&table.columns).enumerate() {
        if only.is_some_and(|only| !only.contains(&index)) {
            continue;
        }
        let Ok(value) = value else { break };
        if matches!(value, Value::Absent | Value::Unchanged) {
            continue;
        }
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(column.name.as_bytes());
        out.push(b'=');
        super::text::value(&mut out, value, column);
        if out.len() > QUOTED_BYTES_MAX {
            out.truncate(QUOTED_BYTES_MAX);
            out.extend_from_slice(b"...");
            break;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Cause;

    fn failure(class: ConflictClass, code: u32) -> Failure {
        Failure::new(Cause::Conflict(class), Error::new(Class::Conflict, "x")).with_code(code)
    }

    #[test]
    fn each_class_has_its_own_action_and_stop_is_the_default() {
        let mut policy = Policy::default();
        let action = |policy: &Policy, class| policy.action(&failure(class, 7)).unwrap();
        for (class, _) in ConflictClass::ALL {
            assert_eq!(action(&policy, class), Action::Stop);
        }
        policy.set("overwrite").unwrap();
        assert_eq!(action(&policy, ConflictClass::DuplicateKey), Action::Overwrite);
        assert_eq!(action(&policy, ConflictClass::Type), Action::Stop);
        policy.set("row-not-found=skip, duplicate-key=stop").unwrap();
        assert_eq!(action(&policy, ConflictClass::RowNotFound), Action::Skip);
        assert_eq!(action(&policy, ConflictClass::DuplicateKey), Action::Stop);
        assert!(policy.set("type=overwrite").is_err());
        assert!(policy.set("typo=skip").is_err());
        assert!(policy.set("typo").is_err());
        policy.set_skip_errors("7, 1062").unwrap();
        assert_eq!(action(&policy, ConflictClass::Type), Action::Skip);
        assert_eq!(policy.action(&failure(ConflictClass::Type, 8)), Some(Action::Stop));
        assert_eq!(policy.action(&Failure::from(Error::damage("x"))), None);
    }
}
