//! Facts about this process: its ids, its mount namespace, its boot.

#![allow(unsafe_code, reason = "an ioctl, kill and wait")]

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::error::{Result, call, last_errno};

/// The effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who `uid` of this process's user namespace is outside of it (user_namespaces(7), `uid_map`); nothing where that cannot
/// be told.
pub fn outside_uid(uid: u32) -> Option<u32> {
    let map = crate::fs::read_to_string("/proc/self/uid_map", 1 << 16).ok()?;
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, length) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = uid.checked_sub(inside).filter(|&offset| offset < length)?;
        outside.checked_add(offset)
    })
}

/// Whether the kernel is of this release or a later one. For what cannot be found out by trying it.
pub(crate) fn is_kernel_at_least(major: u32, minor: u32) -> bool {
    // Asked for every piece of a large file.
    static KERNEL: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
        let name = rustix::system::uname();
        let mut numbers = name.release().to_bytes().split(|byte| !byte.is_ascii_digit());
        let mut next = || -> Option<u32> { std::str::from_utf8(numbers.next()?).ok()?.parse().ok() };
        Some((next()?, next()?))
    });
    KERNEL.is_some_and(|kernel| kernel >= (major, minor))
}

/// The working directory.
///
/// # Errors
/// Those of `getcwd`: `ENOENT` when it was removed.
pub fn working_directory() -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = call("getcwd", String::new, || rustix::process::getcwd(Vec::new()))?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

/// Effective user and group id, which own what this process creates.
pub fn effective_ids() -> (u32, u32) {
    (effective_uid(), rustix::process::getegid().as_raw())
}

/// The file mode creation mask, read without changing it (`/proc/self/status`, Linux 4.7); every bit where it
/// cannot be read, so that a caller sets modes explicitly.
///
/// # Errors
/// Those of reading `/proc/self/status`, other than `ENOENT`.
pub fn umask() -> Result<u32> {
    let status = match crate::fs::read("/proc/self/status", 1 << 20) {
        Ok(status) => status,
        Err(error) if error.is_not_found() => return Ok(0o777),
        Err(error) => return Err(error),
    };
    let mask = status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"Umask:"))
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    Ok(mask.unwrap_or(0o777))
}

/// A mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountNamespace {
    /// Its inode in nsfs, which a later namespace may get again.
    pub inode: u64,
    /// Its number that is never used twice while the system runs (Linux 6.10).
    pub id: Option<u64>,
}

/// `NS_GET_MNTNS_ID`: `_IOR(0xb7, 0x5, __u64)`.
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;

impl MountNamespace {
    /// That of the calling thread.
    ///
    /// # Errors
    /// Those of opening `/proc/thread-self/ns/mnt`.
    pub fn current() -> Result<Self> {
        let file = crate::fs::open_file("/proc/thread-self/ns/mnt")?;
        let inode = file.stat()?.inode;
        let mut id = 0_u64;
        let fd = std::os::fd::AsFd::as_fd(&file).as_raw_fd();
        // SAFETY: the descriptor is open, and the request writes one u64 into the place it is given.
        let result = unsafe { libc::ioctl(fd, NS_GET_MNTNS_ID as _, &raw mut id) };
        Ok(Self { inode, id: (result == 0).then_some(id) })
    }

    /// Whether both are the same namespace.
    pub fn same(&self, other: &Self) -> bool {
        self.inode == other.inode
            && match (self.id, other.id) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            }
    }
}

/// The random number of this boot.
///
/// # Errors
/// Those of reading `/proc`.
pub fn boot_id() -> Result<String> {
    // It is another one only after every process has ended.
    static KNOWN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let text = crate::fs::read_to_string("/proc/sys/kernel/random/boot_id", 128)?;
    Ok(KNOWN.get_or_init(|| text.trim().to_owned()).clone())
}

/// Ends a child process that [`crate::idmap`] or a test made, and waits for it.
pub(crate) fn kill_and_wait(pid: libc::pid_t) -> Result<()> {
    call(
        "wait4",
        || format!("process {pid}"),
        || {
            // SAFETY: plain numbers; the process is a child that has not been waited for, so the number is its.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: no memory is given to the kernel (the status is not asked for).
            let result = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
            if result == pid { Ok(()) } else { Err(last_errno()) }
        },
    )
}

/// Raises the soft limit of open descriptors to the hard one and returns it: chains of hundreds of layers and
/// trees a thousand directories deep need more than the usual 1,024. For programs, once, when they start.
///
/// # Errors
/// Those of `setrlimit`.
pub fn raise_descriptor_limit() -> Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    call("setrlimit", String::new, || {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    })?;
    Ok(limit.maximum)
}

#[cfg(test)]
mod limit_tests {
    use rustix::process::{Resource, getrlimit};

    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let raised = raise_descriptor_limit().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (raised, raised));
    }
}
