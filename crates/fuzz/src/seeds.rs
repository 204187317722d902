//! Inputs to begin with: the hostile corpus, and small right documents.

use layerstore_changeset::record::Recorder;
use layerstore_changeset::tar::Reader;
use layerstore_testkit::hostile;

use crate::tars::limits;

/// Where archives aim at; the target `apply` puts its own place there.
pub(crate) const VICTIM: &[u8] = b"/dev/shm/layerstore-fuzz/victim";

/// Every small layer of the corpus, compressed ones too.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = hostile::all()
        .filter(|case| !case.is_bomb && !matches!(case.name, "C13_hardlink_65001"))
        .map(|case| case.layer(VICTIM))
        .filter(|layer| layer.len() <= 64 << 10)
        .collect();
    all.push(hostile::lower());
    all
}

/// Every small archive of the corpus that is not compressed.
pub(crate) fn archives() -> Vec<Vec<u8>> {
    let mut all = layers();
    all.retain(|layer| {
        layer.len() <= 16 << 10 && !layer.starts_with(b"\x1f\x8b") && !layer.starts_with(b"\x28\xb5\x2f\xfd")
    });
    all
}

/// Records of the archives, as text.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let mut all = vec![
        b"{\"type\":2,\"payload\":\"AAAA\",\"position\":0}\n".to_vec(),
        b"{\"type\":1,\"name\":\"f\",\"size\":7,\"payload\":\"AAAAAAAAAAA=\",\"position\":1}\n".to_vec(),
        b"{\"type\":1,\"name_raw\":\"/w==\",\"size\":18446744073709551615,\"payload\":\"\",\"position\":1}\n"
            .to_vec(),
    ];
    for archive in archives().iter().step_by(10) {
        let recorder = Recorder::new(Vec::new()).expect("memory takes a record");
        if let Ok(done) = Reader::recording(&**archive, limits(), recorder).finish() {
            all.extend(done.record);
        }
    }
    all
}

fn descriptor(kind: &str) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{}","size":5}}"#,
        "a".repeat(64)
    )
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let (config, layer) = (descriptor("config.v1+json"), descriptor("layer.v1.tar+gzip"));
    vec![
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer},{layer}],"annotations":{{"a":"b"}},"x-unknown":[1,2.5,null,true]}}"#
        )
        .into_bytes(),
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("manifest.v1+json")).into_bytes(),
        br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(),
        br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l.tar"]}]"#.to_vec(),
    ]
}

pub(crate) fn configs() -> Vec<Vec<u8>> {
    vec![
        format!(
            r#"{{"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","author":"a","config":{{"Env":["A=b"],"Cmd":["sh"],"User":"0:0","Labels":{{"k":"v"}},"ExposedPorts":{{"80/tcp":{{}}}},"Volumes":{{"/v":{{}}}},"WorkingDir":"/"}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},"history":[{{"created":"2024-01-01T00:00:00Z","created_by":"x","empty_layer":false}}]}}"#,
            "b".repeat(64)
        )
        .into_bytes(),
        br#"{"architecture":"arm","variant":"v7","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
    ]
}

pub(crate) fn references() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "oci:/a/b:tag",
        "oci:dir",
        "oci:dir@0",
        "oci-archive:f.tar:t",
        "docker-archive:f.tar:name:tag",
        "docker-archive:f.tar:@1",
        "rootfs:/",
        "docker://host:5000/a/b:c",
        "docker://a@sha256:",
        "alpine",
        "a/b:c",
        "localhost/x:latest",
        "linux/arm/v7",
        "CMD [\"a\", \"b\"]",
        "ENV A=b C='d e'",
        "LABEL \"x\"=\"y\"",
        "EXPOSE 80/tcp",
        "oci:../../x",
        "oci::",
        "a..b/c",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    all.push(format!("a/b@sha256:{}", "c".repeat(64)).into_bytes());
    all.push(format!("sha256:{}", "0".repeat(64)).into_bytes());
    all
}
