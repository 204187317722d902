//! Archives that are cut or damaged anywhere: refused, or read as far as they go; never a panic, never a hang.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore_changeset::{Change, Code, Kind, Limits};
use proptest::prelude::*;

/// An archive with everything in it.
fn everything() -> Vec<u8> {
    let sparse_data: Vec<u8> = [&b"1\n1000\n3\n"[..], &[0; 503], b"abc"].concat();
    let sparse: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    archive(&[
        raw(b'g', "pax_global_header").data(record("comment", "c")),
        dir("d/"),
        file("d/a", vec![7; 1500]),
        pax(&[("path", &b"/long".repeat(50)), ("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"b")]),
        file("x", "data"),
        gnu_long(b'K', [b't'; 200]),
        gnu_long(b'L', [b'n'; 200]),
        link(b'2', "s", "t"),
        pax(&sparse),
        file("GNUSparseFile.1/sparse", sparse_data),
        link(b'1', "h", "d/a"),
        file(".wh.gone", ""),
        file("d/.wh..wh..opq", ""),
        raw(b'6', "pipe"),
        raw(b'3', "null").at(329, "0000001\0").at(337, "0000003\0"),
        file("last", vec![9; 512]),
    ])
}

/// A cut archive gives what the whole one gives up to some entry, and either ends well there or is refused.
fn check_cut(whole: &[Seen], bytes: &[u8], cut: usize) {
    let (seen, _, error) = read_partly(&bytes[..cut], Limits::default());
    assert_eq!(seen, whole[..seen.len()], "cut at {cut}");
    match error {
        None => {
            let last = &bytes[..cut];
            assert!(
                cut.is_multiple_of(512) || ends_with_data(last),
                "an entry was cut at {cut} and nobody noticed"
            );
        }
        Some(error) => {
            // An extension header at the very end is dangling or cut off: both say what happened.
            let code = error.code();
            assert!(matches!(code, Some(Code::Truncated | Code::BadExtension)), "cut at {cut}: {error}");
        }
    }
}

/// Whether an archive ends right behind the data of one of the files of [`everything`].
fn ends_with_data(bytes: &[u8]) -> bool {
    [&[7; 1500][..], b"data", b"abc"].iter().any(|data| bytes.ends_with(data))
}

#[test]
fn the_last_file_may_come_without_padding_and_end_mark() {
    let bytes = archive(&[file("before", "x"), file("a", vec![7; 1500])]);
    let whole = read(&bytes).unwrap().0;
    let cut = 512 + 512 + 512 + 1500;
    let (seen, warnings, error) = read_partly(&bytes[..cut], Limits::default());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(seen, whole);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_record_gives_it_back(&bytes[..cut]);
}

#[test]
fn a_cut_archive_is_a_prefix_or_refused() {
    let bytes = everything();
    let (whole, _) = read(&bytes).unwrap();
    for cut in 0..bytes.len() {
        if cut % 512 < 2 || cut % 512 > 510 || cut % 37 == 0 {
            check_cut(&whole, &bytes, cut);
        }
    }
}

#[test]
fn an_entry_whose_data_is_cut_is_never_taken_as_whole() {
    let bytes = archive(&[file("a", vec![7; 1500])]);
    for cut in (513..2048).filter(|&cut| cut != 512 + 1500) {
        let (_, _, error) = read_partly(&bytes[..cut], Limits::default());
        assert_eq!(error.and_then(|error| error.code()), Some(Code::Truncated), "cut at {cut}");
    }
}

/// Sets the checksums of all blocks that look like headers right, so that damage gets past them.
fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_archive_is_read_or_refused(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = everything();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        repair(&mut bytes);
        let (seen, _, error) = read_partly(&bytes, Limits::default());
        for seen in &seen {
            let Change::Put(entry) = &seen.change else { continue };
            if let (Kind::File { size }, Some(data)) = (&entry.kind, &seen.data) {
                let sum: u64 = data.iter().map(|piece| match piece {
                    Piece::Data(data) => data.len() as u64,
                    Piece::Hole(count) => *count,
                }).sum();
                prop_assert_eq!(*size, sum, "chunks add up");
            }
        }
        if let Some(error) = error {
            prop_assert!(error.code().is_some(), "{}", error);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 512..4096)) {
        prop_assert!(read(&bytes).unwrap_err().code().is_some());
    }
}
