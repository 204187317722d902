//! Images of hostile layers, as OCI layouts made by hand.

use std::io::Read as _;
use std::path::Path;

use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::{Digest, Limits};
use serde_json::{Value, json};

/// Writes an image of these layers; the diff IDs are those of what the layers decompress to, as far as they do.
pub(crate) fn write(directory: &Path, layers: &[Vec<u8>]) {
    let diff_ids: Vec<_> = layers.iter().map(|layer| diff_id(layer)).collect();
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    write_with(directory, config.to_string().as_bytes(), layers);
}

/// Writes an image with this configuration.
pub(crate) fn write_with(directory: &Path, config: &[u8], layers: &[Vec<u8>]) {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| blob(directory, "application/vnd.oci.image.layer.v1.tar+gzip", layer))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(directory, "application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    });
    write_manifest(directory, manifest.to_string().as_bytes());
}

/// Writes a manifest and the files that make the directory a layout.
pub(crate) fn write_manifest(directory: &Path, manifest: &[u8]) {
    let entry = blob(directory, "application/vnd.oci.image.manifest.v1+json", manifest);
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

fn blob(directory: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    let folder = directory.join("blobs/sha256");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(digest.hex()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// The digest of the tar in a layer, or of the layer where there is no tar to be had.
pub(crate) fn diff_id(layer: &[u8]) -> Digest {
    let limits = Limits::default();
    let hashed = || -> Result<Digest, Box<dyn std::error::Error>> {
        let mut hashing = layerstore_changeset::digest::Hashing::new(Decompressor::detect(layer, &limits)?);
        let mut buffer = vec![0; 1 << 16];
        while hashing.read(&mut buffer)? > 0 {}
        Ok(hashing.finish().1)
    };
    hashed().unwrap_or_else(|_| Digest::of(layer))
}
