//! Sessions: a pull, push, commit or creation that is alive, and how others see that it is.
//!
//! ```text
//! staging/SESSION.lease     locked (flock) by the process; the lock dies with it
//! row in `sessions`         its staging layers, and what must stay for it (`holds`)
//! ```
//!
//! Invariant: a row without a locked lease is dead, and whoever finds it may clear what it left. The lease is
//! locked before the row is there and goes after the row is gone, so a living session is never taken for dead.

use std::time::Duration;

use layerstore_changeset::Context;
use layerstore_driver::LayerId;
use layerstore_sys::lock::{Lock, Mode};
use layerstore_sys::{self as sys, Dir};

use crate::db::{Durability, layers, sessions};
use crate::doom::Going;
use crate::error::{Error, Explain as _, Kind, Result};
use crate::store::Store;

/// Shortest and longest pause between two looks at somebody's lease: a lock that is waited for in the kernel
/// could not be cancelled.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// How often a lease is tried that somebody seems to hold.
const LOOKS: u32 = 10;
/// What the name of a lease begins with until it has its own.
pub(crate) const UNNAMED: &str = ".lease-";

/// A lock file that says that its name is being worked on.
#[derive(Debug)]
pub(crate) struct Lease {
    staging: Dir,
    name: String,
    _lock: Lock,
}

impl Lease {
    /// Makes and locks the lease `name`; nobody else may use the name at the same time. A lease of the name that a
    /// dead process left is taken over.
    pub(crate) fn take(staging: &Dir, name: &str, operation: &'static str) -> Result<Self> {
        let file_name = file_name(name);
        let mut attempts = 0;
        loop {
            if let Some(lock) = Self::make(staging, &file_name).explain(operation, name)? {
                return Ok(Self { staging: staging.clone(), name: file_name, _lock: lock });
            }
            if let Some(lease) = Self::take_dead(staging, name).explain(operation, name)? {
                return Ok(lease);
            }
            if staging.try_stat(file_name.as_bytes()).explain(operation, name)?.is_none() {
                continue;
            }
            // Who only looks whether somebody holds it has it locked for a moment.
            attempts += 1;
            if attempts > LOOKS {
                return Err(Error::new(Kind::InUse, operation, name, "somebody else works on it"));
            }
            std::thread::sleep(PAUSES.0);
        }
    }

    /// Takes over a lease that a dead process left; none when there is none, or somebody holds it.
    pub(crate) fn take_dead(staging: &Dir, name: &str) -> sys::Result<Option<Self>> {
        let file_name = file_name(name);
        let Some(lock) = Lock::of_the_dead(staging, file_name.as_bytes())? else { return Ok(None) };
        // It may have been given up between the two calls, and the name may be another one's now.
        let here = staging.try_stat(file_name.as_bytes())?;
        let locked = lock.file().stat()?;
        let same = here.is_some_and(|here| here.same_inode(&locked));
        Ok(same.then(|| Self { staging: staging.clone(), name: file_name, _lock: lock }))
    }

    /// Leaves the file where it is.
    pub(crate) fn leave(mut self) {
        self.name.clear();
    }

    /// Makes a lease that is locked before it has its name, so that nobody ever sees a living one unlocked. None when
    /// the name is taken.
    fn make(staging: &Dir, file_name: &str) -> Result<Option<Lock>, sys::Error> {
        let invalid = |_| sys::Error::new("getrandom", "", sys::Errno::IO);
        let temporary = format!("{UNNAMED}{}", layerstore_driver::layout::random_name().map_err(invalid)?);
        let file = staging.create_file(temporary.as_bytes(), 0o600)?;
        let named = Lock::wait(file, Mode::Exclusive).and_then(|lock| {
            let renamed = match staging.rename_noreplace(temporary.as_bytes(), staging, file_name.as_bytes())
            {
                // A file system without the flag.
                Err(error) if error.errno() == sys::Errno::INVAL => staging
                    .link(temporary.as_bytes(), staging, file_name.as_bytes())
                    .and_then(|()| staging.unlink(temporary.as_bytes())),
                renamed => renamed,
            };
            renamed.map(|()| lock)
        });
        match named {
            Ok(lock) => Ok(Some(lock)),
            Err(error) => {
                Self::clear(staging, &temporary);
                // Taken already, or taken away as a leftover before it was locked.
                if error.is_exists() || error.is_not_found() { Ok(None) } else { Err(error) }
            }
        }
    }

    /// As [`Lease::take`]; none when somebody else works on it.
    pub(crate) fn try_take(staging: &Dir, name: &str, operation: &'static str) -> Result<Option<Self>> {
        match Self::take(staging, name, operation) {
            Err(error) if error.kind() == Kind::InUse => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// Whether somebody alive holds the lease.
    pub(crate) fn is_held(staging: &Dir, name: &str) -> sys::Result<bool> {
        let file = match staging.open_file(file_name(name).as_bytes()) {
            Err(error) if error.is_not_found() => return Ok(false),
            opened => opened?,
        };
        Ok(Lock::attempt(file, Mode::Shared)?.is_err())
    }

    /// Takes a lease's file away: its own, or that of a dead session, whose id nobody uses again.
    fn clear(staging: &Dir, file_name: &str) {
        // A file that stays is in nobody's way, and `gc` finds it.
        let _ = staging.unlink(file_name.as_bytes());
    }

    /// Waits until nobody holds the lease.
    pub(crate) fn wait(staging: &Dir, name: &str, context: &Context, operation: &'static str) -> Result<()> {
        let mut pause = PAUSES.0;
        while Self::is_held(staging, name).explain(operation, name)? {
            context.check().explain(operation, name)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        Self::clear(&self.staging, &self.name);
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.lease")
}

/// A living session of this process. Dropped before [`Session::ended`], it clears what it left.
#[derive(Debug)]
pub(crate) struct Session {
    store: Store,
    id: String,
    ended: bool,
    _lease: Lease,
}

impl Session {
    /// Begins a session that keeps `objects` (ids of layers and images).
    pub(crate) fn begin(store: &Store, purpose: &'static str, objects: &[String]) -> Result<Self> {
        let id = LayerId::random().explain(purpose, "")?.as_str().to_owned();
        let lease = Lease::take(store.staging(), &id, purpose)?;
        store.database().write(purpose, Durability::Relaxed, |transaction| {
            sessions::insert(transaction, &id, purpose)?;
            objects.iter().try_for_each(|object| sessions::hold(transaction, &id, object))
        })?;
        Ok(Self { store: store.clone(), id, ended: false, _lease: lease })
    }

    /// The session's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Ends the session inside the transaction that makes its work visible; call [`Session::ended`] after that.
    pub(crate) fn end_in(&self, transaction: &rusqlite::Connection) -> Result<()> {
        sessions::delete(transaction, &self.id)
    }

    /// The transaction with [`Session::end_in`] is through.
    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.store.reap(&self.id)
        {
            // The rows stay and the lease goes: the next open finds a dead session and tries again.
            tracing::warn!(session = %self.id, %error, "what an operation left could not be cleared");
        }
    }
}

impl Store {
    /// Clears a session whose lease nobody holds.
    pub(crate) fn reap_if_dead(&self, session: &str) -> Result<()> {
        if Lease::is_held(self.staging(), session).explain("recover", session)? {
            return Ok(());
        }
        self.reap(session).map(drop)
    }

    /// Clears what a session left behind: its unfinished layers, its holds and its row. Only for a session that
    /// is dead or the caller's own. Returns the layers that went.
    pub(crate) fn reap(&self, session: &str) -> Result<Vec<LayerId>> {
        const OPERATION: &str = "recover";
        let held = self.database().read(OPERATION, |connection| sessions::held_by(connection, session))?;
        let ((), doomed) = self.doom(OPERATION, Durability::Relaxed, |transaction| {
            let left = layers::of_session(transaction, session)?;
            for row in &left {
                layers::doom(transaction, &row.layer.id)?;
            }
            let held = sessions::held_by(transaction, session)?;
            sessions::delete(transaction, session)?;
            // Ids of images are digests, those of layers are not.
            let images = held.iter().filter_map(|object| object.parse().ok()).collect();
            Ok(((), Going { layers: left.into_iter().map(|row| row.layer.id).collect(), images }))
        })?;
        Lease::clear(self.staging(), &file_name(session));
        // It may have written down names for an image that somebody else brought in, and died before that had them.
        self.follow_names(&held.iter().filter_map(|object| object.parse().ok()).collect::<Vec<_>>());
        self.destroy(OPERATION, &doomed)?;
        Ok(doomed.into_ids())
    }
}
