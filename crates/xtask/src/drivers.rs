//! `cargo xtask drivers`: the README's table of drivers, from the registry and the pinned capabilities.
//!
//! `--write` puts it between the marks in README.md; `tidy` complains when it is not what is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::tidy::Repository;

/// What to do with the table.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Put it into README.md instead of printing it.
    #[arg(long)]
    write: bool,
}

const FIRST: &str = "<!-- drivers: written by `cargo xtask drivers --write` -->\n";
const LAST: &str = "<!-- end of drivers -->\n";

/// The set-up whose pinned claims stand for a driver in the table.
const SETUP: &str = "ext4";

#[derive(serde::Deserialize)]
struct Pin {
    #[serde(default)]
    claims: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let repository = Repository::here();
    let done = table(&repository.root).and_then(|table| {
        if !arguments.write {
            print!("{table}");
            return Ok(());
        }
        let readme = repository.root.join("README.md");
        let text = std::fs::read_to_string(&readme).map_err(|error| error.to_string())?;
        let (before, _, after) = split(&text).ok_or("README.md has no marks for the table of drivers")?;
        std::fs::write(readme, format!("{before}{FIRST}{table}{LAST}{after}"))
            .map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("drivers: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether README.md has the table of today.
pub(crate) fn check(repository: &Repository) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(repository.root.join("README.md")) else {
        return vec!["README.md: cannot be read".to_owned()];
    };
    let Some((_, held, _)) = split(&text) else {
        return vec!["README.md: the marks of the table of drivers are gone".to_owned()];
    };
    match table(&repository.root) {
        Ok(table) if table == held => Vec::new(),
        Ok(_) => vec!["README.md: the table of drivers is old: cargo xtask drivers --write".to_owned()],
        Err(message) => vec![message],
    }
}

/// What stands before the table, the table, and what stands after it.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(FIRST)?;
    let (table, after) = rest.split_once(LAST)?;
    Some((before, table, after))
}

/// The table: a line a driver, in the order of the registry.
fn table(root: &Path) -> Result<String, String> {
    let mut table =
        "| driver | what it is | options | can, on ext4 as root |\n|---|---|---|---|\n".to_owned();
    for factory in layerstore_builtin::registry().factories() {
        let pins = root.join("drivers").join(factory.name()).join("conformance.toml");
        let text = std::fs::read_to_string(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
        let pins: BTreeMap<String, Pin> =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", pins.display()))?;
        let claims = pins.get(SETUP).map(|pin| pin.claims.join(", ").replace('_', " ")).unwrap_or_default();
        let options: Vec<_> = factory.options().iter().map(|option| format!("`{}`", option.key)).collect();
        let also: Vec<_> = factory.aliases().iter().map(|alias| format!(", also `{alias}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}`{} | {} | {} | {claims} |",
            factory.name(),
            also.concat(),
            factory.description(),
            options.join(", "),
        );
    }
    Ok(table)
}
