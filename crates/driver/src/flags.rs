//! What a mount refuses or leaves out, whatever file system it shows: `nodev`, `nosuid`, `noexec`, `noatime`
//! (mount(8), "filesystem-independent mount options").

use std::fmt;
use std::str::FromStr;

use layerstore_sys::mount::Flags;

use crate::error::{Error, Kind};

/// Flags of a view's mount. They belong to the mount, not to the layer: nothing on disk changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MountFlags {
    /// No device node opens a device.
    pub nodev: bool,
    /// Set-user-id and set-group-id bits and file capabilities count for nothing.
    pub nosuid: bool,
    /// Nothing is executed.
    pub noexec: bool,
    /// Reading leaves access times alone.
    pub noatime: bool,
}

impl MountFlags {
    pub(crate) const HINT: &str = "known flags: nodev, nosuid, noexec, noatime, and dev, suid, exec, atime";

    /// The words of mount(8) for what is set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.nodev, "nodev"),
            (self.nosuid, "nosuid"),
            (self.noexec, "noexec"),
            (self.noatime, "noatime"),
        ];
        all.into_iter().filter_map(|(set, word)| set.then_some(word))
    }

    /// Sets what a word of mount(8) says, or takes it back (`dev`, `suid`, `exec`, `atime`); false for a word that is
    /// none of these.
    pub fn apply(&mut self, word: &str) -> bool {
        let (flag, on) = match word {
            "nodev" => (&mut self.nodev, true),
            "dev" => (&mut self.nodev, false),
            "nosuid" => (&mut self.nosuid, true),
            "suid" => (&mut self.nosuid, false),
            "noexec" => (&mut self.noexec, true),
            "exec" => (&mut self.noexec, false),
            "noatime" => (&mut self.noatime, true),
            "atime" => (&mut self.noatime, false),
            _ => return false,
        };
        *flag = on;
        true
    }

    /// The same for the calls that mount.
    pub(crate) fn of_mount(self, read_only: bool) -> Flags {
        Flags {
            read_only,
            nodev: self.nodev,
            nosuid: self.nosuid,
            noexec: self.noexec,
            noatime: self.noatime,
        }
    }
}

impl fmt::Display for MountFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{word}")?;
        }
        Ok(())
    }
}

/// Reads words separated by commas; of opposites the last one counts.
impl FromStr for MountFlags {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut flags = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if !flags.apply(word) {
                let message = format!("{word:?} is no flag of a mount");
                return Err(
                    Error::new(Kind::InvalidInput, "read mount options", message).with_hint(Self::HINT)
                );
            }
        }
        Ok(flags)
    }
}
