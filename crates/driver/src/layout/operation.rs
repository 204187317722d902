//! What a driver is doing right now, so that every error names the operation, the driver and the layer without
//! each call repeating them.

use layerstore_changeset as changeset;
use layerstore_sys as sys;

use crate::error::{Error, Kind};
use crate::id::LayerId;

/// One operation of one driver, perhaps on one layer.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    name: &'static str,
    driver: &'static str,
    layer: Option<&'a LayerId>,
}

impl<'a> Operation<'a> {
    /// The operation `name` (`create layer` …) of `driver`.
    pub const fn new(driver: &'static str, name: &'static str) -> Self {
        Self { name, driver, layer: None }
    }

    /// The same operation, on this layer.
    #[must_use]
    pub const fn on<'b>(self, layer: &'b LayerId) -> Operation<'b> {
        Operation { name: self.name, driver: self.driver, layer: Some(layer) }
    }

    /// The layer it is about.
    pub const fn layer(self) -> Option<&'a LayerId> {
        self.layer
    }

    /// A failure; `message` says why, in lower case.
    pub fn error(self, kind: Kind, message: impl Into<String>) -> Error {
        self.name_object(Error::new(kind, self.name, message))
    }

    /// A failed system call.
    pub fn system(self, error: sys::Error) -> Error {
        self.name_object(Error::system(self.name, error))
    }

    /// A changeset that could not be read, written or applied.
    pub fn changeset(self, error: changeset::Error) -> Error {
        self.name_object(Error::changeset(self.name, error))
    }

    /// The layer does not exist.
    pub fn not_found(self) -> Error {
        self.error(Kind::NotFound, "no such layer")
    }

    /// Names driver and layer in an error that was made elsewhere.
    pub fn name_object(self, error: Error) -> Error {
        let error = if error.driver().is_none() { error.with_driver(self.driver) } else { error };
        match self.layer {
            Some(layer) if error.layer().is_none() => error.with_layer(layer),
            _ => error,
        }
    }
}
