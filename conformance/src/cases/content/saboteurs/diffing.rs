//! Saboteurs of diffs (N) and of what drivers make of each other's (X).

use layerstore_changeset::{Change, Kind};
use layerstore_driver::{Capabilities, ChangeKind, Context, Driver, PathChange, Result};

use super::{Bend, BentSink, directory, is_about, is_at, is_directory, with_metadata};
use crate::saboteur::{Changes, Diff, Sabotage, Saboteur, broken};

pub(super) const SABOTEURS: &[Saboteur] = &[
    row("N1", "a diff tells a wrong mode", broken::<TellsWrongMode>),
    row("N2", "a diff tells of an untouched ancestor", broken::<TellsAncestors>),
    row("N3", "a directory is told again after its child", broken::<TellsChildrenFirst>),
    row("N4", "a changed kind is told as a removal and an entry", broken::<TellsRemovals>),
    row("N5", "an opaque directory is told as a mark", broken::<TellsOpaque>),
    row("N6", "the last name of a link group is missing", broken::<LosesLinks>),
    row("N7", "the time of a directory is no change", broken::<IgnoresDirectoryTimes>),
    row("N8", "the whole view lacks hard links", broken::<TellsPartOfView>),
    row("N9", "changes calls what is new modified", broken::<CallsModified>),
    row("N10", "a diff tells the driver's own xattrs", broken::<TellsMarks>),
    row("N11", "the diff of a mounted layer is empty", broken::<IgnoresMounted>),
    row("N12", "a cancelled diff goes on", broken::<NeverStops>),
    row("N13", "a diff that walks everything is called cheap", broken::<CallsItselfQuick>),
    row("X1", "a diff leaves a file out", broken::<LeavesOut>),
    row("X2", "a diff rounds a time", broken::<RoundsTimes>),
    row("X3", "a diff says a mode that tar cannot", broken::<SaysTooMuch>),
];

const fn row(
    clause: &'static str,
    what: &'static str,
    wrap: fn(
        std::sync::Arc<dyn layerstore_driver::DriverFactory>,
    ) -> std::sync::Arc<dyn layerstore_driver::DriverFactory>,
) -> Saboteur {
    Saboteur { clause, what, wrap, also: &[] }
}

/// Saboteurs that bend changes on their way out of `diff`.
macro_rules! bending {
    ($($name:ident: $bend:expr;)*) => {$(
        #[derive(Debug, Default)]
        struct $name;

        impl Sabotage for $name {
            fn diff(&self, driver: &dyn Driver, call: &mut Diff<'_>) -> Result<()> {
                let bend: Bend = $bend;
                driver.diff(call.id, call.base, &mut BentSink { inner: call.sink, bend }, call.context)
            }
        }
    )*};
}

bending! {
    TellsWrongMode: |change| {
        let ours = is_about(&change, "n1-");
        vec![with_metadata(change, |metadata| if ours { metadata.mode ^= 0o111 })]
    };
    TellsAncestors: |change| {
        let parent = change.path().parent().filter(|_| is_at(&change, "n2-way/on/new"));
        parent.map(|path| directory(path, 0o755)).into_iter().chain([change]).collect()
    };
    TellsChildrenFirst: |change| {
        // Whoever applies it sees the same view: only the order is wrong.
        let again = change.path().parent().filter(|_| is_at(&change, "n3/a/b"));
        [change].into_iter().chain(again.map(|path| directory(path, 0o700))).collect()
    };
    TellsRemovals: |change| {
        let removal = is_at(&change, "n4-dir").then(|| Change::Remove(change.path().clone()));
        removal.into_iter().chain([change]).collect()
    };
    TellsOpaque: |change| match change {
        Change::Remove(path) if path.as_bytes() == b"n5-dir/a" => {
            path.parent().map(Change::Opaque).into_iter().collect()
        }
        change => vec![change],
    };
    LosesLinks: |change| if is_at(&change, "n6-z") { Vec::new() } else { vec![change] };
    IgnoresDirectoryTimes: |change| {
        let ours = is_about(&change, "n7-") && is_directory(&change);
        if ours { Vec::new() } else { vec![change] }
    };
    TellsPartOfView: |change| if is_at(&change, "n8-link") { Vec::new() } else { vec![change] };
    TellsMarks: |change| {
        let ours = is_about(&change, "n10-");
        vec![with_metadata(change, |metadata| {
            if ours {
                metadata.xattrs.insert(b"trusted.overlay.origin".as_slice().into(), b"x".as_slice().into());
            }
        })]
    };
    LeavesOut: |change| if is_about(&change, "x1-") { Vec::new() } else { vec![change] };
    RoundsTimes: |change| {
        let ours = is_about(&change, "x2-");
        vec![with_metadata(change, |metadata| if ours { metadata.mtime.nanos = 0 })]
    };
    SaysTooMuch: |change| match change {
        Change::Put(mut entry) if entry.path.as_bytes().starts_with(b"x3-") => {
            if matches!(entry.kind, Kind::File { .. }) {
                entry.metadata.mode |= 0o10_0000;
            }
            vec![Change::Put(entry)]
        }
        change => vec![change],
    };
}

#[derive(Debug, Default)]
struct CallsModified;

impl Sabotage for CallsModified {
    fn changes(&self, driver: &dyn Driver, call: Changes<'_>) -> Result<Vec<PathChange>> {
        let mut found = call.on(driver)?;
        for change in found.iter_mut().filter(|change| change.path.as_bytes().starts_with(b"n9-")) {
            if change.kind == ChangeKind::Added {
                change.kind = ChangeKind::Modified;
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Default)]
struct IgnoresMounted;

impl Sabotage for IgnoresMounted {
    fn diff(&self, driver: &dyn Driver, call: &mut Diff<'_>) -> Result<()> {
        let whole: Bend = |change| vec![change];
        let empty: Bend = |change| if is_about(&change, "n11-") { Vec::new() } else { vec![change] };
        let bend = if driver.leases().in_use(call.id)?.writable { empty } else { whole };
        driver.diff(call.id, call.base, &mut BentSink { inner: call.sink, bend }, call.context)
    }
}

#[derive(Debug, Default)]
struct NeverStops;

impl Sabotage for NeverStops {
    fn diff(&self, driver: &dyn Driver, call: &mut Diff<'_>) -> Result<()> {
        let deaf = Context::new();
        let context = if call.id.as_str().starts_with("n12-") { &deaf } else { call.context };
        driver.diff(call.id, call.base, call.sink, context)
    }
}

#[derive(Debug, Default)]
struct CallsItselfQuick;

impl Sabotage for CallsItselfQuick {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        Capabilities { diff_follows_changes: true, ..driver.capabilities() }
    }
}
