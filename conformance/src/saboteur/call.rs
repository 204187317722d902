//! The calls of [`Driver`] that take much, each with its arguments in one value: what a saboteur changes is then all
//! that it has to name.

use layerstore_changeset::{ChangeSink, ChangeSource};
use layerstore_driver::{Applied, Base, Context, CreateOptions, Driver, LayerId, PathChange, Result, Usage};

/// [`Driver::create`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the argument that it is called like")]
pub struct Create<'a> {
    pub id: &'a LayerId,
    pub parent: Option<&'a LayerId>,
    pub options: &'a CreateOptions,
    pub context: &'a Context,
}

/// [`Driver::apply`].
#[expect(missing_debug_implementations, reason = "a source of changes has none")]
#[expect(missing_docs, reason = "each is the argument that it is called like")]
pub struct Apply<'a> {
    pub id: &'a LayerId,
    pub changes: &'a mut dyn ChangeSource,
    pub context: &'a Context,
}

/// [`Driver::diff`].
#[expect(missing_debug_implementations, reason = "a sink of changes has none")]
#[expect(missing_docs, reason = "each is the argument that it is called like")]
pub struct Diff<'a> {
    pub id: &'a LayerId,
    pub base: Base<'a>,
    pub sink: &'a mut dyn ChangeSink,
    pub context: &'a Context,
}

/// [`Driver::changes`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the argument that it is called like")]
pub struct Changes<'a> {
    pub id: &'a LayerId,
    pub base: Base<'a>,
    pub context: &'a Context,
}

/// [`Driver::seal`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the argument that it is called like")]
pub struct Seal<'a> {
    pub id: &'a LayerId,
    pub parent: Option<&'a LayerId>,
    pub context: &'a Context,
}

/// Makes each call on a driver. A stream is borrowed for that, so that a saboteur can look at the other arguments
/// afterwards; what has none is a plain value.
macro_rules! on {
    ($call:ident -> $result:ty: $method:ident($($argument:ident),*)) => {
        on!($call -> $result: self, (self).$method($($argument),*));
    };
    (&mut $call:ident -> $result:ty: $method:ident($($argument:ident),*)) => {
        on!($call -> $result: self, (&mut self).$method($($argument),*));
    };
    ($call:ident -> $result:ty: $this:ident, ($($receiver:tt)+).$method:ident($($argument:ident),*)) => {
        impl $call<'_> {
            /// Makes the call on this driver.
            ///
            /// # Errors
            /// The driver's.
            pub fn on($($receiver)+, driver: &dyn Driver) -> Result<$result> {
                driver.$method($($this.$argument),*)
            }
        }
    };
}

on!(Create -> (): create(id, parent, options, context));
on!(&mut Apply -> Applied: apply(id, changes, context));
on!(&mut Diff -> (): diff(id, base, sink, context));
on!(Changes -> Vec<PathChange>: changes(id, base, context));
on!(Seal -> Usage: seal(id, parent, context));
