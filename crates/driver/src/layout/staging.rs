//! Layers that are being made, and layers that are being freed.
//!
//! Invariant: whoever works on an entry of `staging` or `trash` holds a `flock` on its directory from before it
//! gets there until it is gone; an entry without one was left by a crash.

use layerstore_sys::{self as sys, Dir, lock, lock::Lock};

use crate::error::{Error, Kind, Result};

use super::limit::{self, Means};
use super::operation::Operation;
use super::record::{self, RECORD, Record};
use super::root::{Layer, Layout, add_marker, drop_marker, marker_name};

/// Letters of base 32 (RFC 4648): one case, so that names differ on every file system.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A random name of 26 characters, 130 bits: no two are ever the same.
///
/// # Errors
/// `System` when the kernel gives no random bytes.
pub fn random_name() -> Result<String> {
    let mut bytes = [0_u8; 26];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::System, "make a random name", error.to_string()))?;
    let letter = |byte: &u8| char::from(BASE32.get(usize::from(byte & 31)).copied().unwrap_or(b'A'));
    Ok(bytes.iter().map(letter).collect())
}

/// A layer that is being made. Dropped before [`Staged::publish`], it is thrown away.
#[derive(Debug)]
pub struct Staged<'a> {
    layout: &'a Layout,
    parent: Option<&'a Layer>,
    dir: Dir,
    record: Record,
    published: bool,
    _lock: Lock,
}

impl Layout {
    /// Begins a layer: a directory in `staging` that holds its record, and the marker in its parent. The caller
    /// holds the layer's lock, and the parent's so that it stays. With a limit in bytes, all that is written from
    /// here on counts.
    ///
    /// # Errors
    /// `AlreadyExists`, `NoSpace`, `System`; `Unsupported` where there are no limits.
    pub fn begin<'a>(
        &'a self,
        id: &crate::LayerId,
        parent: Option<&'a Layer>,
        limit: Option<u64>,
        operation: Operation<'_>,
    ) -> Result<Staged<'a>> {
        let operation = operation.on(id);
        if self.exists(id, operation)? {
            return Err(operation.error(Kind::AlreadyExists, "the layer exists already"));
        }
        let limit = match limit {
            Some(bytes) => Some((self.means_of_limits(operation)?, bytes)),
            None => None,
        };
        let (token, dir, lock) = self.stage(limit.map(|(means, _)| means), operation)?;
        let bytes = limit.map(|(_, bytes)| bytes);
        let record =
            Record { limit: bytes, ..Record::new(id, parent.map(|parent| &parent.record.id), token) };
        // From here on, dropping it cleans up.
        let staged = Staged { layout: self, parent, dir, record, published: false, _lock: lock };
        let prepare = || -> sys::Result<()> {
            if let Some((means, bytes)) = limit {
                means.set(&staged.dir, bytes)?;
            }
            // An older layer of this id may have been removed in the middle of an apply.
            self.forget_apply(id)?;
            record::write(&staged.dir, RECORD, &staged.record)?;
            if let Some(parent) = parent {
                limit::beyond(&parent.dir, || add_marker(&parent.dir, &staged.record))?;
            }
            Ok(())
        };
        prepare().map_err(|error| operation.system(error))?;
        Ok(staged)
    }

    /// A new directory in `staging`, locked; one that can be limited where that is wanted.
    fn stage(&self, limit: Option<Means>, operation: Operation<'_>) -> Result<(String, Dir, Lock)> {
        loop {
            let token = random_name()?;
            let attempt = || -> sys::Result<Option<(Dir, Lock)>> {
                match limit {
                    Some(means) => means.make_dir(&self.staging, token.as_bytes())?,
                    None => self.staging.make_dir(token.as_bytes(), 0o700)?,
                }
                // Recovery may take the directory for a leftover before it is locked: then it is made again.
                let file = match self.staging.open_file(token.as_bytes()) {
                    Err(error) if error.is_not_found() => return Ok(None),
                    file => file?,
                };
                let lock = Lock::wait(file, lock::Mode::Exclusive)?;
                match self.staging.open_dir(token.as_bytes()) {
                    Ok(dir) => Ok(Some((dir, lock))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            };
            if let Some((dir, lock)) = attempt().map_err(|error| operation.system(error))? {
                return Ok((token, dir, lock));
            }
        }
    }

    /// Takes an entry away at once: it lies in `trash` under the name that is returned, locked.
    pub(super) fn throw_away(&self, from: &Dir, name: &[u8]) -> sys::Result<(String, Lock)> {
        let lock = Lock::wait(from.open_file(name)?, lock::Mode::Exclusive)?;
        let trashed = random_name().map_err(|_| sys::Error::new("getrandom", "", sys::Errno::IO))?;
        from.rename(name, &self.trash, trashed.as_bytes())?;
        Ok((trashed, lock))
    }

    /// Frees what lies in `trash` under this name, a layer with this record. A failure costs space only: recovery
    /// tries again.
    pub(super) fn reap(&self, name: &str, record: Option<&Record>) {
        if let Err(error) = limit::free(&self.trash, name.as_bytes(), record) {
            tracing::warn!(driver = self.driver(), %error, "could not free a removed layer; recovery will");
        }
    }
}

impl Staged<'_> {
    /// The directory to fill.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The layer's parent.
    pub fn parent(&self) -> Option<&Layer> {
        self.parent
    }

    /// The layer's record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Makes the layer appear.
    ///
    /// # Errors
    /// `AlreadyExists`, `System`; the layer is thrown away then.
    pub fn publish(mut self, operation: Operation<'_>) -> Result<()> {
        let (layout, token) = (self.layout, self.record.token.as_bytes());
        let name = layout.name_of(&self.record.id);
        let renamed = match layout.staging.rename_noreplace(token, layout.root(), name.as_bytes()) {
            // A file system without the flag. The lock keeps everybody else from making this layer, and a plain
            // rename replaces no directory that holds something.
            Err(error) if error.errno() == sys::Errno::INVAL => {
                layout.staging.rename(token, layout.root(), name.as_bytes())
            }
            renamed => renamed,
        };
        let operation = operation.on(&self.record.id);
        match renamed {
            Ok(()) => {}
            Err(error) if error.is_exists() => {
                return Err(operation.error(Kind::AlreadyExists, "the layer exists already"));
            }
            Err(error) => return Err(operation.system(error)),
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let driver = self.layout.driver();
        let token = &self.record.token;
        // The lock is held until the end, so recovery keeps away.
        match self.layout.staging.rename(token.as_bytes(), &self.layout.trash, token.as_bytes()) {
            Ok(()) => self.layout.reap(token, Some(&self.record)),
            Err(error) => {
                tracing::warn!(driver, %error, "could not throw away a half-made layer; recovery will")
            }
        }
        if let Some(parent) = self.parent
            && let Err(error) = drop_marker(&parent.dir, &marker_name(&self.record))
        {
            tracing::warn!(driver, %error, "could not remove the marker of a half-made layer; recovery will");
        }
    }
}
