//! What the writer writes: read back equal by us, and read alike by GNU tar, bsdtar and Python.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod common;

use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};

use common::*;
use layerstore_changeset::tar::Writer;
use layerstore_changeset::{
    Change, ChangeSink, Chunk, Code, Device, Entry, Error, FileData, Kind, Metadata, RelPath, Result, Time,
    Xattrs,
};
use proptest::prelude::*;
use rstest::rstest;

struct Pieces<'a>(std::slice::Iter<'a, Piece>);

impl FileData for Pieces<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        Ok(self.0.next().map(|piece| match piece {
            Piece::Data(data) => Chunk::Data(data),
            Piece::Hole(count) => Chunk::Hole(*count),
        }))
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn write(items: &[Seen]) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for item in items {
        let mut pieces = item.data.as_ref().map(|pieces| Pieces(pieces.iter()));
        writer.put(item.change.clone(), pieces.as_mut().map(|data| data as &mut dyn FileData))?;
    }
    writer.finish()
}

fn put(path: &str, kind: Kind) -> Seen {
    let path = if path == "." { RelPath::root() } else { RelPath::new(path).unwrap() };
    let data = matches!(kind, Kind::File { .. }).then(Vec::new);
    Seen {
        change: Change::Put(Entry { path, kind, metadata: Metadata { mode: 0o644, ..Metadata::default() } }),
        data,
    }
}

fn remove(path: &str) -> Seen {
    Seen { change: Change::Remove(RelPath::new(path).unwrap()), data: None }
}

fn opaque(path: &str) -> Seen {
    Seen { change: Change::Opaque(RelPath::new(path).unwrap()), data: None }
}

const FILE: Kind = Kind::File { size: 0 };

fn written(items: &[Seen]) -> Vec<String> {
    outcome(&write(items).unwrap()).unwrap()
}

#[test]
fn whiteouts_are_explicit_and_never_stand_beside_what_replaces_the_name() {
    assert_eq!(written(&[remove("a/x"), opaque("d")]), ["remove a/x", "opaque d"]);
    assert_eq!(written(&[remove("a/x"), put("a/x", FILE)]), ["file a/x 0"]);
    assert_eq!(
        written(&[remove("x"), put("x", Kind::Directory), put("x/y", FILE)]),
        ["dir x", "opaque x", "file x/y 0"]
    );
    assert_eq!(written(&[remove("x"), put("y", FILE)]), ["remove x", "file y 0"]);
    assert_eq!(written(&[remove("x"), put("x", Kind::Socket), put("y", FILE)]), ["remove x", "file y 0"]);
    assert_eq!(written(&[put("x", FILE), remove("y")]), ["file x 0", "remove y"]);
}

#[test]
fn a_socket_is_left_out_with_a_warning() {
    let mut writer = Writer::new(Vec::new());
    writer.put(put("run/s", Kind::Socket).change, None).unwrap();
    assert_eq!(writer.warnings().len(), 1);
    assert!(writer.warnings()[0].contains("run/s"));
    assert_eq!(writer.finish().unwrap(), vec![0; 1024]);
}

#[rstest]
#[case::user_file(put("etc/.wh.x", FILE))]
#[case::directory(put(".wh.d", Kind::Directory))]
#[case::below(put(".wh.d/x", FILE))]
#[case::opaque_name(put("d/.wh..wh..opq", FILE))]
#[case::removed(remove(".wh.x"))]
#[case::link(put("h", Kind::HardLink { target: RelPath::new(".wh.x").unwrap() }))]
#[case::char_0_0(put("c", Kind::CharDevice(Device { major: 0, minor: 0 })))]
#[case::root_file(put(".", FILE))]
fn what_a_layer_cannot_say_is_an_error_that_names_it(#[case] item: Seen) {
    let error = write(std::slice::from_ref(&item)).unwrap_err();
    let Error::Unrepresentable { name, .. } = &error else { panic!("{error}") };
    assert_eq!(*name, item.change.path().to_string());
}

#[rstest]
#[case::short(vec![Piece::Data(vec![1; 9])])]
#[case::long(vec![Piece::Data(vec![1; 9]), Piece::Hole(2)])]
#[case::hole_of_everything(vec![Piece::Hole(u64::MAX)])]
fn a_file_that_changed_while_it_was_read_is_an_error(#[case] data: Vec<Piece>) {
    let mut item = put("f", Kind::File { size: 10 });
    item.data = Some(data);
    assert_eq!(write(&[item]).unwrap_err().code(), Some(Code::SizeMismatch));
}

/// A component that a layer may have.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => proptest::char::range('a', 'z').prop_map(|c| c as u8), 1 => 1..=255_u8];
    prop_oneof![
        6 => proptest::collection::vec(byte.clone(), 1..20),
        1 => proptest::collection::vec(byte, 90..=255),
        1 => Just("grüße".as_bytes().to_vec()),
    ]
    .prop_map(|name| name.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect::<Vec<u8>>())
    .prop_filter("reserved", |name| name != b"." && name != b".." && !name.starts_with(b".wh."))
}

fn path() -> impl Strategy<Value = RelPath> {
    proptest::collection::vec(component(), 1..4).prop_map(|parts| RelPath::new(parts.join(&b'/')).unwrap())
}

fn kind() -> impl Strategy<Value = (Kind, Option<Vec<Piece>>)> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..2000).prop_map(Piece::Data),
        (1..100_000_u64).prop_map(Piece::Hole)
    ];
    let device = (0..4096_u32, 1..1_048_576_u32).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        4 => proptest::collection::vec(piece, 0..4).prop_map(|pieces| {
            let size = pieces.iter().map(|piece| match piece {
                Piece::Data(data) => data.len() as u64,
                Piece::Hole(count) => *count,
            }).sum();
            (Kind::File { size }, Some(pieces))
        }),
        2 => Just((Kind::Directory, None)),
        2 => proptest::collection::vec(1..=255_u8, 1..300).prop_map(|target| (Kind::Symlink { target: target.into() }, None)),
        1 => path().prop_map(|target| (Kind::HardLink { target }, None)),
        1 => Just((Kind::Fifo, None)),
        1 => device.clone().prop_map(|device| (Kind::CharDevice(device), None)),
        1 => device.prop_map(|device| (Kind::BlockDevice(device), None)),
    ]
}

fn metadata(past: bool) -> impl Strategy<Value = Metadata> {
    let seconds = if past { (i64::MIN + 1..=i64::MAX).boxed() } else { (0..1_i64 << 34).boxed() };
    let time = (seconds, prop_oneof![Just(0), 1..1_000_000_000_u32])
        .prop_map(|(seconds, nanos)| Time { seconds, nanos });
    let id = || prop_oneof![Just(0), 0..70_000_u32, 0..=u32::MAX - 1];
    let xattr = (component(), proptest::collection::vec(any::<u8>(), 0..300));
    let xattrs = proptest::collection::vec(xattr, 0..2).prop_map(|list| {
        let named = |(name, value): (Vec<u8>, Vec<u8>)| {
            ([b"user.".to_vec(), name.get(..200).unwrap_or(&name).to_vec()].concat().into(), value.into())
        };
        list.into_iter().map(named).collect::<Xattrs>()
    });
    (id(), id(), 0..=0o7777_u32, time, xattrs).prop_map(|(uid, gid, mode, mtime, xattrs)| Metadata {
        uid,
        gid,
        mode,
        mtime,
        xattrs,
    })
}

/// Changes of different paths.
fn items(past: bool, marks: bool) -> impl Strategy<Value = Vec<Seen>> {
    let item = (path(), kind(), metadata(past), 0..10_u8).prop_filter_map(
        "link to itself",
        move |(path, (kind, data), metadata, mark)| {
            let change = match mark {
                0 if marks => Change::Remove(path),
                1 if marks => Change::Opaque(path),
                _ => {
                    if kind == (Kind::HardLink { target: path.clone() }) {
                        return None;
                    }
                    Change::Put(Entry { path, kind, metadata })
                }
            };
            let data = if matches!(change, Change::Put(_)) { data } else { None };
            Some(Seen { change, data })
        },
    );
    proptest::collection::vec(item, 0..12).prop_map(|mut items| {
        let mut paths = std::collections::BTreeSet::new();
        items.retain(|item| paths.insert(item.change.path().clone()));
        items
    })
}

fn filled(items: &[Seen]) -> Vec<(Change, Vec<u8>)> {
    items.iter().map(|item| (item.change.clone(), item.bytes())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(items in items(true, true)) {
        let bytes = write(&items).unwrap();
        prop_assert_eq!(&bytes, &write(&items).unwrap(), "the same changes give the same bytes");
        let (seen, warnings) = read(&bytes).unwrap();
        prop_assert_eq!(filled(&seen), filled(&items));
        prop_assert_eq!(warnings, Vec::<String>::new());
        assert_record_gives_it_back(&bytes);
    }
}

fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, input).unwrap();
    let output = command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::from(file.reopen().unwrap()))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Name, type, size, mode, ids, seconds, link target and data of each entry, as Python's tarfile reads it.
const PYTHON: &str = r"
import sys, tarfile, hashlib
h = lambda text: text.encode('utf-8', 'surrogateescape').hex()
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8', errors='surrogateescape') as archive:
    for m in archive:
        data = hashlib.sha256(archive.extractfile(m).read()).hexdigest() if m.isreg() else '-'
        print(h(m.name), m.type.decode(), m.size, m.mode, m.uid, m.gid, int(m.mtime // 1), h(m.linkname), m.devmajor, m.devminor, data)
";

fn python_line(item: &Seen) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let Change::Put(entry) = &item.change else { panic!("{item:?}") };
    let none = Device { major: 0, minor: 0 };
    let (kind, size, link, device): (_, _, &[u8], _) = match &entry.kind {
        Kind::File { size } => (0, *size, b"", none),
        Kind::HardLink { target } => (1, 0, target.as_bytes(), none),
        Kind::Symlink { target } => (2, 0, target, none),
        Kind::CharDevice(device) => (3, 0, b"", *device),
        Kind::BlockDevice(device) => (4, 0, b"", *device),
        Kind::Directory => (5, 0, b"", none),
        _ => (6, 0, b"", none),
    };
    let data =
        item.data.as_ref().map_or("-".to_owned(), |_| layerstore_changeset::Digest::of(&item.bytes()).hex());
    let Metadata { mode, uid, gid, mtime, .. } = &entry.metadata;
    let (name, link) = (hex(entry.path.as_bytes()), hex(link));
    let Device { major, minor } = device;
    format!("{name} {kind} {size} {mode} {uid} {gid} {} {link} {major} {minor} {data}", mtime.seconds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn other_programs_read_the_same(items in items(false, false)) {
        let bytes = write(&items).unwrap();
        let expected: Vec<Vec<u8>> = items
            .iter()
            .map(|item| {
                let Change::Put(entry) = &item.change else { unreachable!() };
                let slash: &[u8] = if entry.kind == Kind::Directory { b"/" } else { b"" };
                [entry.path.as_bytes(), slash].concat()
            })
            .collect();
        let gnu = run(Command::new("tar").args(["--quoting-style=escape", "-tf", "-"]), &bytes);
        prop_assert_eq!(listed(&gnu), expected.clone(), "GNU tar");
        let bsd = run(Command::new("bsdtar").args(["-tf", "-"]), &bytes);
        prop_assert_eq!(listed(&bsd), expected, "bsdtar");
        let python = String::from_utf8(run(Command::new("python3").args(["-c", PYTHON]), &bytes)).unwrap();
        prop_assert_eq!(
            python.lines().map(str::to_owned).collect::<Vec<_>>(),
            items.iter().map(python_line).collect::<Vec<_>>()
        );
    }
}
