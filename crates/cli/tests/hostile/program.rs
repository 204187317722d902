//! What the `layerstore` program says of hostile images, and how it exits: status 1, one line that names the code,
//! never a panic, nothing left in the store.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use layerstore_changeset::compress::{Compression, Compressor};
use layerstore_testkit::hostile::{self, Expected};
use layerstore_testkit::scratch::scratch_dir;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::layout;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_program_names_every_code_and_exits_with_1", every_code),
        Trial::test("the_program_refuses_hostile_layouts", layouts),
        Trial::test("the_program_refuses_odd_references", references),
        Trial::test("the_program_refuses_hostile_layers_from_stdin", from_stdin),
    ]
}

struct Program {
    directory: tempfile::TempDir,
}

impl Program {
    fn new() -> Result<Self, Failed> {
        Ok(Self { directory: scratch_dir()? })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerstore"));
        command
            .env("LAYERSTORE_ROOT", self.path("root"))
            .env("LAYERSTORE_RUNROOT", self.path("run"))
            .env("LAYERSTORE_CONFIG", "/dev/null")
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// An empty directory for a layout.
    fn layout(&self) -> std::path::PathBuf {
        let layout = self.path("layout");
        let _ = std::fs::remove_dir_all(&layout);
        std::fs::create_dir(&layout).unwrap();
        layout
    }

    /// The layers that the store has.
    fn layers(&self) -> Result<usize, Failed> {
        let output = self.command().args(["layer", "list", "--format", "json"]).output()?;
        let list: Value = serde_json::from_slice(&output.stdout)?;
        Ok(list.as_array().map_or(0, Vec::len))
    }
}

/// What is wrong with how the program ended, which should have refused its input.
pub(crate) fn judge(output: &Output, status: i32, code: Option<&str>, took: Duration) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut wrong = Vec::new();
    if output.status.code() != Some(status) {
        wrong.push(format!("ended with {}", output.status));
    }
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("hint: ")).collect();
    if lines.len() != 1 || !said.starts_with("layerstore: ") {
        wrong.push("does not say one line".to_owned());
    }
    if said.contains("panicked") || said.contains('\u{1b}') {
        wrong.push("panicked, or wrote the input's control characters".to_owned());
    }
    if code.is_some_and(|code| !said.contains(code)) {
        wrong.push(format!("does not name {}", code.unwrap_or_default()));
    }
    if !output.stdout.is_empty() {
        wrong.push("wrote to stdout".to_owned());
    }
    // A debug build on a machine that does other things as well.
    if took > Duration::from_secs(10) {
        wrong.push(format!("took {} ms", took.as_millis()));
    }
    if !wrong.is_empty() {
        wrong.push(format!("said {said:?}"));
    }
    wrong
}

pub(crate) fn ended(wrong: Vec<String>) -> Result<(), Failed> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// A case for each code.
fn of_every_code() -> Vec<(&'static hostile::Case, &'static str)> {
    let mut seen = BTreeSet::new();
    hostile::all()
        .filter_map(|case| match case.expected {
            Expected::Refused(code) if seen.insert(code) => Some((case, code)),
            _ => None,
        })
        .collect()
}

fn every_code() -> Result<(), Failed> {
    let program = Program::new()?;
    let mut wrong = Vec::new();
    for (number, (case, code)) in of_every_code().into_iter().enumerate() {
        let layout = program.layout();
        layout::write(&layout, &[hostile::lower(), case.layer(b"/layerstore-no-such-place/victim")]);
        let source = format!("oci:{}", layout.display());
        let as_json = number % 2 == 1;
        let mut command = program.command();
        command.args(["pull", &source]).args(as_json.then_some(["--format", "json"]).into_iter().flatten());
        let start = Instant::now();
        let output = command.output()?;
        if as_json {
            let said: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
            if output.status.code() != Some(1) || said["error"]["code"] != code {
                wrong.push(format!("{}: {}: {said}", case.name, output.status));
            }
        } else {
            wrong.extend(
                judge(&output, 1, Some(code), start.elapsed())
                    .iter()
                    .map(|line| format!("{}: {line}", case.name)),
            );
        }
    }
    if program.layers()? > 0 {
        wrong.push("layers are left".to_owned());
    }
    ended(wrong)
}

fn from_stdin() -> Result<(), Failed> {
    let program = Program::new()?;
    let mut wrong = Vec::new();
    for (case, code) in of_every_code() {
        let file = program.path("layer");
        std::fs::write(&file, case.layer(b"/layerstore-no-such-place/victim"))?;
        let made = program.command().args(["layer", "create", "hostile"]).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
        }
        let start = Instant::now();
        let output = program
            .command()
            .args(["layer", "apply", "hostile"])
            .stdin(std::fs::File::open(&file)?)
            .output()?;
        // Without the lower layer some cases meet another reason first.
        let code = matches!(case.class(), 'A' | 'E' | 'H').then_some(code);
        wrong.extend(
            judge(&output, 1, code, start.elapsed()).iter().map(|line| format!("{}: {line}", case.name)),
        );
        let removed = program.command().args(["layer", "remove", "hostile"]).output()?;
        if !removed.status.success() {
            wrong.push(format!("{}: cannot be removed", case.name));
            break;
        }
    }
    ended(wrong)
}

/// A right layout of one small layer, as it is before it is made wrong.
fn good(layout: &Path) -> Value {
    layout::write(layout, &[hostile::lower()]);
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&std::fs::read(layout.join("blobs").join(manifest)).unwrap()).unwrap()
}

fn blob(layout: &Path, manifest: &Value, pointer: &str) -> std::path::PathBuf {
    layout.join("blobs").join(manifest.pointer(pointer).unwrap().as_str().unwrap().replace(':', "/"))
}

/// Changes a value of the manifest.
fn with(layout: &Path, pointer: &str, value: Value) {
    let mut manifest = good(layout);
    *manifest.pointer_mut(pointer).unwrap() = value;
    layout::write_manifest(layout, manifest.to_string().as_bytes());
}

/// Makes the layer's blob something else.
fn instead_of_layer(layout: &Path, make: impl FnOnce(&Path)) {
    let manifest = good(layout);
    let path = blob(layout, &manifest, "/layers/0/digest");
    std::fs::remove_file(&path).unwrap();
    make(&path);
}

fn config(layout: &Path, config: &Value) {
    layout::write_with(layout, config.to_string().as_bytes(), &[hostile::lower()]);
}

type Spoil = fn(&Path);

const LAYOUTS: &[(&str, Option<&str>, Spoil)] = &[
    ("digest climbs", Some("BAD_DOCUMENT"), |at| {
        with(at, "/layers/0/digest", json!("sha256:../../../../etc/passwd"))
    }),
    ("config digest climbs", Some("BAD_DOCUMENT"), |at| with(at, "/config/digest", json!("../../x"))),
    ("digest of another kind", Some("BAD_DOCUMENT"), |at| {
        with(at, "/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e"))
    }),
    ("size too small", Some("SIZE_MISMATCH"), |at| with(at, "/layers/0/size", json!(5))),
    ("size too large", Some("SIZE_MISMATCH"), |at| with(at, "/layers/0/size", json!(i64::MAX))),
    ("size negative", Some("BAD_DOCUMENT"), |at| with(at, "/layers/0/size", json!(-1))),
    ("layers missing", Some("BAD_DOCUMENT"), |at| with(at, "/layers", json!([]))),
    ("too many layers", Some("BAD_DOCUMENT"), |at| {
        let layer = good(at)["layers"][0].clone();
        with(at, "/layers", json!(vec![layer; 5000]));
    }),
    ("no diff id", Some("BAD_DOCUMENT"), |at| {
        config(
            at,
            &json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}),
        )
    }),
    ("diff id climbs", Some("BAD_DOCUMENT"), |at| {
        config(
            at,
            &json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:../../x"]}}),
        )
    }),
    ("another diff id", Some("DIGEST_MISMATCH"), |at| {
        config(
            at,
            &json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "a".repeat(64))]}}),
        );
    }),
    ("config is a list", Some("BAD_DOCUMENT"), |at| config(at, &json!([]))),
    ("manifest nests", Some("BAD_DOCUMENT"), |at| {
        good(at);
        layout::write_manifest(at, &b"[".repeat(100_000));
    }),
    ("manifest is empty", Some("BAD_DOCUMENT"), |at| {
        good(at);
        layout::write_manifest(at, b"");
    }),
    ("manifest of 5 MB", Some("BAD_DOCUMENT"), |at| {
        good(at);
        layout::write_manifest(at, &[b' '; 5 << 20]);
    }),
    ("index of a terabyte", Some("BAD_DOCUMENT"), |at| {
        good(at);
        std::fs::File::create(at.join("index.json")).unwrap().set_len(1 << 40).unwrap();
    }),
    ("index is a fifo", Some("BAD_TYPE"), |at| {
        good(at);
        std::fs::remove_file(at.join("index.json")).unwrap();
        fifo(&at.join("index.json"));
    }),
    ("index is a device", Some("BAD_TYPE"), |at| {
        good(at);
        std::fs::remove_file(at.join("index.json")).unwrap();
        symlink("/dev/zero", at.join("index.json")).unwrap();
    }),
    ("layer is a fifo", Some("BAD_TYPE"), |at| instead_of_layer(at, fifo)),
    ("layer is a socket", Some("BAD_TYPE"), |at| {
        instead_of_layer(at, |path| {
            // The address of a socket holds 108 bytes.
            let short = at_hand(path);
            drop(std::os::unix::net::UnixListener::bind(&short).unwrap());
            std::fs::rename(short, path).unwrap();
        });
    }),
    ("layer is a directory", Some("BAD_TYPE"), |at| {
        instead_of_layer(at, |path| std::fs::create_dir(path).unwrap())
    }),
    ("layer is missing", None, |at| instead_of_layer(at, |_| {})),
    ("layer is an endless device", Some("BAD_TYPE"), |at| {
        instead_of_layer(at, |path| symlink("/dev/zero", path).unwrap())
    }),
    ("layer is another file", None, |at| instead_of_layer(at, |path| symlink("/etc/passwd", path).unwrap())),
    ("layer is a circle", Some("ELOOP"), |at| instead_of_layer(at, |path| symlink(path, path).unwrap())),
    ("layer was changed", Some("DIGEST_MISMATCH"), |at| {
        let mut bytes = hostile::lower();
        // A byte of etc/passwd: the archive stays an archive.
        bytes[1540] ^= 1;
        instead_of_layer(at, |path| std::fs::write(path, &bytes).unwrap());
    }),
    ("compressed layer with the digest of its tar", Some("DIGEST_MISMATCH"), |at| {
        let mut encoder = Compressor::new(Vec::new(), Compression::Gzip, None).unwrap();
        encoder.write_all(&hostile::lower()).unwrap();
        let bytes = encoder.finish().unwrap();
        let path = blob(at, &good(at), "/layers/0/digest");
        with(at, "/layers/0/size", json!(bytes.len()));
        std::fs::write(path, bytes).unwrap();
    }),
    ("blobs is a file", None, |at| {
        good(at);
        std::fs::remove_dir_all(at.join("blobs")).unwrap();
        std::fs::write(at.join("blobs"), "x").unwrap();
    }),
    // Before they were shown escaped and short, it was the message that a layer could make of many lines.
    ("type of many lines", None, |at| with(at, "/layers/0/mediaType", json!("application/x\n\u{1b}[2J"))),
    ("type of a megabyte", None, |at| with(at, "/layers/0/mediaType", json!("x".repeat(1 << 20)))),
    ("not a layout", None, |at| std::fs::write(at.join("x"), "x").unwrap()),
];

/// A short name beside the layout.
fn at_hand(path: &Path) -> std::path::PathBuf {
    path.ancestors().nth(3).unwrap().join("s")
}

fn fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

fn layouts() -> Result<(), Failed> {
    let program = Program::new()?;
    let mut wrong = Vec::new();
    for (name, code, spoil) in LAYOUTS {
        let layout = program.layout();
        spoil(&layout);
        let start = Instant::now();
        let output = program.command().args(["pull", &format!("oci:{}", layout.display())]).output()?;
        wrong.extend(judge(&output, 1, *code, start.elapsed()).iter().map(|line| format!("{name}: {line}")));
    }
    if program.layers()? > 0 {
        wrong.push("layers are left".to_owned());
    }
    ended(wrong)
}

fn references() -> Result<(), Failed> {
    let program = Program::new()?;
    let mut wrong = Vec::new();
    let long = format!("oci:{}", "x".repeat(100_000));
    let odd: [&[u8]; 16] = [
        b"",
        b":",
        b"oci:",
        b"oci::",
        b"oci:\xff\xfe",
        b"oci:/no\nsuch\x1b[31mplace",
        b"oci:x:bad tag",
        b"oci:x:../../y",
        b"docker-archive:",
        b"docker-archive:/etc/passwd",
        b"oci-archive:/dev/null",
        b"rootfs:",
        b"rootfs:/no/such",
        b"ftp://x",
        b"oci:/etc/passwd",
        long.as_bytes(),
    ];
    for text in odd {
        let start = Instant::now();
        let output =
            program.command().arg("pull").arg(std::ffi::OsString::from_vec(text.to_vec())).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code().unwrap_or(-1);
        if ![1, 2].contains(&status)
            || said.contains("panicked")
            || said.contains('\u{1b}')
            || start.elapsed() > Duration::from_secs(10)
        {
            wrong.push(format!("{:?}: {}: {said}", text.escape_ascii().to_string(), output.status));
        }
    }
    ended(wrong)
}
