//! Container layers, images and containers over pluggable storage drivers: what a runtime embeds.
//!
//! ```no_run
//! use layerstore::{Config, Environment, Overrides, Registry, Store, StoreOptions};
//!
//! # fn main() -> layerstore::Result<()> {
//! let config = Config::load(&Overrides::default(), &Environment::current())?;
//! let registry = Registry::new(); // .with(a driver's factory)
//! let store = Store::open(StoreOptions { config, registry })?;
//! for image in store.images()? {
//!     let _ = (image.id, image.size);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Store`] is a handle that can be cloned and used from any thread; many processes use one store at once.
//! There is no global state.
//!
//! # Layout
//!
//! ```text
//! GRAPHROOT/                           0700
//!   layerstore.db                      metadata (SQLite, WAL); see the module `db`
//!   reserve                            space that removing may use on a full disk; see `db::reserve`
//!   gate.lock                          a queue: one writer of the database at a time
//!   store.lock, runroot.json           who has the store open, and with which runroot; see the module `binding`
//!   DRIVER/                            the driver's own, by its name
//!   records/LAYER.tar-split.gz         how the layer's tar is put together again, byte for byte
//!   records/LAYER.places               names that lie elsewhere in the tree, if there are any
//!   records/LAYER.json                 what the database says of the layer; see the module `mirror`
//!   blobs/LAYER                        the compressed blob, where a record cannot give it back, or `keep_blobs`
//!   images/HEX/config.json             an image's configuration and manifest, as they came
//!   images/HEX/manifest.json
//!   images/HEX/image.json, names.json  what the database says of it
//!   containers/LAYER.json              what the database says of the container with this layer
//!   staging/SESSION.lease              flock: a pull, push or commit that is alive
//!   staging/LAYER.lease                flock: somebody makes, seals, repairs or removes this layer
//! RUNROOT/                             0700, dies with a reboot
//!   DRIVER/                            the driver's mounts and locks
//!   mnt/CONTAINER                      where containers are mounted by default
//!   roots/TOKEN                        leftovers of an earlier boot were cleared in the root of this token
//! ```
//!
//! Invariant: what is visible is complete. Data is written first, under ids that nothing refers to, then made
//! durable, and one transaction makes it visible. A crash leaves leftovers that are found by the locks that died
//! with the process, never half a layer.

mod binding;
mod blobs;
mod check;
mod commit;
pub mod config;
mod containers;
mod db;
mod df;
mod doom;
mod durable;
mod error;
mod export;
mod files;
mod gc;
mod images;
mod import;
mod inspect;
mod layers;
mod lookup;
mod mirror;
mod model;
mod mounts;
mod open;
mod rebuild;
mod recover;
mod repair;
mod restore;
mod rmi;
mod session;
mod store;
mod tree;
mod unpack;
mod writeback;

pub use config::{Config, Environment, Origin, Overrides, Setting, SyncMode};
pub use error::{Error, Kind, Result};
pub use layerstore_changeset::{Context, Digest};
pub use layerstore_driver::{
    Access, Applied, Capabilities, ChangeKind, CreateOptions, IdMap, IdMapping, LayerId, MountFlags,
    MountPlan, PathChange, PlanOptions, Registry, Usage,
};
pub use layerstore_image::{Compression, ImageDestination, ImageName, ImageSource};
pub use model::{
    Check, CheckOptions, CommitOptions, Container, ContainerOptions, Finding, Freed, Gc, HistoryLine, Image,
    ImageSummary, Info, Layer, LayerKind, LayerProgress, LayerStage, LayerState, MountOptions, PullOptions,
    Pulled, PushOptions, Rebuilt, Removal, Space, SpaceLine, TreeNode, Watcher,
};
pub use store::{Store, StoreOptions};
