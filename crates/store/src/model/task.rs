//! Long operations: options, progress and results of pull and push.

use std::fmt;
use std::sync::Arc;

use layerstore_changeset::Digest;
use layerstore_image::Compression;

/// Told how far each layer is; called from any thread, at most every few hundred kibibytes.
#[derive(Clone, Default)]
pub struct Watcher(Option<Arc<Watch>>);

type Watch = dyn Fn(&LayerProgress) + Send + Sync;

impl Watcher {
    /// A watcher that calls this.
    pub fn new(watch: impl Fn(&LayerProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    pub(crate) fn tell(&self, progress: &LayerProgress) {
        if let Some(watch) = &self.0 {
            watch(progress);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watcher(..)" } else { "Watcher(none)" })
    }
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Which layer, from the base, counted from 0.
    pub index: usize,
    /// How many layers there are.
    pub count: usize,
    /// The layer's diff ID.
    pub diff_id: Digest,
    /// What is being done.
    pub stage: LayerStage,
    /// Bytes of the blob (pull) or of the tar (push) done so far.
    pub bytes: u64,
    /// How many there will be, where that is known.
    pub total: Option<u64>,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStage {
    /// Somebody else is unpacking it.
    Waiting,
    /// It is being read or written.
    Moving,
    /// It is done.
    Done,
    /// It is there already; nothing was read.
    Exists,
}

/// How an image is brought in.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Names for the image; a name that another image has moves to this one.
    pub names: Vec<String>,
    /// Told how far each layer is.
    pub watcher: Watcher,
}

/// An image that was brought in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pulled {
    /// Its ID.
    pub id: Digest,
    /// Layers that were there already.
    pub layers_held: usize,
    /// Layers that were unpacked.
    pub layers_new: usize,
    /// What a person should know: xattrs and devices that were left out.
    pub warnings: Vec<String>,
}

/// How an image is written out.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// How layers are compressed; none leaves it to the transport (gzip for OCI, nothing for docker archives).
    /// gzip gives the same bytes for the same layer every time.
    pub compression: Option<Compression>,
    /// Told how far each layer is.
    pub watcher: Watcher,
}
