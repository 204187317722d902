//! Layers that lie in directories: merged views of them, changes applied to them, differences between them.
//!
//! ```text
//! View  = [LayerTree (top), LayerTree, …, LayerTree (base)]     merged in userspace, nothing is mounted
//! apply : ChangeSource ─→ one LayerTree, parents resolved through the View below it
//! diff  : View (base), View (now) ─→ ChangeSink, in normal form
//! ```

mod api;

pub use api::*;
