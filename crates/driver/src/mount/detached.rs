//! A plan as a mount that nobody sees: the way of Linux 5.2 and later.
//!
//! Layers are passed as descriptors (Linux 6.13), before that as `/proc/self/fd/N` in `lowerdir+` (6.7), so that
//! no byte of a path matters. What this kernel cannot do so, [`fallback`](super::fallback) does.

use std::os::fd::{AsFd as _, OwnedFd};

use layerstore_sys::mount::{self, Attributes, FsContext};
use layerstore_sys::{self as sys, Dir, Errno};

use super::error::{self, Try, failed};
use super::{fallback, overlay};
use crate::error::{Kind, Result};
use crate::plan::{Bind, IdMap, IdMapping, MountPlan, Overlay, Source, Upper};

/// A mount held by a descriptor.
#[derive(Debug)]
pub(super) struct Performed {
    /// Its root directory.
    pub(super) fd: OwnedFd,
    /// Whether `move_mount` can attach it.
    pub(super) movable: bool,
}

/// Performs a plan where nobody sees it.
pub(super) fn perform(plan: &MountPlan) -> Result<Performed> {
    plan.check()?;
    error::patiently(|| perform_once(plan), |error| error.kind() == Kind::InUse)
}

fn perform_once(plan: &MountPlan) -> Result<Performed> {
    match attempt(plan) {
        Ok(fd) => Ok(Performed { fd, movable: true }),
        Err(Try::Otherwise(why)) => {
            tracing::debug!(%why, "mounting as older kernels do");
            fallback::perform(plan).map_err(|error| error::after(error, &why))
        }
        Err(Try::Failed(error)) => Err(error),
    }
}

fn attempt(plan: &MountPlan) -> Result<OwnedFd, Try> {
    match plan {
        MountPlan::Bind(plan) => bind(plan),
        MountPlan::Overlay(plan) => self::overlay(plan),
    }
}

/// An open directory, with the mount that it lies in where nothing else keeps that.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) within: Option<OwnedFd>,
}

/// Opens where a source is, performing the plan it comes from.
pub(super) fn open(source: &Source) -> Result<Opened> {
    match source {
        Source::Path(path) => Ok(Opened { fd: mount::open_directory(path).map_err(failed)?, within: None }),
        Source::Plan { plan, subdirectory } => {
            let within = perform(plan)?.fd;
            // As if the inner view were the root: what lies in it may be hostile.
            let fd = sys::resolve::directory(&within, subdirectory).map_err(failed)?;
            Ok(Opened { fd, within: Some(within) })
        }
    }
}

fn bind(plan: &Bind) -> Result<OwnedFd, Try> {
    let source = open(&plan.source)?;
    let mount = clone(&source)?;
    let namespace = plan.id_mapping.as_ref().map(user_namespace).transpose()?;
    let attributes = Attributes {
        flags: plan.flags.of_mount(plan.read_only),
        user_namespace: namespace.as_ref().map(|namespace| namespace.as_fd()),
        private: true,
    };
    match mount::set_attributes(mount.as_fd(), &attributes) {
        // Without the call the copy is as private as its source, and cannot be given flags.
        Err(error) if error.errno() == Errno::NOSYS && plan.id_mapping.is_none() => {
            if attributes.flags.is_empty() { Ok(mount) } else { Err(Try::Otherwise(error)) }
        }
        Err(error) if plan.id_mapping.is_some() => Err(error::id_mapping(error, mount.as_fd()).into()),
        result => result.map(|()| mount).map_err(|error| error::flags(error, attributes.flags).into()),
    }
}

/// Copies the mount that holds a directory.
fn clone(source: &Opened) -> Result<OwnedFd, Try> {
    mount::clone_tree(source.fd.as_fd()).map_err(|error| match error.errno() {
        Errno::NOSYS => Try::Otherwise(error),
        // Before Linux 6.15 a detached mount cannot be copied.
        Errno::INVAL if source.within.is_some() => Try::Otherwise(error),
        _ => failed(error).into(),
    })
}

/// The layer directory that an overlay is given: as it is, or through a copy of its mount that maps ids.
pub(super) fn mapped(source: Opened, namespace: Option<&OwnedFd>) -> Result<Opened, Try> {
    let Some(namespace) = namespace else { return Ok(source) };
    let mount = clone(&source)?;
    let attributes =
        Attributes { user_namespace: Some(namespace.as_fd()), private: true, ..Attributes::default() };
    mount::set_attributes(mount.as_fd(), &attributes)
        .map_err(|error| error::id_mapping(error, mount.as_fd()))?;
    let fd = sys::resolve::directory(&mount, "".as_ref()).map_err(failed)?;
    Ok(Opened { fd, within: Some(mount) })
}

fn overlay(plan: &Overlay) -> Result<OwnedFd, Try> {
    let context = match FsContext::open("overlay") {
        Err(error) if matches!(error.errno(), Errno::NOSYS | Errno::PERM) => {
            return Err(Try::Otherwise(error));
        }
        opened => opened.map_err(error::overlay)?,
    };
    let namespace = plan.id_mapping.as_ref().map(user_namespace).transpose()?;
    set(&context, "source", Some("overlay"))?;
    let mut layers = Layers { context: &context, by_name: false, first: true, detached: Vec::new() };
    for lower in &plan.lowers {
        let namespace = namespace.as_ref().filter(|_| !overlay::maps_itself(lower));
        layers.give("lowerdir+", mapped(open(lower)?, namespace)?)?;
    }
    if let Some(upper) = &plan.upper {
        let directory = mapped(open_upper(upper)?, namespace.as_ref())?;
        for (key, name) in [("upperdir", &upper.upper), ("workdir", &upper.work)] {
            let fd = open_part(&directory.fd, upper, name)?;
            layers.give(key, Opened { fd, within: None })?;
        }
        layers.detached.extend(directory.within);
    }
    for (key, value) in overlay::options(&plan.features) {
        set(&context, key, value)?;
    }
    if let Some(label) = &plan.label {
        error::check_selinux()?;
        set(&context, "context", Some(label))?;
    }
    as_mapped_root(plan, || context.create()).map_err(|error| match error.errno() {
        // From Linux 5.14 to 6.13 the layers of an overlay must not be detached mounts.
        Errno::INVAL if !layers.detached.is_empty() => Try::Otherwise(error),
        _ => failed(error).into(),
    })?;
    Ok(context.mount(overlay::flags(plan)).map_err(failed)?)
}

/// Makes an overlay as the user that the mapping shows for the superuser on disk, if there is something to write:
/// the overlay keeps the mounter's ids for what it writes itself.
pub(super) fn as_mapped_root(
    plan: &Overlay,
    make: impl FnOnce() -> sys::Result<()> + Send,
) -> sys::Result<()> {
    let root = |maps: &[IdMap]| maps.iter().find(|map| map.on_disk == 0).map(|map| map.shown);
    match (&plan.id_mapping, &plan.upper) {
        (Some(IdMapping { users, groups }), Some(_)) => match (root(users), root(groups)) {
            (Some(uid), Some(gid)) => sys::idmap::as_file_owner(uid, gid, make),
            // The plan was checked: it maps both.
            _ => make(),
        },
        _ => make(),
    }
}

/// The layers of an overlay that is being configured. The context keeps what it is given open.
struct Layers<'a> {
    context: &'a FsContext,
    /// Whether they are given as paths of descriptors.
    by_name: bool,
    /// Whether this is the first.
    first: bool,
    /// Detached mounts among them, which have to live until the overlay has copied them.
    detached: Vec<OwnedFd>,
}

impl Layers<'_> {
    fn give(&mut self, key: &str, layer: Opened) -> Result<(), Try> {
        if !self.by_name {
            match self.context.set_fd(key, layer.fd.as_fd()) {
                // Before Linux 6.5, where what is configured is one text for overlay's old parser: it says no more than
                // EINVAL in the end.
                Err(error) if self.first && error.errno() == Errno::OPNOTSUPP => {
                    return Err(Try::Otherwise(error));
                }
                // Before Linux 6.13.
                Err(error) if self.first && is_unknown(&error) => self.by_name = true,
                result => result.map_err(failed)?,
            }
        }
        if self.by_name {
            let path = mount::legacy::descriptor_path(layer.fd.as_fd());
            match self.context.set_string(key, path.as_os_str().as_encoded_bytes()) {
                // Before Linux 6.7.
                Err(error) if self.first && error.errno() == Errno::INVAL => {
                    return Err(Try::Otherwise(error));
                }
                result => result.map_err(failed)?,
            }
        }
        self.first = false;
        self.detached.extend(layer.within);
        Ok(())
    }
}

/// Whether the kernel may not know this form of an option. What else EINVAL may mean, the next form meets again. EBADF is
/// said of an `O_PATH` descriptor that is open, before Linux 6.13: the kernel took none there for any option.
fn is_unknown(error: &sys::Error) -> bool {
    matches!(error.errno(), Errno::INVAL | Errno::NOSYS | Errno::BADF)
}

fn set(context: &FsContext, key: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => context.set_string(key, value.as_bytes()),
        None => context.set_flag(key),
    }
    .map_err(failed)
}

/// Opens the directory that holds upper and work, cleared of what a volatile mount left there.
pub(super) fn open_upper(upper: &Upper) -> Result<Opened> {
    let directory = Dir::open(&upper.directory).map_err(failed)?;
    overlay::forget_volatile(&directory, upper).map_err(failed)?;
    open(&Source::Path(upper.directory.clone()))
}

/// Opens the upper or the work directory in the one that holds both.
pub(super) fn open_part(directory: &OwnedFd, upper: &Upper, name: &str) -> Result<OwnedFd> {
    let directory = Dir::from_fd(directory.try_clone().map_err(error::descriptor)?, &*upper.directory);
    directory.open_dir(name.as_bytes()).and_then(|part| part.open_handle(b".")).map_err(failed)
}

/// A user namespace that maps ids as the plan says.
pub(super) fn user_namespace(mapping: &IdMapping) -> Result<OwnedFd> {
    let ranges = |maps: &[IdMap]| -> Vec<_> {
        maps.iter()
            .map(|map| sys::idmap::Range { inside: map.on_disk, outside: map.shown, count: map.count })
            .collect()
    };
    sys::idmap::user_namespace(&ranges(&mapping.users), &ranges(&mapping.groups)).map_err(error::namespace)
}
