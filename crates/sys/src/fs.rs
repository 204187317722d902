//! Whole-path conveniences for files and directories that belong to this program or that a person named.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::dir::Dir;
use crate::error::{Errno, Error, Result, call, show};
use crate::file::File;
use crate::lock::{Lock, Mode as LockMode};
use crate::stat::{FileType, Stat};

/// Opens a file for reading by path, following symlinks.
///
/// # Errors
/// Those of `openat`.
pub fn open_file(path: impl AsRef<Path>) -> Result<File> {
    open(path.as_ref(), OFlags::RDONLY, 0)
}

/// Opens a regular file for reading, following symlinks, and never blocks: a fifo or device that somebody put in
/// its place is refused.
///
/// # Errors
/// Those of `openat`; `EISDIR` for a directory, `EINVAL` for anything else that is no regular file.
pub fn open_regular(path: impl AsRef<Path>) -> Result<File> {
    regular(open(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?)
}

/// As [`open_regular`], for a path below `dir`.
///
/// # Errors
/// As [`open_regular`].
pub fn open_regular_at(dir: &Dir, name: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened =
        call("openat", || dir.show(name), || rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()))?;
    regular(File::from_fd(opened, dir.path().join(std::ffi::OsStr::from_bytes(name))))
}

fn regular(file: File) -> Result<File> {
    match file.stat()?.kind {
        FileType::Regular => Ok(file),
        FileType::Directory => Err(Error::new("openat", file.show(), Errno::ISDIR)),
        _ => Err(Error::new("openat", file.show(), Errno::INVAL)),
    }
}

/// Opens what lies at a path for writing only, following symlinks and creating nothing: a pipe, a
/// terminal, a file of the kernel's.
///
/// # Errors
/// Those of `openat`.
pub fn open_for_writing(path: impl AsRef<Path>) -> Result<File> {
    open(path.as_ref(), OFlags::WRONLY, 0)
}

/// Creates a file, or empties the one that is there, and opens it for writing.
///
/// # Errors
/// Those of `openat`.
pub fn create_file(path: impl AsRef<Path>, mode: u32) -> Result<File> {
    open(path.as_ref(), OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC, mode)
}

fn open(path: &Path, flags: OFlags, mode: u32) -> Result<File> {
    let fd = call(
        "openat",
        || show(path),
        || rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode)),
    )?;
    Ok(File::from_fd(fd, path))
}

/// What lies at a path, symlinks followed; none when nothing is there.
///
/// # Errors
/// Those of `statx` other than `ENOENT` and `ENOTDIR`.
pub fn stat(path: impl AsRef<Path>) -> Result<Option<Stat>> {
    let path = path.as_ref();
    let result = call(
        "statx",
        || show(path),
        || rustix::fs::statx(CWD, path, rustix::fs::AtFlags::empty(), Stat::WANTED),
    );
    match result {
        Ok(statx) => Ok(Some(Stat::from_statx(&statx))),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something lies at a path, symlinks followed.
///
/// # Errors
/// As [`stat`].
pub fn exists(path: impl AsRef<Path>) -> Result<bool> {
    Ok(stat(path)?.is_some())
}

/// Makes a directory and its missing parents, all with this mode less the umask.
///
/// # Errors
/// Those of `mkdirat`; `ENOTDIR` when something else lies there.
pub fn make_dirs(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    // Nearly always it is there.
    if stat(path)?.is_some_and(|stat| stat.kind == FileType::Directory) {
        return Ok(());
    }
    match make_dir(path, mode) {
        Err(error) if error.is_not_found() => {
            let parent = path.parent().ok_or(error)?;
            make_dirs(parent, mode)?;
            // Once: where the parent is there and the kernel still says ENOENT (procfs does), it never ends.
            make_dir(path, mode)
        }
        made => made,
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match call("mkdirat", || show(path), || rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode))) {
        Err(error) if error.is_exists() => match stat(path)? {
            Some(stat) if stat.kind == FileType::Directory => Ok(()),
            _ => Err(Error::new("mkdirat", show(path), Errno::NOTDIR)),
        },
        made => made,
    }
}

/// The path with every symlink resolved, as the kernel sees it.
///
/// # Errors
/// Those of `openat` and `readlinkat`.
pub fn canonical(path: impl AsRef<Path>) -> Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    let path = path.as_ref();
    let fd = call(
        "openat",
        || show(path),
        || rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
    )?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let text = call("readlinkat", || show(path), || rustix::fs::readlinkat(CWD, &*link, Vec::new()))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes())))
}

/// A whole file, at most `limit` bytes (`EFBIG` beyond).
///
/// # Errors
/// Those of `openat` and `read`.
pub fn read(path: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>> {
    open_file(path)?.read_to_end_limited(limit)
}

/// A path as a text that people and JSON can hold: as it is where it is UTF-8, else every byte that is not printable
/// ASCII escaped.
pub fn text(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    path.to_str().map_or_else(|| path.as_os_str().as_bytes().escape_ascii().to_string(), str::to_owned)
}

/// A whole text file, at most `limit` bytes; `EILSEQ` when it is not UTF-8.
///
/// # Errors
/// Those of `openat` and `read`.
pub fn read_to_string(path: impl AsRef<Path>, limit: usize) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read(path, limit)?).map_err(|_| Error::new("read", show(path), Errno::ILSEQ))
}

/// Removes a file by path; one that is not there is left alone.
///
/// # Errors
/// Those of `unlinkat` other than `ENOENT`.
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match call("unlinkat", || show(path), || rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty())) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Replaces the file `name` in `dir` at once: a crash leaves the old content or the new, never a part.
/// The new content is on disk when this returns; the name is after a [`Dir::sync`].
///
/// # Errors
/// Those of `openat`, `write`, `fsync` and `renameat2`; the temporary file is removed then.
pub fn write_atomic(dir: &Dir, name: &[u8], content: &[u8], mode: u32) -> Result<()> {
    let temporary = [b".".as_slice(), name, b".tmp"].concat();
    match dir.unlink(&temporary) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let mut file = dir.create_file(&temporary, mode)?;
    let written = file
        .write_all(content)
        .map_err(|error| Error::from_io(error, "write", || dir.show(&temporary)))
        .and_then(|()| file.sync())
        .and_then(|()| dir.rename(&temporary, dir, name));
    if written.is_err() {
        // The first error is the one to report; the leftover is replaced by the next attempt.
        let _ = dir.unlink(&temporary);
    }
    written
}

/// What the name of a file ends with that gets its own in a moment.
const TEMPORARY: &str = ".tmp";

/// Replaces the file `name` in `dir` at once, for everybody who looks; nothing is made durable: a power cut may
/// leave an empty file. Several processes may do so at the same time.
///
/// ```text
/// .NAME.PID.COUNT.tmp   the new content until it has its name, locked (flock) by who writes it
/// ```
///
/// # Errors
/// Those of `openat`, `flock`, `write` and `renameat2`; the temporary file is removed then.
pub fn replace(dir: &Dir, name: &[u8], content: &[u8], mode: u32) -> Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    // Names this attempt among those of the process, which is named by its number.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let suffix = format!(".{}.{count}{TEMPORARY}", std::process::id());
        let temporary = [b".".as_slice(), name, suffix.as_bytes()].concat();
        let file = match dir.create_file(&temporary, mode) {
            // Of a process that died and had our number.
            Err(error) if error.is_exists() => {
                dir.unlink(&temporary)?;
                continue;
            }
            created => created?,
        };
        let written = Lock::wait(file, LockMode::Exclusive)
            .and_then(|lock| lock.file().write_all_at(content, 0).map(|()| lock))
            .and_then(|lock| dir.rename(&temporary, dir, name).map(|()| drop(lock)));
        match written {
            // Taken for a leftover before it was locked. In a directory that is gone the next attempt makes none.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                // The first error is the one to report.
                let _ = dir.unlink(&temporary);
                return Err(error);
            }
            Ok(()) => return Ok(()),
        }
    }
}

/// Removes what processes left in `dir` that died in [`replace`], and gives the names of what had begun.
///
/// # Errors
/// Those of the calls made.
pub fn sweep_replacements(dir: &Dir) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for entry in dir.entries()? {
        let Ok(name) = String::from_utf8(entry.name) else { continue };
        if !is_replacement(&name) {
            continue;
        }
        let Some(lock) = Lock::of_the_dead(dir, name.as_bytes())? else { continue };
        // Made, but not locked yet: its maker makes another, and nothing died.
        let young = lock.file().stat()?.size == 0;
        match dir.unlink(name.as_bytes()) {
            // It got its name since it was opened.
            Err(error) if error.is_not_found() => {}
            unlinked => {
                unlinked?;
                if !young {
                    gone.push(name);
                }
            }
        }
    }
    Ok(gone)
}

/// Whether a file is named as [`replace`] names what has no name yet.
pub fn is_replacement(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_prefix('.').and_then(|name| name.strip_suffix(TEMPORARY)).map(|name| {
        let mut parts = name.rsplitn(3, '.');
        (parts.next(), parts.next(), parts.next())
    });
    matches!(parts, Some((Some(count), Some(process), Some(_))) if is_number(count) && is_number(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_directories_where_there_can_be_none_fails_and_ends() {
        assert!(make_dirs("/proc/self/none/there", 0o700).unwrap_err().is_not_found());
    }

    #[test]
    fn replacing_goes_on_while_what_the_dead_left_is_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        dir.create_file(b".record.1.0.tmp", 0o600).unwrap().write_all_at(b"ha", 0).unwrap();
        assert_eq!(sweep_replacements(&dir).unwrap(), [".record.1.0.tmp"]);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..500).for_each(|_| replace(&dir, b"record", b"all", 0o600).unwrap()))
                })
                .collect();
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                sweep_replacements(&dir).unwrap();
            }
        });
        assert_eq!(read(scratch.path().join("record"), 10).unwrap(), b"all");
        assert_eq!(dir.entries().unwrap().len(), 1);
    }

    #[test]
    fn only_replacements_are_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        // The second is one of `write_atomic`, which nobody holds a lock on.
        let others = ["record", ".driver.json.tmp", ".json.x.0.tmp", ".1.0.tmp", "record.1.0.tmp"];
        for name in others.iter().chain(&[".a.b.17.4.tmp"]) {
            dir.create_file(name.as_bytes(), 0o600).unwrap().write_all_at(b"x", 0).unwrap();
        }
        assert_eq!(sweep_replacements(&dir).unwrap(), [".a.b.17.4.tmp"]);
        assert_eq!(dir.entries().unwrap().len(), others.len());
    }

    #[test]
    fn replacing_in_a_directory_that_is_gone_fails_and_ends() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        drop(scratch);
        assert!(replace(&dir, b"record", b"all", 0o600).unwrap_err().is_not_found());
    }
}
