//! Saboteurs of the life of a layer (L).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use layerstore_changeset::Change;
use layerstore_driver::{
    Applied, Base, Capabilities, Context, CreateOptions, Driver, Kind, LayerId, LayerInfo, LayerState,
    Recovered, Result, Usage,
};
use nix::sys::stat::{Mode, umask};

use super::{Apply, Create, Sabotage, Saboteur, Seal, broken};
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
        clause: "L10",
        what: "the list of layers has no parents",
        wrap: broken::<ListsOrphans>,
        also: &[],
    },
    Saboteur {
        clause: "L11",
        what: "usage of an unknown layer is nothing, and no error",
        wrap: broken::<MeasuresNothing>,
        also: &[],
    },
    Saboteur {
        clause: "L12",
        what: "usage of a sealed layer grows each time it is asked for",
        wrap: broken::<MeasuresAgain>,
        also: &[],
    },
    Saboteur {
        clause: "L13",
        what: "a handle knows at most five layers that it did not make itself",
        wrap: broken::<ForgetsLayers>,
        also: &[],
    },
    Saboteur {
        clause: "L14",
        what: "create makes the layer without its parent first, and again with it a moment later",
        wrap: broken::<CreatesInSteps>,
        also: &[],
    },
    Saboteur {
        clause: "L15",
        what: "every recovery reports something",
        wrap: broken::<AlwaysFinds>,
        also: &[],
    },
    Saboteur { clause: "L16", what: "metadata has an empty label", wrap: broken::<NoLabel>, also: &[] },
    Saboteur {
        clause: "L17",
        what: "max_chain is said and not kept",
        wrap: broken::<EndlessChain>,
        also: &[],
    },
    Saboteur {
        clause: "L18",
        what: "a size limit that is not claimed is dropped without a word",
        wrap: broken::<DropsSizeLimit>,
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
    Saboteur {
        clause: "L21",
        what: "size limits are claimed and none is set",
        wrap: broken::<ClaimsSizeLimit>,
        // That a limit is there at all is L18.
        also: &["L18"],
    },
];

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
struct ListsOrphans;

impl Sabotage for ListsOrphans {
    fn layers(&self, driver: &dyn Driver) -> Result<Vec<LayerInfo>> {
        let layers = driver.layers()?;
        Ok(layers.into_iter().map(|info| LayerInfo { parent: None, ..info }).collect())
    }
}

#[derive(Debug, Default)]
struct MeasuresNothing;

impl Sabotage for MeasuresNothing {
    fn usage(&self, driver: &dyn Driver, id: &LayerId, context: &Context) -> Result<Usage> {
        match driver.usage(id, context) {
            Err(error) if error.kind() == Kind::NotFound => Ok(Usage::default()),
            usage => usage,
        }
    }
}

#[derive(Debug, Default)]
struct MeasuresAgain(AtomicU64);

impl Sabotage for MeasuresAgain {
    fn usage(&self, driver: &dyn Driver, id: &LayerId, context: &Context) -> Result<Usage> {
        let usage = driver.usage(id, context)?;
        Ok(Usage { bytes: usage.bytes + self.0.fetch_add(4_096, Ordering::Relaxed), ..usage })
    }
}

#[derive(Debug, Default)]
struct ForgetsLayers(Mutex<BTreeSet<LayerId>>);

impl ForgetsLayers {
    fn knows(&self, driver: &dyn Driver, id: &LayerId) -> bool {
        let mine = hold(&self.0);
        let mut others: Vec<_> =
            driver.layers().unwrap_or_default().into_iter().map(|info| info.id).collect();
        others.retain(|other| !mine.contains(other));
        others.sort();
        mine.contains(id) || others.iter().take(5).any(|other| other == id) || !others.contains(id)
    }
}

impl Sabotage for ForgetsLayers {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        call.on(driver)?;
        hold(&self.0).insert(call.id.clone());
        Ok(())
    }

    fn exists(&self, driver: &dyn Driver, id: &LayerId) -> Result<bool> {
        Ok(driver.exists(id)? && self.knows(driver, id))
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
struct AlwaysFinds;

impl Sabotage for AlwaysFinds {
    fn recover(&self, driver: &dyn Driver, is_live: &dyn Fn(&LayerId) -> bool) -> Result<Vec<Recovered>> {
        let mut found = driver.recover(is_live)?;
        found.push(Recovered { id: None, what: "looked at everything once more".to_owned() });
        Ok(found)
    }
}

#[derive(Debug, Default)]
struct NoLabel;

impl Sabotage for NoLabel {
    fn metadata(&self, driver: &dyn Driver, id: &LayerId) -> Result<Vec<(String, String)>> {
        let mut metadata = driver.metadata(id)?;
        metadata.push((String::new(), "somewhere".to_owned()));
        Ok(metadata)
    }
}

#[derive(Debug, Default)]
struct EndlessChain;

impl Sabotage for EndlessChain {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        Capabilities { max_chain: Some(128), ..driver.capabilities() }
    }
}

#[derive(Debug, Default)]
struct DropsSizeLimit;

impl Sabotage for DropsSizeLimit {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        Create { options: &CreateOptions::default(), ..call }.on(driver)
    }
}

#[derive(Debug, Default)]
struct ClaimsSizeLimit;

impl Sabotage for ClaimsSizeLimit {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        Capabilities { size_limit: true, ..driver.capabilities() }
    }

    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        DropsSizeLimit.create(driver, call)
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
