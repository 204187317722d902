//! The error of every image operation: what was tried, on what, why it failed, what to do.
//!
//! Invariant: a document or blob that is refused carries a stable [`Code`], also when the refusal comes out of a
//! byte stream ([`Error::into_io`] and [`Error::from_io`] keep it on the way through [`std::io::Error`]).

use std::fmt;
use std::io;

use layerstore_changeset as changeset;
use layerstore_changeset::Code;
use layerstore_sys as sys;

/// Result of image operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; callers decide by this and never by the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The image, tag, platform, file or blob does not exist.
    NotFound,
    /// The reference, the instruction, the document or the blob is refused.
    InvalidInput,
    /// A transport, format or media type that this program does not handle; the message names it.
    Unsupported,
    /// A limit on documents or archives is exceeded.
    LimitExceeded,
    /// No space or quota left.
    NoSpace,
    /// The caller asked to stop.
    Cancelled,
    /// Any other system call that failed.
    System,
}

/// A failed image operation. Shown as one line, `OPERATION: WHAT: WHY`, without the hint.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    operation: &'static str,
    subject: String,
    reason: String,
    hint: Option<String>,
    code: Option<Code>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `operation` on `subject`; `reason` says why, in lower case.
    pub fn new(
        kind: Kind,
        operation: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            subject: subject.into(),
            reason: reason.into(),
            hint: None,
            code: None,
            source: None,
        }))
    }

    /// Input that is refused with a stable code.
    pub fn refused(
        code: Code,
        operation: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let kind = if code == Code::LimitExceeded { Kind::LimitExceeded } else { Kind::InvalidInput };
        let mut error = Self::new(kind, operation, subject, reason);
        error.0.code = Some(code);
        error
    }

    /// A system call that failed during `operation`; the kind follows from the errno. The error of the call
    /// names the path itself, so that `subject` is what a person asked for.
    pub fn system(operation: &'static str, subject: impl Into<String>, error: sys::Error) -> Self {
        let kind = if error.is_no_space() {
            Kind::NoSpace
        } else if error.is_not_found() {
            Kind::NotFound
        } else {
            Kind::System
        };
        Self::new(kind, operation, subject, error.to_string()).with_source(error)
    }

    /// A changeset operation that failed; keeps its code.
    pub fn changeset(operation: &'static str, subject: impl Into<String>, error: changeset::Error) -> Self {
        use changeset::Error as E;
        let subject = subject.into();
        match error {
            E::System(error) => Self::system(operation, subject, error),
            E::Cancelled => Self::cancelled(operation, subject),
            E::Refused { code, ref reason, .. } => {
                let mut new = Self::refused(code, operation, subject, reason.clone());
                new.0.source = Some(Box::new(error));
                new
            }
            E::Unrepresentable { .. } => {
                Self::new(Kind::InvalidInput, operation, subject, error.to_string()).with_source(error)
            }
            error => Self::new(Kind::System, operation, subject, error.to_string()).with_source(error),
        }
    }

    /// The caller asked to stop.
    pub fn cancelled(operation: &'static str, subject: impl Into<String>) -> Self {
        Self::new(Kind::Cancelled, operation, subject, "cancelled")
    }

    /// What came out of a byte stream: an [`Error`] or a [`changeset::Error`] that travelled inside is taken out
    /// again, anything else is an I/O failure.
    pub fn from_io(operation: &'static str, subject: impl Into<String>, error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return own,
            Err(other) => other,
        };
        let error = match error.downcast::<changeset::Error>() {
            Ok(refused) => return Self::changeset(operation, subject, refused),
            Err(other) => other,
        };
        let error = match error.downcast::<sys::Error>() {
            Ok(failed) => return Self::system(operation, subject, failed),
            Err(other) => other,
        };
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::refused(Code::Truncated, operation, subject, "ends too early").with_source(error)
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(Kind::NoSpace, operation, subject, error.to_string()).with_source(error)
            }
            _ => Self::new(Kind::System, operation, subject, error.to_string()).with_source(error),
        }
    }

    /// Packs the error so that it can come out of a [`std::io::Read`]. What is refused travels as a
    /// [`changeset::Error`], so that those who know only changesets see the code.
    pub fn into_io(self) -> io::Error {
        match self.0.code {
            Some(code) => {
                io::Error::other(changeset::Error::refused(code, &self.0.subject, self.0.reason.clone()))
            }
            None => io::Error::other(self),
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What was tried.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What it was tried on.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Why it failed.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The stable code, where input was refused.
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, subject, reason, .. } = &*self.0;
        write!(f, "{operation}: {subject}: {reason}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
