//! One use of a layer, as it is written down.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use layerstore_sys::fsinfo::is_device_mounted;
use layerstore_sys::mountinfo::{self, Finder, MountId};
use layerstore_sys::process::MountNamespace;
use layerstore_sys::{self as sys, DeviceId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::{Access, PlanOptions};

/// The version of the format; a record of another is not touched.
const VERSION: u32 = 1;
/// Largest record in bytes: a path of 4,096 bytes in base64, an id mapping of 340 ranges.
pub(super) const MAX_RECORD: usize = 64 << 10;

/// What is written down: a JSON object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// How the view was asked for.
    pub(crate) options: PlanOptions,
    /// Who took it, for messages.
    pub(crate) pid: u32,
    /// The boot it belongs to.
    boot: String,
    /// What keeps it alive.
    pub(crate) held: Held,
}

/// What keeps a use alive, besides the process that has its file locked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Held {
    /// Nothing else.
    Detached,
    /// The kernel has this mount.
    Attached(Attached),
    /// Nobody knows who mounted it: until it is released, or the system boots.
    Strings,
}

/// A mount at a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// Where, in base64 because a path may hold any bytes.
    target: String,
    namespace: u64,
    namespace_id: Option<u64>,
    mount: Known,
    major: u32,
    minor: u32,
    /// Whether it is a copy that came into being with its namespace, which nobody unmounts by name.
    copied: bool,
}

/// What is known of the mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Known {
    /// Its numbers, before it is attached.
    Is { unique: Option<u64>, reusable: u64 },
    /// Being mounted by a kernel that tells the number only afterwards: not this one, which it covers.
    Covers { reusable: u64 },
}

impl Record {
    pub(crate) fn new(options: &PlanOptions, boot: &str, held: Held) -> Self {
        Self {
            version: VERSION,
            options: options.clone(),
            pid: std::process::id(),
            boot: boot.to_owned(),
            held,
        }
    }

    /// Reads a record; none for one that this version cannot read.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|record| record.version == VERSION)
    }

    /// Where the kernel has the mount or would have it, if the record is alive without its process.
    pub(super) fn is_live(&self, boot: &str, finder: &Finder) -> Result<Liveness> {
        if self.boot != boot {
            return Ok(Liveness::Dead);
        }
        match &self.held {
            Held::Detached => Ok(Liveness::Dead),
            Held::Strings => Ok(Liveness::Live(None)),
            Held::Attached(attached) => attached.is_live(finder),
        }
    }
}

/// Whether a use is alive; for an attached mount with the place where the kernel has it now.
pub(super) enum Liveness {
    Dead,
    Live(Option<PathBuf>),
}

impl Attached {
    pub(crate) fn new(target: &Path, namespace: MountNamespace, mount: MountId, device: DeviceId) -> Self {
        let MountId { unique, reusable } = mount;
        Self::with(target, namespace, Known::Is { unique, reusable }, device)
    }

    /// A mount that is about to cover `covered` at the target.
    pub(crate) fn pending(target: &Path, namespace: MountNamespace, covered: MountId) -> Self {
        let known = Known::Covers { reusable: covered.reusable };
        Self::with(target, namespace, known, DeviceId { major: 0, minor: 0 })
    }

    fn with(target: &Path, namespace: MountNamespace, mount: Known, device: DeviceId) -> Self {
        Self {
            target: BASE64.encode(target.as_os_str().as_bytes()),
            namespace: namespace.inode,
            namespace_id: namespace.id,
            mount,
            major: device.major,
            minor: device.minor,
            copied: false,
        }
    }

    /// What is left of this mount after it was unmounted: a mount namespace that was made meanwhile has a copy of
    /// it, through which the same upper directory is written. With a process that lives there. Only for file systems
    /// that are the mount's own; `root` is what its root directory was.
    pub(crate) fn copy_elsewhere(&self, root: Option<mountinfo::Root>) -> sys::Result<Option<(u32, Self)>> {
        let device = self.device();
        if !is_device_mounted(device) {
            return Ok(None);
        }
        let Some((process, namespace, entry)) = mountinfo::of_device(device, root)? else { return Ok(None) };
        let known = Known::Is { unique: None, reusable: entry.id };
        let copy = Self { copied: true, ..Self::with(&entry.mount_point, namespace, known, device) };
        Ok(Some((process, copy)))
    }

    /// Whether it is such a copy.
    pub(crate) fn is_copy(&self) -> bool {
        self.copied
    }

    fn device(&self) -> DeviceId {
        DeviceId { major: self.major, minor: self.minor }
    }

    /// Where it was mounted.
    pub(crate) fn target(&self) -> PathBuf {
        // Written by this module; what cannot be decoded is a path that nothing is mounted at.
        OsString::from_vec(BASE64.decode(&self.target).unwrap_or_default()).into()
    }

    /// Where it was mounted: the namespace.
    pub(crate) fn namespace(&self) -> MountNamespace {
        MountNamespace { inode: self.namespace, id: self.namespace_id }
    }

    /// Whether it is this mount.
    pub(crate) fn is(&self, mount: MountId) -> bool {
        match self.mount {
            Known::Is { unique: Some(unique), .. } if mount.unique.is_some() => mount.unique == Some(unique),
            Known::Is { reusable, .. } => reusable == mount.reusable,
            Known::Covers { reusable } => reusable != mount.reusable,
        }
    }

    fn is_live(&self, finder: &Finder) -> Result<Liveness> {
        let failed = |error| Error::system("look up mount", error);
        let target = self.target();
        let namespace = self.namespace();
        let found = match self.mount {
            Known::Is { unique, reusable } => {
                let id = MountId { unique, reusable };
                finder.find(id, self.device(), &target, &namespace).map_err(failed)?
            }
            Known::Covers { reusable } => {
                let here = finder.here().map_err(failed)?.same(&namespace);
                let entries = if here {
                    Some(mountinfo::here().map_err(failed)?)
                } else {
                    mountinfo::in_namespace(&namespace).map_err(failed)?
                };
                let mut entries = entries.into_iter().flatten();
                entries.find(|entry| entry.mount_point == target && entry.id != reusable)
            }
        };
        Ok(match found {
            Some(entry) => Liveness::Live(Some(entry.mount_point)),
            None => Liveness::Dead,
        })
    }
}

/// Who uses a layer, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// How.
    pub options: PlanOptions,
    /// Where.
    pub place: Place,
    /// The process that began it; for an attached mount it may be long gone.
    pub pid: u32,
}

/// Where a layer is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere to be seen: a process has it.
    Detached,
    /// At a path.
    Attached {
        /// The path, as the kernel has it now.
        target: PathBuf,
        /// Whether that is in the asking thread's mount namespace.
        here: bool,
    },
    /// Handed out as mount strings.
    Strings,
}

impl Use {
    /// The path where it is to be seen in the asking thread's mount namespace; none elsewhere.
    pub fn target_here(self) -> Option<PathBuf> {
        match self.place {
            Place::Attached { target, here: true } => Some(target),
            _ => None,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.options.access {
            Access::ReadWrite => "writable",
            Access::ReadOnly => "read-only",
        };
        match &self.place {
            Place::Detached => write!(f, "mounted {access} by process {}", self.pid),
            Place::Attached { target, here } => {
                write!(f, "mounted {access} at \"{}\"", target.as_os_str().as_bytes().escape_ascii())?;
                if *here {
                    Ok(())
                } else {
                    write!(f, " in another mount namespace, that of process {}", self.pid)
                }
            }
            Place::Strings => write!(f, "handed out {access} as mount strings"),
        }
    }
}
