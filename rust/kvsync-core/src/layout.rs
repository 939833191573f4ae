//! A segment's facts, and where its columns lie.

use std::ops::Range;

use crate::envelope::HEADER_BYTES;
use crate::error::Result;
use crate::pack::Reader;
use crate::row::DIGEST_BYTES;

/// The name of the last column, which belongs to no change.
pub(crate) const NOTE: &str = "note";

/// A segment's facts, and the ranges of its columns in the bytes around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) count: usize,
    pub(crate) origins: Vec<u64>,
    pub(crate) maxima: Vec<u64>,
    pub(crate) stamp_base: u64,
    pub(crate) stamp: Range<usize>,
    pub(crate) origin: Range<usize>,
    pub(crate) flags: Range<usize>,
    pub(crate) size: Range<usize>,
    /// Empty where no value expires.
    pub(crate) expires: Range<usize>,
    pub(crate) digest: Range<usize>,
    pub(crate) key_size: Range<usize>,
    pub(crate) key: Range<usize>,
    /// What the writer noted beside the changes; empty but in an intent.
    pub(crate) note: Range<usize>,
    pub(crate) key_marks: Vec<usize>,
    pub(crate) totals: Totals,
}

/// Sums over the flags, sizes and expiries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) tombstones: usize,
    pub(crate) value_bytes: u64,
    pub(crate) expiring: usize,
}

impl Layout {
    /// The columns in the order of the format.
    pub(crate) fn columns(&self) -> [(&'static str, &Range<usize>); 9] {
        [
            ("stamp", &self.stamp),
            ("origin", &self.origin),
            ("flags", &self.flags),
            ("size", &self.size),
            ("expires", &self.expires),
            ("digest", &self.digest),
            ("key_size", &self.key_size),
            ("key", &self.key),
            (NOTE, &self.note),
        ]
    }

    fn columns_mut(&mut self) -> [(&'static str, &mut Range<usize>); 9] {
        [
            ("stamp", &mut self.stamp),
            ("origin", &mut self.origin),
            ("flags", &mut self.flags),
            ("size", &mut self.size),
            ("expires", &mut self.expires),
            ("digest", &mut self.digest),
            ("key_size", &mut self.key_size),
            ("key", &mut self.key),
            (NOTE, &mut self.note),
        ]
    }

    /// Read the facts and ranges of a body; nothing but their form is checked.
    pub(crate) fn read(body: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER_BYTES);
        reader.map(14)?;
        let count = reader.name_and_count(name, DIGEST_BYTES)?;
        reader.key("origins")?;
        let origins = read_numbers(&mut reader)?;
        reader.key("max")?;
        let maxima = read_numbers(&mut reader)?;
        reader.key("stamp_base")?;
        let mut layout = Self {
            count,
            origins,
            maxima,
            stamp_base: reader.uint()?,
            ..Self::default()
        };
        for (key, range) in layout.columns_mut() {
            reader.key(key)?;
            *range = reader.bin()?;
        }
        reader.end()?;
        Ok(layout)
    }

    /// Count the ranges from `start` bytes after their first byte on.
    pub(crate) fn shift_back(&mut self, start: usize) {
        for (_, range) in self.columns_mut() {
            *range = range.start - start..range.end - start;
        }
    }

    /// Count the ranges from `start` bytes before the body on.
    pub(crate) fn shift(&mut self, start: usize) {
        for (_, range) in self.columns_mut() {
            *range = range.start + start..range.end + start;
        }
    }
}

fn read_numbers(reader: &mut Reader<'_>) -> Result<Vec<u64>> {
    let length = reader.array()?;
    (0..length).map(|_| reader.uint()).collect()
}
