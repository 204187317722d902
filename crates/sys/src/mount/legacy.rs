//! mount(2) and what helps around its limits: for kernels before 5.2, and as the road to what they cannot do.
//!
//! mount(2) takes a page of options and paths as text. Layers are therefore given as the numbers of open
//! descriptors, resolved in `/proc/thread-self/fd` as the working directory of a thread of its own: 500 layers
//! with any byte in their paths fit, and the process's working directory never moves.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::Flags;
use crate::error::{Errno, Error, Result, call, show};

/// Mounts with options as one text of at most a page less one byte.
///
/// # Errors
/// Those of `mount`; `EINVAL` for options that the file system does not know.
pub fn mount(kind: &str, source: &str, target: &Path, flags: Flags, options: &[u8]) -> Result<()> {
    let options = std::ffi::CString::new(options).map_err(|_| {
        Error::new("mount", format!("{}, options with a NUL byte", show(target)), Errno::INVAL)
    })?;
    call(
        "mount",
        || format!("{}, {kind}, {}", show(target), options.to_bytes().escape_ascii()),
        || rustix::mount::mount(source, target, kind, flags.of_mount(), options.as_c_str()),
    )
}

/// Bind-mounts one directory, without what is mounted below it.
///
/// # Errors
/// Those of `mount`; `EINVAL` for a source that is not in this mount namespace.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    call(
        "mount",
        || format!("{}, {}, bind", show(source), show(target)),
        || rustix::mount::mount_bind(source, target),
    )
}

/// Adds flags to the bind mount at a path, and leaves its file system as it is. The call takes away what it is not
/// told again, so those that the mount has are told, too.
///
/// # Errors
/// Those of `open`, `fstatfs` and `mount`.
pub fn add_flags(target: &Path, flags: Flags) -> Result<()> {
    let had = super::flags_of(super::open_directory(target)?.as_fd())?;
    let flags = MountFlags::BIND | flags.and(had).of_mount();
    call(
        "mount",
        || format!("{}, remount,{flags:?}", show(target)),
        || rustix::mount::mount_remount(target, flags, c""),
    )
}

/// Makes the mount at a path private: mounts below it are not passed on.
///
/// # Errors
/// Those of `mount`.
pub fn make_private(target: &Path) -> Result<()> {
    call(
        "mount",
        || format!("{}, private", show(target)),
        || rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE),
    )
}

/// The path that leads to what a descriptor of this process has open, whatever its name is.
pub fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Runs `work` on a thread whose working directory is `/proc/self/fd`, so that a relative path `17` names what
/// descriptor 17 has open. No other thread's working directory changes.
///
/// # Errors
/// Those of `unshare` and `chdir`, and those of `work`.
pub fn among_descriptors<T: Send, E: Send + From<Error>>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    on_thread(|| {
        unshare(nix::sched::CloneFlags::CLONE_FS)?;
        call("chdir", || "/proc/self/fd".to_owned(), || rustix::process::chdir("/proc/self/fd"))?;
        work()
    })
}

/// Runs `work` on a thread with a mount namespace of its own, a copy of this thread's that passes nothing on.
/// What is mounted there is seen by nobody else, and what no descriptor holds is gone when `work` is done. The
/// directory given to `work` is an empty file system for mount points; the working directory is as with
/// [`among_descriptors`].
///
/// # Errors
/// Those of `unshare` (`EPERM` without privilege) and `mount`, and those of `work`.
pub fn in_private_namespace<T: Send, E: Send + From<Error>>(
    work: impl FnOnce(&Path) -> Result<T, E> + Send,
) -> Result<T, E> {
    on_thread(|| {
        unshare_mounts()?;
        let scratch = scratch_mount_point()?;
        mount("tmpfs", "tmpfs", scratch, Flags::default(), b"mode=0700,size=1m")?;
        call("chdir", || "/proc/self/fd".to_owned(), || rustix::process::chdir("/proc/self/fd"))?;
        work(scratch)
    })
}

/// Gives the calling thread a mount namespace (and working directory) of its own, a copy of the present one that
/// passes no mount on to it.
///
/// # Errors
/// `EPERM` without privilege, and those of `mount`.
pub fn unshare_mounts() -> Result<()> {
    unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    call(
        "mount",
        || "\"/\", rprivate".to_owned(),
        || {
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", flags)
        },
    )
}

fn unshare(flags: nix::sched::CloneFlags) -> Result<()> {
    call(
        "unshare",
        || format!("{flags:?}"),
        || nix::sched::unshare(flags).map_err(|errno| Errno::from_raw_os_error(errno as i32)),
    )
}

/// A directory that every system has and that no layer lies in, to be covered in a namespace that nobody sees.
fn scratch_mount_point() -> Result<&'static Path> {
    for path in ["/sys", "/mnt", "/media", "/srv"] {
        if crate::fs::stat(path)?.is_some() {
            return Ok(Path::new(path));
        }
    }
    Err(Error::new("mount", "\"/sys\": no directory to mount on", Errno::NOENT))
}

/// Runs `work` on a new thread, whose attributes die with it.
pub(crate) fn on_thread<T: Send, E: Send + From<Error>>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work);
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                Err(E::from(Error::new("clone", "thread for mounting", errno)))
            }
        }
    })
}
