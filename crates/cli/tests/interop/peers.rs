//! The programs of others that the tests talk to.
//!
//! Invariant: a program that is missing fails the test with the line that installs it; no test is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use layerstore_testkit::{Tree, assert_same, read_tree_at};
use serde_json::Value;

use crate::support::Bench;

/// What installs every program that these tests run.
const INSTALL: &str = "apt-get install -y umoci skopeo buildah podman containerd runc docker.io tar gzip \
     coreutils procps (or run tools/setup)";

/// A program, which has to be there, without input and with a locale that has no translations.
///
/// # Panics
/// When it is not installed.
#[track_caller]
pub(crate) fn peer(program: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder: PathBuf| folder.join(program)).find(|file| file.is_file());
    let file = found.unwrap_or_else(|| panic!("{program} is missing: {INSTALL}"));
    let mut command = Command::new(file);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command, which has to succeed, and returns its stdout without the last newline.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    String::from_utf8_lossy(&run_bytes(command)).trim_end_matches('\n').to_owned()
}

/// As [`run`]: the very bytes of stdout.
#[track_caller]
pub(crate) fn run_bytes(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    output.stdout
}

/// `skopeo`, with a policy that accepts every image.
pub(crate) fn skopeo(arguments: &[&str]) -> Command {
    let mut command = peer("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command
}

/// `umoci`.
pub(crate) fn umoci(arguments: &[&str]) -> Command {
    let mut command = peer("umoci");
    command.args(arguments);
    command
}

/// What is the same about an image wherever it lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The digest of the configuration.
    pub(crate) id: String,
    /// The bytes of the configuration.
    pub(crate) config: String,
    /// The tars of the layers by their digests, which are the diff IDs.
    pub(crate) layers: BTreeMap<String, Vec<u8>>,
    /// The diff IDs in order.
    pub(crate) diff_ids: Vec<String>,
}

impl Identity {
    /// Reads an image with skopeo; `scratch` is a directory that is not there yet.
    #[track_caller]
    pub(crate) fn of(reference: &str, scratch: &Path) -> Self {
        let config = run_bytes(&mut skopeo(&["inspect", "--config", "--raw", reference]));
        fs::create_dir(scratch).unwrap();
        let file = scratch.join("config");
        fs::write(&file, &config).unwrap();
        let id = run(peer("sha256sum").arg(&file)).split(' ').next().unwrap().to_owned();
        let dir = format!("dir:{}", scratch.join("dir").display());
        run(&mut skopeo(&["copy", "-q", "--dest-decompress", reference, &dir]));
        let config = String::from_utf8(config).unwrap();
        let parsed: Value = serde_json::from_str(&config).unwrap();
        let diff_ids = strings(&parsed["rootfs"]["diff_ids"]);
        // skopeo names a file by the digest that it computed while it wrote it.
        let files = fs::read_dir(scratch.join("dir")).unwrap().map(|entry| entry.unwrap());
        let blobs = files
            .map(|file| (file.file_name().into_string().unwrap(), file.path()))
            .filter(|(name, _)| name.len() == 64 && *name != id);
        let layers = blobs.map(|(name, path)| (format!("sha256:{name}"), fs::read(path).unwrap())).collect();
        Self { id: format!("sha256:{id}"), config, layers, diff_ids }
    }

    /// Fails where another image has other bytes anywhere.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.config, other.config, "{what}: the configuration");
        assert_eq!(self.id, other.id, "{what}: the image ID");
        assert_eq!(self.diff_ids, other.diff_ids, "{what}: the diff IDs");
        let names = |identity: &Self| identity.layers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(other), "{what}: the tars by digest");
        assert!(self.layers == other.layers, "{what}: the bytes of the tars");
    }
}

/// The texts of an array.
#[track_caller]
pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A tree that a peer unpacked.
pub(crate) struct Unpacked {
    /// The tree.
    pub(crate) tree: Tree,
    /// When the peer began, as the clock of file times has it.
    began: (i64, u32),
}

impl Unpacked {
    /// Reads the tree that `work` makes and says where it lies.
    pub(crate) fn by(work: impl FnOnce() -> PathBuf) -> Self {
        // Times of files come from a clock that may lag behind by a tick of the kernel, at most 10 ms.
        let began = SystemTime::now() - Duration::from_millis(10);
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self {
            tree: read_tree_at(work()).unwrap(),
            began: (began.as_secs().try_into().unwrap(), began.subsec_nanos()),
        }
    }

    /// Fails where our tree differs. Directories that got their time from the clock are not compared by time:
    /// those are parents that the tar left out, which no layer gives a time, and in which they were made (we keep
    /// the latter's time).
    #[track_caller]
    pub(crate) fn assert_same(&self, ours: &Tree) {
        let mut expected = self.tree.clone();
        let clock = self.tree.iter().filter(|(_, inode)| inode.is_dir() && inode.meta.mtime >= self.began);
        for (path, _) in clock {
            if let (Some(theirs), Some(ours)) = (expected.get_mut(path.clone()), ours.get(path.clone())) {
                assert!(ours.meta.mtime < self.began, "{path}: our time comes from the clock too");
                theirs.meta.mtime = ours.meta.mtime;
            }
        }
        assert_same(&expected, ours);
    }
}

/// What umoci unpacks from an image; `scratch` is a directory that is not there yet. umoci reads neither archives
/// nor zstd, so skopeo makes a layout with gzip of those first; the diff IDs stay.
#[track_caller]
pub(crate) fn unpacked_by_umoci(reference: &str, scratch: &Path) -> Unpacked {
    fs::create_dir(scratch).unwrap();
    let mut image = format!("{}:image", scratch.join("layout").display());
    match reference.strip_prefix("oci:") {
        Some(layout) if !run(&mut skopeo(&["inspect", "--raw", reference])).contains("zstd") => {
            image = layout.to_owned();
        }
        _ => {
            let plain = format!("dir:{}", scratch.join("dir").display());
            run(&mut skopeo(&["copy", "-q", "--dest-decompress", reference, &plain]));
            run(&mut skopeo(&["copy", "-q", &plain, &format!("oci:{image}")]));
        }
    }
    let bundle = scratch.join("bundle");
    Unpacked::by(|| {
        run(umoci(&["unpack", "--image", &image]).arg(&bundle));
        bundle.join("rootfs")
    })
}

/// The tree of an image as a container of ours has it mounted.
#[track_caller]
pub(crate) fn mounted(bench: &Bench, image: &str) -> Tree {
    let container = bench.run(&["create", image]);
    let tree = read_tree_at(bench.run(&["mount", &container])).unwrap();
    bench.run(&["unmount", &container]);
    bench.run(&["rm", &container]);
    tree
}

/// The diff IDs that a store of ours has for an image.
#[track_caller]
pub(crate) fn diff_ids(bench: &Bench, image: &str) -> Vec<String> {
    let inspected: Value = serde_json::from_str(&bench.run(&["inspect", image])).unwrap();
    strings(&inspected[0]["RootFS"]["Layers"])
}
