//! What `tree`, `df` and `history` say about sharing, and that nothing but a terminal is painted.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use serde_json::Value;
use support::Bench;

/// A store with an image, one committed over it whose message is `message`, and a container of each.
fn bench(message: &str) -> Bench {
    let bench = Bench::new("overlay2");
    let rootfs = bench.rootfs();
    std::fs::write(bench.path("rootfs/large"), vec![1; 200_000]).unwrap();
    bench.run(&["pull", &rootfs, "base:1"]);
    bench.run(&["create", "--name", "web", "base:1"]);
    let root = bench.run(&["mount", "web"]);
    std::fs::write(format!("{root}/small"), vec![2; 50_000]).unwrap();
    bench.run(&["unmount", "web"]);
    bench.run(&["commit", "--message", message, "web", "changed:2"]);
    bench.run(&["create", "--name", "next", "changed:2"]);
    bench
}

fn json(bench: &Bench, arguments: &[&str]) -> Value {
    serde_json::from_str(&bench.run(&[&["--format", "json"], arguments].concat())).unwrap()
}

#[test]
fn each_layer_says_how_many_images_it_is_part_of() {
    let bench = bench("m");
    let tree = json(&bench, &["tree"]);
    assert_eq!(tree[0]["shared_by"], 2);
    let children = tree[0]["children"].as_array().unwrap();
    let web = children.iter().find(|node| node["containers"][0]["name"] == "web").unwrap();
    assert!(web["size"].as_u64().unwrap() >= 50_000, "what a container wrote is measured: {web}");
    let changed = children.iter().find(|node| node["images"][0]["names"][0] == "changed:2").unwrap();
    assert_eq!(changed["shared_by"], 1);
    assert_eq!(changed["children"][0]["containers"][0]["name"], "next");

    let history = json(&bench, &["history", "changed:2"]);
    let shared: Vec<_> = history.as_array().unwrap().iter().map(|step| step["shared_by"].clone()).collect();
    assert_eq!(shared, [1, 2], "{history}");

    let df = json(&bench, &["df"]);
    let image = |name| {
        let images = df["images"].as_array().unwrap();
        images.iter().find(|image| image["names"][0] == name).unwrap().clone()
    };
    let (base, changed) = (image("base:1"), image("changed:2"));
    assert_eq!(base["unique"], 0);
    assert_eq!(base["shared"], changed["shared"]);
    assert!(changed["unique"].as_u64().unwrap() >= 50_000, "{changed}");
}

#[test]
fn a_person_reads_it_in_columns() {
    let bench = bench("m");
    let tree = bench.run(&["tree"]);
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(lines.len(), 4, "{tree}");
    assert!(lines[0].contains("in 2 images") && lines[0].contains("image base:1 ("), "{tree}");
    assert!(lines.iter().any(|line| line.starts_with("├─ ") && line.contains("container web (")), "{tree}");
    assert!(lines[3].starts_with("   ") && lines[3].contains("container next ("), "{tree}");
    let bars: Vec<_> = lines.iter().map(|line| line.chars().position(|c| c == '▓' || c == '█')).collect();
    assert!(bars.iter().flatten().all(|at| Some(*at) == bars[0]), "bars stand below each other:\n{tree}");
    assert!(bench.run(&["df"]).contains("saved by sharing 2"), "{}", bench.run(&["df"]));
    assert!(bench.run(&["history", "changed:2"]).contains("2 images"));
}

#[test]
fn what_is_read_by_a_program_is_not_painted() {
    let bench = bench("\u{1b}[31mred\u{1b}[0m");
    for verb in [&["tree"][..], &["df"], &["history", "changed:2"], &["images"]] {
        let plain = bench.run(verb);
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        let forced = bench.command().args(verb).env("CLICOLOR_FORCE", "1").output().unwrap();
        let painted = String::from_utf8(forced.stdout).unwrap();
        assert!(painted.contains('\u{1b}'), "{painted:?}");
        assert!(!painted.contains("\u{1b}[31mred"), "an image paints the terminal: {painted:?}");
        let wished = bench.command().args(verb).env("NO_COLOR", "1").output().unwrap();
        // Not compared: a line tells how long ago something was made.
        let wished = String::from_utf8(wished.stdout).unwrap();
        assert!(!wished.contains('\u{1b}') && wished.lines().count() == plain.lines().count(), "{wished:?}");
    }
}

#[test]
fn every_time_in_json_is_rfc_3339_and_every_value_has_a_key() {
    let bench = bench("m");
    let mut times = 0;
    for verb in [
        &["images"][..],
        &["ps"],
        &["layer", "list"],
        &["tree"],
        &["history", "changed:2"],
        &["inspect", "changed:2"],
        &["inspect", "next"],
        &["info"],
    ] {
        let mut left = vec![json(&bench, verb)];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    for (key, value) in fields {
                        if ["created", "updated", "stored", "Created"].contains(&key.as_str()) {
                            times += 1;
                            let time = value.as_str().map(str::parse::<jiff::Timestamp>);
                            assert!(matches!(time, Some(Ok(_))), "{verb:?}: {key}: {value}");
                        }
                        left.push(value);
                    }
                }
                Value::Array(items) => {
                    assert!(!items.iter().any(Value::is_array), "{verb:?}: an array of arrays: {items:?}");
                    left.extend(items);
                }
                _ => {}
            }
        }
    }
    assert!(times > 20, "{times}");
    let info = json(&bench, &["info"]);
    assert_eq!(info["settings"]["sync"]["origin"], "default");
    assert!(info["driver_status"]["Backing Filesystem"].is_string(), "{info}");
}
