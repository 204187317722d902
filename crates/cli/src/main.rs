//! The `layerstore` binary.
fn main() {}
