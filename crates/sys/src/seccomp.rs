//! Making this kernel look like an older one: named system calls fail with `ENOSYS`, for the calling thread and
//! everything it starts, for good.

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

/// Not a call of its own: `fsconfig` with a descriptor as the value.
pub const LAYERS_AS_DESCRIPTORS: &str = "fsconfig(FSCONFIG_SET_FD)";
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

/// Makes these calls fail with `ENOSYS` for the calling thread and all threads and processes it starts from now
/// on. There is no way back; call it in a process or thread of its own.
///
/// # Errors
/// `EINVAL` for a name that is not in [`CALLS`]; those of `seccomp`.
pub fn refuse(names: &[&str]) -> Result<()> {
    let failed = |why: String| Error::new("seccomp", why, Errno::INVAL);
    let mut rules = BTreeMap::new();
    for name in names {
        let known = CALLS.iter().find(|(known, ..)| known == name);
        let (_, number, _) =
            known.ok_or_else(|| failed(format!("{name}: not a call that can be refused")))?;
        let only = if *name == LAYERS_AS_DESCRIPTORS {
            let is_fd = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, FSCONFIG_SET_FD)
                .and_then(|condition| SeccompRule::new(vec![condition]));
            vec![is_fd.map_err(|error| failed(error.to_string()))?]
        } else {
            Vec::new()
        };
        rules.insert(*number, only);
    }
    let architecture =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(error.to_string()))?;
    let errno = SeccompAction::Errno(Errno::NOSYS.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture)
        .map_err(|error| failed(error.to_string()))?;
    let program: seccompiler::BpfProgram =
        filter.try_into().map_err(|error: seccompiler::BackendError| failed(error.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(error.to_string()))
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
