//! Reports about the whole store: info, df, gc and check.

use layerstore_changeset::Digest;
use layerstore_driver::Capabilities;

/// What `info` shows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Info {
    /// The driver in use.
    pub driver: String,
    /// Why it is this one.
    pub driver_reason: String,
    /// What it says about itself.
    #[serde(serialize_with = "super::pairs")]
    pub driver_status: Vec<(String, String)>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Where the store lies.
    pub graphroot: String,
    /// Where mounts and locks lie.
    pub runroot: String,
    /// Version of the store's layout on disk.
    pub version: u32,
    /// Images.
    pub images: u64,
    /// Layers, those of containers included.
    pub layers: u64,
    /// Containers.
    pub containers: u64,
    /// Bytes of the files in all sealed layers, each layer counted once.
    pub size: u64,
    /// Bytes that these layers took on disk when they were sealed. What containers have written is in `df`.
    pub disk_bytes: u64,
    /// The configuration files that were read, in order: a later one wins.
    pub files: Vec<String>,
    /// Every setting: key, value, origin.
    #[serde(serialize_with = "settings")]
    pub settings: Vec<(String, String, String)>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Settings by their keys; of an option that is set for its driver by name and without, what counts.
fn settings<S: serde::Serializer>(
    settings: &[(String, String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let told = |value, origin| serde_json::json!({ "value": value, "origin": origin });
    let by_key: serde_json::Map<_, _> =
        settings.iter().map(|(key, value, origin)| (key.clone(), told(value, origin))).collect();
    serde::Serialize::serialize(&by_key, serializer)
}

/// What `df` shows, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Space {
    /// Images, each with its layers.
    pub images: Vec<SpaceLine>,
    /// Containers, each with its writable layer.
    pub containers: Vec<SpaceLine>,
    /// Layers that belong to no image and no container.
    pub layers: Vec<SpaceLine>,
    /// Bytes on disk of all layers, each counted once.
    pub total: u64,
    /// Bytes that `gc` would free.
    pub reclaimable: u64,
}

/// A line of `df`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SpaceLine {
    /// Image ID, container id or layer id.
    pub id: String,
    /// Names.
    pub names: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Of these, bytes that others use as well.
    pub shared: u64,
    /// Of these, bytes that go when this one goes.
    pub unique: u64,
    /// Whether something uses it.
    pub in_use: bool,
}

/// What `gc` freed, or would free.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Gc {
    /// Each thing.
    pub freed: Vec<Freed>,
    /// Bytes on disk, as far as they are known.
    pub bytes: u64,
    /// Whether nothing was really done.
    pub dry_run: bool,
}

/// A thing that nothing referred to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Freed {
    /// What it is: `layer`, `record`, `blob`, `image files`, `staging`, `trash`.
    pub kind: &'static str,
    /// Its name or id.
    pub name: String,
    /// Why it could go.
    pub reason: String,
    /// Bytes on disk, 0 where that is not known.
    pub bytes: u64,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Only records against disk, no contents.
    pub quick: bool,
    /// Puts right what can be without a source, and frees what nothing refers to.
    pub repair: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Layers that were checked.
    pub layers: u64,
    /// Of these, layers whose tar was put together again and whose diff ID was right.
    pub verified: u64,
    /// The database, if it had to be made again before.
    pub rebuilt: Option<Rebuilt>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// A stable word: `database`, `layer-missing`, `layer-unknown`, `layer-damaged`, `layer-half-applied`,
    /// `record-missing`, `record-lost`, `row-lost`, `row-wrong`, `image-files`, `orphan`, `driver-root`,
    /// `driver-repaired`.
    pub kind: &'static str,
    /// What it is about.
    pub name: String,
    /// What is wrong, for a person.
    pub message: String,
    /// Images that cannot be used because of it.
    pub images: Vec<Digest>,
    /// Whether it was put right.
    pub repaired: bool,
}

/// A database that was made again from the records beside the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// What was wrong with the old one.
    pub reason: String,
    /// Where the old one is kept, if there was any.
    #[serde(serialize_with = "super::path")]
    pub kept_as: Option<std::path::PathBuf>,
    /// Layers that came back.
    pub layers: u64,
    /// Images that came back.
    pub images: u64,
    /// Names that came back.
    pub names: u64,
    /// Containers that came back.
    pub containers: u64,
    /// What did not come back, and why.
    pub left_out: Vec<String>,
}
