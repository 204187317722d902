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
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
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
enum Dialect {
    V7,
    Ustar,
    Gnu,
    Pax,
}

/// What chance decides about one entry.
#[derive(Debug, Clone)]
struct Seed {
    kind: u8,
    parent: prop::sample::Index,
    name: Vec<u8>,
    dialect: Dialect,
    spelling: u8,
    numbers: u8,
    records: u8,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    data: Vec<u8>,
    other: prop::sample::Index,
    xattrs: BTreeMap<&'static str, Vec<u8>>,
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

/// The name as a producer might spell it.
fn spelled(path: &Path, seed: &Seed, is_directory: bool) -> Vec<u8> {
    let plain = path.to_bytes();
    if path.is_root() {
        // The oldest format knows a directory by its slash.
        return if seed.spelling & 1 == 0 || seed.dialect == Dialect::V7 {
            b"./".to_vec()
        } else {
            b".".to_vec()
        };
    }
    let mut name = match seed.spelling % 8 {
        0 | 1 => [b"./".as_slice(), &plain].concat(),
        2 => [b"/".as_slice(), &plain].concat(),
        3 => plain.split(|&b| b == b'/').collect::<Vec<_>>().join(&b"//"[..]),
        4 => plain.split(|&b| b == b'/').collect::<Vec<_>>().join(&b"/./"[..]),
        _ => plain,
    };
    if is_directory && (seed.spelling & 0x40 != 0 || seed.dialect == Dialect::V7) {
        name.push(b'/');
    }
    name
}

/// A sparse file: pieces of data, and its size.
struct Map {
    pieces: Vec<(u64, Vec<u8>)>,
    size: u64,
    form: u8,
}

impl Map {
    fn new(seed: &Seed) -> Self {
        let (mut at, mut pieces) = (0, Vec::new());
        for (index, piece) in seed.data.chunks(512.max(seed.data.len() / 30)).enumerate() {
            at += u64::from(piece[0]) * 512 + if index == 0 { 0 } else { 512 };
            pieces.push((at, piece.to_vec()));
            at = (at + piece.len() as u64).next_multiple_of(512);
        }
        let end = pieces.last().map_or(0, |(at, piece)| at + piece.len() as u64);
        Self { pieces, size: end + u64::from(seed.spelling) * 100, form: seed.numbers % 4 }
    }

    fn content(&self) -> Data {
        self.pieces.iter().fold(Data::hole(self.size), |data, (at, piece)| data.with(*at, piece))
    }

    fn stored(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(_, piece)| piece.clone()).collect()
    }

    /// Pairs of offset and length; the end of a file that ends in a hole has a pair of its own.
    fn pairs(&self) -> Vec<(u64, u64)> {
        let mut pairs: Vec<_> = self.pieces.iter().map(|(at, piece)| (*at, piece.len() as u64)).collect();
        if pairs.last().map_or(0, |(at, length)| at + length) < self.size || pairs.is_empty() {
            pairs.push((self.size, 0));
        }
        pairs
    }
}

/// The bytes of an entry with everything before it; none where the dialect cannot say it.
fn write(seed: &Seed, member: &mut Member, map: Option<&Map>, traits: &mut Traits) -> Option<Vec<u8>> {
    // Sparse files have forms of their own, attributes need records.
    let has_xattrs = !member.xattrs.is_empty();
    let dialect = match (map.map(|map| map.form), has_xattrs) {
        (Some(0), true) => return None,
        (Some(0), false) => Dialect::Gnu,
        (Some(_), _) | (None, true) => Dialect::Pax,
        // A link says what its target's entry said.
        (None, false) if member.kind == b'1' && member.mtime.1 != 0 => Dialect::Pax,
        (None, false) => seed.dialect,
    };
    let mut out = Vec::new();
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut record = |key: &str, value: Vec<u8>| records.push((key.into(), value));
    if dialect != Dialect::Pax {
        member.mtime.1 = 0;
        if let Change::Put(_, Entry::Inode(inode)) = &mut member.change {
            inode.meta.mtime.1 = 0;
        }
    }
    let stored = map.map_or_else(|| member.data.clone(), Map::stored);
    let mut flag = member.kind;
    if flag == b'0' && map.is_none() && (dialect == Dialect::V7 || seed.records & 2 != 0) {
        flag = 0;
    }
    let mut header = raw::raw(flag, "");
    if dialect == Dialect::V7 {
        if !matches!(member.kind, b'0' | b'1' | b'2' | b'5') {
            return None;
        }
        header = raw::raw(if member.kind == b'5' { 0 } else { flag }, "").v7();
    } else {
        header = if dialect == Dialect::Gnu { header.gnu() } else { header };
        if seed.records & 1 != 0 {
            header = header.at(265, "nobody").at(297, "nogroup");
        }
        if seed.records & 0xc0 == 0xc0 && dialect == Dialect::Gnu {
            traits.gnu_times = true;
            header = header.at(345, "00000000123\0").at(357, "00000000456\0");
        }
        header = header
            .at(329, format!("{:07o}\0", member.device.0))
            .at(337, format!("{:07o}\0", member.device.1));
    }
    // Names.
    let mut payload = stored;
    let name_in_record = dialect == Dialect::Pax && (seed.records & 4 != 0 || member.name.len() > 100);
    if map.is_some_and(|map| map.form == 3) {
        record("GNU.sparse.name", member.name.clone());
        traits.binary_record |= std::str::from_utf8(&member.name).is_err();
        header = header.at(0, "GNUSparseFile.0/stands-for-it");
    } else if name_in_record {
        record("path", member.name.clone());
        traits.binary_record |= std::str::from_utf8(&member.name).is_err();
        header = header.at(0, "stands-for-it");
    } else if member.name.len() <= 100 && !(dialect == Dialect::Gnu && seed.records & 4 != 0) {
        header = header.at(0, &member.name);
    } else if dialect == Dialect::Gnu {
        out.extend(raw::gnu_long(b'L', &member.name).bytes());
        header = header.at(0, &member.name[..member.name.len().min(100)]);
    } else if dialect == Dialect::Ustar {
        let (prefix, name) = (1..=155.min(member.name.len() - 2))
            .filter(|&at| member.name[at] == b'/' && at + 1 < member.name.len())
            .map(|at| (&member.name[..at], &member.name[at + 1..]))
            .find(|(prefix, name)| name.len() <= 100 && !name.starts_with(b"/") && !prefix.ends_with(b"/"))?;
        header = header.at(0, name).at(345, prefix);
    } else {
        return None;
    }
    if member.link.len() <= 100
        && !(dialect == Dialect::Pax && seed.records & 8 != 0 && !member.link.is_empty())
    {
        header = header.at(157, &member.link);
    } else if dialect == Dialect::Gnu {
        out.extend(raw::gnu_long(b'K', &member.link).bytes());
        header = header.at(157, &member.link[..100]);
    } else if dialect == Dialect::Pax {
        record("linkpath", member.link.clone());
        header = header.at(157, &member.link[..member.link.len().min(100)]);
        traits.binary_record |= std::str::from_utf8(&member.link).is_err();
    } else {
        return None;
    }
    // Numbers.
    header = header.at(100, small(member.mode.into(), seed.numbers)?);
    for (key, at, id) in [("uid", 108, member.uid), ("gid", 116, member.gid)] {
        match small(id.into(), seed.numbers) {
            Some(field) if !(dialect == Dialect::Pax && seed.records & 16 != 0) => {
                header = header.at(at, field)
            }
            _ if dialect == Dialect::Pax => record(key, id.to_string().into()),
            _ if dialect == Dialect::V7 => return None,
            _ => header = header.at(at, base256::<8>(id.into())),
        }
    }
    let (seconds, nanos) = member.mtime;
    if dialect == Dialect::Pax && (nanos != 0 || !(0..1 << 33).contains(&seconds) || seed.records & 32 != 0) {
        record("mtime", decimal(seconds, nanos).into());
    } else if (0..1 << 33).contains(&seconds) && !(dialect == Dialect::Gnu && seed.numbers & 64 != 0) {
        header = header.at(136, format!("{seconds:011o}\0"));
    } else if dialect == Dialect::V7 {
        return None;
    } else {
        header = header.at(136, base256::<12>(seconds));
    }
    if let Some(map) = map {
        let pairs = map.pairs();
        let list = pairs.iter().flat_map(|&(at, length)| [at, length]).map(|number| number.to_string());
        match map.form {
            0 => {
                header = header.at(156, "S").at(483, format!("{:011o}\0", map.size));
                let octal = |&(at, length): &(u64, u64)| format!("{at:011o}\0{length:011o}\0").into_bytes();
                for (index, pair) in pairs.iter().take(4).enumerate() {
                    header = header.at(386 + 24 * index, octal(pair));
                }
                let rest: Vec<_> = pairs.iter().skip(4).map(octal).collect();
                if !rest.is_empty() {
                    header = header.at(482, [1]);
                }
                let more = rest.chunks(21).count();
                let mut blocks = Vec::new();
                for (index, chunk) in rest.chunks(21).enumerate() {
                    let mut block = chunk.concat();
                    block.resize(512, 0);
                    block[504] = u8::from(index + 1 < more);
                    blocks.extend(block);
                }
                header = header.size(format!("{:011o}\0", payload.len()));
                payload = [blocks, payload].concat();
            }
            1 => {
                record("GNU.sparse.size", map.size.to_string().into());
                record("GNU.sparse.numblocks", pairs.len().to_string().into());
                for (at, length) in &pairs {
                    record("GNU.sparse.offset", at.to_string().into());
                    record("GNU.sparse.numbytes", length.to_string().into());
                }
            }
            2 => {
                record("GNU.sparse.size", map.size.to_string().into());
                record("GNU.sparse.numblocks", pairs.len().to_string().into());
                record("GNU.sparse.map", list.collect::<Vec<_>>().join(",").into());
            }
            _ => {
                record("GNU.sparse.major", "1".into());
                record("GNU.sparse.minor", "0".into());
                record("GNU.sparse.realsize", map.size.to_string().into());
                let mut front = format!("{}\n", pairs.len()).into_bytes();
                list.for_each(|number| front.extend(format!("{number}\n").bytes()));
                front.resize(front.len().next_multiple_of(512), 0);
                payload = [front, payload].concat();
            }
        }
    } else if dialect == Dialect::Pax && member.kind == b'0' && seed.numbers & 32 != 0 {
        record("size", payload.len().to_string().into());
        if seed.numbers & 16 != 0 {
            header = header.size(format!("{:011o}\0", 0));
        }
    } else if member.kind == b'0'
        && matches!(dialect, Dialect::Gnu | Dialect::Ustar)
        && seed.numbers & 48 == 48
    {
        header = header.size(base256::<12>(i64::try_from(payload.len()).unwrap()));
    }
    for (name, value) in &member.xattrs {
        record(&format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone());
    }
    if dialect == Dialect::Pax {
        record("atime", "1234.5".into());
        out.extend(raw::pax(&records).bytes());
    }
    out.extend(header.data(payload).bytes());
    Some(out)
}

/// A number in a field of eight bytes, in one of the spellings.
fn small(value: u64, spelling: u8) -> Option<String> {
    let field = match spelling % 5 {
        0 => format!("{value:06o} \0"),
        1 => format!("{value:>6o} \0"),
        2 => format!("{value:08o}"),
        _ => format!("{value:07o}\0"),
    };
    (field.len() == 8).then_some(field)
}

fn base256<const WIDTH: usize>(value: i64) -> [u8; WIDTH] {
    let mut field = [if value < 0 { 0xff } else { 0 }; WIDTH];
    field[WIDTH - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// A time as a PAX record holds it.
pub(crate) fn decimal(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (-1, nanos) => format!("-0.{:09}", 1_000_000_000 - nanos),
        (seconds, nanos) if seconds < 0 => format!("{}.{:09}", seconds + 1, 1_000_000_000 - nanos),
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}
