//! Making this kernel look like an older one: named system calls fail as they do there, for the calling thread and
//! everything it starts, for good. A call that is missing answers `ENOSYS`, one that does not take something yet what
//! such kernels were seen to answer (`cargo xtask vm` asks them).

use std::collections::BTreeMap;

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::error::{Errno, Error, Result};

/// The calls that can be refused, by name, with their numbers (the same on every architecture but alpha), and
/// the Linux version that brought each.
pub const CALLS: &[(&str, i64, &str)] = &[
    ("open_tree", 428, "5.2"),
    ("move_mount", 429, "5.2"),
    ("fsopen", 430, "5.2"),
    ("fsconfig", 431, "5.2"),
    (LAYERS_AS_DESCRIPTORS, 431, "6.13"),
    (DESCRIPTORS_OF_OVERLAYS, 431, "6.5"),
    ("fsmount", 432, "5.2"),
    ("fspick", 433, "5.2"),
    ("close_range", 436, "5.9"),
    ("openat2", 437, "5.6"),
    ("faccessat2", 439, "5.8"),
    ("mount_setattr", 442, "5.12"),
    ("statmount", 457, "6.8"),
    ("listmount", 458, "6.8"),
    ("setxattrat", 463, "6.13"),
    ("getxattrat", 464, "6.13"),
    ("listxattrat", 465, "6.13"),
    ("removexattrat", 466, "6.13"),
    ("open_tree_attr", 467, "6.15"),
];

/// Not a call of its own: `fsconfig` with an `O_PATH` descriptor as the value, `EBADF` from 6.5 to 6.12.
pub const LAYERS_AS_DESCRIPTORS: &str = "fsconfig(FSCONFIG_SET_FD, O_PATH)";
/// Not a call of its own: `fsconfig` with a descriptor as the value, `EOPNOTSUPP` where the file system has no parser
/// for that, as overlay had none from 5.2 to 6.4.
pub const DESCRIPTORS_OF_OVERLAYS: &str = "fsconfig(FSCONFIG_SET_FD)";
/// `FSCONFIG_SET_FD` (include/uapi/linux/mount.h), the second argument then.
const FSCONFIG_SET_FD: u64 = 5;

/// What the design asks every suite to pass without: the calls that mounting and resolving fall back from.
pub const FALLBACKS: &[&str] = &[
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "openat2",
    "mount_setattr",
    "statmount",
    "listmount",
];

/// Makes these calls fail for the calling thread and all threads and processes it starts from now on. There is no way
/// back; call it in a process or thread of its own.
///
/// # Errors
/// `EINVAL` for a name that is not in [`CALLS`]; those of `seccomp`.
pub fn refuse(names: &[&str]) -> Result<()> {
    let mut missing = BTreeMap::new();
    for name in names {
        let known = CALLS.iter().find(|(known, ..)| known == name);
        let (_, number, _) =
            known.ok_or_else(|| failed(&format!("{name}: not a call that can be refused")))?;
        let errno = match *name {
            LAYERS_AS_DESCRIPTORS => Errno::BADF,
            DESCRIPTORS_OF_OVERLAYS => Errno::OPNOTSUPP,
            _ => {
                missing.insert(*number, Vec::new());
                continue;
            }
        };
        let is_fd = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, FSCONFIG_SET_FD);
        let rule =
            is_fd.and_then(|condition| SeccompRule::new(vec![condition])).map_err(|why| failed(&why))?;
        answer(BTreeMap::from([(*number, vec![rule])]), errno)?;
    }
    if missing.is_empty() { Ok(()) } else { answer(missing, Errno::NOSYS) }
}

/// Has calls that fit these rules answer an error.
fn answer(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: Errno) -> Result<()> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|why| failed(&why))?;
    let errno = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).map_err(|why| failed(&why))?;
    let program: seccompiler::BpfProgram =
        filter.try_into().map_err(|why: seccompiler::BackendError| failed(&why))?;
    seccompiler::apply_filter(&program).map_err(|why| failed(&why))
}

fn failed(why: &dyn std::fmt::Display) -> Error {
    Error::new("seccomp", why.to_string(), Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_missing_in_that_thread_only() {
        let open = || crate::mount::FsContext::open("tmpfs").map_err(|error| error.errno());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                refuse(&["fsopen"]).unwrap();
                assert_eq!(open().unwrap_err(), Errno::NOSYS);
            });
        });
        assert_ne!(open().err(), Some(Errno::NOSYS));
        assert!(refuse(&["read"]).is_err());
    }
}
