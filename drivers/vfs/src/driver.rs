//! The driver: the contract's part is the kit's, what is left is one directory per layer.

use std::sync::OnceLock;

use layerstore_changeset::tree::{self, Applied, ApplyOptions, PathChange, Usage, View};
use layerstore_changeset::{ChangeSink, ChangeSource, Context};
use layerstore_driver::layout::{Hooks, Layer, Layers, Operation, Scratch};
use layerstore_driver::plan::{Bind, Source};
use layerstore_driver::{
    Access, Base, Capabilities, CreateOptions, Driver, Kind, LayerId, LayerInfo, LayerState, Leases, Look,
    MountPlan, OpenOptions, PlanOptions, Probe, Recovered, Result,
};
use layerstore_sys::fsinfo::FsInfo;
use layerstore_sys::{self as sys, Dir};

use crate::config::Config;
use crate::layout::{self, FORMAT, TREE};
use crate::{NAME, probe};

/// An open root.
#[derive(Debug)]
pub(crate) struct VfsDriver {
    layers: Layers,
    config: Config,
    /// Found out when it is first asked for.
    abilities: OnceLock<Abilities>,
}

/// What depends on the file system and on privileges.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Abilities {
    id_mapped: bool,
    devices: bool,
    privileged_xattrs: bool,
    shares_extents: bool,
}

impl VfsDriver {
    /// Opens a root.
    pub(crate) fn open(open: &OpenOptions) -> Result<Self> {
        if let Probe::Unusable { reason, hint } = probe::probe(open)? {
            let error = Operation::new(NAME, "open driver").error(Kind::Unsupported, reason);
            return Err(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            });
        }
        Ok(Self {
            layers: Layers::open(open, FORMAT, &[])?,
            config: Config::read(&open.options),
            abilities: OnceLock::new(),
        })
    }

    fn abilities(&self) -> Abilities {
        *self.abilities.get_or_init(|| {
            const ABILITIES: &str = "abilities";
            let memo = self.layers.memo();
            if let Some(abilities) = memo.get(ABILITIES) {
                return abilities;
            }
            match Scratch::new(self.layers.layout().path()) {
                Ok(scratch) => {
                    let abilities = Abilities {
                        id_mapped: scratch.can_map_ids(),
                        devices: scratch.can_make_devices(),
                        privileged_xattrs: scratch.can_set_privileged_xattrs(),
                        shares_extents: scratch.shares_extents(),
                    };
                    memo.put(ABILITIES, abilities);
                    abilities
                }
                Err(error) => {
                    tracing::warn!(driver = NAME, %error, "could not try what can be done; claiming nothing");
                    Abilities::default()
                }
            }
        })
    }

    fn measure(&self, layer: &Layer, operation: Operation<'_>, context: &Context) -> Result<Usage> {
        tree::measure(&layout::open(layer, operation)?, self.config.threads, context)
            .map_err(|error| operation.changeset(error))
    }
}

impl Driver for VfsDriver {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let Abilities { id_mapped, devices, privileged_xattrs, .. } = self.abilities();
        Capabilities {
            last_resort: true,
            links_survive_copy_up: true,
            rename_lower_directory: true,
            diff_follows_changes: false,
            rebase: false,
            size_limit: self.layers.layout().may_limit(self.layers.operation("probe")).is_ok(),
            id_mapped,
            // A bind mount has no sync to leave out.
            volatile: false,
            mount_strings: true,
            devices,
            privileged_xattrs,
            max_chain: None,
        }
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        let operation = self.layers.operation("status");
        let info = FsInfo::of(self.layers.layout().root()).map_err(|error| operation.system(error))?;
        let shares = if self.abilities().shares_extents { "true" } else { "false" };
        Ok(vec![
            ("Backing Filesystem".to_owned(), info.name()),
            ("Copies share extents".to_owned(), shares.to_owned()),
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
        self.layers.create_with(id, parent, options, operation, |staged| {
            let Some(parent) = staged.parent() else {
                return layout::make_root(staged.dir()).map_err(|error| operation.system(error));
            };
            let from = layout::open(parent, operation)?;
            let to =
                staged.dir().ensure_dir(TREE.as_bytes(), 0o700).map_err(|error| operation.system(error))?;
            tree::copy_tree(&from.root, &to, self.config.threads, context)
                .map(|_| ())
                .map_err(|error| operation.changeset(error))
        })
    }

    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied> {
        let operation = self.layers.operation("apply changeset").on(id);
        let options = ApplyOptions { threads: self.config.threads, ..ApplyOptions::default() };
        self.layers.write(id, operation, |layer| {
            let target = layout::open(layer, operation)?;
            layer.count_while(operation, || {
                tree::apply(&target, &View::default(), changes, &options, context)
                    .map_err(|error| operation.changeset(error))
            })
        })
    }

    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
        self.layers.diff(id, base, layout::views, sink, context)
    }

    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>> {
        self.layers.changes(id, base, layout::views, context)
    }

    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage> {
        let operation = self.layers.operation("seal layer").on(id);
        self.layers.seal(id, parent, operation, |layer| {
            layer.count(operation).map_or_else(|| self.measure(layer, operation, context), Ok)
        })
    }

    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        let operation = self.layers.operation("plan mount").on(id);
        let layer = self.layers.layout().load(id, operation)?;
        let unsupported = |message: &str| Err(operation.error(Kind::Unsupported, message));
        if options.access == Access::ReadWrite && layer.state() == LayerState::Sealed {
            return Err(operation
                .error(Kind::InvalidInput, "the layer is sealed, it has no writable view")
                .with_hint("create a layer over it and mount that"));
        }
        if options.volatile {
            return unsupported("the driver has no volatile mounts: a bind mount has no sync to leave out");
        }
        if options.label.is_some() {
            return unsupported("the driver cannot label a mount: it shows the directory as it is");
        }
        if options.id_mapping.is_some() && !self.abilities().id_mapped {
            return unsupported(
                "id-mapped mounts need Linux 5.12, CAP_SYS_ADMIN and a file system that has them",
            );
        }
        if options.access == Access::ReadWrite {
            layer.drop_count().map_err(|error| operation.system(error))?;
        }
        Ok(MountPlan::Bind(Bind {
            source: Source::Path(self.layers.layout().layer_path(id).join(TREE)),
            read_only: options.access == Access::ReadOnly,
            flags: options.flags,
            id_mapping: options.id_mapping.clone(),
        }))
    }

    fn release(&self, _: &LayerId) -> Result<()> {
        // A plan prepares nothing.
        Ok(())
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.layers.remove(id, self.layers.operation("remove layer"), |_| Ok(()))
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
        self.layers.layout().load(id, self.layers.operation("look up layer"))?;
        let path = self.layers.layout().layer_path(id).join(TREE);
        Ok(vec![("Dir".to_owned(), path.to_string_lossy().into_owned())])
    }

    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()> {
        self.layers.replace(id, with, &Nothing, self.layers.operation("replace layer"))
    }

    fn sync(&self, id: &LayerId) -> Result<()> {
        self.layers.sync(id, self.layers.operation("sync layer"))
    }

    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>> {
        self.layers.recover(is_live, look, &Nothing, self.layers.operation("recover"))
    }
}

/// This driver keeps nothing outside of a layer's directory.
struct Nothing;

impl Hooks for Nothing {
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
