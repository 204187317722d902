//! A file tree in memory: names, and inodes that one or more names share.

use std::collections::BTreeMap;

use crate::data::Data;
use crate::path::Path;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(Data),
    /// A directory.
    Dir,
    /// A symbolic link with its text.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device, major and minor.
    Char(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
    /// A unix socket.
    Socket,
}

/// Metadata of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, at most `0o7777`; 0777 for symlinks.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds since 1970 rounded down, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An inode; built by the functions of [`crate::build`] and changed by these methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    pub meta: Meta,
}

impl Inode {
    /// An inode of root's, mode 0644, time 0, without xattrs.
    pub fn new(kind: Kind) -> Self {
        let mode = match kind {
            Kind::Dir => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        };
        Self { kind, meta: Meta { mode, uid: 0, gid: 0, mtime: (0, 0), xattrs: BTreeMap::new() } }
    }

    /// Sets the mode; symlinks have none.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        if !matches!(self.kind, Kind::Symlink(_)) {
            self.meta.mode = mode;
        }
        self
    }

    /// Sets owner and group.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.meta.uid, self.meta.gid) = (uid, gid);
        self
    }

    /// Sets the time, seconds and nanoseconds.
    #[must_use]
    pub fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.meta.mtime = (seconds, nanos);
        self
    }

    /// Sets an extended attribute.
    #[must_use]
    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.meta.xattrs.insert(name.as_ref().to_vec(), value.as_ref().to_vec());
        self
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

/// What is put at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An inode of its own.
    Inode(Inode),
    /// Another name for what lies there.
    Link(Path),
}

impl From<Inode> for Entry {
    fn from(inode: Inode) -> Self {
        Self::Inode(inode)
    }
}

/// A tree. Equality looks at names, inodes and hard-link groups.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    names: BTreeMap<Path, u64>,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

impl Tree {
    /// A tree without anything, not even a root: what a base layer is compared with.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// An empty root, 0755 0:0, time 0.
    pub fn new() -> Self {
        let mut tree = Self::default();
        tree.put("", Inode::new(Kind::Dir));
        tree
    }

    /// Puts an entry, replacing what was there (with everything below, unless both are directories). Missing
    /// parents are made 0755 0:0, time 0. Symlinks are not followed.
    ///
    /// # Panics
    /// When a parent is not a directory, or a link's target is not there.
    pub fn put(&mut self, path: impl Into<Path>, entry: impl Into<Entry>) -> &mut Self {
        let path = path.into();
        for above in path.ancestors() {
            match self.get(above.clone()) {
                None => self.insert(above, Inode::new(Kind::Dir)),
                Some(inode) => assert!(inode.is_dir(), "{above} is not a directory"),
            }
        }
        match entry.into() {
            Entry::Inode(inode) => {
                if !(inode.is_dir() && self.get(path.clone()).is_some_and(Inode::is_dir)) {
                    self.remove(path.clone());
                }
                self.insert(path, inode);
            }
            Entry::Link(target) => {
                let id = self.id(target.clone()).unwrap_or_else(|| panic!("{target} is not there"));
                self.put_id(path, id);
            }
        }
        self
    }

    fn insert(&mut self, path: Path, inode: Inode) {
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, inode);
        self.names.insert(path, id);
    }

    /// Gives an inode that the tree has, or had, another name.
    pub(crate) fn put_id(&mut self, path: Path, id: u64) {
        self.remove(path.clone());
        self.names.insert(path, id);
    }

    /// Removes a name with everything below it.
    pub fn remove(&mut self, path: impl Into<Path>) -> &mut Self {
        for name in self.below(&path.into()) {
            self.names.remove(&name);
        }
        self
    }

    /// Removes everything below a directory.
    pub fn clear(&mut self, path: impl Into<Path>) -> &mut Self {
        let path = path.into();
        for name in self.below(&path).into_iter().filter(|name| *name != path) {
            self.names.remove(&name);
        }
        self
    }

    /// A name and those below it, in order: they stand together. Inodes without a name are kept: nobody sees them.
    fn below(&self, path: &Path) -> Vec<Path> {
        let from = self.names.range(path.clone()..).map(|(name, _)| name);
        from.take_while(|name| name.starts_with(path)).cloned().collect()
    }

    /// What lies at a name.
    pub fn get(&self, path: impl Into<Path>) -> Option<&Inode> {
        self.inodes.get(self.names.get(&path.into())?)
    }

    /// As [`Tree::get`], to be changed: for all its names.
    pub fn get_mut(&mut self, path: impl Into<Path>) -> Option<&mut Inode> {
        self.inodes.get_mut(self.names.get(&path.into())?)
    }

    /// A number that the names of one inode share.
    pub fn id(&self, path: impl Into<Path>) -> Option<u64> {
        self.names.get(&path.into()).copied()
    }

    /// Every name with its inode, in the order of a walk, the root first.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Inode)> {
        self.names.iter().filter_map(|(path, id)| Some((path, self.inodes.get(id)?)))
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is nothing, not even a root.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names of the inode at a path, sorted.
    pub fn group(&self, path: impl Into<Path>) -> Vec<Path> {
        let id = self.id(path);
        self.names.iter().filter(|(_, other)| Some(**other) == id).map(|(name, _)| name.clone()).collect()
    }

    /// Each name's first name of its group.
    pub fn leaders(&self) -> BTreeMap<Path, Path> {
        let mut first = BTreeMap::new();
        self.names.iter().map(|(path, id)| (path.clone(), first.entry(id).or_insert(path).clone())).collect()
    }

    /// Sets every time later than `after` (seconds) to `after`: what was written during a test.
    #[must_use]
    pub fn with_times_capped(mut self, after: i64) -> Self {
        for inode in self.inodes.values_mut() {
            if inode.meta.mtime.0 >= after {
                inode.meta.mtime = (after, 0);
            }
        }
        self
    }

    /// The same tree with an inode of its own for every name.
    #[must_use]
    pub fn without_groups(&self) -> Self {
        let mut apart = Self::nothing();
        for (path, inode) in self.iter() {
            apart.insert(path.clone(), inode.clone());
        }
        apart
    }

    /// Changes every inode.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut Inode)) {
        self.inodes.values_mut().for_each(&mut change);
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.leaders() == other.leaders() && self.iter().eq(other.iter())
    }
}

impl Eq for Tree {}
