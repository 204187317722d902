//! Where things go: odd targets of `mount` and `export`, and what was there before.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::process::{Command, Stdio};

use support::Bench;

fn with_container(driver: &str) -> Bench {
    let bench = Bench::new(driver);
    bench.run(&["pull", &bench.rootfs(), "base"]);
    bench.run(&["create", "--name", "c", "base"]);
    bench
}

#[track_caller]
fn shell(command: &str, bench: &Bench) {
    assert!(
        Command::new("sh").args(["-ec", command]).current_dir(bench.path("")).status().unwrap().success()
    );
}

#[test]
fn a_device_or_pipe_that_takes_an_export_stays() {
    let bench = with_container("overlay2");
    shell("mknod null c 1 3; mkfifo pipe; ln -s null link", &bench);
    bench.run(&["export", "c", "-o", "null"]);
    bench.run(&["export", "c", "-o", "link"]);
    let reader = std::thread::scope(|scope| {
        let tar = Command::new("tar")
            .args(["-tf", "pipe"])
            .current_dir(bench.path(""))
            .stdout(Stdio::piped())
            .spawn();
        scope.spawn(|| bench.run(&["export", "c", "-o", "pipe"]));
        tar.unwrap().wait_with_output().unwrap()
    });
    assert!(String::from_utf8_lossy(&reader.stdout).contains("etc/motd"));
    assert!(std::fs::metadata(bench.path("null")).unwrap().file_type().is_char_device());
    assert!(std::fs::symlink_metadata(bench.path("link")).unwrap().file_type().is_symlink());
    assert!(std::fs::metadata(bench.path("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let bench = with_container("vfs");
    shell(
        "mkdir small; mount -t tmpfs -o size=8k tmpfs small; echo old > small/keep; mknod full c 1 7",
        &bench,
    );
    bench.fails(1, &["export", "c", "-o", "small/keep"]);
    bench.fails(1, &["export", "c", "-o", "small/new"]);
    bench.fails(1, &["export", "none", "-o", "small/keep"]);
    bench.fails(1, &["export", "c", "-o", "full"]);
    let kept = std::fs::read_to_string(bench.path("small/keep"));
    let names: Vec<_> =
        std::fs::read_dir(bench.path("small")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    shell("umount small", &bench);
    assert_eq!((kept.unwrap().as_str(), names), ("old\n", vec!["keep".into()]));
    assert!(std::fs::metadata(bench.path("full")).unwrap().file_type().is_char_device());
}

#[test]
fn an_export_replaces_what_a_symlink_leads_to_and_keeps_its_mode() {
    let bench = with_container("vfs");
    shell("echo old > target; chmod 600 target; ln -s target link", &bench);
    bench.run(&["export", "c", "-o", "link"]);
    shell(
        "test -L link; test $(stat -c %a target) = 600; tar -tf target etc/motd; tar -tf link ./etc/motd || tar -tf link etc/motd",
        &bench,
    );
}

#[test]
fn a_target_may_have_any_bytes_in_its_path() {
    let bench = with_container("overlay2");
    let target = OsStr::from_bytes(b"t\xff\n");
    std::fs::create_dir(bench.path("").join(target)).unwrap();
    for format in ["text", "json"] {
        let output = bench.command().args(["--format", format, "mount", "c"]).arg(target).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        if format == "json" {
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(said["path"].as_str().unwrap().ends_with("/t\\xff\\n"), "{said}");
        }
        for verb in ["mount", "ps", "unmount c"] {
            let arguments: Vec<_> = ["--format", format].into_iter().chain(verb.split(' ')).collect();
            bench.run(&arguments);
        }
    }
}
