//! Documents and archives that lie are refused, with a stable code, quickly, and without following them anywhere.

use std::io::Read as _;
use std::path::Path;

use layerstore_changeset::{Code, Digest};
use layerstore_image::{CreateOptions, Error, Kind, Verify};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{config_of, put_blob, put_index, read_image, scratch, tar_of, write_image};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest of one good layer, whose blobs lie in the layout.
fn good(layout: &Path) -> Value {
    let layer = tar_of(&[("file", b"content")]);
    let config = config_of(std::slice::from_ref(&layer));
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": put_blob(layout, OCI_CONFIG, config.raw()),
        "layers": [put_blob(layout, OCI_LAYER, &layer)],
    })
}

/// Opens the image whose manifest has these bytes.
fn open_manifest(layout: &Path, manifest: &[u8], media_type: &str) -> Result<(), Error> {
    let entry = put_blob(layout, media_type, manifest);
    put_index(layout, &json!({"schemaVersion": 2, "manifests": [entry]}));
    read_image(&format!("oci:{}", layout.display())).map(drop)
}

#[test]
fn the_manifest_that_the_others_differ_from_is_good() {
    let (_guard, dir) = scratch();
    let manifest = good(&dir);
    open_manifest(&dir, manifest.to_string().as_bytes(), OCI_MANIFEST).unwrap();
}

#[rstest]
#[case::both("/manifests", json!([]), "both `layers` and `manifests`")]
#[case::lookalike("/Layers", json!([]), "not spelled")]
#[case::unicode_lookalike("/layer\u{17f}", json!([]), "not spelled")]
#[case::other_type("/mediaType", json!(OCI_INDEX), "by itself")]
#[case::type_number("/mediaType", json!(1), "not a string")]
#[case::version_3("/schemaVersion", json!(3), "schemaVersion")]
#[case::layers_object("/layers", json!({}), "not a list")]
#[case::layer_number("/layers/0", json!(1), "layers[0]")]
#[case::digest_traversal("/layers/0/digest", json!("sha256:../../../etc/passwd"), "64 lower-case")]
#[case::digest_upper("/layers/0/digest", json!(format!("sha256:{}", "A".repeat(64))), "64 lower-case")]
#[case::digest_algorithm("/layers/0/digest", json!(format!("md5:{}", "a".repeat(32))), "only sha256")]
#[case::size_negative("/layers/0/size", json!(-1), "layers[0]")]
#[case::size_fraction("/layers/0/size", json!(1.5), "layers[0]")]
#[case::size_huge("/layers/0/size", json!(1e300), "layers[0]")]
#[case::annotation_number("/annotations", json!({"a": 1}), "annotations")]
#[case::config_size("/config/size", json!(5_000_000), "more than")]
#[case::no_layers("/layers", json!([]), "1 diff IDs, but the image has 0 layers")]
fn a_manifest_that_contradicts_itself_is_refused(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] reason: &str,
) {
    let (_guard, dir) = scratch();
    let mut manifest = good(&dir);
    match manifest.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => manifest[pointer.trim_start_matches('/')] = value,
    }
    let error = open_manifest(&dir, manifest.to_string().as_bytes(), OCI_MANIFEST).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[rstest]
#[case::foreign(
    "/layers/0/mediaType",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "not distributed"
)]
#[case::nondistributable(
    "/layers/0/mediaType",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "not distributed"
)]
#[case::encrypted(
    "/layers/0/mediaType",
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    "encrypted"
)]
#[case::helm(
    "/layers/0/mediaType",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    "not root file systems"
)]
#[case::artifact("/config/mediaType", "application/vnd.oci.empty.v1+json", "artifact")]
fn what_is_no_image_is_unsupported(#[case] pointer: &str, #[case] media_type: &str, #[case] reason: &str) {
    let (_guard, dir) = scratch();
    let mut manifest = good(&dir);
    *manifest.pointer_mut(pointer).unwrap() = json!(media_type);
    let error = open_manifest(&dir, manifest.to_string().as_bytes(), OCI_MANIFEST).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[rstest]
#[case::by_type(r#"{"schemaVersion": 2}"#, "application/vnd.docker.distribution.manifest.v1+prettyjws")]
#[case::by_version(r#"{"schemaVersion": 1, "fsLayers": []}"#, OCI_MANIFEST)]
#[case::by_key(r#"{"fsLayers": []}"#, OCI_MANIFEST)]
fn schema_1_is_refused_by_its_name(#[case] manifest: &str, #[case] media_type: &str) {
    let (_guard, dir) = scratch();
    let error = open_manifest(&dir, manifest.as_bytes(), media_type).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[rstest]
#[case::empty(b"".to_vec())]
#[case::binary(vec![0xff; 100])]
#[case::scalar(b"42".to_vec())]
#[case::deep([b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat())]
#[case::deep_objects([br#"{"a":"#.repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat())]
#[case::twice(br#"{"schemaVersion": 2, "layers": [], "layers": []}"#.to_vec())]
#[case::too_large([b"{\"a\":\"".to_vec(), vec![b'x'; 4 << 20], b"\"}".to_vec()].concat())]
#[case::many_layers(format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{}0]}}"#, "0,".repeat(20_000)).into_bytes())]
#[case::trailing(br#"{"schemaVersion": 2} {}"#.to_vec())]
#[case::small_objects([b"{\"a\":[".to_vec(), br#"{"":0},"#.repeat(500_000), b"0]}".to_vec()].concat())]
#[case::small_lists([b"{\"a\":[".to_vec(), b"[],".repeat(1_300_000), b"0]}".to_vec()].concat())]
#[case::many_keys([b"{".to_vec(), (0..250_000).flat_map(|n| format!("\"{n}\":0,").into_bytes()).collect(), b"\"a\":0}".to_vec()].concat())]
fn a_document_that_is_none_is_refused(#[case] bytes: Vec<u8>) {
    let (_guard, dir) = scratch();
    let error = open_manifest(&dir, &bytes, OCI_MANIFEST).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument), "{error}");
    assert!(error.to_string().len() < 1000, "the message does not repeat the document");
    // The same as the index itself, which nothing vouches for.
    std::fs::write(dir.join("index.json"), &bytes).unwrap();
    let error = read_image(&format!("oci:{}", dir.display())).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument), "{error}");
}

#[test]
fn an_index_that_contains_itself_or_too_much_ends() {
    let (_guard, dir) = scratch();
    // No document can contain its own digest, so that the deepest nesting is a long chain.
    let mut entry = put_blob(&dir, OCI_MANIFEST, good(&dir).to_string().as_bytes());
    for _ in 0..20 {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        entry = put_blob(&dir, OCI_INDEX, index.to_string().as_bytes());
    }
    put_index(&dir, &json!({"schemaVersion": 2, "manifests": [entry]}));
    let error = read_image(&format!("oci:{}", dir.display())).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument));
    assert!(error.to_string().contains("nested"), "{error}");
    // A tree of indexes: each level names the level below many times.
    let mut entry = put_blob(&dir, OCI_MANIFEST, good(&dir).to_string().as_bytes());
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": vec![entry; 50]});
        entry = put_blob(&dir, OCI_INDEX, index.to_string().as_bytes());
    }
    put_index(&dir, &json!({"schemaVersion": 2, "manifests": [entry]}));
    let error = read_image(&format!("oci:{}", dir.display())).unwrap_err();
    assert!(error.to_string().contains("documents to find one image"), "{error}");
}

#[rstest]
#[case::changed(|bytes: &mut Vec<u8>| bytes[600] ^= 1, Verify::All, Some(Code::DigestMismatch))]
#[case::changed_and_compared_by_the_reader(|bytes: &mut Vec<u8>| bytes[600] ^= 1, Verify::Size, None)]
#[case::shorter(|bytes: &mut Vec<u8>| bytes.truncate(100), Verify::All, Some(Code::SizeMismatch))]
#[case::longer(|bytes: &mut Vec<u8>| bytes.push(0), Verify::All, Some(Code::SizeMismatch))]
#[case::longer_than_its_size(|bytes: &mut Vec<u8>| bytes.push(0), Verify::Size, Some(Code::SizeMismatch))]
fn a_layer_that_is_not_what_was_promised_is_refused(
    #[case] damage: fn(&mut Vec<u8>),
    #[case] verify: Verify,
    #[case] code: Option<Code>,
) {
    let (_guard, dir) = scratch();
    let manifest = good(&dir);
    open_manifest(&dir, manifest.to_string().as_bytes(), OCI_MANIFEST).unwrap();
    let digest: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let path = dir.join("blobs/sha256").join(digest.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let image = read_image(&format!("oci:{}", dir.display())).unwrap();
    let read = image.open_layer(0, verify).and_then(|mut blob| {
        let read = blob.read_to_end(&mut Vec::new());
        read.map_err(|error| Error::from_io("read image", "layer", error))
    });
    assert_eq!(read.as_ref().err().and_then(Error::code), code, "{read:?}");
    assert_eq!(read.is_err(), code.is_some(), "{read:?}");
}

#[test]
fn a_blob_that_is_a_fifo_or_a_directory_does_not_hang() {
    let (_guard, dir) = scratch();
    let manifest = good(&dir);
    open_manifest(&dir, manifest.to_string().as_bytes(), OCI_MANIFEST).unwrap();
    let digest: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let path = dir.join("blobs/sha256").join(digest.hex());
    std::fs::remove_file(&path).unwrap();
    crate::support::run(std::process::Command::new("mkfifo").arg(&path));
    let image = read_image(&format!("oci:{}", dir.display())).unwrap();
    image.open_layer(0, Verify::All).err().expect("a fifo is no blob");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    image.open_layer(0, Verify::All).err().expect("a directory is no blob");
}

#[rstest]
fn an_archive_cut_anywhere_is_refused_or_reads_whole(
    #[values("oci-archive", "docker-archive")] transport: &str,
) {
    let (_guard, dir) = scratch();
    let file = dir.join("whole.tar");
    let layers = [tar_of(&[("file", b"content")])];
    write_image(&format!("{transport}:{}", file.display()), &layers, &CreateOptions::default()).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let cut = dir.join("cut.tar");
    let mut refused = 0;
    for length in (0..whole.len()).step_by(256).chain([1, 511, 513]) {
        std::fs::write(&cut, &whole[..length]).unwrap();
        match read_image(&format!("{transport}:{}", cut.display())) {
            Err(_) => refused += 1,
            Ok(image) => assert_eq!(crate::support::check_layers(&*image), layers),
        }
    }
    assert!(refused > 10, "only the end mark may be missing");
}

/// A tar of one member with this header name and type.
fn odd_tar(members: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[rstest]
#[case::escape(&[("../manifest.json", tar::EntryType::Regular, "", b"[]" as &[u8])], Some(Code::PathEscape))]
#[case::link_escape(&[("manifest.json", tar::EntryType::Symlink, "../../etc/passwd", b"" as &[u8])], Some(Code::PathEscape))]
#[case::circle(
    &[("manifest.json", tar::EntryType::Symlink, "b", b"" as &[u8]), ("b", tar::EntryType::Symlink, "manifest.json", b"")],
    Some(Code::SymlinkLoop)
)]
#[case::device(&[("manifest.json", tar::EntryType::Char, "", b"" as &[u8])], Some(Code::BadType))]
#[case::sparse(&[("manifest.json", tar::EntryType::GNUSparse, "", b"" as &[u8])], Some(Code::BadType))]
#[case::list_twice(
    &[("manifest.json", tar::EntryType::Regular, "", b"[]" as &[u8]), ("./manifest.json", tar::EntryType::Regular, "", b"[]")],
    Some(Code::BadDocument)
)]
#[case::list_twice_behind_a_link(
    &[
        ("manifest.json", tar::EntryType::Symlink, "x", b"" as &[u8]),
        ("x", tar::EntryType::Regular, "", b"[]"),
        ("x", tar::EntryType::Regular, "", b"[]"),
    ],
    Some(Code::BadDocument)
)]
#[case::config_twice(
    &[
        ("manifest.json", tar::EntryType::Regular, "", br#"[{"Config": "c", "Layers": []}]"# as &[u8]),
        ("c", tar::EntryType::Regular, "", b"{}"),
        ("c", tar::EntryType::Link, "manifest.json", b""),
    ],
    Some(Code::BadDocument)
)]
#[case::directory_with_data(&[("d", tar::EntryType::Directory, "", b"manifest.json" as &[u8])], Some(Code::BadHeader))]
#[case::link_with_data(&[("l", tar::EntryType::Link, "d", b"manifest.json" as &[u8])], Some(Code::BadHeader))]
#[case::size_with_a_plus(
    &[
        ("x", tar::EntryType::XHeader, "", b"11 size=+2\n" as &[u8]),
        ("manifest.json", tar::EntryType::Regular, "", b"[]"),
    ],
    Some(Code::BadExtension)
)]
#[case::two_records_for_one_member(
    &[
        ("x", tar::EntryType::XHeader, "", b"9 path=a\n" as &[u8]),
        ("x", tar::EntryType::XHeader, "", b"9 path=b\n"),
        ("manifest.json", tar::EntryType::Regular, "", b"[]"),
    ],
    Some(Code::BadExtension)
)]
#[case::two_long_names_of_two_kinds(
    &[
        ("x", tar::EntryType::GNULongName, "", b"manifest.json" as &[u8]),
        ("x", tar::EntryType::XHeader, "", b"9 path=b\n"),
        ("c", tar::EntryType::Regular, "", b"[]"),
    ],
    Some(Code::BadExtension)
)]
#[case::record_for_nothing(
    &[
        ("manifest.json", tar::EntryType::Regular, "", b"[]" as &[u8]),
        ("x", tar::EntryType::XHeader, "", b"9 path=b\n"),
    ],
    Some(Code::BadExtension)
)]
#[case::name_for_all(
    &[
        ("x", tar::EntryType::XGlobalHeader, "", b"9 path=b\n" as &[u8]),
        ("manifest.json", tar::EntryType::Regular, "", b"[]"),
    ],
    Some(Code::BadExtension)
)]
#[case::missing(&[("other", tar::EntryType::Regular, "", b"" as &[u8])], None)]
#[case::no_list(&[("manifest.json", tar::EntryType::Regular, "", b"{}" as &[u8])], Some(Code::BadDocument))]
#[case::empty_list(&[("manifest.json", tar::EntryType::Regular, "", b"[]" as &[u8])], None)]
#[case::config_escape(
    &[("manifest.json", tar::EntryType::Regular, "", br#"[{"Config": "../../etc/passwd", "Layers": []}]"# as &[u8])],
    Some(Code::PathEscape)
)]
#[case::config_missing(
    &[("manifest.json", tar::EntryType::Regular, "", br#"[{"Config": "/etc/passwd", "Layers": []}]"# as &[u8])],
    None
)]
fn an_odd_docker_archive_is_refused(
    #[case] members: &[(&str, tar::EntryType, &str, &[u8])],
    #[case] code: Option<Code>,
) {
    let (_guard, dir) = scratch();
    let file = dir.join("odd.tar");
    std::fs::write(&file, odd_tar(members)).unwrap();
    let error = read_image(&format!("docker-archive:{}", file.display())).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    if code.is_none() {
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

#[test]
fn a_member_that_claims_more_than_there_is_is_truncated() {
    let (_guard, dir) = scratch();
    let mut bytes = odd_tar(&[("manifest.json", tar::EntryType::Regular, "", b"[]")]);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&bytes[..512]);
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    let file = dir.join("odd.tar");
    std::fs::write(&file, bytes).unwrap();
    let error = read_image(&format!("docker-archive:{}", file.display())).unwrap_err();
    assert_eq!(error.code(), Some(Code::Truncated), "{error}");
}

#[rstest]
fn something_else_altogether_is_refused(
    #[values("oci", "oci-archive", "docker-archive")] transport: &str,
    #[values("missing", "text", "directory")] what: &str,
) {
    let (_guard, dir) = scratch();
    let path = dir.join("thing");
    match what {
        "text" => std::fs::write(&path, "x".repeat(5000)).unwrap(),
        "directory" => std::fs::create_dir(&path).unwrap(),
        _ => {}
    }
    let error = read_image(&format!("{transport}:{}", path.display())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("read image: ") && text.contains("thing"), "{text}");
}

#[test]
fn the_platform_decides_and_the_message_lists_what_there_is() {
    let (_guard, dir) = scratch();
    let manifest = put_blob(&dir, OCI_MANIFEST, good(&dir).to_string().as_bytes());
    let mut other = manifest.clone();
    other.platform = Some("linux/s390x".parse().unwrap());
    let mut windows = manifest.clone();
    windows.platform = Some("windows/amd64".parse().unwrap());
    let mut attestation = manifest.clone();
    attestation.platform = Some("unknown/unknown".parse().unwrap());
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other, windows, attestation]});
    let nested = put_blob(&dir, OCI_INDEX, index.to_string().as_bytes());
    put_index(&dir, &json!({"schemaVersion": 2, "manifests": [nested]}));
    let error = read_image(&format!("oci:{}", dir.display())).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.hint(), Some("there are images for linux/s390x, windows/amd64"));

    let mut host = manifest.clone();
    host.platform = Some(layerstore_image::Platform::host());
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other, attestation, host]});
    let nested = put_blob(&dir, OCI_INDEX, index.to_string().as_bytes());
    put_index(&dir, &json!({"schemaVersion": 2, "manifests": [nested]}));
    read_image(&format!("oci:{}", dir.display())).unwrap();
}

#[test]
fn an_archive_of_long_names_is_refused_before_they_take_much_memory() {
    let (_guard, dir) = scratch();
    let mut out = Vec::new();
    let long = [vec![b'n'; 250], b"/".to_vec()].concat().repeat(16);
    for n in 0..2500 {
        let name = [&long[..], n.to_string().as_bytes()].concat();
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&name);
        out.push(0);
        out.resize(out.len().next_multiple_of(512), 0);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(0);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
    }
    let file = dir.join("long.tar");
    std::fs::write(&file, out).unwrap();
    let error = read_image(&format!("docker-archive:{}", file.display())).unwrap_err();
    assert_eq!(error.code(), Some(Code::LimitExceeded), "{error}");
}

#[rstest]
#[case::zeros("/dev/zero", Code::BadHeader)]
#[case::nothing("/dev/null", Code::Truncated)]
fn an_endless_stream_is_refused_before_it_fills_the_disk(
    #[values("oci-archive", "docker-archive")] transport: &str,
    #[case] device: &str,
    #[case] code: Code,
) {
    let error = read_image(&format!("{transport}:{device}")).unwrap_err();
    assert_eq!(error.code(), Some(code), "{error}");
}
