//! Changes inputs as fuzzers do, the same way in every run: by bits, bytes, numbers, pieces of other inputs, and,
//! since most archives would not survive that, by making the checksums of tar headers right again.

use layerstore_testkit::Random;

/// Pieces that matter to one of the formats.
const WORDS: &[&[u8]] = &[
    b"..",
    b"../",
    b"/",
    b".wh.",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0\0\0\0\0",
    b"path=",
    b"linkpath=",
    b"size=",
    b"GNU.sparse.",
    b"SCHILY.xattr.",
    b"trusted.overlay.opaque",
    b"-1",
    b"+5",
    b"99999999999999999999",
    b"77777777777\0",
    b"ustar\x0000",
    b"ustar  \0",
    b"sha256:",
    b"{",
    b"[",
    b"\"",
    b"\\u0000",
    b"1e999",
    b"null",
    b":",
    b"@",
    b"\n",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
];

/// A new input made of one or two others, at most `longest` bytes.
pub fn mutate(random: &mut Random, one: &[u8], other: &[u8], longest: usize) -> Vec<u8> {
    let mut bytes = one.to_vec();
    for _ in 0..=random.index(4) {
        let at = random.index(bytes.len());
        match random.index(12) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.index(8),
            1 if !bytes.is_empty() => bytes[at] = random.number().to_le_bytes()[0],
            2 => {
                let word = WORDS[random.index(WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            3 => {
                let word = WORDS[random.index(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => bytes.truncate(at),
            5 => {
                let length = random.index(64);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            // A block of another archive over, or between, those of this one.
            6 | 7 => {
                let blocks = other.len() / 512;
                if blocks > 0 {
                    let from = random.index(blocks) * 512;
                    let length = (1 + random.index(4)) * 512;
                    let piece = &other[from..(from + length).min(other.len())];
                    let at = at / 512 * 512;
                    let end = if random.index(2) == 0 { at } else { (at + piece.len()).min(bytes.len()) };
                    bytes.splice(at..end, piece.iter().copied());
                }
            }
            // A field of a header.
            8 | 9 if bytes.len() >= 512 => {
                const FIELDS: [(usize, usize); 11] = [
                    (0, 100),
                    (100, 8),
                    (108, 8),
                    (116, 8),
                    (124, 12),
                    (136, 12),
                    (156, 1),
                    (157, 100),
                    (257, 8),
                    (345, 155),
                    (329, 16),
                ];
                let (field, length) = FIELDS[random.index(FIELDS.len())];
                let start = at / 512 * 512 + field;
                if let Some(field) = bytes.get_mut(start..start + length) {
                    match random.index(4) {
                        0 => field[0] = random.number().to_le_bytes()[0],
                        1 => {
                            let word = WORDS[random.index(WORDS.len())];
                            for (to, from) in field.iter_mut().zip(word) {
                                *to = *from;
                            }
                        }
                        2 => field.fill(random.number().to_le_bytes()[0]),
                        _ => {
                            let number = random.index(600);
                            for (to, from) in field.iter_mut().zip(format!("{number:07o}\0").bytes()) {
                                *to = from;
                            }
                        }
                    }
                }
            }
            // A block twice.
            10 if bytes.len() >= 1024 => {
                let at = at / 512 * 512;
                let piece = bytes[at..(at + 512).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let start = random.index(other.len());
                let length = random.index(other.len() - start.min(other.len()) + 1);
                let piece = &other[start.min(other.len())..(start + length).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes.truncate(longest);
    if random.index(8) != 0 {
        fix_checksums(&mut bytes);
    }
    bytes
}

/// What libFuzzer does to an archive: its own changes (`plain`, which works in the buffer and says the new size)
/// with right checksums most of the time, and ours in between. Takes and gives the size used of `buffer`.
pub fn archive(
    buffer: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
    plain: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut random = Random::new(seed.into());
    match seed % 8 {
        0 => plain(buffer, size, most),
        1..=4 => {
            let size = plain(buffer, size, most);
            fix_checksums(&mut buffer[..size]);
            size
        }
        _ => {
            let changed = mutate(&mut random, &buffer[..size], &buffer[..size], most.min(buffer.len()));
            buffer[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
    }
}

/// Makes the checksum of everything right that looks like a tar header.
pub fn fix_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        let is_header = &block[257..262] == b"ustar" || (block[148..156].ends_with(b"\0 ") && block[0] != 0);
        if is_header {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
