//! Files that have no name until they are complete.
//!
//! Invariant: a process that dies leaves nothing behind where the file system knows unnamed files (`O_TMPFILE`),
//! and otherwise a file whose name begins with [`PREFIX`].

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::dir::Dir;
use crate::error::{Errno, Result, call};
use crate::file::File;

/// What the names of temporary files begin with, where they need a name.
pub const PREFIX: &[u8] = b".layerstore-tmp-";

/// A file in the making, open for reading and writing.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    place: Place,
}

/// Where a temporary file lies; its name goes when this is dropped.
#[derive(Debug)]
struct Place {
    dir: Dir,
    /// The name, where the file system wants one.
    name: Option<Vec<u8>>,
}

impl Temporary {
    /// Creates a file without a name in the file system of `dir`.
    ///
    /// # Errors
    /// Those of `openat`.
    pub fn new(dir: &Dir, mode: u32) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = call(
            "openat",
            || dir.show(b"."),
            || rustix::fs::openat(dir.as_fd(), ".", flags, Mode::from_raw_mode(mode)),
        );
        match opened {
            Ok(fd) => Ok(Self {
                file: File::from_fd(fd, dir.path().to_owned()),
                place: Place { dir: dir.clone(), name: None },
            }),
            // EISDIR: a kernel before 3.11 or a file system that takes the flags for a plain directory.
            Err(error) if matches!(error.errno(), Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Self::named(dir, mode)
            }
            Err(error) => Err(error),
        }
    }

    fn named(dir: &Dir, mode: u32) -> Result<Self> {
        loop {
            let name = fresh_name();
            match dir.create_file(&name, mode) {
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(Self { file, place: Place { dir: dir.clone(), name: Some(name) } }),
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file.
    pub fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name in the directory that it was made for, replacing what is there. The content is
    /// not synced: that is the caller's to do before.
    ///
    /// # Errors
    /// Those of `linkat` and `renameat2`; nothing is left behind then.
    pub fn persist(mut self, name: &[u8]) -> Result<()> {
        if self.place.name.is_none() {
            match self.link(name) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
            let between = fresh_name();
            self.link(&between)?;
            self.place.name = Some(between);
        }
        let between = self.place.name.clone().unwrap_or_default();
        self.place.dir.rename(&between, &self.place.dir, name)?;
        self.place.name = None;
        Ok(())
    }

    /// The file alone: it never gets a name, and its space is free once it is closed.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Names an unnamed file: by its descriptor where the process may, else through procfs.
    fn link(&self, name: &[u8]) -> Result<()> {
        let subject = || self.place.dir.show(name);
        let direct = call("linkat", subject, || {
            rustix::fs::linkat(self.file.as_fd(), "", self.place.dir.as_fd(), name, AtFlags::EMPTY_PATH)
        });
        match direct {
            // ENOENT is what a process without CAP_DAC_READ_SEARCH gets.
            Err(error) if error.is_not_found() || error.errno() == Errno::INVAL => {
                let path = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
                call("linkat", subject, || {
                    rustix::fs::linkat(
                        CWD,
                        Path::new(&path),
                        self.place.dir.as_fd(),
                        name,
                        AtFlags::SYMLINK_FOLLOW,
                    )
                })
            }
            other => other,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nobody is left to tell; the name shows what it is.
            let _ = self.dir.unlink(name);
        }
    }
}

/// A name that no other thread uses now; what an earlier process with this id left is in the way at most.
fn fresh_name() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    [PREFIX, format!("{}-{number}", std::process::id()).as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::Temporary;
    use crate::{Dir, fs};

    #[test]
    fn a_temporary_file_appears_complete_and_replaces_what_was_there() {
        for named in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let dir = Dir::open(place.path()).unwrap();
            for content in [b"first", b"other"] {
                let mut file =
                    if named { Temporary::named(&dir, 0o600) } else { Temporary::new(&dir, 0o600) }.unwrap();
                file.file_mut().write_all(content).unwrap();
                file.persist(b"name").unwrap();
                assert_eq!(fs::read(place.path().join("name"), 100).unwrap(), content);
            }
            drop(Temporary::named(&dir, 0o600).unwrap());
            assert_eq!(dir.entries().unwrap().len(), 1, "nothing else is left");
        }
    }
}
