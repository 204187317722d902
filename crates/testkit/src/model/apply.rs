//! What a view is after a changeset.
//!
//! ```text
//! view so far = low (what is left of the lower view) merged with top (what this changeset put)
//! Remove, Opaque  take from low only, whenever they come
//! Put             goes into top; what it replaces leaves low and top
//! ```

use std::collections::BTreeMap;

use super::Change;
use crate::path::Path;
use crate::tree::{Entry, Inode, Kind, Tree};

/// Why a changeset is refused: the stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// Most symlinks on the way to one entry, as in the kernel (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Applies a changeset to a view (clauses A1 to A20).
///
/// # Errors
/// The code of the first change that is refused.
pub fn apply(lower: &Tree, changes: &[Change]) -> Result<Tree, Refused> {
    let mut state = State::new(lower);
    for change in changes {
        state.apply(change)?;
    }
    Ok(state.view())
}

/// The changes that are not refused, each after those before it.
pub fn accepted(lower: &Tree, changes: &[Change]) -> Vec<Change> {
    let mut state = State::new(lower);
    changes.iter().filter(|change| state.apply(change).is_ok()).cloned().collect()
}

/// Where a name of a changeset lies in a view: its parents' symlinks followed, the last component not.
///
/// # Errors
/// As [`apply`].
pub fn resolve_name(view: &Tree, path: &Path) -> Result<Path, Refused> {
    State::new(view).place(path)
}

struct State {
    /// Every inode of either map, by number.
    inodes: Vec<Inode>,
    /// What is left of the lower view.
    low: BTreeMap<Path, usize>,
    /// What this changeset put.
    top: BTreeMap<Path, usize>,
}

/// What the view so far has at a name.
enum Seen {
    /// An inode.
    Inode(usize),
    /// A directory that nobody put: something below it was.
    Implied,
}

impl State {
    fn new(lower: &Tree) -> Self {
        let (mut inodes, mut low, mut numbers) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (path, inode) in lower.iter() {
            let number = *numbers.entry(lower.id(path.clone())).or_insert_with(|| {
                inodes.push(inode.clone());
                inodes.len() - 1
            });
            low.insert(path.clone(), number);
        }
        Self { inodes, low, top: BTreeMap::new() }
    }

    fn seen(&self, path: &Path) -> Option<Seen> {
        if let Some(number) = self.top.get(path).or_else(|| self.low.get(path)) {
            return Some(Seen::Inode(*number));
        }
        let below = self.top.range(path.clone()..).next();
        below.filter(|(name, _)| name.starts_with(path)).map(|_| Seen::Implied)
    }

    fn kind(&self, path: &Path) -> Option<&Kind> {
        match self.seen(path)? {
            Seen::Inode(number) => Some(&self.inodes[number].kind),
            Seen::Implied => Some(&Kind::Dir),
        }
    }

    /// The view so far.
    fn view(&self) -> Tree {
        let mut names: BTreeMap<Path, Option<usize>> = BTreeMap::new();
        names.extend(self.low.iter().map(|(path, number)| (path.clone(), Some(*number))));
        for path in self.top.keys() {
            for above in path.ancestors() {
                names.entry(above).or_insert(None);
            }
        }
        names.extend(self.top.iter().map(|(path, number)| (path.clone(), Some(*number))));
        let (mut view, mut first) = (Tree::nothing(), BTreeMap::new());
        for (path, number) in names {
            match number {
                None => view.put(path, Inode::new(Kind::Dir)),
                Some(number) => match first.get(&number) {
                    Some(leader) => view.put(path, Entry::Link(Path::clone(leader))),
                    None => {
                        first.insert(number, path.clone());
                        view.put(path, self.inodes[number].clone())
                    }
                },
            };
        }
        view
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::Remove(path) => {
                if let Some(place) = self.hidden_place(path)? {
                    self.low.retain(|name, _| !name.starts_with(&place));
                }
            }
            Change::Opaque(path) => {
                // The mark is an entry in the directory: symlinks lead there, the last one too.
                if let Some(inside) = self.hidden_place(&path.join(b"mark"))?
                    && let Some(place) = inside.parent()
                {
                    self.low.retain(|name, _| *name == place || !name.starts_with(&place));
                }
            }
            Change::Put(path, Entry::Inode(inode)) => self.put(path, inode)?,
            Change::Put(path, Entry::Link(target)) => self.link(path, target)?,
        }
        Ok(())
    }

    /// Where a name is hidden; none when it cannot be there, because something above it is not a directory.
    fn hidden_place(&self, path: &Path) -> Result<Option<Path>, Refused> {
        match self.place(path) {
            Err(Refused("NOT_DIR")) => Ok(None),
            place => place.map(Some),
        }
    }

    fn put(&mut self, path: &Path, inode: &Inode) -> Result<(), Refused> {
        if path.is_root() && !inode.is_dir() {
            return Err(Refused("ROOT_TYPE_CHANGE"));
        }
        if inode.kind == Kind::Char(0, 0) {
            // Overlay file systems read it as a whiteout: no driver can show one, so every driver skips it.
            return Ok(());
        }
        let place = self.place(path)?;
        if !(inode.is_dir() && self.kind(&place) == Some(&Kind::Dir)) {
            self.clear(&place);
        }
        let mut inode = inode.clone();
        inode.meta.xattrs.retain(|name, _| !is_reserved(name));
        self.inodes.push(inode);
        self.top.insert(place, self.inodes.len() - 1);
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), Refused> {
        if path.is_root() {
            return Err(Refused("ROOT_TYPE_CHANGE"));
        }
        let place = self.place(path)?;
        let target = match self.hidden_place(target) {
            Err(Refused("SYMLINK_ESCAPE")) => return Err(Refused("LINK_ESCAPE")),
            target => target?.ok_or(Refused("LINK_TARGET_MISSING"))?,
        };
        if place == target {
            return Err(Refused("LINK_SELF"));
        }
        match (self.seen(&target), self.kind(&target)) {
            (_, Some(Kind::Dir)) => Err(Refused("LINK_TO_DIR")),
            (Some(Seen::Inode(number)), _) => {
                self.clear(&place);
                self.top.insert(place, number);
                Ok(())
            }
            _ => Err(Refused("LINK_TARGET_MISSING")),
        }
    }

    /// Takes a name with everything below it out of the view.
    fn clear(&mut self, place: &Path) {
        self.low.retain(|name, _| !name.starts_with(place));
        self.top.retain(|name, _| !name.starts_with(place));
    }

    /// Follows the symlinks of every component but the last, inside the root.
    fn place(&self, path: &Path) -> Result<Path, Refused> {
        let Some((name, above)) = path.components().split_last() else { return Ok(Path::root()) };
        let mut place = Path::root();
        let mut followed = 0;
        let mut todo: Vec<Vec<u8>> = above.iter().rev().cloned().collect();
        while let Some(part) = todo.pop() {
            if part.is_empty() || part == b"." {
                continue;
            }
            if part == b".." {
                place = place.parent().ok_or(Refused("SYMLINK_ESCAPE"))?;
                continue;
            }
            let next = place.join(&part);
            match self.kind(&next) {
                None | Some(Kind::Dir) => place = next,
                Some(Kind::Symlink(target)) => {
                    followed += 1;
                    if followed > MOST_LINKS {
                        return Err(Refused("ELOOP"));
                    }
                    if target.starts_with(b"/") {
                        place = Path::root();
                    }
                    todo.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(_) => return Err(Refused("NOT_DIR")),
            }
        }
        Ok(place.join(name))
    }
}

/// Whether an xattr is a driver's or the host's (reference: README, A20; `encoding::xattr`).
pub fn is_reserved(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    ["trusted.overlay.", "user.overlay.", "user.containers.", "user.fuseoverlayfs."]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        || ["user.rootlesscontainers", "security.selinux", "security.ima", "security.evm", "system.nfs4_acl"]
            .contains(&&*text)
        || ["trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"].contains(&&*text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::*;
    use crate::{assert_same, tree};

    #[track_caller]
    fn check(lower: &Tree, changes: &[Change], expected: &Tree) {
        assert_same(expected, &apply(lower, changes).unwrap());
    }

    #[test]
    fn whiteouts_hide_lower_layers_only_in_either_order() {
        let lower = tree! { "etc" => dir(0o700).owner(1, 1), "etc/old" => file("old"), "f" => file("old") };
        let expected = tree! { "etc/new" => file("new"), "f" => file("new") };
        let puts = [put("etc/new", file("new")), put("f", file("new"))];
        let removes = [remove("etc"), remove("f"), remove("nothing"), remove("f/below")];
        check(&lower, &[puts.clone(), [removes[0].clone(), removes[1].clone()]].concat(), &expected);
        check(&lower, &[&removes[..], &puts[..]].concat(), &expected);
        let kept = tree! { "etc" => dir(0o700).owner(1, 1), "etc/new" => file("new"), "f" => file("old") };
        check(&lower, &[opaque("etc"), puts[0].clone()], &kept);
        check(&lower, &[puts[0].clone(), opaque("etc")], &kept);
    }

    #[test]
    fn the_last_entry_of_a_name_wins() {
        let lower = tree! { "d/old" => file("old"), "f" => file("old") };
        check(
            &lower,
            &[put("d", file("1")), put("d", dir(0o700))],
            &tree! { "f" => file("old"), "d" => dir(0o700) },
        );
        let expected = tree! { "d" => dir(0o711), "d/old" => file("old"), "f" => dir(0o700) };
        check(&lower, &[put("d", dir(0o711)), put("f", dir(0o700))], &expected);
    }

    #[test]
    fn parents_are_followed_inside_the_root() {
        let lower = tree! {
            "usr/lib" => dir(0o700), "lib" => symlink("usr/lib"), "abs" => symlink("/usr"), "up" => symlink("usr/../.."),
            "loop" => symlink("loop"), "file" => file(""),
        };
        let mut expected = lower.clone();
        expected.put("usr/lib/x", file("x")).put("usr/y", link("usr/lib/x"));
        check(&lower, &[put("lib/x", file("x")), put("abs/y", link("lib/x"))], &expected);
        for (name, code) in [("up/x", "SYMLINK_ESCAPE"), ("loop/x", "ELOOP"), ("file/x", "NOT_DIR")] {
            assert_eq!(apply(&lower, &[put(name, file(""))]), Err(Refused(code)), "{name}");
        }
    }

    #[test]
    fn a_link_joins_the_group_of_its_target() {
        let lower = tree! { "a" => file("1"), "b" => link("a"), "s" => symlink("a") };
        let expected = tree! { "b" => file("1"), "c" => link("b"), "s" => symlink("a"), "t" => link("s") };
        check(&lower, &[put("c", link("a")), remove("a"), put("t", link("s"))], &expected);
        let refused = |change| apply(&lower, &[put("d", dir(0o755)), change]).unwrap_err().0;
        assert_eq!(refused(put("x", link("nothing"))), "LINK_TARGET_MISSING");
        assert_eq!(refused(put("x", link("d"))), "LINK_TO_DIR");
        assert_eq!(refused(put("a", link("a"))), "LINK_SELF");
        assert_eq!(refused(put("", symlink("a"))), "ROOT_TYPE_CHANGE");
    }
}
