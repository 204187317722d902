//! Everything that the programs installed here write is accepted, read as what it was made from, and given back
//! by its record byte for byte.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use layerstore_changeset::{Change, Kind};
use rstest::rstest;

/// What a tree holds besides short names, files, directories and links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    /// Nothing else.
    Plain,
    /// Fifos and devices, odd bytes in names, a name of 100 bytes.
    Special,
    /// Long names and targets, large ids, times with fractions.
    Everything,
    /// Times before 1970, which most programs round or write their own way.
    Past,
}

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let output =
        command.env("LC_ALL", "C.UTF-8").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sh(directory: &Path, script: &str) {
    run(Command::new("sh").arg("-euc").arg(script).current_dir(directory));
}

fn grow(root: &Path, with: With) {
    fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
    fs::write(root.join("usr/lib/a"), b"").unwrap();
    fs::write(root.join("usr/lib/b"), vec![b'b'; 512]).unwrap();
    fs::write(root.join("usr/lib/deep/c"), vec![b'c'; 700_001]).unwrap();
    fs::hard_link(root.join("usr/lib/b"), root.join("usr/lib/z-link")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("/etc/absolute", root.join("absolute")).unwrap();
    fs::set_permissions(root.join("usr/lib/a"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("usr/lib"), fs::Permissions::from_mode(0o1777)).unwrap();
    if with != With::Plain {
        sh(root, "mkfifo pipe; mknod block b 8 1; mknod char c 259 255; chown 1000:50 usr/lib/a");
        fs::write(root.join("n".repeat(100)), b"hundred").unwrap();
        fs::write(root.join(std::ffi::OsString::from_vec(b"caf\xe9 \\ new\nline".to_vec())), b"odd").unwrap();
        fs::write(root.join("grüße"), b"utf-8").unwrap();
    }
    if matches!(with, With::Everything | With::Past) {
        let long = format!("{}/{}", "directory-of-some-length/".repeat(12), "f".repeat(200));
        fs::create_dir_all(root.join(&long).parent().unwrap()).unwrap();
        fs::write(root.join(&long), b"long").unwrap();
        fs::hard_link(root.join(&long), root.join("zz-link-to-long")).unwrap();
        symlink("t".repeat(300), root.join("long-target")).unwrap();
        sh(root, "chown 4000000000:3000000 usr/lib/deep/c");
        sh(root, "touch -d '2024-05-06T07:08:09.123456789Z' lib -h");
    }
    if with == With::Past {
        sh(root, "touch -d '1960-01-02T03:04:05.25Z' usr/lib/b");
    }
}

/// Compares what was read with the tree, entry by entry.
#[track_caller]
fn assert_same(root: &Path, seen: &[Seen], nanoseconds: bool) {
    let mut left: BTreeMap<PathBuf, fs::Metadata> = BTreeMap::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            left.insert(path, metadata);
        }
    }
    for item in seen {
        let Change::Put(entry) = &item.change else { panic!("{item:?}") };
        if entry.path.is_root() {
            continue;
        }
        let path = root.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
        let metadata = left.remove(&path).unwrap_or_else(|| panic!("{path:?} is not in the tree"));
        let got = &entry.metadata;
        match &entry.kind {
            Kind::HardLink { target } => {
                let target = root.join(std::ffi::OsStr::from_bytes(target.as_bytes()));
                assert_eq!(fs::symlink_metadata(target).unwrap().ino(), metadata.ino(), "{path:?}");
                continue;
            }
            Kind::File { size } => {
                assert_eq!(*size, metadata.len(), "{path:?}");
                assert!(item.bytes() == fs::read(&path).unwrap(), "{path:?}");
            }
            Kind::Directory => assert!(metadata.is_dir()),
            Kind::Symlink { target } => {
                assert_eq!(&**target, fs::read_link(&path).unwrap().as_os_str().as_bytes());
            }
            Kind::Fifo => assert_eq!(metadata.mode() & 0o170_000, 0o010_000),
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                let rdev = metadata.rdev();
                let expected = ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
                assert_eq!((u64::from(device.major), u64::from(device.minor)), expected);
            }
            Kind::Socket => panic!("{path:?}"),
        }
        if !metadata.is_symlink() {
            assert_eq!(got.mode, metadata.mode() & 0o7777, "{path:?}");
        }
        assert_eq!((got.uid, got.gid), (metadata.uid(), metadata.gid()), "{path:?}");
        if nanoseconds {
            let time = (got.mtime.seconds, i64::from(got.mtime.nanos));
            assert_eq!(time, (metadata.mtime(), metadata.mtime_nsec()), "{path:?}");
        } else {
            assert_eq!(got.mtime.seconds, metadata.mtime(), "{path:?}");
        }
    }
    assert_eq!(left.into_keys().collect::<Vec<_>>(), Vec::<PathBuf>::new(), "not in the archive");
}

#[track_caller]
fn check(with: With, nanoseconds: bool, produce: impl FnOnce(&Path) -> Vec<u8>) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("tree");
    fs::create_dir(&root).unwrap();
    grow(&root, with);
    let bytes = produce(&root);
    let (seen, warnings) = read(&bytes).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_same(&root, &seen, nanoseconds);
    assert_record_gives_it_back(&bytes);
}

#[rstest]
#[case("v7", With::Plain, false)]
#[case("ustar", With::Special, false)]
#[case("oldgnu", With::Past, false)]
#[case("gnu", With::Past, false)]
#[case("posix", With::Past, true)]
fn gnu_tar(#[case] format: &str, #[case] with: With, #[case] nanoseconds: bool) {
    check(with, nanoseconds, |root| {
        run(Command::new("tar")
            .args(["--numeric-owner", "--sort=name", "--format", format, "-cf", "-", "-C"])
            .arg(root)
            .arg("."))
    });
}

#[rstest]
#[case("v7", With::Plain, false)]
#[case("ustar", With::Special, false)]
#[case("gnutar", With::Everything, false)]
#[case("pax", With::Everything, true)]
fn bsdtar(#[case] format: &str, #[case] with: With, #[case] nanoseconds: bool) {
    check(with, nanoseconds, |root| {
        run(Command::new("bsdtar")
            .args(["--numeric-owner", "--format", format, "-cf", "-", "-C"])
            .arg(root)
            .arg("."))
    });
}

#[rstest]
#[case("USTAR_FORMAT", With::Special)]
#[case("GNU_FORMAT", With::Everything)]
#[case("PAX_FORMAT", With::Everything)]
fn python_tarfile(#[case] format: &str, #[case] with: With) {
    let script = "import sys, tarfile\n\
        with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=getattr(tarfile, sys.argv[2])) as archive:\n\
        \x20   archive.add(sys.argv[1], arcname='.')";
    check(with, false, |root| run(Command::new("python3").arg("-c").arg(script).arg(root).arg(format)));
}

#[rstest]
#[case::gnu(&["tar", "--format=gnu", "-S"])]
#[case::oldgnu(&["tar", "--format=oldgnu", "-S"])]
#[case::posix_0_0(&["tar", "--format=posix", "-S", "--sparse-version=0.0"])]
#[case::posix_0_1(&["tar", "--format=posix", "-S", "--sparse-version=0.1"])]
#[case::posix_1_0(&["tar", "--format=posix", "-S", "--sparse-version=1.0"])]
#[case::bsdtar_pax(&["bsdtar", "--format=pax"])]
fn sparse_files_keep_their_holes(#[case] command: &[&str]) {
    // A file system that says where the holes are.
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = scratch.path();
    // More pieces than an old GNU header holds, then one that ends in a hole, and one that is nothing else.
    sh(
        root,
        "for i in 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31 33 35 37 39 41 43 45 47 49 51 53; do \
        printf %05d $i | dd of=many bs=65536 seek=$i conv=notrunc status=none; done; \
        printf start > tail; truncate -s 5000000 tail; truncate -s 3000000 hole; \
        d=dir-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/e; \
        mkdir -p $d; cp --sparse=always many $d/a-sparse-file-with-a-long-name",
    );
    let bytes = run(Command::new(command[0]).args(&command[1..]).args(["-cf", "-", "-C"]).arg(root).arg("."));
    let (seen, _) = read(&bytes).unwrap();
    assert_same(root, &seen, false);
    assert_record_gives_it_back(&bytes);
    for seen in seen
        .iter()
        .filter(|seen| matches!(&seen.change, Change::Put(entry) if matches!(entry.kind, Kind::File { .. })))
    {
        let pieces = seen.data.as_ref().unwrap();
        assert!(
            pieces.iter().any(|piece| matches!(piece, Piece::Hole(_))),
            "{} has no hole",
            seen.change.path()
        );
    }
}

#[rstest]
#[case::gnu(&["tar", "--format=posix", "--xattrs", "--acls", "--numeric-owner"])]
#[case::bsdtar(&["bsdtar", "--format=pax", "--xattrs", "--acls", "--numeric-owner"])]
fn attributes_and_acls_are_read(#[case] command: &[&str]) {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = scratch.path();
    sh(
        root,
        "echo x > f; mkdir d; setfattr -n user.note -v 'a=b\nc' f; setfattr -n user.empty f; \
        setfattr -n security.capability -v 0x0100000202000000000000000000000000000000 f; \
        setfacl -m u:12345:rx,g:54321:rwx f; setfacl -d -m u:12345:rx d",
    );
    let bytes =
        run(Command::new(command[0]).args(&command[1..]).args(["-cf", "-", "-C"]).arg(root).args(["f", "d"]));
    let (seen, warnings) = read(&bytes).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_record_gives_it_back(&bytes);
    let kernel = |path: &str, name: &str| {
        let output =
            run(Command::new("getfattr").args(["--only-values", "-h", "-n", name, path]).current_dir(root));
        (name.as_bytes().into(), output.into())
    };
    let expected = BTreeMap::from([
        kernel("f", "user.note"),
        kernel("f", "user.empty"),
        kernel("f", "security.capability"),
        kernel("f", "system.posix_acl_access"),
    ]);
    let got: BTreeMap<_, _> = seen
        .iter()
        .map(|seen| match &seen.change {
            Change::Put(entry) => (entry.path.to_string(), entry.metadata.xattrs.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got["f"], expected);
    assert_eq!(got["d"], BTreeMap::from([kernel("d", "system.posix_acl_default")]));
}

/// Layers that Go programs and busybox wrote, kept here because they need a daemon or are rarely installed. All
/// hold the same tree; BuildKit writes with containerd's code.
#[rstest]
#[case::busybox("busybox.tar.gz", true)]
#[case::buildah("buildah.tar.gz", false)]
#[case::umoci("umoci1.tar.gz", true)]
#[case::containerd("containerd1.tar.gz", true)]
#[case::moby("moby.tar.gz", false)]
fn stored_samples_are_read(#[case] name: &str, #[case] owner_kept: bool) {
    let bytes = sample(name);
    let (seen, warnings) = read(&bytes).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_record_gives_it_back(&bytes);
    let long = "l".repeat(120);
    let mut lines: Vec<String> =
        seen.iter().map(|seen| show(&seen.change)).filter(|line| line != "dir .").collect();
    // Which of two hard links comes first is the program's choice.
    lines.iter_mut().for_each(|line| {
        if *line == "link usr/lib/a -> usr/lib/b" || *line == "file usr/lib/b 6" {
            *line =
                line.replace("usr/lib/a", "A").replace("usr/lib/b", "usr/lib/a").replace('A', "usr/lib/b");
        }
    });
    lines.sort();
    let mut expected = vec![
        "dir d".to_owned(),
        format!("dir d/{long}"),
        "dir usr".into(),
        "dir usr/lib".into(),
        format!("file d/{long}/{long} 5"),
        "file gr\\xc3\\xbc\\xc3\\x9fe 1".into(),
        "fifo pipe".into(),
        "file usr/lib/a 6".into(),
        "link usr/lib/b -> usr/lib/a".into(),
        "symlink lib -> usr/lib".into(),
    ];
    expected.sort();
    assert_eq!(lines, expected);
    let file = seen.iter().find(|seen| show(&seen.change).starts_with("file d/")).unwrap();
    let Change::Put(entry) = &file.change else { panic!("{file:?}") };
    assert_eq!(file.bytes(), b"long\n");
    assert_eq!(entry.metadata.mtime.seconds, 1_714_979_289);
    if owner_kept {
        assert_eq!((entry.metadata.uid, entry.metadata.gid), (1000, 50));
    }
    let setuid = seen.iter().find(|seen| show(&seen.change).starts_with("file usr/lib/")).unwrap();
    let Change::Put(entry) = &setuid.change else { panic!("{setuid:?}") };
    // moby's COPY takes the set-user-id bit away.
    assert_eq!(entry.metadata.mode & 0o777, 0o755);
}

#[rstest]
#[case::umoci("umoci2.tar.gz")]
#[case::containerd("containerd2.tar.gz")]
fn stored_samples_of_removals_are_read(#[case] name: &str) {
    let (seen, _) = read(&sample(name)).unwrap();
    let removed: Vec<String> =
        seen.iter().map(|seen| show(&seen.change)).filter(|line| line.starts_with("remove ")).collect();
    assert_eq!(removed, ["remove d", "remove usr/lib/b"]);
    assert_record_gives_it_back(&sample(name));
}

fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    let stored = fs::read(path).unwrap();
    let mut bytes = Vec::new();
    let limits = layerstore_changeset::Limits::default();
    let mut reader = layerstore_changeset::compress::Decompressor::detect(&*stored, &limits).unwrap();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_layer_that_umoci_inserts_is_read() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = scratch.path();
    // umoci 0.4.7 never closes its archive: neither padding nor end mark behind the last file.
    sh(
        root,
        "mkdir tree; printf hello > tree/f; umoci init --layout image; umoci new --image image:tag; \
        umoci insert --image image:tag tree /opt",
    );
    let largest = fs::read_dir(root.join("image/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = largest.filter(|path| fs::read(path).unwrap().starts_with(b"\x1f\x8b")).collect::<Vec<_>>();
    let [layer] = layer.as_slice() else { panic!("one layer expected: {layer:?}") };
    let bytes = run(Command::new("sh").args(["-c", "gzip -dc < \"$0\""]).arg(layer));
    let (seen, _) = read(&bytes).unwrap();
    let file = seen.iter().find(|seen| seen.change.path().as_bytes() == b"opt/f").unwrap();
    assert_eq!(file.data, Some(vec![Piece::Data(b"hello".to_vec())]));
    assert_record_gives_it_back(&bytes);
}
