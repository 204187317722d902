//! Layers as a forest, with the images and containers that stand on them.

use std::collections::{HashMap, HashSet};

use layerstore_driver::LayerId;
use rusqlite::Connection;

use crate::db::images::ImageRow;
use crate::db::layers::LayerRow;
use crate::db::{containers, damage, images, layers};
use crate::error::Result;
use crate::lookup;
use crate::model::{Container, LayerState, TreeNode};
use crate::store::Store;

impl Store {
    /// Layers as a forest, with the images and containers that stand on them: of one image or of the whole
    /// store.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn tree(&self, image: Option<&str>) -> Result<Vec<TreeNode>> {
        const OPERATION: &str = "tree";
        let mut trees = self.database().read(OPERATION, |connection| {
            let (rows, images, containers) = match image {
                None => (layers::all(connection)?, images::all(connection)?, containers::all(connection)?),
                Some(image) => around(connection, &lookup::image(connection, OPERATION, image)?)?,
            };
            let rows = rows.into_iter().filter(|row| row.layer.state != LayerState::Deleting);
            let mut forest = Forest::new(rows.collect());
            for image in images {
                let names = images::names(connection, &image.id)?.iter().map(ToString::to_string).collect();
                let chain = layers::of_image(connection, &image.id)?;
                for row in &chain {
                    if let Some(node) = forest.nodes.get_mut(&row.layer.id) {
                        node.shared_by += 1;
                    }
                }
                if let Some(node) = chain.last().and_then(|top| forest.nodes.get_mut(&top.layer.id)) {
                    node.images.push((image.id, names));
                }
            }
            for container in containers {
                if let Some(node) = forest.nodes.get_mut(&container.layer) {
                    node.containers.push((container.id, container.name));
                }
            }
            Ok(forest.into_trees())
        })?;
        // What a container has written is not recorded anywhere before it is committed.
        let mut left: Vec<&mut TreeNode> = trees.iter_mut().collect();
        while let Some(node) = left.pop() {
            if !node.containers.is_empty() {
                node.size = self.measure(&node.layer)?;
            }
            left.extend(&mut node.children);
        }
        Ok(trees)
    }
}

/// The layers of one image and what stands on the topmost of them, the oldest first, with the images and containers
/// that use any of them: never a look at the whole store.
fn around(
    connection: &Connection,
    image: &ImageRow,
) -> Result<(Vec<LayerRow>, Vec<ImageRow>, Vec<Container>)> {
    let mut rows = layers::of_image(connection, &image.id)?;
    if let Some(top) = rows.last().map(|row| row.layer.id.clone()) {
        rows.extend(damage::descendants(connection, &top)?);
    }
    rows.sort_unstable_by(|one, other| {
        (one.layer.created, &one.layer.id).cmp(&(other.layer.created, &other.layer.id))
    });
    // An image may have one layer twice.
    rows.dedup_by(|one, other| one.layer.id == other.layer.id);
    let (mut seen, mut images, mut containers) = (HashSet::new(), Vec::new(), Vec::new());
    for row in &rows {
        for image in images::of_layer(connection, &row.layer.id)? {
            if seen.insert(image) {
                images.extend(images::get(connection, &image)?);
            }
        }
        containers.extend(containers::with_layer(connection, &row.layer.id)?);
    }
    images.sort_unstable_by(|one, other| (other.stored, &one.id).cmp(&(one.stored, &other.id)));
    Ok((rows, images, containers))
}

/// Nodes that are not yet put into each other.
struct Forest {
    nodes: HashMap<LayerId, TreeNode>,
    /// Ids with their parents, the oldest first: a parent is older than its children.
    order: Vec<(LayerId, Option<LayerId>)>,
}

impl Forest {
    fn new(rows: Vec<LayerRow>) -> Self {
        let order = rows.iter().map(|row| (row.layer.id.clone(), row.layer.parent.clone())).collect();
        let node = |row: LayerRow| {
            let node = TreeNode {
                layer: row.layer.id.clone(),
                chain_id: row.layer.chain_id,
                size: row.layer.size.or(row.layer.disk_bytes).unwrap_or(0),
                images: Vec::new(),
                containers: Vec::new(),
                shared_by: 0,
                children: Vec::new(),
            };
            (row.layer.id, node)
        };
        Self { nodes: rows.into_iter().map(node).collect(), order }
    }

    fn into_trees(mut self) -> Vec<TreeNode> {
        let mut roots = Vec::new();
        // Children before parents, so that a node is complete when it is put into its parent; no recursion.
        for (id, parent) in self.order.iter().rev() {
            let Some(mut node) = self.nodes.remove(id) else { continue };
            node.children.reverse();
            match parent.as_ref().and_then(|parent| self.nodes.get_mut(parent)) {
                Some(parent) => parent.children.push(node),
                None => roots.push(node),
            }
        }
        roots.reverse();
        roots
    }
}
