//! Clauses A1 to A3, A16, A17, A20: what an entry says is what the view shows.

use layerstore_changeset::{Code, RelPath};
use layerstore_testkit::build::*;
use layerstore_testkit::{Data, Tree, noise, tree};

use super::super::prelude::*;
use super::kit::{self, applied};

pub(super) const CASES: &[Case] = &[
    Case {
        clause: "A1",
        name: "every_kind_is_put_with_its_metadata",
        title: "files, directories, symlinks, links, fifos and sockets keep data, mode, time and user xattrs",
        needs: &[Has(Feature::UserXattrs)],
        run: every_kind,
    },
    Case {
        clause: "A1",
        name: "owners_are_put",
        title: "every kind of entry keeps its owner and group, setuid bits included",
        needs: &[Has(Feature::Owners)],
        run: owners,
    },
    Case {
        clause: "A1",
        name: "times_are_put_to_the_nanosecond",
        title: "times before 1970 and after 2038 are kept to the nanosecond",
        needs: &[Has(Feature::WideTimes)],
        run: times,
    },
    Case {
        clause: "A1",
        name: "acls_are_put",
        title: "access and default ACLs are kept, and default ones are not inherited while unpacking",
        needs: &[Has(Feature::Acls)],
        run: acls,
    },
    Case {
        clause: "A1",
        name: "privileged_xattrs_are_put",
        title: "file capabilities and trusted xattrs are kept, on every kind that can have them",
        needs: &[
            Claims(Claim::PrivilegedXattrs),
            Has(Feature::TrustedXattrs),
            Has(Feature::FileCapabilities),
            Has(Feature::Owners),
        ],
        run: privileged,
    },
    Case {
        clause: "A1",
        name: "devices_are_put",
        title: "character and block devices keep their numbers",
        needs: &[Claims(Claim::Devices), Has(Feature::DeviceNodes)],
        run: devices,
    },
    Case {
        clause: "A2",
        name: "names_and_targets_are_bytes",
        title: "names that are not UTF-8, newlines, backslashes and 255 bytes are kept",
        needs: &[],
        run: names,
    },
    Case {
        clause: "A2",
        name: "a_path_may_have_4096_bytes",
        title: "an entry whose path is as long as a path can be is put and shown",
        needs: &[],
        run: long_path,
    },
    Case {
        clause: "A3",
        name: "holes_stay_holes",
        title: "a sparse file of 64 MiB takes next to no space and reads the same",
        needs: &[Has(Feature::Holes)],
        run: holes,
    },
    Case {
        clause: "A3",
        name: "a_sparse_file_reads_the_same",
        title: "holes at the start, in the middle and at the end read as zeros",
        needs: &[],
        run: sparse,
    },
    Case {
        clause: "A16",
        name: "the_root_takes_its_metadata",
        title: "a root that is put as a directory changes mode and time, in a base layer and above",
        needs: &[],
        run: root,
    },
    Case {
        clause: "A16",
        name: "the_root_stays_a_directory",
        title: "a root that is put as anything else is refused with ROOT_TYPE_CHANGE",
        needs: &[],
        run: root_kind,
    },
    Case {
        clause: "A17",
        name: "apply_returns_what_it_wrote",
        title: "entries and bytes are counted, and entries that a symlinked parent moved are told",
        needs: &[],
        run: counts,
    },
    Case {
        clause: "A20",
        name: "reserved_xattrs_have_no_effect",
        title: "overlay's own xattrs in a changeset hide nothing, expose nothing and are not shown",
        needs: &[],
        run: reserved,
    },
];

/// Puts a tree over nothing and over a lower layer that has other things at the same names.
fn put_over(bench: &Bench, tree: &Tree, lower: &Tree) -> Outcome {
    let mut changes = kit::whole(tree);
    changes.retain(|change| !change.path().is_root());
    applied(bench, &Tree::new(), &[&changes])?;
    let other = bench.another("over")?;
    let mut lower = lower.clone();
    lower.put("", kit::root());
    let base = kit::sealed(&*other, "base", None, &kit::whole(&lower))?;
    let child = kit::layer(&*other, "child", Some(&base), &changes)?;
    let expected = layerstore_testkit::model::apply(&lower, &changes).map_err(|e| Failure::new(e.0))?;
    kit::ensure_same(&expected, &kit::show_of(bench, &*other, &child)?, "the layer over others")
}

fn every_kind(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-dir" => dir(0o1777).mtime(5, 500_000_001).xattr("user.a1", "on a directory"),
        "a1-dir/file" => file("content").mode(0o6755).mtime(1, 999_999_999).xattr("user.a1", b"\0 \xff").xattr("user.empty", ""),
        "a1-dir/link" => link("a1-dir/file"),
        "a1-empty" => file("").mode(0o000).mtime(7, 7),
        "a1-large" => file(noise(1, 3 << 20)).mode(0o444).mtime(8, 8),
        "a1-fifo" => fifo().mode(0o620).mtime(9, 9),
        "a1-socket" => socket().mode(0o755).mtime(10, 10),
        "a1-symlink" => symlink("a1-dir/file").mtime(11, 11),
        "a1-symlink-link" => link("a1-symlink"),
        "a1-fifo-link" => link("a1-fifo"),
        "a1-dangling" => symlink("/nothing/there").mtime(12, 12),
    };
    let lower = tree! {
        "a1-dir" => dir(0o700).xattr("user.old", "gone"), "a1-dir/file" => file("old content, longer").xattr("user.old", "gone"),
        "a1-empty" => dir(0o755), "a1-large" => symlink("a1-empty"), "a1-fifo" => file("no fifo"), "a1-socket" => fifo(),
        "a1-symlink" => dir(0o755), "a1-symlink/x" => file(""), "a1-dangling" => symlink("a1-dir"),
    };
    put_over(bench, &tree, &lower)
}

fn owners(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-dir" => dir(0o2775).owner(1000, 1001),
        "a1-dir/setuid" => file("#!").mode(0o6755).owner(1, 2),
        "a1-symlink" => symlink("x").owner(3, 4),
        "a1-fifo" => fifo().mode(0o600).owner(5, 6),
        "a1-socket" => socket().owner(7, 8),
        "a1-nobody" => file("x").owner(65_534, 65_534),
    };
    put_over(bench, &tree, &tree! { "a1-dir/setuid" => file("old").owner(9, 9) })
}

fn times(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-before" => file("x").mtime(-1, 1),
        "a1-long-before" => symlink("x").mtime(-1_500_000_000, 999_999_999),
        "a1-after" => dir(0o755).mtime(5_000_000_000, 123_456_789),
        "a1-after/epoch" => fifo().mtime(0, 0),
    };
    put_over(bench, &tree, &tree! { "a1-after" => dir(0o700).mtime(3, 3) })
}

fn acls(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-dir" => dir(0o750)
            .xattr("system.posix_acl_access", acl(0o750, 1000, 5))
            .xattr("system.posix_acl_default", acl(0o770, 7, 7)),
        "a1-dir/child" => file("x").mode(0o640),
        "a1-dir/sub" => dir(0o700),
        "a1-file" => file("x").mode(0o664).xattr("system.posix_acl_access", acl(0o664, 1000, 4)),
    };
    put_over(
        bench,
        &tree,
        &tree! { "a1-file" => file("").xattr("system.posix_acl_access", acl(0o644, 8, 7)) },
    )
}

fn privileged(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-tool" => file("#!").mode(0o755).owner(0, 5).xattr("security.capability", capability(0x3000)),
        "a1-dir" => dir(0o755).xattr("trusted.a1", "directory"),
        "a1-symlink" => symlink("a1-tool").xattr("trusted.a1", "symlink"),
        "a1-fifo" => fifo().xattr("trusted.a1", "fifo"),
    };
    put_over(bench, &tree, &tree! { "a1-tool" => file("").xattr("security.capability", capability(1)) })
}

fn devices(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a1-null" => char_device(1, 3).mode(0o666).mtime(5, 5),
        "a1-disk" => block_device(7, 70_000).mode(0o660),
        // Xfs keeps 9 bits of a major and 18 of a minor number.
        "a1-high" => char_device(511, 262_143),
        "a1-link" => link("a1-null"),
    };
    put_over(bench, &tree, &tree! { "a1-null" => file("none") })
}

fn names(bench: &Bench) -> Outcome {
    let long = [b"a2-".as_slice(), &[b'n'; 252]].concat();
    let mut tree = tree! {
        b"a2-\xff\xfe\x80" => dir(0o755),
        b"a2-\xff\xfe\x80/\xc3\x28" => file("not utf-8"),
        "a2-new\nline\ttab\x1b" => file("control"),
        "a2-back\\slash\\x2f" => file("backslash"),
        "a2-comma,colon:quote\"'" => dir(0o755),
        "a2-comma,colon:quote\"'/\\" => file("x"),
        "a2- " => file("space"), "a2-..." => file("dots"), "a2-A" => file("upper"), "a2-a" => file("lower"),
        "a2-\u{e9}" => file("composed"), "a2-e\u{301}" => file("decomposed"),
        &long => file("long"),
        b"a2-symlink" => symlink(b"\xff\n\\ to nowhere"),
        "a2-long-symlink" => symlink(vec![b't'; 1000]),
    };
    tree.put("a2-#work/work/index/merged/diff/link", file("names that drivers use"));
    put_over(bench, &tree, &tree! { "a2-\u{e9}" => file("old"), &long => dir(0o755) })
}

fn long_path(bench: &Bench) -> Outcome {
    // 15 components of 255 bytes, one of 254 and one of 1, with 16 slashes: 4,096 bytes.
    let first = [b"a2-".as_slice(), &[b'x'; 252]].concat();
    let mut parts = vec![first];
    parts.extend(std::iter::repeat_n(vec![b'y'; 255], 14));
    parts.extend([vec![b'z'; 254], b"f".to_vec()]);
    let path = parts.join(&b'/');
    ensure_eq!(path.len(), 4096, "length of the path");
    applied(bench, &Tree::new(), &[&[put(&path, file("deep"))]])
}

fn holes(bench: &Bench) -> Outcome {
    const SIZE: u64 = 64 << 20;
    let (base, lower) = kit::base(bench, &Tree::new())?;
    let sparse = Data::hole(SIZE).with(SIZE / 2, b"a3 in the middle");
    let changes = [put("a3-sparse", file(sparse)), put("a3-hole", file(Data::hole(SIZE)))];
    let child = kit::sealed(&**bench.driver(), "child", Some(&base), &changes)?;
    let expected = layerstore_testkit::model::apply(&lower, &changes).map_err(|e| Failure::new(e.0))?;
    kit::ensure_same(&expected, &kit::show(bench, &child)?, "the layer")?;
    let usage = bench.driver().usage(&child, &Context::new())?;
    ensure!(usage.bytes < 4 << 20, "two sparse files with 16 bytes of data take {} bytes", usage.bytes);
    Ok(())
}

fn sparse(bench: &Bench) -> Outcome {
    let tree = tree! {
        "a3-start" => file(Data::hole(100_000).with(99_990, b"end")),
        "a3-end" => file(Data::hole(1 << 20).with(0, b"start")),
        "a3-middle" => file(Data::hole(300_000).with(10_000, b"one").with(200_000, b"two")),
        "a3-short" => file(Data::hole(10)),
    };
    put_over(bench, &tree, &tree! { "a3-end" => file(noise(2, 1 << 20)) })
}

fn root(bench: &Bench) -> Outcome {
    let changes = [put("a16-x", file("x")), put("", dir(0o1731).mtime(16, 17))];
    applied(bench, &Tree::new(), &[&changes, &[changes[1].clone(), changes[0].clone()]])?;
    let other = bench.another("base")?;
    let base = kit::layer(&*other, "base", None, &changes)?;
    let expected = tree! { "" => dir(0o1731).mtime(16, 17), "a16-x" => file("x") };
    kit::ensure_same(&expected, &kit::show_of(bench, &*other, &base)?, "the base layer")
}

fn root_kind(bench: &Bench) -> Outcome {
    let code = Code::RootTypeChange;
    let lower = tree! { "a16-x" => file("x") };
    kit::refused(
        bench,
        &lower,
        &[
            (&[put("", symlink("a16-x"))], code),
            (&[put("", file("a16 x"))], code),
            (&[put("", fifo())], code),
            (&[put("", link("a16-x"))], code),
        ],
    )
}

fn counts(bench: &Bench) -> Outcome {
    let lower = tree! { "a17-real" => dir(0o755), "a17-way" => symlink("a17-real"), "a17-old" => file("x") };
    let (base, _) = kit::base(bench, &lower)?;
    let child = kit::layer(&**bench.driver(), "child", Some(&base), &[])?;
    let changes = [
        put("a17-dir", dir(0o755)),
        put("a17-dir/one", file("12345")),
        put("a17-way/two", file("1234567")),
        put("a17-link", link("a17-dir/one")),
        remove("a17-old"),
    ];
    let applied = bench.driver().apply(&child, &mut kit::stream(&changes), &Context::new())?;
    ensure_eq!((applied.entries, applied.bytes), (5, 12), "entries and bytes written");
    let moved = vec![(RelPath::new("a17-way/two")?, RelPath::new("a17-real/two")?)];
    ensure_eq!(applied.relocated, moved, "entries that lie elsewhere");
    Ok(())
}

fn reserved(bench: &Bench) -> Outcome {
    let lower = tree! {
        "a20-dir/lower" => file("must be seen"), "a20-secret/key" => file("must not move"), "a20-file" => file("lower data"),
    };
    let mut changes = Vec::new();
    for space in ["trusted", "user"] {
        let reserved = |name: &str| format!("{space}.overlay.{name}");
        let in_dir = |name: &str| format!("a20-{space}-{name}");
        changes.extend([
            put("a20-dir", dir(0o755).xattr(reserved("opaque"), "y")),
            put(&in_dir("redirect"), dir(0o755).xattr(reserved("redirect"), "/a20-secret")),
            put(&in_dir("white"), dir(0o755).xattr(reserved("opaque"), "x")),
            put(&format!("{}/out", in_dir("white")), file("").xattr(reserved("whiteout"), "")),
            put("a20-file", file("new data").xattr(reserved("metacopy"), "").xattr(reserved("origin"), "x")),
        ]);
    }
    for name in [
        "user.containers.override_stat",
        "user.fuseoverlayfs.opaque",
        "user.rootlesscontainers",
        "security.selinux",
        "security.ima",
        "trusted.SGI_ACL_FILE",
    ] {
        changes.push(put(&format!("a20-{name}"), file("x").xattr(name, "0:0:0755")));
    }
    applied(bench, &lower, &[&changes])
}
