//! The error of every driver operation: what was tried, on what, why it failed, what to do.

use std::fmt;

use layerstore_changeset as changeset;
use layerstore_sys as sys;

use crate::id::LayerId;

/// Result of driver operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; callers decide by this and never by the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The layer, parent or driver does not exist.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// It is mounted, has children, or somebody else works on it.
    InUse,
    /// The arguments or the changeset are refused.
    InvalidInput,
    /// This driver, kernel, file system or privilege cannot; the message names which is missing.
    Unsupported,
    /// A limit of the kernel or of the configuration: chain depth, size of mount options, entries.
    LimitExceeded,
    /// No space or quota left.
    NoSpace,
    /// The caller asked to stop.
    Cancelled,
    /// What lies on disk is not what was recorded.
    Corrupt,
    /// Any other system call that failed.
    System,
}

impl Kind {
    /// The stable word that `--format json` prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::InUse => "InUse",
            Self::InvalidInput => "InvalidInput",
            Self::Unsupported => "Unsupported",
            Self::LimitExceeded => "LimitExceeded",
            Self::NoSpace => "NoSpace",
            Self::Cancelled => "Cancelled",
            Self::Corrupt => "Corrupt",
            Self::System => "System",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed driver operation. Shown as one line, `OPERATION: WHAT: WHY`, without the hint.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    operation: &'static str,
    driver: Option<String>,
    layer: Option<LayerId>,
    message: String,
    hint: Option<String>,
    code: Option<changeset::Code>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `operation`; `message` says why, in lower case, naming the object.
    pub fn new(kind: Kind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            driver: None,
            layer: None,
            message: message.into(),
            hint: None,
            code: None,
            source: None,
        }))
    }

    /// A system call that failed during `operation`; the kind follows from the errno.
    pub fn system(operation: &'static str, error: sys::Error) -> Self {
        if error.is_in_the_way() {
            // Drivers look only where nobody else has anything.
            let message =
                format!("something else lies in the place of a file or directory of the store: {error}");
            return Self::new(Kind::Corrupt, operation, message).with_hint(
                "put it aside, and back what was there if you have it; `layerstore check --repair` makes again what \
                 can be made",
            ).with_source(error);
        }
        let kind = if error.is_no_space() { Kind::NoSpace } else { Kind::System };
        Self::new(kind, operation, error.to_string()).with_source(error)
    }

    /// A changeset that failed during `operation`; keeps the stable code of refused input.
    pub fn changeset(operation: &'static str, error: changeset::Error) -> Self {
        use changeset::Error as E;
        let kind = match &error {
            E::Refused { code: changeset::Code::LimitExceeded, .. } => Kind::LimitExceeded,
            E::Refused { .. } | E::Unrepresentable { .. } => Kind::InvalidInput,
            E::System(error) if error.is_no_space() => Kind::NoSpace,
            E::Cancelled => Kind::Cancelled,
            _ => Kind::System,
        };
        let code = error.code();
        let mut new = Self::new(kind, operation, error.to_string()).with_source(error);
        new.0.code = code;
        new
    }

    /// Names the driver.
    #[must_use]
    pub fn with_driver(mut self, driver: impl Into<String>) -> Self {
        self.0.driver = Some(driver.into());
        self
    }

    /// Names the layer.
    #[must_use]
    pub fn with_layer(mut self, layer: &LayerId) -> Self {
        self.0.layer = Some(layer.clone());
        self
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

    /// The driver that failed.
    pub fn driver(&self) -> Option<&str> {
        self.0.driver.as_deref()
    }

    /// The layer it was about.
    pub fn layer(&self) -> Option<&LayerId> {
        self.0.layer.as_ref()
    }

    /// Why it failed.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The stable code, where input was refused.
    pub fn code(&self) -> Option<changeset::Code> {
        self.0.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, driver, layer, message, .. } = &*self.0;
        f.write_str(operation)?;
        match (layer, driver) {
            (Some(layer), Some(driver)) => write!(f, ": layer {layer} ({driver})")?,
            (Some(layer), None) => write!(f, ": layer {layer}")?,
            (None, Some(driver)) => write!(f, ": {driver}")?,
            (None, None) => {}
        }
        write!(f, ": {message}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
