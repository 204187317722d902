//! What a failed call means to who wanted a mount.

use std::os::fd::BorrowedFd;

use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::mount::Flags;
use layerstore_sys::{self as sys, Errno};

use crate::error::{Error, Kind, Result};

/// The operation that every message here begins with.
pub(super) const MOUNT: &str = "mount";

/// The same for unmounting.
pub(super) const UNMOUNT: &str = "unmount";

/// How often what is busy is tried again, after 1, 2, 4 … milliseconds: 127 in all. Any program that starts
/// another one holds copies of its open files for a moment, between fork and exec, and a mount outlives its killed
/// process by another, so busy is believed only when it lasts.
const TRIES: u32 = 7;

/// Makes a call again while it finds something busy.
pub(super) fn patiently<T, E>(
    mut make: impl FnMut() -> Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut tries = 0;
    loop {
        match make() {
            Err(error) if is_busy(&error) && tries < TRIES => {
                std::thread::sleep(std::time::Duration::from_millis(1 << tries));
                tries += 1;
            }
            result => return result,
        }
    }
}

/// Why one way of mounting did not work.
pub(super) enum Try {
    /// This kernel lacks the call; another way may do.
    Otherwise(sys::Error),
    /// No other way would do either.
    Failed(Error),
}

impl From<Error> for Try {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A system call that failed while mounting.
pub(super) fn failed(error: sys::Error) -> Error {
    let kind = match error.errno() {
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::NODEV => Kind::Unsupported,
        Errno::PERM | Errno::ACCESS => {
            return Error::new(Kind::Unsupported, MOUNT, error.to_string())
                .with_hint("mounting needs root (CAP_SYS_ADMIN), or a user namespace that has it")
                .with_source(error);
        }
        Errno::INVAL if matches!(error.call(), "fsconfig" | "mount") => {
            return Error::system(MOUNT, error).with_hint("the kernel's log may say why: dmesg | tail");
        }
        Errno::BUSY => {
            let message = format!("another mount has the upper or the work directory: {error}");
            return Error::new(Kind::InUse, MOUNT, message).with_source(error);
        }
        _ => return Error::system(MOUNT, error),
    };
    Error::new(kind, MOUNT, error.to_string()).with_source(error)
}

/// As [`failed`], with what the first try met.
pub(super) fn after(error: Error, why: &sys::Error) -> Error {
    let message = format!("{} (tried after {why})", error.message());
    let mut new = Error::new(error.kind(), MOUNT, message);
    if let Some(hint) = error.hint() {
        new = new.with_hint(hint);
    }
    new.with_source(error)
}

/// The overlay file system could not be asked for.
pub(super) fn overlay(error: sys::Error) -> Error {
    if error.errno() != Errno::NODEV {
        return failed(error);
    }
    let message = format!("the kernel has no overlay file system: {error}");
    Error::new(Kind::Unsupported, MOUNT, message)
        .with_hint("load the module: modprobe overlay")
        .with_source(error)
}

/// Mapping the ids of a mount failed.
pub(super) fn id_mapping(error: sys::Error, mount: BorrowedFd<'_>) -> Error {
    let reason = match error.errno() {
        Errno::NOSYS => "an id mapping needs mount_setattr (Linux 5.12)".to_owned(),
        Errno::INVAL => {
            let name = FsInfo::of(mount).map_or_else(|_| "this file system".to_owned(), |info| info.name());
            format!("{name} cannot map ids on this kernel")
        }
        _ => return failed(error),
    };
    Error::new(Kind::Unsupported, MOUNT, format!("{reason}: {error}")).with_source(error)
}

/// Giving a bind mount its flags failed. How access times are kept is locked in a mount that a user namespace has from
/// the one above it (mount_namespaces(7)).
pub(super) fn flags(error: sys::Error, flags: Flags) -> Error {
    if error.errno() != Errno::PERM || !flags.noatime {
        return failed(error);
    }
    let message =
        format!("in a user namespace nobody may change how a bind mount keeps access times: {error}");
    Error::new(Kind::Unsupported, MOUNT, message).with_hint("leave out noatime").with_source(error)
}

/// Making a user namespace failed.
pub(super) fn namespace(error: sys::Error) -> Error {
    match (error.call(), error.errno()) {
        ("write", Errno::INVAL) => {
            Error::new(Kind::InvalidInput, MOUNT, format!("the id mapping is empty or overlaps: {error}"))
                .with_source(error)
        }
        (_, Errno::NOSPC | Errno::USERS) => {
            Error::new(Kind::LimitExceeded, MOUNT, format!("no more user namespaces: {error}"))
                .with_hint("raise user.max_user_namespaces")
                .with_source(error)
        }
        _ => failed(error),
    }
}

/// A descriptor could not be copied.
pub(super) fn descriptor(error: std::io::Error) -> Error {
    Error::new(Kind::System, MOUNT, format!("copy descriptor: {error}")).with_source(error)
}

/// Refuses a label where it would not do anything.
pub(super) fn check_selinux() -> Result<()> {
    if sys::fs::exists("/sys/fs/selinux/enforce").map_err(failed)? {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, MOUNT, "a label was asked for, and SELinux is not enabled")
        .with_hint("leave the label out, or boot with selinux=1"))
}
