//! Whiteouts and opaque directories: lower content disappears, what this stream has put stays.
//!
//! In overlay form the target remembers what is hidden: a whiteout, an opaque directory, or an entry that is not a
//! directory. In flat form lower content is removed at once. Invariant: no whiteout lies in a directory of the
//! target that hides its lower ones; the kernel would show it.

use layerstore_sys::{Dir, FileType};

use super::super::times::ROOT;
use super::places::{ALIVE, Key, PUT};
use super::resolve::Parent;
use super::{Applier, implied};
use crate::encoding::overlay;
use crate::error::{Code, Error, Result};
use crate::path::RelPath;

/// The directory in which something is to be hidden; none where there is nothing to hide, as below a file.
fn if_there(found: Result<Option<Parent>>) -> Result<Option<u32>> {
    match found {
        Err(error) if error.code() == Some(Code::NotDir) => Ok(None),
        found => Ok(found?.map(|parent| parent.row)),
    }
}

impl Applier<'_> {
    /// Hides the lower content of a name.
    pub(super) fn remove(&mut self, path: &RelPath) -> Result<()> {
        let Some(name) = path.file_name() else {
            return Err(Error::refused(Code::BadWhiteout, b".", "the root of a layer cannot be removed"));
        };
        match if_there(self.parent_of(path, false))? {
            Some(row) => self.hide(row, name),
            None => Ok(()),
        }
    }

    /// Hides the lower content of a directory. What stands for the mark in a tar is an entry *in* the directory
    /// (`lib/.wh..wh..opq`), so a symlink leads to the directory that is meant, as it does for any other entry.
    pub(super) fn opaque(&mut self, path: &RelPath) -> Result<()> {
        let Some(row) = if_there(self.resolve(path.as_bytes(), path, false))? else { return Ok(()) };
        let node = self.places.node(row)?;
        let has_lower = node.parts.iter().any(|part| part.layer > 0);
        if row == ROOT && has_lower {
            // The kernel does not look at opaque marks on a root.
            for listed in node.list()? {
                self.hide(ROOT, &listed.name)?;
            }
            return Ok(());
        }
        if has_lower || node.own(0).is_some() {
            let own = self.writable(row)?;
            self.hide_content(row, &own, has_lower)?;
        }
        Ok(())
    }

    /// Hides the lower content of the name in a directory.
    fn hide(&mut self, row: u32, name: &[u8]) -> Result<()> {
        let key = self.places.key(row, name)?;
        let marks = self.places.marks(key)?.unwrap_or_default();
        let Some(node) = self.look(row, name)? else { return Ok(()) };
        let is_own = node.layer == 0;
        if !is_own || marks & (PUT | ALIVE) == 0 {
            let own = self.writable(row)?;
            if is_own {
                self.remove_own(&own, name, key, node.stat.kind)?;
            }
            if node.stat.kind != FileType::Regular {
                self.places.forget();
            }
            if self.namespace().is_some() && self.places.below(row, name)?.is_some() {
                overlay::make_whiteout(&own, name)?;
                self.tally.entry(&own, name)?;
                self.places.mark_touched(key)?;
            }
            return Ok(());
        }
        let Some(merged) = node.merged else {
            // The stream's own entry hides the lower one already.
            return Ok(());
        };
        let has_lower = merged.parts.iter().any(|part| part.layer > 0);
        let child = self.places.row_of(row, name)?;
        self.places.remember(child, merged);
        let own = self.writable(child)?;
        if marks & PUT == 0 {
            self.replace_dir(child, &own, &implied())?;
        }
        self.hide_content(child, &own, has_lower)
    }

    fn remove_own(&mut self, own: &Dir, name: &[u8], key: Key, kind: FileType) -> Result<()> {
        if kind == FileType::Directory {
            return self.remove_tree(own, name, key);
        }
        self.tally.give_up();
        Ok(own.unlink(name)?)
    }

    /// Hides what the lower has in a directory of the target, and in its directories.
    fn hide_content(&mut self, row: u32, own: &Dir, has_lower: bool) -> Result<()> {
        if let Some(namespace) = self.namespace().filter(|_| has_lower) {
            overlay::set_opaque(own, namespace)?;
        }
        let mut todo = vec![row];
        // What is below is made of this layer alone from now on.
        self.places.forget();
        while let Some(row) = todo.pop() {
            let dir = self.own_dir(row)?;
            for entry in dir.entries()? {
                let key = self.places.key(row, &entry.name)?;
                let marks = self.places.marks(key)?.unwrap_or_default();
                let is_dir = match entry.kind {
                    FileType::Unknown => {
                        dir.try_stat(&entry.name)?.is_some_and(|stat| stat.kind == FileType::Directory)
                    }
                    kind => kind == FileType::Directory,
                };
                if marks & (PUT | ALIVE) == 0 {
                    self.places.make_ready(row, &dir, self.attributes)?;
                    self.tally.give_up();
                    layerstore_sys::remove::tree(&dir, &entry.name)?;
                } else if is_dir {
                    let child = self.places.row_of(row, &entry.name)?;
                    let own = dir.open_dir(&entry.name)?;
                    if let Some(namespace) = self.namespace() {
                        overlay::clear_redirect(&own, namespace)?;
                    }
                    self.places.make_ready(child, &own, self.attributes)?;
                    if marks & PUT == 0 {
                        self.replace_dir(child, &own, &implied())?;
                    }
                    todo.push(child);
                }
            }
        }
        Ok(())
    }
}
