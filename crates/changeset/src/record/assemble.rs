//! Writes an archive again from its record and the files of the tree.

use std::io::{BufRead, BufReader, Read, Write};

use super::checksum;
use super::line::Line;
use crate::compress::Decompressor;
use crate::error::{Code, Error, Result};
use crate::limits::Limits;

/// Longest line that is read. Ours are below 1.5 MiB; those of other programs hold all padding after an archive.
const MAX_LINE: u64 = 256 << 20;
/// Bytes of the buffer that payloads are copied through.
const BUFFER: usize = 128 << 10;

/// Writes the archive of `record` to `out` and returns its length in bytes. `open` is asked for each file by the
/// name that the archive has for it; what it gives is read from the start and must be as long as it was.
///
/// # Errors
/// `BAD_DOCUMENT` for a record that cannot be read, `SIZE_MISMATCH` and `DIGEST_MISMATCH` (`file integrity
/// checksum failed`) for a file that is not what it was, those of `open`, and I/O.
pub fn assemble<F: Read>(
    record: impl BufRead,
    open: &mut dyn FnMut(&[u8]) -> Result<F>,
    out: &mut dyn Write,
) -> Result<u64> {
    let mut lines = BufReader::with_capacity(BUFFER, Decompressor::detect(record, &Limits::default())?);
    let mut line = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut written = 0;
    loop {
        line.clear();
        let count = lines
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| Error::stream("reading the layer's tar record", error))?;
        if count == 0 {
            return Ok(written);
        }
        if count as u64 == MAX_LINE {
            return Err(Error::refused(Code::BadDocument, "tar record", "a line is longer than 256 MiB"));
        }
        match Line::parse(&line)? {
            Line::Segment(bytes) => {
                write(out, &bytes)?;
                written += bytes.len() as u64;
            }
            Line::File { size: 0, .. } => {}
            Line::File { name, size, crc } => {
                copy(&name, size, &crc, &mut open(&name)?, out, &mut buffer)?;
                written += size;
            }
        }
    }
}

fn copy(
    name: &[u8],
    size: u64,
    crc: &[u8],
    file: &mut dyn Read,
    out: &mut dyn Write,
    buffer: &mut [u8],
) -> Result<()> {
    let mut digest = checksum();
    let mut left = size;
    loop {
        let count = match file.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::stream("reading a file of the layer", error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        // Reading goes on to the end, so that a file that grew is noticed too.
        if count as u64 > left || (count == 0 && left > 0) {
            return Err(Error::refused(
                Code::SizeMismatch,
                name,
                format!("file is not {size} bytes long any more: the layer was modified"),
            ));
        }
        if count == 0 {
            break;
        }
        digest.update(bytes);
        write(out, bytes)?;
        left -= count as u64;
    }
    if digest.finalize().to_be_bytes() != crc {
        return Err(Error::refused(
            Code::DigestMismatch,
            name,
            format!("file integrity checksum failed for {}: the layer was modified", name.escape_ascii()),
        ));
    }
    Ok(())
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|error| Error::stream("writing the archive", error))
}
