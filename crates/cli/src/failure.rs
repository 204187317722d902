//! What a verb fails with, how that is shown, and which exit code it gives.

use std::process::ExitCode;

use crate::args::Format;
use crate::cancel::INTERRUPTED;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store refused or failed: exit 1; a signal stopped it: exit 130.
    Store(layerstore::Error),
    /// Wrong usage or configuration: exit 2.
    Usage(layerstore::Error),
    /// stdout could not be written.
    Output(std::io::Error),
    /// Everything was said already: exit 1.
    Reported,
}

/// What verbs return.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<layerstore::Error> for Failure {
    fn from(error: layerstore::Error) -> Self {
        Self::Store(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// Arguments that clap cannot check.
    pub(crate) fn usage(operation: &'static str, message: impl Into<String>) -> Self {
        Self::Usage(layerstore::Error::new(layerstore::Kind::InvalidInput, operation, "", message))
    }

    /// An argument that cannot be what it stands for.
    pub(crate) fn typed(operation: &'static str, text: &str, message: impl Into<String>) -> Self {
        Self::Usage(layerstore::Error::new(layerstore::Kind::InvalidInput, operation, text, message))
    }

    /// Adds what to do about it, where there is an error to add it to.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.with_hint(hint)),
            Self::Usage(error) => Self::Usage(error.with_hint(hint)),
            other => other,
        }
    }

    /// Prints the failure and says how the program exits.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        match self {
            Self::Store(error) => {
                print(error, format);
                // Nothing but signals cancels what a verb does.
                ExitCode::from(if error.kind() == layerstore::Kind::Cancelled { INTERRUPTED } else { 1 })
            }
            Self::Usage(error) => {
                print(error, format);
                ExitCode::from(2)
            }
            // Whoever read stdout has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(1),
            Self::Output(error) => {
                let kind = layerstore::Kind::System;
                print(&layerstore::Error::new(kind, "write", "stdout", error.to_string()), format);
                ExitCode::from(1)
            }
            Self::Reported => ExitCode::from(1),
        }
    }
}

/// Prints an error on stderr: one line and a hint, or one JSON object.
pub(crate) fn print(error: &layerstore::Error, format: Format) {
    crate::output::complain(&if format != Format::Json {
        let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("layerstore: {}\n{hint}", line(error))
    } else {
        let object = serde_json::json!({
            "error": {
                "kind": error.kind().as_str(),
                "code": error.code(),
                "operation": error.operation(),
                "driver": error.driver(),
                "layer": error.layer(),
                "message": error.to_string(),
                "hint": error.hint(),
            }
        });
        format!("{object}\n")
    });
}

/// An error as one line that no terminal takes for commands: what comes from outside (a path, a tag) may hold
/// control characters. The stable code is in it, also where the library says it only beside the text.
fn line(error: &layerstore::Error) -> String {
    let text = error.to_string();
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    match error.code() {
        Some(code) if !text.contains(code) => format!("{line} ({code})"),
        _ => line,
    }
}
