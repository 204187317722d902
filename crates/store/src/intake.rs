//! How a pull reads the blobs of layers: hashed once, telling how far it is, and one layer ahead of the one that is
//! being unpacked.

use std::io::Read;

use layerstore_changeset::Digest;
use layerstore_image::Verify;

use crate::db::layers;
use crate::error::{Explain as _, Result};
use crate::import::{OPERATION, Pull};
use crate::model::{LayerProgress, LayerStage, Watcher};
use crate::unpack::OpenTar;

/// Bytes between two reports of progress.
const REPORT: u64 = 512 << 10;

impl Pull<'_> {
    /// Opens a layer's blob, which tells how far it is.
    pub(crate) fn open_blob(&self, progress: &LayerProgress, verify: Verify) -> Result<Counted> {
        let blob = self.source.open_layer(progress.index, verify).explain(OPERATION, progress.diff_id)?;
        let progress = LayerProgress { stage: LayerStage::Moving, ..progress.clone() };
        self.watcher.tell(&progress);
        Ok(Counted { blob, watcher: self.watcher.clone(), progress, told: 0 })
    }

    pub(crate) fn open_tar(&self, progress: &LayerProgress) -> Result<OpenTar> {
        // Hashed once, as a tar.
        let verify = if self.is_its_tar(progress) { Verify::Size } else { Verify::All };
        let blob = Box::new(self.open_blob(progress, verify)?);
        self.store.open_tar(OPERATION, &progress.diff_id, blob, self.write_back.clone())
    }

    /// Whether a layer's blob is promised to be the tar itself, because both have one digest.
    pub(crate) fn is_its_tar(&self, progress: &LayerProgress) -> bool {
        let layer = self.source.layers().get(progress.index);
        layer.is_some_and(|layer| layer.digest == Some(progress.diff_id))
    }

    /// Begins to read the layer above one, unless somebody has it or works on it. It is claimed when its turn
    /// comes; whatever fails here fails again then, and is told then.
    pub(crate) fn open_ahead(&self, below: &LayerProgress, chain_id: &Digest) -> Option<(usize, OpenTar)> {
        let index = below.index + 1;
        let diff_id = self.source.config().diff_ids().get(index)?;
        let above = Digest::chain(Some(chain_id), diff_id);
        let known =
            self.store.database().read(OPERATION, |connection| layers::by_chain(connection, &above)).ok()?;
        if known.is_some() {
            return None;
        }
        let progress = self.progress(index, diff_id);
        Some((index, self.open_tar(&progress).ok()?))
    }
}

/// A blob that tells how far it is.
pub(crate) struct Counted {
    blob: Box<dyn Read + Send>,
    watcher: Watcher,
    progress: LayerProgress,
    told: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.blob.read(buffer)?;
        self.progress.bytes += count as u64;
        if self.progress.bytes - self.told >= REPORT {
            self.told = self.progress.bytes;
            self.watcher.tell(&self.progress);
        }
        Ok(count)
    }
}
