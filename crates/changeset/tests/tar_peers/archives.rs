//! Archives that are well-formed by construction, made of raw bytes, with what they mean.
//!
//! Each entry is written in one of the dialects, in one of the spellings that producers use: names with `./` or `/`
//! in front, in prefix and name, in PAX records or GNU long names; numbers in octal with this or that end, in
//! base-256, in records; sparse files in all four forms. A name may come again, a directory after its children,
//! parents may be missing. What readers do not agree on by design is not in here: [`Traits`] says the rest.

use std::collections::{BTreeMap, BTreeSet};

use layerstore_testkit::build;
use layerstore_testkit::hostile::raw;
use layerstore_testkit::model::Change;
use layerstore_testkit::{Data, Entry, Inode, Kind, Path};
use proptest::collection::vec;
use proptest::prelude::*;

use super::spelling::{Map, spelled, write};

/// An entry as it stands in the archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The name as it is spelled.
    pub(crate) name: Vec<u8>,
    /// The type flag of a reader's listing: `0` to `6`.
    pub(crate) kind: u8,
    /// The link's target as it is spelled.
    pub(crate) link: Vec<u8>,
    /// The mode in the header.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    /// The file's content, holes filled.
    pub(crate) data: Vec<u8>,
    /// What stands in records; a hard link's are its target's: who sets the owner again loses capabilities.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it means.
    pub(crate) change: Change,
}

/// What some reader is known to do in another way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traits {
    /// Something that is no directory comes again under its name.
    pub(crate) replaces: bool,
    /// A hard link to a symbolic link.
    pub(crate) links_a_symlink: bool,
    /// A hard link whose parent is missing.
    pub(crate) links_below_missing: bool,
    /// A PAX record holds a name that is not UTF-8.
    pub(crate) binary_record: bool,
    /// A GNU header holds other times, where POSIX has the prefix.
    pub(crate) gnu_times: bool,
    /// The names of one directory are spelled in several ways.
    pub(crate) mixed_spelling: bool,
    /// A directory of the oldest format (no type, a slash at the end) comes after an extension header.
    pub(crate) extended_old_directory: bool,
    /// A time before 1970 with a fraction.
    pub(crate) negative_fraction: bool,
}

#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) bytes: Vec<u8>,
    pub(crate) members: Vec<Member>,
    pub(crate) traits: Traits,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?}", self.traits)?;
        for member in &self.members {
            writeln!(
                f,
                "\"{}\" -> \"{}\": {:?}",
                member.name.escape_ascii(),
                member.link.escape_ascii(),
                member.change
            )?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
    Pax,
}

/// What chance decides about one entry.
#[derive(Debug, Clone)]
pub(super) struct Seed {
    pub(super) kind: u8,
    pub(super) parent: prop::sample::Index,
    pub(super) name: Vec<u8>,
    pub(super) dialect: Dialect,
    pub(super) spelling: u8,
    pub(super) numbers: u8,
    pub(super) records: u8,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: (i64, u32),
    pub(super) data: Vec<u8>,
    pub(super) other: prop::sample::Index,
    pub(super) xattrs: BTreeMap<&'static str, Vec<u8>>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let long = prop::sample::select(vec![99_usize, 100, 101, 154, 155, 156, 254, 255]);
    let odd = vec![
        b"not \xff\xfe utf-8".to_vec(),
        "grüße-€".into(),
        b"new\nline".to_vec(),
        b"back\\slash \\101".to_vec(),
        b"a -> b".to_vec(),
        b" link to ".to_vec(),
        b" ".to_vec(),
        b"-".to_vec(),
        b"--help".to_vec(),
        b"...".to_vec(),
        b"..a".to_vec(),
        b".wha".to_vec(),
        b"\"quoted\"'".to_vec(),
        b"\x01\x7f\t".to_vec(),
        b"a=b%3D".to_vec(),
        b"@LongLink".to_vec(),
    ];
    let component = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(|name| name.into()),
        2 => prop::sample::select(odd),
        2 => (long, any::<u8>()).prop_map(|(length, byte)| vec![b'a' + byte % 3; length]),
    ];
    vec(component, 1..=3).prop_map(|parts| parts.join(&b'/'))
}

fn seed() -> impl Strategy<Value = Seed> {
    let dialect = prop::sample::select(vec![Dialect::V7, Dialect::Ustar, Dialect::Gnu, Dialect::Pax]);
    let id = || prop_oneof![Just(0), 1..3000_u32, Just(0o7_777_777), Just(0o10_000_000), Just(u32::MAX - 1)];
    let seconds = prop_oneof![
        3 => 0..1_700_000_000_i64,
        1 => Just((1 << 33) - 1),
        1 => (1_i64 << 33)..(1 << 40),
        1 => -2_000_000_000..0_i64,
    ];
    let nanos = prop_oneof![Just(0), Just(999_999_999), Just(100_000_000), 1..1_000_000_000_u32];
    let length = prop_oneof![Just(0_usize), Just(1), Just(511), Just(512), Just(513), 0..3000_usize];
    let data = (any::<u64>(), length).prop_map(|(seed, length)| layerstore_testkit::noise(seed, length));
    let xattr = prop::sample::select(vec!["user.a", "user.b.c", "user.\u{e9}", "trusted.t"]);
    let xattrs = prop::collection::btree_map(xattr, vec(any::<u8>(), 0..40), 0..3);
    (
        (0..20_u8, any::<prop::sample::Index>(), name(), dialect),
        (any::<u8>(), any::<u8>(), any::<u8>(), 0..=0o7777_u32),
        ((id(), id()), (seconds, nanos), data, any::<prop::sample::Index>(), xattrs),
    )
        .prop_map(
            |(
                (kind, parent, name, dialect),
                (spelling, numbers, records, mode),
                (owner, mtime, data, other, xattrs),
            )| {
                Seed {
                    kind,
                    parent,
                    name,
                    dialect,
                    spelling,
                    numbers,
                    records,
                    mode,
                    owner,
                    mtime,
                    data,
                    other,
                    xattrs,
                }
            },
        )
}

/// A whole archive.
pub(crate) fn archive() -> impl Strategy<Value = Archive> {
    (vec(seed(), 1..12), 0..4_u8, 0..4_u8).prop_filter_map("an entry", |(seeds, end, spelling)| {
        let mut build = Builder::default();
        build.traits.mixed_spelling = spelling == 3;
        if end == 3 {
            build.bytes.extend(raw::global(&[("comment", b"0123456789abcdef")]).bytes());
        }
        for mut seed in seeds {
            // Most producers have one way.
            if spelling < 3 {
                seed.spelling = seed.spelling & !7 | [0, 2, 7][usize::from(spelling)];
            }
            build.add(seed);
        }
        // Python takes an archive of nothing for no archive.
        build.members.first()?;
        build.bytes.extend([0; 1024]);
        if end > 0 {
            let blocked = build.bytes.len().next_multiple_of(10240);
            build.bytes.resize(blocked, 0);
        }
        Some(Archive { bytes: build.bytes, members: build.members, traits: build.traits })
    })
}

#[derive(Default)]
struct Builder {
    bytes: Vec<u8>,
    members: Vec<Member>,
    traits: Traits,
    directories: BTreeSet<Path>,
    /// What is no directory, by name: its entry's place in `members`.
    others: BTreeMap<Path, usize>,
}

impl Builder {
    fn add(&mut self, seed: Seed) {
        let parents: Vec<_> = [Path::root()].into_iter().chain(self.directories.iter().cloned()).collect();
        let mut path = seed.parent.get(&parents).clone();
        let is_root = seed.kind == 0 && path.is_root() && seed.numbers & 1 == 0;
        for part in seed.name.split(|&b| b == b'/').filter(|_| !is_root) {
            path = path.join(part);
        }
        let is_directory = seed.kind < 5;
        // What would have to replace a directory, or go through what is none, is not common ground.
        let blocked =
            if is_directory { self.others.contains_key(&path) } else { self.directories.contains(&path) };
        if blocked
            || path.ancestors().any(|above| self.others.contains_key(&above))
            || path.to_bytes().len() > 900
        {
            return;
        }
        let Some((mut member, map)) = self.member(&seed, &path) else { return };
        let Some(bytes) = write(&seed, &mut member, map.as_ref(), &mut self.traits) else { return };
        let old = member.kind == b'5' && bytes.iter().rev().nth(511 - 156) == Some(&0);
        let extended = bytes.len() > 512 || (self.members.is_empty() && !self.bytes.is_empty());
        self.traits.extended_old_directory |= old && extended;
        let missing = path
            .ancestors()
            .any(|above| !above.is_root() && above != path && !self.directories.contains(&above));
        self.traits.links_below_missing |= missing && member.kind == b'1';
        self.bytes.extend(bytes);
        let at = self.members.len();
        if is_directory {
            self.directories.insert(path.clone());
        } else {
            self.traits.replaces |= self.others.insert(path.clone(), at).is_some();
        }
        self.directories.extend(path.ancestors().filter(|above| !above.is_root() && *above != path));
        self.traits.mixed_spelling |= is_directory
            && self.members.iter().any(|other| other.change.path() == &path && other.name != member.name);
        self.traits.negative_fraction |= member.mtime.0 < 0 && member.mtime.1 != 0;
        self.members.push(member);
    }

    fn member(&mut self, seed: &Seed, path: &Path) -> Option<(Member, Option<Map>)> {
        let mut map = None;
        let mut device = (0, 0);
        let kind = match seed.kind {
            0..=4 => Kind::Dir,
            5..=10 => Kind::File(Data::new(&seed.data)),
            11 | 12 => {
                let made = Map::new(seed);
                let content = made.content();
                map = Some(made);
                Kind::File(content)
            }
            13 | 14 => Kind::Symlink(match seed.numbers % 4 {
                0 => b"/nowhere/absolute".to_vec(),
                1 => b"../up/../and/../up".to_vec(),
                2 => vec![b't'; 90 + usize::from(seed.numbers)],
                _ => seed.name.clone(),
            }),
            15 | 16 => return self.hard_link(seed, path).map(|member| (member, None)),
            17 => Kind::Fifo,
            18 => {
                device = (u32::from(seed.numbers) * 16, 1 + u32::from(seed.records) * 4000);
                Kind::Char(device.0, device.1)
            }
            _ => {
                device = (u32::from(seed.numbers), u32::from(seed.records));
                Kind::Block(device.0, device.1)
            }
        };
        let flag = match &kind {
            Kind::File(_) => b'0',
            Kind::Symlink(_) => b'2',
            Kind::Char(..) => b'3',
            Kind::Block(..) => b'4',
            Kind::Dir => b'5',
            _ => b'6',
        };
        let link = if let Kind::Symlink(target) = &kind { target.clone() } else { Vec::new() };
        let data = if let Kind::File(data) = &kind { data.to_vec() } else { Vec::new() };
        let mut inode =
            Inode::new(kind.clone()).owner(seed.owner.0, seed.owner.1).mtime(seed.mtime.0, seed.mtime.1);
        // A directory that is made below one with the set-group-id bit has it too, with GNU tar.
        let mode = if flag == b'5' { seed.mode & !0o2000 } else { seed.mode };
        if flag != b'2' {
            inode = inode.mode(mode);
        }
        // GNU tar leaves a directory that comes again the attributes of its first entry.
        let before = self.members.iter().rev().find(|other| flag == b'5' && other.change.path() == path);
        if let Some(before) = before {
            inode.meta.xattrs = before.xattrs.clone();
        } else if matches!(kind, Kind::File(_) | Kind::Dir) {
            for (name, value) in &seed.xattrs {
                inode = inode.xattr(name, value);
            }
        }
        if flag == b'0' && seed.spelling & 0x80 != 0 {
            inode = inode.xattr("security.capability", build::capability(1 << 10));
        }
        let name = spelled(path, seed, flag == b'5');
        let (uid, gid) = seed.owner;
        let xattrs = inode.meta.xattrs.clone();
        let change = build::put(path.clone(), inode);
        let mtime = seed.mtime;
        Some((Member { name, kind: flag, link, mode, uid, gid, mtime, device, data, xattrs, change }, map))
    }

    fn hard_link(&mut self, seed: &Seed, path: &Path) -> Option<Member> {
        let names: Vec<_> = self.others.iter().filter(|(name, _)| *name != path).collect();
        let (target, &at) = (!names.is_empty()).then(|| *seed.other.get(&names))?;
        // Its metadata is what the target's entry says: readers differ in whether they apply it.
        let other = &self.members[at];
        // Linking a name to the file that it is already is nothing to some, an error to others.
        if self.others.contains_key(path) {
            return None;
        }
        self.traits.links_a_symlink |= other.kind == b'2' || self.links_to_symlink(at);
        let other_spelling = if self.traits.mixed_spelling { seed.numbers } else { seed.spelling };
        let link = spelled(target, &Seed { spelling: other_spelling, ..seed.clone() }, false);
        Some(Member {
            name: spelled(path, seed, false),
            kind: b'1',
            link,
            data: Vec::new(),
            device: (0, 0),
            change: build::put(path.clone(), build::link(target.clone())),
            ..other.clone()
        })
    }

    fn links_to_symlink(&self, at: usize) -> bool {
        // The first name of a group came before; a name replaced since cannot be reached by it any more.
        matches!(&self.members[at].change, Change::Put(_, Entry::Link(_))) && self.traits.links_a_symlink
    }
}
