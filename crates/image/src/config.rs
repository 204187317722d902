//! The configuration of an image: read without loss, and changed for a commit.
//!
//! Invariants: the bytes stay exactly as they were read, so that the image ID is their digest; a changed
//! configuration keeps every field that this program does not know.
//!
//! Source: OCI image specification, config.md; docker's fields (`docker_version`, `container_config` …) are
//! among the unknown ones that are kept.

use std::collections::BTreeMap;

use layerstore_changeset::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::document::{self, bad};
use crate::error::Result;
use crate::instruction::Instruction;
use crate::manifest::to_bytes;
use crate::platform::Platform;

/// An image's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    raw: Vec<u8>,
    body: Map<String, Value>,
    platform: Platform,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
}

/// One build step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, as RFC 3339 says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a commit adds to a configuration.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The new layer; none adds a history entry without one.
    pub diff_id: Option<Digest>,
    /// When, as RFC 3339 says it ([`now`]).
    pub created: String,
    /// The command that made the layer.
    pub created_by: Option<String>,
    /// By whom.
    pub author: Option<String>,
    /// A message.
    pub message: Option<String>,
    /// What changes for programs run in the image.
    pub changes: Vec<Instruction>,
}

/// This moment, as configurations write it (RFC 3339, to the nanosecond, UTC).
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

const SUBJECT: &str = "image configuration";

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// `BAD_DOCUMENT`.
    pub fn parse(raw: Vec<u8>) -> Result<Self> {
        let body = document::object(&raw, SUBJECT)?;
        document::check_keys(&body, &["architecture", "os", "config", "rootfs", "history"], SUBJECT)?;
        Self::from_parts(raw, body)
    }

    /// The configuration of an image that has no layer and no settings yet.
    ///
    /// # Errors
    /// None in practice: those of writing JSON.
    pub fn empty(platform: &Platform, created: &str) -> Result<Self> {
        let mut body = Map::new();
        body.insert("created".to_owned(), Value::from(created));
        body.insert("architecture".to_owned(), Value::from(platform.architecture.as_str()));
        if let Some(variant) = &platform.variant {
            body.insert("variant".to_owned(), Value::from(variant.as_str()));
        }
        body.insert("os".to_owned(), Value::from(platform.os.as_str()));
        body.insert("config".to_owned(), json!({}));
        body.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": [] }));
        body.insert("history".to_owned(), json!([]));
        Self::from_parts(to_bytes(&body)?, body)
    }

    fn from_parts(raw: Vec<u8>, body: Map<String, Value>) -> Result<Self> {
        let Some(Value::Object(rootfs)) = body.get("rootfs") else {
            return Err(bad(SUBJECT, "there is no `rootfs`: this is not the configuration of an image"));
        };
        document::check_keys(rootfs, &["type", "diff_ids"], SUBJECT)?;
        if rootfs.get("type") != Some(&Value::from("layers")) {
            return Err(bad(SUBJECT, "`rootfs.type` is not \"layers\""));
        }
        let diff_ids = match rootfs.get("diff_ids") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => document::typed(list.clone(), "rootfs.diff_ids", SUBJECT)?,
        };
        let history = match body.get("history") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => document::typed(list.clone(), "history", SUBJECT)?,
        };
        let text = |key: &str| match body.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(bad(SUBJECT, format!("`{key}` is not a string"))),
        };
        let variant = Some(text("variant")?).filter(|variant| !variant.is_empty());
        let platform = Platform { variant, ..Platform::new(text("os")?, text("architecture")?) };
        if !matches!(body.get("config"), None | Some(Value::Null | Value::Object(_))) {
            return Err(bad(SUBJECT, "`config` is not an object"));
        }
        Ok(Self { raw, body, platform, diff_ids, history })
    }

    /// The exact bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The image ID: the digest of the exact bytes.
    pub fn image_id(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// The machine that the image is for; empty strings where the configuration does not say.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The layers, base first, each by the digest of its uncompressed tar.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// The build steps, oldest first.
    pub fn history(&self) -> &[History] {
        &self.history
    }

    /// When the image was made, as RFC 3339 says it.
    pub fn created(&self) -> Option<&str> {
        self.body.get("created").and_then(Value::as_str)
    }

    /// Who made it.
    pub fn author(&self) -> Option<&str> {
        self.body.get("author").and_then(Value::as_str)
    }

    /// The whole document.
    pub fn document(&self) -> &Map<String, Value> {
        &self.body
    }

    /// A setting for programs run in the image (`Env`, `Cmd`, `WorkingDir` …), as it is written.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.body.get("config")?.get(key)
    }

    /// A setting that is a list of strings (`Env`, `Cmd`, `Entrypoint`, `OnBuild`, `Shell`); empty where it is
    /// missing.
    pub fn list(&self, key: &str) -> Vec<&str> {
        let items = self.setting(key).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// A setting that is a string (`User`, `WorkingDir`, `StopSignal`); empty where it is missing.
    pub fn text(&self, key: &str) -> &str {
        self.setting(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The labels.
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        let labels = self.setting("Labels").and_then(Value::as_object);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// What is odd about the configuration but does no harm, for a person.
    pub fn warnings(&self) -> Vec<String> {
        let steps = self.history.iter().filter(|step| !step.empty_layer).count();
        if self.history.is_empty() || steps == self.diff_ids.len() {
            return Vec::new();
        }
        let layers = self.diff_ids.len();
        vec![format!("the history tells of {steps} layers, but the image has {layers}")]
    }

    /// The configuration of the image that a commit makes of this one.
    ///
    /// # Errors
    /// An instruction that this configuration cannot take.
    pub fn commit(&self, commit: &Commit) -> Result<Self> {
        let mut body = self.body.clone();
        let settings = body.entry("config").or_insert(Value::Null);
        if !settings.is_object() {
            *settings = json!({});
        }
        if let Value::Object(settings) = settings {
            Instruction::apply_all(&commit.changes, settings)?;
        }
        body.insert("created".to_owned(), Value::from(commit.created.as_str()));
        if let Some(author) = &commit.author {
            body.insert("author".to_owned(), Value::from(author.as_str()));
        }
        if let Some(diff_id) = &commit.diff_id
            && let Some(rootfs) = body.get_mut("rootfs").and_then(Value::as_object_mut)
        {
            push(rootfs, "diff_ids", Value::from(diff_id.to_string()));
        }
        // Where the parent's history leaves layers out, the new step would tell of one of those.
        let told = self.history.iter().filter(|step| !step.empty_layer).count();
        for _ in told..self.diff_ids.len() {
            push(&mut body, "history", crate::manifest::to_value(&History::default())?);
        }
        let step = History {
            created: Some(commit.created.clone()),
            created_by: commit.created_by.clone(),
            author: commit.author.clone(),
            comment: commit.message.clone(),
            empty_layer: commit.diff_id.is_none(),
        };
        push(&mut body, "history", crate::manifest::to_value(&step)?);
        // What docker keeps about the container that the parent was committed from is not true of this image.
        for key in ["container", "container_config", "parent", "id"] {
            body.remove(key);
        }
        Self::from_parts(to_bytes(&body)?, body)
    }
}

/// Appends to a list that may be missing or null.
fn push(map: &mut Map<String, Value>, key: &str, item: Value) {
    match map.get_mut(key) {
        Some(Value::Array(items)) => items.push(item),
        _ => {
            map.insert(key.to_owned(), Value::Array(vec![item]));
        }
    }
}
