//! Where configuration is looked for, and what files of podman's and docker's mean, through the public door.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use layerstore::{Config, Environment, Kind, Origin, Overrides, Registry, Store, StoreOptions, SyncMode};
use layerstore_overlay2::Overlay2;
use layerstore_vfs::Vfs;
use rstest::rstest;
use tempfile::TempDir;

/// A file below `directory`, with its parents.
fn put(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// `driver = NAME` and nothing else.
fn names(driver: &str) -> String {
    format!("[storage]\ndriver = \"{driver}\"\n")
}

fn environment(directory: &TempDir) -> Environment {
    Environment {
        system_dirs: vec![directory.path().join("etc"), directory.path().join("usr")],
        xdg_config_home: Some(directory.path().join("home")),
        ..Environment::default()
    }
}

fn driver(environment: &Environment) -> Option<String> {
    Config::load(&Overrides::default(), environment).unwrap().driver.value
}

#[test]
fn the_first_file_that_is_there_counts_and_drop_ins_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut environment = environment(&directory);
    assert_eq!(driver(&environment), None);
    // Each line beats all before it.
    for place in [
        "usr/storage.conf",
        "etc/storage.conf",
        "home/layerstore/storage.toml",
        "usr/storage.conf.d/10.conf",
        "usr/storage.rootful.conf.d/20.conf",
        "etc/storage.conf.d/20.conf",
        "home/layerstore/storage.conf.d/20.conf",
        "usr/storage.conf.d/30.toml",
        "override",
    ] {
        let path = put(&directory, place, &names(place));
        if place == "override" {
            environment.config_override = Some(path);
        }
        assert_eq!(driver(&environment).as_deref(), Some(place));
    }
}

#[test]
fn what_does_not_end_as_a_configuration_file_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "etc/storage.conf", &names("main"));
    put(&directory, "etc/storage.conf.d/10.conf~", &names("backup"));
    put(&directory, "etc/storage.conf.d/README", "no TOML at all");
    assert_eq!(driver(&environment(&directory)).as_deref(), Some("main"));
}

#[rstest]
#[case(0, "rootful")]
#[case(1000, "mine")]
#[case(1001, "rootless")]
fn root_and_users_have_drop_ins_of_their_own(#[case] uid: u32, #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "etc/storage.rootful.conf.d/10.conf", &names("rootful"));
    put(&directory, "etc/storage.rootless.conf.d/10.conf", &names("rootless"));
    put(&directory, "etc/storage.rootless.conf.d/1000/10.conf", &names("mine"));
    let environment = Environment { uid, ..environment(&directory) };
    assert_eq!(driver(&environment).as_deref(), Some(expected));
}

#[test]
fn two_main_files_in_one_place_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "etc/storage.conf", &names("a"));
    put(&directory, "etc/storage.toml", &names("b"));
    let error = Config::load(&Overrides::default(), &environment(&directory)).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.to_string().contains("storage.toml is there too"), "{error}");
}

#[test]
fn a_named_override_has_to_be_there_and_covers_a_named_file() {
    let directory = tempfile::tempdir().unwrap();
    let named = put(&directory, "named", "[storage]\ndriver = \"named\"\nsync = \"none\"\n");
    let mut environment = environment(&directory);
    environment.config = Some(named);
    environment.config_override = Some(put(&directory, "override", &names("over")));
    let config = Config::load(&Overrides::default(), &environment).unwrap();
    assert_eq!((config.driver.value.as_deref(), config.sync.value), (Some("over"), SyncMode::None));
    environment.config_override = Some(directory.path().join("missing"));
    let error = Config::load(&Overrides::default(), &environment).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn a_list_with_append_adds_to_the_files_before_it() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "etc/storage.conf", "[storage]\ndriver_priority = [\"a\"]\n");
    put(&directory, "etc/storage.conf.d/1.conf", "[storage]\ndriver_priority = [\"b\", {append = true}]\n");
    let config = Config::load(&Overrides::default(), &environment(&directory)).unwrap();
    assert_eq!(config.driver_priority.value, ["a", "b"]);
    put(&directory, "etc/storage.conf.d/2.conf", "[storage]\ndriver_priority = [\"c\"]\n");
    let config = Config::load(&Overrides::default(), &environment(&directory)).unwrap();
    assert_eq!(config.driver_priority.value, ["c"]);
}

#[rstest]
#[case("$HOME/store", "/home/me/store")]
#[case("${HOME}er", "/home/meer")]
#[case("/x/$UID/y", "/x/1000/y")]
fn a_path_may_hold_variables(#[case] text: &str, #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "home/layerstore/storage.conf", &format!("[storage]\ngraphroot = \"{text}\"\n"));
    let environment = Environment { uid: 1000, home: Some("/home/me".into()), ..environment(&directory) };
    let config = Config::load(&Overrides::default(), &environment).unwrap();
    assert_eq!(config.graphroot.value, Path::new(expected));
}

#[test]
fn the_environment_gives_driver_options() {
    let environment =
        Environment { driver_options: Some("threads=2, vfs.threads=3".to_owned()), ..Environment::default() };
    let config = Config::load(&Overrides::default(), &environment).unwrap();
    let origin = Origin::Environment("LAYERSTORE_DRIVER_OPTS");
    assert_eq!(
        (config.selected_options[0].0.as_str(), &config.selected_options[0].1.origin),
        ("threads", &origin)
    );
    assert_eq!(config.options["vfs"]["threads"].value, "3");
}

/// Opens a store whose configuration is `text`, in a file called `name`.
fn open(directory: &TempDir, name: &str, text: &str) -> layerstore::Result<Store> {
    let text = text.replace("DIR", directory.path().to_str().unwrap());
    let overrides = Overrides { config: Some(put(directory, name, &text)), ..Overrides::default() };
    let config = Config::load(&overrides, &Environment::default())?;
    Store::open(StoreOptions { config, registry: Registry::new().with(Overlay2).with(Vfs) })
}

/// What the store says about its configuration, without the file's path.
fn said(store: &Store, directory: &TempDir) -> Vec<String> {
    let place = format!("{}/", directory.path().display());
    let mut said: Vec<String> = store.warnings().iter().map(|warning| warning.replace(&place, "")).collect();
    said.sort();
    said
}

#[test]
fn podmans_file_does_what_it_says_or_says_what_it_ignores() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(
        &directory,
        "storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"DIR/root\"\nrunroot = \"DIR/run\"\n\
         imagestore = \"\"\ntransient_store = true\n\
         [storage.options]\nadditionalimagestores = [\n]\nmount_program = \"/usr/bin/fuse-overlayfs\"\n\
         pull_options = {enable_partial_images = \"true\", use_hard_links = \"false\"}\n\
         [storage.options.overlay]\nmountopt = \"nodev,metacopy=on\"\nsync = \"none\"\nuse_composefs = \"false\"\n\
         [storage.options.zfs]\nfsname = \"\"\n[storage.options.btrfs]\n[storage.options.thinpool]\n",
    )
    .unwrap();
    assert_eq!(store.driver().name(), "overlay2");
    assert_eq!(store.config().sync.value, SyncMode::None);
    assert_eq!(store.mount_flags().to_string(), "nodev");
    assert_eq!(
        said(&store, &directory),
        [
            "storage.conf:10: mount_program is ignored: views are mounted by the kernel",
            "storage.conf:11: pull_options is ignored: layers are pulled whole",
            "storage.conf:13: mountopt: metacopy=on is ignored: the driver chooses how its mounts work",
            "storage.conf:6: transient_store is ignored: what dies with a reboot lies in runroot anyway, and \
             costs no sync",
        ]
    );
}

#[test]
fn dockers_file_does_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(
        &directory,
        "daemon.json",
        "{\n  \"debug\": true,\n  \"storage-driver\": \"overlay2\",\n  \"data-root\": \"DIR/root\",\n  \
         \"exec-root\": \"DIR/run\",\n  \"storage-opts\": [\n    \"overlay2.override_kernel_check=true\",\n    \
         \"overlay2.threads=2\"\n  ],\n  \"log-driver\": \"json-file\"\n}\n",
    )
    .unwrap();
    assert_eq!(store.driver().name(), "overlay2");
    assert_eq!(store.config().graphroot.value, directory.path().join("root"));
    assert_eq!(store.config().options["overlay2"]["threads"].value, "2");
    assert_eq!(
        said(&store, &directory),
        ["daemon.json:7: override_kernel_check is ignored: what the kernel can do is tried out"]
    );
}

#[rstest]
#[case("[]", "1: the file is no JSON object")]
#[case("{\n\"storage-driver\": 3}", "2: storage-driver is 3, not a text")]
#[case("{\n\n\"data-root\": \"here\"}", "3: data-root is \"here\", not an absolute path")]
#[case("{\"storage-opts\": [\n\"size\"]}", "1: option \"size\" is not DRIVER.KEY=VALUE")]
fn a_wrong_value_in_dockers_file_is_an_error_with_its_line(#[case] text: &str, #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let error = open(&directory, "daemon.json", text).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    let place = directory.path().join("daemon.json");
    assert_eq!(error.to_string(), format!("read configuration: {}:{expected}", place.display()));
}

#[test]
fn a_root_that_docker_uses_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "root/overlay2/0123abcd/diff/file", "docker's");
    put(&directory, "root/image/overlay2/repositories.json", "{}");
    let text = "{\"data-root\": \"DIR/root\", \"exec-root\": \"DIR/run\", \"storage-driver\": \"overlay2\"}";
    let error = open(&directory, "daemon.json", text).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
    let mut names: Vec<_> = std::fs::read_dir(directory.path().join("root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["image", "overlay2"]);
}

#[rstest]
#[case(
    "[storage.options.overlay2]\nthraeds = 2\n",
    "unknown driver option \"thraeds\", did you mean \"threads\"?"
)]
#[case("[storage.options]\ncolour = \"red\"\n", "unknown driver option \"colour\"")]
#[case(
    "[storage.options.overlai2]\nthreads = 2\n",
    "options for an unknown driver \"overlai2\", did you mean \"overlay2\"?"
)]
#[case(
    "[storage]\ndriver_priority = [\"zfs\", \"vfs\"]\n",
    "driver_priority: this program has no driver \"zfs\", it is passed over"
)]
fn what_no_driver_has_is_a_warning_in_a_file(#[case] text: &str, #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let roots = "graphroot = \"DIR/root\"\nrunroot = \"DIR/run\"\n";
    let text = match text.strip_prefix("[storage]\n") {
        Some(rest) => format!("[storage]\n{roots}{rest}"),
        None => format!("[storage]\n{roots}{text}"),
    };
    let store = open(&directory, "storage.conf", &text).unwrap();
    let line = if text.contains("driver_priority") { 4 } else { 5 };
    assert_eq!(said(&store, &directory), [format!("storage.conf:{line}: {expected}")]);
}

#[test]
fn a_priority_that_nobody_knows_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[storage]\ngraphroot = \"DIR/root\"\nrunroot = \"DIR/run\"\ndriver_priority = [\"vfss\"]\n";
    let error = open(&directory, "storage.conf", text).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.to_string().contains("storage.conf:4: driver_priority"), "{error}");
    assert_eq!(error.hint(), Some("did you mean \"vfs\"?"));
}
