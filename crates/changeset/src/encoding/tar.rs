//! Names that layers in tar form keep for themselves (OCI image specification, layer.md, "Whiteouts").
//!
//! | name | meaning |
//! |---|---|
//! | `DIR/.wh..wh..opq` | `DIR` is opaque |
//! | `DIR/.wh.NAME` | `NAME` is hidden in `DIR` |
//! | `.wh.`, `.wh..`, `.wh...`, `.wh..wh..wh.*` | nothing: refused with `BAD_WHITEOUT` |
//! | any other `.wh..wh.*`, and `.wh.*` as a parent | aufs' own: refused with `RESERVED_NAME` |
//!
//! Invariant: a path that [`parse`] calls plain holds no component that begins with `.wh.`, so that it can be
//! written into a tar again and lie in any driver's directory.

use crate::error::{Code, Error, Result};
use crate::path::RelPath;

/// What a whiteout's name begins with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of the mark in an opaque directory.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// What the names of aufs' own files begin with; only [`OPAQUE_NAME`] may occur in a layer.
pub const RESERVED_PREFIX: &[u8] = b".wh..wh.";

/// What a name in a tar layer stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// An entry of that name.
    Plain,
    /// A whiteout of this path.
    Whiteout(RelPath),
    /// The mark of this opaque directory.
    Opaque(RelPath),
}

/// Reads the meaning of a name.
///
/// # Errors
/// `BAD_WHITEOUT` and `RESERVED_NAME` as in the table above; the errors of [`RelPath::new`] for a whited-out
/// name that is none.
pub fn parse(path: &RelPath) -> Result<Name> {
    // Nearly every path ends here after one search.
    if !holds_reserved(path) {
        return Ok(Name::Plain);
    }
    let parent = path.parent().unwrap_or_default();
    if holds_reserved(&parent) {
        return Err(reserved(path));
    }
    let name = path.file_name().unwrap_or_default();
    if name == OPAQUE_NAME {
        return Ok(Name::Opaque(parent));
    }
    let hidden = name.strip_prefix(WHITEOUT_PREFIX).unwrap_or_default();
    let bad = |reason: &str| Err(Error::refused(Code::BadWhiteout, path.as_bytes(), reason));
    match hidden {
        b"" | b"." | b".." => bad("whiteout of no name"),
        hidden if hidden.starts_with(RESERVED_PREFIX) => bad("whiteout of a mark"),
        hidden if hidden.starts_with(WHITEOUT_PREFIX) => Err(reserved(path)),
        hidden => Ok(Name::Whiteout(parent.join(hidden)?)),
    }
}

/// Whether a component of the path begins with `.wh.`: no entry may be called so.
pub fn holds_reserved(path: &RelPath) -> bool {
    path.components().any(|part| part.starts_with(WHITEOUT_PREFIX))
}

/// The name of a path's whiteout.
pub fn whiteout_name(path: &RelPath) -> Vec<u8> {
    mark(
        &path.parent().unwrap_or_default(),
        &[WHITEOUT_PREFIX, path.file_name().unwrap_or_default()].concat(),
    )
}

/// The name of the mark in an opaque directory.
pub fn opaque_name(directory: &RelPath) -> Vec<u8> {
    mark(directory, OPAQUE_NAME)
}

fn mark(directory: &RelPath, name: &[u8]) -> Vec<u8> {
    if directory.is_root() { name.to_vec() } else { [directory.as_bytes(), name].join(&b'/') }
}

fn reserved(path: &RelPath) -> Error {
    Error::refused(
        Code::ReservedName,
        path.as_bytes(),
        "names that begin with .wh. are kept for whiteouts and for aufs",
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a/b", Ok(Name::Plain))]
    #[case("a/.wh.b", Ok(Name::Whiteout(RelPath::new("a/b").unwrap())))]
    #[case(".wh..b", Ok(Name::Whiteout(RelPath::new(".b").unwrap())))]
    #[case(".wh....", Ok(Name::Whiteout(RelPath::new("...").unwrap())))]
    #[case("a/.wh..wh..opq", Ok(Name::Opaque(RelPath::new("a").unwrap())))]
    #[case(".wh..wh..opq", Ok(Name::Opaque(RelPath::root())))]
    #[case("a/.wh.", Err(Code::BadWhiteout))]
    #[case("a/.wh..", Err(Code::BadWhiteout))]
    #[case("a/.wh...", Err(Code::BadWhiteout))]
    #[case("a/.wh..wh..wh..opq", Err(Code::BadWhiteout))]
    #[case("a/.wh..wh.plnk", Err(Code::ReservedName))]
    #[case(".wh..wh.plnk/1.2", Err(Code::ReservedName))]
    #[case(".wh..wh.aufs", Err(Code::ReservedName))]
    #[case(".wh.a/b", Err(Code::ReservedName))]
    #[case(".wh..wh..opq/b", Err(Code::ReservedName))]
    fn a_name_says_what_it_stands_for(#[case] name: &str, #[case] expected: Result<Name, Code>) {
        let got = parse(&RelPath::new(name).unwrap()).map_err(|error| error.code().unwrap());
        assert_eq!(got, expected);
    }

    #[test]
    fn a_whiteout_hides_a_name_of_255_bytes() {
        let long = "n".repeat(255);
        let path = RelPath::new(format!("d/.wh.{long}")).unwrap();
        assert_eq!(parse(&path).unwrap(), Name::Whiteout(RelPath::new(format!("d/{long}")).unwrap()));
        assert_eq!(RelPath::new(format!("{long}n")).unwrap_err().code(), Some(Code::NameTooLong));
    }
}
