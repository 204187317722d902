//! Simulated circumstances: user namespaces.

use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a program as root of a new user namespace (with its own mounts) that maps ids 0 to 65,535 to 100,000 and
/// up, and waits for it. Needs root outside, for the mapping. A program that is given by its path may lie where only
/// root outside can look, as a target directory below `/root` does.
///
/// # Errors
/// When the namespace cannot be made, or the program is not there.
pub fn in_user_namespace(command: &Command) -> io::Result<Output> {
    // The namespace is made by unshare(1), which then waits for a line, so that the mapping is there before the
    // program starts.
    let script = "read -r _ && exec setpriv --reuid 0 --regid 0 --clear-groups -- \"$@\" < /dev/null";
    let mut child = Command::new("unshare");
    // Without --keep-caps the shell, whose id is not mapped yet, would lose the privilege to become root.
    child.args([
        "--user",
        "--keep-caps",
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    // The program inside inherits the descriptor: its name leads there without a look into any directory.
    let program = command.get_program();
    let opened = Path::new(program).is_absolute().then(|| std::fs::File::open(program)).transpose()?;
    match &opened {
        Some(file) => {
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
            child.arg(format!("/proc/self/fd/{}", file.as_raw_fd()))
        }
        None => child.arg(program),
    };
    child.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        child.current_dir(directory);
    }
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let user_namespace = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/user"));
    let id = child.id().to_string();
    while user_namespace(&id)? == user_namespace("self")? {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("unshare: {status}")));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{id}/{map}"), "0 100000 65536\n")?;
    }
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to unshare"))?;
    stdin.write_all(b"\n")?;
    drop(stdin);
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_only_root_outside_can_find_runs_in_a_user_namespace() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy("/bin/true", directory.path().join("program")).unwrap();
        let output = in_user_namespace(&Command::new(directory.path().join("program"))).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_user_namespace_has_its_root_and_65536_ids() {
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; cat /proc/self/uid_map; mount -t tmpfs x /mnt && chown 65535:65535 /mnt && stat -c %u /mnt"]);
        let output = in_user_namespace(&command).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            words,
            ["0", "0", "100000", "65536", "65535"],
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
