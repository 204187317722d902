//! Bringing images in.
//!
//! ```text
//! claim     a row `staging` with the chain ID: one puller unpacks, the others wait for its lease
//! unpack    the driver's layer, its record; digests of the whole stream compared; the next layer is read ahead, and
//!           what was written is written back meanwhile
//! sync      one syncfs for the image
//! commit    one transaction: layers ready, image, names
//! ```
//!
//! Chains are claimed from the base upwards, so two pulls never wait for each other in a circle. Invariant: no
//! lock and no transaction is held while data is written; a failure at any point leaves what [`Session`] clears.

use std::sync::Arc;
use std::time::Instant;

use layerstore_changeset::{Code, Context, Digest};
use layerstore_driver::{CreateOptions, LayerId};
use layerstore_image::{Compression, ImageName, ImageSource, OpenOptions, Reference, Verify};

use crate::db::images::ImageRow;
use crate::db::layers::{Completed, Kept, LayerOrigin, LayerRow, NewLayer};
use crate::db::{Durability, damage, images, layers, now, sessions};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::files;
use crate::images::pulled_names;
use crate::model::{LayerKind, LayerProgress, LayerStage, LayerState, PullOptions, Pulled, Watcher};
use crate::session::{Lease, Session};
use crate::store::Store;
use crate::unpack::OpenTar;
use crate::writeback::WriteBack;

pub(crate) const OPERATION: &str = "pull";

impl Store {
    /// Brings an image in from a transport (`oci:DIR[:TAG]`, `oci-archive:…`, `docker-archive:…`, `rootfs:…`).
    /// Layers that are held are not read; the image becomes visible at once, when everything of it is there.
    /// Without a name in `options`, the source's own is used where it has one.
    ///
    /// # Errors
    /// Input that is refused, with its code; [`NoSpace`](crate::Kind::NoSpace),
    /// [`Cancelled`](crate::Kind::Cancelled) … After an error nothing of the image stays.
    pub fn pull(&self, source: &str, options: &PullOptions, context: &Context) -> Result<Pulled> {
        self.pull_from(&*self.open_source(OPERATION, source, context)?, options, context)
    }

    /// Opens an image to read it.
    pub(crate) fn open_source(
        &self,
        operation: &'static str,
        source: &str,
        context: &Context,
    ) -> Result<Box<dyn ImageSource>> {
        let reference = source.parse::<Reference>().explain(operation, source)?;
        // What has to be unpacked to be read goes to the store's own file system: `/tmp` may be small.
        let temporary = self.config().graphroot.value.join("staging");
        let open = OpenOptions { temporary, context: context.clone(), ..OpenOptions::default() };
        layerstore_image::open(&reference, &open).explain(operation, source)
    }

    /// Brings in an image that is open: as [`Store::pull`], from a transport of the caller's own.
    ///
    /// # Errors
    /// As [`Store::pull`].
    pub fn pull_from(
        &self,
        source: &dyn ImageSource,
        options: &PullOptions,
        context: &Context,
    ) -> Result<Pulled> {
        let mut warnings = source.warnings().to_vec();
        let names = pulled_names(OPERATION, source, &options.names, &mut warnings)?;
        let id = source.config().image_id();
        let session = Session::begin(self, OPERATION, &[id.to_string()])?;
        let mut pull = Pull {
            store: self,
            source,
            watcher: &options.watcher,
            context,
            session,
            layers: Vec::new(),
            new: Vec::new(),
            repaired: Vec::new(),
            size: 0,
            ahead: None,
            write_back: self.write_back(),
            warnings,
        };
        pull.layers()?;
        let Pull { session, layers, new, repaired, size, warnings, .. } = pull;
        let manifest = source.manifest();
        self.write_image_files(&id, source.config().raw(), manifest.map(|manifest| manifest.raw()))?;
        let image = ImageRow {
            id,
            parent: None,
            created: source.config().created().map(ToOwned::to_owned),
            stored: now(),
            size,
            manifest_digest: manifest.map(|manifest| manifest.digest()),
        };
        let layers_new = new.len() + repaired.len();
        self.publish(OPERATION, session, &image, &layers, &new, &names, context)?;
        Ok(Pulled { id, layers_held: layers.len() - layers_new, layers_new, warnings })
    }

    /// Makes data durable and then, in one transaction, an image with its new layers visible.
    #[expect(clippy::too_many_arguments, reason = "the parts of one transaction")]
    pub(crate) fn publish(
        &self,
        operation: &'static str,
        session: Session,
        image: &ImageRow,
        chain: &[LayerId],
        new: &[Completed],
        names: &[ImageName],
        context: &Context,
    ) -> Result<()> {
        let known = self.database().read(operation, |connection| images::get(connection, &image.id))?;
        if known.is_none() || !new.is_empty() {
            for done in new {
                let row = self
                    .database()
                    .read(operation, |connection| layers::get(connection, done.id.as_str()))?;
                if let Some(row) = row {
                    self.write_completed_record(done, row)?;
                }
            }
            self.write_image_record(known.as_ref().unwrap_or(image), chain)?;
            if known.is_none() {
                self.write_first_names(&image.id, names)?;
            }
            let new: Vec<&LayerId> = new.iter().map(|done| &done.id).collect();
            self.sync_image(operation, &new, &image.id)?;
        }
        context.check().explain(operation, image.id)?;
        let mut renamed = vec![image.id];
        self.database().write(operation, Durability::Full, |transaction| {
            for done in new {
                layers::complete(transaction, done)?;
            }
            images::insert(transaction, image, chain)?;
            for name in names {
                renamed.extend(images::named(transaction, name)?);
                images::set_name(transaction, name, &image.id)?;
            }
            session.end_in(transaction)
        })?;
        session.ended();
        tracing::info!(image = %image.id, layers = chain.len(), new = new.len(), "stored an image");
        self.follow_names(&renamed);
        Ok(())
    }
}

/// Who is to unpack a layer.
enum Claim {
    /// The caller, in the place of this one, which is damaged.
    Repair(Box<LayerRow>),
    /// It is there.
    Held(LayerId, u64),
    /// The caller.
    Mine,
    /// The session of this id.
    Wait(String),
}

/// One image on its way in.
pub(crate) struct Pull<'a> {
    pub(crate) store: &'a Store,
    pub(crate) source: &'a dyn ImageSource,
    pub(crate) watcher: &'a Watcher,
    pub(crate) context: &'a Context,
    pub(crate) session: Session,
    /// The image's layers so far, from the base.
    pub(crate) layers: Vec<LayerId>,
    /// Of these, what this pull unpacked.
    pub(crate) new: Vec<Completed>,
    /// Layers that were damaged and are sound again.
    pub(crate) repaired: Vec<LayerId>,
    /// Bytes of file data so far.
    pub(crate) size: u64,
    /// The next layer that nobody has, by its index, being read already.
    pub(crate) ahead: Option<(usize, OpenTar)>,
    pub(crate) write_back: Option<Arc<WriteBack>>,
    pub(crate) warnings: Vec<String>,
}

impl Pull<'_> {
    fn layers(&mut self) -> Result<()> {
        let mut chain: Option<Digest> = None;
        let diff_ids = self.source.config().diff_ids();
        for (index, diff_id) in diff_ids.iter().enumerate() {
            let chain_id = Digest::chain(chain.as_ref(), diff_id);
            self.layer(index, diff_id, &chain_id)?;
            chain = Some(chain_id);
        }
        Ok(())
    }

    pub(crate) fn layer(&mut self, index: usize, diff_id: &Digest, chain_id: &Digest) -> Result<()> {
        let progress = self.progress(index, diff_id);
        loop {
            let id = LayerId::random().explain(OPERATION, diff_id)?;
            self.context.check().explain(OPERATION, diff_id)?;
            match self.claim(&id, chain_id)? {
                Claim::Held(id, size) => {
                    if self.store.is_torn(OPERATION, &id)? {
                        self.store.database().write(OPERATION, Durability::Full, |transaction| {
                            damage::mark(transaction, &id)
                        })?;
                        continue;
                    }
                    tracing::info!(%diff_id, layer = %id, "the layer is there already");
                    self.layers.push(id);
                    self.size += size;
                    self.watcher.tell(&LayerProgress { stage: LayerStage::Exists, ..progress });
                    return Ok(());
                }
                Claim::Wait(session) => {
                    tracing::info!(%diff_id, "waiting for the process that unpacks the layer");
                    self.watcher.tell(&progress);
                    Lease::wait(self.store.staging(), &session, self.context, OPERATION)?;
                    self.store.reap_if_dead(&session)?;
                }
                Claim::Repair(row) => {
                    let old = row.layer.id.clone();
                    let Some(lease) = Lease::try_take(self.store.staging(), old.as_str(), OPERATION)? else {
                        self.watcher.tell(&progress);
                        Lease::wait(self.store.staging(), old.as_str(), self.context, OPERATION)?;
                        continue;
                    };
                    if let Some(size) = self.repair(&row, index, &progress)? {
                        tracing::info!(%diff_id, layer = %old, "made a damaged layer sound");
                        self.size += size;
                        self.layers.push(old.clone());
                        self.repaired.push(old);
                        drop(lease);
                        return Ok(());
                    }
                }
                Claim::Mine => {
                    let begun = Instant::now();
                    let done = self.unpack(id.clone(), *chain_id, index, &progress)?;
                    let took = begun.elapsed();
                    tracing::info!(%diff_id, layer = %id, bytes = done.size, ?took, "unpacked a layer");
                    self.size += done.size;
                    self.layers.push(id);
                    self.new.push(done);
                    self.watcher.tell(&LayerProgress {
                        stage: LayerStage::Done,
                        bytes: progress.total.unwrap_or(0),
                        ..progress
                    });
                    return Ok(());
                }
            }
        }
    }

    /// Finds the layer, or notes that this session unpacks it.
    fn claim(&self, id: &LayerId, chain_id: &Digest) -> Result<Claim> {
        self.store.database().write(OPERATION, Durability::Relaxed, |transaction| {
            let Some(row) = layers::by_chain(transaction, chain_id)? else {
                layers::insert(
                    transaction,
                    &NewLayer {
                        id,
                        parent: self.layers.last(),
                        session: Some(self.session.id()),
                        chain_id: Some(chain_id),
                        kind: LayerKind::Committed,
                        origin: LayerOrigin::Image,
                    },
                )?;
                return Ok(Claim::Mine);
            };
            match (row.layer.state, row.session.clone()) {
                (LayerState::Ready, _) => {
                    sessions::hold(transaction, self.session.id(), row.layer.id.as_str())?;
                    Ok(Claim::Held(row.layer.id, row.layer.size.unwrap_or(0)))
                }
                (LayerState::Staging, Some(session)) if !damage::is_stray(transaction, &row.layer.id)? => {
                    Ok(Claim::Wait(session))
                }
                _ => {
                    // A repair is for what is marked, and would come back here for ever.
                    damage::mark_stray(transaction, &row.layer.id)?;
                    sessions::hold(transaction, self.session.id(), row.layer.id.as_str())?;
                    Ok(Claim::Repair(Box::new(row)))
                }
            }
        })
    }

    pub(crate) fn progress(&self, index: usize, diff_id: &Digest) -> LayerProgress {
        let size = self.source.layers().get(index).map(|layer| layer.size);
        LayerProgress {
            index,
            count: self.source.config().diff_ids().len(),
            diff_id: *diff_id,
            stage: LayerStage::Waiting,
            bytes: 0,
            total: size.filter(|size| *size > 0),
        }
    }

    pub(crate) fn unpack(
        &mut self,
        id: LayerId,
        chain_id: Digest,
        index: usize,
        progress: &LayerProgress,
    ) -> Result<Completed> {
        let store = self.store;
        let tar = match self.ahead.take() {
            Some((at, tar)) if at == index => tar,
            _ => self.open_tar(progress)?,
        };
        store
            .driver()
            .create(&id, self.layers.last(), &CreateOptions::default(), self.context)
            .explain(OPERATION, progress.diff_id)?;
        self.ahead = self.open_ahead(progress, &chain_id);
        let unpacked = store.unpack(OPERATION, &id, tar, self.context)?;
        let mismatch = |message: String| {
            Error::new(Kind::InvalidInput, OPERATION, progress.diff_id.to_string(), message)
                .with_code(Code::DigestMismatch)
        };
        if unpacked.diff_id != progress.diff_id {
            return Err(mismatch(format!("the layer's tar has the diff ID {}", unpacked.diff_id)));
        }
        if self.is_its_tar(progress) && unpacked.compression != Compression::None {
            let message = "the blob is compressed, and promised to have the digest of its tar";
            return Err(mismatch(message.to_owned()));
        }
        // Where the tree lacks data of the tar, the blob is what gives it back.
        let kept = if unpacked.applied.replaced > 0 { Kept::Blob } else { Kept::Record };
        if kept == Kept::Blob || store.config().keep_blobs.value {
            store.keep_blob(OPERATION, &id, &mut self.open_blob(progress, Verify::All)?, self.context)?;
        }
        if kept == Kept::Blob {
            let record = files::record_name(&id);
            store.folders().records.unlink(record.as_bytes()).explain(OPERATION, &id)?;
        }
        self.warnings.extend(unpacked.warnings);
        let layer = self.source.layers().get(index);
        let blob = layer.and_then(|layer| Some((layer.digest?, layer.size, layer.media_type.to_string())));
        Ok(Completed {
            id,
            chain_id: Some(chain_id),
            diff_id: unpacked.diff_id,
            size: unpacked.applied.bytes,
            usage: unpacked.usage,
            tar_size: unpacked.tar_size,
            kept,
            blob,
            sync: store.config().sync.value.as_str(),
        })
    }
}
