//! Names and references, as skopeo and docker spell them.

use layerstore_image::{ImageName, Kind, Platform, Reference};
use rstest::rstest;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[rstest]
#[case::familiar("alpine", "alpine:latest", "docker.io/library/alpine:latest")]
#[case::tagged("alpine:3.20", "alpine:3.20", "docker.io/library/alpine:3.20")]
#[case::official("docker.io/library/alpine", "alpine:latest", "docker.io/library/alpine:latest")]
#[case::index_host("index.docker.io/alpine", "alpine:latest", "docker.io/library/alpine:latest")]
#[case::user("me/app", "me/app:latest", "docker.io/me/app:latest")]
#[case::docker_user("docker.io/me/app:1", "me/app:1", "docker.io/me/app:1")]
#[case::library_deeper("library/a/b", "library/a/b:latest", "docker.io/library/a/b:latest")]
#[case::host("quay.io/me/app", "quay.io/me/app:latest", "quay.io/me/app:latest")]
#[case::port("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest")]
#[case::localhost("localhost/app:v1", "localhost/app:v1", "localhost/app:v1")]
#[case::upper_host("HOST/app", "HOST/app:latest", "HOST/app:latest")]
#[case::ipv6("[::1]:5000/app:v1", "[::1]:5000/app:v1", "[::1]:5000/app:v1")]
#[case::separators("a__b/c.d/e--f_g", "a__b/c.d/e--f_g:latest", "docker.io/a__b/c.d/e--f_g:latest")]
fn a_name_has_a_familiar_and_a_canonical_form(
    #[case] text: &str,
    #[case] familiar: &str,
    #[case] canonical: &str,
) {
    let name: ImageName = text.parse().unwrap();
    assert_eq!(name.to_string(), familiar);
    assert_eq!(name.canonical(), canonical);
    assert_eq!(canonical.parse::<ImageName>().unwrap(), name, "both forms are one name");
}

#[test]
fn a_name_by_digest_has_no_tag_of_its_own() {
    let name: ImageName = format!("app@sha256:{HEX}").parse().unwrap();
    assert_eq!((name.repository(), name.tag()), ("app", None));
    assert_eq!(name.to_string(), format!("app@sha256:{HEX}"));
    let both: ImageName = format!("app:v1@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.tag(), Some("v1"));
    assert_eq!(both.digest().unwrap().hex(), HEX);
}

#[rstest]
#[case::empty("")]
#[case::only_tag(":v1")]
#[case::upper("Alpine")]
#[case::upper_later("quay.io/Me/app")]
#[case::empty_tag("app:")]
#[case::bad_tag("app:.hidden")]
#[case::long_tag(
    "app:0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
)]
#[case::traversal("../app")]
#[case::traversal_later("a/../b")]
#[case::absolute("/app")]
#[case::trailing("app/")]
#[case::separator_first("-app")]
#[case::separator_last("app-")]
#[case::triple_underscore("a___b")]
#[case::two_dots("a..b")]
#[case::space("a b")]
#[case::newline("a\nb")]
#[case::bad_port("host.io:x/app")]
#[case::bad_host("-host.io/app")]
#[case::image_id(HEX)]
#[case::short_digest("app@sha256:abcd")]
#[case::other_digest("app@sha512:abcd")]
#[case::digest_traversal("app@../../etc/passwd")]
fn a_malformed_name_is_refused(#[case] text: &str) {
    let error = text.parse::<ImageName>().unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(!error.to_string().contains('\n'), "a message is one line: {error}");
}

#[test]
fn a_repository_over_255_bytes_is_refused() {
    "a".repeat(255).parse::<ImageName>().unwrap();
    "a".repeat(256).parse::<ImageName>().unwrap_err();
}

#[rstest]
#[case::oci("oci:/var/x", "oci", "oci:/var/x")]
#[case::oci_tag("oci:dir:v1", "oci", "oci:dir:v1")]
#[case::oci_name_as_tag("oci:dir:quay.io/a/b:v1", "oci", "oci:dir:quay.io/a/b:v1")]
#[case::oci_place("oci:dir:@2", "oci", "oci:dir:@2")]
#[case::oci_empty_tag("oci:dir:", "oci", "oci:dir")]
#[case::oci_archive("oci-archive:a.tar:v1", "oci-archive", "oci-archive:a.tar:v1")]
#[case::docker_archive("docker-archive:a.tar", "docker-archive", "docker-archive:a.tar")]
#[case::docker_archive_name(
    "docker-archive:a.tar:docker.io/library/x",
    "docker-archive",
    "docker-archive:a.tar:x:latest"
)]
#[case::docker_archive_port(
    "docker-archive:a.tar:localhost:5000/x:v1",
    "docker-archive",
    "docker-archive:a.tar:localhost:5000/x:v1"
)]
#[case::docker_archive_place("docker-archive:a.tar:@1", "docker-archive", "docker-archive:a.tar:@1")]
#[case::rootfs("rootfs:/a:b c", "rootfs", "rootfs:/a:b c")]
#[case::registry("docker://alpine", "docker", "docker://alpine:latest")]
fn a_reference_is_understood_and_printed(#[case] text: &str, #[case] transport: &str, #[case] printed: &str) {
    let reference: Reference = text.parse().unwrap();
    assert_eq!(reference.transport(), transport);
    assert_eq!(reference.to_string(), printed);
    assert_eq!(printed.parse::<Reference>().unwrap(), reference);
    assert!(Reference::is_reference(text));
}

#[rstest]
#[case::no_transport("alpine", "no transport")]
#[case::unknown("docker-daemon:alpine", "is not known")]
#[case::one_slash("docker:/alpine", "docker://")]
#[case::no_path("oci:", "path is empty")]
#[case::no_path_but_tag("oci::tag", "path is empty")]
#[case::no_rootfs("rootfs:", "path is empty")]
#[case::bad_tag("oci:dir:a b", "not a valid tag")]
#[case::bad_tag_end("oci:dir:v1-", "not a valid tag")]
#[case::bad_place("oci:dir:@x", "place")]
#[case::bad_name("docker-archive:a.tar:UPPER", "lower case")]
fn a_malformed_reference_is_refused(#[case] text: &str, #[case] reason: &str) {
    let error = text.parse::<Reference>().unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_registry_is_recognised_and_refused_with_a_way_out() {
    let reference = "docker://quay.io/a/b:v1".parse().unwrap();
    let error = layerstore_image::open(&reference, &layerstore_image::OpenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("registries are not supported yet"), "{error}");
    assert!(error.hint().unwrap().contains("skopeo copy"));
}

#[rstest]
#[case("linux/amd64", "linux/amd64", true)]
#[case("linux/amd64", "linux/amd64/v1", true)]
#[case("linux/amd64", "linux/amd64/v3", false)]
#[case("linux/amd64", "linux/386", false)]
#[case("linux/amd64", "windows/amd64", false)]
#[case("linux/arm64", "linux/arm64/v8", true)]
#[case("linux/arm64/v8", "linux/arm64", true)]
#[case("linux/arm64", "linux/arm64/v9", false)]
#[case("linux/arm/v7", "linux/arm/v6", true)]
#[case("linux/arm/v6", "linux/arm/v7", false)]
#[case("linux/arm", "linux/arm/v7", true)]
#[case("linux/riscv64", "linux/riscv64", true)]
#[case("linux/amd64", "linux/amd64/weird", false)]
fn a_platform_suits_another(#[case] wanted: &str, #[case] offered: &str, #[case] suits: bool) {
    let (wanted, offered) = (wanted.parse::<Platform>().unwrap(), offered.parse::<Platform>().unwrap());
    assert_eq!(wanted.suits(&offered).is_some(), suits);
}

#[test]
fn the_newest_arm_variant_that_runs_is_the_best() {
    let host: Platform = "linux/arm/v7".parse().unwrap();
    let rank = |text: &str| host.suits(&text.parse().unwrap());
    assert!(rank("linux/arm/v7") > rank("linux/arm/v6"));
    assert!(rank("linux/arm/v6") > rank("linux/arm/v5"));
}
