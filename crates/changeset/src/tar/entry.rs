//! What a header and its extensions mean together: one change, its metadata, and how its data is to be read.

use super::acl;
use super::header::{Format, Header};
use super::pax::Pax;
use crate::change::{Change, Device, Entry, Kind, Metadata, Time};
use crate::encoding::tar::{self as names, Name};
use crate::error::{Code, Error, Result};
use crate::path::RelPath;

/// Longest target of a symbolic link, in bytes (`PATH_MAX` without its NUL).
const MAX_TARGET: usize = 4095;
/// Linux has 12 bits of major and 20 bits of minor device numbers.
const MAX_MAJOR: u64 = (1 << 12) - 1;
const MAX_MINOR: u64 = (1 << 20) - 1;

/// Extension headers that wait for their entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// A PAX header.
    pub(super) pax: Option<Pax>,
    /// A GNU long name.
    pub(super) name: Option<Vec<u8>>,
    /// A GNU long link target.
    pub(super) link: Option<Vec<u8>>,
}

impl Extensions {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// A header and its extensions, read.
#[derive(Debug)]
pub(super) struct Meaning {
    /// The change.
    pub(super) change: Change,
    /// The name as the archive spells it.
    pub(super) name: Vec<u8>,
    /// What a person should know.
    pub(super) warning: Option<&'static str>,
}

/// The kinds of payload-bearing type flags.
fn is_file(kind: u8) -> bool {
    matches!(kind, b'0' | b'\0' | b'S')
}

/// The name of the entry as the archive spells it.
pub(super) fn raw_name(header: &Header, extensions: &mut Extensions, sparse: Option<Vec<u8>>) -> Vec<u8> {
    let pax = extensions.pax.as_mut().and_then(|pax| pax.path.take());
    sparse.or(pax).or_else(|| extensions.name.take()).unwrap_or_else(|| header.name())
}

/// Reads a header that is not an extension. `real_size` is the size of a sparse file.
///
/// # Errors
/// Whatever hostile-layers policy refuses about one entry by itself.
pub(super) fn read(
    header: &Header,
    mut extensions: Extensions,
    name: Vec<u8>,
    stored: u64,
    real_size: Option<u64>,
) -> Result<Meaning> {
    let path = RelPath::clean(&name)?;
    let mut pax = extensions.pax.take().unwrap_or_default();
    let target = pax
        .link_path
        .take()
        .or_else(|| extensions.link.take())
        .unwrap_or_else(|| header.link_name().to_vec());
    let kind = effective_kind(header, &name, stored)?;
    let marker = names::parse(&path)?;
    let change = |change| Ok(Meaning { change, name: name.clone(), warning: None });
    match marker {
        Name::Plain => {}
        Name::Whiteout(hidden) => {
            check_marker(kind, stored, &path)?;
            return change(Change::Remove(hidden));
        }
        Name::Opaque(directory) => {
            check_marker(kind, stored, &path)?;
            return change(Change::Opaque(directory));
        }
    }
    if path.is_root() && kind != b'5' {
        return Err(Error::refused(Code::RootTypeChange, &name, "the layer's root must stay a directory"));
    }
    let (kind, mut warning) = match kind {
        b'0' | b'S' => (Kind::File { size: real_size.unwrap_or(stored) }, None),
        b'1' => (Kind::HardLink { target: hard_link_target(&target, &path)? }, None),
        b'2' => (Kind::Symlink { target: symlink_target(target, &name)? }, None),
        b'3' | b'4' => {
            let device = device(header, &pax)?;
            (if kind == b'3' { Kind::CharDevice(device) } else { Kind::BlockDevice(device) }, None)
        }
        b'5' => (Kind::Directory, None),
        _ => (Kind::Fifo, None),
    };
    let metadata = metadata(header, pax, &mut warning)?;
    Ok(Meaning { change: Change::Put(Entry { path, kind, metadata }), name, warning })
}

/// The type flag, with old spellings resolved and what programs read differently refused.
fn effective_kind(header: &Header, name: &[u8], stored: u64) -> Result<u8> {
    let bad = |code, reason: &str| Err(Error::refused(code, name, reason));
    let kind = header.kind();
    match kind {
        // Before POSIX a directory was a file whose name ends in a slash.
        b'\0' | b'0' if name.ends_with(b"/") => {
            if stored > 0 || (kind == b'0' && header.format() != Format::V7) {
                return bad(Code::BadHeader, "a regular file whose name ends in a slash");
            }
            Ok(b'5')
        }
        b'\0' => Ok(b'0'),
        b'S' if header.format() != Format::Gnu => {
            bad(Code::BadSparse, "a GNU sparse file without GNU's magic")
        }
        b'0' | b'S' => Ok(kind),
        // POSIX lets a hard link carry data, and no two programs agree when it does: GNU tar, Go and Python read what
        // follows as the next header, unless a PAX header says the size, libarchive guesses. Nobody writes such a link.
        b'1' if stored > 0 => bad(Code::BadHeader, "a hard link with data, which programs read differently"),
        b'2'..=b'6' if stored > 0 => bad(Code::BadHeader, "an entry of this type has no data"),
        b'1'..=b'6' => Ok(kind),
        other => bad(Code::BadType, &format!("unknown type {:?}", char::from(other))),
    }
}

/// Whiteouts and opaque marks are empty files; aufs made them hard links of each other.
fn check_marker(kind: u8, stored: u64, path: &RelPath) -> Result<()> {
    let bad = |code, reason| Err(Error::refused(code, path.as_bytes(), reason));
    match kind {
        b'1' => Ok(()),
        b'5' => bad(Code::ReservedName, "a directory whose name is kept for whiteouts"),
        _ if !is_file(kind) => bad(Code::BadWhiteout, "a whiteout must be an empty regular file"),
        _ if stored > 0 => bad(Code::BadWhiteout, "a whiteout must be empty"),
        _ => Ok(()),
    }
}

fn hard_link_target(target: &[u8], path: &RelPath) -> Result<RelPath> {
    if target.is_empty() {
        return Err(Error::refused(Code::EmptyLink, path.as_bytes(), "hard link to nothing"));
    }
    let cleaned = RelPath::clean(target).map_err(|error| match error.code() {
        Some(Code::PathEscape) => Error::refused(
            Code::LinkEscape,
            path.as_bytes(),
            format!("hard link to {}, which climbs out of the layer's root", target.escape_ascii()),
        ),
        _ => error,
    })?;
    let refuse = |code, reason: String| Err(Error::refused(code, path.as_bytes(), reason));
    if cleaned.is_root() {
        return refuse(Code::LinkToDir, "hard link to the root directory".into());
    }
    if cleaned == *path {
        return refuse(Code::LinkSelf, "hard link to itself".into());
    }
    if names::holds_reserved(&cleaned) {
        return refuse(Code::ReservedName, format!("hard link to {cleaned}, a name kept for whiteouts"));
    }
    Ok(cleaned)
}

fn symlink_target(target: Vec<u8>, name: &[u8]) -> Result<Box<[u8]>> {
    if target.is_empty() {
        return Err(Error::refused(Code::EmptyLink, name, "symbolic link to nothing"));
    }
    if target.len() > MAX_TARGET {
        return Err(Error::refused(Code::LinkTooLong, name, "symbolic link's target is over 4095 bytes"));
    }
    Ok(target.into())
}

fn device(header: &Header, pax: &Pax) -> Result<Device> {
    let (major, minor) = match (pax.major, pax.minor) {
        (Some(major), Some(minor)) => (major, minor),
        (major, minor) => {
            let own = header.device()?;
            (major.unwrap_or(own.0), minor.unwrap_or(own.1))
        }
    };
    let fits = |value, most| u32::try_from(value).ok().filter(|_| value <= most);
    match (fits(major, MAX_MAJOR), fits(minor, MAX_MINOR)) {
        (Some(major), Some(minor)) => Ok(Device { major, minor }),
        _ => Err(Error::refused(
            Code::BadNumeric,
            header.name(),
            format!("device {major}/{minor} does not exist: Linux has 12 bits and 20 bits"),
        )),
    }
}

fn metadata(header: &Header, pax: Pax, warning: &mut Option<&'static str>) -> Result<Metadata> {
    let mut xattrs = pax.xattrs;
    let acls = [
        (&b"system.posix_acl_access"[..], pax.acl_access, true),
        (b"system.posix_acl_default", pax.acl_default, false),
    ];
    for (name, text, access) in acls {
        // The attribute itself, where it is there too, says more.
        let Some(text) = text.filter(|_| !xattrs.contains_key(name)) else { continue };
        match acl::to_xattr(&text) {
            Some(value) if access && acl::is_minimal(&value) => {}
            Some(value) => drop(xattrs.insert(name.into(), value.into())),
            None if text.trim_ascii().is_empty() => {}
            None => *warning = Some("an ACL that names users without their ids is left out"),
        }
    }
    if pax.nfs4_acl {
        *warning = Some("NFSv4 ACLs are left out");
    }
    if pax.reserved {
        *warning =
            Some("reserved extended attributes are left out: they belong to the host, not to the image");
    }
    Ok(Metadata {
        uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
        gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
        mode: u32::try_from(header.mode()? & 0o7777).unwrap_or_default(),
        mtime: match pax.mtime {
            Some(time) => time,
            None => Time { seconds: header.mtime()?, nanos: 0 },
        },
        xattrs,
    })
}
