//! File data out of and into files of a layer, with holes kept and extents shared where the file system can.

use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use layerstore_sys::{Errno, File};

use crate::context::Context;
use crate::error::{Code, Error, Result};
use crate::stream::{Chunk, FileData};

/// Most bytes of one chunk.
const CHUNK: usize = 256 << 10;
/// Largest file that is taken for dense by its blocks alone: what is allocated beyond the end of a larger one might
/// make up for its holes.
const DENSE: u64 = 128 << 10;
/// Smallest file that is sent to the disk when it is complete, in bytes. Smaller ones have a small part of an image's
/// bytes, and to write each by itself takes more processor time than they are worth: the sync takes them together.
pub(super) const EARLY: u64 = 64 << 10;
/// Bytes of one file after which its write-back begins before it is complete.
const PORTION: u64 = 8 << 20;
/// Least run of zeros that is left out of a file, and so becomes a hole: fewer bytes are not worth an extent more. A
/// tar that was not made with holes in mind has those of `/var/log/lastlog` in full, and they may be more than the
/// disk has.
const HOLE: usize = 64 << 10;
/// Zeros are looked for in such pieces: file systems have no smaller holes.
const PIECE: usize = 4 << 10;
/// Smallest file that goes past the page cache where it is to be synced, in bytes. Of an image a small part is ever
/// read (6.4 % of the bytes at the start: Harter et al., Slacker, FAST 2016), and the few large files are most of the
/// bytes: not to copy them into memory that was not touched before saves as much time as their sync takes, and leaves
/// other programs what they have in the cache. What many programs read at their start (the C library) stays in it.
const UNCACHED: u64 = 2 << 20;
/// Most bytes that one `copy_file_range` is asked for, so that cancelling does not wait for long.
const RANGE: u64 = 64 << 20;

/// The data of an open file as a stream: cut or padded with a hole to the size that was announced, whatever the
/// file does meanwhile.
#[derive(Debug)]
pub struct TreeFile {
    file: File,
    size: u64,
    offset: u64,
    /// Where the stretch of data ends that `offset` is in.
    data_end: u64,
    buffer: Vec<u8>,
}

impl TreeFile {
    /// The first `size` bytes of `file`.
    pub fn new(file: File, size: u64) -> Self {
        Self { file, size, offset: 0, data_end: 0, buffer: Vec::new() }
    }

    /// As [`TreeFile::new`], for a file that takes `blocks` of 512 bytes: a small one that takes what it is long is
    /// not asked for holes.
    pub(crate) fn with_blocks(file: File, size: u64, blocks: u64) -> Self {
        let dense = size <= DENSE && blocks.saturating_mul(512) >= size;
        Self { data_end: if dense { size } else { 0 }, ..Self::new(file, size) }
    }

    /// The size of a small file without holes of which nothing was read yet.
    pub(crate) fn small(&self) -> Option<usize> {
        let small = self.offset == 0 && self.size <= DENSE && self.data_end == self.size;
        small.then(|| usize::try_from(self.size).ok()).flatten()
    }

    /// Fills a buffer as long as the file was announced, with zeros where it became shorter.
    ///
    /// # Errors
    /// Those of `pread`.
    pub(crate) fn read_whole(self, buffer: &mut [u8]) -> Result<()> {
        let done = self.file.read_full_at(buffer, 0)?;
        buffer.get_mut(done..).unwrap_or_default().fill(0);
        Ok(())
    }
}

impl FileData for TreeFile {
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        if self.offset >= self.size {
            return Ok(None);
        }
        if self.offset >= self.data_end {
            let (start, end) = self.file.next_data(self.offset)?.unwrap_or((self.size, self.size));
            let (start, end) = (start.min(self.size), end.min(self.size));
            self.data_end = end;
            if start > self.offset {
                let hole = start - self.offset;
                self.offset = start;
                return Ok(Some(Chunk::Hole(hole)));
            }
        }
        let wanted = usize::try_from(self.data_end - self.offset).unwrap_or(CHUNK).min(CHUNK);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.read_at(buffer, self.offset)?;
        if count == 0 {
            // It became shorter: the rest is zeros.
            let rest = self.size - self.offset;
            self.offset = self.size;
            return Ok(Some(Chunk::Hole(rest)));
        }
        self.offset += count as u64;
        Ok(Some(Chunk::Data(self.buffer.get(..count).unwrap_or_default())))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (self.offset == 0).then(|| self.file.as_fd())
    }
}

/// What the file systems at hand were found unable to do, so that it is tried once and not per file.
#[derive(Debug, Default)]
pub(crate) struct Abilities {
    no_clone: AtomicBool,
    no_copy_range: AtomicBool,
}

impl Abilities {
    /// Whether sharing extents is worth a try.
    pub(crate) fn may_clone(&self) -> bool {
        !self.no_clone.load(Ordering::Relaxed)
    }

    /// Shares the first `size` bytes of `source` with the empty file `to`; says whether it could.
    pub(crate) fn clone_file(&self, source: BorrowedFd<'_>, to: &File, size: u64) -> Result<bool> {
        if size == 0 || !self.may_clone() {
            return Ok(size == 0);
        }
        match to.clone_from_file(source) {
            Ok(()) => {
                if to.stat()?.size != size {
                    to.set_length(size)?;
                }
                Ok(true)
            }
            Err(error) if cannot(&error) => {
                self.no_clone.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Copies the first `size` bytes of `source` to the empty file `to` inside the kernel, holes kept; says
    /// whether it could. After a `false` part of it may be there already.
    pub(crate) fn copy_range(
        &self,
        source: BorrowedFd<'_>,
        to: &File,
        size: u64,
        context: &Context,
    ) -> Result<bool> {
        if self.no_copy_range.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut offset = 0;
        while offset < size {
            let Some((start, end)) = layerstore_sys::file::next_data(source, offset, Path::new("source"))?
            else {
                break;
            };
            let end = end.min(size);
            offset = start;
            while offset < end {
                context.check()?;
                let wanted = usize::try_from((end - offset).min(RANGE)).unwrap_or(usize::MAX);
                match to.copy_range(source, offset, wanted) {
                    // The source became shorter.
                    Ok(0) => offset = size,
                    Ok(count) => offset += count as u64,
                    Err(error) if cannot(&error) => {
                        self.no_copy_range.store(true, Ordering::Relaxed);
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        to.set_length(size)?;
        Ok(true)
    }
}

/// Whether a call failed because the kernel or the file systems cannot do it for these files.
fn cannot(error: &layerstore_sys::Error) -> bool {
    matches!(
        error.errno(),
        Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::PERM
            | Errno::TXTBSY
    )
}

/// Sends what a file holds so far on its way to the disk.
pub(crate) fn begin_write_back(file: &File) {
    // The sync that waits for it says what goes wrong.
    if let Err(error) = file.begin_write_back() {
        tracing::debug!(%error, "early write-back failed");
    }
}

/// Writes a stream of exactly `size` bytes to `to`, of which `head` and then a hole came already.
///
/// # Errors
/// `SIZE_MISMATCH` when the chunks add up to something else; the source's; system calls.
pub(crate) fn write_stream(
    name: &[u8],
    head: &[u8],
    hole: u64,
    data: &mut dyn FileData,
    size: u64,
    to: &File,
    context: &Context,
) -> Result<()> {
    to.write_all_at(head, 0)?;
    let mut written = head.len() as u64;
    let mut offset = written.saturating_add(hole);
    let mut begun = 0;
    let mut uncached = size >= UNCACHED && context.wants_write_back();
    if offset > size {
        return Err(wrong_size(name, size));
    }
    while let Some(chunk) = data.next_chunk()? {
        context.check()?;
        let length = match &chunk {
            Chunk::Data(bytes) => bytes.len() as u64,
            Chunk::Hole(length) => *length,
        };
        if length > size - offset {
            return Err(wrong_size(name, size));
        }
        if let Chunk::Data(bytes) = chunk {
            written = write_sparsely(to, bytes, offset, &mut uncached)?.unwrap_or(written);
            // What goes past the cache is on its way already.
            if !uncached && written - begun >= PORTION && context.wants_write_back() {
                begin_write_back(to);
                begun = written;
            }
        }
        offset += length;
    }
    if offset != size {
        return Err(wrong_size(name, size));
    }
    if written != size {
        to.set_length(size)?;
    }
    Ok(())
}

/// Writes `bytes` at `offset` of a new file, but for long runs of zeros and those at either end; past the page cache
/// as long as `uncached` is set and the file system can. Says where what was written ends.
fn write_sparsely(to: &File, bytes: &[u8], offset: u64, uncached: &mut bool) -> Result<Option<u64>> {
    let mut last = None;
    let mut write = |stretch: Range<usize>| -> Result<()> {
        let at = offset + stretch.start as u64;
        last = Some(offset + stretch.end as u64);
        let bytes = bytes.get(stretch).unwrap_or_default();
        if *uncached {
            *uncached = to.write_all_past_cache_at(bytes, at)?;
            return Ok(());
        }
        Ok(to.write_all_at(bytes, at)?)
    };
    // What is not zero, as far as it was seen, with short runs of zeros in between.
    let mut stretch = 0..0;
    let mut at = 0;
    let before = usize::try_from(offset % PIECE as u64).unwrap_or_default();
    for piece in pieces(bytes, PIECE - before) {
        if !is_zero(piece) {
            if stretch.is_empty() {
                stretch = at..at;
            } else if at - stretch.end >= HOLE {
                write(std::mem::replace(&mut stretch, at..at))?;
            }
            stretch.end = at + piece.len();
        }
        at += piece.len();
    }
    if !stretch.is_empty() {
        write(stretch)?;
    }
    Ok(last)
}

/// Cuts `bytes` into pieces, the first of which has `first` bytes.
fn pieces(bytes: &[u8], first: usize) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = bytes.split_at_checked(first).unwrap_or((bytes, &[]));
    std::iter::once(first).chain(rest.chunks(PIECE))
}

/// Whether a piece has nothing but zeros.
fn is_zero(piece: &[u8]) -> bool {
    static ZEROS: [u8; PIECE] = [0; PIECE];
    piece.first().is_none_or(|first| *first == 0) && ZEROS.get(..piece.len()) == Some(piece)
}

/// The refusal of data that is not as long as announced.
pub(crate) fn wrong_size(name: &[u8], size: u64) -> Error {
    Error::refused(Code::SizeMismatch, name, format!("the data is not the {size} bytes that were announced"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes in chunks, as a reader of archives lends them.
    struct Chunks<'a>(std::vec::IntoIter<&'a [u8]>);

    impl FileData for Chunks<'_> {
        fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
            Ok(self.0.next().map(Chunk::Data))
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    proptest! {
        /// Stretches of data and of zeros, cut anywhere.
        #[test]
        fn what_is_written_reads_the_same_and_long_zeros_take_no_space(
            stretches in prop::collection::vec((any::<bool>(), 1..400_000_usize), 0..8),
            chunk in 1_000..300_000_usize,
            early: bool,
        ) {
            let mut bytes = Vec::new();
            for (index, (zeros, length)) in stretches.iter().enumerate() {
                let byte = if *zeros { 0 } else { u8::try_from(index + 1).unwrap() };
                bytes.resize(bytes.len() + length, byte);
            }
            let scratch = tempfile::tempdir().unwrap();
            let dir = layerstore_sys::Dir::open(scratch.path()).unwrap();
            let file = dir.create_file(b"file", 0o600).unwrap();
            let size = bytes.len() as u64;
            let mut data = Chunks(bytes.chunks(chunk).collect::<Vec<_>>().into_iter());
            let context = if early { Context::new().with_write_back() } else { Context::new() };
            write_stream(b"file", b"", 0, &mut data, size, &file, &context).unwrap();
            prop_assert_eq!(dir.open_file(b"file").unwrap().read_to_end_limited(4 << 20).unwrap(), bytes);
            let solid: usize = stretches.iter().filter(|(zeros, _)| !zeros).map(|(_, length)| length + 2 * PIECE).sum();
            // A run of zeros that is too short, and what a chunk has of a piece, are written.
            let short = stretches.len() * HOLE;
            let allocated = dir.stat(b"file").unwrap().blocks * 512;
            prop_assert!(allocated <= (solid + short) as u64, "{} of {} bytes", allocated, size);
        }
    }
}
