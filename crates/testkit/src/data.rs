//! File content in memory: blocks of 4,096 bytes, those of zeros left out, so that a sparse file of a terabyte
//! takes no space and two contents are equal exactly when they read the same.

use std::collections::BTreeMap;
use std::fmt;

/// Size of a block.
const BLOCK: u64 = 4096;

/// The content of a file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data {
    size: u64,
    /// Block number to content, never all zeros.
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stretch<'a> {
    /// Bytes that are there.
    Bytes(&'a [u8]),
    /// So many zeros.
    Hole(u64),
}

impl Data {
    /// A file of zeros.
    pub fn hole(size: u64) -> Self {
        Self { size, blocks: BTreeMap::new() }
    }

    /// These bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let mut data = Self::default();
        data.write(0, bytes.as_ref());
        data
    }

    /// Bytes at an offset, replacing what is there and making the file longer where they end behind it.
    #[must_use]
    pub fn with(mut self, offset: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.write(offset, bytes.as_ref());
        self
    }

    /// As [`Data::with`], in place.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.resize(self.size.max(offset + bytes.len() as u64));
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (number, within) = (at / BLOCK, (at % BLOCK) as usize);
            let length = self.block_length(number);
            let block = self.blocks.entry(number).or_insert_with(|| vec![0; length]);
            let count = (block.len() - within).min(bytes.len() - done);
            block[within..within + count].copy_from_slice(&bytes[done..done + count]);
            if block.iter().all(|&b| b == 0) {
                self.blocks.remove(&number);
            }
            done += count;
        }
    }

    /// Cuts off, or adds zeros.
    pub fn resize(&mut self, size: u64) {
        let touched = self.size.min(size) / BLOCK;
        self.size = size;
        let _ = self.blocks.split_off(&size.div_ceil(BLOCK));
        let length = self.block_length(touched);
        if let Some(block) = self.blocks.get_mut(&touched) {
            block.resize(length, 0);
            if block.iter().all(|&b| b == 0) {
                self.blocks.remove(&touched);
            }
        }
    }

    fn block_length(&self, number: u64) -> usize {
        (self.size.saturating_sub(number * BLOCK)).min(BLOCK) as usize
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are stored.
    pub fn stored(&self) -> u64 {
        self.blocks.values().map(|block| block.len() as u64).sum()
    }

    /// The stretches from start to end.
    pub fn stretches(&self) -> Vec<Stretch<'_>> {
        let (mut found, mut at) = (Vec::new(), 0);
        for (&number, block) in &self.blocks {
            if number * BLOCK > at {
                found.push(Stretch::Hole(number * BLOCK - at));
            }
            found.push(Stretch::Bytes(block));
            at = number * BLOCK + block.len() as u64;
        }
        if at < self.size {
            found.push(Stretch::Hole(self.size - at));
        }
        found
    }

    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.size as usize];
        for (&number, block) in &self.blocks {
            let start = (number * BLOCK) as usize;
            all[start..start + block.len()].copy_from_slice(block);
        }
        all
    }

    /// A short text for dumps: the bytes themselves where they are few, else size and a checksum.
    pub fn summary(&self) -> String {
        if self.size <= 48 {
            return format!("\"{}\"", self.to_vec().escape_ascii());
        }
        // FNV-1a: good enough to show that two contents differ.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (number, block) in &self.blocks {
            for byte in number.to_le_bytes().iter().chain(block) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        format!("{} bytes, fnv {hash:016x}", self.size)
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Data {
    fn from(bytes: &T) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({})", self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_that_read_the_same_are_equal_however_they_were_written() {
        let mut long = Data::hole(10_000).with(4090, b"across two blocks");
        assert_eq!(long.stored(), 8192);
        let mut plain = vec![0; 10_000];
        plain[4090..4107].copy_from_slice(b"across two blocks");
        assert_eq!(long, Data::new(&plain));
        assert_eq!(long.to_vec(), plain);
        long.resize(4095);
        assert_eq!(long, Data::new(&plain[..4095]));
        long.resize(20_000);
        assert_eq!(long.to_vec()[4090..4100], *b"acros\0\0\0\0\0");
        long.write(4090, &[0; 5]);
        assert_eq!(long, Data::hole(20_000));
    }

    #[test]
    fn stretches_add_up_to_the_size() {
        let data = Data::hole(1 << 40).with(1 << 20, b"x").with((1 << 40) - 1, b"y");
        let sum: u64 = data
            .stretches()
            .iter()
            .map(|stretch| match stretch {
                Stretch::Bytes(bytes) => bytes.len() as u64,
                Stretch::Hole(length) => *length,
            })
            .sum();
        assert_eq!(sum, 1 << 40);
    }
}
