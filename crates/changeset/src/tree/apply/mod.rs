//! Changes applied to one layer, in one pass.
//!
//! ```text
//! source ─→ resolve parents ─→ directories, links, whiteouts: this thread, in order
//!                          └─→ small files: a pool, in any order    large files: this thread, streamed
//! finish: wait for the pool, then set what directories get at the end (times)
//! ```
//!
//! *Lower content* is whatever the layer's view shows before the apply begins: the parent's view, and what earlier
//! applies or writes left in the layer. Whiteouts hide that and nothing else, wherever they stand in the stream.
//! What the stream leaves open is settled so:
//!
//! - a parent directory that the stream leaves out takes the lower one's attributes, times included, else it is
//!   0755 root:root with the time 1970-01-01, on every driver and with any number of threads;
//! - a directory of the lower that the stream only passes through keeps its attributes and its time;
//! - a parent symlink that leads nowhere is followed, and the directories that it names are made;
//! - a whiteout for a name that the lower does not have, or in a directory that is not there, stores nothing;
//! - the owner, mode, time and xattrs of hard-link entries are not looked at.
//!
//! Memory: 16 MiB of file data in flight, some 16 MiB of names and places (what is more goes into a file without a
//! name beside the layer) and some hundred descriptors, whatever the input claims and however much it is.
//!
//! Invariant: the target is reached by descriptors of its directories and single components that are never
//! followed, so nothing outside it is touched, not even when somebody swaps its directories meanwhile.

mod hide;
mod known;
mod link;
mod places;
mod put;
mod resolve;
mod vacate;
mod way;

use std::collections::HashMap;

use layerstore_sys::{DeviceId, Dir};

use super::attributes::{Attributes, Gives};
use super::data::Abilities;
use super::measure::{Tally, Usage};
use super::pool::{Pool, with_pool};
use super::times::ROOT;
use super::view::{LayerTree, View};
use crate::change::{Change, Metadata, Time, Xattrs};
use crate::context::{Context, Progress};
use crate::encoding::{Encoding, overlay};
use crate::error::{Code, Error, Result};
use crate::limits::Limits;
use crate::path::RelPath;
use crate::stream::{ChangeSource, FileData};
use places::Places;

/// How a changeset is applied.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Limits against hostile input.
    pub limits: Limits,
    /// Threads that write files; 0 is one per core, 1 is none besides the caller's.
    pub threads: usize,
}

/// What an apply wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Changes of the stream, less those that were skipped with a warning.
    pub entries: u64,
    /// Bytes of file data, as announced (holes counted).
    pub bytes: u64,
    /// Entries that lie elsewhere than they are called, because a parent is a symlink: name to place.
    pub relocated: Vec<(RelPath, RelPath)>,
    /// Files of this stream that a later entry of it replaced or removed: their data is not in the tree.
    pub replaced: u64,
    /// What the target takes by itself, where that was counted: it was empty before, and what was written was not
    /// removed or replaced again.
    pub usage: Option<Usage>,
    /// What was left out, for a person: reserved xattrs, devices that may not be made.
    pub warnings: Vec<String>,
}

/// Applies a changeset to `target`, whose parent's view is `parent`.
///
/// For [`Encoding::Flat`] the target holds the parent's content already and `parent` is empty. A target without a
/// parent stores no whiteouts and no opaque marks.
///
/// # Errors
/// Refused input, system calls, cancellation. What is half written is the caller's to remove.
pub fn apply(
    target: &LayerTree,
    parent: &View,
    source: &mut dyn ChangeSource,
    options: &ApplyOptions,
    context: &Context,
) -> Result<Applied> {
    let attributes = Attributes::new(context)?;
    let abilities = Abilities::default();
    let layers = std::iter::once(target.clone()).chain(parent.layers().iter().cloned()).collect();
    let places = Places::new(View::new(layers), &target.root)?;
    let tally = Tally::of(&target.root)?;
    let run = |job: put::FileJob| job.write(&attributes, &tally);
    let (mut applied, mut times) = with_pool(options.threads, &run, |pool| {
        let mut applier = Applier {
            encoding: target.encoding,
            places,
            attributes: &attributes,
            abilities: &abilities,
            tally: &tally,
            pool,
            in_flight: false,
            devices: None,
            parent,
            lower_links: None,
            limits: &options.limits,
            context,
            applied: Applied::default(),
            relocated_bytes: 0,
            entry: 0,
            offset: None,
            told: put::Told::default(),
        };
        while let Some(item) = source.next()? {
            applier.offset = item.offset;
            applier.change(item.change, item.data).map_err(|error| error.at(item.offset))?;
        }
        Ok((applier.applied, applier.places.into_times()))
    })?;
    times.finish(&target.root, &|dir| match dir {
        Some(dir) => tally.directory(dir),
        None => {
            tally.give_up();
            Ok(())
        }
    })?;
    if times.mtime(ROOT)?.is_none() {
        tally.directory(&target.root)?;
    }
    applied.usage = tally.usage();
    applied.warnings = attributes.into_warnings();
    Ok(applied)
}

/// One apply.
struct Applier<'a> {
    encoding: Encoding,
    places: Places,
    attributes: &'a Attributes,
    abilities: &'a Abilities,
    /// What is made is counted when it is complete, directories at the end.
    tally: &'a Tally,
    pool: &'a Pool<'a, put::FileJob>,
    /// Whether the pool may still be at work.
    in_flight: bool,
    /// Whether the process may make devices in the target, once that was tried.
    devices: Option<bool>,
    /// The view below the target.
    parent: &'a View,
    /// The names of the parent's inodes that have several, once that was needed.
    lower_links: Option<HashMap<(DeviceId, u64), Vec<RelPath>>>,
    limits: &'a Limits,
    context: &'a Context,
    applied: Applied,
    /// Bytes of the names in [`Applied::relocated`].
    relocated_bytes: usize,
    /// The number of the change in the stream.
    entry: u64,
    /// Where it begins in the stream.
    offset: Option<u64>,
    told: put::Told,
}

impl Applier<'_> {
    fn change(&mut self, change: Change, data: Option<&mut dyn FileData>) -> Result<()> {
        self.context.check()?;
        self.entry += 1;
        if self.entry > self.limits.entries {
            let reason = format!("the layer has more than {} entries", self.limits.entries);
            return Err(Error::refused(Code::LimitExceeded, change.path().as_bytes(), reason));
        }
        let counts = match change {
            Change::Put(entry) => self.put(entry, data)?,
            Change::Remove(path) => {
                self.remove(&path)?;
                true
            }
            Change::Opaque(path) => {
                self.opaque(&path)?;
                true
            }
        };
        if counts {
            self.applied.entries += 1;
        }
        self.context.report(Progress { entries: self.applied.entries, bytes: self.applied.bytes });
        Ok(())
    }

    /// Waits until every file that was handed to the pool is written.
    fn settle(&mut self) -> Result<()> {
        if self.in_flight {
            self.pool.drain()?;
            self.in_flight = false;
        }
        Ok(())
    }

    /// The xattr namespace, for a target in overlay form.
    fn namespace(&self) -> Option<overlay::Namespace> {
        match self.encoding {
            Encoding::Overlay(namespace) => Some(namespace),
            Encoding::Flat => None,
        }
    }

    /// Makes a directory where nothing is in the target and returns its row; its time is set at the end.
    fn create_dir(
        &mut self,
        row: u32,
        own: &Dir,
        name: &[u8],
        metadata: &Metadata,
        opaque: bool,
    ) -> Result<u32> {
        own.make_dir(name, Attributes::first_mode(metadata))?;
        let dir = own.open_dir(name)?;
        if let Some(namespace) = self.namespace().filter(|_| opaque) {
            overlay::set_opaque(&dir, namespace)?;
        }
        let gives = self.places.gives(row)?;
        self.attributes.finish_dir(&dir, metadata, gives, self.entry)?;
        self.places.made(row, name, dir, self.dir_gives(metadata), metadata.mtime)
    }

    fn dir_gives(&self, metadata: &Metadata) -> Gives {
        let acl = metadata.xattrs.contains_key(crate::encoding::xattr::ACL_DEFAULT);
        self.attributes.gives((metadata.uid, metadata.gid, metadata.mode), acl)
    }
}

/// The attributes of a directory that neither the stream nor the lower describes.
fn implied() -> Metadata {
    Metadata { uid: 0, gid: 0, mode: 0o755, mtime: Time::default(), xattrs: Xattrs::new() }
}
