//! `bench-oci-image LAYOUT TAG ROOT`: unpacks every layer of an image into ROOT, as its users do.

use std::path::Path;

use oci_image::{ImageLayer, LayerStore, UnpackOptions};
use serde_json::Value;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, tag, root] = &arguments[..] else { panic!("usage: bench-oci-image LAYOUT TAG ROOT") };
    let (layout, root) = (Path::new(layout), Path::new(root));
    let blob = |digest: &Value| {
        layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
    };
    let index = read(&layout.join("index.json"));
    let entry = index["manifests"].as_array().unwrap().iter().find(|entry| {
        entry["annotations"]["org.opencontainers.image.ref.name"] == tag.as_str()
    });
    let manifest = read(&blob(&entry.expect("no such tag")["digest"]));
    let config = read(&blob(&manifest["config"]["digest"]));
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layers: Vec<ImageLayer> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            serde_json::from_value(serde_json::json!({ "blob": layer["digest"], "diff_id": diff_id })).unwrap()
        })
        .collect();
    let store = LayerStore::open(root).unwrap();
    for layer in &layers {
        let place = store.blob_path(&layer.blob);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let from = layout.join("blobs/sha256").join(layer.blob.hex());
        std::os::unix::fs::symlink(from, place).unwrap();
    }
    for layer in &layers {
        store.unpack_layer(layer, &UnpackOptions::default()).unwrap();
    }
}
