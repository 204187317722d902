//! Whether the driver can run on a root, or which kernel feature, file system or privilege is missing.
//!
//! Nothing is concluded from version numbers: a real overlay is mounted in a scratch directory, and a name is
//! removed and a directory replaced in it. Only file systems whose failure would be hard to read are refused by
//! name.

use std::path::Path;

use layerstore_changeset::encoding::overlay::Namespace;
use layerstore_driver::layout::{Layout, Memo, Operation, Scratch};
use layerstore_driver::mount;
use layerstore_driver::plan::{IdMap, IdMapping, Overlay, OverlayFeatures, Source, Upper};
use layerstore_driver::{Kind, MountFlags, MountPlan, OpenOptions, Probe, Result};
use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::xattr::{self, On};
use layerstore_sys::{self as sys, DeviceId, Dir, Errno};

use crate::NAME;
use crate::layout::{self, FORMAT};

/// What was found out about a root that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the kernel keeps its marks.
    pub(crate) namespace: Namespace,
    /// Whether the mount option `volatile` works (Linux 5.10).
    pub(crate) volatile: bool,
}

impl Found {
    /// The features of every mount here.
    pub(crate) fn features(self) -> OverlayFeatures {
        let userxattr = self.namespace == Namespace::User;
        OverlayFeatures {
            // Refused with `userxattr`: anybody could write such a mark.
            redirect_dir: !userxattr,
            metacopy: false,
            index: false,
            xino: true,
            userxattr,
            volatile: false,
        }
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    reason: String,
    hint: Option<&'static str>,
}

impl Missing {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The error of an `open` that runs into this.
    pub(crate) fn error(self, operation: Operation<'_>) -> layerstore_driver::Error {
        let error = operation.error(Kind::Unsupported, self.reason);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// The factory's probe.
pub(crate) fn probe(open: &OpenOptions) -> Result<Probe> {
    let operation = Operation::new(NAME, "probe");
    Ok(match examine(open, operation)? {
        Ok(_) => Probe::Usable,
        Err(Missing { reason, hint }) => Probe::Unusable { reason, hint: hint.map(str::to_owned) },
    })
}

/// The memo of what was found.
const FOUND: &str = "found";

/// Tries everything, unless it is remembered.
pub(crate) fn examine(open: &OpenOptions, operation: Operation<'_>) -> Result<Result<Found, Missing>> {
    let settled = crate::layout::settled_namespace(&open.root)?;
    let remembered = Memo::new(&open.root, &open.runroot).get::<(bool, bool)>(FOUND);
    if let (Some(settled), Some((user, volatile))) = (settled, remembered)
        && user == (settled == Namespace::User)
    {
        return Ok(Ok(Found { namespace: settled, volatile }));
    }
    let scratch = Scratch::new(&open.root).map_err(|error| operation.system(error))?;
    Ok(try_all(&scratch, settled))
}

/// Makes the record of a root again that has lost it.
pub(crate) fn repair_root(open: &OpenOptions) -> Result<Option<String>> {
    Layout::repair_root(&open.root, FORMAT, &|| Ok(layout::settings(lost_namespace(open)?).to_vec()))
}

/// Where the kernel keeps its marks in the layers of a root that does not say so any more.
///
/// The marks themselves are no witness: containers can set those of users. But `trusted` ones are what root of the
/// first user namespace has, and all others have those of users; so whose the root is says which.
fn lost_namespace(open: &OpenOptions) -> Result<Namespace> {
    let operation = Operation::new(NAME, "repair root");
    let system = |error| operation.system(error);
    if let Some((user, _)) = Memo::new(&open.root, &open.runroot).get::<(bool, bool)>(FOUND) {
        return Ok(if user { Namespace::User } else { Namespace::Trusted });
    }
    let scratch = Scratch::new(&open.root).map_err(system)?;
    let owner = Dir::open(&open.root).and_then(|root| root.stat_self()).map_err(system)?.uid;
    if scratch.set_attribute(&format!("{}layerstore", Namespace::Trusted.prefix())).is_ok() {
        return Ok(if owner == 0 { Namespace::Trusted } else { Namespace::User });
    }
    // Whom the owner is outside of this user namespace: `INSIDE OUTSIDE COUNT` of uids in each line.
    let map = sys::fs::read("/proc/self/uid_map", 64 << 10).map_err(system)?;
    let map = String::from_utf8_lossy(&map).into_owned();
    let is_root_outside = map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
        let (inside, outside) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        outside == 0 && inside == owner
    });
    if is_root_outside {
        let message = "the root belongs to root outside of this user namespace, whose layers keep marks that cannot be \
                       seen here";
        return Err(operation
            .error(Kind::Unsupported, message)
            .with_hint("repair it as root in the first user namespace"));
    }
    Ok(Namespace::User)
}

/// Remembers what was found about a root that is open now: probing alone leaves nothing.
pub(crate) fn remember(memo: &Memo, found: Found) {
    memo.put(FOUND, (found.namespace == Namespace::User, found.volatile));
}

fn try_all(scratch: &Scratch, settled: Option<Namespace>) -> Result<Found, Missing> {
    let system = |error: sys::Error| Missing::new(error.to_string());
    refuse_by_name(&FsInfo::of(scratch.dir()).map_err(system)?)?;
    if !scratch.lists_kinds().map_err(system)? {
        return Err(Missing::new("the file system does not say in listings what kind an entry is (d_type)")
            .hint("make the file system again (mkfs.xfs -n ftype=1), or use another one"));
    }
    let namespace = namespace(scratch, settled)?;
    scratch.make_device(DeviceId { major: 0, minor: 0 }).map_err(|error| {
        Missing::new(format!("whiteouts (character device 0/0) cannot be made: {error}"))
            .hint("run as root, or on Linux 5.8 or later")
    })?;
    // Volatile also for the trial: unmounting a writable overlay waits for everything that is being written to
    // the file system.
    match try_mount(scratch, "trial", Found { namespace, volatile: true }) {
        Ok(found) => Ok(found),
        Err(_) => try_mount(scratch, "again", Found { namespace, volatile: false }),
    }
}

/// Refuses file systems that cannot hold an upper directory and would only say `EINVAL`.
fn refuse_by_name(info: &FsInfo) -> Result<(), Missing> {
    let name = info.name();
    match name.as_str() {
        "overlay" | "aufs" | "ecryptfs" => Err(Missing::new(format!(
            "the root lies on {name}, and the kernel takes no directory of {name} as the upper one of an overlay"
        ))
        .hint("put the root on another file system: in a container, on a volume or a tmpfs")),
        "nfs" | "cifs" | "smb2" | "v9fs" => Err(Missing::new(format!(
            "the root lies on {name}, a network file system that cannot keep whiteouts and overlay attributes"
        ))
        .hint("put the root on a local file system")),
        _ => Ok(()),
    }
}

/// Which attributes can be set here; those that the root was made with, if it was made.
fn namespace(scratch: &Scratch, settled: Option<Namespace>) -> Result<Namespace, Missing> {
    let attempt = |namespace: Namespace| scratch.set_attribute(&format!("{}layerstore", namespace.prefix()));
    if let Some(namespace) = settled {
        return attempt(namespace).map(|()| namespace).map_err(|error| {
            Missing::new(format!(
                "the layers of this root keep their marks in {}*, which cannot be set here: {error}",
                namespace.prefix()
            ))
            .hint("open the root as whoever made it, in the same kind of user namespace")
        });
    }
    let no_attributes = |error: sys::Error| {
        Missing::new(format!("the file system keeps no extended attributes: {error}"))
            .hint("put the root on ext4, xfs, btrfs or tmpfs")
    };
    match attempt(Namespace::Trusted) {
        Ok(()) => Ok(Namespace::Trusted),
        Err(error) if error.errno() == Errno::PERM => {
            attempt(Namespace::User).map(|()| Namespace::User).map_err(no_attributes)
        }
        Err(error) => Err(no_attributes(error)),
    }
}

/// Mounts two lower directories and an upper one, removes a name and replaces a directory, and looks at what that
/// left in the upper one.
fn try_mount(scratch: &Scratch, name: &str, found: Found) -> Result<Found, Missing> {
    let system = |error: sys::Error| Missing::new(format!("an overlay cannot be tried: {error}"));
    let prepare = || -> sys::Result<Dir> {
        let base = scratch.dir().ensure_dir(name.as_bytes(), 0o700)?;
        let lower = base.ensure_dir(b"lower", 0o755)?;
        lower.create_file(b"file", 0o644)?;
        lower.ensure_dir(b"directory", 0o755)?.create_file(b"hidden", 0o644)?;
        for directory in [b"middle".as_slice(), b"diff", b"work"] {
            base.ensure_dir(directory, 0o755)?;
        }
        base.open_dir(b"diff")
    };
    let upper = prepare().map_err(system)?;
    let path = scratch.path().join(name);
    let plan = MountPlan::Overlay(Overlay {
        lowers: vec![Source::Path(path.join("middle")), Source::Path(path.join("lower"))],
        upper: Some(Upper { directory: path, upper: "diff".to_owned(), work: "work".to_owned() }),
        features: OverlayFeatures { volatile: found.volatile, ..found.features() },
        id_mapping: None,
        label: None,
        flags: MountFlags::default(),
    });
    let mounted = mount::perform(&plan).map_err(|error| Missing {
        reason: format!("the kernel mounts no overlay here: {}", error.message()),
        hint: None,
    })?;
    let root = mounted.root().map_err(|error| Missing::new(error.message()))?;
    let change = || -> sys::Result<()> {
        root.unlink(b"file")?;
        root.open_dir(b"directory")?.unlink(b"hidden")?;
        root.remove_dir(b"directory")?;
        root.make_dir(b"directory", 0o755)
    };
    change().map_err(system)?;
    let whiteout = upper.stat(b"file").map_err(system)?.is_whiteout_device();
    let opaque = xattr::get(On::Entry(&upper, b"directory"), found.namespace.opaque().as_bytes());
    let opaque = opaque.map_err(system)?.as_deref() == Some(b"y");
    if whiteout && opaque {
        Ok(found)
    } else {
        Err(Missing::new(
            "the kernel marks removed names and replaced directories in a way that is not known",
        ))
    }
}

/// What depends on the file system and on privileges, and is asked for by few.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Abilities {
    pub(crate) id_mapped: bool,
    pub(crate) devices: bool,
    pub(crate) privileged_xattrs: bool,
}

/// Tries them, unless they are remembered.
pub(crate) fn abilities(root: &Path, memo: &Memo, found: Found) -> Abilities {
    const ABILITIES: &str = "abilities";
    if let Some(abilities) = memo.get(ABILITIES) {
        return abilities;
    }
    match Scratch::new(root) {
        Ok(scratch) => {
            let abilities = Abilities {
                id_mapped: can_map_ids(&scratch, found),
                devices: scratch.can_make_devices(),
                privileged_xattrs: scratch.can_set_privileged_xattrs(),
            };
            memo.put(ABILITIES, abilities);
            abilities
        }
        Err(error) => {
            tracing::warn!(driver = NAME, %error, "could not try what the file system can; claiming nothing");
            Abilities::default()
        }
    }
}

/// Whether ids of overlay mounts can be mapped here (Linux 5.19).
fn can_map_ids(scratch: &Scratch, found: Found) -> bool {
    let ids = vec![IdMap { on_disk: 0, shown: 100_000, count: 65_536 }];
    scratch.can_map_ids()
        && mount_mapped(scratch, found, IdMapping { users: ids.clone(), groups: ids }).is_ok()
}

/// Only the mount itself: what a mapped overlay shows is the kernel's affair.
fn mount_mapped(scratch: &Scratch, found: Found, mapping: IdMapping) -> Result<(), Missing> {
    let system = |error: sys::Error| Missing::new(error.to_string());
    let base = scratch.dir().ensure_dir(b"mapped", 0o700).map_err(system)?;
    for directory in [b"lower".as_slice(), b"diff", b"work"] {
        base.ensure_dir(directory, 0o755).map_err(system)?;
    }
    let path = scratch.path().join("mapped");
    let plan = MountPlan::Overlay(Overlay {
        lowers: vec![Source::Path(path.join("lower"))],
        upper: Some(Upper { directory: path, upper: "diff".to_owned(), work: "work".to_owned() }),
        features: OverlayFeatures { volatile: found.volatile, ..found.features() },
        id_mapping: Some(mapping),
        label: None,
        flags: MountFlags::default(),
    });
    mount::perform(&plan).map(|_| ()).map_err(|error| Missing::new(error.message()))
}
