//! Cases about the compressed stream around the archive (H).

use super::raw::{archive, file};
use super::sizes::{gzip, zstd};
use super::{Case, accept, refuse};

fn plain() -> Vec<u8> {
    archive(&[file("f", "x".repeat(3000))])
}

fn gzipped() -> Vec<u8> {
    gzip(&plain(), 0)
}

fn zstded() -> Vec<u8> {
    zstd(&plain(), 0)
}

fn with(mut bytes: Vec<u8>, tail: &[u8]) -> Vec<u8> {
    bytes.extend(tail);
    bytes
}

fn cut(mut bytes: Vec<u8>, off: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - off);
    bytes
}

fn flip(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x55;
    bytes
}

/// A gzip header with these flags and fields, before the deflated data.
fn odd_header(flags: u8, fields: &[u8]) -> Vec<u8> {
    let whole = gzipped();
    [&whole[..3], &[flags], &whole[4..10], fields, &whole[10..]].concat()
}

pub(super) const CASES: &[Case] = &[
    refuse("H01_gzip_cut", "TRUNCATED", |_| cut(gzipped(), 12)),
    refuse("H01b_gzip_without_trailer", "TRUNCATED", |_| cut(gzipped(), 8)),
    refuse("H01c_gzip_header_only", "TRUNCATED", |_| gzipped()[..10].to_vec()),
    refuse("H01d_gzip_two_bytes", "TRUNCATED", |_| vec![0x1f, 0x8b]),
    refuse("H02_gzip_checksum", "BAD_COMPRESSION", |_| flip(gzipped(), 8)),
    refuse("H02b_gzip_length", "BAD_COMPRESSION", |_| flip(gzipped(), 2)),
    refuse("H02c_gzip_damaged", "BAD_COMPRESSION", |_| {
        let mut bytes = gzipped();
        bytes[10] = 0x07;
        bytes
    }),
    refuse("H03_gzip_then_garbage", "TRAILING_DATA", |_| with(gzipped(), b"garbage")),
    accept("H04_gzip_then_zeros", |_| with(gzipped(), &[0; 700])),
    refuse("H04b_gzip_zeros_garbage", "TRAILING_DATA", |_| with(with(gzipped(), &[0; 700]), b"x")),
    accept("H05_gzip_members", |_| {
        let bytes = plain();
        [gzip(&bytes[..100], 0), gzip(&bytes[100..2000], 0), gzip(&bytes[2000..], 0)].concat()
    }),
    refuse("H05b_second_member_damaged", "BAD_COMPRESSION", |_| {
        let bytes = plain();
        [gzip(&bytes[..2000], 0), flip(gzip(&bytes[2000..], 0), 6)].concat()
    }),
    refuse("H06_bzip2", "BAD_COMPRESSION", |_| b"BZh91AY&SY\0\0\0\0".to_vec()),
    refuse("H06b_xz", "BAD_COMPRESSION", |_| b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46".to_vec()),
    refuse("H06c_lz4", "BAD_COMPRESSION", |_| b"\x04\x22\x4d\x18\x64\x40\xa7".to_vec()),
    refuse("H06d_zip", "BAD_COMPRESSION", |_| [&b"PK\x03\x04"[..], &[0; 600]].concat()),
    refuse("H08_gzip_in_gzip", "BAD_HEADER", |_| gzip(&gzip(&noise(3000), 0), 0)),
    refuse("H08b_zstd_in_gzip", "BAD_HEADER", |_| gzip(&zstd(&noise(3000), 0), 0)),
    refuse("H09_gzip_method", "BAD_COMPRESSION", |_| {
        let mut bytes = gzipped();
        bytes[2] = 7;
        bytes
    }),
    accept("H10_gzip_name_and_comment", |_| odd_header(0x18, b"../../name\0comment\0")),
    accept("H10b_gzip_extra_field", |_| odd_header(0x04, &[&[4, 0][..], b"abcd"].concat())),
    refuse("H10c_gzip_endless_name", "BAD_COMPRESSION", |_| odd_header(0x08, &[b'n'; 300_000])),
    refuse("H10d_gzip_header_checksum", "BAD_COMPRESSION", |_| odd_header(0x02, &[1, 2])),
    refuse("H11_zstd_cut", "TRUNCATED", |_| cut(zstded(), 6)),
    refuse("H11b_zstd_magic_only", "TRUNCATED", |_| zstded()[..4].to_vec()),
    refuse("H12_zstd_checksum", "BAD_COMPRESSION", |_| flip(zstded(), 2)),
    refuse("H12b_zstd_damaged", "BAD_COMPRESSION", |_| {
        let mut bytes = zstded();
        bytes[10] ^= 0xff;
        bytes
    }),
    refuse("H13_zstd_then_garbage", "TRAILING_DATA", |_| with(zstded(), b"garbage bytes")),
    refuse("H13b_zstd_then_zeros", "TRAILING_DATA", |_| with(zstded(), &[0; 16])),
    accept("H14_zstd_frames", |_| {
        let bytes = plain();
        [zstd(&bytes[..100], 0), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(&bytes[100..], 0)].concat()
    }),
    accept("H14b_zstd_skippable_first", |_| [b"\x5f\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstded()].concat()),
    refuse("H14c_zstd_skippable_cut", "TRUNCATED", |_| {
        [zstded(), b"\x50\x2a\x4d\x18\xff\xff\xff\xffabc".to_vec()].concat()
    }),
    refuse("H15_zstd_content_size_lies", "BAD_COMPRESSION", |_| {
        // A raw last block of 3 bytes in a frame that says 5.
        b"\x28\xb5\x2f\xfd\x20\x05\x19\0\0abc".to_vec()
    }),
    refuse("H15b_zstd_dictionary", "BAD_COMPRESSION", |_| {
        b"\x28\xb5\x2f\xfd\x21\x07\x03\x19\0\0abc".to_vec()
    }),
    refuse("H16_one_byte", "TRUNCATED", |_| vec![b'x']),
    refuse("H17_zstd_reserved_bit", "BAD_COMPRESSION", |_| b"\x28\xb5\x2f\xfd\x28\x03\x19\0\0abc".to_vec()),
];

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    crate::noise::noise(7, length)
}
