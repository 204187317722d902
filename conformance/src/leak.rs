//! What is left behind: compares mounts, descriptors and child processes before and after a case, and looks for
//! files where none belong (clause M12).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use layerstore_sys as sys;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::Dir;

use crate::case::Outcome;

/// What a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    mounts: Vec<String>,
    descriptors: BTreeMap<String, String>,
}

impl Holdings {
    /// What this process holds now.
    pub(crate) fn now() -> Outcome<Self> {
        // The machine's other mounts may have any bytes in their paths.
        let table = sys::fs::read("/proc/self/mountinfo", 64 << 20)?;
        let table = String::from_utf8_lossy(&table);
        // Fields 4 and 5 are the root within the file system and the mount point (proc_pid_mountinfo(5)).
        let mounts =
            table.lines().map(|line| line.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" on "));
        let mut descriptors = BTreeMap::new();
        let dir = Dir::open("/proc/self/fd")?;
        for entry in dir.entries()? {
            // The descriptors that are open for this listing are gone before their links are read, or after.
            if let Ok(link) = dir.read_link(&entry.name) {
                let link = link.escape_ascii().to_string();
                if !link.starts_with("/proc/") {
                    descriptors.insert(entry.name.escape_ascii().to_string(), link);
                }
            }
        }
        Ok(Self { mounts: mounts.collect(), descriptors })
    }

    /// What is there now and was not before, a line each.
    pub(crate) fn since(before: &Self) -> Outcome<Vec<String>> {
        let now = Self::now()?;
        let mut left = Vec::new();
        let mut known = before.mounts.clone();
        for mount in now.mounts {
            match known.iter().position(|other| *other == mount) {
                Some(at) => drop(known.swap_remove(at)),
                None => left.push(format!("mount {mount}")),
            }
        }
        for (number, link) in now.descriptors {
            if before.descriptors.get(&number) != Some(&link) {
                left.push(format!("descriptor {number} of {link}"));
            }
        }
        Ok(left)
    }
}

/// What was left as one text, of which a person reads the beginning.
pub(crate) fn text(left: &[String]) -> String {
    let shown = left.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("; ");
    match left.len() {
        0..=10 => shown,
        more => format!("{shown}; and {} more", more - 10),
    }
}

/// Child processes that nobody waited for; they are killed and taken away.
pub(crate) fn children() -> Vec<String> {
    let mut left = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                left.push("a running child process".to_owned());
                let own = std::process::id();
                let list = sys::fs::read_to_string(format!("/proc/{own}/task/{own}/children"), 1 << 20);
                for child in list.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
                    let child = Pid::from_raw(child);
                    // Both fail only when the child ended by itself.
                    let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
                    let _ = waitpid(child, None);
                }
                return left;
            }
            Ok(status) => left.push(format!("a child process that nobody waited for ({status:?})")),
            Err(_) => return left,
        }
    }
}

/// Everything in a directory that must be empty.
pub(crate) fn files(directory: &Path) -> Outcome<Vec<String>> {
    let entries = Dir::open(directory)?.entries()?;
    Ok(entries
        .into_iter()
        .map(|entry| format!("file {}/{}", directory.display(), entry.name.escape_ascii()))
        .collect())
}

/// Takes away every mount below a directory, so that the next case begins clean.
pub(crate) fn unmount_below(directory: &Path) {
    let Ok(table) = sys::fs::read_to_string("/proc/self/mountinfo", 64 << 20) else { return };
    let prefix = format!("{}/", directory.display());
    for line in table.lines().rev() {
        let Some(target) = line.split(' ').nth(4) else { continue };
        if target.starts_with(&prefix) {
            // What cannot be taken away here goes with the process's mount namespace.
            let _ = sys::mount::unmount_lazily(Path::new(OsStr::from_bytes(&unescape(target))));
        }
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}
