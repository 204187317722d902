//! Hostile layers: a corpus of archives made of raw bytes, each with what has to come of it.
//!
//! | class | about |
//! |---|---|
//! | A | names |
//! | B | symbolic links on the way |
//! | C | hard links |
//! | D | whiteouts and opaque marks |
//! | E | what two programs read differently: headers, extensions, sparse maps |
//! | F | kinds, owners, modes, times, attributes, replaced entries |
//! | G | much from little |
//! | H | the compressed stream around the archive |
//!
//! A case is refused with a stable code, or accepted, and then every driver shows the same tree: the one that
//! `trees.txt` holds for it, as what it adds to and takes from the [`lower`] layer that every case lies on. Some
//! archives aim at a directory outside the store, the *victim* ([`canary`]); nothing of it may ever change.
//!
//! Invariant: no tar library and nothing of the code under test makes these bytes.

pub mod attacker;
mod attributes;
pub mod canary;
mod framing;
mod headers;
mod links;
mod names;
mod odd;
pub mod raw;
mod sizes;
pub mod trees;

pub use sizes::{gzip, zstd};

use raw::{Raw, dir, file, hard, pax, raw as any, symlink};

/// What has to come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Refused with this stable code.
    Refused(&'static str),
    /// Taken, with the tree that [`trees::expected`] gives.
    Accepted,
    /// Where file systems or privileges differ: taken, or refused with one of these codes; never anything else.
    Either(&'static [&'static str]),
}

/// One hostile layer.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: class, number, what it is.
    pub name: &'static str,
    /// What has to come of it.
    pub expected: Expected,
    /// Whether it makes much from little: ten seconds are allowed then, otherwise one.
    pub is_bomb: bool,
    /// Whether reading the result to its end takes long, so that only its size is to be looked at.
    pub is_heavy_to_read: bool,
    make: fn(&[u8]) -> Vec<u8>,
}

impl Case {
    /// The layer as a registry would give it: a tar, plain or compressed. `victim` is the absolute path of the
    /// directory that it aims at.
    pub fn layer(&self, victim: &[u8]) -> Vec<u8> {
        (self.make)(victim)
    }

    /// The class, `A` to `H`.
    pub fn class(&self) -> char {
        self.name.chars().next().unwrap_or('?')
    }

    const fn bomb(mut self) -> Self {
        self.is_bomb = true;
        self
    }

    const fn heavy_to_read(mut self) -> Self {
        self.is_heavy_to_read = true;
        self
    }
}

const fn case(name: &'static str, expected: Expected, make: fn(&[u8]) -> Vec<u8>) -> Case {
    Case { name, expected, is_bomb: false, is_heavy_to_read: false, make }
}

const fn refuse(name: &'static str, code: &'static str, make: fn(&[u8]) -> Vec<u8>) -> Case {
    case(name, Expected::Refused(code), make)
}

const fn accept(name: &'static str, make: fn(&[u8]) -> Vec<u8>) -> Case {
    case(name, Expected::Accepted, make)
}

const fn either(name: &'static str, codes: &'static [&'static str], make: fn(&[u8]) -> Vec<u8>) -> Case {
    case(name, Expected::Either(codes), make)
}

/// Every case, in order.
pub fn all() -> impl Iterator<Item = &'static Case> + Clone {
    [
        names::NAMES,
        names::LINKS_ON_THE_WAY,
        links::HARD_LINKS,
        links::WHITEOUTS,
        headers::FIELDS,
        headers::SPARSE,
        attributes::CASES,
        sizes::CASES,
        framing::CASES,
        odd::NAMES,
        odd::FIELDS,
        odd::SPARSE,
        odd::ATTRIBUTES,
        odd::STREAMS,
    ]
    .into_iter()
    .flatten()
}

/// The layer that every case lies on.
pub fn lower() -> Vec<u8> {
    let at = |entry: Raw| entry.mtime(1);
    raw::archive(&[
        at(dir("./")),
        at(dir("etc")),
        at(file("etc/passwd", "root:x:0:0::/:/bin/sh\n")),
        at(file("etc/group", "root:x:0:\n")),
        at(dir("etc/ssl")),
        at(file("etc/ssl/cert", "certificate\n")),
        at(dir("usr")),
        at(dir("usr/lib")),
        at(file("usr/lib/libc", "libc\n").mode(0o755)),
        at(dir("usr/lib/sub")),
        at(file("usr/lib/sub/f", "f\n")),
        at(symlink("lib", "usr/lib")),
        at(symlink("abs", "/usr/lib")),
        at(symlink("up", "../../..")),
        at(symlink("dangling", "nowhere/below")),
        at(symlink("loop1", "loop2")),
        at(symlink("loop2", "loop1")),
        at(dir("secret").mode(0o700)),
        at(file("secret/key", "key\n").mode(0o600)),
        at(dir("group")),
        at(file("group/one", "shared\n")),
        at(hard("group/two", "group/one")),
        at(any(b'6', "pipe")),
        // Directories whose times come after what was put into them.
        at(dir("etc")),
        at(dir("./")),
    ])
}

/// A symbolic link, whatever the length of its target.
fn points(name: &str, target: &[u8]) -> Vec<Raw> {
    vec![pax(&[("linkpath", target)]), symlink(name, "")]
}

/// A file, whatever the length of its name.
fn far(name: &[u8], data: &str) -> Vec<Raw> {
    vec![pax(&[("path", name)]), file("f", data)]
}
