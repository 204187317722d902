//! Rows of the database that can be read and are wrong: told, and taken from the records where these can be trusted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::panic)]

mod common;

use common::harm::{check, execute};
use common::*;
use layerstore::{ContainerOptions, Context, MountOptions, Store};
use rstest::rstest;

/// Two images, one over the other, and a container that changed something.
fn filled(scratch: &Scratch, driver: &str) -> (Store, Memory) {
    let store = scratch.open(driver);
    let image = small();
    image.pull(&store, &["small", "other"]).unwrap();
    Memory::new([base_tar()], "base").pull(&store, &["base"]).unwrap();
    let options = ContainerOptions {
        name: Some("box".to_owned()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..ContainerOptions::default()
    };
    store.create_container("small", &options, &Context::new()).unwrap();
    let place = store.mount("box", &MountOptions::default()).unwrap();
    std::fs::write(place.join("own"), "mine").unwrap();
    store.unmount("box", None).unwrap();
    (store, image)
}

/// Every row, but for when it was changed last.
fn rows(scratch: &Scratch) -> Vec<String> {
    let connection = rusqlite::Connection::open(scratch.root().join("layerstore.db")).unwrap();
    let mut rows = Vec::new();
    for table in ["layers", "images", "image_layers", "names", "containers"] {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns: Vec<String> = statement.column_names().map(ToString::to_string).collect();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values = columns.iter().enumerate().filter(|(_, name)| *name != "updated");
            let values = values.map(|(index, name)| {
                format!("{name}={:?}", row.get::<_, rusqlite::types::Value>(index).unwrap())
            });
            rows.push(format!("{table}: {}", values.collect::<Vec<_>>().join(", ")));
        }
    }
    rows
}

#[track_caller]
fn assert_same(before: &[String], after: &[String]) {
    let differing: Vec<_> = before.iter().zip(after).filter(|(one, other)| one != other).collect();
    assert!(differing.is_empty() && before.len() == after.len(), "{differing:#?}");
}

const A_DIGEST: &str = "'sha256:0000000000000000000000000000000000000000000000000000000000000000'";

#[rstest]
#[case::parent("UPDATE layers SET parent = NULL WHERE kind = 'committed' AND parent IS NOT NULL")]
#[case::parent_of_base(
    "UPDATE layers SET parent = (SELECT parent FROM layers WHERE kind = 'active') WHERE kind = 'committed' AND parent IS NULL"
)]
#[case::parent_unknown(
    "UPDATE layers SET parent = 'unknown' WHERE kind = 'committed' AND parent IS NOT NULL"
)]
#[case::parent_of_container("UPDATE layers SET parent = NULL WHERE kind = 'active'")]
#[case::kind("UPDATE layers SET kind = 'active' WHERE kind = 'committed'")]
#[case::kind_of_container("UPDATE layers SET kind = 'committed' WHERE kind = 'active'")]
#[case::origin("UPDATE layers SET origin = 'user'")]
#[case::origin_of_container("UPDATE layers SET origin = 'image' WHERE kind = 'active'")]
#[case::diff_id("UPDATE layers SET diff_id = DIGEST WHERE parent IS NULL")]
#[case::diff_id_gone("UPDATE layers SET diff_id = NULL WHERE parent IS NULL")]
#[case::chain_id("UPDATE layers SET chain_id = DIGEST WHERE parent IS NULL")]
#[case::chain_id_gone("UPDATE layers SET chain_id = NULL")]
#[case::kept("UPDATE layers SET kept = NULL")]
#[case::kept_otherwise("UPDATE layers SET kept = 'blob' WHERE kept = 'record'")]
#[case::size("UPDATE layers SET size = 1 WHERE kind = 'committed'")]
#[case::tar_size("UPDATE layers SET tar_size = 1 WHERE kind = 'committed'")]
#[case::created("UPDATE layers SET created = 1 WHERE kind = 'committed'")]
#[case::created_of_image("UPDATE images SET created = 'x'")]
#[case::size_of_image("UPDATE images SET size = 1")]
#[case::size_of_image_and_layer(
    "UPDATE layers SET size = 1 WHERE kind = 'committed'; UPDATE images SET size = 1"
)]
#[case::blob("UPDATE layers SET blob_digest = DIGEST, blob_size = 1, media_type = 'x' WHERE blob_size > 0")]
#[case::container(
    "UPDATE containers SET name = 'x', labels = '{}', created = 1, size_limit = 1, image_name = 'x'"
)]
#[case::id_of_container("UPDATE containers SET id = 'x', name = NULL")]
#[case::layer_of_container("UPDATE containers SET layer = (SELECT id FROM layers WHERE parent IS NULL)")]
#[case::image_of_container("UPDATE containers SET image = DIGEST")]
#[case::order(
    "UPDATE image_layers SET position = 7 \
     WHERE position = 0 AND image IN (SELECT image FROM image_layers WHERE position = 1)"
)]
#[case::layer_of_image(
    "UPDATE image_layers SET layer = (SELECT id FROM layers WHERE parent IS NULL) WHERE position = 1"
)]
#[case::layer_less("DELETE FROM image_layers WHERE position = 1")]
#[case::name("DELETE FROM names")]
#[case::one_name("DELETE FROM names WHERE name LIKE '%other%'")]
#[case::name_of_nothing("UPDATE names SET image = DIGEST")]
#[case::no_name("UPDATE names SET name = '/' WHERE name LIKE '%other%'")]
fn what_a_record_knows_better_is_taken_from_it(
    #[case] statement: &str,
    #[values(false, true)] boot: bool,
    #[values("overlay2", "vfs")] driver: &str,
) {
    let scratch = Scratch::new();
    let (store, image) = filled(&scratch, driver);
    let before = rows(&scratch);
    drop(store);
    execute(&scratch, &statement.replace("DIGEST", A_DIGEST));
    if boot {
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
    }
    let store = scratch.open(driver);
    if boot && rows(&scratch) == before {
        // What the driver knows is taken from it right after a boot.
        assert!(check(&store, false).findings.is_empty() && statement.contains("kind = 'active'"));
        return;
    }
    let again = check(&store, false);
    assert!(!again.findings.is_empty() && again.findings.iter().all(|finding| !finding.repaired));
    assert_eq!(check(&store, false).findings.len(), again.findings.len());
    let repaired = check(&store, true);
    assert!(repaired.findings.iter().all(|finding| finding.repaired), "{:#?}", repaired.findings);
    assert!(!repaired.findings.is_empty());
    let after = check(&store, true);
    assert!(after.findings.is_empty(), "{:#?}", after.findings);
    assert_same(&before, &rows(&scratch));
    assert_eq!(exported(&store, "small"), image.tars());
    let place = store.mount("box", &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("own")).unwrap(), "mine");
    store.unmount("box", None).unwrap();
}

/// The record is another one's word against the row's: what fits the driver and itself counts.
#[rstest]
#[case::parent(r#""parent":null"#, r#""parent":"elsewhere""#)]
#[case::diff_id(r#""diff_id":"sha256:"#, r#""diff_id":"sha256:0000"#)]
fn a_record_that_was_changed_is_written_again(#[case] from: &str, #[case] to: &str) {
    let scratch = Scratch::new();
    let (store, _) = filled(&scratch, "overlay2");
    let before = rows(&scratch);
    let folder = scratch.root().join("records");
    let base = store.image("base").unwrap().layers[0].id.to_string();
    let record = folder.join(format!("{base}.json"));
    let sound = std::fs::read_to_string(&record).unwrap();
    let mut wrong = sound.replacen(from, to, 1);
    if to.ends_with("0000") {
        // A digest has as many digits as before.
        let at = wrong.find(to).unwrap() + to.len();
        wrong.replace_range(at..at + 4, "");
    }
    assert_ne!(wrong, sound);
    std::fs::write(&record, wrong).unwrap();
    assert_eq!(check(&store, false).findings[0].kind, "record-lost");
    let repaired = check(&store, true);
    assert!(repaired.findings.iter().all(|finding| finding.repaired), "{:#?}", repaired.findings);
    let said = |text: &str| {
        let mut record: serde_json::Value = serde_json::from_str(text).unwrap();
        // It was written just before the row was.
        record["updated"].take();
        record
    };
    assert_eq!(said(&std::fs::read_to_string(&record).unwrap()), said(&sound));
    assert_same(&before, &rows(&scratch));
    assert!(check(&store, true).findings.is_empty());
}

/// Where the record says one thing and the driver another, nothing is taken, and why is told.
#[test]
fn what_the_driver_does_not_confirm_is_not_taken() {
    let scratch = Scratch::new();
    let (store, _) = filled(&scratch, "overlay2");
    let layer = store.image("base").unwrap().layers[0].id.to_string();
    let record = scratch.root().join("records").join(format!("{layer}.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen(r#""parent":null"#, r#""parent":"elsewhere""#, 1)).unwrap();
    execute(&scratch, &format!("UPDATE layers SET diff_id = {A_DIGEST} WHERE id = '{layer}'"));
    let repaired = check(&store, true);
    let finding = repaired.findings.iter().find(|finding| finding.kind == "row-wrong").unwrap();
    assert!(!finding.repaired && finding.name == layer, "{finding:?}");
    assert!(
        finding.message.contains("nothing is taken from it, because the driver has it over"),
        "{finding:?}"
    );
}

/// A process that took a name away died before it wrote the record; so it is with the power.
#[rstest]
fn a_name_that_was_taken_away_stays_away(
    #[values("untag", "move", "rmi")] how: &str,
    #[values(false, true)] boot: bool,
) {
    let scratch = Scratch::new();
    let (store, image) = filled(&scratch, "overlay2");
    let folder = scratch.root().join("images").join(image.id().replace("sha256:", ""));
    let record = std::fs::read(folder.join("names.json")).unwrap();
    match how {
        "untag" => drop(store.untag("other").unwrap()),
        "rmi" => drop(store.remove_image("other", false).unwrap()),
        _ => {
            store.tag("base", "other").unwrap();
            // Of which nobody knows any more where it was.
            store.untag("other").unwrap();
        }
    }
    std::fs::write(folder.join("names.json"), record).unwrap();
    let store = if boot {
        drop(store);
        std::fs::remove_dir_all(scratch.path().join("run")).unwrap();
        scratch.open("overlay2")
    } else {
        store
    };
    for repair in [false, true, false] {
        let found = check(&store, repair);
        assert!(found.findings.is_empty(), "{:#?}", found.findings);
    }
    store.gc(false).unwrap();
    assert!(store.image("other").is_err());
    assert!(!std::fs::read_to_string(folder.join("names.json")).unwrap().contains("other"));
    // Who gives it again and loses it gets it back.
    store.tag("small", "other").unwrap();
    execute(&scratch, "DELETE FROM names WHERE name LIKE '%other%'");
    assert_eq!(check(&store, false).findings.len(), 1);
    check(&store, true);
    assert_eq!(store.image("other").unwrap().id, store.image("small").unwrap().id);
    assert!(check(&store, true).findings.is_empty());
}
