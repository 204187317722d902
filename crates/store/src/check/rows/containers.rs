//! Rows of containers.

use super::super::{Checker, OPERATION};
use super::{Differs, KIND, is_complete};
use crate::db::{Durability, containers, layers, retake};
use crate::error::Result;
use crate::mirror::{self, ContainerRecord};
use crate::model::Container;
use crate::rebuild::record_names;

impl Checker<'_> {
    pub(super) fn container_rows(&mut self) -> Result<()> {
        let store = self.store;
        let names: Vec<String> = record_names(&store.folders().containers)?.collect();
        let mut right = Vec::new();
        for name in names {
            let Some(differs) = Differs::twice(|| self.container_differs(&name))? else { continue };
            let id = name.trim_end_matches(".json");
            let id = differs.right.as_ref().map_or(id, |container| &container.id).to_owned();
            self.find(KIND, &id, differs.message(self.options.repair), None, false);
            right.extend(differs.right.ok());
        }
        if self.options.repair && !right.is_empty() {
            store
                .database()
                .write(OPERATION, Durability::Full, |transaction| retake::containers(transaction, &right))?;
            self.taken(&right.into_iter().map(|container| container.id).collect::<Vec<_>>());
        }
        Ok(())
    }

    fn container_differs(&self, name: &str) -> Result<Option<Differs<Container>>> {
        let Some(record) = mirror::read::<ContainerRecord>(&self.store.folders().containers, name)
            .filter(|record| mirror::file_name(&record.layer) == name)
        else {
            return Ok(None);
        };
        let parent = record.parent.clone();
        let said = record.into_container();
        let (row, layer, taken) = self.store.database().read(OPERATION, |connection| {
            let row = match containers::with_layer(connection, &said.layer)? {
                None => containers::get(connection, &said.id)?.filter(|row| row.id == said.id),
                row => row,
            };
            let named = match &said.name {
                Some(name) => containers::get(connection, name)?,
                None => None,
            };
            let taken = named.is_some_and(|other| row.as_ref().is_none_or(|row| row.id != other.id));
            Ok((row, layers::get(connection, said.layer.as_str())?, taken))
        })?;
        let (Some(row), Some(layer)) = (row, layer) else { return Ok(None) };
        if !is_complete(&layer) {
            return Ok(None);
        }
        let said = Container { name: said.name.clone().filter(|_| !taken), ..said };
        let all = [
            ("id", row.id != said.id),
            ("name", row.name != said.name),
            ("image", row.image != said.image),
            ("image_name", row.image_name != said.image_name),
            ("layer", row.layer != said.layer),
            ("created", row.created != said.created),
            ("size_limit", row.size_limit != said.size_limit),
            ("labels", row.labels != said.labels),
        ];
        Ok(Differs::of(all, || match self.store.driver().layer(&said.layer) {
            Ok(info) if info.parent == parent => Ok(said),
            Ok(_) => Err("the driver has its layer over another parent".to_owned()),
            Err(error) => Err(error.to_string()),
        }))
    }
}
