//! What belongs to the queue's source and what does not: streams, repeats, progress, handovers, snapshots.

use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Handover, Incarnation, Kind, Position, Progress, Snapshot, Step, StreamHeader};

use super::Intake;

impl Intake<'_> {
    pub(super) fn stream(&mut self, header: Box<StreamHeader>, at: u64) -> Result<()> {
        if header.unanchored {
            return Err(Error::config(
                "the stream does not know the numbers of its log files, so its positions mean nothing",
            )
            .at(at)
            .hint("give `rlog-extract --log-name NAME.000042` (the name that the server gave the file)"));
        }
        if let Some(known) = &self.tail.source {
            let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
            let family = |name: &str| if name == "mariadb" { "mysql".to_owned() } else { name.to_owned() };
            if family(&known.source) != family(&header.source) {
                return Err(self.foreign(&format!("a {} source", header.source), &format!("a {} source", known.source)));
            }
            if differs(&known.server_uuid, &header.server_uuid) {
                return Err(
                    self.foreign(&format!("server {}", header.server_uuid), &format!("server {}", known.server_uuid))
                );
            }
        }
        self.same_server(header.incarnation)?;
        self.header_pending = match &self.tail.source {
            Some(known) => {
                let plain = |header: &StreamHeader| StreamHeader {
                    start: Coordinate(0),
                    incarnation: Incarnation(0),
                    gtid_state: String::new(),
                    ..header.clone()
                };
                plain(known) != plain(&header)
            }
            None => true,
        };
        self.header = Some(header);
        self.held_snapshot = false;
        Ok(())
    }

    /// Refuses another server than the queue's, or one that it followed before.
    pub(super) fn same_server(&self, incarnation: Incarnation) -> Result<()> {
        let known = self.progress.as_ref().map_or(self.tail.incarnation, |progress| progress.incarnation);
        let former = self.tail.former_lives.iter().any(|(life, _)| life.server() == incarnation.server());
        if self.tail.reached.is_some() && incarnation.server() != known.server() && !former {
            return Err(self.foreign(&format!("incarnation {incarnation}"), &format!("incarnation {known}")));
        }
        Ok(())
    }

    /// Also refuses another log under the number of a file that we know.
    pub(super) fn same_life(&self, incarnation: Incarnation, place: Coordinate) -> Result<()> {
        self.same_server(incarnation)?;
        // The last transaction is the surest witness of its file's stamp.
        let witness = self.tail.last.as_ref().filter(|last| last.incarnation.server() == incarnation.server());
        let other_log = witness
            .is_some_and(|last| last.txid.file() == place.file() && last.incarnation.stamp() != incarnation.stamp());
        if other_log {
            return Err(self.foreign(
                &format!("a log file {} of incarnation {incarnation}", place.file()),
                "another log under this number",
            ));
        }
        Ok(())
    }

    pub(super) fn foreign(&self, found: &str, held: &str) -> Error {
        Error::new(Class::Identity, format!("the stream comes from {found}, but the queue holds {held}")).hint(
            format!(
                "use another channel (`--channel NAME`) for another source; if the source was reset on purpose: `rlog-queue \
                 reset {}` and take a new snapshot",
                self.options.address
            ),
        )
    }

    pub(super) fn gap(&self, from: Coordinate, at: u64) -> Error {
        let reached = self.reached().map_or_else(|| "nothing".to_owned(), |reached| reached.to_string());
        Error::new(
            Class::Gap,
            format!(
                "the stream goes on behind {from}, but the queue has reached {reached}: what lies between is missing"
            ),
        )
        .at(at)
        .hint(format!(
            "rlog-extract --after \"$(rlog-queue last {0})\" SOURCE | rlog-queue put {0}",
            self.options.address
        ))
    }

    pub(super) fn is_former(&self, incarnation: Incarnation) -> bool {
        self.tail.reached.is_some() && incarnation.server() != self.tail.incarnation.server()
    }

    /// A repeat must be what is held, as far as it is still held.
    pub(super) fn compare(&mut self, position: &Position) -> Result<()> {
        if self.chunk || self.tail.reached.is_none() {
            return Ok(());
        }
        if self.is_former(position.incarnation) {
            let known =
                self.tail.former_lives.iter().rev().find(|(life, _)| life.server() == position.incarnation.server());
            return match known {
                Some((_, reached)) if position.end <= *reached => Ok(()),
                _ => Err(self.foreign(&format!("{position}, behind a handover"), "what followed that handover")),
            };
        }
        let Some(held) = self.writer.held(position.txid)? else {
            return match self.reached() {
                Some(reached) if position.end > reached => {
                    Err(self.foreign(&position.to_string(), &format!("an end at {reached} in the middle of it")))
                }
                _ => Ok(()),
            };
        };
        if held.digest != position.digest || held.incarnation != position.incarnation || held.end != position.end {
            return Err(self.foreign(&position.to_string(), &held.to_string()));
        }
        Ok(())
    }

    pub(super) fn progress(&mut self, progress: &Progress, at: u64) -> Result<()> {
        if self.is_former(progress.incarnation) {
            return Ok(());
        }
        // At the start of a file that was not read yet, the stamp is still that of the file before.
        match progress.stamped_file() {
            Some(_) => self.same_life(progress.incarnation, progress.to)?,
            None => self.same_server(progress.incarnation)?,
        }
        let reached = self.reached().or(self.header.as_ref().map(|header| header.start)).unwrap_or(progress.from);
        if progress.from > reached {
            return Err(self.gap(progress.from, at));
        }
        if progress.to <= reached {
            return Ok(());
        }
        match &mut self.progress {
            Some(pending) => {
                pending.to = progress.to;
                pending.incarnation = progress.incarnation;
                pending.time_us = pending.time_us.max(progress.time_us);
                if !progress.gtid_state.is_empty() {
                    pending.gtid_state.clone_from(&progress.gtid_state);
                }
            }
            None => self.progress = Some(Progress { from: reached, ..progress.clone() }),
        }
        Ok(())
    }

    pub(super) fn handover(&mut self, handover: &Handover) -> Result<()> {
        let current = self.tail.incarnation;
        let repeated = handover.to.server() == current.server()
            && self.tail.former_lives.iter().any(|(life, _)| life.server() == handover.from.server());
        if repeated {
            return Ok(());
        }
        if self.tail.reached.is_some() && handover.from.server() != current.server() {
            return Err(self.foreign(
                &format!("a handover from incarnation {}", handover.from),
                &format!("incarnation {current}"),
            ));
        }
        self.before_new()?;
        self.store_unit(Kind::Handover, |payload| handover.encode(payload), &Step::Handover(Box::new(handover.clone())))
    }

    pub(super) fn snapshot_begin(&mut self, snapshot: &Snapshot, at: u64) -> Result<()> {
        if let Some(held) = &self.tail.snapshot
            && held.uuid == snapshot.uuid
        {
            self.held_snapshot = held.complete;
            return Ok(());
        }
        if let Some(reached) = self.reached()
            && snapshot.at < reached
        {
            return Err(Error::new(
                Class::Conflict,
                format!("the snapshot is of {}, but the queue has already reached {reached}", snapshot.at),
            )
            .at(at)
            .hint(format!("take a newer snapshot; or begin anew: `rlog-queue reset {}`", self.options.address)));
        }
        self.held_snapshot = false;
        self.before_new()?;
        self.store_unit(
            Kind::SnapshotBegin,
            |payload| snapshot.encode(payload),
            &Step::SnapshotBegin(Box::new(snapshot.clone())),
        )
    }

    pub(super) fn snapshot_end(&mut self, snapshot: &Snapshot, at: u64) -> Result<()> {
        match &self.tail.snapshot {
            Some(held) if held.uuid == snapshot.uuid && held.complete => {
                self.held_snapshot = false;
                Ok(())
            }
            Some(held) if held.uuid == snapshot.uuid => {
                self.before_new()?;
                self.store_unit(
                    Kind::SnapshotEnd,
                    |payload| snapshot.encode(payload),
                    &Step::SnapshotEnd(Box::new(snapshot.clone())),
                )
            }
            _ => Err(Error::damage("the end of a snapshot that was not announced").at(at)),
        }
    }
}
