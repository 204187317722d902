//! Layer ids.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// The name of a layer within one driver: 1 to 128 bytes of `a-z A-Z 0-9 _ . -`, beginning with a letter or a
/// digit, so that it is one component of a path on every file system. Checked once, where it enters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(Box<str>);

impl LayerId {
    /// Most bytes of an id.
    pub const MAX: usize = 128;

    /// Checks an id.
    ///
    /// # Errors
    /// [`Kind::InvalidInput`] that says what an id may hold.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        let ok = (1..=Self::MAX).contains(&id.len())
            && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if ok {
            return Ok(Self(id.into()));
        }
        Err(Error::new(Kind::InvalidInput, "check layer id", format!("{:?} is not a layer id", id))
            .with_hint(
                "a layer id has 1 to 128 letters, digits, '_', '.' or '-' and begins with a letter or digit",
            ))
    }

    /// A new id of 64 random hexadecimal digits.
    ///
    /// # Errors
    /// [`Kind::System`] when the kernel gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::new(Kind::System, "make layer id", error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerId({})", self.0)
    }
}

impl FromStr for LayerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl serde::Serialize for LayerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for LayerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
