//! Making what was written durable before anything visible refers to it.
//!
//! | `sync` | an image | an applied or sealed layer by itself | an empty new layer |
//! |---|---|---|---|
//! | `layer` | one `syncfs` | one `syncfs` | `fsync` of its few files |
//! | `file` | `fsync` of every file and directory of its new layers | the same | the same |
//! | `none` | nothing | nothing | nothing |
//!
//! What will be synced is on its way before: files that are not small one by one ([`Store::with_write_back`]), and for
//! `layer` the others in portions (`crate::writeback`).
//!
//! `file` is for file systems that others fill as well: `syncfs` waits for their data too.
//!
//! Invariant: the order is data, sync, row; an error of a sync is final, because the kernel forgets what it could not
//! write.

use layerstore_changeset::{Context, Digest};
use layerstore_driver::LayerId;
use layerstore_sys as sys;

use crate::config::SyncMode;
use crate::error::{Explain as _, Result};
use crate::files;
use crate::mirror;
use crate::store::Store;

/// Files that are made durable at the same time.
const THREADS: usize = 4;

impl Store {
    /// For unpacking what will be synced in the end: with write-back that begins at once, if it will.
    pub(crate) fn with_write_back(&self, context: &Context) -> Context {
        match self.config().sync.value {
            SyncMode::None => context.clone(),
            SyncMode::Layer | SyncMode::File => context.clone().with_write_back(),
        }
    }

    /// Makes an image's documents and its new layers durable, if that is wanted. Errors of earlier write-back show
    /// up here, because the directories were opened before anything was written.
    pub(crate) fn sync_image(&self, operation: &'static str, new: &[&LayerId], image: &Digest) -> Result<()> {
        match self.config().sync.value {
            SyncMode::None => Ok(()),
            SyncMode::Layer => self.sync_all(operation),
            SyncMode::File => {
                for id in new {
                    self.driver().sync(id).explain(operation, id)?;
                    self.sync_layer_files(operation, id)?;
                }
                let images = &self.folders().images;
                let folder = images.open_dir(image.hex().as_bytes()).explain(operation, image)?;
                sys::sync::tree(&folder, THREADS).explain(operation, image)?;
                images.sync().explain(operation, image)
            }
        }
    }

    /// Makes what was written into a layer durable that is not an image's, if that is wanted.
    pub(crate) fn sync_content(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        match self.config().sync.value {
            SyncMode::None => Ok(()),
            SyncMode::Layer => self.sync_all(operation),
            SyncMode::File => self.driver().sync(id).explain(operation, id),
        }
    }

    /// Makes a new layer durable that holds nothing yet, if that is wanted: a few files, and nobody's time for
    /// waiting until all other data on the file system is written.
    pub(crate) fn sync_layer(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        match self.config().sync.value {
            SyncMode::None => Ok(()),
            SyncMode::Layer | SyncMode::File => self.driver().sync(id).explain(operation, id),
        }
    }

    /// Makes a layer that took another one's place, and its files, durable, if that is wanted.
    pub(crate) fn sync_repaired(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        match self.config().sync.value {
            SyncMode::None => Ok(()),
            SyncMode::Layer => self.sync_all(operation),
            SyncMode::File => {
                self.driver().sync(id).explain(operation, id)?;
                self.sync_layer_files(operation, id)
            }
        }
    }

    fn sync_all(&self, operation: &'static str) -> Result<()> {
        let inner = self.inner();
        inner.root.sync_file_system().explain(operation, "")?;
        match &inner.driver_root {
            Some(driver_root) => driver_root.sync_file_system().explain(operation, ""),
            None => Ok(()),
        }
    }

    fn sync_layer_files(&self, operation: &'static str, id: &LayerId) -> Result<()> {
        let folders = self.folders();
        for (folder, names) in [
            (&folders.records, vec![files::record_name(id), files::places_name(id), mirror::file_name(id)]),
            (&folders.blobs, vec![id.to_string()]),
        ] {
            for name in names {
                match folder.open_file(name.as_bytes()) {
                    Err(error) if error.is_not_found() => {}
                    opened => opened.and_then(|file| file.sync()).explain(operation, id)?,
                }
            }
            folder.sync().explain(operation, id)?;
        }
        Ok(())
    }
}
