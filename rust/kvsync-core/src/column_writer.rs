//! The columns of a segment, written one after another.

use std::ops::Range;

use crate::column::write;
use crate::error::{Error, Result};
use crate::row::DIGEST_BYTES;

/// Writes columns one after another, and returns the range of each.
pub(crate) struct ColumnWriter {
    out: Vec<u8>,
}

impl ColumnWriter {
    /// Reserve room for `count` changes, given the widths of their columns of numbers.
    pub(crate) fn new(count: usize, widths: &Widths, key_bytes: usize) -> Self {
        let row = widths.sum() + 1 + DIGEST_BYTES;
        Self {
            out: Vec::with_capacity(count * row + key_bytes),
        }
    }

    pub(crate) fn numbers(&mut self, width: usize, numbers: impl Iterator<Item = u64>) -> Range<usize> {
        let start = self.out.len();
        write(&mut self.out, width, numbers);
        start..self.out.len()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Range<usize> {
        self.pieces(std::iter::once(bytes))
    }

    pub(crate) fn pieces<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Range<usize> {
        let start = self.out.len();
        pieces.for_each(|piece| self.out.extend_from_slice(piece));
        start..self.out.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The widths of the columns of numbers, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    pub(crate) stamp: usize,
    pub(crate) origin: usize,
    pub(crate) size: usize,
    /// 0 where no value expires.
    pub(crate) expires: usize,
    pub(crate) key_size: usize,
}

impl Widths {
    const fn sum(&self) -> usize {
        self.stamp + self.origin + self.size + self.expires + self.key_size
    }
}

/// Refuse a column that is longer than a msgpack bin.
pub(crate) fn check_length(length: usize) -> Result<()> {
    match u32::try_from(length) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::TooLarge { length }),
    }
}
