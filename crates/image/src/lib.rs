//! Images outside the store: where they lie, how they are read and written.
//!
//! ```text
//!  Reference ── open() ──→ ImageSource       config, manifest, layers: documents only
//!                              └ open_layer(i) → blob stream, verified at its end
//!  Reference ── create() → ImageDestination  blobs, then finish(manifest, config)
//! ```
//!
//! A transport is one module that implements one or both traits; a registry will be one more. This crate knows
//! nothing of drivers and of the store.
//!
//! Invariant: what comes from outside is bounded before it is parsed and checked before it is believed; what
//! goes out keeps every byte of the configuration and every field that is not understood.

mod archive;
mod blobs;
mod compress;
mod config;
mod copy;
mod destination;
mod docker;
mod document;
mod error;
mod instruction;
mod manifest;
mod media;
mod name;
mod oci;
mod platform;
mod reference;
mod resolve;
mod rootfs;
mod source;
mod spool;
mod tarball;
mod transfer;
mod verify;

pub use config::{Commit, Config, History, now};
pub use copy::{assemble, copy};
pub use destination::{BlobWriter, CreateOptions, ImageDestination, LayerWriter, create};
pub use document::MAX_DOCUMENT;
pub use error::{Error, Kind, Result};
pub use instruction::Instruction;
pub use manifest::{Annotations, Descriptor, Manifest};
pub use media::{Compression, Format, MediaType};
pub use name::{DEFAULT_TAG, ImageName, is_tag};
pub use platform::Platform;
pub use reference::{ArchiveSelector, Reference, Selector};
pub use source::{ImageSource, Layer, OpenOptions, Verify, open};
