//! How the overlay file system writes down whiteouts, opaque and redirected directories (Linux,
//! Documentation/filesystems/overlayfs.rst).
//!
//! Invariant: nothing else in the workspace knows these marks; everyone reads and writes them here.

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{DeviceId, Dir, FileType, Result, Stat};

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

/// What a directory of an overlay layer says about the directories below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// It hides everything that lower layers have here (`opaque=y`).
    pub opaque: bool,
    /// It may hold whiteouts in xattr form (`opaque=x`).
    pub xattr_whiteouts: bool,
    /// Its lower content lies elsewhere: an absolute path from the layer's root, or a name beside it.
    pub redirect: Option<Vec<u8>>,
}

/// Reads the marks of a directory: one call where it has no attributes.
///
/// # Errors
/// Those of `listxattr` and `getxattr`.
pub fn marks(on: On<'_>, namespace: Namespace) -> Result<Marks> {
    let mut found = Marks::default();
    for name in xattr::list(on)? {
        if name == namespace.opaque().as_bytes() {
            let value = xattr::get(on, &name)?;
            found.opaque = value.as_deref() == Some(b"y");
            found.xattr_whiteouts = value.as_deref() == Some(b"x");
        } else if name == namespace.redirect().as_bytes() {
            found.redirect = xattr::get(on, &name)?;
        }
    }
    Ok(found)
}

/// Whether the entry `name` of a directory hides that name in lower layers. `xattr_whiteouts` says whether the
/// directory may hold whiteouts in xattr form.
///
/// # Errors
/// Those of `getxattr`.
pub fn is_whiteout(
    dir: &Dir,
    name: &[u8],
    stat: &Stat,
    xattr_whiteouts: bool,
    namespace: Namespace,
) -> Result<bool> {
    if stat.is_whiteout_device() {
        return Ok(true);
    }
    if !xattr_whiteouts || stat.kind != FileType::Regular || stat.size != 0 {
        return Ok(false);
    }
    Ok(xattr::get(On::Entry(dir, name), namespace.whiteout().as_bytes())?.is_some())
}

/// Puts a whiteout where nothing is. A character device 0/0 needs no privilege (Linux 5.8), and is understood
/// in both namespaces.
///
/// # Errors
/// Those of `mknodat`.
pub fn make_whiteout(dir: &Dir, name: &[u8]) -> Result<()> {
    dir.make_node(name, FileType::CharDevice, 0, DeviceId { major: 0, minor: 0 })
}

/// Makes a directory hide what lower layers have here, and drops a redirect that would bring it back.
///
/// # Errors
/// Those of `setxattr`.
pub fn set_opaque(dir: &Dir, namespace: Namespace) -> Result<()> {
    clear_redirect(dir, namespace)?;
    xattr::set(On::Dir(dir), namespace.opaque().as_bytes(), b"y")
}

/// Drops a directory's redirect, if it has one.
///
/// # Errors
/// Those of `removexattr`.
pub fn clear_redirect(dir: &Dir, namespace: Namespace) -> Result<()> {
    match xattr::remove(On::Dir(dir), namespace.redirect().as_bytes()) {
        Err(error) if !error.is_unsupported() => Err(error),
        _ => Ok(()),
    }
}

/// Whether a file's data lies in a lower layer.
///
/// # Errors
/// Those of `getxattr`.
pub fn is_metacopy(on: On<'_>, namespace: Namespace) -> Result<bool> {
    Ok(xattr::get(on, namespace.metacopy().as_bytes())?.is_some())
}
