//! What is typed and is wrong whatever the store holds: wrong usage, which is told before the store is opened.
//!
//! The rule: a text that cannot be what its argument stands for (a reference, a name, an instruction) was typed wrong,
//! and that is exit 2; what the store, an image or a layer says against it is exit 1.

use std::str::FromStr;

use layerstore::image::{Instruction, Reference};
use layerstore::{ContainerOptions, ImageName, LayerId};

use crate::failure::{Failure, Result};

/// Where an image is read from or written to.
pub(crate) fn reference(operation: &'static str, text: &str) -> Result<()> {
    check::<Reference>(operation, text)
}

/// A name that an image is to have, or to lose.
pub(crate) fn name(operation: &'static str, text: &str) -> Result<()> {
    check::<ImageName>(operation, text)
}

/// An instruction of `commit --change`.
pub(crate) fn instruction(operation: &'static str, text: &str) -> Result<()> {
    check::<Instruction>(operation, text)
}

/// The id that a new layer is to have.
pub(crate) fn layer(operation: &'static str, text: &str) -> Result<()> {
    let Err(error) = LayerId::new(text) else { return Ok(()) };
    Err(wrong(operation, text, error.message(), error.hint()))
}

/// What a container is to be called.
pub(crate) fn container(options: &ContainerOptions) -> Result<()> {
    options.check().map_err(Failure::Usage)
}

fn check<T: FromStr<Err = layerstore::image::Error>>(operation: &'static str, text: &str) -> Result<()> {
    let Err(error) = text.parse::<T>() else { return Ok(()) };
    Err(wrong(operation, text, error.reason(), error.hint()))
}

fn wrong(operation: &'static str, text: &str, reason: impl Into<String>, hint: Option<&str>) -> Failure {
    let failure = Failure::typed(operation, text, reason);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
