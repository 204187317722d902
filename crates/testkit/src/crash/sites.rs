//! The fail points there are: every place of `crates/sys/src` that makes a call through `error::call`.
//!
//! Read from the sources, so that a new call is a new site without anybody having to list it.

use std::path::Path;

/// A place in the source that makes a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, below `crates/sys/src`.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The function around it.
    pub function: String,
}

/// Every site, by file and line.
///
/// # Errors
/// When the sources are not there.
pub fn all() -> std::io::Result<Vec<Place>> {
    let mut found = Vec::new();
    scan(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../sys/src"), "", &mut found)?;
    found.sort();
    Ok(found)
}

fn scan(folder: &Path, prefix: &str, found: &mut Vec<Place>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            scan(&entry.path(), &format!("{name}/"), found)?;
        } else if name.ends_with(".rs") && !["fault.rs", "supervise.rs"].contains(&name.as_str()) {
            places(&name, &std::fs::read_to_string(entry.path())?, found);
        }
    }
    Ok(())
}

fn places(file: &str, text: &str, found: &mut Vec<Place>) {
    let mut function = String::new();
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    for (number, line) in body.lines().enumerate() {
        if let Some((_, rest)) = line.split_once("fn ").filter(|(before, _)| !before.contains("//")) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            function = rest[..end].to_owned();
        }
        let code = line.split("//").next().unwrap_or_default();
        let calls = code.match_indices("call(").filter(|(at, _)| {
            let before = code[..*at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && !"_.:".contains(c)) && !code[..*at].ends_with("fn ")
        });
        found.extend(calls.map(|_| Place {
            file: file.to_owned(),
            line: number as u32 + 1,
            function: function.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_with_their_functions_and_others_are_not() {
        let text = "pub(crate) fn call<T>(\nfn open_dir() {\n  let a = call(\"openat\", x);\n  // call(\n  self.recall(1);\n}\n";
        let mut found = Vec::new();
        places("dir.rs", text, &mut found);
        assert_eq!(found, [Place { file: "dir.rs".to_owned(), line: 3, function: "open_dir".to_owned() }]);
        assert!(all().unwrap().len() > 60);
    }
}
