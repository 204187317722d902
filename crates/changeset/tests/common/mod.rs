//! Archives made of raw bytes, by no tar library, and what a reader makes of an archive.
#![allow(dead_code, unreachable_pub)]

use layerstore_changeset::tar::Reader;
use layerstore_changeset::{Change, ChangeSource, Chunk, Code, Error, Limits};

/// A header that is being made, and the payload after it.
#[derive(Clone)]
pub struct Raw {
    block: [u8; 512],
    payload: Vec<u8>,
    fixed_size: bool,
}

pub fn raw(kind: u8, name: impl AsRef<[u8]>) -> Raw {
    let mut raw = Raw { block: [0; 512], payload: Vec::new(), fixed_size: false };
    raw = raw
        .at(0, name)
        .at(100, "0000644\0")
        .at(108, "0000000\0")
        .at(116, "0000000\0")
        .at(136, "00000000000\0");
    raw.at(156, [kind]).at(257, "ustar\x0000").at(329, "0000000\0").at(337, "0000000\0")
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Raw {
    raw(b'0', name).data(data)
}

pub fn dir(name: impl AsRef<[u8]>) -> Raw {
    raw(b'5', name)
}

pub fn link(kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    raw(kind, name).at(157, target)
}

impl Raw {
    pub fn at(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.block[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }
    pub fn gnu(self) -> Self {
        self.at(257, "ustar  \0")
    }
    pub fn v7(self) -> Self {
        self.at(257, [0; 255])
    }
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.payload = data.as_ref().to_vec();
        self
    }
    /// The size as it stands in the header, whatever the payload's is.
    pub fn size(mut self, field: impl AsRef<[u8]>) -> Self {
        self.fixed_size = true;
        self.at(124, [0; 12]).at(124, field)
    }
    pub fn bytes(mut self) -> Vec<u8> {
        if !self.fixed_size {
            let size = format!("{:011o}\0", self.payload.len());
            self = self.at(124, size);
        }
        self = self.at(148, "        ");
        let sum: u32 = self.block.iter().map(|&b| u32::from(b)).sum();
        self = self.at(148, format!("{sum:06o}\0 "));
        let mut bytes = self.block.to_vec();
        bytes.extend(&self.payload);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = [b" ", key.as_ref(), b"=", value.as_ref(), b"\n"].concat();
    let length =
        (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap() + rest.len();
    [length.to_string().as_bytes(), &rest].concat()
}

/// A PAX header with these records.
pub fn pax(records: &[(&str, &[u8])]) -> Raw {
    raw(b'x', "PaxHeaders/x")
        .data(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

pub fn gnu_long(kind: u8, text: &[u8]) -> Raw {
    raw(kind, "././@LongLink").gnu().data([text, b"\0"].concat())
}

/// The entries one after the other, with the end mark.
pub fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.clone().bytes()).collect();
    bytes.extend([0; 1024]);
    bytes
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
