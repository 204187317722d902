//! Making damaged layers sound again, in place, and keeping everybody away from them until then.
//!
//! ```text
//! new layer, complete ─→ durable ─→ driver.replace(damaged, new) ─→ its files renamed ─→ durable ─→ row `ready`
//! ```
//!
//! What stands on the layer stays: children, images, containers. A crash in between leaves the row `damaged`, and
//! the next pull begins again.

use layerstore_driver::{LayerId, LayerState as DriverState};

use crate::db::layers::{Completed, LayerRow};
use crate::db::{Durability, damage, layers};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::store::Store;

/// What a person can do about a damaged layer.
pub(crate) const HINT: &str =
    "pull the image again: that repairs it in place; `layerstore check --repair --from SOURCE` does the same";

impl Store {
    /// Refuses to work on a layer when it or one below it is damaged.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], with what to do.
    pub(crate) fn ensure_sound(&self, operation: &'static str, what: &str, layer: &LayerId) -> Result<()> {
        match self.database().read(operation, |connection| damage::in_chain(connection, layer))? {
            None => Ok(()),
            Some(row) => Err(damaged(operation, what, &row)),
        }
    }

    /// Refuses to replace a layer that a mount shows, its own or one of a layer above.
    pub(crate) fn ensure_no_mounts(&self, operation: &'static str, layer: &LayerId) -> Result<()> {
        let above = self.database().read(operation, |connection| damage::descendants(connection, layer))?;
        for id in above.iter().map(|row| &row.layer.id).chain([layer]) {
            if self.is_mounted(operation, id)? {
                let message =
                    format!("the layer {layer} is damaged and cannot be repaired while {id} is mounted");
                return Err(Error::new(Kind::InUse, operation, layer.as_str(), message)
                    .with_layer(layer)
                    .with_hint("unmount the containers on it and try again"));
            }
        }
        Ok(())
    }

    /// Whether what lies on disk cannot be what was recorded, by a look at the records only.
    pub(crate) fn is_torn(&self, operation: &'static str, id: &LayerId) -> Result<bool> {
        let Some(row) = self.database().read(operation, |connection| layers::get(connection, id.as_str()))?
        else {
            return Ok(false);
        };
        match self.driver().layer(id) {
            Ok(info) if info.state == DriverState::Sealed && info.parent == row.layer.parent => {
                self.lacks_its_tar(&row)
            }
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => Ok(true),
            Err(error) => Err(error).explain(operation, id),
        }
    }

    /// Puts a complete new layer in the place of a damaged one.
    pub(crate) fn exchange(&self, operation: &'static str, old: &LayerRow, new: &Completed) -> Result<()> {
        let id = &old.layer.id;
        self.sync_repaired(operation, &new.id)?;
        self.driver().replace(id, &new.id).explain(operation, id)?;
        self.move_layer_files(&new.id, id).explain(operation, id)?;
        self.sync_repaired(operation, id)?;
        self.database().write(operation, Durability::Full, |transaction| {
            damage::clear(transaction, id, Some(new))?;
            layers::doom(transaction, &new.id)?;
            layers::forget(transaction, std::slice::from_ref(&new.id))
        })?;
        let row = self.database().read(operation, |connection| layers::get(connection, id.as_str()))?;
        row.map_or(Ok(()), |row| self.write_layer_record(&row))
    }

    /// Gives the files that belong to one layer to another one, whose own go.
    fn move_layer_files(&self, from: &LayerId, to: &LayerId) -> layerstore_sys::Result<()> {
        let folders = self.folders();
        self.remove_layer_files(to)?;
        let names = [
            (&folders.records, files::record_name(from), files::record_name(to)),
            (&folders.records, files::places_name(from), files::places_name(to)),
            (&folders.blobs, from.to_string(), to.to_string()),
        ];
        for (folder, from, to) in names {
            files::make_room(folder, &to)?;
            match folder.rename(from.as_bytes(), folder, to.as_bytes()) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The error about something that needs a damaged layer.
pub(crate) fn damaged(operation: &'static str, what: &str, row: &LayerRow) -> Error {
    let id = &row.layer.id;
    let hint = if damage::is_of_image(row) { HINT } else { "`layerstore check` says what is wrong with it" };
    Error::new(Kind::Corrupt, operation, what, format!("the layer {id} is damaged"))
        .with_layer(id)
        .with_hint(hint)
}
