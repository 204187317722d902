//! Trees read from directories and written to them, with everything that a tree can say.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{DeviceId, Dir, FileType, Stat, Timestamp};

use crate::data::{Data, Stretch};
use crate::path::Path;
use crate::tree::{Inode, Kind, Meta, Tree};

/// Reads what lies at a path.
///
/// # Errors
/// Any system call's.
pub fn read_tree_at(path: impl AsRef<std::path::Path>) -> io::Result<Tree> {
    read_tree(Dir::open(path)?)
}

/// Reads a tree: every name, attribute and byte, holes as zeros. Of xattrs only `security.selinux` is left out,
/// because the host puts it there and not a layer.
///
/// # Errors
/// Any system call's.
pub fn read_tree(root: impl AsFd) -> io::Result<Tree> {
    let root = Dir::from_fd(root.as_fd().try_clone_to_owned()?, "view");
    let mut tree = Tree::nothing();
    let mut seen: BTreeMap<(DeviceId, u64), u64> = BTreeMap::new();
    let stat = root.stat_self()?;
    let meta = Meta { xattrs: read_xattrs(On::Dir(&root))?, ..meta(&stat) };
    tree.put("", Inode { kind: Kind::Dir, meta });
    let mut pending = vec![(root, Path::root())];
    while let Some((dir, path)) = pending.pop() {
        let mut entries = dir.entries()?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let at = path.join(&entry.name);
            let stat = dir.stat(&entry.name)?;
            let identity = (stat.device, stat.inode);
            if let Some(&id) = seen.get(&identity).filter(|_| stat.kind != FileType::Directory) {
                tree.put_id(at, id);
                continue;
            }
            tree.put(at.clone(), read_inode(&dir, &entry.name, &stat)?);
            if stat.kind == FileType::Directory {
                pending.push((dir.open_dir(&entry.name)?, at));
            } else if let Some(id) = tree.id(at).filter(|_| stat.links > 1) {
                seen.insert(identity, id);
            }
        }
    }
    Ok(tree)
}

fn meta(stat: &Stat) -> Meta {
    let mtime = (stat.mtime.seconds, stat.mtime.nanos);
    Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime, xattrs: BTreeMap::new() }
}

fn read_inode(dir: &Dir, name: &[u8], stat: &Stat) -> io::Result<Inode> {
    let device = stat.represents;
    let kind = match stat.kind {
        FileType::Regular => Kind::File(read_data(dir, name)?),
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink(dir.read_link(name)?),
        FileType::Fifo => Kind::Fifo,
        FileType::CharDevice => Kind::Char(device.major, device.minor),
        FileType::BlockDevice => Kind::Block(device.major, device.minor),
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(io::Error::other("a file of no known type")),
    };
    Ok(Inode { kind, meta: Meta { xattrs: read_xattrs(On::Entry(dir, name))?, ..meta(stat) } })
}

fn read_xattrs(on: On<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // The host's labels, and the names under which xfs shows the ACLs a second time.
    const NOT_OURS: [&[u8]; 3] = [b"security.selinux", b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];
    let mut found = BTreeMap::new();
    for name in xattr::list(on)?.into_iter().filter(|name| !NOT_OURS.contains(&&**name)) {
        if let Some(value) = xattr::get(on, &name)? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

fn read_data(dir: &Dir, name: &[u8]) -> io::Result<Data> {
    let file = dir.open_file(name)?;
    let size = file.stat()?.size;
    let mut data = Data::hole(size);
    let mut at = 0;
    while let Some((start, end)) = file.next_data(at)? {
        let mut buffer = vec![0; 64 << 10];
        let mut offset = start;
        while offset < end {
            let count = file.read_at(&mut buffer, offset)?;
            if count == 0 {
                break;
            }
            data.write(offset, &buffer[..count]);
            offset += count as u64;
        }
        at = end;
    }
    data.resize(size);
    Ok(data)
}

/// Bytes that the file at a path takes on disk.
///
/// # Errors
/// Those of `open` and `statx`.
pub fn allocated(root: impl AsFd, path: impl Into<Path>) -> io::Result<u64> {
    let root = Dir::from_fd(root.as_fd().try_clone_to_owned()?, "view");
    let path = path.into();
    let (dir, name) = descend(&root, &path)?;
    Ok(dir.stat(name)?.blocks * 512)
}

/// The open directory that holds a path, and its last component (`.` for the root); follows no symlink.
///
/// # Errors
/// Those of `openat`.
pub fn descend<'a>(root: &Dir, path: &'a Path) -> io::Result<(Dir, &'a [u8])> {
    let Some((name, above)) = path.components().split_last() else {
        return Ok((root.clone(), b"."));
    };
    let mut dir = root.clone();
    for part in above {
        dir = dir.open_dir(part)?;
    }
    Ok((dir, name))
}

/// Writes a tree into a directory that is empty, root attributes included.
///
/// # Errors
/// Any system call's.
pub fn write_tree(tree: &Tree, root: &Dir) -> io::Result<()> {
    let leaders = tree.leaders();
    for (path, inode) in tree.iter().filter(|(path, _)| !path.is_root()) {
        let (dir, name) = descend(root, path)?;
        let leader = &leaders[path];
        if inode.is_dir() {
            // Attributes follow below: a default ACL here would be inherited by the children.
            dir.make_dir(name, 0o700)?;
        } else if leader == path {
            make(&dir, name, inode)?;
        } else {
            let (from, old) = descend(root, leader)?;
            from.link(old, &dir, name)?;
        }
    }
    // Times of directories last: children change them. Backwards, so that a directory that loses its permissions
    // does so after its children.
    for (path, inode) in tree.iter().filter(|(_, inode)| inode.is_dir()).collect::<Vec<_>>().into_iter().rev()
    {
        let (dir, name) = descend(root, path)?;
        set_meta(&dir, name, inode)?;
    }
    Ok(())
}

/// Makes one entry with its metadata; a directory too.
///
/// # Errors
/// Any system call's.
pub fn make(dir: &Dir, name: &[u8], inode: &Inode) -> io::Result<()> {
    let node = |kind, major, minor| dir.make_node(name, kind, 0o600, DeviceId { major, minor });
    match &inode.kind {
        Kind::File(data) => {
            let file = dir.create_file(name, 0o600)?;
            write_data(&file, data)?;
        }
        Kind::Dir => dir.make_dir(name, 0o700)?,
        Kind::Symlink(target) => dir.make_symlink(name, target)?,
        Kind::Fifo => node(FileType::Fifo, 0, 0)?,
        Kind::Char(major, minor) => node(FileType::CharDevice, *major, *minor)?,
        Kind::Block(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
        Kind::Socket => node(FileType::Socket, 0, 0)?,
    }
    set_meta(dir, name, inode)
}

/// Writes content into an empty file, holes as holes.
///
/// # Errors
/// Any system call's.
pub fn write_data(file: &layerstore_sys::File, data: &Data) -> io::Result<()> {
    file.set_length(data.size())?;
    let mut at = 0;
    for stretch in data.stretches() {
        match stretch {
            Stretch::Bytes(bytes) => {
                file.write_all_at(bytes, at)?;
                at += bytes.len() as u64;
            }
            Stretch::Hole(length) => at += length,
        }
    }
    Ok(())
}

/// Gives an entry its owner, mode, xattrs and time.
///
/// # Errors
/// Any system call's.
pub fn set_meta(dir: &Dir, name: &[u8], inode: &Inode) -> io::Result<()> {
    let meta = &inode.meta;
    dir.set_owner(name, meta.uid, meta.gid)?;
    if !matches!(inode.kind, Kind::Symlink(_)) {
        dir.set_mode(name, meta.mode)?;
    }
    for (attribute, value) in &meta.xattrs {
        xattr::set(On::Entry(dir, name), attribute, value)?;
    }
    Ok(dir.set_mtime(name, Timestamp { seconds: meta.mtime.0, nanos: meta.mtime.1 })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::*;
    use crate::{assert_same, tree};

    #[test]
    fn what_is_written_is_read_back_with_every_attribute() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let tree = tree! {
            "" => dir(0o755).mtime(5, 6),
            "etc" => dir(0o1777).owner(3, 4).mtime(-1, 999_999_999).xattr("user.note", "x"),
            "etc/passwd" => file("root").mode(0o4755).owner(1, 2).mtime(1, 123_456_789),
            "etc/link" => link("etc/passwd"),
            "sparse" => file(Data::hole(1 << 30).with(1 << 29, b"middle")),
            "tool" => file("#!").mode(0o755).xattr("security.capability", capability(0x3000)),
            "shared" => file("a").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 1000, 6)),
            b"not \xff utf-8\n" => symlink(b"to \xfe").owner(7, 8).mtime(9, 1).xattr("trusted.t", "t"),
            "fifo" => fifo().mode(0o600),
            "socket" => socket().mtime(3, 3),
            "null" => char_device(1, 3).mode(0o666),
            "disk" => block_device(7, 70_000),
        };
        let root = Dir::open(folder.path()).unwrap();
        write_tree(&tree, &root).unwrap();
        assert_same(&tree, &read_tree(&root).unwrap());
        assert!(allocated(&root, "sparse").unwrap() <= 64 << 10);
    }

    #[test]
    fn a_difference_is_shown_by_its_lines() {
        let one = tree! { "a" => file("x"), "b" => link("a"), "c" => dir(0o755) };
        let two = tree! { "a" => file("x"), "b" => file("x"), "c" => dir(0o755) };
        let text = crate::differences(&one, &two).unwrap();
        assert!(text.contains("same inode as a") && !text.contains("c dir"), "{text}");
    }
}
