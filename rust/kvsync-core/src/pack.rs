//! The part of msgpack that the index uses, read strictly and written in the shortest form.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::reason::{Reason, Type};

/// Reads one body; offsets in errors are those of the object around it.
#[derive(Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    shift: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `data`, which begins `shift` bytes into its object.
    #[must_use]
    pub const fn new(data: &'a [u8], shift: usize) -> Self {
        Self { data, at: 0, shift }
    }

    /// Where the next byte lies in the object.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at + self.shift
    }

    /// Bytes not yet read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// A map of exactly `entries` entries.
    ///
    /// # Errors
    /// Anything else is damage.
    pub fn map(&mut self, entries: usize) -> Result<()> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0x80..=0x8f => usize::from(byte & 0x0f),
            0xde => self.length(2)?,
            0xdf => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(Type::Map))),
        };
        if length == entries {
            Ok(())
        } else {
            Err(Error::damaged(offset, Reason::MapEntries))
        }
    }

    /// The key of the next map entry, which must be `key`.
    ///
    /// # Errors
    /// Anything else is damage.
    pub fn key(&mut self, key: &'static str) -> Result<()> {
        let offset = self.offset();
        let range = self.str()?;
        if self.data.get(range) == Some(key.as_bytes()) {
            Ok(())
        } else {
            Err(Error::damaged(offset, Reason::MapKey))
        }
    }

    /// The entries `name`, which must be `name`, and `count`, of which each needs `entry_bytes` of what follows.
    ///
    /// # Errors
    /// Anything else is damage.
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

    /// A str, as its range in the body; its UTF-8 is not checked.
    ///
    /// # Errors
    /// Anything else, or a length beyond the end, is damage.
    pub fn str(&mut self) -> Result<Range<usize>> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 => self.length(1)?,
            0xda => self.length(2)?,
            0xdb => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(Type::Str))),
        };
        self.skip(length)
    }

    /// A bin, as its range in the body.
    ///
    /// # Errors
    /// Anything else, or a length beyond the end, is damage.
    pub fn bin(&mut self) -> Result<Range<usize>> {
        let offset = self.offset();
        let length = match self.byte()? {
            0xc4 => self.length(1)?,
            0xc5 => self.length(2)?,
            0xc6 => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(Type::Bin))),
        };
        self.skip(length)
    }

    /// The length of an array, at most the bytes that remain.
    ///
    /// # Errors
    /// Anything else is damage.
    pub fn array(&mut self) -> Result<usize> {
        let offset = self.offset();
        let length = match self.byte()? {
            byte @ 0x90..=0x9f => usize::from(byte & 0x0f),
            0xdc => self.length(2)?,
            0xdd => self.length(4)?,
            _ => return Err(Error::damaged(offset, Reason::Expected(Type::Array))),
        };
        if length <= self.remaining() {
            Ok(length)
        } else {
            Err(Error::damaged(offset, Reason::LengthPassesEnd))
        }
    }

    /// An unsigned integer in any form that holds it.
    ///
    /// # Errors
    /// Anything else, negative numbers included, is damage.
    pub fn uint(&mut self) -> Result<u64> {
        let offset = self.offset();
        let marker = self.byte()?;
        let (width, signed) = match marker {
            0x00..=0x7f => return Ok(u64::from(marker)),
            0xcc..=0xcf => (1 << (marker - 0xcc), false),
            0xd0..=0xd3 => (1 << (marker - 0xd0), true),
            _ => return Err(Error::damaged(offset, Reason::Expected(Type::Uint))),
        };
        let number = self.big_endian(width)?;
        if signed && number >> (8 * width - 1) != 0 {
            return Err(Error::damaged(offset, Reason::NegativeInteger));
        }
        Ok(number)
    }

    /// The end of the body.
    ///
    /// # Errors
    /// Bytes that follow are damage.
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

/// Writes one body behind whatever is in the vector already.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// The head of a map of fewer than 16 entries.
    pub fn map(&mut self, entries: u8) {
        self.0.push(0x80 | (entries & 0x0f));
    }

    /// The head of an array.
    ///
    /// # Errors
    /// More than 2^32 - 1 elements are too many.
    pub fn array(&mut self, length: usize) -> Result<()> {
        match length {
            0..=15 => self.head(0x90 | length.to_le_bytes()[0], &[]),
            16..=0xffff => self.head(0xdc, &low::<2>(length)),
            _ => self.head(0xdd, &checked(length)?),
        }
        Ok(())
    }

    /// A str.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes are too many.
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

    /// A bin.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes are too many.
    pub fn bin(&mut self, bytes: &[u8]) -> Result<()> {
        self.bin_head(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The head of a bin.
    ///
    /// # Errors
    /// More than 2^32 - 1 bytes are too many.
    pub fn bin_head(&mut self, length: usize) -> Result<()> {
        match length {
            0..=0xff => self.head(0xc4, &low::<1>(length)),
            0x100..=0xffff => self.head(0xc5, &low::<2>(length)),
            _ => self.head(0xc6, &checked(length)?),
        }
        Ok(())
    }

    /// An unsigned integer, as short as it goes.
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
    let short = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    Ok(short.to_be_bytes())
}
