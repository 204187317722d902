//! Hostile archives by name: what each is refused with, or what is read from it.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::*;
use layerstore_changeset::{Change, Code, Limits, Time};
use rstest::rstest;

type Outcome = Result<Vec<&'static str>, Code>;

fn ok(entries: &[&'static str]) -> Outcome {
    Ok(entries.to_vec())
}

#[track_caller]
fn check(entries: &[Raw], expected: Outcome) {
    let got = outcome(&archive(entries));
    let got =
        got.as_ref().map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>()).map_err(|code| *code);
    assert_eq!(got, expected);
}

#[rstest]
#[case::a01_dotdot(file("../x", ""), Err(Code::PathEscape))]
#[case::a02_slash_dotdot(file("/../x", ""), Err(Code::PathEscape))]
#[case::a03_mid_dotdot_escape(file("a/../../x", ""), Err(Code::PathEscape))]
#[case::a04_mid_dotdot_inside(file("a/../b", ""), ok(&["file b 0"]))]
#[case::a05_absolute(file("/etc/abs", ""), ok(&["file etc/abs 0"]))]
#[case::a06_triple_slash_abs(file("///etc/abs", ""), ok(&["file etc/abs 0"]))]
#[case::a07_dot_slash_abs(file(".//abs", ""), ok(&["file abs 0"]))]
#[case::a08_dotdot_alone(dir(".."), Err(Code::PathEscape))]
#[case::a09_root_dot_symlink(link(b'2', ".", "/etc"), Err(Code::RootTypeChange))]
#[case::a09_root_slash_dot_symlink(link(b'2', "/.", "/etc"), Err(Code::RootTypeChange))]
#[case::a10_root_slash_symlink(link(b'2', "/", "/etc"), Err(Code::RootTypeChange))]
#[case::a10_root_file(file(".", "x"), Err(Code::RootTypeChange))]
#[case::a10_root_hard_link(link(b'1', "a/..", "b"), Err(Code::RootTypeChange))]
#[case::a11_root_dir_meta(dir("./"), ok(&["dir ."]))]
#[case::a12_empty_name(file("", ""), Err(Code::EmptyName))]
#[case::a14_non_utf8_name(file(b"caf\xe9", ""), ok(&["file caf\\xe9 0"]))]
#[case::a15_newline_ctrl_name(file("a\nb\x1b", ""), ok(&["file a\\nb\\x1b 0"]))]
#[case::a19_trailing_slash_file(file("f/", "abc"), Err(Code::BadHeader))]
#[case::a19_trailing_slash_empty(file("f/", ""), Err(Code::BadHeader))]
#[case::a19_trailing_slash_v7(raw(0, "f/").v7(), ok(&["dir f"]))]
#[case::a19_trailing_slash_v7_data(raw(0, "f/").v7().data("abc"), Err(Code::BadHeader))]
#[case::a20_backslash(file("a\\..\\b", ""), ok(&["file a\\\\..\\\\b 0"]))]
#[case::a23_prefix_dotdot(file("x", "").at(345, "../.."), Err(Code::PathEscape))]
#[case::a_prefix(file("x", "").at(345, "a/b"), ok(&["file a/b/x 0"]))]
#[case::b03_abs_symlink_legit(link(b'2', "etc/l", "/usr"), ok(&["symlink etc/l -> /usr"]))]
#[case::b09_symlink_empty_target(link(b'2', "l", ""), Err(Code::EmptyLink))]
#[case::b17_sibling_prefix(file("../root-sibling/x", ""), Err(Code::PathEscape))]
#[case::c01_hardlink_dotdot(link(b'1', "h", "../x"), Err(Code::LinkEscape))]
#[case::c03_hardlink_abs(link(b'1', "h", "/etc/x"), ok(&["link h -> etc/x"]))]
#[case::c08_hardlink_to_root(link(b'1', "h", "."), Err(Code::LinkToDir))]
#[case::c09_hardlink_self(link(b'1', "a/f", "./a/f"), Err(Code::LinkSelf))]
#[case::c10_hardlink_data(link(b'1', "h", "f").data("skipped"), Err(Code::BadHeader))]
#[case::c_hardlink_empty(link(b'1', "h", ""), Err(Code::EmptyLink))]
#[case::c_hardlink_reserved(link(b'1', "h", ".wh..wh.plnk/1"), Err(Code::ReservedName))]
#[case::d01_wh_root_parent(file(".wh...", ""), Err(Code::BadWhiteout))]
#[case::d02_wh_parent(file("etc/.wh...", ""), Err(Code::BadWhiteout))]
#[case::d03_wh_root(file(".wh..", ""), Err(Code::BadWhiteout))]
#[case::d04_wh_curdir(file("etc/.wh..", ""), Err(Code::BadWhiteout))]
#[case::d05_wh_empty(file("etc/.wh.", ""), Err(Code::BadWhiteout))]
#[case::d06_wh(file("etc/.wh.x", ""), ok(&["remove etc/x"]))]
#[case::d06_wh_of_any_link(link(b'1', "etc/.wh.x", "etc/.wh.y"), ok(&["remove etc/x"]))]
#[case::d06_wh_of_old_type(raw(0, "etc/.wh.x"), ok(&["remove etc/x"]))]
#[case::d11_opq_nonempty(file("etc/.wh..wh..opq", "x"), Err(Code::BadWhiteout))]
#[case::d11_wh_nonempty(file("etc/.wh.x", "x"), Err(Code::BadWhiteout))]
#[case::d12_opq_symlink_type(link(b'2', ".wh..wh..opq", "x"), Err(Code::BadWhiteout))]
#[case::d13_opq(file("etc/.wh..wh..opq", ""), ok(&["opaque etc"]))]
#[case::d13_opq_root(file(".wh..wh..opq", ""), ok(&["opaque ."]))]
#[case::d17_wh_of_opq(file("etc/.wh..wh..wh..opq", ""), Err(Code::BadWhiteout))]
#[case::d18_wh_plnk(file(".wh..wh.plnk/1.2", ""), Err(Code::ReservedName))]
#[case::d19_wh_plnk_dotdot(dir(".wh..wh.plnk"), Err(Code::ReservedName))]
#[case::d20_wh_aufs_meta(file(".wh..wh.aufs", ""), Err(Code::ReservedName))]
#[case::d21_wh_dirname(dir(".wh.etc/"), Err(Code::ReservedName))]
#[case::d21_wh_parent(file(".wh.etc/x", ""), Err(Code::ReservedName))]
#[case::d22_chardev_0_0(raw(b'3', "c"), ok(&["char c 0:0"]))]
#[case::f01_blockdev(raw(b'4', "b").at(329, "0000010\0"), ok(&["block b 8:0"]))]
#[case::f03_dev_overflow(raw(b'3', "c").at(329, "0010000\0"), Err(Code::BadNumeric))]
#[case::f03_dev_minor_overflow(raw(b'3', "c").at(337, "4000000\0"), Err(Code::BadNumeric))]
#[case::f04_fifo(raw(b'6', "p"), ok(&["fifo p"]))]
#[case::f20_uid_2_32(file("f", "").at(108, b"\x80\0\0\x01\0\0\0\0"), Err(Code::BadId))]
#[case::f21_uid_minus1(file("f", "").at(108, [0xff; 8]), Err(Code::BadId))]
#[case::f22_gid_4294967295(file("f", "").at(116, b"\x80\0\0\0\xff\xff\xff\xff"), Err(Code::BadId))]
#[case::f22_gid_4294967294(file("f", "").at(116, b"\x80\0\0\0\xff\xff\xff\xfe"), ok(&["file f 0"]))]
#[case::f22_uid_over_63_bits(file("f", "").at(108, b"\xbf\0\0\0\xff\xff\xff\xff"), Err(Code::BadId))]
#[case::size_plus(file("f", "").size("+5"), Err(Code::BadNumeric))]
#[case::size_negative(file("f", "").size([0xff; 12]), Err(Code::BadNumeric))]
#[case::size_2_63(file("f", "").size(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), Err(Code::BadNumeric))]
#[case::size_huge(file("f", "").size("77777777777\0"), Err(Code::Truncated))]
#[case::size_blank(file("f", "").size([b' '; 12]), Err(Code::BadNumeric))]
#[case::size_of_directory(dir("d").data("payload"), Err(Code::BadHeader))]
#[case::size_of_symlink(link(b'2', "l", "t").data("payload"), Err(Code::BadHeader))]
#[case::type_unknown(raw(b'Z', "f"), Err(Code::BadType))]
#[case::type_contiguous(raw(b'7', "f"), Err(Code::BadType))]
#[case::type_solaris_x(raw(b'X', "f"), Err(Code::BadType))]
#[case::type_volume(raw(b'V', "f"), Err(Code::BadType))]
#[case::type_multi_volume(raw(b'M', "f"), Err(Code::BadType))]
#[case::type_old_names(raw(b'N', "f"), Err(Code::BadType))]
#[case::type_dump_dir(raw(b'D', "f"), Err(Code::BadType))]
#[case::magic_nul_version(file("f", "").at(257, "ustar\0\0\0"), Err(Code::BadHeader))]
#[case::magic_gnu_with_prefix(file("f", "").gnu().at(345, "dir/dir"), Err(Code::BadHeader))]
fn one_entry(#[case] entry: Raw, #[case] expected: Outcome) {
    check(
        &[file("before", "b"), entry],
        expected.map(|mut lines| {
            lines.insert(0, "file before 1");
            lines
        }),
    );
}

fn x(records: &[(&str, &[u8])]) -> Raw {
    pax(records)
}

#[rstest]
#[case::a13_nul_in_pax_path(&[x(&[("path", b"a\0b")]), file("f", "")], Err(Code::NulInName))]
#[case::a13_nul_in_pax_linkpath(&[x(&[("linkpath", b"a\0b")]), link(b'2', "f", "")], Err(Code::NulInName))]
#[case::a16_component_256(&[x(&[("path", &[b'n'; 256])]), file("f", "")], Err(Code::NameTooLong))]
#[case::a17_path_gt_path_max(&[x(&[("path", &b"dddddddddd/".repeat(600))]), dir("f")], Err(Code::PathTooLong))]
#[case::a18_deep_10000_dirs(&[x(&[("path", &b"d/".repeat(10_000))]), dir("f")], Err(Code::TooDeep))]
#[case::b10_symlink_target_4096(&[x(&[("linkpath", &[b't'; 4096])]), link(b'2', "f", "")], Err(Code::LinkTooLong))]
#[case::d23_wh_overlong(&[x(&[("path", &[&b".wh."[..], &[b'n'; 256]].concat())]), file("f", "")], Err(Code::NameTooLong))]
#[case::f19_xattr_name_256(&[x(&[(&format!("SCHILY.xattr.user.{}", "n".repeat(251)), b"v")]), file("f", "")], Err(Code::XattrTooBig))]
#[case::f18_xattr_64k_plus(&[x(&[("SCHILY.xattr.user.a", &[0; 65_537])]), file("f", "")], Err(Code::XattrTooBig))]
#[case::f20_uid_2_32(&[x(&[("uid", b"4294967296")]), file("f", "")], Err(Code::BadId))]
#[case::f21_uid_minus1(&[x(&[("uid", b"-1")]), file("f", "")], Err(Code::BadId))]
#[case::f22_gid_huge(&[x(&[("gid", b"99999999999999999999999")]), file("f", "")], Err(Code::BadId))]
#[case::uid_no_number(&[x(&[("uid", b"+5")]), file("f", "")], Err(Code::BadNumeric))]
#[case::f27_mtime_nan(&[x(&[("mtime", b"nan")]), file("f", "")], Err(Code::BadNumeric))]
#[case::mtime_empty(&[x(&[("mtime", b"")]), file("f", "")], Err(Code::BadNumeric))]
#[case::path_empty(&[x(&[("path", b"")]), file("f", "")], Err(Code::BadExtension))]
#[case::size_plus(&[x(&[("size", b"+5")]), file("f", "12345")], Err(Code::BadNumeric))]
#[case::size_beats_zero(&[x(&[("size", b"5")]), file("f", "12345").size("0"), file("g", "")], ok(&["file f 5", "file g 0"]))]
#[case::size_beats_other(&[x(&[("size", b"5")]), file("f", "12345").size("1000"), file("g", "")], ok(&["file f 5", "file g 0"]))]
#[case::size_of_directory(&[x(&[("size", b"512")]), dir("d"), file("g", "")], Err(Code::BadHeader))]
#[case::e07_pax_then_long_name(&[x(&[("path", b"p")]), gnu_long(b'L', b"n"), file("f", "")], Err(Code::BadExtension))]
#[case::e08_long_name_then_pax(&[gnu_long(b'L', b"n"), x(&[("path", b"p")]), file("f", "")], Err(Code::BadExtension))]
#[case::pax_twice(&[x(&[("path", b"a")]), x(&[("path", b"b")]), file("f", "")], Err(Code::BadExtension))]
#[case::long_name_twice(&[gnu_long(b'L', b"a"), gnu_long(b'L', b"b"), file("f", "")], Err(Code::BadExtension))]
#[case::long_link_twice(&[gnu_long(b'K', b"a"), gnu_long(b'K', b"b"), link(b'2', "f", "")], Err(Code::BadExtension))]
#[case::long_name_and_link(&[gnu_long(b'K', b"t"), gnu_long(b'L', b"n"), link(b'2', "f", "")], ok(&["symlink n -> t"]))]
#[case::long_name_then_next(&[gnu_long(b'L', b"n"), file("f", ""), file("g", "")], ok(&["file n 0", "file g 0"]))]
#[case::long_name_empty(&[gnu_long(b'L', b""), file("f", "")], Err(Code::BadExtension))]
#[case::long_name_with_nul(&[gnu_long(b'L', b"a\0b"), file("f", "")], Err(Code::BadExtension))]
#[case::long_name_without_nul(&[raw(b'L', "l").gnu().data("abc"), file("f", "")], ok(&["file abc 0"]))]
#[case::pax_dangling(&[x(&[("path", b"a")])], Err(Code::BadExtension))]
#[case::long_name_dangling(&[gnu_long(b'L', b"a")], Err(Code::BadExtension))]
#[case::pax_does_not_leak(&[x(&[("path", b"a"), ("uid", b"7")]), file("f", ""), file("g", "")], ok(&["file a 0", "file g 0"]))]
#[case::e18_last_record_wins(&[x(&[("path", b"a"), ("path", b"b")]), file("f", "")], ok(&["file b 0"]))]
#[case::e19_global_path(&[raw(b'g', "g").data(record("path", "a")), file("f", "")], Err(Code::BadExtension))]
#[case::global_size(&[raw(b'g', "g").data(record("size", "0")), file("f", "")], Err(Code::BadExtension))]
#[case::global_comment(&[raw(b'g', "pax_global_header").data(record("comment", "c0ffee")), file("f", "")], ok(&["file f 0"]))]
#[case::global_between(&[x(&[("path", b"a")]), raw(b'g', "g").data(record("comment", "c")), file("f", "")], Err(Code::BadExtension))]
#[case::record_length_short(&[raw(b'x', "x").data("9 path=abc\n"), file("f", "")], Err(Code::BadExtension))]
#[case::record_length_long(&[raw(b'x', "x").data("99 path=a\n"), file("f", "")], Err(Code::BadExtension))]
#[case::record_length_huge(&[raw(b'x', "x").data("99999999999999999999 path=a\n"), file("f", "")], Err(Code::BadExtension))]
#[case::record_without_newline(&[raw(b'x', "x").data("9 path=ab"), file("f", "")], Err(Code::BadExtension))]
#[case::record_without_key(&[raw(b'x', "x").data("6 =ab\n"), file("f", "")], Err(Code::BadExtension))]
#[case::record_without_value(&[raw(b'x', "x").data("7 path\n"), file("f", "")], Err(Code::BadExtension))]
#[case::record_padded_with_nul(&[raw(b'x', "x").data("9 path=a\n\0\0"), file("f", "")], Err(Code::BadExtension))]
#[case::extension_over_limit(&[raw(b'x', "x").data(vec![b' '; (1 << 20) + 1]), file("f", "")], Err(Code::LimitExceeded))]
#[case::extension_claims_4_gib(&[raw(b'L', "x").gnu().size("37777777777\0"), file("f", "")], Err(Code::LimitExceeded))]
#[case::devices_from_pax(&[x(&[("SCHILY.devmajor", b"259"), ("SCHILY.devminor", b"70000")]), raw(b'4', "b")], ok(&["block b 259:70000"]))]
#[case::sparse_orphan_name(&[x(&[("GNU.sparse.name", b"a")]), file("f", "")], Err(Code::BadExtension))]
#[case::sparse_on_directory(&[x(&[("GNU.sparse.size", b"0"), ("GNU.sparse.numblocks", b"0")]), dir("d")], Err(Code::BadExtension))]
fn with_extensions(#[case] entries: &[Raw], #[case] expected: Outcome) {
    check(entries, expected);
}

#[test]
fn e41_a_single_zero_block_between_entries_is_refused() {
    let bytes = [file("a", "").bytes(), vec![0; 512], file("b", "").bytes(), vec![0; 1024]].concat();
    assert_eq!(outcome(&bytes), Err(Code::BadHeader));
}

#[rstest]
#[case::two_zero_blocks(vec![0; 1024])]
#[case::one_zero_block(vec![0; 512])]
#[case::nothing(vec![])]
#[case::more_zeros(vec![0; 10_240])]
#[case::another_archive([vec![0; 1024], file("hidden", "").bytes()].concat())]
#[case::garbage([vec![0; 1024], vec![7; 777]].concat())]
fn an_archive_ends_at_two_zero_blocks_or_with_the_stream(#[case] end: Vec<u8>) {
    let bytes = [file("a", "x").bytes(), end].concat();
    assert_eq!(outcome(&bytes).unwrap(), ["file a 1"]);
    let done = layerstore_changeset::tar::Reader::new(&*bytes, Limits::default()).finish().unwrap();
    assert_eq!(done.bytes, bytes.len() as u64, "everything was read");
}

#[test]
fn nothing_is_an_empty_archive() {
    assert_eq!(outcome(b""), Ok(vec![]));
}

#[rstest]
#[case::wrong_checksum(&[file("f", "").bytes().into_iter().map(|b| if b == b'f' { b'g' } else { b }).collect(), vec![0; 1024]].concat())]
#[case::text(&b"this is no archive, only text. ".repeat(100))]
#[case::gzip(&[&[0x1f, 0x8b, 8, 0][..], &[9; 1020]].concat())]
fn what_is_no_header_is_refused(#[case] bytes: &[u8]) {
    assert_eq!(outcome(bytes), Err(Code::BadHeader));
}

#[test]
fn a_checksum_of_signed_bytes_is_right_too() {
    let mut bytes = archive(&[file(b"caf\xe9", "")]);
    bytes[148..156].copy_from_slice(b"        ");
    let sum: i32 = bytes[..512].iter().map(|&b| i32::from(b.cast_signed())).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(outcome(&bytes).unwrap(), ["file caf\\xe9 0"]);
}

#[test]
fn a_refusal_names_the_entry_and_its_place() {
    let bytes = archive(&[file("a", [1; 600]), x(&[("mtime", b"1")]), file("../e\x1bvil", "")]);
    let error = read(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "PATH_ESCAPE: ../e\\x1bvil: name climbs out of the layer's root (at byte 1536 of the archive)"
    );
}

#[rstest]
#[case(&[x(&[("mtime", b"-1.5")]), file("f", "")], -2, 500_000_000)]
#[case(&[x(&[("mtime", b"1700000000.123456789")]), file("f", "")], 1_700_000_000, 123_456_789)]
#[case(&[file("f", "").at(136, [0xff; 12])], -1, 0)]
#[case(&[x(&[("mtime", b"9223372036854775807")]), file("f", "")], i64::MAX, 0)]
fn times_before_1970_and_to_the_nanosecond_are_kept(
    #[case] entries: &[Raw],
    #[case] seconds: i64,
    #[case] nanos: u32,
) {
    let (seen, _) = read(&archive(entries)).unwrap();
    let Change::Put(entry) = &seen[0].change else { panic!("{seen:?}") };
    assert_eq!(entry.metadata.mtime, Time { seconds, nanos });
}

#[test]
fn mode_bits_beyond_permissions_are_masked() {
    let (seen, _) = read(&archive(&[file("f", "").at(100, "0104755\0")])).unwrap();
    let Change::Put(entry) = &seen[0].change else { panic!("{seen:?}") };
    assert_eq!(entry.metadata.mode, 0o4755);
}

#[rstest]
#[case("SCHILY.xattr.trusted.overlay.opaque")]
#[case("SCHILY.xattr.trusted.overlay.redirect")]
#[case("SCHILY.xattr.user.overlay.opaque")]
#[case("SCHILY.xattr.trusted.overlay.metacopy")]
#[case("SCHILY.xattr.user.containers.override_stat")]
#[case("SCHILY.xattr.user.rootlesscontainers")]
#[case("SCHILY.xattr.security.selinux")]
#[case("SCHILY.xattr.security.ima")]
#[case("RHT.security.selinux")]
#[case("LIBARCHIVE.xattr.trusted.overlay.opaque")]
fn reserved_attributes_are_dropped_with_one_warning(#[case] key: &str) {
    let records: &[(&str, &[u8])] = &[(key, b"eQ=="), ("SCHILY.xattr.user.mine", b"kept")];
    let (seen, warnings) = read(&archive(&[x(records), file("f", ""), x(records), file("g", "")])).unwrap();
    for seen in &seen {
        let Change::Put(entry) = &seen.change else { panic!("{seen:?}") };
        let names: Vec<_> =
            entry.metadata.xattrs.keys().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(names, ["user.mine"]);
    }
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn attributes_of_every_form_are_read() {
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.a%3Db", b"\0\n="),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
        ("LIBARCHIVE.xattr.user.c%20d", b"AAo"),
        ("LIBARCHIVE.xattr.security.capability", b"AAo"),
        ("SCHILY.acl.access", b"user::rwx,user:lisa:r-x:1000,group::r-x,mask::r-x,other::---"),
    ];
    let (seen, warnings) = read(&archive(&[x(records), file("f", "")])).unwrap();
    let Change::Put(entry) = &seen[0].change else { panic!("{seen:?}") };
    let names: Vec<_> = entry.metadata.xattrs.iter().map(|(name, value)| (&**name, value.len())).collect();
    let expected: [(&[u8], usize); 4] =
        [(b"security.capability", 4), (b"system.posix_acl_access", 44), (b"user.a=b", 3), (b"user.c d", 2)];
    assert_eq!(names, expected);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn limits_count_entries_and_real_bytes() {
    let bytes = archive(&[file("a", [1; 600]), file("b", [1; 600])]);
    let code = |limits| read_partly(&bytes, limits).2.and_then(|error| error.code());
    assert_eq!(code(Limits { entries: 2, bytes: 1200, ..Limits::default() }), None);
    assert_eq!(code(Limits { entries: 1, ..Limits::default() }), Some(Code::LimitExceeded));
    assert_eq!(code(Limits { bytes: 1199, ..Limits::default() }), Some(Code::LimitExceeded));
}

#[test]
fn data_that_nobody_reads_is_skipped() {
    use layerstore_changeset::ChangeSource;
    let bytes = archive(&[file("a", vec![1; 1 << 20]), file("b", "x")]);
    let mut reader = layerstore_changeset::tar::Reader::new(&*bytes, Limits::default());
    let item = reader.next().unwrap().unwrap();
    assert!(item.data.unwrap().next_chunk().unwrap().is_some());
    let second = reader.next().unwrap().unwrap();
    assert_eq!(second.change.path().to_string(), "b");
    assert!(reader.next().unwrap().is_none());
}
