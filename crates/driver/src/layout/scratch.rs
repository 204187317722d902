//! A scratch directory on the file system of a root, in which a driver tries what it needs, and the trials that
//! every driver makes.
//!
//! Invariant: nothing of it is left. In a root it lies in `staging` under a lock, so that recovery keeps away while
//! it is used and frees what a crash leaves; before there is a root it lies in the nearest directory that exists.

use std::path::{Path, PathBuf};

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{self as sys, DeviceId, Dir, Errno, FileType, lock, lock::Lock};

use crate::flags::MountFlags;
use crate::mount;
use crate::plan::{Bind, IdMap, IdMapping, MountPlan, Source};

use super::staging::random_name;

/// What the names of scratch directories outside of a root begin with.
pub(super) const PREFIX: &str = ".layerstore-probe-";

/// An empty directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    parent: Dir,
    name: String,
    dir: Dir,
    path: PathBuf,
    _lock: Lock,
}

impl Scratch {
    /// Makes one where `root` is, or would be.
    ///
    /// # Errors
    /// Those of the calls made: `EACCES`, `EROFS`, `ENOSPC` …
    pub fn new(root: &Path) -> sys::Result<Self> {
        let staging = root.join("staging");
        let (parent, prefix) = match Dir::open(&staging) {
            Ok(dir) => (dir, ""),
            Err(error) if is_missing(&error) => {
                let dir = nearest(root)?;
                // What an earlier attempt left when it died. That it cannot be removed is no reason not to try.
                if let Err(error) = Self::sweep(&dir) {
                    tracing::warn!(%error, "could not remove old scratch directories");
                }
                (dir, PREFIX)
            }
            Err(error) => return Err(error),
        };
        loop {
            let token = random_name().map_err(|_| sys::Error::new("getrandom", "", Errno::IO))?;
            let name = format!("{prefix}{token}");
            parent.make_dir(name.as_bytes(), 0o700)?;
            let open = || -> sys::Result<_> {
                let lock = Lock::wait(parent.open_file(name.as_bytes())?, lock::Mode::Exclusive)?;
                let dir = parent.open_dir(name.as_bytes())?;
                // A message that is read when this is long gone names the directory that lasts.
                Ok((dir.called(parent.path()), lock))
            };
            match open() {
                Ok((dir, lock)) => {
                    let path = sys::fs::canonical(parent.path())?.join(&name);
                    return Ok(Self { parent, name, dir, path, _lock: lock });
                }
                // Somebody took it for a leftover before it was locked: it is made again.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    // The first error is the one to report.
                    let _ = parent.remove_dir(name.as_bytes());
                    return Err(error);
                }
            }
        }
    }

    /// Removes the scratch directories in `parent` whose makers died, and gives their names. Those inside of a
    /// root are left to recovery.
    ///
    /// # Errors
    /// Those of the calls made.
    pub fn sweep(parent: &Dir) -> sys::Result<Vec<String>> {
        let mut gone = Vec::new();
        for entry in parent.entries()? {
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            if !name.starts_with(PREFIX) {
                continue;
            }
            if let Some(_lock) = Lock::of_the_dead(parent, name.as_bytes())? {
                match sys::remove::tree(parent, name.as_bytes()) {
                    // Its owner is alive: he had not locked it yet, or removes it himself right now.
                    Err(error) if error.is_not_found() => {}
                    removed => {
                        removed?;
                        gone.push(name);
                    }
                }
            }
        }
        Ok(gone)
    }

    /// The directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether listings say what kind an entry is (`d_type`; xfs needs `ftype=1` for it).
    ///
    /// # Errors
    /// Those of the calls made.
    pub fn lists_kinds(&self) -> sys::Result<bool> {
        const NAME: &[u8] = b"kind";
        self.dir.create_file(NAME, 0o600)?;
        let entries = self.dir.entries()?;
        self.dir.unlink(NAME)?;
        Ok(entries.iter().any(|entry| entry.name == NAME && entry.kind == FileType::Regular))
    }

    /// Whether names that differ in case only are one name here (casefold of ext4 and f2fs, file systems of other
    /// systems): two files of a layer would become one.
    ///
    /// # Errors
    /// That of `statx`.
    pub fn ignores_case(&self) -> sys::Result<bool> {
        Ok(self.parent.try_stat(self.name.to_ascii_lowercase().as_bytes())?.is_some())
    }

    /// Whether devices can be made: the call's error if not.
    ///
    /// # Errors
    /// That of `mknodat`.
    pub fn make_device(&self, device: DeviceId) -> sys::Result<()> {
        const NAME: &[u8] = b"device";
        self.dir.make_node(NAME, FileType::CharDevice, 0o600, device)?;
        self.dir.unlink(NAME)
    }

    /// Whether an attribute can be set: the call's error if not.
    ///
    /// # Errors
    /// That of `setxattr`.
    pub fn set_attribute(&self, name: &str) -> sys::Result<()> {
        xattr::set(On::Dir(&self.dir), name.as_bytes(), b"y")?;
        xattr::remove(On::Dir(&self.dir), name.as_bytes())
    }

    /// Whether layers may hold devices other than the whiteout.
    pub fn can_make_devices(&self) -> bool {
        // /dev/null: whoever could open it gains nothing.
        self.make_device(DeviceId { major: 1, minor: 3 }).is_ok()
    }

    /// Whether layers may hold xattrs of the namespaces `trusted` and `security`.
    pub fn can_set_privileged_xattrs(&self) -> bool {
        self.set_attribute("trusted.layerstore").is_ok() && self.set_attribute("security.layerstore").is_ok()
    }

    /// Whether the kernel maps ids of a mount of this file system.
    pub fn can_map_ids(&self) -> bool {
        let ids = vec![IdMap { on_disk: 0, shown: 100_000, count: 65_536 }];
        let plan = MountPlan::Bind(Bind {
            source: Source::Path(self.path.clone()),
            read_only: true,
            flags: MountFlags::default(),
            id_mapping: Some(IdMapping { users: ids.clone(), groups: ids }),
        });
        mount::perform(&plan).is_ok()
    }

    /// Whether two files can share their extents (reflink).
    pub fn shares_extents(&self) -> bool {
        let attempt = || -> sys::Result<()> {
            use std::os::fd::AsFd as _;
            let from = self.dir.create_file(b"from", 0o600)?;
            from.write_all_at(&[1; 4096], 0)?;
            self.dir.create_file(b"to", 0o600)?.clone_from_file(from.as_fd())
        };
        let shared = attempt().is_ok();
        for name in [b"from".as_slice(), b"to"] {
            // Whatever is left goes with the directory.
            let _ = self.dir.unlink(name);
        }
        shared
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = sys::remove::tree(&self.parent, self.name.as_bytes()) {
            tracing::warn!(%error, "could not remove a scratch directory");
        }
    }
}

/// The nearest ancestor of `path`, or itself, that exists.
fn nearest(path: &Path) -> sys::Result<Dir> {
    let mut current = if path.is_absolute() {
        path.to_owned()
    } else {
        // A relative path has the working directory above it.
        sys::fs::canonical(".")?.join(path)
    };
    loop {
        match Dir::open(&current) {
            Err(error) if error.is_not_found() && current.pop() => {}
            opened => return opened,
        }
    }
}

fn is_missing(error: &sys::Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR)
}
