//! Hard links: to what this stream has put, or to what the lower has, which is copied up first.

use layerstore_sys::{DeviceId, Dir, Errno, FileType};

use super::super::copy::copy_data;
use super::super::view::{MergedDir, Node, read_xattrs};
use super::Applier;
use super::places::Key;
use super::put::Own;
use super::resolve::Parent;
use crate::change::{Metadata, Time};
use crate::encoding::overlay::Namespace;
use crate::error::{Code, Error, Result};
use crate::path::RelPath;

impl Applier<'_> {
    /// Gives the inode at `target` another name; [`check_link`](Self::check_link) has passed.
    pub(super) fn link(
        &mut self,
        row: u32,
        name: &[u8],
        key: Key,
        path: &RelPath,
        target: &RelPath,
    ) -> Result<()> {
        // The same walk as in `check_link`; what it found may have moved since, so it is walked again.
        let refuse = |code, reason: String| Err(Error::refused(code, path.as_bytes(), reason));
        let missing = || refuse(Code::LinkTargetMissing, format!("the link's target {target} is not there"));
        let target_name = target.file_name().unwrap_or_default();
        let Some(Parent { row: holder, .. }) = self.parent_of(target, false)? else { return missing() };
        let target_key = self.places.key(holder, target_name);
        let merged = self.places.node(holder)?;
        let Some(node) = self.look(holder, target_name)?.filter(|node| node.merged.is_none()) else {
            return missing();
        };
        let from = self.writable(holder)?;
        if node.layer > 0 || self.is_metacopy(&from, target_name)? {
            self.copy_up(&merged, &node, &from, target_name, holder)?;
            self.places.mark_touched(target_key);
        }
        let to = self.writable(row)?;
        let linked = if self.own(row, &to, name, key)? == Own::Directory {
            // The directory may hold the target: it goes after the link is made.
            self.link_over_tree((&from, target_name), (&to, name), row, key)
        } else {
            let to = self.vacate(row, name, key)?;
            from.link(target_name, &to, name).map_err(Error::from)
        };
        match linked {
            Ok(()) => Ok(()),
            Err(Error::System(error)) if error.errno() == Errno::MLINK => {
                refuse(Code::TooManyLinks, format!("{target} has as many links as the file system allows"))
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a link whose target is not there or cannot be linked, before anything is made for it.
    pub(super) fn check_link(&mut self, path: &RelPath, target: &RelPath) -> Result<()> {
        let refuse = |code, reason: String| Err(Error::refused(code, path.as_bytes(), reason));
        let missing = || refuse(Code::LinkTargetMissing, format!("the link's target {target} is not there"));
        let to_itself = || refuse(Code::LinkSelf, "a hard link to itself".to_owned());
        let place = self.parent_of(path, false)?;
        let Some(target_name) = target.file_name() else {
            return refuse(Code::LinkToDir, "a hard link to the root".to_owned());
        };
        let holder = match self.parent_of(target, false) {
            Ok(Some(holder)) => holder.row,
            Ok(None) if target == path => return to_itself(),
            Ok(None) => return missing(),
            Err(error) if error.code() == Some(Code::NotDir) => return missing(),
            Err(error) if error.code() == Some(Code::SymlinkEscape) => {
                return refuse(
                    Code::LinkEscape,
                    format!("the link's target {target} climbs out of the root"),
                );
            }
            Err(error) => return Err(error),
        };
        if place.is_some_and(|place| place.row == holder) && path.file_name() == Some(target_name) {
            return to_itself();
        }
        match self.look(holder, target_name)? {
            None => missing(),
            Some(node) if node.merged.is_some() => {
                refuse(Code::LinkToDir, format!("the link's target {target} is a directory"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Makes a link in place of a directory.
    fn link_over_tree(
        &mut self,
        (from, target): (&Dir, &[u8]),
        (to, name): (&Dir, &[u8]),
        row: u32,
        key: Key,
    ) -> Result<()> {
        let mut number = 0_u32;
        let temporary = loop {
            let temporary = format!(".layerstore-link-{number}").into_bytes();
            match from.link(target, to, &temporary) {
                Ok(()) => break temporary,
                Err(error) if error.is_exists() && number < 1000 => number += 1,
                Err(error) => return Err(error.into()),
            }
        };
        self.vacate(row, name, key)?;
        Ok(to.rename(&temporary, to, name)?)
    }

    /// Copies an entry of a lower layer, or one whose data lies there, into the target as it is.
    fn copy_up(&mut self, merged: &MergedDir, node: &Node, own: &Dir, name: &[u8], row: u32) -> Result<()> {
        let xattrs = read_xattrs(node.on(), |name| {
            [Namespace::Trusted, Namespace::User].iter().all(|n| !name.starts_with(n.prefix().as_bytes()))
        })?;
        let stat = node.stat;
        let mtime = Time { seconds: stat.mtime.seconds, nanos: stat.mtime.nanos };
        let metadata = Metadata { uid: stat.uid, gid: stat.gid, mode: stat.mode, mtime, xattrs };
        let gives = self.places.gives(row);
        if stat.kind == FileType::Regular {
            let source = merged.open_data(node)?;
            if node.layer == 0 {
                // A metadata-only copy becomes a whole one, under the same name.
                own.unlink(name)?;
            }
            let file = own.create_file(name, stat.mode & 0o777)?;
            copy_data(source, &file, &stat, self.abilities, name, self.context)?;
            return self.attributes.finish_file(&file, &metadata, gives, self.entry);
        }
        let is_symlink = stat.kind == FileType::Symlink;
        if is_symlink {
            own.make_symlink(name, &node.link_text()?)?;
        } else {
            let device: DeviceId = stat.represents;
            own.make_node(name, stat.kind, stat.mode & 0o777, device)?;
        }
        self.attributes.finish_node(own, name, &metadata, gives, is_symlink, self.entry)
    }
}
