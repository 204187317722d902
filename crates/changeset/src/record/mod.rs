//! The record of a layer's tar: everything that the unpacked tree does not give back, so that the archive can be
//! written out again byte for byte.
//!
//! The format is tar-split's, so that moby, containers-storage and others read it: gzip over one JSON object a
//! line, in the order of the archive.
//!
//! ```text
//! {"type":2,"payload":BASE64,"position":0}                 raw bytes: padding before it, headers of one entry
//! {"type":1,"name":"etc/passwd","size":922,"payload":BASE64 of its CRC-64/GO-ISO, big-endian,"position":1}
//! {"type":1,"name_raw":BASE64, …}                          a name that is not UTF-8
//! ```
//!
//! Invariant: each byte of the archive is in exactly one segment or in exactly one file's payload. Only regular
//! files that the tree gives back whole are of type 1: payloads of sparse files and of hard links lie in
//! segments, and entries without payload have no line (every reader of the format passes over those).

mod assemble;
mod behind;
mod line;
mod recorder;

pub use assemble::assemble;
pub use recorder::Recorder;

/// The checksum of one file's payload.
fn checksum() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso)
}
