//! What the `layerstore` program says of hostile archives of images, `docker-archive:` and `oci-archive:`, as files
//! and on its stdin: the same as of hostile layouts ([`crate::program`]), and not a file more in the store, nor where
//! copies of streams lie. It gets 128 MiB of memory for all of it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use layerstore_changeset::Digest;
use layerstore_testkit::hostile;
use layerstore_testkit::hostile::raw::{self, Raw, file, hard, pax, symlink};
use layerstore_testkit::scratch::scratch_dir;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::program::{ended, judge};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_program_takes_the_archives_that_the_hostile_ones_differ_from", good_ones),
        Trial::test("the_program_refuses_hostile_docker_archives", || refused("docker-archive", DOCKER)),
        Trial::test("the_program_refuses_hostile_oci_archives", || refused("oci-archive", OCI)),
        Trial::test("the_program_refuses_hostile_archives_from_stdin", from_stdin),
    ]
}

type Make = fn() -> Vec<u8>;

/// A layer of one file.
fn layer() -> Vec<u8> {
    raw::archive(&[file("hello", "hello\n")])
}

fn config(diff_ids: &[Digest]) -> Value {
    let diff_ids: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

/// What `docker save` writes, with members before, and with changes to its list.
fn docker(before: &[Raw], config: &[u8], list: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut entry = json!({"Config": "config.json", "RepoTags": ["x:y"], "Layers": ["1/layer.tar"]});
    list(&mut entry);
    let mut members = before.to_vec();
    members.extend([
        file("1/layer.tar", layer()),
        file("config.json", config),
        file("manifest.json", json!([entry]).to_string()),
    ]);
    raw::archive(&members)
}

fn right() -> Vec<u8> {
    config(&[Digest::of(&layer())]).to_string().into_bytes()
}

/// A right archive with these members in front.
fn after(members: &[Raw]) -> Vec<u8> {
    docker(members, &right(), |_| {})
}

fn listed(key: &str, value: Value) -> Vec<u8> {
    docker(&[], &right(), |list| list[key] = value)
}

/// An archive without a layer of its own.
fn instead_of_layer(members: &[Raw]) -> Vec<u8> {
    let list = json!([{"Config": "config.json", "RepoTags": ["x:y"], "Layers": ["1/layer.tar"]}]);
    let mut members = members.to_vec();
    members.extend([file("config.json", right()), file("manifest.json", list.to_string())]);
    raw::archive(&members)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    hostile::gzip(bytes, 0)
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// What docker reads, made wrong, each with its code, where it has one.
const DOCKER: &[(&str, Option<&str>, Make)] = &[
    ("layer climbs", Some("PATH_ESCAPE"), || listed("Layers", json!(["../../etc/passwd"]))),
    ("layer is absolute", None, || listed("Layers", json!(["/etc/passwd"]))),
    ("layer without a name", Some("EMPTY_NAME"), || listed("Layers", json!([""]))),
    ("layer with NUL", Some("NUL_IN_NAME"), || listed("Layers", json!(["a\0b"]))),
    ("layer of another name", None, || listed("Layers", json!(["2/layer.tar"]))),
    ("one layer twice", Some("BAD_DOCUMENT"), || listed("Layers", json!(["1/layer.tar", "1/layer.tar"]))),
    ("many layers", Some("BAD_DOCUMENT"), || listed("Layers", json!(vec!["1/layer.tar"; 100_000]))),
    ("layers are no list", Some("BAD_DOCUMENT"), || listed("Layers", json!("1/layer.tar"))),
    ("layer is the list", None, || listed("Layers", json!(["manifest.json"]))),
    ("configuration climbs", Some("PATH_ESCAPE"), || listed("Config", json!("../config.json"))),
    ("configuration is a number", Some("BAD_DOCUMENT"), || listed("Config", json!(1))),
    ("configuration is a layer", Some("BAD_DOCUMENT"), || listed("Config", json!("1/layer.tar"))),
    ("configuration is large", Some("BAD_DOCUMENT"), || docker(&[], &b" ".repeat(5 << 20), |_| {})),
    ("configuration nests", Some("BAD_DOCUMENT"), || docker(&[], &b"[".repeat(1 << 20), |_| {})),
    ("configuration of another layer", Some("DIGEST_MISMATCH"), || {
        docker(&[], config(&[Digest::of(b"")]).to_string().as_bytes(), |_| {})
    }),
    ("list is large", Some("BAD_DOCUMENT"), || raw::archive(&[file("manifest.json", b" ".repeat(5 << 20))])),
    ("list nests", Some("BAD_DOCUMENT"), || raw::archive(&[file("manifest.json", b"[".repeat(1 << 20))])),
    ("list spells keys its own way", Some("BAD_DOCUMENT"), || {
        docker(&[], &right(), |list| list["layers"] = json!([]))
    }),
    ("list twice", Some("BAD_DOCUMENT"), || after(&[file("manifest.json", "[]")])),
    ("list twice, by a record", Some("BAD_DOCUMENT"), || {
        after(&[pax(&[("path", b"manifest.json")]), file("other", "[]")])
    }),
    ("list twice, by a long name", Some("BAD_DOCUMENT"), || {
        after(&[raw::gnu_long(b'L', b"manifest.json"), file("other", "[]").gnu()])
    }),
    ("configuration twice", Some("BAD_DOCUMENT"), || after(&[file("config.json", "{}")])),
    ("layer links out", Some("PATH_ESCAPE"), || {
        instead_of_layer(&[symlink("1/layer.tar", "../../../etc/passwd")])
    }),
    ("layer links to an absolute place", None, || instead_of_layer(&[symlink("1/layer.tar", "/etc/passwd")])),
    ("layer links to itself", Some("ELOOP"), || instead_of_layer(&[symlink("1/layer.tar", "layer.tar")])),
    ("layer links to nothing", None, || instead_of_layer(&[hard("1/layer.tar", "nothing")])),
    ("layer is a fifo", Some("BAD_TYPE"), || instead_of_layer(&[raw::raw(b'6', "1/layer.tar")])),
    ("layer is a device", Some("BAD_TYPE"), || instead_of_layer(&[raw::device(b'3', "1/layer.tar", 1, 5)])),
    ("layer is a directory", None, || instead_of_layer(&[raw::dir("1/layer.tar")])),
    ("member climbs", Some("PATH_ESCAPE"), || after(&[file("../../x", "x")])),
    ("member claims too much", Some("TRUNCATED"), || after(&[file("x", "").size("77777777777\0")])),
    ("member of less than nothing", Some("TRUNCATED"), || after(&[file("x", "").size([0xff; 12])])),
    ("record of less than nothing", Some("BAD_EXTENSION"), || {
        after(&[pax(&[("size", b"-1")]), file("x", "")])
    }),
    ("record with a plus", Some("BAD_EXTENSION"), || after(&[pax(&[("size", b"+1")]), file("x", "x")])),
    ("two records", Some("BAD_EXTENSION"), || {
        after(&[pax(&[("path", b"a")]), pax(&[("path", b"b")]), file("x", "x")])
    }),
    ("long record", Some("BAD_EXTENSION"), || {
        after(&[pax(&[("comment", &b"x".repeat(2 << 20))]), file("x", "")])
    }),
    ("link with data", Some("BAD_HEADER"), || after(&[symlink("x", "y").data("data")])),
    ("cut within a member", Some("TRUNCATED"), || after(&[])[..1600].to_vec()),
    ("cut within a header", Some("TRUNCATED"), || after(&[])[..700].to_vec()),
    ("wrong checksum", Some("BAD_HEADER"), || after(&[file("x", "x").checksum("123456\0 ")])),
    ("text", Some("BAD_HEADER"), || b"no archive\n".repeat(200)),
    ("nothing", Some("TRUNCATED"), Vec::new),
    ("zeros", None, || vec![0; 10240]),
    ("compressed and cut", Some("TRUNCATED"), || {
        let whole = gzip(&after(&[]));
        whole[..whole.len() - 9].to_vec()
    }),
    ("garbage after gzip", Some("TRAILING_DATA"), || joined(&[&gzip(&after(&[])), b"garbage"])),
    ("compressed twice", Some("BAD_HEADER"), || gzip(&gzip(&layerstore_testkit::noise(1, 4000)))),
    ("a gigabyte of zeros", Some("BAD_HEADER"), || hostile::gzip(b"", 1 << 30)),
    ("xz", Some("BAD_COMPRESSION"), || joined(&[b"\xfd7zXZ\0", &[0; 600]])),
    ("garbage after the layer", Some("TRAILING_DATA"), || {
        with_layer(&joined(&[&gzip(&layer()), b"garbage"]))
    }),
    ("layer's gzip is cut", Some("TRUNCATED"), || with_layer(&gzip(&layer())[..40])),
    ("layer climbs by a member", Some("PATH_ESCAPE"), || {
        let bad = raw::archive(&[file("../x", "x")]);
        let members =
            [file("1/layer.tar", &bad), file("config.json", config(&[Digest::of(&bad)]).to_string())];
        let list = json!([{"Config": "config.json", "RepoTags": null, "Layers": ["1/layer.tar"]}]);
        raw::archive(&[&members[..], &[file("manifest.json", list.to_string())]].concat())
    }),
];

fn with_layer(bytes: &[u8]) -> Vec<u8> {
    instead_of_layer(&[file("1/layer.tar", bytes)])
}

fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(bytes).hex())
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// The members of a right OCI archive of this layer.
fn oci_members(blob: &[u8], media_type: &str) -> Vec<Raw> {
    let config = right();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor(media_type, blob)],
    })
    .to_string()
    .into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", &manifest)]});
    vec![
        file("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#),
        file("index.json", index.to_string()),
        file(blob_path(blob), blob),
        file(blob_path(&config), &config),
        file(blob_path(&manifest), &manifest),
    ]
}

fn oci(change: impl FnOnce(&mut Vec<Raw>)) -> Vec<u8> {
    let mut members = oci_members(&layer(), "layer.v1.tar");
    change(&mut members);
    raw::archive(&members)
}

fn oci_layer(blob: &[u8]) -> Vec<u8> {
    raw::archive(&oci_members(blob, "layer.v1.tar+zstd"))
}

fn index(index: &Value) -> Vec<u8> {
    oci(|members| members[1] = file("index.json", index.to_string()))
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    hostile::zstd(bytes, 0)
}

/// A skippable frame that claims this length.
fn skippable(claimed: u32, bytes: &[u8]) -> Vec<u8> {
    joined(&[b"\x5f\x2a\x4d\x18", &claimed.to_le_bytes(), bytes])
}

/// A frame whose header asks for a window of two to this power.
fn window(log: u8) -> Vec<u8> {
    let mut frame = joined(&[b"\x28\xb5\x2f\xfd", &[0, (log - 10) << 3]]);
    let layer = layer();
    frame.extend(&((u32::try_from(layer.len()).unwrap() << 3) | 1).to_le_bytes()[..3]);
    frame.extend(layer);
    frame
}

/// OCI layouts in a tar, made wrong.
const OCI: &[(&str, Option<&str>, Make)] = &[
    ("index twice", Some("BAD_DOCUMENT"), || oci(|members| members.push(members[1].clone()))),
    ("mark twice", Some("BAD_DOCUMENT"), || oci(|members| members.push(members[0].clone()))),
    ("blob twice, the last one wrong", Some("SIZE_MISMATCH"), || {
        oci(|members| members.push(file(blob_path(&layer()), "x")))
    }),
    ("blob missing", None, || oci(|members| drop(members.remove(2)))),
    ("manifest missing", None, || oci(|members| drop(members.remove(4)))),
    ("blob links out", Some("PATH_ESCAPE"), || {
        oci(|members| members[2] = symlink(blob_path(&layer()), "../../../../../../etc/passwd"))
    }),
    ("blob links to an absolute place", None, || {
        oci(|members| members[2] = symlink(blob_path(&layer()), "/etc/passwd"))
    }),
    ("blob is another", Some("DIGEST_MISMATCH"), || {
        let other = raw::archive(&[file("hello", "HELLO\n")]);
        oci(|members| members[2] = file(blob_path(&layer()), other))
    }),
    ("manifest is another", Some("DIGEST_MISMATCH"), || {
        oci(|members| {
            let whole = members[4].clone().bytes();
            let name: Vec<_> = whole.iter().copied().take_while(|&byte| byte != 0).collect();
            let data: Vec<_> = whole[512..].iter().copied().take_while(|&byte| byte != 0).collect();
            // As long as the right one.
            members[4] = file(name, String::from_utf8(data).unwrap().replace("vnd.oci", "vnd.oco"));
        })
    }),
    ("index climbs", Some("BAD_DOCUMENT"), || {
        index(&json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../../x", "size": 1}
        ]}))
    }),
    ("index of nothing", None, || index(&json!({"schemaVersion": 2, "manifests": []}))),
    ("index of numbers", Some("BAD_DOCUMENT"), || index(&json!({"schemaVersion": 2, "manifests": [1]}))),
    ("index is large", Some("BAD_DOCUMENT"), || {
        oci(|members| members[1] = file("index.json", b" ".repeat(5 << 20)))
    }),
    ("no layout", None, || oci(|members| drop(members.remove(0)))),
    ("garbage after zstd", Some("TRAILING_DATA"), || oci_layer(&joined(&[&zstd(&layer()), b"garbage"]))),
    ("zeros after zstd", Some("TRAILING_DATA"), || oci_layer(&joined(&[&zstd(&layer()), &[0; 512]]))),
    ("skippable frame is cut", Some("TRUNCATED"), || {
        oci_layer(&joined(&[&zstd(&layer()), &skippable(9, b"x")]))
    }),
    ("skippable frame of 4 GiB", Some("TRUNCATED"), || {
        oci_layer(&joined(&[&skippable(u32::MAX, b"x"), &zstd(&layer())]))
    }),
    ("window of 256 MiB", Some("LIMIT_EXCEEDED"), || oci_layer(&window(28))),
    ("window of 2 TiB", Some("LIMIT_EXCEEDED"), || oci_layer(&window(41))),
    ("gzip, then zstd", Some("TRAILING_DATA"), || oci_layer(&joined(&[&gzip(&layer()), &zstd(b"")]))),
    ("zstd, then gzip", Some("TRAILING_DATA"), || oci_layer(&joined(&[&zstd(&layer()), &gzip(b"")]))),
];

/// What differs from those by a hair, and is right.
const GOOD: &[(&str, &str, Make)] = &[
    ("docker's", "docker-archive", || after(&[])),
    ("docker's, the layer linked", "docker-archive", || {
        instead_of_layer(&[file("blobs/sha256/x", layer()), symlink("1/layer.tar", "../blobs/sha256/x")])
    }),
    ("docker's, the layer compressed", "docker-archive", || with_layer(&gzip(&layer()))),
    ("docker's, compressed", "docker-archive", || gzip(&after(&[]))),
    ("docker's, compressed in two members", "docker-archive", || {
        let whole = after(&[]);
        joined(&[&gzip(&whole[..700]), &gzip(&whole[700..])])
    }),
    ("docker's, without an end", "docker-archive", || {
        let mut whole = after(&[]);
        whole.truncate(whole.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(512));
        whole
    }),
    ("a layout", "oci-archive", || oci(|_| {})),
    ("a layout, a right blob after a wrong one", "oci-archive", || {
        oci(|members| members.insert(0, file(blob_path(&layer()), "x")))
    }),
    ("frames", "oci-archive", || {
        let layer = layer();
        oci_layer(&joined(&[&zstd(&layer[..700]), &skippable(1, b"x"), &zstd(&layer[700..]), &zstd(b"")]))
    }),
    ("members", "oci-archive", || {
        let layer = layer();
        oci_layer(&joined(&[&gzip(&layer[..700]), &gzip(b""), &gzip(&layer[700..]), &[0; 700]]))
    }),
    ("window of 128 MiB", "oci-archive", || oci_layer(&window(27))),
];

/// A store, and a place for copies of streams.
struct Bench {
    directory: tempfile::TempDir,
    before: BTreeSet<PathBuf>,
}

impl Bench {
    /// With an image in the store, so that all of its places are there.
    fn new() -> Result<Self, Failed> {
        let mut bench = Self { directory: scratch_dir()?, before: BTreeSet::new() };
        std::fs::create_dir(bench.path("tmp"))?;
        std::fs::write(bench.path("other"), raw::archive(&[file("other", "other\n")]))?;
        let output = bench.command().args(["pull", "rootfs:other", "other"]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        bench.before = bench.files();
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -d $MEMORY; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_layerstore")])
            .env("MEMORY", "131072")
            .env("LAYERSTORE_ROOT", self.path("root"))
            .env("LAYERSTORE_RUNROOT", self.path("run"))
            .env("LAYERSTORE_CONFIG", "/dev/null")
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Every file in the store and among the copies but the database's own.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut pending = vec![self.path("root"), self.path("run"), self.path("tmp")];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
                if !entry.file_name().to_string_lossy().contains(".db") {
                    found.insert(entry.path());
                }
            }
        }
        found
    }

    /// What is wrong with how the program ended, and what it left.
    fn pull(&self, source: &str, stdin: Option<&[u8]>, code: Option<&str>) -> Result<Vec<String>, Failed> {
        let mut command = self.command();
        command.args(["pull", source]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let start = Instant::now();
        let mut child = command.spawn()?;
        // What is refused is not read to its end.
        drop(child.stdin.take().zip(stdin).map(|(mut pipe, bytes)| pipe.write_all(bytes)));
        let output = child.wait_with_output()?;
        let mut wrong = judge(&output, 1, code, start.elapsed());
        let now = self.files();
        wrong.extend(
            now.symmetric_difference(&self.before).map(|path| format!("{}: changed", path.display())),
        );
        Ok(wrong)
    }
}

fn refused(transport: &str, cases: &[(&str, Option<&str>, Make)]) -> Result<(), Failed> {
    let bench = Bench::new()?;
    let archive = bench.path("archive");
    let mut wrong = Vec::new();
    for (name, code, make) in cases {
        std::fs::write(&archive, make())?;
        let source = format!("{transport}:{}", archive.display());
        wrong.extend(bench.pull(&source, None, *code)?.iter().map(|line| format!("{name}: {line}")));
    }
    ended(wrong)
}

fn from_stdin() -> Result<(), Failed> {
    let bench = Bench::new()?;
    let mut wrong = Vec::new();
    for (transport, cases) in [("docker-archive", DOCKER), ("oci-archive", OCI)] {
        for (name, code, make) in cases.iter().step_by(5) {
            let said = bench.pull(&format!("{transport}:/dev/stdin"), Some(&make()), *code)?;
            wrong.extend(said.iter().map(|line| format!("{name}: {line}")));
        }
        let said = bench.pull(&format!("{transport}:/dev/zero"), None, Some("BAD_HEADER"))?;
        wrong.extend(said.iter().map(|line| format!("endless: {line}")));
    }
    ended(wrong)
}

fn good_ones() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for (name, transport, make) in GOOD {
        let bench = Bench::new()?;
        let archive = bench.path("archive");
        std::fs::write(&archive, make())?;
        let source = format!("{transport}:{}", archive.display());
        let output =
            // A window of 128 MiB is memory.
 bench.command().env("MEMORY", "393216").args(["pull", &source]).output()?;
        if !output.status.success() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    ended(wrong)
}
