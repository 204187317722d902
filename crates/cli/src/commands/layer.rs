//! Verbs about single layers, for those who write or debug a driver.

use std::io::IsTerminal as _;

use layerstore::{Access, Kind, MountOptions};
use layerstore_driver::{CreateOptions, PlanOptions};
use serde_json::json;

use super::container::print_changes;
use crate::args::Layer;
use crate::failure::{Failure, Result};
use crate::output::{self, line, short, size, table};
use crate::session::Session;
use crate::typed;

pub(super) fn dispatch(session: &Session, verb: Layer) -> Result<()> {
    if let Layer::Create { id: Some(id), .. } = &verb {
        typed::layer("layer create", id)?;
    }
    let store = session.store()?;
    let context = &session.context;
    match verb {
        Layer::Create { parent, id } => {
            let id =
                store.layer_create(id.as_deref(), parent.as_deref(), &CreateOptions::default(), context)?;
            session.print(&json!({ "id": id }), |_| line(&id))
        }
        Layer::Apply { id, tar } => {
            let applied = match tar {
                Some(path) => {
                    let failed = |error: layerstore_sys::Error| {
                        let what = path.display().to_string();
                        let kind = if error.is_not_found() { Kind::NotFound } else { Kind::System };
                        layerstore::Error::new(kind, "layer apply", what, error.to_string())
                    };
                    let mut file = layerstore_sys::fs::open_file(&path).map_err(failed)?;
                    store.layer_apply(&id, &mut file, context)?
                }
                None if std::io::stdin().is_terminal() => {
                    return Err(Failure::usage("layer apply", "name a tar, or pipe one into stdin"));
                }
                None => store.layer_apply(&id, &mut std::io::stdin(), context)?,
            };
            applied.warnings.iter().for_each(output::warning);
            let report = json!({ "entries": applied.entries, "bytes": applied.bytes });
            session.print(&report, |_| {
                line(format_args!("{} entries, {}", applied.entries, size(applied.bytes)))
            })
        }
        Layer::Seal { id } => {
            let usage = store.layer_seal(&id, context)?;
            let report = json!({ "bytes": usage.bytes, "inodes": usage.inodes });
            session.print(&report, |_| line(format_args!("{}, {} inodes", size(usage.bytes), usage.inodes)))
        }
        Layer::Diff { id, base } => {
            if std::io::stdout().is_terminal() {
                return Err(Failure::usage("layer diff", "a tar does not go to a terminal: use a pipe"));
            }
            store.layer_diff(&id, base.as_deref(), &mut output::stream()?, context)?;
            Ok(())
        }
        Layer::Changes { id, base } => {
            print_changes(session, &store.layer_changes(&id, base.as_deref(), context)?)
        }
        Layer::Mount { id, target, ro } => {
            let options = MountOptions { target, read_only: ro, ..MountOptions::default() };
            let path = store.layer_mount(&id, &options)?;
            session.print_path(&path)
        }
        Layer::Unmount { id } => {
            store.layer_unmount(&id, None)?;
            session.print(&json!({ "id": id }), |_| line(&id))
        }
        Layer::Plan { id, ro } => {
            let layer = store.layer(&id).map_err(|error| error.with_operation("layer plan"))?;
            let writable = !ro && layer.kind == layerstore::LayerKind::Active;
            let access = if writable { Access::ReadWrite } else { Access::ReadOnly };
            let plan = store.layer_plan(
                &id,
                &PlanOptions { access, flags: store.mount_flags(), ..PlanOptions::default() },
            )?;
            Ok(output::json(&plan)?)
        }
        Layer::Remove { id } => {
            let id = store.layer_remove(&id)?;
            session.print(&json!({ "id": id }), |_| line(&id))
        }
        Layer::List => {
            let layers = store.layers()?;
            session.print(&layers, |layers| {
                let rows = layers.iter().map(|layer| {
                    vec![
                        brief(layer.id.as_str()),
                        layer.parent.as_ref().map(|parent| brief(parent.as_str())).unwrap_or_default(),
                        word(&layer.kind),
                        word(&layer.state),
                        layer.disk_bytes.map(size).unwrap_or_default(),
                        layer.chain_id.map(short).unwrap_or_default(),
                    ]
                });
                table(&["LAYER ID", "PARENT", "KIND", "STATE", "SIZE", "CHAIN ID"], rows)
            })
        }
        Layer::Inspect { id } => {
            let layer = store.layer(&id)?;
            let data: serde_json::Map<_, _> =
                store.layer_metadata(&id)?.into_iter().map(|(label, path)| (label, path.into())).collect();
            Ok(output::json(&json!({ "layer": layer, "metadata": data }))?)
        }
    }
}

/// An ID as other tables show it; one that a person chose in full.
fn brief(id: &str) -> String {
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) { short(id) } else { id.to_owned() }
}

/// The word that JSON has for a value.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
