//! What the tests of this crate share: small images made by hand, and programs of other projects.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use layerstore_changeset::{Context, Digest};
use layerstore_image::{
    Commit, Config, CreateOptions, Descriptor, ImageName, ImageSource, LayerWriter, OpenOptions, Platform,
    Reference, Result, Verify, assemble, copy, create, open,
};

/// A tar of small files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The layers of the image that most tests use; the second one is large enough for several buffers.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vec![
        tar_of(&[("etc/hostname", b"one\n"), ("bin/sh", b"#!")]),
        tar_of(&[("var/noise", &noise)]),
        tar_of(&[("etc/.wh.hostname", b""), ("etc/motd", b"hello\n")]),
    ]
}

/// The configuration of an image with these layers, with a field that nobody knows.
pub(crate) fn config_of(layers: &[Vec<u8>]) -> Config {
    let mut config = Config::empty(&Platform::host(), "2026-01-02T03:04:05Z").unwrap();
    for (number, layer) in layers.iter().enumerate() {
        let commit = Commit {
            diff_id: Some(Digest::of(layer)),
            created: "2026-01-02T03:04:05Z".to_owned(),
            created_by: Some(format!("step {number}")),
            changes: vec!["ENV LAYER=yes".parse().unwrap(), r#"CMD ["/bin/sh"]"#.parse().unwrap()],
            ..Commit::default()
        };
        config = config.commit(&commit).unwrap();
    }
    let text = String::from_utf8(config.raw().to_vec()).unwrap();
    // Spaces that no serializer writes: the bytes must travel as they are.
    Config::parse(text.replacen('{', "{ \"x-unknown\":\t[1, 2],\n", 1).into_bytes()).unwrap()
}

/// Writes the image to `reference`.
pub(crate) fn write_image(reference: &str, layers: &[Vec<u8>], options: &CreateOptions) -> Result<Config> {
    let config = config_of(layers);
    let mut destination = create(&reference.parse().unwrap(), options)?;
    let mut blobs = Vec::new();
    for layer in layers {
        let mut writer = LayerWriter::new(&mut *destination, Digest::of(layer))?;
        writer.write_all(layer).unwrap();
        blobs.push(writer.finish()?);
    }
    let manifest = assemble(None, destination.format(), config.raw(), blobs)?;
    destination.finish(&manifest, &config, &[])?;
    Ok(config)
}

/// Opens an image for the host.
pub(crate) fn read_image(reference: &str) -> Result<Box<dyn ImageSource>> {
    open(&reference.parse::<Reference>()?, &OpenOptions::default())
}

/// Copies an image.
pub(crate) fn copy_image(
    from: &str,
    to: &str,
    options: &CreateOptions,
    names: &[ImageName],
) -> Result<Digest> {
    let source = read_image(from)?;
    copy(&*source, create(&to.parse().unwrap(), options)?, names, &Context::new())
}

/// The uncompressed tar of a layer, its digest compared with the diff ID.
pub(crate) fn layer_tar(image: &dyn ImageSource, index: usize) -> Vec<u8> {
    let mut blob = Vec::new();
    image.open_layer(index, Verify::All).unwrap().read_to_end(&mut blob).unwrap();
    let tar = match blob.as_slice() {
        [0x1f, 0x8b, ..] => {
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(&*blob).read_to_end(&mut tar).unwrap();
            tar
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::stream::decode_all(&*blob).unwrap(),
        _ => blob,
    };
    assert_eq!(Digest::of(&tar), image.layers()[index].diff_id, "layer {index} has its diff ID");
    tar
}

/// Reads every layer and checks it.
pub(crate) fn check_layers(image: &dyn ImageSource) -> Vec<Vec<u8>> {
    (0..image.layers().len()).map(|index| layer_tar(image, index)).collect()
}

/// A descriptor of bytes that are put into a layout by hand.
pub(crate) fn put_blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Descriptor {
    let dir = layout.join("blobs/sha256");
    std::fs::create_dir_all(&dir).unwrap();
    let descriptor = Descriptor::of(media_type.into(), bytes);
    std::fs::write(dir.join(descriptor.digest.hex()), bytes).unwrap();
    descriptor
}

/// Writes the two files that make a directory a layout.
pub(crate) fn put_index(layout: &Path, index: &serde_json::Value) {
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// A program of another project; says how to install it when it is not there.
pub(crate) fn peer(program: &str, package: &str) -> Command {
    let paths = std::env::var("PATH").unwrap_or_default();
    let found = paths.split(':').chain(["/usr/sbin"]).any(|dir| Path::new(dir).join(program).is_file());
    assert!(found, "{program} is not installed, and the test needs it: apt-get install -y {package}");
    Command::new(program)
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// A scratch directory in memory. Its path is short and has no upper case: podman's run root has at
/// most 50 characters, and buildah makes an image name of the path.
pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros();
    let parent =
        if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let name = format!("ls-{:x}-{since:x}-{number:x}", std::process::id());
    let dir = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(parent).unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
