//! The driver that the suite itself is tested with: a full copy per layer, on the kit that drivers share.
//!
//! ```text
//! ROOT/ID/tree    the layer's whole view; the rest is `layerstore_driver::layout`'s
//! ```
//!
//! It keeps every clause, is built into nothing, and is what [saboteurs](crate::saboteur) break.

use std::sync::Arc;

use layerstore_changeset::encoding::Encoding;
use layerstore_changeset::tree::{self, ApplyOptions, LayerTree, View};
use layerstore_changeset::{ChangeSink, ChangeSource};
use layerstore_driver::layout::{Format, Hooks, Layer, Layers, Layout, Operation};
use layerstore_driver::plan::{Bind, Source};
use layerstore_driver::{
    Access, Applied, Base, Capabilities, Context, CreateOptions, Driver, DriverFactory, Error, Kind, LayerId,
    LayerInfo, LayerState, Leases, Look, MountPlan, OpenOptions, OptionSpec, PathChange, PlanOptions, Probe,
    Recovered, Result, Usage,
};
use layerstore_sys::{self as sys, Dir};

const NAME: &str = "reference";
const FORMAT: Format = Format { driver: NAME, version: 1, reserved: &[] };
const TREE: &[u8] = b"tree";

/// Makes reference drivers.
#[derive(Debug, Clone, Copy)]
pub struct Factory;

impl DriverFactory for Factory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn description(&self) -> &'static str {
        "A full copy per layer, to test the suite with"
    }

    fn last_resort(&self) -> bool {
        true
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn probe(&self, open: &OpenOptions) -> Result<Probe> {
        // Whatever holds directories will do; what cannot is found at the first ancestor that is there.
        let operation = Operation::new(NAME, "probe");
        let mut ancestors = open.root.ancestors();
        let exists = |path: &&std::path::Path| sys::fs::exists(path).unwrap_or(false);
        let Some(ancestor) = ancestors.find(exists) else {
            return Err(operation.error(Kind::System, format!("{} has no parent", open.root.display())));
        };
        let dir = Dir::open(ancestor).map_err(|error| operation.system(error))?;
        let name = format!(".{NAME}-probe-{}", std::process::id());
        dir.make_dir(name.as_bytes(), 0o700).map_err(|error| operation.system(error))?;
        dir.remove_dir(name.as_bytes()).map_err(|error| operation.system(error))?;
        Ok(Probe::Usable)
    }

    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        Ok(Arc::new(Reference { layers: Layers::open(open, FORMAT, &[])? }))
    }

    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
        Layout::repair_root(&open.root, FORMAT, &|| Ok(Vec::new()))
    }
}

/// A full copy per layer.
#[derive(Debug)]
struct Reference {
    layers: Layers,
}

impl Reference {
    fn tree(layer: &Layer, operation: Operation<'_>) -> Result<Dir> {
        layer.dir.open_dir(TREE).map_err(|error| operation.on(&layer.record.id).system(error))
    }

    fn views(base: Option<&Layer>, layer: &Layer, operation: Operation<'_>) -> Result<(View, View)> {
        let view = |layer| -> Result<View> { Ok(View::flat(Self::tree(layer, operation)?)) };
        Ok((base.map_or(Ok(View::default()), view)?, view(layer)?))
    }

    fn measure(layer: &Layer, operation: Operation<'_>, context: &Context) -> Result<Usage> {
        let tree = LayerTree { root: Self::tree(layer, operation)?, encoding: Encoding::Flat };
        tree::measure(&tree, 1, context).map_err(|error| operation.on(&layer.record.id).changeset(error))
    }
}

impl Driver for Reference {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let privileged = nix::unistd::geteuid().is_root();
        Capabilities {
            last_resort: true,
            links_survive_copy_up: true,
            rename_lower_directory: true,
            diff_follows_changes: false,
            rebase: false,
            size_limit: false,
            id_mapped: true,
            volatile: false,
            mount_strings: true,
            devices: privileged,
            privileged_xattrs: privileged,
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
            return Err(operation.on(id).error(Kind::Unsupported, "a copy in a directory has no size limit"));
        }
        self.layers.create(id, parent, operation, |staged| {
            let system = |error| operation.on(id).system(error);
            let tree = staged.dir().ensure_dir(TREE, 0o755).map_err(system)?;
            tree.set_mode_self(0o755).map_err(system)?;
            if let Some(parent) = staged.parent() {
                let from = Self::tree(parent, operation)?;
                tree::copy_tree(&from, &tree, 1, context)
                    .map_err(|error| operation.on(id).changeset(error))?;
            }
            Ok(())
        })
    }

    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied> {
        let operation = self.layers.operation("apply");
        self.layers.write(id, operation, |layer| {
            let target = LayerTree { root: Self::tree(layer, operation)?, encoding: Encoding::Flat };
            tree::apply(&target, &View::default(), changes, &ApplyOptions::default(), context)
                .map_err(|error| operation.on(id).changeset(error))
        })
    }

    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
        self.layers.diff(id, base, Self::views, sink, context)
    }

    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>> {
        self.layers.changes(id, base, Self::views, context)
    }

    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("seal");
        self.layers.seal(id, parent, operation, |layer| Self::measure(layer, operation, context))
    }

    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let operation = self.layers.operation("plan").on(id);
        let layer = self.layers.layout().load(id, operation)?;
        if options.access == Access::ReadWrite && layer.state() == LayerState::Sealed {
            return Err(operation.error(Kind::InvalidInput, "the layer is sealed and has no writable view"));
        }
        if options.volatile {
            return Err(operation.error(Kind::Unsupported, "a bind mount cannot be volatile"));
        }
        if options.label.is_some() {
            return Err(operation.error(Kind::Unsupported, "a bind mount takes no label"));
        }
        let path = self.layers.layout().layer_path(id).join("tree");
        Ok(MountPlan::Bind(Bind {
            source: Source::Path(path),
            read_only: options.access == Access::ReadOnly,
            flags: options.flags,
            id_mapping: options.id_mapping.clone(),
        }))
    }

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
        self.layers.usage(id, operation, |layer| Self::measure(layer, operation, context))
    }

    fn metadata(&self, id: &LayerId) -> Result<Vec<(String, String)>> {
        self.layers.layout().load(id, self.layers.operation("metadata"))?;
        let path = self.layers.layout().layer_path(id).join("tree");
        Ok(vec![("Directory".to_owned(), path.display().to_string())])
    }

    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()> {
        self.layers.replace(id, with, &NoHooks, self.layers.operation("replace"))
    }

    fn sync(&self, id: &LayerId) -> Result<()> {
        self.layers.sync(id, self.layers.operation("sync"))
    }

    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>> {
        self.layers.recover(is_live, look, &NoHooks, self.layers.operation("recover"))
    }
}

/// Nothing lies outside of a layer's directory.
struct NoHooks;

impl Hooks for NoHooks {
    fn forget(&self, _: &Dir) -> sys::Result<()> {
        Ok(())
    }

    fn repair(&self, _: &Layer) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn token(&self, _: &str) -> sys::Result<Option<String>> {
        Ok(None)
    }

    fn sweep(&self) -> Result<Vec<Recovered>> {
        Ok(Vec::new())
    }
}
