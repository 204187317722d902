//! What accepted cases look like: `trees.txt`, written by a run and read by a person.
//!
//! ```text
//! = B18_symlink_parent_through_base
//! - etc/passwd                                  a name of the lower layer that is gone
//! + usr/lib/evil file "x" mode=0644 …           a name that is new, or not as it was
//! ```
//!
//! `{victim}` stands for the directory outside that archives aim at; what lies above it is left out.

use std::collections::BTreeMap;

use crate::dump::describe;
use crate::tree::Tree;

const RECORDED: &str = include_str!("trees.txt");
/// Longest list that is kept whole; of longer ones the number of lines and a hash are.
const MOST: usize = 60;

/// What a case's tree adds to the lower layer's and takes from it; none where nothing is recorded.
pub fn expected(name: &str) -> Option<String> {
    let heading = format!("= {name}\n");
    let start = match RECORDED.starts_with(&heading) {
        true => heading.len(),
        false => RECORDED.find(&format!("\n{heading}"))? + 1 + heading.len(),
    };
    let rest = &RECORDED[start..];
    let end = if rest.starts_with("= ") { 0 } else { rest.find("\n= ").map_or(rest.len(), |at| at + 1) };
    Some(rest[..end].to_owned())
}

/// What `found` adds to `lower` and takes from it.
pub fn delta(lower: &Tree, found: &Tree, victim: &[u8]) -> String {
    let (before, after) = (lines(lower), lines(found));
    let victim = victim.strip_prefix(b"/").unwrap_or(victim).escape_ascii().to_string();
    let mut text = Vec::new();
    for path in before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>() {
        match (before.get(path), after.get(path)) {
            (old, new) if old == new => {}
            (_, None) => text.push(format!("- {path}\n")),
            // A directory on the way to the victim.
            (_, Some(_)) if victim.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')) => {}
            (_, Some(new)) => text.push(format!("+ {path} {new}\n").replace(&victim, "{victim}")),
        }
    }
    if text.len() > MOST {
        let hash = text.concat().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        return format!("+ {} lines, fnv {hash:016x}\n", text.len());
    }
    text.concat()
}

/// A recorded tree as it is where no devices may be made: they are left out.
pub fn without_devices(text: &str) -> String {
    let is_device = |line: &&str| line.contains(" char ") || line.contains(" block ");
    text.split_inclusive('\n').filter(|line| !is_device(line)).collect()
}

fn lines(tree: &Tree) -> BTreeMap<String, String> {
    let leaders = tree.leaders();
    let line = |(path, inode): (&crate::Path, _)| {
        let mut line = describe(inode);
        if let Some(leader) = leaders.get(path).filter(|leader| *leader != path) {
            line.push_str(&format!(" same inode as {leader}"));
        }
        (path.to_string(), shorter(line))
    };
    tree.iter().map(line).collect()
}

/// A line whose middle is left out where it is long.
fn shorter(line: String) -> String {
    if line.len() < 400 {
        return line;
    }
    let hash = line
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{}… {} characters, fnv {hash:016x}", line.chars().take(100).collect::<String>(), line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_tree_is_of_a_case_that_is_accepted() {
        let names: Vec<_> = RECORDED.lines().filter_map(|line| line.strip_prefix("= ")).collect();
        let accepted = |case: &&super::super::Case| case.expected == super::super::Expected::Accepted;
        let wanted: Vec<_> = super::super::all().filter(accepted).map(|case| case.name).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn names_of_cases_are_unique_and_begin_with_their_class() {
        let mut seen = std::collections::BTreeSet::new();
        for case in super::super::all() {
            assert!(seen.insert(case.name), "{} is there twice", case.name);
            assert!(('A'..='H').contains(&case.class()), "{}", case.name);
        }
    }
}
