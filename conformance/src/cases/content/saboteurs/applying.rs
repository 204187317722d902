//! Saboteurs of applying (A).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use layerstore_changeset::{Change, Kind};
use layerstore_driver::{Applied, Context, Driver, Kind as ErrorKind, Result};

use super::{Bent, directory, is_about, is_at, is_directory, is_link, named, nothing, spoil, with_metadata};
use crate::saboteur::{Apply, Sabotage, Saboteur, broken};

/// Saboteurs that bend changes on their way into `apply`.
macro_rules! bending {
    ($($name:ident: $bend:expr;)*) => {$(
        #[derive(Debug, Default)]
        struct $name;

        impl Sabotage for $name {
            fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
                driver.apply(call.id, &mut Bent::new(call.changes, $bend), call.context)
            }
        }
    )*};
}

macro_rules! rows {
    ($($clause:literal $name:ident $what:literal;)*) => {
        pub(super) const SABOTEURS: &[Saboteur] = &[$(Saboteur {
            clause: $clause,
            what: $what,
            wrap: broken::<$name>,
            also: &[],
        },)*];
    };
}

rows! {
    "A1" LosesNanoseconds "times are cut to whole seconds";
    "A2" ReadsBackslashes "a backslash in a name becomes an underscore";
    "A3" FillsHoles "holes are written as zeros";
    "A4" ForgetsWhiteouts "a whiteout hides nothing";
    "A5" KeepsWhiteouts "a whiteout of nothing is shown as a file";
    "A6" ForgetsOpaque "an opaque mark hides nothing";
    "A7" EmptiesOnly "a removed directory that comes back has the old one's attributes";
    "A8" FirstDirectoryWins "a second entry of a directory is ignored";
    "A9" KeepsOldMode "a directory put over a directory keeps the mode 0755";
    "A10" TouchesParents "a directory on the way loses its attributes";
    "A11" PrivateParents "missing parents are 0700";
    "A12" IgnoresSymlinks "an entry below a symlink is put beside it";
    "A13" SkipsEscapes "an entry that climbs out is skipped and not refused";
    "A14" LinksBySymlink "hard links become symlinks";
    "A15" SkipsBadLinks "a link to nothing is skipped and not refused";
    "A16" IgnoresRoot "a root's own entry is ignored";
    "A17" ForgetsMoved "what a symlinked parent moved is not told";
    "A18" ProtectsFirst "a second apply removes nothing that the first put";
    "A19" AppliesToMounted "apply to a mounted layer succeeds without a word";
    "A20" ObeysMarks "an opaque mark in a changeset's xattrs is obeyed";
    "A21" NeverStops "a cancelled apply goes on";
    "A22" WritesThrough "apply changes the parent's file too";
    "A23" FollowsOut "a directory that a symlink points at is touched where it lies outside";
}

bending! {
    LosesNanoseconds: |change| {
        let ours = is_about(&change, "a1-");
        vec![with_metadata(change, |metadata| if ours { metadata.mtime.nanos = 0 })]
    };
    ReadsBackslashes: |change| match change {
        Change::Put(mut entry) if entry.path.as_bytes().starts_with(b"a2-") => {
            let text: Vec<u8> =
                entry.path.as_bytes().iter().map(|&byte| if byte == b'\\' { b'_' } else { byte }).collect();
            entry.path = layerstore_changeset::RelPath::new(text).unwrap_or_default();
            vec![Change::Put(entry)]
        }
        change => vec![change],
    };
    ForgetsWhiteouts: |change| match change {
        Change::Remove(path) if path.as_bytes().starts_with(b"a4-") => vec![nothing()],
        change => vec![change],
    };
    KeepsWhiteouts: |change| match change {
        Change::Remove(path) if path.as_bytes() == b"a5-nothing" => vec![directory(path, 0)],
        change => vec![change],
    };
    ForgetsOpaque: |change| match change {
        Change::Opaque(path) if path.as_bytes().starts_with(b"a6-") => vec![nothing()],
        change => vec![change],
    };
    EmptiesOnly: |change| match change {
        Change::Remove(path) if path.as_bytes() == b"a7-etc" => vec![Change::Opaque(path)],
        change => vec![change],
    };
    FirstDirectoryWins: |change| match &change {
        Change::Put(entry) if is_at(&change, "a8-dir") && entry.metadata.mode == 0o711 => vec![nothing()],
        _ => vec![change],
    };
    KeepsOldMode: |change| {
        let ours = is_about(&change, "a9-") && is_directory(&change);
        vec![with_metadata(change, |metadata| if ours { metadata.mode = 0o755 })]
    };
    TouchesParents: |change| {
        let parent = change.path().parent().filter(|_| is_at(&change, "a10-dir/sub/new"));
        let mut all = vec![change];
        all.extend(parent.map(|path| directory(path, 0o755)));
        all
    };
    PrivateParents: |change| {
        let parent = change.path().parent().filter(|_| is_at(&change, "a11-a/b/c/d"));
        let mut all = vec![change];
        all.extend(parent.map(|path| directory(path, 0o700)));
        all
    };
    IgnoresSymlinks: |change| match change {
        Change::Put(mut entry) if entry.path.as_bytes() == b"a12-lib/x" => {
            entry.path = named("a12-lib-x");
            vec![Change::Put(entry)]
        }
        change => vec![change],
    };
    FollowsOut: |change| {
        if let Change::Put(entry) = &change
            && let Kind::Symlink { target } = &entry.kind
            // No other clause's cases know this directory.
            && target.starts_with(b"/") && target.ends_with(b"/outside/victim")
            && let Ok(dir) = layerstore_sys::Dir::open(OsStr::from_bytes(target))
        {
            // A saboteur that fails to break anything is found out by not being caught.
            let _ = dir.create_file(b"planted", 0o644);
        }
        vec![change]
    };
    SkipsEscapes: |change| {
        if is_about(&change, "a13-up/") { vec![nothing()] } else { vec![change] }
    };
    LinksBySymlink: |change| match change {
        Change::Put(mut entry) if entry.path.as_bytes().starts_with(b"a14-") => {
            if let Kind::HardLink { target } = &entry.kind {
                entry.kind = Kind::Symlink { target: target.as_bytes().into() };
            }
            vec![Change::Put(entry)]
        }
        change => vec![change],
    };
    SkipsBadLinks: |change| {
        if is_link(&change) && is_about(&change, "a15-x") { vec![nothing()] } else { vec![change] }
    };
    IgnoresRoot: |change| match &change {
        // The mode that only the cases of this clause put.
        Change::Put(entry) if entry.path.is_root() && entry.metadata.mode == 0o1731 => vec![nothing()],
        _ => vec![change],
    };
    ProtectsFirst: |change| match change {
        Change::Remove(path) if path.as_bytes() == b"a18-dir/one" => vec![nothing()],
        change => vec![change],
    };
    ObeysMarks: |change| {
        let marked = matches!(&change, Change::Put(entry)
            if entry.metadata.xattrs.keys().any(|name| name.ends_with(b"overlay.opaque")));
        let ours = marked && is_at(&change, "a20-dir");
        let mut all = vec![change];
        all.extend(ours.then(|| Change::Opaque(named("a20-dir"))));
        all
    };
}

#[derive(Debug, Default)]
struct FillsHoles;

impl Sabotage for FillsHoles {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let applied = call.on(driver)?;
        spoil(driver, call.id, "a3-hole", |dir| {
            let stat = dir.stat(b"a3-hole")?;
            let bytes = dir.open_file(b"a3-hole")?.read_to_end_limited(1 << 30)?;
            dir.open_file_rw(b"a3-hole")?.write_all_at(&bytes, 0)?;
            dir.set_mtime(b"a3-hole", stat.mtime)
        });
        Ok(applied)
    }
}

#[derive(Debug, Default)]
struct ForgetsMoved;

impl Sabotage for ForgetsMoved {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let mut applied = call.on(driver)?;
        applied.relocated.retain(|(name, _)| !name.as_bytes().starts_with(b"a17-"));
        Ok(applied)
    }
}

#[derive(Debug, Default)]
struct AppliesToMounted;

impl Sabotage for AppliesToMounted {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let applied = call.on(driver);
        let in_use = applied.as_ref().is_err_and(|error| error.kind() == ErrorKind::InUse);
        // A refused apply has read nothing, so the first change is still there to be looked at.
        let ours = in_use && matches!(call.changes.next(), Ok(Some(item)) if is_about(&item.change, "a19-"));
        if ours { Ok(Applied::default()) } else { applied }
    }
}

#[derive(Debug, Default)]
struct NeverStops;

impl Sabotage for NeverStops {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let deaf = Context::new();
        let context = if call.id.as_str().starts_with("a21-") { &deaf } else { call.context };
        driver.apply(call.id, call.changes, context)
    }
}

#[derive(Debug, Default)]
struct WritesThrough;

impl Sabotage for WritesThrough {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let applied = call.on(driver)?;
        if let Some(parent) = driver.layer(call.id)?.parent.filter(|_| call.id.as_str() == "a22-child") {
            spoil(driver, &parent, "a22-file", |dir| dir.set_mode(b"a22-file", 0o600));
        }
        Ok(applied)
    }
}
