//! `statmount` (Linux 6.8; of other namespaces 6.11): one mount by its unique number.
//!
//! The answer is a header of 512 bytes, then the texts that it points into (include/uapi/linux/mount.h):
//!
//! ```text
//!  8 mask  16 major  20 minor  36 type*  56 id  60 parent  104 root*  108 mount point*     * offset after 512
//! ```

#![allow(unsafe_code, reason = "statmount, which no crate wraps")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::error::{Errno, Result, call, last_errno};
use crate::mountinfo::MountEntry;
use crate::stat::DeviceId;

/// The same number on every architecture but alpha.
const SYS_STATMOUNT: libc::c_long = 457;
const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const HEADER: usize = 512;
/// Room for a header and two paths; more is asked for when the kernel says that it is too small.
const ROOM: usize = 4096;
const MOST: usize = 64 << 10;

/// `struct mnt_id_req`, its second version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
    namespace: u64,
}

/// The size of the first version, which has no namespace.
const FIRST_VERSION: u32 = 24;
const SECOND_VERSION: u32 = 32;

/// The mount with this unique number in a namespace (none: the calling thread's); none when it is not there.
///
/// # Errors
/// `ENOSYS` before Linux 6.8, `EINVAL` before 6.11 when a namespace is given, `EPERM`.
pub fn lookup(mount: u64, namespace: Option<u64>) -> Result<Option<MountEntry>> {
    let request = Request {
        size: if namespace.is_some() { SECOND_VERSION } else { FIRST_VERSION },
        spare: 0,
        mount,
        wanted: SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE,
        namespace: namespace.unwrap_or(0),
    };
    let mut buffer = vec![0_u64; ROOM / 8];
    loop {
        let answer = call(
            "statmount",
            || format!("mount {mount}"),
            || {
                // SAFETY: the request is the kernel's structure of the size it names; the kernel writes at most
                // the given number of bytes into the buffer, which is that large and aligned for u64.
                let result = unsafe {
                    libc::syscall(SYS_STATMOUNT, &raw const request, buffer.as_mut_ptr(), buffer.len() * 8, 0)
                };
                if result == 0 { Ok(()) } else { Err(last_errno()) }
            },
        );
        match answer {
            Ok(()) => return Ok(Some(read(&buffer))),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.errno() == Errno::OVERFLOW && buffer.len() * 8 < MOST => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

fn read(buffer: &[u64]) -> MountEntry {
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let number = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).unwrap_or_default();
        u32::from_ne_bytes(word)
    };
    let text = |at: usize| {
        let start = HEADER + number(at) as usize;
        let tail = bytes.get(start..).unwrap_or_default();
        tail.split(|&b| b == 0).next().unwrap_or_default().to_vec()
    };
    let path = |at: usize| PathBuf::from(OsStr::from_bytes(&text(at)));
    MountEntry {
        id: number(56).into(),
        parent: number(60).into(),
        device: DeviceId { major: number(16), minor: number(20) },
        root: path(104),
        mount_point: path(108),
        kind: String::from_utf8_lossy(&text(36)).into_owned(),
    }
}
