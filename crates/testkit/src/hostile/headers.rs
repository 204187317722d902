//! Cases about one archive that two programs read differently (E): every field of a header, every kind of
//! extension, and their combinations.

use super::raw::{archive, dir, file, global, gnu_long, hard, members, pax, raw, record, symlink};
use super::{Case, accept, either, refuse};

/// Two's complement of -1, in base 256.
const MINUS_ONE: [u8; 12] = [0xff; 12];

pub(super) const FIELDS: &[Case] = &[
    refuse("E01_checksum_wrong", "BAD_HEADER", |_| archive(&[file("f", "x").checksum("000123\0 ")])),
    refuse("E02_checksum_blank", "BAD_HEADER", |_| archive(&[file("f", "x").checksum("        ")])),
    refuse("E03_checksum_no_number", "BAD_HEADER", |_| archive(&[file("f", "x").checksum("abcdefgh")])),
    refuse("E04_no_archive_at_all", "BAD_HEADER", |_| b"this is no archive, only text. ".repeat(100)),
    refuse("E05_magic_nul_version", "BAD_HEADER", |_| archive(&[file("f", "x").at(257, "ustar\0\0\0")])),
    refuse("E06_magic_odd_version", "BAD_HEADER", |_| archive(&[file("f", "x").at(257, "ustar\x0099")])),
    refuse("E07_pax_then_gnu_long_name", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("path", "pax")]), gnu_long(b'L', "gnu"), file("f", "x")])
    }),
    refuse("E08_gnu_long_name_then_pax", "BAD_EXTENSION", |_| {
        archive(&[gnu_long(b'L', "gnu"), pax(&[("path", "pax")]), file("f", "x")])
    }),
    refuse("E09_gnu_with_posix_prefix", "BAD_HEADER", |_| {
        archive(&[file("f", "x").gnu().at(345, "dir/dir")])
    }),
    accept("E10_base_256_size", |_| {
        archive(&[file("f", "12345").size([&[0x80][..], &[0; 10], &[5]].concat()), file("g", "y")])
    }),
    refuse("E11_size_negative", "BAD_NUMERIC", |_| archive(&[file("f", "x").size(MINUS_ONE)])),
    refuse("E12_size_plus", "BAD_NUMERIC", |_| archive(&[file("f", "12345").size("+5")])),
    refuse("E12b_size_minus", "BAD_NUMERIC", |_| archive(&[file("f", "12345").size("-5")])),
    refuse("E13_size_over_63_bits", "BAD_NUMERIC", |_| {
        archive(&[file("f", "x").size(b"\x80\0\0\0\x80\0\0\0\0\0\0\0")])
    }),
    refuse("E13b_size_all_bits", "BAD_NUMERIC", |_| {
        archive(&[file("f", "x").size([&[0xbf][..], &[0xff; 11]].concat())])
    }),
    refuse("E14_size_eight_gigabytes_missing", "TRUNCATED", |_| {
        archive(&[file("f", "x").size("77777777777\0")])
    }),
    refuse("E15_size_blank", "BAD_NUMERIC", |_| archive(&[file("f", "x").size([b' '; 12])])),
    refuse("E15b_size_decimal", "BAD_NUMERIC", |_| archive(&[file("f", "x").size("00000000009\0")])),
    refuse("E15c_size_hexadecimal", "BAD_NUMERIC", |_| archive(&[file("f", "x").size("0x1\0")])),
    refuse("E15d_size_two_numbers", "BAD_NUMERIC", |_| archive(&[file("f", "x").size("1\x002")])),
    accept("E16_pax_size_beats_zero", |_| {
        archive(&[pax(&[("size", "5")]), file("f", "12345").size("0"), file("g", "y")])
    }),
    accept("E16b_pax_size_beats_another", |_| {
        archive(&[pax(&[("size", "5")]), file("f", "12345").size("1000"), file("g", "y")])
    }),
    accept("E16c_pax_size_shows_entries", |_| {
        let inner = members(&[file("shown", "x")]);
        archive(&[pax(&[("size", "0")]), file("f", inner), file("g", "y")])
    }),
    accept("E16h_pax_size_hides_entries", |_| {
        let inner = members(&[file("hidden", "x")]);
        archive(&[pax(&[("size", "1024")]), file("f", inner).size("0"), file("g", "y")])
    }),
    refuse("E16d_pax_size_negative", "BAD_NUMERIC", |_| archive(&[pax(&[("size", "-1")]), file("f", "x")])),
    refuse("E16e_pax_size_plus", "BAD_NUMERIC", |_| archive(&[pax(&[("size", "+1")]), file("f", "x")])),
    refuse("E16f_pax_size_2_64", "BAD_NUMERIC", |_| {
        archive(&[pax(&[("size", "18446744073709551616")]), file("f", "x")])
    }),
    refuse("E16g_pax_size_of_a_directory", "BAD_HEADER", |_| {
        archive(&[pax(&[("size", "512")]), dir("d"), file("g", "x")])
    }),
    accept("E17_pax_size_is_not_of_the_long_name", |_| {
        archive(&[gnu_long(b'L', "long"), file("f", "x").gnu(), pax(&[("size", "1")]), file("g", "y")])
    }),
    accept("E18_last_record_wins", |_| {
        archive(&[pax(&[("path", "first"), ("path", "second")]), file("f", "x")])
    }),
    refuse("E19_global_path", "BAD_EXTENSION", |_| {
        archive(&[global(&[("path", b"planted")]), file("f", "x")])
    }),
    refuse("E19b_global_size", "BAD_EXTENSION", |_| archive(&[global(&[("size", b"0")]), file("f", "x")])),
    refuse("E19c_global_uid", "BAD_EXTENSION", |_| archive(&[global(&[("uid", b"0")]), file("f", "x")])),
    refuse("E19d_global_linkpath", "BAD_EXTENSION", |_| {
        archive(&[global(&[("linkpath", b"/etc")]), symlink("f", "x")])
    }),
    accept("E19e_global_comment", |_| archive(&[global(&[("comment", b"c0ffee")]), file("f", "x")])),
    accept("E19f_global_time_is_left_alone", |_| archive(&[global(&[("mtime", b"99")]), file("f", "x")])),
    refuse("E20_pax_does_not_end", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("9 path=ab"), file("f", "x")])
    }),
    refuse("E21_record_too_long", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("99 path=a\n"), file("f", "x")])
    }),
    refuse("E21b_record_too_short", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("9 path=abc\n"), file("f", "x")])
    }),
    refuse("E21c_record_of_2_64", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("18446744073709551625 path=a\n"), file("f", "x")])
    }),
    refuse("E21d_record_of_zero", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("0 path=a\n"), file("f", "x")])
    }),
    refuse("E21e_record_with_leading_space", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data(" 10 path=a\n"), file("f", "x")])
    }),
    refuse("E22_record_without_key", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("6 =ab\n"), file("f", "x")])
    }),
    refuse("E22b_record_without_value", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("7 path\n"), file("f", "x")])
    }),
    refuse("E22c_records_padded_with_nul", "BAD_EXTENSION", |_| {
        archive(&[raw(b'x', "x").data("9 path=a\n\0\0"), file("f", "x")])
    }),
    refuse("E22d_path_empty", "BAD_EXTENSION", |_| archive(&[pax(&[("path", "")]), file("f", "x")])),
    refuse("E22e_nul_in_key", "BAD_EXTENSION", |_| archive(&[pax(&[("pa\0th", "x")]), file("f", "x")])),
    accept("E22f_value_with_newlines_and_equals", |_| {
        archive(&[pax(&[("path", "a=b\n11 path=evil\nc")]), file("f", "x")])
    }),
    accept("E22g_unknown_records", |_| {
        archive(&[pax(&[("VENDOR.thing", "\0\n="), ("path", "g")]), file("f", "x")])
    }),
    accept("E22h_empty_header", |_| archive(&[raw(b'x', "x"), file("f", "x")])),
    refuse("E23_pax_dangling", "BAD_EXTENSION", |_| archive(&[pax(&[("path", "a")])])),
    refuse("E23b_long_name_dangling", "BAD_EXTENSION", |_| archive(&[gnu_long(b'L', "a")])),
    refuse("E23c_pax_then_end_of_stream", "TRUNCATED", |_| members(&[pax(&[("path", "a")])])),
    refuse("E24_pax_twice", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("path", "a")]), pax(&[("path", "b")]), file("f", "x")])
    }),
    refuse("E24b_long_name_twice", "BAD_EXTENSION", |_| {
        archive(&[gnu_long(b'L', "a"), gnu_long(b'L', "b"), file("f", "x")])
    }),
    refuse("E24c_pax_then_global", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("path", "a")]), global(&[("comment", b"c")]), file("f", "x")])
    }),
    accept("E25_long_link_and_name", |_| {
        archive(&[gnu_long(b'K', "target"), gnu_long(b'L', "name"), symlink("f", "x").gnu()])
    }),
    accept("E26_pax_does_not_leak", |_| {
        archive(&[pax(&[("path", "a"), ("uid", "7"), ("mtime", "5")]), file("f", "x"), file("g", "y")])
    }),
    accept("E27_long_name_does_not_leak", |_| {
        archive(&[gnu_long(b'L', "n"), file("f", "x").gnu(), file("g", "y").gnu()])
    }),
    refuse("E28_long_name_empty", "BAD_EXTENSION", |_| archive(&[gnu_long(b'L', ""), file("f", "x").gnu()])),
    refuse("E28b_nul_in_long_name", "BAD_EXTENSION", |_| {
        archive(&[gnu_long(b'L', "a\0../../evil"), file("f", "x").gnu()])
    }),
    accept("E28c_long_name_without_nul", |_| {
        archive(&[raw(b'L', "l").gnu().data("abc"), file("f", "x").gnu()])
    }),
    refuse("E29_extension_over_a_mebibyte", "LIMIT_EXCEEDED", |_| {
        archive(&[raw(b'x', "x").data(vec![b' '; (1 << 20) + 1]), file("f", "x")])
    }),
    refuse("E29b_extension_claims_4_gib", "LIMIT_EXCEEDED", |_| {
        archive(&[raw(b'L', "x").gnu().size("37777777777\0"), file("f", "x")])
    }),
    refuse("E29c_extension_claims_2_62", "LIMIT_EXCEEDED", |_| {
        archive(&[raw(b'x', "x").size(b"\x80\0\0\0\x40\0\0\0\0\0\0\0"), file("f", "x")])
    }),
    refuse("E30_payload_of_a_directory", "BAD_HEADER", |_| {
        archive(&[dir("d").data("payload"), file("f", "x")])
    }),
    refuse("E30b_payload_of_a_symlink", "BAD_HEADER", |_| {
        archive(&[symlink("s", "t").data("payload"), file("f", "x")])
    }),
    refuse("E30c_payload_of_a_fifo", "BAD_HEADER", |_| {
        archive(&[raw(b'6', "p").data("payload"), file("f", "x")])
    }),
    refuse("E31_payload_of_a_hard_link", "BAD_HEADER", |_| {
        archive(&[file("f", "x"), hard("h", "f").data("payload"), file("g", "y")])
    }),
    refuse("E33_type_unknown", "BAD_TYPE", |_| archive(&[raw(b'Z', "f").data("x")])),
    refuse("E33b_type_high_bit", "BAD_TYPE", |_| archive(&[raw(0xff, "f").data("x")])),
    refuse("E34_type_contiguous", "BAD_TYPE", |_| archive(&[raw(b'7', "f").data("x")])),
    refuse("E35_type_multi_volume", "BAD_TYPE", |_| archive(&[raw(b'M', "f").gnu().data("x")])),
    refuse("E35b_type_dump_directory", "BAD_TYPE", |_| archive(&[raw(b'D', "f").gnu().data("Yevil\0\0")])),
    refuse("E35c_type_old_names", "BAD_TYPE", |_| archive(&[raw(b'N', "f").gnu().data("Rename a to b\n")])),
    refuse("E35d_type_volume", "BAD_TYPE", |_| archive(&[raw(b'V', "label").gnu()])),
    refuse("E35e_type_solaris_extension", "BAD_TYPE", |_| archive(&[raw(b'X', "f").data("9 path=a\n")])),
    refuse("E35f_type_acl", "BAD_TYPE", |_| archive(&[raw(b'A', "f").data("x")])),
    accept("E36_old_type_of_a_file", |_| archive(&[raw(0, "f").data("x"), raw(0, "g").v7().data("y")])),
    accept("E37_checksum_of_signed_bytes", |_| {
        let block = file(b"caf\xe9", "x").bytes();
        let sum: i32 = block[..512]
            .iter()
            .enumerate()
            .map(|(at, &b)| if (148..156).contains(&at) { 32 } else { i32::from(b.cast_signed()) })
            .sum();
        archive(&[file(b"caf\xe9", "x").checksum(format!("{sum:06o}\0 "))])
    }),
    accept("E38_file_twice", |_| archive(&[file("f", "a long first text"), file("f", "second")])),
    accept("E39_directory_twice", |_| {
        archive(&[dir("d").mode(0o700), file("d/f", "x"), dir("d").mode(0o711)])
    }),
    accept("E40_no_end_mark", |_| members(&[file("f", "x")])),
    refuse("E41_lone_zero_block", "BAD_HEADER", |_| {
        [members(&[file("a", "x")]), vec![0; 512], members(&[file("b", "y")]), vec![0; 1024]].concat()
    }),
    accept("E41b_one_zero_block_at_the_end", |_| [members(&[file("a", "x")]), vec![0; 512]].concat()),
    accept("E42_an_archive_behind_the_end", |_| {
        [archive(&[file("a", "x")]), archive(&[file("hidden", "y")])].concat()
    }),
    accept("E43_garbage_behind_the_end", |_| [archive(&[file("a", "x")]), vec![7; 777]].concat()),
    accept("E44_empty_archive", |_| vec![0; 1024]),
    accept("E45_nothing", |_| Vec::new()),
    refuse("E46_cut_in_a_header", "TRUNCATED", |_| {
        members(&[file("a", "x"), file("b", "y")])[..1024 + 100].to_vec()
    }),
    refuse("E47_cut_in_data", "TRUNCATED", |_| members(&[file("a", "x".repeat(2000))])[..1536].to_vec()),
    refuse("E47b_cut_in_padding", "TRUNCATED", |_| members(&[file("a", "x")])[..600].to_vec()),
    refuse("E48_mode_no_number", "BAD_NUMERIC", |_| archive(&[file("f", "x").at(100, "rwxr-xr-")])),
    refuse("E48b_mode_negative", "BAD_NUMERIC", |_| archive(&[file("f", "x").at(100, [0xff; 8])])),
    refuse("E49_time_no_number", "BAD_NUMERIC", |_| archive(&[file("f", "x").at(136, "yesterday!!!")])),
    accept("E50_blank_fields", |_| {
        archive(&[file("f", "x").at(100, [b' '; 8]).at(108, [0; 8]).at(116, [b' '; 8]).at(136, [0; 12])])
    }),
    accept("E51_user_names_are_not_looked_at", |_| {
        archive(&[
            pax(&[("uname", "../../etc"), ("gname", "\u{1}")]),
            file("f", "x").at(265, "root").at(297, [b'g'; 32]),
        ])
    }),
    refuse("E52_star_prefix_runs_into_times", "BAD_HEADER", |_| {
        archive(&[file("f", "x").at(345, [b'p'; 131]).at(508, "tar\0")])
    }),
    either("E53_every_byte_of_a_header", &["BAD_HEADER", "BAD_NUMERIC", "BAD_TYPE"], |_| {
        archive(&[file([0xfe; 100], "x").at(257, [0xfe; 255])])
    }),
];

pub(super) const SPARSE: &[Case] = &[
    refuse("E60_sparse_overlap", "BAD_SPARSE", |_| sparse("0,3,2,1", "2", "abcd", "10")),
    refuse("E61_sparse_out_of_order", "BAD_SPARSE", |_| sparse("5,1,0,1", "2", "ab", "10")),
    refuse("E62_sparse_past_the_end", "BAD_SPARSE", |_| sparse("8,3", "1", "abc", "10")),
    refuse("E63_sparse_offset_overflows", "BAD_SPARSE", |_| {
        sparse("9223372036854775807,3", "1", "abc", "10")
    }),
    refuse("E64_sparse_sum", "BAD_SPARSE", |_| sparse("2,2", "1", "abc", "10")),
    refuse("E65_sparse_orphan", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("GNU.sparse.name", "a")]), file("f", "x")])
    }),
    refuse("E66_sparse_of_a_directory", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("GNU.sparse.size", "0"), ("GNU.sparse.numblocks", "0")]), dir("d")])
    }),
    refuse("E67_sparse_name_climbs", "PATH_ESCAPE", |_| {
        archive(&[
            pax(&[
                ("GNU.sparse.size", "3"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.map", "0,3"),
                ("GNU.sparse.name", "../../x"),
            ]),
            file("f", "abc"),
        ])
    }),
    refuse("E68_sparse_without_gnus_magic", "BAD_SPARSE", |_| archive(&[raw(b'S', "f").data("abc")])),
    accept("E69_sparse_0_1", |_| sparse("2,3,10,0", "2", "abc", "10")),
    accept("E70_sparse_1_0", |_| {
        let mut payload = b"2\n2\n3\n10\n0\n".to_vec();
        payload.resize(512, 0);
        payload.extend(b"abc");
        archive(&[
            pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "sparse"),
                ("GNU.sparse.realsize", "10"),
            ]),
            file("GNUSparseFile.0/f", payload),
            file("next", "x"),
        ])
    }),
    refuse("E71_sparse_map_without_end", "BAD_SPARSE", |_| {
        archive(&[
            pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "f"),
                ("GNU.sparse.realsize", "10"),
            ]),
            file("f", "9".repeat(600)),
        ])
    }),
    refuse("E72_sparse_by_gnu_and_pax", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.numblocks", "0")]), raw(b'S', "f").gnu()])
    }),
];

fn sparse(map: &str, blocks: &str, data: &str, size: &str) -> Vec<u8> {
    let records = [
        ("GNU.sparse.size", size),
        ("GNU.sparse.numblocks", blocks),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.map", map),
    ];
    let header =
        raw(b'x', "x").data(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>());
    archive(&[header, file("GNUSparseFile.0/f", data), file("next", "x")])
}
