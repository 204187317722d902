//! Saboteurs of the life of a layer (L): what is done to it. Those of what is said of it are in `said`.

use std::collections::BTreeSet;
use std::sync::Mutex;

use layerstore_changeset::Change;
use layerstore_driver::{Applied, Base, Driver, Kind, LayerId, LayerState, Result, Usage};
use nix::sys::stat::{Mode, umask};

use super::{Apply, Create, Sabotage, Saboteur, Seal, broken, hold};
use crate::script::{Script, script};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        clause: "L1",
        what: "the root of a new base layer takes the umask of the process",
        wrap: broken::<MindsUmask>,
        also: &[],
    },
    Saboteur {
        clause: "L2",
        what: "a child's root loses the xattrs",
        wrap: broken::<LosesRootXattrs>,
        // What a view's root shows is looked at in a child as well.
        also: &["V10"],
    },
    Saboteur {
        clause: "L3",
        what: "creating a sealed layer again succeeds",
        wrap: broken::<CreatesAgain>,
        also: &[],
    },
    Saboteur {
        clause: "L4",
        what: "create over a writable parent makes a base layer",
        wrap: broken::<TakesAnyParent>,
        also: &[],
    },
    Saboteur {
        clause: "L5",
        what: "apply to a sealed layer succeeds without a word",
        wrap: broken::<AppliesToSealed>,
        also: &[],
    },
    Saboteur {
        clause: "L6",
        what: "seal of a mounted layer succeeds without a word",
        wrap: broken::<SealsMounted>,
        also: &[],
    },
    Saboteur {
        clause: "L7",
        what: "a removed layer exists for ever",
        wrap: broken::<RemembersRemoved>,
        also: &[],
    },
    Saboteur {
        clause: "L8",
        what: "remove of a layer with several children succeeds without a word",
        wrap: broken::<RemovesParents>,
        also: &[],
    },
    Saboteur {
        clause: "L9",
        what: "remove of a mounted layer succeeds without a word",
        wrap: broken::<RemovesMounted>,
        also: &[],
    },
    Saboteur {
        clause: "L14",
        what: "create makes the layer without its parent first, and again with it a moment later",
        wrap: broken::<CreatesInSteps>,
        also: &[],
    },
    Saboteur {
        clause: "L19",
        what: "a parent given to seal is dropped without a word",
        wrap: broken::<DropsParent>,
        also: &[],
    },
    Saboteur {
        clause: "L20",
        what: "replace removes the new layer and keeps the old content",
        wrap: broken::<KeepsDamage>,
        also: &[],
    },
];

fn children(driver: &dyn Driver, id: &LayerId) -> usize {
    let layers = driver.layers().unwrap_or_default();
    layers.iter().filter(|info| info.parent.as_ref() == Some(id)).count()
}

fn is_kind<T>(result: &Result<T>, kind: Kind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

#[derive(Debug, Default)]
struct MindsUmask;

impl Sabotage for MindsUmask {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        call.on(driver)?;
        let mask = umask(Mode::empty());
        umask(mask);
        if call.parent.is_none() && mask.bits() & 0o755 != 0 {
            let root = script().dir(".").mode(0o755 & !mask.bits());
            driver.apply(call.id, &mut root.source(), call.context)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct LosesRootXattrs;

impl Sabotage for LosesRootXattrs {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        call.on(driver)?;
        let mut view: Script = script();
        driver.diff(call.id, Base::Empty, &mut view, call.context)?;
        if let Some(Change::Put(root)) = view.steps().first().map(|step| &step.change)
            && root.path.is_root()
            && !root.metadata.xattrs.is_empty()
        {
            let metadata = &root.metadata;
            let bare = script()
                .dir(".")
                .mode(metadata.mode)
                .owner(metadata.uid, metadata.gid)
                .mtime(metadata.mtime.seconds, metadata.mtime.nanos);
            driver.apply(call.id, &mut bare.source(), call.context)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct CreatesAgain;

impl Sabotage for CreatesAgain {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        let made = call.on(driver);
        let sealed = driver.layer(call.id).is_ok_and(|info| info.state == LayerState::Sealed);
        if is_kind(&made, Kind::AlreadyExists) && sealed { Ok(()) } else { made }
    }
}

#[derive(Debug, Default)]
struct TakesAnyParent;

impl Sabotage for TakesAnyParent {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        match call.on(driver) {
            Err(error) if error.kind() == Kind::InvalidInput => Create { parent: None, ..call }.on(driver),
            made => made,
        }
    }
}

#[derive(Debug, Default)]
struct AppliesToSealed;

impl Sabotage for AppliesToSealed {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let sealed = driver.layer(call.id).is_ok_and(|info| info.state == LayerState::Sealed);
        if sealed { Ok(Applied::default()) } else { call.on(driver) }
    }
}

#[derive(Debug, Default)]
struct SealsMounted;

impl Sabotage for SealsMounted {
    fn seal(&self, driver: &dyn Driver, call: Seal<'_>) -> Result<Usage> {
        match call.on(driver) {
            Err(error) if error.kind() == Kind::InUse => Ok(Usage::default()),
            sealed => sealed,
        }
    }
}

#[derive(Debug, Default)]
struct RemembersRemoved(Mutex<BTreeSet<LayerId>>);

impl Sabotage for RemembersRemoved {
    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.remove(id)?;
        hold(&self.0).insert(id.clone());
        Ok(())
    }

    fn exists(&self, driver: &dyn Driver, id: &LayerId) -> Result<bool> {
        Ok(hold(&self.0).contains(id) || driver.exists(id)?)
    }
}

#[derive(Debug, Default)]
struct RemovesParents;

impl Sabotage for RemovesParents {
    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        let removed = driver.remove(id);
        if is_kind(&removed, Kind::InUse) && children(driver, id) > 1 { Ok(()) } else { removed }
    }
}

#[derive(Debug, Default)]
struct RemovesMounted;

impl Sabotage for RemovesMounted {
    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        let removed = driver.remove(id);
        if is_kind(&removed, Kind::InUse) && children(driver, id) == 0 { Ok(()) } else { removed }
    }
}

#[derive(Debug, Default)]
struct CreatesInSteps;

impl Sabotage for CreatesInSteps {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        // Only one that would succeed, so that nothing but the order of its steps is wrong.
        let sound = call
            .parent
            .is_some_and(|parent| driver.layer(parent).is_ok_and(|info| info.state == LayerState::Sealed));
        if sound && !driver.exists(call.id)? {
            Create { parent: None, ..call }.on(driver)?;
            std::thread::sleep(std::time::Duration::from_millis(8));
            driver.remove(call.id)?;
        }
        call.on(driver)
    }
}

#[derive(Debug, Default)]
struct DropsParent;

impl Sabotage for DropsParent {
    fn seal(&self, driver: &dyn Driver, call: Seal<'_>) -> Result<Usage> {
        Seal { parent: None, ..call }.on(driver)
    }
}

#[derive(Debug, Default)]
struct KeepsDamage;

impl Sabotage for KeepsDamage {
    fn replace(&self, driver: &dyn Driver, _: &LayerId, with: &LayerId) -> Result<()> {
        driver.remove(with)
    }
}
