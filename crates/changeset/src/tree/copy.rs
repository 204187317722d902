//! Copies of whole trees: what the vfs driver makes of a parent.
//!
//! One thread walks and makes directories, a pool copies files: extents are shared where the file system can, else
//! copied inside the kernel with holes kept, else read and written. Links are made when every file is there, and
//! directory times come last.
//!
//! Invariant: the source is never written and no symlink is followed; what vanishes while it is copied is left
//! out.

use std::collections::HashMap;

use layerstore_sys::{DeviceId, Dir, FileType, Stat};

use super::attributes::{Attributes, Gives};
use super::data::{Abilities, TreeFile, write_stream};
use super::measure::Usage;
use super::names::Names;
use super::pool::{Pool, with_pool};
use super::times::{OpenDirs, ROOT, Times};
use super::view::{is_gone, read_xattrs};
use crate::change::{Metadata, Time};
use crate::context::Context;
use crate::encoding::overlay::Namespace;
use crate::error::Result;

/// One file to copy.
struct Job {
    from: Dir,
    to: Dir,
    name: Vec<u8>,
    stat: Stat,
    gives: Gives,
}

/// A directory on the way from the root to where the walk is.
struct Level {
    from: Dir,
    to: Dir,
    row: u32,
    gives: Gives,
    pending: Names,
}

/// A name and the row of the directory that holds it.
type Place = (u32, Vec<u8>);

struct Copier<'a> {
    attributes: &'a Attributes,
    pool: &'a Pool<'a, Job>,
    times: Times,
    /// First name of each inode that has several, by row of its directory.
    linked: HashMap<(DeviceId, u64), Place>,
    /// Links to make: the first name, the other name.
    links: Vec<(Place, Place)>,
    usage: Usage,
}

/// Copies the whole content of `from` into the empty directory `to`, root attributes included: extents are
/// shared where the file system can, holes and hard links are kept, every attribute too, except those of the
/// overlay file system. `threads` as in [`ApplyOptions`](super::ApplyOptions::threads). Returns what the copy
/// takes, as if no extent was shared.
///
/// # Errors
/// System calls and cancellation. What is half written is the caller's to remove.
pub fn copy_tree(from: &Dir, to: &Dir, threads: usize, context: &Context) -> Result<Usage> {
    let attributes = Attributes::new(context)?;
    let abilities = Abilities::default();
    let run = |job: Job| copy_file(&job, &attributes, &abilities, context);
    let (mut times, usage) = with_pool(threads, &run, |pool| {
        let mut copier = Copier {
            attributes: &attributes,
            pool,
            times: Times::new(to),
            linked: HashMap::new(),
            links: Vec::new(),
            usage: Usage::default(),
        };
        copier.walk(from, to, context)?;
        pool.drain()?;
        copier.make_links(to)?;
        Ok((copier.times, copier.usage))
    })?;
    times.finish(to, &|_| Ok(()))?;
    Ok(usage)
}

impl Copier<'_> {
    fn walk(&mut self, from: &Dir, to: &Dir, context: &Context) -> Result<()> {
        let stat = from.stat_self()?;
        let metadata = dir_metadata(from, &stat)?;
        let gives = self.gives(&metadata);
        self.attributes.replace_dir(to, &metadata, is_overlays, 0)?;
        self.times.set_mtime(ROOT, stat.mtime)?;
        self.count(&stat);
        let pending = Names::new();
        let mut stack = vec![Level { from: from.clone(), to: to.clone(), row: ROOT, gives, pending }];
        while let Some(level) = stack.last_mut() {
            context.check()?;
            let Some(name) = level.pending.next(&level.from)? else {
                stack.pop();
                continue;
            };
            let Some(stat) = level.from.try_stat(&name)? else { continue };
            if stat.kind == FileType::Directory {
                let from = match level.from.open_dir(&name) {
                    Ok(from) => from,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err(error.into()),
                };
                let metadata = dir_metadata(&from, &stat)?;
                level.to.make_dir(&name, Attributes::first_mode(&metadata))?;
                let to = level.to.open_dir(&name)?;
                self.attributes.finish_dir(&to, &metadata, level.gives, 0)?;
                let gives = self.gives(&metadata);
                let row = self.times.add(level.row, &name)?;
                self.times.set_mtime(row, stat.mtime)?;
                self.count(&stat);
                let pending = Names::new();
                stack.push(Level { from, to, row, gives, pending });
                continue;
            }
            if stat.links > 1 {
                let here = (level.row, name.clone());
                if let Some(first) = self.linked.get(&(stat.device, stat.inode)) {
                    self.links.push((first.clone(), here));
                    continue;
                }
                self.linked.insert((stat.device, stat.inode), here);
            }
            self.count(&stat);
            let job = Job { from: level.from.clone(), to: level.to.clone(), name, stat, gives: level.gives };
            self.pool.push(job, 0)?;
        }
        Ok(())
    }

    fn make_links(&mut self, to: &Dir) -> Result<()> {
        let mut open = OpenDirs::new();
        for ((first_row, first), (row, name)) in std::mem::take(&mut self.links) {
            let holder = self.times.open(to, first_row, &mut open)?;
            let here = self.times.open(to, row, &mut open)?;
            if let (Some(holder), Some(here)) = (holder, here) {
                match holder.link(&first, &here, &name) {
                    // The first name vanished before it was copied.
                    Err(error) if error.is_not_found() => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }

    fn gives(&self, metadata: &Metadata) -> Gives {
        let acl = metadata.xattrs.contains_key(crate::encoding::xattr::ACL_DEFAULT);
        self.attributes.gives((metadata.uid, metadata.gid, metadata.mode), acl)
    }

    fn count(&mut self, stat: &Stat) {
        self.usage.bytes += stat.blocks * 512;
        self.usage.inodes += 1;
    }
}

fn is_overlays(name: &[u8]) -> bool {
    [Namespace::Trusted, Namespace::User].iter().any(|space| name.starts_with(space.prefix().as_bytes()))
}

fn dir_metadata(dir: &Dir, stat: &Stat) -> Result<Metadata> {
    let xattrs = read_xattrs(layerstore_sys::xattr::On::Dir(dir), |name| !is_overlays(name))?;
    Ok(metadata(stat, xattrs))
}

fn metadata(stat: &Stat, xattrs: crate::change::Xattrs) -> Metadata {
    Metadata {
        uid: stat.uid,
        gid: stat.gid,
        mode: stat.mode,
        mtime: Time { seconds: stat.mtime.seconds, nanos: stat.mtime.nanos },
        xattrs,
    }
}

/// Copies one entry that is not a directory; one that vanished is left out.
fn copy_file(job: &Job, attributes: &Attributes, abilities: &Abilities, context: &Context) -> Result<()> {
    use layerstore_sys::xattr::On;
    context.check()?;
    let Job { from, to, name, stat, gives } = job;
    if stat.kind == FileType::Regular {
        let source = match from.open_file(name) {
            Ok(source) => source,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let xattrs = read_xattrs(On::File(&source), |name| !is_overlays(name))?;
        let file = to.create_file(name, stat.mode & 0o777)?;
        copy_data(source, &file, stat, abilities, name, context)?;
        return attributes.finish_file(&file, &metadata(stat, xattrs), stat.size, *gives, 0);
    }
    let is_symlink = stat.kind == FileType::Symlink;
    if is_symlink {
        match from.read_link(name) {
            Ok(text) => to.make_symlink(name, &text)?,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    } else {
        to.make_node(name, stat.kind, stat.mode & 0o777, stat.represents)?;
    }
    let xattrs = match read_xattrs(On::Entry(from, name), |name| !is_overlays(name)) {
        Err(crate::Error::System(error)) if is_gone(&error) => crate::change::Xattrs::new(),
        xattrs => xattrs?,
    };
    attributes.finish_node(to, name, &metadata(stat, xattrs), *gives, is_symlink, 0)
}

/// Copies the data of `source` as `stat` announces it.
pub(super) fn copy_data(
    source: layerstore_sys::File,
    to: &layerstore_sys::File,
    stat: &Stat,
    abilities: &Abilities,
    name: &[u8],
    context: &Context,
) -> Result<()> {
    use std::os::fd::AsFd as _;
    if stat.size == 0 || abilities.clone_file(source.as_fd(), to, stat.size)? {
        return Ok(());
    }
    // A file without holes that is read and written in one go needs fewer calls that way.
    let small = stat.size <= 64 << 10 && stat.blocks * 512 >= stat.size;
    if !small && abilities.copy_range(source.as_fd(), to, stat.size, context)? {
        return Ok(());
    }
    let mut data = TreeFile::with_blocks(source, stat.size, stat.blocks);
    write_stream(name, b"", 0, &mut data, stat.size, to, context)
}
