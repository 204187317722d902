//! The rules of each encoding, written once: how a whiteout and an opaque directory look, and which names and
//! extended attributes an encoding keeps for itself. Apply, diff and every reader and writer ask here.
//!
//! | encoding | whiteout of `NAME` | opaque directory |
//! |---|---|---|
//! | OCI tar | empty file `.wh.NAME` beside it | file `.wh..wh..opq` in it |
//! | overlay | character device 0/0 called `NAME`, or a zero-size file with the xattr `overlay.whiteout` in a directory marked `overlay.opaque=x` | xattr `overlay.opaque=y` |
//! | flat | nothing: the name is gone | nothing |
//!
//! aufs' own encoding (`.wh.NAME` hard links, `.wh..wh..opq`) has its place beside these.

pub mod overlay;
pub mod tar;
pub mod xattr;

/// How one layer's content lies in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// As an overlay upper directory, with attributes in this xattr namespace.
    Overlay(overlay::Namespace),
    /// A whole view: whiteouts apply at once and leave nothing.
    Flat,
}
