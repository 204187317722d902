//! Fixtures for tests: trees in memory and on disk, the oracle that says what a changeset means, scratch file
//! systems, simulated old kernels.
//!
//! Invariant: nothing here shares code with `layerstore-changeset` or a driver. What these say is compared with
//! [`model`], so a mistake would have to be made twice to go unseen.
//!
//! ```
//! use layerstore_testkit::{build::*, model, tree};
//! let lower = tree! { "etc" => dir(0o755), "etc/passwd" => file("root").owner(1, 2), "l" => symlink("etc") };
//! let upper = model::apply(&lower, &[remove("etc/passwd"), put("l/new", file("x"))]).unwrap();
//! assert!(upper.get("etc/passwd").is_none() && upper.get("etc/new").is_some());
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::panic, clippy::unwrap_used)]

pub mod build;
#[cfg(feature = "crash")]
pub mod crash;
pub mod data;
pub mod disk;
pub mod dump;
pub mod edit;
pub mod hostile;
pub mod model;
pub mod noise;
pub mod path;
pub mod sandbox;
pub mod scratch;
pub mod strategy;
pub mod tree;

pub use data::Data;
pub use disk::{read_tree, read_tree_at, write_tree};
pub use dump::{assert_same, differences};
pub use noise::{Random, noise};
pub use path::Path;
pub use tree::{Entry, Inode, Kind, Meta, Tree};
