//! Random trees, changesets and edits for property tests.
//!
//! Names come from a small pool, so that changes meet; every generated attribute is one that the kernel takes as
//! it is (no ACL that contradicts its mode, no `user.*` on a symlink), so that what is read back has to be equal.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::build::{acl, capability};
use crate::data::Data;
use crate::edit::Edit;
use crate::model::Change;
use crate::noise;
use crate::path::Path;
use crate::tree::{Entry, Inode, Kind, Tree};

/// What random trees may hold.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Character and block devices.
    pub devices: bool,
    /// `trusted.*` and `security.capability`.
    pub privileged_xattrs: bool,
    /// Hard links.
    pub links: bool,
    /// Sockets.
    pub sockets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { devices: true, privileged_xattrs: true, links: true, sockets: true }
    }
}

/// One component.
pub fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::sample::select(vec![
            b"not \xff\xfe utf-8".to_vec(),
            b"new\nline".to_vec(),
            b"back\\slash".to_vec(),
            b" ".to_vec(),
            b"a-b".to_vec(),
            "ä€".as_bytes().to_vec(),
            b"work".to_vec(),
            vec![b'l'; 255],
        ]),
    ]
}

/// A path of up to four components, not the root.
pub fn path() -> impl Strategy<Value = Path> {
    vec(name(), 1..=4).prop_map(|parts| Path::new(parts.join(&b'/')))
}

/// A file's content: often empty or short, sometimes longer than a block, sometimes with holes.
pub fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        1 => Just(Data::default()),
        4 => vec(any::<u8>(), 1..20).prop_map(Data::from),
        1 => (any::<u64>(), 4000..70_000_usize).prop_map(|(seed, length)| Data::from(noise(seed, length))),
        1 => (0..8_u64, 0..100_u64).prop_map(|(at, more)| {
            Data::hole((at << 16) + more + 6).with(at << 16, b"behind")
        }),
    ]
}

/// Seconds and nanoseconds, also before 1970, never near the present.
pub fn time() -> impl Strategy<Value = (i64, u32)> {
    let seconds = prop_oneof![Just(0_i64), Just(-1_i64), -2_000_000_000..1_000_000_000_i64];
    (seconds, prop_oneof![Just(0_u32), Just(999_999_999_u32), 0..1_000_000_000_u32])
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0_u32), 2 => 1..3_u32, 1 => Just(1000_u32), 1 => Just(65_534_u32)]
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![4 => prop::sample::select(vec![0o644_u32, 0o755, 0o600, 0o700]), 1 => 0..0o10000_u32]
}

/// An inode of any kind with any metadata.
pub fn inode(options: Options) -> impl Strategy<Value = Inode> {
    let target = prop_oneof![
        4 => path().prop_map(|path| path.to_bytes()),
        1 => path().prop_map(|path| [b"/".as_slice(), &path.to_bytes()].concat()),
        1 => path().prop_map(|path| [b"../".as_slice(), &path.to_bytes()].concat()),
        1 => Just(b"dangling \xff".to_vec()),
    ];
    let device = (0..300_u32, 1..70_000_u32);
    // A weight of zero is a panic: what is switched off becomes something else.
    let device_or_fifo = move |kind: Kind| if options.devices { kind } else { Kind::Fifo };
    let kind = prop_oneof![
        8 => data().prop_map(Kind::File),
        6 => Just(Kind::Dir),
        3 => target.prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => Just(if options.sockets { Kind::Socket } else { Kind::Fifo }),
        1 => device.clone().prop_map(move |(major, minor)| device_or_fifo(Kind::Char(major, minor))),
        1 => device.prop_map(move |(major, minor)| device_or_fifo(Kind::Block(major, minor))),
    ];
    let extra = prop::sample::select((0..6).collect::<Vec<usize>>());
    let user = btree_map(
        prop::sample::select(vec!["user.a", "user.b.c", "user.\u{e9}"]),
        vec(any::<u8>(), 0..40),
        0..2,
    );
    (kind, mode(), (id(), id()), time(), vec(extra, 0..2), user).prop_map(
        move |(kind, mode, (uid, gid), (seconds, nanos), extras, user)| {
            let holds_data = matches!(kind, Kind::File(_));
            let holds_user = holds_data || kind == Kind::Dir;
            let mut inode = Inode::new(kind).mode(mode).owner(uid, gid).mtime(seconds, nanos);
            for (name, value) in user.iter().filter(|_| holds_user) {
                inode = inode.xattr(name, value);
            }
            for extra in extras {
                inode = match extra {
                    0 if holds_user => inode.xattr("system.posix_acl_access", acl(mode, 1000, 5)),
                    1 if inode.kind == Kind::Dir => inode.xattr("system.posix_acl_default", acl(0o750, 7, 4)),
                    2 if holds_data && options.privileged_xattrs => {
                        inode.xattr("security.capability", capability(0x3000))
                    }
                    3 if options.privileged_xattrs => inode.xattr("trusted.note", "trust"),
                    _ => inode,
                };
            }
            inode
        },
    )
}

/// A tree of up to `size` names, its root put with a time.
pub fn tree(options: Options, size: usize) -> impl Strategy<Value = Tree> {
    let entry = prop_oneof![
        8 => inode(options).prop_map(|inode| (Some(inode), Path::root())),
        1 => path().prop_map(|target| (None, target)),
    ];
    (vec((path(), entry), 0..size), time()).prop_map(move |(entries, (seconds, nanos))| {
        let mut tree = Tree::new();
        for (path, (inode, target)) in entries {
            let free = path.ancestors().all(|above| tree.get(above).is_none_or(Inode::is_dir));
            let linkable = |tree: &Tree| {
                tree.get(target.clone()).is_some_and(|inode| !inode.is_dir()) && !target.starts_with(&path)
            };
            match inode {
                Some(inode) if free => drop(tree.put(path, inode)),
                None if options.links && free && linkable(&tree) => drop(tree.put(path, Entry::Link(target))),
                _ => {}
            }
        }
        if let Some(root) = tree.get_mut("") {
            root.meta.mtime = (seconds, nanos);
        }
        tree
    })
}

/// A changeset in any order: puts, links, whiteouts, opaque marks, one name again and again. It may be one that
/// has to be refused.
pub fn changeset(options: Options, size: usize) -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        8 => (path(), inode(options)).prop_map(|(path, inode)| Change::Put(path, inode.into())),
        1 => (path(), path()).prop_map(move |(path, target)| {
            if options.links { Change::Put(path, Entry::Link(target)) } else { Change::Remove(path) }
        }),
        2 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Opaque),
        1 => (Just(Path::root()), mode(), time()).prop_map(|(root, mode, (seconds, nanos))| {
            Change::Put(root, Inode::new(Kind::Dir).mode(mode).mtime(seconds, nanos).into())
        }),
    ];
    vec(change, 0..size)
}

/// What a program does to a tree. Many of these fail, as they do for programs.
pub fn edits(options: Options, size: usize) -> impl Strategy<Value = Vec<Edit>> {
    let two = || (path(), path());
    let edit = prop_oneof![
        6 => (path(), inode(options)).prop_map(|(path, inode)| Edit::Make(path, inode)),
        4 => (path(), 0..100_u64, vec(any::<u8>(), 1..30))
            .prop_map(|(path, offset, bytes)| Edit::Write(path, offset, bytes)),
        1 => (path(), 0..100_u64).prop_map(|(path, length)| Edit::Truncate(path, length)),
        2 => two().prop_map(move |(old, new)| {
            if options.links { Edit::Link(old, new) } else { Edit::Rename(old, new) }
        }),
        4 => path().prop_map(Edit::Unlink),
        1 => path().prop_map(Edit::RemoveDir),
        2 => path().prop_map(Edit::RemoveTree),
        4 => two().prop_map(|(old, new)| Edit::Rename(old, new)),
        2 => (path(), mode()).prop_map(|(path, mode)| Edit::SetMode(path, mode)),
        2 => (path(), id(), id()).prop_map(|(path, uid, gid)| Edit::SetOwner(path, uid, gid)),
        2 => (path(), time()).prop_map(|(path, (seconds, nanos))| Edit::SetTime(path, seconds, nanos)),
        1 => (path(), vec(any::<u8>(), 0..9))
            .prop_map(|(path, value)| Edit::SetXattr(path, b"user.a".to_vec(), value)),
        1 => path().prop_map(|path| Edit::RemoveXattr(path, b"user.a".to_vec())),
    ];
    vec(edit, 0..size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk, dump, model};

    const NOTHING: Options =
        Options { devices: false, privileged_xattrs: false, links: false, sockets: false };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_switched_off_does_not_occur(
            tree in tree(NOTHING, 30), changes in changeset(NOTHING, 30), edits in edits(NOTHING, 30),
        ) {
            let plain = |inode: &Inode| !matches!(inode.kind, Kind::Char(..) | Kind::Block(..) | Kind::Socket)
                && !inode.meta.xattrs.keys().any(|name| name.starts_with(b"trusted.") || name.starts_with(b"security."));
            prop_assert!(tree.iter().all(|(path, inode)| plain(inode) && tree.group(path.clone()).len() == 1));
            let plain_put = |change: &Change| match change {
                Change::Put(_, Entry::Inode(inode)) => plain(inode),
                Change::Put(_, Entry::Link(_)) => false,
                _ => true,
            };
            prop_assert!(changes.iter().all(plain_put));
            let plain_edit = |edit: &Edit| match edit {
                Edit::Make(_, inode) => plain(inode),
                Edit::Link(..) => false,
                _ => true,
            };
            prop_assert!(edits.iter().all(plain_edit));
        }

        #[test]
        fn any_tree_can_be_written_and_read_back(tree in tree(Options::default(), 30)) {
            let folder = crate::scratch::scratch_dir().unwrap();
            let root = layerstore_sys::Dir::open(folder.path()).unwrap();
            disk::write_tree(&tree, &root).unwrap();
            prop_assert_eq!(dump::differences(&tree, &disk::read_tree(&root).unwrap()), None);
        }

        #[test]
        fn the_difference_of_two_trees_leads_from_one_to_the_other(
            base in tree(Options::default(), 30), changes in changeset(Options::default(), 30),
        ) {
            let Ok(now) = model::apply(&base, &changes) else { return Ok(()) };
            let diff = model::diff(&base, &now);
            prop_assert_eq!(dump::differences(&now, &model::apply(&base, &diff).unwrap()), None);
            let all = model::diff(&Tree::nothing(), &now);
            prop_assert_eq!(dump::differences(&now, &model::apply(&Tree::nothing(), &all).unwrap()), None);
        }
    }
}
