//! Saboteurs of many at once (P).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use layerstore_driver::{Applied, Driver, DriverFactory, Kind, OpenOptions, Result};

use super::{Apply, Create, Sabotage, Saboteur, broken};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur { clause: "P1", what: "one lock for all layers", wrap: broken::<OneLock>, also: &[] },
    Saboteur {
        clause: "P2",
        what: "of creates of one id at the same time every one succeeds",
        wrap: broken::<EveryoneCreates>,
        also: &[],
    },
    Saboteur {
        clause: "P3",
        what: "a child whose parent vanishes while it is made becomes a base layer",
        wrap: broken::<Orphans>,
        also: &[],
    },
    Saboteur {
        clause: "P4",
        what: "open gives the handle of another root that is called the same",
        wrap: broken::<OneRoot>,
        also: &[],
    },
];

#[derive(Debug, Default)]
struct OneLock(Mutex<()>);

impl Sabotage for OneLock {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        let _held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        call.on(driver)
    }

    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        let _held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        call.on(driver)
    }
}

#[derive(Debug, Default)]
struct EveryoneCreates(AtomicUsize);

impl Sabotage for EveryoneCreates {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        // Long enough that those who begin together are seen together.
        std::thread::sleep(Duration::from_millis(3));
        let made = call.on(driver);
        let together = self.0.load(Ordering::SeqCst) > 1;
        std::thread::sleep(Duration::from_millis(1));
        self.0.fetch_sub(1, Ordering::SeqCst);
        match made {
            Err(error) if error.kind() == Kind::AlreadyExists && together => Ok(()),
            made => made,
        }
    }
}

#[derive(Debug, Default)]
struct Orphans;

impl Sabotage for Orphans {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        let had_parent = call.parent.map(|parent| driver.exists(parent)).transpose()?.unwrap_or(false);
        if had_parent {
            std::thread::sleep(Duration::from_millis(2));
        }
        match call.on(driver) {
            Err(error) if error.kind() == Kind::NotFound && had_parent => {
                Create { parent: None, ..call }.on(driver)
            }
            made => made,
        }
    }
}

/// Handles by the last component of their root's path, as long as somebody has them.
#[derive(Debug, Default)]
struct OneRoot(Mutex<BTreeMap<OsString, Weak<dyn Driver>>>);

impl Sabotage for OneRoot {
    fn open(&self, factory: &dyn DriverFactory, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        let name = open.root.file_name().unwrap_or_default().to_owned();
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if name != "root"
            && let Some(handle) = handles.get(&name).and_then(Weak::upgrade)
        {
            return Ok(handle);
        }
        let driver = factory.open(open)?;
        handles.insert(name, Arc::downgrade(&driver));
        Ok(driver)
    }
}
