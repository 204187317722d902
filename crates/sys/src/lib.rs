//! Linux calls whose errors print the call and the path.
//!
//! This is the only crate of the workspace that touches the file system and the only one that may hold unsafe
//! code. Everything works on directory descriptors and single components: a path is walked where a caller has
//! one, and never again. Descriptors are opened with `O_CLOEXEC`, entries with `O_NOFOLLOW`.
//!
//! Invariant: every call goes through `error::call`, so that one place can name, record and fail calls. The
//! feature `fault` makes each of them a fail point, for the crash laboratory (`cargo xtask crash`); without it
//! nothing of that is compiled.

pub mod btrfs;
pub mod dir;
pub mod error;
#[cfg(feature = "fault")]
pub mod fault;
pub mod file;
pub mod fs;
pub mod fsinfo;
pub mod idmap;
mod listing;
pub mod lock;
pub mod mount;
pub mod mountinfo;
pub mod pipe;
pub mod privilege;
pub mod process;
pub mod project;
pub mod protect;
pub mod remove;
pub mod resolve;
pub mod seccomp;
pub mod signal;
pub mod stat;
pub mod statmount;
#[cfg(feature = "fault")]
pub mod supervise;
pub mod sync;
pub mod temporary;
pub mod turn;
pub mod xattr;

#[cfg(not(feature = "fault"))]
pub(crate) mod fault {
    //! Fail points, left out: nothing is shortened.

    pub(crate) fn shorten(bytes: &[u8]) -> &[u8] {
        bytes
    }

    pub(crate) fn shorten_mut(buffer: &mut [u8]) -> &mut [u8] {
        buffer
    }
}

pub use dir::Dir;
pub use error::{Errno, Error, Result};
pub use file::File;
pub use listing::{Batch, DirEntry};
pub use stat::{DeviceId, FileType, Stat, Timestamp};
pub use temporary::Temporary;
