//! Looking at many layers at once, contents included.
//!
//! A layer that is being read is held, so that a removal of its image leaves it: removing what is mounted would fail.
//! What became free meanwhile is freed in the end.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use layerstore_driver::LayerId;

use crate::db::layers::{self, LayerOrigin, LayerRow};
use crate::db::{Durability, damage};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::model::LayerState;
use crate::session::{Lease, Session};

use super::layer::{UNREADABLE, is_of_the_machine};
use super::{Checker, OPERATION, Wrong};

/// What is wrong with a layer whose content was read.
#[derive(Debug, Clone)]
enum Content {
    /// It is damaged.
    Wrong(Wrong),
    /// It differs from its parent in what its tar does not tell of.
    Beside(Wrong),
}

impl Checker<'_> {
    /// What is wrong with each of these layers.
    pub(super) fn look_at(&mut self, rows: &[LayerRow]) -> Result<Vec<Option<Wrong>>> {
        if self.options.quick {
            let look = |row| {
                self.context.check().explain(OPERATION, "")?;
                self.layer(row)
            };
            return rows.iter().map(look).collect();
        }
        let (session, held) = self.hold(rows)?;
        let looked = self.look_in_parallel(rows);
        drop(session);
        self.free(&held)?;
        let (outcomes, verified) = looked?;
        self.report.verified = verified;
        Ok(outcomes)
    }

    /// Holds what is to be read; returns what had users of its own.
    fn hold(&self, rows: &[LayerRow]) -> Result<(Session, Vec<LayerId>)> {
        let images = rows.iter().filter(|row| row.origin == LayerOrigin::Image && row.kept.is_some());
        let ids: Vec<LayerId> = images.map(|row| row.layer.id.clone()).collect();
        let used = self.store.database().read(OPERATION, |connection| {
            let mut used = Vec::new();
            // Who dooms one just now may find that it is being read, and leaves it to us.
            let doomed = layers::doomed(connection)?;
            for id in &ids {
                if doomed.iter().any(|row| row.layer.id == *id) || !layers::is_free(connection, id)? {
                    used.push(id.clone());
                }
            }
            Ok(used)
        })?;
        let objects: Vec<String> = ids.iter().map(ToString::to_string).collect();
        Ok((Session::begin(self.store, OPERATION, &objects)?, used))
    }

    /// Frees what lost its last user while it was held, the topmost first.
    fn free(&self, held: &[LayerId]) -> Result<()> {
        let left = self.store.database().read(OPERATION, |connection| {
            let mut left = Vec::new();
            for id in held {
                if is_left(connection, id)? {
                    left.push(id);
                }
            }
            Ok(left)
        })?;
        if left.is_empty() {
            return Ok(());
        }
        // Who is removing one already is through, or could not do it while it was read, when this returns.
        for id in left {
            Lease::wait(self.store.staging(), id.as_str(), self.context, OPERATION)?;
        }
        let ((), doomed) = self.store.doom(OPERATION, Durability::Full, |transaction| {
            let mut doomed: Vec<LayerId> = Vec::new();
            // Children come after their parents.
            for id in held.iter().rev() {
                if is_left(transaction, id)? {
                    layers::doom(transaction, id)?;
                    doomed.push(id.clone());
                }
            }
            Ok(((), doomed))
        })?;
        self.store.destroy(OPERATION, &doomed)
    }

    fn look_in_parallel(&self, rows: &[LayerRow]) -> Result<(Vec<Option<Wrong>>, u64)> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(rows.len()).max(1);
        let (next, verified) = (AtomicUsize::new(0), AtomicU64::new(0));
        let outcomes: Mutex<Vec<Option<Content>>> = Mutex::new(vec![None; rows.len()]);
        let work = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(row) = rows.get(index) else { return Ok(()) };
                self.context.check().explain(OPERATION, "")?;
                let found = match self.layer(row)? {
                    None => self.contents(row, &verified)?,
                    wrong => wrong.map(Content::Wrong),
                };
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(outcome) = outcomes.get_mut(index) {
                    *outcome = found;
                }
            }
        };
        std::thread::scope(|scope| {
            // Where no more threads are to be had, those that are there do the work.
            let another =
                || std::thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(|_| another()).collect();
            let own = work();
            others.into_iter().fold(own, |done, worker| {
                let panicked = |_| Err(Error::new(Kind::System, OPERATION, "", "a checking thread panicked"));
                done.and(worker.join().unwrap_or_else(panicked))
            })
        })?;
        let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((without_echoes(rows, outcomes), verified.into_inner()))
    }

    /// What is wrong with a layer's content, read twice before it counts.
    fn contents(&self, row: &LayerRow, verified: &AtomicU64) -> Result<Option<Content>> {
        let mut row = row.clone();
        let mut wrong = None;
        for _ in 0..2 {
            if row.kept.is_none() {
                return Ok(self.unrecorded(&row)?.map(Content::Wrong));
            }
            match self.store.verify_layer(OPERATION, &row, self.context) {
                Ok(Some(message)) => wrong = Some(Content::Beside(("layer-damaged", message))),
                Ok(None) => {
                    verified.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
                // A full disk, too many open files, a signal: nothing was learned about the layer.
                Err(error) if !matches!(error.kind(), Kind::Corrupt | Kind::NotFound | Kind::System) => {
                    return Err(error);
                }
                Err(error) => {
                    let kind = if is_of_the_machine(&error) { UNREADABLE } else { "layer-damaged" };
                    wrong = Some(Content::Wrong((kind, error.message().to_owned())));
                }
            }
            match self.current(&row)? {
                Some(now) if !self.store.is_live(&row.layer.id) => row = now,
                _ => return Ok(None),
            }
            // What lies below may have been repaired meanwhile, or is itself the damage.
            self.context.check().explain(OPERATION, "")?;
        }
        Ok(wrong)
    }

    /// What is wrong with a layer whose content nothing was recorded of: that it cannot be walked through. Only a
    /// container's: who writes into another one may hold its lock for as long as the input takes.
    fn unrecorded(&self, row: &LayerRow) -> Result<Option<Wrong>> {
        let id = &row.layer.id;
        if row.origin != LayerOrigin::Container {
            return Ok(None);
        }
        for pause in [0, 50] {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            let Err(error) = self.store.driver().usage(id, self.context) else { return Ok(None) };
            if !matches!(error.kind(), Kind::Corrupt | Kind::NotFound | Kind::System) {
                return Err(error).explain(OPERATION, id);
            }
            // Who changes it now may take away what the walk just came to.
            let in_use = self.store.driver().leases().in_use(id).explain(OPERATION, id)?;
            if in_use.writable || in_use.read_only > 0 {
                return Ok(None);
            }
            if pause > 0 && self.current(row)?.is_some() && !self.store.is_live(id) {
                let kind = if is_of_the_machine(&error) { UNREADABLE } else { "layer-damaged" };
                return Ok(Some((kind, format!("what it holds cannot be read: {error}"))));
            }
        }
        Ok(None)
    }
}

/// What is wrong with layers themselves: one that holds all that its parent had differs from a parent that is damaged.
fn without_echoes(rows: &[LayerRow], found: Vec<Option<Content>>) -> Vec<Option<Wrong>> {
    let wrong: HashSet<&LayerId> =
        rows.iter().zip(&found).filter(|(_, found)| found.is_some()).map(|(row, _)| &row.layer.id).collect();
    let is_echo = |row: &LayerRow| {
        // The mark of one that was found damaged before is not taken away for that.
        row.layer.state == LayerState::Ready
            && row.layer.parent.as_ref().is_some_and(|parent| wrong.contains(parent))
    };
    let own = rows.iter().zip(found.iter().cloned()).map(|(row, found)| match found? {
        Content::Beside(_) if is_echo(row) => None,
        Content::Wrong(wrong) | Content::Beside(wrong) => Some(wrong),
    });
    own.collect()
}

/// Whether a layer of an image has nobody left.
fn is_left(connection: &rusqlite::Connection, id: &LayerId) -> Result<bool> {
    let row = layers::get(connection, id.as_str())?;
    let ours = row.is_some_and(|row| damage::is_of_image(&row) && row.session.is_none());
    Ok(ours && layers::is_free(connection, id)?)
}
