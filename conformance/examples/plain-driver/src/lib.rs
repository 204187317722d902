//! A storage driver that lives outside of Layerstore: every layer is a full copy of its view.
//!
//! ```text
//! ROOT/ID/tree/     the layer's view; everything beside it is the kit's (`layerstore_driver::layout`)
//! ```
//!
//! A driver says how layers lie on disk and what to mount. Here that is a directory and a bind mount. States,
//! parents, locks and crashes are the kit's ([`Layers`]), reading and writing changesets is
//! `layerstore_changeset::tree`'s, and mounting is nobody's but `layerstore_driver::mount`'s.
//!
//! `tests/conformance.rs` runs the suite (`cargo test --test conformance`), `src/main.rs` is the command line.

use std::sync::Arc;

use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::tree::{self, ApplyOptions, LayerTree, View};
use layerstore_changeset::{ChangeSink, ChangeSource};
use layerstore_driver::layout::{Format, Hooks, Layer, Layers, Layout, Operation, Scratch};
use layerstore_driver::plan::{Bind, Source};
use layerstore_driver::sys::{self, Dir};
use layerstore_driver::{
    Access, Applied, Base, Capabilities, Context, CreateOptions, Driver, DriverFactory, Kind, LayerId,
    LayerInfo, LayerState, Leases, Look, MountPlan, OpenOptions, OptionSpec, PathChange, PlanOptions, Probe,
    Recovered, Result, Usage,
};

const NAME: &str = "plain";
const TREE: &[u8] = b"tree";
const FORMAT: Format = Format { driver: NAME, version: 1, reserved: &[] };

/// Makes `plain` drivers.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl DriverFactory for Plain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn description(&self) -> &'static str {
        "a full copy per layer, as an example"
    }

    // Never selected unasked while another driver works.
    fn last_resort(&self) -> bool {
        true
    }

    // An option would be described here, and arrives checked in `OpenOptions::options`.
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// Needs the right to give files to others, and tries it where the root is or would be.
    fn probe(&self, open: &OpenOptions) -> Result<Probe> {
        let scratch =
            Scratch::new(&open.root).map_err(|error| Operation::new(NAME, "probe").system(error))?;
        Ok(match scratch.dir().set_owner(b".", 0, 0) {
            Ok(()) => Probe::Usable,
            Err(error) => Probe::Unusable {
                reason: format!("files cannot be given to root: {error}"),
                hint: Some("run as root or in a user namespace".to_owned()),
            },
        })
    }

    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        if let Probe::Unusable { reason, .. } = self.probe(open)? {
            return Err(Operation::new(NAME, "open").error(Kind::Unsupported, reason));
        }
        let scratch = Scratch::new(&open.root).map_err(|error| Operation::new(NAME, "open").system(error))?;
        Ok(Arc::new(PlainDriver {
            layers: Layers::open(open, FORMAT, &[])?,
            id_mapped: scratch.can_map_ids(),
            devices: scratch.can_make_devices(),
            privileged_xattrs: scratch.can_set_privileged_xattrs(),
        }))
    }

    // Nothing was settled when the root was made, so nothing has to be found out.
    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
        Layout::repair_root(&open.root, FORMAT, &|| Ok(Vec::new()))
    }
}

/// An open root.
#[derive(Debug)]
struct PlainDriver {
    layers: Layers,
    id_mapped: bool,
    devices: bool,
    privileged_xattrs: bool,
}

/// A layer's content, for reading and writing.
fn content(layer: &Layer, operation: Operation<'_>) -> Result<LayerTree> {
    let root = layer.dir.open_dir(TREE).map_err(|error| operation.on(&layer.record.id).system(error))?;
    Ok(LayerTree { root, encoding: Encoding::Flat })
}

/// The views that are compared: of `base`, or the empty one, and of the layer.
fn views(base: Option<&Layer>, layer: &Layer, operation: Operation<'_>) -> Result<(View, View)> {
    let base = base.map(|base| content(base, operation)).transpose()?;
    Ok((View::new(base.into_iter().collect()), View::new(vec![content(layer, operation)?])))
}

fn measure(layer: &Layer, operation: Operation<'_>, context: &Context) -> Result<Usage> {
    let tree = content(layer, operation)?;
    tree::measure(&tree, 1, context).map_err(|error| operation.on(&layer.record.id).changeset(error))
}

impl Driver for PlainDriver {
    fn name(&self) -> &str {
        NAME
    }

    // Every field is written out: each is a promise that the suite checks, or one that is not given.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            last_resort: true,
            links_survive_copy_up: true,
            rename_lower_directory: true,
            diff_follows_changes: false,
            rebase: false,
            size_limit: false,
            id_mapped: self.id_mapped,
            volatile: false,
            mount_strings: true,
            devices: self.devices,
            privileged_xattrs: self.privileged_xattrs,
            max_chain: None,
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        Ok(vec![("Root".to_owned(), self.layers.layout().path().display().to_string())])
    }

    fn leases(&self) -> &Leases {
        self.layers.leases()
    }

    fn create(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: &CreateOptions,
        context: &Context,
    ) -> Result<()> {
        let operation = self.layers.operation("create");
        if options.size_limit.is_some() {
            return Err(operation.on(id).error(Kind::Unsupported, "a plain directory has no size limit"));
        }
        // What is made here appears at once when it is whole, or not at all.
        self.layers.create(id, parent, operation, |staged| {
            let tree =
                staged.dir().ensure_dir(TREE, 0o755).map_err(|error| operation.on(id).system(error))?;
            // Whatever the umask is.
            tree.set_mode_self(0o755).map_err(|error| operation.on(id).system(error))?;
            if let Some(parent) = staged.parent() {
                tree::copy_tree(&content(parent, operation)?.root, &tree, 0, context)
                    .map_err(|error| operation.on(id).changeset(error))?;
            }
            Ok(())
        })
    }

    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied> {
        let operation = self.layers.operation("apply");
        self.layers.write(id, operation, |layer| {
            let target = content(layer, operation)?;
            tree::apply(&target, &View::default(), changes, &ApplyOptions::default(), context)
                .map_err(|error| operation.on(id).changeset(error))
        })
    }

    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
        self.layers.diff(id, base, views, sink, context)
    }

    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>> {
        self.layers.changes(id, base, views, context)
    }

    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("seal");
        self.layers.seal(id, parent, operation, |layer| measure(layer, operation, context))
    }

    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let operation = self.layers.operation("plan").on(id);
        let layer = self.layers.layout().load(id, operation)?;
        if options.access == Access::ReadWrite && layer.state() == LayerState::Sealed {
            return Err(operation.error(Kind::InvalidInput, "the layer is sealed and has no writable view"));
        }
        let refused = [
            (options.volatile, "a bind mount cannot be volatile"),
            (options.label.is_some(), "a bind mount takes no label"),
            (options.id_mapping.is_some() && !self.id_mapped, "this kernel or file system maps no ids"),
        ];
        if let Some((_, reason)) = refused.into_iter().find(|(wanted, _)| *wanted) {
            return Err(operation.error(Kind::Unsupported, reason));
        }
        Ok(MountPlan::Bind(Bind {
            source: Source::Path(self.layers.layout().layer_path(id).join("tree")),
            read_only: options.access == Access::ReadOnly,
            flags: options.flags,
            id_mapping: options.id_mapping.clone(),
        }))
    }

    // A bind mount needs nothing prepared, so there is nothing to undo.
    fn release(&self, _: &LayerId) -> Result<()> {
        Ok(())
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.layers.remove(id, self.layers.operation("remove"), |_| Ok(()))
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.layers.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerInfo>> {
        self.layers.list(self.layers.operation("layers"))
    }

    fn ids(&self) -> Result<Vec<LayerId>> {
        self.layers.layout().ids(self.layers.operation("layers"))
    }

    fn layer(&self, id: &LayerId) -> Result<LayerInfo> {
        self.layers.layer(id)
    }

    fn usage(&self, id: &LayerId, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("usage");
        self.layers.usage(id, operation, |layer| measure(layer, operation, context))
    }

    fn metadata(&self, id: &LayerId) -> Result<Vec<(String, String)>> {
        self.layers.layout().load(id, self.layers.operation("metadata"))?;
        let path = self.layers.layout().layer_path(id).join("tree");
        Ok(vec![("Directory".to_owned(), path.display().to_string())])
    }

    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()> {
        self.layers.replace(id, with, &NothingOutside, self.layers.operation("replace layer"))
    }

    fn sync(&self, id: &LayerId) -> Result<()> {
        self.layers.sync(id, self.layers.operation("sync layer"))
    }

    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>> {
        self.layers.recover(is_live, look, &NothingOutside, self.layers.operation("recover"))
    }
}

/// Nothing of a layer lies outside of its directory.
struct NothingOutside;

impl Hooks for NothingOutside {
    fn forget(&self, _: &Dir) -> sys::Result<()> {
        Ok(())
    }

    fn repair(&self, _: &Layer) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn token(&self, _: &str) -> sys::Result<Option<String>> {
        Ok(None)
    }

    fn sweep(&self) -> Result<Vec<Recovered>> {
        Ok(Vec::new())
    }
}
