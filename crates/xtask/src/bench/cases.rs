//! What is measured, as shell text that a person can run too.
//!
//! Variables: `$S` a scratch file system, `$I` the image's OCI layout, `$LS` layerstore, `$VALUE` see
//! [`one`](super::measure::one). The first case of a group is what the others are compared with.

/// One measurement.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) group: &'static str,
    pub(super) name: String,
    /// Programs without which it is left out.
    pub(super) needs: Vec<&'static str>,
    /// Makes what is needed; not timed. Caches are written back after it.
    pub(super) before: String,
    /// What is timed.
    pub(super) timed: String,
    /// Clears away; not timed.
    pub(super) after: String,
    /// How many operations `timed` does: what is reported is for one.
    pub(super) rounds: u32,
}

/// Shell functions that all cases share.
pub(super) const PRELUDE: &str = r#"
umask 022
# ls_ DRIVER SYNC ARGUMENTS: layerstore on the store that is kept for a driver, or on $STORE. No program but it runs.
ls_() {
    local driver=$1 sync=$2 store=${STORE:-$S/store-$1}; shift 2
    [ -d "$store" ] || mkdir -p "$store"
    printf '[storage]\nsync = "%s"\n' "$sync" >"$store/config.toml"
    "$LS" --config "$store/config.toml" -q --root "$store/root" --runroot "$store/run" --driver "$driver" "$@"
}
# The store of a driver with the image in it, under the name `bench`.
filled() { [ -e "$S/store-$1/filled" ] || { ls_ "$1" none pull "oci:$I:gzip" bench && touch "$S/store-$1/filled"; }; }
# Runs a command line so many times, with $i counting.
times() { local n=$1 i; shift; for i in $(seq "$n"); do eval "$@"; done; }
# layers TAG: the image's blobs, from the base.
layers() {
    local manifest
    manifest=$(jq -r --arg k "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $k) | .digest' \
        "$I/index.json")
    jq -r '.layers[].digest' "$I/blobs/sha256/${manifest#sha256:}" | sed "s|sha256:|$I/blobs/sha256/|"
}
# untar N COMMAND: unpacks every layer of $S/list into a directory of its own, N at a time. The sample image has a
# whiteout that tar cannot unpack, which is status 2; xargs makes 123 of it.
untar() { nl "$S/list" | xargs -P "$1" -n 2 sh -c 'mkdir -p "$S/tar/$1"; '"$2"' <"$2" | tar -xpf - --xattrs -C "$S/tar/$1"' - || [ $? -eq 123 ]; }
podman_() { podman --root "$S/podman/root" --runroot "$S/podman/run" --storage-driver overlay "$@"; }
buildah_() { buildah --root "$S/podman/root" --runroot "$S/podman/run" --storage-driver overlay "$@"; }
storage_() { containers-storage --graph "$S/podman/root" --run "$S/podman/run" --storage-driver overlay "$@"; }
podman_filled() { [ -e "$S/podman/filled" ] || { skopeo copy -q "oci:$I:gzip" "containers-storage:[overlay@$S/podman/root+$S/podman/run]localhost/bench:latest" && touch "$S/podman/filled"; }; }
podman_gone() { umount -q "$S/podman/root/overlay" || true; rm -rf "$S/podman" "$S"/archive-*; }
archive() { [ -e "$S/archive-$1" ] || skopeo copy -q "oci:$I:$1" "oci-archive:$S/archive-$1:localhost/bench:latest"; }
containerd_up() {
    mkdir -p "$S/containerd"
    archive "$1"
    printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' \
        "$S/containerd" "$S/containerd" "$S/containerd" >"$S/containerd/config.toml"
    containerd --config "$S/containerd/config.toml" >"$S/containerd/log" 2>&1 </dev/null & echo $! >"$S/containerd/pid"
    for i in $(seq 100); do ctr -a "$S/containerd/sock" version >/dev/null 2>&1 && break; sleep 0.1; done
}
containerd_down() {
    kill "$(cat "$S/containerd/pid")"; while kill -0 "$(cat "$S/containerd/pid")" 2>/dev/null; do sleep 0.1; done
    rm -rf "$S/containerd" "$S"/archive-*
}
# Ten changes of every kind in a mounted tree.
ten_changes() {
    ( cd "$1"; echo 1 >new; mkdir dir; echo 2 >dir/new; ln -s new link; echo more >>etc/debian_version; chmod 600 etc/issue
      rm etc/issue.net; touch etc/fstab; mv etc/shells etc/shells.old; echo x >usr/new )
}
"#;

fn case(
    group: &'static str,
    name: impl Into<String>,
    needs: &[&'static str],
    before: impl Into<String>,
    timed: impl Into<String>,
    after: impl Into<String>,
) -> Case {
    Case {
        group,
        name: name.into(),
        needs: needs.to_vec(),
        before: before.into(),
        timed: timed.into(),
        after: after.into(),
        rounds: 1,
    }
}

fn many(rounds: u32, case: Case) -> Case {
    Case { rounds, ..case }
}

/// Every case, for these drivers and these tags of the image.
pub(super) fn all(drivers: &[String], tags: &[String]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (tag, group, unpack, program) in [
        ("gzip", "import gzip", "gzip -dc", "gzip"),
        ("zstd", "import zstd", "zstd -dc", "zstd"),
        ("plain", "import plain", "cat", "cat"),
    ] {
        if tags.iter().any(|have| have == tag) {
            imports(&mut cases, drivers, tag, group, unpack, program);
        }
    }
    for driver in drivers {
        verbs(&mut cases, driver);
    }
    peers(&mut cases);
    let mut groups: Vec<&str> = Vec::new();
    for case in &cases {
        if !groups.contains(&case.group) {
            groups.push(case.group);
        }
    }
    cases.sort_by_key(|case| groups.iter().position(|group| *group == case.group));
    cases
}

fn imports(
    cases: &mut Vec<Case>,
    drivers: &[String],
    tag: &str,
    group: &'static str,
    unpack: &'static str,
    program: &'static str,
) {
    let gone = "rm -rf \"$S/new\"";
    for driver in drivers {
        for sync in ["layer", "none"] {
            let pull = format!("STORE=$S/new ls_ {driver} {sync} pull oci:$I:{tag} bench");
            cases.push(case(group, format!("layerstore {driver}, sync={sync}"), &[], "", &pull, gone));
        }
        if tag == "gzip" {
            let pull = format!("STORE=$S/new ls_ {driver} none pull oci:$I:{tag} bench; sync -f \"$S\"");
            cases.push(case(group, format!("layerstore {driver}, sync=none, sync -f"), &[], "", pull, gone));
        }
    }
    let list = format!("layers {tag} >\"$S/list\"");
    let clear = "rm -rf \"$S/tar\"";
    let mut tar = |name: &str, needs: &[&'static str], timed: String| {
        cases.push(case(group, name, needs, &list, timed, clear));
    };
    tar(
        &format!("{unpack} | tar, sync -f"),
        &[program, "tar"],
        format!("untar 1 '{unpack}'; sync -f \"$S\""),
    );
    tar(&format!("{unpack} | tar"), &[program, "tar"], format!("untar 1 '{unpack}'"));
    tar(&format!("{unpack} | tar, two at a time"), &[program, "tar"], format!("untar 2 '{unpack}'"));
    if tag == "gzip" {
        tar("pigz -dc | tar", &["pigz", "tar"], "untar 1 'pigz -dc'".into());
        tar(
            "bsdtar",
            &["bsdtar"],
            "nl \"$S/list\" | while read n f; do mkdir -p $S/tar/$n; bsdtar -xpf $f -C $S/tar/$n; done"
                .into(),
        );
    }
    let oci = format!("\"$PEER_OCI_IMAGE\" \"$I\" {tag} \"$S/oci\"");
    cases.push(case(group, "crate oci-image 0.1.0", &[], "", oci, "rm -rf \"$S/oci\""));
    let skopeo = |driver: &str| {
        format!(
            "skopeo copy -q oci:$I:{tag} \"containers-storage:[{driver}@$S/podman/root+$S/podman/run]localhost/x:latest\""
        )
    };
    let podman_gone = "podman_gone";
    cases.push(case(group, "skopeo to overlay", &["skopeo"], podman_gone, skopeo("overlay"), podman_gone));
    if drivers.iter().any(|driver| driver != "overlay2") {
        cases.push(case(group, "skopeo to vfs", &["skopeo"], podman_gone, skopeo("vfs"), podman_gone));
    }
    let storage =
        "below=; while read -r f; do below=$(storage_ import-layer -r -f \"$f\" $below); done <\"$S/list\"";
    cases.push(case(
        group,
        "containers-storage import-layer",
        &["containers-storage"],
        format!("podman_gone; {list}"),
        storage,
        podman_gone,
    ));
    let pull = format!("podman_ pull -q oci-archive:$S/archive-{tag}");
    cases.push(case(
        group,
        "podman pull",
        &["podman", "skopeo"],
        format!("archive {tag}"),
        pull,
        podman_gone,
    ));
    let pull = format!("buildah_ pull -q oci-archive:$S/archive-{tag}");
    cases.push(case(
        group,
        "buildah pull",
        &["buildah", "skopeo"],
        format!("archive {tag}"),
        pull,
        podman_gone,
    ));
    let needs = ["containerd", "ctr", "skopeo"];
    let ctr = format!("ctr -a $S/containerd/sock images import --snapshotter overlayfs $S/archive-{tag}");
    cases.push(case(
        group,
        "ctr images import",
        &needs,
        format!("containerd_up {tag}"),
        ctr,
        "containerd_down",
    ));
    if tag != "zstd" {
        let umoci = format!("umoci unpack --image $I:{tag} $S/umoci");
        cases.push(case(group, "umoci unpack", &["umoci"], "", umoci, "rm -rf \"$S/umoci\""));
    }
}

fn verbs(cases: &mut Vec<Case>, driver: &str) {
    let name = format!("layerstore {driver}");
    let ls = format!("ls_ {driver} layer");
    let filled = format!("filled {driver}");
    let made = format!("{filled}; times 20 {ls} create --name b\\$i bench");
    let mounted = format!("{made}; times 20 {ls} mount b\\$i");
    let removed = format!("times 20 {ls} rm -f b\\$i");
    let mut add = |group, before: &str, timed: String, after: &str| {
        cases.push(many(20, case(group, &name, &[], before, timed, after)));
    };
    add("create", &filled, format!("times 20 {ls} create --name b\\$i bench"), &removed);
    add("mount", &made, format!("times 20 {ls} mount b\\$i"), &removed);
    add("unmount", &mounted, format!("times 20 {ls} unmount b\\$i"), &removed);
    add("remove", &made, format!("times 20 {ls} rm b\\$i"), "");
    let changed =
        format!("{filled}; {ls} create --name c bench; ten_changes \"$({ls} mount c)\"; {ls} unmount c");
    let gone = format!("{ls} rm -f c");
    add("diff after ten changes", &changed, format!("times 20 {ls} diff c"), &gone);
    let mut one = |group, before: &str, timed: String, after: &str| {
        cases.push(case(group, &name, &[], before, timed, after));
    };
    let commit = format!("{ls} commit c changed");
    one("commit of ten changes", &changed, commit, &format!("{ls} rmi changed; {gone}"));
    // The layer with the most bytes of entries stands for those with many files.
    let largest = format!(
        "{filled}; for l in $({ls} layer list --format json | jq -r '.[].id'); do echo \"$(find \
         \"$({ls} layer inspect $l --format json | jq -r '.. | .UpperDir? // empty' | head -1)\" | wc -l) $l\"; done | sort -n | \
         tail -1 >\"$S/largest\"; {ls} layer inspect $(cut -d' ' -f2 $S/largest) --format json | jq -r '.. | .UpperDir? // empty' | \
         head -1 >\"$S/largest-dir\""
    );
    if driver == "overlay2" {
        one(
            "diff of a layer",
            &largest,
            format!("{ls} layer diff \"$(cut -d' ' -f2 $S/largest)\" | cat"),
            "",
        );
        cases.push(case(
            "diff of a layer",
            "tar -cf - | cat",
            &["tar"],
            &largest,
            "tar -cf - -C \"$(cat $S/largest-dir)\" . | cat",
            "",
        ));
    }
    let mut one = |group, before: &str, timed: String, after: &str| {
        cases.push(case(group, &name, &[], before, timed, after));
    };
    let container = format!("{filled}; {ls} create --name c bench; {ls} mount c >\"$S/mounted\"");
    one("export", &container, format!("{ls} export c | cat"), &gone);
    if driver == "overlay2" {
        cases.push(case(
            "export",
            "tar -cf - | cat of the mounted tree",
            &["tar"],
            &container,
            "tar -cf - -C \"$(cat $S/mounted)\" . | cat",
            &gone,
        ));
    }
    let mut one = |group, before: &str, timed: String, after: &str| {
        cases.push(case(group, &name, &[], before, timed, after));
    };
    one("push to oci:", &filled, format!("{ls} push bench oci:$S/pushed:x"), "rm -rf \"$S/pushed\"");
    let pulled = format!("STORE=$S/new {ls} pull oci:$I:gzip bench");
    one("rmi", &pulled, format!("STORE=$S/new {ls} rmi bench"), "rm -rf \"$S/new\"");
    // The longest wait of a container's unmount while an image comes in.
    let waits = format!(
        r#"STORE=$S/new ls_ {driver} layer pull oci:$I:gzip bench & pull=$!
worst=0
while kill -0 $pull 2>/dev/null; do
    where=$({ls} mount c); echo x >"$where/file"
    begin=${{EPOCHREALTIME/./}}; {ls} unmount c; took=$(( ${{EPOCHREALTIME/./}} - begin ))
    [ $took -gt $worst ] && worst=$took || true; sleep 0.1
done
wait $pull; echo "$worst" | sed 's/$/e-6/' >"$VALUE""#
    );
    let container = format!("{filled}; {ls} create --name c bench");
    one("unmount during an import, the longest", &container, waits, &format!("{gone}; rm -rf \"$S/new\""));
}

/// The life of a container with another engine, whose shell function is `call`, by what it calls to make, mount, unmount
/// and remove one.
fn engine(
    cases: &mut Vec<Case>,
    name: &str,
    needs: &[&'static str],
    [create, mount, unmount, remove]: [&str; 4],
    call: &str,
) {
    let create = format!("times 20 {call} {create} b\\$i localhost/bench:latest");
    let [mount, unmount, remove] =
        [mount, unmount, remove].map(|verb| format!("times 20 {call} {verb} b\\$i"));
    let made = format!("podman_filled; {create}");
    let mounted = format!("{made}; {mount}");
    let gone = format!("{unmount}; {remove}");
    for (group, before, timed, after) in [
        ("create", "podman_filled", &create, &*remove),
        ("mount", &made, &mount, &gone),
        ("unmount", &mounted, &unmount, &remove),
        ("remove", &made, &remove, ""),
    ] {
        cases.push(many(20, case(group, name, needs, before, timed, after)));
    }
}

fn peers(cases: &mut Vec<Case>) {
    let (buildah, podman) = (["buildah", "skopeo"], ["podman", "skopeo"]);
    let filled = "podman_filled";
    engine(cases, "buildah", &buildah, ["from --pull-never --name", "mount", "umount", "rm"], "buildah_");
    let needs = ["containers-storage", "skopeo"];
    let verbs = ["create-container -n", "mount", "unmount", "delete-container"];
    engine(cases, "containers-storage", &needs, verbs, "storage_");
    let changed = "podman_filled; storage_ create-container -n c localhost/bench:latest; \
                   ten_changes \"$(storage_ mount c)\"; storage_ unmount c; \
                   storage_ container c | sed -n 's/^Layer: //p' >\"$S/changed\"";
    let changes = "times 20 storage_ changes \"$(cat \"$S/changed\")\"";
    let gone = "storage_ delete-container c";
    let changes = case("diff after ten changes", "containers-storage", &needs, changed, changes, gone);
    cases.push(many(20, changes));
    // The layer of the image with the most files, as in ours.
    let largest = "podman_filled; for d in \"$S\"/podman/root/overlay/*/diff; do echo \"$(find \"$d\" | wc -l) $d\"; done | \
                   sort -n | tail -1 | sed 's|.*/\\([^/]*\\)/diff$|\\1|' >\"$S/stored\"";
    cases.push(case(
        "diff of a layer",
        "containers-storage",
        &needs,
        largest,
        "storage_ diff -u \"$(cat \"$S/stored\")\" | cat",
        "",
    ));
    let changed = "podman_filled; buildah_ from --pull-never --name c localhost/bench:latest; \
                   ten_changes \"$(buildah_ mount c)\"; buildah_ umount c";
    cases.push(case(
        "commit of ten changes",
        "buildah",
        &buildah,
        changed,
        "buildah_ commit -q c localhost/changed",
        "buildah_ rm -a; buildah_ rmi localhost/changed",
    ));
    let created = "podman_filled; podman_ create --name c localhost/bench:latest /bin/true; \
                   ten_changes \"$(podman_ mount c)\"; podman_ umount c";
    cases.push(many(
        20,
        case(
            "diff after ten changes",
            "podman",
            &podman,
            created,
            "times 20 podman_ diff c",
            "podman_ rm -f c",
        ),
    ));
    cases.push(case(
        "export",
        "podman",
        &podman,
        "podman_filled; podman_ create --name c localhost/bench:latest /bin/true",
        "podman_ export c | cat",
        "podman_ rm -f c",
    ));
    let copy = "skopeo copy -q \"containers-storage:[overlay@$S/podman/root+$S/podman/run]localhost/bench:latest\" oci:$S/pushed:x";
    cases.push(case("push to oci:", "skopeo", &["skopeo"], filled, copy, "rm -rf \"$S/pushed\""));
    cases.push(case(
        "rmi",
        "podman",
        &podman,
        filled,
        "podman_ rmi -f localhost/bench:latest",
        "podman_gone",
    ));
    cases.push(case(
        "rmi",
        "rm -rf of the layers",
        &["tar"],
        "layers gzip >\"$S/list\"; untar 1 'gzip -dc'",
        "rm -rf \"$S/tar\"",
        "",
    ));
}
