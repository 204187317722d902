//! Layers as a forest, with the images and containers that stand on them.

use std::collections::{HashMap, HashSet};

use layerstore_driver::LayerId;

use crate::db::layers::LayerRow;
use crate::db::{containers, images, layers};
use crate::error::Result;
use crate::lookup;
use crate::model::{LayerState, TreeNode};
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
            let rows = layers::all(connection)?;
            let rows = rows.into_iter().filter(|row| row.layer.state != LayerState::Deleting);
            let mut forest = Forest::new(rows.collect());
            for image in images::all(connection)? {
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
            for container in containers::all(connection)? {
                if let Some(node) = forest.nodes.get_mut(&container.layer) {
                    node.containers.push((container.id, container.name));
                }
            }
            let wanted = match image {
                None => None,
                Some(image) => {
                    let row = lookup::image(connection, OPERATION, image)?;
                    let chain = layers::of_image(connection, &row.id)?;
                    Some(forest.with_descendants(chain.into_iter().map(|row| row.layer.id)))
                }
            };
            Ok(forest.into_trees(wanted.as_ref()))
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

    /// These layers and the containers' layers on the topmost of them.
    fn with_descendants(&self, chain: impl Iterator<Item = LayerId>) -> HashSet<LayerId> {
        let chain: Vec<LayerId> = chain.collect();
        let top = chain.last().cloned();
        let mut wanted: HashSet<LayerId> = chain.into_iter().collect();
        let mut above: HashSet<LayerId> = top.into_iter().collect();
        for (id, parent) in &self.order {
            if parent.as_ref().is_some_and(|parent| above.contains(parent)) {
                above.insert(id.clone());
                wanted.insert(id.clone());
            }
        }
        wanted
    }

    fn into_trees(mut self, wanted: Option<&HashSet<LayerId>>) -> Vec<TreeNode> {
        let mut roots = Vec::new();
        // Children before parents, so that a node is complete when it is put into its parent; no recursion.
        for (id, parent) in self.order.iter().rev() {
            if wanted.is_some_and(|wanted| !wanted.contains(id)) {
                continue;
            }
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
