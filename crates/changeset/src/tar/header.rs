//! One 512-byte tar header: its checksum, its dialect and its fields.
//!
//! ```text
//!   0 name 100 │ 100 mode 8 │ 108 uid 8 │ 116 gid 8 │ 124 size 12 │ 136 mtime 12 │ 148 checksum 8
//! 156 type 1 │ 157 link name 100 │ 257 magic and version 8 │ 265 user 32 │ 297 group 32
//! 329 device major 8 │ 337 device minor 8 │ 345 prefix 155 (ustar)
//! 345 atime 12, 357 ctime 12, …, 386 sparse 4×24, 482 extended 1, 483 real size 12 (GNU)
//! ```
//!
//! Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format". Where GNU tar, Go
//! and libarchive read one header differently, it is refused.

use crate::error::{Code, Error, Result};

/// Size of a header and unit of everything else.
pub(super) const BLOCK: usize = 512;

/// Which program's rules a header follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Before POSIX: no magic, no prefix, no devices' meaning beyond what is written.
    V7,
    /// POSIX.1-1988, also what PAX headers extend.
    Ustar,
    /// GNU tar's: times and sparse maps instead of the prefix.
    Gnu,
}

/// A header whose checksum is right.
#[derive(Debug, Clone)]
pub(super) struct Header {
    block: [u8; BLOCK],
    format: Format,
}

impl Header {
    /// Checks a block that is not all zero.
    ///
    /// # Errors
    /// `BAD_HEADER`.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self> {
        let header = Self { block: *block, format: Format::V7 };
        header.check_sum()?;
        let format = match header.field(257, 8) {
            b"ustar\x0000" => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar") => {
                return Err(header.bad("magic and version are neither POSIX's nor GNU's"));
            }
            _ => Format::V7,
        };
        let header = Self { format, ..header };
        header.check_prefix()?;
        Ok(header)
    }

    fn check_sum(&self) -> Result<()> {
        let wanted = octal(self.field(148, 8), true)
            .map_err(|_| self.bad("checksum cannot be read: this is not a tar archive"))?;
        // The checksum's own field counts as eight spaces.
        let own: u64 = self.field(148, 8).iter().map(|&b| u64::from(b)).sum();
        let sum = self.block.iter().map(|&b| u32::from(b)).sum::<u32>();
        if u64::from(sum) + 8 * 32 == wanted + own {
            return Ok(());
        }
        // Some old programs summed signed bytes; everybody accepts that too.
        let signed = |bytes: &[u8]| bytes.iter().map(|&b| i64::from(b.cast_signed())).sum::<i64>();
        if i64::try_from(wanted) == Ok(signed(&self.block) - signed(self.field(148, 8)) + 8 * 32) {
            return Ok(());
        }
        Err(self.bad("checksum is wrong: this is not a tar archive, or it is damaged"))
    }

    /// Refuses headers whose prefix some programs read and others don't.
    fn check_prefix(&self) -> Result<()> {
        match self.format {
            Format::V7 => Ok(()),
            Format::Ustar => {
                // star keeps times in the last 24 bytes of the prefix and says so at the end.
                if self.field(508, 4) == b"tar\0" && !self.field(345, 131).contains(&0) {
                    return Err(self.bad("prefix runs into star's times"));
                }
                Ok(())
            }
            Format::Gnu => {
                // Go reads a prefix here where there is no time; GNU tar never does.
                if self.field(345, 1) != b"\0" && number(self.field(345, 12), true).is_err() {
                    return Err(self.bad("GNU header with a POSIX prefix"));
                }
                Ok(())
            }
        }
    }

    /// Whose rules it follows.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The type flag.
    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The name, with the prefix where there is one.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        if self.format == Format::Ustar {
            let prefix = text(self.field(345, 155));
            if !prefix.is_empty() {
                return [prefix, name].join(&b'/');
            }
        }
        name.to_vec()
    }

    /// The link target's field.
    pub(super) fn link_name(&self) -> &[u8] {
        text(self.field(157, 100))
    }

    /// Bytes that follow the header, before padding.
    pub(super) fn size(&self) -> Result<u64> {
        self.unsigned("size", 124, 12, false)
    }

    /// Mode bits, more than permissions included.
    pub(super) fn mode(&self) -> Result<u64> {
        self.unsigned("mode", 100, 8, true)
    }

    /// The user id, whatever it is.
    pub(super) fn uid(&self) -> Result<u32> {
        self.id("user id", 108)
    }

    /// The group id, whatever it is.
    pub(super) fn gid(&self) -> Result<u32> {
        self.id("group id", 116)
    }

    /// Seconds since 1970, negative ones too.
    pub(super) fn mtime(&self) -> Result<i64> {
        number(self.field(136, 12), true).map_err(|reason| self.bad_number("time", reason))
    }

    /// The device's numbers.
    pub(super) fn device(&self) -> Result<(u64, u64)> {
        Ok((self.unsigned("device number", 329, 8, true)?, self.unsigned("device number", 337, 8, true)?))
    }

    /// The old GNU sparse map: its four entries, whether more follow, and the file's real size.
    pub(super) fn gnu_sparse(&self) -> (&[u8], bool, Result<u64>) {
        (self.field(386, 96), self.field(482, 1) != b"\0", self.unsigned("real size", 483, 12, false))
    }

    fn field(&self, at: usize, length: usize) -> &[u8] {
        self.block.get(at..at + length).unwrap_or_default()
    }

    fn unsigned(&self, what: &str, at: usize, length: usize, blank: bool) -> Result<u64> {
        let value = number(self.field(at, length), blank).map_err(|reason| self.bad_number(what, reason))?;
        u64::try_from(value).map_err(|_| self.bad_number(what, "is negative"))
    }

    fn id(&self, what: &str, at: usize) -> Result<u32> {
        match number(self.field(at, 8), true) {
            Ok(value) => id(value).ok_or_else(|| {
                Error::refused(Code::BadId, self.name(), format!("{what} {value} is not below 4294967295"))
            }),
            Err(OVERFLOW) => Err(Error::refused(Code::BadId, self.name(), format!("{what} {OVERFLOW}"))),
            Err(reason) => Err(self.bad_number(what, reason)),
        }
    }

    fn bad_number(&self, what: &str, reason: &str) -> Error {
        Error::refused(Code::BadNumeric, self.name(), format!("{what} {reason}"))
    }

    fn bad(&self, reason: &str) -> Error {
        Error::refused(Code::BadHeader, text(self.field(0, 100)), reason)
    }
}

/// An id, if it is one: 2^32-1 means "no change" to chown.
pub(super) fn id(value: i64) -> Option<u32> {
    u32::try_from(value).ok().filter(|&id| id != u32::MAX)
}

/// A field's bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

const OVERFLOW: &str = "does not fit";

/// Reads a number field: octal, or base-256 where the first bit is set.
pub(super) fn number(field: &[u8], blank: bool) -> Result<i64, &'static str> {
    match field.split_first() {
        Some((&first, rest)) if first & 0x80 != 0 => {
            // Two's complement of the field's width without its first bit.
            let mut value = i128::from(first & 0x7f);
            if first & 0x40 != 0 {
                value -= 0x80;
            }
            for &byte in rest {
                value = (value << 8) | i128::from(byte);
            }
            i64::try_from(value).map_err(|_| OVERFLOW)
        }
        _ => octal(field, blank).and_then(|value| i64::try_from(value).map_err(|_| OVERFLOW)),
    }
}

/// Reads octal digits, with spaces before and spaces and NULs behind. No digits are zero, but only where `blank`
/// allows spaces instead of them: GNU tar refuses those in a size.
fn octal(field: &[u8], blank: bool) -> Result<u64, &'static str> {
    let spaces = field.iter().take_while(|&&b| b == b' ').count();
    let rest = field.get(spaces..).unwrap_or_default();
    let digits = rest.iter().take_while(|b| (b'0'..=b'7').contains(b)).count();
    let (digits, tail) = rest.split_at(digits);
    if tail.iter().any(|&b| b != b' ' && b != 0) {
        return Err("is not an octal number");
    }
    if digits.is_empty() && !blank && field.contains(&b' ') {
        return Err("is blank");
    }
    // Twelve octal digits are 36 bits: no overflow.
    Ok(digits.iter().fold(0, |value, &digit| (value << 3) | u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"0000644\0", Ok(0o644))]
    #[case(b"   644 \0", Ok(0o644))]
    #[case(b"77777777", Ok(0o7777_7777))]
    #[case(b"\0\0\0\0\0\0\0\0", Ok(0))]
    #[case(b"        ", Ok(0))]
    #[case(b"\x80\0\0\0\0\0\x01\x00", Ok(256))]
    #[case(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2))]
    #[case(b"\x80\xff\xff\xff\xff\xff\xff\xff", Ok(0x00ff_ffff_ffff_ffff))]
    #[case(b"+5\0\0\0\0\0\0", Err("is not an octal number"))]
    #[case(b"-5\0\0\0\0\0\0", Err("is not an octal number"))]
    #[case(b"8\0\0\0\0\0\0\0", Err("is not an octal number"))]
    #[case(b"1\x001\0\0\0\0\0", Err("is not an octal number"))]
    fn numbers_are_octal_or_base_256(#[case] field: &[u8; 8], #[case] expected: Result<i64, &str>) {
        assert_eq!(number(field, true), expected);
    }

    #[test]
    fn a_number_over_63_bits_does_not_fit() {
        assert_eq!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", false), Err(OVERFLOW));
        assert_eq!(number(b"            ", false), Err("is blank"));
    }
}
