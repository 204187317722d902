//! Disks whose power can be cut: a file system in a file, and copies of that file.
//!
//! The page cache of a loop-mounted file system is not in its file, so a copy of the file is what the device holds
//! at that moment. That is every block that was written to it, flushed or not: the kindest disk there is. What a
//! disk may lose or reorder besides is [`crate::crash::log`]'s matter.
//!
//! Invariant: what is mounted here is unmounted when it is dropped.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{SeekFrom, seek};
use rustix::mount::{UnmountFlags, unmount};

use crate::scratch::FileSystem;

/// The smallest disks that the file systems take, with room for a small store.
const fn size(file_system: FileSystem) -> u64 {
    match file_system {
        FileSystem::Xfs => 304 << 20,
        FileSystem::Btrfs | FileSystem::BtrfsQuota => 160 << 20,
        FileSystem::Ext4 { .. } | FileSystem::Tmpfs => 64 << 20,
    }
}

/// Makes a file system in a new file.
///
/// # Errors
/// What mkfs says.
pub fn make(file_system: FileSystem, image: &Path) -> io::Result<()> {
    std::fs::File::create(image)?.set_len(size(file_system))?;
    let mut mkfs = Command::new(format!("mkfs.{}", file_system.name()));
    match file_system {
        FileSystem::Xfs => mkfs.args(["-q", "-f", "-m", "reflink=1"]),
        FileSystem::Btrfs | FileSystem::BtrfsQuota => mkfs.args(["-q", "-f", "-m", "single"]),
        _ => mkfs.args(["-q", "-F"]),
    };
    run(mkfs.arg(image))
}

/// A mounted disk.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts an image at a directory, made if it is missing. Recovers its journal, as after a power cut.
    ///
    /// # Errors
    /// What mount says.
    pub fn new(file_system: FileSystem, image: &Path, path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let options = match file_system {
            // Nothing but what is asked for reaches the disk.
            FileSystem::Ext4 { commit } => format!("loop,commit={commit}"),
            FileSystem::Xfs => "loop,nouuid".to_owned(),
            FileSystem::Btrfs | FileSystem::BtrfsQuota => "loop,commit=1000".to_owned(),
            FileSystem::Tmpfs => return Err(io::Error::other("a tmpfs has no image")),
        };
        let mut last = Ok(());
        // Between finding a free loop device and taking it, somebody else may have taken it: try again.
        for _ in 0..20 {
            last = run(Command::new("mount")
                .args(["-t", file_system.name(), "-o", &options])
                .arg(image)
                .arg(path));
            if last.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        last.map(|()| Self { path: path.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount_below(&self.path);
    }
}

/// Unmounts a directory and everything below it, the last mount first.
pub fn unmount_below(path: &Path) {
    let table = String::from_utf8_lossy(&std::fs::read("/proc/self/mounts").unwrap_or_default()).into_owned();
    let own = path.to_string_lossy().into_owned();
    let below = |target: &&str| {
        target.strip_prefix(&*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for target in table.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(below) {
        if unmount(target, UnmountFlags::NOFOLLOW).is_err() {
            // Somebody still holds it; it goes with them.
            let _ = unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        }
    }
}

/// Copies a file that somebody writes to, holes as holes: what a disk holds at this moment.
///
/// # Errors
/// Any system call's.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = std::fs::File::open(from)?;
    let target = std::fs::File::create(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let Ok(start) = seek(source.as_fd(), SeekFrom::Data(at)) else { break };
        let end = seek(source.as_fd(), SeekFrom::Hole(start))?;
        let mut offset = start;
        while offset < end {
            let length = buffer.len().min((end - offset) as usize);
            let count = source.read_at(&mut buffer[..length], offset)?;
            if count == 0 {
                break;
            }
            target.write_all_at(&buffer[..count], offset)?;
            offset += count as u64;
        }
        at = end;
    }
    Ok(())
}

/// Runs a command to its end.
///
/// # Errors
/// What it said, when it failed.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", command.get_program().to_string_lossy())))
}
