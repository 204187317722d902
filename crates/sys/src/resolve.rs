//! Opening a path below a directory as if that directory were the root: `openat2` (Linux 5.6), or a walk.
//!
//! Invariant: nothing outside the directory is ever opened, whatever symlinks lie inside and whoever changes them
//! meanwhile: an absolute symlink starts again at the directory, and `..` stops there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Errno, Error, Result, call, show};

/// Most symlinks on one way, as in the kernel.
const MAX_LINKS: u32 = 40;

/// Opens a directory below `root` as a bare handle (`O_PATH`); the empty path is `root` itself.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `ELOOP`; `EAGAIN` when the tree keeps changing underneath.
pub fn directory(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let open = || {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve)
    };
    // EAGAIN: something was renamed on the way, and the kernel could not tell whether `..` stayed inside.
    for _ in 0..16 {
        match call("openat2", || show(path), open) {
            Err(error) if error.errno() == Errno::AGAIN => {}
            Err(error) if error.errno() == Errno::NOSYS => return walk(root, path),
            result => return result,
        }
    }
    Err(Error::new("openat2", show(path), Errno::AGAIN))
}

/// The same, component by component.
fn walk(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    let open = |directory: &OwnedFd, name: &[u8]| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        call("openat", || show(path), || rustix::fs::openat(directory, name, flags, Mode::empty()))
    };
    let here = |fd| call("dup", || show(path), || rustix::io::fcntl_dupfd_cloexec(fd, 0));
    // The directories from the root to where the walk is: `..` goes back along them, never by the kernel's.
    let mut way = vec![here(root.as_fd())?];
    // What is still to walk, its next component last.
    let mut todo = components(path.as_os_str().as_bytes());
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let Some(current) = way.last() else { break };
        let next = open(current, &name)?;
        let statx = call(
            "statx",
            || show(path),
            || {
                let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::NO_AUTOMOUNT;
                rustix::fs::statx(&next, "", flags, rustix::fs::StatxFlags::TYPE)
            },
        )?;
        match rustix::fs::FileType::from_raw_mode(u32::from(statx.stx_mode)) {
            rustix::fs::FileType::Directory => way.push(next),
            rustix::fs::FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::new("openat", show(path), Errno::LOOP));
                }
                let text =
                    call("readlinkat", || show(path), || rustix::fs::readlinkat(&next, "", Vec::new()))?;
                if text.as_bytes().first() == Some(&b'/') {
                    way.truncate(1);
                }
                todo.extend(components(text.as_bytes()));
            }
            _ => return Err(Error::new("openat", show(path), Errno::NOTDIR)),
        }
    }
    way.pop().ok_or_else(|| Error::new("openat", show(path), Errno::NOENT))
}

/// The components of a path, the last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    use super::*;

    /// The kernel and the walk must agree on every case.
    #[rstest]
    #[case("", Ok("."))]
    #[case("a/b", Ok("a/b"))]
    #[case("/a/./b/", Ok("a/b"))]
    #[case("a/b/../../../a", Ok("a"))]
    #[case("absolute", Ok("a/b"))]
    #[case("climbing/b", Ok("a/b"))]
    #[case("a/up", Ok("a"))]
    #[case("loop", Err(Errno::LOOP))]
    #[case("file", Err(Errno::NOTDIR))]
    #[case("file/x", Err(Errno::NOTDIR))]
    #[case("missing", Err(Errno::NOENT))]
    fn stays_inside(#[case] path: &str, #[case] expected: Result<&str, Errno>) {
        let root = tempfile::tempdir().unwrap();
        let top = root.path();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        symlink("/a/b", top.join("absolute")).unwrap();
        symlink("../../../../a", top.join("climbing")).unwrap();
        symlink("../a", top.join("a/up")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let directory = crate::Dir::open(top).unwrap();
        for (way, opened) in [
            ("openat2", super::directory(&directory, Path::new(path))),
            ("walk", walk(&directory, Path::new(path))),
        ] {
            match (opened, expected) {
                (Ok(fd), Ok(place)) => {
                    let opened = crate::Dir::from_fd(fd, path).stat_self().unwrap();
                    let wanted = crate::fs::stat(top.join(place)).unwrap().unwrap();
                    assert!(opened.same_inode(&wanted), "{way}: {path}");
                }
                (Err(error), Err(errno)) => assert_eq!(error.errno(), errno, "{way}: {path}"),
                (opened, expected) => panic!("{way}: {path}: {opened:?}, not {expected:?}"),
            }
        }
    }
}
