//! The 24 bytes before the body of every index object: kind, version, length, checksum, compression.
//!
//! ```
//! use kvsync_core::{Kind, envelope};
//!
//! let object = envelope::seal(Kind::Lease, b"body", false);
//! assert_eq!(object.len(), envelope::HEADER_BYTES + 4);
//! assert_eq!(*envelope::open(Kind::Lease, &object)?, *b"body");
//! # Ok::<(), kvsync_core::Error>(())
//! ```

use std::borrow::Cow;
use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};
use crate::reason::{ArgumentFault, Reason};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 24;
/// The format version that is written, and the highest that is read.
pub const VERSION: u8 = 1;
/// How many times as long as the stored body the decompressed one may be.
pub const RATIO_MAX: u64 = 512;

const MAGIC: [u8; 4] = *b"kvsy";
const COMPRESSED: u16 = 1;
const ZSTD_LEVEL: i32 = 3;
const CHECKSUM: std::ops::Range<usize> = 16..24;

/// The kind of an index object.
///
/// ```
/// use kvsync_core::Kind;
///
/// assert_eq!(Kind::try_from(3), Ok(Kind::Lease));
/// assert!(Kind::try_from(9).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An immutable sorted set of changes.
    Segment = 1,
    /// The mutable record of a replica.
    Manifest = 2,
    /// The lock of a storage.
    Lease = 3,
    /// What the last scan of a storage saw: which pieces say that.
    Inventory = 4,
    /// A value that lost a conflict.
    Lost = 5,
    /// An immutable part of an inventory.
    Piece = 6,
    /// What a segment in blocks consists of.
    Directory = 7,
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
            6 => Ok(Self::Piece),
            7 => Ok(Self::Directory),
            _ => Err(Error::BadArgument(ArgumentFault::UnknownKind)),
        }
    }
}

/// Check an object's envelope and return its body, decompressed if necessary.
///
/// ```
/// use kvsync_core::{Error, Kind, Reason, envelope};
///
/// let object = envelope::seal(Kind::Lost, &[0; 3000], true);
/// assert!(object.len() < 100);
/// assert_eq!(*envelope::open(Kind::Lost, &object)?, [0; 3000]);
/// let error = envelope::open(Kind::Lease, &object).unwrap_err();
/// assert_eq!(error, Error::Damaged { offset: 4, reason: Reason::OtherKind });
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Damaged`] where a check fails, [`Error::Newer`] for an intact object of a higher version.
pub fn open(kind: Kind, data: &[u8]) -> Result<Cow<'_, [u8]>> {
    let Some((header, stored)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Error::damaged(data.len(), Reason::EnvelopeTooShort));
    };
    let flags = check_header(kind, header, stored)?;
    let length = little_endian(header, 8);
    if flags == COMPRESSED {
        inflate(stored, length).map(Cow::Owned)
    } else if length == stored.len() as u64 {
        Ok(Cow::Borrowed(stored))
    } else {
        Err(Error::damaged(8, Reason::LengthMismatch))
    }
}

/// Check everything in a header but the length, and return its flags.
fn check_header(kind: Kind, header: &[u8; HEADER_BYTES], stored: &[u8]) -> Result<u16> {
    if !header.starts_with(&MAGIC) {
        return Err(Error::damaged(0, Reason::NotAnObject));
    }
    if checksum_of(header, stored).to_le_bytes() != header[CHECKSUM] {
        return Err(Error::damaged(CHECKSUM.start, Reason::Checksum));
    }
    match header[5] {
        VERSION => {}
        0 => return Err(Error::damaged(5, Reason::VersionZero)),
        version => return Err(Error::Newer { version }),
    }
    if header[4] != kind as u8 {
        return Err(Error::damaged(4, Reason::OtherKind));
    }
    let flags = u16::from_le_bytes([header[6], header[7]]);
    if flags & !COMPRESSED != 0 {
        return Err(Error::damaged(6, Reason::UnknownEnvelopeFlags));
    }
    Ok(flags)
}

/// The bytes that hold an opened object: the given ones, never copied, or its own.
///
/// ```
/// use kvsync_core::envelope::{self, HEADER_BYTES};
/// use kvsync_core::{Body, Kind};
///
/// let object = envelope::seal(Kind::Lease, b"body", false);
/// let (body, start) = Body::open(Kind::Lease, &object[..])?;
/// assert!(matches!(body, Body::Shared(_)));
/// assert_eq!((start, &body.as_ref()[start..]), (HEADER_BYTES, &b"body"[..]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum Body<B> {
    /// The whole object as given.
    Shared(B),
    /// The body alone, decompressed or just built.
    Owned(Vec<u8>),
}

impl<B: AsRef<[u8]>> Body<B> {
    /// As [`open`]; also returns where the body begins.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(kind: Kind, data: B) -> Result<(Self, usize)> {
        match open(kind, data.as_ref())? {
            Cow::Owned(body) => Ok((Self::Owned(body), 0)),
            Cow::Borrowed(_) => Ok((Self::Shared(data), HEADER_BYTES)),
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

/// The body of an uncompressed object of the current version, everything but the checksum checked.
///
/// None where [`open`] has to decide. [`is_intact`] checks the checksum.
pub(crate) fn peek(kind: Kind, data: &[u8]) -> Option<&[u8]> {
    let (header, stored) = data.split_first_chunk::<HEADER_BYTES>()?;
    let expected = [kind as u8, VERSION, 0, 0];
    let length = little_endian(header, 8);
    let sound = header.starts_with(&MAGIC) && header[4..8] == expected;
    (sound && length == stored.len() as u64).then_some(stored)
}

/// Whether the checksum of an object matches.
pub(crate) fn is_intact(data: &[u8]) -> bool {
    let split = data.split_first_chunk::<HEADER_BYTES>();
    split.is_some_and(|(header, stored)| checksum_of(header, stored).to_le_bytes() == header[CHECKSUM])
}

/// Put a body into an envelope; with `compress`, as a zstd frame where that is smaller.
///
/// ```
/// use kvsync_core::{Kind, envelope};
///
/// let object = envelope::seal(Kind::Manifest, b"body", true);
/// assert_eq!(object[4], Kind::Manifest as u8);
/// ```
#[must_use]
pub fn seal(kind: Kind, body: &[u8], compress: bool) -> Vec<u8> {
    let mut object = Vec::with_capacity(HEADER_BYTES + body.len());
    object.resize(HEADER_BYTES, 0);
    object.extend_from_slice(body);
    finish(kind, object, compress)
}

/// Fill in the envelope of an object whose first 24 bytes are free.
pub(crate) fn finish(kind: Kind, mut object: Vec<u8>, compress: bool) -> Vec<u8> {
    object.resize(object.len().max(HEADER_BYTES), 0);
    let length = object.len() - HEADER_BYTES;
    if compress && let Some(frame) = deflate(&object[HEADER_BYTES..]) {
        object.truncate(HEADER_BYTES);
        object.extend_from_slice(&frame);
        fill_for(kind, COMPRESSED, length, &mut object);
    } else {
        fill_for(kind, 0, length, &mut object);
    }
    object
}

/// As [`finish`] without compression, in place.
pub(crate) fn fill(kind: Kind, object: &mut [u8]) {
    fill_for(kind, 0, object.len() - HEADER_BYTES, object);
}

fn fill_for(kind: Kind, flags: u16, length: usize, object: &mut [u8]) {
    object[..4].copy_from_slice(&MAGIC);
    object[4] = kind as u8;
    object[5] = VERSION;
    object[6..8].copy_from_slice(&flags.to_le_bytes());
    object[8..16].copy_from_slice(&(length as u64).to_le_bytes());
    let (header, stored) = object.split_at(HEADER_BYTES);
    let sum = checksum_of(header, stored);
    object[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum field of an object.
///
/// ```
/// use kvsync_core::{Kind, envelope};
///
/// let object = envelope::seal(Kind::Lease, b"body", false);
/// assert_eq!(envelope::checksum(&object)?.to_le_bytes(), object[16..24]);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// The object is shorter than its envelope.
pub fn checksum(data: &[u8]) -> Result<u64> {
    if data.len() < HEADER_BYTES {
        return Err(Error::damaged(data.len(), Reason::EnvelopeTooShort));
    }
    Ok(little_endian(data, CHECKSUM.start))
}

/// Recompute the checksum field of an object in place, for tests that damage the bytes it covers.
///
/// ```
/// use kvsync_core::{Kind, envelope};
///
/// let mut object = envelope::seal(Kind::Lease, b"body", false);
/// object[5] = 0;
/// envelope::repair_checksum(&mut object);
/// let error = envelope::open(Kind::Lease, &object).unwrap_err();
/// assert_eq!(error.to_string(), "damaged at byte 5: format version 0");
/// ```
pub fn repair_checksum(data: &mut [u8]) {
    if data.len() >= HEADER_BYTES {
        let (header, stored) = data.split_at(HEADER_BYTES);
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
        return Err(Error::damaged(8, Reason::RatioExceeded));
    }
    let length = usize::try_from(length).map_err(|_| Error::damaged(8, Reason::OutOfMemory))?;
    if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(Error::damaged(HEADER_BYTES, Reason::NotOneFrame));
    }
    let mut body = Vec::new();
    body.try_reserve_exact(length)
        .map_err(|_| Error::damaged(8, Reason::OutOfMemory))?;
    let written = zstd::zstd_safe::decompress(&mut body, stored);
    if written == Ok(length) {
        Ok(body)
    } else {
        Err(Error::damaged(HEADER_BYTES, Reason::BadFrame))
    }
}
