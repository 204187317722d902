//! What the kernel knows of mounts: which mount a directory lies in, and which mounts there are.
//!
//! A mount has a number that the next one may get again, and since Linux 6.8 one that is never used twice. The
//! latter is asked of `statmount` ([`crate::statmount`], Linux 6.8), the former looked up in
//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)):
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id parent device root mount-point options optional* - type source super-options
//! ```

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};

use crate::error::{Errno, Result, call};
use crate::process::MountNamespace;
use crate::stat::DeviceId;

/// Largest mountinfo that is read, in bytes: some 300,000 mounts.
const LIMIT: usize = 64 << 20;
/// `STATX_MNT_ID_UNIQUE` (Linux 6.8).
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Which mount it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MountId {
    /// The number that is never used twice while the system runs (Linux 6.8).
    pub unique: Option<u64>,
    /// The number in mountinfo, which a later mount may get again.
    pub reusable: u64,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The number in mountinfo.
    pub id: u64,
    /// The same of the mount it is mounted on.
    pub parent: u64,
    /// Its file system's device.
    pub device: DeviceId,
    /// Which directory of its file system it shows.
    pub root: PathBuf,
    /// Where it is mounted, as this process's root sees it.
    pub mount_point: PathBuf,
    /// Its file system's type.
    pub kind: String,
}

impl MountEntry {
    /// Whether a file in this mount may say that it lies on `device`. On btrfs each subvolume has a number of its
    /// own (fs/btrfs/inode.c, `btrfs_getattr`), and the mount table has that of the whole.
    fn may_have(&self, device: DeviceId) -> bool {
        self.device == device || (self.kind == "btrfs" && device.major == 0)
    }
}

/// The mount that holds what this descriptor has open.
///
/// # Errors
/// Those of `statx`.
pub fn id_of(fd: impl AsFd) -> Result<MountId> {
    let fd = fd.as_fd();
    let ask = |flag: StatxFlags| {
        let statx = call(
            "statx",
            || format!("descriptor {}", fd.as_raw_fd()),
            || rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, flag),
        )?;
        Ok::<_, crate::Error>((statx.stx_mask & flag.bits() != 0).then_some(statx.stx_mnt_id))
    };
    let unique = ask(StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE))?;
    let reusable = match ask(StatxFlags::MNT_ID)? {
        Some(id) => id,
        // Before Linux 5.8.
        None => from_fdinfo(fd.as_raw_fd())?,
    };
    Ok(MountId { unique, reusable })
}

fn from_fdinfo(fd: i32) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{fd}");
    let text = crate::fs::read_to_string(&path, 64 << 10)?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| crate::Error::new("read", path, Errno::PROTO))
}

/// Every mount in the calling thread's mount namespace.
///
/// # Errors
/// Those of reading `/proc`.
pub fn here() -> Result<Vec<MountEntry>> {
    Ok(parse(&crate::fs::read("/proc/thread-self/mountinfo", LIMIT)?))
}

/// Finds mounts: what several share is asked of the kernel once, when it is first needed. So it may not know a
/// mount that came later; whoever acts on a missing one asks a new one. For one thread.
#[derive(Debug, Default)]
pub struct Finder {
    here: OnceCell<MountNamespace>,
    table: OnceCell<Vec<MountEntry>>,
}

impl Finder {
    /// The calling thread's mount namespace.
    ///
    /// # Errors
    /// Those of opening `/proc/thread-self/ns/mnt`.
    pub fn here(&self) -> Result<MountNamespace> {
        match self.here.get() {
            Some(here) => Ok(*here),
            None => MountNamespace::current().map(|here| *self.here.get_or_init(|| here)),
        }
    }

    /// Finds a mount, in whatever mount namespace of this system it was attached; none when it is not there any
    /// more, or its namespace is not. `device` and `target` tell it from a later mount with the same number, where
    /// the kernel has no unique ones.
    ///
    /// # Errors
    /// Those of `statmount` and of reading `/proc`.
    pub fn find(
        &self,
        id: MountId,
        device: DeviceId,
        target: &Path,
        namespace: &MountNamespace,
    ) -> Result<Option<MountEntry>> {
        let here = self.here()?.same(namespace);
        if let Some(unique) = id.unique
            && (here || namespace.id.is_some())
        {
            match crate::statmount::lookup(unique, if here { None } else { namespace.id }) {
                // EINVAL: a kernel that cannot ask about other namespaces (before 6.11). EPERM: one that is not
                // ours to ask about.
                Err(error) if matches!(error.errno(), Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
                answer => return answer,
            }
        }
        let is_it = |entry: &MountEntry| {
            entry.id == id.reusable && entry.may_have(device) && entry.mount_point == target
        };
        if here {
            return Ok(self.table()?.iter().find(|entry| is_it(entry)).cloned());
        }
        Ok(in_namespace(namespace)?.into_iter().flatten().find(is_it))
    }

    fn table(&self) -> Result<&[MountEntry]> {
        match self.table.get() {
            Some(table) => Ok(table),
            None => here().map(|table| self.table.get_or_init(|| table).as_slice()),
        }
    }
}

/// The mounts of another namespace, as one of its threads sees them; none when it has none.
///
/// # Errors
/// Those of reading `/proc`.
pub fn in_namespace(namespace: &MountNamespace) -> Result<Option<Vec<MountEntry>>> {
    each_thread(|thread, inode| {
        if inode != namespace.inode {
            return None;
        }
        Some(parse(&crate::fs::read(thread.join("mountinfo"), LIMIT).ok()?))
    })
}

/// What tells a file system from a later one, which may have its device number: its root directory. An overlay's
/// says when its upper directory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    device: DeviceId,
    inode: u64,
    born: Option<(i64, u32)>,
}

impl Root {
    /// The directory of a descriptor.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        let fd = fd.as_fd();
        Self::ask(|| format!("descriptor {}", fd.as_raw_fd()), fd, "", AtFlags::EMPTY_PATH)
    }

    fn at(path: &Path) -> Result<Self> {
        Self::ask(|| crate::error::show(path), rustix::fs::CWD, path, AtFlags::empty())
    }

    fn ask(
        show: impl Fn() -> String,
        fd: std::os::fd::BorrowedFd<'_>,
        path: impl rustix::path::Arg + Copy,
        flags: AtFlags,
    ) -> Result<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat =
            call("statx", show, || rustix::fs::statx(fd, path, flags | AtFlags::NO_AUTOMOUNT, wanted))?;
        let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            device: DeviceId { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
            inode: stat.stx_ino,
            born: born.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
        })
    }
}

impl MountEntry {
    /// Whether a mount that a thread sees is known to show another file system than that with this root.
    fn is_of_another(&self, thread: &Path, root: &Root) -> bool {
        // A part of it has another root, and what is covered cannot be looked at.
        self.root == Path::new("/")
            && match Root::at(
                &thread.join("root").join(self.mount_point.strip_prefix("/").unwrap_or(&self.mount_point)),
            ) {
                Ok(here) => here.device == root.device && here != *root,
                Err(error) => error.is_not_found(),
            }
    }
}

/// A mount of the file system with this device, in any namespace that a thread lives in, with that namespace and
/// the number of such a thread. With `root` one that has the device number only is passed over.
///
/// # Errors
/// Those of reading `/proc`.
pub fn of_device(device: DeviceId, root: Option<Root>) -> Result<Option<(u32, MountNamespace, MountEntry)>> {
    let mut seen = std::collections::HashSet::new();
    each_thread(|thread, inode| {
        if !seen.insert(inode) {
            return None;
        }
        let entries = parse(&crate::fs::read(thread.join("mountinfo"), LIMIT).ok()?);
        let entry = entries.into_iter().find(|entry| {
            entry.device == device && !root.is_some_and(|root| entry.is_of_another(thread, &root))
        })?;
        let number = thread.file_name()?.to_str()?.parse().ok()?;
        Some((number, MountNamespace { inode, id: None }, entry))
    })
}

/// Asks about every thread of the system, given its directory in `/proc` and the inode of its mount namespace,
/// until there is an answer.
fn each_thread<T>(mut ask: impl FnMut(&Path, u64) -> Option<T>) -> Result<Option<T>> {
    let proc = crate::Dir::open("/proc")?;
    for entry in proc.entries()? {
        if !entry.name.iter().all(u8::is_ascii_digit) {
            continue;
        }
        // What ends meanwhile, or may not be looked at, is not what to ask.
        let threads = Path::new("/proc").join(OsStr::from_bytes(&entry.name)).join("task");
        let Ok(found) = crate::Dir::open(&threads).and_then(|threads| threads.entries()) else { continue };
        for thread in found {
            let thread = threads.join(OsStr::from_bytes(&thread.name));
            let Ok(Some(stat)) = crate::fs::stat(thread.join("ns/mnt")) else { continue };
            if let Some(answer) = ask(&thread, stat.inode) {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}

/// Reads mountinfo; a line that does not look like one is passed over.
fn parse(bytes: &[u8]) -> Vec<MountEntry> {
    bytes.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = DeviceId { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let kind = fields.skip_while(|&field| field != b"-").nth(1)?;
    Some(MountEntry {
        id,
        parent,
        device,
        root,
        mount_point,
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields_is_read() {
        let line = b"36 35 98:7 /mnt\\0401 /mnt\\134\\0122 rw master:1 shared:2 - ext3 /dev/root rw";
        let entry = parse_line(line).unwrap();
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!(entry.device, DeviceId { major: 98, minor: 7 });
        assert_eq!(entry.root, Path::new("/mnt 1"));
        assert_eq!(entry.mount_point, Path::new("/mnt\\\n2"));
        assert_eq!(entry.kind, "ext3");
    }

    #[test]
    fn nonsense_is_no_mount() {
        for line in [&b""[..], b"1", b"1 2 3:x / /", b"1 2 3:4 / / rw - "] {
            assert!(parse_line(line).is_none_or(|entry| entry.kind.is_empty()), "{line:?}");
        }
    }

    #[test]
    fn the_mount_of_the_root_is_found_by_its_id() {
        let root = crate::Dir::open("/").unwrap();
        let id = id_of(&root).unwrap();
        let device = root.stat_self().unwrap().device;
        let namespace = MountNamespace::current().unwrap();
        let found = Finder::default().find(id, device, Path::new("/"), &namespace).unwrap().unwrap();
        assert_eq!(found.mount_point, Path::new("/"));
        assert!(here().unwrap().iter().any(|entry| entry.id == id.reusable));
    }
}
