//! Locks on layer ids.
//!
//! A lock is a `flock` on a file named after the id, which exists only while somebody holds or awaits it: the
//! last holder removes it, and whoever waited on the removed file notices and starts again with the new one.
//! The lock dies with the process. Within one thread it may be taken again while it is held.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use layerstore_sys::lock::{Lock, Mode};
use layerstore_sys::{self as sys, Dir};

use crate::error::{Error, Kind, Result};

/// The locks that this process holds through one book.
#[derive(Debug)]
pub(super) struct Locks {
    directory: Dir,
    held: Arc<Mutex<Table>>,
}

type Table = HashMap<(ThreadId, String), Weak<Held>>;

/// Use of one layer id, until dropped or the process dies.
///
/// It stays with its thread: that is how taking it again is told from somebody else's.
#[derive(Debug)]
pub struct LayerLock {
    _held: Arc<Held>,
    _stays: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Held {
    directory: Dir,
    name: String,
    mode: Mode,
    lock: Option<Lock>,
    table: Arc<Mutex<Table>>,
}

impl Locks {
    pub(super) fn new(directory: Dir) -> Self {
        Self { directory, held: Arc::default() }
    }

    /// Takes the lock `name`; none only where it is taken and `wait` is not set.
    pub(super) fn take(&self, name: &str, mode: Mode, wait: bool) -> Result<Option<LayerLock>> {
        let key = (std::thread::current().id(), name.to_owned());
        let held_already = table(&self.held).get(&key).and_then(Weak::upgrade);
        if let Some(held) = held_already {
            if mode == Mode::Exclusive && held.mode == Mode::Shared {
                // Waiting would be for ever.
                let message =
                    format!("this thread uses {name} together with others and cannot have it alone");
                return Err(Error::new(Kind::InUse, "lock", message));
            }
            return Ok(Some(LayerLock { _held: held, _stays: PhantomData }));
        }
        let Some(lock) = self.acquire(name, mode, wait).map_err(|error| Error::system("lock", error))? else {
            return Ok(None);
        };
        let held = Arc::new(Held {
            directory: self.directory.clone(),
            name: name.to_owned(),
            mode,
            lock: Some(lock),
            table: self.held.clone(),
        });
        table(&self.held).insert(key, Arc::downgrade(&held));
        Ok(Some(LayerLock { _held: held, _stays: PhantomData }))
    }

    /// Removes the files of locks whose holders were killed: ids are hardly ever used again, so nobody else would.
    pub(super) fn sweep(&self) -> sys::Result<()> {
        for entry in self.directory.entries()? {
            // Who waits for it notices that the file has lost its name, as with any holder before.
            if let Some(lock) = Lock::of_the_dead(&self.directory, &entry.name)?
                && is_current(&self.directory, &entry.name, &lock)?
            {
                self.directory.unlink(&entry.name)?;
                lock.release()?;
            }
        }
        Ok(())
    }

    fn acquire(&self, name: &str, mode: Mode, wait: bool) -> sys::Result<Option<Lock>> {
        loop {
            let file = self.directory.open_or_create_file(name.as_bytes(), 0o600)?;
            let lock = if wait {
                Lock::wait(file, mode)?
            } else {
                match Lock::attempt(file, mode)? {
                    Ok(lock) => lock,
                    Err(_) => return Ok(None),
                }
            };
            if is_current(&self.directory, name.as_bytes(), &lock)? {
                return Ok(Some(lock));
            }
        }
    }
}

/// Whether the locked file is still the one with the name; the holder before may have removed it.
fn is_current(directory: &Dir, name: &[u8], lock: &Lock) -> sys::Result<bool> {
    let locked = lock.file().stat()?;
    Ok(directory.try_stat(name)?.is_some_and(|now| now.same_inode(&locked)))
}

fn table(held: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // The table is whole after every statement, so a panic elsewhere does not spoil it.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Removes the file if nobody else uses it, and gives the lock up. Only who holds the lock alone, on the file
    /// that has the name, may remove the name.
    fn release(&mut self) -> sys::Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        let lock = match self.mode {
            Mode::Exclusive => lock,
            Mode::Shared => {
                let file = lock.release()?;
                match Lock::attempt(file, Mode::Exclusive)? {
                    Ok(lock) if is_current(&self.directory, self.name.as_bytes(), &lock)? => lock,
                    _ => return Ok(()),
                }
            }
        };
        self.directory.unlink(self.name.as_bytes())?;
        lock.release().map(drop)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        table(&self.table).remove(&(std::thread::current().id(), self.name.clone()));
        if let Err(error) = self.release() {
            // Closing the descriptor has freed the lock all the same; an empty file may be left.
            tracing::warn!(%error, "cannot remove a lock file");
        }
    }
}
