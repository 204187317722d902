//! Advisory locks that die with the descriptor that holds them (`flock`), so that a crash never leaves one.

use std::os::fd::AsFd as _;

use rustix::fs::FlockOperation;

use crate::dir::Dir;
use crate::error::{Errno, Result, call};
use crate::file::File;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Many at once.
    Shared,
    /// Alone.
    Exclusive,
}

/// A lock on an open file, held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Those of `flock`.
    pub fn wait(file: File, mode: Mode) -> Result<Self> {
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        call("flock", || file.show(), || rustix::fs::flock(file.as_fd(), operation))?;
        Ok(Self { file })
    }

    /// Takes the lock if it is free; gives the file back if somebody has it.
    ///
    /// # Errors
    /// Those of `flock` other than `EWOULDBLOCK`.
    pub fn attempt(file: File, mode: Mode) -> Result<std::result::Result<Self, File>> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match call("flock", || file.show(), || rustix::fs::flock(file.as_fd(), operation)) {
            Ok(()) => Ok(Ok(Self { file })),
            Err(error) if error.errno() == Errno::WOULDBLOCK => Ok(Err(file)),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock on the entry `name` of a directory if whoever made it is dead: none when somebody has it locked,
    /// or it is not there. Its name may have gone, or be another one's, since it was opened.
    ///
    /// # Errors
    /// Those of `openat` and `flock`.
    pub fn of_the_dead(dir: &Dir, name: &[u8]) -> Result<Option<Self>> {
        match dir.open_file(name) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => Ok(Self::attempt(opened?, Mode::Exclusive)?.ok()),
        }
    }

    /// Gives the lock up now and the file back: also for copies of the descriptor that a child process holds
    /// between fork and exec, which closing alone would not.
    ///
    /// # Errors
    /// Those of `flock`.
    pub fn release(self) -> Result<File> {
        call("flock", || self.file.show(), || rustix::fs::flock(self.file.as_fd(), FlockOperation::Unlock))?;
        Ok(self.file)
    }

    /// The file, still locked until it and all copies of its descriptor are closed.
    pub fn into_file(self) -> File {
        self.file
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}
