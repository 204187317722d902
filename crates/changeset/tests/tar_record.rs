//! The record of an archive: what it looks like, that it gives the archive back, and that it notices changes.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::io::Read;

use base64::Engine as _;
use common::*;
use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::record::{Recorder, assemble};
use layerstore_changeset::tar::Reader;
use layerstore_changeset::{Code, Limits};
use rstest::rstest;
use serde_json::{Value, json};

fn record_of(bytes: &[u8]) -> Vec<u8> {
    let recorder = Recorder::new(Vec::new()).unwrap();
    Reader::recording(bytes, Limits::default(), recorder).finish().unwrap().record.unwrap()
}

fn lines_of(record: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    Decompressor::detect(record, &Limits::default()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_is_what_tar_split_writes() {
    let bytes = archive(&[dir("d/"), file("d/a<b>", "123456789"), file(b"\xff", "x"), link(b'2', "l", "t")]);
    let mut at = 0;
    let mut segment = |length: usize, position: u64| {
        at += length;
        let payload = base64::engine::general_purpose::STANDARD.encode(&bytes[at - length..at]);
        json!({"type": 2, "payload": payload, "position": position})
    };
    // A segment for each header, with the padding before it; the payloads are left out.
    let mut expected = vec![segment(512, 0), segment(512, 1)];
    // The check value of CRC-64/GO-ISO.
    expected.push(json!({"type": 1, "name": "d/a<b>", "size": 9, "payload": "uQlWx3WkEAE=", "position": 2}));
    let start = 1024 + 9;
    let rest = |from: usize, to: usize, position: u64| {
        let payload = base64::engine::general_purpose::STANDARD.encode(&bytes[from..to]);
        json!({"type": 2, "payload": payload, "position": position})
    };
    expected.push(rest(start, 2048, 3));
    let raw = lines_of(&record_of(&bytes))[4].clone();
    assert_eq!((&raw["name_raw"], &raw["size"], &raw["position"]), (&json!("/w=="), &json!(1), &json!(4)));
    assert_eq!(raw.get("name"), None);
    expected.push(raw);
    expected.push(rest(2049, 3072, 5));
    expected.push(rest(3072, bytes.len(), 6));
    assert_eq!(lines_of(&record_of(&bytes)), expected);
}

#[rstest]
#[case::empty(vec![])]
#[case::end_mark(vec![0; 1024])]
#[case::no_end_mark(file("a", "x").bytes())]
#[case::trailing_garbage([archive(&[file("a", "x")]), vec![7; 3_000_001]].concat())]
#[case::char_0_0(archive(&[raw(b'3', "c"), file("a", "x")]))]
#[case::padding_that_is_not_zero([&file("a", "x").bytes()[..513], &[5; 511][..], &[0; 1024]].concat())]
#[case::whiteouts(archive(&[file(".wh.x", ""), file("d/.wh..wh..opq", ""), file("y", vec![3; 70_000])]))]
#[case::extensions(archive(&[pax(&[("path", b"p")]), file("a", "x"), gnu_long(b'L', b"long"), file("b", "y")]))]
#[case::large(archive(&[file("a", vec![1; 3 << 20]), file("b", vec![2; 300_000])]))]
fn it_gives_the_archive_back(#[case] bytes: Vec<u8>) {
    assert_record_gives_it_back(&bytes);
}

/// What follows an archive's end mark is kept, whatever it is: a few bytes of a blob may make many of them.
#[test]
fn zeros_behind_the_end_take_little() {
    const ZEROS: usize = 16 << 20;
    let bytes = [archive(&[file("a", "x")]), vec![0; ZEROS]].concat();
    let record = record_of(&bytes);
    assert!(record.len() < ZEROS / 400, "{} bytes", record.len());
}

fn assembled(content: &'static [u8]) -> Result<Vec<u8>, (Option<Code>, String)> {
    let record = record_of(&archive(&[file("etc/motd", "hello")]));
    let mut out = Vec::new();
    assemble(&*record, &mut |_: &[u8]| Ok(content), &mut out)
        .map(|_| out)
        .map_err(|error| (error.code(), error.to_string()))
}

#[test]
fn it_notices_that_a_file_changed() {
    assert!(assembled(b"hello").is_ok());
    let (code, text) = assembled(b"hullo").unwrap_err();
    assert_eq!(code, Some(Code::DigestMismatch));
    assert!(text.contains("file integrity checksum failed for etc/motd"), "{text}");
    assert_eq!(assembled(b"hell").unwrap_err().0, Some(Code::SizeMismatch));
    assert_eq!(assembled(b"hello!").unwrap_err().0, Some(Code::SizeMismatch));
}

#[rstest]
#[case::no_json(b"nonsense\n".as_slice())]
#[case::unknown_type(br#"{"type":3,"payload":"","position":0}"#)]
#[case::no_base64(br#"{"type":2,"payload":"?","position":0}"#)]
#[case::negative(br#"{"type":1,"name":"a","size":-1,"payload":"","position":0}"#)]
fn a_damaged_record_is_refused(#[case] record: &[u8]) {
    let error = assemble(record, &mut |_: &[u8]| Ok(&b""[..]), &mut Vec::new()).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument));
}

#[test]
fn a_record_of_tar_split_is_read() {
    // What vbatts/tar-split writes: a file line for every entry, null where it has no payload.
    let record = concat!(
        r#"{"type":2,"payload":"QUJD","position":0}"#,
        "\n",
        r#"{"type":1,"name":"dir/","payload":null,"position":1}"#,
        "\n",
        r#"{"type":1,"name":"f\u003c","size":9,"payload":"uQlWx3WkEAE=","position":2}"#,
        "\n",
        r#"{"type":2,"payload":"REVG","position":3}"#,
        "\n",
    );
    let mut out = Vec::new();
    let mut open = |name: &[u8]| {
        assert_eq!(name, b"f<");
        Ok(&b"123456789"[..])
    };
    assert_eq!(assemble(record.as_bytes(), &mut open, &mut out).unwrap(), 15);
    assert_eq!(out, b"ABC123456789DEF");
}
