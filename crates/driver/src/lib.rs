//! The storage driver contract.
//!
//! A storage driver decides how layers lie on disk and how a chain of them becomes one root file system. It
//! implements [`Driver`] and [`DriverFactory`]; everybody else uses those and the mounting in [`mount`], which is
//! the only place in the project that mounts. What each operation promises is written as numbered clauses in
//! `conformance/README.md` and checked by the conformance suite.
//!
//! Invariant: no decision here depends on a driver's name; what differs between drivers is asked of
//! [`Capabilities`].

pub mod capability;
pub mod driver;
pub mod error;
pub mod factory;
pub mod flags;
pub mod id;
pub mod layout;
pub mod lease;
pub mod mount;
pub mod options;
pub mod plan;
pub mod registry;

pub use capability::Capabilities;
pub use driver::{Base, CreateOptions, Driver, LayerInfo, LayerState, Look, Outcome, Recovered};
pub use error::{Error, Kind, Result};
pub use factory::{DriverFactory, OpenOptions, Probe};
pub use flags::MountFlags;
pub use id::LayerId;
pub use layerstore_changeset::context::{Context, Progress};
pub use layerstore_changeset::tree::{Applied, ChangeKind, PathChange, Usage};
/// The system calls that the interfaces of this crate speak of, for drivers outside of this workspace.
pub use layerstore_sys as sys;
pub use lease::Leases;
pub use mount::DriverExt;
pub use options::{DriverOptions, OptionKind, OptionSpec};
pub use plan::{Access, IdMap, IdMapping, MountPlan, PlanOptions};
pub use registry::{Registry, Selected, Selection};
