//! Archives made of raw bytes, and what a reader makes of an archive.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test program uses a part")]

use layerstore_changeset::tar::Reader;
use layerstore_changeset::{Change, ChangeSource, Chunk, Code, Error, Limits};

use layerstore_testkit::hostile::raw as bytes;
pub use layerstore_testkit::hostile::raw::{Raw, archive, file, gnu_long, link, raw, record};

/// A PAX header with these records.
pub fn pax(records: &[(&str, &[u8])]) -> Raw {
    bytes::pax(records)
}

/// A directory, mode 0644 as any other entry.
pub fn dir(name: impl AsRef<[u8]>) -> Raw {
    raw(b'5', name)
}

/// A change with the data of its file; long holes are kept as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub change: Change,
    pub data: Option<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Data(Vec<u8>),
    Hole(u64),
}

impl Seen {
    /// The data with its holes filled.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.data.iter().flatten() {
            match piece {
                Piece::Data(data) => bytes.extend(data),
                Piece::Hole(count) => bytes.resize(bytes.len() + usize::try_from(*count).unwrap(), 0),
            }
        }
        bytes
    }
}

/// Reads what an archive holds; what was read before an error is there too.
pub fn read_partly(bytes: &[u8], limits: Limits) -> (Vec<Seen>, Vec<String>, Option<Error>) {
    let mut reader = Reader::new(bytes, limits);
    let mut seen = Vec::new();
    let result = (|| {
        while let Some(item) = reader.next()? {
            let mut pieces = Vec::new();
            if let Some(data) = item.data {
                while let Some(chunk) = data.next_chunk()? {
                    match (chunk, pieces.last_mut()) {
                        (Chunk::Data(more), Some(Piece::Data(last))) => last.extend(more),
                        (Chunk::Data(more), _) => pieces.push(Piece::Data(more.to_vec())),
                        (Chunk::Hole(count), _) => pieces.push(Piece::Hole(count)),
                    }
                }
                seen.push(Seen { change: item.change, data: Some(pieces) });
            } else {
                seen.push(Seen { change: item.change, data: None });
            }
        }
        Ok(())
    })();
    let warnings = reader.warnings().to_vec();
    (seen, warnings, result.and_then(|()| reader.finish().map(drop)).err())
}

pub fn read(bytes: &[u8]) -> Result<(Vec<Seen>, Vec<String>), Error> {
    match read_partly(bytes, Limits::default()) {
        (seen, warnings, None) => Ok((seen, warnings)),
        (_, _, Some(error)) => Err(error),
    }
}

/// The code that an archive is refused with, or the names of its entries as `kind path`.
pub fn outcome(bytes: &[u8]) -> Result<Vec<String>, Code> {
    let (seen, _) = read(bytes).map_err(|error| error.code().unwrap_or_else(|| panic!("{error}")))?;
    Ok(seen.iter().map(|seen| show(&seen.change)).collect())
}

pub fn show(change: &Change) -> String {
    use layerstore_changeset::Kind;
    match change {
        Change::Remove(path) => format!("remove {path}"),
        Change::Opaque(path) => format!("opaque {path}"),
        Change::Put(entry) => {
            let path = &entry.path;
            match &entry.kind {
                Kind::File { size } => format!("file {path} {size}"),
                Kind::Directory => format!("dir {path}"),
                Kind::Symlink { target } => format!("symlink {path} -> {}", target.escape_ascii()),
                Kind::HardLink { target } => format!("link {path} -> {target}"),
                Kind::Fifo => format!("fifo {path}"),
                Kind::CharDevice(device) => format!("char {path} {}:{}", device.major, device.minor),
                Kind::BlockDevice(device) => format!("block {path} {}:{}", device.major, device.minor),
                Kind::Socket => format!("socket {path}"),
            }
        }
    }
}

/// Reads an archive while taking a record, writes it again from the record and what was read, and compares. The
/// data of files that a later entry replaced is not there any more, as it would not be in a tree.
#[track_caller]
pub fn assert_record_gives_it_back(bytes: &[u8]) {
    use layerstore_changeset::record::{Recorder, assemble};
    use layerstore_changeset::{Kind, RelPath};
    let (seen, _) = read(bytes).unwrap();
    let tree: std::collections::HashMap<RelPath, Vec<u8>> = seen
        .iter()
        .filter(|seen| matches!(&seen.change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. })))
        .map(|seen| (seen.change.path().clone(), seen.bytes()))
        .collect();
    let recorder = Recorder::new(Vec::new()).unwrap();
    let done = Reader::recording(bytes, Limits::default(), recorder).finish().unwrap();
    let record = done.record.unwrap();
    let mut again = Vec::new();
    let mut open = |name: &[u8]| {
        let path = RelPath::clean(name)?;
        Ok(&**tree.get(&path).unwrap_or_else(|| panic!("{path} is no file of the tree")))
    };
    let length = assemble(&*record, &mut open, &mut again).unwrap();
    assert_eq!(length, bytes.len() as u64);
    assert!(again == bytes, "the record gives another archive");
}

/// The names of a listing by GNU tar or bsdtar, one in each line.
pub fn listed(listing: &[u8]) -> Vec<Vec<u8>> {
    listing.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(unescaped).collect()
}

/// Takes back the escapes of such listings.
pub fn unescaped(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let octal =
            tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        let letter = tail.first().and_then(|letter| b"abfnrtv\\\"?".iter().position(|l| l == letter));
        (rest, _) = match (first, octal, letter) {
            (b'\\', Some(byte), _) => (&tail[3..], out.push(byte)),
            (b'\\', None, Some(at)) => (&tail[1..], out.push(b"\x07\x08\x0c\n\r\t\x0b\\\"?"[at])),
            _ => (tail, out.push(*first)),
        };
    }
    out
}
