//! Pairs of a lower tree and a changeset that together touch everything a diff can say; used by N1, by the random
//! cases' neighbours and between drivers (X). No name here begins with a clause, so that no saboteur breaks them
//! but those of N1 and X, which look for `scene`.

use layerstore_testkit::build::*;
use layerstore_testkit::model::Change;
use layerstore_testkit::{Data, Tree, noise, tree};

use super::super::prelude::*;

/// A lower tree and what a layer does to it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) lower: Tree,
    pub(super) changes: Vec<Change>,
}

/// Every scene that the driver and the machine can show.
pub(super) fn scenes(bench: &Bench) -> Vec<Scene> {
    let capabilities = bench.driver().capabilities();
    let mut scenes = vec![plain(), links(), kinds(), hidden(), bytes()];
    if bench.has(Feature::Owners) && bench.has(Feature::UserXattrs) && bench.has(Feature::Acls) {
        scenes.push(attributes());
    }
    if capabilities.devices && bench.has(Feature::DeviceNodes) {
        scenes.push(devices());
    }
    let trusted = bench.has(Feature::TrustedXattrs) && bench.has(Feature::FileCapabilities);
    if capabilities.privileged_xattrs && trusted {
        scenes.push(privileged());
    }
    scenes
}

fn plain() -> Scene {
    Scene {
        name: "files added, changed and removed",
        lower: tree! {
            "scene/a" => dir(0o755).mtime(1, 1), "scene/a/one" => file("1"), "scene/a/two" => file("2").mode(0o600),
            "scene/b/three" => file(noise(1, 70_000)), "scene/c" => dir(0o700).mtime(2, 2), "scene/untouched/deep/x" => file("x"),
        },
        changes: vec![
            put("scene/a/one", file("changed").mtime(3, 3)),
            put("scene/a/new", file("new")),
            put("scene/d/e/f", file("deep")),
            remove("scene/b/three"),
            put("scene/b/sparse", file(Data::hole(1 << 20).with(500_000, b"middle"))),
            remove("scene/c"),
            put("scene/a", dir(0o711).mtime(4, 999_999_999)),
            put("scene/a/two", file("2").mode(0o4755)),
        ],
    }
}

fn links() -> Scene {
    Scene {
        name: "hard links made, broken and joined",
        lower: tree! {
            "scene/a" => file("group").mtime(1, 1), "scene/b" => link("scene/a"), "scene/z/c" => link("scene/a"),
            "scene/p" => file("pair"), "scene/q" => link("scene/p"), "scene/s" => symlink("x"),
        },
        changes: vec![
            put("scene/0", link("scene/b")),
            put("scene/p", file("alone")),
            put("scene/n", file("new")),
            put("scene/m", link("scene/n")),
            put("scene/t", link("scene/s")),
            remove("scene/z/c"),
        ],
    }
}

fn kinds() -> Scene {
    Scene {
        name: "kinds changed",
        lower: tree! {
            "scene/dir/x/y" => file("y"), "scene/file" => file("f"), "scene/link" => symlink("dir"), "scene/fifo" => fifo(),
            "scene/socket" => socket(),
        },
        changes: vec![
            put("scene/dir", file("now a file")),
            put("scene/file", dir(0o700)),
            put("scene/file/inner", file("i")),
            put("scene/link", fifo().mtime(5, 5)),
            put("scene/fifo", symlink("/somewhere").mtime(-5, 5)),
            put("scene/socket", file("")),
            put("scene/new-socket", socket().mode(0o777)),
        ],
    }
}

fn hidden() -> Scene {
    Scene {
        name: "whiteouts and opaque directories",
        lower: tree! {
            "scene/opaque/a" => file("a"), "scene/opaque/b/c" => file("c"), "scene/opaque/d" => symlink("a"),
            "scene/again/old" => file("old"), "scene/gone/x" => file("x"), "scene/same/keep" => file("keep").mtime(6, 6),
        },
        changes: vec![
            opaque("scene/opaque"),
            put("scene/opaque/b/new", file("new")),
            remove("scene/again"),
            put("scene/again/new", file("new")),
            remove("scene/gone"),
            opaque("scene/same"),
            put("scene/same/keep", file("keep").mtime(6, 6)),
        ],
    }
}

fn bytes() -> Scene {
    Scene {
        name: "odd names and times",
        lower: tree! { b"scene/\xff" => file("old"), "scene/a-b" => file(""), "scene/a/b" => file(""), "scene/a.b" => file("") },
        changes: vec![
            put(b"scene/\xff", file("new").mtime(-1, 999_999_999)),
            put("scene/new\nline", symlink(b"\xfe\n")),
            remove("scene/a.b"),
            put("scene/a", dir(0o1777).mtime(2_000_000_000, 1)),
            put("scene/a-b", file("b")),
            put(&[b"scene/".as_slice(), &[b'l'; 255]].concat(), file("long")),
        ],
    }
}

fn attributes() -> Scene {
    Scene {
        name: "owners, xattrs and ACLs",
        lower: tree! {
            "scene/file" => file("x").owner(1, 2).xattr("user.old", "1").xattr("user.both", "1"),
            "scene/dir" => dir(0o770).xattr("system.posix_acl_default", acl(0o770, 5, 7)),
            "scene/dir/acl" => file("x").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 5, 4)),
        },
        changes: vec![
            put("scene/file", file("x").owner(3, 4).xattr("user.new", b"\0\xff").xattr("user.both", "2")),
            put("scene/dir", dir(0o770).owner(9, 9).xattr("system.posix_acl_default", acl(0o750, 6, 5))),
            put("scene/dir/plain", file("not inherited").mode(0o600)),
            put("scene/dir/acl", file("x").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 5, 6))),
            put("scene/setuid", file("#!").mode(0o6755).owner(10, 11)),
        ],
    }
}

fn devices() -> Scene {
    Scene {
        name: "devices",
        lower: tree! { "scene/null" => char_device(1, 3), "scene/disk" => block_device(7, 0), "scene/gone" => char_device(5, 1) },
        changes: vec![
            put("scene/null", char_device(1, 5).mode(0o666)),
            put("scene/disk", char_device(7, 0)),
            remove("scene/gone"),
            put("scene/new", block_device(259, 70_000).mode(0o660)),
        ],
    }
}

fn privileged() -> Scene {
    Scene {
        name: "file capabilities and trusted xattrs",
        lower: tree! { "scene/tool" => file("#!").mode(0o755).xattr("security.capability", capability(1)), "scene/dir" => dir(0o755).xattr("trusted.t", "1") },
        changes: vec![
            put("scene/tool", file("#!").mode(0o755).xattr("security.capability", capability(0x3000))),
            put("scene/dir", dir(0o755).xattr("trusted.t", "2")),
            put("scene/link", symlink("tool").xattr("trusted.t", "3")),
        ],
    }
}
