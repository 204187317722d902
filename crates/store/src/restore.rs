//! Bringing damaged layers in again from a source, each into a new layer that takes its place.

use layerstore_changeset::{Context, Digest};
use layerstore_driver::LayerId;
use layerstore_image::ImageSource;

use crate::db::layers::{LayerOrigin, LayerRow, NewLayer};
use crate::db::{Durability, layers};
use crate::error::{Explain as _, Result};
use crate::import::Pull;
use crate::model::{LayerKind, LayerProgress, LayerStage, LayerState, Watcher};
use crate::session::Session;
use crate::store::Store;

const OPERATION: &str = "restore";

impl Store {
    /// Brings in again what the store knows of an image and has damaged; returns which layers.
    pub(crate) fn restore_layers(
        &self,
        source: &dyn ImageSource,
        watcher: &Watcher,
        context: &Context,
    ) -> Result<Vec<LayerId>> {
        let session = Session::begin(self, OPERATION, &[])?;
        let (layers, new, warnings) = (Vec::new(), Vec::new(), Vec::new());
        let mut pull = Pull {
            store: self,
            source,
            watcher,
            context,
            session,
            layers,
            new,
            repaired: Vec::new(),
            size: 0,
            ahead: None,
            write_back: self.write_back(),
            warnings,
        };
        let mut chain: Option<Digest> = None;
        for (index, diff_id) in source.config().diff_ids().iter().enumerate() {
            let chain_id = Digest::chain(chain.as_ref(), diff_id);
            let row =
                self.database().read(OPERATION, |connection| layers::by_chain(connection, &chain_id))?;
            // What stands on a layer that is not there is not there.
            if row.is_none_or(|row| !matches!(row.layer.state, LayerState::Ready | LayerState::Damaged)) {
                break;
            }
            pull.layer(index, diff_id, &chain_id)?;
            chain = Some(chain_id);
        }
        Ok(std::mem::take(&mut pull.repaired))
    }
}

impl Pull<'_> {
    /// Brings a damaged layer in again, into a new layer that takes its place. None when it is sound meanwhile.
    pub(crate) fn repair(
        &mut self,
        row: &LayerRow,
        index: usize,
        progress: &LayerProgress,
    ) -> Result<Option<u64>> {
        let store = self.store;
        let old = &row.layer.id;
        let now = store.database().read(OPERATION, |connection| layers::get(connection, old.as_str()))?;
        if now.is_none_or(|now| now.layer.state != LayerState::Damaged) {
            return Ok(None);
        }
        store.ensure_no_mounts(OPERATION, old)?;
        let id = LayerId::random().explain(OPERATION, old)?;
        store.database().write(OPERATION, Durability::Relaxed, |transaction| {
            let parent = self.layers.last();
            let (session, kind) = (Some(self.session.id()), LayerKind::Committed);
            let new = NewLayer { id: &id, parent, session, chain_id: None, kind, origin: LayerOrigin::Image };
            layers::insert(transaction, &new)
        })?;
        let chain_id = row.layer.chain_id.unwrap_or(progress.diff_id);
        let done = self.unpack(id, chain_id, index, progress)?;
        store.exchange(OPERATION, row, &done)?;
        self.watcher.tell(&LayerProgress { stage: LayerStage::Done, ..progress.clone() });
        Ok(Some(row.layer.size.unwrap_or(done.size)))
    }
}
