//! Cases about much from little (G): what a layer claims, and what really comes.

use std::io::{Read, Write};

use super::raw::{archive, dir, file, hard, members, pax, raw, symlink};
use super::{Case, accept, refuse};

/// The old GNU form's map: pairs of octal numbers, and whether it goes on.
fn gnu_sparse(pairs: &[(&str, &str)], more: bool, size: &[u8], data: &str) -> Vec<u8> {
    let mut entry = raw(b'S', "sparse").gnu().data(data).at(483, size);
    for (n, (offset, length)) in pairs.iter().enumerate() {
        entry = entry.at(386 + 24 * n, offset).at(398 + 24 * n, length);
    }
    members(&[if more { entry.at(482, [1]) } else { entry }])
}

/// A block that continues such a map.
fn gnu_block(offset: &str, more: bool) -> Vec<u8> {
    let mut block = vec![0; 512];
    for n in 0..21 {
        block[24 * n..][..12].copy_from_slice(offset.as_bytes());
        block[24 * n + 12..][..12].copy_from_slice(b"00000000000\0");
    }
    block[504] = u8::from(more);
    block
}

pub(super) const CASES: &[Case] = &[
    refuse("G01_gnu_sparse_4_eib", "BAD_SPARSE", |_| {
        let mut bytes =
            gnu_sparse(&[("00000000000\0", "00000000003\0")], false, b"\x80\0\0\0\x40\0\0\0\0\0\0\0", "abc");
        bytes.extend([0; 1024]);
        bytes
    }),
    refuse("G02_gnu_sparse_endless_map", "LIMIT_EXCEEDED", |_| {
        let mut bytes = gnu_sparse(&[("00000000000\0", "00000000000\0"); 4], true, b"00000000012\0", "");
        for _ in 0..4096 {
            bytes.extend(gnu_block("00000000000\0", true));
        }
        bytes
    }),
    refuse("G03_pax_sparse_1_0_endless_map", "LIMIT_EXCEEDED", |_| {
        let mut map = b"4000000\n".to_vec();
        map.extend(b"0\n0\n".repeat(600_000));
        map.resize(map.len().next_multiple_of(512), 0);
        archive(&[
            pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "f"),
                ("GNU.sparse.realsize", "0"),
            ]),
            file("f", map),
        ])
    }),
    refuse("G04_pax_sparse_4_eib", "BAD_SPARSE", |_| {
        archive(&[
            pax(&[
                ("GNU.sparse.size", "4611686018427387904"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.map", "0,3"),
            ]),
            file("f", "abc"),
        ])
    }),
    accept("G05_sparse_terabyte_of_nothing", |_| {
        archive(&[pax(&[("GNU.sparse.size", "1099511627776"), ("GNU.sparse.numblocks", "0")]), file("f", "")])
    })
    .heavy_to_read(),
    accept("G06_sparse_largest", |_| {
        archive(&[
            pax(&[("GNU.sparse.size", "17592186040320"), ("GNU.sparse.numblocks", "0")]),
            file("f", ""),
        ])
    })
    .heavy_to_read(),
    refuse("G06b_sparse_too_large", "BAD_SPARSE", |_| {
        archive(&[
            pax(&[("GNU.sparse.size", "17592186040321"), ("GNU.sparse.numblocks", "0")]),
            file("f", ""),
        ])
    }),
    accept("G07_gzip_zeros_in_a_file", |_| {
        let size = 16 << 20;
        let head = raw(b'0', "zeros").size(format!("{size:011o}\0")).bytes();
        gzip(&head, size + 1024)
    })
    .bomb(),
    accept("G08_zstd_zeros_in_a_file", |_| {
        let size = 16 << 20;
        let head = raw(b'0', "zeros").size(format!("{size:011o}\0")).bytes();
        zstd(&head, size + 1024)
    })
    .bomb(),
    accept("G09_gzip_zeros_behind_the_end", |_| gzip(&archive(&[file("f", "x")]), 64 << 20)).bomb(),
    accept("G10_zstd_zeros_behind_the_end", |_| zstd(&archive(&[file("f", "x")]), 64 << 20)).bomb(),
    refuse("G11_gzip_of_a_long_extension", "LIMIT_EXCEEDED", |_| {
        let size = 1 << 30;
        gzip(&raw(b'x', "x").size(format!("{size:011o}\0")).bytes(), 4 << 20)
    }),
    refuse("G12_zstd_window_of_2_gib", "LIMIT_EXCEEDED", |_| {
        // Magic, a descriptor without a content size, a window of 2^31, an empty last block.
        b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec()
    }),
    accept("G13_a_thousand_empty_gzip_members", |_| {
        let mut bytes = gzip(&archive(&[file("f", "x")]), 0);
        for _ in 0..1000 {
            bytes.extend(gzip(b"", 0));
        }
        bytes
    }),
    accept("G14_many_empty_zstd_frames", |_| {
        let mut bytes = zstd(b"", 0).repeat(2000);
        bytes.extend(zstd(&archive(&[file("f", "x")]), 0));
        bytes
    }),
    accept("G15_five_thousand_files", |_| {
        let bytes =
            (0..5_000).flat_map(|n| file(format!("d{}/f{n}", n % 7), "x").bytes()).collect::<Vec<_>>();
        gzip(&bytes, 1024)
    })
    .bomb(),
    accept("G16_two_thousand_directories", |_| {
        gzip(&(0..2_000).flat_map(|n| dir(format!("d{n}/e")).bytes()).collect::<Vec<_>>(), 1024)
    })
    .bomb(),
    accept("G17_one_name_two_thousand_times", |_| {
        gzip(&(0..2_000).flat_map(|n| file("f", format!("{n}")).bytes()).collect::<Vec<_>>(), 1024)
    })
    .bomb(),
    accept("G18_whiteouts_by_the_thousand", |_| {
        gzip(&(0..3_000).flat_map(|n| file(format!("etc/.wh.{n}"), "").bytes()).collect::<Vec<_>>(), 1024)
    })
    .bomb(),
    accept("G19_deep_and_deep_again", |_| {
        let mut entries = Vec::new();
        for n in 0..200 {
            entries.push(pax(&[("path", [&b"d/".repeat(1000)[..], format!("{n}").as_bytes()].concat())]));
            entries.push(file("f", "x"));
        }
        archive(&entries)
    })
    .heavy_to_read()
    .bomb(),
    accept("G20_deep_tree_replaced_by_a_file", |_| {
        archive(&[pax(&[("path", b"d/".repeat(1024))]), dir("x"), file("d", "flat")])
    }),
    accept("G21_deep_tree_hidden", |_| {
        archive(&[
            pax(&[("path", b"etc/".repeat(1000))]),
            dir("x"),
            file(".wh.etc", ""),
            file("etc/.wh..wh..opq", ""),
        ])
    })
    .heavy_to_read(),
    refuse("G22_moved_by_long_links", "LIMIT_EXCEEDED", |_| {
        // Each entry lies elsewhere than it is called, and both names are long.
        let long = [&[b'd'; 250][..], b"/"].concat().repeat(15);
        let mut bytes = members(&[pax(&[("linkpath", &long)]), symlink("s", "")]);
        for n in 0..6000 {
            bytes.extend(members(&[
                pax(&[("path", [&b"s/"[..], format!("{n}").as_bytes()].concat())]),
                hard("h", "etc/passwd"),
            ]));
        }
        gzip(&bytes, 1024)
    })
    .bomb(),
    accept("G23_warnings_by_the_thousand", |_| {
        let entry = members(&[pax(&[("SCHILY.xattr.nonsense", "z")]), file("f", "x")]);
        gzip(&entry.repeat(3000), 1024)
    })
    .bomb(),
    accept("G24_megabyte_of_attributes", |_| {
        let records: Vec<_> = (0..15).map(|n| (format!("VENDOR.{n}"), "v".repeat(65_000))).collect();
        archive(&[pax(&records), file("f", "x")])
    }),
    refuse("G25_claims_an_exbibyte", "TRUNCATED", |_| {
        archive(&[file("f", "x").size(b"\x80\0\0\0\x10\0\0\0\0\0\0\0")])
    }),
];

/// Bytes and then so many zeros, compressed with gzip.
pub fn gzip(bytes: &[u8], zeros: u64) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(bytes).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut out).unwrap();
    out.finish().unwrap()
}

/// Bytes and then so many zeros, compressed with zstd.
pub fn zstd(bytes: &[u8], zeros: u64) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 3).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(bytes).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut out).unwrap();
    out.finish().unwrap()
}
