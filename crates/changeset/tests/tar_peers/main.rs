//! Generated archives, read by us and by GNU tar, bsdtar and Python's tarfile: the same entries, and the same tree
//! on disk; and archives of our own, read by all three.
//!
//! Where a reader is known to do otherwise, the comparison leaves exactly that out:
//!
//! | reader | what | here |
//! |---|---|---|
//! | all | a parent that the archive does not have | its time is 0; theirs is the present |
//! | all | know a directory again only by the same spelling (`./a` is not `a`), and then mix both entries | tree not compared |
//! | GNU tar | leaves a directory that comes again the attributes of its first entry | both entries have the same |
//! | GNU tar | loses a directory's time when it makes a missing parent below it | not compared |
//! | GNU tar | sets a directory's time when entries outside of it come, and loses it when others below it follow | not compared |
//! | bsdtar | makes an empty file of a hard link whose parent is missing | tree not compared |
//! | bsdtar | takes ACLs from `SCHILY.acl` alone | not compared |
//! | Python | since its fixes of 2025 takes a directory of the oldest format after an extension header for a file | not compared |
//! | Python | takes GNU's other times for a prefix of the name | not compared |
//! | Python | times are floats; symbolic links get none; no attributes | to the microsecond; not compared |
//! | Python | an entry replaces another: writes into the old file, or fails | tree not compared |
//! | Python | the mode of a hard link's entry goes through the symbolic link that it names | tree not compared |
//! | bsdtar | a directory that is there before its entry comes gets its time at once, not at the end | not compared |
//! | bsdtar | `-1.5` is read as -0.5 | our own time is taken |
//! | bsdtar | a name in a record that is not UTF-8 is an error in a UTF-8 locale | not compared |
//!
//! Usually it is the same 200 archives, because a peer of another version may have another quirk, which is no news
//! about us. `TAR_PEERS_CASES` is a number of archives that are others each time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::panic, clippy::unwrap_used)]

mod archives;
#[path = "../common/mod.rs"]
mod common;
mod readers;
mod spelling;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use archives::{Archive, Member, archive};
use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::tar::{Reader, Writer};
use layerstore_changeset::tree::{self, ApplyOptions, LayerTree, View};
use layerstore_changeset::{Change, Context, Digest, Kind as ChangeKind};
use layerstore_sys::Dir;
use layerstore_testkit::strategy::{self, Options};
use layerstore_testkit::{Kind, Path, Tree, differences, model, read_tree_at, write_tree};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use readers::{Line, Python, PythonEntry};

fn config(share: u32) -> ProptestConfig {
    let wanted: Option<u32> = std::env::var("TAR_PEERS_CASES").ok().and_then(|text| text.parse().ok());
    let (cases, rng_seed) = wanted.map_or((200, RngSeed::Fixed(1)), |cases| (cases, RngSeed::Random));
    ProptestConfig {
        cases: (cases / share).max(1),
        rng_seed,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    }
}

static PYTHON: LazyLock<Mutex<Python>> = LazyLock::new(|| Mutex::new(Python::start()));

/// Folders for the archive and for each reader.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(bytes: &[u8]) -> Self {
        let bench = Self(layerstore_testkit::scratch::scratch_dir().unwrap());
        std::fs::write(bench.path("archive.tar"), bytes).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Applies the archive as a layer by itself.
    fn apply(&self, bytes: &[u8]) -> Result<Tree, String> {
        let path = self.path("ours");
        readers::empty(&path);
        let target = LayerTree { root: Dir::open(&path).unwrap(), encoding: Encoding::Flat };
        let options = ApplyOptions { threads: 2, ..ApplyOptions::default() };
        let mut reader = Reader::new(bytes, options.limits.clone());
        tree::apply(&target, &View::default(), &mut reader, &options, &Context::new())
            .and_then(|_| reader.finish())
            .map_err(|error| format!("ours: {error}"))?;
        Ok(read_tree_at(&path).unwrap())
    }
}

/// What a test says, readable.
#[track_caller]
fn same(who: &str, expected: &Tree, found: &Tree) -> Result<(), TestCaseError> {
    match differences(expected, found) {
        None => Ok(()),
        Some(text) => Err(TestCaseError::fail(format!("{who}: trees differ (- expected, + found):\n{text}"))),
    }
}

/// Takes the times of `from` where `wanted` says so of the path, and theirs.
fn with_times(mut tree: Tree, from: &Tree, wanted: impl Fn(&Path, (i64, u32), (i64, u32)) -> bool) -> Tree {
    let paths: Vec<_> = tree.iter().map(|(path, _)| path.clone()).collect();
    for path in paths {
        let Some(time) = from.get(path.clone()).map(|inode| inode.meta.mtime) else { continue };
        if let Some(inode) = tree.get_mut(path.clone())
            && wanted(&path, time, inode.meta.mtime)
        {
            inode.meta.mtime = time;
        }
    }
    tree
}

/// The tree as Python leaves it.
fn for_python(expected: &Tree) -> Tree {
    let mut tree = expected.clone();
    tree.for_each_mut(|inode| inode.meta.xattrs.clear());
    tree
}

fn close(one: (i64, u32), other: (i64, u32)) -> bool {
    let nanos = |(seconds, nanos): (i64, u32)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    // A float has 53 bits.
    let most = if one.0.abs() < 1 << 33 { 1000 } else { 1_000_000 };
    (nanos(one) - nanos(other)).abs() <= most
}

/// What the archive says of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing.
    Nothing,
    /// One entry, before everything below it, which comes at one stretch.
    First,
    /// An entry, and something else between it and what lies below it.
    Scattered,
    /// Something that came when it was there.
    Later,
}

/// Compares every reader's tree with the expected one.
fn compare_trees(
    bench: &Bench,
    expected: &Tree,
    said: &dyn Fn(&Path) -> Said,
    traits: archives::Traits,
) -> Result<(), TestCaseError> {
    if traits.mixed_spelling {
        return Ok(());
    }
    let archive = bench.path("archive.tar");
    let fail = |reason: String| TestCaseError::fail(reason);
    let implied = |tree: Tree| with_times(tree, expected, |path, _, _| said(path) == Said::Nothing);
    let is_dir = |path: &Path| expected.get(path.clone()).is_some_and(|inode| inode.kind == Kind::Dir);
    let tree = implied(readers::gnu_extract(&archive, &bench.path("gnu")).map_err(fail)?);
    let implied_below = |path: &Path| {
        expected.iter().any(|(below, _)| {
            below != path && below.starts_with(path) && is_dir(below) && said(below) == Said::Nothing
        })
    };
    let tree = with_times(tree, expected, |path, _, _| {
        is_dir(path) && (implied_below(path) || said(path) == Said::Scattered)
    });
    same("GNU tar", expected, &tree)?;
    if !traits.binary_record {
        let tree = implied(readers::bsd_extract(&archive, &bench.path("bsd")).map_err(fail)?);
        let tree = with_times(tree, expected, |path, ours, _| {
            (ours.0 < 0 && ours.1 != 0)
                || (is_dir(path) && matches!(said(path), Said::Later | Said::Scattered))
        });
        let mut expected = expected.clone();
        expected
            .for_each_mut(|inode| inode.meta.xattrs.retain(|name, _| !name.starts_with(b"system.posix_acl")));
        same("bsdtar", &expected, &tree)?;
    }
    if !(traits.replaces || traits.links_a_symlink || traits.gnu_times || traits.extended_old_directory) {
        let mut python = PYTHON.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = implied(python.extract(&archive, &bench.path("python")).map_err(fail)?);
        let is_link = |path: &Path| {
            expected.get(path.clone()).is_some_and(|inode| matches!(inode.kind, Kind::Symlink(_)))
        };
        let tree = with_times(tree, expected, |path, ours, theirs| close(ours, theirs) || is_link(path));
        same("Python", &for_python(expected), &tree)?;
    }
    Ok(())
}

fn trimmed(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    name[..end].to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `rwxr-xr-x` and so on, with a letter for the type.
fn letters(kind: u8, mode: u32) -> String {
    let mut text = String::from(match kind {
        b'1' => 'h',
        b'2' => 'l',
        b'3' => 'c',
        b'4' => 'b',
        b'5' => 'd',
        b'6' => 'p',
        _ => '-',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn gnu_line(member: &Member) -> Line {
    let size = match member.kind {
        b'3' | b'4' => format!("{},{}", member.device.0, member.device.1),
        _ => member.data.len().to_string(),
    };
    Line {
        name: member.name.clone(),
        mode: letters(member.kind, member.mode),
        owner: format!("{}/{}", member.uid, member.gid),
        size,
        // What a hard link names is an entry of the archive, which it shows as it will extract it.
        link: match (member.kind, member.link.strip_prefix(b"/")) {
            (b'1', Some(rest)) => rest.to_vec(),
            _ => member.link.clone(),
        },
    }
}

fn python_entry(member: &Member) -> PythonEntry {
    let is_file = member.kind == b'0';
    PythonEntry {
        name: hex(&trimmed(&member.name)),
        kind: char::from(member.kind).to_string(),
        size: member.data.len() as u64,
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        // Python keeps times as floats.
        seconds: spelling::decimal(member.mtime.0, member.mtime.1).parse::<f64>().unwrap().floor() as i64,
        link: hex(&member.link),
        major: member.device.0,
        minor: member.device.1,
        data: if is_file { Digest::of(&member.data).hex() } else { String::new() },
    }
}

/// Compares our list of entries with what the archive was made of.
fn compare_ours(archive: &Archive) -> Result<(), TestCaseError> {
    let (seen, warnings) =
        common::read(&archive.bytes).map_err(|error| TestCaseError::fail(format!("ours: {error}")))?;
    prop_assert_eq!(warnings, Vec::<String>::new());
    prop_assert_eq!(seen.len(), archive.members.len(), "ours: the number of entries");
    for (seen, member) in seen.iter().zip(&archive.members) {
        let expected = support::to_change(&member.change).unwrap();
        let (Change::Put(ours), Change::Put(wanted)) = (&seen.change, &expected) else {
            return Err(TestCaseError::fail(format!("ours: {:?}", seen.change)));
        };
        prop_assert_eq!((&ours.path, &ours.kind), (&wanted.path, &wanted.kind), "ours");
        prop_assert!(seen.bytes() == member.data, "ours: the data of {}", ours.path);
        let metadata = &ours.metadata;
        prop_assert_eq!((metadata.mode, metadata.uid, metadata.gid), (member.mode, member.uid, member.gid));
        prop_assert_eq!((metadata.mtime.seconds, metadata.mtime.nanos), member.mtime, "ours: {}", ours.path);
        if !matches!(ours.kind, ChangeKind::HardLink { .. }) {
            prop_assert_eq!(&metadata.xattrs, &wanted.metadata.xattrs, "ours: {}", ours.path);
        }
    }
    Ok(())
}

fn compare_lists(bench: &Bench, archive: &Archive) -> Result<(), TestCaseError> {
    let (path, members) = (bench.path("archive.tar"), &archive.members);
    let fail = |reason: String| TestCaseError::fail(reason);
    if !archive.traits.gnu_times && !archive.traits.extended_old_directory {
        let python = PYTHON.lock().unwrap_or_else(PoisonError::into_inner).list(&path).map_err(fail)?;
        prop_assert_eq!(python, members.iter().map(python_entry).collect::<Vec<_>>(), "Python");
    }
    let gnu = readers::gnu_list(&path).map_err(fail)?;
    prop_assert_eq!(gnu, members.iter().map(gnu_line).collect::<Vec<_>>(), "GNU tar");
    if !archive.traits.binary_record {
        let bsd = readers::bsd_list(&path).map_err(fail)?;
        let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
        prop_assert_eq!(bsd, names, "bsdtar");
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(1))]

    #[test]
    fn every_reader_sees_the_same_entries_and_makes_the_same_tree(archive in archive()) {
        let bench = Bench::new(&archive.bytes);
        compare_ours(&archive)?;
        // A store takes no record of a layer that replaces its own files: their data is gone.
        if !archive.traits.replaces {
            common::assert_record_gives_it_back(&archive.bytes);
        }
        compare_lists(&bench, &archive)?;
        let changes: Vec<_> = archive.members.iter().map(|member| member.change.clone()).collect();
        let expected = model::apply(&Tree::new(), &changes).unwrap();
        same("ours", &expected, &bench.apply(&archive.bytes).map_err(TestCaseError::fail)?)?;
        let said = |path: &Path| {
            let below = |change: &&model::Change| change.path().starts_with(path);
            let first = changes.iter().position(|change| below(&change));
            let last = changes.iter().rposition(|change| below(&change));
            let scattered = last.zip(first).map(|(last, first)| last - first + 1)
                != Some(changes.iter().filter(below).count());
            let entries = changes.iter().enumerate().filter(|(_, change)| change.path() == path);
            match entries.map(|(at, _)| at).collect::<Vec<_>>()[..] {
                [] => Said::Nothing,
                [_, ..] if scattered => Said::Scattered,
                [at] if Some(at) == first && !path.is_root() => Said::First,
                _ => Said::Later,
            }
        };
        compare_trees(&bench, &expected, &said, archive.traits)?;
    }
}

/// A tree that is printed as a list.
#[derive(Clone)]
struct Shown(Tree);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&differences(&Tree::nothing(), &self.0).unwrap_or_default())
    }
}

/// Whether a tree has what other readers do in their own way.
fn traits_of(tree: &Tree) -> archives::Traits {
    let mut traits = archives::Traits::default();
    for (path, inode) in tree.iter() {
        traits.links_a_symlink |=
            matches!(inode.kind, Kind::Symlink(_)) && tree.group(path.clone()).len() > 1;
        traits.negative_fraction |= inode.meta.mtime.0 < 0 && inode.meta.mtime.1 != 0;
    }
    traits
}

proptest! {
    #![proptest_config(config(3))]

    #[test]
    fn what_we_write_of_a_tree_makes_the_same_tree_with_every_reader(
        tree in strategy::tree(Options { sockets: false, ..Options::default() }, 25).prop_map(Shown),
    ) {
        let tree = tree.0;
        let scratch = layerstore_testkit::scratch::scratch_dir().unwrap();
        let source = Dir::open(scratch.path()).unwrap();
        write_tree(&tree, &source).unwrap();
        let mut writer = Writer::new(Vec::new());
        tree::diff(&View::default(), &View::flat(source), &mut writer, &Context::new()).unwrap();
        let bytes = writer.finish().unwrap();
        let bench = Bench::new(&bytes);
        same("ours", &tree, &bench.apply(&bytes).map_err(TestCaseError::fail)?)?;
        compare_trees(&bench, &tree, &|path| if path.is_root() { Said::Later } else { Said::First }, traits_of(&tree))?;
    }
}
