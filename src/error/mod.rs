//! Error classes and their exit statuses: the one place where an error becomes a number.
//!
//! An [`Error`] says *what* went wrong, *where* (file and byte, when it was found in input), and *what to do next*
//! (the hint: an exact command where there is one). Its [`Class`] answers what a supervisor asks: try again, or
//! wake someone? Only [`Class::TryAgain`] (75) is worth repeating by itself.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why a tool stopped. The discriminants are the exit statuses of all five tools (EXIT STATUS in every manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Class {
    /// Nothing to report: `last` on an empty queue, a selection without a hit.
    Nothing = 1,
    /// Wrong usage of the command line.
    Usage = 64,
    /// Damaged or invalid data; the message has the offset.
    Damage = 65,
    /// No such input.
    NoInput = 66,
    /// The other side (a server, an engine, a feature) refuses or does not exist.
    Unavailable = 69,
    /// A bug in rlog.
    Bug = 70,
    /// Output cannot be created.
    CannotCreate = 73,
    /// I/O error.
    Io = 74,
    /// Try again later: locked, server away, disk full, downstream gone. The only class that cron retries.
    TryAgain = 75,
    /// Format version not supported.
    Version = 76,
    /// Not permitted.
    Permission = 77,
    /// Configuration, including options that contradict the state.
    Config = 78,
    /// Conflict: a person must look.
    Conflict = 80,
    /// Gap: the source no longer holds what is needed.
    Gap = 81,
    /// Torn: the log ends inside a transaction. Everything before it was emitted.
    Torn = 82,
    /// Identity: not the source or target that this state belongs to.
    Identity = 83,
}

impl Class {
    /// Every class with the words of the EXIT STATUS sections, in numeric order.
    pub const ALL: &'static [(Class, &'static str)] = &[
        (Class::Nothing, "nothing to report (an empty queue, a selection without a hit)"),
        (Class::Usage, "wrong usage"),
        (Class::Damage, "damaged or invalid data (the message has the offset)"),
        (Class::NoInput, "no such input"),
        (Class::Unavailable, "a service refuses, or a feature is not there"),
        (Class::Bug, "a bug in rlog"),
        (Class::CannotCreate, "cannot create output"),
        (Class::Io, "I/O error"),
        (Class::TryAgain, "try again later (locked, server away, disk full, downstream gone)"),
        (Class::Version, "format version not supported"),
        (Class::Permission, "not permitted"),
        (Class::Config, "configuration"),
        (Class::Conflict, "conflict, a person must look"),
        (Class::Gap, "gap: the source no longer holds what is needed"),
        (Class::Torn, "torn: the log ends inside a transaction; everything before it was emitted"),
        (Class::Identity, "identity: not the source or target that this state belongs to"),
    ];

    /// The exit status of this class.
    pub const fn exit_status(self) -> u8 {
        self as u8
    }

    /// The class of an exit status, as an `abort` frame carries it. Unknown numbers are `None`.
    pub fn from_exit_status(status: u8) -> Option<Class> {
        Class::ALL.iter().map(|(class, _)| *class).find(|class| class.exit_status() == status)
    }
}

/// An error on its way to the person or program that started the tool.
#[derive(Debug)]
pub struct Error {
    class: Class,
    what: String,
    place: Option<Place>,
    hint: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// Where in the input something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File name or description of the stream.
    pub name: String,
    /// Offset in bytes from its start, when known.
    pub at: Option<u64>,
}

/// The result type of everything fallible in rlog that is not a tight loop.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `class`; `what` is one sentence without a full stop at its end.
    pub fn new(class: Class, what: impl Into<String>) -> Error {
        Error { class, what: what.into(), place: None, hint: None, cause: None }
    }

    /// Wrong usage (64).
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Class::Usage, what)
    }

    /// Damaged or invalid data (65).
    pub fn damage(what: impl Into<String>) -> Error {
        Error::new(Class::Damage, what)
    }

    /// Configuration (78).
    pub fn config(what: impl Into<String>) -> Error {
        Error::new(Class::Config, what)
    }

    /// An I/O error on the file or stream `name`; the class follows from its kind.
    pub fn io(name: impl Into<String>, error: io::Error) -> Error {
        let class = match error.kind() {
            io::ErrorKind::NotFound => Class::NoInput,
            io::ErrorKind::PermissionDenied => Class::Permission,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Class::TryAgain,
            _ => Class::Io,
        };
        Error::new(class, error.to_string()).in_file(name).caused_by(error)
    }

    /// Names the file or stream, unless a more precise place is already known.
    pub fn in_file(mut self, name: impl Into<String>) -> Error {
        match &mut self.place {
            Some(place) if place.name.is_empty() => place.name = name.into(),
            Some(_) => {}
            None => self.place = Some(Place { name: name.into(), at: None }),
        }
        self
    }

    /// Names the byte offset; the file may be named later, further out, by [`Error::in_file`].
    pub fn at(mut self, at: u64) -> Error {
        match &mut self.place {
            Some(place) => {
                place.at.get_or_insert(at);
            }
            None => self.place = Some(Place { name: String::new(), at: Some(at) }),
        }
        self
    }

    /// What to do next; an exact command where there is one.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Keeps the error that caused this one.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.cause = Some(cause.into());
        self
    }

    /// Gives the error another class, when an outer layer knows better.
    pub fn with_class(mut self, class: Class) -> Error {
        self.class = class;
        self
    }

    /// Why it happened.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The sentence without place and hint.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Where it happened.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether a closed pipe is at the root of this error.
    pub fn is_broken_pipe(&self) -> bool {
        let mut cause: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            if !place.name.is_empty() {
                write!(f, "{}: ", place.name)?;
            }
            if let Some(at) = place.at {
                write!(f, "byte {at}: ")?;
            }
        }
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_words_and_comes_back_from_its_status() {
        for (class, words) in Class::ALL {
            assert!(!words.is_empty());
            assert_eq!(Class::from_exit_status(class.exit_status()), Some(*class));
        }
        assert!(Class::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0), "in numeric order");
        assert_eq!(Class::from_exit_status(0), None);
    }

    #[test]
    fn an_error_says_what_and_where() {
        let error = Error::damage("checksum is wrong").at(90_422).in_file("a.rlog");
        assert_eq!(error.to_string(), "a.rlog: byte 90422: checksum is wrong");
        assert_eq!(error.class().exit_status(), 65);
    }

    #[test]
    fn a_closed_pipe_is_found_along_the_chain() {
        let error = Error::io("standard output", io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.is_broken_pipe());
        assert_eq!(error.class(), Class::TryAgain);
    }
}
