//! Layers that lie in directories: merged views of them, changes applied to them, differences between them.
//!
//! ```text
//! View  = [LayerTree (top), LayerTree, …, LayerTree (base)]     merged in userspace, nothing is mounted
//! apply : ChangeSource ─→ one LayerTree, parents resolved through the View below it
//! diff  : View (base), View (now) ─→ ChangeSink, in normal form
//! ```

mod apply;
mod attributes;
mod copy;
mod data;
mod diff;
mod measure;
mod names;
mod pool;
mod search;
mod spill;
mod times;
mod view;

pub use apply::{Applied, ApplyOptions, apply};
pub use copy::copy_tree;
pub use data::TreeFile;
pub use diff::{ChangeKind, PathChange, changes, compare, diff};
pub use measure::{Usage, measure};
pub use view::{LayerTree, Listed, MergedDir, Node, View};
