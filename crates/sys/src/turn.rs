//! A lock that is given in the order in which it was asked for, and that dies with its holder.
//!
//! `flock` wakes who waits longest, but until that process runs, each other one that asks gets the lock: where
//! hundreds of processes want it on a few processors, some wait ten times as long as the rest. Here everybody who asks
//! takes a place in a queue, a byte of the file that it locks (open file description locks, fcntl(2), Linux 3.15).
//!
//! ```text
//! byte 0         whoever is choosing a place, for three calls
//!      1, 2, …   the places; one is free again when its holder is through, or dead
//! ```
//!
//! Invariant: a new place is behind all that are taken, and its turn has come when none before it is taken any more.
//! Nothing is written to the file: the kernel is asked where the queue ends.

use std::os::fd::AsFd as _;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Errno, Result, call};
use crate::file::File;

/// Where a place is chosen.
const CHOICE: i64 = 0;
/// The place of who finds nobody.
const FIRST: i64 = 1;

/// A turn, until this is dropped.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits for a turn. The file is one that was opened for this, for writing, and has no other locks.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn wait(file: File) -> Result<Self> {
        let place = line_up(&file)?;
        advance(&file, place)?;
        Ok(Self { _file: file })
    }
}

/// Takes the next place.
fn line_up(file: &File) -> Result<i64> {
    lock(file, CHOICE, 1)?;
    let place = end(file)? + 1;
    // Nobody else chooses now, so this does not wait.
    lock(file, place, 1)?;
    set(file, libc::F_UNLCK, CHOICE, 1)?;
    Ok(place)
}

/// Waits until nobody is before this place.
fn advance(file: &File, place: i64) -> Result<()> {
    if place == FIRST {
        return Ok(());
    }
    // Each waits for one other only: to wake everybody at every turn would take longer than the turns.
    lock(file, place - 1, 1)?;
    // That one may have died while it waited itself.
    lock(file, FIRST, place - FIRST)
}

/// The last place that is taken, else the byte before the first one.
fn end(file: &File) -> Result<i64> {
    let mut taken = CHOICE;
    let mut step = 1;
    // Ever larger steps until there is nobody, then halves between that and the last one seen.
    let mut free = loop {
        match taken_from(file, taken + step)? {
            Some(seen) => (taken, step) = (seen, step * 2),
            None => break taken + step,
        }
    };
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        match taken_from(file, middle)? {
            Some(seen) => taken = seen,
            None => free = middle,
        }
    }
    Ok(taken)
}

/// Some place at or behind `from` that is taken.
fn taken_from(file: &File, from: i64) -> Result<Option<i64>> {
    let found = call(
        "fcntl",
        || file.show(),
        || {
            let mut asked = range(libc::F_WRLCK, from, 0);
            fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked)).map_err(errno)?;
            Ok(asked)
        },
    )?;
    // A lock that began before `from` reaches it.
    let last = found.l_start + found.l_len.max(1) - 1;
    Ok((i32::from(found.l_type) != libc::F_UNLCK).then_some(last.max(from)))
}

/// Locks bytes; waits for whoever has one of them.
fn lock(file: &File, start: i64, length: i64) -> Result<()> {
    set(file, libc::F_WRLCK, start, length)
}

fn set(file: &File, kind: i32, start: i64, length: i64) -> Result<()> {
    let range = range(kind, start, length);
    call("fcntl", || file.show(), || fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&range)).map_err(errno))
        .map(drop)
}

/// Bytes of a file, to its end with a length of 0.
fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        // The kernel's constants are small.
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::*;
    use crate::Dir;

    struct Queue {
        folder: tempfile::TempDir,
    }

    impl Queue {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn file(&self) -> File {
            Dir::open(self.folder.path()).unwrap().open_or_create_file(b"lock", 0o600).unwrap()
        }

        fn end(&self) -> i64 {
            end(&self.file()).unwrap()
        }

        /// Somebody else who waits for a turn, and is in the queue already.
        fn waiting(&self, place: i64) -> (JoinHandle<Turn>, Receiver<()>) {
            let (file, (sender, receiver)) = (self.file(), channel());
            let thread = std::thread::spawn(move || {
                let turn = Turn::wait(file).unwrap();
                sender.send(()).unwrap();
                turn
            });
            while self.end() < place {
                std::thread::sleep(Duration::from_millis(1));
            }
            (thread, receiver)
        }
    }

    #[test]
    fn turns_come_in_the_order_of_asking() {
        let queue = Queue::new();
        let mut turn = Turn::wait(queue.file()).unwrap();
        let others: Vec<_> = (2..40).map(|place| queue.waiting(place)).collect();
        for (thread, receiver) in others {
            receiver.recv_timeout(Duration::from_millis(5)).unwrap_err();
            drop(turn);
            receiver.recv_timeout(Duration::from_secs(20)).unwrap();
            turn = thread.join().unwrap();
        }
        drop(turn);
        assert_eq!(queue.end(), CHOICE);
    }

    #[test]
    fn who_dies_while_waiting_lets_nobody_pass() {
        let queue = Queue::new();
        let turn = Turn::wait(queue.file()).unwrap();
        let dies = queue.file();
        assert_eq!(line_up(&dies).unwrap(), 2);
        let (thread, receiver) = queue.waiting(3);
        drop(dies);
        receiver.recv_timeout(Duration::from_millis(100)).unwrap_err();
        drop(turn);
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(thread.join().unwrap());
    }

    #[test]
    fn one_at_a_time() {
        let queue = Queue::new();
        let (inside, turns) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let turn = Turn::wait(queue.file()).unwrap();
                        assert!(!inside.swap(true, Ordering::SeqCst));
                        turns.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        assert!(inside.swap(false, Ordering::SeqCst));
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 1600);
    }

    #[rstest::rstest]
    #[case::nobody(&[], 0)]
    #[case::one(&[1], 1)]
    #[case::some_are_through(&[5, 6, 7], 7)]
    #[case::some_died(&[1, 2, 17, 300, 301], 301)]
    #[case::far(&[1 << 40], 1 << 40)]
    #[case::between_steps(&[2, 4, 8, 9], 9)]
    fn a_new_place_is_behind_all_others(#[case] taken: &[i64], #[case] expected: i64) {
        let queue = Queue::new();
        let _files: Vec<_> = taken
            .iter()
            .map(|place| {
                let file = queue.file();
                lock(&file, *place, 1).unwrap();
                file
            })
            .collect();
        assert_eq!(queue.end(), expected);
        assert_eq!(line_up(&queue.file()).unwrap(), expected + 1);
    }
}
