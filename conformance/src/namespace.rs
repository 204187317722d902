//! Namespaces and simulated old kernels: what a worker process makes of itself before it runs cases.

use std::io::{BufRead, Write};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use crate::case::{Failure, Outcome};

/// What a run pretends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Mode {
    /// Run in a new user namespace, without any privilege outside it.
    pub user_namespace: bool,
    /// Pretend a kernel without fsopen, openat2, mount_setattr, statmount and their companions.
    pub old_kernel: bool,
}

impl Mode {
    /// How pinned files and reports call it, after the file system's name: `+userns`, `+enosys` or nothing.
    pub fn suffix(self) -> &'static str {
        match (self.user_namespace, self.old_kernel) {
            (false, false) => "",
            (true, false) => "+userns",
            (false, true) => "+enosys",
            (true, true) => "+userns+enosys",
        }
    }
}

/// Gives this process a mount namespace of its own, from which nothing spreads.
///
/// # Errors
/// Without the privilege.
pub(crate) fn unshare_mounts() -> Outcome {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Failure::new(format!("unshare: {errno}")))?;
    private()
}

fn private() -> Outcome {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|errno| Failure::new(format!("mount(\"/\", MS_REC | MS_PRIVATE): {errno}")))
}

/// Gives this process a user namespace and a mount namespace. The ids are mapped by whoever started it: asks on
/// `output`, goes on after a line on `input`.
///
/// # Errors
/// Where user namespaces are forbidden.
pub(crate) fn unshare_user(input: &mut impl BufRead, output: &mut impl Write) -> Outcome {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Failure::new(format!("unshare(CLONE_NEWUSER): {errno}")))?;
    writeln!(output, "@map")?;
    output.flush()?;
    input.read_line(&mut String::new())?;
    private()
}

/// Maps the ids of a process that waits in [`unshare_user`]: all 65,536 one to one where this process may, by
/// newuidmap(1) where that is set up, else only its own.
///
/// # Errors
/// When none of these works.
pub(crate) fn map_ids(process: u32) -> Outcome {
    let write = |file: &str, text: &str| -> Outcome {
        use std::io::Write as _;
        let mut file = layerstore_sys::fs::open_for_writing(format!("/proc/{process}/{file}"))?;
        Ok(file.write_all(text.as_bytes())?)
    };
    if nix::unistd::geteuid().is_root() {
        write("uid_map", "0 0 65536\n")?;
        return write("gid_map", "0 0 65536\n");
    }
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let by_helper = |program: &str, own: u32, from: u32| {
        std::process::Command::new(program)
            .args([process.to_string(), "0".into(), own.to_string(), "1".into()])
            .args(["1".to_owned(), from.to_string(), "65535".into()])
            .status()
            .is_ok_and(|status| status.success())
    };
    if let (Some(users), Some(groups)) = (subordinate("/etc/subuid"), subordinate("/etc/subgid"))
        && by_helper("newuidmap", uid.as_raw(), users)
        && by_helper("newgidmap", gid.as_raw(), groups)
    {
        return Ok(());
    }
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1\n"))?;
    write("gid_map", &format!("0 {gid} 1\n"))
}

/// The first id of this user's range of at least 65,535 in a file as subuid(5) describes it.
fn subordinate(file: &str) -> Option<u32> {
    let user = std::env::var("USER").ok()?;
    let uid = nix::unistd::getuid().to_string();
    layerstore_sys::fs::read_to_string(file, 1 << 20).ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (start, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        ((owner == user || owner == uid) && count >= 65_535).then_some(start)
    })
}

/// Makes the calls that brought the new mount interface, and openat2, fail with ENOSYS from now on, for this
/// process and all it starts.
///
/// # Errors
/// Where seccomp filters are forbidden.
pub(crate) fn forget_new_calls() -> Outcome {
    Ok(layerstore_sys::seccomp::refuse(layerstore_sys::seccomp::FALLBACKS)?)
}
