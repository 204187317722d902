//! The error of every store operation: what was tried, on what, why it failed, what to do.
//!
//! Invariant: callers decide by [`Error::kind`] (the words of [`Kind`]) and by [`Error::code`] (the stable words
//! of refused input), never by the message.

use std::fmt;

use layerstore_changeset as changeset;
use layerstore_driver as driver;
use layerstore_image as image;
use layerstore_sys as sys;

pub use layerstore_driver::Kind;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// Result of store operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a person can do about a database that is damaged or gone.
pub(crate) const MADE_AGAIN: &str =
    "`layerstore check --repair` makes the database again from the records beside the data";

/// A failed store operation. Shown as one line, `OPERATION: WHAT: WHY`, without the hint.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    code: Option<String>,
    operation: &'static str,
    driver: Option<String>,
    layer: Option<String>,
    what: String,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `operation` on the object `what` (may be empty); `message` says why, in lower case.
    pub fn new(
        kind: Kind,
        operation: &'static str,
        what: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            code: None,
            operation,
            driver: None,
            layer: None,
            what: what.into(),
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names another operation: the one that a person asked for, of which this one was a step.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Gives the stable code of refused input.
    #[must_use]
    pub fn with_code(mut self, code: changeset::Code) -> Self {
        self.0.code = Some(code.as_str().to_owned());
        self
    }

    /// Names the layer.
    #[must_use]
    pub fn with_layer(mut self, layer: impl fmt::Display) -> Self {
        self.0.layer = Some(layer.to_string());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable code, where input was refused.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// What was tried: `pull`, `layer create` …
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The driver that failed, if it was one.
    pub fn driver(&self) -> Option<&str> {
        self.0.driver.as_deref()
    }

    /// The layer it was about.
    pub fn layer(&self) -> Option<&str> {
        self.0.layer.as_deref()
    }

    /// The object it was about, as a person called it; may be empty.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Why it failed.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// A failed system call.
    pub(crate) fn system(operation: &'static str, what: impl Into<String>, error: sys::Error) -> Self {
        let kind = if error.is_no_space() { Kind::NoSpace } else { Kind::System };
        Self::new(kind, operation, what, error.to_string()).with_source(error)
    }

    /// A failed driver operation, in the course of `operation` on `what`.
    pub(crate) fn driver_failed(
        operation: &'static str,
        what: impl Into<String>,
        error: driver::Error,
    ) -> Self {
        let mut new = Self::new(error.kind(), operation, what, error.message());
        new.0.code = error.code().map(|code| code.as_str().to_owned());
        new.0.driver = error.driver().map(ToOwned::to_owned);
        new.0.layer = error.layer().map(ToString::to_string);
        new.0.hint = error.hint().map(ToOwned::to_owned);
        new.with_source(error)
    }

    /// A changeset that could not be read, written or applied, in the course of `operation` on `what`.
    pub(crate) fn changeset(
        operation: &'static str,
        what: impl Into<String>,
        error: changeset::Error,
    ) -> Self {
        let error = driver::Error::changeset(operation, error);
        let mut new = Self::new(error.kind(), operation, what, error.message());
        new.0.code = error.code().map(|code| code.as_str().to_owned());
        new.with_source(error)
    }

    /// An image that could not be read or written, in the course of `operation` on `what`.
    pub(crate) fn image(operation: &'static str, what: impl Into<String>, error: image::Error) -> Self {
        let kind = match error.kind() {
            image::Kind::NotFound => Kind::NotFound,
            image::Kind::InvalidInput => Kind::InvalidInput,
            image::Kind::Unsupported => Kind::Unsupported,
            image::Kind::LimitExceeded => Kind::LimitExceeded,
            image::Kind::NoSpace => Kind::NoSpace,
            image::Kind::Cancelled => Kind::Cancelled,
            _ => Kind::System,
        };
        let mut new = Self::new(kind, operation, what, error.reason());
        new.0.code = error.code().map(|code| code.as_str().to_owned());
        new.0.hint = error.hint().map(ToOwned::to_owned);
        new.with_source(error)
    }

    /// A failure of the metadata database.
    pub(crate) fn database(operation: &'static str, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as E;
        let mut message = error.to_string();
        let (kind, hint) = match error.sqlite_error_code() {
            Some(E::DatabaseCorrupt | E::NotADatabase) => (Kind::Corrupt, Some(MADE_AGAIN)),
            // The program reads its own columns only, so it is the value that is wrong.
            None if is_unreadable(&error) => {
                message = format!("a row holds a value that cannot be read: {error}");
                (Kind::Corrupt, Some(MADE_AGAIN))
            }
            Some(E::DiskFull) => (Kind::NoSpace, None),
            // The index of the WAL could not grow.
            _ if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) => {
                (Kind::NoSpace, None)
            }
            Some(E::DatabaseBusy | E::DatabaseLocked) => {
                (Kind::InUse, Some("another program holds the database; try again"))
            }
            _ => (Kind::System, None),
        };
        let new = Self::new(kind, operation, "layerstore.db", message).with_source(error);
        match hint {
            Some(hint) => new.with_hint(hint),
            None => new,
        }
    }
}

/// Whether a column holds what no program of ours wrote there.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::Utf8Error(..)
            | E::InvalidColumnType(..)
            | E::InvalidQuery
    )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, what, message, .. } = &*self.0;
        if what.is_empty() {
            write!(f, "{operation}: {message}")
        } else {
            write!(f, "{operation}: {what}: {message}")
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Names the operation and the object in the errors of the crates below.
pub(crate) trait Explain<T> {
    /// Turns the error into one of the store's.
    fn explain(self, operation: &'static str, what: impl fmt::Display) -> Result<T>;
}

/// As [`Explain`], of calls on what is the store's own: what else lies there is damage.
pub(crate) trait ExplainOwn<T> {
    /// Turns the error into one of the store's.
    fn explain_own(self, operation: &'static str, what: impl fmt::Display) -> Result<T>;
}

impl<T> ExplainOwn<T> for sys::Result<T> {
    fn explain_own(self, operation: &'static str, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| driver::Error::system(operation, error)).explain(operation, what)
    }
}

impl<T> Explain<T> for sys::Result<T> {
    fn explain(self, operation: &'static str, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::system(operation, what.to_string(), error))
    }
}

impl<T> Explain<T> for driver::Result<T> {
    fn explain(self, operation: &'static str, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::driver_failed(operation, what.to_string(), error))
    }
}

impl<T> Explain<T> for changeset::Result<T> {
    fn explain(self, operation: &'static str, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::changeset(operation, what.to_string(), error))
    }
}

impl<T> Explain<T> for image::Result<T> {
    fn explain(self, operation: &'static str, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::image(operation, what.to_string(), error))
    }
}

impl<T> Explain<T> for rusqlite::Result<T> {
    fn explain(self, operation: &'static str, _what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::database(operation, error))
    }
}
