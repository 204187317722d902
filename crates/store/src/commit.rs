//! Making an image of a container.
//!
//! ```text
//! driver.diff ─→ tar::Writer ─→ pipe ─→ unpack (hash, record, driver.apply) ─→ a new sealed layer
//!   (thread)
//! ```
//!
//! The container's own layer stays writable, so its changes are copied once. What is hashed is exactly what is
//! recorded and applied, so the new layer gives its diff ID back like a pulled one.

use std::os::fd::AsFd as _;

use layerstore_changeset::{Context, Digest};
use layerstore_driver::{Base, CreateOptions, LayerId};
use layerstore_image::{Commit, Instruction};
use layerstore_sys as sys;

use crate::db::images::ImageRow;
use crate::db::layers::{Completed, Kept, LayerOrigin, NewLayer};
use crate::db::{Durability, damage, layers, now, sessions};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::images::parse_tag;
use crate::model::{CommitOptions, Container, LayerKind, LayerState};
use crate::session::{Lease, Session};
use crate::store::Store;
use crate::unpack::Unpacked;

const OPERATION: &str = "commit";

impl Store {
    /// Makes a new image of what a container changed, and returns its ID; the container goes on as it is.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`InvalidInput`](crate::Kind::InvalidInput) for an instruction or a
    /// name; those of diff and apply.
    pub fn commit(&self, container: &str, options: &CommitOptions, context: &Context) -> Result<Digest> {
        let name = options.name.as_deref().map(|name| parse_tag(OPERATION, name)).transpose()?;
        let changes = options
            .changes
            .iter()
            .map(|change| change.parse::<Instruction>().explain(OPERATION, change))
            .collect::<Result<Vec<_>>>()?;
        let found = self.find_container(OPERATION, container)?;
        self.ensure_sound(OPERATION, container, &found.layer)?;
        // The image may be gone: its layers and its configuration stay as long as the container does.
        let mut chain =
            self.database().read(OPERATION, |connection| damage::chain(connection, &found.layer))?;
        if !chain.is_empty() {
            chain.remove(0);
        }
        chain.reverse();
        let holds = chain.iter().map(|row| row.layer.id.to_string());
        let holds: Vec<String> = holds.chain([found.layer.to_string(), found.image.to_string()]).collect();
        let session = Session::begin(self, OPERATION, &holds)?;
        // From here on nobody removes it; it may have gone, and layers of a removed image with it, a moment before.
        self.find_container(OPERATION, &found.id)?;
        let parent = chain.last().map(|row| (row.layer.id.clone(), row.layer.chain_id));
        let completed = self.copy_changes(&session, &found, parent.as_ref(), context)?;
        let config = self.read_config(OPERATION, &found.image)?;
        let config = config
            .commit(&Commit {
                diff_id: Some(completed.diff_id),
                created: layerstore_image::now(),
                created_by: None,
                author: options.author.clone(),
                message: options.message.clone(),
                changes,
            })
            .explain(OPERATION, container)?;
        let id = config.image_id();
        self.database().write(OPERATION, Durability::Relaxed, |transaction| {
            sessions::hold(transaction, session.id(), &id.to_string())
        })?;
        self.write_image_files(&id, config.raw(), None)?;
        let (top, new) = self.settle(&session, completed, context)?;
        let below: u64 = chain.iter().filter_map(|row| row.layer.size).sum();
        let layers: Vec<LayerId> = chain.into_iter().map(|row| row.layer.id).chain([top.0]).collect();
        let row = ImageRow {
            id,
            parent: Some(found.image),
            created: config.created().map(ToOwned::to_owned),
            stored: now(),
            size: below + top.1,
            manifest_digest: None,
        };
        let new: Vec<Completed> = new.into_iter().collect();
        self.publish(OPERATION, session, &row, &layers, &new, name.as_slice(), context)?;
        Ok(id)
    }

    /// Copies a container's changes into a new sealed layer of this session.
    fn copy_changes(
        &self,
        session: &Session,
        container: &Container,
        parent: Option<&(LayerId, Option<Digest>)>,
        context: &Context,
    ) -> Result<Completed> {
        let id = LayerId::random().explain(OPERATION, &container.id)?;
        self.database().write(OPERATION, Durability::Relaxed, |transaction| {
            layers::insert(
                transaction,
                &NewLayer {
                    id: &id,
                    parent: parent.map(|(id, _)| id),
                    session: Some(session.id()),
                    chain_id: None,
                    kind: LayerKind::Committed,
                    origin: LayerOrigin::Image,
                },
            )
        })?;
        self.driver()
            .create(&id, parent.map(|(id, _)| id), &CreateOptions::default(), context)
            .explain(OPERATION, &container.id)?;
        let unpacked = self.through_pipe(&container.layer, &id, context)?;
        if unpacked.applied.replaced > 0 {
            // A diff names each path once.
            let message = "the container's diff names a path twice; this is a mistake of the driver";
            return Err(Error::new(Kind::Corrupt, OPERATION, container.id.as_str(), message));
        }
        let chain_id = Digest::chain(parent.and_then(|(_, chain)| chain.as_ref()), &unpacked.diff_id);
        Ok(Completed {
            id,
            chain_id: Some(chain_id),
            diff_id: unpacked.diff_id,
            size: unpacked.applied.bytes,
            usage: unpacked.usage,
            tar_size: unpacked.tar_size,
            kept: Kept::Record,
            blob: None,
            sync: self.config().sync.value.as_str(),
        })
    }

    /// Diffs one layer on a thread and unpacks the tar into another on this one.
    fn through_pipe(&self, from: &LayerId, to: &LayerId, context: &Context) -> Result<Unpacked> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::System, OPERATION, from.as_str(), error.to_string()).with_source(error)
        };
        let (reader, mut writer) = std::io::pipe().map_err(failed)?;
        sys::pipe::enlarge(writer.as_fd());
        std::thread::scope(|scope| {
            let diff = std::thread::Builder::new()
                .name("diff".to_owned())
                .spawn_scoped(scope, move || {
                    // Takes the writer along, so that the other side sees the end when this one ends.
                    self.write_diff(OPERATION, from, Base::Parent, &mut writer, context)
                })
                .map_err(failed)?;
            let tar = self.open_tar(OPERATION, to, Box::new(reader), self.write_back());
            let unpacked = tar.and_then(|tar| self.unpack(OPERATION, to, tar, context));
            let diffed = diff.join().unwrap_or_else(|_| {
                Err(Error::new(Kind::System, OPERATION, from.as_str(), "the diffing thread panicked"))
            });
            match (unpacked, diffed) {
                (Ok(mut unpacked), Ok(warnings)) => {
                    unpacked.warnings.extend(warnings);
                    Ok(unpacked)
                }
                // A side that ends early fails the other one: the truncated archive is the diff's fault, the
                // broken pipe the unpacking's.
                (Err(error), Ok(_)) => Err(error),
                (Err(error), Err(_)) if error.code() != Some("TRUNCATED") => Err(error),
                (_, Err(error)) => Err(error),
            }
        })
    }

    /// Claims the chain ID of a new layer, or finds the layer that has it already: the same changes on the same
    /// image were committed before. Returns the layer with its size, and the new one if that is it.
    fn settle(
        &self,
        session: &Session,
        completed: Completed,
        context: &Context,
    ) -> Result<((LayerId, u64), Option<Completed>)> {
        let Some(chain_id) = completed.chain_id else {
            return Ok(((completed.id.clone(), completed.size), Some(completed)));
        };
        loop {
            let (other, doomed) = self.doom(OPERATION, Durability::Relaxed, |transaction| {
                let Some(row) = layers::by_chain(transaction, &chain_id)? else {
                    layers::claim(transaction, &completed.id, &chain_id)?;
                    return Ok((None, Vec::new()));
                };
                damage::mark_stray(transaction, &row.layer.id)?;
                let mut doomed = Vec::new();
                if row.layer.state == LayerState::Ready {
                    sessions::hold(transaction, session.id(), row.layer.id.as_str())?;
                    layers::doom(transaction, &completed.id)?;
                    doomed.push(completed.id.clone());
                }
                Ok((Some(row), doomed))
            })?;
            match other {
                None => return Ok(((completed.id.clone(), completed.size), Some(completed))),
                Some(row) if row.layer.state == LayerState::Ready => {
                    self.destroy(OPERATION, &doomed)?;
                    return Ok(((row.layer.id, row.layer.size.unwrap_or(0)), None));
                }
                Some(row) => match row.session {
                    Some(other) => {
                        Lease::wait(self.staging(), &other, context, OPERATION)?;
                        self.reap_if_dead(&other)?;
                    }
                    None => {
                        // What is in hand is exactly what the damaged one should be.
                        let Some(_lease) = Lease::try_take(self.staging(), row.layer.id.as_str(), OPERATION)?
                        else {
                            Lease::wait(self.staging(), row.layer.id.as_str(), context, OPERATION)?;
                            continue;
                        };
                        self.ensure_no_mounts(OPERATION, &row.layer.id)?;
                        self.exchange(OPERATION, &row, &completed)?;
                        return Ok(((row.layer.id, row.layer.size.unwrap_or(0)), None));
                    }
                },
            }
        }
    }
}
