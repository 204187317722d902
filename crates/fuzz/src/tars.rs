//! The tar reader and the tar record.

use std::io::Read;

use layerstore_changeset::compress::Decompressor;
use layerstore_changeset::record::{Recorder, assemble};
use layerstore_changeset::tar::{Reader, Writer};
use layerstore_changeset::{Change, ChangeSource, Chunk, Code, Error, Kind, Limits, RelPath};

/// Limits that keep one run short.
pub(crate) fn limits() -> Limits {
    Limits { entries: 20_000, bytes: 4 << 20, zstd_window_log: 22, ..Limits::default() }
}

/// A change, and a hash and the length of its data.
type Seen = (Change, u64, u64);

/// Reads a layer as a pull does, twice, and writes it again.
pub(crate) fn tar(data: &[u8]) {
    let Some(plain) = inflate(data) else { return };
    let first = read(&plain);
    match (&first, &read(&plain)) {
        (Ok(one), Ok(other)) => assert_eq!(one, other, "two readings of the same bytes differ"),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    match first {
        Ok(seen) => {
            record_gives_it_back(&plain, &seen);
            writer_gives_the_same_changes(&plain, &seen);
        }
        Err(error) => check_error(&error),
    }
}

/// The bytes of the tar, if they are not too many.
pub(crate) fn inflate(data: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    match Decompressor::detect(data, &limits()) {
        Err(error) => {
            check_error(&error);
            return None;
        }
        Ok(stream) => match stream.take(8 << 20).read_to_end(&mut plain) {
            Ok(count) if count < 8 << 20 => {}
            Ok(_) => return None,
            Err(error) => {
                let error = Error::stream("reading", error);
                assert!(error.code().is_some(), "a damaged stream has a code: {error}");
                check_error(&error);
                return None;
            }
        },
    }
    Some(plain)
}

/// A refusal is one line without control characters, and has a code.
pub(crate) fn check_error(error: &Error) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(error.code().is_some(), "{text}");
    assert!(text.len() < 2 << 20, "a message of {} bytes", text.len());
}

fn read(plain: &[u8]) -> Result<Vec<Seen>, Error> {
    let mut reader = Reader::new(plain, limits());
    let mut seen = Vec::new();
    while let Some(item) = reader.next()? {
        let (mut hash, mut length) = (0xcbf2_9ce4_8422_2325_u64, 0_u64);
        if let Some(data) = item.data {
            while let Some(chunk) = data.next_chunk()? {
                match chunk {
                    Chunk::Data(bytes) => {
                        assert!(!bytes.is_empty(), "an empty chunk");
                        for byte in bytes {
                            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                        }
                        length += bytes.len() as u64;
                    }
                    Chunk::Hole(count) => {
                        assert!(count > 0, "an empty hole");
                        hash = hash.wrapping_add(count.wrapping_mul(31));
                        length += count;
                    }
                }
            }
        }
        if let Change::Put(entry) = &item.change
            && let Kind::File { size } = entry.kind
        {
            assert_eq!(size, length, "chunks add up to the size");
        }
        seen.push((item.change, hash, length));
    }
    let done = reader.finish()?;
    assert_eq!(done.bytes, plain.len() as u64, "everything was read");
    Ok(seen)
}

/// The record and the data of the last entry of each name give the archive again, where no entry was replaced.
fn record_gives_it_back(plain: &[u8], seen: &[Seen]) {
    let mut names = std::collections::HashSet::new();
    if !seen.iter().all(|(change, ..)| names.insert(change.path().clone())) {
        return;
    }
    let recorder = Recorder::new(Vec::new()).unwrap();
    let done = Reader::recording(plain, limits(), recorder).finish().unwrap();
    let mut files = std::collections::HashMap::new();
    let mut reader = Reader::new(plain, limits());
    while let Some(item) = reader.next().unwrap() {
        let path = item.change.path().clone();
        if let Some(data) = item.data {
            let mut bytes = Vec::new();
            while let Some(Chunk::Data(more)) = data.next_chunk().unwrap() {
                bytes.extend_from_slice(more);
            }
            files.insert(path, bytes);
        }
    }
    let mut again = Vec::new();
    let mut open = |name: &[u8]| Ok(&**files.get(&RelPath::clean(name)?).expect("a file of the archive"));
    assemble(&*done.record.unwrap(), &mut open, &mut again).unwrap();
    assert!(again == plain, "the record gives another archive");
}

/// What our writer makes of the changes is read as the same changes.
fn writer_gives_the_same_changes(plain: &[u8], seen: &[Seen]) {
    // Large holes are written as what they are: zeros.
    if seen.iter().map(|(_, _, length)| length).sum::<u64>() > 4 << 20 {
        return;
    }
    // The writer leaves a whiteout out that the entry of the same name follows: it says nothing more.
    let follows = |pair: &[Seen]| matches!(pair, [(Change::Remove(gone), ..), (Change::Put(put), ..)] if *gone == put.path);
    if seen.windows(2).any(follows) {
        return;
    }
    let mut writer = Writer::new(Vec::new());
    match layerstore_changeset::stream::copy(&mut Reader::new(plain, limits()), &mut writer) {
        Ok(_) => {}
        Err(Error::Unrepresentable { .. }) => return,
        Err(error) => panic!("{error}"),
    }
    let written = writer.finish().unwrap();
    let again = read(&written).unwrap_or_else(|error| panic!("our own archive is refused: {error}"));
    assert_eq!(seen.len(), again.len());
    for ((one, ..), (other, ..)) in seen.iter().zip(&again) {
        assert_eq!(one, other, "our own archive reads differently");
    }
}

/// Puts an archive together from a record that somebody else wrote.
pub(crate) fn record(data: &[u8]) {
    let mut out = Sink(0);
    let mut open = |name: &[u8]| {
        assert!(name.len() <= data.len() * 1200, "a name that is longer than its record");
        Ok(&b"content"[..])
    };
    if let Err(error) = assemble(data, &mut open, &mut out)
        && !matches!(error.code(), Some(Code::LimitExceeded))
    {
        assert!(!error.to_string().chars().any(char::is_control), "{:?}", error.to_string());
    }
}

/// Takes so much and no more.
struct Sink(u64);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        if self.0 > 64 << 20 {
            return Err(Error::refused(Code::LimitExceeded, "out", "enough").into_io());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
