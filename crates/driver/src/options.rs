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
    Number {
        /// The largest one that is taken.
        most: u64,
    },
    /// Bytes, with an optional binary suffix: `50k`, `1.5g`.
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

/// The option of drivers that write a layer's files with several threads. It has a bound, because the stacks of
/// ever more threads take the whole memory, and Rust aborts the process when a thread that has started cannot
/// get the stack of its signal handlers.
pub const THREADS: OptionSpec = OptionSpec {
    key: "threads",
    kind: OptionKind::Number { most: 1024 },
    default: "0",
    doc: "Threads that write a layer's files, 1024 at most; 0 is one per processor.",
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

    /// The [`THREADS`] that were asked for; 0 is one per processor.
    pub fn threads(&self) -> usize {
        let threads = self.number(THREADS.key).and_then(|threads| usize::try_from(threads).ok());
        threads.unwrap_or(0)
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
        OptionKind::Number { most } if !value.parse::<u64>().is_ok_and(|number| number <= most) => {
            wrong(format!("a whole number of at most {most}"))
        }
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

/// Digits behind the point that count: with more, less than a byte is lost.
const FRACTION_DIGITS: usize = 18;

/// Reads a size in bytes, rounded down; none when it cannot be read or is more than 2^63 - 1, which is the largest
/// that a database and a quota can hold.
///
/// As `RAMInBytes` of docker's go-units, which podman and docker read their files with: digits, perhaps with a
/// fraction, at most one space, and a binary unit `k`, `m`, `g`, `t` or `p`, optionally followed by `b` or `ib`, or
/// `b` alone; any case. Unlike there no exponent is taken, and spaces around the whole do not matter.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let fraction = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    // Below 10^18, and 2^50 times that fits well.
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let bytes = (u128::from(whole) << shift) + (parts << shift) / scale;
    i64::try_from(bytes).ok()?.try_into().ok()
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
    #[case("1.5g", Some(3 << 29))]
    #[case("5P", Some(5 << 50))]
    #[case("5p", Some(5 << 50))]
    #[case("2pib", Some(2 << 50))]
    #[case(".5k", Some(512))]
    #[case("5.", Some(5))]
    #[case("0.3", Some(0))]
    #[case("32.5 kB", Some(33280))]
    #[case("1.9999999999999999999999p", Some((2 << 50) - 1))]
    #[case("32b", Some(32))]
    #[case("+7", Some(7))]
    #[case("9223372036854775807", Some(i64::MAX.unsigned_abs()))]
    #[case("9223372036854775808", None)]
    #[case("8191.9999999999p", Some(9_223_372_036_854_663_218))]
    #[case("8192p", None)]
    #[case("18446744073709551616", None)]
    #[case(".", None)]
    #[case("1.2.3", None)]
    #[case("1.-5g", None)]
    #[case("1,5g", None)]
    #[case("1e3", None)]
    #[case("inf", None)]
    #[case("nan", None)]
    #[case("32bm", None)]
    #[case("32ib", None)]
    #[case("32m b", None)]
    #[case("32  m", None)]
    #[case("5e", None)]
    fn sizes(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(parse_size(text), bytes);
    }
}
