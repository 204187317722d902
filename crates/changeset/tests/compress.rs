//! Compressed streams: what is read, what is refused, and that nothing is left running.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use layerstore_changeset::compress::{Compression, Compressor, Decompressor, Threaded};
use layerstore_changeset::{Code, Error, Limits};
use rstest::rstest;

fn compress(compression: Compression, data: &[u8]) -> Vec<u8> {
    let mut out = Compressor::new(Vec::new(), compression, None).unwrap();
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// Reads with an input buffer of `step` bytes, so that every boundary falls everywhere.
fn decompress_by(bytes: &[u8], step: usize, limits: &Limits) -> Result<Vec<u8>, Error> {
    let compression = Compression::detect(bytes)?;
    let mut reader = Decompressor::new(BufReader::with_capacity(step, bytes), compression, limits)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out).map_err(|error| Error::stream("reading", error))?;
    Ok(out)
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, Option<Code>> {
    decompress_by(bytes, 8 << 10, &Limits::default()).map_err(|error| error.code())
}

fn sample() -> Vec<u8> {
    let mut state = 7_u32;
    (0..300_000_u32)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 5000 < 2500 { (state >> 24) as u8 } else { (at / 700) as u8 }
        })
        .collect()
}

/// A zstd frame that is skipped: magic, length, content.
fn skippable(content: &[u8]) -> Vec<u8> {
    [&[0x53, 0x2a, 0x4d, 0x18][..], &(content.len() as u32).to_le_bytes(), content].concat()
}

#[rstest]
fn what_is_compressed_comes_back(
    #[values(Compression::None, Compression::Gzip, Compression::Zstd)] compression: Compression,
    #[values(1, 7, 4096, 1 << 20)] step: usize,
    #[values(0, 1, 300_000)] length: usize,
) {
    let data = &sample()[..length];
    let compressed = compress(compression, data);
    assert_eq!(compressed, compress(compression, data), "the same input gives the same bytes");
    assert_eq!(Compression::detect(&compressed).unwrap(), compression);
    assert_eq!(decompress_by(&compressed, step, &Limits::default()).unwrap(), data);
}

#[rstest]
#[case::gzip_members(&[compress(Compression::Gzip, b"one"), compress(Compression::Gzip, b"two")], Ok("onetwo"))]
#[case::gzip_empty_member(&[compress(Compression::Gzip, b""), compress(Compression::Gzip, b"two")], Ok("two"))]
#[case::gzip_zero_padding(&[compress(Compression::Gzip, b"one"), vec![0; 20_000]], Ok("one"))]
#[case::gzip_trailing_text(&[compress(Compression::Gzip, b"one"), b"trailing".to_vec()], Err(Code::TrailingData))]
#[case::gzip_member_after_padding(&[compress(Compression::Gzip, b"one"), vec![0; 5], compress(Compression::Gzip, b"two")], Err(Code::TrailingData))]
#[case::gzip_bad_member(&[compress(Compression::Gzip, b"one"), vec![0x1f, 0x8b, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0]], Err(Code::BadCompression))]
#[case::zstd_frames(&[compress(Compression::Zstd, b"one"), compress(Compression::Zstd, b"two")], Ok("onetwo"))]
#[case::zstd_skippable_first(&[skippable(b"x"), compress(Compression::Zstd, b"one")], Ok("one"))]
#[case::zstd_skippable_last(&[compress(Compression::Zstd, b"one"), skippable(&[7; 20_000]), compress(Compression::Zstd, b"two"), skippable(b"")], Ok("onetwo"))]
#[case::zstd_trailing_text(&[compress(Compression::Zstd, b"one"), b"trailing".to_vec()], Err(Code::TrailingData))]
#[case::zstd_trailing_byte(&[compress(Compression::Zstd, b"one"), b"x".to_vec()], Err(Code::TrailingData))]
#[case::zstd_cut_magic(&[compress(Compression::Zstd, b"one"), vec![0x28, 0xb5]], Err(Code::TrailingData))]
#[case::zstd_trailing_zeros(&[compress(Compression::Zstd, b"one"), vec![0; 512]], Err(Code::TrailingData))]
#[case::zstd_cut_skippable(&[compress(Compression::Zstd, b"one"), skippable(b"abcdef")[..10].to_vec()], Err(Code::Truncated))]
fn members_and_frames_follow_each_other(
    #[case] parts: &[Vec<u8>],
    #[case] expected: Result<&str, Code>,
    #[values(1, 3, 8192)] step: usize,
) {
    let got = decompress_by(&parts.concat(), step, &Limits::default()).map_err(|error| error.code().unwrap());
    assert_eq!(got, expected.map(|text| text.as_bytes().to_vec()));
}

#[rstest]
#[case::bzip2(b"BZh91AY&SY", "bzip2")]
#[case::xz(b"\xfd7zXZ\0\0\x04", "xz")]
#[case::lz4(b"\x04\x22\x4d\x18", "lz4")]
#[case::compress(b"\x1f\x9d\x90", "compress")]
#[case::zip(b"PK\x03\x04", "zip")]
fn foreign_compression_is_refused_by_its_name(#[case] start: &[u8], #[case] name: &str) {
    let error = Compression::detect(start).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadCompression));
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn an_archive_whose_first_name_looks_like_a_magic_number_is_no_foreign_compression() {
    let metadata = layerstore_changeset::Metadata::default();
    let path = layerstore_changeset::RelPath::new("BZh.txt").unwrap();
    let entry = layerstore_changeset::Entry { path, kind: layerstore_changeset::Kind::Fifo, metadata };
    let mut writer = layerstore_changeset::tar::Writer::new(Vec::new());
    let change = layerstore_changeset::Change::Put(entry);
    layerstore_changeset::ChangeSink::put(&mut writer, change, None).unwrap();
    assert_eq!(Compression::detect(&writer.finish().unwrap()).unwrap(), Compression::None);
}

#[rstest]
fn a_cut_stream_is_truncated_wherever_it_is_cut(
    #[values(Compression::Gzip, Compression::Zstd)] compression: Compression,
) {
    let whole = compress(compression, &sample()[..20_000]);
    for cut in (4..whole.len()).step_by(whole.len() / 97).chain([whole.len() - 1]) {
        assert_eq!(decompress(&whole[..cut]), Err(Some(Code::Truncated)), "cut at {cut}");
    }
}

#[rstest]
fn a_flipped_bit_is_noticed(#[values(Compression::Gzip, Compression::Zstd)] compression: Compression) {
    let whole = compress(compression, &sample()[..20_000]);
    let mut unnoticed = Vec::new();
    // gzip's header has fields that mean nothing to the data.
    for at in (12..whole.len()).step_by(whole.len() / 97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        if decompress(&bytes).is_ok() {
            unnoticed.push(at);
        }
    }
    assert_eq!(unnoticed, Vec::<usize>::new());
}

#[test]
fn a_bad_gzip_checksum_is_refused() {
    let mut bytes = compress(Compression::Gzip, b"data");
    let at = bytes.len() - 8;
    bytes[at] ^= 1;
    assert_eq!(decompress(&bytes), Err(Some(Code::BadCompression)));
}

#[test]
fn the_zstd_window_is_capped() {
    // A frame that claims a window of 2^30: magic, descriptor without a content size, window byte.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (30 - 10) << 3, 1, 0, 0];
    assert_eq!(decompress(&frame), Err(Some(Code::LimitExceeded)));
    let limits = Limits { zstd_window_log: 30, ..Limits::default() };
    assert_eq!(decompress_by(&frame, 8192, &limits).unwrap(), b"");
}

#[rstest]
fn a_thread_gives_the_same_bytes_and_the_reader_back(#[values(0, 1, 300_000, 5_000_000)] length: usize) {
    let data: Vec<u8> = sample().into_iter().cycle().take(length).collect();
    let inner = layerstore_changeset::digest::Hashing::new(io::Cursor::new(data.clone()));
    let mut reader = Threaded::new("test", inner).unwrap();
    let mut half = vec![0; length / 2];
    reader.read_exact(&mut half).unwrap();
    assert_eq!(half, data[..length / 2]);
    let (_, digest, bytes) = reader.finish().unwrap().finish();
    assert_eq!((digest, bytes), (layerstore_changeset::Digest::of(&data), length as u64));
}

#[rstest]
fn a_thread_that_looks_on_sees_every_byte(#[values(0, 1, 300_000, 5_000_000)] length: usize) {
    let data: Vec<u8> = sample().into_iter().cycle().take(length).collect();
    let seen = |seen: &mut Vec<u8>, bytes: &[u8]| seen.extend_from_slice(bytes);
    let reader = Threaded::new("test", io::Cursor::new(data.clone())).unwrap();
    let mut reader = reader.tapped("tap", Vec::new(), seen).unwrap();
    let mut half = vec![0; length / 2];
    reader.read_exact(&mut half).unwrap();
    assert_eq!(half, data[..length / 2]);
    let (inner, seen) = reader.finish().unwrap();
    assert_eq!(inner.position(), length as u64);
    assert!(seen == data, "other bytes were seen");
}

#[test]
fn a_dropped_reader_stops_the_threads_that_look_on_and_their_errors_come_through() {
    let dropped = Arc::new(AtomicBool::new(false));
    let reader = Threaded::new("test", Endless { left: u64::MAX, dropped: dropped.clone() }).unwrap();
    let mut reader = reader.tapped("tap", (), |_, _| {}).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    wait_until_dropped(&dropped);
    let reader = Threaded::new("test", Endless { left: 1 << 20, dropped }).unwrap();
    let mut reader = reader.tapped("tap", (), |_, _| {}).unwrap();
    let error = Error::stream("reading", reader.read_to_end(&mut Vec::new()).unwrap_err());
    assert_eq!(error.code(), Some(Code::DigestMismatch));
    assert!(reader.finish().is_err());
}

/// Gives zeros for ever, or an error after a while, and says when it is dropped.
struct Endless {
    left: u64,
    dropped: Arc<AtomicBool>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(buffer.len() as u64);
        self.left = left.ok_or_else(|| Error::refused(Code::DigestMismatch, "blob", "wrong").into_io())?;
        Ok(buffer.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

fn wait_until_dropped(dropped: &AtomicBool) {
    let started = Instant::now();
    while !dropped.load(Ordering::SeqCst) {
        assert!(started.elapsed() < Duration::from_secs(20), "the thread is still there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_dropped_reader_stops_its_thread() {
    let dropped = Arc::new(AtomicBool::new(false));
    let mut reader = Threaded::new("test", Endless { left: u64::MAX, dropped: dropped.clone() }).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    wait_until_dropped(&dropped);
}

#[test]
fn an_error_comes_through_a_thread_as_it_was_and_stays() {
    let dropped = Arc::new(AtomicBool::new(false));
    let mut reader = Threaded::new("test", Endless { left: 1 << 20, dropped }).unwrap();
    let mut out = Vec::new();
    let error = Error::stream("reading", reader.read_to_end(&mut out).unwrap_err());
    assert_eq!(error.code(), Some(Code::DigestMismatch));
    assert!(reader.read(&mut [0; 8]).is_err(), "an error is not an end");
    assert!(reader.finish().is_err());
}
