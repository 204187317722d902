//! Layers of limited size, where the file system offers that.
//!
//! | file system | a limited layer is | its limit is that of |
//! |---|---|---|
//! | btrfs with quotas | a subvolume | the subvolume's quota group |
//! | xfs, ext4 (f2fs) with project quotas | a directory with a project ID of its own | the project |
//!
//! Everything in the layer's directory counts: its content, a work directory beside it, and the kit's few small files.
//! Nobody but the administrator switches quotas on, because they slow down a whole file system.
//!
//! Invariants:
//! - A layer has its limit before it appears, and what fails on the way leaves neither subvolume nor quota group, and
//!   no project with a limit.
//! - A full layer can be sealed, built on and removed: what the kit itself has to write into a sealed layer, or to
//!   seal one, takes the limit away where it is in the way. Nothing else can grow a sealed layer.
//! - What limits a layer is seen in its directory, not remembered, and only what the kit made is ever taken away.
//! - A quota group goes with its layer: the kernel destroys it once the subvolume is freed (Linux 6.11), before
//!   that it is done here. A project's limit is taken away before its files, so no crash leaves one without files.
//!   A project without either is one that nobody has, see [`project`].

mod means;
mod missing;
mod project;

use layerstore_sys::{self as sys, Dir, btrfs};

use crate::error::{Kind, Result};

pub(super) use self::means::Means;
use super::operation::Operation;
use super::record::Record;
use super::root::{Layer, Layout};

impl Layout {
    /// Whether the size of layers can be limited here, now: quotas may be switched on and off at any time.
    ///
    /// # Errors
    /// `Unsupported` with what is missing, and with what to do about it; `System`.
    pub fn may_limit(&self, operation: Operation<'_>) -> Result<()> {
        self.means_of_limits(operation).map(|_| ())
    }

    /// What [`may_limit`](Self::may_limit) says, for a person.
    ///
    /// # Errors
    /// `System`.
    pub fn limits_status(&self, operation: Operation<'_>) -> Result<String> {
        match self.means_of_limits(operation) {
            Ok(means) => {
                let exempt =
                    means.exempts_privileged(self.root()).map_err(|error| operation.system(error))?;
                let except = "; who has CAP_SYS_RESOURCE is held to them by overlay mounts only";
                Ok(format!("yes, by {}{}", means.name(), if exempt { except } else { "" }))
            }
            Err(error) if error.kind() == Kind::Unsupported => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                Ok(format!("no: {}{hint}", error.message()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the numbers of inodes in a layer's directory may be those of other layers' files too, as they are in a
    /// subvolume.
    ///
    /// # Errors
    /// `System`.
    pub fn repeats_inodes(&self, layer: &Layer, operation: Operation<'_>) -> Result<bool> {
        if layer.record.limit.is_none() {
            return Ok(false);
        }
        let device = |dir: &Dir| dir.stat_self().map(|stat| stat.device);
        let differ = device(&layer.dir).and_then(|own| Ok(own != device(self.root())?));
        differ.map_err(|error| operation.on(&layer.record.id).system(error))
    }

    pub(super) fn means_of_limits(&self, operation: Operation<'_>) -> Result<Means> {
        let offered = Means::offered(self.root()).map_err(|error| operation.system(error))?;
        offered.map_err(|missing| missing.of(self, operation))
    }
}

/// Does what writes into a layer that is limited to so many bytes, so that the limit holds whoever does it.
pub(super) fn held<T>(
    root: &Dir,
    limit: Option<u64>,
    operation: Operation<'_>,
    write: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if limit.is_none()
        || !Means::of_root(root).and_then(|means| means.exempts_privileged(root)).unwrap_or(false)
    {
        return write();
    }
    sys::privilege::without_resource(write).map_err(|error| operation.system(error))?
}

/// Limits a layer that has lost its limit, and is one that can have one.
pub(super) fn set_again(dir: &Dir, bytes: u64) -> sys::Result<()> {
    match Means::of_layer(dir)? {
        Some(means) => means.set(dir, bytes),
        None => Err(sys::Error::new("quotactl_fd", dir.show(b""), sys::Errno::SRCH)),
    }
}

/// Writes what belongs to a layer that is sealed, or is being sealed, though the layer may be full.
pub(super) fn beyond<T>(dir: &Dir, attempt: impl Fn() -> sys::Result<T>) -> sys::Result<T> {
    let refused = match attempt() {
        Err(error) if error.is_no_space() => error,
        done => return done,
    };
    match Means::of_layer(dir) {
        Ok(Some(means)) if means.says_full(&refused) => {
            means.lift(dir)?;
            attempt()
        }
        _ => Err(refused),
    }
}

/// Removes a layer's directory with everything in it, and what limits it. `record` is the layer's, where it can be
/// read: most have no limit, and nothing is asked about them.
pub(super) fn free(from: &Dir, name: &[u8], record: Option<&Record>) -> sys::Result<()> {
    let mut freed = None;
    sys::remove::tree_with(from, name, |top, stat| {
        let means = if btrfs::is_subvolume(top, stat).unwrap_or(false) {
            freed = btrfs::subvolume(top).ok();
            Some(Means::QuotaGroups)
        } else if record.is_none_or(|record| record.limit.is_some()) {
            Means::of_layer(top).unwrap_or_default()
        } else {
            None
        };
        // Before Linux 6.11 a power cut may leave the quota group, and the number be given to another subvolume: a
        // limit must not wait for that one. Of a project it would stay for ever. Where quotas are off there is none.
        if let Some(means) = means
            && let Err(error) = means.lift(top)
        {
            tracing::debug!(%error, "could not take away the limit of a layer that is being removed");
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
