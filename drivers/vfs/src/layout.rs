//! What lies in a layer's directory beside the kit's files.
//!
//! ```text
//! ROOT/ID/tree/     the layer's view: its parent's content, copied, with the layer's changes
//! ```

use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::tree::{LayerTree, View};
use layerstore_driver::Result;
use layerstore_driver::layout::{Format, Layer, Operation};
use layerstore_sys::{self as sys, Dir, Timestamp};

use crate::NAME;

/// The name of the directory that is the view.
pub(crate) const TREE: &str = "tree";

/// Roots of this driver.
pub(crate) const FORMAT: Format = Format { driver: NAME, version: 1, reserved: &[] };

/// Makes the root directory of a base layer.
pub(crate) fn make_root(layer: &Dir) -> sys::Result<()> {
    let tree = layer.ensure_dir(TREE.as_bytes(), 0o755)?;
    tree.set_owner(b".", 0, 0)?;
    tree.set_mode_self(0o755)?;
    tree.set_mtime(b".", Timestamp::default())
}

/// Opens a layer's tree.
pub(crate) fn open(layer: &Layer, operation: Operation<'_>) -> Result<LayerTree> {
    let root = layer.dir.open_dir(TREE.as_bytes()).map_err(|error| operation.system(error))?;
    Ok(LayerTree { root, encoding: Encoding::Flat })
}

/// The view of a layer.
fn view(layer: &Layer, operation: Operation<'_>) -> Result<View> {
    Ok(View::flat(open(layer, operation)?.root))
}

/// Both views of a comparison; no layer is the empty view.
pub(crate) fn views(base: Option<&Layer>, layer: &Layer, operation: Operation<'_>) -> Result<(View, View)> {
    let base = base.map_or(Ok(View::default()), |base| view(base, operation))?;
    Ok((base, view(layer, operation)?))
}
