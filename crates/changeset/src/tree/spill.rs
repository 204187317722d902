//! Memory of a bounded size: bytes that are kept in pages up to so many, and in a file without a name beyond them.
//!
//! ```text
//! page n  ─→  slot n mod most      in memory: the page that was asked for last of those that share the slot
//!                  └ written back when another one needs it  ─→  offset n * 4096 of the file
//! ```
//!
//! As long as no page has to give way there is no file, so that usual layers pay nothing. Bytes that were never
//! written are zero.
//!
//! Invariant: no more than `most` pages are in memory, whatever the input claims.

use layerstore_sys::{Dir, File, Temporary};

use crate::error::Result;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

#[derive(Debug)]
struct Page {
    number: u64,
    changed: bool,
    bytes: Box<[u8; PAGE]>,
}

/// An array of bytes as long as it needs to be.
#[derive(Debug)]
pub(crate) struct Spill {
    slots: Vec<Option<Page>>,
    most: u64,
    /// On whose file system the file lies.
    dir: Dir,
    file: Option<File>,
}

impl Spill {
    /// Nothing but zeros, with at most `most` pages in memory.
    pub(crate) fn new(dir: &Dir, most: u64) -> Self {
        Self { slots: Vec::new(), most: most.max(1), dir: dir.clone(), file: None }
    }

    /// An array like this one that holds nothing yet.
    pub(crate) fn another(&self) -> Self {
        Self::new(&self.dir, self.most)
    }

    /// Fills `out` with what lies at an offset.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn read(&mut self, mut at: u64, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let (page, from) = self.page(at)?;
            let part = page.bytes.get(from..).unwrap_or_default();
            let count = part.len().min(out.len());
            let (head, rest) = out.split_at_mut(count);
            head.copy_from_slice(part.get(..count).unwrap_or_default());
            (at, out) = (at + count as u64, rest);
        }
        Ok(())
    }

    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn write(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (page, from) = self.page(at)?;
            page.changed = true;
            let part = page.bytes.get_mut(from..).unwrap_or_default();
            let (head, rest) = bytes.split_at(part.len().min(bytes.len()));
            part.get_mut(..head.len()).unwrap_or_default().copy_from_slice(head);
            (at, bytes) = (at + head.len() as u64, rest);
        }
        Ok(())
    }

    /// The record of so many bytes at a place in an array of them.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn get<const N: usize>(&mut self, index: u64) -> Result<[u8; N]> {
        let mut record = [0; N];
        self.read(index * N as u64, &mut record)?;
        Ok(record)
    }

    /// Replaces the record at a place in an array of them.
    ///
    /// # Errors
    /// System calls.
    pub(crate) fn set<const N: usize>(&mut self, index: u64, record: &[u8; N]) -> Result<()> {
        self.write(index * N as u64, record)
    }

    /// The page that holds an offset, in memory, and where in it that is.
    fn page(&mut self, at: u64) -> Result<(&mut Page, usize)> {
        let number = at / PAGE as u64;
        // Less than `most`, which is a number of pages that fit into memory.
        let slot = usize::try_from(number % self.most).unwrap_or_default();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let held = self.slots.get_mut(slot).and_then(Option::take);
        let page = match held {
            Some(page) if page.number == number => page,
            Some(page) => self.turn(page, number)?,
            None => Page { number, changed: false, bytes: Box::new([0; PAGE]) },
        };
        let within = usize::try_from(at % PAGE as u64).unwrap_or_default();
        let place = self.slots.get_mut(slot).ok_or_else(|| missing(&self.dir))?;
        Ok((place.insert(page), within))
    }

    /// Writes a page back and reads another one into its memory.
    fn turn(&mut self, mut page: Page, number: u64) -> Result<Page> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(Temporary::new(&self.dir, 0o600)?.into_file()),
        };
        if page.changed {
            file.write_all_at(&page.bytes[..], page.number * PAGE as u64)?;
        }
        let done = file.read_full_at(&mut page.bytes[..], number * PAGE as u64)?;
        page.bytes.get_mut(done..).unwrap_or_default().fill(0);
        (page.number, page.changed) = (number, false);
        Ok(page)
    }
}

/// A record of fields that lie side by side, zeros behind them.
pub(crate) fn record<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut record = [0; N];
    for (to, from) in record.iter_mut().zip(fields.iter().copied().flatten()) {
        *to = *from;
    }
    record
}

/// The bytes of a record from `at` on; zeros beyond it.
pub(crate) fn part<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(record.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    bytes
}

fn missing(dir: &Dir) -> layerstore_sys::Error {
    layerstore_sys::Error::new("pread", dir.path().display().to_string(), layerstore_sys::Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use layerstore_testkit::Random;

    use super::*;

    #[rstest::rstest]
    fn what_was_written_is_read_however_few_pages_are_in_memory(#[values(1, 2, 7, 1000)] most: u64) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        let mut spill = Spill::new(&dir, most);
        let mut model = vec![0_u8; 40 * PAGE];
        let mut random = Random::new(1);
        for round in 0..3000_usize {
            let at = random.index(39 * PAGE);
            let bytes = vec![u8::try_from(round % 251).unwrap(); round % 300];
            spill.write(at as u64, &bytes).unwrap();
            model[at..at + bytes.len()].copy_from_slice(&bytes);
            let from = (at * 7) % (38 * PAGE);
            let mut out = vec![0; 5000];
            spill.read(from as u64, &mut out).unwrap();
            assert_eq!(out, model[from..from + 5000]);
        }
        assert!(spill.slots.len() as u64 <= most);
        assert_eq!(spill.file.is_some(), most < 40, "there is a file only where pages gave way");
        assert_eq!(dir.entries().unwrap().len(), 0, "and it has no name");
    }

    #[test]
    fn records_lie_side_by_side() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(&Dir::open(scratch.path()).unwrap(), 1);
        for index in 0..1000_u64 {
            spill.set(index, &index.to_le_bytes()).unwrap();
        }
        for index in 0..1000_u64 {
            assert_eq!(spill.get::<8>(index).unwrap(), index.to_le_bytes());
        }
        assert_eq!(spill.another().get::<8>(3).unwrap(), [0; 8]);
    }
}
