//! What older kernels cannot do, done with what they have. Everything of this kind is here.
//!
//! | missing | since | instead |
//! |---|---|---|
//! | `fsopen`, `open_tree`, `move_mount` | 5.2 | `mount(2)` in a mount namespace that nobody sees, or at the target |
//! | an overlay's own parser of `fsconfig` | 6.5 | `mount(2)` with the numbers of descriptors |
//! | `lowerdir+`, layers by path of descriptor | 6.7 | the same |
//! | layers as descriptors | 6.13 | their path in `/proc/self/fd` ([`detached`](super::detached)) |
//! | detached mounts as layers | 6.14 | attached ones, in a namespace that nobody sees |
//! | copying a detached mount | 6.15 | the same |
//! | `mount_setattr` | 5.12 | `mount(2)` with remount,bind; no id mapping |
//! | `openat2` | 5.6 | a walk (`layerstore_sys::resolve`) |
//! | `statmount` | 6.8 | `/proc/PID/mountinfo` (`layerstore_sys::mountinfo`) |
//!
//! Invariant: what is mounted on the way is gone when a function returns, except for the mount that was asked for.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use layerstore_sys::mount::{self, Attributes, legacy};
use layerstore_sys::{self as sys, Dir, Errno};

use super::detached::{self, Opened, Performed};
use super::error::{self, MOUNT, failed};
use super::{Target, overlay};
use crate::error::{Error, Kind, Result};
use crate::plan::{Bind, IdMapping, MountPlan, Overlay, Source};

/// Most bytes of mount(2)'s options: a page less the end of the text.
pub(super) const MAX_OPTIONS: usize = 4095;

/// An error on a thread of `legacy`.
enum Failure {
    System(sys::Error),
    Driver(Error),
}

impl From<sys::Error> for Failure {
    fn from(error: sys::Error) -> Self {
        Self::System(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System(error) => failed(error),
            Failure::Driver(error) => error,
        }
    }
}

/// Performs a plan where nobody sees it: in a mount namespace of a thread, out of which only the descriptor
/// comes. Where `open_tree` is there, what comes out is a copy that can be attached.
pub(super) fn perform(plan: &MountPlan) -> Result<Performed> {
    legacy::in_private_namespace(|scratch| {
        let mut workshop = Workshop { base: scratch.to_owned(), made: Vec::new() };
        let place = workshop.place()?;
        workshop.build(plan, &place, &place)?;
        let root = mount::open_directory(&place)?;
        let performed = match mount::clone_tree(root.as_fd()) {
            Ok(fd) => Performed { fd, movable: true },
            Err(error) if error.errno() == Errno::NOSYS => Performed { fd: root, movable: false },
            Err(error) => return Err(error.into()),
        };
        // The thread's end would do the same, but later than its joining.
        mount::unmount_lazily(scratch)?;
        Ok::<_, Failure>(performed)
    })
    .map_err(Error::from)
}

/// Mounts a plan at a target without `move_mount`.
pub(super) fn attach(plan: &MountPlan, target: &Target, scratch: &Dir) -> Result<()> {
    let name = format!("mounting-{}-{}", std::process::id(), target.fd.as_raw_fd());
    scratch.ensure_dir(name.as_bytes(), 0o700).map_err(failed)?;
    let mut workshop = Workshop { base: scratch.path().join(&name), made: Vec::new() };
    let through = legacy::descriptor_path(target.fd.as_fd());
    let built = workshop.build(plan, &through, &target.path);
    let built = built.and_then(|()| Ok(legacy::make_private(&target.path)?));
    workshop.clear();
    let removed = sys::remove::tree(scratch, name.as_bytes());
    built?;
    removed.map_err(failed)
}

/// Where plans inside of plans are mounted on the way.
struct Workshop {
    base: PathBuf,
    made: Vec<PathBuf>,
}

impl Workshop {
    /// A new mount point.
    fn place(&mut self) -> Result<PathBuf, Failure> {
        let name = self.made.len().to_string();
        Dir::open(&self.base)?.make_dir(name.as_bytes(), 0o700)?;
        let place = self.base.join(name);
        self.made.push(place.clone());
        Ok(place)
    }

    /// Takes down what was mounted on the way.
    fn clear(&self) {
        for place in self.made.iter().rev() {
            // A place where nothing was mounted yet is fine.
            let _ = mount::unmount_lazily(place);
        }
    }

    /// Mounts a plan: the mount goes where `through` leads, and `place` leads to it afterwards.
    fn build(&mut self, plan: &MountPlan, through: &Path, place: &Path) -> Result<(), Failure> {
        match plan {
            MountPlan::Bind(plan) => self.bind(plan, through, place),
            MountPlan::Overlay(plan) => self.overlay(plan, through),
        }
    }

    /// Opens where a source is, in this namespace.
    fn open(&mut self, source: &Source) -> Result<OwnedFd, Failure> {
        match source {
            Source::Path(path) => Ok(mount::open_directory(path)?),
            Source::Plan { plan, subdirectory } => {
                let place = self.place()?;
                self.build(plan, &place, &place)?;
                let root = mount::open_directory(&place)?;
                Ok(sys::resolve::directory(&root, subdirectory)?)
            }
        }
    }

    fn bind(&mut self, plan: &Bind, through: &Path, place: &Path) -> Result<(), Failure> {
        let source = self.open(&plan.source)?;
        match &plan.id_mapping {
            None => legacy::bind(&legacy::descriptor_path(source.as_fd()), through)?,
            Some(mapping) => {
                let mount = mapped(source, mapping)?;
                mount::attach(mount.as_fd(), mount::open_directory(through)?.as_fd())?;
            }
        }
        let flags = plan.flags.of_mount(plan.read_only);
        if !flags.is_empty() {
            legacy::add_flags(place, flags).map_err(|error| error::flags(error, flags))?;
        }
        Ok(())
    }

    /// A layer directory for an overlay, mapped where it has to be: at a place of its own then, since a layer must
    /// not be a detached mount.
    fn layer(&mut self, directory: OwnedFd, mapping: Option<&IdMapping>) -> Result<OwnedFd, Failure> {
        let Some(mapping) = mapping else { return Ok(directory) };
        let mount = mapped(directory, mapping)?;
        let place = self.place()?;
        mount::attach(mount.as_fd(), mount::open_directory(&place)?.as_fd())?;
        Ok(mount::open_directory(&place)?)
    }

    fn overlay(&mut self, plan: &Overlay, through: &Path) -> Result<(), Failure> {
        let mapping = plan.id_mapping.as_ref();
        let mut lowers = Vec::new();
        for lower in &plan.lowers {
            let mapping = mapping.filter(|_| !overlay::maps_itself(lower));
            let lower = self.open(lower)?;
            lowers.push(self.layer(lower, mapping)?);
        }
        let numbers: Vec<_> = lowers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut options = vec![format!("lowerdir={}", numbers.join(":"))];
        let mut parts = Vec::new();
        if let Some(upper) = &plan.upper {
            let Opened { fd, .. } = detached::open_upper(upper)?;
            let directory = self.layer(fd, mapping)?;
            for (key, name) in [("upperdir", &upper.upper), ("workdir", &upper.work)] {
                let part = detached::open_part(&directory, upper, name)?;
                options.push(format!("{key}={}", part.as_raw_fd()));
                parts.push(part);
            }
        }
        options.extend(overlay::join(&overlay::known_options(&plan.features)));
        if let Some(label) = &plan.label {
            error::check_selinux()?;
            options.push(format!("context=\"{label}\""));
        }
        let options = options.join(",");
        if options.len() > MAX_OPTIONS {
            let message = format!("{} layers do not fit into a page of mount options", plan.lowers.len());
            return Err(Error::new(Kind::LimitExceeded, MOUNT, message).into());
        }
        let flags = overlay::flags(plan);
        let mount = || legacy::mount("overlay", "overlay", through, flags, options.as_bytes());
        legacy::among_descriptors(|| detached::as_mapped_root(plan, mount))
            .map_err(|error| error::overlay(error).into())
    }
}

/// A copy of a directory's mount that maps ids.
fn mapped(directory: OwnedFd, mapping: &IdMapping) -> Result<OwnedFd, Failure> {
    let namespace = detached::user_namespace(mapping)?;
    let mount = mount::clone_tree(directory.as_fd()).map_err(|error| match error.errno() {
        Errno::NOSYS => error::id_mapping(error, directory.as_fd()),
        _ => failed(error),
    })?;
    let attributes =
        Attributes { user_namespace: Some(namespace.as_fd()), private: true, ..Attributes::default() };
    mount::set_attributes(mount.as_fd(), &attributes)
        .map_err(|error| error::id_mapping(error, mount.as_fd()))?;
    Ok(mount)
}
