//! What leads from one tree to another, in normal form (clauses N1 to N9).

use std::collections::{BTreeMap, BTreeSet};

use super::Change;
use crate::path::Path;
use crate::tree::{Entry, Kind, Tree};

/// How a name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is new.
    Added,
    /// It is in both trees, and differs.
    Modified,
    /// It is gone.
    Deleted,
}

/// What leads from `base` to `now`; from [`Tree::nothing`] that is the whole tree, its root first.
///
/// A hard-link group of `now` is left out only if all its names were in one group of `base`, with the same inode;
/// of several groups that a group of `base` fell apart into without another change, the one with the first name
/// is left out and the others are in the changeset. A name that left a group, or was removed from one, does not
/// bring the others into the changeset.
pub fn diff(base: &Tree, now: &Tree) -> Vec<Change> {
    let unchanged = unchanged_groups(base, now);
    let mut found: BTreeMap<Path, Change> = BTreeMap::new();
    let leaders = now.leaders();
    for (path, inode) in now.iter() {
        let leader = &leaders[path];
        if unchanged.contains(leader) {
            continue;
        }
        let entry = if leader == path { Entry::Inode(inode.clone()) } else { Entry::Link(leader.clone()) };
        found.insert(path.clone(), Change::Put(path.clone(), entry));
    }
    for (path, _) in base.iter() {
        // Gone, and not together with the directory above it, nor because that is no directory any more.
        let gone = now.get(path.clone()).is_none();
        let above_stays = path.parent().is_none_or(|above| now.get(above).is_some_and(|it| it.is_dir()));
        if gone && above_stays {
            found.insert(path.clone(), Change::Remove(path.clone()));
        }
    }
    found.into_values().collect()
}

/// First names of the groups of `now` that have no entry. A single name is a group of its own.
fn unchanged_groups(base: &Tree, now: &Tree) -> BTreeSet<Path> {
    let mut groups: BTreeMap<Path, Vec<Path>> = BTreeMap::new();
    for (path, leader) in now.leaders() {
        groups.entry(leader).or_default().push(path);
    }
    let base_leaders = base.leaders();
    let mut taken = BTreeSet::new();
    let mut unchanged = BTreeSet::new();
    for (leader, names) in groups {
        let Some(origin) = base_leaders.get(&leader) else { continue };
        let together = names.iter().all(|name| base_leaders.get(name) == Some(origin));
        let same = base.get(leader.clone()) == now.get(leader.clone());
        let directory = now.get(leader.clone()).is_some_and(|inode| inode.kind == Kind::Dir);
        if together && same && (directory || taken.insert(origin.clone())) {
            unchanged.insert(leader);
        }
    }
    unchanged
}

/// The names that differ, in order.
pub fn changes(base: &Tree, now: &Tree) -> Vec<(Path, Difference)> {
    let kind = |change: &Change| match change {
        Change::Remove(_) => Difference::Deleted,
        _ if base.get(change.path().clone()).is_some() => Difference::Modified,
        _ => Difference::Added,
    };
    diff(base, now).iter().map(|change| (change.path().clone(), kind(change))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::*;
    use crate::tree;

    #[test]
    fn a_tree_that_is_gone_is_one_remove_and_a_new_kind_one_put() {
        let base = tree! { "a/b/c" => file("x"), "d/e" => file("y"), "f" => file("z") };
        let now = tree! { "d" => file("no directory"), "f/g" => file("z") };
        let expected =
            [remove("a"), put("d", file("no directory")), put("f", dir(0o755)), put("f/g", file("z"))];
        assert_eq!(diff(&base, &now), expected);
        assert_eq!(changes(&base, &now)[2], (Path::new("f"), Difference::Modified));
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        let now = tree! { "a-b" => file(""), "a/b" => file(""), "a.b" => file(""), "" => dir(0o700) };
        let names: Vec<String> = diff(&Tree::new(), &now).iter().map(|c| c.path().to_string()).collect();
        assert_eq!(names, [".", "a", "a/b", "a-b", "a.b"]);
    }

    #[test]
    fn a_link_group_is_there_with_all_its_names_or_with_none() {
        let base = tree! { "a" => file("1"), "b" => link("a"), "c" => file("2"), "z" => link("c") };
        let now = tree! { "a" => file("1"), "b" => link("a"), "0" => link("a"), "c" => file("2") };
        let expected = [put("0", file("1")), put("a", link("0")), put("b", link("0")), remove("z")];
        assert_eq!(diff(&base, &now), expected);
        let apart = tree! { "a" => file("1"), "b" => file("1"), "c" => file("2"), "z" => file("3") };
        assert_eq!(diff(&base, &apart), [put("b", file("1")), put("z", file("3"))]);
    }

    #[test]
    fn against_nothing_it_is_the_whole_tree() {
        let now = tree! { "x" => file("") };
        assert_eq!(diff(&Tree::nothing(), &now), [put("", dir(0o755)), put("x", file(""))]);
    }
}
