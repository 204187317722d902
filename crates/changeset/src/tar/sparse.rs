//! Sparse files: which parts of the file are in the archive.
//!
//! | form | map |
//! |---|---|
//! | old GNU, type `S` | four entries in the header, 21 in each block after it |
//! | PAX 0.0 | pairs of `GNU.sparse.offset` and `GNU.sparse.numbytes` records |
//! | PAX 0.1 | `GNU.sparse.map`, numbers with commas |
//! | PAX 1.0 | decimal lines in front of the data, padded to a block |
//!
//! Invariant of a [`Map`]: segments are in order, do not overlap, lie within the file, and add up to exactly the
//! bytes that the archive holds. Memory is bounded by the bytes that the map takes in the archive, which are
//! limited like any extension header.

use std::io::{BufRead, Write};

use super::header::{BLOCK, number};
use super::input::{Input, truncated};
use super::pax::{decimal, path};
use crate::error::{Code, Error, Result};

/// Largest sparse file, in bytes: what ext4 holds, 16 TiB less a block. A claim beyond it would fail on one file
/// system and not on the other, and whoever reads such a file to its end reads for hours.
const MAX_SIZE: u64 = (1 << 44) - 4096;

/// A piece of data: where it lies in the file, and how long it is.
pub(super) type Segment = (u64, u64);

/// The map of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// Pieces of data with at least a byte.
    pub(super) segments: Vec<Segment>,
    /// The file's size, holes counted.
    pub(super) size: u64,
}

impl Map {
    /// Checks a map against the `stored` bytes of data in the archive.
    fn new(segments: Vec<Segment>, size: u64, stored: u64, name: &[u8]) -> Result<Self> {
        if size > MAX_SIZE {
            return Err(bad(name, "the file is larger than 16 TiB less 4 KiB"));
        }
        let mut end = 0;
        let mut sum: u64 = 0;
        for &(offset, length) in &segments {
            let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
            end = next.ok_or_else(|| bad(name, "segments overlap, are out of order, or lie past the end"))?;
            sum += length;
        }
        if sum != stored {
            return Err(bad(name, "segments do not add up to the size in the header"));
        }
        let segments = segments.into_iter().filter(|&(_, length)| length > 0).collect();
        Ok(Self { segments, size })
    }
}

/// Reads the rest of an old GNU map; `first` are the entries of the header. The blocks of the map do not count to
/// the entry's size.
pub(super) fn read_gnu<R: BufRead, W: Write + Send + 'static>(
    input: &mut Input<R, W>,
    (first, mut extended, size): (&[u8], bool, u64),
    stored: u64,
    name: &[u8],
    limit: u64,
) -> Result<Map> {
    let mut segments = Vec::new();
    let mut open = gnu_entries(first, &mut segments, name)?;
    let mut taken = 0;
    while extended {
        taken += BLOCK as u64;
        if taken > limit {
            return Err(Error::refused(Code::LimitExceeded, name, format!("sparse map over {limit} bytes")));
        }
        let block = input.block()?.ok_or_else(|| truncated(name))?;
        let (entries, rest) = block.split_at(21 * 24);
        extended = rest.first().is_some_and(|&flag| flag != 0);
        if !open {
            return Err(bad(name, "the map goes on after its end"));
        }
        open = gnu_entries(entries, &mut segments, name)?;
    }
    Map::new(segments, size, stored, name)
}

/// Reads entries up to the first empty one, and says whether there was none.
fn gnu_entries(entries: &[u8], segments: &mut Vec<Segment>, name: &[u8]) -> Result<bool> {
    for entry in entries.chunks_exact(24) {
        let (offset, length) = entry.split_at(12);
        if offset.first() == Some(&0) {
            return Ok(false);
        }
        let read = |field| number(field, false).ok().and_then(|value| u64::try_from(value).ok());
        let segment = read(offset).zip(read(length));
        segments.push(segment.ok_or_else(|| bad(name, "the map holds a bad number"))?);
    }
    Ok(true)
}

/// What the records of a PAX header say about a sparse file.
#[derive(Debug, Default)]
pub(super) struct Keys {
    present: bool,
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    map: Option<Vec<Segment>>,
    offset: Option<u64>,
}

/// Where the map of a PAX sparse file is.
#[derive(Debug)]
pub(super) enum Form {
    /// It was in the header.
    Header {
        /// The segments.
        map: Vec<Segment>,
        /// The file's size.
        size: u64,
    },
    /// It stands in front of the data.
    Data {
        /// The file's size.
        size: u64,
    },
}

impl Keys {
    /// Whether there is any such record.
    pub(super) fn present(&self) -> bool {
        self.present
    }

    /// The name of the file, which the entry's own name only stands for.
    pub(super) fn name(&mut self) -> Option<Vec<u8>> {
        self.name.take()
    }

    /// Takes the record `GNU.sparse.KEY=VALUE`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8], name: &[u8]) -> Result<()> {
        self.present = true;
        let number = || {
            decimal(value).map_err(|reason| {
                bad(name, format!("{} {} {reason}", key.escape_ascii(), value.escape_ascii()))
            })
        };
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(path(b"GNU.sparse.name", value, name)?),
            b"size" => self.size = Some(number()?),
            b"realsize" => self.real_size = Some(number()?),
            b"numblocks" => self.blocks = Some(number()?),
            b"offset" => {
                if self.offset.replace(number()?).is_some() {
                    return Err(bad(name, "an offset without its length"));
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| bad(name, "a length without its offset"))?;
                self.map.get_or_insert_default().push((offset, number()?));
            }
            b"map" => {
                let numbers = value.split(|&b| b == b',').map(decimal).collect::<Result<Vec<_>, _>>();
                let numbers = numbers.map_err(|reason| bad(name, format!("a number of the map {reason}")))?;
                let (pairs, rest) = numbers.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(bad(name, "the map has an odd number of numbers"));
                }
                self.map = Some(pairs.iter().map(|&[offset, length]| (offset, length)).collect());
            }
            _ => return Err(bad(name, format!("unknown record GNU.sparse.{}", key.escape_ascii()))),
        }
        Ok(())
    }

    /// What the records say together.
    ///
    /// # Errors
    /// `BAD_SPARSE`, and `BAD_EXTENSION` for records that belong to no map.
    pub(super) fn form(self, name: &[u8]) -> Result<Option<Form>> {
        if !self.present {
            return Ok(None);
        }
        let size = match (self.size, self.real_size) {
            (Some(size), Some(real)) if size != real => return Err(bad(name, "two different sizes")),
            (size, real) => size.or(real),
        };
        let orphan =
            || Error::refused(Code::BadExtension, name, "extended header: GNU.sparse records without a map");
        let size = size.ok_or_else(orphan)?;
        if self.offset.is_some() {
            return Err(bad(name, "an offset without its length"));
        }
        match (self.major, self.minor, self.map) {
            (Some(1), Some(0), None) => Ok(Some(Form::Data { size })),
            (Some(1), Some(0), Some(_)) => Err(bad(name, "two maps")),
            (None, None, map) | (Some(0), Some(0 | 1), map) => {
                let map = match (map, self.blocks) {
                    (None, Some(0)) => Vec::new(),
                    (None, _) => return Err(orphan()),
                    (Some(map), blocks) => {
                        if blocks.is_some_and(|blocks| blocks != map.len() as u64) {
                            return Err(bad(name, "the map is not as long as it says"));
                        }
                        map
                    }
                };
                Ok(Some(Form::Header { map, size }))
            }
            _ => Err(bad(name, "unknown version of the sparse format")),
        }
    }
}

impl Form {
    /// The map, and how many of the `stored` bytes are data: the rest was the map, and has been read.
    pub(super) fn read<R: BufRead, W: Write + Send + 'static>(
        self,
        input: &mut Input<R, W>,
        stored: u64,
        name: &[u8],
        limit: u64,
    ) -> Result<(Map, u64)> {
        match self {
            Self::Header { map, size } => Ok((Map::new(map, size, stored, name)?, stored)),
            Self::Data { size } => {
                let mut reader =
                    Lines { input, left: stored, taken: 0, limit, block: [0; BLOCK], at: BLOCK, name };
                let count = reader.number()?;
                let mut segments = Vec::new();
                for _ in 0..count {
                    segments.push((reader.number()?, reader.number()?));
                }
                let left = reader.left;
                Ok((Map::new(segments, size, left, name)?, left))
            }
        }
    }
}

/// Decimal lines of a PAX 1.0 map, block by block.
struct Lines<'a, R, W> {
    input: &'a mut Input<R, W>,
    left: u64,
    taken: u64,
    limit: u64,
    block: [u8; BLOCK],
    at: usize,
    name: &'a [u8],
}

impl<R: BufRead, W: Write + Send + 'static> Lines<'_, R, W> {
    fn number(&mut self) -> Result<u64> {
        // Nineteen digits are the most that fit.
        let mut digits = Vec::with_capacity(20);
        loop {
            match self.byte()? {
                b'\n' => break,
                byte if digits.len() < 20 => digits.push(byte),
                _ => break,
            }
        }
        decimal(&digits).map_err(|reason| bad(self.name, format!("a number of the map {reason}")))
    }

    fn byte(&mut self) -> Result<u8> {
        if self.at == BLOCK {
            let size = BLOCK as u64;
            self.left = self.left.checked_sub(size).ok_or_else(|| bad(self.name, "the map has no end"))?;
            self.taken += size;
            if self.taken > self.limit {
                let reason = format!("sparse map over {} bytes", self.limit);
                return Err(Error::refused(Code::LimitExceeded, self.name, reason));
            }
            self.block = *self.input.block()?.ok_or_else(|| truncated(self.name))?;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block.get(self.at - 1).copied().unwrap_or_default())
    }
}

fn bad(name: &[u8], reason: impl std::fmt::Display) -> Error {
    Error::refused(Code::BadSparse, name, format!("sparse file: {reason}"))
}
