//! CRC-64 as Go's hash/crc64 calls `ISO` (CRC-64/GO-ISO), eight bytes at a time and without tables.
//!
//! Its polynomial `x^64 + x^4 + x^3 + x + 1` is so sparse that multiplying by `x^64` is a handful of shifts:
//! `x^64 ≡ x^4 + x^3 + x + 1`. Bits are reflected: the highest bit of a word is the coefficient of `x^0`, so that
//! multiplying by `x` shifts to the right, and what falls out belongs to `x^64` and is folded in once more.

/// The checksum of a stream of bytes.
#[derive(Debug, Clone)]
pub(super) struct Crc64 {
    state: u64,
    /// Bytes that do not fill a word yet.
    rest: [u8; 8],
    count: usize,
}

impl Crc64 {
    pub(super) fn new() -> Self {
        Self { state: u64::MAX, rest: [0; 8], count: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        if self.count > 0 {
            while let ([first, tail @ ..], true) = (bytes, self.count < 8) {
                self.push(*first);
                bytes = tail;
            }
            if self.count < 8 {
                return;
            }
            self.state = advance(self.state ^ u64::from_le_bytes(self.rest));
            self.count = 0;
        }
        let (words, tail) = bytes.as_chunks::<8>();
        self.state = words.iter().fold(self.state, |state, word| advance(state ^ u64::from_le_bytes(*word)));
        for &byte in tail {
            self.push(byte);
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.rest.get_mut(self.count) {
            *place = byte;
            self.count += 1;
        }
    }

    pub(super) fn finish(&self) -> u64 {
        let rest = self.rest.iter().take(self.count);
        !rest.fold(self.state, |state, &byte| {
            // A single byte: the same with eight bits instead of sixty-four.
            let low = (state ^ u64::from(byte)) << 56;
            (state >> 8) ^ fold(low)
        })
    }
}

/// Multiplies by `x^64`.
fn advance(word: u64) -> u64 {
    // What the shifts of `fold` push out at the low end is of degree 64 to 67.
    let over = (word << 63) ^ (word << 61) ^ (word << 60);
    fold(word) ^ fold(over)
}

/// Multiplies by `x^4 + x^3 + x + 1`, and loses what is of degree 64 and more.
fn fold(word: u64) -> u64 {
    word ^ (word >> 1) ^ (word >> 3) ^ (word >> 4)
}

#[cfg(test)]
mod tests {
    use crc::{CRC_64_GO_ISO, Crc};

    use super::*;

    #[test]
    fn it_is_the_checksum_that_go_computes_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let reference = Crc::<u64>::new(&CRC_64_GO_ISO);
        for length in (0..100).chain([999, 4096, 5000]) {
            for piece in [1, 3, 7, 8, 9, 64, 5000] {
                let mut crc = Crc64::new();
                bytes[..length].chunks(piece).for_each(|bytes| crc.update(bytes));
                assert_eq!(crc.finish(), reference.checksum(&bytes[..length]), "{length} by {piece}");
            }
        }
    }
}
