//! A table from places to what is known of them, in memory up to a bound.
//!
//! ```text
//! slot   0 key 12 │ 12 in use 1 bit, marked 1, ALIVE 1, PUT 1, the directory's row + 1 in 28 bits
//! ```
//!
//! Slots are searched one after the other from the one that the key's first bits name; three of four are in use at
//! most. Growing keeps the order, so that it reads and writes pages one after the other. Of a key 96 bits are kept:
//! keys are random to whoever makes layers, and ten million of them collide once in 10^15 layers.

use layerstore_sys::Dir;

use super::super::spill::{Spill, part, record};
use super::places::Key;
use crate::error::Result;

/// Most pages in memory: 8 MiB, some 390,000 places.
const PAGES: u64 = 2048;
const KEY: usize = 12;
const IN_USE: u32 = 1 << 31;
const MARKED: u32 = 1 << 30;
const MARK_BITS: u32 = 28;
const ROW: u32 = (1 << MARK_BITS) - 1;

/// What is known of a place.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The row of the directory that it is, or was at some time.
    pub(super) row: Option<u32>,
    /// What the apply did there; none if it never touched it.
    pub(super) marks: Option<u8>,
}

impl Known {
    fn encode(self) -> u32 {
        let marks = self.marks.map_or(0, |marks| MARKED | (u32::from(marks & 3) << MARK_BITS));
        IN_USE | marks | self.row.map_or(0, |row| (row + 1) & ROW)
    }

    fn decode(word: u32) -> Self {
        let marks = u8::try_from((word >> MARK_BITS) & 3).unwrap_or_default();
        Self { row: (word & ROW).checked_sub(1), marks: (word & MARKED != 0).then_some(marks) }
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    slots: Spill,
    /// The number of slots, as a power of two.
    bits: u32,
    used: u64,
}

impl Table {
    pub(super) fn new(dir: &Dir) -> Self {
        Self::with(Spill::new(dir, PAGES))
    }

    fn with(slots: Spill) -> Self {
        Self { slots, bits: 8, used: 0 }
    }

    /// What is known of a place.
    pub(super) fn get(&mut self, key: Key) -> Result<Option<Known>> {
        let (_, word) = self.find(&part(&key.0, 0))?;
        Ok((word != 0).then(|| Known::decode(word)))
    }

    /// Changes what is known of a place, which is nothing at first.
    pub(super) fn update(&mut self, key: Key, change: impl FnOnce(&mut Known)) -> Result<()> {
        let key = part(&key.0, 0);
        let (place, word) = self.find(&key)?;
        let mut known = if word == 0 { Known::default() } else { Known::decode(word) };
        change(&mut known);
        self.set(place, &key, known.encode())?;
        if word == 0 {
            self.used += 1;
            if self.used > (1 << self.bits) / 4 * 3 {
                self.grow()?;
            }
        }
        Ok(())
    }

    /// The slot of a key, or the free one where it would go, which holds 0.
    fn find(&mut self, key: &[u8; KEY]) -> Result<(u64, u32)> {
        let mut place = u64::from_be_bytes(part(key, 0)) >> (64 - self.bits);
        loop {
            let slot: [u8; 16] = self.slots.get(place)?;
            let word = u32::from_le_bytes(part(&slot, KEY));
            if word == 0 || slot.starts_with(key) {
                return Ok((place, word));
            }
            place = (place + 1) & ((1 << self.bits) - 1);
        }
    }

    fn set(&mut self, place: u64, key: &[u8; KEY], word: u32) -> Result<()> {
        self.slots.set::<16>(place, &record(&[key, &word.to_le_bytes()]))
    }

    fn grow(&mut self) -> Result<()> {
        let larger = self.slots.another();
        let mut old = std::mem::replace(&mut self.slots, larger);
        let slots = 1_u64 << self.bits;
        self.bits += 1;
        for place in 0..slots {
            let slot: [u8; 16] = old.get(place)?;
            let word = u32::from_le_bytes(part(&slot, KEY));
            if word != 0 {
                let key = part(&slot, 0);
                let (free, _) = self.find(&key)?;
                self.set(free, &key, word)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use layerstore_testkit::Random;

    use super::*;

    #[rstest::rstest]
    fn the_table_knows_what_a_map_knows(#[values(1, 3, 4096)] pages: u64) {
        let scratch = tempfile::tempdir().unwrap();
        let mut table = Table::with(Spill::new(&Dir::open(scratch.path()).unwrap(), pages));
        let mut model: HashMap<u32, Known> = HashMap::new();
        // Half of the keys begin with the same bits, so that searches are long and go round the end.
        let key = |n: u32| {
            let mut bytes = [if n.is_multiple_of(2) { 0xff } else { 0 }; 16];
            if !n.is_multiple_of(2) {
                bytes[..8].copy_from_slice(&u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            }
            bytes[8..12].copy_from_slice(&n.to_le_bytes());
            Key(bytes)
        };
        let mut random = Random::new(7);
        for _ in 0..6000 {
            let n = random.below(1500) as u32;
            let kind = random.below(4);
            let change = |known: &mut Known| match kind {
                0 => known.row = Some(n),
                1 => known.marks = Some(known.marks.unwrap_or(0) | 1),
                2 => known.marks = Some(known.marks.unwrap_or(0) | 2),
                _ => known.marks = known.marks.or(Some(0)),
            };
            table.update(key(n), change).unwrap();
            change(model.entry(n).or_default());
            let other = random.below(1500) as u32;
            assert_eq!(table.get(key(other)).unwrap(), model.get(&other).copied());
        }
        assert_eq!(table.used, model.len() as u64);
        for (n, known) in &model {
            assert_eq!(table.get(key(*n)).unwrap(), Some(*known));
        }
    }
}
