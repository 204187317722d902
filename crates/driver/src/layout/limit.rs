//! Layers of limited size, where the file system offers that: on btrfs with quotas.
//!
//! The directory of such a layer is a subvolume, and the limit is that of the subvolume's quota group. Everything in
//! the directory counts: the layer's content, a work directory beside it, and the kit's few small files. Nobody but
//! the administrator switches quotas on, because they slow down a whole file system.
//!
//! Invariants:
//! - A layer has its limit before it appears, and what fails on the way leaves neither subvolume nor quota group.
//! - A full layer can be sealed, built on and removed: what the kit itself has to write into a sealed layer, or to
//!   seal one, takes the limit away where it is in the way. Nothing else can grow a sealed layer.
//! - The quota group goes with the layer: the kernel destroys it once the subvolume is freed (Linux 6.11), before
//!   that it is done here.

use layerstore_sys::btrfs::{self, Quota};
use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::{self as sys, Dir, Errno};

use crate::error::{Kind, Result};

use super::operation::Operation;
use super::root::Layout;

impl Layout {
    /// Whether the size of layers can be limited here, now: quotas may be switched on and off at any time.
    ///
    /// # Errors
    /// `Unsupported` with what is missing, and with what to do about it; `System`.
    pub fn may_limit(&self, operation: Operation<'_>) -> Result<()> {
        let path = self.path().display();
        let (message, hint) = match btrfs::quota(self.root()).map_err(|error| operation.system(error))? {
            Quota::On => return Ok(()),
            Quota::Off => (
                format!(
                    "the size of a layer cannot be limited: quotas are off on the btrfs that holds {path}"
                ),
                format!("switch them on with `btrfs quota enable {path}`"),
            ),
            Quota::Inconsistent => (
                format!(
                    "a limit would not hold: what is used on the btrfs that holds {path} has to be counted again"
                ),
                format!("wait for `btrfs quota rescan -w {path}`"),
            ),
            Quota::NotPermitted => (
                "limiting the size of a layer needs CAP_SYS_ADMIN in the first user namespace".to_owned(),
                "run as root".to_owned(),
            ),
            Quota::OtherFileSystem => {
                let info = FsInfo::of(self.root()).map_err(|error| operation.system(error))?;
                (
                    format!(
                        "the size of a layer can be limited on btrfs with quotas only, and {path} lies on {}",
                        info.name()
                    ),
                    "put the store on btrfs and switch quotas on with `btrfs quota enable`".to_owned(),
                )
            }
        };
        Err(operation.error(Kind::Unsupported, message).with_hint(hint))
    }

    /// What [`may_limit`](Self::may_limit) says, for a person.
    ///
    /// # Errors
    /// `System`.
    pub fn limits_status(&self, operation: Operation<'_>) -> Result<String> {
        match self.may_limit(operation) {
            Ok(()) => Ok("yes, by btrfs quota groups".to_owned()),
            Err(error) if error.kind() == Kind::Unsupported => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                Ok(format!("no: {}{hint}", error.message()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Limits a new layer, whose directory is a subvolume.
pub(super) fn set(dir: &Dir, bytes: u64) -> sys::Result<()> {
    // A subvolume is made with the mode of any directory.
    dir.set_mode_self(0o700)?;
    btrfs::limit(dir, Some(bytes))
}

/// Writes what belongs to a layer that is sealed, or is being sealed, though the layer may be full.
pub(super) fn beyond<T>(dir: &Dir, attempt: impl Fn() -> sys::Result<T>) -> sys::Result<T> {
    let is_limited = || dir.stat_self().and_then(|stat| btrfs::is_subvolume(dir, &stat)).unwrap_or(false);
    match attempt() {
        Err(error) if error.errno() == Errno::DQUOT && is_limited() => {
            btrfs::limit(dir, None)?;
            attempt()
        }
        done => done,
    }
}

/// Removes a layer's directory with everything in it, and its quota group where it has one.
pub(super) fn free(from: &Dir, name: &[u8]) -> sys::Result<()> {
    let mut freed = None;
    sys::remove::tree_with(from, name, |top, stat| {
        if btrfs::is_subvolume(top, stat).unwrap_or(false) {
            freed = btrfs::subvolume(top).ok();
            // Before Linux 6.11 a power cut may leave the quota group, and the number be given to another
            // subvolume: a limit must not wait for that one. Where quotas are off there is none.
            if let Err(error) = btrfs::limit(top, None) {
                tracing::debug!(%error, "could not take away the limit of a layer that is being removed");
            }
        }
    })?;
    if let Some(subvolume) = freed
        && let Err(error) = btrfs::destroy_qgroup(from, subvolume)
    {
        // EBUSY: the kernel does it, once it has freed the subvolume.
        tracing::debug!(%error, subvolume, "left the quota group of a removed layer to the kernel");
    }
    Ok(())
}
