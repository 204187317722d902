//! Names of images as scripts see them: taken away, moved to another image, and with a digest.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use serde_json::Value;
use support::Bench;

#[test]
fn rmi_by_force_takes_what_is_gone_already_for_no_failure() {
    let bench = Bench::new("vfs");
    let source = bench.rootfs();
    bench.run(&["pull", &source, "a:1"]);
    bench.run(&["tag", "a:1", "b:1"]);
    let missing = "layerstore: rmi: nope: No such image: nope:latest";
    assert!(bench.fails(1, &["rmi", "nope"]).starts_with(missing));
    assert!(bench.fails(0, &["rmi", "-f", "nope"]).starts_with(missing));
    assert!(bench.fails(1, &["rmi", "nope", "b:1"]).starts_with(missing));
    let some = bench.output(&["rmi", "-f", "nope", "a:1", "gone:2"]);
    assert!(some.status.success());
    assert!(String::from_utf8_lossy(&some.stdout).starts_with("Untagged: a:1\nDeleted: sha256:"), "{some:?}");
    assert_eq!(String::from_utf8_lossy(&some.stderr).matches("No such image: ").count(), 2, "{some:?}");
    // Another error is one, also beside those that are not there.
    let id = bench.run(&["pull", &source, "a:1"]);
    bench.run(&["create", "--name", "c", "a:1"]);
    bench.run(&["mount", "c"]);
    let running = bench.fails(1, &["rmi", "-f", "nope", &id]);
    assert!(running.starts_with(missing) && running.contains("by running container"), "{running}");
    assert_eq!(bench.fails(2, &["--driver", "nope", "rmi", "-f", "a:1"]).matches("nope").count(), 1);
}

#[rstest::rstest]
#[case(&["push", "nope", "oci:x"])]
#[case(&["inspect", "nope"])]
#[case(&["history", "nope"])]
#[case(&["tree", "nope"])]
#[case(&["tag", "nope", "a:1"])]
#[case(&["untag", "nope"])]
#[case(&["rmi", "nope"])]
#[case(&["create", "nope"])]
#[case(&["mount", "nope"])]
#[case(&["unmount", "nope"])]
#[case(&["diff", "nope"])]
#[case(&["commit", "nope"])]
#[case(&["export", "nope"])]
#[case(&["export", "nope", "-o", "file"])]
#[case(&["rm", "nope"])]
#[case(&["layer apply", "nope", "/dev/null"])]
#[case(&["layer seal", "nope"])]
#[case(&["layer diff", "nope"])]
#[case(&["layer changes", "nope"])]
#[case(&["layer mount", "nope"])]
#[case(&["layer unmount", "nope"])]
#[case(&["layer plan", "nope"])]
#[case(&["layer remove", "nope"])]
#[case(&["layer inspect", "nope"])]
fn what_is_not_there_is_told_with_the_verb_that_was_typed(#[case] typed: &[&str]) {
    let bench = Bench::new("vfs");
    let words: Vec<&str> = typed.iter().flat_map(|word| word.split(' ')).collect();
    let told = bench.fails(1, &words);
    assert!(told.starts_with(&format!("layerstore: {}: nope: ", typed[0])), "{told}");
    assert!(told.to_lowercase().contains("no such") || told.contains("no image"), "{told}");
    assert!(!bench.path("file").exists());
}

#[test]
fn a_layer_is_found_by_every_id_that_a_table_shows() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    bench.run(&["create", "--name", "c", "a:1"]);
    let root = bench.run(&["mount", "c"]);
    std::fs::write(std::path::Path::new(&root).join("new"), "new").unwrap();
    bench.run(&["commit", "c", "a:2"]);
    let layers: Value = serde_json::from_str(&bench.run(&["layer", "list", "--format", "json"])).unwrap();
    let tables = [&["tree"][..], &["history", "a:2"], &["layer", "list"]].map(|verb| bench.run(verb));
    // Each layer by its chain ID in the first table, its diff ID in the second, and its own ID in the third.
    for (table, count) in tables.iter().zip([3, 2, 3]) {
        let ids: Vec<&str> = table
            .split([' ', '\n', '─'])
            .filter(|word| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .collect();
        let found = ids.iter().filter_map(|id| {
            let output = bench.output(&["layer", "inspect", id]);
            let told: Value = serde_json::from_slice(&output.stdout).ok()?;
            Some(told["layer"]["id"].as_str()?.to_owned())
        });
        let found: std::collections::BTreeSet<_> = found.collect();
        assert_eq!(found.len(), count, "{found:?} of {table}");
        assert!(found.iter().all(|id| layers.as_array().unwrap().iter().any(|layer| layer["id"] == **id)));
    }
    // Too wide for a terminal, and nothing that a prefix does not say; an ID of a person's own stays whole.
    assert!(tables[2].lines().all(|line| line.chars().count() < 90), "{}", tables[2]);
    bench.run(&["layer", "create", "a-name-of-more-than-twelve"]);
    assert!(bench.run(&["layer", "list"]).contains("a-name-of-more-than-twelve"));
    assert!(bench.run(&["info"]).contains("driver_priority = none (default)"));
}

#[test]
fn a_container_is_listed_with_the_name_of_its_image_while_it_has_that_name() {
    let bench = Bench::new("vfs");
    let source = bench.rootfs();
    let old = bench.run(&["pull", &source, "m:1"]);
    bench.run(&["create", "--name", "c", "m:1"]);
    bench.run(&["create", "--name", "by-id", &old]);
    let listed = |name: &str| {
        let all: Value = serde_json::from_str(&bench.run(&["ps", "--format", "json"])).unwrap();
        let json = all.as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap();
        let inspected: Value = serde_json::from_str(&bench.run(&["inspect", name])).unwrap();
        assert_eq!(inspected[0]["ImageName"], json["image_name"]);
        assert!(json["image"] == old.as_str() && inspected[0]["Image"] == old.as_str(), "{json}");
        let text = bench.run(&["ps"]);
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap();
        (line.split_whitespace().nth(2).unwrap().to_owned(), json["image_name"].clone())
    };
    let by_id = (old["sha256:".len()..][..12].to_owned(), Value::Null);
    assert_eq!(listed("c"), ("m:1".to_owned(), "m:1".into()));
    assert_eq!(listed("by-id"), by_id);
    // Another image takes the name, and gives it back.
    std::fs::write(bench.path("rootfs/new"), "new").unwrap();
    bench.run(&["pull", &source, "m:1"]);
    assert_eq!(listed("c"), by_id);
    bench.run(&["tag", &old, "m:1"]);
    assert_eq!(listed("c"), ("m:1".to_owned(), "m:1".into()));
    bench.run(&["rmi", "-f", "m:1"]);
    assert_eq!(listed("c"), by_id);
}

#[test]
fn a_digest_that_is_not_the_image_s_names_nothing() {
    let bench = Bench::new("vfs");
    let (layout, wrong) = (format!("oci:{}:v1", bench.path("d").display()), "0".repeat(64));
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    let manifest = bench.run(&["push", "a:1", &layout]);
    let refused = bench.fails(1, &["pull", &layout, &format!("evil@sha256:{wrong}")]);
    assert!(refused.contains(&wrong) && refused.contains(&manifest), "{refused}");
    let refused = bench.fails(1, &["tag", "a:1", &format!("evil2@sha256:{wrong}")]);
    assert!(refused.contains("refusing to create a tag with a digest reference"), "{refused}");
    bench.run(&["pull", &layout, &format!("good@{manifest}")]);
    let images = bench.run(&["images"]);
    assert!(images.contains("good") && !images.contains("evil"), "{images}");
}

#[test]
fn an_image_with_children_is_untagged_as_docker_does() {
    let bench = Bench::new("vfs");
    let id = bench.run(&["pull", &bench.rootfs(), "p:1"]);
    bench.run(&["create", "--name", "c", "p:1"]);
    bench.run(&["commit", "c", "child:1"]);
    bench.run(&["rm", "c"]);
    let refused = bench.fails(1, &["rmi", "-f", &id]);
    assert!(refused.contains("image has dependent child images"), "{refused}");
    assert_eq!(bench.run(&["rmi", "p:1"]), "Untagged: p:1");
}

#[test]
fn a_list_of_containers_does_not_fail_because_of_one_of_them() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    bench.run(&["create", "--name", "sound", "a:1"]);
    let damaged = bench.run(&["create", "--name", "damaged", "a:1"]);
    let inspected: Value = serde_json::from_str(&bench.run(&["inspect", "damaged"])).unwrap();
    let layer = inspected[0]["GraphDriver"]["Data"]["Dir"].as_str().unwrap_or_default().to_owned();
    assert!(!layer.is_empty(), "{inspected}");
    std::fs::remove_dir_all(&layer).unwrap();
    let output = bench.output(&["ps", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && listed.as_array().unwrap().len() == 2, "{output:?}");
    for one in listed.as_array().unwrap() {
        assert_eq!(one["size"].is_null(), one["id"] == damaged.as_str(), "{one}");
    }
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("layerstore: warning: measure "),
        "{output:?}"
    );
}

#[test]
fn containers_are_listed_while_others_remove_them() {
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    let names: Vec<_> = (0..80).map(|number| format!("c{number}")).collect();
    for name in &names {
        bench.run(&["create", "--name", name, "a:1"]);
    }
    let mut removal =
        bench.command().arg("rm").args(&names).stdout(std::process::Stdio::null()).spawn().unwrap();
    while removal.try_wait().unwrap().is_none() {
        bench.run(&["ps"]);
    }
    assert_eq!(bench.run(&["ps", "--format", "json"]), "[]");
}
