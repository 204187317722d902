//! Tar archives made of raw bytes, by no tar library, so that every lie can be told.
//!
//! A header begins as a right one ([`raw`]); each field can be overwritten ([`Raw::at`]), and the checksum is made
//! right at the end unless it is set by hand ([`Raw::checksum`]). The layout is drawn in POSIX.1-2017 pax, "ustar
//! Interchange Format".

/// A header that is being made, and the payload after it.
#[derive(Debug, Clone)]
pub struct Raw {
    block: Box<[u8; 512]>,
    payload: Vec<u8>,
    fixed_size: bool,
    fixed_checksum: bool,
}

/// An entry of any type: mode 0644, owner 0:0, time 0, POSIX magic.
pub fn raw(kind: u8, name: impl AsRef<[u8]>) -> Raw {
    let block = Box::new([0; 512]);
    let raw = Raw { block, payload: Vec::new(), fixed_size: false, fixed_checksum: false };
    let raw = raw.at(0, name).at(100, "0000644\0").at(108, "0000000\0").at(116, "0000000\0");
    let raw = raw.at(136, "00000000000\0").at(156, [kind]).at(257, "ustar\x0000");
    raw.at(329, "0000000\0").at(337, "0000000\0")
}

/// A regular file.
pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Raw {
    raw(b'0', name).data(data)
}

/// A directory, mode 0755.
pub fn dir(name: impl AsRef<[u8]>) -> Raw {
    raw(b'5', name).mode(0o755)
}

/// A link of either kind: `b'1'` is hard, `b'2'` symbolic.
pub fn link(kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    raw(kind, name).at(157, target)
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    link(b'2', name, target)
}

/// A hard link.
pub fn hard(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    link(b'1', name, target)
}

/// A device: `b'3'` is a character device, `b'4'` a block device.
pub fn device(kind: u8, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Raw {
    raw(kind, name).at(329, format!("{major:07o}\0")).at(337, format!("{minor:07o}\0"))
}

impl Raw {
    /// Overwrites bytes of the header.
    #[must_use]
    pub fn at(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.block[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The mode field.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        self.at(100, format!("{mode:07o}\0"))
    }

    /// Both owner fields.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.at(108, format!("{uid:07o}\0")).at(116, format!("{gid:07o}\0"))
    }

    /// The time field, in seconds.
    #[must_use]
    pub fn mtime(self, seconds: u64) -> Self {
        self.at(136, format!("{seconds:011o}\0"))
    }

    /// GNU's magic.
    #[must_use]
    pub fn gnu(self) -> Self {
        self.at(257, "ustar  \0")
    }

    /// No magic, and nothing behind it.
    #[must_use]
    pub fn v7(self) -> Self {
        self.at(257, [0; 255])
    }

    /// The payload; the size follows it.
    #[must_use]
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.payload = data.as_ref().to_vec();
        self
    }

    /// The size as it stands in the header, whatever the payload's is.
    #[must_use]
    pub fn size(mut self, field: impl AsRef<[u8]>) -> Self {
        self.fixed_size = true;
        self.at(124, [0; 12]).at(124, field)
    }

    /// The checksum as it stands in the header, right or not.
    #[must_use]
    pub fn checksum(mut self, field: impl AsRef<[u8]>) -> Self {
        self.fixed_checksum = true;
        self.at(148, [0; 8]).at(148, field)
    }

    /// Header and payload, padded to blocks.
    pub fn bytes(mut self) -> Vec<u8> {
        if !self.fixed_size {
            let size = format!("{:011o}\0", self.payload.len());
            self = self.at(124, size);
        }
        if !self.fixed_checksum {
            self = self.at(148, "        ");
            let sum: u32 = self.block.iter().map(|&b| u32::from(b)).sum();
            self = self.at(148, format!("{sum:06o}\0 "));
        }
        let mut bytes = self.block.to_vec();
        bytes.extend(&self.payload);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// One record of a PAX header, with its right length.
///
/// # Panics
/// Never: a length has at most as many digits as there are numbers to try.
pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = [b" ", key.as_ref(), b"=", value.as_ref(), b"\n"].concat();
    let length =
        (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap() + rest.len();
    [length.to_string().as_bytes(), &rest].concat()
}

/// A PAX header with these records.
pub fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: &[(K, V)]) -> Raw {
    raw(b'x', "PaxHeaders/x")
        .data(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

/// A global PAX header with these records.
pub fn global(records: &[(&str, &[u8])]) -> Raw {
    raw(b'g', "pax_global_header")
        .data(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

/// A GNU long name (`b'L'`) or long link target (`b'K'`).
pub fn gnu_long(kind: u8, text: impl AsRef<[u8]>) -> Raw {
    raw(kind, "././@LongLink").gnu().data([text.as_ref(), b"\0"].concat())
}

/// The entries one after the other, with the end mark.
pub fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut bytes = members(entries);
    bytes.extend([0; 1024]);
    bytes
}

/// The entries one after the other, without an end mark.
pub fn members(entries: &[Raw]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.clone().bytes()).collect()
}
