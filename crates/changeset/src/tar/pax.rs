//! PAX extended headers: records of `LENGTH KEY=VALUE\n` that change the entry after them.
//!
//! Source: POSIX.1-2017 pax, "pax Extended Header"; the vendors' keys: star (`SCHILY.*`), libarchive
//! (`LIBARCHIVE.*`), GNU tar (`GNU.sparse.*`, `RHT.security.selinux`). Of a key that occurs twice the last record
//! counts. Records are cut by their declared length and checked against it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::header::id;
use super::sparse::Keys;
use crate::change::{Time, Xattrs};
use crate::encoding::xattr::is_reserved;
use crate::error::{Code, Error, Result};
use crate::limits::Limits;

/// libarchive leaves the padding out; others may not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// Longest name of an extended attribute (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;

/// What an extended header says about the entry after it.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) xattrs: Xattrs,
    /// libarchive's own form, which [`Pax::xattrs`] beats.
    libarchive: Xattrs,
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
    pub(super) sparse: Keys,
    /// Whether a reserved attribute was left out.
    pub(super) reserved: bool,
    /// Whether an NFSv4 ACL was left out.
    pub(super) nfs4_acl: bool,
}

impl Pax {
    /// Reads the records of one header, whose own name is `name`.
    ///
    /// # Errors
    /// `BAD_EXTENSION`, `BAD_NUMERIC`, `BAD_ID`, `NUL_IN_NAME`, `XATTR_TOO_BIG`, `BAD_SPARSE`.
    pub(super) fn parse(mut data: &[u8], name: &[u8], limits: &Limits) -> Result<Self> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (key, value) = record(&mut data, name)?;
            pax.take(key, value, name, limits)?;
        }
        for (key, value) in std::mem::take(&mut pax.libarchive) {
            pax.xattrs.entry(key).or_insert(value);
        }
        if pax.xattrs.len() > limits.xattrs {
            return Err(Error::refused(
                Code::XattrTooBig,
                name,
                format!("more than {} extended attributes", limits.xattrs),
            ));
        }
        Ok(pax)
    }

    /// Checks a global header: it may say nothing that changes what an entry is called or where it ends. What
    /// else it says is left alone, as Go and libarchive do; answers whether there was such a thing.
    ///
    /// # Errors
    /// `BAD_EXTENSION`.
    pub(super) fn check_global(mut data: &[u8], name: &[u8]) -> Result<bool> {
        let mut ignored = false;
        while !data.is_empty() {
            let (key, _) = record(&mut data, name)?;
            let decisive = [&b"path"[..], b"linkpath", b"size", b"uid", b"gid"].contains(&key);
            if decisive || key.starts_with(b"GNU.sparse.") {
                return Err(bad(name, format!("global header sets {}", key.escape_ascii())));
            }
            ignored |= key == b"mtime" || key.starts_with(b"SCHILY.xattr.");
        }
        Ok(ignored)
    }

    fn take(&mut self, key: &[u8], value: &[u8], name: &[u8], limits: &Limits) -> Result<()> {
        let number = || decimal(value).map_err(|reason| bad_number(name, key, value, reason));
        match key {
            b"path" => self.path = Some(path(key, value, name)?),
            b"linkpath" => self.link_path = Some(path(key, value, name)?),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(owner(key, value, name)?),
            b"gid" => self.gid = Some(owner(key, value, name)?),
            b"mtime" => {
                self.mtime = Some(time(value).map_err(|reason| bad_number(name, key, value, reason))?)
            }
            b"SCHILY.devmajor" => self.major = Some(number()?),
            b"SCHILY.devminor" => self.minor = Some(number()?),
            b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
            b"SCHILY.acl.ace" => self.nfs4_acl = true,
            b"RHT.security.selinux" => self.reserved = true,
            _ => {
                if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(gnu_unescaped(xattr), value.into(), true, name, limits)?;
                } else if let Some(xattr) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let decoded = BASE64.decode(value);
                    let decoded = decoded.map_err(|_| bad(name, "LIBARCHIVE.xattr is not base64"))?;
                    self.xattr(url_unescaped(xattr), decoded.into(), false, name, limits)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value, name)?;
                }
                // Names of users and groups, other times, comments, character sets: not a layer's business.
            }
        }
        Ok(())
    }

    fn xattr(
        &mut self,
        xattr: Vec<u8>,
        value: Box<[u8]>,
        schily: bool,
        name: &[u8],
        limits: &Limits,
    ) -> Result<()> {
        if is_reserved(&xattr) {
            self.reserved = true;
            return Ok(());
        }
        let shown = xattr.escape_ascii();
        if xattr.is_empty() || xattr.contains(&0) {
            return Err(bad(name, format!("extended attribute with the bad name \"{shown}\"")));
        }
        if xattr.len() > MAX_XATTR_NAME || value.len() > limits.xattr_value_bytes {
            return Err(Error::refused(
                Code::XattrTooBig,
                name,
                format!(
                    "extended attribute {shown}: its name is {} bytes long, of at most {MAX_XATTR_NAME}, and its \
                     value {}, of at most {}",
                    xattr.len(),
                    value.len(),
                    limits.xattr_value_bytes
                ),
            ));
        }
        let to = if schily { &mut self.xattrs } else { &mut self.libarchive };
        to.insert(xattr.into(), value);
        Ok(())
    }
}

/// Cuts one record off `data`.
fn record<'a>(data: &mut &'a [u8], name: &[u8]) -> Result<(&'a [u8], &'a [u8])> {
    let all = *data;
    let space = all.iter().position(|&b| b == b' ').ok_or_else(|| bad(name, "record without a length"))?;
    let (digits, _) = all.split_at(space);
    let length = decimal(digits).map_err(|reason| bad(name, format!("record's length {reason}")))?;
    let (record, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| all.split_at_checked(length))
        .ok_or_else(|| bad(name, "record is longer than its header"))?;
    let content = record.get(space + 1..).and_then(|content| content.strip_suffix(b"\n"));
    let content = content.ok_or_else(|| bad(name, "record does not end where its length says"))?;
    let equals =
        content.iter().position(|&b| b == b'=').ok_or_else(|| bad(name, "record without a value"))?;
    let (key, value) = (content.get(..equals), content.get(equals + 1..));
    let (Some(key @ [_, ..]), Some(value)) = (key, value) else {
        return Err(bad(name, "record without a key"));
    };
    if key.contains(&0) {
        return Err(bad(name, "NUL in a record's key"));
    }
    *data = rest;
    Ok((key, value))
}

/// A name, which must be one that every program reads alike.
pub(super) fn path(key: &[u8], value: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    if value.is_empty() {
        return Err(bad(name, format!("{} is empty", key.escape_ascii())));
    }
    if value.contains(&0) {
        return Err(Error::refused(Code::NulInName, value, format!("NUL in {}", key.escape_ascii())));
    }
    Ok(value.to_vec())
}

/// Reads a number: decimal digits and nothing else, below 2^63.
pub(super) fn decimal(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err("is not a decimal number");
    }
    value
        .iter()
        .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .and_then(|sum| u64::try_from(sum).ok())
        .ok_or("does not fit")
}

fn owner(key: &[u8], value: &[u8], name: &[u8]) -> Result<u32> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    match decimal(digits) {
        Ok(number) if digits.len() == value.len() => i64::try_from(number).ok().and_then(id),
        Ok(_) | Err("does not fit") => None,
        Err(reason) => return Err(bad_number(name, key, value, reason)),
    }
    .ok_or_else(|| {
        let shown = value.escape_ascii();
        Error::refused(Code::BadId, name, format!("{} {shown} is not below 4294967295", key.escape_ascii()))
    })
}

/// Reads a time: `[-]SECONDS[.FRACTION]`, rounded down to nanoseconds.
fn time(value: &[u8]) -> Result<Time, &'static str> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let dot = value.iter().position(|&b| b == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(dot);
    let whole = i64::try_from(decimal(whole)?).map_err(|_| "does not fit")?;
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("is not a decimal number");
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let finer = fraction.get(9..).unwrap_or_default().iter().any(|&b| b != b'0');
    if !negative {
        return Ok(Time { seconds: whole, nanos });
    }
    // Below zero, down means away from it.
    let nanos = nanos + u32::from(finer);
    Ok(match nanos {
        0 => Time { seconds: -whole, nanos: 0 },
        nanos => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// GNU tar writes `=` in an attribute's name as `%3D`, and `%` as `%25`.
fn gnu_unescaped(name: &[u8]) -> Vec<u8> {
    unescaped(name, |code| matches!(code, b'=' | b'%'))
}

/// libarchive escapes whatever is not plain.
fn url_unescaped(name: &[u8]) -> Vec<u8> {
    unescaped(name, |_| true)
}

fn unescaped(mut name: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    while let Some((&first, rest)) = name.split_first() {
        let code = rest
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|&code| wanted(code));
        out.push(code.unwrap_or(first));
        name = if code.is_some() { rest.get(2..).unwrap_or_default() } else { rest };
    }
    out
}

fn bad(name: &[u8], reason: impl std::fmt::Display) -> Error {
    Error::refused(Code::BadExtension, name, format!("extended header: {reason}"))
}

fn bad_number(name: &[u8], key: &[u8], value: &[u8], reason: &str) -> Error {
    let (key, value) = (key.escape_ascii(), value.escape_ascii());
    Error::refused(Code::BadNumeric, name, format!("{key} {value} {reason}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", Ok((0, 0)))]
    #[case("12.5", Ok((12, 500_000_000)))]
    #[case("12.", Ok((12, 0)))]
    #[case("1.0000000019", Ok((1, 1)))]
    #[case("-1", Ok((-1, 0)))]
    #[case("-1.5", Ok((-2, 500_000_000)))]
    #[case("-0.000000001", Ok((-1, 999_999_999)))]
    #[case("-0.0000000001", Ok((-1, 999_999_999)))]
    #[case("-0.9999999999", Ok((-1, 0)))]
    #[case("9223372036854775807", Ok((i64::MAX, 0)))]
    #[case("-9223372036854775807.1", Ok((i64::MIN, 900_000_000)))]
    #[case("9223372036854775808", Err(()))]
    #[case("nan", Err(()))]
    #[case("+5", Err(()))]
    #[case(".5", Err(()))]
    #[case("1e3", Err(()))]
    #[case("", Err(()))]
    fn times_are_read_to_the_nanosecond(#[case] text: &str, #[case] expected: Result<(i64, u32), ()>) {
        let got = time(text.as_bytes()).map(|time| (time.seconds, time.nanos)).map_err(|_| ());
        assert_eq!(got, expected);
    }

    #[test]
    fn escapes_in_names_of_attributes_are_taken_back() {
        assert_eq!(gnu_unescaped(b"user.a%3Db%25c%20d%"), b"user.a=b%c%20d%");
        assert_eq!(url_unescaped(b"user.a%20b%3"), b"user.a b%3");
    }
}
