//! What can go wrong with a changeset, and the stable codes of input that is refused.

use std::fmt;

use layerstore_sys as sys;

/// Result of changeset operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error while reading, writing, applying or comparing changesets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is refused. Nothing of it may stay behind.
    #[error("{code}: {name}: {reason}{}", At(*.offset))]
    Refused {
        /// The stable code.
        code: Code,
        /// The entry's name, escaped; empty where there is none.
        name: String,
        /// What is wrong with it, for a person.
        reason: String,
        /// Where in the (uncompressed) stream the entry begins, in bytes, where that is known.
        offset: Option<u64>,
    },
    /// What is to be written cannot be said in this encoding.
    #[error("{name} cannot be written as {encoding}: {reason}")]
    Unrepresentable {
        /// The entry's name, escaped.
        name: String,
        /// The encoding.
        encoding: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// Reading the input or writing the output stream failed.
    #[error("{what}: {source}")]
    Stream {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Input that is refused, before its place in the stream is known.
    pub fn refused(code: Code, name: impl AsRef<[u8]>, reason: impl Into<String>) -> Self {
        Self::Refused { code, name: shown(name.as_ref()), reason: reason.into(), offset: None }
    }

    /// A failure of a byte stream. An error of this type that travelled inside (a blob whose digest is wrong, say)
    /// is taken out again, so that its code stays.
    pub fn stream(what: &'static str, source: std::io::Error) -> Self {
        source.downcast().unwrap_or_else(|source| Self::Stream { what, source })
    }

    /// This error inside a [`std::io::Error`], for a refusal that has to travel through [`std::io::Read`].
    pub fn into_io(self) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, self)
    }

    /// Adds the place in the stream, where there is one, to a refusal that has none yet.
    #[must_use]
    pub fn at(mut self, position: impl Into<Option<u64>>) -> Self {
        if let Self::Refused { offset: offset @ None, .. } = &mut self {
            *offset = position.into();
        }
        self
    }

    /// Names the entry of the layer in a refusal that says what the system made of its attributes, and so knows only
    /// the place on disk.
    #[must_use]
    pub(crate) fn of_entry(mut self, entry: &[u8]) -> Self {
        let by_system = [Code::BadXattr, Code::XattrTooBig, Code::IdUnmapped];
        if let Self::Refused { code, name, .. } = &mut self
            && by_system.contains(code)
        {
            *name = shown(entry);
        }
        self
    }

    /// The stable code, where input was refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A name, escaped; of one that is too long for a message the beginning and the end, with its length.
fn shown(name: &[u8]) -> String {
    /// Most bytes of a name that are shown whole.
    const MOST: usize = 1024;
    match (name.get(..MOST / 2), name.get(name.len().saturating_sub(MOST / 8)..)) {
        (Some(start), Some(end)) if name.len() > MOST => {
            format!("{}… ({} bytes) …{}", start.escape_ascii(), name.len(), end.escape_ascii())
        }
        _ => name.escape_ascii().to_string(),
    }
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " (at byte {offset} of the archive)"),
            None => Ok(()),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Stable words for why input was refused; scripts and other drivers rely on the spelling.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word, as shown and matched.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// A name climbs out of the root.
    PathEscape = "PATH_ESCAPE",
    /// A symbolic link on the way to an entry climbs out of the root.
    SymlinkEscape = "SYMLINK_ESCAPE",
    /// A hard link's target climbs out of the root.
    LinkEscape = "LINK_ESCAPE",
    /// A hard link's target is not there.
    LinkTargetMissing = "LINK_TARGET_MISSING",
    /// A hard link to a directory.
    LinkToDir = "LINK_TO_DIR",
    /// A hard link to itself.
    LinkSelf = "LINK_SELF",
    /// The file system's limit of links to one file is reached.
    TooManyLinks = "EMLINK",
    /// The root would become something else than a directory.
    RootTypeChange = "ROOT_TYPE_CHANGE",
    /// An entry without a name.
    EmptyName = "EMPTY_NAME",
    /// A NUL byte in a name.
    NulInName = "NUL_IN_NAME",
    /// A component over 255 bytes.
    NameTooLong = "NAME_TOO_LONG",
    /// A path over 4,096 bytes.
    PathTooLong = "PATH_TOO_LONG",
    /// More than 1,024 components.
    TooDeep = "TOO_DEEP",
    /// A symbolic link without a target.
    EmptyLink = "EMPTY_LINK",
    /// A link target over 4,095 bytes.
    LinkTooLong = "LINK_TOO_LONG",
    /// Symbolic links that lead nowhere.
    SymlinkLoop = "ELOOP",
    /// A parent is not a directory.
    NotDir = "NOT_DIR",
    /// Two names that the file system folds into one. Not given yet: a directory that folds case (ext4's `casefold`)
    /// lets the later entry replace the earlier one.
    CaseCollision = "CASE_COLLISION",
    /// A whiteout without a valid name, or an opaque mark of a wrong kind.
    BadWhiteout = "BAD_WHITEOUT",
    /// A name that an encoding keeps for itself.
    ReservedName = "RESERVED_NAME",
    /// A character device 0/0, which overlay file systems read as a whiteout.
    DevWhiteout = "DEV_WHITEOUT",
    /// A device that must not be created.
    DevForbidden = "DEV_FORBIDDEN",
    /// A number that cannot be read or does not fit.
    BadNumeric = "BAD_NUMERIC",
    /// A user or group id that does not fit.
    BadId = "BAD_ID",
    /// An id that the user namespace does not map.
    IdUnmapped = "ID_UNMAPPED",
    /// A reserved extended attribute.
    XattrReserved = "XATTR_RESERVED",
    /// An extended attribute over its limits.
    XattrTooBig = "XATTR_TOO_BIG",
    /// An extended attribute that the kernel takes for malformed.
    BadXattr = "BAD_XATTR",
    /// A header whose checksum or form is wrong.
    BadHeader = "BAD_HEADER",
    /// A malformed, dangling, stacked or contradictory extension header.
    BadExtension = "BAD_EXTENSION",
    /// An entry type that is not known.
    BadType = "BAD_TYPE",
    /// A sparse map that contradicts itself.
    BadSparse = "BAD_SPARSE",
    /// The archive ends in the middle.
    Truncated = "TRUNCATED",
    /// Bytes follow the end where none may.
    TrailingData = "TRAILING_DATA",
    /// The compressed stream is damaged, or not of a known kind.
    BadCompression = "BAD_COMPRESSION",
    /// A configured limit is exceeded.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// A digest is not what was promised.
    DigestMismatch = "DIGEST_MISMATCH",
    /// A size is not what was promised.
    SizeMismatch = "SIZE_MISMATCH",
    /// A digest, reference or document that cannot be read.
    BadDocument = "BAD_DOCUMENT",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
