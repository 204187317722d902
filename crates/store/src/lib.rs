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
//!   gate.lock                          flock: one writer of the database at a time
//!   DRIVER/                            the driver's own, by its name
//!   records/LAYER.tar-split.gz         how the layer's tar is put together again, byte for byte
//!   records/LAYER.places               names that lie elsewhere in the tree, if there are any
//!   blobs/LAYER                        the compressed blob, where a record cannot give it back
//!   images/HEX/config.json             an image's configuration and manifest, as they came
//!   images/HEX/manifest.json
//!   staging/SESSION.lease              flock: a pull, push or commit that is alive
//! RUNROOT/                             0700, dies with a reboot
//!   DRIVER/                            the driver's mounts and locks
//!   mnt/CONTAINER                      where containers are mounted by default
//!   recovered                          leftovers of an earlier boot were cleared
//! ```
//!
//! Invariant: what is visible is complete. Data is written first, under ids that nothing refers to, then made
//! durable, and one transaction makes it visible. A crash leaves leftovers that are found by the locks that died
//! with the process, never half a layer.

mod check;
mod commit;
pub mod config;
mod containers;
mod db;
mod df;
mod error;
mod export;
mod files;
mod gc;
mod images;
mod import;
mod inspect;
mod layers;
mod lookup;
mod model;
mod mounts;
mod open;
mod rmi;
mod session;
mod store;
mod tree;
mod unpack;

pub use config::{Config, Environment, Origin, Overrides, Setting, SyncMode};
pub use error::{Error, Kind, Result};
pub use layerstore_changeset::{Context, Digest};
pub use layerstore_driver::{
    Access, Applied, Capabilities, ChangeKind, CreateOptions, IdMap, IdMapping, LayerId, MountPlan,
    PathChange, PlanOptions, Registry, Usage,
};
pub use layerstore_image::{Compression, ImageDestination, ImageName, ImageSource};
pub use model::{
    Check, CheckOptions, CommitOptions, Container, ContainerOptions, Finding, Freed, Gc, HistoryLine, Image,
    ImageSummary, Info, Layer, LayerKind, LayerProgress, LayerStage, LayerState, MountOptions, PullOptions,
    Pulled, PushOptions, Removal, Space, SpaceLine, TreeNode, Watcher,
};
pub use store::{Store, StoreOptions};
