//! The on-disk kit: how layers lie in a driver's root, for every driver that keeps each in a directory of its own.
//!
//! ```text
//! ROOT/                     0700
//!   driver.json             which driver, which version of the layout, what was settled at the first open
//!   ID/                     one layer, 0700 (an id that is a reserved name lies in _ID)
//!     layer.json            its record: id, parent, creation          see [`record`]
//!     sealed.json           there once it is sealed: usage
//!     counted.json          what an apply counted, for a while        see `count`
//!     children/CHILD+TOKEN  one empty file for each layer that is built on this one
//!     …                     the driver's own
//!   applying/ID             a changeset is being applied, or never was to its end
//!   staging/TOKEN           a layer that is being made; whoever makes it holds a flock on it
//!   trash/TOKEN             a layer that is being freed; whoever frees it holds a flock on it
//! ```
//!
//! The directory of a layer of limited size is a btrfs subvolume, or has a project ID, see `limit`.
//!
//! Invariants:
//! - A layer appears by one rename out of `staging` and vanishes by one rename into `trash`: it is there or not.
//! - TOKEN is random and names one creation for ever: the marker in the parent is written before the layer
//!   appears and removed after it vanished, so a marker too many is possible after a crash and one too few is
//!   not. A marker counts only if the child's record carries its token, so removing a stale one never races
//!   with a new child of the same name.
//! - Nothing waits for the disk. Who makes layers visible to others (the store) syncs the file system once
//!   before it does; what a power cut may leave before that is described in [`record`] and found by recovery.
//! - What a crashed process left is found in `staging`, `trash` and `applying`, so recovery costs as much as was
//!   left, not as much as there is. Only after a reboot, and for a repair that a person
//!   wants, are all records looked at.
//!
//! [`Layers`] adds what the contract says of states, children, mounts and locks; a driver fills in what it keeps
//! in a layer's directory.

mod again;
mod compare;
mod count;
mod layers;
mod limit;
mod memo;
mod operation;
pub mod record;
mod recover;
mod replace;
mod root;
mod root_record;
mod scratch;
mod seal;
mod staging;

pub use layers::Layers;
pub use memo::Memo;
pub use operation::Operation;
pub use record::{Record, Sealed};
pub use recover::Hooks;
pub use root::{Format, Layer, Layout};
pub use scratch::Scratch;
pub use staging::{Staged, random_name};
