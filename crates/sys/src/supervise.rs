//! Watching a process from outside: its chosen system calls wait until a supervisor says what is to happen
//! (seccomp_unotify(2), Linux 5.5). Compiled with the feature `fault` only.
//!
//! This reaches every call, also those of SQLite that this crate does not make. The supervised thread calls
//! [`install`] and hands the descriptor over; threads that it starts afterwards are supervised too.
//!
//! Invariant: a call that was notified has not been made yet, and is made only when [`go_on`] says so.

#![allow(unsafe_code, reason = "seccomp and its ioctls, which no crate wraps")]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::error::{Errno, Result, call, last_errno};

/// A call that waits.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// What the answer has to name.
    pub id: u64,
    /// The thread that makes the call.
    pub thread: u32,
    /// The number of the call.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Which calls wait.
#[derive(Debug, Clone, Copy)]
pub enum Watch {
    /// Every call with this number.
    All(i64),
    /// Those where the argument of this index has one of these bits.
    Bits(i64, u32, u32),
    /// Those where the argument of this index is this.
    Equal(i64, u32, u32),
}

/// `struct seccomp_notif` (linux/seccomp.h), 80 bytes.
#[repr(C)]
#[derive(Default)]
struct Received {
    id: u64,
    thread: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`, 24 bytes.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;

/// Makes these calls of the calling thread, and of what it starts from now on, wait for whoever holds the
/// descriptor that is returned. There is no way back; when the descriptor is closed everywhere they fail with
/// `ENOSYS`.
///
/// # Errors
/// Those of `seccomp`.
pub fn install(watched: &[Watch]) -> Result<OwnedFd> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset: u32| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let give = |value: u32| op(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let bits = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    // Offsets in struct seccomp_data: the number at 0, the arguments from 16, low words first.
    let argument = |index: u32| 16 + 8 * index;
    let mut program = vec![load(0)];
    for watch in watched {
        match *watch {
            Watch::All(number) => {
                program.extend([op(equal, 0, 1, number as u32), give(libc::SECCOMP_RET_USER_NOTIF)]);
            }
            Watch::Bits(number, index, wanted) | Watch::Equal(number, index, wanted) => {
                let test = if matches!(watch, Watch::Bits(..)) { bits } else { equal };
                program.extend([
                    op(equal, 0, 4, number as u32),
                    load(argument(index)),
                    op(test, 0, 1, wanted),
                    give(libc::SECCOMP_RET_USER_NOTIF),
                    // More may be asked of the same call.
                    load(0),
                ]);
            }
        }
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|_| crate::Error::new("seccomp", "program", Errno::TOOBIG))?,
        filter: program.as_mut_ptr(),
    };
    call(
        "seccomp",
        || "SECCOMP_SET_MODE_FILTER".to_owned(),
        || {
            // SAFETY: plain numbers; nothing is given to the kernel but a flag.
            if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
                return Err(last_errno());
            }
            // SAFETY: the program and what it points to live during the call, which copies them.
            let fd = unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                    &raw const program,
                )
            };
            if fd < 0 {
                return Err(last_errno());
            }
            // SAFETY: the call made this descriptor, and nobody else has it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// The next call that waits; none when its thread died meanwhile. Blocks: poll the descriptor first.
///
/// # Errors
/// Those of `ioctl`.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>> {
    let answer = call(
        "ioctl",
        || "SECCOMP_IOCTL_NOTIF_RECV".to_owned(),
        || {
            let mut received = Received::default();
            // SAFETY: the structure has the size that the request names, and the kernel wants it zeroed.
            let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut received) };
            if result == 0 { Ok(received) } else { Err(last_errno()) }
        },
    );
    match answer {
        Ok(received) => Ok(Some(Notification {
            id: received.id,
            thread: received.thread,
            number: received.number.into(),
            arguments: received.arguments,
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets a call be made.
///
/// # Errors
/// Those of `ioctl` other than `ENOENT`: the thread is gone.
pub fn go_on(listener: BorrowedFd<'_>, id: u64) -> Result<()> {
    respond(listener, Response { id, value: 0, error: 0, flags: CONTINUE })
}

/// Answers a call that is not made: with a value, or an errno.
///
/// # Errors
/// As [`go_on`].
pub fn answer(listener: BorrowedFd<'_>, id: u64, outcome: Result<i64, Errno>) -> Result<()> {
    let (value, error) = match outcome {
        Ok(value) => (value, 0),
        Err(errno) => (0, -errno.raw_os_error()),
    };
    respond(listener, Response { id, value, error, flags: 0 })
}

fn respond(listener: BorrowedFd<'_>, response: Response) -> Result<()> {
    let sent = call(
        "ioctl",
        || "SECCOMP_IOCTL_NOTIF_SEND".to_owned(),
        || {
            // SAFETY: the structure has the size that the request names and lives during the call.
            let result = unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const response) };
            if result == 0 { Ok(()) } else { Err(last_errno()) }
        },
    );
    match sent {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_watched_call_waits_and_does_as_it_is_told() {
        let place = tempfile::tempdir().unwrap();
        let dir = crate::Dir::open(place.path()).unwrap();
        let (send, take) = mpsc::channel();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                send.send(install(&[Watch::All(libc::SYS_mkdirat)]).unwrap()).unwrap();
                let first = dir.make_dir(b"first", 0o700).map_err(|error| error.errno());
                (first, dir.make_dir(b"second", 0o700).is_ok())
            });
            let listener = take.recv().unwrap();
            let call = receive(listener.as_fd()).unwrap().unwrap();
            assert_eq!(call.number, libc::SYS_mkdirat);
            answer(listener.as_fd(), call.id, Err(Errno::NOSPC)).unwrap();
            let call = receive(listener.as_fd()).unwrap().unwrap();
            assert!(dir.try_stat(b"second").unwrap().is_none(), "not made yet");
            go_on(listener.as_fd(), call.id).unwrap();
            assert_eq!(worker.join().unwrap(), (Err(Errno::NOSPC), true));
        });
    }
}
