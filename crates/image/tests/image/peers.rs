//! Images of other programs are read, and ours are read by them.
//!
//! Each program has to be there: a missing one fails the test with the line that installs it.

use std::path::Path;
use std::process::Command;

use layerstore_image::{Compression, CreateOptions, ImageSource};
use rstest::rstest;
use serde_json::Value;

use crate::support::{check_layers, copy_image, layers, peer, read_image, run, scratch, write_image};

fn skopeo() -> Command {
    peer("skopeo", "skopeo")
}

/// The image in the form of our own that the peers begin with.
fn seed(dir: &Path) -> String {
    let reference = format!("oci:{}/seed:v1", dir.display());
    write_image(&reference, &layers(), &CreateOptions::default()).unwrap();
    reference
}

fn same_image(reference: &str, original: &dyn ImageSource) {
    let image = read_image(reference).unwrap();
    assert_eq!(image.config().raw(), original.config().raw(), "{reference} has the same configuration");
    assert_eq!(check_layers(&*image), layers(), "{reference} has the same layers");
}

#[rstest]
#[case::oci("oci:DIR/out:tag", &[])]
#[case::oci_zstd("oci:DIR/out:tag", &["--dest-compress-format", "zstd", "--dest-compress"])]
#[case::oci_archive("oci-archive:DIR/out.tar:tag", &[])]
#[case::docker_archive("docker-archive:DIR/out.tar:some/name:tag", &[])]
fn skopeo_writes_and_we_read(#[case] to: &str, #[case] options: &[&str]) {
    let (_guard, dir) = scratch();
    let seed = seed(&dir);
    let to = to.replace("DIR", dir.to_str().unwrap());
    run(skopeo().args(["--insecure-policy", "copy", "-q"]).args(options).args([&seed, &to]));
    same_image(&to, &*read_image(&seed).unwrap());
}

#[rstest]
#[case::oci("oci:DIR/ours:tag", None)]
#[case::oci_plain("oci:DIR/ours:tag", Some(Compression::None))]
#[case::oci_zstd("oci:DIR/ours:tag", Some(Compression::Zstd))]
#[case::oci_archive("oci-archive:DIR/ours.tar:tag", None)]
#[case::docker_archive("docker-archive:DIR/ours.tar:some/name:tag", None)]
fn we_write_and_skopeo_reads(#[case] ours: &str, #[case] compression: Option<Compression>) {
    let (_guard, dir) = scratch();
    let ours = ours.replace("DIR", dir.to_str().unwrap());
    let mut options = CreateOptions::default();
    options.compression = compression;
    let config = write_image(&ours, &layers(), &options).unwrap();
    let inspected: Value = serde_json::from_str(&run(skopeo().args(["inspect", &ours]))).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 3);
    let raw = run(skopeo().args(["inspect", "--config", "--raw", &ours]));
    assert_eq!(raw.as_bytes(), config.raw());
    let copied = format!("oci:{}/copied:tag", dir.display());
    run(skopeo().args(["--insecure-policy", "copy", "-q", &ours, &copied]));
    if ours.starts_with("docker-archive") {
        // skopeo turns what came from docker into OCI's form and writes the configuration anew.
        assert_eq!(check_layers(&*read_image(&copied).unwrap()), layers());
    } else {
        same_image(&copied, &*read_image(&ours).unwrap());
    }
}

#[test]
fn umoci_unpacks_what_we_write_and_we_read_what_it_packs() {
    let (_guard, dir) = scratch();
    let seed = seed(&dir);
    let image = seed.strip_prefix("oci:").unwrap();
    let bundle = dir.join("bundle");
    run(peer("umoci", "umoci").args(["unpack", "--image", image]).arg(&bundle));
    assert_eq!(std::fs::read_to_string(bundle.join("rootfs/etc/motd")).unwrap(), "hello\n");
    assert!(!bundle.join("rootfs/etc/hostname").exists(), "the whiteout counts");
    std::fs::write(bundle.join("rootfs/added"), "by umoci").unwrap();
    let packed = format!("{}/seed:packed", dir.display());
    run(peer("umoci", "umoci").args(["repack", "--image", &packed]).arg(&bundle));
    let image = read_image(&format!("oci:{packed}")).unwrap();
    let tars = check_layers(&*image);
    assert_eq!(tars.len(), 4);
    let mut archive = tar::Archive::new(tars[3].as_slice());
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.contains(&"added".into()), "{names:?}");
}

/// buildah and podman with a store of their own.
fn containers(program: &str, dir: &Path) -> Command {
    let mut command = peer(program, program);
    command.args(["--storage-driver", "vfs", "--root"]).arg(dir.join("graph"));
    command.arg("--runroot").arg(dir.join("run"));
    command
}

#[rstest]
#[case::oci("oci:DIR/built:tag")]
#[case::oci_archive("oci-archive:DIR/built.tar:tag")]
#[case::docker_archive("docker-archive:DIR/built.tar:localhost/built:tag")]
fn buildah_builds_and_we_read(#[case] to: &str) {
    let (_guard, dir) = scratch();
    let seed = seed(&dir);
    let to = to.replace("DIR", dir.to_str().unwrap());
    let buildah = || containers("buildah", &dir);
    let container = run(buildah().args(["from", &seed])).trim().to_owned();
    run(buildah().args(["config", "--env", "BUILT=yes", "--label", "a=b", &container]));
    std::fs::write(dir.join("file"), "copied").unwrap();
    run(buildah().args(["copy", &container]).arg(dir.join("file")).arg("/copied"));
    run(buildah().args(["commit", "-q", &container, "localhost/built:tag"]));
    run(buildah().args(["push", "-q", "localhost/built:tag", &to]));
    let image = read_image(&to).unwrap();
    assert_eq!(check_layers(&*image).len(), 4);
    assert!(image.config().list("Env").contains(&"BUILT=yes"));
    assert_eq!(image.config().labels()["a"], "b");
    assert_eq!(image.warnings(), [] as [String; 0]);
}

#[test]
fn podman_loads_what_we_write_and_we_read_what_it_saves() {
    let (_guard, dir) = scratch();
    let ours = dir.join("ours.tar");
    let reference = format!("docker-archive:{}:example.org/ours:v1", ours.display());
    let config = write_image(&reference, &layers(), &CreateOptions::default()).unwrap();
    let podman = || containers("podman", &dir);
    run(podman().args(["load", "-q", "-i"]).arg(&ours));
    let id = run(podman().args(["image", "inspect", "--format", "{{.Id}}", "example.org/ours:v1"]));
    assert_eq!(id.trim(), config.image_id().hex());
    for (format, transport) in [("docker-archive", "docker-archive"), ("oci-archive", "oci-archive")] {
        let saved = dir.join(format);
        run(podman().args(["save", "-q", "--format", format, "-o"]).arg(&saved).arg("example.org/ours:v1"));
        same_image(&format!("{transport}:{}", saved.display()), &*read_image(&reference).unwrap());
    }
}

/// A docker daemon of our own, stopped in the end.
struct Dockerd {
    process: std::process::Child,
    socket: String,
}

impl Dockerd {
    fn start(dir: &Path) -> Self {
        let socket = format!("unix://{}/docker.sock", dir.display());
        let process = peer("dockerd", "docker.io")
            .args(["--storage-driver", "vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--host", &socket])
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self { process, socket };
        for _ in 0..300 {
            if daemon.docker().arg("version").output().unwrap().status.success() {
                return daemon;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("dockerd did not start: {}", std::fs::read_to_string(dir.join("log")).unwrap_or_default());
    }

    fn docker(&self) -> Command {
        let mut command = peer("docker", "docker.io");
        command.args(["--host", &self.socket]);
        command
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

#[test]
fn docker_loads_what_we_write_and_we_read_what_it_saves() {
    let (_guard, dir) = scratch();
    let ours = dir.join("ours.tar");
    let reference = format!("docker-archive:{}:example.org/ours:v1", ours.display());
    let config = write_image(&reference, &layers(), &CreateOptions::default()).unwrap();
    let daemon = Dockerd::start(&dir);
    run(daemon.docker().args(["load", "-q", "-i"]).arg(&ours));
    let id = run(daemon.docker().args(["inspect", "--format", "{{.Id}}", "example.org/ours:v1"]));
    assert_eq!(id.trim(), config.image_id().to_string());
    // Two images that share layers: docker writes links for those of the second.
    run(daemon.docker().args(["tag", "example.org/ours:v1", "example.org/ours:v2"]));
    let saved = dir.join("saved.tar");
    run(daemon
        .docker()
        .args(["save", "-o"])
        .arg(&saved)
        .args(["example.org/ours:v1", "example.org/ours:v2"]));
    let reference = format!("docker-archive:{}:example.org/ours:v2", saved.display());
    let image = read_image(&reference).unwrap();
    assert_eq!(image.config().image_id(), config.image_id());
    assert_eq!(check_layers(&*image), layers());
    assert_eq!(image.names().len(), 2);
}

#[test]
fn a_docker_image_pushed_to_a_layout_becomes_an_oci_image() {
    let (_guard, dir) = scratch();
    let seed = seed(&dir);
    // skopeo's `dir:` keeps docker's own manifest; a layout holding one is what `--format v2s2` makes of it.
    let docker = format!("docker-archive:{}/d.tar:x:v1", dir.display());
    run(skopeo().args(["--insecure-policy", "copy", "-q", &seed, &docker]));
    let oci = format!("oci:{}/out:x", dir.display());
    copy_image(&docker, &oci, &CreateOptions::default(), &[]).unwrap();
    let raw: Value = serde_json::from_str(&run(skopeo().args(["inspect", "--raw", &oci]))).unwrap();
    assert_eq!(raw["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(raw["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    same_image(&oci, &*read_image(&seed).unwrap());
}
