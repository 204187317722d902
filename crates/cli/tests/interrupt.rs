//! Ctrl-C: the first stops cleanly, the second at once.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use support::Bench;

/// A tar of forty files of 100 kB.
fn archive(bench: &Bench) -> Vec<u8> {
    std::fs::create_dir(bench.path("tree")).unwrap();
    for number in 0..40 {
        std::fs::write(bench.path(&format!("tree/{number}")), vec![number; 100_000]).unwrap();
    }
    let tree = bench.path("tree");
    let made =
        std::process::Command::new("tar").args(["-C", tree.to_str().unwrap(), "-c", "."]).output().unwrap();
    assert!(made.status.success());
    made.stdout
}

/// A program that has taken in more of the tar than a pipe holds, and waits for more.
fn in_the_middle(bench: &Bench, tar: &[u8]) -> Child {
    bench.run(&["layer", "create", "l"]);
    let mut command = bench.command();
    command.args(["layer", "apply", "l"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&tar[..1_000_000]).unwrap();
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[rstest]
fn the_first_signal_stops_what_runs(
    #[values(Signal::INT, Signal::TERM, Signal::HUP)] sent: Signal,
    #[values("overlay2", "vfs")] driver: &str,
) {
    let bench = Bench::new(driver);
    let tar = archive(&bench);
    let mut child = in_the_middle(&bench, &tar);
    signal(&child, sent);
    // It looks between entries; where it is gone already, nobody reads.
    let _ = child.stdin.take().unwrap().write_all(&tar[1_000_000..]);
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cancelled"), "{said}");
    assert_eq!(bench.fails(0, &["check"]), "");
    bench.run(&["layer", "remove", "l"]);
}

#[test]
fn the_second_signal_leaves_at_once() {
    let bench = Bench::new("overlay2");
    let tar = archive(&bench);
    let mut child = in_the_middle(&bench, &tar);
    signal(&child, Signal::INT);
    // Two that are pending together are one.
    std::thread::sleep(std::time::Duration::from_millis(100));
    signal(&child, Signal::INT);
    // Nothing more came, and stdin is still open.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    bench.run(&["layer", "remove", "l"]);
    assert_eq!(bench.fails(0, &["check"]), "");
}
