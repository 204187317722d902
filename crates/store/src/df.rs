//! Where the space is.

use crate::error::Result;
use crate::model::Space;
use crate::store::{Store, unfinished};

impl Store {
    /// Space by image, container and layer, shared and unique. Never a walk for sealed layers; containers are
    /// measured.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn space(&self) -> Result<Space> {
        unfinished()
    }
}
