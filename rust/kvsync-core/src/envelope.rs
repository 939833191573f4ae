//! The 24 bytes in front of every index object: kind, version, length, checksum, compression.

use std::borrow::Cow;
use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};

/// Bytes in front of the body.
pub const HEADER: usize = 24;
/// The format version that is written, and the highest that is read.
pub const VERSION: u8 = 1;
/// A body may be at most this many times as long as it is stored.
pub const RATIO_MAX: u64 = 512;

const MAGIC: [u8; 4] = *b"kvsy";
const COMPRESSED: u16 = 1;
const ZSTD_LEVEL: i32 = 3;
const CHECKSUM: std::ops::Range<usize> = 16..24;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An immutable sorted set of changes.
    Segment = 1,
    /// The mutable record of a replica.
    Manifest = 2,
    /// The lock.
    Lease = 3,
    /// What the last scan saw.
    Inventory = 4,
    /// A value that lost a conflict.
    Lost = 5,
}

impl TryFrom<u8> for Kind {
    type Error = Error;

    fn try_from(kind: u8) -> Result<Self> {
        match kind {
            1 => Ok(Self::Segment),
            2 => Ok(Self::Manifest),
            3 => Ok(Self::Lease),
            4 => Ok(Self::Inventory),
            5 => Ok(Self::Lost),
            _ => Err(Error::BadArgument {
                problem: "unknown kind of index object",
            }),
        }
    }
}

/// Check an object's envelope and give its body, decompressed where it has to be.
///
/// # Errors
/// [`Error::Damaged`] where a check fails, [`Error::Newer`] for an intact object of a higher version.
pub fn open(kind: Kind, data: &[u8]) -> Result<Cow<'_, [u8]>> {
    let Some((header, stored)) = data.split_first_chunk::<HEADER>() else {
        return Err(Error::damaged(data.len(), "shorter than its envelope"));
    };
    if !header.starts_with(&MAGIC) {
        return Err(Error::damaged(0, "not an index object"));
    }
    if checksum_of(header, stored).to_le_bytes() != header[CHECKSUM] {
        return Err(Error::damaged(CHECKSUM.start, "checksum does not match"));
    }
    match header[5] {
        VERSION => {}
        0 => return Err(Error::damaged(5, "format version 0")),
        version => return Err(Error::Newer { version }),
    }
    if header[4] != kind as u8 {
        return Err(Error::damaged(4, "an object of another kind"));
    }
    let flags = u16::from_le_bytes([header[6], header[7]]);
    if flags & !COMPRESSED != 0 {
        return Err(Error::damaged(6, "unknown flags"));
    }
    let length = little_endian(header, 8);
    if flags == COMPRESSED {
        inflate(stored, length).map(Cow::Owned)
    } else if length == stored.len() as u64 {
        Ok(Cow::Borrowed(stored))
    } else {
        Err(Error::damaged(8, "length does not match"))
    }
}

/// What an opened object lies in: the bytes that were given, never copied, or bytes of its own.
#[derive(Debug, Clone)]
pub enum Body<B> {
    /// The whole object as given.
    Shared(B),
    /// A body alone, decompressed or just made.
    Owned(Vec<u8>),
}

impl<B: AsRef<[u8]>> Body<B> {
    /// As [`open`], with where the body begins.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(kind: Kind, data: B) -> Result<(Self, usize)> {
        match open(kind, data.as_ref())? {
            Cow::Owned(body) => Ok((Self::Owned(body), 0)),
            Cow::Borrowed(_) => Ok((Self::Shared(data), HEADER)),
        }
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Body<B> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes.as_ref(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The body of an object of the current version that is stored as it is and in order, but for the checksum.
///
/// None leaves it to [`open`] to say what is the matter. [`is_intact`] looks at the checksum.
pub(crate) fn peek(kind: Kind, data: &[u8]) -> Option<&[u8]> {
    let (header, stored) = data.split_first_chunk::<HEADER>()?;
    let expected = [kind as u8, VERSION, 0, 0];
    let length = little_endian(header, 8);
    let sound = header.starts_with(&MAGIC) && header[4..8] == expected;
    (sound && length == stored.len() as u64).then_some(stored)
}

/// Whether the checksum of an object matches.
pub(crate) fn is_intact(data: &[u8]) -> bool {
    let split = data.split_first_chunk::<HEADER>();
    split.is_some_and(|(header, stored)| checksum_of(header, stored).to_le_bytes() == header[CHECKSUM])
}

/// Put a body into an envelope; with `compress`, as a zstd frame where that is smaller.
#[must_use]
pub fn seal(kind: Kind, body: &[u8], compress: bool) -> Vec<u8> {
    let mut object = Vec::with_capacity(HEADER + body.len());
    object.resize(HEADER, 0);
    object.extend_from_slice(body);
    finish(kind, object, compress)
}

/// Fill in the envelope of an object whose first 24 bytes are free.
///
/// # Panics
/// Never, given at least 24 bytes.
#[must_use]
pub fn finish(kind: Kind, mut object: Vec<u8>, compress: bool) -> Vec<u8> {
    object.resize(object.len().max(HEADER), 0);
    let length = object.len() - HEADER;
    if compress && let Some(frame) = deflate(&object[HEADER..]) {
        object.truncate(HEADER);
        object.extend_from_slice(&frame);
        fill_for(kind, COMPRESSED, length, &mut object);
    } else {
        fill_for(kind, 0, length, &mut object);
    }
    object
}

/// As [`finish`] without compression, in place.
pub(crate) fn fill(kind: Kind, object: &mut [u8]) {
    fill_for(kind, 0, object.len() - HEADER, object);
}

fn fill_for(kind: Kind, flags: u16, length: usize, object: &mut [u8]) {
    object[..4].copy_from_slice(&MAGIC);
    object[4] = kind as u8;
    object[5] = VERSION;
    object[6..8].copy_from_slice(&flags.to_le_bytes());
    object[8..16].copy_from_slice(&(length as u64).to_le_bytes());
    let (header, stored) = object.split_at(HEADER);
    let sum = checksum_of(header, stored);
    object[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum field of an object.
///
/// # Errors
/// The object is shorter than its envelope.
pub fn checksum(data: &[u8]) -> Result<u64> {
    if data.len() < HEADER {
        return Err(Error::damaged(data.len(), "shorter than its envelope"));
    }
    Ok(little_endian(data, CHECKSUM.start))
}

/// Recompute the checksum field of an object in place, for tests that damage what lies behind it.
pub fn mend_checksum(data: &mut [u8]) {
    if data.len() >= HEADER {
        let (header, stored) = data.split_at(HEADER);
        let sum = checksum_of(header, stored);
        data[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    }
}

fn checksum_of(header: &[u8], stored: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::new();
    hasher.write(&header[..CHECKSUM.start]);
    hasher.write(stored);
    hasher.finish()
}

fn little_endian(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|place| data[at + place]))
}

fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    let frame = zstd::bulk::compress(body, ZSTD_LEVEL).ok()?;
    let within = body.len() as u64 <= RATIO_MAX.saturating_mul(frame.len() as u64);
    (frame.len() < body.len() && within).then_some(frame)
}

fn inflate(stored: &[u8], length: u64) -> Result<Vec<u8>> {
    if length > RATIO_MAX.saturating_mul(stored.len() as u64) {
        return Err(Error::damaged(8, "length passes the compression ratio"));
    }
    let length = usize::try_from(length).map_err(|_| Error::damaged(8, "length passes memory"))?;
    if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(Error::damaged(HEADER, "not one zstd frame"));
    }
    let mut body = Vec::new();
    body.try_reserve_exact(length)
        .map_err(|_| Error::damaged(8, "length passes memory"))?;
    let written = zstd::zstd_safe::decompress(&mut body, stored);
    if written == Ok(length) {
        Ok(body)
    } else {
        Err(Error::damaged(HEADER, "zstd frame does not decompress"))
    }
}
