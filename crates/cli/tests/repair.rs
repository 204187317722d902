//! `check` as a person uses it after an accident: exit codes, what is printed, what works again.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use rstest::rstest;
use serde_json::Value;
use support::Bench;

/// The files of this name in the store.
fn find(bench: &Bench, name: &str) -> Vec<String> {
    let output = std::process::Command::new("find")
        .arg(bench.path("root"))
        .args(["-name", name, "-type", "f"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[rstest]
fn damage_is_told_refused_and_restored_from_where_the_image_came(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    let copy = format!("oci:{}:1", bench.path("copy").display());
    bench.run(&["push", "base:1", &copy]);
    bench.run(&["create", "--name", "c", "base:1"]);
    bench.run(&["check"]);
    for file in find(&bench, "motd") {
        std::fs::write(file, "evil, and longer\n").unwrap();
    }
    bench.run(&["check", "--quick"]);
    let report = bench.output(&["check"]);
    assert_eq!(report.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&report.stdout).contains("layer-damaged: "), "{report:?}");
    let refused = bench.fails(1, &["mount", "c"]);
    assert!(refused.contains("is damaged") && refused.contains("hint: pull the image again"), "{refused}");
    assert_eq!(bench.output(&["check", "--repair"]).status.code(), Some(1), "nothing to restore it from");
    assert_eq!(bench.output(&["check", "--from", &copy]).status.code(), Some(2), "--from is for --repair");
    let report: Value =
        serde_json::from_str(&bench.run(&["check", "--format", "json", "--repair", "--from", &copy]))
            .unwrap();
    assert_eq!(report["findings"][0]["repaired"], true, "{report}");
    assert_eq!(report["rebuilt"], Value::Null);
    bench.run(&["check"]);
    let root = bench.run(&["mount", "c"]);
    if driver == "overlay2" {
        assert_eq!(std::fs::read_to_string(format!("{root}/etc/motd")).unwrap(), "welcome\n");
    }
    bench.run(&["unmount", "c"]);
}

#[rstest]
fn a_root_without_the_drivers_record_is_repaired_by_check(#[values("overlay2", "vfs")] driver: &str) {
    let bench = Bench::new(driver);
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    bench.run(&["create", "--name", "c", "base:1"]);
    let record = bench.path("root").join(driver).join("driver.json");
    let sound = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    let refused = bench.fails(1, &["images"]);
    assert!(
        refused.contains("is missing") && refused.contains("hint: `layerstore check --repair`"),
        "{refused}"
    );
    let told = bench.run(&["check", "--repair"]);
    assert!(told.contains(&format!("repaired: driver-root: {driver}: ")), "{told}");
    assert_eq!(std::fs::read(&record).unwrap(), sound);
    assert!(!bench.run(&["check", "--repair"]).contains("driver-root"));
    bench.run(&["mount", "c"]);
    bench.run(&["unmount", "c"]);
}

/// Layers of root outside keep marks that nobody in a user namespace can see: what he would settle there would have
/// them read wrongly.
#[test]
fn the_drivers_record_of_roots_store_is_not_made_again_in_a_user_namespace() {
    let bench = Bench::new("overlay2");
    bench.run(&["pull", &bench.rootfs(), "base:1"]);
    let record = bench.path("root/overlay2/driver.json");
    let sound = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    // As after a boot: what was found out before it is not remembered.
    std::fs::remove_dir_all(bench.path("run")).unwrap();
    let program = bench.command();
    let mut inside = std::process::Command::new("unshare");
    inside.arg("-Urm").arg(bench.program()).args(["check", "--repair"]);
    inside.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = inside.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to root outside of this user namespace"), "{said}");
    assert!(said.contains("hint: repair it as root in the first user namespace"), "{said}");
    assert!(!record.exists());
    bench.run(&["check", "--repair"]);
    assert_eq!(std::fs::read(&record).unwrap(), sound);
}

#[test]
fn a_lost_database_is_made_again_by_check() {
    let bench = Bench::new("overlay2");
    let source = bench.rootfs();
    let id = bench.run(&["pull", &source, "base:1"]);
    bench.run(&["create", "--name", "c", "base:1"]);
    // What a container is; not how long ago it was made, or when its layer's row was written.
    let known = || {
        let inspected: Value = serde_json::from_str(&bench.run(&["inspect", "c"])).unwrap();
        let image: Value = serde_json::from_str(&bench.run(&["inspect", "base:1"])).unwrap();
        let container = &inspected[0];
        let pick = |value: &Value, key: &str| value[key].to_string();
        [
            pick(container, "Id"),
            pick(container, "Image"),
            pick(container, "ImageName"),
            pick(container, "GraphDriver"),
            pick(&image[0], "Id"),
            pick(&image[0], "RootFS"),
        ]
    };
    let before = known();
    for name in ["layerstore.db", "layerstore.db-wal", "layerstore.db-shm"] {
        let _ = std::fs::remove_file(bench.path("root").join(name));
    }
    let refused = bench.fails(1, &["images"]);
    assert!(refused.contains("the database is missing") && refused.contains("check --repair"), "{refused}");
    bench.fails(1, &["check"]);
    let report = bench.run(&["check", "--repair"]);
    assert!(report.starts_with("database: it is missing; made again with 1 images, 1 names"), "{report}");
    assert_eq!(known(), before);
    assert_eq!(known()[4], format!("\"{id}\""));
    assert!(!bench.run(&["check", "--repair"]).contains("database:"), "once");
}
