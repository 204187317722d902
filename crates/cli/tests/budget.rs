//! What an operation may cost, in system calls for each file or for each thing in the store: a number that no busy
//! machine changes.
//!
//! A budget is what the calls that do the work add up to, with a little room for what is not per file. Whoever
//! needs another call for every file says here why. That holds with `sync = "layer"`, too: one syncfs, no fsync a file.

#![allow(clippy::unwrap_used, reason = "a test fails where a step of it does")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use support::Bench;

/// Files of the tree, and directories that hold them.
const FILES: usize = 2000;
const DIRECTORIES: usize = 20;
/// Calls whose number depends on how threads meet, on the allocator or on the size of data, and those of checks that
/// a release build does not have (`fcntl`, as a descriptor is closed).
const LEFT_OUT: [&str; 10] = [
    "futex",
    "sched_yield",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "brk",
    "restart_syscall",
    "write",
    "fcntl",
];

/// A tree of small files as a tar.
fn tree(bench: &Bench) -> String {
    let root = bench.path("small");
    for directory in 0..DIRECTORIES {
        let path = root.join(directory.to_string());
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..FILES / DIRECTORIES {
            std::fs::write(path.join(file.to_string()), vec![b'x'; 100 + 50 * file]).unwrap();
        }
    }
    let tar = bench.path("small.tar").to_str().unwrap().to_owned();
    pack(&root, &tar);
    tar
}

/// Packs a tree.
fn pack(root: &std::path::Path, tar: &str) {
    let made = Command::new("tar")
        .args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "-C", root.to_str().unwrap(), "-cf", tar, "."])
        .status();
    assert!(made.unwrap().success());
}

/// Runs layerstore and returns how often it made each call, for one file.
fn calls(bench: &Bench, arguments: &[&str]) -> BTreeMap<String, f64> {
    let report = bench.path("strace");
    let program = bench.command();
    let output = Command::new("strace")
        .args(["-f", "-c", "-o", report.to_str().unwrap()])
        .arg(program.get_program())
        .args(arguments)
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(bench.path(""))
        .output()
        .expect("strace is not installed: `tools/setup` does that");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(report).unwrap();
    let counts = report.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (count, name) = (fields.get(3)?.parse::<f64>().ok()?, *fields.last()?);
        let counted = name != "total" && !LEFT_OUT.contains(&name);
        counted.then(|| (name.to_owned(), count / FILES as f64))
    });
    let counts: BTreeMap<_, _> = counts.collect();
    assert!(counts.contains_key("openat"), "strace said something else: {report}");
    counts
}

fn hold(what: &str, calls: &BTreeMap<String, f64>, budget: &[(&str, f64)], rest: f64) {
    for (name, most) in budget {
        let count = calls.get(*name).copied().unwrap_or_default();
        assert!(
            count <= *most,
            "{what}: {count:.2} times {name} for a file, {most} is the budget: {calls:.2?}"
        );
    }
    let others = calls.iter().filter(|(name, _)| !budget.iter().any(|(known, _)| known == name));
    let others: f64 = others.map(|(_, count)| count).sum();
    assert!(others <= rest, "{what}: {others:.2} other calls for a file, {rest} is the budget: {calls:.2?}");
}

#[test]
fn a_small_file_is_imported_with_five_calls() {
    let bench = Bench::new("overlay2");
    let tar = tree(&bench);
    bench.run(&["layer", "create", "small"]);
    let apply = calls(&bench, &["layer", "apply", "small", &tar]);
    let budget = [
        // Create, write, set the time, close; what it takes, which saves a walk when the layer is sealed.
        ("openat", 1.1),
        ("pwrite64", 1.02),
        ("utimensat", 1.05),
        ("close", 1.1),
        ("statx", 1.1),
    ];
    hold("layer apply", &apply, &budget, 0.35);
    let seal = calls(&bench, &["layer", "seal", "small"]);
    // Nothing is measured that was counted.
    hold("layer seal", &seal, &[], 0.35);
}

#[test]
fn large_files_that_will_be_synced_are_sent_to_the_disk_one_by_one() {
    let bench = Bench::new("overlay2");
    tree(&bench);
    for number in 0..FILES / 10 {
        std::fs::write(bench.path(&format!("small/large-{number}")), vec![b'x'; 64 << 10]).unwrap();
    }
    let source = format!("rootfs:{}", bench.path("small").display());
    for (sync, sent) in [("layer", 0.1), ("file", 0.1), ("none", 0.0)] {
        let config = bench.path("storage.conf");
        std::fs::write(&config, format!("[storage]\nsync = \"{sync}\"\n")).unwrap();
        let pull = calls(&bench, &["--config", config.to_str().unwrap(), "pull", &source, sync]);
        let count = pull.get("sync_file_range").copied().unwrap_or_default();
        assert!((count - sent).abs() < 0.01, "{sync}: {count:.2} for a file, {sent} expected: {pull:.2?}");
        bench.run(&["rmi", sync]);
    }
}

/// Linux 6.16 on ext4 or xfs.
fn can_go_past_the_cache(bench: &Bench) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    let stat =
        std::process::Command::new("stat").args(["-f", "-c", "%T"]).arg(bench.path("")).output().unwrap();
    numbers >= vec![6, 16] && ["ext2/ext3", "xfs"].contains(&String::from_utf8(stat.stdout).unwrap().trim())
}

#[test]
fn a_large_file_is_sent_to_the_disk_before_it_is_complete() {
    let bench = Bench::new("overlay2");
    let source = bench.rootfs();
    std::fs::write(bench.path("rootfs/large"), vec![b'x'; 20 << 20]).unwrap();
    let layout = format!("oci:{}:large", bench.path("layout").display());
    bench.run(&["pull", &source, "large"]);
    bench.run(&["push", "large", &layout]);
    bench.run(&["rmi", "large"]);
    let pull = calls(&bench, &["pull", &layout, "again"]);
    let count = FILES as f64 * pull.get("sync_file_range").copied().unwrap_or_default();
    // Past the page cache every part is on its way at once; else after 8 MiB and after 16. And when it is there.
    let uncached = FILES as f64 * pull.get("pwritev2").copied().unwrap_or_default() > 1.5;
    if can_go_past_the_cache(&bench) {
        assert!(uncached, "{pull:.2?}");
    }
    let expected = if uncached { 1.0 } else { 3.0 };
    assert!((count - expected).abs() < 0.01, "{count:.2}: {pull:.2?}");
}

#[rstest::rstest]
#[case::a_small_image_once_for_all(1, 1..=1)]
// A portion is what the machine was seen to write in a moment, 16 MiB at least.
#[case::a_large_image_while_it_is_unpacked(600, 2..=600 / 16 + 1)]
fn an_image_is_synced(#[case] mib: u64, #[case] syncs: std::ops::RangeInclusive<u64>) {
    let bench = Bench::new("overlay2");
    let source = bench.rootfs();
    std::fs::File::create(bench.path("rootfs/large")).unwrap().set_len(mib << 20).unwrap();
    let pull = calls(&bench, &["pull", &source, "large"]);
    let count = (FILES as f64 * pull.get("syncfs").copied().unwrap_or_default()).round();
    assert!(syncs.contains(&(count as u64)), "{count} times: {pull:.2?}");
}

/// Not counted as syncs: when SQLite folds its WAL into the database depends on what was written before.
#[test]
fn a_container_is_removed_in_two_transactions_also_with_the_layers_of_its_removed_image() {
    let bench = Bench::new("overlay2");
    bench.run(&["pull", &bench.rootfs(), "a:1"]);
    for name in ["one", "two"] {
        bench.run(&["create", "--name", name, "a:1"]);
    }
    let remove = |name| {
        let removed =
            bench.command().args(["rm", name]).env("LAYERSTORE_LOG", "layerstore::sql=trace").output();
        let log = String::from_utf8(removed.unwrap().stderr).unwrap();
        ["\"COMMIT\"", "synchronous='FULL'"].map(|words| log.matches(words).count())
    };
    // The one that has to be on disk, and the one that forgets what is gone.
    assert_eq!(remove("one"), [2, 1]);
    bench.run(&["rmi", "-f", "a:1"]);
    assert_eq!(remove("two"), [2, 1]);
    assert_eq!(bench.run(&["layer", "list", "--format", "json"]), "[]", "they went along");
}

/// A list is written in portions, not line by line.
#[rstest::rstest]
#[case::table(&["images"])]
#[case::tree(&["tree"])]
#[case::json(&["images", "--format", "json"])]
fn a_list_is_written_in_portions(#[case] arguments: &[&str]) {
    const NAMES: u64 = 300;
    let bench = Bench::new("vfs");
    bench.run(&["pull", &bench.rootfs(), "a:0"]);
    for number in 1..NAMES {
        bench.run(&["tag", "a:0", &format!("a:{number}")]);
    }
    bench.run(&["create", "a:0"]);
    let report = bench.path("writes");
    let program = bench.command();
    let output = Command::new("strace")
        .args(["-e", "trace=write", "-e", "write=1", "-o", report.to_str().unwrap()])
        .arg(program.get_program())
        .args(arguments)
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    let report = std::fs::read_to_string(report).unwrap();
    let writes = report.lines().filter(|line| line.starts_with("write(1,")).count();
    assert!(output.stdout.ends_with(b"\n") && writes > 0);
    assert!(writes <= 1 + output.stdout.len() / 4096, "{writes} writes for {lines} lines");
}

#[test]
fn a_man_page_is_written_at_once() {
    let bench = Bench::new("vfs");
    let report = bench.path("writes");
    let program = bench.command();
    let written = Command::new("strace")
        .args(["-f", "-e", "trace=write,pwrite64", "-o", report.to_str().unwrap()])
        .args([program.get_program(), "man".as_ref(), "pages".as_ref()])
        .current_dir(bench.path(""))
        .status();
    assert!(written.unwrap().success());
    let pages = std::fs::read_dir(bench.path("pages")).unwrap().count();
    let writes = std::fs::read_to_string(report).unwrap().matches("write").count();
    assert!(pages > 30 && writes <= pages, "{writes} writes for {pages} pages");
}

#[test]
fn a_small_file_is_diffed_with_five_calls() {
    let bench = Bench::new("overlay2");
    let tar = tree(&bench);
    bench.run(&["layer", "create", "small"]);
    bench.run(&["layer", "apply", "small", &tar]);
    let diff = calls(&bench, &["layer", "diff", "small"]);
    let budget = [
        // What it is; open, its attributes, its data, close.
        ("statx", 1.1),
        ("openat", 1.1),
        ("flistxattr", 1.1),
        ("pread64", 1.05),
        ("close", 1.1),
    ];
    hold("layer diff", &diff, &budget, 0.35);
}

#[test]
fn a_deep_tree_is_not_walked_from_the_root_for_each_entry() {
    const DEPTH: usize = 1000;
    let bench = Bench::new("overlay2");
    let root = bench.path("deep");
    std::fs::create_dir_all(root.join("d/".repeat(DEPTH))).unwrap();
    let tar = bench.path("deep.tar").to_str().unwrap().to_owned();
    pack(&root, &tar);
    bench.run(&["layer", "create", "deep"]);
    let mut apply = calls(&bench, &["layer", "apply", "deep", &tar]);
    for count in apply.values_mut() {
        *count *= FILES as f64 / DEPTH as f64;
    }
    // Made and opened. Only so many directories stay open: now and then the way down is gone again, one of a thousand
    // steps for each 256 entries, and once more at the end, when the times are set.
    hold("layer apply", &apply, &[("mkdirat", 1.05), ("openat", 7.0), ("statx", 7.0), ("close", 7.0)], 2.0);
}

/// A store with an empty layer of this name over the tree, and where a tar for it may lie.
fn over_a_tree(name: &str) -> (Bench, String) {
    let bench = Bench::new("overlay2");
    let tar = tree(&bench);
    bench.run(&["layer", "create", "parent"]);
    bench.run(&["layer", "apply", "parent", &tar]);
    bench.run(&["layer", "seal", "parent"]);
    bench.run(&["layer", "create", name, "--parent", "parent"]);
    (bench, tar)
}

#[test]
fn a_small_file_of_a_layer_with_a_parent_is_looked_at_once() {
    let (bench, tar) = over_a_tree("small");
    let other = bench.path("other");
    std::fs::create_dir(&other).unwrap();
    let moved = bench.path("other/top");
    std::fs::rename(bench.path("small"), moved).unwrap();
    pack(&other, &tar);
    bench.run(&["layer", "apply", "small", &tar]);
    let diff = calls(&bench, &["layer", "diff", "small"]);
    // Directories are opened twice: before the walk it has to be known whether one was renamed.
    let budget = [("statx", 1.1), ("openat", 1.13), ("flistxattr", 1.1), ("pread64", 1.05), ("close", 1.1)];
    hold("layer diff of a child", &diff, &budget, 0.35);
}

#[test]
fn one_change_in_a_large_directory_is_found_without_looking_at_the_others() {
    let (bench, tar) = over_a_tree("change");
    let other = bench.path("other");
    std::fs::create_dir_all(other.join("0")).unwrap();
    std::fs::write(other.join("0/0"), "changed").unwrap();
    pack(&other, &tar);
    bench.run(&["layer", "apply", "change", &tar]);
    // What the program does before, whatever the layers hold. The directory has 100 entries.
    let idle = calls(&bench, &["layer", "inspect", "change"]);
    for verb in ["diff", "changes"] {
        let found = calls(&bench, &["layer", verb, "change"]);
        let of = |calls: &BTreeMap<String, f64>| FILES as f64 * calls.values().sum::<f64>();
        assert!(
            of(&found) - of(&idle) < 130.0,
            "{verb}: {} calls, {} before it: {found:.2?}",
            of(&found),
            of(&idle)
        );
    }
}

/// What a verb costs: system calls, and steps of SQLite's machine. `again` makes anew what the verb takes away.
fn cost(bench: &Bench, verb: &str, again: impl Fn()) -> [f64; 2] {
    let arguments: Vec<&str> = verb.split(' ').collect();
    again();
    let calls = calls(bench, &arguments);
    // Where the database's log is folded into it depends on what was written before.
    const PAGES: [&str; 2] = ["pread64", "pwrite64"];
    let calls = calls
        .iter()
        .filter(|(name, _)| !PAGES.contains(&name.as_str()))
        .map(|(_, count)| FILES as f64 * count)
        .sum();
    again();
    let told = bench.command().args(&arguments).env("LAYERSTORE_LOG", "layerstore::sql=trace").output();
    let log = String::from_utf8(told.unwrap().stderr).unwrap();
    // What is told of a statement that was prepared once and ran often is the sum so far.
    let mut statements = BTreeMap::new();
    for line in log.lines() {
        let told = line.split_once("sql=").and_then(|(_, told)| told.split_once("steps="));
        let Some((sql, rest)) = told else { continue };
        let steps: f64 = rest.split(' ').next().unwrap().parse().unwrap();
        let most = statements.entry(sql).or_insert(steps);
        *most = steps.max(*most);
    }
    let steps: f64 = statements.values().sum();
    assert!(steps > 0.0, "{verb} told of no statement: {log}");
    [calls, steps]
}

/// What each verb costs more for every container, image and layer that a store has more.
#[test]
fn a_larger_store_costs_little_more_for_each_thing_in_it() {
    const SIZES: [usize; 2] = [5, 25];
    // A container is measured: locked, its record read, walked, unlocked.
    let measured = 29.0;
    let budgets = [
        ("ps", [measured, 120.0]),
        ("tree", [measured, 180.0]),
        ("df", [measured, 400.0]),
        ("images", [0.5, 60.0]),
        ("layer list", [0.5, 60.0]),
        ("mount", [0.5, 60.0]),
        // Names only, where nothing is to be freed.
        ("gc --dry-run", [1.0, 240.0]),
        ("gc", [1.0, 240.0]),
        ("inspect container-1", [0.5, 1.0]),
        // The last container of a removed image takes the image's layer along.
        ("rm gone", [0.5, 1.0]),
        ("rmi gone", [0.5, 1.0]),
    ];
    let bench = Bench::new("overlay2");
    let source = bench.rootfs();
    let pull = |number: usize, name: &str| {
        std::fs::write(bench.path("rootfs/number"), number.to_string()).unwrap();
        bench.run(&["pull", &source, name]);
    };
    let mut costs = Vec::new();
    let mut there = 0;
    for size in SIZES {
        while there < size {
            pull(there, &format!("image:{there}"));
            bench.run(&["create", "--name", &format!("container-{there}"), &format!("image:{there}")]);
            there += 1;
        }
        costs.push(budgets.map(|(verb, _)| {
            cost(&bench, verb, || {
                if verb.ends_with("gone") {
                    pull(usize::MAX, "gone");
                }
                if verb == "rm gone" {
                    bench.run(&["create", "--name", "gone", "gone"]);
                    bench.run(&["rmi", "-f", "gone"]);
                }
            })
        }));
    }
    let more = (SIZES[1] - SIZES[0]) as f64;
    for ((verb, budget), (few, many)) in budgets.iter().zip(costs[0].iter().zip(&costs[1])) {
        for (what, ((few, many), most)) in ["calls", "steps"].iter().zip(few.iter().zip(many).zip(budget)) {
            let each = (many - few) / more;
            assert!(each <= *most, "{verb}: {each:.2} {what} more for each, {most} is the budget");
        }
    }
}
