//! Differences between a layer's view and another: locks, then two views that the driver opens, then one walk.

use layerstore_changeset::tree::{self, PathChange, View};
use layerstore_changeset::{self as changeset, ChangeSink, Context};

use crate::driver::Base;
use crate::error::Result;
use crate::id::LayerId;

use super::layers::Layers;
use super::operation::Operation;
use super::root::Layer;

impl Layers {
    /// [`Driver::diff`](crate::Driver::diff). `views` opens the view to begin with (of no layer: the empty one) and
    /// the layer's own, in this order.
    ///
    /// # Errors
    /// Those of [`Layers::read`], of `views`, of the walk and of the sink.
    pub fn diff(
        &self,
        id: &LayerId,
        base: Base<'_>,
        views: impl FnOnce(Option<&Layer>, &Layer, Operation<'_>) -> Result<(View, View)>,
        sink: &mut dyn ChangeSink,
        context: &Context,
    ) -> Result<()> {
        let operation = self.operation("diff layer");
        self.compare(id, base, operation, views, |base, now| tree::diff(base, now, sink, context))
    }

    /// [`Driver::changes`](crate::Driver::changes), with views as for [`Layers::diff`].
    ///
    /// # Errors
    /// Those of [`Layers::read`], of `views` and of the walk.
    pub fn changes(
        &self,
        id: &LayerId,
        base: Base<'_>,
        views: impl FnOnce(Option<&Layer>, &Layer, Operation<'_>) -> Result<(View, View)>,
        context: &Context,
    ) -> Result<Vec<PathChange>> {
        let mut found = Vec::new();
        let mut push = |change| {
            found.push(change);
            Ok(())
        };
        let operation = self.operation("list changes");
        self.compare(id, base, operation, views, |base, now| tree::changes(base, now, &mut push, context))?;
        Ok(found)
    }

    fn compare(
        &self,
        id: &LayerId,
        base: Base<'_>,
        operation: Operation<'_>,
        views: impl FnOnce(Option<&Layer>, &Layer, Operation<'_>) -> Result<(View, View)>,
        walk: impl FnOnce(&View, &View) -> changeset::Result<()>,
    ) -> Result<()> {
        let operation = operation.on(id);
        self.read(id, base, operation, |layer, base| {
            let (base, now) = views(base, layer, operation)?;
            walk(&base, &now).map_err(|error| operation.changeset(error))
        })
    }
}
