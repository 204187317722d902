//! Names that layers in tar form keep for themselves (OCI image specification, layer.md, "Whiteouts").

/// What a whiteout's name begins with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of the mark in an opaque directory.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// What the names of aufs' own files begin with; only [`OPAQUE_NAME`] may occur in a layer.
pub const RESERVED_PREFIX: &[u8] = b".wh..wh.";
