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
        let Step { end: mut walked, mut row, mut links } = shared;
        if walked == path.len() {
            // Nothing below it is on the way any more: it may be what is put now.
            self.places.way().turn(path, shared, [], Vec::new());
            return Ok(Some(Parent { row, followed: links > 0 }));
        }
        // What is still to walk, the next component last. What a symlink says comes on top of the path's own.
        let mut todo: Vec<Vec<u8>> = Vec::new();
        let rest = path.get(walked..).unwrap_or_default();
        push_reversed(&mut todo, rest.strip_prefix(b"/").unwrap_or(rest));
        let mut own = todo.len();
        let refuse = |code, reason: &str| Err(Error::refused(code, entry.as_bytes(), reason));
        // Names below `row` that the view does not have. They are made at the end, so that `x/..` makes nothing.
        let mut missing: Vec<Vec<u8>> = Vec::new();
        // Where each component of the path led, and how many of the missing names that is below `row`.
        let mut steps: Vec<(Step, usize)> = Vec::new();
        let mut passed: Vec<(usize, Key)> = Vec::new();
        loop {
            if todo.len() == own && walked > shared.end {
                steps.push((Step { end: walked, row, links }, missing.len()));
            }
            let Some(name) = todo.pop() else { break };
            if todo.len() < own {
                own = todo.len();
                walked += name.len() + usize::from(walked > 0);
            }
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if missing.pop().is_some() => continue,
                b".." if row == ROOT => {
                    return refuse(
                        Code::SymlinkEscape,
                        "a symlink on the way climbs out of the layer's root",
                    );
                }
                b".." => {
                    row = self.places.parent(row)?;
                    continue;
                }
                _ => {}
            }
            if links > 0 && name.starts_with(WHITEOUT_PREFIX) {
                // The name of an entry was checked where it came in; this one comes out of a link's text.
                return refuse(Code::ReservedName, "a symlink on the way leads to a name kept for whiteouts");
            }
            if name.len() > MAX_COMPONENT {
                return refuse(Code::NameTooLong, "a symlink on the way names a component over 255 bytes");
            }
            if !missing.is_empty() {
                missing.push(name);
                continue;
            }
            if links > 0 && passed.len() <= MAX_PASSED {
                passed.push((walked, self.places.key(row, &name)?));
            }
            if let Some(known) = self.places.known(row, &name)? {
                row = known;
                continue;
            }
            match self.look(row, &name)? {
                None => missing.push(name),
                Some(node) if node.merged.is_some() => {
                    row = self.places.row_of(row, &name)?;
                    if let Some(dir) = node.merged {
                        self.places.remember(row, dir);
                    }
                }
                Some(node) if node.stat.kind == FileType::Symlink => {
                    if links == 0 {
                        passed.push((walked, self.places.key(row, &name)?));
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return refuse(Code::SymlinkLoop, "more than 40 symlinks on the way");
                    }
                    let text = node.link_text()?;
                    if text.starts_with(b"/") {
                        row = ROOT;
                    }
                    push_reversed(&mut todo, &text);
                }
                Some(_) => return refuse(Code::NotDir, "a parent is not a directory"),
            }
        }
        if !make && !missing.is_empty() {
            return Ok(None);
        }
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

/// Adds the components of a path to a list whose last element is the next to walk.
fn push_reversed(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    todo.extend(path.rsplit(|&b| b == b'/').map(<[u8]>::to_vec));
}
