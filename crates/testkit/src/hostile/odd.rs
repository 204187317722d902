//! Odd forms of everything: spellings that few programs write and many read, each of its class.

use super::raw::{archive, dir, file, global, gnu_long, hard, members, pax, raw, record, symlink};
use super::sizes::{gzip, zstd};
use super::{Case, accept, either, far, points, refuse};

/// A sparse file by PAX records, which come in this order.
fn sparse(records: &[(&str, &str)], payload: impl AsRef<[u8]>) -> Vec<u8> {
    let header =
        raw(b'x', "x").data(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>());
    archive(&[header, file("GNUSparseFile.0/f", payload), file("next", "x")])
}

/// A sparse file whose map stands before its data.
fn sparse_1_0(map: &str, data: &str) -> Vec<u8> {
    let mut payload = map.as_bytes().to_vec();
    payload.resize(payload.len().next_multiple_of(512), 0);
    payload.extend(data.as_bytes());
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("path", "by-path"),
        ("GNU.sparse.name", "by-name"),
        ("GNU.sparse.realsize", "10"),
    ];
    sparse(&records, payload)
}

fn xattrs(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let keys: Vec<_> =
        records.iter().map(|(name, value)| ([&b"SCHILY.xattr."[..], name].concat(), *value)).collect();
    archive(&[pax(&keys), file("f", "x")])
}

/// A zstd frame of one raw block with this window.
fn window(byte: u8) -> Vec<u8> {
    let data = archive(&[file("f", "x")]);
    let header = u32::try_from((data.len() << 3) | 1).unwrap().to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, byte][..], &header[..3], &data].concat()
}

pub(super) const NAMES: &[Case] = &[
    accept("A38_path_4096", |_| {
        archive(&[pax(&[("path", [&b"ddddddd/".repeat(511)[..], b"xxxxxxxx"].concat())]), file("f", "x")])
    })
    .heavy_to_read(),
    accept("A39_dotdot_after_a_file_is_textual", |_| archive(&[file("etc/passwd/../shadow", "x")])),
    accept("A40_dotdot_after_nothing_is_textual", |_| archive(&[file("none/../x", "x")])),
    accept("A41_dotdot_after_a_whiteout_name", |_| archive(&[file("etc/.wh.passwd/../x", "x")])),
    accept("A42_file_with_a_dot_behind", |_| archive(&[file("a/.", "x")])),
    accept("A43_root_by_dotdot", |_| archive(&[dir("etc/..").mode(0o711)])),
    accept("B40_directory_replaced_through_a_symlink", |_| {
        archive(&[symlink("s", "etc"), file("s/ssl", "now a file"), file("etc/y", "y")])
    }),
    refuse("B41_target_replaced_by_a_file", "NOT_DIR", |_| {
        archive(&[dir("d"), symlink("s", "d"), file("s/f", "x"), file("d", "file"), file("s/g", "y")])
    }),
    refuse("B42_symlink_below_itself", "ELOOP", |_| archive(&[symlink("s", "s/x"), file("s/y", "y")])),
    accept("B43_symlink_to_the_root", |_| archive(&[symlink("s", "/"), file("s/x", "x")])),
    accept("B44_symlink_of_many_slashes", |_| archive(&[symlink("s", "//etc//.//"), file("s/x", "x")])),
    accept("B45_symlink_to_here", |_| archive(&[symlink("s", "."), file("s/s/x", "x")])),
    refuse("B46_symlink_above_the_root", "SYMLINK_ESCAPE", |_| {
        archive(&[symlink("s", ".."), file("s/x", "x")])
    }),
    refuse("B47_symlink_two_thousand_deep", "TOO_DEEP", |_| {
        archive(&[points("s", &b"a/".repeat(2047)), vec![file("s/x", "x")]].concat())
    }),
    accept("C33_target_with_a_slash_behind", |_| archive(&[hard("h", "etc/passwd/")])),
    accept("C34_name_below_a_lower_symlink", |_| archive(&[hard("lib/x", "etc/passwd")])),
    accept("C35_target_whited_out_and_made_again", |_| {
        archive(&[file("etc/.wh.passwd", ""), file("etc/passwd", "new"), hard("h", "etc/passwd")])
    }),
    refuse("C36_target_of_a_hidden_directory", "LINK_TARGET_MISSING", |_| {
        archive(&[file(".wh.etc", ""), dir("etc"), hard("etc/p", "etc/passwd")])
    }),
    accept("C37_pax_size_of_nothing", |_| {
        archive(&[pax(&[("size", "0")]), hard("h", "etc/passwd").size("7"), file("g", "y")])
    }),
    refuse("D43_wh_with_a_slash_behind", "RESERVED_NAME", |_| archive(&[raw(0, "etc/.wh.passwd/").v7()])),
    refuse("D44_opq_as_a_directory", "RESERVED_NAME", |_| archive(&[dir("etc/.wh..wh..opq")])),
    accept("D45_opq_as_a_hard_link", |_| archive(&[hard("etc/.wh..wh..opq", "etc/.wh.x")])),
    accept("D46_wh_of_three_dots", |_| archive(&[file("etc/.wh....", "")])),
    accept("D47_wh_of_odd_bytes", |_| archive(&[file(b"etc/.wh.\xff\n\x1b", "")])),
    accept("D48_wh_in_deep_missing_directories", |_| archive(&[file("no/such/place/.wh.x", "")])),
    accept("D49_opq_then_a_file_in_its_place", |_| {
        archive(&[file("etc/.wh..wh..opq", ""), file("etc", "file")])
    }),
    accept("D50_wh_and_the_same_directory_again", |_| {
        archive(&[file("etc/.wh.ssl", ""), dir("etc/ssl").mode(0o700), file("etc/ssl/new", "x")])
    }),
    accept("D51_deep_child_then_wh_of_its_parent", |_| {
        archive(&[file("usr/lib/sub/new", "x"), file(".wh.usr", "")])
    }),
    // As umoci writes a directory that became a link.
    accept("D53_wh_below_a_link_of_its_stream", |_| {
        archive(&[symlink("etc/ssl", "../usr"), file("etc/ssl/.wh.cert", "")])
    }),
    refuse("D52_reserved_by_gnu_name", "RESERVED_NAME", |_| {
        archive(&[gnu_long(b'L', "etc/.wh..wh.foo"), file("f", "").gnu()])
    }),
];

pub(super) const FIELDS: &[Case] = &[
    accept("E80_header_charset_binary", |_| {
        archive(&[pax(&[("hdrcharset", &b"BINARY"[..]), ("path", b"caf\xe9")]), file("f", "x")])
    }),
    accept("E80b_header_charset_unknown", |_| {
        archive(&[pax(&[("hdrcharset", "klingon"), ("charset", "x"), ("path", "g")]), file("f", "x")])
    }),
    refuse("E81_nul_in_a_time", "BAD_NUMERIC", |_| archive(&[pax(&[("mtime", "1\0")]), file("f", "x")])),
    refuse("E81b_nul_in_a_size", "BAD_NUMERIC", |_| archive(&[pax(&[("size", "1\0")]), file("f", "x")])),
    refuse("E81c_space_in_an_id", "BAD_NUMERIC", |_| archive(&[pax(&[("uid", " 0")]), file("f", "x")])),
    refuse("E81d_comma_in_a_time", "BAD_NUMERIC", |_| archive(&[pax(&[("mtime", "1,5")]), file("f", "x")])),
    refuse("E81e_size_empty", "BAD_NUMERIC", |_| archive(&[pax(&[("size", "")]), file("f", "x")])),
    accept("E82_long_comment", |_| {
        archive(&[pax(&[("comment", "c".repeat(900_000)), ("path", "g".to_owned())]), file("f", "x")])
    }),
    accept("E83_global_long_comment", |_| {
        archive(&[global(&[("comment", &[b'c'; 1_000_000])]), file("f", "x")])
    }),
    accept("E83b_global_at_the_end", |_| archive(&[file("f", "x"), global(&[("comment", b"c")])])),
    refuse("E83c_global_malformed", "BAD_EXTENSION", |_| {
        archive(&[raw(b'g', "g").data("9 path=a"), file("f", "x")])
    }),
    refuse("E83d_global_sparse", "BAD_EXTENSION", |_| {
        archive(&[global(&[("GNU.sparse.major", b"1")]), file("f", "x")])
    }),
    refuse("E83e_global_gid", "BAD_EXTENSION", |_| archive(&[global(&[("gid", b"0")]), file("f", "x")])),
    refuse("E83f_global_after_a_long_name", "BAD_EXTENSION", |_| {
        archive(&[gnu_long(b'L', "n"), global(&[("comment", b"c")]), file("f", "x").gnu()])
    }),
    accept("E84_long_name_padded_with_nul", |_| {
        archive(&[raw(b'L', "l").gnu().data([&b"abc"[..], &[0; 600]].concat()), file("f", "x").gnu()])
    }),
    accept("E84b_long_name_with_posix_magic", |_| {
        archive(&[raw(b'L', "././@LongLink").data("abc\0"), file("f", "x")])
    }),
    refuse("E84c_long_name_of_slashes", "BAD_HEADER", |_| {
        archive(&[gnu_long(b'L', "///"), file("f", "x").gnu()])
    }),
    accept("E84d_long_link_of_a_file", |_| archive(&[gnu_long(b'K', "/etc/passwd"), file("f", "x").gnu()])),
    refuse("E84e_long_link_twice", "BAD_EXTENSION", |_| {
        archive(&[gnu_long(b'K', "a"), gnu_long(b'K', "b"), symlink("s", "").gnu()])
    }),
    accept("E85_link_path_of_a_file", |_| archive(&[pax(&[("linkpath", "/etc")]), file("f", "x")])),
    refuse("E85b_link_path_empty", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("linkpath", "")]), symlink("s", "x")])
    }),
    refuse("E86_pax_path_with_a_slash_behind", "BAD_HEADER", |_| {
        archive(&[pax(&[("path", "d/")]), file("f", "x")])
    }),
    accept("E86b_pax_path_of_a_directory", |_| archive(&[pax(&[("path", "d/")]), dir("f")])),
    accept("E86c_pax_path_of_the_root", |_| archive(&[pax(&[("path", "/")]), dir("f").mode(0o711)])),
    refuse("E87_pax_size_of_a_symlink", "BAD_HEADER", |_| {
        archive(&[pax(&[("size", "512")]), symlink("s", "x"), file("f", "x")])
    }),
    accept("E88_pax_without_magic", |_| {
        archive(&[pax(&[("path", "g")]).v7().at(156, "x"), file("f", "x").v7().at(156, "0")])
    }),
    accept("E89_old_links_and_directories", |_| {
        archive(&[
            dir("d").v7(),
            file("d/f", "x").v7(),
            symlink("s", "d/f").v7(),
            hard("h", "d/f").v7(),
            file("n".repeat(100), "x").v7(),
        ])
    }),
    accept("E90_base_256_everywhere", |_| {
        let small = |n: u8| [0x80, 0, 0, 0, 0, 0, 0, n];
        let entry = file("f", "x").at(100, [0x80, 0, 0, 0, 0, 0, 1, 0xa4]).at(108, small(7));
        archive(&[entry.at(116, small(8)).at(136, [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])])
    }),
    accept("E91_digits_fill_the_field", |_| archive(&[file("f", "x").size("000000000001"), file("g", "y")])),
    accept("E91b_spaces_before_digits", |_| archive(&[file("f", "x").size("          1\0"), file("g", "y")])),
    refuse("E91c_nul_before_digits", "BAD_NUMERIC", |_| archive(&[file("f", "x").size("\x000000000001")])),
    refuse("E92_garbage_instead_of_an_end", "BAD_HEADER", |_| {
        [members(&[file("f", "x")]), vec![7; 1024]].concat()
    }),
    accept("E92b_ten_kibibytes_of_end", |_| [members(&[file("f", "x")]), vec![0; 10_240]].concat()),
];

pub(super) const SPARSE: &[Case] = &[
    accept("E73_sparse_0_0", |_| {
        sparse(
            &[
                ("GNU.sparse.size", "10"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "2"),
                ("GNU.sparse.numbytes", "1"),
                ("GNU.sparse.offset", "7"),
                ("GNU.sparse.numbytes", "2"),
            ],
            "abc",
        )
    }),
    refuse("E73b_sparse_length_without_offset", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.numbytes", "1")], "a")
    }),
    refuse("E73c_sparse_two_offsets", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.offset", "1"), ("GNU.sparse.offset", "2")], "a")
    }),
    refuse("E74_sparse_version_2", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10")], "a")
    }),
    refuse("E74b_sparse_version_1_1", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "1"), ("GNU.sparse.realsize", "10")], "a")
    }),
    refuse("E75_sparse_odd_map", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,1,2")], "a")
    }),
    refuse("E75b_sparse_gap_in_the_map", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,,1,1")], "a")
    }),
    refuse("E75c_sparse_empty_map", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "")], "")
    }),
    refuse("E76_sparse_count_lies", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.numblocks", "5"), ("GNU.sparse.map", "0,1")], "a")
    }),
    refuse("E77_sparse_two_sizes", "BAD_SPARSE", |_| {
        sparse(&[("GNU.sparse.size", "10"), ("GNU.sparse.realsize", "11"), ("GNU.sparse.map", "0,1")], "a")
    }),
    refuse("E78_sparse_unknown_record", "BAD_SPARSE", |_| sparse(&[("GNU.sparse.colour", "blue")], "a")),
    accept("E79_sparse_1_0_name_beats_path", |_| sparse_1_0("1\n2\n3\n", "abc")),
    refuse("E79b_sparse_1_0_endless_count", "BAD_SPARSE", |_| sparse_1_0("18446744073709551615\n", "")),
    refuse("E79c_sparse_1_0_plus", "BAD_SPARSE", |_| sparse_1_0("+1\n2\n3\n", "abc")),
    refuse("E79d_sparse_1_0_long_number", "BAD_SPARSE", |_| {
        sparse_1_0("1\n00000000000000000000000000002\n3\n", "abc")
    }),
    refuse("E79e_sparse_1_0_size_under_a_block", "BAD_SPARSE", |_| {
        sparse(
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")],
            "1\n0\n1\n",
        )
    }),
    refuse("E79f_old_sparse_negative_offset", "BAD_SPARSE", |_| {
        archive(&[raw(b'S', "f")
            .gnu()
            .data("a")
            .at(386, [0xff; 12])
            .at(398, "00000000001\0")
            .at(483, "12\0")])
    }),
];

pub(super) const ATTRIBUTES: &[Case] = &[
    accept("F35_xattr_odd_bytes_in_its_name", |_| xattrs(&[(b"user.a/b\n\xff", b"v")])),
    accept("F35b_xattr_without_value", |_| xattrs(&[(b"user.empty", b"")])),
    accept("F35c_xattr_twice", |_| xattrs(&[(b"user.x", b"first"), (b"user.x", b"second")])),
    accept("F35d_xattr_upper_case", |_| xattrs(&[(b"USER.x", b"v"), (b"user.kept", b"w")])),
    accept("F35e_xattr_equals_in_its_name", |_| xattrs(&[(b"user.x%3Dy", b"v")])),
    accept("F35f_xattr_nul_in_its_value", |_| xattrs(&[(b"user.x", b"a\0b\n")])),
    either("F35g_xattr_trusted", &[], |_| xattrs(&[(b"trusted.x", b"v"), (b"user.kept", b"w")])),
    either("F35h_xattr_security", &[], |_| xattrs(&[(b"security.x", b"v"), (b"user.kept", b"w")])),
    accept("F35i_xattr_system", |_| xattrs(&[(b"system.x", b"v"), (b"user.kept", b"w")])),
    accept("F35j_xattr_trusted_overlay_upper", |_| xattrs(&[(b"trusted.overlay.upper", b"v")])),
    either("F36_megabytes_of_attributes", &["XATTR_TOO_BIG"], |_| {
        let mut bytes = Vec::new();
        for n in 0..100 {
            let records: Vec<_> =
                (0..15).map(|n| (format!("SCHILY.xattr.user.{n}"), vec![b'v'; 64_000])).collect();
            bytes.extend(members(&[pax(&records), file(format!("f{n}"), "x")]));
        }
        gzip(&bytes, 1024)
    })
    .bomb(),
];

pub(super) const STREAMS: &[Case] = &[
    accept("G26_directories_of_long_names", |_| {
        let mut bytes = Vec::new();
        for n in 0..5000 {
            bytes.extend(members(&[pax(&[("path", format!("{n:0>250}"))]), dir("d")]));
        }
        gzip(&bytes, 1024)
    })
    .bomb(),
    accept("G27_zstd_window_of_128_mib", |_| window(17 << 3)),
    refuse("G27b_zstd_window_over_128_mib", "LIMIT_EXCEEDED", |_| window((17 << 3) | 1)),
    accept("G28_twenty_thousand_gzip_members", |_| {
        [gzip(&archive(&[file("f", "x")]), 0), gzip(b"", 0).repeat(20_000)].concat()
    })
    .bomb(),
    either("H18_gzip_reserved_flags", &["BAD_COMPRESSION"], |_| {
        let mut bytes = gzip(&archive(&[file("f", "x")]), 0);
        bytes[3] = 0xe0;
        bytes
    }),
    refuse("H19_gzip_extra_field_cut", "TRUNCATED", |_| {
        b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\xff\xffabc".to_vec()
    }),
    either("H20_zstd_skippable_alone", &["TRUNCATED", "BAD_COMPRESSION"], |_| {
        b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec()
    }),
    accept("H21_gzip_of_nothing", |_| gzip(b"", 0)),
    accept("H21b_zstd_of_nothing", |_| zstd(b"", 0)),
    refuse("H22_second_member_cut", "TRUNCATED", |_| {
        let bytes = gzip(&archive(&[file("f", "x")]), 0);
        [&bytes[..], &bytes[..bytes.len() - 5]].concat()
    }),
    refuse("H23_garbage_after_the_second_member", "TRAILING_DATA", |_| {
        [gzip(&archive(&[file("f", "x")]), 0), gzip(b"", 0), b"PK".to_vec()].concat()
    }),
    refuse("H24_old_zstd", "BAD_HEADER", |_| [&b"\x27\xb5\x2f\xfd"[..], &[1; 600]].concat()),
    accept("H25_whiteout_name_of_252_by_gzip", |_| {
        gzip(&archive(&far(&[&b"etc/.wh."[..], &[b'n'; 252]].concat(), "")), 0)
    }),
];
