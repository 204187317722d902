//! A disk that remembers in which order it was written and flushed, served as the one file of a FUSE file system.
//!
//! A disk may keep what it is given in a cache and write it in any order, until it is told to flush. So after a
//! power cut it holds everything from before the last flush that it finished, any part of what came later, and of
//! the last write perhaps only some sectors:
//!
//! ```text
//! W W W F W W F W W W ✂     all of the first five, any of the last three, one of them torn
//! ```
//!
//! [`Log::crash`] writes such a disk. Requests are served one after another, so that the order in the log is
//! the order in which they were made and answered.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

/// The name of the one file.
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(3600);
/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

#[derive(Debug)]
enum Entry {
    Write { offset: u64, data: Vec<u8> },
    Flush,
}

/// What was written to a disk since it was served.
#[derive(Debug, Clone)]
pub struct Log {
    entries: Arc<Mutex<Vec<Entry>>>,
    start: PathBuf,
}

/// A disk that is served; gone when dropped.
pub struct Served {
    session: Option<BackgroundSession>,
    path: PathBuf,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Served {
    /// The disk's file.
    pub fn disk(&self) -> PathBuf {
        self.path.join(NAME)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // A mount that is still in use goes when that ends.
            let _ = session.umount_and_join();
        }
    }
}

/// Serves a copy of `image` at the directory `path`, made if it is missing. The image itself stays as it is: it is
/// what the log starts from.
///
/// # Errors
/// Those of FUSE: no `/dev/fuse`, no privilege.
pub fn serve(image: &Path, path: &Path) -> io::Result<(Served, Log)> {
    std::fs::create_dir_all(path)?;
    let current = image.with_extension("current");
    super::disk::copy(image, &current)?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&current)?;
    // Nobody else needs its name.
    std::fs::remove_file(&current)?;
    let size = file.metadata()?.len();
    let log = Log { entries: Arc::default(), start: image.to_owned() };
    let mut options = Config::default();
    options.mount_options = vec![MountOption::FSName("layerstore-log".to_owned()), MountOption::RW];
    let session = fuser::spawn_mount(Disk { file, size, log: log.clone() }, path, &options)?;
    Ok((Served { session: Some(session), path: path.to_owned() }, log))
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A list that only grows: whole at any time.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes and flushes there were so far.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the disk as a power cut after the first `length` entries may leave it: `random` chooses what of the
    /// unflushed writes is there. Returns how many of them there were, and how many are left out.
    ///
    /// # Errors
    /// Any system call's.
    pub fn crash(
        &self,
        length: usize,
        mut random: impl FnMut() -> u64,
        to: &Path,
    ) -> io::Result<(usize, usize)> {
        super::disk::copy(&self.start, to)?;
        let file = std::fs::OpenOptions::new().write(true).open(to)?;
        let entries = self.entries();
        let entries = &entries[..length.min(entries.len())];
        let flushed = entries.iter().rposition(|entry| matches!(entry, Entry::Flush)).map_or(0, |at| at + 1);
        let (mut open, mut lost) = (0, 0);
        // How much is lost differs from disk to disk: of 8 writes none, some, or most.
        let share = random() % 9;
        for (index, entry) in entries.iter().enumerate() {
            let Entry::Write { offset, data } = entry else { continue };
            if index < flushed {
                file.write_all_at(data, *offset)?;
                continue;
            }
            open += 1;
            if random() % 8 < share {
                lost += 1;
                continue;
            }
            let torn = index + 1 == entries.len() && data.len() > SECTOR && random().is_multiple_of(2);
            let sectors = data.len() / SECTOR;
            let length = if torn { (random() as usize % sectors) * SECTOR } else { data.len() };
            file.write_all_at(&data[..length], *offset)?;
        }
        Ok((open, lost))
    }
}

#[derive(Debug)]
struct Disk {
    file: std::fs::File,
    size: u64,
    log: Log,
}

impl Disk {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let directory = node == INodeNo::ROOT;
        FileAttr {
            ino: node,
            size: if directory { 0 } else { self.size },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: if directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(node));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // No page cache of the file: what the loop device writes comes here at once.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    #[allow(clippy::too_many_arguments, reason = "the trait's")]
    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match self.file.read_at(&mut buffer, offset) {
            Ok(count) => reply.data(&buffer[..count]),
            Err(error) => reply.error(error.into()),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the trait's")]
    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.file.write_all_at(data, offset) {
            Ok(()) => {
                self.log.entries().push(Entry::Write { offset, data: data.to_vec() });
                reply.written(data.len() as u32);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.log.entries().push(Entry::Flush);
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let start = place.path().join("start");
        std::fs::write(&start, [0; 4096]).unwrap();
        let log = Log { entries: Arc::default(), start };
        let write = |offset, byte| Entry::Write { offset, data: vec![byte; 1024] };
        log.entries().extend([write(0, 1), Entry::Flush, write(1024, 2), write(2048, 3)]);
        let to = place.path().join("crashed");
        let mut seen = std::collections::BTreeSet::new();
        let mut state = 1_u64;
        for _ in 0..200 {
            let random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            };
            log.crash(4, random, &to).unwrap();
            let disk = std::fs::read(&to).unwrap();
            assert_eq!(disk[..1024], [1; 1024]);
            seen.insert((disk[1024], disk[2048], disk[3071]));
        }
        for found in [(0, 0, 0), (2, 0, 0), (0, 3, 3), (2, 3, 3), (2, 3, 0)] {
            assert!(seen.contains(&found), "{found:?} of {seen:?}");
        }
    }
}
