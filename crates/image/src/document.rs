//! JSON documents from outside: how they are read without trusting them.
//!
//! Invariants: nothing over [`MAX_DOCUMENT`] bytes is parsed, and what it becomes is bounded as well; nesting is bounded (by `serde_json`, at 128); a
//! key that occurs twice is refused, and so is one that a case-insensitive reader (Go's) takes for another, so
//! that no two programs read one document differently (the class of CVE-2021-41190).

use std::cell::Cell;
use std::fmt;

use layerstore_changeset::Code;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// Largest manifest, index or configuration, in bytes; registries and other tools draw the line there too.
pub const MAX_DOCUMENT: usize = 4 << 20;

pub(crate) const READ: &str = "read image";

/// A refused document.
pub(crate) fn bad(subject: &str, reason: impl Into<String>) -> Error {
    Error::refused(Code::BadDocument, READ, subject, reason)
}

/// Refuses a document that is larger than [`MAX_DOCUMENT`].
pub(crate) fn check_size(size: u64, subject: &str) -> Result<()> {
    if size > MAX_DOCUMENT as u64 {
        return Err(bad(subject, format!("the document has {size} bytes, more than {MAX_DOCUMENT}")));
    }
    Ok(())
}

/// Parses a document whose top is an object.
pub(crate) fn object(bytes: &[u8], subject: &str) -> Result<Map<String, Value>> {
    match value(bytes, subject)? {
        Value::Object(map) => Ok(map),
        _ => Err(bad(subject, "the document is not a JSON object")),
    }
}

/// Parses any document.
pub(crate) fn value(bytes: &[u8], subject: &str) -> Result<Value> {
    check_size(bytes.len() as u64, subject)?;
    // A byte order mark is what some Windows tools write; no other reader takes it, so neither do we.
    let left = Cell::new(MAX_MEMORY);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict(&left).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|error| bad(subject, format!("not valid JSON: {error}")).with_source(error))
}

/// Turns a part of a document into a type.
pub(crate) fn typed<T: de::DeserializeOwned>(value: Value, what: &str, subject: &str) -> Result<T> {
    serde_json::from_value(value).map_err(|error| bad(subject, format!("{what}: {error}")).with_source(error))
}

/// Refuses a key that differs from a known one only by case: Go's JSON decoder takes both for the same.
pub(crate) fn check_keys(map: &Map<String, Value>, known: &[&str], subject: &str) -> Result<()> {
    for key in map.keys() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let folded = fold(key);
        if let Some(meant) = known.iter().find(|known| fold(known) == folded) {
            return Err(bad(subject, format!("key \"{}\" is not spelled \"{meant}\"", key.escape_debug())));
        }
    }
    Ok(())
}

/// Folds as Go does: ASCII case, and the two letters outside ASCII that fold into it.
fn fold(key: &str) -> String {
    let plain = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(plain).collect()
}

/// Most memory that a document takes once it is parsed, in bytes, as [`Strict`] reckons: some 12,000 layers. A small
/// text makes large values otherwise: `{"":0}` takes a hundred times its length.
const MAX_MEMORY: usize = 12 << 20;

/// A JSON value in which no object has a key twice, and which takes no more memory than is left.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<usize>);

impl Strict<'_> {
    /// Takes memory for `length` bytes of content beside what each value needs.
    fn take<E: de::Error>(self, length: usize) -> Result<(), E> {
        /// A value in a list, or in a map with its share of a node.
        const VALUE: usize = 64;
        match self.0.get().checked_sub(length + VALUE) {
            Some(left) => self.0.set(left),
            None => return Err(E::custom(format_args!("it takes more than {MAX_MEMORY} bytes of memory"))),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.take(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.take(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.take(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.take(0)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.take(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        /// The first node of a map, which has room for eleven entries.
        const NODE: usize = 640;
        self.take(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.take(key.len() + if map.is_empty() { NODE } else { 0 })?;
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!("key {key:?} occurs twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
