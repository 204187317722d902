//! Saboteurs of views (V).

use layerstore_changeset::Change;
use layerstore_driver::{Access, Applied, Driver, LayerId, MountPlan, PlanOptions, Result, Usage};
use layerstore_sys::{Dir, Timestamp};

use super::{Bent, BentSink, is_about, nothing, spoil};
use crate::saboteur::{Apply, Diff, Sabotage, Saboteur, Seal, broken};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        clause: "V1",
        what: "a directory that hides shows the layers below",
        wrap: broken::<ShowsHidden>,
        also: &[],
    },
    Saboteur {
        clause: "V2",
        what: "a writable view begins without a file",
        wrap: broken::<LosesOnMount>,
        also: &[],
    },
    Saboteur {
        clause: "V3",
        what: "mounting a layer changes its parent",
        wrap: broken::<WritesThrough>,
        also: &[],
    },
    Saboteur {
        clause: "V4",
        what: "old content is back in a directory made again",
        wrap: broken::<BringsBack>,
        also: &[],
    },
    Saboteur {
        clause: "V5",
        what: "an entry of a new kind is lost when it is sealed",
        wrap: broken::<ForgetsKinds>,
        also: &[],
    },
    Saboteur {
        clause: "V6",
        what: "the diff leaves out a renamed directory",
        wrap: broken::<LosesRenamed>,
        also: &[],
    },
    Saboteur { clause: "V7", what: "copy-up loses the time", wrap: broken::<LosesTime>, also: &[] },
    Saboteur {
        clause: "V8",
        what: "copy-up breaks link groups that it claims to keep",
        wrap: broken::<BreaksGroups>,
        also: &[],
    },
    Saboteur { clause: "V9", what: "sealing loses what was written", wrap: broken::<LosesOnSeal>, also: &[] },
    Saboteur {
        clause: "V10",
        what: "a writable view's root is private",
        wrap: broken::<HidesRoot>,
        also: &[],
    },
];

/// Saboteurs that spoil a layer's files when it is to be mounted writable.
macro_rules! spoiling_writable {
    ($($name:ident: $mark:literal, $how:expr;)*) => {$(
        #[derive(Debug, Default)]
        struct $name;

        impl Sabotage for $name {
            fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
                let plan = driver.plan(id, options)?;
                if options.access == Access::ReadWrite {
                    spoil(driver, id, $mark, $how);
                }
                Ok(plan)
            }
        }
    )*};
}

/// Saboteurs that spoil a layer's files when it is sealed.
macro_rules! spoiling_sealed {
    ($($name:ident: $mark:literal, $how:expr;)*) => {$(
        #[derive(Debug, Default)]
        struct $name;

        impl Sabotage for $name {
            fn seal(&self, driver: &dyn Driver, call: Seal<'_>) -> Result<Usage> {
                let usage = call.on(driver)?;
                spoil(driver, call.id, $mark, $how);
                Ok(usage)
            }
        }
    )*};
}

spoiling_writable! {
    LosesOnMount: "v2-low", |dir: &Dir| dir.open_dir(b"v2-low")?.unlink(b"a");
    LosesTime: "v7-mode", |dir: &Dir| dir.set_mtime(b"v7-mode", Timestamp { seconds: 1, nanos: 1 });
    BreaksGroups: "v8-b", |dir: &Dir| {
        dir.unlink(b"v8-b")?;
        dir.create_file(b"v8-b", 0o644)?.write_all_at(b"group", 0)
    };
    HidesRoot: "v10-x", |dir: &Dir| dir.set_mode_self(0o700);
}

spoiling_sealed! {
    BringsBack: "v4-dir", |dir: &Dir| dir.open_dir(b"v4-dir")?.create_file(b"a", 0o644).map(drop);
    ForgetsKinds: "v5-a", |dir: &Dir| layerstore_sys::remove::tree(dir, b"v5-a");
    LosesOnSeal: "v9-new", |dir: &Dir| dir.unlink(b"v9-new");
}

#[derive(Debug, Default)]
struct ShowsHidden;

impl Sabotage for ShowsHidden {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let bend = |change| match change {
            Change::Opaque(path) if path.as_bytes().starts_with(b"v1-") => vec![nothing()],
            change => vec![change],
        };
        driver.apply(call.id, &mut Bent::new(call.changes, bend), call.context)
    }
}

#[derive(Debug, Default)]
struct WritesThrough;

impl Sabotage for WritesThrough {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let plan = driver.plan(id, options)?;
        if let Some(parent) = driver.layer(id)?.parent.filter(|_| options.access == Access::ReadWrite) {
            spoil(driver, &parent, "v3-file", |dir| dir.set_mode(b"v3-file", 0o600));
        }
        Ok(plan)
    }
}

#[derive(Debug, Default)]
struct LosesRenamed;

impl Sabotage for LosesRenamed {
    fn diff(&self, driver: &dyn Driver, call: &mut Diff<'_>) -> Result<()> {
        let bend = |change| if is_about(&change, "v6-moved") { Vec::new() } else { vec![change] };
        driver.diff(call.id, call.base, &mut BentSink { inner: call.sink, bend }, call.context)
    }
}
