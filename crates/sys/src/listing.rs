//! What a directory holds, all at once or in pieces.

use rustix::fs::{Mode, OFlags};

use crate::dir::Dir;
use crate::error::{Result, call};
use crate::stat::FileType;

/// One entry of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// Its type, [`FileType::Unknown`] where the file system does not say.
    pub kind: FileType,
}

/// Some entries of a directory.
#[derive(Debug)]
pub struct Batch {
    /// The entries.
    pub entries: Vec<DirEntry>,
    /// Where the next ones begin; none after the last.
    pub next: Option<u64>,
}

/// Bytes of a batch, names and bookkeeping: a few hundred entries.
const BATCH: usize = 32 << 10;

impl Dir {
    /// Every entry but `.` and `..`, in the order of the file system.
    ///
    /// # Errors
    /// Those of `openat` and `getdents64`.
    pub fn entries(&self) -> Result<Vec<DirEntry>> {
        Ok(self.read_entries(None, usize::MAX)?.entries)
    }

    /// Some entries, from `place` on or from the start: so many that a directory of millions needs little memory.
    /// [`Batch::next`] says where to go on. What is created or removed between two batches may be in one of them or
    /// not; what stays the same is in exactly one.
    ///
    /// # Errors
    /// Those of `openat`, `lseek` and `getdents64`.
    pub fn batch(&self, place: Option<u64>) -> Result<Batch> {
        self.read_entries(place, BATCH)
    }

    fn read_entries(&self, place: Option<u64>, most: usize) -> Result<Batch> {
        // A descriptor of its own, so that listings of one Dir do not share a position.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = call("openat", || self.show(b"."), || rustix::fs::openat(self, ".", flags, Mode::empty()))?;
        if let Some(place) = place {
            let to = rustix::fs::SeekFrom::Start(place);
            call("lseek", || self.show(b"."), || rustix::fs::seek(&fd, to))?;
        }
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut reader = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
        let mut batch = Batch { entries: Vec::new(), next: None };
        let mut bytes = 0;
        while let Some(entry) = reader.next() {
            let read = || match &entry {
                Ok(entry) => {
                    let name = entry.file_name().to_bytes().to_vec();
                    Ok((name, entry.file_type(), entry.next_entry_cookie()))
                }
                Err(errno) => Err(*errno),
            };
            let (name, kind, next) = call("getdents64", || self.show(b""), read)?;
            if name != b"." && name != b".." {
                bytes += name.len() + size_of::<DirEntry>();
                batch.entries.push(DirEntry { name, kind: FileType::from_rustix(kind) });
            }
            if bytes >= most {
                batch.next = Some(next);
                break;
            }
        }
        Ok(batch)
    }
}
