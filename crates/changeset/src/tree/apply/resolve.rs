//! Where an entry lies: its parents are resolved component by component over the view so far.
//!
//! A parent that is a symlink is followed inside the root: an absolute one begins again at the root, one that
//! climbs out is refused. The last component is never resolved.

use layerstore_sys::{Dir, FileType};

use super::super::times::ROOT;
use super::super::view::{Node, Part, read_xattrs};
use super::places::{Key, PUT};
use super::way::{MAX_PASSED, Step};
use super::{Applier, implied};
use crate::change::{Metadata, Time};
use crate::encoding::overlay::Namespace;
use crate::encoding::tar::WHITEOUT_PREFIX;
use crate::error::{Code, Error, Result};
use crate::path::{MAX_COMPONENT, RelPath};

/// Most symlinks on the way to one entry, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Where an entry's parent path leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parent {
    pub(super) row: u32,
    /// Whether a symlink was followed.
    pub(super) followed: bool,
}

impl Applier<'_> {
    /// Resolves the directory that holds `path`; none when it is not there and is not to be made.
    pub(super) fn parent_of(&mut self, path: &RelPath, make: bool) -> Result<Option<Parent>> {
        let bytes = path.as_bytes();
        let cut = bytes.iter().rposition(|&b| b == b'/').unwrap_or(0);
        self.resolve(bytes.get(..cut).unwrap_or_default(), path, make)
    }

    /// Resolves a path whose every component is a directory or leads to one; `entry` is what errors name.
    pub(super) fn resolve(&mut self, path: &[u8], entry: &RelPath, make: bool) -> Result<Option<Parent>> {
        let shared = self.places.way().shared(path);
        let mut walk = Walk::new(path, shared);
        while let Some(name) = walk.next() {
            self.walk(&mut walk, name, entry)?;
        }
        if !make && !walk.missing.is_empty() {
            return Ok(None);
        }
        let Walk { mut row, links, missing, steps, passed, .. } = walk;
        let mut made = Vec::with_capacity(missing.len());
        for name in missing {
            row = self.make_implied(row, &name)?;
            made.push(row);
        }
        let steps = steps.into_iter().map(|(step, below)| match below.checked_sub(1) {
            Some(index) => Step { row: made.get(index).copied().unwrap_or(row), ..step },
            None => step,
        });
        self.places.way().turn(path, shared, steps, passed);
        Ok(Some(Parent { row, followed: links > 0 }))
    }

    /// Walks one component further.
    fn walk(&mut self, walk: &mut Walk, name: Vec<u8>, entry: &RelPath) -> Result<()> {
        let refuse = |code, reason: &str| Err(Error::refused(code, entry.as_bytes(), reason));
        match name.as_slice() {
            b"" | b"." => return Ok(()),
            b".." if walk.missing.pop().is_some() => return Ok(()),
            b".." if walk.row == ROOT => {
                return refuse(Code::SymlinkEscape, "a symlink on the way climbs out of the layer's root");
            }
            b".." => {
                walk.row = self.places.parent(walk.row)?;
                return Ok(());
            }
            _ => {}
        }
        if walk.links > 0 && name.starts_with(WHITEOUT_PREFIX) {
            // The name of an entry was checked where it came in; this one comes out of a link's text.
            return refuse(Code::ReservedName, "a symlink on the way leads to a name kept for whiteouts");
        }
        if name.len() > MAX_COMPONENT {
            return refuse(Code::NameTooLong, "a symlink on the way names a component over 255 bytes");
        }
        if !walk.missing.is_empty() {
            walk.missing.push(name);
            return Ok(());
        }
        if walk.links > 0 && walk.passed.len() <= MAX_PASSED {
            walk.passed.push((walk.walked, self.places.key(walk.row, &name)?));
        }
        if let Some(known) = self.places.known(walk.row, &name)? {
            walk.row = known;
            return Ok(());
        }
        match self.look(walk.row, &name)? {
            None => walk.missing.push(name),
            Some(node) if node.merged.is_some() => {
                walk.row = self.places.row_of(walk.row, &name)?;
                if let Some(dir) = node.merged {
                    self.places.remember(walk.row, dir);
                }
            }
            Some(node) if node.stat.kind == FileType::Symlink => {
                if walk.links == 0 {
                    walk.passed.push((walk.walked, self.places.key(walk.row, &name)?));
                }
                walk.links += 1;
                if walk.links > MAX_LINKS {
                    return refuse(Code::SymlinkLoop, "more than 40 symlinks on the way");
                }
                walk.follow(&node.link_text()?);
            }
            Some(_) => return refuse(Code::NotDir, "a parent is not a directory"),
        }
        Ok(())
    }

    /// What the view so far has at a place.
    pub(super) fn look(&mut self, row: u32, name: &[u8]) -> Result<Option<Node>> {
        let key = self.places.key(row, name)?;
        if self.places.marks(key)?.is_some_and(|marks| marks & PUT != 0) {
            // It may be a file that is still being written, and what it hides would be seen.
            self.settle()?;
        }
        self.places.node(row)?.lookup(name)
    }

    /// Makes a directory that the stream leaves out and the view does not have.
    fn make_implied(&mut self, row: u32, name: &[u8]) -> Result<u32> {
        let own = self.writable(row)?;
        let key = self.places.key(row, name)?;
        let hidden = !self.places.is_vacant(row, key)? && own.try_stat(name)?.is_some();
        if hidden {
            // Only a whiteout is there and yet not in the view.
            self.tally.give_up();
            own.unlink(name)?;
        }
        let opaque = hidden && self.lower_has_dir(row, name)?;
        let child = self.create_dir(row, &own, name, &implied(), opaque)?;
        self.places.node(child)?;
        Ok(child)
    }

    /// Whether the lower layers have a directory at a place where the target has something else.
    pub(super) fn lower_has_dir(&mut self, row: u32, name: &[u8]) -> Result<bool> {
        Ok(self.places.below(row, name)?.is_some_and(|node| node.merged.is_some()))
    }

    /// The target's own directory for a directory of the view, made with the lower one's attributes where the
    /// target has none yet (a copy-up), and ready to be written to.
    pub(super) fn writable(&mut self, row: u32) -> Result<Dir> {
        let mut missing = Vec::new();
        let mut above = row;
        while !self.places.is_ready(above)? {
            missing.push(above);
            if above == ROOT {
                break;
            }
            above = self.places.parent(above)?;
        }
        while let Some(next) = missing.pop() {
            let node = self.places.node(next)?;
            if let Some(own) = node.own(0) {
                self.places.make_ready(next, own, self.attributes)?;
                continue;
            }
            let Some(lower) = node.parts.first() else { continue };
            let holder = self.places.parent(next)?;
            let parent = self.own_dir(holder)?;
            let xattrs = read_xattrs(layerstore_sys::xattr::On::Dir(&lower.dir), |name| {
                [Namespace::Trusted, Namespace::User].iter().all(|n| !name.starts_with(n.prefix().as_bytes()))
            })?;
            let stat = lower.dir.stat_self()?;
            let mtime = Time { seconds: stat.mtime.seconds, nanos: stat.mtime.nanos };
            let metadata = Metadata { uid: stat.uid, gid: stat.gid, mode: stat.mode, mtime, xattrs };
            let name = self.places.name(next)?;
            self.create_dir(holder, &parent, &name, &metadata, false)?;
            // The new directory comes before the ones that it is merged with.
            let dir = parent.open_dir(&name)?;
            let stat = dir.stat_self()?;
            let mut merged = (*node).clone();
            merged.parts.insert(0, Part { layer: 0, dir, stat, xattr_whiteouts: false });
            self.places.remember(next, merged);
        }
        self.own_dir(row)
    }

    /// The target's own directory, which is there.
    pub(super) fn own_dir(&mut self, row: u32) -> Result<Dir> {
        let node = self.places.node(row)?;
        if let Some(own) = node.own(0) {
            return Ok(own.clone());
        }
        let path = String::from_utf8_lossy(&self.places.path(row)?).into_owned();
        Err(layerstore_sys::Error::new("openat", path, layerstore_sys::Errno::NOENT).into())
    }
}

/// A walk to a parent that is under way.
struct Walk {
    /// Where it is.
    row: u32,
    /// Symlinks that were followed.
    links: usize,
    /// Bytes of the path that led there.
    walked: usize,
    /// Whether a component of the path was walked.
    begun: bool,
    /// What is still to walk, the next component last: what a symlink says lies on top of the path's own.
    todo: Vec<Vec<u8>>,
    /// How many of these are the path's own.
    own: usize,
    /// Names below `row` that the view does not have. They are made at the end, so that `x/..` makes nothing.
    missing: Vec<Vec<u8>>,
    /// Where each component of the path led, and how many of the missing names that is below the row.
    steps: Vec<(Step, usize)>,
    /// Symlinks, and what came behind the first of them, as [`Way`](super::way::Way) keeps them.
    passed: Vec<(usize, Key)>,
}

impl Walk {
    /// Walks `path` on from a step of it.
    fn new(path: &[u8], from: Step) -> Self {
        let Step { end, row, links } = from;
        let mut walk = Self {
            row,
            links,
            walked: end,
            begun: false,
            todo: Vec::new(),
            own: 0,
            missing: Vec::new(),
            steps: Vec::new(),
            passed: Vec::new(),
        };
        if let Some(rest) = path.get(end..).filter(|rest| !rest.is_empty()) {
            walk.push(rest.strip_prefix(b"/").unwrap_or(rest));
        }
        walk.own = walk.todo.len();
        walk
    }

    /// Takes the next component; the step of the one before is complete then.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.begun && self.todo.len() == self.own {
            let step = Step { end: self.walked, row: self.row, links: self.links };
            self.steps.push((step, self.missing.len()));
        }
        let name = self.todo.pop()?;
        if self.todo.len() < self.own {
            self.own = self.todo.len();
            self.walked += name.len() + usize::from(self.walked > 0);
            self.begun = true;
        }
        Some(name)
    }

    /// Goes on with a symlink's text.
    fn follow(&mut self, text: &[u8]) {
        if text.starts_with(b"/") {
            self.row = ROOT;
        }
        self.push(text);
    }

    fn push(&mut self, path: &[u8]) {
        self.todo.extend(path.rsplit(|&b| b == b'/').map(<[u8]>::to_vec));
    }
}
