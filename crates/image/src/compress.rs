//! Compressed streams of this crate, on top of [`layerstore_changeset::compress`].

use std::io::{BufReader, Read};

use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::{Limits, Result};
use layerstore_sys as sys;

use crate::blobs::Section;
use crate::media::Compression;

/// How many bytes show what a stream is.
const START: u64 = 512;

/// The compression that the first bytes of a stretch show.
pub(crate) fn detect(stretch: &Section) -> Result<Compression> {
    let mut start = Vec::new();
    let read = stretch.clone().take(START).read_to_end(&mut start);
    read.map_err(|error| layerstore_changeset::Error::stream("reading the start of a file", error))?;
    Compression::detect(&start)
}

/// Decompresses a stream, whatever it is compressed with. A stream that yields fewer than 512 bytes at first is
/// taken by what it does yield.
pub(crate) fn decoder<R: Read>(stream: R) -> Result<Decompressor<BufReader<R>>> {
    Decompressor::detect(BufReader::with_capacity(256 << 10, stream), &Limits::default())
}

/// The whole of a file, as it is now.
pub(crate) fn whole(file: std::sync::Arc<sys::File>) -> Section {
    Section::new(file, 0, u64::MAX)
}
