//! A tar as a set of named files: its members are found once and then read where they lie.
//!
//! Invariants: memory grows with the number of members, which is bounded, never with what they claim; every
//! offset lies inside the file; links are followed inside the archive only and at most [`MAX_LINKS`] times. What
//! blobs hold is believed only because of digests, so that two readers that disagree about a damaged archive
//! cannot disagree about an image; a document that no digest vouches for is there once, and members that readers
//! cut differently are refused.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use layerstore_changeset::{Code, RelPath};
use layerstore_sys as sys;
use layerstore_sys::{Dir, FileType, Temporary};
use tar::{EntryType, Header, PaxExtensions};

use crate::blobs::Section;
use crate::compress;
use crate::document::{self, READ};
use crate::error::{Error, Result};
use crate::media::Compression;
use crate::source::OpenOptions;
use crate::transfer::transfer;

const BLOCK: u64 = 512;
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
        let file = open_uncompressed(path, options, subject)?;
        let found = index(&file, subject)?;
        Ok(Self { file, found })
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

/// Opens a file so that it can be read at any offset: what is no regular file is copied to one without a name.
pub(crate) fn open_file(path: &Path, options: &OpenOptions, subject: &str) -> Result<sys::File> {
    let system = |error| Error::system(READ, subject, error);
    let is_regular = sys::fs::stat(path).map_err(system)?.is_none_or(|stat| stat.kind == FileType::Regular);
    if is_regular {
        return sys::fs::open_regular(path).map_err(system);
    }
    spool(sys::fs::open_file(path).map_err(system)?, options, subject)
}

/// The start of a stream, of which nothing is copied that begins like no archive: an endless one would fill the disk.
fn start_of(stream: &mut impl Read, subject: &str) -> Result<Vec<u8>> {
    let no_archive = || Error::refused(Code::BadHeader, READ, subject, "it is no tar archive");
    let mut start = Vec::new();
    let mut read = |count, start: &mut Vec<u8>| {
        let read = stream.by_ref().take(count).read_to_end(start);
        read.map_err(|error| Error::from_io(READ, subject, error))
    };
    read(BLOCK, &mut start)?;
    let kind = Compression::detect(&start).map_err(|error| Error::changeset(READ, subject, error))?;
    match start.first_chunk() {
        _ if kind != Compression::None => {}
        Some(block) if layerstore_changeset::tar::is_header(block) => {}
        // An archive of nothing is zeros to its end.
        Some(block) if block.iter().all(|&byte| byte == 0) => {
            if read(MAX_EXTENSION, &mut start)? as u64 == MAX_EXTENSION {
                return Err(no_archive());
            }
        }
        Some(_) => return Err(no_archive()),
        None => {
            let reason = "the archive ends early or is no tar";
            return Err(Error::refused(Code::Truncated, READ, subject, reason));
        }
    }
    Ok(start)
}

/// As [`open_file`], uncompressed.
fn open_uncompressed(path: &Path, options: &OpenOptions, subject: &str) -> Result<Arc<sys::File>> {
    let refuse = |error| Error::changeset(READ, subject, error);
    let file = Arc::new(open_file(path, options, subject)?);
    let whole = compress::whole(Arc::clone(&file));
    if compress::detect(&whole).map_err(refuse)? == Compression::None {
        return Ok(file);
    }
    spool(compress::decoder(whole).map_err(refuse)?, options, subject).map(Arc::new)
}

/// Copies a stream into a file without a name.
fn spool(mut stream: impl Read, options: &OpenOptions, subject: &str) -> Result<sys::File> {
    let start = start_of(&mut stream, subject)?;
    let system = |error| Error::system(READ, subject, error);
    let dir = Dir::open(&options.temporary).map_err(system)?;
    let mut file = Temporary::new(&dir, 0o600).map_err(system)?;
    transfer(&mut io::Cursor::new(start).chain(stream), file.file_mut(), subject, &options.context)?;
    Ok(file.into_file())
}

/// Finds every member.
fn index(file: &sys::File, subject: &str) -> Result<Found> {
    let system = |error| Error::system(READ, subject, error);
    let length = file.stat().map_err(system)?.size;
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
        if file.read_full_at(&mut block, at).map_err(system)? < block.len() {
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
        let end = data.checked_add(size).filter(|end| *end <= length);
        let end = end.ok_or_else(|| refuse(Code::Truncated, "a member reaches beyond the end"))?;
        count += 1;
        if count > MAX_MEMBERS {
            return Err(refuse(Code::LimitExceeded, "the archive has more than 100,000 members"));
        }
        if is_extension {
            if size > MAX_EXTENSION {
                return Err(refuse(Code::BadExtension, "an extension header has more than 1 MiB"));
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            file.read_full_at(&mut bytes, data).map_err(system)?;
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
        at = end.next_multiple_of(BLOCK).min(length);
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
