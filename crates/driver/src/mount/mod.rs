//! The one place that mounts and unmounts.
//!
//! A driver says what its view is ([`MountPlan`]); this makes it
//! - a **detached mount**: a descriptor, visible nowhere, gone with the process ([`DriverExt::mount_detached`]);
//! - an **attached mount** at a path ([`DriverExt::mount`]);
//! - **mount strings** for those who mount by themselves ([`DriverExt::mount_strings`]).
//!
//! The trait is implemented once, for all drivers, because what it promises does not depend on how layers lie:
//! a layer is mounted writable at most once, whoever asks; the same request gives the same mount; the driver is
//! told ([`Driver::release`]) when the last mount is gone. The book that knows is [`crate::lease`].
//!
//! Invariant: while a mount is made or ended, the layer's lock is held: shared for reading, alone for writing,
//! so that applying and sealing never meet a mount in the making.

mod attach;
mod detached;
mod error;
mod fallback;
mod overlay;
mod strings;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use layerstore_sys::Dir;
use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::mountinfo::Root;
use layerstore_sys::process::MountNamespace;

use self::attach::Target;
use self::error::{MOUNT, UNMOUNT, failed, patiently};
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::id::LayerId;
use crate::lease::{Held, LayerLock, Lease, Live, Use};
use crate::plan::{Access, MountPlan, PlanOptions};

pub use strings::strings;

/// A mount that is visible nowhere; gone when dropped (or when the process dies).
#[derive(Debug)]
pub struct DetachedMount {
    // The order is that of dropping: the mount goes before the lease.
    fd: OwnedFd,
    lease: Option<Lease>,
}

impl DetachedMount {
    /// The mount's root directory, opened `O_PATH`.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The mount's root directory, for reading. What it opens must not outlive the mount.
    ///
    /// # Errors
    /// `System`.
    pub fn root(&self) -> Result<Dir> {
        let fd = self.fd.try_clone().map_err(error::descriptor)?;
        Dir::from_fd(fd, "mounted view").open_dir(b".").map_err(failed)
    }

    /// Whether the mount counts as a use of its layer ([`perform`] gives mounts that do not).
    pub fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// The mount, and the descriptor that makes it count as a use of its layer (none after [`perform`]): to be
    /// passed to another process together, for example over a socket. The use lasts until the last copy of the
    /// second is closed, so close the mount first.
    pub fn into_descriptors(self) -> (OwnedFd, Option<OwnedFd>) {
        let Self { fd, lease } = self;
        (fd, lease.and_then(Lease::into_descriptor))
    }

    /// Ends the mount and releases the layer if it was the last. Dropping leaves the release to the next unmount
    /// of the layer, or to [`Driver::recover`].
    ///
    /// # Errors
    /// Those of [`Driver::release`].
    pub fn close<D: Driver + ?Sized>(self, driver: &D, id: &LayerId) -> Result<()> {
        let _locked = lock(driver, id, Access::ReadOnly)?;
        drop(self);
        release_if_unused(driver, id)
    }
}

/// Performs a plan where nobody sees it, without any lease: for a driver's probe, which tries a mount before there
/// is a layer. Everybody else uses [`DriverExt::mount_detached`].
///
/// # Errors
/// `Unsupported` with the missing kernel feature or privilege, `System` for other calls that fail.
pub fn perform(plan: &MountPlan) -> Result<DetachedMount> {
    Ok(DetachedMount { fd: detached::perform(plan)?.fd, lease: None })
}

/// A mount at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: PathBuf,
}

/// One mount(2) call for somebody who mounts by himself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MountString {
    /// File system type.
    pub r#type: String,
    /// Source.
    pub source: String,
    /// Options.
    pub options: Vec<String>,
}

/// Mounting, for everybody who uses a driver. Implemented once, for all drivers.
pub trait DriverExt {
    /// Mounts a layer's view where nobody sees it: for reading, diffing, or passing on.
    ///
    /// # Errors
    /// Those of `plan`; `InUse` when a writable view is wanted and there is one already.
    fn mount_detached(&self, id: &LayerId, options: &PlanOptions) -> Result<DetachedMount>;

    /// Mounts a layer's view at a directory. Asking again for what is there already gives the same mount.
    ///
    /// # Errors
    /// As `mount_detached`; `InUse` when the layer is mounted there in another way; `NotFound` or `InvalidInput`
    /// for the target.
    fn mount(&self, id: &LayerId, options: &PlanOptions, target: &Path) -> Result<Mounted>;

    /// Undoes [`mount`](Self::mount) at this target, in this mount namespace, and releases the layer when it was
    /// the last. Idempotent. While a mount namespace that was made meanwhile has a copy of a writable overlay, the
    /// layer stays in use.
    ///
    /// # Errors
    /// `InUse` when somebody still works in it, another mount covers it, or it is in another mount namespace.
    fn unmount(&self, id: &LayerId, target: &Path) -> Result<()>;

    /// What others have to mount; counts as use until [`DriverExt::release_strings`].
    ///
    /// # Errors
    /// As `mount_detached`; `LimitExceeded` and `Unsupported` for what strings cannot say, with the reason.
    fn mount_strings(&self, id: &LayerId, options: &PlanOptions) -> Result<Vec<MountString>>;

    /// Ends the use by strings. Idempotent.
    ///
    /// # Errors
    /// `System`.
    fn release_strings(&self, id: &LayerId) -> Result<()>;

    /// Where the layer is mounted, in this mount namespace, as the kernel sees it.
    ///
    /// # Errors
    /// `System`.
    fn mounts(&self, id: &LayerId) -> Result<Vec<Mounted>>;
}

impl<D: Driver + ?Sized> DriverExt for D {
    fn mount_detached(&self, id: &LayerId, options: &PlanOptions) -> Result<DetachedMount> {
        let _locked = lock(self, id, options.access)?;
        let make = || {
            refuse_second_writer(self, id, options, &self.leases().live(id)?)?;
            let plan = self.plan(id, options)?;
            let performed = detached::perform(&plan)?;
            let record = self.leases().record(options, Held::Detached);
            Ok(DetachedMount { fd: performed.fd, lease: Some(self.leases().take(id, &record)?) })
        };
        or_release(self, id, make())
    }

    fn mount(&self, id: &LayerId, options: &PlanOptions, target: &Path) -> Result<Mounted> {
        let _locked = lock(self, id, options.access)?;
        let make = || {
            let target = Target::open(target)?;
            let live = self.leases().live(id)?;
            if let Some(there) = live.iter().find(|live| live.is_at(&target)) {
                if there.record.options == *options {
                    return Ok(Mounted { target: target.path });
                }
                let message = format!("it is {} already, with other options", describe(there)?);
                return Err(Error::new(Kind::InUse, MOUNT, message).with_hint("unmount it first"));
            }
            refuse_second_writer(self, id, options, &live)?;
            let plan = self.plan(id, options)?;
            attach::attach(self.leases(), id, options, &plan, &target)?;
            Ok(Mounted { target: target.path })
        };
        or_release(self, id, make())
    }

    fn unmount(&self, id: &LayerId, target: &Path) -> Result<()> {
        let _locked = lock(self, id, Access::ReadOnly)?;
        let unmount = || {
            let live = self.leases().live(id)?;
            if let Some((live, found)) = find(&live, target)? {
                attach::detach(&found.path)?;
                keep_for_copies(self, id, live, &found)?;
                self.leases().end(id, live)?;
            }
            release_if_unused(self, id)
        };
        unmount().map_err(|error: Error| named(self, id, error))
    }

    fn mount_strings(&self, id: &LayerId, options: &PlanOptions) -> Result<Vec<MountString>> {
        let _locked = lock(self, id, options.access)?;
        let make = || {
            let live = self.leases().live(id)?;
            let same =
                |live: &&Live| matches!(live.record.held, Held::Strings) && live.record.options == *options;
            let handed_out = live.iter().any(|live| same(&live));
            if !handed_out {
                refuse_second_writer(self, id, options, &live)?;
            }
            let strings = strings(&self.plan(id, options)?)?;
            if !handed_out {
                self.leases().take(id, &self.leases().record(options, Held::Strings))?.leave();
            }
            Ok(strings)
        };
        or_release(self, id, make())
    }

    fn release_strings(&self, id: &LayerId) -> Result<()> {
        let _locked = lock(self, id, Access::ReadOnly)?;
        for live in self.leases().live(id)? {
            if matches!(live.record.held, Held::Strings) {
                self.leases().end(id, &live)?;
            }
        }
        release_if_unused(self, id)
    }

    fn mounts(&self, id: &LayerId) -> Result<Vec<Mounted>> {
        let here = self.leases().uses(id)?.into_iter().filter_map(Use::target_here);
        Ok(here.map(|target| Mounted { target }).collect())
    }
}

/// The layer's lock and that of its uses, in the order that everybody takes them.
fn lock<D: Driver + ?Sized>(driver: &D, id: &LayerId, access: Access) -> Result<(LayerLock, LayerLock)> {
    let leases = driver.leases();
    let layer = match access {
        Access::ReadWrite => leases.lock(id)?,
        Access::ReadOnly => leases.lock_shared(id)?,
    };
    Ok((layer, leases.lock_uses(id)?))
}

/// Keeps a layer from being mounted writable twice.
fn refuse_second_writer<D: Driver + ?Sized>(
    driver: &D,
    id: &LayerId,
    options: &PlanOptions,
    live: &[Live],
) -> Result<()> {
    if options.access == Access::ReadOnly {
        return Ok(());
    }
    let Some(writer) = live.iter().find(|live| live.record.options.access == Access::ReadWrite) else {
        return Ok(());
    };
    Err(Error::new(Kind::InUse, MOUNT, format!("it is {}", describe(writer)?))
        .with_layer(id)
        .with_driver(driver.name())
        .with_hint("a layer can be written through one mount at a time: unmount it there first"))
}

fn describe(live: &Live) -> Result<String> {
    let here = MountNamespace::current().map_err(failed)?;
    Ok(live.describe(&here).to_string())
}

impl Live {
    /// Whether it is the mount that a target leads to.
    fn is_at(&self, target: &Target) -> bool {
        // The numbers of mounts are those of the whole system, whatever namespace they are in.
        matches!(&self.record.held, Held::Attached(attached) if attached.is(target.mount))
    }
}

/// Where a mount was found.
struct Found {
    /// Where the kernel has it.
    path: PathBuf,
    /// Whether its file system is its own (an overlay), not one that others mount too (a bind).
    own_file_system: bool,
    /// Its root directory, where that is known.
    root: Option<Root>,
}

/// Keeps a layer in use whose writable overlay is unmounted here but lives on in another mount namespace.
fn keep_for_copies<D: Driver + ?Sized>(driver: &D, id: &LayerId, live: &Live, found: &Found) -> Result<()> {
    let Held::Attached(attached) = &live.record.held else { return Ok(()) };
    if !found.own_file_system || live.record.options.access == Access::ReadOnly {
        return Ok(());
    }
    // A copy that goes by itself (of a program that is just being started) is waited for.
    let look = || match attached.copy_elsewhere(found.root) {
        Ok(None) => Ok(()),
        Ok(Some(copy)) => Err(Ok(copy)),
        Err(error) => Err(Err(error)),
    };
    match patiently(look, Result::is_ok) {
        Ok(()) => Ok(()),
        Err(Err(error)) => Err(failed(error)),
        Err(Ok((process, copy))) => {
            let mut record = driver.leases().record(&live.record.options, Held::Attached(copy));
            record.pid = process;
            driver.leases().take(id, &record)?.leave();
            Ok(())
        }
    }
}

/// The use that is mounted at a target in this namespace, and where the kernel has it; none when there is none.
fn find<'a>(live: &'a [Live], target: &Path) -> Result<Option<(&'a Live, Found)>> {
    let here = MountNamespace::current().map_err(failed)?;
    // The descriptor of the target must be closed before unmounting, or it would keep the mount busy.
    let mut own_file_system = false;
    let mut root = None;
    let (path, on_top) = match Target::open(target) {
        Ok(target) => {
            own_file_system = FsInfo::of(&target.fd).is_ok_and(|info| info.name() == "overlay");
            root = own_file_system.then(|| Root::of(&target.fd).ok()).flatten();
            (target.path, Some(target.mount))
        }
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::InvalidInput) => {
            (target.to_owned(), None)
        }
        Err(error) => return Err(error),
    };
    let mut elsewhere = None;
    for live in live {
        let Held::Attached(attached) = &live.record.held else { continue };
        let place = live.place.clone().unwrap_or_else(|| attached.target());
        let same_namespace = attached.namespace().same(&here);
        if same_namespace && on_top.is_some_and(|mount| attached.is(mount)) {
            let root = root.filter(|_| place == path);
            return Ok(Some((live, Found { path: place, own_file_system, root })));
        }
        if place == path && !attached.is_copy() {
            elsewhere = Some(if same_namespace {
                "another mount covers it"
            } else {
                "it is in another mount namespace"
            });
        }
    }
    match elsewhere {
        None => Ok(None),
        Some(why) => Err(Error::new(Kind::InUse, UNMOUNT, format!("{}: {why}", path.display()))),
    }
}

/// Tells the driver when nobody uses a layer any more.
fn release_if_unused<D: Driver + ?Sized>(driver: &D, id: &LayerId) -> Result<()> {
    if driver.leases().live(id)?.is_empty() { driver.release(id) } else { Ok(()) }
}

/// After a failure, undoes what the driver may have prepared; names the layer in the error.
fn or_release<D: Driver + ?Sized, T>(driver: &D, id: &LayerId, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        if let Err(error) = release_if_unused(driver, id) {
            tracing::warn!(%error, "cannot release a layer after a failed mount");
        }
        named(driver, id, error)
    })
}

/// An error that says which layer of which driver it is about.
fn named<D: Driver + ?Sized>(driver: &D, id: &LayerId, error: Error) -> Error {
    let error = if error.layer().is_none() { error.with_layer(id) } else { error };
    if error.driver().is_none() { error.with_driver(driver.name()) } else { error }
}
