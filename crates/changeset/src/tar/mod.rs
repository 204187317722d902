//! Layers as tar archives, read strictly and written plainly.
//!
//! ```text
//! stream → Input (lends its buffers, recorder) → Header, Pax, sparse Map → names and kinds → Change, FileData
//! ```
//!
//! Invariants: an archive that GNU tar, Go's archive/tar and libarchive could read as different entries is refused,
//! with a stable [`Code`], the entry's name and its offset; everything that those programs write is accepted.
//! Memory is bounded by [`Limits`] whatever the archive claims, and nothing recurses. What is written is a function
//! of the changes alone.

mod acl;
mod body;
mod entry;
mod header;
mod input;
mod pax;
mod reader;
mod sparse;
mod write_header;
mod writer;

pub use reader::{Finished, Reader};
pub use writer::Writer;

#[cfg(doc)]
use crate::{error::Code, limits::Limits};

/// Whether these bytes are a tar header: its checksum is right.
pub fn is_header(block: &[u8; 512]) -> bool {
    header::Header::parse(block).is_ok()
}
