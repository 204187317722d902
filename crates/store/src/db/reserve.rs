//! Space that is kept back, so that removing works on a full disk: a removal is a transaction, and that takes a few
//! pages.
//!
//! ```text
//! GRAPHROOT/reserve     1 MiB of zeros; a removal that finds no space cuts 128 KiB off and tries again
//! ```
//!
//! Invariant: only what frees space draws on it. It is filled up again when a store is opened where there is room.

use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::{self as sys, Dir};

const NAME: &[u8] = b"reserve";
/// The whole reserve, in bytes.
const SIZE: u64 = 1 << 20;
/// What one transaction may draw, in bytes.
const SLICE: u64 = 128 << 10;
/// Free space from which the reserve is filled up, in bytes.
const ROOM: u64 = 16 << 20;

/// Gives a part of the reserve back to the file system. Says whether there was any.
pub(super) fn draw(root: &Dir) -> bool {
    let cut = || -> sys::Result<bool> {
        let file = root.open_file_rw(NAME)?;
        let size = file.stat()?.size;
        file.set_length(size.saturating_sub(SLICE))?;
        Ok(size > 0)
    };
    // Without a reserve the removal fails as it would have.
    cut().unwrap_or(false)
}

/// Fills the reserve up where there is room. It is no error when there is not.
pub(super) fn fill(root: &Dir) {
    let full = |stat: Option<sys::Stat>| stat.is_some_and(|stat| stat.size >= SIZE);
    let fill = || -> sys::Result<()> {
        if full(root.try_stat(NAME)?) || FsInfo::of(root)?.available < ROOM {
            return Ok(());
        }
        let file = root.open_or_create_file(NAME, 0o600)?;
        let size = file.stat()?.size;
        let zeros = vec![0; usize::try_from(SIZE.saturating_sub(size)).unwrap_or(0)];
        file.write_all_at(&zeros, size)
    };
    if let Err(error) = fill() {
        tracing::debug!(%error, "the reserve of space was not filled up");
    }
}
