//! Checks on the text of source files.

use std::path::Path;

use super::Repository;

/// Most lines of a source file, and of a test file, which is mostly tables.
const MOST_LINES: usize = 600;
const MOST_TEST_LINES: usize = 900;

fn is_test(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "cases" | "saboteurs")))
        || path.file_stem().is_some_and(|stem| stem == "tests")
}

/// Every source file says at its top what it does.
pub(super) fn module_docs(repository: &Repository) -> Vec<String> {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for (path, text) in repository.texts(".rs") {
        seen += 1;
        if !text.starts_with("//!") {
            complaints.push(format!("{}:1: open the file with //! and say what it does", path.display()));
        }
    }
    if seen == 0 {
        complaints.push("no source files found".to_owned());
    }
    complaints
}

/// Files stay small enough to hold in the head.
pub(super) fn length(repository: &Repository) -> Vec<String> {
    let too_long = |path: &Path, lines: usize| {
        let most = if is_test(path) { MOST_TEST_LINES } else { MOST_LINES };
        (lines > most).then(|| format!("{}: {lines} lines, at most {most}: split it", path.display()))
    };
    repository.texts(".rs").filter_map(|(path, text)| too_long(path, text.lines().count())).collect()
}

/// A line without its `//` comment and without string literals that would confuse a word search.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Lines of the product's own code, tests left out: path, line number from 1, code.
fn product_lines<'a>(
    repository: &'a Repository,
    folders: &'a [&'a str],
) -> impl Iterator<Item = (String, usize, String)> + 'a {
    repository
        .texts(".rs")
        .filter(move |(path, _)| folders.iter().any(|folder| path.starts_with(folder)) && !is_test(path))
        .flat_map(|(path, text)| {
            let shown = path.display().to_string();
            let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            body.lines()
                .enumerate()
                .map(|(number, line)| (shown.clone(), number + 1, code(line).to_owned()))
                .collect::<Vec<_>>()
        })
}

/// Only `layerstore-sys` holds unsafe code.
pub(super) fn unsafe_only_in_sys(repository: &Repository) -> Vec<String> {
    const ALLOW: &str = concat!("allow(unsafe", "_code");
    repository
        .texts(".rs")
        .filter(|(path, text)| !path.starts_with("crates/sys") && text.contains(ALLOW))
        .map(|(path, _)| format!("{}: unsafe code belongs in crates/sys", path.display()))
        .collect()
}

/// No decision in shared code depends on a driver's name.
pub(super) fn no_driver_names(repository: &Repository) -> Vec<String> {
    const SHARED: &[&str] = &["crates/driver/src", "crates/store/src", "conformance/src"];
    let drivers: Vec<String> = std::fs::read_dir(repository.root.join("drivers"))
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    if drivers.is_empty() {
        return vec!["no drivers found below drivers/".to_owned()];
    }
    // A kind of mount plan and a file system type may be called overlay.
    let named =
        |line: &str| drivers.iter().find(|name| *name != "overlay" && line.contains(&format!("\"{name}\"")));
    product_lines(repository, SHARED)
        .filter_map(|(path, number, line)| {
            named(&line).map(|name| {
                format!("{path}:{number}: the driver name {name:?}: ask Capabilities or the registry instead")
            })
        })
        .collect()
}

/// Only `driver::mount` mounts and unmounts.
pub(super) fn one_place_mounts(repository: &Repository) -> Vec<String> {
    // The conformance suite mounts to see what drivers did; it is no part of the product.
    const PRODUCT: &[&str] = &["crates", "drivers"];
    const CALLS: [&str; 6] =
        ["fsmount(", "fsopen(", "move_mount(", "open_tree(", "umount2(", "mount_setattr("];
    const HOME: [&str; 4] = ["crates/sys", "crates/driver/src/mount", "crates/testkit", "crates/xtask"];
    product_lines(repository, PRODUCT)
        .filter(|(path, _, line)| {
            !HOME.iter().any(|home| path.starts_with(home)) && CALLS.iter().any(|call| line.contains(call))
        })
        .map(|(path, number, _)| format!("{path}:{number}: only crates/driver/src/mount mounts"))
        .collect()
}

/// A test that does not run is no test; a helper process that other tests start says so.
pub(super) fn no_ignored_tests(repository: &Repository) -> Vec<String> {
    const MARK: &str = concat!("#[", "ignore");
    const HELPER: &str = "started by other tests";
    repository
        .texts(".rs")
        .flat_map(|(path, text)| {
            let shown = path.display().to_string();
            text.lines()
                .enumerate()
                .filter(|(_, line)| line.trim_start().starts_with(MARK) && !line.contains(HELPER))
                .map(move |(number, _)| format!("{shown}:{}: run the test or remove it", number + 1))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// No trailing white space, no tabs in Rust, a newline at the end, no path of somebody's machine.
pub(super) fn clean_text(repository: &Repository) -> Vec<String> {
    const PRIVATE: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/."), concat!("/ho", "me/user/")];
    // At the start of a path only: overlay's work directories have the same name.
    let starts = |line: &str, path: &str| {
        let inside = |c: char| c.is_alphanumeric() || "_-.>}#]".contains(c);
        line.match_indices(path).any(|(at, _)| !line[..at].ends_with(inside))
    };
    let mut complaints = Vec::new();
    for ending in [".rs", ".toml", ".md", ".sh", "/run"] {
        for (path, text) in repository.texts(ending) {
            let shown = path.display();
            for (number, line) in text.lines().enumerate() {
                let number = number + 1;
                if line.trim_end() != line {
                    complaints.push(format!("{shown}:{number}: white space at the end of the line"));
                }
                if ending == ".rs" && line.starts_with('\t') {
                    complaints.push(format!("{shown}:{number}: a tab"));
                }
                if let Some(private) = PRIVATE.iter().find(|private| starts(line, private)) {
                    complaints.push(format!("{shown}:{number}: {private} is a path of one machine"));
                }
            }
            if !text.is_empty() && !text.ends_with('\n') {
                complaints.push(format!("{shown}: no newline at the end"));
            }
        }
    }
    complaints
}
