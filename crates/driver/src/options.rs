//! Driver options: described by the driver, given as strings by file, environment or command line, checked once.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::flags::MountFlags;

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// Bytes, with an optional binary suffix: `50k`, `10g`.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// [Flags of a mount](crate::MountFlags), separated by commas; or nothing.
    MountFlags,
    /// Any text.
    Text,
}

/// One option of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    /// The key, as in a driver's table of the configuration file and `--driver-opt`.
    pub key: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// The value when it is not given.
    pub default: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
}

/// The option by which a driver says that its layers may be limited in size: who makes containers reads it, for those
/// that are made without a size of their own. Podman and docker have it under the same name.
pub const CONTAINER_SIZE: OptionSpec = OptionSpec {
    key: "size",
    kind: OptionKind::Size,
    default: "",
    doc: "Most bytes of a container that is made without a size of its own; empty or 0 is no limit.",
};

/// The option by which a driver's views get flags: who mounts reads it, for views that are mounted without flags of
/// their own. Podman has it under the same name.
pub const MOUNT_FLAGS: OptionSpec = OptionSpec {
    key: "mountopt",
    kind: OptionKind::MountFlags,
    default: "",
    doc: "Flags of every mount that asks for none: nodev, nosuid, noexec, noatime, separated by commas.",
};

/// The options of one driver, checked against its schema.
#[derive(Debug, Clone, Default)]
pub struct DriverOptions {
    values: BTreeMap<&'static str, String>,
}

impl DriverOptions {
    /// Checks pairs of key and value; a later pair wins.
    ///
    /// # Errors
    /// [`Kind::InvalidInput`] for an unknown key (with the known ones) or a value of the wrong kind.
    pub fn check<K: AsRef<str>, V: Into<String>>(
        schema: &'static [OptionSpec],
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let mut values: BTreeMap<_, _> =
            schema.iter().map(|option| (option.key, option.default.to_owned())).collect();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.into());
            let Some(spec) = schema.iter().find(|spec| spec.key == key) else {
                let known: Vec<_> = schema.iter().map(|spec| spec.key).collect();
                let hint = if known.is_empty() {
                    "this driver has no options".to_owned()
                } else {
                    format!("known options: {}", known.join(", "))
                };
                let message = format!("unknown driver option {key:?}");
                return Err(Error::new(Kind::InvalidInput, "read driver options", message).with_hint(hint));
            };
            check_value(spec, &value)?;
            values.insert(spec.key, value);
        }
        Ok(Self { values })
    }

    /// The text of an option; empty for a key that is not in the schema.
    pub fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// A [`OptionKind::Bool`] option.
    pub fn bool(&self, key: &str) -> bool {
        self.text(key) == "true"
    }

    /// A [`OptionKind::MountFlags`] option.
    pub fn mount_flags(&self, key: &str) -> MountFlags {
        // It was checked when it was taken.
        self.text(key).parse().unwrap_or_default()
    }

    /// A [`OptionKind::Number`] or [`OptionKind::Size`] option, in bytes; none where it is empty.
    pub fn number(&self, key: &str) -> Option<u64> {
        parse_size(self.text(key))
    }
}

fn check_value(spec: &OptionSpec, value: &str) -> Result<()> {
    let wrong = |expected: String| {
        let message = format!("driver option {} is {value:?}, not {expected}", spec.key);
        Err(Error::new(Kind::InvalidInput, "read driver options", message))
    };
    match spec.kind {
        OptionKind::Bool if value != "true" && value != "false" => wrong("true or false".to_owned()),
        OptionKind::Number if value.parse::<u64>().is_err() => wrong("a whole number".to_owned()),
        OptionKind::Size if !value.is_empty() && parse_size(value).is_none() => {
            wrong("a size such as 500m or 10g".to_owned())
        }
        OptionKind::MountFlags => match value.parse::<MountFlags>() {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("driver option {}: {}", spec.key, error.message());
                let error = Error::new(Kind::InvalidInput, "read driver options", message);
                Err(error.with_hint(MountFlags::HINT))
            }
        },
        OptionKind::Choice(words) if !words.contains(&value) => wrong(format!("one of {}", words.join(", "))),
        _ => Ok(()),
    }
}

/// Reads a size with a binary suffix (`k`, `m`, `g`, `t`, optionally followed by `b` or `ib`, any case), in
/// bytes; none when it cannot be read or does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last()? {
        'k' => (lower.strip_suffix('k')?, 10),
        'm' => (lower.strip_suffix('m')?, 20),
        'g' => (lower.strip_suffix('g')?, 30),
        't' => (lower.strip_suffix('t')?, 40),
        _ => (lower, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("0", Some(0))]
    #[case("50k", Some(50 << 10))]
    #[case("10 GB", Some(10 << 30))]
    #[case("3MiB", Some(3 << 20))]
    #[case("", None)]
    #[case("k", None)]
    #[case("-1", None)]
    #[case("99999999999t", None)]
    fn sizes(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(parse_size(text), bytes);
    }
}
