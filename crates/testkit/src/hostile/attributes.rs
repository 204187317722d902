//! Cases about kinds, owners, modes, times, attributes and replaced entries (F).

use super::names::CAPABILITY;
use super::raw::{archive, device, dir, file, pax, raw, symlink};
use super::{Case, accept, either, points, refuse};

/// A base-256 number in a field of eight bytes.
fn wide(number: u64) -> [u8; 8] {
    let mut field = number.to_be_bytes();
    field[0] |= 0x80;
    field
}

fn xattr(name: &str, value: &[u8]) -> Vec<u8> {
    let key = format!("SCHILY.xattr.{name}");
    archive(&[
        pax(&[(key.as_str(), value)]),
        dir("etc"),
        pax(&[(key.as_str(), value)]),
        file("etc/passwd", "x"),
    ])
}

pub(super) const CASES: &[Case] = &[
    // Where no devices may be made they are left out, and what the lower layer has there stays.
    accept("F01b_devices_over_lower_entries", |_| {
        archive(&[
            device(b'3', "etc/passwd", 1, 3),
            device(b'4', "pipe", 7, 3),
            device(b'3', "new", 1, 5),
            file("f", "x"),
        ])
    }),
    accept("F01_blockdev", |_| archive(&[device(b'4', "sda", 8, 0), file("f", "x")])),
    accept("F02_chardev_mem", |_| archive(&[device(b'3', "mem", 1, 1).mode(0o666), file("f", "x")])),
    refuse("F03_dev_overflow", "BAD_NUMERIC", |_| archive(&[device(b'3', "c", 1 << 12, 0)])),
    refuse("F03b_dev_minor_overflow", "BAD_NUMERIC", |_| archive(&[device(b'4', "b", 0, 1 << 20)])),
    refuse("F03c_dev_2_32_plus_1", "BAD_NUMERIC", |_| {
        archive(&[pax(&[("SCHILY.devmajor", "4294967297"), ("SCHILY.devminor", "0")]), raw(b'3', "c")])
    }),
    refuse("F03d_dev_negative", "BAD_NUMERIC", |_| archive(&[raw(b'3', "c").at(329, [0xff; 8])])),
    accept("F03e_block_0_0", |_| archive(&[device(b'4', "b", 0, 0), file("f", "x")])),
    accept("F04_fifo", |_| archive(&[raw(b'6', "pipe"), raw(b'6', "etc/passwd")])),
    accept("F05_setuid_root", |_| archive(&[file("su", "x").mode(0o6755)])),
    accept("F06_setgid_dir", |_| {
        archive(&[dir("d").mode(0o2775).owner(0, 50), file("d/f", "x"), dir("d/e")])
    }),
    accept("F07_mode_16bits", |_| {
        archive(&[file("f", "x").at(100, "0177777\0"), dir("d").at(100, "1777777\0")])
    }),
    accept("F08_xattr_trusted_opaque", |_| xattr("trusted.overlay.opaque", b"y")),
    accept("F09_xattr_trusted_redirect", |_| xattr("trusted.overlay.redirect", b"/secret")),
    accept("F10_xattr_user_opaque", |_| xattr("user.overlay.opaque", b"y")),
    accept("F10b_xattr_user_whiteout", |_| xattr("user.overlay.whiteout", b"y")),
    accept("F10c_xattr_trusted_whiteout", |_| xattr("trusted.overlay.whiteout", b"")),
    accept("F10d_xattr_opaque_x", |_| xattr("trusted.overlay.opaque", b"x")),
    accept("F11_xattr_metacopy", |_| xattr("trusted.overlay.metacopy", b"")),
    accept("F11b_xattr_origin", |_| xattr("trusted.overlay.origin", b"\0\xfb\x1d")),
    accept("F11c_xattr_escaped", |_| xattr("trusted.overlay.overlay.opaque", b"y")),
    accept("F12_xattr_override", |_| xattr("user.containers.override_stat", b"0:0:04755")),
    accept("F12b_xattr_fuse_override", |_| xattr("user.fuseoverlayfs.override_stat", b"0:0:04755")),
    accept("F13_xattr_rootless", |_| xattr("user.rootlesscontainers", b"\x08\x01")),
    accept("F14_xattr_capability", |_| {
        archive(&[pax(&[("SCHILY.xattr.security.capability", CAPABILITY)]), file("ping", "x").mode(0o755)])
    }),
    refuse("F14b_xattr_capability_broken", "BAD_XATTR", |_| {
        archive(&[pax(&[("SCHILY.xattr.security.capability", &b"\xff\xff"[..])]), file("f", "x")])
    }),
    refuse("F14c_xattr_capability_empty", "BAD_XATTR", |_| {
        archive(&[pax(&[("SCHILY.xattr.security.capability", "")]), file("f", "x")])
    }),
    accept("F15_xattr_selinux", |_| xattr("security.selinux", b"system_u:object_r:shadow_t:s0\0")),
    accept("F16_xattr_ima_evm", |_| {
        archive(&[
            pax(&[("SCHILY.xattr.security.ima", &b"\x03"[..]), ("SCHILY.xattr.security.evm", b"\x02")]),
            file("f", "x"),
        ])
    }),
    accept("F17_xattr_acl", |_| {
        let text = "user::rwx,user:lisa:r-x:1000,group::r-x,mask::r-x,other::---";
        archive(&[pax(&[("SCHILY.acl.access", text)]), file("f", "x").mode(0o750)])
    }),
    refuse("F17b_xattr_acl_broken", "BAD_XATTR", |_| {
        archive(&[pax(&[("SCHILY.xattr.system.posix_acl_access", &b"\x02\0\0\0\x77"[..])]), file("f", "x")])
    }),
    accept("F17c_acl_of_names", |_| {
        archive(&[pax(&[("SCHILY.acl.access", "user:nobody-here:rwx")]), file("f", "x")])
    }),
    refuse("F18_xattr_64k_plus", "XATTR_TOO_BIG", |_| {
        archive(&[pax(&[("SCHILY.xattr.user.big", [7; 65_537])]), file("f", "x")])
    }),
    either("F18b_xattr_64k", &["XATTR_TOO_BIG"], |_| {
        archive(&[pax(&[("SCHILY.xattr.user.big", [7; 65_536])]), file("f", "x")])
    }),
    refuse("F18c_xattr_1001", "XATTR_TOO_BIG", |_| {
        let records: Vec<_> = (0..1001).map(|n| (format!("SCHILY.xattr.user.{n}"), "v")).collect();
        archive(&[pax(&records), file("f", "x")])
    }),
    either("F18d_xattr_1000", &["XATTR_TOO_BIG"], |_| {
        let records: Vec<_> = (0..1000).map(|n| (format!("SCHILY.xattr.user.{n}"), "v")).collect();
        archive(&[pax(&records), file("f", "x")])
    }),
    refuse("F19_xattr_name_256", "XATTR_TOO_BIG", |_| {
        archive(&[pax(&[(format!("SCHILY.xattr.user.{}", "n".repeat(251)), "v")]), file("f", "x")])
    }),
    refuse("F19b_xattr_without_name", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("SCHILY.xattr.", "v")]), file("f", "x")])
    }),
    refuse("F19c_xattr_bad_base64", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("LIBARCHIVE.xattr.user.x", "!!!")]), file("f", "x")])
    }),
    refuse("F19d_xattr_escaped_nul", "BAD_EXTENSION", |_| {
        archive(&[pax(&[("LIBARCHIVE.xattr.user.x%00y", "AAo")]), file("f", "x")])
    }),
    accept("F19e_xattr_without_namespace", |_| {
        archive(&[pax(&[("SCHILY.xattr.nonsense", "v"), ("SCHILY.xattr.user.kept", "w")]), file("f", "x")])
    }),
    refuse("F19f_xattr_user_without_name", "BAD_XATTR", |_| {
        archive(&[pax(&[("SCHILY.xattr.user.", "v"), ("SCHILY.xattr.user.kept", "w")]), file("f", "x")])
    }),
    refuse("F20_uid_2_32", "BAD_ID", |_| archive(&[file("f", "x").at(108, wide(1 << 32))])),
    refuse("F20b_pax_uid_2_32", "BAD_ID", |_| archive(&[pax(&[("uid", "4294967296")]), file("f", "x")])),
    refuse("F21_uid_minus1", "BAD_ID", |_| archive(&[file("f", "x").at(108, [0xff; 8])])),
    refuse("F21b_pax_uid_minus1", "BAD_ID", |_| archive(&[pax(&[("uid", "-1")]), file("f", "x")])),
    refuse("F22_uid_4294967295", "BAD_ID", |_| archive(&[file("f", "x").at(116, wide(u64::from(u32::MAX)))])),
    refuse("F22b_gid_2_63", "BAD_ID", |_| archive(&[pax(&[("gid", "9223372036854775808")]), file("f", "x")])),
    refuse("F22c_uid_no_number", "BAD_NUMERIC", |_| archive(&[pax(&[("uid", "root")]), file("f", "x")])),
    either("F23_uid_unmapped", &["ID_UNMAPPED"], |_| archive(&[file("f", "x").at(108, wide(3_000_000_000))])),
    either("F23b_gid_unmapped_directory", &["ID_UNMAPPED"], |_| archive(&[dir("etc").at(116, wide(70_000))])),
    either("F23c_gid_unmapped_symlink", &["ID_UNMAPPED"], |victim| {
        let mut entries = points("s", victim);
        entries[1] = entries[1].clone().at(108, wide(4_294_967_294));
        archive(&entries)
    }),
    accept("F24_mtime_negative", |_| {
        archive(&[pax(&[("mtime", "-1.5")]), file("f", "x"), pax(&[("mtime", "-1")]), dir("d")])
    }),
    accept("F25_mtime_base256_neg", |_| archive(&[file("f", "x").at(136, [0xff; 12])])),
    either("F26_mtime_huge", &["BAD_NUMERIC"], |_| {
        archive(&[pax(&[("mtime", "9223372036854775807")]), file("f", "x")])
    }),
    either("F26b_mtime_huge_of_everything", &["BAD_NUMERIC"], |_| {
        let time = || pax(&[("mtime", "99999999999999")]);
        archive(&[time(), dir("d"), time(), symlink("d/s", "x"), time(), raw(b'6', "d/p"), time(), dir("./")])
    }),
    either("F26c_mtime_huge_negative", &["BAD_NUMERIC"], |_| {
        archive(&[pax(&[("mtime", "-9223372036854775807")]), file("f", "x")])
    }),
    refuse("F26d_mtime_2_63", "BAD_NUMERIC", |_| {
        archive(&[pax(&[("mtime", "9223372036854775808")]), file("f", "x")])
    }),
    refuse("F26e_mtime_wide", "BAD_NUMERIC", |_| {
        archive(&[file("f", "x").at(136, [&[0xbf][..], &[0xff; 11]].concat())])
    }),
    refuse("F27_mtime_nan", "BAD_NUMERIC", |_| archive(&[pax(&[("mtime", "nan")]), file("f", "x")])),
    refuse("F27b_mtime_inf", "BAD_NUMERIC", |_| archive(&[pax(&[("mtime", "inf")]), file("f", "x")])),
    refuse("F27c_mtime_exponent", "BAD_NUMERIC", |_| archive(&[pax(&[("mtime", "1e300")]), file("f", "x")])),
    accept("F27d_mtime_many_digits", |_| {
        archive(&[pax(&[("mtime", format!("1.{}", "123456789".repeat(1000)))]), file("f", "x")])
    }),
    accept("F28_parent_missing", |_| archive(&[file("not/there/f", "x").owner(7, 8).mtime(9)])),
    refuse("F29_parent_is_file", "NOT_DIR", |_| archive(&[file("etc/passwd/x", "x")])),
    refuse("F29b_parent_is_own_file", "NOT_DIR", |_| archive(&[file("f", "x"), dir("f/d")])),
    accept("F30_file_over_dir", |_| archive(&[file("etc", "now a file")])),
    accept("F30b_symlink_over_dir", |_| archive(&[symlink("etc", "usr")])),
    accept("F30c_fifo_over_dir", |_| archive(&[raw(b'6', "usr")])),
    accept("F31_dir_over_file", |_| archive(&[dir("etc/passwd"), file("etc/passwd/x", "x")])),
    accept("F31b_kinds_in_turn", |_| {
        archive(&[
            file("k", "x"),
            dir("k"),
            file("k/f", "y"),
            symlink("k", "etc"),
            raw(b'6', "k"),
            file("k", "last"),
        ])
    }),
    accept("F32_directory_closed_to_its_owner", |_| {
        archive(&[dir("d").mode(0), file("d/f", "x"), dir("d/e").mode(0), file("d/e/g", "y")])
    }),
    accept("F33_directory_without_write", |_| {
        archive(&[dir("d").mode(0o555), file("d/f", "x"), dir("etc").mode(0o111), file("etc/new", "y")])
    }),
    accept("F34_default_acl_does_not_spread", |_| {
        let text = "user::rwx,user:lisa:rwx:1000,group::r-x,mask::rwx,other::---";
        archive(&[pax(&[("SCHILY.acl.default", text)]), dir("d"), file("d/f", "x"), dir("d/e")])
    }),
];
