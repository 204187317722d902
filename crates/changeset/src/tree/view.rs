//! The merged tree of a chain of layers, read in userspace by directory descriptors: nothing is mounted.
//!
//! A [`MergedDir`] is the list of directories that contribute to one directory of the view, topmost first:
//!
//! ```text
//!            layer 0 (top)   layer 1        layer 2 (base)
//! etc    →   etc             etc (opaque)                    parts = [0:etc, 1:etc], nothing below an opaque one
//! srv    →   srv ─redirect /data─────────→  data             parts = [0:srv, 2:data]
//! ```
//!
//! The rules are those of the kernel's overlay (`fs/overlayfs/namei.c`): a whiteout or a file that is not a
//! directory ends the search, an opaque directory ends it after itself, a redirect changes where lower layers
//! are asked. Opaque marks on a layer's root mean nothing, as in the kernel.
//!
//! Invariant: names are looked up one component at a time and symlinks are never followed, so no layer can lead
//! the reader out of its directory.

use std::sync::Arc;

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{Dir, Errno, File, FileType, Stat};

use super::search;
use crate::change::{Device, Kind, Metadata, Time, Xattrs};
use crate::encoding::xattr::{CAPABILITY, is_reserved};
use crate::encoding::{Encoding, overlay};
use crate::error::Result;
use crate::path::RelPath;

/// One layer's content in a directory.
#[derive(Debug, Clone)]
pub struct LayerTree {
    /// The directory.
    pub root: Dir,
    /// How the content lies in it.
    pub encoding: Encoding,
}

/// The merged tree of a chain, topmost layer first; no layers is the empty view.
#[derive(Debug, Clone)]
pub struct View {
    layers: Arc<[LayerTree]>,
}

impl Default for View {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl View {
    /// The view of these layers, topmost first. What follows a flat layer is left out: a flat layer holds a whole
    /// view.
    pub fn new(mut layers: Vec<LayerTree>) -> Self {
        if let Some(flat) = layers.iter().position(|layer| layer.encoding == Encoding::Flat) {
            layers.truncate(flat + 1);
        }
        Self { layers: layers.into() }
    }

    /// The view that one directory shows as it is, for example a mounted one.
    pub fn flat(root: Dir) -> Self {
        Self::new(vec![LayerTree { root, encoding: Encoding::Flat }])
    }

    /// The layers, topmost first.
    pub fn layers(&self) -> &[LayerTree] {
        &self.layers
    }

    /// The root of the view; none for the empty view.
    ///
    /// # Errors
    /// Those of `statx` and `listxattr`.
    pub fn root(&self) -> Result<Option<Node>> {
        let mut parts = Vec::with_capacity(self.layers.len());
        for (layer, tree) in self.layers.iter().enumerate() {
            let stat = tree.root.stat_self()?;
            let xattr_whiteouts = match tree.encoding {
                Encoding::Overlay(namespace) => {
                    overlay::marks(On::Dir(&tree.root), namespace)?.xattr_whiteouts
                }
                Encoding::Flat => false,
            };
            parts.push(Part { layer, dir: tree.root.clone(), stat, xattr_whiteouts });
        }
        let merged = MergedDir { layers: Arc::clone(&self.layers), parts };
        Ok(merged.into_node(b"."))
    }

    /// The entry at a path, without following any symlink; none when the view has no such entry.
    ///
    /// # Errors
    /// System calls.
    pub fn find(&self, path: &RelPath) -> Result<Option<Node>> {
        let Some(mut node) = self.root()? else { return Ok(None) };
        for name in path.components() {
            let Some(dir) = &node.merged else { return Ok(None) };
            match dir.lookup(name)? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Opens the data of the regular file at a path, without following any symlink; none when there is no regular
    /// file at the path.
    ///
    /// # Errors
    /// System calls.
    pub fn open_file(&self, path: &RelPath) -> Result<Option<File>> {
        let Some(parent) = path.parent() else { return Ok(None) };
        let Some(Node { merged: Some(dir), .. }) = self.find(&parent)? else { return Ok(None) };
        match dir.lookup(path.file_name().unwrap_or_default())? {
            Some(node) if node.stat.kind == FileType::Regular => Ok(Some(dir.open_data(&node)?)),
            _ => Ok(None),
        }
    }
}

/// One directory that contributes to a directory of the view.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Index of the layer in the view.
    pub(crate) layer: usize,
    /// The directory in that layer.
    pub(crate) dir: Dir,
    /// What it was when it was found.
    pub(crate) stat: Stat,
    /// Whether it may hold whiteouts in xattr form.
    pub(crate) xattr_whiteouts: bool,
}

/// A directory of the view.
#[derive(Debug, Clone)]
pub struct MergedDir {
    pub(crate) layers: Arc<[LayerTree]>,
    pub(crate) parts: Vec<Part>,
}

/// A name that may exist in a directory of the view: at least one layer has something there, perhaps a whiteout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// Which parts of the directory have it.
    pub(crate) parts: Vec<usize>,
}

/// An entry of the view.
#[derive(Debug, Clone)]
pub struct Node {
    /// What the topmost inode is.
    pub stat: Stat,
    /// Index of the layer that shows it.
    pub(crate) layer: usize,
    /// The directory that holds it, in that layer.
    pub(crate) dir: Dir,
    /// Its name there; `.` for a layer's root.
    pub(crate) name: Box<[u8]>,
    /// For a directory, what it is made of.
    pub(crate) merged: Option<MergedDir>,
}

impl MergedDir {
    /// The entry `name`; none when the view has no such entry.
    ///
    /// # Errors
    /// System calls.
    pub fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        search::entry(self, name, 0, None)
    }

    /// The entry of a name that [`list`](Self::list) gave; none when it is a whiteout or gone meanwhile.
    ///
    /// # Errors
    /// System calls.
    pub fn lookup_listed(&self, listed: &Listed) -> Result<Option<Node>> {
        search::entry(self, &listed.name, 0, Some(&listed.parts))
    }

    /// As [`lookup`](Self::lookup), as if the layers before `layer` had nothing in this directory.
    pub(crate) fn lookup_below(&self, name: &[u8], layer: usize) -> Result<Option<Node>> {
        let from = self.parts.iter().position(|part| part.layer >= layer).unwrap_or(self.parts.len());
        search::entry(self, name, from, None)
    }

    /// Every name that some layer has here, sorted by bytes; look each up to know whether the view has it.
    ///
    /// # Errors
    /// System calls.
    pub fn list(&self) -> Result<Vec<Listed>> {
        self.list_above(usize::MAX)
    }

    /// As [`list`](Self::list), asking only the layers before `layer`.
    pub(crate) fn list_above(&self, layer: usize) -> Result<Vec<Listed>> {
        let mut names = Vec::new();
        for (index, part) in self.parts.iter().enumerate().filter(|(_, part)| part.layer < layer) {
            // A directory that was removed meanwhile has no names.
            match part.dir.entries() {
                Ok(entries) => names.extend(entries.into_iter().map(|entry| (entry.name, index))),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        names.sort_unstable();
        let mut listed: Vec<Listed> = Vec::with_capacity(names.len());
        for (name, index) in names {
            match listed.last_mut() {
                Some(last) if last.name == name => last.parts.push(index),
                _ => listed.push(Listed { name, parts: vec![index] }),
            }
        }
        Ok(listed)
    }

    /// Opens the data of a regular file of this directory, which a metadata-only copy has in a lower layer.
    ///
    /// # Errors
    /// System calls; `ENOENT` when no lower layer has the data.
    pub fn open_data(&self, node: &Node) -> Result<File> {
        search::data(self, node)
    }

    /// Opens the data of a regular file of this directory, and reads its metadata by the same descriptor.
    ///
    /// # Errors
    /// As [`open_data`](Self::open_data).
    pub(crate) fn open_with_metadata(&self, node: &Node) -> Result<(File, Metadata)> {
        let file = node.dir.open_file(&node.name)?;
        let names = xattr::list(On::File(&file))?;
        let xattrs = read_named(On::File(&file), &names, |name| !is_reserved(name))?;
        let is_copy = match self.layers.get(node.layer).map(|tree| tree.encoding) {
            Some(Encoding::Overlay(namespace)) => {
                names.iter().any(|name| name.as_slice() == namespace.metacopy().as_bytes())
            }
            _ => false,
        };
        let data = if is_copy { search::data(self, node)? } else { file };
        Ok((data, node.metadata_with(xattrs)))
    }

    pub(crate) fn into_node(self, name: &[u8]) -> Option<Node> {
        let top = self.parts.first()?;
        let (stat, layer, dir) = (top.stat, top.layer, top.dir.clone());
        Some(Node { stat, layer, dir, name: name.into(), merged: Some(self) })
    }

    /// The topmost directory, if it belongs to this layer.
    pub(crate) fn own(&self, layer: usize) -> Option<&Dir> {
        self.parts.first().filter(|part| part.layer == layer).map(|part| &part.dir)
    }
}

impl Node {
    /// For a directory, what it is made of.
    pub fn directory(&self) -> Option<&MergedDir> {
        self.merged.as_ref()
    }

    /// Whether both are the same inode.
    pub(crate) fn same_inode(&self, other: &Self) -> bool {
        self.stat.same_inode(&other.stat)
    }

    pub(crate) fn on(&self) -> On<'_> {
        match &self.merged {
            Some(_) if self.name.as_ref() != b"." => match self.merged.as_ref().and_then(|m| m.parts.first())
            {
                Some(part) => On::Dir(&part.dir),
                None => On::Entry(&self.dir, &self.name),
            },
            _ => On::Entry(&self.dir, &self.name),
        }
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// Those of `readlinkat`.
    pub fn link_text(&self) -> Result<Vec<u8>> {
        Ok(self.dir.read_link(&self.name)?)
    }

    /// Every attribute that is the user's own.
    ///
    /// # Errors
    /// Those of `listxattr` and `getxattr`.
    pub fn xattrs(&self) -> Result<Xattrs> {
        read_xattrs(self.on(), |name| !is_reserved(name))
    }

    /// Owner, mode, time and xattrs.
    ///
    /// # Errors
    /// Those of `listxattr` and `getxattr`.
    pub fn metadata(&self) -> Result<Metadata> {
        Ok(self.metadata_with(self.xattrs()?))
    }

    fn metadata_with(&self, xattrs: Xattrs) -> Metadata {
        Metadata {
            uid: self.stat.uid,
            gid: self.stat.gid,
            mode: self.stat.mode,
            mtime: Time { seconds: self.stat.mtime.seconds, nanos: self.stat.mtime.nanos },
            xattrs,
        }
    }

    /// What it is; none for a kind that nothing can say.
    ///
    /// # Errors
    /// Those of `readlinkat`.
    pub fn kind(&self) -> Result<Option<Kind>> {
        let device = Device { major: self.stat.represents.major, minor: self.stat.represents.minor };
        Ok(Some(match self.stat.kind {
            FileType::Regular => Kind::File { size: self.stat.size },
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink { target: self.link_text()?.into() },
            FileType::Fifo => Kind::Fifo,
            FileType::CharDevice => Kind::CharDevice(device),
            FileType::BlockDevice => Kind::BlockDevice(device),
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Ok(None),
        }))
    }
}

/// The attributes whose names pass; one that vanishes between the two calls is left out.
pub(crate) fn read_xattrs(on: On<'_>, wanted: impl Fn(&[u8]) -> bool) -> Result<Xattrs> {
    read_named(on, &xattr::list(on)?, wanted)
}

fn read_named(on: On<'_>, names: &[Vec<u8>], wanted: impl Fn(&[u8]) -> bool) -> Result<Xattrs> {
    let mut found = Xattrs::new();
    for name in names {
        if !wanted(name) {
            continue;
        }
        match xattr::get(on, name) {
            Ok(Some(value)) => {
                found.insert(name.as_slice().into(), value.into());
            }
            Ok(None) => {}
            // A malformed one, which root can set, gives nobody anything, and the kernel shows it to nobody.
            Err(error) if error.errno() == Errno::INVAL && name == CAPABILITY => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Whether a call failed because the entry is gone or became something else: on a live tree that is an answer.
pub(crate) fn is_gone(error: &layerstore_sys::Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
}
