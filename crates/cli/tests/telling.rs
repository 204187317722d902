//! What the program says on stderr, and how much of it: nothing by itself, each step with `-v`.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]

mod support;

use rstest::rstest;
use support::Bench;

/// What stderr says, of a command that succeeds.
#[track_caller]
fn told(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.output(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

#[rstest]
fn each_step_is_told_with_v_and_no_step_without(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    let source = bench.rootfs();
    let opened = format!("driver=\"{driver}\"");
    let steps: [(&[&str], &[&str]); 6] = [
        (&["pull", &source, "a:1"], &[&opened, "unpacked a layer", "stored an image", "layers=1 new=1"]),
        (&["pull", &source, "b:1"], &["the layer is there already", "layers=1 new=0"]),
        (&["create", "--name", "c", "a:1"], &["made a container"]),
        (&["mount", "c"], &["mounted", "target="]),
        (&["unmount", "c"], &["unmounted"]),
        (&["rm", "c"], &["removed a layer"]),
    ];
    for (arguments, expected) in steps {
        let said = told(&bench, &[&["-v"], arguments].concat());
        for expected in expected {
            assert!(said.contains(expected), "{arguments:?} tells not {expected:?}:\n{said}");
        }
    }
    for arguments in [&["create", "--name", "c", "a:1"][..], &["mount", "c"], &["rm", "-f", "c"]] {
        assert_eq!(told(&bench, arguments), "");
    }
}
