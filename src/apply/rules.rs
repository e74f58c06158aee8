//! Filters and rewrites of a channel: rewrite first, then filter, as MariaDB does on a replica.

use super::Options;
use super::state::facts;
use crate::error::Error;
use crate::event::Statement;
use crate::event::filter::TableFilter;
use crate::target::ChannelState;

/// What is applied, and under which names.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    filter: TableFilter,
}

impl Rules {
    /// With this filter.
    pub fn new(filter: TableFilter) -> Rules {
        Rules { filter }
    }

    /// Rewrites a database's name.
    pub fn rewrite(&self, database: &mut String) {
        let to = self.filter.rewrite(database);
        if to != database {
            *database = to.to_owned();
        }
    }

    /// Whether rows of this table are applied; the names are the source's. rlog's own tables never are (rule 12).
    pub fn rows_pass(&self, database: &str, table: &str) -> bool {
        !table.starts_with("rlog_") && self.filter.rows_pass(database, table)
    }

    /// Whether a statement or DDL is applied; the names are the source's.
    pub fn statement_passes(&self, statement: &Statement<'_>) -> bool {
        let own = !statement.tables.is_empty() && statement.tables.iter().all(|(_, table)| table.starts_with("rlog_"));
        !own && self.filter.statement_passes(&statement.database, &statement.tables)
    }

    /// Whether everything that passes provably passed the rules that `before` is the canonical text of.
    pub fn are_within(&self, before: &str) -> bool {
        TableFilter::from_canonical(before).is_some_and(|before| self.filter.is_within(&before))
    }

    /// Canonical text, empty for none.
    pub fn text(&self) -> String {
        self.filter.canonical()
    }
}

/// What a change of the filters since the last run comes to (rule 3).
#[derive(Debug)]
pub(super) enum Change {
    /// They are as they were, or were never told.
    None,
    /// They hold as they are now; with a remark, if there is something to say.
    Accepted(Option<&'static str>),
    /// They may let through what they held back before, and what happened to that until now would be missing: only a snapshot may come.
    Refused(Error),
}

/// Judges the filters of this run by those that the target remembers.
pub(super) fn judge(state: &ChannelState, options: &Options) -> Change {
    let now = options.rules.text();
    let Some(held) = state.facts.get(facts::FILTERS).filter(|held| **held != now) else { return Change::None };
    if state.applied.is_empty() || options.accept_filters {
        return Change::Accepted(None);
    }
    if options.rules.are_within(held) {
        return Change::Accepted(Some(
            "the filters are narrower than those of earlier runs: what these have brought stays, and is not followed any more",
        ));
    }
    let shown = |text: &str| match text {
        "" => "none".to_owned(),
        text => text.trim_end().replace('\n', ", "),
    };
    Change::Refused(
        Error::config(format!(
            "the filters have changed, and may let through what was held back until now: they were {}, and are {}",
            shown(held),
            shown(&now)
        ))
        .hint("take the old ones; or bring what is missing, with a snapshot or by hand, and run this once with --accept-filters"),
    )
}
