//! What the tests of mounting share: trees on a scratch directory, a driver that only mounts, older kernels.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unimplemented,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use layerstore_changeset::tree::{Applied, PathChange, Usage};
use layerstore_changeset::{ChangeSink, ChangeSource, Context};
use layerstore_driver::plan::{Bind, IdMap, IdMapping, Overlay, OverlayFeatures, Source, Upper};
use layerstore_driver::{
    Access, Base, Capabilities, CreateOptions, Driver, Error, Kind, LayerId, LayerInfo, Leases, Look,
    MountFlags, MountPlan, PlanOptions, Recovered, Result,
};
use layerstore_sys::seccomp;

/// A kernel to run a test as if on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// This one.
    This,
    /// Before layers could be descriptors (6.13).
    V6_12,
    /// Before overlays had a parser of their own for `fsconfig` (6.5), and `statmount`.
    V6_1,
    /// Before `mount_setattr` (5.12) and `statmount`.
    V5_11,
    /// Before the new mount calls (5.2).
    V5_1,
}

impl Kernel {
    fn refused(self) -> Vec<&'static str> {
        match self {
            Self::This => vec![],
            Self::V6_12 => vec![seccomp::LAYERS_AS_DESCRIPTORS],
            Self::V6_1 => vec![seccomp::DESCRIPTORS_OF_OVERLAYS, "statmount", "listmount"],
            Self::V5_11 => {
                vec![seccomp::DESCRIPTORS_OF_OVERLAYS, "mount_setattr", "statmount", "listmount"]
            }
            Self::V5_1 => seccomp::FALLBACKS.to_vec(),
        }
    }

    /// Runs a test on a thread with a mount namespace of its own that must hold no more afterwards than before
    /// (less is possible: removing a directory elsewhere takes down what is mounted on it here).
    pub fn run(self, test: impl FnOnce() + Send) {
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                layerstore_sys::mount::legacy::unshare_mounts().unwrap();
                let before = mount_points();
                let refused = self.refused();
                if !refused.is_empty() {
                    seccomp::refuse(&refused).unwrap();
                }
                test();
                let left: Vec<_> =
                    mount_points().into_iter().filter(|point| !before.contains(point)).collect();
                assert!(left.is_empty(), "mounts are left: {left:?}");
            });
            thread.join()
        });
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

pub fn mount_points() -> Vec<PathBuf> {
    layerstore_sys::mountinfo::here().unwrap().into_iter().map(|entry| entry.mount_point).collect()
}

/// A scratch directory on tmpfs, where overlays can have their upper directory.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("layerstore-mount-").tempdir_in("/dev/shm").unwrap()
}

/// Makes a directory with one file called `name` that says `name`.
pub fn tree(path: &Path, name: &str) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join(name), name).unwrap();
    path.to_owned()
}

pub fn upper(path: &Path) -> Upper {
    std::fs::create_dir_all(path.join("diff")).unwrap();
    std::fs::create_dir_all(path.join("work")).unwrap();
    Upper { directory: path.to_owned(), upper: "diff".to_owned(), work: "work".to_owned() }
}

pub const FEATURES: OverlayFeatures = OverlayFeatures {
    redirect_dir: false,
    metacopy: false,
    index: false,
    xino: false,
    userxattr: false,
    volatile: false,
};

pub fn overlay(lowers: Vec<Source>, upper: Option<Upper>) -> Overlay {
    Overlay { lowers, upper, features: FEATURES, id_mapping: None, label: None, flags: MountFlags::default() }
}

/// The names at the top of a directory given by descriptor.
pub fn names(mount: &layerstore_driver::mount::DetachedMount) -> Vec<String> {
    let entries = mount.root().unwrap().entries().unwrap();
    let mut names: Vec<_> =
        entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    names.sort();
    names
}

/// A driver whose layers are overlays of `base` and a directory of their own; it can mount and nothing else.
#[derive(Debug)]
pub struct Plain {
    pub root: PathBuf,
    pub leases: Leases,
    pub released: AtomicUsize,
    pub volatile: bool,
}

impl Plain {
    pub fn open(root: &Path) -> Self {
        tree(&root.join("base"), "from-base");
        let leases = Leases::open(&root.join("run")).unwrap();
        Self { root: root.to_owned(), leases, released: AtomicUsize::new(0), volatile: false }
    }

    pub fn released(&self) -> usize {
        self.released.load(Ordering::SeqCst)
    }

    pub fn target(&self, name: &str) -> PathBuf {
        let target = self.root.join(name);
        std::fs::create_dir_all(&target).unwrap();
        target
    }
}

pub fn id(name: &str) -> LayerId {
    LayerId::new(name).unwrap()
}

pub fn writable() -> PlanOptions {
    PlanOptions { access: Access::ReadWrite, ..PlanOptions::default() }
}

pub fn read_only() -> PlanOptions {
    PlanOptions::default()
}

fn cannot<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "test", "this driver only mounts"))
}

impl Driver for Plain {
    fn name(&self) -> &str {
        "plain"
    }
    fn capabilities(&self) -> Capabilities {
        unimplemented!("no test asks")
    }
    fn status(&self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }
    fn leases(&self) -> &Leases {
        &self.leases
    }
    fn create(&self, _: &LayerId, _: Option<&LayerId>, _: &CreateOptions, _: &Context) -> Result<()> {
        cannot()
    }
    fn apply(&self, _: &LayerId, _: &mut dyn ChangeSource, _: &Context) -> Result<Applied> {
        cannot()
    }
    fn diff(&self, _: &LayerId, _: Base<'_>, _: &mut dyn ChangeSink, _: &Context) -> Result<()> {
        cannot()
    }
    fn changes(&self, _: &LayerId, _: Base<'_>, _: &Context) -> Result<Vec<PathChange>> {
        cannot()
    }
    fn seal(&self, _: &LayerId, _: Option<&LayerId>, _: &Context) -> Result<Usage> {
        cannot()
    }
    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        if id.as_str() == "missing" {
            return Err(Error::new(Kind::NotFound, "plan", "no such layer"));
        }
        let base = Source::Path(self.root.join("base"));
        let own = |name: &str| upper(&self.root.join(name));
        let map = vec![IdMap { on_disk: 0, shown: 100_000, count: 65_536 }];
        let mapping = Some(IdMapping { users: map.clone(), groups: map });
        // Plans of every shape, by name.
        match id.as_str() {
            "bind-of-plan" => {
                tree(&self.root.join("base/sub"), "from-sub");
                let plan = Overlay { ..overlay(vec![base], Some(own("bind-of-plan"))) };
                let source =
                    Source::Plan { plan: Box::new(MountPlan::Overlay(plan)), subdirectory: "sub".into() };
                let read_only = options.access == Access::ReadOnly;
                return Ok(MountPlan::Bind(Bind {
                    source,
                    read_only,
                    flags: MountFlags::default(),
                    id_mapping: None,
                }));
            }
            "overlay-of-plan" => {
                tree(&self.root.join("base/sub"), "from-sub");
                let plan = MountPlan::Bind(Bind {
                    source: base,
                    read_only: true,
                    flags: MountFlags::default(),
                    id_mapping: None,
                });
                let lower = Source::Plan { plan: Box::new(plan), subdirectory: "sub".into() };
                return Ok(MountPlan::Overlay(overlay(vec![lower], Some(own("overlay-of-plan")))));
            }
            "mapped" => {
                tree(&self.root.join("base"), "from-sub");
                let plan = overlay(vec![base], Some(own("mapped")));
                return Ok(MountPlan::Overlay(Overlay { id_mapping: mapping, ..plan }));
            }
            "mapped-bind" => {
                tree(&self.root.join("base"), "from-sub");
                return Ok(MountPlan::Bind(Bind {
                    source: base,
                    read_only: false,
                    flags: MountFlags::default(),
                    id_mapping: mapping,
                }));
            }
            _ => {}
        }
        let upper = upper(&self.root.join(id.as_str()));
        if options.access == Access::ReadOnly {
            if id.as_str() == "base" {
                return Ok(MountPlan::Bind(Bind {
                    source: base,
                    read_only: true,
                    flags: MountFlags::default(),
                    id_mapping: None,
                }));
            }
            let own = Source::Path(upper.directory.join(upper.upper));
            return Ok(MountPlan::Overlay(overlay(vec![own, base], None)));
        }
        let features = OverlayFeatures { volatile: options.volatile, ..FEATURES };
        Ok(MountPlan::Overlay(Overlay { features, ..overlay(vec![base], Some(upper)) }))
    }
    fn release(&self, _: &LayerId) -> Result<()> {
        self.released.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn remove(&self, _: &LayerId) -> Result<()> {
        cannot()
    }
    fn exists(&self, _: &LayerId) -> Result<bool> {
        cannot()
    }
    fn layers(&self) -> Result<Vec<LayerInfo>> {
        cannot()
    }
    fn ids(&self) -> Result<Vec<LayerId>> {
        cannot()
    }
    fn layer(&self, _: &LayerId) -> Result<LayerInfo> {
        cannot()
    }
    fn usage(&self, _: &LayerId, _: &Context) -> Result<Usage> {
        cannot()
    }
    fn metadata(&self, _: &LayerId) -> Result<Vec<(String, String)>> {
        cannot()
    }
    fn replace(&self, _: &LayerId, _: &LayerId) -> Result<()> {
        cannot()
    }
    fn sync(&self, _: &LayerId) -> Result<()> {
        cannot()
    }
    fn recover(&self, _: &dyn Fn(&LayerId) -> bool, _: Look) -> Result<Vec<Recovered>> {
        cannot()
    }
}

/// Every use and every lock has gone from the book.
#[track_caller]
pub fn nothing_is_left(driver: &Plain) {
    for name in ["uses", "locks"] {
        let left: Vec<_> = driver.root.join("run").join(name).read_dir().unwrap().flatten().collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    assert_eq!(driver.root.join("run").read_dir().unwrap().count(), 2);
}
