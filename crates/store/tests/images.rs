//! Pulling, listing, naming and exporting images through the public door, on every driver.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore::{Context, Kind, LayerStage, PullOptions, Watcher};
use layerstore_image::Verify;
use rstest::rstest;
use std::sync::{Arc, Mutex};

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_pulled_image_gives_its_layers_back_byte_for_byte(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    let pulled = image.pull(&store, &["docker.io/library/small"]).unwrap();
    assert_eq!(pulled.id.to_string(), image.id());
    assert_eq!((pulled.layers_held, pulled.layers_new), (0, 2));
    assert_eq!(exported(&store, "small:latest"), image.tars());
    let found = store.images().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].names[0].to_string(), "small:latest");
    assert_eq!(found[0].created.as_deref(), Some("2024-01-01T00:00:00Z"));
    assert!(listing(scratch.root().join("staging")).is_empty(), "no lease is left");
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_second_pull_reads_nothing(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["one"]).unwrap();
    let reads = image.reads();
    let stages = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&stages);
    let watcher = Watcher::new(move |progress| seen.lock().unwrap().push((progress.index, progress.stage)));
    let options = PullOptions { names: vec!["two".to_owned()], watcher };
    let pulled = store.pull_from(&image, &options, &Context::new()).unwrap();
    assert_eq!((pulled.layers_held, pulled.layers_new), (2, 0));
    assert_eq!(image.reads(), reads);
    assert_eq!(*stages.lock().unwrap(), [(0, LayerStage::Exists), (1, LayerStage::Exists)]);
    assert_eq!(store.images().unwrap().len(), 1);
    // Another image on the same base reads only what is its own.
    let other = Memory::new([base_tar(), Tar::new().file("new", "x").bytes()], "other");
    let pulled = other.pull(&store, &["other"]).unwrap();
    assert_eq!((pulled.layers_held, pulled.layers_new, other.reads()), (1, 1, 1));
}

#[rstest]
#[case::wrong_diff_id("vfs", |image: &mut Memory| image.swap_tar(1, &Tar::new().file("evil", "x").bytes()),
    Kind::InvalidInput, Some("DIGEST_MISMATCH"))]
#[case::wrong_diff_id("overlay2", |image: &mut Memory| image.swap_tar(1, &Tar::new().file("evil", "x").bytes()),
    Kind::InvalidInput, Some("DIGEST_MISMATCH"))]
#[case::cut_off("vfs", |image: &mut Memory| image.damage(1, |blob| blob.truncate(blob.len() / 2)),
    Kind::InvalidInput, Some("TRUNCATED"))]
#[case::bits("overlay2", |image: &mut Memory| image.damage(1, |blob| blob[40] ^= 0x10), Kind::InvalidInput, None)]
#[case::climbing("vfs", |image: &mut Memory| image.swap_tar(1, &climbing()), Kind::InvalidInput,
    Some("PATH_ESCAPE"))]
#[case::climbing("overlay2", |image: &mut Memory| image.swap_tar(1, &climbing()), Kind::InvalidInput,
    Some("PATH_ESCAPE"))]
fn a_refused_image_leaves_nothing(
    #[case] driver: &str,
    #[case] harm: fn(&mut Memory),
    #[case] kind: Kind,
    #[case] code: Option<&str>,
) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let mut image = small();
    harm(&mut image);
    let error = image.pull(&store, &["bad"]).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    if code.is_some() {
        assert_eq!(error.code(), code, "{error}");
    }
    assert!(store.images().unwrap().is_empty());
    assert!(store.layers().unwrap().is_empty());
    assert!(store.driver().layers().unwrap().is_empty());
    for folder in ["records", "blobs", "staging"] {
        assert!(listing(scratch.root().join(folder)).is_empty(), "{folder}");
    }
    let check = store.check(layerstore::CheckOptions::default(), &Context::new()).unwrap();
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}

#[rstest]
fn a_name_with_a_digest_that_the_image_does_not_have_is_refused_before_anything_is_read(
    #[values(true, false)] manifest: bool,
    #[values("a", "a:1")] name: &str,
) {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let image = if manifest { small().with_manifest() } else { small() };
    let asked = format!("sha256:{}", "0".repeat(64));
    let error = image.pull(&store, &["good:1", &format!("{name}@{asked}")]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::InvalidInput, Some("DIGEST_MISMATCH")), "{error}");
    assert!(error.message().contains(&asked), "{error}");
    assert!(!manifest || error.message().contains(&image.digest().to_string()), "{error}");
    assert!(store.images().unwrap().is_empty() && image.reads() == 0);
    assert!(listing(scratch.root().join("images")).is_empty());
}

#[test]
fn a_name_with_the_digest_of_the_manifest_is_the_image_s() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let mut image = small().with_manifest();
    let own = format!("a@{}", image.digest());
    image.pull(&store, &[&own]).unwrap();
    assert_eq!(store.image(&own).unwrap().id.to_string(), image.id());
    store.remove_image(&own, false).unwrap();
    // What a source says of itself may be of another time, as where its layers were compressed anew.
    let other = format!("b@sha256:{}", "0".repeat(64));
    image.names = [&own, &other, "c:1"].iter().map(|name| name.parse().unwrap()).collect();
    let pulled = image.pull(&store, &[]).unwrap();
    let names: Vec<_> = store.images().unwrap()[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(names, [own, "c:1".to_owned()]);
    assert!(pulled.warnings.iter().any(|warning| warning.contains(&other)), "{:?}", pulled.warnings);
}

#[test]
fn a_tag_has_no_digest() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let image = small().with_manifest();
    image.pull(&store, &["a:1"]).unwrap();
    let container =
        store.create_container("a:1", &layerstore::ContainerOptions::default(), &Context::new()).unwrap();
    for digest in [image.digest().to_string(), format!("sha256:{}", "0".repeat(64))] {
        let name = format!("a2@{digest}");
        let options = layerstore::CommitOptions { name: Some(name.clone()), ..Default::default() };
        for error in [
            store.tag("a:1", &name).unwrap_err(),
            store.commit(&container.id, &options, &Context::new()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::InvalidInput);
            assert_eq!(error.message(), "refusing to create a tag with a digest reference");
        }
    }
    let images = store.images().unwrap();
    assert_eq!((images.len(), images[0].names.len()), (1, 1), "{images:?}");
}

fn climbing() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..9].copy_from_slice(b"../escape");
    header.set_size(1);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b"x"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_cancelled_pull_leaves_nothing(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let mut image = small();
    image.slow = 1;
    let context = Context::new();
    let cancel = context.clone();
    let watcher = Watcher::new(move |progress| {
        if progress.index == 1 {
            cancel.cancel();
        }
    });
    let options = PullOptions { names: Vec::new(), watcher };
    let error = store.pull_from(&image, &options, &context).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    assert!(store.driver().layers().unwrap().is_empty());
    assert!(store.layers().unwrap().is_empty());
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn a_tar_that_names_a_file_twice_is_given_back_from_its_blob(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    let tar = Tar::new().file("a", "first").file("b", "b").file("a", "second, longer").bytes();
    let image = Memory::new([tar], "twice");
    image.pull(&store, &["twice"]).unwrap();
    assert_eq!(exported(&store, "twice"), image.tars());
    let records = listing(scratch.root().join("records"));
    assert!(records.iter().all(|name| !name.ends_with(".gz")), "{records:?}");
    assert_eq!(listing(scratch.root().join("blobs")).len(), 1);
    store.remove_image("twice", false).unwrap();
    assert!(listing(scratch.root().join("blobs")).is_empty());
}

#[rstest]
#[case("vfs")]
#[case("overlay2")]
fn damage_is_found_by_export_and_check(#[case] driver: &str) {
    let scratch = Scratch::new();
    let store = scratch.open(driver);
    small().pull(&store, &["small"]).unwrap();
    let check =
        |quick| store.check(layerstore::CheckOptions { quick, repair: false }, &Context::new()).unwrap();
    let sound = check(false);
    assert!(sound.findings.is_empty(), "{:?}", sound.findings);
    assert_eq!((sound.layers, sound.verified), (2, 2));
    let top = store.image("small").unwrap().layers[1].clone();
    let file = find(&scratch.root().join(driver).join(""), "hosts", "other");
    std::fs::write(file, "changed by hand, and longer than before\n").unwrap();
    let error = store.layer_tar(top.id.as_str(), &mut Vec::new(), &Context::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert_eq!(error.layer(), Some(top.id.as_str()));
    let found = check(false);
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!((found.findings[0].kind, found.findings[0].name.as_str()), ("layer-damaged", top.id.as_str()));
    assert_eq!(found.findings[0].images.len(), 1);
    assert_eq!(check(true).findings[0].message, "it was found damaged before");
    std::fs::remove_file(scratch.root().join("records").join(format!("{}.tar-split.gz", top.id))).unwrap();
    assert_eq!(check(true).findings[0].kind, "record-missing");
    // Finding marks the layer, and nothing new is built on it until it is pulled again.
    let options = layerstore::CheckOptions { quick: true, repair: true };
    assert!(!store.check(options, &Context::new()).unwrap().findings[0].repaired);
    let error = store.create_container("small", &layerstore::ContainerOptions::default(), &Context::new());
    assert_eq!(error.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(small().pull(&store, &["again"]).unwrap().layers_new, 1);
    assert!(check(false).findings.is_empty());
}

/// The file of this name below a directory whose content has this word in it.
fn find(directory: &std::path::Path, name: &str, word: &str) -> std::path::PathBuf {
    let output = std::process::Command::new("grep")
        .args(["-rl", "--include", name, word])
        .arg(directory)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().next().expect("a file with that word").into()
}

#[rstest]
#[case::compressed_blob_and_tar(false, Verify::All)]
#[case::the_blob_is_the_tar(true, Verify::Size)]
fn a_layer_is_hashed_once_for_each_digest(#[case] plain: bool, #[case] verify: Verify) {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let mut image = small();
    if plain {
        image.uncompress();
    }
    image.pull(&store, &["small"]).unwrap();
    assert_eq!(*image.opened.lock().unwrap(), [verify; 2]);
    assert_eq!(exported(&store, "small"), image.tars());
}

#[test]
fn names_move_and_prefixes_find() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let one = Memory::new([Tar::new().file("a", "1").bytes()], "one");
    let two = Memory::new([Tar::new().file("a", "2").bytes()], "two");
    one.pull(&store, &["app:1", "app"]).unwrap();
    two.pull(&store, &["app"]).unwrap();
    assert_eq!(store.image("app").unwrap().id.to_string(), two.id());
    assert_eq!(store.image("app:1").unwrap().id.to_string(), one.id());
    let hex = one.id().trim_start_matches("sha256:").to_owned();
    assert_eq!(store.image(&hex[..12]).unwrap().id.to_string(), one.id());
    assert_eq!(store.image(&one.id()).unwrap().id.to_string(), one.id());
    assert_eq!(store.tag(&hex[..12], "other/name:tag").unwrap().to_string(), "other/name:tag");
    assert_eq!(store.image("other/name:tag").unwrap().id.to_string(), one.id());
    store.untag("other/name:tag").unwrap();
    assert_eq!(store.untag("other/name:tag").unwrap_err().kind(), Kind::NotFound);
    let error = store.image("missing").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.message(), "No such image: missing:latest");
    assert_eq!(store.tag("app", "Bad Name").unwrap_err().kind(), Kind::InvalidInput);
}

#[test]
fn an_ambiguous_prefix_lists_the_candidates() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let mut first = std::collections::HashMap::new();
    for salt in 0..40 {
        let image = Memory::new([Tar::new().file("a", "1").bytes()], &salt.to_string());
        image.pull(&store, &[]).unwrap();
        let digit = image.id().chars().nth(7).unwrap();
        first.entry(digit).or_insert_with(Vec::new).push(image.id());
    }
    let (digit, ids) = first.iter().find(|(_, ids)| ids.len() > 1).unwrap();
    let error = store.image(&digit.to_string()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    let shown = ids.iter().filter(|id| error.message().contains(&id[7..19])).count();
    assert!(shown >= 2, "{error}");
}

#[test]
fn history_and_inspect_name_the_layers() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let image = small();
    image.pull(&store, &["small"]).unwrap();
    let history = store.history("small").unwrap();
    let diff_ids: Vec<_> = image.tars().iter().map(|tar| layerstore::Digest::of(tar)).collect();
    assert_eq!(
        history.iter().map(|line| line.diff_id.unwrap()).collect::<Vec<_>>(),
        [diff_ids[1], diff_ids[0]]
    );
    let inspect = store.inspect("small").unwrap();
    assert_eq!(inspect["Id"], image.id());
    assert_eq!(inspect["RepoTags"], serde_json::json!(["small:latest"]));
    assert_eq!(inspect["RootFS"]["Layers"], serde_json::json!(diff_ids));
    assert_eq!(inspect["GraphDriver"]["Name"], "vfs");
    assert_eq!(inspect["Config"]["Cmd"], serde_json::json!(["sh"]));
    let tree = store.tree(Some("small")).unwrap();
    assert_eq!(tree.len(), 1);
    assert_eq!(tree[0].children[0].images[0].1, ["small:latest"]);
}

#[rstest]
#[case(true)]
#[case(false)]
fn kept_blobs_are_pushed_as_they_came(#[case] keep: bool) {
    let scratch = Scratch::new();
    let mut config = scratch.config("overlay2");
    config.keep_blobs.value = keep;
    let store = open(config).unwrap();
    // Compressed by nobody we know: a level that we would not write.
    let mut image = small();
    image.recompress(1);
    image.pull(&store, &["small"]).unwrap();
    assert_eq!(listing(scratch.root().join("blobs")).len(), if keep { 2 } else { 0 });
    let target = scratch.path().join("out");
    store
        .push("small", &format!("oci:{}:latest", target.display()), &Default::default(), &Context::new())
        .unwrap();
    let blobs = listing(target.join("blobs/sha256"));
    let same = image.blob_digests().iter().filter(|digest| blobs.contains(digest)).count();
    assert_eq!(same, if keep { 2 } else { 0 }, "{blobs:?}");
    // A damaged one is not pushed: the layer is written from its record.
    let Some(name) = listing(scratch.root().join("blobs")).pop() else { return };
    let path = scratch.root().join("blobs").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let again = scratch.path().join("again");
    store
        .push("small", &format!("oci:{}:latest", again.display()), &Default::default(), &Context::new())
        .unwrap();
    let blobs = listing(again.join("blobs/sha256"));
    assert_eq!(image.blob_digests().iter().filter(|digest| blobs.contains(digest)).count(), 1);
    store.remove_image("small", false).unwrap();
    assert!(listing(scratch.root().join("blobs")).is_empty());
}

#[test]
fn unpacking_an_archive_before_it_is_read_can_be_cancelled() {
    let scratch = Scratch::new();
    let store = scratch.open("vfs");
    let archive = scratch.path().join("image.tar.gz");
    let tar = Tar::new().file("large", vec![0; 4 << 20]).bytes();
    let script = "head -c 2000000 | gzip -1 > $0";
    let mut gzip = std::process::Command::new("sh")
        .args(["-ec", script])
        .arg(&archive)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It takes the first part only: the archive is damaged, which is found when it is unpacked.
    let _ = std::io::Write::write_all(gzip.stdin.as_mut().unwrap(), &tar);
    assert!(gzip.wait_with_output().unwrap().status.success());
    let source = format!("docker-archive:{}", archive.display());
    let pull = |context: &Context| store.pull(&source, &PullOptions::default(), context).unwrap_err().kind();
    assert_eq!(pull(&Context::new()), Kind::InvalidInput);
    let cancelled = Context::new();
    cancelled.cancel();
    assert_eq!(pull(&cancelled), Kind::Cancelled);
}
