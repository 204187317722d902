//! Setting owner, mode, xattrs and time of what was created, with as few calls as it takes.
//!
//! The order is: owner (it clears set-user-id bits and file capabilities), mode, xattrs, time. Invariant: nothing
//! here follows a symlink.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use layerstore_sys::xattr::{self, On};
use layerstore_sys::{Dir, Errno, File, Stat, Timestamp};

use super::data::{EARLY, begin_write_back};
use crate::change::{Metadata, Time};
use crate::context::Context;
use crate::encoding::xattr::{ACL_ACCESS, ACL_DEFAULT, CAPABILITY, is_reserved};
use crate::error::{Code, Error, Result};

/// Most warnings that are kept; the rest are counted.
const MAX_WARNINGS: usize = 100;

/// What a directory gives to what is created in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    /// Nothing but what the process has: its ids, its umask.
    Nothing,
    /// Perhaps its group or its default ACL: every attribute has to be set explicitly.
    Something,
}

/// What the process gives to what it creates, and what went wrong without being an error.
#[derive(Debug)]
pub(crate) struct Attributes {
    uid: u32,
    gid: u32,
    umask: u32,
    /// Whether the data of complete files is sent to the disk.
    write_back: bool,
    warnings: Mutex<BTreeMap<u64, String>>,
    more_warnings: AtomicU64,
    reserved: AtomicU64,
}

/// The time as system calls take it.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp { seconds: time.seconds, nanos: time.nanos }
}

impl Attributes {
    pub(crate) fn new(context: &Context) -> Result<Self> {
        let (uid, gid) = layerstore_sys::process::effective_ids();
        Ok(Self {
            uid,
            gid,
            umask: layerstore_sys::process::umask()?,
            write_back: context.wants_write_back(),
            warnings: Mutex::default(),
            more_warnings: AtomicU64::new(0),
            reserved: AtomicU64::new(u64::MAX),
        })
    }

    /// Notes a warning about the entry with this number in the stream.
    pub(crate) fn warn(&self, entry: u64, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        // The first ones of the stream are kept, whichever thread was first to meet them.
        let joined = match warnings.remove(&entry) {
            Some(earlier) if earlier.len() > 4096 => earlier,
            Some(earlier) => format!("{earlier}; {text}"),
            None => text,
        };
        warnings.insert(entry, joined);
        if warnings.len() > MAX_WARNINGS {
            warnings.pop_last();
            self.more_warnings.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The warnings, in the order of the stream.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        let warnings = self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<String> = warnings.into_values().collect();
        let more = self.more_warnings.into_inner();
        if more > 0 {
            list.push(format!("{more} more entries with warnings"));
        }
        list
    }

    /// Leaves reserved xattrs out, with one warning for all.
    pub(crate) fn drop_reserved(&self, entry: u64, name: &impl std::fmt::Display, metadata: &mut Metadata) {
        let before = metadata.xattrs.len();
        let mut first = None;
        metadata.xattrs.retain(|key, _| {
            let keep = !is_reserved(key);
            if !keep && first.is_none() {
                first = Some(key.escape_ascii().to_string());
            }
            keep
        });
        if metadata.xattrs.len() != before
            && self.reserved.compare_exchange(u64::MAX, entry, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let first = first.unwrap_or_default();
            self.warn(
                entry,
                format!(
                    "reserved extended attributes of the layer were left out, the first is {first} of {name}"
                ),
            );
        }
    }

    /// What a directory gives to its new entries.
    pub(crate) fn gives(&self, uid_gid_mode: (u32, u32, u32), has_default_acl: bool) -> Gives {
        let (_, gid, mode) = uid_gid_mode;
        if has_default_acl || mode & 0o2000 != 0 || gid != self.gid {
            Gives::Something
        } else {
            Gives::Nothing
        }
    }

    /// As [`gives`](Self::gives), for a directory as it lies on disk.
    pub(crate) fn dir_gives(&self, dir: &Dir, stat: &Stat) -> Result<Gives> {
        if self.gives((stat.uid, stat.gid, stat.mode), false) == Gives::Something {
            return Ok(Gives::Something);
        }
        let acl = xattr::get(On::Dir(dir), ACL_DEFAULT)?;
        Ok(if acl.is_some() { Gives::Something } else { Gives::Nothing })
    }

    /// Sets everything on a file that was just created with `mode & 0o777` and has its data, `size` bytes.
    pub(crate) fn finish_file(
        &self,
        file: &File,
        metadata: &Metadata,
        size: u64,
        gives: Gives,
        entry: u64,
    ) -> Result<()> {
        let explicit = gives == Gives::Something;
        let chown = explicit || (metadata.uid, metadata.gid) != (self.uid, self.gid);
        if chown {
            file.set_owner(metadata.uid, metadata.gid).map_err(|error| owner_error(error, metadata))?;
        }
        if explicit {
            forget_acl(On::File(file), ACL_ACCESS)?;
        }
        if explicit || metadata.mode & (self.umask | 0o7000) != 0 {
            file.set_mode(metadata.mode & 0o7777)?;
        }
        self.set_xattrs(On::File(file), metadata, entry)?;
        file.set_mtime(timestamp(metadata.mtime))?;
        if self.write_back && size >= EARLY {
            begin_write_back(file);
        }
        Ok(())
    }

    /// The mode that a directory is created with: its own where the process can go on working in it then.
    pub(crate) fn first_mode(metadata: &Metadata) -> u32 {
        if metadata.mode & 0o700 == 0o700 { metadata.mode & 0o777 } else { 0o700 }
    }

    /// Sets everything but the time on a directory that was just created with [`first_mode`](Self::first_mode).
    pub(crate) fn finish_dir(&self, dir: &Dir, metadata: &Metadata, gives: Gives, entry: u64) -> Result<()> {
        if gives == Gives::Something || (metadata.uid, metadata.gid) != (self.uid, self.gid) {
            dir.set_owner(b".", metadata.uid, metadata.gid).map_err(|error| owner_error(error, metadata))?;
        }
        if gives == Gives::Something {
            forget_acl(On::Dir(dir), ACL_DEFAULT)?;
            forget_acl(On::Dir(dir), ACL_ACCESS)?;
        }
        let made = Self::first_mode(metadata) & !self.umask;
        if gives == Gives::Something || made != metadata.mode & 0o7777 {
            dir.set_mode_self(metadata.mode & 0o7777)?;
        }
        self.set_xattrs(On::Dir(dir), metadata, entry)
    }

    /// Gives a directory that is there other attributes, but the time: `keep` says which xattrs are not the
    /// entry's and stay.
    pub(crate) fn replace_dir(
        &self,
        dir: &Dir,
        metadata: &Metadata,
        keep: impl Fn(&[u8]) -> bool,
        entry: u64,
    ) -> Result<()> {
        dir.set_owner(b".", metadata.uid, metadata.gid).map_err(|error| owner_error(error, metadata))?;
        for name in xattr::list(On::Dir(dir))? {
            if !keep(&name) && !metadata.xattrs.contains_key(name.as_slice()) {
                match xattr::remove(On::Dir(dir), &name) {
                    Err(error) if !may_lack(&error) => return Err(error.into()),
                    _ => {}
                }
            }
        }
        dir.set_mode_self(metadata.mode & 0o7777)?;
        self.set_xattrs(On::Dir(dir), metadata, entry)
    }

    /// Sets everything on a symlink, fifo, device or socket that was just created.
    pub(crate) fn finish_node(
        &self,
        dir: &Dir,
        name: &[u8],
        metadata: &Metadata,
        gives: Gives,
        is_symlink: bool,
        entry: u64,
    ) -> Result<()> {
        let explicit = gives == Gives::Something;
        if explicit || (metadata.uid, metadata.gid) != (self.uid, self.gid) {
            dir.set_owner(name, metadata.uid, metadata.gid).map_err(|error| owner_error(error, metadata))?;
        }
        if !is_symlink {
            if explicit {
                forget_acl(On::Entry(dir, name), ACL_ACCESS)?;
            }
            if explicit || metadata.mode & (self.umask | 0o7000) != 0 {
                dir.set_mode_nofollow(name, metadata.mode & 0o7777)?;
            }
        }
        self.set_xattrs(On::Entry(dir, name), metadata, entry)?;
        dir.set_mtime(name, timestamp(metadata.mtime))?;
        Ok(())
    }

    fn set_xattrs(&self, on: On<'_>, metadata: &Metadata, entry: u64) -> Result<()> {
        for (name, value) in &metadata.xattrs {
            if value.is_empty() && **name == *CAPABILITY {
                // The kernel looks at the form of those only that are not empty (`vfs_setxattr`). It stores this one,
                // and then nobody can read it, nor may an overlay copy the file up.
                let reason = "the extended attribute security.capability is empty";
                return Err(Error::refused(Code::BadXattr, unquoted(&on.shown()), reason));
            }
            match xattr::set(on, name, value) {
                Ok(()) => {}
                Err(error) if may_lack(&error) => self
                    .warn(entry, format!("extended attribute {} was left out: {error}", name.escape_ascii())),
                Err(error) => return Err(refused_xattr(error, on, name, value)),
            }
        }
        Ok(())
    }
}

/// Tells what the layer did wrong from what the system did: an attribute may be malformed (an ACL or a file
/// capability that says nothing, a namespace without a name), or too large for this file system, which ext4 and
/// btrfs call `ENOSPC`.
fn refused_xattr(error: layerstore_sys::Error, on: On<'_>, name: &[u8], value: &[u8]) -> Error {
    /// So much space and a full disk is not the reason.
    const ROOM: u64 = 16 << 20;
    let shown = name.escape_ascii();
    match error.errno() {
        Errno::INVAL => Error::refused(
            Code::BadXattr,
            unquoted(&on.shown()),
            format!("the kernel takes the extended attribute {shown} for malformed"),
        ),
        Errno::TOOBIG | Errno::RANGE | Errno::NAMETOOLONG => too_big(on, name, value),
        Errno::NOSPC if on.free_space().is_some_and(|free| free > ROOM) => too_big(on, name, value),
        _ => error.into(),
    }
}

fn too_big(on: On<'_>, name: &[u8], value: &[u8]) -> Error {
    let shown = name.escape_ascii();
    let reason = format!(
        "the file system has no room for the extended attribute {shown} of {} bytes beside the others",
        value.len()
    );
    Error::refused(Code::XattrTooBig, unquoted(&on.shown()), reason)
}

/// The name of an entry out of what messages of system calls show, where it stands in quotes: a refusal escapes its name
/// by itself.
fn unquoted(shown: &str) -> &str {
    let behind = shown.split_once('"').map(|(_, rest)| rest);
    behind.and_then(|rest| rest.rsplit_once('"')).map_or(shown, |(name, _)| name)
}

/// Removes an ACL that an entry got from its directory.
fn forget_acl(on: On<'_>, name: &[u8]) -> Result<()> {
    match xattr::remove(on, name) {
        Err(error) if !may_lack(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether the process may not, or the file system cannot, have such an attribute here.
fn may_lack(error: &layerstore_sys::Error) -> bool {
    matches!(error.errno(), Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)
}

/// An id that the user namespace does not map is `EINVAL`.
fn owner_error(error: layerstore_sys::Error, metadata: &Metadata) -> Error {
    if error.errno() == Errno::INVAL {
        let reason = format!(
            "owner {}:{} is not mapped in this user namespace; give the user more ids in /etc/subuid and \
             /etc/subgid",
            metadata.uid, metadata.gid
        );
        return Error::refused(Code::IdUnmapped, unquoted(error.subject()), reason);
    }
    error.into()
}
