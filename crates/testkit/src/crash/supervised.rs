//! A process whose system calls wait for us: we may let each be made, fail it, cut it short, or kill the process
//! instead. What it says on its standard output is read before a later call is judged.
//!
//! The process installs the filter itself and says `listener FD` on its standard output, see [`announce`]; we take
//! a copy of the descriptor out of it (pidfd_getfd(2), Linux 5.6).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use layerstore_sys::Errno;
use layerstore_sys::supervise::{self, Notification, Watch};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// One call of the process, not made yet.
#[derive(Debug)]
pub struct Call {
    /// The how many-th watched call it is, from 1.
    pub index: u64,
    notification: Notification,
    process: u32,
}

/// What is to become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Go,
    /// The process is killed instead (`SIGKILL`).
    Kill,
    /// It fails.
    Fail(Errno),
    /// Half of what it is to write is written; any other call is made.
    Short,
    /// It is not made, and answers 0 as if it had been.
    Pretend,
}

/// Who judges.
pub trait Supervisor {
    /// A line that the process said.
    fn line(&mut self, line: &str);

    /// A call that it wants to make.
    fn call(&mut self, call: &Call) -> Verdict;
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// What it said on standard error.
    pub errors: String,
    /// How it ended.
    pub status: ExitStatus,
    /// How many calls were watched.
    pub calls: u64,
    /// It did not end in time and was killed.
    pub timed_out: bool,
}

impl Call {
    /// The number of the call (`libc::SYS_…`).
    pub fn number(&self) -> i64 {
        self.notification.number
    }

    /// The path that the call is about, as far as it can be told.
    pub fn path(&self) -> Option<String> {
        let arguments = &self.notification.arguments;
        let text = |address: u64| {
            let memory = File::open(format!("/proc/{}/mem", self.notification.thread)).ok()?;
            let mut buffer = [0_u8; 512];
            let length = memory.read_at(&mut buffer, address).ok()?;
            let end = buffer[..length].iter().position(|byte| *byte == 0)?;
            Some(String::from_utf8_lossy(&buffer[..end]).into_owned())
        };
        match self.number() {
            libc::SYS_openat | libc::SYS_mkdirat | libc::SYS_unlinkat => text(arguments[1]),
            libc::SYS_unlink | libc::SYS_mkdir | libc::SYS_rmdir | libc::SYS_rename => text(arguments[0]),
            libc::SYS_linkat | libc::SYS_renameat2 => text(arguments[3]),
            _ => {
                let link = format!("/proc/{}/fd/{}", self.process, arguments[0] as i32);
                Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())
            }
        }
    }

    /// Whether it gives a lock of a file back (`F_UNLCK`), which the kernel never refuses.
    pub fn is_unlock(&self) -> bool {
        let [_, _, address, ..] = self.notification.arguments;
        let mut kind = [0_u8; 2];
        self.number() == libc::SYS_fcntl
            && File::open(format!("/proc/{}/mem", self.notification.thread))
                .and_then(|memory| memory.read_exact_at(&mut kind, address))
                .is_ok_and(|()| i32::from(i16::from_ne_bytes(kind)) == libc::F_UNLCK)
    }

    /// Writes the first half of what a `pwrite64` is to write, in its place; how many bytes.
    fn write_half(&self) -> Option<i64> {
        let [descriptor, address, length, offset, ..] = self.notification.arguments;
        if self.number() != libc::SYS_pwrite64 || length < 2 {
            return None;
        }
        let memory = File::open(format!("/proc/{}/mem", self.notification.thread)).ok()?;
        let mut buffer = vec![0; length as usize / 2];
        memory.read_exact_at(&mut buffer, address).ok()?;
        let link = format!("/proc/{}/fd/{}", self.process, descriptor as i32);
        let file = std::fs::OpenOptions::new().write(true).open(link).ok()?;
        file.write_all_at(&buffer, offset).ok()?;
        i64::try_from(buffer.len()).ok()
    }
}

/// The calls that change something: what lies between two of them cannot be told apart after a crash.
pub fn changing() -> Vec<Watch> {
    let all = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_pwritev,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_linkat,
        libc::SYS_unlinkat,
        libc::SYS_unlink,
        libc::SYS_rename,
        libc::SYS_renameat2,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_syncfs,
        libc::SYS_sync_file_range,
        libc::SYS_fsetxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fremovexattr,
        libc::SYS_lremovexattr,
        libc::SYS_copy_file_range,
        libc::SYS_flock,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
    ];
    let creating = (libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;
    let mut watched: Vec<Watch> = all.into_iter().map(Watch::All).collect();
    watched.push(Watch::Bits(libc::SYS_openat, 2, creating));
    // FICLONE.
    watched.push(Watch::Equal(libc::SYS_ioctl, 1, 0x4004_9409));
    // SQLite's locks: F_SETLK, F_SETLKW.
    watched.push(Watch::Equal(libc::SYS_fcntl, 1, libc::F_SETLK as u32));
    watched.push(Watch::Equal(libc::SYS_fcntl, 1, libc::F_SETLKW as u32));
    watched
}

/// What SQLite does to its files: to be failed from outside.
pub fn database() -> Vec<Watch> {
    let all = [
        libc::SYS_openat,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_unlink,
    ];
    let mut watched: Vec<Watch> = all.into_iter().map(Watch::All).collect();
    watched.push(Watch::Equal(libc::SYS_fcntl, 1, libc::F_SETLK as u32));
    watched
}

/// In the process that is to be watched: makes this thread's calls, and those of threads it starts, wait for the
/// supervisor on the other end of the standard output.
///
/// # Errors
/// Those of `seccomp` and of writing.
pub fn announce(watched: &[Watch]) -> io::Result<()> {
    let (send, take) = std::sync::mpsc::channel::<i32>();
    let (done, wait) = std::sync::mpsc::channel::<io::Result<()>>();
    // A thread from before the filter: nobody answers for its calls yet.
    let teller = std::thread::spawn(move || {
        let Ok(number) = take.recv() else { return };
        let mut out = io::stdout().lock();
        let said = writeln!(out, "listener {number}").and_then(|()| out.flush());
        drop(out);
        // A sender that is gone has failed by itself.
        let _ = done.send(said);
    });
    let listener = supervise::install(watched)?;
    let told = send.send(listener.as_raw_fd()).map_err(|_| io::Error::other("the telling thread is gone"));
    told.and_then(|()| wait.recv().map_err(|_| io::Error::other("the telling thread is gone"))?)?;
    teller.join().map_err(|_| io::Error::other("the telling thread panicked"))?;
    // Kept open: the supervisor copies it at its leisure, and the process ends soon enough.
    std::mem::forget(listener);
    Ok(())
}

/// Runs a command and lets `supervisor` judge its calls, if it announces any; kills it after `limit`.
///
/// # Errors
/// Those of starting the process and of the calls made here.
pub fn run(command: &mut Command, limit: Duration, supervisor: &mut dyn Supervisor) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let outcome = attend(&mut child, limit, supervisor);
    if outcome.is_err() {
        // The first error is the one to report.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let (errors, calls, timed_out) = outcome?;
    Ok(Ended { errors, status, calls, timed_out })
}

fn attend(
    child: &mut Child,
    limit: Duration,
    supervisor: &mut dyn Supervisor,
) -> io::Result<(String, u64, bool)> {
    let missing = || io::Error::other("no pipe to the process");
    let mut out = child.stdout.take().ok_or_else(missing)?;
    let mut err = child.stderr.take().ok_or_else(missing)?;
    let process = child.id();
    let end = Instant::now() + limit;
    let mut listener: Option<OwnedFd> = None;
    let (mut said, mut errors) = (Vec::new(), Vec::new());
    let (mut calls, mut timed_out, mut err_open) = (0, false, true);
    let mut buffer = [0_u8; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() && !timed_out {
            timed_out = true;
            child.kill()?;
        }
        let mut watched = vec![PollFd::new(&out, PollFlags::IN)];
        if err_open {
            watched.push(PollFd::new(&err, PollFlags::IN));
        }
        if let Some(listener) = &listener {
            watched.push(PollFd::new(listener, PollFlags::IN));
        }
        let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        match poll(&mut watched, Some(&pause)) {
            Err(Errno::INTR) => continue,
            polled => polled.map_err(io::Error::from)?,
        };
        let ready: Vec<PollFlags> = watched.iter().map(|one| one.revents()).collect();
        drop(watched);
        let err_ready = err_open && ready.get(1).is_some_and(|ready| !ready.is_empty());
        let call_ready =
            listener.is_some() && ready.last().copied().unwrap_or(PollFlags::empty()).contains(PollFlags::IN);
        let call_over = listener.is_some()
            && ready
                .last()
                .is_some_and(|ready| ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL));
        if ready.first().is_some_and(|ready| !ready.is_empty()) {
            let count = out.read(&mut buffer)?;
            if count == 0 {
                // Nobody has the other end any more.
                err.read_to_end(&mut errors)?;
                return Ok((String::from_utf8_lossy(&errors).into_owned(), calls, timed_out));
            }
            said.extend_from_slice(&buffer[..count]);
            while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = said.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().strip_prefix("listener ") {
                    Some(number) => listener = Some(copy_descriptor(process, number)?),
                    None => supervisor.line(line.trim_end()),
                }
            }
            // What it said before its next call is known before that is judged.
            continue;
        }
        if err_ready {
            let count = err.read(&mut buffer)?;
            err_open = count > 0;
            errors.extend_from_slice(&buffer[..count]);
        }
        if let (true, Some(fd)) = (call_ready, &listener) {
            let Some(notification) = supervise::receive(fd.as_fd())? else { continue };
            calls += 1;
            let call = Call { index: calls, notification, process };
            match supervisor.call(&call) {
                Verdict::Go => supervise::go_on(fd.as_fd(), notification.id)?,
                Verdict::Kill => child.kill()?,
                Verdict::Fail(errno) => supervise::answer(fd.as_fd(), notification.id, Err(errno))?,
                Verdict::Pretend => supervise::answer(fd.as_fd(), notification.id, Ok(0))?,
                Verdict::Short => match call.write_half() {
                    Some(count) => supervise::answer(fd.as_fd(), notification.id, Ok(count))?,
                    None => supervise::go_on(fd.as_fd(), notification.id)?,
                },
            }
        } else if call_over {
            listener = None;
        }
    }
}

fn copy_descriptor(process: u32, number: &str) -> io::Result<OwnedFd> {
    let number: i32 = number.parse().map_err(io::Error::other)?;
    let process =
        i32::try_from(process).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process"))?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
}
