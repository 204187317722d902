//! An open file.

use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::ReadWriteFlags;

use crate::dir::only_mtime;
use crate::error::{Errno, Result, call, last_errno, show};
use crate::fault::{shorten, shorten_mut};
use crate::process::is_kernel_at_least;
use crate::stat::{Stat, Timestamp};

/// An open file; its errors name the path that it was opened by.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> Self {
        file.fd
    }
}

impl File {
    /// Takes a descriptor; `path` is what messages call it.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { fd, path: path.into() }
    }

    /// Where it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn show(&self) -> String {
        show(&self.path)
    }

    /// What the file is.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn stat(&self) -> Result<Stat> {
        let statx = call(
            "statx",
            || self.show(),
            || rustix::fs::statx(&self.fd, "", rustix::fs::AtFlags::EMPTY_PATH, Stat::WANTED),
        )?;
        Ok(Stat::from_statx(&statx))
    }

    /// Sets owner and group; clears set-user-id bits and file capabilities.
    ///
    /// # Errors
    /// Those of `fchown`.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        call(
            "fchown",
            || format!("{}, {uid}, {gid}", self.show()),
            || rustix::fs::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
        )
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// Those of `fchmod`.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        call(
            "fchmod",
            || format!("{}, 0o{mode:o}", self.show()),
            || rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)),
        )
    }

    /// Sets the modification time.
    ///
    /// # Errors
    /// Those of `futimens`.
    pub fn set_mtime(&self, mtime: Timestamp) -> Result<()> {
        call("futimens", || self.show(), || rustix::fs::futimens(&self.fd, &only_mtime(mtime)))
    }

    /// Sets the length; growing makes a hole.
    ///
    /// # Errors
    /// Those of `ftruncate`.
    pub fn set_length(&self, length: u64) -> Result<()> {
        call("ftruncate", || format!("{}, {length}", self.show()), || rustix::fs::ftruncate(&self.fd, length))
    }

    /// Makes data and metadata durable.
    ///
    /// # Errors
    /// Those of `fsync`; never try again after one.
    pub fn sync(&self) -> Result<()> {
        call("fsync", || self.show(), || rustix::fs::fsync(&self.fd))
    }

    /// Makes the whole file system that holds this file durable.
    ///
    /// # Errors
    /// Those of `syncfs`.
    pub fn sync_file_system(&self) -> Result<()> {
        call("syncfs", || self.show(), || rustix::fs::syncfs(&self.fd))
    }

    /// Begins to write the file's data to the disk, and does not wait until it is there. It makes nothing durable: the
    /// sync that does finds the less to do. An error of the disk is still told to that sync, since nothing is waited
    /// for here.
    ///
    /// # Errors
    /// Those of `sync_file_range`: `ENOSYS` and `ESPIPE` where there is no such thing.
    #[expect(unsafe_code, reason = "neither rustix nor nix has the call")]
    pub fn begin_write_back(&self) -> Result<()> {
        call(
            "sync_file_range",
            || self.show(),
            || {
                // SAFETY: it takes an open descriptor and numbers, and touches no memory of ours.
                let result =
                    unsafe { libc::sync_file_range(self.fd.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
                if result == 0 { Ok(()) } else { Err(last_errno()) }
            },
        )
    }

    /// Shares the extents of `source` (a reflink); this file must be empty.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EXDEV` or `EINVAL` where the file system cannot.
    pub fn clone_from_file(&self, source: BorrowedFd<'_>) -> Result<()> {
        call("ioctl", || format!("{}, FICLONE", self.show()), || rustix::fs::ioctl_ficlone(&self.fd, source))
    }

    /// Copies up to `length` bytes from `source` at `offset` to the same offset here, inside the kernel; returns
    /// how many, 0 at the end.
    ///
    /// # Errors
    /// `EXDEV`, `EOPNOTSUPP` where the kernel cannot, and those of `copy_file_range`.
    pub fn copy_range(&self, source: BorrowedFd<'_>, offset: u64, length: usize) -> Result<usize> {
        let (mut from, mut to) = (offset, offset);
        call(
            "copy_file_range",
            || self.show(),
            || rustix::fs::copy_file_range(source, Some(&mut from), &self.fd, Some(&mut to), length),
        )
    }

    /// The next stretch of data at or after `offset`, as start and end; none when only a hole follows. A file
    /// system without holes says that everything is data.
    ///
    /// # Errors
    /// Those of `lseek`.
    pub fn next_data(&self, offset: u64) -> Result<Option<(u64, u64)>> {
        next_data(self.as_fd(), offset, &self.path)
    }

    /// Reads up to the buffer's length at `offset`.
    ///
    /// # Errors
    /// Those of `pread`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        call("pread64", || self.show(), || rustix::io::pread(&self.fd, shorten_mut(buffer), offset))
    }

    /// Reads at `offset` until the buffer is full or the file ends; says how much that is.
    ///
    /// # Errors
    /// Those of `pread`.
    pub fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// Those of `pwrite`.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            let count =
                call("pwrite64", || self.show(), || rustix::io::pwrite(&self.fd, shorten(bytes), offset))?;
            if count == 0 {
                return Err(crate::Error::new("pwrite64", self.show(), Errno::IO));
            }
            bytes = bytes.get(count..).unwrap_or_default();
            offset += count as u64;
        }
        Ok(())
    }

    /// Writes all bytes at `offset` without filling the page cache: write-back begins at once, and what was not cached
    /// before leaves the cache when it is on the disk (`RWF_DONTCACHE`). Says whether it could; else it wrote as
    /// [`write_all_at`](Self::write_all_at) does. Not asked for before Linux 6.16: the first kernels that have it (6.14)
    /// may throw away what was written anew meanwhile.
    ///
    /// # Errors
    /// Those of `pwrite`.
    pub fn write_all_past_cache_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<bool> {
        let flags = ReadWriteFlags::from_bits_retain(libc::RWF_DONTCACHE.unsigned_abs());
        let sound = is_kernel_at_least(6, 16);
        while sound && !bytes.is_empty() {
            let part = [IoSlice::new(shorten(bytes))];
            let written =
                call("pwritev2", || self.show(), || rustix::io::pwritev2(&self.fd, &part, offset, flags));
            match written {
                Ok(0) => return Err(crate::Error::new("pwritev2", self.show(), Errno::IO)),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) if error.is_unsupported() => break,
                Err(error) => return Err(error),
            }
        }
        self.write_all_at(bytes, offset)?;
        Ok(sound && bytes.is_empty())
    }

    /// Everything from the current position, at most `limit` bytes: longer files are `EFBIG`.
    ///
    /// # Errors
    /// Those of `read`, and `EFBIG`.
    pub fn read_to_end_limited(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count =
                call("read", || show(&self.path), || rustix::io::read(&self.fd, shorten_mut(&mut buffer)))?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if bytes.len() > limit {
                return Err(crate::Error::new("read", self.show(), Errno::FBIG));
            }
        }
    }
}

/// As [`File::next_data`], for a borrowed descriptor.
///
/// # Errors
/// Those of `lseek`.
pub fn next_data(fd: BorrowedFd<'_>, offset: u64, path: &Path) -> Result<Option<(u64, u64)>> {
    use rustix::fs::SeekFrom as S;
    let seek = |to: S| call("lseek", || show(path), || rustix::fs::seek(fd, to));
    let start = match seek(S::Data(offset)) {
        Ok(start) => start,
        Err(error) if error.errno() == Errno::NXIO => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((start, seek(S::Hole(start))?)))
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(call("read", || show(&self.path), || rustix::io::read(&self.fd, shorten_mut(&mut *buffer)))?)
    }
}

impl Write for File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(call("write", || self.show(), || rustix::io::write(&self.fd, shorten(buffer)))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        use rustix::fs::SeekFrom as S;
        let to = match to {
            SeekFrom::Start(offset) => S::Start(offset),
            SeekFrom::End(offset) => S::End(offset),
            SeekFrom::Current(offset) => S::Current(offset),
        };
        Ok(call("lseek", || self.show(), || rustix::fs::seek(&self.fd, to))?)
    }
}
