//! The head and the columns of a block or page, read one after another.

use std::ops::Range;

use twox_hash::XxHash3_64;

use crate::column::{self, Column};
use crate::error::{Error, Result};
use crate::reason::Reason;

/// The most bytes that a block or page may have.
pub const PART_BYTES_MAX: usize = 64 << 20;
/// Bytes of the head: the checksum, two counts, and eight bytes for widths.
pub(super) const HEAD_BYTES: usize = 24;
/// Where the widths stand in the head.
pub(super) const WIDTHS: usize = 16;

/// Reads the columns of a part one after another.
pub(super) struct PartReader<'a> {
    pub(super) bytes: &'a [u8],
    at: usize,
}

impl<'a> PartReader<'a> {
    /// Check the length and the checksum.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() < HEAD_BYTES {
            return Err(Error::damaged(bytes.len(), Reason::EndsEarly));
        }
        if bytes.len() > PART_BYTES_MAX {
            return Err(Error::damaged(PART_BYTES_MAX, Reason::PartOutOfRange));
        }
        if XxHash3_64::oneshot(&bytes[8..]) != checksum_of(bytes) {
            return Err(Error::damaged(0, Reason::Checksum));
        }
        Ok(Self { bytes, at: HEAD_BYTES })
    }

    /// The two counts of the head.
    pub(super) fn counts(&self) -> [usize; 2] {
        [8, 12].map(|at| {
            let count = u32::from_le_bytes(std::array::from_fn(|place| self.bytes[at + place]));
            column::position(count.into())
        })
    }

    /// The range of the next column, of `count` items of `width` bytes.
    pub(super) fn column(&mut self, count: usize, width: usize) -> Result<Range<usize>> {
        let start = self.at;
        let rest = self.bytes.len() - start;
        let length = count.checked_mul(width).filter(|length| *length <= rest);
        self.at = start + length.ok_or(Error::damaged(start, Reason::CountPassesEnd))?;
        Ok(start..self.at)
    }

    /// The range of the next column of numbers, whose width stands in the head; it is 0 only where the numbers may be
    /// left out.
    pub(super) fn numbers(&mut self, count: usize, place: usize, optional: bool) -> Result<Range<usize>> {
        let width = self.bytes[WIDTHS + place];
        if !(matches!(width, 1 | 2 | 4 | 8) || optional && width == 0) {
            return Err(Error::damaged(WIDTHS + place, Reason::ColumnLength));
        }
        self.column(count, width.into())
    }

    /// The next numbers, whose width is the least that holds the greatest.
    pub(super) fn checked_numbers(&mut self, count: usize, place: usize) -> Result<Column<'a>> {
        let range = self.numbers(count, place, false)?;
        let numbers = Column::new(&self.bytes[range.clone()], count).unwrap_or(Column::One(&[]));
        if usize::from(self.bytes[WIDTHS + place]) == column::width_of(numbers.max()) {
            Ok(numbers)
        } else {
            Err(Error::damaged(range.start, Reason::ColumnTooWide))
        }
    }

    /// The next number of 8 bytes.
    pub(super) fn word(&mut self) -> Result<u64> {
        let range = self.column(1, 8)?;
        Ok(word(self.bytes, range.start))
    }

    /// The next `count` items of N bytes.
    pub(super) fn chunks<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]]> {
        let range = self.column(count, N)?;
        Ok(self.bytes[range].as_chunks().0)
    }

    /// The range of whatever is left.
    pub(super) const fn rest(&self) -> Range<usize> {
        self.at..self.bytes.len()
    }

    /// The offset of the next byte.
    pub(super) const fn offset(&self) -> usize {
        self.at
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|place| bytes[at + place]))
}

/// The checksum field of a part, which has a head.
pub(super) fn checksum_of(part: &[u8]) -> u64 {
    word(part, 0)
}

/// Append the head of a part, without its checksum.
pub(super) fn append_head(out: &mut Vec<u8>, counts: [usize; 2], widths: [usize; 8]) -> Result<()> {
    out.extend_from_slice(&[0; 8]);
    for length in counts {
        let count = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
        out.extend_from_slice(&count.to_le_bytes());
    }
    out.extend(widths.map(|width| width.to_le_bytes()[0]));
    Ok(())
}

/// Fill in the checksum of a part.
pub(super) fn seal(part: &mut [u8]) -> Result<()> {
    let length = part.len();
    if length > PART_BYTES_MAX {
        return Err(Error::TooLarge { length });
    }
    let sum = XxHash3_64::oneshot(&part[8..]);
    part[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}
