//! Sparse files of every form, good and bad.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore_changeset::Code;
use rstest::rstest;

fn octal(value: u64) -> String {
    format!("{value:011o}\0")
}

/// An old GNU sparse header with these entries in it.
fn gnu(segments: &[(u64, u64)], size: &str, data: &[u8], extended: bool) -> Raw {
    let mut header = raw(b'S', "f").gnu().data(data).at(483, size);
    for (index, (offset, length)) in segments.iter().enumerate() {
        header = header.at(386 + 24 * index, octal(*offset)).at(398 + 24 * index, octal(*length));
    }
    if extended { header.at(482, [1]) } else { header }
}

fn chain(segments: &[(u64, u64)], extended: bool) -> Vec<u8> {
    let mut block = vec![0; 512];
    for (index, (offset, length)) in segments.iter().enumerate() {
        block[24 * index..24 * index + 12].copy_from_slice(octal(*offset).as_bytes());
        block[24 * index + 12..24 * index + 24].copy_from_slice(octal(*length).as_bytes());
    }
    block[504] = u8::from(extended);
    block
}

fn v1(map: &str, data: &str, size: &str) -> Vec<Raw> {
    let mut payload = map.as_bytes().to_vec();
    payload.resize(payload.len().next_multiple_of(512), 0);
    payload.extend(data.as_bytes());
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    vec![pax(&records), file("GNUSparseFile.0/f", payload)]
}

fn v01(map: &str, blocks: &str, data: &str, size: &str) -> Vec<Raw> {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", blocks.as_bytes()),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    vec![pax(&records), file("GNUSparseFile.0/f", data)]
}

fn v00(pairs: &[(&str, &str)], data: &str, size: &str) -> Vec<Raw> {
    let blocks = pairs.len().to_string();
    let mut records: Vec<(&str, &[u8])> =
        vec![("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.numblocks", blocks.as_bytes())];
    for (offset, length) in pairs {
        records.push(("GNU.sparse.offset", offset.as_bytes()));
        records.push(("GNU.sparse.numbytes", length.as_bytes()));
    }
    vec![pax(&records), file("f", data)]
}

fn data(text: &str) -> Piece {
    Piece::Data(text.as_bytes().to_vec())
}

#[rstest]
#[case::gnu(archive(&[gnu(&[(2, 3), (10, 0)], &octal(10), b"abc", false), file("next", "")]))]
#[case::gnu_base_256(archive(&[gnu(&[(2, 3)], &octal(10), b"abc", false).at(386, [&[0x80][..], &[0; 10], &[2]].concat()), file("next", "")]))]
#[case::v1(archive(&[v1("2\n2\n3\n10\n0\n", "abc", "10"), vec![file("next", "")]].concat()))]
#[case::v01(archive(&[v01("2,3,10,0", "2", "abc", "10"), vec![file("next", "")]].concat()))]
#[case::v00(archive(&[v00(&[("2", "3"), ("10", "0")], "abc", "10"), vec![file("next", "")]].concat()))]
fn every_form_of_a_map_gives_the_same_file(#[case] bytes: Vec<u8>) {
    let (seen, _) = read(&bytes).unwrap();
    assert_eq!(seen.iter().map(|seen| show(&seen.change)).collect::<Vec<_>>(), ["file f 10", "file next 0"]);
    assert_eq!(seen[0].data.as_ref().unwrap(), &[Piece::Hole(2), data("abc"), Piece::Hole(5)]);
}

#[test]
fn a_gnu_map_goes_on_in_further_blocks() {
    let first: Vec<(u64, u64)> = (0..4).map(|at| (at * 10, 1)).collect();
    let second: Vec<(u64, u64)> = (4..25).map(|at| (at * 10, 1)).collect();
    let third: Vec<(u64, u64)> = (25..30).map(|at| (at * 10, 1)).collect();
    let stored: Vec<u8> = (0..30).collect();
    let header = gnu(&first, &octal(1000), &stored, true).bytes();
    let bytes =
        [&header[..512], &chain(&second, true), &chain(&third, false), &header[512..], &[0; 1024]].concat();
    let (seen, _) = read(&bytes).unwrap();
    let expected: Vec<u8> =
        (0..1000).map(|at| if at % 10 == 0 && at < 300 { (at / 10) as u8 } else { 0 }).collect();
    assert_eq!(seen[0].bytes(), expected);
}

#[rstest]
#[case::overlap(v01("0,3,2,1", "2", "abcd", "10"))]
#[case::out_of_order(v01("5,1,0,1", "2", "ab", "10"))]
#[case::past_the_end(v01("8,3", "1", "abc", "10"))]
#[case::sum_too_small(v01("2,2", "1", "abc", "10"))]
#[case::sum_too_large(v01("2,4", "1", "abc", "10"))]
#[case::offset_overflows(v01("9223372036854775807,3", "1", "abc", "10"))]
#[case::odd_map(v01("2,3,4", "1", "abc", "10"))]
#[case::numblocks_differs(v01("2,3", "2", "abc", "10"))]
#[case::negative(v01("-2,3", "1", "abc", "10"))]
#[case::huge(v01("4611686018427387904,3", "1", "abc", "4611686018427387907"))]
#[case::v1_count_too_large(v1("9\n2\n3\n", "abc", "10"))]
#[case::v1_count_huge(v1("9223372036854775807\n2\n3\n", "abc", "10"))]
#[case::v1_no_number(v1("1\nx\n3\n", "abc", "10"))]
#[case::v1_no_newline(v1(&"1".repeat(600), "abc", "10"))]
#[case::v1_without_map(vec![v1("", "", "10")[0].clone(), file("f", "")])]
#[case::v00_length_without_offset(vec![pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.numbytes", b"1")]), file("f", "a")])]
#[case::v00_offset_without_length(vec![pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.numblocks", b"0"), ("GNU.sparse.offset", b"1")]), file("f", "a")])]
#[case::version(vec![pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.size", b"9")]), file("f", "a")])]
#[case::gnu_overlap(vec![gnu(&[(0, 3), (2, 1)], &octal(10), b"abcd", false)])]
#[case::gnu_sum(vec![gnu(&[(0, 3)], &octal(10), b"abcd", false)])]
#[case::gnu_bad_number(vec![gnu(&[(0, 3)], &octal(10), b"abc", false).at(386, "+5")])]
#[case::gnu_without_magic(vec![gnu(&[(0, 3)], &octal(10), b"abc", false).at(257, "ustar\x0000")])]
#[case::g01_claims_4_eib(vec![gnu(&[(0, 3)], "", b"abc", false).at(483, b"\x80\0\0\0\x40\0\0\0\0\0\0\0")])]
fn a_map_that_contradicts_itself_is_refused(#[case] entries: Vec<Raw>) {
    assert_eq!(outcome(&archive(&entries)), Err(Code::BadSparse));
}

#[test]
fn a_sparse_size_over_63_bits_is_no_number() {
    let entry = gnu(&[(0, 3)], "", b"abc", false).at(483, b"\x80\0\0\0\x80\0\0\0\0\0\0\0");
    assert_eq!(outcome(&archive(&[entry])), Err(Code::BadNumeric));
}

#[test]
fn an_endless_gnu_map_is_bounded() {
    let mut bytes = gnu(&[(0, 0), (0, 0), (0, 0), (0, 0)], &octal(10), b"", true).bytes();
    for _ in 0..4096 {
        bytes.extend(chain(&[(0, 0); 21], true));
    }
    assert_eq!(outcome(&bytes), Err(Code::LimitExceeded));
}

#[test]
fn a_gnu_map_that_goes_on_without_entries_is_refused() {
    let header = gnu(&[(0, 3)], &octal(10), b"abc", true).bytes();
    let bytes = [&header[..512], &chain(&[], true), &header[512..], &[0; 1024]].concat();
    assert_eq!(outcome(&bytes), Err(Code::BadSparse));
}

#[test]
fn data_that_nobody_reads_is_skipped() {
    use layerstore_changeset::{ChangeSource, Limits, tar::Reader};
    let bytes = archive(&[v1("1\n2\n3\n", "abc", "10"), vec![file("next", "")]].concat());
    let mut reader = Reader::new(&*bytes, Limits::default());
    assert!(reader.next().unwrap().is_some());
    assert_eq!(reader.next().unwrap().unwrap().change.path().to_string(), "next");
}
