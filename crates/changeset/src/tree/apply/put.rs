//! Entries that are put: the last one of a name wins completely.

use std::sync::Arc;

use layerstore_sys::xattr::On;
use layerstore_sys::{DeviceId, Dir, Errno, File, FileType, xattr};

use super::super::attributes::{Attributes, Gives, timestamp};
use super::super::data::{write_stream, wrong_size};
use super::super::measure::Tally;
use super::super::times::ROOT;
use super::Applier;
use super::places::{Key, PUT};
use super::vacate::Own;
use crate::change::{Device, Entry, Kind, Metadata};
use crate::encoding::overlay;
use crate::error::{Code, Error, Result};
use crate::path::RelPath;
use crate::stream::{Chunk, FileData};

/// Largest file that the pool takes, in bytes: it is in memory as a whole until it is written.
const SMALL: u64 = 256 << 10;
/// Largest numbers of devices that the kernel can store (`include/linux/kdev_t.h`).
const MAX_MAJOR: u32 = 1 << 12;
const MAX_MINOR: u32 = 1 << 20;

/// Most bytes of names that are remembered of entries that lie elsewhere than they are called: some 200,000 names
/// of usual length. Nothing else would bound that memory, because names of 4,096 bytes compress well.
const MAX_RELOCATED: usize = 16 << 20;

/// What a warning told of already, because an image with a container engine's storage has thousands of them.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Character devices 0/0.
    whiteouts: bool,
    /// Hard links to devices that are left out.
    links: bool,
}

/// A file for the pool.
pub(super) struct FileJob {
    dir: Dir,
    /// The last component of the path is its name in the directory.
    path: RelPath,
    metadata: Metadata,
    gives: Gives,
    data: Vec<u8>,
    entry: u64,
    /// Where the entry begins in the stream, which goes on meanwhile.
    offset: Option<u64>,
}

impl FileJob {
    pub(super) fn write(&self, attributes: &Attributes, tally: &Tally) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        let file = self.dir.create_file(name, self.metadata.mode & 0o777)?;
        file.write_all_at(&self.data, 0)?;
        attributes
            .finish_file(&file, &self.metadata, self.data.len() as u64, self.gives, self.entry)
            .map_err(|error| error.of_entry(self.path.as_bytes()).at(self.offset))?;
        drop(file);
        tally.entry(&self.dir, name)
    }
}

impl Applier<'_> {
    /// Puts an entry; says whether it was not skipped.
    pub(super) fn put(&mut self, mut entry: Entry, data: Option<&mut dyn FileData>) -> Result<bool> {
        if self.skips(&entry)? {
            self.places.set_skipped(&entry.path, true)?;
            return Ok(false);
        }
        if [entry.metadata.uid, entry.metadata.gid].contains(&u32::MAX) {
            let reason = "user or group id 4294967295 means \"no change\" to the kernel";
            return Err(Error::refused(Code::BadId, entry.path.as_bytes(), reason));
        }
        entry.metadata.mode &= 0o7777;
        self.attributes.drop_reserved(self.entry, &entry.path, &mut entry.metadata);
        if entry.path.is_root() {
            return self.put_root(&entry).map_err(|error| error.of_entry(b"."));
        }
        if let Kind::HardLink { target } = &entry.kind {
            self.check_link(&entry.path, target)?;
        }
        self.places.set_skipped(&entry.path, false)?;
        let name: Arc<[u8]> = entry.path.file_name().unwrap_or_default().into();
        let Some(parent) = self.parent_of(&entry.path, true)? else { return Ok(false) };
        let row = parent.row;
        let key = self.places.key(row, &name)?;
        let Entry { path, kind, metadata } = entry;
        let put = match kind {
            Kind::Directory => self.put_dir(row, &name, key, &metadata).map(|()| None),
            Kind::HardLink { target } => self.link(row, &name, key, &path, &target).map(|()| None),
            Kind::File { size } => self.put_file(row, &name, key, &path, size, metadata, data),
            kind => self.put_node(row, &name, key, &path, &kind, &metadata).map(|()| None),
        };
        if let Some((job, weight)) = put.map_err(|error| error.of_entry(path.as_bytes()))? {
            self.in_flight = true;
            // What fails here is this file, or one before it.
            self.pool.push(job, weight)?;
        }
        self.places.mark_put(row, key)?;
        if parent.followed {
            let mut place = self.places.path(row)?;
            if !place.is_empty() {
                place.push(b'/');
            }
            place.extend_from_slice(&name);
            let place = RelPath::new(&place)?;
            if place != path {
                self.relocated_bytes += path.as_bytes().len() + place.as_bytes().len();
                if self.relocated_bytes > MAX_RELOCATED {
                    let reason = "the names of entries that symlinked parents move take more than 16 MiB";
                    return Err(Error::refused(Code::LimitExceeded, path.as_bytes(), reason));
                }
                self.applied.relocated.push((path, place));
            }
        }
        Ok(true)
    }

    /// Whether an entry is left out; a warning tells of it.
    fn skips(&mut self, Entry { path, kind, .. }: &Entry) -> Result<bool> {
        let (word, raw, device) = match kind {
            Kind::HardLink { target } => {
                let skips = self.places.is_skipped(target)?;
                if skips && !std::mem::replace(&mut self.told.links, true) {
                    let warning =
                        format!("{path}: hard links to devices that are left out are left out, too");
                    self.attributes.warn(self.entry, warning);
                }
                return Ok(skips);
            }
            kind if kind.is_whiteout_device() => {
                if !std::mem::replace(&mut self.told.whiteouts, true) {
                    let warning = format!(
                        "{path}: character devices 0/0 are left out: overlay file systems read them as whiteouts"
                    );
                    self.attributes.warn(self.entry, warning);
                }
                return Ok(true);
            }
            Kind::CharDevice(device) => ("character", FileType::CharDevice, device),
            Kind::BlockDevice(device) => ("block", FileType::BlockDevice, device),
            _ => return Ok(false),
        };
        if device.major >= MAX_MAJOR || device.minor >= MAX_MINOR {
            let reason = format!("device number {}/{} does not fit", device.major, device.minor);
            return Err(Error::refused(Code::BadNumeric, path.as_bytes(), reason));
        }
        if self.may_make_devices(raw, DeviceId { major: device.major, minor: device.minor })? {
            return Ok(false);
        }
        let Device { major, minor } = device;
        let warning =
            format!("{path}: {word} device {major}/{minor} was skipped: the process may not make devices");
        self.attributes.warn(self.entry, warning);
        Ok(true)
    }

    /// Whether devices can be made in the target: tried on a name of our own, before anything is replaced, so that
    /// a skipped device changes nothing on any driver.
    fn may_make_devices(&mut self, kind: FileType, device: DeviceId) -> Result<bool> {
        if let Some(may) = self.devices {
            return Ok(may);
        }
        let own = self.writable(ROOT)?;
        let mut number = 0_u32;
        loop {
            let name = format!(".layerstore-device-{number}").into_bytes();
            match own.make_node(&name, kind, 0, device) {
                Ok(()) => {
                    own.unlink(&name)?;
                    self.devices = Some(true);
                    return Ok(true);
                }
                Err(error) if matches!(error.errno(), Errno::PERM | Errno::ACCESS) => {
                    self.devices = Some(false);
                    return Ok(false);
                }
                Err(error) if error.is_exists() && number < 1000 => number += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn put_root(&mut self, entry: &Entry) -> Result<bool> {
        if entry.kind != Kind::Directory {
            let reason = "the root of a layer has to be a directory";
            return Err(Error::refused(Code::RootTypeChange, b".", reason));
        }
        let own = self.writable(ROOT)?;
        self.replace_dir(ROOT, &own, &entry.metadata)?;
        let key = self.places.row_key(ROOT)?;
        self.places.mark_put(ROOT, key)?;
        Ok(true)
    }

    /// Gives a directory of the target other attributes; its time is set at the end.
    pub(super) fn replace_dir(&mut self, row: u32, dir: &Dir, metadata: &Metadata) -> Result<()> {
        let gives = self.dir_gives(metadata);
        if gives == Gives::Something || metadata.mode & 0o300 != 0o300 {
            // Files in flight were promised a directory that gives them nothing and lets them in.
            self.settle()?;
        }
        let prefix = self.namespace().map(overlay::Namespace::prefix);
        let keep = |name: &[u8]| prefix.is_some_and(|prefix| name.starts_with(prefix.as_bytes()));
        self.attributes.replace_dir(dir, metadata, keep, self.entry)?;
        self.places.times().set_mtime(row, timestamp(metadata.mtime))?;
        self.places.set_gives(row, gives)?;
        Ok(())
    }

    fn put_dir(&mut self, row: u32, name: &[u8], key: Key, metadata: &Metadata) -> Result<()> {
        let own = self.writable(row)?;
        let opaque = match self.own(row, &own, name, key)? {
            Own::Nothing => false,
            Own::Whiteout => {
                self.tally.give_up();
                own.unlink(name)?;
                self.lower_has_dir(row, name)?
            }
            Own::Other(stat) => {
                self.unlink(&own, name, key, &stat)?;
                self.lower_has_dir(row, name)?
            }
            Own::Directory => {
                let dir = own.open_dir(name)?;
                let child = self.places.row_of(row, name)?;
                return self.replace_dir(child, &dir, metadata);
            }
        };
        self.create_dir(row, &own, name, metadata, opaque)?;
        Ok(())
    }

    /// Puts a file, or gives back what a thread can do, and how many bytes that holds.
    #[expect(clippy::too_many_arguments, reason = "the parts of one entry and where it goes")]
    fn put_file(
        &mut self,
        row: u32,
        name: &[u8],
        key: Key,
        path: &RelPath,
        size: u64,
        metadata: Metadata,
        data: Option<&mut dyn FileData>,
    ) -> Result<Option<(FileJob, usize)>> {
        let bytes = path.as_bytes();
        let data = data.ok_or_else(|| wrong_size(bytes, size))?;
        self.applied.bytes = self.applied.bytes.saturating_add(size);
        if self.applied.bytes > self.limits.bytes {
            let reason = format!("the layer has more than {} bytes of file data", self.limits.bytes);
            return Err(Error::refused(Code::LimitExceeded, bytes, reason));
        }
        let again = self.places.marks(key)?.is_some_and(|marks| marks & PUT != 0);
        let dir = self.vacate(row, name, key)?;
        let gives = self.places.gives(row)?;
        let clone = size > 0 && self.abilities.may_clone() && data.descriptor().is_some();
        let mut head = Vec::new();
        let mut hole = 0;
        if size <= SMALL && !clone {
            head.reserve_exact(usize::try_from(size).unwrap_or_default());
            loop {
                match data.next_chunk()? {
                    Some(Chunk::Data(bytes)) => head.extend_from_slice(bytes),
                    Some(Chunk::Hole(length)) => {
                        hole = length;
                        break;
                    }
                    None => break,
                }
                if head.len() as u64 > size {
                    return Err(wrong_size(path.as_bytes(), size));
                }
            }
            if hole == 0 {
                if head.len() as u64 != size {
                    return Err(wrong_size(bytes, size));
                }
                // What waits counts with its attributes, which may be a mebibyte.
                let xattrs: usize =
                    metadata.xattrs.iter().map(|(name, value)| name.len() + value.len() + 128).sum();
                let weight = head.len() + xattrs + 256;
                let (path, entry, offset) = (path.clone(), self.entry, self.offset);
                let job = FileJob { dir, path, metadata, gives, data: head, entry, offset };
                if again {
                    // Who comes once more may come a hundred thousand times, and each would wait for a thread to be
                    // done with the one before.
                    return job.write(self.attributes, self.tally).map(|()| None);
                }
                return Ok(Some((job, weight)));
            }
        }
        let file = dir.create_file(name, metadata.mode & 0o777)?;
        if !(clone && self.fill_from_descriptor(data, &file, size)?) {
            write_stream(bytes, &head, hole, data, size, &file, self.context)?;
        }
        self.attributes.finish_file(&file, &metadata, size, gives, self.entry)?;
        drop(file);
        self.tally.entry(&dir, name).map(|()| None)
    }

    /// Fills a new file inside the kernel; says whether it could.
    fn fill_from_descriptor(&self, data: &mut dyn FileData, to: &File, size: u64) -> Result<bool> {
        let Some(source) = data.descriptor() else { return Ok(false) };
        Ok(self.abilities.clone_file(source, to, size)?
            || (size > SMALL && self.abilities.copy_range(source, to, size, self.context)?))
    }

    fn put_node(
        &mut self,
        row: u32,
        name: &[u8],
        key: Key,
        path: &RelPath,
        kind: &Kind,
        metadata: &Metadata,
    ) -> Result<()> {
        if matches!(kind, Kind::Symlink { target } if target.is_empty()) {
            return Err(Error::refused(Code::EmptyLink, path.as_bytes(), "the symlink has no target"));
        }
        let dir = self.vacate(row, name, key)?;
        let gives = self.places.gives(row)?;
        let none = DeviceId { major: 0, minor: 0 };
        let number = |device: &Device| DeviceId { major: device.major, minor: device.minor };
        let (node, device) = match kind {
            Kind::Symlink { target } => {
                match dir.make_symlink(name, target) {
                    Err(error) if error.errno() == Errno::NAMETOOLONG => {
                        let reason = "the symlink's target is too long";
                        return Err(Error::refused(Code::LinkTooLong, path.as_bytes(), reason));
                    }
                    result => result?,
                }
                self.attributes.finish_node(&dir, name, metadata, gives, true, self.entry)?;
                return self.tally.entry(&dir, name);
            }
            Kind::CharDevice(device) => (FileType::CharDevice, number(device)),
            Kind::BlockDevice(device) => (FileType::BlockDevice, number(device)),
            Kind::Socket => (FileType::Socket, none),
            _ => (FileType::Fifo, none),
        };
        dir.make_node(name, node, metadata.mode & 0o777, device)?;
        self.attributes.finish_node(&dir, name, metadata, gives, false, self.entry)?;
        self.tally.entry(&dir, name)
    }

    /// Whether a file of the target has its data in a lower layer.
    pub(super) fn is_metacopy(&self, dir: &Dir, name: &[u8]) -> Result<bool> {
        match self.namespace() {
            Some(namespace) => {
                Ok(xattr::get(On::Entry(dir, name), namespace.metacopy().as_bytes())?.is_some())
            }
            None => Ok(false),
        }
    }
}
