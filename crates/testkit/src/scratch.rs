//! Scratch file systems on loop devices, gone when dropped (also when a test panics).

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4 that writes its journal every so many seconds (5 is the kernel's default; 1,000 shows what a
    /// program forgot to sync).
    Ext4 {
        /// The interval in seconds.
        commit: u32,
    },
    /// xfs that can share extents.
    Xfs,
    /// btrfs.
    Btrfs,
    /// btrfs with quotas switched on.
    BtrfsQuota,
    /// Memory; needs no device.
    Tmpfs,
}

impl FileSystem {
    /// Each type once, ext4 with the kernel's default.
    pub const ALL: [Self; 4] = [Self::Ext4 { commit: 5 }, Self::Xfs, Self::Btrfs, Self::Tmpfs];

    /// What people and reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BtrfsQuota => "btrfs+quota",
            other => other.kind(),
        }
    }

    /// The type as mount(8) calls it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Ext4 { .. } => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsQuota => "btrfs",
            Self::Tmpfs => "tmpfs",
        }
    }

    /// The least size that its mkfs takes, in bytes.
    pub const fn least_size(self) -> u64 {
        match self {
            Self::Xfs => 300 << 20,
            Self::Btrfs | Self::BtrfsQuota => 128 << 20,
            Self::Ext4 { .. } | Self::Tmpfs => 1 << 20,
        }
    }
}

/// A mounted scratch file system.
#[derive(Debug)]
pub struct Scratch {
    file_system: FileSystem,
    // Holds the image and the mount point; dropped after the unmount.
    folder: tempfile::TempDir,
}

impl Scratch {
    /// Makes and mounts one of `size` bytes (raised to what its mkfs takes). The image lies in memory
    /// (`/dev/shm`) where there is some, else in the temporary directory, and is sparse.
    ///
    /// # Errors
    /// What mkfs or mount say: the tool is missing, the kernel does not know the file system, no privilege.
    pub fn new(file_system: FileSystem, size: u64) -> io::Result<Self> {
        Self::make(file_system, size, false)
    }

    /// As [`Scratch::new`], for measuring: every block of the image is there from the start and stays, as those of a
    /// disk are, and reading writes no access times. Otherwise who writes a block first pays for the memory below it.
    ///
    /// # Errors
    /// As those of [`Scratch::new`], and where there is no room for the image.
    pub fn allocated(file_system: FileSystem, size: u64) -> io::Result<Self> {
        Self::make(file_system, size, true)
    }

    fn make(file_system: FileSystem, size: u64, allocated: bool) -> io::Result<Self> {
        let folder = scratch_dir()?;
        let made = Self { file_system, folder };
        std::fs::create_dir(made.path())?;
        let size = size.max(file_system.least_size());
        let mut mount = Command::new("mount");
        match file_system {
            FileSystem::Tmpfs => {
                mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "scratch"]).arg(made.path());
            }
            FileSystem::Ext4 { .. } | FileSystem::Xfs | FileSystem::Btrfs | FileSystem::BtrfsQuota => {
                let image = std::fs::File::create(made.image())?;
                image.set_len(size)?;
                let more = if allocated { ",noatime,nodiscard" } else { "" };
                let mut mkfs = Command::new(format!("mkfs.{}", file_system.kind()));
                let options = match file_system {
                    FileSystem::Ext4 { commit } => {
                        mkfs.args(["-q", "-F"]);
                        format!("loop{more},commit={commit}")
                    }
                    FileSystem::Xfs => {
                        mkfs.args(["-q", "-f", "-m", "reflink=1"]);
                        format!("loop{more}")
                    }
                    _ => {
                        mkfs.args(["-q", "-f"]);
                        format!("loop{more}")
                    }
                };
                run(mkfs.arg(made.image()))?;
                if allocated {
                    // After mkfs, which discards what is there.
                    rustix::fs::fallocate(&image, rustix::fs::FallocateFlags::empty(), 0, size)?;
                }
                mount.args(["-t", file_system.kind(), "-o", &options]).arg(made.image()).arg(made.path());
            }
        }
        // Between finding a free loop device and taking it, somebody else may have taken it: try again.
        let mut last = Ok(());
        for _ in 0..20 {
            last = run(&mut mount);
            if last.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        last?;
        if file_system == FileSystem::BtrfsQuota {
            run(Command::new("btrfs").args(["quota", "enable"]).arg(made.path()))?;
            run(Command::new("btrfs").args(["quota", "rescan", "-w"]).arg(made.path()))?;
        }
        Ok(made)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// The file that holds it; of tmpfs there is none.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// What it is.
    pub fn file_system(&self) -> FileSystem {
        self.file_system
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        // The loop device is freed by the kernel with its last user. A file system that is still busy after a
        // while is detached: its device goes when the user does.
        for attempt in 0..50 {
            let flags = if attempt < 49 { UnmountFlags::empty() } else { UnmountFlags::DETACH };
            match unmount(self.path(), flags) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(20)),
                _ => break,
            }
        }
    }
}

/// A temporary directory in memory where there is some.
///
/// # Errors
/// Those of `mkdir`.
pub fn scratch_dir() -> io::Result<tempfile::TempDir> {
    let builder = &mut tempfile::Builder::new();
    builder.prefix("layerstore-test-");
    if Path::new("/dev/shm").is_dir() { builder.tempdir_in("/dev/shm") } else { builder.tempdir() }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", command.get_program().to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(FileSystem::Ext4 { commit: 1000 })]
    #[case(FileSystem::Xfs)]
    #[case(FileSystem::Btrfs)]
    #[case(FileSystem::BtrfsQuota)]
    #[case(FileSystem::Tmpfs)]
    fn a_scratch_file_system_is_mounted_and_leaves_nothing(#[case] file_system: FileSystem) {
        let mounted = |path: &Path| {
            let table = String::from_utf8_lossy(&std::fs::read("/proc/self/mounts").unwrap()).into_owned();
            table.lines().any(|line| line.split(' ').nth(1) == path.to_str())
        };
        let scratch = Scratch::new(file_system, 64 << 20).unwrap();
        let path = scratch.path();
        assert!(mounted(&path));
        std::fs::write(path.join("f"), "x").unwrap();
        drop(scratch);
        assert!(!mounted(&path) && !path.exists());
    }

    #[rstest::rstest]
    #[case(FileSystem::Ext4 { commit: 5 })]
    #[case(FileSystem::Xfs)]
    #[case(FileSystem::Btrfs)]
    fn an_allocated_one_has_all_its_blocks(#[case] file_system: FileSystem) {
        use std::os::unix::fs::MetadataExt as _;
        let size = 512 << 20;
        let scratch = Scratch::allocated(file_system, size).unwrap();
        assert_eq!(std::fs::metadata(scratch.image()).unwrap().blocks() * 512, size);
    }
}
