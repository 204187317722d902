//! Images that we commit are unpacked by others: each one's own code gives the tree that we mounted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use layerstore_sys::xattr::{self, On};
use layerstore_testkit::build::{acl, capability};
use layerstore_testkit::{Tree, assert_same, read_tree_at};
use rstest::rstest;

use crate::daemons::{Containerd, mounts_below};
use crate::peers::{Identity, Unpacked, diff_ids, mounted, peer, run, unpacked_by_umoci};
use crate::sample::{Level, Sample};
use crate::support::{Bench, DRIVERS};

/// What a program does to a mounted root file system: every way to change it that a layer has to tell of.
fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    let set = |folder: &str, name: &str, attribute: &str, value: &[u8]| {
        let folder = layerstore_sys::Dir::open(at(folder)).unwrap();
        xattr::set(On::Entry(&folder, name.as_bytes()), attribute.as_bytes(), value).unwrap();
    };
    // Deleted: a file, a tree, one name of a hard-link group, and something that comes back under its name.
    fs::remove_file(at("odd/empty")).unwrap();
    fs::remove_dir_all(at("usr/share/n1")).unwrap();
    fs::remove_file(at("usr/lib/su")).unwrap();
    fs::remove_file(at("odd/two\nlines")).unwrap();
    fs::write(at("odd/two\nlines"), "again").unwrap();
    // Directories: replaced by another, renamed, changed to and from other kinds.
    fs::remove_dir_all(at("srv/data")).unwrap();
    fs::create_dir(at("srv/data")).unwrap();
    fs::write(at("srv/data/only"), "what is here").unwrap();
    fs::rename(at("opt/to"), at("opt/renamed")).unwrap();
    fs::rename(at("usr/share/n5"), at("usr/share/moved")).unwrap();
    fs::write(at("usr/share/moved/new"), "in a renamed directory").unwrap();
    fs::remove_dir_all(at("usr/share/n4")).unwrap();
    fs::write(at("usr/share/n4"), "a file that was a directory").unwrap();
    fs::remove_file(at("etc/hostname")).unwrap();
    fs::create_dir(at("etc/hostname")).unwrap();
    fs::write(at("etc/hostname/name"), "a directory that was a file").unwrap();
    fs::remove_file(at("odd/climbing")).unwrap();
    fs::write(at("odd/climbing"), "a file that was a symlink").unwrap();
    // Files: renamed, written in the middle, appended, attributes only.
    fs::rename(at("odd/back\\slash and \"quotes\""), at("odd/renamed")).unwrap();
    let mut text = fs::read(at("etc/passwd")).unwrap();
    text.extend_from_slice(b"daemon:x:1:1::/:/bin/sh\n");
    fs::write(at("etc/passwd"), text).unwrap();
    fs::set_permissions(at("etc/shadow"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1770)).unwrap();
    chown(at("odd/marked"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(at("usr/bin/su"), fs::Permissions::from_mode(0o6755)).unwrap();
    set("odd", "noted", "user.more", b"\xff\0");
    set("odd", "marked", "user.origin", b"changed");
    set("odd", "shared", "system.posix_acl_access", &acl(0o664, 1001, 4));
    set("usr/bin", "wall", "security.capability", &capability(0x21));
    let odd = layerstore_sys::Dir::open(at("odd")).unwrap();
    xattr::remove(On::Entry(&odd, b"noted"), b"user.note").unwrap();
    // Hard links: to a file of a lower layer, and between new ones of several directories.
    fs::hard_link(at("odd/sealed"), at("srv/sealed")).unwrap();
    fs::write(at("srv/one"), "linked").unwrap();
    chown(at("srv/one"), Some(12), Some(34)).unwrap();
    set("srv", "one", "security.capability", &capability(0x400));
    fs::hard_link(at("srv/one"), at("usr/two")).unwrap();
    fs::hard_link(at("srv/one"), at("var/three")).unwrap();
    // New: a sparse file, links, special files, names.
    let sparse = fs::File::create(at("var/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"somewhere", 2 << 20).unwrap();
    symlink("../srv/one", at("var/symlink")).unwrap();
    run(peer("mknod").arg(at("dev/loop9")).args(["b", "7", "300"]));
    run(peer("mknod").arg(at("dev/pipe")).arg("p"));
    fs::create_dir_all(at("var/new/empty")).unwrap();
    fs::write(at(&format!("var/{}", "long".repeat(60))), "a long name").unwrap();
    run(peer("touch").args(["-h", "-d", "1969-12-31 23:59:58.25 UTC"]).arg(at("var/symlink")));
    run(peer("touch").args(["-d", "2001-02-03 04:05:06.123456789 UTC"]).arg(at("var/new/empty")));
}

/// Makes the image `changed:1` from the sample on this driver; returns what is mounted.
fn commit(bench: &Bench) -> Tree {
    let sample = Sample::shared(Level::Common);
    bench.run(&["pull", &sample.reference(), "base:1"]);
    bench.run(&["create", "--name", "c", "base:1"]);
    let root = bench.run(&["mount", "c"]);
    change(Path::new(&root));
    bench.run(&["commit", "--change", "ENV BY=layerstore", "c", "changed:1"]);
    let tree = read_tree_at(&root).unwrap();
    bench.run(&["unmount", "c"]);
    assert!(tree.get("usr/share/n1").is_none() && tree.get("opt/renamed/b/c").is_some());
    tree
}

#[rstest]
fn what_we_commit_is_the_tree_that_was_mounted(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let tree = commit(&bench);
    assert_same(&tree, &mounted(&bench, "changed:1"));
    bench.run(&["push", "changed:1", "oci:out:changed"]);
    bench.run(&["push", "changed:1", "oci-archive:out.tar:changed"]);
    bench.run(&["push", "changed:1", "docker-archive:docker.tar:changed:1"]);

    // A store of another driver has the same tree of it, and all exports are the same image.
    let reference = format!("oci:{}:changed", bench.path("out").display());
    let identity = Identity::of(&reference, &bench.path("look"));
    assert_eq!(identity.diff_ids, diff_ids(&bench, "changed:1"));
    for (transport, rest) in [("oci-archive", "out.tar:changed"), ("docker-archive", "docker.tar:changed:1")]
    {
        let other = format!("{transport}:{}", bench.path(rest).display());
        identity.assert_same(&Identity::of(&other, &bench.path(&format!("look-{transport}"))), transport);
    }
    for other in DRIVERS.into_iter().filter(|other| *other != driver) {
        let second = Bench::new(other);
        assert_eq!(second.run(&["pull", &reference, "changed:1"]), identity.id);
        assert_eq!(diff_ids(&second, "changed:1"), identity.diff_ids);
        assert_same(&tree, &mounted(&second, "changed:1"));
    }
    unpacked_by_umoci(&reference, &bench.path("umoci")).assert_same(&tree);
}

/// containerd sets no times before 1970.
fn without_early_times(mut tree: Tree) -> Tree {
    tree.for_each_mut(|inode| inode.meta.mtime = inode.meta.mtime.max((0, 0)));
    tree
}

#[rstest]
fn containerd_unpacks_what_we_commit_to_the_same_tree(
    #[values("overlay2", "vfs")] driver: &str,
    #[values("native", "overlayfs")] snapshotter: &str,
) {
    let bench = Bench::new(driver);
    let tree = commit(&bench);
    bench.run(&["push", "changed:1", "oci-archive:out.tar:changed"]);
    let containerd = Containerd::start();
    let import = ["images", "import", "--snapshotter", snapshotter];
    // The name is in the layout's index, as containerd writes it there itself.
    let mount = ["images", "mount", "--snapshotter", snapshotter, "docker.io/library/changed:1"];
    let target = bench.path("containerd");
    fs::create_dir(&target).unwrap();
    let unpacked = Unpacked::by(|| {
        run(containerd.client(&import).arg(bench.path("out.tar")));
        run(containerd.client(&mount).arg(&target));
        target.clone()
    });
    run(peer("umount").arg(&target));
    unpacked.assert_same(&without_early_times(tree));
    containerd.stop();
}

/// The storage of podman copies a layer to make the next one on it, and that loses ACLs (its `vfs` driver).
fn without_acls(mut tree: Tree) -> Tree {
    tree.for_each_mut(|inode| {
        inode.meta.xattrs.retain(|name, _| !name.starts_with(b"system.posix_acl"));
    });
    tree
}

#[rstest]
fn podman_unpacks_what_we_commit_to_the_same_tree(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let tree = commit(&bench);
    bench.run(&["push", "changed:1", "docker-archive:docker.tar:localhost/changed:1"]);
    let podman = |arguments: &[&str]| -> Command {
        let mut command = peer("podman");
        command.arg("--root").arg(bench.path("podman")).arg("--runroot").arg(bench.path("podman-run"));
        command.arg("--tmpdir").arg(bench.path("podman-tmp")).args(["--storage-driver", "vfs"]);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]).args(arguments);
        command
    };
    let archive = format!("docker-archive:{}", bench.path("docker.tar").display());
    let mut image = String::new();
    let mut unpacked = Unpacked::by(|| {
        // The ID stands there once for each name of the image.
        let ids = run(&mut podman(&["pull", "-q", &archive]));
        image = ids.lines().next().unwrap().to_owned();
        run(&mut podman(&["image", "mount", &image])).into()
    });
    run(&mut podman(&["image", "unmount", &image]));
    unpacked.tree = without_acls(unpacked.tree);
    unpacked.assert_same(&without_acls(tree));
    assert_eq!(mounts_below(&bench.path("podman")), Vec::<String>::new());
}
