//! POSIX ACLs in the text form of star's `SCHILY.acl.*` records, turned into the kernel's attribute.
//!
//! ```text
//! user::rwx,user:lisa:r-x:1000,group::r-x,mask::r-x,other::---     libarchive: the id in a fourth field
//! user::rwx\nuser:1000:r-x\n…                                      GNU tar: a name, or an id without one
//!
//! attribute: version 2 (u32) │ tag (u16), permissions (u16), id (u32) │ …     little-endian, sorted by tag and id
//! ```
//!
//! Sources: acl(5); Linux, include/uapi/linux/posix_acl_xattr.h. Names without an id cannot be turned into one:
//! the host's users are not the image's.

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

/// The attribute's value, or none where the text cannot be understood.
pub(super) fn to_xattr(text: &[u8]) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    for line in text.split(|&b| b == b'\n' || b == b',') {
        // What follows a `#` is a comment.
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        if !line.is_empty() {
            entries.push(entry(line.strip_prefix(b"default:").unwrap_or(line))?);
        }
    }
    entries.sort_unstable();
    let has = |wanted| entries.iter().filter(|&&(tag, _, _)| tag == wanted).count() == 1;
    if !(has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER)) {
        return None;
    }
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Some(value)
}

/// Whether an attribute says no more than the mode does.
pub(super) fn is_minimal(value: &[u8]) -> bool {
    value.len() == 4 + 3 * 8
}

fn entry(line: &[u8]) -> Option<(u16, u32, u16)> {
    let mut fields = line.split(|&b| b == b':').map(<[u8]>::trim_ascii);
    let (tag, who, permissions, id) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
    let (tag, named) = match tag {
        b"user" | b"u" => (USER_OBJ, USER),
        b"group" | b"g" => (GROUP_OBJ, GROUP),
        b"mask" | b"m" => (MASK, MASK),
        b"other" | b"o" => (OTHER, OTHER),
        _ => return None,
    };
    let permissions = permissions.iter().try_fold(0, |sum, letter| match letter {
        b'r' => Some(sum | 4),
        b'w' => Some(sum | 2),
        b'x' => Some(sum | 1),
        b'-' => Some(sum),
        _ => None,
    })?;
    if who.is_empty() {
        return Some((tag, NO_ID, permissions));
    }
    let id = std::str::from_utf8(id.unwrap_or(who)).ok()?.parse().ok().filter(|&id| id != NO_ID)?;
    (named != tag).then_some((named, id, permissions))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const EXPECTED: &str = "02000000\
        01000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000000ffffffff";

    #[rstest]
    #[case("user::rwx,user:lisa:r-x:1000,group::r-x,mask::r-x,other::---")]
    #[case("user::rwx\nuser:1000:r-x\ngroup::r-x\nmask::r-x\nother::---\n")]
    #[case("other::---\nmask::r-x\ngroup::r-x\nuser:1000:r-x #effective:r-x\nuser::rwx")]
    fn text_becomes_the_kernels_attribute(#[case] text: &str) {
        let value = to_xattr(text.as_bytes()).unwrap();
        assert_eq!(value.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), EXPECTED);
        assert!(!is_minimal(&value));
    }

    #[rstest]
    #[case("user::rwx,user:lisa:r-x,group::r-x,mask::r-x,other::---")]
    #[case("user::rwx,group::r-x")]
    #[case("owner@:rwx::allow")]
    #[case("")]
    fn what_cannot_be_understood_gives_nothing(#[case] text: &str) {
        assert_eq!(to_xattr(text.as_bytes()), None);
    }
}
