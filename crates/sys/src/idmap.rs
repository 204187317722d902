//! User namespaces that exist only as a mapping of ids, for id-mapped mounts (Linux 5.12).
//!
//! A namespace needs a process to be born in. It is a copy of this one that does nothing but wait to be killed;
//! once the mapping is written and the namespace opened, the descriptor alone keeps it.

#![allow(unsafe_code, reason = "clone and what the child does")]

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Result, call, last_errno};

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First id inside the namespace: as stored, for a mount.
    pub inside: u32,
    /// First id outside of it: as shown, for a mount.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A user namespace that maps ids like this.
///
/// # Errors
/// `ENOSPC` or `EUSERS` where no more namespaces may be made, `EPERM` without privilege, `EINVAL` for ranges
/// that are empty or overlap.
pub fn user_namespace(users: &[Range], groups: &[Range]) -> Result<OwnedFd> {
    let child = Child::new()?;
    let directory = format!("/proc/{}", child.0);
    write(&format!("{directory}/uid_map"), users)?;
    write(&format!("{directory}/gid_map"), groups)?;
    let path = format!("{directory}/ns/user");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    call("openat", || path.clone(), || rustix::fs::openat(CWD, &*path, flags, Mode::empty()))
}

/// The whole map goes in with one write, as the kernel wants it (user_namespaces(7)).
fn write(path: &str, ranges: &[Range]) -> Result<()> {
    let mut text = String::new();
    for Range { inside, outside, count } in ranges {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{inside} {outside} {count}");
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = call("openat", || path.to_owned(), || rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
    call("write", || format!("{path}, {text:?}"), || rustix::io::write(&fd, text.as_bytes()))?;
    Ok(())
}

/// A process in a new user namespace that waits to be killed.
struct Child(libc::pid_t);

impl Child {
    fn new() -> Result<Self> {
        let parent = std::process::id();
        call(
            "clone",
            || "CLONE_NEWUSER".to_owned(),
            || {
                // No signal at its end, so that a handler of the program for its own children never sees it.
                // SAFETY: without CLONE_VM this is a fork. The child has one thread and makes plain system calls
                // until it dies; it takes no lock and allocates nothing, so the state of other threads' locks
                // at this moment does not matter.
                let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) };
                match pid {
                    0 => wait_to_be_killed(parent),
                    -1 => Err(last_errno()),
                    pid => Ok(Self(pid as libc::pid_t)),
                }
            },
        )
    }
}

/// What the child does. Dies with the thread that made it, should that die first.
fn wait_to_be_killed(parent: u32) -> ! {
    // SAFETY: system calls on plain numbers, all of them allowed after fork; see `Child::new`.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 == parent {
            loop {
                libc::pause();
            }
        }
        libc::_exit(0)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It cannot refuse to die, and nothing else waits for it.
        let _ = crate::process::kill_and_wait(self.0);
    }
}

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct` (capget(2)).
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAP_VERSION: u32 = 0x2008_0522;

/// Runs `work` on a thread that makes files as this user and group, with the privileges of the caller.
///
/// An overlay writes its upper layer as who mounted it. Through an id-mapped mount that has to be an id that the
/// mapping shows, which the superuser's usually is not.
///
/// # Errors
/// Those of `capset` and of starting a thread, and those of `work`.
pub fn as_file_owner<T: Send, E: Send + From<crate::Error>>(
    uid: u32,
    gid: u32,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    crate::mount::legacy::on_thread(|| {
        let capabilities = |number: libc::c_long, name: &'static str, data: &mut [u32; 6]| {
            let mut header = CapHeader { version: CAP_VERSION, pid: 0 };
            call(
                name,
                || "this thread".to_owned(),
                || {
                    // SAFETY: header and data are the kernel's structures of this version (two sets of three
                    // words), and live during the call. The calls concern this thread only.
                    let result = unsafe { libc::syscall(number, &raw mut header, data.as_mut_ptr()) };
                    if result == 0 { Ok(()) } else { Err(last_errno()) }
                },
            )
        };
        let mut data = [0_u32; 6];
        capabilities(libc::SYS_capget, "capget", &mut data)?;
        // SAFETY: plain numbers; by the raw calls the ids of this thread alone change, and it ends soon.
        unsafe {
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        }
        // Leaving id 0 took the file capabilities out of the effective set (capabilities(7)).
        capabilities(libc::SYS_capset, "capset", &mut data)?;
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_becomes_a_namespace_and_leaves_no_process() {
        let range = [Range { inside: 0, outside: 100_000, count: 1000 }];
        let before = children();
        user_namespace(&range, &range).unwrap();
        let error = user_namespace(&[range[0], range[0]], &range).unwrap_err();
        assert_eq!(error.errno(), crate::Errno::INVAL, "{error}");
        assert_eq!(children(), before);
    }

    fn children() -> String {
        crate::fs::read_to_string("/proc/thread-self/children", 4096).unwrap_or_default()
    }
}
