//! Paths of trees in memory: lists of components, so that the derived order is the order of a walk.

use std::fmt;

/// A path from a tree's root; the root is the empty list. Ordered by component: a directory, its children, then
/// the next name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Vec<u8>>);

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Splits at slashes; empty components and `.` are dropped.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let parts = text.as_ref().split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
        Self(parts.map(<[u8]>::to_vec).collect())
    }

    /// The components.
    pub fn components(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.0.last().map(Vec::as_slice)
    }

    /// The directory above; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// Every directory above, the root first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.0.len()).map(|depth| Self(self.0[..depth].to_vec()))
    }

    /// One component more.
    #[must_use]
    pub fn join(&self, name: impl AsRef<[u8]>) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.as_ref().to_vec());
        Self(parts)
    }

    /// Whether this is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Components joined by slashes; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

/// Paths are given to fixtures as text or bytes.
impl<T: AsRef<[u8]> + ?Sized> From<&T> for Path {
    fn from(text: &T) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write!(f, "{}", self.to_bytes().escape_ascii()) }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}
