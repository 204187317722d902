//! A small image of three layers with what is hard to keep, made by GNU tar and umoci.
//!
//! ```text
//! layer 1  GNU tar: every kind of entry and attribute
//! layer 2  umoci repack: deleted, renamed, changed, of another kind
//! layer 3  a tar by hand: opaque whiteout, whiteout, hard link to a lower file, no entries for parents
//! ```

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink as make_symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use layerstore_testkit::build::*;
use layerstore_testkit::{Data, Tree, tree, write_tree};

use crate::peers::{peer, run, umoci};

/// How much the image asks of those who read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every peer keeps.
    Common,
    /// And what some of them cannot read or keep:
    /// - a PAX sparse file: docker and containers/storage cannot give the layer back ("Digest did not match",
    ///   "could not verify layer data");
    /// - directories that became something else, as umoci writes it, with whiteouts below what is no directory
    ///   any more: "unlinkat: not a directory" in docker and containers/storage;
    /// - an entry whose parent is a symlink of a lower layer, and a hard link to a file of a lower layer: the
    ///   overlay snapshotter of containerd sees one layer at a time;
    /// - a file in a directory with a default ACL, which containerd lets it inherit;
    /// - a symlink with two names, which the vfs driver of containers/storage makes two of.
    Awkward,
}

/// The image, in an OCI layout that umoci wrote.
pub(crate) struct Sample {
    directory: tempfile::TempDir,
}

impl Sample {
    /// The image, made once for all tests that run at the same time.
    pub(crate) fn shared(level: Level) -> Arc<Self> {
        static MADE: [Mutex<Weak<Sample>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
        let mut made = MADE[usize::from(level == Level::Awkward)].lock().unwrap_or_else(|e| e.into_inner());
        made.upgrade().unwrap_or_else(|| {
            let sample = Arc::new(Self::make(level));
            // Go's tar rounds times to the nearest second: every time of the sample has to lie in the past before a
            // peer unpacks it, or it could not be told from one that the peer's clock gave.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            *made = Arc::downgrade(&sample);
            sample
        })
    }

    /// The image as a reference.
    pub(crate) fn reference(&self) -> String {
        format!("oci:{}:sample", self.directory.path().join("layout").display())
    }

    fn make(level: Level) -> Self {
        let directory = tempfile::Builder::new().prefix("layerstore-sample-").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let layout = at("layout").display().to_string();
        let image = format!("{layout}:sample");
        run(&mut umoci(&["init", "--layout", &layout]));
        run(&mut umoci(&["new", "--image", &image]));

        fs::create_dir(at("one")).unwrap();
        write_tree(&first_layer(level), &layerstore_sys::Dir::open(at("one")).unwrap()).unwrap();
        let mut tar = peer("tar");
        tar.args([
            "--create",
            "--format=posix",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--sort=name",
        ]);
        if level == Level::Awkward {
            tar.arg("--sparse");
        }
        run(tar.arg("--file").arg(at("one.tar")).arg("--directory").arg(at("one")).arg("."));
        run(umoci(&["raw", "add-layer", "--image", &image]).arg(at("one.tar")));

        run(umoci(&["unpack", "--image", &image]).arg(at("bundle")));
        second_layer(&at("bundle/rootfs"), level);
        run(umoci(&["repack", "--image", &image]).arg(at("bundle")));

        fs::write(at("three.tar"), third_layer(level)).unwrap();
        run(umoci(&["raw", "add-layer", "--image", &image]).arg(at("three.tar")));
        run(&mut umoci(&[
            "config",
            "--image",
            &image,
            "--author",
            "a <b> & \u{e9}",
            "--config.env",
            "A=b c",
        ]));

        Self { directory }
    }
}

/// Every kind of entry and attribute.
fn first_layer(level: Level) -> Tree {
    let long = "n".repeat(250);
    let deep = format!("odd/{}/{}/end", "d".repeat(200), "e".repeat(200));
    let mut tree = tree! {
        "" => dir(0o755).mtime(1_000_000_000, 0),
        "bin" => symlink("usr/bin").mtime(1_000_000_000, 1),
        "dev" => dir(0o755).mtime(2, 0),
        "dev/null" => char_device(1, 3).mode(0o666).mtime(3, 500_000_000),
        "dev/sda" => block_device(8, 300).mode(0o660).owner(0, 6).mtime(4, 0),
        "dev/initctl" => fifo().mode(0o600).owner(1, 2).mtime(5, 999_999_999),
        "etc" => dir(0o755).mtime(1_100_000_000, 123_456_789),
        "etc/hostname" => file("sample\n").mtime(1_100_000_001, 1),
        "etc/motd" => file("welcome\n").mtime(1_100_000_001, 2),
        "etc/passwd" => file("root:x:0:0::/:/bin/sh\n").mtime(1_100_000_002, 999_999_999),
        "etc/shadow" => file("root:*\n").mode(0o640).owner(0, 42).mtime(1_100_000_003, 0),
        "odd/sealed" => file("nobody reads this").mode(0).mtime(10, 10),
        "odd/empty" => file("").owner(4_000_000, 4_000_001).mtime(11, 0),
        b"odd/caf\xe9" => file("latin-1").mtime(12, 0),
        "odd/two\nlines" => file("newline").mtime(13, 0),
        "odd/back\\slash and \"quotes\"" => file("punctuation").mtime(14, 0),
        "odd/dangling" => symlink("nowhere/at all").owner(5, 6).mtime(15, 987_654_321),
        "odd/climbing" => symlink("../../../../etc/passwd").mtime(16, 0),
        "odd/noted" => file("noted").xattr("user.note", b"\0a=b\n\xff").xattr("user.empty", "").mtime(17, 0),
        "odd/marked" => dir(0o750).xattr("user.origin", "sample").mtime(18, 0),
        "odd/shared" => file("acl").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 1000, 6)).mtime(19, 0),
        "odd/inherit" => dir(0o775).xattr("system.posix_acl_default", acl(0o775, 1000, 7)).mtime(20, 0),
        "odd/sparse" => file(Data::hole(1 << 20).with(1 << 19, b"in the middle")).mtime(22, 0),
        "opt/from/a" => file("a").mtime(30, 0),
        "opt/from/b/c" => file("c").mode(0o600).mtime(31, 0),
        "opt/old/tree/of/files" => file("gone").mtime(32, 0),
        "srv/data" => file("becomes a directory").mtime(33, 0),
        "tmp" => dir(0o1777).mtime(34, 0),
        "usr/bin/su" => file("#!").mode(0o4755).mtime(40, 0),
        "usr/bin/wall" => file("#!").mode(0o2755).owner(0, 5).mtime(41, 0),
        "usr/bin/ping" => file("#!").mode(0o755).xattr("security.capability", capability(0x3000)).mtime(42, 0),
        "usr/bin/alias" => link("usr/bin/su"),
        "usr/lib/su" => link("usr/bin/su"),
        "usr/lib/link" => symlink("/usr/bin").mtime(43, 0),
        "var/cache/apt/archive" => file("hidden by the opaque whiteout").mtime(50, 0),
        "var/cache/index" => file("hidden too").mtime(51, 0),
        "var/mail" => symlink("spool/mail").mtime(52, 0),
        "var/spool/mail/root" => file("becomes a file").mtime(53, 0),
    };
    tree.put(format!("odd/{long}").as_str(), file("a long name").mtime(60, 0));
    tree.put(deep.as_str(), file("a long path").mtime(61, 0));
    if level == Level::Awkward {
        tree.put("odd/inherit/child", file("made before the ACL").mtime(21, 0));
        tree.put("usr/lib/link-too", link("usr/lib/link"));
    }
    for n in 0..150_u32 {
        let bytes: Vec<u8> = (0..n * 37).map(|byte| (byte * (n + 1)) as u8).collect();
        tree.put(format!("usr/share/n{}/{n}", n % 7).as_str(), file(bytes).mtime(i64::from(n) * 1000, n));
    }
    tree
}

/// What a build step does.
fn second_layer(root: &Path, level: Level) {
    let at = |name: &str| -> PathBuf { root.join(name) };
    fs::remove_dir_all(at("opt/old")).unwrap();
    fs::rename(at("opt/from"), at("opt/to")).unwrap();
    fs::remove_file(at("srv/data")).unwrap();
    fs::create_dir(at("srv/data")).unwrap();
    fs::write(at("srv/data/inside"), "of a directory that was a file").unwrap();
    fs::remove_file(at("usr/bin/alias")).unwrap();
    fs::set_permissions(at("etc/hostname"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(at("odd/noted"), Some(7), Some(8)).unwrap();
    fs::remove_file(at("odd/climbing")).unwrap();
    make_symlink("/etc", at("odd/climbing")).unwrap();
    if level == Level::Awkward {
        fs::remove_dir_all(at("var/spool")).unwrap();
        fs::write(at("var/spool"), "a file that was a directory").unwrap();
        fs::remove_dir_all(at("usr/share/n3")).unwrap();
        make_symlink("n4", at("usr/share/n3")).unwrap();
    }
    fs::write(at("usr/share/n5/5"), "replaced").unwrap();
    fs::create_dir_all(at("usr/local/bin")).unwrap();
    fs::write(at("usr/local/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::hard_link(at("usr/local/bin/tool"), at("usr/local/tool")).unwrap();
    let local = layerstore_sys::Dir::open(at("usr/local/bin")).unwrap();
    let on = layerstore_sys::xattr::On::Entry(&local, b"tool");
    layerstore_sys::xattr::set(on, b"security.capability", &capability(0x400)).unwrap();
}

/// What only a tar says.
fn third_layer(level: Level) -> Vec<u8> {
    let mut entries = vec![
        ("var/cache/fresh", b'0', ""),
        ("var/cache/.wh..wh..opq", b'0', ""),
        ("etc/.wh.motd", b'0', ""),
        ("usr/share/n2", b'0', ""),
        ("usr/share/n6", b'2', "n4"),
        ("without/parents/file", b'0', ""),
    ];
    if level == Level::Awkward {
        entries.extend([("bin/through-a-symlink", b'0', ""), ("usr/share/linked", b'1', "etc/shadow")]);
    }
    let mut tar: Vec<u8> = entries.into_iter().flat_map(|(name, kind, to)| header(name, kind, to)).collect();
    tar.extend([0; 1024]);
    tar
}

/// A ustar header of an entry without data.
fn header(name: &str, kind: u8, target: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    // Mode, owner, group, size, time; then the checksum's place, which counts as spaces.
    put(100, ["0000640", "0000003", "0000004", "00000000000", "07346545000"].join("\0").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
