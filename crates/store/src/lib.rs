//! Container layers, images and containers over pluggable storage drivers: what a runtime embeds.
//!
//! ```no_run
//! use layerstore::{
//!     Config, ContainerOptions, Context, Environment, MountOptions, Overrides, PullOptions, Store, StoreOptions,
//!     Watcher,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The drivers that `layerstore-builtin` has; another one is added with `.with(its factory)`.
//! let registry = layerstore_builtin::registry();
//! // What the configuration files of this machine say; `Config::at(graphroot, runroot)` reads none.
//! let config = Config::load(&Overrides::default(), &Environment::current())?;
//! let store = Store::open(StoreOptions { config, registry })?;
//! store.warnings().iter().for_each(|warning| eprintln!("{warning}"));
//!
//! // Clones of a context share its flag: cancelled from any thread, whatever runs with it stops cleanly.
//! let context = Context::new();
//! let stop = context.clone();
//! let impatient = std::thread::spawn(move || {
//!     std::thread::sleep(std::time::Duration::from_secs(600));
//!     stop.cancel();
//! });
//! # drop(impatient);
//! let options = PullOptions {
//!     names: vec!["example:1".to_owned()],
//!     watcher: Watcher::new(|layer| eprintln!("layer {} of {}: {}", layer.index, layer.count, layer.bytes)),
//! };
//! let image = store.pull("oci:image-directory:tag", &options, &context)?;
//!
//! let options = ContainerOptions { name: Some("one".to_owned()), ..ContainerOptions::default() };
//! let container = store.create_container(&image.id.to_string(), &options, &context)?;
//! let root = store.mount(&container.id, &MountOptions::default())?;
//! eprintln!("{} is at {}", container.id, root.display());
//! for change in store.diff(&container.id, &context)? {
//!     eprintln!("{:?} {:?}", change.kind, change.path);
//! }
//! store.unmount(&container.id, None)?;
//! store.remove_container(&container.id, false)?;
//! # Ok(())
//! # }
//! ```
//!
//! Types of the crates below that this one's API is made of are at its top where their names are unambiguous; all
//! of them are in [`image`], for those who bring a transport of their own ([`Store::pull_from`],
//! [`Store::push_to`]), in [`driver`] and in [`changeset`].
//!
//! Layers are hashed and unpacked here, which without optimisation takes ten times as long. A program that embeds
//! this crate wants in its `Cargo.toml`
//!
//! ```toml
//! [profile.dev.package."*"]
//! opt-level = 3
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
mod detached;
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
mod intake;
mod layers;
mod lookup;
mod lost;
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
mod verify;
mod way;
mod writeback;

pub use config::{Config, Environment, Origin, Overrides, Setting, SyncMode};
pub use detached::DetachedRoot;
pub use error::{Error, Kind, Result};
pub use layerstore_changeset::{self as changeset, Code, Context, Digest, RelPath};
pub use layerstore_driver::{
    self as driver, Access, Applied, Capabilities, ChangeKind, CreateOptions, Driver, DriverFactory, IdMap,
    IdMapping, LayerId, MountFlags, MountPlan, PathChange, PlanOptions, Registry, Usage,
};
pub use layerstore_image::{self as image, Compression, ImageDestination, ImageName, ImageSource};
pub use model::{
    Check, CheckOptions, CommitOptions, Container, ContainerOptions, Finding, Freed, Gc, HistoryLine, Image,
    ImageSummary, Info, Layer, LayerKind, LayerProgress, LayerStage, LayerState, MountOptions, PullOptions,
    Pulled, PushOptions, Rebuilt, Removal, Space, SpaceLine, TreeNode, Watcher,
};
pub use store::{Store, StoreOptions};
