//! What is pinned: which capabilities a driver claims and which features are missing, for every set-up, in the
//! file `conformance.toml` of the driver's crate. A run that finds anything else fails and says what.
//!
//! ```toml
//! ["ext4+userns"]
//! claims = ["rebase", "volatile"]          # what the driver says it can do there
//! missing = ["device-nodes"]               # what the machine cannot do there
//! known_failures = ["n6::a_case"]          # has to fail: when it passes, the run fails until the line is gone
//! ```
//!
//! With claims and gaps pinned, the skips are too: whether a case runs depends on nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use layerstore_sys as sys;

use crate::case::{Failure, Outcome};
use crate::need::{Claim, Environment, Feature};

/// One driver's pinned file: set-up to what is expected there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<String, Pin>);

/// What is expected of one set-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// What the driver claims.
    #[serde(default)]
    pub claims: BTreeSet<Claim>,
    /// Which features are missing.
    #[serde(default)]
    pub missing: BTreeSet<Feature>,
    /// The driver cannot run there, and that is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unusable: bool,
    /// Cases that fail, and must until their line is removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub known_failures: BTreeSet<String>,
}

const HEADER: &str = "\
# What this driver claims on each file system, and what is missing there: a conformance run that finds anything
# else fails. Written anew by a run with LAYERSTORE_CONFORMANCE_PIN=write; read the difference before you commit it.

";

impl Pins {
    /// Reads the file; a file that is not there pins nothing.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn read(path: &Path) -> Outcome<Self> {
        if !sys::fs::exists(path)? {
            return Ok(Self::default());
        }
        let text = sys::fs::read_to_string(path, 1 << 20)?;
        toml::from_str(&text).map(Self).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }

    /// What is pinned for a set-up.
    pub fn get(&self, setup: &str) -> Option<&Pin> {
        self.0.get(setup)
    }

    /// Whether nothing is pinned at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pins what was found and writes the file.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&mut self, path: &Path, setup: &str, found: &Environment) -> Outcome {
        let pin = self.0.entry(setup.to_owned()).or_default();
        pin.claims = found.claims.iter().copied().collect();
        pin.missing = found.missing.keys().copied().collect();
        pin.unusable = found.unusable.is_some();
        let text = toml::to_string(&self.0)?;
        let mut file = sys::fs::create_file(path, 0o644)?;
        Ok(std::io::Write::write_all(&mut file, format!("{HEADER}{text}").as_bytes())?)
    }
}

impl Pin {
    /// What differs between what is pinned and what was found, a sentence each.
    pub fn differences(&self, setup: &str, found: &Environment) -> Vec<String> {
        let mut differences = Vec::new();
        if self.unusable != found.unusable.is_some() {
            differences.push(match &found.unusable {
                Some(reason) => {
                    format!("{setup}: the driver cannot run here, but is pinned as usable: {reason}")
                }
                None => format!("{setup}: the driver runs here, but is pinned as unusable"),
            });
        }
        let claims: BTreeSet<_> = found.claims.iter().copied().collect();
        for claim in claims.difference(&self.claims) {
            differences.push(format!("{setup}: the driver claims {}, which is not pinned", claim.name()));
        }
        for claim in self.claims.difference(&claims) {
            differences.push(format!("{setup}: the driver does not claim {}, which is pinned", claim.name()));
        }
        for (feature, reason) in &found.missing {
            if !self.missing.contains(feature) {
                let name = feature.name();
                differences
                    .push(format!("{setup}: {name} is missing, but is not pinned as missing: {reason}"));
            }
        }
        for feature in &self.missing {
            if !found.missing.contains_key(feature) {
                differences.push(format!("{setup}: {} is there, but is pinned as missing", feature.name()));
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(claims: &[Claim], missing: &[Feature]) -> Environment {
        Environment {
            file_system: "ext4".to_owned(),
            kernel: "6.1".to_owned(),
            unusable: None,
            claims: claims.to_vec(),
            missing: missing.iter().map(|&feature| (feature, "reason".to_owned())).collect(),
        }
    }

    #[test]
    fn every_difference_to_the_pinned_file_is_told() {
        let pin = Pin {
            claims: [Claim::Rebase, Claim::Volatile].into(),
            missing: [Feature::Holes].into(),
            ..Pin::default()
        };
        assert!(
            pin.differences("ext4", &found(&[Claim::Volatile, Claim::Rebase], &[Feature::Holes])).is_empty()
        );
        let differences = pin.differences("ext4", &found(&[Claim::Rebase, Claim::Devices], &[Feature::Acls]));
        for word in ["claims devices", "not claim volatile", "acls is missing", "holes is there"] {
            assert!(differences.iter().any(|line| line.contains(word)), "{word}: {differences:?}");
        }
        assert_eq!(differences.len(), 4);
    }

    #[test]
    fn a_written_pin_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("conformance.toml");
        let environment = found(&[Claim::MountStrings], &[Feature::DeviceNodes]);
        Pins::default().write(&path, "ext4+userns", &environment).unwrap();
        let pins = Pins::read(&path).unwrap();
        assert!(pins.get("ext4+userns").unwrap().differences("ext4+userns", &environment).is_empty());
        assert!(pins.get("ext4").is_none());
    }
}
