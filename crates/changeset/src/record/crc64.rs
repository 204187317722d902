//! CRC-64 as Go's hash/crc64 calls `ISO` (CRC-64/GO-ISO), eight bytes at a time and without tables.
//!
//! Its polynomial `x^64 + x^4 + x^3 + x + 1` is so sparse that multiplying by `x^64` is a handful of shifts:
//! `x^64 ≡ x^4 + x^3 + x + 1`. Bits are reflected: the highest bit of a word is the coefficient of `x^0`, so that
//! multiplying by `x` shifts to the right, and what falls out belongs to `x^64` and is folded in once more.
//!
//! Squaring keeps it sparse: `x^512 ≡ x^32 + x^24 + x^8 + 1`. So long pieces are folded in blocks of 64 bytes, eight
//! words side by side that do not wait for each other, which a compiler turns into vector instructions:
//!
//! ```text
//! word  0 (highest powers)  1  2  3  4  5  6  7        word · x^512 = word + what is shifted out, which belongs
//!       └── out ──→ 7       0 ←┘  …           6 ←┘     to the word before it; of word 0 it is folded in once more
//! ```

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
        let (blocks, bytes) = bytes.as_chunks::<BLOCK>();
        if let Some((first, rest)) = blocks.split_first() {
            let mut lanes = words(first);
            lanes[0] ^= self.state;
            for block in rest {
                lanes = fold_block(&lanes, &words(block));
            }
            self.state = lanes.iter().fold(0, |state, word| advance(state ^ word));
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

/// Bytes that are folded at once.
const BLOCK: usize = 64;

/// The words of a block.
fn words(block: &[u8; BLOCK]) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Multiplies eight words by `x^512` and adds the block that follows.
#[inline]
fn fold_block(lanes: &[u64; 8], block: &[u64; 8]) -> [u64; 8] {
    let shift = |word: u64| word ^ (word >> 8) ^ (word >> 24) ^ (word >> 32);
    // What `shift` pushes out at the low end.
    let over = lanes.map(|word| (word << 56) ^ (word << 40) ^ (word << 32));
    let mut next = lanes.map(shift);
    for (word, over) in next.iter_mut().zip(over.iter().skip(1)) {
        *word ^= over;
    }
    // Only the highest 32 bits are set, so that nothing is pushed out here.
    next[7] ^= shift(over[0]);
    for (word, more) in next.iter_mut().zip(block) {
        *word ^= more;
    }
    next
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
        for length in (0..300).chain([999, 4096, 5000]) {
            for piece in [1, 3, 7, 8, 9, 64, 65, 200, 5000] {
                let mut crc = Crc64::new();
                bytes[..length].chunks(piece).for_each(|bytes| crc.update(bytes));
                assert_eq!(crc.finish(), reference.checksum(&bytes[..length]), "{length} by {piece}");
            }
        }
    }
}
