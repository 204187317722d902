//! The command line as scripts see it: spellings, stdout, exit codes, errors.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;
use support::Bench;

#[rstest]
fn the_way_of_an_image_through_a_store(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let id = bench.run(&["pull", &bench.rootfs(), "base:1"]);
    assert!(
        id.starts_with("sha256:") && !id.contains('\n'),
        "pull prints the image ID as its only line: {id}"
    );
    assert!(bench.run(&["images"]).starts_with("REPOSITORY"));

    let container = bench.run(&["create", "--name", "c", "base:1"]);
    assert_eq!(container.len(), 64);
    let root = bench.run(&["mount", "c"]);
    assert_eq!(bench.run(&["mount", &container[..12]]), root, "a second call gives the same path");
    std::fs::write(format!("{root}/etc/new"), "x").unwrap();
    std::fs::remove_file(format!("{root}/etc/motd")).unwrap();
    assert_eq!(bench.run(&["diff", "c"]), "C /etc\nD /etc/motd\nA /etc/new");

    let changed = bench.run(&["commit", "--author", "me", "--change", "CMD [\"sh\"]", "c", "changed:2"]);
    assert_ne!(changed, id);
    let inspected: Value = serde_json::from_str(&bench.run(&["inspect", "changed:2"])).unwrap();
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(inspected[0]["GraphDriver"]["Name"], driver);

    let refused = bench.fails(1, &["rm", "c"]);
    assert!(refused.contains("mounted"), "{refused}");
    assert_eq!(bench.run(&["unmount", "c"]), "c");
    assert_eq!(bench.run(&["rm", "c"]), container);
    let removed = bench.run(&["rmi", "changed:2"]);
    let lines: Vec<_> = removed.lines().collect();
    assert_eq!(lines.first(), Some(&"Untagged: changed:2"));
    assert_eq!(lines.get(1), Some(&format!("Deleted: {changed}").as_str()));
    bench.run(&["rmi", "base:1"]);
    assert_eq!(bench.run(&["layer", "list"]).lines().count(), 1, "only the header line is left");
    assert_eq!(bench.fails(0, &["check"]), "");
}

#[rstest]
fn a_layer_by_hand(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let tar = bench.path("layer.tar");
    std::fs::create_dir_all(bench.path("tree/d")).unwrap();
    std::fs::write(bench.path("tree/d/f"), "data").unwrap();
    let tree = bench.path("tree");
    let made = std::process::Command::new("tar")
        .args(["-C", tree.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "d"])
        .status()
        .unwrap();
    assert!(made.success());

    assert_eq!(bench.run(&["layer", "create", "base"]), "base");
    bench.run(&["layer", "apply", "base", tar.to_str().unwrap()]);
    bench.run(&["layer", "seal", "base"]);
    assert_eq!(bench.run(&["layer", "create", "--parent", "base", "top"]), "top");
    let root = bench.run(&["layer", "mount", "top"]);
    std::fs::write(format!("{root}/d/g"), "more").unwrap();
    assert_eq!(bench.run(&["layer", "changes", "top"]), "C /d\nA /d/g");
    assert_eq!(bench.run(&["layer", "changes", "top", "--base", "base"]), "C /d\nA /d/g");
    let plan: Value = serde_json::from_str(&bench.run(&["layer", "plan", "top"])).unwrap();
    assert!(plan["type"].is_string(), "{plan}");
    let refused = bench.fails(1, &["layer", "remove", "base"]);
    assert!(refused.starts_with("layerstore: "), "{refused}");
    assert_eq!(bench.run(&["layer", "unmount", "top"]), "top");
    let diff = bench.output(&["layer", "diff", "top"]);
    assert!(diff.status.success());
    let names =
        std::process::Command::new("tar").arg("-tf").arg(write(&bench, &diff.stdout)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&names.stdout), "d/\nd/g\n");
    bench.run(&["layer", "remove", "top"]);
    bench.run(&["layer", "remove", "base"]);
}

fn write(bench: &Bench, bytes: &[u8]) -> std::path::PathBuf {
    let path = bench.path("diff.tar");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[rstest]
#[case::an_unknown_verb(2, &["frobnicate"], "unrecognized")]
#[case::an_unknown_driver(2, &["--driver", "zfs9", "info"], "known drivers")]
#[case::an_unknown_option(2, &["--driver-opt", "colour=blue", "info"], "colour")]
#[case::a_missing_configuration(2, &["--config", "/nonexistent/storage.toml", "info"], "/nonexistent/storage.toml")]
#[case::an_unknown_image(1, &["history", "nothing"], "nothing")]
#[case::an_unknown_container(1, &["mount", "nothing"], "nothing")]
#[case::an_unknown_transport(2, &["pull", "ftp:x"], "ftp")]
#[case::a_destination_without_a_transport(2, &["push", "nothing", "x"], "no transport")]
#[case::a_name_that_is_none(2, &["pull", "oci:x", "UPPER"], "lower case")]
#[case::a_tag_that_is_none(2, &["tag", "nothing", "x:y:z"], "x:y:z")]
#[case::a_container_name_that_is_none(2, &["create", "--name", "../x", "nothing"], "not a container name")]
#[case::a_layer_id_that_is_none(2, &["layer", "create", "../x"], "not a layer id")]
#[case::an_unknown_instruction(2, &["commit", "--change", "FOO x", "nothing"], "FOO x")]
#[case::a_bad_option_in_a_repair(2, &["--driver-opt", "threads=many", "check", "--repair"], "threads")]
#[case::a_bad_source_of_a_repair(2, &["check", "--repair", "--from", "ftp:x"], "ftp")]
#[case::a_source_that_is_not_there(1, &["pull", "oci:nothing"], "nothing")]
#[case::a_registry(1, &["pull", "docker://alpine"], "skopeo copy")]
#[case::a_source_as_a_path(2, &["pull", "/x"], "oci:/x, for a root file system rootfs:/x")]
#[case::a_source_as_a_name(2, &["pull", "alpine"], "skopeo copy docker://alpine")]
#[case::junit_where_it_has_no_meaning(2, &["--format", "junit", "images"], "layerstore: read arguments: this --format")]
fn failures(#[case] code: i32, #[case] arguments: &[&str], #[case] word: &str) {
    let stderr = Bench::new("vfs").fails(code, arguments);
    assert!(stderr.contains(word), "{stderr}");
}

#[rstest]
#[case::an_unknown_verb(&["frobnicate"], "unrecognized subcommand 'frobnicate'\nhint: `layerstore --help` lists")]
#[case::an_unknown_verb_of_a_verb(&["layer", "frob"], "subcommand 'frob'\nhint: `layerstore layer --help` lists")]
#[case::a_verb_almost_known(&["imagse"], "hint: a similar subcommand exists: 'images'")]
#[case::an_unknown_flag(&["images", "--colour"], "unexpected argument '--colour'")]
#[case::a_missing_argument(&["pull"], "not provided: <SOURCE>")]
#[case::a_bad_value(&["--format", "yaml", "images"], "invalid value 'yaml'")]
#[case::a_bad_size(&["create", "--size", "1x", "image"], "expected a size")]
#[case::a_negative_size(&["create", "--size", "-1", "image"], "expected a size")]
#[case::control_characters(&["\u{1b}[31m"], "unrecognized")]
fn wrong_usage_is_told_as_any_other_error(#[case] arguments: &[&str], #[case] words: &str) {
    let bench = Bench::new("vfs");
    let text = bench.fails(2, arguments);
    let lines: Vec<_> = text.lines().collect();
    assert!(text.contains(words), "{text}");
    assert!(lines.len() == 2 && lines[0].starts_with("layerstore: read arguments: "), "{text}");
    assert!(lines[1].starts_with("hint: ") && !text.contains('\u{1b}'), "{text}");

    let arguments: Vec<_> = arguments.iter().copied().chain(["--format=json"]).collect();
    let object: Value = serde_json::from_str(&bench.fails(2, &arguments)).unwrap();
    assert_eq!(object["error"]["kind"], "InvalidInput", "{object}");
}

#[test]
fn an_option_of_no_driver_is_wrong_usage_also_when_the_driver_chooses_itself() {
    let bench = Bench::new("vfs");
    bench.run(&["info"]);
    for arguments in
        [&["--driver-opt", "colour=blue", "info"][..], &["--driver-opt", "colour=blue", "images"]]
    {
        let output = bench.command().args(arguments).env_remove("LAYERSTORE_DRIVER").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("colour") && text.contains("known options: mountopt, size, threads"), "{text}");
    }
}

#[test]
fn whatever_prints_results_prints_json_when_asked() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    let json = |arguments: &[&str]| -> Value {
        let text = bench.run(&[&["--format", "json"], arguments].concat());
        serde_json::from_str(&text).map_err(|error| format!("{arguments:?}: {error}: {text}")).unwrap()
    };
    let id = json(&["create", "--name", "c", "base:1"])["id"].clone();
    assert!(json(&["mount", "c"])["path"].is_string());
    let listed = json(&["ps"]);
    assert!(listed[0]["id"] == id && listed[0]["size"].is_u64() && listed[0]["mounted"] == true, "{listed}");
    assert_eq!(json(&["mount"])[0]["id"], id);
    assert_eq!(json(&["unmount", "c"]), serde_json::json!(["c"]));
    assert!(json(&["commit", "c", "two:1"])["id"].is_string());
    assert_eq!(json(&["rm", "c"]), serde_json::json!([id]));
    assert_eq!(json(&["layer", "create", "l"]), serde_json::json!({"id": "l"}));
    assert!(json(&["layer", "mount", "l"])["path"].is_string());
    assert_eq!(json(&["layer", "unmount", "l"]), serde_json::json!({"id": "l"}));
    assert_eq!(json(&["layer", "seal", "l"])["inodes"], 1);
    assert_eq!(json(&["layer", "remove", "l"]), serde_json::json!({"id": "l"}));
    for verb in ["info", "drivers", "df", "check", "gc", "images", "ps", "tree"] {
        json(&[verb]);
    }
    for verb in ["inspect", "history", "tree", "diff"] {
        json(&[verb, "base:1"]);
    }
    json(&["rmi", "two:1"]);
    json(&["rmi", "base:1"]);
    let missing = bench.fails(1, &["--format", "json", "layer", "apply", "l", "/nonexistent.tar"]);
    let missing: Value = serde_json::from_str(&missing).unwrap();
    assert_eq!(missing["error"]["kind"], "NotFound");
    assert_eq!(missing["error"]["operation"], "layer apply");
}

#[test]
fn an_error_is_one_line_and_a_hint_or_an_object() {
    let bench = Bench::new("vfs");
    let text = bench.fails(1, &["history", "nothing"]);
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("layerstore: ")), "{text}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{text}");

    let object: Value =
        serde_json::from_str(&bench.fails(1, &["--format", "json", "history", "nothing"])).unwrap();
    for key in ["kind", "code", "operation", "driver", "layer", "message", "hint"] {
        assert!(object["error"].get(key).is_some(), "{key} is missing in {object}");
    }
    assert_eq!(object["error"]["kind"], "NotFound");
}

#[test]
fn refused_input_has_a_stable_code_and_leaves_nothing() {
    let bench = Bench::new("vfs");
    // A header whose name climbs out of the root.
    let mut header = tar_header("../evil");
    header.extend_from_slice(&[0; 1024]);
    std::fs::write(bench.path("evil.tar"), header).unwrap();
    let evil = bench.path("evil.tar");
    bench.run(&["layer", "create", "base"]);
    let stderr = bench.fails(1, &["--format", "json", "layer", "apply", "base", evil.to_str().unwrap()]);
    let object: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(object["error"]["code"], "PATH_ESCAPE", "{object}");
    assert!(!bench.path("evil").exists());
    let pulled = bench.fails(1, &["pull", &format!("rootfs:{}", evil.display())]);
    assert!(pulled.contains("PATH_ESCAPE"), "{pulled}");
    assert_eq!(bench.run(&["images", "--format", "json"]), "[]");
    assert_eq!(bench.run(&["layer", "list"]).lines().count(), 2, "the header and the layer made by hand");
}

/// A ustar header of an empty file.
fn tar_header(name: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    for field in [108, 116] {
        header[field..field + 8].copy_from_slice(b"0000000\0");
    }
    for field in [124, 136] {
        header[field..field + 12].copy_from_slice(b"00000000000\0");
    }
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn completions_know_every_verb(#[case] shell: &str) {
    let script = Bench::new("vfs").run(&["completions", shell]);
    for verb in ["pull", "untag", "conformance", "commit"] {
        assert!(script.contains(verb), "{verb}");
    }
}

#[test]
fn man_pages_are_written_for_every_verb() {
    let bench = Bench::new("vfs");
    bench.run(&["man", "pages"]);
    for page in ["layerstore.1", "layerstore-pull.1", "layerstore-layer-apply.1"] {
        assert!(bench.path("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn info_says_where_each_value_came_from() {
    let bench = Bench::new("vfs");
    std::fs::write(bench.path("storage.toml"), "[storage]\nsync = \"none\"\n").unwrap();
    let info = bench.run(&["--config", "storage.toml", "info"]);
    assert!(info.contains("driver: vfs"), "{info}");
    assert!(info.contains("LAYERSTORE_ROOT"), "{info}");
    let sync = info.lines().find(|line| line.contains("sync =")).unwrap_or_default();
    assert!(sync.contains("none") && sync.contains("storage.toml:2"), "{sync}");
}

#[rstest]
fn a_number_of_threads_that_no_machine_has_is_refused(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let rootfs = bench.rootfs();
    for threads in ["1025", "99999999"] {
        let option = format!("threads={threads}");
        let text = bench.fails(2, &["--driver-opt", &option, "pull", &rootfs, "base:1"]);
        assert!(text.contains(threads) && text.contains("a whole number of at most 1024"), "{text}");
    }
    bench.run(&["--driver-opt", "threads=1024", "pull", &rootfs, "base:1"]);
}

#[test]
fn sizes_are_read_as_podman_and_docker_read_them() {
    let bench = Bench::new("vfs");
    let file = "[storage]\ndriver = \"vfs\"\n[storage.options.vfs]\nsize = \"1.5g\"\n";
    std::fs::write(bench.path("storage.toml"), file).unwrap();
    bench.run(&["--config", "storage.toml", "info"]);
    for size in ["5P", "5p", ".5m", "2.5 KiB"] {
        // Wrong usage would be 2: it is the image that is missing.
        bench.fails(1, &["create", "--size", size, "nothing"]);
    }
    for size in ["1e3", "inf", "nan", "8192p", "1.2.3"] {
        bench.fails(2, &["create", "--size", size, "nothing"]);
    }
}

#[test]
fn an_error_and_its_hint_are_one_write() {
    use std::os::unix::net::UnixDatagram;
    let bench = Bench::new("vfs");
    for format in ["text", "json"] {
        // Each write to a socket of this kind is one message.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut command = bench.command();
        command
            .args(["--format", format, "--driver", "zfs9", "info"])
            .stderr(std::os::fd::OwnedFd::from(theirs));
        command.status().unwrap();
        drop(command);
        let mut buffer = [0; 4096];
        let length = ours.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.contains("hint") && text.contains("known drivers") && text.ends_with('\n'), "{text}");
        ours.set_nonblocking(true).unwrap();
        assert!(ours.recv(&mut buffer).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

#[rstest]
#[case(&["images"])]
#[case(&["check", "--repair"])]
#[case(&["drivers"])]
fn a_warning_of_the_configuration_is_said_once(#[case] arguments: &[&str]) {
    let bench = Bench::new("vfs");
    std::fs::write(bench.path("storage.toml"), "[storage]\ncolour = \"blue\"\n").unwrap();
    let arguments = [&["--config", "storage.toml"], arguments].concat();
    let text = bench.fails(0, &arguments);
    assert_eq!(text.matches("colour").count(), 1, "{text}");
}

#[test]
fn a_driver_is_shown_by_its_other_name_too() {
    let bench = Bench::new("vfs");
    let shown = bench.run(&["drivers", "overlay"]);
    assert!(shown.starts_with("overlay2: ") && shown.contains("threads"), "{shown}");
    let json: Value = serde_json::from_str(&bench.run(&["drivers", "overlay", "--format", "json"])).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["name"]), (1, &"overlay2".into()));
}

#[test]
fn info_tells_sizes_and_which_files_were_read() {
    let bench = Bench::new("vfs");
    std::fs::write(bench.path("storage.toml"), "").unwrap();
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    let info = bench.run(&["--config", "storage.toml", "info"]);
    let line = |start: &str| info.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("size of layers: 30B, ").ends_with(" on disk"), "{info}");
    assert_eq!(line("configuration files: "), "configuration files: storage.toml");
    let info = bench.run(&["--config", "storage.toml", "--format", "json", "info"]);
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["size"], &info["files"]), (&30.into(), &serde_json::json!(["storage.toml"])));
    assert!(info["disk_bytes"].as_u64().unwrap() >= 30, "{info}");
    let empty = Bench::new("vfs").run(&["info"]);
    assert!(empty.contains("size of layers: 0B, 0B on disk"), "{empty}");
}

#[test]
fn help_names_every_variable_and_what_a_pull_without_a_name_does() {
    let bench = Bench::new("vfs");
    let help = bench.run(&["--help"]);
    assert!(help.starts_with("Container images as stacks of layers"), "{help}");
    for variable in ["CONFIG", "CONFIG_OVERRIDE", "ROOT", "RUNROOT", "DRIVER", "DRIVER_OPTS", "LOG"] {
        let variable = format!("LAYERSTORE_{variable}");
        assert!(
            help.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).any(|word| word == variable),
            "{help}"
        );
    }
    assert!(bench.run(&["pull", "--help"]).contains("names that the source has"));
}

#[test]
fn drivers_speaks_of_the_store_and_not_of_where_it_tried() {
    let bench = Bench::new("vfs");
    for arguments in [&["drivers", "vfs"][..], &["drivers", "--format", "json"]] {
        let shown = bench.run(arguments);
        assert!(!shown.contains(".layerstore-probe-") && shown.contains("/root/vfs"), "{shown}");
    }
}

#[test]
fn who_is_not_root_is_told_the_way_and_no_directory_that_is_gone() {
    let bench = Bench::new("vfs");
    let (program, reached) = (bench.command(), bench.program());
    let run = |arguments: &[&str]| {
        // Nobody there is root: no id is mapped.
        let mut unshare = std::process::Command::new("unshare");
        unshare.arg("-U").arg(&reached).args(arguments);
        unshare.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = unshare.env_remove("LAYERSTORE_DRIVER").output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let said = run(&["images"]);
    assert!(said.contains("no storage driver can run here") && said.contains("unshare -Urm"), "{said}");
    let listed = run(&["drivers"]);
    assert!(listed.contains("vfs        no"), "{listed}");
    assert!(!format!("{said}{listed}").contains(".layerstore-probe-"), "{said}{listed}");
}

/// What the program says to a user who is not root, without any setting; with `unshare` in a user namespace of theirs.
fn as_a_user(bench: &Bench, unshare: bool, runtime: Option<&Path>) -> String {
    let program = bench.program();
    let home = bench.path("");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&home, Some(4711), Some(4711)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=4711", "--regid=4711", "--clear-groups"]);
    command.args(unshare.then_some(["unshare", "-Urm"]).into_iter().flatten());
    command.arg(program).args(["--driver", "vfs", "info"]);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOME", &home).envs(runtime.map(|path| ("XDG_RUNTIME_DIR", path))).current_dir(&home);
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn root_of_a_users_own_namespace_has_the_directories_of_that_user() {
    let bench = Bench::new("vfs");
    let said = as_a_user(&bench, true, Some(&bench.path("runtime")));
    let root = bench.path(".local/share/layerstore");
    let runroot = bench.path("runtime/layerstore");
    assert!(said.contains(&format!("graphroot: {}\n", root.display())), "{said}");
    assert!(said.contains(&format!("runroot: {}\n", runroot.display())), "{said}");
}

#[rstest]
fn who_has_no_runtime_directory_is_told_how_to_name_one(#[values(false, true)] unshare: bool) {
    let said = as_a_user(&Bench::new("vfs"), unshare, None);
    assert!(said.contains("/run/user/4711/layerstore"), "{said}");
    assert!(said.contains("\nhint: become root, or name a directory of your own with --runroot"), "{said}");
}

#[test]
fn a_push_goes_into_what_a_killed_one_began_and_several_begin_one_layout_at_once() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    // What lies there when a push dies before anything else is there.
    std::fs::create_dir(bench.path("killed")).unwrap();
    std::fs::write(bench.path("killed/.oci-layout.tmp"), "{").unwrap();
    let killed = format!("oci:{}:1", bench.path("killed").display());
    bench.run(&["push", "a:1", &killed]);
    bench.run(&["pull", &killed, "b:1"]);
    assert!(!bench.path("killed/.oci-layout.tmp").exists());
    std::fs::create_dir(bench.path("foreign")).unwrap();
    std::fs::write(bench.path("foreign/file"), "").unwrap();
    let foreign = format!("oci:{}:1", bench.path("foreign").display());
    assert!(bench.fails(1, &["push", "a:1", &foreign]).contains("is not empty"));

    for round in 0..5 {
        let pushed: Vec<_> = (0..6)
            .map(|number| {
                let shared = format!("oci:{}:{number}", bench.path(&format!("shared-{round}")).display());
                bench
                    .command()
                    .args(["push", "-q", "a:1", &shared])
                    .stderr(std::process::Stdio::piped())
                    .spawn()
            })
            .collect();
        for push in pushed {
            let output = push.unwrap().wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn drivers_are_usable_also_while_gc_clears_what_dead_processes_left() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    let alone = bench.run(&["drivers", "--format", "json"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    bench.run(&["gc"]);
                }
            });
        }
        let looks: Vec<_> = (0..20).map(|_| bench.output(&["drivers", "--format", "json"])).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for look in looks {
            assert_eq!(String::from_utf8_lossy(&look.stderr), "");
            assert_eq!(String::from_utf8_lossy(&look.stdout).trim_end(), alone);
        }
    });
}
