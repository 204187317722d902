//! Hands of the content cases: changesets of the oracle as streams, streams as changesets of the oracle, layers
//! and their views compared with it.
//!
//! Every case uses names that begin with its clause (`a4-file`): a saboteur breaks only names of its clause, so
//! that it is caught by the cases of that clause and by no other.

use std::path::PathBuf;

use layerstore_changeset as changeset;
use layerstore_changeset::{
    ChangeSink, ChangeSource, Chunk, Device, Entry, FileData, Item, Kind, Metadata, RelPath, Time,
};
use layerstore_driver::DriverExt as _;
use layerstore_sys::Dir;
use layerstore_testkit::build::dir;
use layerstore_testkit::data::Stretch;
use layerstore_testkit::model::{self, Change};
use layerstore_testkit::tree::{self, Inode};
use layerstore_testkit::{Data, Tree, dump};

use super::super::prelude::{
    Base, Bench, Context, CreateOptions, Driver, Failure, LayerId, Outcome, id, read_only,
};
use crate::hands::{View, open_mount};
use crate::need::Feature;
use crate::{ensure, ensure_eq};

/// The root that every base layer of these cases puts, so that its time is known.
pub(super) fn root() -> Inode {
    dir(0o755).mtime(1, 1)
}

/// Everything of a tree as the changeset of a base layer.
pub(super) fn whole(tree: &Tree) -> Vec<Change> {
    model::diff(&Tree::nothing(), tree)
}

/// A changeset of the oracle as a stream.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    changes: std::slice::Iter<'a, Change>,
    data: Option<StreamData>,
}

/// The changes as a stream.
pub(crate) fn stream(changes: &[Change]) -> Stream<'_> {
    Stream { changes: changes.iter(), data: None }
}

impl ChangeSource for Stream<'_> {
    fn next(&mut self) -> changeset::Result<Option<Item<'_>>> {
        let Some(change) = self.changes.next() else { return Ok(None) };
        let change = to_driver(change)?;
        self.data = change.1.map(|data| StreamData { data, next: 0 });
        let data = self.data.as_mut().map(|data| data as &mut dyn FileData);
        Ok(Some(Item { change: change.0, data, offset: None }))
    }
}

#[derive(Debug)]
struct StreamData {
    data: Data,
    next: usize,
}

impl FileData for StreamData {
    fn next_chunk(&mut self) -> changeset::Result<Option<Chunk<'_>>> {
        let stretch = self.data.stretches().into_iter().nth(self.next);
        self.next += 1;
        Ok(stretch.map(|stretch| match stretch {
            Stretch::Bytes(bytes) => Chunk::Data(bytes),
            Stretch::Hole(length) => Chunk::Hole(length),
        }))
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

fn rel(path: &layerstore_testkit::Path) -> changeset::Result<RelPath> {
    if path.is_root() { Ok(RelPath::root()) } else { RelPath::new(path.to_bytes()) }
}

fn to_driver(change: &Change) -> changeset::Result<(changeset::Change, Option<Data>)> {
    let (path, inode) = match change {
        Change::Remove(path) => return Ok((changeset::Change::Remove(rel(path)?), None)),
        Change::Opaque(path) => return Ok((changeset::Change::Opaque(rel(path)?), None)),
        Change::Put(path, tree::Entry::Link(target)) => {
            // Deliberately odd metadata: a link's own is ignored.
            let metadata = Metadata { uid: 77, gid: 77, mode: 0o4111, ..Metadata::default() };
            let kind = Kind::HardLink { target: rel(target)? };
            let entry = Entry { path: rel(path)?, kind, metadata };
            return Ok((changeset::Change::Put(entry), None));
        }
        Change::Put(path, tree::Entry::Inode(inode)) => (path, inode),
    };
    let mut data = None;
    let device = |major: &u32, minor: &u32| Device { major: *major, minor: *minor };
    let kind = match &inode.kind {
        tree::Kind::File(content) => {
            data = Some(content.clone());
            Kind::File { size: content.size() }
        }
        tree::Kind::Dir => Kind::Directory,
        tree::Kind::Symlink(target) => Kind::Symlink { target: target.as_slice().into() },
        tree::Kind::Fifo => Kind::Fifo,
        tree::Kind::Char(major, minor) => Kind::CharDevice(device(major, minor)),
        tree::Kind::Block(major, minor) => Kind::BlockDevice(device(major, minor)),
        tree::Kind::Socket => Kind::Socket,
    };
    let meta = &inode.meta;
    let metadata = Metadata {
        uid: meta.uid,
        gid: meta.gid,
        mode: meta.mode,
        mtime: Time { seconds: meta.mtime.0, nanos: meta.mtime.1 },
        xattrs: meta.xattrs.iter().map(|(name, value)| (name[..].into(), value[..].into())).collect(),
    };
    Ok((changeset::Change::Put(Entry { path: rel(path)?, kind, metadata }), data))
}

/// Keeps what a diff says, as changes of the oracle.
#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Vec<Change>);

impl ChangeSink for Recorder {
    fn put(&mut self, change: changeset::Change, data: Option<&mut dyn FileData>) -> changeset::Result<()> {
        let path = |path: &RelPath| layerstore_testkit::Path::new(path.as_bytes());
        let change = match change {
            changeset::Change::Remove(name) => Change::Remove(path(&name)),
            changeset::Change::Opaque(name) => Change::Opaque(path(&name)),
            changeset::Change::Put(entry) => {
                let new = match &entry.kind {
                    Kind::HardLink { target } => tree::Entry::Link(path(target)),
                    kind => tree::Entry::Inode(inode(kind, &entry.metadata, data)?),
                };
                Change::Put(path(&entry.path), new)
            }
        };
        self.0.push(change);
        Ok(())
    }
}

fn inode(kind: &Kind, metadata: &Metadata, data: Option<&mut dyn FileData>) -> changeset::Result<Inode> {
    let kind = match kind {
        Kind::File { size } => {
            let mut content = Data::default();
            if let Some(data) = data {
                while let Some(chunk) = data.next_chunk()? {
                    let end = content.size();
                    match chunk {
                        Chunk::Data(bytes) => content.write(end, bytes),
                        Chunk::Hole(length) => content.resize(end + length),
                    }
                }
            }
            if content.size() != *size {
                let message = format!("the entry says {size} bytes and {} come", content.size());
                return Err(changeset::Error::stream("read diff", std::io::Error::other(message)));
            }
            tree::Kind::File(content)
        }
        Kind::Symlink { target } => tree::Kind::Symlink(target.to_vec()),
        Kind::Fifo => tree::Kind::Fifo,
        Kind::CharDevice(device) => tree::Kind::Char(device.major, device.minor),
        Kind::BlockDevice(device) => tree::Kind::Block(device.major, device.minor),
        Kind::Socket => tree::Kind::Socket,
        Kind::Directory | Kind::HardLink { .. } => tree::Kind::Dir,
    };
    let symlink = matches!(kind, tree::Kind::Symlink(_));
    let mut inode = Inode::new(kind)
        .owner(metadata.uid, metadata.gid)
        .mtime(metadata.mtime.seconds, metadata.mtime.nanos);
    // Linux has no permissions on symlinks.
    inode.meta.mode = if symlink { 0o777 } else { metadata.mode };
    inode.meta.xattrs = metadata.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    Ok(inode)
}

/// A layer of any driver with these changes, not sealed.
pub(super) fn layer(
    driver: &dyn Driver,
    name: &str,
    parent: Option<&LayerId>,
    changes: &[Change],
) -> Outcome<LayerId> {
    let id = id(name)?;
    let context = Context::new();
    driver.create(&id, parent, &CreateOptions::default(), &context)?;
    driver.apply(&id, &mut stream(changes), &context)?;
    Ok(id)
}

/// A sealed layer of any driver with these changes.
pub(super) fn sealed(
    driver: &dyn Driver,
    name: &str,
    parent: Option<&LayerId>,
    changes: &[Change],
) -> Outcome<LayerId> {
    let id = layer(driver, name, parent, changes)?;
    driver.seal(&id, None, &Context::new())?;
    Ok(id)
}

/// A sealed base layer that shows this tree, with the root of [`root`].
pub(super) fn base(bench: &Bench, lower: &Tree) -> Outcome<(LayerId, Tree)> {
    let mut lower = lower.clone();
    lower.put("", root());
    let id = sealed(&**bench.driver(), "base", None, &whole(&lower))?;
    ensure_same(&lower, &show(bench, &id)?, "the base layer")?;
    Ok((id, lower))
}

/// What a layer shows, read through a detached mount.
pub(super) fn show(bench: &Bench, id: &LayerId) -> Outcome<Tree> {
    show_of(bench, &**bench.driver(), id)
}

/// As [`show`], of any driver. Where nothing can be mounted, what a diff against nothing says.
pub(super) fn show_of(bench: &Bench, driver: &dyn Driver, id: &LayerId) -> Outcome<Tree> {
    if !bench.has(Feature::Mounts) {
        let all = diff_of(driver, id, Base::Empty)?;
        return model::apply(&Tree::nothing(), &all)
            .map_err(|refused| Failure::new(format!("the diff cannot be applied: {}", refused.0)));
    }
    let mount = driver.mount_detached(id, &read_only())?;
    Ok(layerstore_testkit::read_tree(open_mount(&mount)?)?)
}

/// Fails with the lines that differ.
pub(super) fn ensure_same(expected: &Tree, found: &Tree, what: &str) -> Outcome {
    match dump::differences(expected, found) {
        None => Ok(()),
        Some(text) => Err(Failure::new(format!("{what} shows another tree (- expected, + found):\n{text}"))),
    }
}

/// Fails with the changes that differ, order included.
pub(super) fn ensure_changes(expected: &[Change], found: &[Change], what: &str) -> Outcome {
    match model::changeset_differences(expected, found) {
        None => Ok(()),
        Some(text) => Err(Failure::new(format!("{what} differs (- expected, + found):\n{text}"))),
    }
}

/// A diff of the driver under test.
pub(super) fn diff(bench: &Bench, id: &LayerId, base: Base<'_>) -> Outcome<Vec<Change>> {
    diff_of(&**bench.driver(), id, base)
}

/// A diff of any driver.
pub(super) fn diff_of(driver: &dyn Driver, id: &LayerId, base: Base<'_>) -> Outcome<Vec<Change>> {
    let mut recorder = Recorder::default();
    driver.diff(id, base, &mut recorder, &Context::new())?;
    Ok(recorder.0)
}

/// Applies each changeset to a child of a layer that shows `lower`, and compares with the oracle's view.
pub(super) fn applied(bench: &Bench, lower: &Tree, changesets: &[&[Change]]) -> Outcome {
    let (base, lower) = base(bench, lower)?;
    for (number, changes) in changesets.iter().enumerate() {
        let child = layer(&**bench.driver(), &format!("child{number}"), Some(&base), changes)?;
        let expected = model::apply(&lower, changes)
            .map_err(|refused| Failure::new(format!("the oracle refuses the case: {}", refused.0)))?;
        let what = format!("the layer with changeset {number}");
        ensure_same(&expected, &show(bench, &child)?, &what)?;
    }
    Ok(())
}

/// As [`applied`] with the changes in their order and backwards.
pub(super) fn applied_in_both_orders(bench: &Bench, lower: &Tree, changes: &[Change]) -> Outcome {
    let backwards: Vec<Change> = changes.iter().rev().cloned().collect();
    applied(bench, lower, &[changes, &backwards])
}

/// Applies each changeset to a child of a layer that shows `lower`; each has to be refused with its code, and
/// the layer can be removed then.
pub(super) fn refused(bench: &Bench, lower: &Tree, changesets: &[(&[Change], changeset::Code)]) -> Outcome {
    let (base, lower) = base(bench, lower)?;
    for (changes, code) in changesets {
        ensure_eq!(
            model::apply(&lower, changes).err().map(|refused| refused.0),
            Some(code.as_str()),
            "what the oracle says of {changes:?}"
        );
        let child = id("refused")?;
        let context = Context::new();
        let driver = bench.driver();
        driver.create(&child, Some(&base), &CreateOptions::default(), &context)?;
        let error = crate::ensure_refused!(
            driver.apply(&child, &mut stream(changes), &context),
            InvalidInput,
            "applying {changes:?}"
        );
        ensure_eq!(error.code(), Some(*code), "the code of {error}");
        driver.remove(&child)?;
    }
    Ok(())
}

/// A child of `base`, mounted writable.
pub(super) fn writable(bench: &Bench, name: &str, base: Option<&LayerId>) -> Outcome<(LayerId, View)> {
    let child = id(name)?;
    bench.driver().create(&child, base, &CreateOptions::default(), &Context::new())?;
    let view = bench.mount(&child)?;
    Ok((child, view))
}

/// What a mounted view shows.
pub(super) fn shown(view: &View) -> Outcome<Tree> {
    Ok(layerstore_testkit::read_tree(view.dir()?)?)
}

/// An empty directory of this case on the scratch file system.
pub(super) fn folder(bench: &Bench, name: &str) -> Outcome<(PathBuf, Dir)> {
    let path = bench.target(name)?;
    let dir = Dir::open(&path)?;
    ensure!(dir.entries()?.is_empty(), "{} is not empty", path.display());
    Ok((path, dir))
}
