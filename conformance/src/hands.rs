//! Hands for what cases do all the time, with any driver: layers, diffs, mounts that undo themselves.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerstore_driver::mount::DetachedMount;
use layerstore_driver::{
    Access, Base, Context, CreateOptions, Driver, DriverExt as _, Error, Kind, LayerId, PlanOptions,
};
use layerstore_sys::Dir;

use crate::case::{Failure, Outcome};
use crate::script::{Script, script};
use crate::tree::Tree;

/// Plan options for a writable view.
pub fn read_write() -> PlanOptions {
    PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() }
}

/// Plan options for a read-only view.
pub fn read_only() -> PlanOptions {
    PlanOptions::default()
}

/// A layer id that is known to be one.
///
/// # Errors
/// When it is none.
pub fn id(name: &str) -> Outcome<LayerId> {
    Ok(LayerId::new(name)?)
}

/// A writable layer of any driver.
///
/// # Errors
/// The driver's.
pub fn layer(
    driver: &dyn Driver,
    name: &str,
    parent: Option<&LayerId>,
    changes: &Script,
) -> Outcome<LayerId> {
    let id = id(name)?;
    let context = Context::new();
    driver.create(&id, parent, &CreateOptions::default(), &context)?;
    if !changes.steps().is_empty() {
        driver.apply(&id, &mut changes.source(), &context)?;
    }
    Ok(id)
}

/// A sealed layer of any driver.
///
/// # Errors
/// The driver's.
pub fn sealed(
    driver: &dyn Driver,
    name: &str,
    parent: Option<&LayerId>,
    changes: &Script,
) -> Outcome<LayerId> {
    let id = layer(driver, name, parent, changes)?;
    driver.seal(&id, None, &Context::new())?;
    Ok(id)
}

/// A diff, kept in memory.
///
/// # Errors
/// The driver's.
pub fn diff(driver: &dyn Driver, id: &LayerId, base: Base<'_>) -> Outcome<Script> {
    let mut found = script();
    driver.diff(id, base, &mut found, &Context::new())?;
    Ok(found)
}

/// The root directory of a detached mount.
///
/// # Errors
/// Those of `dup`.
pub fn open_mount(mount: &DetachedMount) -> Outcome<Dir> {
    // A detached mount's descriptor may be a bare handle (O_PATH), so it is opened again for reading.
    let handle = Dir::from_fd(mount.fd().as_fd().try_clone_to_owned()?, "detached mount");
    Ok(handle.open_dir(b".")?)
}

/// A mount at a directory, undone at the latest when it is dropped.
#[derive(Debug)]
pub struct View {
    driver: Arc<dyn Driver>,
    id: LayerId,
    target: PathBuf,
    mounted: bool,
}

impl View {
    /// Mounts a layer of any driver at `target`.
    ///
    /// # Errors
    /// The driver's.
    pub fn mount(
        driver: Arc<dyn Driver>,
        id: &LayerId,
        options: &PlanOptions,
        target: &Path,
    ) -> Outcome<Self> {
        driver.mount(id, options, target)?;
        Ok(Self { driver, id: id.clone(), target: target.to_owned(), mounted: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// The root directory of the view. Close it before unmounting.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn dir(&self) -> Outcome<Dir> {
        Ok(Dir::open(&self.target)?)
    }

    /// Everything that the view shows.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn tree(&self) -> Outcome<Tree> {
        Tree::read(&self.dir()?)
    }

    /// Writes a file in the view's root, new or over the old content.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, name: &str, data: impl AsRef<[u8]>) -> Outcome {
        let data = data.as_ref();
        let file = self.dir()?.open_or_create_file(name.as_bytes(), 0o644)?;
        file.set_length(0)?;
        Ok(file.write_all_at(data, 0)?)
    }

    /// Undoes the mount.
    ///
    /// # Errors
    /// The driver's.
    pub fn unmount(mut self) -> Outcome {
        self.mounted = false;
        Ok(self.driver.unmount(&self.id, &self.target)?)
    }

    /// Leaves the mount as it is, for somebody else to undo.
    pub fn forget(mut self) {
        self.mounted = false;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.mounted {
            // Only on the way out of a case that failed already: its message is the one to report.
            let _ = self.driver.unmount(&self.id, &self.target);
        }
    }
}

/// Fails unless the error names the operation's object and is one line: for every refusal that a case meets.
///
/// # Errors
/// What is wrong with the error.
pub fn ensure_kind<T>(result: layerstore_driver::Result<T>, kinds: &[Kind], what: &str) -> Outcome<Error> {
    match result {
        Ok(_) => Err(Failure::new(format!("{what}: expected an error, but it succeeded"))),
        Err(error) if kinds.contains(&error.kind()) => Ok(error),
        Err(error) => {
            Err(Failure::new(format!("{what}: expected {kinds:?}, found {}: {error}", error.kind())))
        }
    }
}
