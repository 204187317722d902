//! Hard links: to what this stream has put, or to what the lower has, which is copied up first.

use std::collections::HashMap;

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{DeviceId, Dir, Errno, FileType};

use super::super::attributes::Gives;
use super::super::copy::copy_data;
use super::super::diff::Walk;
use super::super::view::{MergedDir, Node, View, read_xattrs};
use super::Applier;
use super::places::Key;
use super::resolve::Parent;
use super::vacate::Own;
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
        let target_key = self.places.key(holder, target_name)?;
        let merged = self.places.node(holder)?;
        let Some(node) = self.look(holder, target_name)?.filter(|node| node.merged.is_none()) else {
            return missing();
        };
        let from = self.writable(holder)?;
        if node.layer > 0 {
            self.copy_up(&merged, &node, &from, target_name, holder)?;
            self.places.mark_touched(target_key)?;
            if node.stat.links > 1 {
                self.link_siblings(&node, (&from, holder, target_name))?;
            }
        } else if let Some(namespace) = self.namespace()
            && self.is_metacopy(&from, target_name)?
        {
            self.complete(&merged, &node, &from, namespace)?;
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

    /// Gives the other names of a lower inode to its copy, so that the group stays one as it does in flat form.
    /// Which names those are takes a walk of the whole lower view, once an apply.
    fn link_siblings(&mut self, node: &Node, (own, holder, name): (&Dir, u32, &[u8])) -> Result<()> {
        if self.lower_links.is_none() {
            let mut found: HashMap<_, Vec<RelPath>> = HashMap::new();
            let (nothing, context) = (View::default(), self.context);
            let mut walk = Walk::new(&nothing, self.parent, None, context);
            while let Some(step) = walk.next()? {
                if let Some(node) = step.now.filter(|node| node.merged.is_none() && node.stat.links > 1) {
                    found.entry((node.stat.device, node.stat.inode)).or_default().push(step.path);
                }
            }
            self.lower_links = Some(found);
        }
        let id = (node.stat.device, node.stat.inode);
        let names = self.lower_links.as_ref().and_then(|links| links.get(&id)).cloned().unwrap_or_default();
        for path in names {
            let other = path.file_name().unwrap_or_default();
            // What the stream has hidden or replaced since is no member any more.
            let row = match self.parent_of(&path, false) {
                Ok(Some(parent)) if !parent.followed => parent.row,
                Ok(_) => continue,
                Err(error) if error.code().is_some() => continue,
                Err(error) => return Err(error),
            };
            if row == holder && other == name {
                continue;
            }
            let same = |there: &Node| there.layer > 0 && there.same_inode(node);
            if self.look(row, other)?.as_ref().is_some_and(same) {
                let to = self.writable(row)?;
                own.link(name, &to, other)?;
                let key = self.places.key(row, other)?;
                self.places.mark_touched(key)?;
            }
        }
        Ok(())
    }

    /// Gives a metadata-only copy of the target its data, so that it can have another name.
    fn complete(&mut self, merged: &MergedDir, node: &Node, own: &Dir, namespace: Namespace) -> Result<()> {
        // Writing takes set-user-id bits and file capabilities away, so everything is set again.
        self.tally.give_up();
        let metadata = node.metadata()?;
        let source = merged.open_data(node)?;
        let file = own.open_file_rw(&node.name)?;
        copy_data(source, &file, &node.stat, self.abilities, &node.name, self.context)?;
        for mark in [namespace.metacopy(), namespace.redirect()] {
            xattr::remove(On::File(&file), mark.as_bytes())?;
        }
        self.attributes.finish_file(&file, &metadata, node.stat.size, Gives::Something, self.entry)
    }

    /// Copies an entry of a lower layer into the target as it is.
    fn copy_up(&mut self, merged: &MergedDir, node: &Node, own: &Dir, name: &[u8], row: u32) -> Result<()> {
        let xattrs = read_xattrs(node.on(), |name| {
            [Namespace::Trusted, Namespace::User].iter().all(|n| !name.starts_with(n.prefix().as_bytes()))
        })?;
        let stat = node.stat;
        let mtime = Time { seconds: stat.mtime.seconds, nanos: stat.mtime.nanos };
        let metadata = Metadata { uid: stat.uid, gid: stat.gid, mode: stat.mode, mtime, xattrs };
        let gives = self.places.gives(row)?;
        if stat.kind == FileType::Regular {
            let source = merged.open_data(node)?;
            let file = own.create_file(name, stat.mode & 0o777)?;
            copy_data(source, &file, &stat, self.abilities, name, self.context)?;
            self.attributes.finish_file(&file, &metadata, stat.size, gives, self.entry)?;
            drop(file);
            return self.tally.entry(own, name);
        }
        let is_symlink = stat.kind == FileType::Symlink;
        if is_symlink {
            own.make_symlink(name, &node.link_text()?)?;
        } else {
            let device: DeviceId = stat.represents;
            own.make_node(name, stat.kind, stat.mode & 0o777, device)?;
        }
        self.attributes.finish_node(own, name, &metadata, gives, is_symlink, self.entry)?;
        self.tally.entry(own, name)
    }
}
