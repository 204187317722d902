//! What a case is: a name, the clause it checks, what it needs, and a function that runs it.
//!
//! Cases are static tables, one file per topic under [`crate::cases`], collected by hand: nothing registers
//! itself. Invariant: a case never looks at a driver's name; what differs between drivers it asks of the
//! capabilities, through [`Need`].

use std::fmt;
use std::panic::Location;

use crate::bench::Bench;
use crate::need::Need;
use crate::process::ActionBench;

/// One check of one clause.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The clause of README.md that it checks.
    pub clause: &'static str,
    /// A sentence in snake case, unique within its clause.
    pub name: &'static str,
    /// What it asserts, for a person.
    pub title: &'static str,
    /// What must be there, or the case is skipped with the reason.
    pub needs: &'static [Need],
    /// The check.
    pub run: fn(&Bench) -> Outcome,
}

impl Case {
    /// The full name, `l3::an_existing_id_is_refused`: what filters match and reports print.
    pub fn id(&self) -> String {
        format!("{}::{}", self.clause.to_ascii_lowercase(), self.name)
    }
}

/// Something that another process does on behalf of a case.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// Its name, unique.
    pub name: &'static str,
    /// What it does, in the other process.
    pub run: fn(&ActionBench) -> Outcome,
}

/// How a case ends.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// What was expected and what was found.
    pub message: String,
    /// Whether a panic, a killed process or the time limit ended the case, and not an assertion.
    pub crash: bool,
    /// The clause that is broken, where it is another than the case's own (leaks are M12's). In JSON it stands
    /// beside the case's own `clause`, and needs a word of its own.
    #[serde(rename = "breaks", default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<String>,
}

impl Failure {
    /// An assertion that does not hold.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), crash: false, clause: None }
    }

    /// An end without an answer.
    pub fn crash(message: impl Into<String>) -> Self {
        Self { message: message.into(), crash: true, clause: None }
    }

    /// Says what was being done.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any error that a case did not expect; remembers where. (`Failure` itself is no `Error`, or this could not be.)
impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let place = Location::caller();
        let mut message = format!("unexpected error: {error}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        Self::new(format!("{message} ({}:{})", place.file(), place.line()))
    }
}

/// Ends the case as failed unless the condition holds: `ensure!(condition, "what is wrong: {detail}")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::case::Failure::new(format!(
                "{} ({}:{})",
                format_args!($($message)+),
                file!(),
                line!(),
            )));
        }
    };
}

/// Ends the case as failed unless both are equal: `ensure_eq!(found, expected, "what is compared")`.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if found != expected {
                    return Err($crate::case::Failure::new(format!(
                        "{}: expected {expected:?}, found {found:?} ({}:{})",
                        format_args!($($message)+),
                        file!(),
                        line!(),
                    )));
                }
            }
        }
    };
}

/// Ends the case as failed unless the result is an error of this kind; gives the error:
/// `ensure_refused!(driver.create(..), InUse, "creating it again")`.
#[macro_export]
macro_rules! ensure_refused {
    ($result:expr, $kind:ident, $($what:tt)+) => {
        match $result {
            Err(error) if error.kind() == layerstore_driver::Kind::$kind => error,
            Err(error) => {
                return Err($crate::case::Failure::new(format!(
                    "{}: expected {}, found {}: {error} ({}:{})",
                    format_args!($($what)+),
                    layerstore_driver::Kind::$kind,
                    error.kind(),
                    file!(),
                    line!(),
                )));
            }
            Ok(_) => {
                return Err($crate::case::Failure::new(format!(
                    "{}: expected {}, but it succeeded ({}:{})",
                    format_args!($($what)+),
                    layerstore_driver::Kind::$kind,
                    file!(),
                    line!(),
                )));
            }
        }
    };
}
