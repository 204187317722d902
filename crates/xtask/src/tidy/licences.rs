//! Checks the licences of all dependencies against the list in `deny.toml`.

use std::process::Command;

use serde::Deserialize;

use super::Repository;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Whether an SPDX expression can be met with the allowed licences.
fn met(expression: &str, allowed: &[String]) -> bool {
    // Lax: some crates still write `MIT/Apache-2.0`.
    let Ok(expression) = spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX) else { return false };
    expression.evaluate(|requirement| allowed.contains(&requirement.to_string()))
}

/// Every dependency can be used under a licence that `deny.toml` allows.
pub(super) fn allowed(repository: &Repository) -> Vec<String> {
    let text = std::fs::read_to_string(repository.root.join("deny.toml")).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let allowed: Vec<String> = table
        .get("licenses")
        .and_then(|section| section.get("allow"))
        .and_then(toml::Value::as_array)
        .map(|list| list.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    if allowed.is_empty() {
        return vec!["deny.toml: [licenses] allow is missing".to_owned()];
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(&repository.root)
        .output()
        .expect("cargo is running");
    let Ok(metadata) = serde_json::from_slice::<Metadata>(&output.stdout) else {
        return vec![format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr))];
    };
    metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(|licence| met(licence, &allowed)))
        .map(|package| format!("{} {}: licence {:?}", package.name, package.version, package.license))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("MIT", true)]
    #[case("MIT OR GPL-3.0", true)]
    #[case("GPL-3.0", false)]
    #[case("MIT AND GPL-3.0", false)]
    #[case("(MIT OR Apache-2.0) AND Unicode-3.0", true)]
    #[case("MIT/Apache-2.0", true)]
    fn expressions(#[case] expression: &str, #[case] expected: bool) {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        assert_eq!(met(expression, &allowed), expected);
    }
}
