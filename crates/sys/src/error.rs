//! The error of a system call, and the one door through which calls are made.

use std::fmt;
use std::path::Path;

pub use rustix::io::Errno;

/// Result of system calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A system call that failed: which one, on what, and why.
#[derive(Debug, Clone)]
pub struct Error {
    call: &'static str,
    subject: String,
    errno: Errno,
}

impl Error {
    /// An error as if `call` on `subject` had failed with `errno`.
    pub fn new(call: &'static str, subject: impl Into<String>, errno: Errno) -> Self {
        Self { call, subject: subject.into(), errno }
    }

    /// The errno.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The call that failed, by the name that strace prints.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What the call was about, as messages show it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the object is not there (`ENOENT`).
    pub fn is_not_found(&self) -> bool {
        self.errno == Errno::NOENT
    }

    /// Whether the object is there already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno == Errno::EXIST
    }

    /// What an `io::Error` of reading or writing a [`File`](crate::File) says: the call that failed, where it was one of
    /// ours, else `call` on `subject`.
    pub fn from_io(error: std::io::Error, call: &'static str, subject: impl FnOnce() -> String) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(other) => Self::new(call, subject(), Errno::from_io_error(&other).unwrap_or(Errno::IO)),
        }
    }

    /// Whether the kernel or file system does not know the call or option (`ENOSYS`, `EOPNOTSUPP`, `EINVAL` is
    /// not among them).
    pub fn is_unsupported(&self) -> bool {
        self.errno == Errno::NOSYS || self.errno == Errno::OPNOTSUPP
    }

    /// Whether something else lies where the call looked for a file or directory: a symlink, say (`ENOTDIR`, `ELOOP`,
    /// `EISDIR`).
    pub fn is_in_the_way(&self) -> bool {
        matches!(self.errno, Errno::NOTDIR | Errno::LOOP | Errno::ISDIR)
    }

    /// Whether this user or this file system lets nobody do that (`EACCES`, `EPERM`, `EROFS`).
    pub fn is_refused(&self) -> bool {
        matches!(self.errno, Errno::ACCESS | Errno::PERM | Errno::ROFS)
    }

    /// Whether space or quota ran out (`ENOSPC`, `EDQUOT`).
    pub fn is_no_space(&self) -> bool {
        self.errno == Errno::NOSPC || self.errno == Errno::DQUOT
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {}", self.call, self.subject, self.errno)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::Error::from(error.errno).kind(), error)
    }
}

/// Makes one system call, again when a signal interrupts it, and names it in the error.
///
/// Every call of this crate goes through here, so each place that calls this is a fail point (feature `fault`).
#[cfg_attr(feature = "fault", track_caller)]
pub(crate) fn call<T: 'static>(
    name: &'static str,
    subject: impl Fn() -> String,
    mut operation: impl FnMut() -> rustix::io::Result<T>,
) -> Result<T> {
    #[cfg(feature = "fault")]
    let place = std::panic::Location::caller();
    loop {
        #[cfg(feature = "fault")]
        let outcome = crate::fault::run(name, place, &subject, &mut operation);
        #[cfg(not(feature = "fault"))]
        let outcome = operation();
        match outcome {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(name, subject(), errno)),
            Ok(value) => return Ok(value),
        }
    }
}

/// The errno of the raw call that just failed.
pub(crate) fn last_errno() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// A path as messages show it: quoted, every byte that is not printable ASCII escaped.
pub(crate) fn show(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    format!("\"{}\"", path.as_os_str().as_bytes().escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_a_write_says_is_not_lost_on_its_way_through_std() {
        let mut full = crate::fs::open_for_writing("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        let error = Error::from_io(error, "other", String::new);
        assert!(error.is_no_space(), "{error}");
        assert_eq!((error.call(), error.subject()), ("write", "\"/dev/full\""));
    }
}
