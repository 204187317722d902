//! A tar as a set of named files: its members are found once and then read where they lie.
//!
//! Invariants: memory grows with the number of members, which is bounded, never with what they claim; every
//! offset lies inside the file; links are followed inside the archive only and at most [`MAX_LINKS`] times. What
//! blobs hold is believed only because of digests, so that two readers that disagree about a damaged archive
//! cannot disagree about an image; a document that no digest vouches for is there once, and members that readers
//! cut differently are refused.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::{Code, RelPath};
use layerstore_sys as sys;
use tar::{EntryType, Header, PaxExtensions};

use crate::blobs::Section;
use crate::document::{self, READ};
use crate::error::{Error, Result};
use crate::source::OpenOptions;
use crate::spool::{BLOCK, Spool};

/// Most members; an image of 500 layers in docker's old form has 2,000.
const MAX_MEMBERS: usize = 100_000;
/// Largest extension header (a long name, PAX records).
const MAX_EXTENSION: u64 = 1 << 20;
/// Most bytes of names and of what links lead to, all members together.
const MAX_NAMES: usize = 8 << 20;
/// Longest chain of links.
const MAX_LINKS: usize = 16;

/// An open archive.
#[derive(Debug)]
pub(crate) struct TarBall {
    file: Arc<sys::File>,
    found: Found,
}

/// What is in the archive.
#[derive(Debug, Default)]
struct Found {
    members: HashMap<RelPath, Member>,
    /// Names that came more than once; the last member counts.
    repeated: HashSet<RelPath>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    File {
        at: u64,
        end: u64,
    },
    /// Leads to another member.
    Link(RelPath),
    /// Is there, but holds no data that could be read as it lies: the reason.
    Other(&'static str),
}

impl TarBall {
    /// Opens the archive at `path`. One that is compressed or no regular file is unpacked into a file without a
    /// name first.
    pub(crate) fn open(path: &Path, options: &OpenOptions, subject: &str) -> Result<Self> {
        let mut file = Spool::open_uncompressed(path, options, subject)?;
        let found = index(&mut file)?;
        Ok(Self { file: Arc::new(file.into_file()), found })
    }

    /// Whether there is a member of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        RelPath::clean(name.as_bytes()).is_ok_and(|path| self.found.members.contains_key(&path))
    }

    /// A member's data; none when there is no such name. Of several of one name the last counts, which is
    /// right only for what is checked against a digest.
    pub(crate) fn member(&self, name: &str, subject: &str) -> Result<Option<Section>> {
        self.resolve(name, subject, false)
    }

    fn resolve(&self, name: &str, subject: &str, once: bool) -> Result<Option<Section>> {
        let refuse = |error| Error::changeset(READ, subject, error);
        let mut path = RelPath::clean(name.as_bytes()).map_err(refuse)?;
        for _ in 0..MAX_LINKS {
            if once && self.found.repeated.contains(&path) {
                // docker takes the last one, skopeo the first.
                let reason =
                    format!("{path} is in the archive more than once, and programs differ in which counts");
                return Err(Error::refused(Code::BadDocument, READ, subject, reason));
            }
            match self.found.members.get(&path) {
                None => return Ok(None),
                Some(Member::File { at, end }) => {
                    return Ok(Some(Section::new(Arc::clone(&self.file), *at, *end)));
                }
                Some(Member::Link(target)) => path = target.clone(),
                Some(Member::Other(what)) => {
                    let reason = format!("{path} in the archive is {what}");
                    return Err(Error::refused(Code::BadType, READ, subject, reason));
                }
            }
        }
        Err(Error::refused(
            Code::SymlinkLoop,
            READ,
            subject,
            format!("{path} in the archive links in a circle"),
        ))
    }

    /// A small member, whole, which may be there only once.
    pub(crate) fn document(&self, name: &str, subject: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut section) = self.resolve(name, subject, true)? else { return Ok(None) };
        document::check_size(section.remaining(), &format!("{name} in {subject}"))?;
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(|error| Error::from_io(READ, subject, error))?;
        Ok(Some(bytes))
    }
}

/// Finds every member. Nothing is read beyond the mark at the archive's end.
fn index(file: &mut Spool<'_>) -> Result<Found> {
    let subject = file.subject;
    let mut archive = Found::default();
    let mut extension = Extension::default();
    let mut at = 0;
    let mut count = 0;
    let mut names = 0;
    loop {
        let refuse = |code, reason: &str| {
            Error::refused(code, READ, subject, format!("{reason} (at byte {at} of the archive)"))
        };
        let mut block = [0; BLOCK as usize];
        let length = file.reach(at + BLOCK)?;
        if file.read_full_at(&mut block, at)? < block.len() {
            // Archives that end without an end mark are accepted by every reader; half a block is not.
            if at == length && count > 0 && extension.kinds.is_empty() {
                break;
            }
            return Err(refuse(Code::Truncated, "the archive ends early or is no tar"));
        }
        if block.iter().all(|&byte| byte == 0) {
            if !extension.kinds.is_empty() {
                return Err(refuse(Code::BadExtension, "an extension header that no member follows"));
            }
            break;
        }
        let header = Header::from_byte_slice(&block);
        check_header(header, &block).map_err(|reason| refuse(Code::BadHeader, reason))?;
        let size = header.entry_size().map_err(|_| refuse(Code::BadNumeric, "the size cannot be read"))?;
        let kind = header.entry_type();
        let is_extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        let size = if is_extension { size } else { extension.size.unwrap_or(size) };
        if size > 0 && matches!(kind.as_byte(), b'1'..=b'6') {
            return Err(refuse(Code::BadHeader, "a link, directory or device that claims data"));
        }
        // The rest of its map stands outside of what its size says.
        if kind.is_gnu_sparse() && block.get(482) != Some(&0) {
            return Err(refuse(Code::BadSparse, "a sparse file in many pieces"));
        }
        let data = at + BLOCK;
        let beyond = || refuse(Code::Truncated, "a member reaches beyond the end");
        let end = data.checked_add(size).ok_or_else(beyond)?;
        if file.reach(end)? < end {
            return Err(beyond());
        }
        count += 1;
        if count > MAX_MEMBERS {
            return Err(refuse(Code::LimitExceeded, "the archive has more than 100,000 members"));
        }
        if is_extension {
            if size > MAX_EXTENSION {
                return Err(refuse(Code::BadExtension, "an extension header has more than 1 MiB"));
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            file.read_full_at(&mut bytes, data)?;
            extension.take_in(kind, &bytes).map_err(|reason| refuse(Code::BadExtension, reason))?;
        } else {
            let found = std::mem::take(&mut extension).member(header, data, end);
            let (path, member) = found.map_err(|error| Error::changeset(READ, subject, error.at(at)))?;
            if let Some(member) = member {
                names += path.as_bytes().len();
                if let Member::Link(target) = &member {
                    names += target.as_bytes().len();
                }
                if names > MAX_NAMES {
                    return Err(refuse(Code::LimitExceeded, "the names of its members take more than 8 MiB"));
                }
                match archive.members.entry(path) {
                    Entry::Vacant(place) => drop(place.insert(member)),
                    Entry::Occupied(mut place) => {
                        place.insert(member);
                        archive.repeated.insert(place.key().clone());
                    }
                }
            }
        }
        // A last member without its padding is what Go readers accept too.
        let padded = end.next_multiple_of(BLOCK);
        at = padded.min(file.reach(padded)?);
    }
    Ok(archive)
}

/// What is wrong with a header, if anything is.
fn check_header(header: &Header, block: &[u8]) -> Result<(), &'static str> {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(place, &byte)| if (148..156).contains(&place) { 32 } else { u32::from(byte) })
        .sum();
    match header.cksum() {
        Ok(claimed) if claimed == sum => Ok(()),
        _ => Err("the header's checksum is wrong: the file is damaged or no tar"),
    }
}

/// What extension headers say about the next member.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    /// The kinds of headers that came, each of which comes once.
    kinds: Vec<u8>,
}

impl Extension {
    fn take_in(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), &'static str> {
        let until_nul = || bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_pax_global_extensions() {
            return check_global(bytes);
        }
        // Of two that say the same readers take the first or the last, of PAX and GNU's this or that.
        let others = || self.kinds.iter().any(|&other| (other == b'x') != kind.is_pax_local_extensions());
        if self.kinds.contains(&kind.as_byte()) || others() {
            return Err("several extension headers speak of one member");
        }
        self.kinds.push(kind.as_byte());
        if kind.is_gnu_longname() {
            self.name = Some(until_nul());
        } else if kind.is_gnu_longlink() {
            self.link = Some(until_nul());
        } else if kind.is_pax_local_extensions() {
            for record in PaxExtensions::new(bytes) {
                let record = record.map_err(|_| "a PAX record is malformed")?;
                match record.key_bytes() {
                    b"path" => self.name = Some(record.value_bytes().to_vec()),
                    b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                    b"size" => {
                        // Rust's numbers may begin with a plus, which some readers take and others do not.
                        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
                        let size = record.value().ok().filter(digits).and_then(|text| text.parse().ok());
                        self.size = Some(size.ok_or("a PAX size cannot be read")?);
                    }
                    key => self.sparse |= key.starts_with(b"GNU.sparse."),
                }
            }
        }
        Ok(())
    }

    /// The member that a header describes; none for directories and the like.
    fn member(
        self,
        header: &Header,
        at: u64,
        end: u64,
    ) -> layerstore_changeset::Result<(RelPath, Option<Member>)> {
        let name = self.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = RelPath::clean(&name)?;
        let link = || {
            let header = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            self.link.clone().or_else(header).unwrap_or_default()
        };
        let member = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if self.sparse => Member::Other("a sparse file"),
            EntryType::Regular | EntryType::Continuous => Member::File { at, end },
            EntryType::GNUSparse => Member::Other("a sparse file"),
            EntryType::Link => Member::Link(RelPath::clean(&link())?),
            EntryType::Symlink => {
                let parent = path.parent().unwrap_or_default();
                Member::Link(RelPath::clean(&[parent.as_bytes(), b"/", &link()].concat())?)
            }
            EntryType::Directory => return Ok((path, None)),
            _ => Member::Other("neither a file nor a link"),
        };
        Ok((path, Some(member)))
    }
}

/// Refuses global records that name members or measure them: some readers apply them, others do not. Nothing else
/// in them matters here.
fn check_global(bytes: &[u8]) -> Result<(), &'static str> {
    for record in PaxExtensions::new(bytes) {
        let record = record.map_err(|_| "a PAX record is malformed")?;
        if matches!(record.key_bytes(), b"path" | b"linkpath" | b"size") {
            return Err("a global PAX record names or measures members");
        }
    }
    Ok(())
}
