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
    let mut command = bench.interruptible();
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
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("cancelled"), "{said}");
    let found = bench.output(&["check", "--quick"]);
    assert_eq!(found.status.code(), Some(1), "the layer holds a part of the tar");
    assert!(String::from_utf8_lossy(&found.stdout).contains("layer remove l"), "{found:?}");
    bench.run(&["layer", "remove", "l"]);
    assert_eq!(bench.fails(0, &["check"]), "");
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

#[test]
fn an_ignored_signal_stays_ignored() {
    let bench = Bench::new("overlay2");
    let tar = archive(&bench);
    bench.run(&["layer", "create", "l"]);
    let program = bench.command();
    let mut shell = std::process::Command::new("sh");
    // As `nohup`, and as a shell without job control starts what is to run in the background.
    shell.args(["-c", "trap '' HUP INT; exec \"$0\" layer apply l"]).arg(program.get_program());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = shell.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&tar[..1_000_000]).unwrap();
    for sent in [Signal::HUP, Signal::INT, Signal::HUP] {
        signal(&child, sent);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.stdin.take().unwrap().write_all(&tar[1_000_000..]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(bench.run(&["layer", "changes", "l"]).lines().count(), 40);
}

/// What `timeout` does: one signal. Returns the exit status and the signal that ended it.
#[track_caller]
fn ends_by_one_signal(mut child: Child) -> (Option<i32>, Option<i32>) {
    use std::os::unix::process::ExitStatusExt as _;
    // Until it hangs.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait for the other end of the pipe");
    signal(&child, Signal::TERM);
    let start = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), status.signal());
        }
        if start.elapsed().as_secs() >= 20 {
            child.kill().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn fifo(bench: &Bench) -> String {
    let fifo = bench.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fifo.to_str().unwrap().to_owned()
}

#[test]
fn before_anything_has_begun_one_signal_ends_at_once_what_hangs() {
    let bench = Bench::new("vfs");
    let child = bench.command().args(["--config", &fifo(&bench), "images"]).spawn().unwrap();
    assert_eq!(ends_by_one_signal(child), (None, Some(15)));
}

#[test]
fn one_signal_ends_a_push_into_a_pipe_that_nobody_reads() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    let to = format!("docker-archive:{}:x:y", fifo(&bench));
    let child = bench.command().args(["push", "base:1", &to]).spawn().unwrap();
    assert_eq!(ends_by_one_signal(child), (Some(130), None));
    assert_eq!(bench.fails(0, &["check"]), "");
}

#[test]
fn one_signal_ends_what_waits_for_input() {
    let bench = Bench::new("overlay2");
    let tar = archive(&bench);
    // Its stdin is open, and nothing comes.
    let mut child = in_the_middle(&bench, &tar);
    let _open = child.stdin.take();
    assert_eq!(ends_by_one_signal(child), (Some(130), None));
    bench.run(&["layer", "remove", "l"]);
    assert_eq!(bench.fails(0, &["check"]), "");
}
