//! Cases about names (A) and about symbolic links on the way (B).

use super::raw::{archive, dir, file, gnu_long, hard, pax, raw, symlink};
use super::{Case, accept, either, far, points, refuse};

pub(super) const NAMES: &[Case] = &[
    refuse("A01_dotdot", "PATH_ESCAPE", |_| archive(&[file("../x", "x")])),
    refuse("A02_slash_dotdot", "PATH_ESCAPE", |_| archive(&[file("/../x", "x")])),
    refuse("A03_mid_dotdot_escape", "PATH_ESCAPE", |_| archive(&[file("a/../../x", "x")])),
    accept("A04_mid_dotdot_inside", |_| archive(&[file("a/../b", "x")])),
    accept("A05_absolute", |_| archive(&[file("/etc/abs", "x")])),
    accept("A06_triple_slash_abs", |_| archive(&[file("///etc/abs", "x")])),
    accept("A07_dot_slash_abs", |_| archive(&[file(".//abs", "x")])),
    refuse("A08_dotdot_alone", "PATH_ESCAPE", |_| archive(&[dir("..")])),
    refuse("A09_root_dot_symlink", "ROOT_TYPE_CHANGE", |victim| archive(&points("/.", victim))),
    refuse("A10_root_slash_symlink", "ROOT_TYPE_CHANGE", |victim| archive(&points("/", victim))),
    refuse("A10b_root_as_file", "ROOT_TYPE_CHANGE", |_| {
        archive(&[file("./", "").v7().data("x").at(0, ".\0")])
    }),
    refuse("A10c_root_as_hard_link", "ROOT_TYPE_CHANGE", |_| archive(&[hard("etc/..", "etc/passwd")])),
    refuse("A10d_root_as_fifo", "ROOT_TYPE_CHANGE", |_| archive(&[raw(b'6', ".")])),
    accept("A11_root_dir_meta", |_| archive(&[dir("./").mode(0o700).owner(3, 4).mtime(9)])),
    refuse("A12_empty_name", "EMPTY_NAME", |_| archive(&[file("", "x")])),
    refuse("A12b_empty_directory_name", "EMPTY_NAME", |_| archive(&[dir("")])),
    refuse("A13_nul_in_pax_path", "NUL_IN_NAME", |_| archive(&[pax(&[("path", "a\0b")]), file("f", "x")])),
    accept("A13b_nul_ends_the_field", |_| archive(&[file("a\0b", "x")])),
    accept("A14_non_utf8_name", |_| {
        archive(&[file(b"caf\xe9", "x"), pax(&[("path", b"\xff\xfe/\x80")]), file("f", "y")])
    }),
    accept("A15_newline_ctrl_name", |_| archive(&[file("new\nline \x1b[31m\r\x07\x7f", "x")])),
    refuse("A16_component_256", "NAME_TOO_LONG", |_| {
        archive(&[pax(&[("path", [b'n'; 256])]), file("f", "x")])
    }),
    accept("A16b_component_255", |_| archive(&[pax(&[("path", [b'n'; 255])]), file("f", "x")])),
    refuse("A16c_directory_of_256", "NAME_TOO_LONG", |_| {
        archive(&[pax(&[("path", [&[b'n'; 256][..], b"/x"].concat())]), file("f", "x")])
    }),
    refuse("A17_path_gt_PATH_MAX", "PATH_TOO_LONG", |_| {
        archive(&[pax(&[("path", b"dddddddddd/".repeat(600))]), dir("f")])
    }),
    refuse("A17b_path_4097", "PATH_TOO_LONG", |_| {
        archive(&[pax(&[("path", [&b"ddddddd/".repeat(512)[..], b"x"].concat())]), file("f", "x")])
    }),
    accept("A17c_path_4095", |_| archive(&[pax(&[("path", b"ddddddd/".repeat(512))]), dir("f")]))
        .heavy_to_read(),
    refuse("A17d_gnu_name_5000", "PATH_TOO_LONG", |_| {
        archive(&[gnu_long(b'L', b"ddddddddd/".repeat(500)), dir("f").gnu()])
    }),
    refuse("A18_deep_10000_dirs", "TOO_DEEP", |_| {
        archive(&[pax(&[("path", b"d/".repeat(10_000))]), dir("f")])
    }),
    refuse("A18b_deep_100000_dirs", "TOO_DEEP", |_| {
        archive(&[pax(&[("path", b"d/".repeat(100_000))]), dir("f")])
    }),
    accept("A18c_deep_1024_dirs", |_| archive(&[pax(&[("path", b"d/".repeat(1024))]), dir("f").mtime(5)]))
        .heavy_to_read(),
    // Each of 1,000 directories by an entry of its own, none of which may cost a walk from the root.
    accept("A18e_deep_step_by_step", |_| {
        let step = |depth: usize| [pax(&[("path", b"d/".repeat(depth))]), dir("d")];
        archive(&(1..=1000).flat_map(step).collect::<Vec<_>>())
    }),
    refuse("A18d_deep_1025_dirs", "TOO_DEEP", |_| archive(&[pax(&[("path", b"d/".repeat(1025))]), dir("f")])),
    refuse("A19_trailing_slash_file", "BAD_HEADER", |_| archive(&[file("f/", "abc")])),
    accept("A19b_trailing_slash_v7_is_a_directory", |_| archive(&[raw(0, "f/").v7().mode(0o711)])),
    refuse("A19c_trailing_slash_v7_with_data", "BAD_HEADER", |_| archive(&[raw(0, "f/").v7().data("abc")])),
    accept("A20_backslash", |_| archive(&[file("a\\..\\..\\b", "x"), file("C:\\x", "y")])),
    accept("A21_case_pair", |_| {
        archive(&[file("README", "upper"), file("readme", "lower"), dir("DIR"), dir("dir")])
    }),
    accept("A22_unicode_nfc_nfd", |_| archive(&[file("caf\u{e9}", "nfc"), file("cafe\u{301}", "nfd")])),
    refuse("A23_prefix_dotdot", "PATH_ESCAPE", |_| archive(&[file("x", "x").at(345, "../..")])),
    accept("A23b_prefix", |_| archive(&[file("x", "x").at(345, "deep/down")])),
    refuse("A24_pax_dotdot", "PATH_ESCAPE", |_| archive(&[pax(&[("path", "../../x")]), file("f", "x")])),
    refuse("A25_gnu_long_dotdot", "PATH_ESCAPE", |_| {
        archive(&[gnu_long(b'L', "a/../../x"), file("f", "x").gnu()])
    }),
    accept("A26_full_name_field", |_| archive(&[file("n".repeat(100), "x")])),
    accept("A27_dots_are_names", |_| {
        archive(&[file("...", "x"), file("..a", "y"), file("a..", "z"), file("....", "w")])
    }),
    accept("A28_dot_components", |_| archive(&[file("./././q/./f", "x")])),
    accept("A29_names_of_overlays_own", |_| {
        archive(&[
            dir("work"),
            dir("diff"),
            dir("merged"),
            file("link", "x"),
            file("lower", "y"),
            dir("index"),
        ])
    }),
    accept("A30_mount_option_bytes", |_| {
        archive(&[dir("a:b,c\\d=e;\"'%s$(x)`"), file("a:b,c\\d=e;\"'%s$(x)`/f,g:h", "x")])
    }),
    accept("A31_dotdot_is_textual", |_| archive(&[file("lib/../etc/textual", "x")])),
    accept("A32_spaces", |_| archive(&[file(" ", "x"), file("a ", "y"), file(" a", "z")])),
    refuse("A33_far_absolute_dotdot", "PATH_ESCAPE", |victim| {
        archive(&far(&[&b"../../../../../../../../.."[..], victim, b"/planted"].concat(), "x"))
    }),
    accept("A34_absolute_lands_inside", |victim| archive(&far(&[victim, b"/hello"].concat(), "inside"))),
    accept("A35_a_name_twice", |_| {
        archive(&[file("twice", "first"), file("./twice", "second"), file("/twice", "third")])
    }),
    accept("A36_a_thousand_slashes", |_| {
        archive(&[pax(&[("path", [&b"/".repeat(5000)[..], b"x"].concat())]), file("f", "x")])
    }),
    accept("A37_names_of_our_own_temporaries", |_| {
        archive(&[
            file(".layerstore-link-0", "x"),
            dir("d"),
            file("d/f", "y"),
            hard("d", ".layerstore-link-0"),
        ])
    }),
];

pub(super) const LINKS_ON_THE_WAY: &[Case] = &[
    refuse("B01_symlink_up_then_file", "SYMLINK_ESCAPE", |_| {
        archive(&[symlink("s", "../.."), file("s/x", "x")])
    }),
    accept("B02_symlink_abs_then_file", |victim| {
        archive(&[points("s", victim), vec![file("s/hello", "x")]].concat())
    }),
    accept("B03_abs_symlink_legit", |_| {
        archive(&[symlink("etc/unbroken", "/usr/lib"), file("etc/unbroken/f", "x")])
    }),
    refuse("B04_symlink_chain", "SYMLINK_ESCAPE", |_| {
        archive(&[
            dir("d"),
            symlink("d/up", ".."),
            symlink("d/up2", "up/up"),
            symlink("up3", "d/up2/.."),
            file("up3/x", "x"),
        ])
    }),
    accept("B05_symlink_then_dir_chmod", |victim| {
        archive(&[points("d", victim), vec![dir("d").mode(0o777).owner(5, 5).mtime(7)]].concat())
    }),
    accept("B06_symlink_then_file_same", |victim| {
        archive(&[points("f", &[victim, b"/hello"].concat()), vec![file("f", "mine")]].concat())
    }),
    refuse("B07_symlink_mkdir_outside", "SYMLINK_ESCAPE", |victim| {
        archive(
            &[points("s", &[&b"../../../../../../../../.."[..], victim].concat()), vec![dir("s/new/dir")]]
                .concat(),
        )
    }),
    accept("B08_dir_replaced_by_symlink", |victim| {
        archive(&[vec![dir("d"), file("d/one", "1")], points("d", victim), vec![file("d/two", "2")]].concat())
    }),
    refuse("B09_symlink_empty_target", "EMPTY_LINK", |_| archive(&[symlink("s", "")])),
    refuse("B10_symlink_target_4096", "LINK_TOO_LONG", |_| archive(&points("s", &[b't'; 4096]))),
    either("B10b_symlink_target_4095", &["LINK_TOO_LONG"], |_| archive(&points("s", &[b't'; 4095]))),
    refuse("B10c_gnu_target_5000", "LINK_TOO_LONG", |_| {
        archive(&[gnu_long(b'K', [b't'; 5000]), symlink("s", "").gnu()])
    }),
    refuse("B11_symlink_loop", "ELOOP", |_| {
        archive(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "x")])
    }),
    refuse("B11b_symlink_to_itself", "ELOOP", |_| archive(&[symlink("a", "a"), file("a/x", "x")])),
    refuse("B11c_loop_of_the_lower", "ELOOP", |_| archive(&[file("loop1/x", "x")])),
    refuse("B12_symlink_chain_41", "ELOOP", |_| chain(41)),
    accept("B12b_symlink_chain_40", |_| chain(40)),
    accept("B13_proc_magic", |_| archive(&[symlink("p", "/proc/self/root"), file("p/tmp/x", "x")])),
    accept("B14_proc_cwd", |_| {
        archive(&[
            symlink("p", "/proc/self/cwd"),
            file("p/x", "x"),
            symlink("q", "/proc/self/fd/3"),
            file("q/x", "x"),
        ])
    }),
    accept("B15_delayed_dir_mtime_symlink", |victim| {
        archive(&[vec![dir("d").mtime(77).mode(0o700)], points("d", victim)].concat())
    }),
    accept("B15b_nested_delayed_mtime", |victim| {
        archive(&[vec![dir("d"), dir("d/e").mtime(77), file("d/e/f", "x")], points("d/e", victim)].concat())
    }),
    accept("B16_symlink_xattr_follow", |victim| {
        let far = [victim, b"/hello"].concat();
        let records = [
            ("SCHILY.xattr.user.planted", &b"yes"[..]),
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("linkpath", &far),
        ];
        archive(&[pax(&records), symlink("s", "")])
    }),
    refuse("B17_sibling_prefix", "PATH_ESCAPE", |victim| {
        let name = victim.rsplit(|&b| b == b'/').next().unwrap_or_default();
        archive(&far(&[&b"../"[..], name, b"-sibling/planted"].concat(), "x"))
    }),
    accept("B18_symlink_parent_through_base", |_| archive(&[file("lib/evil", "x")])),
    accept("B19_absolute_symlink_of_the_lower", |_| archive(&[file("abs/evil", "x")])),
    refuse("B20_climbing_symlink_of_the_lower", "SYMLINK_ESCAPE", |_| archive(&[file("up/evil", "x")])),
    accept("B21_dangling_symlink_of_the_lower", |_| archive(&[file("dangling/x", "x")])),
    accept("B22_dir_over_symlink_of_the_lower", |_| archive(&[dir("lib"), file("lib/x", "x")])),
    accept("B22b_file_then_dir_over_symlink", |_| {
        archive(&[file("lib/x", "x"), dir("lib"), file("lib/y", "y")])
    }),
    refuse("B23_nul_in_target", "NUL_IN_NAME", |_| {
        archive(&[pax(&[("linkpath", "a\0b")]), symlink("s", "")])
    }),
    refuse("B24_target_component_256", "NAME_TOO_LONG", |_| {
        archive(&[points("s", &[b't'; 256]), vec![file("s/x", "x")]].concat())
    }),
    accept("B25_lower_dir_replaced_by_symlink", |_| archive(&[symlink("etc", "usr"), file("etc/new", "x")])),
    accept("B26_lower_dir_replaced_by_far_symlink", |victim| {
        archive(&[points("etc", victim), vec![file("etc/hello", "x")]].concat())
    }),
    refuse("B27_fifty_times_the_same_link", "ELOOP", |_| {
        archive(&[
            symlink("a", "."),
            pax(&[("path", [&b"a/".repeat(50)[..], b"x"].concat())]),
            file("f", "x"),
        ])
    }),
    refuse("B28_doubling_links", "ELOOP", |_| {
        let mut entries = vec![symlink("l0", ".")];
        for n in 1..60 {
            entries.push(symlink(format!("l{n}"), format!("l{p}/l{p}", p = n - 1)));
        }
        entries.push(file("l59/x", "x"));
        archive(&entries)
    }),
    refuse("B28b_links_of_many_components", "ELOOP", |_| {
        archive(&[points("l", &b"l/".repeat(2000)), vec![file("l/x", "x")]].concat())
    }),
    accept("B29_up_inside", |_| archive(&[dir("d"), symlink("d/up", ".."), file("d/up/x", "x")])),
    refuse("B30_missing_then_up", "SYMLINK_ESCAPE", |_| {
        archive(&[symlink("s", "none/../../x"), file("s/y", "y")])
    }),
    accept("B31_missing_then_up_inside", |_| archive(&[symlink("s", "none/../q"), file("s/y", "y")])),
    accept("B32_directory_and_symlink_in_turns", |victim| {
        let mut entries = Vec::new();
        for n in 0..100 {
            entries.push(dir("d"));
            entries.push(file(format!("d/in-{n}"), "x"));
            entries.extend(points("d", victim));
            entries.push(file(format!("d/out-{n}"), "x"));
        }
        archive(&entries)
    }),
    accept("B33_below_a_hard_link_to_a_symlink", |_| {
        archive(&[symlink("s", "/etc"), hard("h", "s"), file("h/x", "x")])
    }),
    refuse("B34_below_a_file", "NOT_DIR", |_| archive(&[file("f", "x"), file("f/x", "y")])),
    refuse("B35_below_a_symlink_to_a_file", "NOT_DIR", |_| {
        archive(&[symlink("s", "etc/passwd"), file("s/x", "y")])
    }),
    refuse("B36_below_a_fifo", "NOT_DIR", |_| archive(&[raw(b'6', "p"), file("p/x", "y")])),
    refuse("B37_into_a_reserved_name", "RESERVED_NAME", |_| {
        archive(&[symlink("s", ".wh.x"), file("s/f", "x")])
    }),
    refuse("B37b_into_aufs_own", "RESERVED_NAME", |_| {
        archive(&[symlink("s", "etc/.wh..wh.plnk"), dir("s/d")])
    }),
    refuse("B38_target_path_gets_too_long", "PATH_TOO_LONG", |_| {
        archive(
            &[
                points("s", &b"ddddddd/".repeat(500)),
                vec![pax(&[("path", [&b"s/"[..], &b"eeeeeee/".repeat(500), b"x"].concat())]), file("f", "x")],
            ]
            .concat(),
        )
    }),
    accept("B39_symlink_mode_owner_time", |_| {
        archive(&[symlink("s", "/nowhere").mode(0o7777).owner(5, 6).mtime(8)])
    }),
];

/// A version 2 file capability, cap_net_raw+ep.
pub(super) const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A file behind so many symbolic links.
fn chain(links: usize) -> Vec<u8> {
    let mut entries = vec![dir("l0")];
    for n in 1..=links {
        entries.push(symlink(format!("l{n}"), format!("l{}", n - 1)));
    }
    entries.push(file(format!("l{links}/x"), "x"));
    archive(&entries)
}
