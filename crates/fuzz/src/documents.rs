//! JSON documents of images, and the texts that name images.

use layerstore_changeset::Digest;
use layerstore_image::{Config, Error, ImageName, Instruction, Manifest, Platform, Reference};

fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// What the program says of an error is one line whatever stands in it; here only its length counts.
fn check(error: &Error) {
    assert!(error.to_string().len() < 1 << 20, "a message as long as a document");
}

/// A manifest that is taken says the same when it is read again, and its own digest is that of its bytes.
pub(crate) fn manifest(data: &[u8]) {
    match Manifest::parse(data.to_vec()) {
        Ok(manifest) => {
            assert_eq!(manifest.raw(), data);
            assert_eq!(manifest.digest(), Digest::of(data));
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                assert_eq!(blob.digest.to_string().len(), "sha256:".len() + 64);
            }
            // Copying an image writes such a document again.
            match manifest.with_blobs(
                manifest.format(),
                manifest.config().clone(),
                manifest.layers().to_vec(),
            ) {
                Ok(again) => {
                    let read = Manifest::parse(again.raw().to_vec()).unwrap();
                    assert_eq!(read.layers(), manifest.layers());
                    assert_eq!(read.annotations(), manifest.annotations());
                }
                Err(error) => check(&error),
            }
        }
        Err(error) => check(&error),
    }
}

/// A configuration that is taken can be committed on, and the result can be read.
pub(crate) fn config(data: &[u8]) {
    match Config::parse(data.to_vec()) {
        Ok(config) => {
            assert_eq!(config.image_id(), Digest::of(data));
            let _ = (config.labels(), config.warnings(), config.list("Env"), config.text("User"));
            let commit = layerstore_image::Commit {
                diff_id: Some(Digest::of(b"layer")),
                created: "2026-01-02T03:04:05Z".to_owned(),
                ..layerstore_image::Commit::default()
            };
            match config.commit(&commit) {
                Ok(next) => {
                    let read = Config::parse(next.raw().to_vec()).unwrap();
                    assert_eq!(read.diff_ids().len(), config.diff_ids().len() + 1);
                }
                Err(error) => check(&error),
            }
        }
        Err(error) => check(&error),
    }
}

/// Whatever names something is read as itself when it is written out.
pub(crate) fn reference(data: &[u8]) {
    let text = text(data);
    match text.parse::<Reference>() {
        Ok(reference) => {
            let shown = reference.to_string();
            let again = shown.parse::<Reference>();
            assert!(
                again.as_ref().is_ok_and(|again| *again == reference),
                "{reference:?} is shown as {shown:?}: {again:?}"
            );
        }
        Err(error) => check(&error),
    }
    match text.parse::<ImageName>() {
        Ok(name) => {
            let shown = name.to_string();
            assert_eq!(shown.parse::<ImageName>().unwrap(), name);
            assert!(!shown.contains("..") || !shown.contains("/../"), "{shown}");
        }
        Err(error) => check(&error),
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(!digest.hex().contains(['/', '.']));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let _ = platform.suits(&Platform::host());
    }
    if let Err(error) = text.parse::<Instruction>() {
        check(&error);
    }
}
