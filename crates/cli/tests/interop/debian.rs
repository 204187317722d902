//! The image that `tools/sample-image` makes of Debian packages: a real one, with thousands of files.

use std::fs;
use std::path::Path;

use layerstore_testkit::{Tree, assert_same, read_tree_at};
use serde_json::Value;

use crate::peers::{Identity, diff_ids, mounted, peer, run, skopeo, strings, unpacked_by_umoci};
use crate::support::{Bench, DRIVERS};

/// umoci leaves xattrs without a value out: Go's tar reader takes an empty PAX record for a deleted one, as POSIX
/// does for its own keywords, while GNU tar, which wrote them here, means them.
fn without_empty_xattrs(mut tree: Tree) -> Tree {
    tree.for_each_mut(|inode| inode.meta.xattrs.retain(|_, value| !value.is_empty()));
    tree
}

#[test]
fn an_image_of_debian_packages_is_pulled_changed_and_pushed_on_every_driver() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let cache =
        peer("bash").args(["-c", "echo \"${XDG_CACHE_HOME:-$HOME/.cache}\""]).output().unwrap().stdout;
    let cache = String::from_utf8(cache).unwrap();
    let layout = Path::new(cache.trim_end()).join("layerstore/sample-image");
    run(peer("bash").arg(repository.join("tools/sample-image")).arg(&layout));
    let reference = format!("oci:{}:latest", layout.display());
    let scratch = tempfile::tempdir().unwrap();
    // The same layers under another tag, which umoci reads as they are.
    let gzip = format!("oci:{}:gzip", layout.display());
    let expected = unpacked_by_umoci(&gzip, &scratch.path().join("umoci"));
    assert!(expected.tree.len() > 3000, "{} entries", expected.tree.len());
    let source = Identity::of(&reference, &scratch.path().join("source"));

    for driver in DRIVERS {
        let bench = Bench::new(driver);
        assert_eq!(bench.run(&["pull", &reference, "debian:1"]), source.id);
        expected.assert_same(&without_empty_xattrs(mounted(&bench, "debian:1")));
        bench.run(&["push", "debian:1", "oci:out:debian"]);
        let out = format!("oci:{}:debian", bench.path("out").display());
        source.assert_same(&Identity::of(&out, &bench.path("look")), driver);

        bench.run(&["create", "--name", "c", "debian:1"]);
        let root = bench.run(&["mount", "c"]);
        let at = |name: &str| Path::new(&root).join(name);
        fs::remove_dir_all(at("usr/share/doc")).unwrap();
        fs::rename(at("usr/lib/os-release"), at("usr/lib/release")).unwrap();
        fs::rename(at("opt/app"), at("srv/app")).unwrap();
        fs::write(at("etc/motd"), "changed\n").unwrap();
        let changed = bench.run(&["commit", "c", "debian:2"]);
        let tree = read_tree_at(&root).unwrap();
        bench.run(&["unmount", "c"]);
        assert_same(&tree, &mounted(&bench, "debian:2"));
        bench.run(&["push", "debian:2", "oci:out:changed"]);

        let out = format!("oci:{}:changed", bench.path("out").display());
        let inspected: Value = serde_json::from_str(&run(&mut skopeo(&["inspect", &out]))).unwrap();
        assert_eq!(strings(&inspected["Layers"]).len(), source.diff_ids.len() + 1);
        let identity = Identity::of(&out, &bench.path("look-changed"));
        assert_eq!(identity.id, changed);
        assert_eq!(identity.diff_ids, diff_ids(&bench, "debian:2"));
        assert_eq!(identity.diff_ids[..source.diff_ids.len()], source.diff_ids);
        unpacked_by_umoci(&out, &bench.path("umoci")).assert_same(&without_empty_xattrs(tree));
    }
}
