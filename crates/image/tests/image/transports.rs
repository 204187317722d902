//! Images go out and come back through every transport, whole and byte for byte.

use std::path::Path;

use crate::support::{check_layers, copy_image, layers, read_image, scratch, write_image};
use layerstore_image::{Compression, CreateOptions, ImageName, Kind, Verify};
use rstest::rstest;
use serde_json::Value;

fn options(compression: Option<Compression>) -> CreateOptions {
    let mut options = CreateOptions::default();
    options.compression = compression;
    options
}

#[rstest]
fn an_image_comes_back_as_it_was_written(
    #[values(
        "oci:DIR/image",
        "oci:DIR/image:v1",
        "oci-archive:DIR/image.tar:v1",
        "docker-archive:DIR/i.tar:a/b:v1"
    )]
    reference: &str,
    #[values(None, Some(Compression::None), Some(Compression::Gzip), Some(Compression::Zstd))]
    compression: Option<Compression>,
) {
    let (_guard, dir) = scratch();
    let reference = reference.replace("DIR", dir.to_str().unwrap());
    let layers = layers();
    let config = write_image(&reference, &layers, &options(compression)).unwrap();
    let image = read_image(&reference).unwrap();
    assert_eq!(image.config().raw(), config.raw(), "the configuration travels byte for byte");
    assert_eq!(image.config().image_id(), config.image_id());
    assert_eq!(check_layers(&*image), layers);
    assert_eq!(image.warnings(), &[] as &[String]);
    let expected = match compression {
        _ if reference.starts_with("docker-archive") => Compression::None,
        other => other.unwrap_or(Compression::Gzip),
    };
    for layer in image.layers() {
        assert_eq!(layer.compression, expected);
        assert!(layer.digest.is_some(), "each transport that we write promises the digest of its blobs");
    }
}

#[test]
fn a_copy_between_layouts_keeps_the_manifest_byte_for_byte() {
    let (_guard, dir) = scratch();
    let from = format!("oci:{}/from", dir.display());
    write_image(&from, &layers(), &options(Some(Compression::Zstd))).unwrap();
    let image = read_image(&from).unwrap();
    for to in ["oci:DIR/to", "oci-archive:DIR/to.tar"] {
        let to = to.replace("DIR", dir.to_str().unwrap());
        let digest = copy_image(&from, &to, &CreateOptions::default(), &[]).unwrap();
        let copied = read_image(&to).unwrap();
        assert_eq!(copied.manifest().unwrap().raw(), image.manifest().unwrap().raw());
        assert_eq!(digest, image.manifest().unwrap().digest());
    }
}

#[test]
fn a_docker_archive_is_an_oci_archive_too() {
    let (_guard, dir) = scratch();
    let file = dir.join("image.tar");
    write_image(
        &format!("docker-archive:{}:me/app:v2", file.display()),
        &layers(),
        &CreateOptions::default(),
    )
    .unwrap();
    let docker = read_image(&format!("docker-archive:{}", file.display())).unwrap();
    let oci = read_image(&format!("oci-archive:{}:v2", file.display())).unwrap();
    assert_eq!(docker.config().image_id(), oci.config().image_id());
    let name: ImageName = "me/app:v2".parse().unwrap();
    assert_eq!(docker.names(), std::slice::from_ref(&name));
    assert_eq!(oci.names(), [name]);
}

/// Who loads what was written gives the image its names: one that nobody asked for would be taken from another there.
#[rstest]
#[case::a_docker_archive("docker-archive:DIR/out:x:y", &["docker.io/library/x:y"])]
#[case::a_docker_archive_without_a_name("docker-archive:DIR/out", &["docker.io/library/c:1", "host.example/d:2"])]
#[case::a_tag_in_a_layout("oci:DIR/out:y", &[])]
#[case::a_tag_in_a_layout_that_the_image_has("oci:DIR/out:2", &["host.example/d:2"])]
#[case::a_repository_as_tag_in_an_archive("oci-archive:DIR/out:d", &["host.example/d:2"])]
#[case::a_name_as_tag_in_an_archive("oci-archive:DIR/out:host.example/x:y", &["host.example/x:y"])]
#[case::a_name_as_tag_in_a_layout("oci:DIR/out:host.example/x:y", &["host.example/x:y"])]
#[case::a_tag_in_an_archive("oci-archive:DIR/out:y", &[])]
#[case::a_layout_without_a_tag("oci:DIR/out", &["docker.io/library/c:1"])]
fn an_image_is_written_under_the_name_that_was_asked_for(#[case] to: &str, #[case] expected: &[&str]) {
    let (_guard, dir) = scratch();
    let from = format!("oci:{}/from", dir.display());
    write_image(&from, &layers(), &CreateOptions::default()).unwrap();
    let to = to.replace("DIR", dir.to_str().unwrap());
    let names: Vec<ImageName> = ["c:1", "host.example/d:2"].map(|name| name.parse().unwrap()).into();
    copy_image(&from, &to, &CreateOptions::default(), &names).unwrap();
    let member = |name: &str| -> Value {
        let out = dir.join("out");
        let bytes = if out.is_dir() {
            std::fs::read(out.join(name)).unwrap()
        } else {
            let mut tar = std::process::Command::new("tar");
            tar.arg("-xOf").arg(out).arg(name).output().unwrap().stdout
        };
        serde_json::from_slice(&bytes).unwrap()
    };
    let annotation = &member("index.json")["manifests"][0]["annotations"]["io.containerd.image.name"];
    assert_eq!(annotation.as_str(), expected.first().copied());
    if to.starts_with("docker-archive") {
        assert_eq!(member("manifest.json")[0]["RepoTags"], serde_json::json!(expected));
    }
}

#[test]
fn several_images_live_in_one_layout_and_a_tag_moves() {
    let (_guard, dir) = scratch();
    let layout = dir.join("layout");
    let at = |tag: &str| format!("oci:{}:{tag}", layout.display());
    let all = layers();
    let one = write_image(&at("one"), &all[..1], &CreateOptions::default()).unwrap();
    let two = write_image(&at("two"), &all[..2], &CreateOptions::default()).unwrap();
    // A field and an annotation of somebody else stay.
    let index = layout.join("index.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    json["x-other"] = Value::from("kept");
    json["manifests"][0]["annotations"]["org.example"] = Value::from("kept too");
    std::fs::write(&index, json.to_string()).unwrap();
    let three = write_image(&at("two"), &all, &CreateOptions::default()).unwrap();

    assert_ne!(two.image_id(), three.image_id());
    assert_eq!(read_image(&at("one")).unwrap().config().image_id(), one.image_id());
    assert_eq!(read_image(&at("two")).unwrap().config().image_id(), three.image_id());
    assert_eq!(read_image(&at("@0")).unwrap().config().image_id(), one.image_id());
    let json: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    assert_eq!(json["x-other"], "kept");
    assert_eq!(json["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(json["manifests"][0]["annotations"]["org.example"], "kept too");

    let error = read_image(&format!("oci:{}", layout.display())).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.hint().unwrap().contains("one, two"), "{error}: {:?}", error.hint());
    let error = read_image(&at("three")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn layers_that_are_not_asked_for_are_not_read() {
    let (_guard, dir) = scratch();
    let reference = format!("oci:{}", dir.join("layout").display());
    write_image(&reference, &layers(), &CreateOptions::default()).unwrap();
    let image = read_image(&reference).unwrap();
    // Every layer but the second is gone; the image opens, and the second layer reads.
    for index in [0, 2] {
        let digest = image.layers()[index].digest.unwrap();
        std::fs::remove_file(dir.join("layout/blobs/sha256").join(digest.hex())).unwrap();
    }
    let image = read_image(&reference).unwrap();
    crate::support::layer_tar(&*image, 1);
    assert_eq!(image.open_layer(0, Verify::All).err().unwrap().kind(), Kind::NotFound);
}

#[rstest]
#[case::plain(None)]
#[case::gzip(Some(Compression::Gzip))]
#[case::zstd(Some(Compression::Zstd))]
fn a_compressed_archive_reads_like_a_plain_one(#[case] compression: Option<Compression>) {
    let (_guard, dir) = scratch();
    let plain = dir.join("plain.tar");
    let config =
        write_image(&format!("oci-archive:{}", plain.display()), &layers(), &CreateOptions::default())
            .unwrap();
    let bytes = compress(std::fs::read(&plain).unwrap(), compression);
    let file = dir.join("archive");
    std::fs::write(&file, bytes).unwrap();
    let image = read_image(&format!("oci-archive:{}", file.display())).unwrap();
    assert_eq!(image.config().image_id(), config.image_id());
    check_layers(&*image);
}

fn compress(bytes: Vec<u8>, compression: Option<Compression>) -> Vec<u8> {
    use std::io::Write as _;
    match compression {
        Some(Compression::Gzip) => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        Some(Compression::Zstd) => zstd::stream::encode_all(&*bytes, 1).unwrap(),
        _ => bytes,
    }
}

/// A bomb: 256 MiB of zeros behind the archive's end, and the stream breaks off in their midst.
#[rstest]
#[case::gzip(Compression::Gzip)]
#[case::zstd(Compression::Zstd)]
fn nothing_behind_the_end_of_a_compressed_archive_is_unpacked(
    #[values("oci-archive", "docker-archive")] transport: &str,
    #[case] compression: Compression,
) {
    let (_guard, dir) = scratch();
    let file = dir.join("image.tar");
    let reference = format!("{transport}:{}", file.display());
    let config = write_image(&format!("{reference}:bomb:v1"), &layers(), &CreateOptions::default()).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.resize(bytes.len() + (256 << 20), 0);
    let mut bomb = compress(bytes, Some(compression));
    bomb.truncate(bomb.len() - 1024);
    std::fs::write(&file, bomb).unwrap();
    let image = read_image(&reference).unwrap();
    assert_eq!(image.config().image_id(), config.image_id());
    check_layers(&*image);
}

#[rstest]
#[case::plain(None)]
#[case::gzip(Some(Compression::Gzip))]
#[case::zstd(Some(Compression::Zstd))]
fn a_tar_of_a_root_file_system_is_an_image_of_one_layer(#[case] compression: Option<Compression>) {
    let (_guard, dir) = scratch();
    let tar = layers().remove(0);
    let file = dir.join("rootfs.tar");
    std::fs::write(&file, compress(tar.clone(), compression)).unwrap();
    let reference = format!("rootfs:{}", file.display());
    let image = read_image(&reference).unwrap();
    assert_eq!(check_layers(&*image), [tar]);
    assert_eq!(image.config().history()[0].comment.as_deref(), Some("imported from rootfs"));
    assert_eq!(image.config().platform().os, "linux");
    let again = read_image(&reference).unwrap();
    assert_eq!(again.config().image_id(), image.config().image_id(), "the same content is the same image");
    let layout = format!("oci:{}/layout:x", dir.display());
    copy_image(&reference, &layout, &CreateOptions::default(), &[]).unwrap();
    assert_eq!(read_image(&layout).unwrap().config().image_id(), image.config().image_id());
}

#[test]
fn a_directory_that_holds_something_else_is_not_written_to() {
    let (_guard, dir) = scratch();
    std::fs::write(dir.join("precious"), "data").unwrap();
    let error =
        write_image(&format!("oci:{}", dir.display()), &layers(), &CreateOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert_eq!(names_in(&dir), ["precious"]);
}

#[test]
fn an_image_that_was_not_finished_leaves_nothing_behind() {
    let (_guard, dir) = scratch();
    for reference in ["oci-archive:DIR/a.tar", "docker-archive:DIR/b.tar"] {
        let reference = reference.replace("DIR", dir.to_str().unwrap()).parse().unwrap();
        let mut destination = layerstore_image::create(&reference, &CreateOptions::default()).unwrap();
        let blob = destination.create_blob().unwrap();
        blob.finish(None).unwrap();
        drop(destination);
    }
    assert_eq!(names_in(&dir), [] as [&str; 0]);
}

#[test]
fn a_layout_is_one_before_its_first_image_is_finished() {
    let (_guard, dir) = scratch();
    let layout = dir.join("layout");
    let at = format!("oci:{}:x", layout.display());
    let begin = || {
        let mut destination =
            layerstore_image::create(&at.parse().unwrap(), &CreateOptions::default()).unwrap();
        destination.create_blob().unwrap().finish(None).unwrap();
    };
    begin();
    let error = read_image(&at).unwrap_err();
    assert!(error.to_string().contains("there is no image tagged x"), "{error}");
    let listed =
        crate::support::run(std::process::Command::new("umoci").args(["ls", "--layout"]).arg(&layout));
    assert_eq!(listed, "");
    // What an older version left is completed.
    std::fs::remove_file(layout.join("index.json")).unwrap();
    begin();
    assert!(read_image(&at).unwrap_err().to_string().contains("there is no image tagged x"));
    write_image(&at, &layers(), &CreateOptions::default()).unwrap();
    check_layers(&*read_image(&at).unwrap());
}

#[rstest]
fn a_layer_with_another_diff_id_is_refused(
    #[values("oci:DIR/layout", "oci-archive:DIR/a.tar")] reference: &str,
) {
    use std::io::Write as _;
    let (_guard, dir) = scratch();
    let reference = reference.replace("DIR", dir.to_str().unwrap()).parse().unwrap();
    let mut destination = layerstore_image::create(&reference, &CreateOptions::default()).unwrap();
    let promised = layerstore_changeset::Digest::of(b"promised");
    let mut writer = layerstore_image::LayerWriter::new(&mut *destination, promised).unwrap();
    writer.write_all(b"another").unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(error.code(), Some(layerstore_changeset::Code::DigestMismatch));
    if dir.join("layout").exists() {
        assert_eq!(names_in(&dir.join("layout/blobs/sha256")), [] as [&str; 0]);
    }
}

#[test]
fn an_archive_can_be_written_to_a_pipe_and_read_from_one() {
    let (_guard, dir) = scratch();
    let fifo = dir.join("fifo");
    crate::support::run(std::process::Command::new("mkfifo").arg(&fifo));
    let copied = dir.join("copied.tar");
    let reader = {
        let (fifo, copied) = (fifo.clone(), copied.clone());
        std::thread::spawn(move || {
            let mut out = std::fs::File::create(copied).unwrap();
            std::io::copy(&mut std::fs::File::open(fifo).unwrap(), &mut out).unwrap();
        })
    };
    let layers = layers();
    let to = format!("docker-archive:{}:piped:v1", fifo.display());
    write_image(&to, &layers, &CreateOptions::default()).unwrap();
    reader.join().unwrap();
    let writer = {
        let (fifo, copied) = (fifo.clone(), copied.clone());
        std::thread::spawn(move || {
            let mut out = std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
            std::io::copy(&mut std::fs::File::open(copied).unwrap(), &mut out).unwrap();
        })
    };
    let image = read_image(&format!("docker-archive:{}", fifo.display())).unwrap();
    writer.join().unwrap();
    assert_eq!(check_layers(&*image), layers);
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_directory_of_a_root_file_system_is_an_image_of_one_layer() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (_guard, dir) = scratch();
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("etc/deep")).unwrap();
    std::fs::write(root.join("etc/motd"), "hello\n").unwrap();
    std::fs::hard_link(root.join("etc/motd"), root.join("etc/motd2")).unwrap();
    std::fs::set_permissions(root.join("etc/motd"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::write(root.join("big"), vec![7; 3 << 20]).unwrap();
    symlink("/etc/motd", root.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let reference = format!("rootfs:{}", root.display());
    let image = read_image(&reference).unwrap();
    let tar = check_layers(&*image).remove(0);
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut found: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned(),
                entry.header().mode().unwrap(),
            )
        })
        .filter(|(name, _)| !name.is_empty() && name != ".")
        .collect();
    found.sort();
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["big", "etc", "etc/deep", "etc/motd", "etc/motd2", "link"]);
    assert_eq!(found[3].1 & 0o7777, 0o4711);
    assert_eq!(image.warnings().len(), 1, "a socket is left out, and that is said: {:?}", image.warnings());
    let again = read_image(&reference).unwrap();
    assert_eq!(again.config().image_id(), image.config().image_id(), "the same content is the same image");
    assert_eq!(image.config().warnings(), [] as [String; 0]);

    // What is changed between opening and reading is found.
    std::fs::write(root.join("etc/motd"), "HELLO\n").unwrap();
    let mut blob = image.open_layer(0, Verify::All).unwrap();
    let error = std::io::Read::read_to_end(&mut blob, &mut Vec::new()).unwrap_err();
    let error = layerstore_image::Error::from_io("read image", "layer", error);
    assert_eq!(error.code(), Some(layerstore_changeset::Code::DigestMismatch));
}

#[test]
fn a_long_operation_can_be_cancelled() {
    let (_guard, dir) = scratch();
    std::fs::write(dir.join("file"), "x").unwrap();
    let options = layerstore_image::OpenOptions::default();
    options.context.cancel();
    let reference = format!("rootfs:{}", dir.display()).parse().unwrap();
    let error = layerstore_image::open(&reference, &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
}
