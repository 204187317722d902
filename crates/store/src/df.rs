//! Where the space is.

use std::collections::{HashMap, HashSet};

use layerstore_changeset::Context;
use layerstore_driver::LayerId;

use crate::db::layers::LayerOrigin;
use crate::db::{containers, images, layers};
use crate::error::{Error, Kind, Result};
use crate::model::{LayerState, Space, SpaceLine};
use crate::store::Store;

const OPERATION: &str = "df";

impl Store {
    /// Space by image, container and layer, shared and unique. Never a walk for sealed layers; containers are
    /// measured.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    pub fn space(&self) -> Result<Space> {
        let (rows, images, containers) = self.database().read(OPERATION, |connection| {
            let mut found = Vec::new();
            for image in images::all(connection)? {
                let names = images::names(connection, &image.id)?;
                let chain = layers::of_image(connection, &image.id)?;
                let used = containers::any_of_image(connection, &image.id)?;
                found.push((image, names, chain, used));
            }
            Ok((layers::all(connection)?, found, containers::all(connection)?))
        })?;
        let mut sizes: HashMap<&LayerId, u64> = HashMap::new();
        for row in rows.iter().filter(|row| row.layer.state != LayerState::Deleting) {
            let size = match row.layer.disk_bytes {
                Some(bytes) => bytes,
                None => self.measure(&row.layer.id)?,
            };
            sizes.insert(&row.layer.id, size);
        }
        let size = |id: &LayerId| sizes.get(id).copied().unwrap_or(0);
        let mut users: HashMap<&LayerId, u64> = HashMap::new();
        for (_, _, chain, _) in &images {
            for row in chain {
                *users.entry(&row.layer.id).or_default() += 1;
            }
        }
        let mut space = Space { total: sizes.values().sum(), ..Space::default() };
        for (image, names, chain, used) in &images {
            let all: u64 = chain.iter().map(|row| size(&row.layer.id)).sum();
            let shared = chain.iter().filter(|row| users.get(&row.layer.id).is_some_and(|count| *count > 1));
            let shared: u64 = shared.map(|row| size(&row.layer.id)).sum();
            space.images.push(SpaceLine {
                id: image.id.to_string(),
                names: names.iter().map(ToString::to_string).collect(),
                size: all,
                shared,
                unique: all - shared,
                in_use: *used,
            });
        }
        for container in &containers {
            let own = size(&container.layer);
            space.containers.push(SpaceLine {
                id: container.id.clone(),
                names: container.name.iter().cloned().collect(),
                size: own,
                shared: 0,
                unique: own,
                in_use: true,
            });
        }
        let of_containers: HashSet<&LayerId> = containers.iter().map(|container| &container.layer).collect();
        for row in &rows {
            let id = &row.layer.id;
            if row.layer.state == LayerState::Deleting || users.contains_key(id) || of_containers.contains(id)
            {
                continue;
            }
            let own = size(id);
            space.layers.push(SpaceLine {
                id: id.to_string(),
                names: Vec::new(),
                size: own,
                shared: 0,
                unique: own,
                in_use: row.origin == LayerOrigin::User || row.layer.state == LayerState::Staging,
            });
        }
        space.reclaimable = self.gc(true)?.bytes;
        Ok(space)
    }

    /// What a writable layer takes; nothing if it is just being made or removed.
    pub(crate) fn measure(&self, id: &LayerId) -> Result<u64> {
        match self.driver().usage(id, &Context::new()) {
            Ok(usage) => Ok(usage.bytes),
            Err(error) if error.kind() == Kind::NotFound => Ok(0),
            Err(error) => Err(Error::driver_failed(OPERATION, id.as_str(), error)),
        }
    }
}
