//! Configuration through the public door: where values come from, what is said about wrong ones.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

use std::path::PathBuf;

use layerstore::{Config, Environment, Kind, Origin, Overrides, SyncMode};
use rstest::rstest;

/// A root user's environment whose system file holds `text`.
fn environment(directory: &tempfile::TempDir, text: &str) -> Environment {
    std::fs::write(directory.path().join("storage.conf"), text).unwrap();
    Environment { system_dirs: vec![directory.path().to_owned()], ..Environment::default() }
}

fn load(text: &str) -> (layerstore::Result<Config>, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let environment = environment(&directory, text);
    let file = directory.path().join("storage.conf");
    (Config::load(&Overrides::default(), &environment), file)
}

#[test]
fn every_value_says_where_it_came_from() {
    let (config, file) = load(
        "[storage]\ndriver = \"overlay2\"\n\nsync = \"none\"\ndriver_priority = [\"a\", \"b\"]\n\
         [storage.options.overlay2]\nmountopt = \"nodev\"\nsize = 5\nflag = true\n",
    );
    let config = config.unwrap();
    let line = |line| Origin::File { path: file.clone(), line };
    assert_eq!(config.driver.value.as_deref(), Some("overlay2"));
    assert_eq!(config.driver.origin, line(2));
    assert_eq!((config.sync.value, config.sync.origin), (SyncMode::None, line(4)));
    assert_eq!(config.driver_priority.value, ["a", "b"]);
    let options = &config.options["overlay2"];
    assert_eq!((options["mountopt"].value.as_str(), &options["mountopt"].origin), ("nodev", &line(7)));
    assert_eq!((options["size"].value.as_str(), options["flag"].value.as_str()), ("5", "true"));
    assert_eq!(config.graphroot.origin, Origin::Default);
    assert_eq!(config.graphroot.value, PathBuf::from("/var/lib/layerstore"));
    assert_eq!(config.runroot.value, PathBuf::from("/run/layerstore"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(line(2).to_string(), format!("{}:2", file.display()));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut environment = environment(
        &directory,
        "[storage]\ndriver = \"file\"\ngraphroot = \"/file\"\nrunroot = \"/run/file\"\n",
    );
    environment.driver = Some("environment".to_owned());
    environment.root = Some("/environment".into());
    let overrides = Overrides {
        driver: Some("flag".to_owned()),
        driver_options: vec!["size=1g".to_owned(), "vfs.sync=true".to_owned()],
        ..Overrides::default()
    };
    let config = Config::load(&overrides, &environment).unwrap();
    assert_eq!(config.driver.value.as_deref(), Some("flag"));
    assert_eq!(config.driver.origin, Origin::Flag("--driver"));
    assert_eq!(config.graphroot.value, PathBuf::from("/environment"));
    assert_eq!(config.graphroot.origin, Origin::Environment("LAYERSTORE_ROOT"));
    assert_eq!(config.runroot.value, PathBuf::from("/run/file"));
    assert_eq!(config.selected_options[0].0, "size");
    assert_eq!(config.options["vfs"]["sync"].value, "true");
}

#[rstest]
#[case("[storage]\ndrvier = \"vfs\"\n", "2: unknown key \"drvier\", did you mean \"driver\"?")]
#[case("\n\n[storage]\ngraph_root = \"/x\"\n", "4: unknown key \"graph_root\", did you mean \"graphroot\"?")]
#[case("[storage]\ncolour = 1\n", "2: unknown key \"colour\"")]
#[case("[sotrage]\ndriver = \"vfs\"\n", "1: unknown key \"sotrage\", did you mean \"storage\"?")]
fn an_unknown_key_is_a_warning_with_its_place_and_the_nearest_key(#[case] text: &str, #[case] warning: &str) {
    let (config, file) = load(text);
    assert_eq!(config.unwrap().warnings, [format!("{}:{warning}", file.display())]);
}

#[rstest]
#[case("[storage]\nsync = \"disk\"\n", 2, "sync is \"disk\", not \"layer\", \"file\" or \"none\"")]
#[case("[storage]\n\ndriver = 3\n", 3, "driver is an integer, not a string")]
#[case("[storage]\ngraphroot = \"relative\"\n", 2, "graphroot is \"relative\", not an absolute path")]
#[case("[storage]\ndriver_priority = \"vfs\"\n", 2, "driver_priority is a string, not a list of names")]
#[case(
    "[storage]\ndriver_priority = [\n  \"vfs\",\n  1]\n",
    4,
    "driver_priority is an integer, not a string"
)]
#[case(
    "[storage]\ndriver_priority = [{append = 1}]\n",
    2,
    "driver_priority holds a table that is not {append=true}"
)]
#[case(
    "[storage]\ngraphroot = \"$NOWHERE/x\"\n",
    2,
    "graphroot is \"$NOWHERE/x\", and the variable $NOWHERE is not set"
)]
#[case("[storage.options.vfs]\nsize = [1]\n", 2, "size is an array, not a word, number or truth")]
#[case("storage = 1\n", 1, "storage is an integer, not a table")]
fn a_wrong_value_is_an_error_with_its_line(#[case] text: &str, #[case] line: usize, #[case] message: &str) {
    let (config, file) = load(text);
    let error = config.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert_eq!(error.to_string(), format!("read configuration: {}:{line}: {message}", file.display()));
}

#[test]
fn what_is_no_toml_is_an_error_with_its_line() {
    let (config, file) = load("[storage]\ndriver = \n");
    let error = config.unwrap_err();
    assert!(error.what().starts_with(&format!("{}:2", file.display())), "{error}");
}

#[test]
fn a_named_file_is_the_only_one_and_has_to_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut environment = environment(&directory, "[storage]\ndriver = \"system\"\n");
    environment.config = Some(directory.path().join("missing.toml"));
    let error = Config::load(&Overrides::default(), &environment).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let named = directory.path().join("named.toml");
    std::fs::write(&named, "[storage]\nsync = \"none\"\n").unwrap();
    let overrides = Overrides { config: Some(named.clone()), ..Overrides::default() };
    let config = Config::load(&overrides, &environment).unwrap();
    assert_eq!(config.files, [named]);
    assert_eq!(config.driver.value, None);
}

#[test]
fn a_user_without_privilege_gets_directories_of_his_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut environment = environment(&directory, "[storage]\ngraphroot = \"/system\"\ndriver = \"vfs\"\n");
    environment.uid = 1000;
    environment.home = Some("/home/me".into());
    let config = Config::load(&Overrides::default(), &environment).unwrap();
    assert_eq!(config.graphroot.value, PathBuf::from("/home/me/.local/share/layerstore"));
    assert_eq!(config.runroot.value, PathBuf::from("/run/user/1000/layerstore"));
    assert_eq!(config.driver.value.as_deref(), Some("vfs"), "other settings of the system's file count");
    environment.xdg_data_home = Some("/data".into());
    environment.xdg_runtime_dir = Some("/runtime".into());
    let config = Config::load(&Overrides::default(), &environment).unwrap();
    assert_eq!(config.graphroot.value, PathBuf::from("/data/layerstore"));
    assert_eq!(config.runroot.value, PathBuf::from("/runtime/layerstore"));
}

#[rstest]
#[case("size")]
#[case("")]
fn a_driver_option_without_a_value_is_refused(#[case] option: &str) {
    let overrides = Overrides { driver_options: vec![option.to_owned()], ..Overrides::default() };
    let error = Config::load(&overrides, &Environment::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
}
