//! Changesets: what one layer does to its parent, and every form in which that lies somewhere.
//!
//! A [`Change`] puts an entry, removes a name or hides a directory's lower content. A stream of changes comes
//! out of a [`ChangeSource`] and goes into a [`ChangeSink`]; converting one encoding into another is reading the
//! one and writing the other:
//!
//! ```text
//!            tar::Reader ┐                     ┌ tar::Writer
//!   overlay dir → diff() ├→ Change, FileData → ┤ tree::apply() → overlay dir
//!      flat dir → diff() ┘                     └ tree::apply() → flat dir
//! ```
//!
//! Invariant: the rules of an encoding (whiteout names, opaque marks, reserved names and xattrs) are written
//! once, in [`encoding`], and everything else asks there.

pub mod change;
pub mod compress;
pub mod context;
pub mod digest;
pub mod encoding;
pub mod error;
pub mod limits;
pub mod path;
pub mod record;
pub mod stream;
pub mod tar;
pub mod tree;

pub use change::{Change, Device, Entry, Kind, Metadata, Time, Xattrs};
pub use context::{Context, Progress};
pub use digest::Digest;
pub use error::{Code, Error, Result};
pub use limits::Limits;
pub use path::RelPath;
pub use stream::{ChangeSink, ChangeSource, Chunk, FileData, Item};
