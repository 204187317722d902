//! What the contract says of layers whatever lies in them: states, parents and children, mounts, locks. A driver
//! passes closures that do its own part.
//!
//! Locks: a layer that is written, made or removed is held alone; one that is read or built on is held shared.
//! Whoever needs two takes them in the order of their ids. Ancestors further down need no lock: they have a child,
//! and what has a child is not removed. Plans take none, see [`Driver::plan`](crate::Driver::plan).

use std::path::PathBuf;

use layerstore_sys::{self as sys, Dir, lock, lock::Lock};

use crate::driver::{Base, CreateOptions, LayerInfo, LayerState};
use crate::error::{Error, Kind, Result};
use crate::factory::OpenOptions;
use crate::id::LayerId;
use crate::lease::{LayerLock, Leases};

use super::limit;
use super::memo::Memo;
use super::operation::Operation;
use super::record::{self, RECORD, Record};
use super::root::{Format, Layer, Layout, drop_marker, marker_name};
use super::staging::Staged;

/// The layers of one root, and who uses them.
#[derive(Debug)]
pub struct Layers {
    pub(super) layout: Layout,
    pub(super) leases: Leases,
    runroot: PathBuf,
}

impl Layers {
    /// Opens a root and its book of leases. For `settings` see [`Layout::open`].
    ///
    /// # Errors
    /// Those of [`Layout::open`] and [`Leases::open`].
    pub fn open(options: &OpenOptions, format: Format, settings: &[(&str, String)]) -> Result<Self> {
        let operation = Operation::new(format.driver, "open root");
        let layout = Layout::open(&options.root, format, settings)?;
        sys::fs::make_dirs(&options.runroot, 0o700).map_err(|error| operation.system(error))?;
        let leases = Leases::open(&options.runroot).map_err(|error| operation.name_object(error))?;
        Ok(Self { layout, leases, runroot: options.runroot.clone() })
    }

    /// The root.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The book of locks and mounts.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What was found out about the root in this boot.
    pub fn memo(&self) -> Memo {
        Memo::new(self.layout.path(), &self.runroot)
    }

    /// An operation of this driver.
    pub fn operation(&self, name: &'static str) -> Operation<'static> {
        Operation::new(self.layout.driver(), name)
    }

    /// [`Driver::exists`](crate::Driver::exists).
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn exists(&self, id: &LayerId) -> Result<bool> {
        self.layout.exists(id, self.operation("look up layer"))
    }

    /// [`Driver::layer`](crate::Driver::layer).
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn layer(&self, id: &LayerId) -> Result<LayerInfo> {
        let operation = self.operation("look up layer").on(id);
        let layer = self.layout.load(id, operation)?;
        let half_applied = self.layout.was_left(id).map_err(|error| operation.system(error))?;
        Ok(layer.info(half_applied))
    }

    /// Makes a layer without a limit of its size. `fill` makes what the driver keeps in its directory.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` and `InvalidInput` for the parent; those of `fill`.
    pub fn create(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        operation: Operation<'_>,
        fill: impl FnOnce(&Staged<'_>) -> Result<()>,
    ) -> Result<()> {
        self.create_with(id, parent, &CreateOptions::default(), operation, fill)
    }

    /// Makes a layer as the options say.
    ///
    /// # Errors
    /// As [`Layers::create`]; `Unsupported` for a limit, see [`Layout::may_limit`]; `NoSpace` for one that is too
    /// small for an empty layer.
    pub fn create_with(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: &CreateOptions,
        operation: Operation<'_>,
        fill: impl FnOnce(&Staged<'_>) -> Result<()>,
    ) -> Result<()> {
        let operation = operation.on(id);
        let _locks = self.lock((id, Hold::Alone), parent.map(|parent| (parent, Hold::Shared)))?;
        if self.layout.exists(id, operation)? {
            return Err(operation.error(Kind::AlreadyExists, "the layer exists already"));
        }
        let parent = parent.map(|parent| self.parent(parent, operation)).transpose()?;
        limit::held(self.layout.root(), options.size_limit, operation, || {
            let staged = self.layout.begin(id, parent.as_ref(), options.size_limit, operation)?;
            fill(&staged)?;
            staged.publish(operation)
        })
    }

    /// Opens a layer that is to get a child.
    fn parent(&self, parent: &LayerId, operation: Operation<'_>) -> Result<Layer> {
        let layer = self.layout.load(parent, operation).map_err(|error| match error.kind() {
            Kind::NotFound => operation.error(Kind::NotFound, format!("its parent {parent} does not exist")),
            _ => error,
        })?;
        if layer.state() != LayerState::Sealed {
            let message = format!("its parent {parent} is not sealed");
            return Err(operation.error(Kind::InvalidInput, message).with_hint("seal the parent first"));
        }
        Ok(layer)
    }

    /// Writes into a writable layer that is not mounted. When `apply` fails, or the process dies meanwhile, the
    /// layer stays marked as good for nothing but removal.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` when sealed, `InUse` when mounted, `Corrupt` after an apply that failed; those
    /// of `apply`.
    pub fn write<T>(
        &self,
        id: &LayerId,
        operation: Operation<'_>,
        apply: impl FnOnce(&Layer) -> Result<T>,
    ) -> Result<T> {
        let operation = operation.on(id);
        let _lock = self.leases.lock(id)?;
        let layer = self.layout.load(id, operation)?;
        if layer.state() == LayerState::Sealed {
            return Err(operation
                .error(Kind::InvalidInput, "the layer is sealed")
                .with_hint("create a layer over it"));
        }
        let in_use = self.leases.in_use(id)?;
        if in_use.writable || in_use.read_only > 0 {
            return Err(operation.error(Kind::InUse, "the layer is mounted").with_hint("unmount it first"));
        }
        let mark = match self.layout.applying.create_file(id.as_str().as_bytes(), 0o600) {
            Err(error) if error.is_exists() => return Err(half_applied(operation)),
            mark => mark.map_err(|error| operation.system(error))?,
        };
        // So that recovery sees at once that somebody is at it.
        let _mark = Lock::wait(mark, lock::Mode::Exclusive).map_err(|error| operation.system(error))?;
        let applied = limit::held(self.layout.root(), layer.record.limit, operation, || apply(&layer))?;
        self.layout.forget_apply(id).map_err(|error| operation.system(error))?;
        Ok(applied)
    }

    /// Reads a layer, and another one to compare it with: none is the empty view. Neither is written or removed
    /// meanwhile.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of `read`.
    pub fn read<T>(
        &self,
        id: &LayerId,
        base: Base<'_>,
        operation: Operation<'_>,
        read: impl FnOnce(&Layer, Option<&Layer>) -> Result<T>,
    ) -> Result<T> {
        let operation = operation.on(id);
        let other = match base {
            Base::Layer(other) => Some((other, Hold::Shared)),
            Base::Parent | Base::Empty => None,
        };
        let _locks = self.lock((id, Hold::Shared), other)?;
        let layer = self.layout.load(id, operation)?;
        let base = match base {
            Base::Empty => None,
            Base::Layer(other) => Some(self.layout.load(other, operation)?),
            Base::Parent => {
                let parent = layer.record.parent.as_ref();
                parent.map(|parent| self.layout.load(parent, operation)).transpose()?
            }
        };
        read(&layer, base.as_ref())
    }

    /// Removes a layer, also one whose records are damaged. `forget` undoes what the driver keeps outside of the
    /// layer's directory; it is called once the layer is gone, and a failure is left to recovery.
    ///
    /// # Errors
    /// `NotFound`; `InUse` when mounted or with children.
    pub fn remove(
        &self,
        id: &LayerId,
        operation: Operation<'_>,
        forget: impl FnOnce(&Dir) -> sys::Result<()>,
    ) -> Result<()> {
        let lock = self.leases.lock(id)?;
        self.remove_locked(id, lock, operation, forget)
    }

    /// As [`Layers::remove`], with the layer's lock, which is given back as soon as the layer is gone.
    pub(super) fn remove_locked(
        &self,
        id: &LayerId,
        lock: LayerLock,
        operation: Operation<'_>,
        forget: impl FnOnce(&Dir) -> sys::Result<()>,
    ) -> Result<()> {
        let operation = operation.on(id);
        let dir = match self.layout.open_layer(id, operation) {
            Err(error) if error.kind() == Kind::Corrupt => return self.layout.clear_no_layer(id, operation),
            opened => opened?.ok_or_else(|| operation.not_found())?,
        };
        let in_use = self.leases.in_use(id)?;
        if in_use.writable || in_use.read_only > 0 {
            return Err(operation.error(Kind::InUse, "the layer is mounted").with_hint("unmount it first"));
        }
        if let Some(child) = self.layout.any_child(id, &dir, operation)? {
            return Err(operation
                .error(Kind::InUse, format!("the layer {child} is built on it"))
                .with_hint("remove the layers above it first"));
        }
        let (trashed, _trash_lock) = self
            .layout
            .throw_away(self.layout.root(), self.layout.name_of(id).as_bytes())
            .map_err(|error| operation.system(error))?;
        // It is gone. What follows only tidies, and recovery can do it as well.
        // Without a record that can be read, a stale marker stays in its parent. It counts for nothing.
        let record = record::read::<Record>(&dir, RECORD, operation).ok().flatten();
        let tidied = forget(&dir)
            .and_then(|()| self.layout.forget_apply(id))
            .map_err(|error| operation.system(error))
            .and_then(|()| self.forget_child(record.as_ref(), operation));
        drop(lock);
        if let Err(error) = tidied {
            // What is kept elsewhere is found by what lies in the trash, so that stays until recovery has been there.
            tracing::warn!(%error, "could not tidy up after a removed layer; recovery will");
            return Ok(());
        }
        self.layout.reap(&trashed, record.as_ref());
        Ok(())
    }

    /// Removes the marker of a layer from its parent.
    pub(super) fn forget_child(&self, record: Option<&Record>, operation: Operation<'_>) -> Result<()> {
        let Some(record) = record else { return Ok(()) };
        let Some(parent) = &record.parent else { return Ok(()) };
        match self.layout.open_layer(parent, operation)? {
            Some(parent) => {
                drop_marker(&parent, &marker_name(record)).map_err(|error| operation.system(error))
            }
            None => Ok(()),
        }
    }

    /// Every layer. One whose records are damaged is left out with a warning; recovery reports it, asking for it
    /// by its id gives the error, and it can be removed.
    ///
    /// # Errors
    /// `System`.
    pub fn list(&self, operation: Operation<'_>) -> Result<Vec<LayerInfo>> {
        let mut found = Vec::new();
        // Once for all: there are hardly ever any.
        let marks = self.layout.applying.entries().map_err(|error| operation.system(error))?;
        for id in self.layout.ids(operation)? {
            match self.layout.load(&id, operation) {
                Ok(layer) => {
                    let marked = marks.iter().any(|mark| mark.name == id.as_str().as_bytes());
                    let half_applied =
                        marked && self.layout.was_left(&id).map_err(|error| operation.system(error))?;
                    found.push(layer.info(half_applied));
                }
                Err(error) => match error.kind() {
                    // Removed since the names were read.
                    Kind::NotFound => {}
                    Kind::Corrupt | Kind::Unsupported => tracing::warn!(%error, "left out a damaged layer"),
                    _ => return Err(error),
                },
            }
        }
        Ok(found)
    }

    /// Takes one or two locks in the order of the ids, which excludes a circle of waiting.
    pub(super) fn lock(
        &self,
        one: (&LayerId, Hold),
        other: Option<(&LayerId, Hold)>,
    ) -> Result<(LayerLock, Option<LayerLock>)> {
        let take = |(id, hold): (&LayerId, Hold)| match hold {
            Hold::Alone => self.leases.lock(id),
            Hold::Shared => self.leases.lock_shared(id),
        };
        match other {
            Some(other) if other.0 < one.0 => {
                let other = take(other)?;
                Ok((take(one)?, Some(other)))
            }
            // Equal ids: the first hold is the stronger one.
            Some(other) if other.0 > one.0 => Ok((take(one)?, Some(take(other)?))),
            _ => Ok((take(one)?, None)),
        }
    }
}

/// How a layer is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hold {
    Alone,
    Shared,
}

pub(super) fn half_applied(operation: Operation<'_>) -> Error {
    operation
        .error(Kind::Corrupt, "a changeset was not applied to its end, the layer holds a part of it")
        .with_hint("remove the layer and make it again")
}

impl Layout {
    /// Takes back the mark of an apply; none is left alone.
    pub(super) fn forget_apply(&self, id: &LayerId) -> sys::Result<()> {
        match self.applying.unlink(id.as_str().as_bytes()) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether an apply broke off: there is a mark, and nobody holds it.
    pub(super) fn was_left(&self, id: &LayerId) -> sys::Result<bool> {
        match self.applying.open_file(id.as_str().as_bytes()) {
            Err(error) if error.is_not_found() => Ok(false),
            // Whoever applies holds the mark; the attempt ends here, so that nobody waits for it.
            mark => Ok(Lock::attempt(mark?, lock::Mode::Shared)?.is_ok()),
        }
    }

    pub(super) fn is_half_applied(&self, id: &LayerId) -> sys::Result<bool> {
        Ok(self.applying.try_stat(id.as_str().as_bytes())?.is_some())
    }
}
