//! What a case works with: a driver on a fresh root, views of its layers, other handles and other processes.
//!
//! ```text
//! scratch/CASE/root      the driver's root           scratch/CASE/NAME.root, NAME.run   further drivers
//! scratch/CASE/run       its runroot                 scratch/CASE/targets/NAME          mount points
//! ```
//!
//! Invariant: whatever a case makes lies below its own directory and is gone with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerstore_driver::{
    Base, Driver, DriverExt as _, DriverFactory, DriverOptions, Error, LayerId, OpenOptions, PlanOptions,
    Registry,
};
use layerstore_sys as sys;

use crate::case::Outcome;
use crate::hands::{View, diff, layer, open_mount, read_write, sealed};
use crate::need::{Environment, Feature};
use crate::process::{ActionSetup, Child};
use crate::script::Script;
use crate::tree::Tree;

/// One case's driver, directory and tools.
#[derive(Debug)]
pub struct Bench {
    registry: Registry,
    factory: Arc<dyn DriverFactory>,
    directory: PathBuf,
    environment: Arc<Environment>,
    driver: Arc<dyn Driver>,
}

impl Bench {
    /// Opens a driver on a fresh root in `directory`, which must not exist yet.
    pub(crate) fn open(
        registry: &Registry,
        factory: &Arc<dyn DriverFactory>,
        directory: PathBuf,
        environment: Arc<Environment>,
    ) -> Outcome<Self> {
        sys::fs::make_dirs(&directory, 0o700)?;
        let driver = open_at(&**factory, &directory.join("root"), &directory.join("run"))?;
        Ok(Self { registry: registry.clone(), factory: Arc::clone(factory), directory, environment, driver })
    }

    /// The driver.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What made the driver.
    pub fn factory(&self) -> &Arc<dyn DriverFactory> {
        &self.factory
    }

    /// What the run found out about driver and machine.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Whether the machine has a feature: for cases that check more where they can.
    pub fn has(&self, feature: Feature) -> bool {
        !self.environment.missing.contains_key(&feature)
    }

    /// This case's directory on the scratch file system.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The driver's root.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The driver's runroot.
    pub fn runroot(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Opens the driver's root once more, as the next process would.
    ///
    /// # Errors
    /// The factory's.
    pub fn reopen(&self) -> Outcome<Arc<dyn Driver>> {
        Ok(open_at(&*self.factory, &self.root(), &self.runroot())?)
    }

    /// Opens a driver on a root of its own, named within this case.
    ///
    /// # Errors
    /// The factory's.
    pub fn another(&self, name: &str) -> Outcome<Arc<dyn Driver>> {
        let path = |what: &str| self.directory.join(format!("{name}.{what}"));
        Ok(open_at(&*self.factory, &path("root"), &path("run"))?)
    }

    /// Opens a driver anywhere below this case's directory.
    ///
    /// # Errors
    /// The factory's.
    pub fn open_at(&self, root: &Path, runroot: &Path) -> Outcome<Arc<dyn Driver>> {
        Ok(open_at(&*self.factory, root, runroot)?)
    }

    /// Where [`Bench::open_at`] would open the driver, for calls to the factory itself.
    ///
    /// # Errors
    /// Those of the options' check.
    pub fn open_options(&self, root: &Path, runroot: &Path) -> Outcome<OpenOptions> {
        Ok(open_options(&*self.factory, root, runroot)?)
    }

    /// An empty directory to mount at.
    ///
    /// # Errors
    /// Those of `mkdir`.
    pub fn target(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.directory.join("targets").join(name);
        sys::fs::make_dirs(&path, 0o755)?;
        Ok(path)
    }

    /// A layer with these changes, writable.
    ///
    /// # Errors
    /// The driver's.
    pub fn layer(&self, name: &str, parent: Option<&LayerId>, changes: &Script) -> Outcome<LayerId> {
        layer(&*self.driver, name, parent, changes)
    }

    /// A layer with these changes, sealed.
    ///
    /// # Errors
    /// The driver's.
    pub fn sealed(&self, name: &str, parent: Option<&LayerId>, changes: &Script) -> Outcome<LayerId> {
        sealed(&*self.driver, name, parent, changes)
    }

    /// The tree that a layer shows.
    ///
    /// # Errors
    /// The driver's.
    pub fn view(&self, id: &LayerId) -> Outcome<Tree> {
        self.view_of(&*self.driver, id)
    }

    /// The tree that a layer of any driver shows: through a detached mount, or as a diff against nothing where
    /// nothing can be mounted.
    ///
    /// # Errors
    /// The driver's.
    pub fn view_of(&self, driver: &dyn Driver, id: &LayerId) -> Outcome<Tree> {
        if !self.has(Feature::Mounts) {
            return Ok(Tree::from_steps(diff(driver, id, Base::Empty)?.steps()));
        }
        let mount = driver.mount_detached(id, &PlanOptions::default())?;
        Tree::read(&open_mount(&mount)?)
    }

    /// The changeset from a layer's parent to it.
    ///
    /// # Errors
    /// The driver's.
    pub fn diff(&self, id: &LayerId) -> Outcome<Script> {
        diff(&*self.driver, id, Base::Parent)
    }

    /// Mounts a layer writable at a directory of this case.
    ///
    /// # Errors
    /// The driver's.
    pub fn mount(&self, id: &LayerId) -> Outcome<View> {
        self.mount_with(id, &read_write())
    }

    /// Mounts a layer at a directory of this case.
    ///
    /// # Errors
    /// The driver's.
    pub fn mount_with(&self, id: &LayerId, options: &PlanOptions) -> Outcome<View> {
        let target = self.target(id.as_str())?;
        View::mount(Arc::clone(&self.driver), id, options, &target)
    }

    /// Starts another process that opens the same root and runs an [`Action`](crate::case::Action).
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(&self, action: &str, arguments: &[&str]) -> Outcome<Child> {
        Child::spawn(self.action(action, arguments, false))
    }

    /// As [`Bench::spawn`], in a mount namespace of its own.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_in_namespace(&self, action: &str, arguments: &[&str]) -> Outcome<Child> {
        Child::spawn(self.action(action, arguments, true))
    }

    fn action(&self, action: &str, arguments: &[&str], namespace: bool) -> ActionSetup {
        ActionSetup {
            action: action.to_owned(),
            driver: self.factory.name().to_owned(),
            root: self.root(),
            runroot: self.runroot(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            namespace,
        }
    }

    /// The drivers of this run.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn open_options(
    factory: &dyn DriverFactory,
    root: &Path,
    runroot: &Path,
) -> layerstore_driver::Result<OpenOptions> {
    let options = DriverOptions::check(factory.options(), std::iter::empty::<(&str, String)>())?;
    Ok(OpenOptions { root: root.to_owned(), runroot: runroot.to_owned(), options })
}

pub(crate) fn open_at(
    factory: &dyn DriverFactory,
    root: &Path,
    runroot: &Path,
) -> layerstore_driver::Result<Arc<dyn Driver>> {
    // Parents are the caller's business; the driver makes its own two directories.
    for path in [root, runroot] {
        if let Some(parent) = path.parent() {
            sys::fs::make_dirs(parent, 0o700).map_err(|error| Error::system("open", error))?;
        }
    }
    factory.open(&open_options(factory, root, runroot)?)
}
