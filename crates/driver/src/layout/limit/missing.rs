//! Why the size of layers cannot be limited, in words that a person can act on.

use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::{btrfs, project};

use crate::error::{Error, Kind};

use super::super::operation::Operation;
use super::super::root::Layout;

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Quotas of btrfs.
    Groups,
    /// Quotas of btrfs that are of one mind.
    Consistency,
    /// Project quotas.
    Projects,
    /// Project quotas that limit: they are counted already.
    Enforcement,
    /// Project quotas in the kernel.
    Built,
    /// A kernel of Linux 5.14.
    Kernel,
    /// A file system that has any of this.
    FileSystem,
    /// The privilege.
    Permission,
    /// A root that belongs to no project itself: it belongs to this one.
    OtherProject(u32),
}

impl Missing {
    pub(super) fn of_groups(quota: btrfs::Quota) -> Option<Self> {
        match quota {
            btrfs::Quota::On => None,
            btrfs::Quota::Off => Some(Self::Groups),
            btrfs::Quota::Inconsistent => Some(Self::Consistency),
            btrfs::Quota::OtherFileSystem => Some(Self::FileSystem),
            btrfs::Quota::NotPermitted => Some(Self::Permission),
        }
    }

    pub(super) fn of_projects(quota: project::Quota) -> Option<Self> {
        match quota {
            project::Quota::On => None,
            project::Quota::CountingOnly => Some(Self::Enforcement),
            project::Quota::Off => Some(Self::Projects),
            project::Quota::NotBuilt => Some(Self::Built),
            project::Quota::OldKernel => Some(Self::Kernel),
            project::Quota::OtherFileSystem => Some(Self::FileSystem),
            project::Quota::NotPermitted => Some(Self::Permission),
        }
    }

    /// The error of an operation that wanted a limit on a layer of `layout`.
    pub(super) fn of(self, layout: &Layout, operation: Operation<'_>) -> Error {
        let system = match FsInfo::of(layout.root()) {
            Ok(info) => info.name(),
            Err(error) => return operation.system(error),
        };
        let path = layout.path().display();
        let cannot = "the size of a layer cannot be limited";
        let (message, hint) = match self {
            Self::Groups => (
                format!("{cannot}: quotas are off on the btrfs that holds {path}"),
                format!("switch them on with `btrfs quota enable {path}`"),
            ),
            Self::Consistency => (
                format!(
                    "a limit would not hold: what is used on the btrfs that holds {path} has to be counted again"
                ),
                format!("wait for `btrfs quota rescan -w {path}`"),
            ),
            Self::Projects => (
                format!("{cannot}: project quotas are off on the {system} that holds {path}"),
                switch_on(&system),
            ),
            Self::Enforcement => (
                format!("{cannot}: project quotas only count on the {system} that holds {path}"),
                switch_on(&system),
            ),
            Self::Built => (
                format!("{cannot}: this kernel was built without project quotas for {system}, which holds {path}"),
                match system.as_str() {
                    "xfs" => "use a kernel with CONFIG_XFS_QUOTA, and mount the file system with `-o prjquota`",
                    _ => "use a kernel with CONFIG_QUOTA and CONFIG_QFMT_V2",
                }
                .to_owned(),
            ),
            Self::Kernel => (
                format!("{cannot} on {system}, which holds {path}: that needs Linux 5.14"),
                "use a newer kernel".to_owned(),
            ),
            Self::FileSystem => (
                format!(
                    "the size of a layer can be limited on btrfs with quotas, and on xfs and ext4 with project \
                     quotas, and {path} lies on {system}"
                ),
                "put the store on xfs that is mounted with `-o prjquota`, or on btrfs and run `btrfs quota enable`"
                    .to_owned(),
            ),
            Self::Permission => (
                "limiting the size of a layer needs CAP_SYS_ADMIN in the first user namespace".to_owned(),
                "run as root".to_owned(),
            ),
            Self::OtherProject(id) => (
                format!("{cannot}: {path} belongs to the project {id}, into which no layer with a limit can be moved"),
                format!(
                    "put the store elsewhere, or take it out of the project (`xfs_quota -x -c 'project -C {id}'`)"
                ),
            ),
        };
        operation.error(Kind::Unsupported, message).with_hint(hint)
    }
}

/// How project quotas are switched on: by a mount, since neither file system does it when it is mounted already.
fn switch_on(system: &str) -> String {
    match system {
        "xfs" => {
            "unmount it and mount it with `-o prjquota` (a root file system: `rootflags=prjquota` on the \
                  kernel's command line)"
        }
        "ext4" => {
            "unmount it, run `tune2fs -O project,quota DEVICE` and mount it with `-o prjquota`; where that \
                   mount fails, the kernel was built without CONFIG_QFMT_V2"
        }
        _ => "unmount it and mount it with `-o prjquota`",
    }
    .to_owned()
}
