//! What a directory tree shows, read with plain system calls and kept in memory: cases compare these.
//!
//! Invariant: nothing here is shared with the code under test beyond single system calls.

use std::collections::BTreeMap;
use std::fmt;

use layerstore_changeset as changeset;
use layerstore_sys as sys;
use sys::xattr::{self, On};
use sys::{DeviceId, Dir, FileType, Timestamp};

use crate::case::{Failure, Outcome};

/// A tree: path (bytes, joined by `/`, the root is empty) to what lies there.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

/// One name of a tree.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// What kind of file.
    pub kind: FileType,
    /// All twelve bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Data of a file, text of a symlink.
    pub data: Vec<u8>,
    /// Number of a device.
    pub device: Option<(u32, u32)>,
    /// Every xattr that is not reserved by an encoding.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the hard-link group, where there are more in this tree.
    pub group: Option<Vec<u8>>,
}

impl Tree {
    /// Reads the tree below an open directory, its root included.
    ///
    /// # Errors
    /// What the system calls say.
    pub fn read(root: &Dir) -> Outcome<Self> {
        let mut tree = Self::default();
        let mut seen: BTreeMap<(u64, DeviceKey), Vec<u8>> = BTreeMap::new();
        let stat = root.stat_self()?;
        tree.0.insert(Vec::new(), node(&stat, Vec::new(), xattrs(On::Dir(root))?));
        // Directories still to read, as parent and name: a wide tree must not hold a descriptor for each.
        let mut pending = vec![(root.clone(), b".".to_vec(), Vec::new())];
        while let Some((parent, name, prefix)) = pending.pop() {
            let dir = parent.open_dir(&name)?;
            let mut entries = dir.entries()?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                let path = if prefix.is_empty() {
                    entry.name.clone()
                } else {
                    [prefix.as_slice(), b"/", &entry.name].concat()
                };
                let stat = dir.stat(&entry.name)?;
                let data = match stat.kind {
                    FileType::Regular => dir.open_file(&entry.name)?.read_to_end_limited(1 << 30)?,
                    FileType::Symlink => dir.read_link(&entry.name)?,
                    FileType::Directory => {
                        pending.push((dir.clone(), entry.name.clone(), path.clone()));
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                let node = node(&stat, data, xattrs(On::Entry(&dir, &entry.name))?);
                if stat.kind != FileType::Directory && stat.links > 1 {
                    let key = (stat.inode, (stat.device.major, stat.device.minor));
                    match seen.get(&key) {
                        Some(first) => {
                            let first = first.clone();
                            tree.join_group(&first, &path, node);
                            continue;
                        }
                        None => seen.insert(key, path.clone()),
                    };
                }
                tree.0.insert(path, node);
            }
        }
        tree.name_groups();
        Ok(tree)
    }

    fn join_group(&mut self, first: &[u8], path: &[u8], mut node: Node) {
        if let Some(head) = self.0.get_mut(first) {
            head.group = Some(first.to_vec());
        }
        node.group = Some(first.to_vec());
        self.0.insert(path.to_vec(), node);
    }

    /// Names every group by its first name in order, however the tree was walked.
    fn name_groups(&mut self) {
        let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (path, node) in &self.0 {
            if let Some(group) = &node.group {
                names.entry(group.clone()).or_insert_with(|| path.clone());
            }
        }
        for node in self.0.values_mut() {
            if let Some(group) = &mut node.group
                && let Some(first) = names.get(group)
            {
                group.clone_from(first);
            }
        }
    }

    /// What lies at a path.
    ///
    /// # Errors
    /// A failure that lists what there is.
    pub fn at(&self, path: impl AsRef<[u8]>) -> Outcome<&Node> {
        let path = path.as_ref();
        self.0.get(path).ok_or_else(|| {
            Failure::new(format!(
                "{:?} is not in the view; there are {}",
                path.escape_ascii().to_string(),
                self.names()
            ))
        })
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(path.as_ref())
    }

    /// Every path but the root's, as one text: for comparing and for messages.
    pub fn names(&self) -> String {
        let names: Vec<_> = self
            .0
            .keys()
            .filter(|path| !path.is_empty())
            .map(|path| path.escape_ascii().to_string())
            .collect();
        names.join(" ")
    }

    /// Fails unless both are the same; lists every difference.
    ///
    /// # Errors
    /// The differences, `-` for what is missing and `+` for what is there instead.
    pub fn ensure_same(&self, expected: &Self, what: &str) -> Outcome {
        if self == expected {
            return Ok(());
        }
        let mut lines = Vec::new();
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(expected.0.keys()).collect();
        for path in paths {
            let (found, wanted) = (self.0.get(path), expected.0.get(path));
            if found == wanted {
                continue;
            }
            for (sign, node) in [('-', wanted), ('+', found)] {
                if let Some(node) = node {
                    lines.push(format!("  {sign} /{} {node:?}", path.escape_ascii()));
                }
            }
        }
        let more = lines.len().saturating_sub(20);
        lines.truncate(20);
        if more > 0 {
            lines.push(format!("  … and {more} more"));
        }
        Err(Failure::new(format!("{what}: the views differ (- expected, + found)\n{}", lines.join("\n"))))
    }

    /// The tree that a changeset from nothing makes, without looking at a mount: for machines that cannot mount.
    pub(crate) fn from_steps(steps: &[crate::script::Step]) -> Self {
        use changeset::{Change, Kind};
        let mut tree = Self::default();
        for step in steps {
            let Change::Put(entry) = &step.change else { continue };
            let metadata = &entry.metadata;
            let mut data = step.data.clone();
            let mut device = None;
            let kind = match &entry.kind {
                Kind::File { .. } => FileType::Regular,
                Kind::Directory => FileType::Directory,
                Kind::Symlink { target } => {
                    data = target.to_vec();
                    FileType::Symlink
                }
                Kind::HardLink { target } => {
                    if let Some(node) = tree.0.get(target.as_bytes()).cloned() {
                        tree.join_group(target.as_bytes(), entry.path.as_bytes(), node);
                    }
                    continue;
                }
                Kind::Fifo => FileType::Fifo,
                Kind::Socket => FileType::Socket,
                Kind::CharDevice(number) => {
                    device = Some((number.major, number.minor));
                    FileType::CharDevice
                }
                Kind::BlockDevice(number) => {
                    device = Some((number.major, number.minor));
                    FileType::BlockDevice
                }
            };
            let node = Node {
                kind,
                mode: metadata.mode,
                uid: metadata.uid,
                gid: metadata.gid,
                mtime: Timestamp { seconds: metadata.mtime.seconds, nanos: metadata.mtime.nanos },
                data,
                device,
                xattrs: metadata.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
                group: None,
            };
            tree.0.insert(entry.path.as_bytes().to_vec(), node);
        }
        tree.name_groups();
        tree
    }
}

type DeviceKey = (u32, u32);

fn node(stat: &sys::Stat, data: Vec<u8>, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Node {
    let DeviceId { major, minor } = stat.represents;
    let is_device = matches!(stat.kind, FileType::CharDevice | FileType::BlockDevice);
    Node {
        kind: stat.kind,
        // Linux has no permissions on symlinks, and file systems differ in what they show.
        mode: if stat.kind == FileType::Symlink { 0o777 } else { stat.mode },
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        data,
        device: is_device.then_some((major, minor)),
        xattrs,
        group: None,
    }
}

fn xattrs(on: On<'_>) -> Outcome<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in xattr::list(on)? {
        if !changeset::encoding::xattr::is_reserved(&name)
            && let Some(value) = xattr::get(on, &name)?
        {
            found.insert(name, value);
        }
    }
    Ok(found)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid, mtime, data, device, xattrs, group } = self;
        write!(f, "{kind:?} {mode:04o} {uid}:{gid} {}.{:09}", mtime.seconds, mtime.nanos)?;
        if let Some((major, minor)) = device {
            write!(f, " device {major}:{minor}")?;
        }
        match data.get(..40) {
            Some(start) => write!(f, " {} bytes \"{}…\"", data.len(), start.escape_ascii())?,
            None if !data.is_empty() => write!(f, " \"{}\"", data.escape_ascii())?,
            None => {}
        }
        for (name, value) in xattrs {
            write!(f, " {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        if let Some(group) = group {
            write!(f, " linked with {}", group.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.0 {
            writeln!(f, "/{} {node:?}", path.escape_ascii())?;
        }
        Ok(())
    }
}
