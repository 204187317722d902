//! Saboteurs of the life of a layer (L): what a driver says of layers, of recovery and of limits.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use layerstore_driver::{
    Capabilities, Context, CreateOptions, Driver, Kind, LayerId, LayerInfo, Look, Outcome, Recovered, Result,
    Usage,
};

use super::{Create, Sabotage, Saboteur, broken, hold};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        clause: "L10",
        what: "the list of layers has no parents",
        wrap: broken::<ListsOrphans>,
        also: &[],
    },
    Saboteur {
        clause: "L11",
        what: "usage of an unknown layer is nothing, and no error",
        wrap: broken::<MeasuresNothing>,
        also: &[],
    },
    Saboteur {
        clause: "L12",
        what: "usage of a sealed layer grows each time it is asked for",
        wrap: broken::<MeasuresAgain>,
        also: &[],
    },
    Saboteur {
        clause: "L13",
        what: "a handle knows at most five layers that it did not make itself",
        wrap: broken::<ForgetsLayers>,
        also: &[],
    },
    Saboteur {
        clause: "L15",
        what: "every recovery reports something",
        wrap: broken::<AlwaysFinds>,
        also: &[],
    },
    Saboteur { clause: "L16", what: "metadata has an empty label", wrap: broken::<NoLabel>, also: &[] },
    Saboteur {
        clause: "L17",
        what: "max_chain is said and not kept",
        wrap: broken::<EndlessChain>,
        also: &[],
    },
    Saboteur {
        clause: "L18",
        what: "a size limit that is not claimed is dropped without a word",
        wrap: broken::<DropsSizeLimit>,
        also: &[],
    },
    Saboteur {
        clause: "L21",
        what: "size limits are claimed and none is set",
        wrap: broken::<ClaimsSizeLimit>,
        // That a limit is there at all is L18.
        also: &["L18"],
    },
    Saboteur {
        clause: "L22",
        what: "a layer that an interrupted apply left is told as whole",
        wrap: broken::<SaysWhole>,
        also: &[],
    },
];

#[derive(Debug, Default)]
struct ListsOrphans;

impl Sabotage for ListsOrphans {
    fn layers(&self, driver: &dyn Driver) -> Result<Vec<LayerInfo>> {
        let layers = driver.layers()?;
        Ok(layers.into_iter().map(|info| LayerInfo { parent: None, ..info }).collect())
    }
}

#[derive(Debug, Default)]
struct MeasuresNothing;

impl Sabotage for MeasuresNothing {
    fn usage(&self, driver: &dyn Driver, id: &LayerId, context: &Context) -> Result<Usage> {
        match driver.usage(id, context) {
            Err(error) if error.kind() == Kind::NotFound => Ok(Usage::default()),
            usage => usage,
        }
    }
}

#[derive(Debug, Default)]
struct MeasuresAgain(AtomicU64);

impl Sabotage for MeasuresAgain {
    fn usage(&self, driver: &dyn Driver, id: &LayerId, context: &Context) -> Result<Usage> {
        let usage = driver.usage(id, context)?;
        Ok(Usage { bytes: usage.bytes + self.0.fetch_add(4_096, Ordering::Relaxed), ..usage })
    }
}

#[derive(Debug, Default)]
struct ForgetsLayers(Mutex<BTreeSet<LayerId>>);

impl ForgetsLayers {
    fn knows(&self, driver: &dyn Driver, id: &LayerId) -> bool {
        let mine = hold(&self.0);
        let mut others: Vec<_> =
            driver.layers().unwrap_or_default().into_iter().map(|info| info.id).collect();
        others.retain(|other| !mine.contains(other));
        others.sort();
        mine.contains(id) || others.iter().take(5).any(|other| other == id) || !others.contains(id)
    }
}

impl Sabotage for ForgetsLayers {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        call.on(driver)?;
        hold(&self.0).insert(call.id.clone());
        Ok(())
    }

    fn exists(&self, driver: &dyn Driver, id: &LayerId) -> Result<bool> {
        Ok(driver.exists(id)? && self.knows(driver, id))
    }
}

#[derive(Debug, Default)]
struct SaysWhole;

impl Sabotage for SaysWhole {
    fn layers(&self, driver: &dyn Driver) -> Result<Vec<LayerInfo>> {
        Ok(driver.layers()?.into_iter().map(|info| LayerInfo { half_applied: false, ..info }).collect())
    }

    fn layer(&self, driver: &dyn Driver, id: &LayerId) -> Result<LayerInfo> {
        Ok(LayerInfo { half_applied: false, ..driver.layer(id)? })
    }
}

#[derive(Debug, Default)]
struct AlwaysFinds;

impl Sabotage for AlwaysFinds {
    fn recover(
        &self,
        driver: &dyn Driver,
        is_live: &dyn Fn(&LayerId) -> bool,
        look: Look,
    ) -> Result<Vec<Recovered>> {
        let mut found = driver.recover(is_live, look)?;
        found.push(Recovered {
            id: None,
            what: "looked at everything once more".to_owned(),
            outcome: Outcome::Repaired,
        });
        Ok(found)
    }
}

#[derive(Debug, Default)]
struct NoLabel;

impl Sabotage for NoLabel {
    fn metadata(&self, driver: &dyn Driver, id: &LayerId) -> Result<Vec<(String, String)>> {
        let mut metadata = driver.metadata(id)?;
        metadata.push((String::new(), "somewhere".to_owned()));
        Ok(metadata)
    }
}

#[derive(Debug, Default)]
struct EndlessChain;

impl Sabotage for EndlessChain {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        Capabilities { max_chain: Some(128), ..driver.capabilities() }
    }
}

#[derive(Debug, Default)]
struct DropsSizeLimit;

impl Sabotage for DropsSizeLimit {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        Create { options: &CreateOptions::default(), ..call }.on(driver)
    }
}

#[derive(Debug, Default)]
struct ClaimsSizeLimit;

impl Sabotage for ClaimsSizeLimit {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        Capabilities { size_limit: true, ..driver.capabilities() }
    }

    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        DropsSizeLimit.create(driver, call)
    }
}
