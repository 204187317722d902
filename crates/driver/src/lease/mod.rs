//! The book of locks and mounts of one driver, kept in its runroot.
//!
//! ```text
//! RUNROOT/locks/ID        locked (flock) by who works on the layer; there only while somebody does
//! RUNROOT/locks/ID@uses   locked by who reads and changes the uses of the layer
//! RUNROOT/uses/ID/HEX     one use of the layer: a JSON object (see `record`), written once and complete
//!                         from the moment it has its name
//! ```
//!
//! A use is alive as long as the process that took it has its file locked, or the kernel has the mount that it
//! describes, or (mount strings) until it is released. Nothing else is believed: a killed process, an unmount by
//! hand, a vanished namespace and a reboot all leave a dead use, which whoever reads it next removes. Names are
//! never used twice, so removing a dead use is safe without a lock.
//!
//! Invariant: a layer has at most one live writable use. Two overlay mounts of one upper directory succeed
//! without a word and corrupt it, so this book, not the kernel, keeps them apart.

mod lock;
mod overview;
mod record;

use std::path::Path;

use layerstore_sys::lock::{Lock, Mode};
use layerstore_sys::mountinfo::Finder;
use layerstore_sys::process::{self, MountNamespace};
use layerstore_sys::{self as sys, Dir};

use crate::error::{Error, Kind, Result};
use crate::id::LayerId;
use crate::plan::Access;

pub use lock::LayerLock;
pub use overview::Overview;
use record::Liveness;
pub(crate) use record::{Attached, Held, Record};
pub use record::{Place, Use};

/// Locks and mounts of one driver's layers, across threads, processes and mount namespaces.
#[derive(Debug)]
pub struct Leases {
    locks: lock::Locks,
    uses: Dir,
    /// Where mount points are made that nobody else sees for long.
    pub(crate) scratch: Dir,
    boot: String,
}

/// How a layer is used right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InUse {
    /// It has a writable mount.
    pub writable: bool,
    /// How many read-only mounts it has.
    pub read_only: u32,
}

impl InUse {
    /// Whether it has any mount.
    pub fn any(self) -> bool {
        self.writable || self.read_only > 0
    }
}

impl Leases {
    /// Opens the book in a driver's runroot, which is made 0700 if it is missing.
    ///
    /// # Errors
    /// `System`.
    pub fn open(runroot: &Path) -> Result<Self> {
        let open = || -> sys::Result<Self> {
            sys::fs::make_dirs(runroot, 0o700)?;
            let runroot = Dir::open(runroot)?;
            Ok(Self {
                locks: lock::Locks::new(runroot.ensure_dir(b"locks", 0o700)?),
                uses: runroot.ensure_dir(b"uses", 0o700)?,
                scratch: runroot,
                boot: process::boot_id()?,
            })
        };
        open().map_err(|error| Error::system("open leases", error))
    }

    /// Waits for exclusive use of a layer id. A thread that has it may take it again.
    ///
    /// # Errors
    /// `InUse` when this thread itself uses it together with others; `System`.
    pub fn lock(&self, id: &LayerId) -> Result<LayerLock> {
        self.wait(id.as_str(), Mode::Exclusive)
    }

    /// Takes exclusive use of a layer id if nobody uses it.
    ///
    /// # Errors
    /// `System`.
    pub fn try_lock(&self, id: &LayerId) -> Result<Option<LayerLock>> {
        self.locks.take(id.as_str(), Mode::Exclusive, false)
    }

    /// Waits for use of a layer id together with other shared users: for those who read it or build on it, and
    /// only have to keep it from being written or removed meanwhile. Never waits for other shared users.
    ///
    /// # Errors
    /// `System`.
    pub fn lock_shared(&self, id: &LayerId) -> Result<LayerLock> {
        self.wait(id.as_str(), Mode::Shared)
    }

    /// Waits for the right to read and change the uses of a layer: held only while mounting and unmounting.
    pub(crate) fn lock_uses(&self, id: &LayerId) -> Result<LayerLock> {
        // No layer id has an '@'.
        self.wait(&format!("{id}@uses"), Mode::Exclusive)
    }

    /// Removes what killed processes left: files of locks that nobody holds, and uses that are dead.
    ///
    /// # Errors
    /// `System`.
    pub(crate) fn sweep(&self) -> Result<()> {
        let system = |error| Error::system("sweep leases", error);
        self.locks.sweep().map_err(system)?;
        let finder = Finder::default();
        for entry in self.uses.entries().map_err(system)? {
            let Some(id) = std::str::from_utf8(&entry.name).ok().and_then(|id| LayerId::new(id).ok()) else {
                continue;
            };
            match self.live_with(&id, &finder) {
                // Whoever needs the layer is told of it.
                Err(error) if error.kind() == Kind::Corrupt => {}
                live => drop(live?),
            }
        }
        Ok(())
    }

    fn wait(&self, name: &str, mode: Mode) -> Result<LayerLock> {
        let taken = self.locks.take(name, mode, true)?;
        taken.ok_or_else(|| Error::new(Kind::System, "lock", format!("{name} was not locked")))
    }

    /// How the layer is used, by whatever process and namespace; dead leases are dropped on the way.
    ///
    /// # Errors
    /// As [`uses`](Self::uses).
    pub fn in_use(&self, id: &LayerId) -> Result<InUse> {
        let mut in_use = InUse::default();
        for using in self.live(id)? {
            match using.record.options.access {
                Access::ReadWrite => in_use.writable = true,
                Access::ReadOnly => in_use.read_only += 1,
            }
        }
        Ok(in_use)
    }

    /// Who uses the layer, and where; dead leases are dropped on the way.
    ///
    /// # Errors
    /// `Corrupt` for a record that cannot be read, `System`.
    pub fn uses(&self, id: &LayerId) -> Result<Vec<Use>> {
        self.uses_with(id, &Finder::default())
    }

    fn uses_with(&self, id: &LayerId, finder: &Finder) -> Result<Vec<Use>> {
        let live = self.live_with(id, finder)?;
        if live.is_empty() {
            return Ok(Vec::new());
        }
        let here = finder.here().map_err(|error| Error::system("read leases", error))?;
        Ok(live.iter().map(|live| live.describe(&here)).collect())
    }

    /// The live uses of a layer.
    pub(crate) fn live(&self, id: &LayerId) -> Result<Vec<Live>> {
        self.live_with(id, &Finder::default())
    }

    fn live_with(&self, id: &LayerId, finder: &Finder) -> Result<Vec<Live>> {
        let system = |error| Error::system("read leases", error).with_layer(id);
        let directory = match self.uses.open_dir(id.as_str().as_bytes()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            opened => opened.map_err(system)?,
        };
        let mut live = Vec::new();
        let entries = match directory.entries() {
            // Whoever read it last found it empty and took it away.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            entries => entries.map_err(system)?,
        };
        for entry in entries {
            live.extend(self.read(&directory, &entry.name, finder).map_err(|error| error.with_layer(id))?);
        }
        if live.is_empty() {
            tidy(&self.uses, id);
        }
        Ok(live)
    }

    /// Reads one use; removes it and returns none if it is dead.
    fn read(&self, directory: &Dir, name: &[u8], finder: &Finder) -> Result<Option<Live>> {
        let system = |error| Error::system("read leases", error);
        let mut file = match directory.open_file(name) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened.map_err(system)?,
        };
        let bytes = file.read_to_end_limited(record::MAX_RECORD).map_err(system)?;
        let Some(record) = Record::parse(&bytes) else {
            // Not finished: its writer is at it, or died.
            if name.starts_with(b".") {
                if !is_locked(file).map_err(system)? {
                    forget(directory, name).map_err(system)?;
                }
                return Ok(None);
            }
            let message = format!("{} is not a lease of this version", directory.show(name));
            return Err(Error::new(Kind::Corrupt, "read leases", message)
                .with_hint("use the version that wrote it, or remove the file once nothing is mounted"));
        };
        let mut liveness = record.is_live(&self.boot, finder)?;
        if matches!(liveness, Liveness::Dead) {
            if is_locked(file).map_err(system)? {
                liveness = Liveness::Live(None);
            } else {
                // Its owner may have attached the mount and left just now. Nobody holds the file any more, so what
                // the kernel says from here on is the last word.
                liveness = record.is_live(&self.boot, &Finder::default())?;
            }
        }
        let Liveness::Live(place) = liveness else {
            forget(directory, name).map_err(system)?;
            return Ok(None);
        };
        Ok(Some(Live { name: name.to_vec(), record, place }))
    }

    /// A record of this boot.
    pub(crate) fn record(&self, options: &crate::plan::PlanOptions, held: Held) -> Record {
        Record::new(options, &self.boot, held)
    }

    /// Writes a use down and locks it. The caller holds [`lock_uses`](Self::lock_uses).
    pub(crate) fn take(&self, id: &LayerId, record: &Record) -> Result<Lease> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(Kind::System, "take lease", error.to_string()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let content = serde_json::to_vec(record)
            .map_err(|error| Error::new(Kind::System, "take lease", error.to_string()))?;
        loop {
            let written = self.uses.ensure_dir(id.as_str().as_bytes(), 0o700).and_then(|directory| {
                let lock = write_locked(&directory, name.as_bytes(), &content)?;
                let (uses, id, name) = (self.uses.clone(), id.clone(), name.clone().into_bytes());
                Ok(Lease { uses, id, directory, name, lock: Some(lock) })
            });
            match written {
                // A reader has removed the directory as empty, or the unfinished file as left behind.
                Err(error) if error.is_not_found() => {}
                written => return written.map_err(|error| Error::system("take lease", error).with_layer(id)),
            }
        }
    }

    /// Ends a use that nothing keeps alive any more. The caller holds [`lock_uses`](Self::lock_uses).
    pub(crate) fn end(&self, id: &LayerId, live: &Live) -> Result<()> {
        let ended = match self.uses.open_dir(id.as_str().as_bytes()) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(directory) => forget(&directory, &live.name),
        };
        ended.map_err(|error| Error::system("end lease", error).with_layer(id))?;
        tidy(&self.uses, id);
        Ok(())
    }
}

/// Whether somebody holds the file of a use. Asked together with others, so that two readers do not take each other
/// for the owner, who has it alone.
fn is_locked(file: sys::File) -> sys::Result<bool> {
    match Lock::attempt(file, Mode::Shared)? {
        Ok(lock) => lock.release().map(|_| false),
        Err(_) => Ok(true),
    }
}

/// Removes the directory of a layer's uses if it is empty.
fn tidy(uses: &Dir, id: &LayerId) {
    // Somebody may be writing into it, or have removed it: then it is not ours to remove.
    let _ = uses.remove_dir(id.as_str().as_bytes());
}

fn forget(directory: &Dir, name: &[u8]) -> sys::Result<()> {
    match directory.unlink(name) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// A use that is alive.
#[derive(Debug)]
pub(crate) struct Live {
    name: Vec<u8>,
    pub(crate) record: Record,
    /// Where the kernel has it.
    pub(crate) place: Option<std::path::PathBuf>,
}

impl Live {
    pub(crate) fn describe(&self, here: &MountNamespace) -> Use {
        let place = match &self.record.held {
            Held::Detached => Place::Detached,
            Held::Strings => Place::Strings,
            Held::Attached(attached) => Place::Attached {
                target: self.place.clone().unwrap_or_else(|| attached.target()),
                here: attached.namespace().same(here),
            },
        };
        Use { options: self.record.options.clone(), place, pid: self.record.pid }
    }
}

/// A use that this process has written down and keeps alive.
#[derive(Debug)]
pub(crate) struct Lease {
    uses: Dir,
    id: LayerId,
    directory: Dir,
    name: Vec<u8>,
    lock: Option<Lock>,
}

impl Lease {
    /// Replaces what is written down.
    pub(crate) fn update(&mut self, record: &Record) -> Result<()> {
        let content = serde_json::to_vec(record)
            .map_err(|error| Error::new(Kind::System, "take lease", error.to_string()))?;
        let lock = write_locked(&self.directory, &self.name, &content)
            .map_err(|error| Error::system("take lease", error))?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Leaves the use to what is written down: the mount, or the strings.
    pub(crate) fn leave(mut self) {
        self.lock = None;
    }

    /// Ends the use. The lock is given up for copies of the descriptor too, which a program that is just being
    /// started holds between fork and exec.
    fn discard(&mut self) -> sys::Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        forget(&self.directory, &self.name)?;
        lock.release()?;
        tidy(&self.uses, &self.id);
        Ok(())
    }

    /// The descriptor whose copies keep the use alive, wherever they are.
    pub(crate) fn into_descriptor(mut self) -> Option<std::os::fd::OwnedFd> {
        self.lock.take().map(|lock| lock.into_file().into())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.discard() {
            // It counts as dead all the same once its descriptor is closed; the next reader removes it.
            tracing::debug!(%error, "cannot remove a lease");
        }
    }
}

/// Writes a file that is locked and complete before it has its name.
fn write_locked(directory: &Dir, name: &[u8], content: &[u8]) -> sys::Result<Lock> {
    let temporary = [b".", name].concat();
    let file = directory.create_file(&temporary, 0o600)?;
    let lock = match Lock::attempt(file, Mode::Exclusive)? {
        Ok(lock) => lock,
        // A reader looks whether it was left behind, for a moment.
        Err(file) => Lock::wait(file, Mode::Exclusive)?,
    };
    lock.file().write_all_at(content, 0)?;
    directory.rename(&temporary, directory, name)?;
    Ok(lock)
}
