//! An entry of a generated archive as bytes, in the dialect and the spelling that chance decided.

use layerstore_testkit::hostile::raw;
use layerstore_testkit::model::Change;
use layerstore_testkit::{Data, Entry, Path};

use super::archives::{Dialect, Member, Seed, Traits};

/// The name as a producer might spell it.
pub(super) fn spelled(path: &Path, seed: &Seed, is_directory: bool) -> Vec<u8> {
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
pub(super) struct Map {
    pieces: Vec<(u64, Vec<u8>)>,
    size: u64,
    form: u8,
}

impl Map {
    pub(super) fn new(seed: &Seed) -> Self {
        let (mut at, mut pieces) = (0, Vec::new());
        for (index, piece) in seed.data.chunks(512.max(seed.data.len() / 30)).enumerate() {
            at += u64::from(piece[0]) * 512 + if index == 0 { 0 } else { 512 };
            pieces.push((at, piece.to_vec()));
            at = (at + piece.len() as u64).next_multiple_of(512);
        }
        let end = pieces.last().map_or(0, |(at, piece)| at + piece.len() as u64);
        Self { pieces, size: end + u64::from(seed.spelling) * 100, form: seed.numbers % 4 }
    }

    pub(super) fn content(&self) -> Data {
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
pub(super) fn write(
    seed: &Seed,
    member: &mut Member,
    map: Option<&Map>,
    traits: &mut Traits,
) -> Option<Vec<u8>> {
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
