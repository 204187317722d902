//! Looking at one layer.

use layerstore_driver::LayerState as DriverState;
use layerstore_sys as sys;

use crate::db::layers::{self, Kept, LayerRow};
use crate::error::{Kind, Result};
use crate::files;
use crate::model::{LayerKind, LayerState};

use super::{Checker, OPERATION, Wrong};

/// How often something suspicious is looked at before it counts, and how long after.
const LOOKS: [u64; 3] = [0, 50, 250];

/// The kind of a finding about a layer that could not be looked at.
pub(super) const UNREADABLE: &str = "layer-unreadable";

impl Checker<'_> {
    /// What is wrong with a layer, looked at again until it is sure that nobody is working on it.
    pub(super) fn layer(&self, row: &LayerRow) -> Result<Option<Wrong>> {
        let mut row = row.clone();
        let mut wrong = None;
        for pause in LOOKS {
            if wrong.is_some() {
                std::thread::sleep(std::time::Duration::from_millis(pause));
            }
            wrong = self.look(&row).err();
            if wrong.is_none() || self.store.is_live(&row.layer.id) {
                return Ok(None);
            }
            match self.current(&row)? {
                Some(now) => row = now,
                None => return Ok(None),
            }
        }
        Ok(wrong)
    }

    /// The row as it is now; none when the layer was removed.
    pub(super) fn current(&self, row: &LayerRow) -> Result<Option<LayerRow>> {
        let now = self
            .store
            .database()
            .read(OPERATION, |connection| layers::get(connection, row.layer.id.as_str()))?;
        Ok(now.filter(|now| matches!(now.layer.state, LayerState::Ready | LayerState::Damaged)))
    }

    /// One look, at everything but the content.
    fn look(&self, row: &LayerRow) -> Result<(), Wrong> {
        let id = &row.layer.id;
        let info = self.store.driver().layer(id).map_err(|error| match error.kind() {
            Kind::NotFound => ("layer-missing", "the driver has no such layer".to_owned()),
            _ if is_of_the_machine(&error) => (UNREADABLE, error.to_string()),
            _ => ("layer-damaged", error.to_string()),
        })?;
        if info.parent != row.layer.parent {
            return Err(("layer-damaged", "the driver has it over another parent".to_owned()));
        }
        let sealed = info.state == DriverState::Sealed;
        if sealed != (row.layer.kind == LayerKind::Committed) {
            let state = if sealed { "sealed" } else { "writable" };
            return Err(("layer-damaged", format!("the driver says that it is {state}, the store does not")));
        }
        if info.half_applied {
            let message = format!(
                "a changeset was not applied to its end, the layer holds a part of it: \
                 remove it with `layerstore layer remove {id}`"
            );
            return Err(("layer-half-applied", message));
        }
        let folders = self.store.folders();
        let (folder, name) = match row.kept {
            Some(Kept::Record) => (&folders.records, files::record_name(id)),
            Some(Kept::Blob) => (&folders.blobs, id.to_string()),
            None => return Ok(()),
        };
        match folder.try_stat(name.as_bytes()) {
            Ok(Some(stat)) if stat.kind != sys::FileType::Regular => {
                Err(("record-missing", format!("{name} is not a file")))
            }
            Ok(Some(stat)) if stat.size > 0 => Ok(()),
            Ok(Some(_)) => Err(("record-missing", format!("{name} is empty"))),
            Ok(None) => Err(("record-missing", format!("{name} is missing"))),
            Err(error) => Err((UNREADABLE, error.to_string())),
        }
    }
}

/// Whether a call failed in a way that says nothing about what it was to read: no descriptor or memory left, no room
/// for a lease, an I/O error that the next try may not meet. What such a look says is told and not kept, for a layer
/// that is marked as damaged is refused until somebody repairs it.
pub(super) fn is_of_the_machine(error: &(dyn std::error::Error + 'static)) -> bool {
    let errno = match (error.downcast_ref::<sys::Error>(), error.downcast_ref::<std::io::Error>()) {
        (Some(error), _) => Some(error.errno().raw_os_error()),
        (None, Some(error)) => match error.get_ref() {
            // Not in the chain of sources: that goes on below what travelled inside.
            Some(inside) => return is_of_the_machine(inside),
            None => error.raw_os_error(),
        },
        (None, None) => match error.downcast_ref::<layerstore_changeset::Error>() {
            Some(layerstore_changeset::Error::System(error)) => Some(error.errno().raw_os_error()),
            _ => return error.source().is_some_and(is_of_the_machine),
        },
    };
    use sys::Errno as E;
    const PASSING: [E; 10] =
        [E::IO, E::INTR, E::MFILE, E::NFILE, E::NOMEM, E::NOBUFS, E::AGAIN, E::NOSPC, E::DQUOT, E::ROFS];
    errno.is_some_and(|errno| PASSING.iter().any(|passing| passing.raw_os_error() == errno))
}
