//! The part of msgpack that the index uses: read strictly, written in the shortest form.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::reason::{MsgpackType, Reason};

/// Reads one body strictly. Offsets in errors count from the first byte of the object around it.
///
/// ```
/// use kvsync_core::pack::{Reader, Writer};
///
/// let mut body = Vec::new();
/// let mut out = Writer(&mut body);
/// out.map(1);
/// out.str("count")?;
/// out.uint(300);
/// let mut reader = Reader::new(&body, 24);
/// reader.map(1)?;
/// reader.key("count")?;
/// assert_eq!((reader.offset(), reader.uint()?), (31, 300));
/// reader.end()?;
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    shift: usize,
}

impl<'a> Reader<'a> {
    /// Start at the beginning of `data`, which begins `shift` bytes into its object.
    #[must_use]
    pub const fn new(data: &'a [u8], shift: usize) -> Self {
        Self { data, at: 0, shift }
    }

    /// The offset of the next byte in the object.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at + self.shift
    }

    /// How many bytes are not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// Read the head of a map of exactly `entries` entries.
    ///
    /// # Errors
    /// Anything else is refused as damage.
    pub fn map(&mut self, entries: usize) -> Result<()> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0x80..=0x8f => usize::from(byte & 0x0f),
            0xde => self.length(2)?,
            0xdf => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(MsgpackType::Map))),
        };
        if length == entries {
            Ok(())
        } else {
            Err(Error::damaged(offset, Reason::MapEntries))
        }
    }

    /// Read the key of the next map entry, which must be `key`.
    ///
    /// # Errors
    /// Anything else is refused as damage.
    pub fn key(&mut self, key: &'static str) -> Result<()> {
        let offset = self.offset();
        let range = self.str()?;
        if self.data.get(range) == Some(key.as_bytes()) {
            Ok(())
        } else {
            Err(Error::damaged(offset, Reason::MapKey))
        }
    }

    /// Read the entry `name`, which must be `name`, and `count`, a number of things of at least `entry_bytes` each.
    ///
    /// # Errors
    /// Anything else is refused as damage.
    pub(crate) fn name_and_count(&mut self, name: &str, entry_bytes: usize) -> Result<usize> {
        self.key("name")?;
        let offset = self.offset();
        let range = self.str()?;
        if self.data.get(range) != Some(name.as_bytes()) {
            return Err(Error::damaged(offset, Reason::OtherName));
        }
        self.key("count")?;
        let offset = self.offset();
        let count = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
        if count > self.remaining() / entry_bytes {
            return Err(Error::damaged(offset, Reason::CountPassesEnd));
        }
        Ok(count)
    }

    /// Read a str, and return its range in the body. Its UTF-8 is not checked.
    ///
    /// # Errors
    /// Anything else, or a length beyond the end, is refused as damage.
    pub fn str(&mut self) -> Result<Range<usize>> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 => self.length(1)?,
            0xda => self.length(2)?,
            0xdb => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(MsgpackType::Str))),
        };
        self.skip(length)
    }

    /// Read a bin, and return its range in the body.
    ///
    /// # Errors
    /// Anything else, or a length beyond the end, is refused as damage.
    pub fn bin(&mut self) -> Result<Range<usize>> {
        let offset = self.offset();
        let length = match self.byte()? {
            0xc4 => self.length(1)?,
            0xc5 => self.length(2)?,
            0xc6 => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(MsgpackType::Bin))),
        };
        self.skip(length)
    }

    /// Read the length of an array, at most the number of bytes that remain.
    ///
    /// # Errors
    /// Anything else is refused as damage.
    pub fn array(&mut self) -> Result<usize> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0x90..=0x9f => usize::from(byte & 0x0f),
            0xdc => self.length(2)?,
            0xdd => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(MsgpackType::Array))),
        };
        if length <= self.remaining() {
            Ok(length)
        } else {
            Err(Error::damaged(offset, Reason::LengthPassesEnd))
        }
    }

    /// Read an unsigned integer in any form that holds it.
    ///
    /// # Errors
    /// Anything else, negative numbers included, is refused as damage.
    pub fn uint(&mut self) -> Result<u64> {
        let offset = self.offset();
        let marker = self.byte()?;
        let (width, signed) = match marker {
            0x00..=0x7f => return Ok(u64::from(marker)),
            0xcc..=0xcf => (1 << (marker - 0xcc), false),
            0xd0..=0xd3 => (1 << (marker - 0xd0), true),
            _ => return Err(Error::damaged(offset, Reason::Expected(MsgpackType::Uint))),
        };
        let number = self.big_endian(width)?;
        if signed && number >> (8 * width - 1) != 0 {
            return Err(Error::damaged(offset, Reason::NegativeInteger));
        }
        Ok(number)
    }

    /// Check that the body ends here.
    ///
    /// # Errors
    /// Bytes that follow are refused as damage.
    pub fn end(&self) -> Result<()> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(Error::damaged(self.offset(), Reason::TrailingBytes))
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.data.get(self.at).copied();
        let byte = byte.ok_or(Error::damaged(self.offset(), Reason::EndsEarly))?;
        self.at += 1;
        Ok(byte)
    }

    fn length(&mut self, width: usize) -> Result<usize> {
        let offset = self.offset();
        let length = self.big_endian(width)?;
        usize::try_from(length).map_err(|_| Error::damaged(offset, Reason::LengthPassesEnd))
    }

    fn big_endian(&mut self, width: usize) -> Result<u64> {
        let range = self.skip(width)?;
        let bytes = self.data.get(range).unwrap_or_default();
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn skip(&mut self, length: usize) -> Result<Range<usize>> {
        if length > self.remaining() {
            return Err(Error::damaged(self.offset(), Reason::LengthPassesEnd));
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }
}

/// Appends to the vector in the shortest forms of msgpack.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// Write the head of a map of fewer than 16 entries.
    pub fn map(&mut self, entries: u8) {
        self.0.push(0x80 | (entries & 0x0f));
    }

    /// Write the head of an array.
    ///
    /// # Errors
    /// More than 2^32 - 1 elements.
    pub fn array(&mut self, length: usize) -> Result<()> {
        match length {
            0..=15 => self.head(0x90 | length.to_le_bytes()[0], &[]),
            16..=0xffff => self.head(0xdc, &low::<2>(length)),
            _ => self.head(0xdd, &checked(length)?),
        }
        Ok(())
    }

    /// Write a str.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes.
    pub fn str(&mut self, text: &str) -> Result<()> {
        let length = text.len();
        match length {
            0..=31 => self.head(0xa0 | length.to_le_bytes()[0], &[]),
            32..=0xff => self.head(0xd9, &low::<1>(length)),
            0x100..=0xffff => self.head(0xda, &low::<2>(length)),
            _ => self.head(0xdb, &checked(length)?),
        }
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Write a bin.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes.
    pub fn bin(&mut self, bytes: &[u8]) -> Result<()> {
        self.bin_head(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Write the head of a bin.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes.
    pub fn bin_head(&mut self, length: usize) -> Result<()> {
        match length {
            0..=0xff => self.head(0xc4, &low::<1>(length)),
            0x100..=0xffff => self.head(0xc5, &low::<2>(length)),
            _ => self.head(0xc6, &checked(length)?),
        }
        Ok(())
    }

    /// Write an unsigned integer.
    pub fn uint(&mut self, number: u64) {
        let bytes = number.to_be_bytes();
        match number {
            0..=0x7f => self.head(bytes[7], &[]),
            0x80..=0xff => self.head(0xcc, &bytes[7..]),
            0x100..=0xffff => self.head(0xcd, &bytes[6..]),
            0x1_0000..=0xffff_ffff => self.head(0xce, &bytes[4..]),
            _ => self.head(0xcf, &bytes),
        }
    }

    fn head(&mut self, marker: u8, rest: &[u8]) {
        self.0.push(marker);
        self.0.extend_from_slice(rest);
    }
}

fn low<const N: usize>(length: usize) -> [u8; N] {
    let bytes = (length as u64).to_be_bytes();
    std::array::from_fn(|place| bytes[8 - N + place])
}

fn checked(length: usize) -> Result<[u8; 4]> {
    let narrow = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    Ok(narrow.to_be_bytes())
}
