//! By what a file system limits the size of a directory tree: the one place that knows how they differ.

use layerstore_sys::{self as sys, Dir, Errno, btrfs};

use super::missing::Missing;
use super::project;

/// By what a file system limits a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layout) enum Means {
    /// The layer's directory is a subvolume of btrfs, and its quota group is limited.
    QuotaGroups,
    /// The layer's directory belongs to a project of its own, which is limited.
    Projects,
}

impl Means {
    /// By what the file system of a root would limit.
    pub(super) fn of_root(root: &Dir) -> sys::Result<Self> {
        Ok(if btrfs::is_btrfs(root)? { Self::QuotaGroups } else { Self::Projects })
    }

    /// By what layers of this root can be limited now, or why not.
    pub(super) fn offered(root: &Dir) -> sys::Result<Result<Self, Missing>> {
        let means = Self::of_root(root)?;
        let missing = match means {
            Self::QuotaGroups => Missing::of_groups(btrfs::quota(root)?),
            Self::Projects => match Missing::of_projects(sys::project::quota(root)?) {
                None => project::of_tree(root)?.map(Missing::OtherProject),
                missing => missing,
            },
        };
        Ok(missing.map_or(Ok(means), Err))
    }

    /// By what a layer is limited, or was: one whose directory was made without a limit is not.
    pub(super) fn of_layer(dir: &Dir) -> sys::Result<Option<Self>> {
        if btrfs::is_subvolume(dir, &dir.stat_self()?)? {
            return Ok(Some(Self::QuotaGroups));
        }
        Ok(project::own(dir)?.map(|_| Self::Projects))
    }

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::QuotaGroups => "btrfs quota groups",
            Self::Projects => "project quotas",
        }
    }

    /// Whether processes with CAP_SYS_RESOURCE may write beyond a limit.
    pub(super) fn exempts_privileged(self, root: &Dir) -> sys::Result<bool> {
        match self {
            Self::QuotaGroups => Ok(false),
            Self::Projects => sys::project::exempts_privileged(root),
        }
    }

    /// Makes the directory of a layer that is to be limited.
    pub(in crate::layout) fn make_dir(self, staging: &Dir, name: &[u8]) -> sys::Result<()> {
        match self {
            Self::QuotaGroups => btrfs::make_subvolume(staging, name),
            Self::Projects => staging.make_dir(name, 0o700),
        }
    }

    /// Limits a layer: a new one, in whose directory nothing is yet, or one that was limited before.
    pub(in crate::layout) fn set(self, dir: &Dir, bytes: u64) -> sys::Result<()> {
        match self {
            Self::QuotaGroups => {
                // A subvolume is made with the mode of any directory.
                dir.set_mode_self(0o700)?;
                btrfs::limit(dir, Some(bytes))
            }
            Self::Projects => {
                let id = match project::own(dir)? {
                    Some(id) => id,
                    None => project::claim(dir)?,
                };
                sys::project::limit(dir, id, Some(bytes))
            }
        }
    }

    /// Takes the limit of a layer away.
    pub(super) fn lift(self, dir: &Dir) -> sys::Result<()> {
        match self {
            Self::QuotaGroups => btrfs::limit(dir, None),
            Self::Projects => match project::own(dir)? {
                Some(id) => sys::project::limit(dir, id, None),
                None => Ok(()),
            },
        }
    }

    /// Whether an error may say that a layer is full, rather than the disk.
    pub(super) fn says_full(self, error: &sys::Error) -> bool {
        match self {
            Self::QuotaGroups => error.errno() == Errno::DQUOT,
            // xfs says ENOSPC for both.
            Self::Projects => error.is_no_space(),
        }
    }
}
