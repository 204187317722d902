//! Paths inside a layer: relative, clean, made of bytes.
//!
//! Invariant: a [`RelPath`] has no empty, `.` or `..` component, no NUL and no leading or trailing slash. It is
//! checked once, where a name enters the program, and trusted after that.

use std::fmt;

use crate::error::{Code, Error, Result};

/// Longest name of one component, in bytes (`NAME_MAX` of every file system that layers lie on).
pub const MAX_COMPONENT: usize = 255;
/// Longest path, in bytes, after cleaning (`PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Most components of one path.
pub const MAX_DEPTH: usize = 1024;

/// A clean path relative to a layer's root, as bytes; the root itself is the empty path.
///
/// Ordering is by component, then by byte, so that a directory sorts before its children and the children of
/// one directory stay together (`a`, `a/b`, `a-b`): the order of the normal form.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root of a layer.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks a path that is clean already.
    ///
    /// # Errors
    /// `PATH_ESCAPE`, `EMPTY_NAME`, `NUL_IN_NAME`, `NAME_TOO_LONG`, `PATH_TOO_LONG` or `TOO_DEEP`.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self> {
        let path = path.as_ref();
        let cleaned = Self::clean(path)?;
        if cleaned.as_bytes() != path {
            return Err(Error::refused(Code::PathEscape, path, "path is not in its clean form"));
        }
        Ok(cleaned)
    }

    /// Cleans a name as tar archives spell them: leading slashes and `.` components are dropped and `a/../b` is
    /// `b`, by text. A name that climbs out of the root is refused, not clamped.
    ///
    /// # Errors
    /// As [`RelPath::new`]. The empty name is `EMPTY_NAME`; `.` and `/` are the root.
    pub fn clean(name: &[u8]) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::refused(Code::EmptyName, name, "entry has an empty name"));
        }
        if name.contains(&0) {
            return Err(Error::refused(Code::NulInName, name, "name contains a NUL byte"));
        }
        // One pass and one allocation: a layer has hundreds of thousands of names.
        let mut path: Vec<u8> = Vec::with_capacity(name.len());
        let mut depth = 0_usize;
        for part in name.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if depth == 0 {
                        return Err(Error::refused(
                            Code::PathEscape,
                            name,
                            "name climbs out of the layer's root",
                        ));
                    }
                    depth -= 1;
                    path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0));
                }
                part => {
                    // A whiteout's own limit counts after its prefix is taken off.
                    let bare = part.strip_prefix(crate::encoding::tar::WHITEOUT_PREFIX).unwrap_or(part);
                    if bare.len() > MAX_COMPONENT {
                        return Err(Error::refused(
                            Code::NameTooLong,
                            name,
                            "a component is longer than 255 bytes",
                        ));
                    }
                    if depth > 0 {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                    depth += 1;
                }
            }
        }
        if depth > MAX_DEPTH {
            return Err(Error::refused(Code::TooDeep, name, "path has more than 1024 components"));
        }
        if path.len() > MAX_PATH {
            return Err(Error::refused(Code::PathTooLong, name, "path is longer than 4096 bytes"));
        }
        Ok(Self(path.into_boxed_slice()))
    }

    /// The bytes of the path, components joined by `/`; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the layer's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, from the root downwards.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds this entry; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0.get(..cut).unwrap_or_default().into()))
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// As [`RelPath::new`], also when `name` is not one component.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        if name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Error::refused(Code::PathEscape, name, "not one component"));
        }
        if name.is_empty() {
            return Err(Error::refused(Code::EmptyName, name, "empty component"));
        }
        if self.is_root() {
            return Self::clean(name);
        }
        let path = [&self.0, name].join(&b'/');
        let depth = 1 + path.iter().filter(|&&byte| byte == b'/').count();
        if name.len() > MAX_COMPONENT || name.contains(&0) || depth > MAX_DEPTH || path.len() > MAX_PATH {
            return Self::clean(&path);
        }
        Ok(Self(path.into_boxed_slice()))
    }

    /// Whether `self` is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows the path with every byte that is not printable ASCII escaped, `.` for the root.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write!(f, "{}", self.0.escape_ascii()) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", Ok("a"))]
    #[case("./a//b/", Ok("a/b"))]
    #[case("///etc/x", Ok("etc/x"))]
    #[case(".//abs", Ok("abs"))]
    #[case("a/../b", Ok("b"))]
    #[case("a/b/../../c/./d", Ok("c/d"))]
    #[case("a/..", Ok(""))]
    #[case("/", Ok(""))]
    #[case(".", Ok(""))]
    #[case("..a/b..", Ok("..a/b.."))]
    #[case("back\\slash", Ok("back\\slash"))]
    #[case("", Err(Code::EmptyName))]
    #[case("..", Err(Code::PathEscape))]
    #[case("/../a", Err(Code::PathEscape))]
    #[case("a/../../b", Err(Code::PathEscape))]
    #[case("a\0b", Err(Code::NulInName))]
    fn names_are_cleaned_by_text(#[case] name: &str, #[case] expected: Result<&str, Code>) {
        let got = RelPath::clean(name.as_bytes()).map_err(|error| error.code().unwrap());
        assert_eq!(got.as_ref().map(RelPath::as_bytes), expected.as_ref().map(|path| path.as_bytes()));
    }

    #[rstest]
    #[case("n".repeat(255), None)]
    #[case("n".repeat(256), Some(Code::NameTooLong))]
    #[case("d/".repeat(1024), None)]
    #[case("d/".repeat(1025), Some(Code::TooDeep))]
    #[case(format!("{}xx", "eeeeeee/".repeat(512)), Some(Code::PathTooLong))]
    fn sizes_of_names_are_limited(#[case] name: String, #[case] expected: Option<Code>) {
        assert_eq!(RelPath::clean(name.as_bytes()).err().and_then(|error| error.code()), expected);
    }

    #[test]
    fn a_directory_sorts_before_its_children_and_they_stay_together() {
        let mut paths: Vec<_> =
            ["a-b", "a/b", "a", "", "a/b/c", "a.d"].map(|p| RelPath::new(p).unwrap_or_default()).into();
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [".", "a", "a/b", "a/b/c", "a-b", "a.d"]);
    }
}
