//! Headers as we write them: a ustar header, and a PAX header before it for what does not fit.
//!
//! Names are written as the bytes that they are, as GNU tar does, and go into a PAX record only when they are too
//! long. No user and group names, no times but mtime.

use super::header::BLOCK;
use crate::change::{Device, Time, Xattrs};

/// What a header says.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: u8,
    pub(super) link: &'a [u8],
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) device: Device,
    pub(super) xattrs: &'a Xattrs,
}

impl Fields<'_> {
    /// Appends the header, with everything that stands before it, to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut records = Vec::new();
        let mut binary = false;
        let mut text = |key: &[u8], value: &[u8], records: &mut Vec<u8>| {
            binary |= std::str::from_utf8(value).is_err();
            record(records, key, value);
        };
        let mut header = Block::new(self.kind);
        // The order of the records is fixed: the same entry gives the same bytes.
        let split = split(self.name);
        match split {
            Some((prefix, name)) => {
                header.put(0, name);
                header.put(345, prefix);
            }
            None => {
                text(b"path", self.name, &mut records);
                // For programs that know no PAX: the end of the name, which says most.
                header.put(0, self.name.get(self.name.len().saturating_sub(100)..).unwrap_or_default());
            }
        }
        if self.link.len() > 100 {
            text(b"linkpath", self.link, &mut records);
        }
        header.put(157, self.link.get(..100).unwrap_or(self.link));
        if binary {
            // POSIX wants UTF-8 in records unless told otherwise.
            let names = std::mem::take(&mut records);
            record(&mut records, b"hdrcharset", b"BINARY");
            records.extend(names);
        }
        header.octal(100, 8, u64::from(self.mode & 0o7777));
        if !header.octal(124, 12, self.size) {
            record(&mut records, b"size", self.size.to_string().as_bytes());
        }
        for (key, at, id) in [(b"uid", 108, self.uid), (b"gid", 116, self.gid)] {
            if !header.octal(at, 8, u64::from(id)) {
                record(&mut records, key, id.to_string().as_bytes());
            }
        }
        let seconds = u64::try_from(self.mtime.seconds).unwrap_or_default();
        let fits = header.octal(136, 12, seconds);
        if !fits || self.mtime.seconds < 0 || self.mtime.nanos != 0 {
            record(&mut records, b"mtime", decimal(self.mtime).as_bytes());
        }
        header.octal(329, 8, u64::from(self.device.major));
        header.octal(337, 8, u64::from(self.device.minor));
        for (key, value) in self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &*escaped(key)].concat(), value);
        }
        if !records.is_empty() {
            let mut extension = Block::new(b'x');
            extension.put(0, b"PaxHeaders.0/entry");
            extension.octal(100, 8, 0o644);
            extension.octal(108, 8, 0);
            extension.octal(116, 8, 0);
            // Records of one entry are far below 8 GiB.
            extension.octal(124, 12, records.len() as u64);
            extension.octal(136, 12, 0);
            extension.finish(out);
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        header.finish(out);
    }
}

/// Splits a name into prefix and name where that is needed and possible.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The rest must not be empty, and the slash of a directory's end is part of it.
    let from = name.len().checked_sub(101)?;
    let slash = from + name.get(from..name.len() - 1)?.iter().position(|&b| b == b'/')?;
    (1..=155).contains(&slash).then(|| (name.get(..slash), name.get(slash + 1..))).and_then(|(a, b)| a.zip(b))
}

/// Appends `LENGTH KEY=VALUE\n`; the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds with a fraction: what is kept rounded down has to be turned around below zero.
fn decimal(time: Time) -> String {
    let (sign, seconds, nanos) = match (time.seconds, time.nanos) {
        (seconds, 0) => (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), 0),
        (seconds, nanos) if seconds < 0 => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (seconds, nanos) => ("", seconds.unsigned_abs(), nanos),
    };
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

/// An attribute's name in a record's key, where `=` would end it; as GNU tar spells it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(byte),
        }
    }
    out
}

/// A header that is being made.
struct Block([u8; BLOCK]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.put(156, &[kind]);
        block.put(257, b"ustar\x0000");
        block
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    /// Writes a number, or zero and says no where it does not fit.
    fn octal(&mut self, at: usize, width: usize, value: u64) -> bool {
        let digits = width - 1;
        let fits = value.checked_shr(3 * digits as u32).unwrap_or_default() == 0;
        let mut rest = if fits { value } else { 0 };
        let field = self.0.get_mut(at..at + digits).unwrap_or_default();
        for place in field.iter_mut().rev() {
            *place = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        fits
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|&b| u32::from(b)).sum();
        self.put(154, b"\0 ");
        self.octal(148, 7, u64::from(sum));
        out.extend_from_slice(&self.0);
    }
}
