//! Checks on the manifests: which crate may know which, and what every manifest inherits.

use std::collections::BTreeMap;
use std::path::Path;

use super::Repository;

/// Who may depend on whom, dev-dependencies left out: the picture of ARCHITECTURE.md as data.
const ALLOWED: &[(&str, &[&str])] = &[
    ("layerstore-sys", &[]),
    ("layerstore-changeset", &["layerstore-sys"]),
    ("layerstore-driver", &["layerstore-sys", "layerstore-changeset"]),
    ("layerstore-image", &["layerstore-sys", "layerstore-changeset"]),
    ("layerstore", &["layerstore-sys", "layerstore-changeset", "layerstore-driver", "layerstore-image"]),
    ("layerstore-testkit", &["layerstore-sys"]),
    (
        "layerstore-fuzz",
        &["layerstore-changeset", "layerstore-image", "layerstore-sys", "layerstore-testkit"],
    ),
    (
        "layerstore-conformance",
        &["layerstore-sys", "layerstore-changeset", "layerstore-driver", "layerstore-testkit"],
    ),
    (
        "layerstore-cli",
        &[
            "layerstore",
            "layerstore-builtin",
            "layerstore-changeset",
            "layerstore-conformance",
            "layerstore-driver",
            "layerstore-image",
            "layerstore-sys",
        ],
    ),
    (
        "layerstore-xtask",
        &[
            "layerstore",
            "layerstore-builtin",
            "layerstore-changeset",
            "layerstore-conformance",
            "layerstore-driver",
            "layerstore-image",
            "layerstore-sys",
            "layerstore-testkit",
        ],
    ),
];

/// What a driver may depend on.
const DRIVER: &[&str] = &["layerstore-sys", "layerstore-changeset", "layerstore-driver"];

struct Manifest {
    name: String,
    folder: String,
    table: toml::Table,
}

fn manifests_of(repository: &Repository) -> Vec<Manifest> {
    repository
        .texts("/Cargo.toml")
        // Programs that measure other projects are crates of their own, outside of the workspace.
        .filter(|(path, _)| !path.starts_with("crates/xtask/peers"))
        .filter(|(path, _)| !path.starts_with("conformance/examples") && !path.starts_with("fuzz"))
        .filter_map(|(path, text)| {
            let table: toml::Table = text.parse().ok()?;
            let name = table.get("package")?.get("name")?.as_str()?.to_owned();
            let folder = path.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
            Some(Manifest { name, folder, table })
        })
        .collect()
}

fn own_dependencies(table: &toml::Table) -> Vec<String> {
    let own = |name: &&String| *name == "layerstore" || name.starts_with("layerstore-");
    table
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .map(|dependencies| dependencies.keys().filter(own).cloned().collect())
        .unwrap_or_default()
}

/// Dependencies between our crates run one way only.
pub(super) fn edges(repository: &Repository) -> Vec<String> {
    let known: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let manifests = manifests_of(repository);
    let mut complaints = Vec::new();
    if manifests.len() < ALLOWED.len() {
        complaints.push(format!("only {} manifests found", manifests.len()));
    }
    for Manifest { name, folder, table } in &manifests {
        // `builtin` is the one list of drivers, so it knows them all.
        let drivers_list = name == "layerstore-builtin";
        let allowed =
            if folder.starts_with("drivers/") { Some(DRIVER) } else { known.get(name.as_str()).copied() };
        for dependency in own_dependencies(table) {
            let is_driver =
                manifests.iter().any(|m| m.name == dependency && m.folder.starts_with("drivers/"));
            let fine = match allowed {
                Some(allowed) => allowed.contains(&dependency.as_str()),
                None => drivers_list && (is_driver || dependency == "layerstore-driver"),
            };
            if !fine {
                complaints.push(format!("{folder}/Cargo.toml: {name} must not depend on {dependency}"));
            }
        }
    }
    complaints
}

/// Every member inherits version, edition, licence and lints, and says what it is.
pub(super) fn manifests(repository: &Repository) -> Vec<String> {
    const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "repository"];
    let mut complaints = Vec::new();
    for Manifest { folder, table, .. } in manifests_of(repository) {
        let inherits = |section: &str, key: Option<&str>| {
            let section = table.get(section);
            let value = match key {
                Some(key) => section.and_then(|section| section.get(key)),
                None => section,
            };
            value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        for key in INHERITED {
            if !inherits("package", Some(key)) {
                complaints.push(format!("{folder}/Cargo.toml: write {key}.workspace = true"));
            }
        }
        if !inherits("lints", None) {
            complaints.push(format!("{folder}/Cargo.toml: write [lints] workspace = true"));
        }
        if table.get("package").and_then(|package| package.get("description")).is_none() {
            complaints.push(format!("{folder}/Cargo.toml: say in `description` what the crate is"));
        }
        if !Path::new(&repository.root).join(&folder).join("src").is_dir() {
            complaints.push(format!("{folder}: no src folder"));
        }
    }
    complaints
}
