//! The driver: the contract's part is the kit's; this opens chains and hands them to `layerstore_changeset`.

use std::sync::OnceLock;

use layerstore_changeset::tree::{self, Applied, ApplyOptions, PathChange, Usage, View};
use layerstore_changeset::{ChangeSink, ChangeSource, Context};
use layerstore_driver::layout::{Layer, Layers, Operation};
use layerstore_driver::{
    Base, Capabilities, CreateOptions, Driver, Kind, LayerId, LayerInfo, Leases, Look, MountPlan,
    OpenOptions, PlanOptions, Recovered, Result,
};
use layerstore_sys as sys;
use layerstore_sys::fsinfo::FsInfo;

use crate::config::Config;
use crate::layout::{self, DIFF, FORMAT, MAX_CHAIN, Opener, WORK};
use crate::probe::{Abilities, Found};
use crate::repair::Repair;
use crate::{NAME, plan, probe};

/// An open root.
#[derive(Debug)]
pub(crate) struct OverlayDriver {
    layers: Layers,
    config: Config,
    found: Found,
    /// Found out when it is first asked.
    abilities: OnceLock<Abilities>,
}

impl OverlayDriver {
    /// Opens a root.
    pub(crate) fn open(open: &OpenOptions) -> Result<Self> {
        let operation = Operation::new(NAME, "open driver");
        let found = probe::examine(open, operation)?.map_err(|missing| missing.error(operation))?;
        let layers = Layers::open(open, FORMAT, &layout::settings(found.namespace))?;
        layout::links(layers.layout()).map_err(|error| operation.system(error))?;
        probe::remember(&layers.memo(), found);
        Ok(Self { layers, config: Config::read(&open.options), found, abilities: OnceLock::new() })
    }

    fn abilities(&self) -> Abilities {
        let layers = &self.layers;
        *self.abilities.get_or_init(|| probe::abilities(layers.layout().path(), &layers.memo(), self.found))
    }

    fn opener(&self) -> Opener<'_> {
        Opener::new(self.layers.layout(), self.found.namespace)
    }

    /// Both views of a comparison. What they have in common is opened once.
    fn views(&self, base: Option<&Layer>, layer: &Layer, operation: Operation<'_>) -> Result<(View, View)> {
        let mut opener = self.opener();
        let now = opener.view(Some(layer), operation)?;
        Ok((opener.view(base, operation)?, now))
    }

    fn measure(&self, layer: &Layer, operation: Operation<'_>, context: &Context) -> Result<Usage> {
        let own = self.opener().own(layer, operation)?;
        tree::measure(&own, 1, context).map_err(|error| operation.changeset(error))
    }

    /// The ancestors of a layer to come, its parent first.
    fn ancestors(parent: Option<&Layer>, operation: Operation<'_>) -> Result<Vec<String>> {
        let Some(parent) = parent else { return Ok(Vec::new()) };
        let mut lower = layout::lower(parent, operation)?;
        lower.insert(0, parent.record.token.clone());
        if lower.len() >= MAX_CHAIN {
            let message = format!(
                "the chain would have {} layers, and the kernel merges {MAX_CHAIN} directories at most",
                lower.len() + 1
            );
            return Err(operation
                .error(Kind::LimitExceeded, message)
                .with_hint("make one layer of several: export the view and import it"));
        }
        Ok(lower)
    }
}

impl Driver for OverlayDriver {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let Abilities { id_mapped, devices, privileged_xattrs } = self.abilities();
        Capabilities {
            last_resort: false,
            links_survive_copy_up: false,
            rename_lower_directory: self.found.features().redirect_dir,
            diff_follows_changes: true,
            rebase: false,
            size_limit: self.layers.layout().may_limit(self.layers.operation("probe")).is_ok(),
            id_mapped,
            volatile: self.found.volatile,
            mount_strings: true,
            devices,
            privileged_xattrs,
            max_chain: u32::try_from(MAX_CHAIN).ok(),
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        let operation = self.layers.operation("status");
        let info = FsInfo::of(self.layers.layout().root()).map_err(|error| operation.system(error))?;
        let features = self.found.features();
        let line = |label: &str, value: bool| (label.to_owned(), value.to_string());
        Ok(vec![
            ("Backing Filesystem".to_owned(), info.name()),
            // The probe refuses a file system without it.
            line("Supports d_type", true),
            // Differences are read from the layers, whatever the kernel's marks in them.
            line("Native Overlay Diff", true),
            line("userxattr", features.userxattr),
            line("redirect_dir", features.redirect_dir),
            ("Size limits".to_owned(), self.layers.layout().limits_status(operation)?),
        ])
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
        let operation = self.layers.operation("create layer").on(id);
        context.check().map_err(|error| operation.changeset(error))?;
        self.layers.create_with(id, parent, options, operation, |staged| {
            let lower = Self::ancestors(staged.parent(), operation)?;
            layout::fill(staged, self.layers.layout(), &lower).map_err(|error| {
                // The short name is outside of the layer's directory. If this fails too, recovery finds it.
                let _ = layout::drop_name(self.layers.layout(), staged.record().token.as_bytes());
                operation.system(error)
            })
        })
    }

    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied> {
        let operation = self.layers.operation("apply changeset").on(id);
        let options = ApplyOptions { threads: self.config.threads, ..ApplyOptions::default() };
        self.layers.write(id, operation, |layer| {
            let mut opener = self.opener();
            let (target, below) = (opener.own(layer, operation)?, opener.below(layer, operation)?);
            layer.count_while(operation, || {
                tree::apply(&target, &below, changes, &options, context)
                    .map_err(|error| operation.changeset(error))
            })
        })
    }

    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
        self.layers.diff(id, base, |base, layer, operation| self.views(base, layer, operation), sink, context)
    }

    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>> {
        self.layers.changes(id, base, |base, layer, operation| self.views(base, layer, operation), context)
    }

    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("seal layer").on(id);
        let mut sealed = None;
        let usage = self.layers.seal(id, parent, operation, |layer| {
            sealed = Some(layer.clone());
            layer.count(operation).map_or_else(|| self.measure(layer, operation, context), Ok)
        })?;
        // A sealed layer is never an upper directory again.
        if let Some(layer) = sealed
            && let Err(error) = sys::remove::tree(&layer.dir, WORK.as_bytes())
        {
            tracing::debug!(layer = %id, %error, "could not tidy up a sealed layer");
        }
        Ok(usage)
    }

    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let operation = self.layers.operation("plan mount").on(id);
        let layer = self.layers.layout().load(id, operation)?;
        if options.id_mapping.is_some() && !self.abilities().id_mapped {
            let message = "id-mapped layers of an overlay need Linux 5.19, CAP_SYS_ADMIN in the first user \
                           namespace and a file system that has them";
            return Err(operation.error(Kind::Unsupported, message));
        }
        if options.volatile && !self.found.volatile {
            return Err(operation.error(Kind::Unsupported, "volatile overlay mounts need Linux 5.10"));
        }
        plan::plan(self.layers.layout(), &layer, self.found, options, operation)
    }

    fn release(&self, _: &LayerId) -> Result<()> {
        // A plan prepares nothing.
        Ok(())
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        let operation = self.layers.operation("remove layer");
        self.layers.remove(id, operation, |dir| layout::drop_link(self.layers.layout(), dir))
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.layers.exists(id)
    }

    fn layers(&self) -> Result<Vec<LayerInfo>> {
        self.layers.list(self.layers.operation("list layers"))
    }

    fn ids(&self) -> Result<Vec<LayerId>> {
        self.layers.layout().ids(self.layers.operation("list layers"))
    }

    fn layer(&self, id: &LayerId) -> Result<LayerInfo> {
        self.layers.layer(id)
    }

    fn usage(&self, id: &LayerId, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("measure layer").on(id);
        self.layers.usage(id, operation, |layer| self.measure(layer, operation, context))
    }

    fn metadata(&self, id: &LayerId) -> Result<Vec<(String, String)>> {
        let operation = self.layers.operation("look up layer").on(id);
        let kit = self.layers.layout();
        let layer = kit.load(id, operation)?;
        let directory = kit.layer_path(id);
        let mut pairs = vec![("UpperDir".to_owned(), directory.join(DIFF).to_string_lossy().into_owned())];
        let lower = layout::lower(&layer, operation)?;
        if !lower.is_empty() {
            let paths: Vec<_> =
                lower.iter().map(|link| plan::short_path(kit, link).to_string_lossy().into_owned()).collect();
            pairs.push(("LowerDir".to_owned(), paths.join(":")));
            pairs.push(("WorkDir".to_owned(), directory.join(WORK).to_string_lossy().into_owned()));
        }
        Ok(pairs)
    }

    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()> {
        self.layers.replace(
            id,
            with,
            &Repair { layers: &self.layers },
            self.layers.operation("replace layer"),
        )
    }

    fn sync(&self, id: &LayerId) -> Result<()> {
        self.layers.sync(id, self.layers.operation("sync layer"))
    }

    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>> {
        self.layers.recover(is_live, look, &Repair { layers: &self.layers }, self.layers.operation("recover"))
    }
}
