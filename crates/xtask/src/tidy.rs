//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md that a program can check.
//!
//! Each check takes the repository and returns its complaints; a complaint names the file, the line where there
//! is one, and what to do. A check that finds nothing to look at complains too, so that a moved folder does not
//! switch it off silently.

mod licences;
mod sources;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What a check looks at.
pub(crate) struct Repository {
    /// Its root.
    pub(crate) root: PathBuf,
    /// Every file that git tracks or would track, relative to the root.
    pub(crate) files: Vec<PathBuf>,
}

impl Repository {
    /// The repository that holds this program's source.
    pub(crate) fn here() -> Self {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
    }

    /// The repository at `root`; outside git every file below it.
    pub(crate) fn at(root: PathBuf) -> Self {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git is installed");
        let files: Vec<PathBuf> = String::from_utf8_lossy(&listed.stdout)
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .filter(|name| root.join(name).is_file())
            .collect();
        Self { root, files }
    }

    /// The tracked files whose name ends so, with their text.
    pub(crate) fn texts<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a Path, String)> + 'a {
        self.files.iter().filter(move |name| name.to_string_lossy().ends_with(ending)).filter_map(|name| {
            let text = std::fs::read_to_string(self.root.join(name)).ok()?;
            Some((name.as_path(), text))
        })
    }
}

type Check = (&'static str, fn(&Repository) -> Vec<String>);

/// Every check, by name.
const CHECKS: &[Check] = &[
    ("module documentation", sources::module_docs),
    ("file length", sources::length),
    ("unsafe code only in sys", sources::unsafe_only_in_sys),
    ("no driver names in shared code", sources::no_driver_names),
    ("one place mounts", sources::one_place_mounts),
    ("no ignored tests", sources::no_ignored_tests),
    ("clean text", sources::clean_text),
    ("dependencies run one way", workspace::edges),
    ("manifests inherit", workspace::manifests),
    ("licences of dependencies", licences::allowed),
    ("the README's table of drivers", crate::drivers::check),
];

/// Runs every check and prints what it found.
pub(crate) fn run() -> ExitCode {
    let repository = Repository::here();
    let mut failed = 0;
    for (name, check) in CHECKS {
        let complaints = check(&repository);
        println!("{} {name}", if complaints.is_empty() { "ok  " } else { "FAIL" });
        for complaint in &complaints {
            println!("     {complaint}");
        }
        failed += usize::from(!complaints.is_empty());
    }
    println!("{} passed, {failed} failed", CHECKS.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let repository = Repository::here();
        for (name, check) in CHECKS {
            assert_eq!(check(&repository), Vec::<String>::new(), "{name}");
        }
    }

    /// Each check finds what it is there for: one file that breaks the rule, and the complaint.
    #[rstest::rstest]
    #[case("crates/a/src/x.rs", "fn f() {}\n", sources::module_docs, "open the file with //!")]
    #[case("crates/a/src/x.rs", &format!("//! x\n{}", "\n".repeat(601)), sources::length, "split it")]
    #[case("crates/a/src/x.rs", concat!("//! x\n#![allow(unsafe", "_code)]\n"), sources::unsafe_only_in_sys, "crates/sys")]
    #[case(
        "crates/store/src/x.rs",
        "//! x\nconst A: &str = \"zfs9\";\n",
        sources::no_driver_names,
        "driver name"
    )]
    #[case(
        "crates/store/src/x.rs",
        "//! x\nfn f() { sys::umount2(1); }\n",
        sources::one_place_mounts,
        "only crates/driver"
    )]
    #[case("crates/a/src/x.rs", concat!("//! x\n#[", "ignore]\nfn f() {}\n"), sources::no_ignored_tests, "run the test")]
    #[case("crates/a/src/x.rs", "//! x \n", sources::clean_text, "white space")]
    #[case("README.md", concat!("see /wo", "rk/x\n"), sources::clean_text, "path of one machine")]
    #[case(
        "drivers/zfs9/Cargo.toml",
        "[package]\nname = \"z\"\n[dependencies]\nlayerstore = \"1\"\n",
        workspace::edges,
        "must not depend"
    )]
    #[case("drivers/zfs9/Cargo.toml", "[package]\nname = \"z\"\n", workspace::manifests, "lints")]
    fn checks_find(
        #[case] path: &str,
        #[case] text: &str,
        #[case] check: fn(&Repository) -> Vec<String>,
        #[case] complaint: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("drivers/zfs9")).unwrap();
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        let repository = Repository { root: folder.path().to_owned(), files: vec![PathBuf::from(path)] };
        let found = check(&repository);
        assert!(found.iter().any(|found| found.contains(complaint)), "{found:?}");
    }
}
