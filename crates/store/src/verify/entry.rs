//! One entry of a view beside what a tar says of it.

use std::collections::BTreeMap;

use layerstore_changeset::encoding::xattr::{CAPABILITY, is_reserved};
use layerstore_changeset::{Chunk, Device, Entry, FileData, Kind as EntryKind, Time};
use layerstore_sys::xattr::{self, On};
use layerstore_sys::{File, FileType, Stat};

use super::place::Found;

/// What of a file is compared at once, in bytes.
const BUFFER: usize = 256 << 10;

/// How an entry that is there differs from what the tar says, if it does.
pub(super) fn differs(entry: &Entry, found: &Found) -> layerstore_changeset::Result<Option<String>> {
    let (Found { dir, name, stat }, metadata) = (found, &entry.metadata);
    let device =
        |device: &Device| (stat.represents.major, stat.represents.minor) == (device.major, device.minor);
    let same = match (&entry.kind, stat.kind) {
        (EntryKind::File { size }, FileType::Regular) => *size == stat.size,
        (EntryKind::Symlink { target }, FileType::Symlink) => *dir.read_link(name)? == **target,
        (EntryKind::CharDevice(of), FileType::CharDevice) => device(of),
        (EntryKind::BlockDevice(of), FileType::BlockDevice) => device(of),
        (EntryKind::Directory, FileType::Directory)
        | (EntryKind::Fifo, FileType::Fifo)
        | (EntryKind::Socket, FileType::Socket) => true,
        _ => return Ok(Some("is of another type".to_owned())),
    };
    if !same {
        let what = match entry.kind {
            EntryKind::File { .. } => "has another size",
            EntryKind::Symlink { .. } => "leads somewhere else",
            _ => "is another device",
        };
        return Ok(Some(what.to_owned()));
    }
    if (stat.uid, stat.gid) != (metadata.uid, metadata.gid) {
        let (uid, gid) = (metadata.uid, metadata.gid);
        return Ok(Some(format!("belongs to {}:{}, not to {uid}:{gid}", stat.uid, stat.gid)));
    }
    let symlink = stat.kind == FileType::Symlink;
    if !symlink && stat.mode != metadata.mode & 0o7777 {
        return Ok(Some(format!("has the mode {:04o}, not {:04o}", stat.mode, metadata.mode & 0o7777)));
    }
    if !same_time(stat, metadata.mtime) {
        return Ok(Some("was modified at another time".to_owned()));
    }
    // Others have no attributes that every file system takes.
    if !matches!(stat.kind, FileType::Regular | FileType::Directory) {
        return Ok(None);
    }
    let on = On::Entry(dir, name);
    for (key, value) in &metadata.xattrs {
        if is_plain(key) && xattr::get(on, key)?.is_some_and(|there| *there != **value) {
            return Ok(Some(format!("has another value of the attribute {}", key.escape_ascii())));
        }
    }
    let there = xattr::list(on)?;
    let lost = metadata.xattrs.keys().find(|key| {
        // Nothing of its kind may mean that there is no room for any here.
        is_plain(key) && !there.iter().any(|name| **name == ***key) && there.iter().any(|name| is_plain(name))
    });
    if let Some(key) = lost {
        return Ok(Some(format!("has lost the attribute {}", key.escape_ascii())));
    }
    let counts = |key: &[u8]| is_plain(key) || key == CAPABILITY;
    let more = there.iter().find(|key| counts(key) && !metadata.xattrs.contains_key(key.as_slice()));
    Ok(more.map(|key| format!("has the attribute {}, which it had not", key.escape_ascii())))
}

/// Whether an entry is the same in two views, data included.
pub(super) fn same_entry(was: &Found, now: &Found) -> layerstore_changeset::Result<bool> {
    let (one, other) = (&was.stat, &now.stat);
    let symlink = one.kind == FileType::Symlink;
    let same = one.same_inode(other)
        || one.kind == other.kind
            && (symlink || one.mode == other.mode)
            && (one.uid, one.gid, one.mtime) == (other.uid, other.gid, other.mtime)
            && (one.kind != FileType::Regular || one.size == other.size)
            && one.represents == other.represents;
    if !same {
        return Ok(false);
    }
    match one.kind {
        FileType::Symlink => return Ok(was.dir.read_link(&was.name)? == now.dir.read_link(&now.name)?),
        FileType::Regular | FileType::Directory => {}
        _ => return Ok(true),
    }
    let plain = |found: &Found| -> layerstore_changeset::Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        let on = On::Entry(&found.dir, &found.name);
        let names = xattr::list(on)?.into_iter().filter(|key| is_plain(key));
        names.map(|key| Ok((key.clone(), xattr::get(on, &key)?))).collect()
    };
    if plain(was)? != plain(now)? {
        return Ok(false);
    }
    if one.kind == FileType::Directory {
        return Ok(true);
    }
    let (one, other) = (was.dir.open_file(&was.name)?, now.dir.open_file(&now.name)?);
    let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    loop {
        let read = one.read_full_at(&mut buffers.0, at)?;
        if other.read_full_at(&mut buffers.1, at)? != read || buffers.0.get(..read) != buffers.1.get(..read) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        at += read as u64;
    }
}

/// Whether an attribute is as it was set, wherever it is looked at.
fn is_plain(key: &[u8]) -> bool {
    key.starts_with(b"user.") && !is_reserved(key)
}

/// Whether a time is the one of the tar, as far as every file system keeps it: whole seconds from 1970 to 2038.
fn same_time(stat: &Stat, time: Time) -> bool {
    let kept = (0..i64::from(i32::MAX)).contains(&time.seconds);
    let nanos = stat.mtime.nanos == 0 || stat.mtime.nanos == time.nanos;
    !kept || (stat.mtime.seconds == time.seconds && nanos)
}

/// Whether a file holds this data.
pub(super) fn same_data(data: &mut dyn FileData, file: &File) -> layerstore_changeset::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while let Some(chunk) = data.next_chunk()? {
        let (mut left, expected) = match chunk {
            Chunk::Data(bytes) => (bytes.len() as u64, Some(bytes)),
            Chunk::Hole(length) => (length, None),
        };
        let mut done = 0;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let Some(room) = buffer.get_mut(..part) else { return Ok(false) };
            let read = file.read_at(room, at)?;
            let Some(found) = room.get(..read).filter(|found| !found.is_empty()) else { return Ok(false) };
            let same = match expected {
                Some(bytes) => bytes.get(done..done + read) == Some(found),
                None => found.iter().all(|&byte| byte == 0),
            };
            if !same {
                return Ok(false);
            }
            done += read;
            at += read as u64;
            left -= read as u64;
        }
    }
    Ok(true)
}
