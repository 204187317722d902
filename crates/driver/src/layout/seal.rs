//! Sealing a layer, and what it takes: measured and recorded once, when it is sealed.

use layerstore_changeset::tree::Usage;

use super::layers::{Layers, half_applied};
use super::limit;
use super::operation::Operation;
use super::record::{self, SEALED, Sealed};
use super::root::Layer;
use crate::error::{Kind, Result};
use crate::id::LayerId;

impl Layers {
    /// Seals a layer; `measure` says what it takes, from [`Layer::count`] maybe. A layer that is sealed already is
    /// left as it is.
    ///
    /// # Errors
    /// `NotFound`, `InUse` when mounted writable, `Corrupt` after an apply that failed, `Unsupported` when a
    /// parent is given that is not the layer's; those of `measure`.
    pub fn seal(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        operation: Operation<'_>,
        measure: impl FnOnce(&Layer) -> Result<Usage>,
    ) -> Result<Usage> {
        let operation = operation.on(id);
        let _lock = self.leases.lock(id)?;
        let layer = self.layout.load(id, operation)?;
        if parent.is_some() && parent != layer.record.parent.as_ref() {
            let message = "this driver needs a layer's parent when it is created, not when it is sealed";
            return Err(operation.error(Kind::Unsupported, message));
        }
        if let Some(sealed) = layer.sealed {
            return Ok(sealed.usage());
        }
        if self.leases.in_use(id)?.writable {
            return Err(operation
                .error(Kind::InUse, "the layer is mounted writable")
                .with_hint("unmount it first"));
        }
        if self.layout.is_half_applied(id).map_err(|error| operation.system(error))? {
            return Err(half_applied(operation));
        }
        let usage = measure(&layer)?;
        let sealed = Sealed::new(usage);
        let written = limit::beyond(&layer.dir, || record::write(&layer.dir, SEALED, &sealed));
        if let (Err(_), Some(limit)) = (&written, layer.record.limit) {
            // It stays writable, and so limited. The first error is the one to report.
            let _ = limit::set_again(&layer.dir, limit);
        }
        written.map_err(|error| operation.system(error))?;
        if let Err(error) = layer.drop_count() {
            tracing::debug!(layer = %id, %error, "could not tidy up a sealed layer");
        }
        Ok(usage)
    }

    /// What a layer takes: as recorded for a sealed one, else as `measure` says.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`; those of `measure`.
    pub fn usage(
        &self,
        id: &LayerId,
        operation: Operation<'_>,
        measure: impl FnOnce(&Layer) -> Result<Usage>,
    ) -> Result<Usage> {
        // Not looked at before it is locked: who asks this often, asks it of layers that are written.
        let _lock = self.leases.lock_shared(id)?;
        let layer = self.layout.load(id, operation)?;
        match layer.sealed {
            Some(sealed) => Ok(sealed.usage()),
            None => measure(&layer),
        }
    }
}
