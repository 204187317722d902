//! Configurations: what a commit and its `--change` instructions make of them.

use layerstore_changeset::{Code, Digest};
use layerstore_image::{Commit, Config, Instruction, Kind, Platform};
use rstest::rstest;
use serde_json::{Value, json};

/// A configuration as docker writes it, with fields that nobody here knows.
fn base() -> Config {
    let diff_id = Digest::of(b"base").to_string();
    let document = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "docker_version": "20.10",
        "x-vendor": {"kept": [1, null, 1.5]}, "container": "0123", "container_config": {"Image": "x"},
        "config": {
            "Env": ["PATH=/bin:/usr/bin", "EMPTY="], "Cmd": ["inherited"], "WorkingDir": "/srv/app",
            "Healthcheck": {"Test": ["NONE"]}, "Labels": null, "Shell": ["/bin/ash", "-ec"],
        },
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "base"}],
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    Config::parse(document.to_string().into_bytes()).unwrap()
}

fn settings_after(changes: &[&str]) -> Value {
    let commit = Commit {
        changes: changes.iter().map(|text| text.parse().unwrap()).collect(),
        created: "2026-01-01T00:00:00Z".to_owned(),
        ..Commit::default()
    };
    base().commit(&commit).unwrap().document()["config"].clone()
}

#[rstest]
#[case::cmd_json(r#"CMD ["a", "b c"]"#, "Cmd", json!(["a", "b c"]))]
#[case::cmd_shell("CMD echo  $HOME", "Cmd", json!(["/bin/ash", "-ec", "echo  $HOME"]))]
#[case::cmd_not_json("CMD ['a']", "Cmd", json!(["/bin/ash", "-ec", "['a']"]))]
#[case::cmd_equals("CMD=/bin/true", "Cmd", json!(["/bin/ash", "-ec", "/bin/true"]))]
#[case::lower_case("cmd [\"x\"]", "Cmd", json!(["x"]))]
#[case::cmd_none("CMD []", "Cmd", Value::Null)]
#[case::entrypoint(r#"ENTRYPOINT ["/init"]"#, "Entrypoint", json!(["/init"]))]
#[case::entrypoint_clears("ENTRYPOINT /init", "Cmd", Value::Null)]
#[case::env_new("ENV A=1 B=\"two words\" C=x\\ y", "Env",
    json!(["PATH=/bin:/usr/bin", "EMPTY=", "A=1", "B=two words", "C=x y"]))]
#[case::env_replace("ENV PATH=/opt:$PATH", "Env", json!(["PATH=/opt:/bin:/usr/bin", "EMPTY="]))]
#[case::env_old_form("ENV NAME some words", "Env", json!(["PATH=/bin:/usr/bin", "EMPTY=", "NAME=some words"]))]
#[case::env_single_quotes("ENV A='$PATH'", "Env", json!(["PATH=/bin:/usr/bin", "EMPTY=", "A=$PATH"]))]
#[case::env_default("ENV A=${NONE:-d}${EMPTY:-e}${PATH:+p}${NONE:+q}", "Env",
    json!(["PATH=/bin:/usr/bin", "EMPTY=", "A=dep"]))]
#[case::label("LABEL a=1 \"b c\"=\"d e\"", "Labels", json!({"a": "1", "b c": "d e"}))]
#[case::expose("EXPOSE 80 53/UDP 8000-8002/tcp", "ExposedPorts",
    json!({"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}))]
#[case::volume_words("VOLUME /a /b", "Volumes", json!({"/a": {}, "/b": {}}))]
#[case::volume_json(r#"VOLUME ["/a b"]"#, "Volumes", json!({"/a b": {}}))]
#[case::user("USER 1000:1000", "User", json!("1000:1000"))]
#[case::workdir("WORKDIR /a/./b//c", "WorkingDir", json!("/a/b/c"))]
#[case::workdir_relative("WORKDIR sub/../data", "WorkingDir", json!("/srv/app/data"))]
#[case::workdir_above("WORKDIR ../../../..", "WorkingDir", json!("/"))]
#[case::signal_name("STOPSIGNAL SIGTERM", "StopSignal", json!("SIGTERM"))]
#[case::signal_number("STOPSIGNAL 9", "StopSignal", json!("9"))]
#[case::signal_real_time("STOPSIGNAL SIGRTMIN+3", "StopSignal", json!("SIGRTMIN+3"))]
#[case::onbuild("ONBUILD RUN make  install", "OnBuild", json!(["RUN make  install"]))]
fn an_instruction_changes_one_setting(#[case] change: &str, #[case] key: &str, #[case] expected: Value) {
    let settings = settings_after(&[change]);
    assert_eq!(settings.get(key).cloned().unwrap_or(Value::Null), expected);
    assert_eq!(settings["Healthcheck"], json!({"Test": ["NONE"]}), "what is not known stays");
}

#[test]
fn an_entry_point_keeps_a_command_that_is_set_beside_it() {
    for changes in [["CMD [\"a\"]", "ENTRYPOINT [\"e\"]"], ["ENTRYPOINT [\"e\"]", "CMD [\"a\"]"]] {
        let settings = settings_after(&changes);
        assert_eq!((&settings["Cmd"], &settings["Entrypoint"]), (&json!(["a"]), &json!(["e"])));
    }
}

#[rstest]
#[case::empty("")]
#[case::unknown("RUN make")]
#[case::no_argument("CMD")]
#[case::bad_port("EXPOSE 70000")]
#[case::bad_protocol("EXPOSE 80/icmp")]
#[case::backward_range("EXPOSE 90-80")]
#[case::sign_in_port("EXPOSE +80")]
#[case::no_pair("ENV A=1 B")]
#[case::no_key("LABEL =x")]
#[case::open_quote("ENV A=\"x")]
#[case::bad_variable("ENV A=${B")]
#[case::two_users("USER a b")]
#[case::bad_signal("STOPSIGNAL SIGNOTHING")]
#[case::nested_onbuild("ONBUILD ONBUILD RUN x")]
#[case::onbuild_from("ONBUILD from x")]
fn a_malformed_instruction_is_refused(#[case] text: &str) {
    let error = text.parse::<Instruction>().unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput, "{error}");
}

#[test]
fn a_commit_adds_a_layer_and_a_step_and_keeps_the_rest() {
    let layer = Digest::of(b"new");
    let commit = Commit {
        diff_id: Some(layer),
        created: "2026-02-03T04:05:06.789Z".to_owned(),
        created_by: Some("sh".to_owned()),
        author: Some("A <a@example.org>".to_owned()),
        message: Some("a message".to_owned()),
        changes: vec!["LABEL x=y".parse().unwrap()],
    };
    let before = base();
    let after = before.commit(&commit).unwrap();
    assert_eq!(after.diff_ids(), [before.diff_ids()[0], layer]);
    assert_eq!(after.author(), Some("A <a@example.org>"));
    assert_eq!(after.created(), Some("2026-02-03T04:05:06.789Z"));
    let step = &after.history()[1];
    assert_eq!((step.comment.as_deref(), step.empty_layer), (Some("a message"), false));
    assert_eq!(after.document()["x-vendor"], before.document()["x-vendor"]);
    assert!(after.document().get("container_config").is_none(), "it told of the parent's container");
    assert_ne!(after.image_id(), before.image_id());
    let again = Config::parse(after.raw().to_vec()).unwrap();
    assert_eq!(again, after, "the bytes say what the value says");
    assert_eq!(again.labels().get("x"), Some(&"y"));
    assert_eq!(after.warnings(), [] as [String; 0]);
}

#[test]
fn a_step_without_a_layer_is_marked_empty() {
    let commit = Commit { created: "2026-01-01T00:00:00Z".to_owned(), ..Commit::default() };
    let after = base().commit(&commit).unwrap();
    assert!(after.history()[1].empty_layer);
    assert_eq!(after.diff_ids().len(), 1);
    assert_eq!(after.warnings(), [] as [String; 0]);
}

#[test]
fn a_history_that_does_not_fit_is_a_warning() {
    let mut document = Value::Object(base().document().clone());
    document["history"].as_array_mut().unwrap().push(json!({"created_by": "more"}));
    let config = Config::parse(document.to_string().into_bytes()).unwrap();
    assert_eq!(config.warnings().len(), 1);
}

#[rstest]
#[case::no_json("nonsense")]
#[case::no_object("[]")]
#[case::no_rootfs(r#"{"os": "linux"}"#)]
#[case::other_type(r#"{"rootfs": {"type": "blobs", "diff_ids": []}}"#)]
#[case::diff_id_path(r#"{"rootfs": {"type": "layers", "diff_ids": ["sha256:../../etc"]}}"#)]
#[case::diff_id_number(r#"{"rootfs": {"type": "layers", "diff_ids": [1]}}"#)]
#[case::twice(r#"{"rootfs": {"type": "layers"}, "rootfs": {"type": "layers"}}"#)]
#[case::lookalike(r#"{"rootfs": {"type": "layers"}, "RootFS": {"type": "layers"}}"#)]
#[case::config_list(r#"{"rootfs": {"type": "layers"}, "config": []}"#)]
#[case::history_text(r#"{"rootfs": {"type": "layers"}, "history": "x"}"#)]
#[case::os_number(r#"{"rootfs": {"type": "layers"}, "os": 1}"#)]
fn a_configuration_that_is_none_is_refused(#[case] text: &str) {
    let error = Config::parse(text.as_bytes().to_vec()).unwrap_err();
    assert_eq!(error.code(), Some(Code::BadDocument), "{error}");
}

#[test]
fn an_empty_configuration_is_for_its_platform() {
    let platform: Platform = "linux/arm/v6".parse().unwrap();
    let config = Config::empty(&platform, "2026-01-01T00:00:00Z").unwrap();
    assert_eq!(config.platform(), &platform);
    assert!(config.diff_ids().is_empty());
}

#[test]
fn a_step_tells_of_its_own_layer_where_the_parent_has_no_history() {
    let diff_ids = [Digest::of(b"one").to_string(), Digest::of(b"two").to_string()];
    let document = json!({
        "architecture": "amd64", "os": "linux", "history": [{"created_by": "one"}],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let parent = Config::parse(document.to_string().into_bytes()).unwrap();
    let commit = Commit {
        diff_id: Some(Digest::of(b"three")),
        created: "2026-01-01T00:00:00Z".to_owned(),
        message: Some("mine".to_owned()),
        ..Commit::default()
    };
    let config = parent.commit(&commit).unwrap();
    let told: Vec<_> = config.history().iter().map(|step| step.comment.as_deref()).collect();
    assert_eq!(told, [None, None, Some("mine")]);
    assert_eq!(config.warnings(), Vec::<String>::new());
}
