//! Attributes of overlay layers (Linux, Documentation/filesystems/overlayfs.rst).

/// Where the overlay file system keeps its attributes: `trusted.overlay.*`, or `user.overlay.*` with the mount
/// option `userxattr` (Linux 5.11), which works in user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.`
    Trusted,
    /// `user.overlay.`
    User,
}

impl Namespace {
    /// The prefix of every attribute.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    /// `y`: a directory that hides the lower ones. `x` (Linux 6.7): it may hold whiteouts in xattr form.
    pub const fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// Where the lower content of a renamed directory or a metadata-only file lies: absolute from the layer's
    /// root, or a name beside it.
    pub const fn redirect(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.redirect",
            Self::User => "user.overlay.redirect",
        }
    }

    /// A file whose data lies in a lower layer (Linux 4.19).
    pub const fn metacopy(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.metacopy",
            Self::User => "user.overlay.metacopy",
        }
    }

    /// A whiteout in xattr form on a zero-size regular file (Linux 6.7).
    pub const fn whiteout(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.whiteout",
            Self::User => "user.overlay.whiteout",
        }
    }
}
