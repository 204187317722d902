//! Cases about hard links (C) and about whiteouts and opaque marks (D).

use super::raw::{archive, device, dir, file, gnu_long, hard, pax, raw, symlink};
use super::{Case, accept, either, far, points, refuse};

pub(super) const HARD_LINKS: &[Case] = &[
    refuse("C01_hardlink_dotdot", "LINK_ESCAPE", |_| archive(&[hard("h", "../x")])),
    refuse("C01b_hardlink_far_dotdot", "LINK_ESCAPE", |victim| {
        let target = [&b"../../../../../../../../.."[..], victim, b"/hello"].concat();
        archive(&[pax(&[("linkpath", target)]), hard("h", "")])
    }),
    refuse("C02_hardlink_abs", "LINK_TARGET_MISSING", |victim| {
        archive(&[pax(&[("linkpath", [victim, b"/hello"].concat())]), hard("h", "")])
    }),
    accept("C03_hardlink_abs_legit", |_| archive(&[hard("h", "/etc/passwd")])),
    refuse("C04_hardlink_through_symlink", "LINK_ESCAPE", |victim| {
        let up = [&b"../../../../../../../../.."[..], victim].concat();
        archive(&[points("s", &up), vec![hard("h", "s/hello")]].concat())
    }),
    refuse("C04b_hardlink_through_far_symlink", "LINK_TARGET_MISSING", |victim| {
        archive(&[points("s", victim), vec![hard("h", "s/hello")]].concat())
    }),
    accept("C05_hardlink_to_symlink", |_| archive(&[symlink("s", "/etc/passwd"), hard("hs", "s")])),
    accept("C06_hardlink_to_symlink_chmod", |victim| {
        let to = [victim, b"/hello"].concat();
        archive(&[points("s", &to), vec![hard("hs", "s").mode(0o4777).owner(5, 5).mtime(99)]].concat())
    }),
    refuse("C07_hardlink_missing", "LINK_TARGET_MISSING", |_| archive(&[hard("h", "not/here")])),
    refuse("C08_hardlink_to_dir", "LINK_TO_DIR", |_| archive(&[hard("h", "etc")])),
    refuse("C08b_hardlink_to_root", "LINK_TO_DIR", |_| archive(&[hard("h", "/")])),
    refuse("C08c_hardlink_to_new_dir", "LINK_TO_DIR", |_| archive(&[dir("d"), hard("h", "d/")])),
    refuse("C09_hardlink_self", "LINK_SELF", |_| archive(&[file("f", "keep"), hard("f", "./f")])),
    refuse("C09b_hardlink_self_by_symlink", "LINK_SELF", |_| archive(&[hard("lib/libc", "usr/lib/libc")])),
    refuse("C09c_hardlink_self_of_lower", "LINK_SELF", |_| archive(&[hard("etc/passwd", "/etc/passwd")])),
    refuse("C10_hardlink_data", "BAD_HEADER", |_| {
        archive(&[file("f", "keep"), hard("h", "f").data(archive(&[file("hidden", "x")])), file("g", "y")])
    }),
    refuse("C10b_hardlink_size_without_data", "BAD_HEADER", |_| {
        archive(&[file("f", "keep"), hard("h", "f").size("1000"), file("hidden", "x"), file("g", "y")])
    }),
    refuse("C10c_hardlink_pax_size", "BAD_HEADER", |_| {
        let data = file("hidden", "x");
        archive(&[file("f", "keep"), pax(&[("size", "1024")]), hard("h", "f"), data, file("g", "y")])
    }),
    refuse("C10d_hardlink_data_v7", "BAD_HEADER", |_| {
        archive(&[file("f", "keep"), hard("h", "f").v7().size("512"), file("g", "y")])
    }),
    accept("C11_hardlink_chown_ignored", |_| {
        archive(&[file("f", "x").mode(0o755).owner(1000, 1000), hard("h", "f").mode(0o4755).mtime(99)])
    }),
    refuse("C12_hardlink_whiteouted", "LINK_TARGET_MISSING", |_| {
        archive(&[file("etc/.wh.passwd", ""), hard("h", "etc/passwd")])
    }),
    accept("C12b_hardlink_then_whiteout", |_| {
        archive(&[hard("h", "etc/passwd"), file("etc/.wh.passwd", "")])
    }),
    refuse("C12c_hardlink_below_opaque", "LINK_TARGET_MISSING", |_| {
        archive(&[file("etc/.wh..wh..opq", ""), hard("h", "etc/passwd")])
    }),
    either("C13_hardlink_65001", &["EMLINK"], |_| {
        let mut bytes = file("f", "x").bytes();
        let mut names = Vec::with_capacity(65_001 * 512);
        for n in 0..65_001 {
            names.extend(hard(format!("d/{n}"), "f").bytes());
        }
        bytes.extend(names);
        bytes
    })
    .bomb(),
    accept("C14_hardlink_to_fifo", |_| archive(&[raw(b'6', "p"), hard("h", "p")])),
    accept("C15_hardlink_to_lower_group", |_| archive(&[hard("h", "group/one")])),
    accept("C16_hardlink_over_directory", |_| archive(&[hard("etc", "secret/key")])),
    accept("C16b_hardlink_over_own_directory", |_| archive(&[dir("d"), file("d/f", "x"), hard("d", "d/f")])),
    accept("C17_target_replaced_after", |_| archive(&[file("f", "old"), hard("h", "f"), file("f", "new")])),
    accept("C18_target_replaced_before", |_| archive(&[file("f", "old"), file("f", "new"), hard("h", "f")])),
    refuse("C19_hardlink_to_whiteout", "RESERVED_NAME", |_| {
        archive(&[file("etc/.wh.passwd", ""), hard("h", "etc/.wh.passwd")])
    }),
    accept("C20_hardlink_through_lower_symlink", |_| archive(&[hard("h", "lib/libc")])),
    refuse("C21_hardlink_empty", "EMPTY_LINK", |_| archive(&[hard("h", "")])),
    refuse("C22_hardlink_below_file", "LINK_TARGET_MISSING", |_| archive(&[hard("h", "etc/passwd/x")])),
    accept("C23_hardlink_chain", |_| {
        archive(&[file("a", "x"), hard("b", "a"), hard("c", "b"), hard("a", "c")])
    }),
    refuse("C24_hardlink_through_loop", "ELOOP", |_| archive(&[hard("h", "loop1/x")])),
    accept("C25_hardlink_to_skipped_device", |_| archive(&[device(b'3', "c", 0, 0), hard("h", "c")])),
    refuse("C26_hardlink_before_its_target", "LINK_TARGET_MISSING", |_| {
        archive(&[hard("h", "f"), file("f", "x")])
    }),
    refuse("C26b_below_a_hardlink_in_a_lower_symlinks_place", "NOT_DIR", |_| {
        archive(&[hard("lib", "lib/libc"), file("lib/x", "x")])
    }),
    accept("C27_hardlink_to_symlink_of_the_lower", |_| archive(&[hard("h", "lib")])),
    refuse("C28_hardlink_nul", "NUL_IN_NAME", |_| {
        archive(&[pax(&[("linkpath", "etc\0/passwd")]), hard("h", "x")])
    }),
    refuse("C29_hardlink_target_too_long", "PATH_TOO_LONG", |_| {
        archive(&[gnu_long(b'K', b"ddddddd/".repeat(600)), hard("h", "x").gnu()])
    }),
    accept("C30_hardlink_over_symlink", |_| archive(&[hard("lib", "etc/passwd")])),
    refuse("C31_hardlink_to_own_parent", "LINK_TO_DIR", |_| archive(&[dir("d"), hard("d/h", "d")])),
    accept("C32_setuid_target_keeps_its_mode", |_| {
        archive(&[file("f", "x").mode(0o4755).owner(7, 7), hard("h", "f").mode(0o600)])
    }),
];

pub(super) const WHITEOUTS: &[Case] = &[
    refuse("D01_wh_root_parent", "BAD_WHITEOUT", |_| archive(&[file(".wh...", "")])),
    refuse("D02_wh_parent", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh...", "")])),
    refuse("D03_wh_root", "BAD_WHITEOUT", |_| archive(&[file(".wh..", "")])),
    refuse("D04_wh_curdir", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh..", "")])),
    refuse("D05_wh_empty", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh.", "")])),
    refuse("D05b_wh_empty_at_root", "BAD_WHITEOUT", |_| archive(&[file(".wh.", "")])),
    accept("D06_wh_missing", |_| archive(&[file("etc/.wh.none", ""), file("none/.wh.x", "")])),
    accept("D07_wh_symlink", |_| archive(&[file(".wh.lib", "")])),
    refuse("D08_wh_through_symlink_escape", "SYMLINK_ESCAPE", |victim| {
        let up = [&b"../../../../../../../../.."[..], victim].concat();
        archive(&[points("s", &up), vec![file("s/.wh.hello", "")]].concat())
    }),
    accept("D08b_wh_through_far_symlink", |victim| {
        archive(&[points("s", victim), vec![file("s/.wh.hello", "")]].concat())
    }),
    refuse("D09_opq_through_symlink_escape", "SYMLINK_ESCAPE", |victim| {
        let up = [&b"../../../../../../../../.."[..], victim].concat();
        archive(&[points("s", &up), vec![file("s/sub/.wh..wh..opq", "")]].concat())
    }),
    accept("D09b_opq_on_far_symlink", |victim| {
        archive(&[points("s", victim), vec![file("s/.wh..wh..opq", "")]].concat())
    }),
    refuse("D09c_opq_of_symlink_that_escapes", "SYMLINK_ESCAPE", |victim| {
        let up = [&b"../../../../../../../../.."[..], victim].concat();
        archive(&[points("s", &up), vec![file("s/.wh..wh..opq", "")]].concat())
    }),
    accept("D10_opq_on_file", |_| archive(&[file("etc/passwd/.wh..wh..opq", "")])),
    refuse("D11_opq_nonempty", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh..wh..opq", "data")])),
    refuse("D11b_wh_nonempty", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh.passwd", "data")])),
    refuse("D12_opq_symlink_type", "BAD_WHITEOUT", |_| archive(&[symlink("etc/.wh..wh..opq", "x")])),
    refuse("D12b_wh_symlink_type", "BAD_WHITEOUT", |_| archive(&[symlink("etc/.wh.passwd", "x")])),
    refuse("D12c_wh_fifo_type", "BAD_WHITEOUT", |_| archive(&[raw(b'6', "etc/.wh.passwd")])),
    refuse("D12d_wh_device_type", "BAD_WHITEOUT", |_| archive(&[device(b'3', "etc/.wh.passwd", 0, 0)])),
    accept("D12e_wh_hard_link_type", |_| archive(&[hard("etc/.wh.passwd", "etc/.wh.group")])),
    accept("D13_opq_after_siblings", |_| archive(&[file("etc/new", "x"), file("etc/.wh..wh..opq", "")])),
    accept("D13b_opq_before_siblings", |_| archive(&[file("etc/.wh..wh..opq", ""), file("etc/new", "x")])),
    accept("D13c_opq_at_root", |_| archive(&[file("new", "x"), file(".wh..wh..opq", "")])),
    accept("D13d_opq_below_symlink", |_| archive(&[file("lib/sub/.wh..wh..opq", "")])),
    accept("D13e_opq_in_missing_directory", |_| archive(&[file("none/.wh..wh..opq", "")])),
    accept("D13f_opq_then_its_directory", |_| {
        archive(&[file("etc/.wh..wh..opq", ""), dir("etc").mode(0o700)])
    }),
    accept("D13g_opq_nested", |_| {
        archive(&[file("etc/ssl/new", "x"), file("etc/ssl/.wh..wh..opq", ""), file("etc/.wh..wh..opq", "")])
    }),
    accept("D13h_opq_where_a_lower_symlink_leads", |_| {
        archive(&[file("lib/.wh..wh..opq", ""), file("lib/new", "x")])
    }),
    accept("D14_wh_and_file_same_layer", |_| {
        archive(&[file("etc/.wh.passwd", ""), file("etc/passwd", "new")])
    }),
    accept("D14b_file_and_wh_same_layer", |_| {
        archive(&[file("etc/passwd", "new"), file("etc/.wh.passwd", "")])
    }),
    accept("D15_wh_dir_then_child", |_| archive(&[file(".wh.etc", ""), file("etc/new", "x")])),
    accept("D15b_child_then_wh_dir", |_| archive(&[file("etc/new", "x"), file(".wh.etc", "")])),
    accept("D15c_wh_dir_then_deep_child", |_| archive(&[file(".wh.etc", ""), file("etc/ssl/new", "x")])),
    accept("D16_wh_parent_and_child", |_| archive(&[file(".wh.etc", ""), file("etc/.wh.passwd", "")])),
    accept("D16b_wh_child_and_parent", |_| archive(&[file("etc/.wh.passwd", ""), file(".wh.etc", "")])),
    refuse("D17_wh_of_opq", "BAD_WHITEOUT", |_| archive(&[file("etc/.wh..wh..wh..opq", "")])),
    refuse("D18_wh_plnk", "RESERVED_NAME", |_| archive(&[file(".wh..wh.plnk/1.2", "x")])),
    refuse("D19_wh_plnk_dotdot", "PATH_ESCAPE", |_| archive(&[file(".wh..wh.plnk/../../x", "x")])),
    refuse("D19b_wh_plnk_directory", "RESERVED_NAME", |_| archive(&[dir(".wh..wh.plnk")])),
    refuse("D20_wh_aufs_meta", "RESERVED_NAME", |_| archive(&[file(".wh..wh.aufs", "")])),
    refuse("D20b_wh_orph", "RESERVED_NAME", |_| archive(&[dir(".wh..wh.orph")])),
    refuse("D21_wh_dirname", "RESERVED_NAME", |_| archive(&[dir("etc/.wh.etc/")])),
    refuse("D21b_below_a_wh_name", "RESERVED_NAME", |_| archive(&[file("etc/.wh.x/y", "x")])),
    accept("D22_chardev_0_0", |_| archive(&[device(b'3', "etc/passwd", 0, 0), file("g", "x")])),
    // An overlay file system makes its whiteouts as links to one inode, and so archives have them of directories in
    // which other container engines keep images.
    accept("D22b_links_to_chardev_0_0", |_| {
        archive(&[
            device(b'3', "store/w", 0, 0),
            hard("store/w2", "store/w"),
            hard("w3", "store/w2"),
            device(b'3', "etc/passwd", 0, 0),
            hard("p", "etc/passwd"),
            file("store/w", "x"),
            hard("w4", "store/w"),
        ])
    }),
    accept("D23_wh_overlong", |_| archive(&far(&[&b".wh."[..], &[b'n'; 252]].concat(), ""))),
    accept("D23b_wh_of_255", |_| archive(&far(&[&b"etc/.wh."[..], &[b'n'; 255]].concat(), ""))),
    refuse("D23c_wh_of_256", "NAME_TOO_LONG", |_| {
        archive(&far(&[&b"etc/.wh."[..], &[b'n'; 256]].concat(), ""))
    }),
    refuse("D24_wh_of_wh", "RESERVED_NAME", |_| archive(&[file("etc/.wh..wh.x", "")])),
    accept("D25_wh_of_wh_without_dot", |_| archive(&[file("etc/.wh.wh.x", ""), file("etc/.wh.passwd", "")])),
    accept("D26_upper_case_is_no_whiteout", |_| {
        archive(&[file("etc/.WH.passwd", "x"), file(".Wh..wh..opq", "y")])
    }),
    accept("D27_almost_whiteouts", |_| {
        archive(&[
            file("etc/.wh", "x"),
            file("etc/.whpasswd", "y"),
            file("etc/wh.passwd", "z"),
            file("etc/..wh.passwd", "w"),
        ])
    }),
    accept("D28_wh_below_a_file", |_| archive(&[file("etc/passwd/.wh.x", "")])),
    accept("D29_wh_below_lower_symlink", |_| archive(&[file("lib/.wh.libc", "")])),
    accept("D30_wh_twice", |_| archive(&[file("etc/.wh.passwd", ""), file("etc/.wh.passwd", "")])),
    accept("D31_wh_dir_then_file", |_| archive(&[file(".wh.etc", ""), file("etc", "now a file")])),
    accept("D32_wh_with_attributes", |_| {
        archive(&[
            pax(&[("SCHILY.xattr.user.x", "y"), ("mtime", "5")]),
            file("etc/.wh.passwd", "").mode(0o4777).owner(9, 9),
        ])
    }),
    refuse("D33_wh_climbs", "PATH_ESCAPE", |_| archive(&[file("../.wh.x", "")])),
    accept("D34_wh_by_pax_name", |_| archive(&[pax(&[("path", "etc/.wh.passwd")]), file("f", "")])),
    accept("D35_wh_by_gnu_name", |_| archive(&[gnu_long(b'L', "etc/.wh.passwd"), file("f", "").gnu()])),
    refuse("D36_wh_of_a_loop", "ELOOP", |_| archive(&[file("loop1/.wh.x", "")])),
    accept("D37_wh_of_every_name", |_| {
        archive(&[
            file(".wh.etc", ""),
            file(".wh.usr", ""),
            file(".wh.lib", ""),
            file(".wh.secret", ""),
            file(".wh.group", ""),
        ])
    }),
    accept("D38_opq_and_wh_of_own_child", |_| {
        archive(&[file("etc/keep", "x"), file("etc/.wh.keep", ""), file("etc/.wh..wh..opq", "")])
    }),
    accept("D39_wh_of_lower_hard_link", |_| archive(&[file("group/.wh.one", "")])),
    accept("D40_dir_wh_dir_again", |_| {
        archive(&[dir("etc").mode(0o700), file(".wh.etc", ""), dir("etc").mode(0o711), file("etc/x", "y")])
    }),
    accept("D41_symlink_over_lower_directory", |_| archive(&[symlink("etc", "usr"), file(".wh.etc", "")])),
    accept("D42_wh_through_new_symlink", |_| archive(&[symlink("s", "etc"), file("s/.wh.passwd", "")])),
];
