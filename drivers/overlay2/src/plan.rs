//! What to mount to get a layer's view.
//!
//! | view | plan |
//! |---|---|
//! | of a base layer | bind of its directory: an overlay needs two directories, and it has no whiteouts to hide |
//! | writable | overlay of the ancestors, the layer as upper directory |
//! | read-only | overlay of the layer and its ancestors, no upper directory |
//! | either, of a layer in a subvolume | its ancestors are an overlay inside of the overlay |
//!
//! Every feature is set explicitly. `redirect_dir` is on wherever the kernel allows it (never with `userxattr`), so
//! that a renamed directory is a mark instead of `EXDEV`; sealed layers keep such marks, and every view follows
//! them. `metacopy` and `index` stay off: both tie a layer to the inodes of those below it.

use std::path::{Path, PathBuf};

use layerstore_driver::layout::{Layer, Layout, Operation};
use layerstore_driver::plan::{Bind, Overlay, OverlayFeatures, Source, Upper};
use layerstore_driver::{Access, Kind, LayerState, MountFlags, MountPlan, PlanOptions, Result};

use crate::layout::{self, DIFF, EMPTY, LINKS, WORK, lower};
use crate::probe::Found;

/// The plan of a layer's view.
pub(crate) fn plan(
    layout: &Layout,
    layer: &Layer,
    found: Found,
    options: &PlanOptions,
    operation: Operation<'_>,
) -> Result<MountPlan> {
    let writable = options.access == Access::ReadWrite;
    if writable && layer.state() == LayerState::Sealed {
        return Err(operation
            .error(Kind::InvalidInput, "the layer is sealed, it has no writable view")
            .with_hint("create a layer over it and mount that"));
    }
    if writable {
        layer.drop_count().map_err(|error| operation.system(error))?;
    }
    let directory = layout.layer_path(&layer.record.id);
    let Some(_) = &layer.record.parent else {
        if options.label.is_some() {
            let message = "the view of a base layer cannot be labelled: it is a bind mount";
            return Err(operation.error(Kind::Unsupported, message).with_hint("mount a layer over it"));
        }
        return Ok(MountPlan::Bind(Bind {
            source: Source::Path(directory.join(DIFF)),
            read_only: !writable,
            flags: options.flags,
            id_mapping: options.id_mapping.clone(),
        }));
    };
    let source = |link: &String| Source::Path(short_path(layout, link));
    let mut lowers: Vec<_> = lower(layer, operation)?.iter().map(source).collect();
    if layout.repeats_inodes(layer, operation)? {
        lowers = vec![apart(lowers, &directory, found, options)];
    }
    if !writable {
        lowers.insert(0, source(&layer.record.token));
    }
    if writable {
        layout::ensure_work(&layer.dir).map_err(|error| operation.system(error))?;
    }
    let upper = Upper { directory, upper: DIFF.to_owned(), work: WORK.to_owned() };
    Ok(MountPlan::Overlay(Overlay {
        lowers,
        upper: writable.then_some(upper),
        features: OverlayFeatures {
            // Only a mount with an upper directory has anything to sync.
            volatile: options.volatile && writable,
            ..found.features()
        },
        id_mapping: options.id_mapping.clone(),
        label: options.label.clone(),
        flags: options.flags,
    }))
}

/// The ancestors of a layer that lies in a subvolume, as an overlay of their own.
///
/// On btrfs a layer of limited size does, and numbers of inodes are unique in one subvolume only. An overlay of directories
/// of one file system shows them as they are, so two files would be the same to everybody who compares device and
/// inode (`cp`, `tar`, the dynamic linker). An overlay among its layers is another file system, which is told apart.
fn apart(mut lowers: Vec<Source>, directory: &Path, found: Found, options: &PlanOptions) -> Source {
    if lowers.len() == 1 {
        // An overlay that is only read has two directories at least.
        lowers.push(Source::Path(directory.join(EMPTY)));
    }
    let plan = MountPlan::Overlay(Overlay {
        lowers,
        upper: None,
        features: found.features(),
        id_mapping: options.id_mapping.clone(),
        label: None,
        // They are those of the view, which is mounted over this one.
        flags: MountFlags::default(),
    });
    Source::Plan { plan: Box::new(plan), subdirectory: PathBuf::new() }
}

/// Where a layer's content lies, by its short name.
pub(crate) fn short_path(layout: &Layout, link: &str) -> PathBuf {
    layout.path().join(LINKS).join(link)
}
