//! What the tests of trees share: changesets of the oracle as sources and sinks, and both encodings side by side.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "each test uses its part")]

use std::collections::VecDeque;
use std::path::{Path as FsPath, PathBuf};
use std::process::Command;

use layerstore_changeset::encoding::{Encoding, overlay::Namespace};
use layerstore_changeset::tree::{self, Applied, ApplyOptions, LayerTree, View};
use layerstore_changeset::{
    Change, ChangeSink, ChangeSource, Chunk, Context, Device, Entry, FileData, Item, Kind, Metadata, RelPath,
    Result, Time,
};
use layerstore_sys::Dir;
use layerstore_testkit::data::Stretch;
use layerstore_testkit::{self as kit, Data, Path, Tree, model};

/// A changeset of the oracle as a source, in which every change takes 100 bytes.
pub struct Source {
    changes: VecDeque<model::Change>,
    offset: u64,
    data: Option<Stretches>,
}

pub struct Stretches(VecDeque<(Option<Vec<u8>>, u64)>, Vec<u8>);

impl Source {
    pub fn new(changes: &[model::Change]) -> Self {
        Self { changes: changes.iter().cloned().collect(), offset: 0, data: None }
    }
}

impl FileData for Stretches {
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        Ok(match self.0.pop_front() {
            None => None,
            Some((None, length)) => Some(Chunk::Hole(length)),
            Some((Some(bytes), _)) => {
                self.1 = bytes;
                Some(Chunk::Data(&self.1))
            }
        })
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

pub fn stretches(data: &Data) -> Stretches {
    let list = data.stretches().into_iter().map(|stretch| match stretch {
        Stretch::Bytes(bytes) => (Some(bytes.to_vec()), 0),
        Stretch::Hole(length) => (None, length),
    });
    Stretches(list.collect(), Vec::new())
}

impl ChangeSource for Source {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        let Some(change) = self.changes.pop_front() else { return Ok(None) };
        self.offset += 100;
        self.data = match &change {
            model::Change::Put(_, kit::Entry::Inode(kit::Inode { kind: kit::Kind::File(data), .. })) => {
                Some(stretches(data))
            }
            _ => None,
        };
        let data = self.data.as_mut().map(|data| data as &mut dyn FileData);
        Ok(Some(Item { change: to_change(&change)?, data, offset: Some(self.offset) }))
    }
}

fn rel(path: &Path) -> Result<RelPath> {
    let bytes = path.to_bytes();
    if bytes.is_empty() { Ok(RelPath::root()) } else { RelPath::new(bytes) }
}

pub fn to_change(change: &model::Change) -> Result<Change> {
    Ok(match change {
        model::Change::Remove(path) => Change::Remove(rel(path)?),
        model::Change::Opaque(path) => Change::Opaque(rel(path)?),
        model::Change::Put(path, kit::Entry::Link(target)) => Change::Put(Entry {
            path: rel(path)?,
            kind: Kind::HardLink { target: rel(target)? },
            metadata: Metadata { mode: 0o6777, uid: 9, gid: 9, ..Metadata::default() },
        }),
        model::Change::Put(path, kit::Entry::Inode(inode)) => {
            let device = |major: u32, minor: u32| Device { major, minor };
            let kind = match &inode.kind {
                kit::Kind::File(data) => Kind::File { size: data.size() },
                kit::Kind::Dir => Kind::Directory,
                kit::Kind::Symlink(target) => Kind::Symlink { target: target.clone().into() },
                kit::Kind::Fifo => Kind::Fifo,
                kit::Kind::Char(major, minor) => Kind::CharDevice(device(*major, *minor)),
                kit::Kind::Block(major, minor) => Kind::BlockDevice(device(*major, *minor)),
                kit::Kind::Socket => Kind::Socket,
            };
            let meta = &inode.meta;
            let xattrs = meta.xattrs.iter().map(|(k, v)| (k.clone().into(), v.clone().into())).collect();
            let mtime = Time { seconds: meta.mtime.0, nanos: meta.mtime.1 };
            let metadata = Metadata { uid: meta.uid, gid: meta.gid, mode: meta.mode, mtime, xattrs };
            Change::Put(Entry { path: rel(path)?, kind, metadata })
        }
    })
}

/// Collects changes as the oracle says them.
#[derive(Default)]
pub struct Collect(pub Vec<model::Change>);

impl ChangeSink for Collect {
    fn put(&mut self, change: Change, data: Option<&mut dyn FileData>) -> Result<()> {
        let path = |path: &RelPath| Path::new(path.as_bytes());
        self.0.push(match change {
            Change::Remove(at) => model::Change::Remove(path(&at)),
            Change::Opaque(at) => model::Change::Opaque(path(&at)),
            Change::Put(Entry { path: at, kind, metadata }) => {
                let kind = match kind {
                    Kind::HardLink { target } => {
                        self.0.push(model::Change::Put(path(&at), kit::Entry::Link(path(&target))));
                        return Ok(());
                    }
                    Kind::File { size } => {
                        let mut content = Data::hole(size);
                        let (data, mut at) = (data.expect("files have data"), 0);
                        while let Some(chunk) = data.next_chunk()? {
                            match chunk {
                                Chunk::Hole(length) => at += length,
                                Chunk::Data(bytes) => {
                                    content.write(at, bytes);
                                    at += bytes.len() as u64;
                                }
                            }
                        }
                        assert_eq!(at, size, "chunks add up to the size");
                        kit::Kind::File(content)
                    }
                    Kind::Directory => kit::Kind::Dir,
                    Kind::Symlink { target } => kit::Kind::Symlink(target.into()),
                    Kind::Fifo => kit::Kind::Fifo,
                    Kind::CharDevice(device) => kit::Kind::Char(device.major, device.minor),
                    Kind::BlockDevice(device) => kit::Kind::Block(device.major, device.minor),
                    Kind::Socket => kit::Kind::Socket,
                };
                let mut inode = kit::Inode::new(kind)
                    .mode(metadata.mode)
                    .owner(metadata.uid, metadata.gid)
                    .mtime(metadata.mtime.seconds, metadata.mtime.nanos);
                for (name, value) in metadata.xattrs {
                    inode = inode.xattr(name, value);
                }
                model::Change::Put(path(&at), inode.into())
            }
        });
        Ok(())
    }
}

/// A stack of overlay layers and a flat copy of its view, in one folder.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub namespace: Namespace,
    /// Overlay layers, the base first.
    pub layers: Vec<PathBuf>,
    pub flat: PathBuf,
    mounts: std::cell::Cell<u32>,
}

impl Stage {
    /// With one base layer that holds `lower`.
    pub fn new(lower: &Tree) -> Self {
        Self::on(kit::scratch::scratch_dir().unwrap(), lower, Namespace::Trusted)
    }

    pub fn on(folder: tempfile::TempDir, lower: &Tree, namespace: Namespace) -> Self {
        let (base, flat) = (folder.path().join("layer0"), folder.path().join("flat"));
        for path in [&base, &flat] {
            std::fs::create_dir(path).unwrap();
            kit::write_tree(lower, &Dir::open(path).unwrap()).unwrap();
        }
        Self { folder, namespace, layers: vec![base], flat, mounts: 0.into() }
    }

    fn layer(&self, path: &FsPath) -> LayerTree {
        LayerTree { root: Dir::open(path).unwrap(), encoding: Encoding::Overlay(self.namespace) }
    }

    /// The view of the first `count` overlay layers.
    pub fn view_of(&self, count: usize) -> View {
        View::new(self.layers[..count].iter().rev().map(|path| self.layer(path)).collect())
    }

    pub fn view(&self) -> View {
        self.view_of(self.layers.len())
    }

    pub fn flat_view(&self) -> View {
        View::flat(Dir::open(&self.flat).unwrap())
    }

    /// A new overlay layer on top, its root as its parent's.
    pub fn add_layer(&mut self) -> PathBuf {
        let path = self.folder.path().join(format!("layer{}", self.layers.len()));
        std::fs::create_dir(&path).unwrap();
        let below = kit::read_tree_at(self.layers.last().unwrap()).unwrap();
        let mut root = below.get("").unwrap().clone();
        root.meta.xattrs.retain(|name, _| !model::is_reserved(name));
        kit::disk::set_meta(&Dir::open(&path).unwrap(), b".", &root).unwrap();
        self.layers.push(path.clone());
        path
    }

    /// Applies to a new overlay layer.
    pub fn apply_overlay(&mut self, changes: &[model::Change], threads: usize) -> Result<Applied> {
        let top = self.add_layer();
        let parent = self.view_of(self.layers.len() - 1);
        apply(&self.layer(&top), &parent, changes, threads)
    }

    /// Applies to the overlay layer that is on top already.
    pub fn apply_again(&self, changes: &[model::Change]) -> Result<Applied> {
        let parent = self.view_of(self.layers.len() - 1);
        apply(&self.layer(self.layers.last().unwrap()), &parent, changes, 1)
    }

    /// Applies to the flat copy.
    pub fn apply_flat(&self, changes: &[model::Change], threads: usize) -> Result<Applied> {
        let target = LayerTree { root: Dir::open(&self.flat).unwrap(), encoding: Encoding::Flat };
        apply(&target, &View::default(), changes, threads)
    }

    /// Runs `work` with the overlay mounted by the kernel; the topmost layer is writable.
    pub fn mounted<T>(&self, work: impl FnOnce(&FsPath) -> T) -> T {
        let number = self.mounts.replace(self.mounts.get() + 1);
        let path = |name: &str| self.folder.path().join(format!("{name}{number}"));
        let (target, work_dir) = (path("merged"), path("work"));
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir(&work_dir).unwrap();
        let (upper, lowers) = self.layers.split_last().unwrap();
        let lowers: Vec<&str> = lowers.iter().rev().map(|path| path.to_str().unwrap()).collect();
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,xino=off",
            lowers.join(":"),
            upper.display(),
            work_dir.display()
        );
        options += match self.namespace {
            Namespace::Trusted => ",redirect_dir=on,metacopy=on",
            Namespace::User => ",userxattr",
        };
        let status = Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "overlay"])
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "mount -t overlay -o {options}");
        let guard = Unmount(target.clone());
        let result = work(&target);
        drop(guard);
        result
    }

    /// What the kernel shows of the overlay layers.
    pub fn merged(&self) -> Tree {
        if self.layers.len() == 1 {
            return kit::read_tree_at(&self.layers[0]).unwrap();
        }
        self.mounted(|path| kit::read_tree_at(path).unwrap())
    }
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // A child that another test has forked holds every descriptor until it executes its program.
        for _ in 0..100 {
            let output = Command::new("umount").arg(&self.0).output().unwrap();
            if output.status.success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("cannot unmount {}", self.0.display());
    }
}

pub fn apply(
    target: &LayerTree,
    parent: &View,
    changes: &[model::Change],
    threads: usize,
) -> Result<Applied> {
    let options = ApplyOptions { threads, ..ApplyOptions::default() };
    tree::apply(target, parent, &mut Source::new(changes), &options, &Context::new())
}

pub fn diff(base: &View, now: &View) -> Vec<model::Change> {
    let mut found = Collect::default();
    tree::diff(base, now, &mut found, &Context::new()).unwrap();
    found.0
}

/// What a view shows, read in userspace.
pub fn read_view(view: &View) -> Tree {
    model::apply(&Tree::nothing(), &diff(&View::default(), view)).unwrap()
}

/// The word of a refusal.
pub fn code(error: &layerstore_changeset::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.as_str().to_owned())
}

#[track_caller]
pub fn assert_changes(expected: &[model::Change], found: &[model::Change]) {
    if let Some(text) = model::changeset_differences(expected, found) {
        panic!("changesets differ (- expected, + found):\n{text}");
    }
}

/// A lower layer that has a bit of everything.
pub fn lower() -> Tree {
    use layerstore_testkit::build::*;
    layerstore_testkit::tree! {
        "" => dir(0o750).owner(1, 1).mtime(5, 5),
        "etc" => dir(0o700).owner(2, 3).mtime(10, 11).xattr("user.etc", "x"),
        "etc/passwd" => file("root").mtime(12, 13),
        "etc/ssl" => dir(0o711).mtime(14, 15),
        "etc/ssl/key" => file("secret"),
        "usr/lib" => dir(0o755).mtime(16, 17),
        "lib" => symlink("usr/lib"),
        "abs" => symlink("/usr"),
        "up" => symlink("usr/../.."),
        "loop" => symlink("loop"),
        "dangling" => symlink("var/run"),
        "f" => file("old").mode(0o4711).owner(4, 4).mtime(18, 19),
        "g" => link("f"),
    }
}
