//! The suite as a verb: Ctrl-C ends it and leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use support::Bench;

/// Processes that work in a directory: their working directory is in it.
fn processes_in(directory: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let there = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    all.filter(there).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[rstest]
fn one_signal_ends_the_suite_with_its_workers_and_its_scratch(
    #[values(Signal::INT, Signal::TERM)] sent: Signal,
    #[values("text", "json")] format: &str,
) {
    let bench = Bench::new("vfs");
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut command = bench.interruptible();
    command.args(["--format", format, "conformance", "--driver", "vfs", "--scratch", "scratch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    if format == "text" {
        // The driver's name, and a few cases.
        for _ in 0..4 {
            stdout.read_line(&mut String::new()).unwrap();
        }
    }
    let begun = Instant::now();
    while processes_in(&scratch).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no worker has begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), sent).unwrap();
    let status = child.wait().unwrap();
    let (mut out, mut said) = (String::new(), String::new());
    stdout.read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}{out}");
    assert!(said.contains("cancelled"), "{said}");
    assert!(signalled.elapsed() < Duration::from_secs(10), "it took {:?}", signalled.elapsed());
    assert!(format == "text" || out.is_empty(), "half a report: {out}");
    assert!(!out.contains("FAIL"), "an ended case is none that failed: {out}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    assert_eq!(processes_in(&scratch), [""; 0]);
}

#[test]
fn a_pattern_that_fits_no_case_is_told_and_where_they_are_listed() {
    let bench = Bench::new("vfs");
    let output = bench.output(&["conformance", "--driver", "vfs", "--case", "nope*"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no case is called nope*: `conformance --list` names them"), "{text}");
}

#[test]
fn a_case_may_take_as_long_as_it_is_given() {
    let bench = Bench::new("vfs");
    let arguments = |limit| ["conformance", "--driver", "vfs", "--case", "a21::*", "--time-limit", limit];
    bench.fails(2, &arguments("0"));
    let listed = bench.output(&[&arguments("600")[..], &["--list"]].concat());
    assert!(listed.status.success());
    // One that takes more than a second.
    let slow = ["conformance", "--driver", "vfs", "--case", "v1::500*", "--time-limit", "1"];
    let output = bench.output(&slow);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no end after 1 s: the time limit ended it"), "{text}");
}
