//! What went wrong, in the words of `apply`: servers' errors, conflicts that we found, and the fence.

use super::batch::Refused;
use super::plan::Plan;
use crate::db::mysql::connect::{Fault, TAKEN, fault_of, server_error};
use crate::error::{Class, Error};
use crate::target::{Cause, ConflictClass, Failure};

/// What a server's error means for `apply`.
pub(super) fn failure(error: mysql::Error, doing: &str) -> Failure {
    let code = match &error {
        mysql::Error::MySqlError(error) => Some(u32::from(error.code)),
        _ => None,
    };
    let cause = match fault_of(&error) {
        Fault::Claim if code == Some(u32::from(TAKEN)) => {
            return fenced("another rlog-apply has taken this channel over");
        }
        Fault::Claim => return fenced("another rlog-apply has applied from this position already"),
        Fault::Lost => Cause::Lost,
        Fault::Retry => Cause::Retry,
        Fault::Duplicate => Cause::Conflict(ConflictClass::DuplicateKey),
        Fault::NotFound => Cause::Conflict(ConflictClass::RowNotFound),
        Fault::ForeignKey => Cause::Conflict(ConflictClass::ForeignKey),
        Fault::Constraint => Cause::Conflict(ConflictClass::Constraint),
        Fault::Type | Fault::NoTable | Fault::Exists => Cause::Conflict(ConflictClass::Type),
        Fault::Permission | Fault::Full | Fault::Other => Cause::Other,
    };
    let failure = Failure::new(cause, server_error(error, doing));
    match code {
        Some(code) => failure.with_code(code),
        None => failure,
    }
}

/// A conflict that we found.
pub(super) fn conflict(class: ConflictClass, plan: &Plan, what: &str) -> Failure {
    let code = match class {
        ConflictClass::DuplicateKey => 1062,
        ConflictClass::RowNotFound | ConflictClass::RowDiffers => 1032,
        ConflictClass::ForeignKey => 1452,
        ConflictClass::Constraint => 4025,
        ConflictClass::Type => 1366,
    };
    let error = Error::new(Class::Conflict, format!("{}: {what}", plan.name));
    Failure::new(Cause::Conflict(class), error).with_code(code)
}

pub(super) fn refusal(refused: Refused, plan: &Plan) -> Failure {
    match refused {
        Refused::Conflict(class) => conflict(class, plan, "the changes of a row contradict each other"),
        Refused::Misfit => conflict(ConflictClass::Type, plan, "a value does not fit its column"),
        Refused::NoKey => Failure::new(
            Cause::Conflict(ConflictClass::Type),
            Error::new(
                Class::Conflict,
                format!(
                    "a row of {} cannot be told from others: its image has neither a key of the target nor all columns",
                    plan.name
                ),
            )
            .hint("on the source: SET GLOBAL binlog_row_image=FULL; on the target: give the table a primary key"),
        ),
    }
}

pub(super) fn fenced(what: &str) -> Failure {
    Failure::new(Cause::Fenced, Error::new(Class::TryAgain, what).hint("let only one rlog-apply run the channel"))
}
