//! Bringing images in.

use layerstore_changeset::Context;

use crate::error::Result;
use crate::model::{PullOptions, Pulled};
use crate::store::{Store, unfinished};

impl Store {
    /// Brings an image in from a transport (`oci:DIR[:TAG]`, `oci-archive:…`, `docker-archive:…`, `rootfs:…`).
    /// Layers that are held are not read; the image becomes visible at once, when everything of it is there.
    /// Without a name in `options`, the source's own is used where it has one.
    ///
    /// # Errors
    /// Input that is refused, with its code; [`NoSpace`](crate::Kind::NoSpace),
    /// [`Cancelled`](crate::Kind::Cancelled) … After an error nothing of the image stays.
    pub fn pull(&self, source: &str, options: &PullOptions, context: &Context) -> Result<Pulled> {
        let _ = (source, options, context);
        unfinished()
    }
}
