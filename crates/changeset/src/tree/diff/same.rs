//! Whether an entry is the same in two views.

use layerstore_sys::{File, FileType};

use super::super::view::{MergedDir, Node, is_gone};
use crate::context::Context;
use crate::error::{Error, Result};

/// Bytes compared at a time.
const CHUNK: usize = 128 << 10;

/// What differs first between two entries, in one word; none when they are the same. Names, and with them hard
/// links, are not compared, nor what is in a directory.
pub(crate) fn difference(
    (base, base_dir): (&Node, Option<&MergedDir>),
    (now, now_dir): (&Node, Option<&MergedDir>),
    context: &Context,
) -> Result<Option<&'static str>> {
    if base.same_inode(now) {
        return Ok(None);
    }
    let (one, other) = (&base.stat, &now.stat);
    let is_symlink = one.kind == FileType::Symlink;
    let facts = [
        ("kind", one.kind != other.kind),
        // A symlink's mode means nothing and cannot be set.
        ("mode", !is_symlink && one.mode != other.mode),
        ("owner", (one.uid, one.gid) != (other.uid, other.gid)),
        ("size", one.kind == FileType::Regular && one.size != other.size),
        ("device", one.represents != other.represents),
        ("mtime", one.mtime != other.mtime),
    ];
    if let Some((what, _)) = facts.into_iter().find(|(_, differs)| *differs) {
        return Ok(Some(what));
    }
    if base.xattrs()? != now.xattrs()? {
        return Ok(Some("xattrs"));
    }
    if is_symlink && base.link_text()? != now.link_text()? {
        return Ok(Some("target"));
    }
    if one.kind == FileType::Regular && one.size > 0 {
        let (Some(base_dir), Some(now_dir)) = (base_dir, now_dir) else { return Ok(Some("content")) };
        let (one, other) = (base_dir.open_data(base)?, now_dir.open_data(now)?);
        if !same_data(&one, &other, base.stat.size, context)? {
            return Ok(Some("content"));
        }
    }
    Ok(None)
}

/// As [`difference`], where an entry that vanishes meanwhile differs.
pub(crate) fn differs(
    base: (&Node, Option<&MergedDir>),
    now: (&Node, Option<&MergedDir>),
    context: &Context,
) -> Result<bool> {
    match difference(base, now, context) {
        Ok(what) => Ok(what.is_some()),
        Err(Error::System(error)) if is_gone(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the first `size` bytes are the same; where both have a hole nothing is read.
fn same_data(one: &File, other: &File, size: u64, context: &Context) -> Result<bool> {
    if one.stat()?.same_inode(&other.stat()?) {
        return Ok(true);
    }
    let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0;
    // Ends of the stretches of data that `offset` is in or before.
    let (mut starts, mut ends) = ((0, 0), (0, 0));
    while offset < size {
        context.check()?;
        if offset >= ends.0 {
            (starts.0, ends.0) = one.next_data(offset)?.unwrap_or((size, size));
        }
        if offset >= ends.1 {
            (starts.1, ends.1) = other.next_data(offset)?.unwrap_or((size, size));
        }
        offset = offset.max(starts.0.min(starts.1));
        if offset >= size {
            break;
        }
        let wanted = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
        let count = one.read_full_at(buffers.0.get_mut(..wanted).unwrap_or_default(), offset)?;
        let other_count = other.read_full_at(buffers.1.get_mut(..wanted).unwrap_or_default(), offset)?;
        if count != other_count || buffers.0.get(..count) != buffers.1.get(..count) {
            return Ok(false);
        }
        if count == 0 {
            break;
        }
        offset += count as u64;
    }
    Ok(true)
}
