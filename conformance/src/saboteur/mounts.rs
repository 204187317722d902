//! Saboteurs of mounts and use (M).

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use layerstore_driver::plan::Source;
use layerstore_driver::{
    Access, Driver, DriverFactory, Error, Kind, LayerId, MountFlags, MountPlan, OpenOptions, PlanOptions,
    Result,
};
use layerstore_sys as sys;

use super::{Create, Sabotage, Saboteur, broken};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur { clause: "M1", what: "every plan says another path", wrap: broken::<PlansAnew>, also: &[] },
    Saboteur {
        clause: "M2",
        what: "planning a read-only view of a writable layer mounts something on the side",
        wrap: broken::<MountsAside>,
        also: &[],
    },
    Saboteur {
        clause: "M3",
        what: "a read-only plan is writable",
        wrap: broken::<AlwaysWritable>,
        also: &[],
    },
    Saboteur {
        clause: "M4",
        what: "each mount namespace has its own book of mounts",
        wrap: broken::<BookPerNamespace>,
        also: &[],
    },
    Saboteur {
        clause: "M5",
        what: "a file marks a layer as mounted until somebody releases it, also when its process is dead",
        wrap: broken::<StaleMark>,
        also: &[],
    },
    Saboteur {
        clause: "M6",
        what: "release of an unknown id is an error",
        wrap: broken::<ReleasesOnce>,
        also: &[],
    },
    Saboteur {
        clause: "M7",
        what: "plans replace what is not UTF-8 in a path",
        wrap: broken::<LossyPaths>,
        also: &[],
    },
    Saboteur {
        clause: "M8",
        what: "plans name a descriptor that only this process has",
        wrap: broken::<OwnDescriptor>,
        also: &[],
    },
    Saboteur {
        clause: "M9",
        what: "an id mapping is dropped without a word",
        wrap: broken::<DropsMapping>,
        also: &[],
    },
    Saboteur {
        clause: "M10",
        what: "a volatile view that is not claimed is an ordinary one, without a word",
        wrap: broken::<DropsVolatile>,
        also: &[],
    },
    Saboteur {
        clause: "M11",
        what: "a writable plan of a sealed layer is a read-only one",
        wrap: broken::<PlansReadOnly>,
        also: &[],
    },
    Saboteur {
        clause: "M13",
        what: "a view is mounted without the flags that were asked for",
        wrap: broken::<DropsFlags>,
        also: &[],
    },
    Saboteur {
        clause: "M12",
        what: "a refused create leaks a descriptor",
        wrap: broken::<LeaksOnError>,
        also: &[],
    },
];

/// Changes the path of a plan that is a plain bind, as that of the reference driver is.
fn with_path(mut plan: MountPlan, change: impl FnOnce(&Path) -> PathBuf) -> MountPlan {
    if let MountPlan::Bind(bind) = &mut plan
        && let Source::Path(path) = &mut bind.source
    {
        *path = change(path);
    }
    plan
}

fn path_of(plan: &MountPlan) -> Option<PathBuf> {
    match plan {
        MountPlan::Bind(bind) => match &bind.source {
            Source::Path(path) => Some(path.clone()),
            Source::Plan { .. } => None,
        },
        _ => None,
    }
}

fn failed(error: sys::Error) -> Error {
    Error::system("sabotage", error)
}

#[derive(Debug, Default)]
struct PlansAnew(AtomicU32);

impl Sabotage for PlansAnew {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let detours = self.0.fetch_add(1, Ordering::Relaxed) % 2;
        Ok(with_path(driver.plan(id, options)?, |path| {
            let name = path.file_name().unwrap_or_default();
            (0..detours).fold(path.to_owned(), |path, _| path.join("..").join(name))
        }))
    }
}

/// The places that are mounted on the side, taken away with the handle.
#[derive(Debug, Default)]
struct MountsAside(Mutex<Vec<PathBuf>>);

impl Sabotage for MountsAside {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let plan = driver.plan(id, options)?;
        let writable = driver.layer(id)?.state == layerstore_driver::LayerState::Writable;
        if let (true, Access::ReadOnly, Some(path)) = (writable, options.access, path_of(&plan)) {
            // ROOT/driver.json upon itself: nobody removes that while the root is in use.
            let file = path.ancestors().nth(2).unwrap_or(&path).join("driver.json");
            if sys::mount::legacy::bind(&file, &file).is_ok() {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            }
        }
        Ok(plan)
    }
}

impl Drop for MountsAside {
    fn drop(&mut self) {
        for path in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).rev() {
            // What is left goes with the worker's mount namespace, and shows as a leak.
            let _ = sys::mount::unmount_lazily(&path);
        }
    }
}

#[derive(Debug, Default)]
struct AlwaysWritable;

impl Sabotage for AlwaysWritable {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let mut plan = driver.plan(id, options)?;
        if let MountPlan::Bind(bind) = &mut plan {
            bind.read_only = false;
        }
        Ok(plan)
    }
}

#[derive(Debug, Default)]
struct BookPerNamespace;

impl Sabotage for BookPerNamespace {
    fn open(&self, factory: &dyn DriverFactory, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        let here = sys::fs::canonical("/proc/self/ns/mnt").map_err(failed)?;
        let here = here.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>();
        sys::fs::make_dirs(&open.runroot, 0o700).map_err(failed)?;
        factory.open(&OpenOptions { runroot: open.runroot.join(here), ..open.clone() })
    }
}

#[derive(Debug, Default)]
struct StaleMark;

impl StaleMark {
    /// Beside the root of the layer's tree, where the reference driver keeps nothing.
    fn mark(driver: &dyn Driver, id: &LayerId) -> Result<Option<PathBuf>> {
        let plan = driver.plan(id, &PlanOptions::default())?;
        Ok(path_of(&plan).and_then(|path| Some(path.parent()?.join("mounted-by"))))
    }
}

impl Sabotage for StaleMark {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let plan = driver.plan(id, options)?;
        if options.access == Access::ReadWrite
            && let Some(mark) = Self::mark(driver, id)?
        {
            let own = std::process::id().to_string();
            let owner = sys::fs::read_to_string(&mark, 100).unwrap_or_default();
            let dead = !owner.is_empty()
                && owner != own
                && !sys::fs::exists(format!("/proc/{owner}")).unwrap_or(true);
            if dead {
                let message = format!("it was mounted by process {owner}");
                return Err(Error::new(Kind::InUse, "plan", message).with_layer(id));
            }
            let file = sys::fs::create_file(&mark, 0o600).map_err(failed)?;
            file.write_all_at(own.as_bytes(), 0).map_err(failed)?;
        }
        Ok(plan)
    }

    fn release(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        if driver.exists(id)?
            && let Some(mark) = Self::mark(driver, id)?
        {
            let owner = sys::fs::read_to_string(&mark, 100).unwrap_or_default();
            if owner == std::process::id().to_string() {
                sys::fs::remove_file(mark).map_err(failed)?;
            }
        }
        driver.release(id)
    }
}

#[derive(Debug, Default)]
struct ReleasesOnce;

impl Sabotage for ReleasesOnce {
    fn release(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.layer(id)?;
        driver.release(id)
    }
}

#[derive(Debug, Default)]
struct LossyPaths;

impl Sabotage for LossyPaths {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        Ok(with_path(driver.plan(id, options)?, |path| {
            PathBuf::from(String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned())
        }))
    }
}

/// The descriptors that plans name, closed with the handle.
#[derive(Debug, Default)]
struct OwnDescriptor(Mutex<BTreeMap<PathBuf, std::os::fd::OwnedFd>>);

impl Sabotage for OwnDescriptor {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let plan = driver.plan(id, options)?;
        let Some(path) = path_of(&plan) else { return Ok(plan) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(plan) };
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(&path) {
            let parent = sys::Dir::open(parent).map_err(failed)?;
            open.insert(path.clone(), parent.open_handle(name.as_bytes()).map_err(failed)?);
        }
        let number = open.get(&path).map_or(-1, |fd| fd.as_raw_fd());
        Ok(with_path(plan, |_| PathBuf::from(format!("/proc/self/fd/{number}"))))
    }

    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        driver.remove(id)
    }

    fn release(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        driver.release(id)
    }
}

#[derive(Debug, Default)]
struct DropsMapping;

impl Sabotage for DropsMapping {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        driver.plan(id, &PlanOptions { id_mapping: None, ..options.clone() })
    }
}

#[derive(Debug, Default)]
struct DropsVolatile;

impl Sabotage for DropsVolatile {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        driver.plan(id, &PlanOptions { volatile: false, ..options.clone() })
    }
}

#[derive(Debug, Default)]
struct DropsFlags;

impl Sabotage for DropsFlags {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        driver.plan(id, &PlanOptions { flags: MountFlags::default(), ..options.clone() })
    }
}

#[derive(Debug, Default)]
struct PlansReadOnly;

impl Sabotage for PlansReadOnly {
    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        match driver.plan(id, options) {
            Err(error) if error.kind() == Kind::InvalidInput => {
                driver.plan(id, &PlanOptions { access: Access::ReadOnly, ..options.clone() })
            }
            plan => plan,
        }
    }
}

#[derive(Debug, Default)]
struct LeaksOnError;

impl Sabotage for LeaksOnError {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        let made = call.on(driver);
        if made.is_err() {
            std::mem::forget(sys::Dir::open("/dev"));
        }
        made
    }
}
