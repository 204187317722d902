//! Images that other programs wrote are pulled: the tree is what umoci unpacks, and what is exported is what came.

use std::fs;
use std::path::Path;
use std::process::Command;

use layerstore_testkit::assert_same;
use rstest::rstest;

use crate::daemons::Dockerd;
use crate::peers::{Identity, diff_ids, mounted, peer, run, skopeo, unpacked_by_umoci};
use crate::sample::{Level, Sample};
use crate::support::{Bench, DRIVERS};

/// Pulls an image on every driver and compares everything with the source.
#[track_caller]
fn check(reference: &str, scratch: &Path) {
    check_as(reference, reference, scratch);
}

/// As [`check`], where peers do not read what we read: they are told of the same image elsewhere.
#[track_caller]
fn check_as(reference: &str, for_peers: &str, scratch: &Path) {
    let source = Identity::of(for_peers, &scratch.join("source"));
    let expected = unpacked_by_umoci(for_peers, &scratch.join("umoci"));
    let mut trees = Vec::new();
    for driver in DRIVERS {
        let bench = Bench::new(driver);
        assert_eq!(bench.run(&["pull", reference, "sample:1"]), source.id, "the image ID on {driver}");
        assert_eq!(diff_ids(&bench, "sample:1"), source.diff_ids, "the diff IDs on {driver}");
        let tree = mounted(&bench, "sample:1");
        expected.assert_same(&tree);
        trees.push(tree);
        for to in ["oci:out:sample", "oci-archive:out.tar:sample", "docker-archive:docker.tar:sample:1"] {
            bench.run(&["push", "sample:1", to]);
            let (transport, file) = to.split_once(':').unwrap();
            let pushed = format!("{transport}:{}", bench.path(file).display());
            let exported = Identity::of(&pushed, &bench.path(&format!("look-{transport}")));
            source.assert_same(&exported, &format!("{to} from {driver}"));
        }
        bench.run(&["check"]);
        bench.run(&["rmi", "sample:1"]);
        assert_eq!(bench.run(&["layer", "list"]).lines().count(), 1, "{driver} is left with the header line");
    }
    for pair in trees.windows(2) {
        assert_same(&pair[0], &pair[1]);
    }
}

#[test]
fn a_layout_by_umoci_comes_in_and_goes_out_unchanged() {
    let scratch = tempfile::tempdir().unwrap();
    check(&Sample::shared(Level::Awkward).reference(), scratch.path());
}

#[rstest]
#[case("oci", "gzip")]
#[case("oci", "zstd")]
#[case("oci-archive", "gzip")]
#[case("oci-archive", "zstd")]
#[case("docker-archive", "none")]
fn what_skopeo_writes_comes_in_and_goes_out_unchanged(#[case] transport: &str, #[case] compression: &str) {
    let sample = Sample::shared(Level::Awkward);
    let scratch = tempfile::tempdir().unwrap();
    // skopeo compresses only what is not compressed yet.
    let plain = format!("dir:{}", scratch.path().join("plain").display());
    run(&mut skopeo(&["copy", "-q", "--dest-decompress", &sample.reference(), &plain]));
    let tag = if transport == "docker-archive" { "sample:1" } else { "sample" };
    let reference = format!("{transport}:{}:{tag}", scratch.path().join("image").display());
    let mut copy = skopeo(&["copy", "-q"]);
    if compression != "none" {
        copy.args(["--dest-compress-format", compression]);
    }
    run(copy.args([&plain, &reference]));
    check(&reference, scratch.path());
}

#[test]
fn a_docker_archive_that_is_compressed_as_a_whole_comes_in_unchanged() {
    let sample = Sample::shared(Level::Awkward);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("image.tar");
    let archive = format!("docker-archive:{}:sample:1", file.display());
    run(&mut skopeo(&["copy", "-q", &sample.reference(), &archive]));
    run(peer("gzip").arg("--keep").arg(&file));
    let compressed = format!("docker-archive:{}.gz:sample:1", file.display());
    check_as(&compressed, &archive, scratch.path());
}

#[rstest]
#[case("oci", "image")]
#[case("docker-archive", "image:1")]
fn what_buildah_commits_comes_in_and_goes_out_unchanged(#[case] transport: &str, #[case] tag: &str) {
    let sample = Sample::shared(Level::Common);
    let scratch = tempfile::tempdir().unwrap();
    let buildah = |arguments: &[&str]| -> Command {
        let mut command = peer("buildah");
        command.arg("--root").arg(scratch.path().join("root"));
        command.arg("--runroot").arg(scratch.path().join("run"));
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command
    };
    // buildah makes a name from the path and takes no capitals; the layout's path may have some.
    let archive = format!("docker-archive:{}:localhost/base:1", scratch.path().join("base").display());
    run(&mut skopeo(&["copy", "-q", &sample.reference(), &archive]));
    run(&mut buildah(&["pull", "-q", &archive]));
    let container = run(&mut buildah(&["from", "--pull-never", "--isolation", "chroot", "localhost/base:1"]));
    let root = run(&mut buildah(&["mount", &container]));
    let root = Path::new(&root);
    fs::remove_dir_all(root.join("opt/to")).unwrap();
    fs::write(root.join("opt/to"), "a file now").unwrap();
    fs::write(root.join("etc/hostname"), "changed by buildah\n").unwrap();
    fs::hard_link(root.join("etc/passwd"), root.join("etc/passwd-")).unwrap();
    run(&mut buildah(&["unmount", &container]));
    run(&mut buildah(&["config", "--label", "by=buildah", &container]));
    let reference = format!("{transport}:{}:{tag}", scratch.path().join("out").display());
    run(&mut buildah(&["commit", "-q", &container, &reference]));
    run(&mut buildah(&["rm", &container]));
    check(&reference, scratch.path());
}

#[test]
fn what_docker_saves_comes_in_and_goes_out_unchanged() {
    let sample = Sample::shared(Level::Common);
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("in.tar");
    let to = format!("docker-archive:{}:example/base:1", archive.display());
    run(&mut skopeo(&["copy", "-q", &sample.reference(), &to]));
    let docker = Dockerd::start();
    run(docker.client(&["load", "-q", "-i"]).arg(&archive));
    // One layer more, by docker's own differ; then an image of a single tar.
    let container = run(&mut docker.client(&["create", "example/base:1", "/bin/sh"]));
    fs::write(scratch.path().join("note"), "put here by docker\n").unwrap();
    let into = format!("{container}:/etc/motd");
    run(docker.client(&["cp"]).arg(scratch.path().join("note")).arg(into));
    run(&mut docker.client(&["commit", "--change", "ENV BY=docker", &container, "example/base:2"]));
    run(&mut docker.client(&["rm", &container]));
    let tar = scratch.path().join("import.tar");
    let exported =
        peer("tar").arg("-C").arg(scratch.path()).arg("-cf").arg(&tar).arg("note").status().unwrap();
    assert!(exported.success());
    run(docker.client(&["import"]).arg(&tar).arg("example/imported:1"));

    for name in ["example/base:1", "example/base:2", "example/imported:1"] {
        let folder = scratch.path().join(name.replace(['/', ':'], "-"));
        fs::create_dir(&folder).unwrap();
        let saved = folder.join("saved.tar");
        run(docker.client(&["save", "-o"]).arg(&saved).arg(name));
        check(&format!("docker-archive:{}:{name}", saved.display()), &folder);
    }
    docker.stop();
}
