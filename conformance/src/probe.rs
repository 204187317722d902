//! Finds out what the machine, the scratch file system and the privileges of this process can do, by trying it.
//!
//! Invariant: a probe says why a feature is missing in words that a person can act on, and undoes what it did.

use std::path::Path;

use layerstore_sys as sys;
use sys::xattr::{self, On};
use sys::{DeviceId, Dir, FileType, Timestamp};

use crate::need::Feature;
use crate::process::Child;

type Result = std::result::Result<(), String>;

/// Tries one feature in `scratch`.
pub(crate) fn feature(feature: Feature, scratch: &Path) -> Result {
    let name = feature.name().as_bytes();
    let dir = Dir::open(scratch).and_then(|dir| dir.ensure_dir(name, 0o700)).map_err(text)?;
    let result = match feature {
        Feature::Mounts => mounts(&dir),
        Feature::Owners => attempt(&dir, |dir| dir.set_owner(b"file", 12_345, 54_321)),
        Feature::UserXattrs => attempt(&dir, |dir| xattr::set(On::Entry(dir, b"file"), b"user.probe", b"1")),
        Feature::TrustedXattrs => {
            attempt(&dir, |dir| xattr::set(On::Entry(dir, b"file"), b"trusted.probe", b"1"))
        }
        Feature::FileCapabilities => {
            attempt(&dir, |dir| xattr::set(On::Entry(dir, b"file"), b"security.capability", FILE_CAPABILITY))
        }
        Feature::Acls => {
            attempt(&dir, |dir| xattr::set(On::Entry(dir, b"file"), b"system.posix_acl_access", ACL))
        }
        Feature::DeviceNodes => attempt(&dir, |dir| {
            dir.make_node(b"device", FileType::CharDevice, 0o600, DeviceId { major: 1, minor: 3 })
        }),
        Feature::Holes => holes(&dir),
        Feature::Reflinks => attempt(&dir, |dir| {
            let source = dir.open_file(b"file")?;
            dir.create_file(b"clone", 0o600)?.clone_from_file(std::os::fd::AsFd::as_fd(&source))
        }),
        Feature::IdMappedMounts => id_mapped_mounts(&dir),
        Feature::Tracing => Child::idle()
            .and_then(|child| child.count_calls(1 << 20))
            .map(drop)
            .map_err(|failure| failure.message),
        Feature::ProtectedFiles => {
            attempt(&dir, |dir| sys::protect::set(dir, b"file", sys::protect::Protection::Immutable))
        }
        Feature::WideTimes => wide_times(&dir),
    };
    let removed = Dir::open(scratch).and_then(|dir| sys::remove::tree(&dir, name)).map_err(text);
    result.and(removed)
}

/// `cap_net_raw` permitted and effective, revision 2 of the xattr (linux/capability.h).
const FILE_CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `user::rw-, user:1:r--, group::r--, mask::r--, other::---` (linux/posix_acl_xattr.h).
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
    0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

fn text(error: sys::Error) -> String {
    error.to_string()
}

fn attempt(dir: &Dir, what: impl FnOnce(&Dir) -> sys::Result<()>) -> Result {
    dir.create_file(b"file", 0o600).and_then(|file| file.write_all_at(b"data", 0)).map_err(text)?;
    what(dir).map_err(text)
}

fn mounts(dir: &Dir) -> Result {
    sys::mount::legacy::bind(dir.path(), dir.path())
        .map_err(|error| format!("{error}; run as root, or with a user namespace"))?;
    sys::mount::unmount_lazily(dir.path()).map_err(text)
}

fn holes(dir: &Dir) -> Result {
    let file = dir.create_file(b"holes", 0o600).map_err(text)?;
    file.set_length(4 << 20).map_err(text)?;
    file.write_all_at(b"end", (4 << 20) - 3).map_err(text)?;
    match file.next_data(0).map_err(text)? {
        Some((start, _)) if start > 0 => Ok(()),
        _ => Err("lseek(SEEK_DATA) finds data where nothing was written".to_owned()),
    }
}

fn wide_times(dir: &Dir) -> Result {
    dir.create_file(b"file", 0o600).map_err(text)?;
    for seconds in [-1_000_000_000, 5_000_000_000] {
        let time = Timestamp { seconds, nanos: 123_456_789 };
        dir.set_mtime(b"file", time).map_err(text)?;
        if dir.stat(b"file").map_err(text)?.mtime != time {
            return Err(format!("the time {seconds}.123456789 is not kept"));
        }
    }
    Ok(())
}

fn id_mapped_mounts(dir: &Dir) -> Result {
    use std::os::fd::AsFd as _;
    let mount = sys::mount::clone_tree(dir.as_fd()).map_err(text)?;
    let range = [sys::idmap::Range { outside: 0, inside: 1, count: 1 }];
    let namespace = sys::idmap::user_namespace(&range, &range).map_err(text)?;
    sys::mount::set_attributes(
        mount.as_fd(),
        &sys::mount::Attributes { user_namespace: Some(namespace.as_fd()), ..Default::default() },
    )
    .map_err(text)
}

/// The type of the file system that holds `path`, as mount(8) calls it where it is a usual one.
pub(crate) fn file_system(path: &Path) -> String {
    let Ok(dir) = Dir::open(path) else { return "unknown".to_owned() };
    let Ok(found) = sys::fsinfo::FsInfo::of(&dir) else { return "unknown".to_owned() };
    let name = found.name();
    // Quotas make it another one: layers can be limited there.
    let limits = match &*name {
        "ext4" | "xfs" if matches!(sys::project::quota(&dir), Ok(sys::project::Quota::On)) => "+prjquota",
        "btrfs" if matches!(sys::btrfs::quota(&dir), Ok(sys::btrfs::Quota::On)) => "+quota",
        _ => "",
    };
    name + limits
}
