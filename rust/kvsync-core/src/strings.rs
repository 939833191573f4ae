//! Byte strings one after another, with a column of their lengths.

use std::cmp::Ordering;
use std::ops::Range;

use crate::column::{Column, Number, each_width, position};
use crate::error::{Error, Result};
use crate::reason::Reason;

/// How many strings there are to a mark, so that a string is found without adding up all lengths before it.
pub(crate) const STRIDE: usize = 64;
/// How many blocks of keys stay in the cache while they are checked.
const CACHED_BLOCKS: usize = 64;

/// Strings inside an object's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strings<'a> {
    /// Their lengths.
    pub(crate) sizes: Column<'a>,
    /// Their bytes.
    pub(crate) bytes: &'a [u8],
    /// Where every [`STRIDE`]th begins.
    pub(crate) marks: &'a [usize],
}

impl<'a> Strings<'a> {
    /// Where the string at a position begins.
    pub(crate) fn start(&self, index: usize) -> usize {
        let block = index / STRIDE;
        let Some(mark) = self.marks.get(block) else {
            return self.bytes.len();
        };
        mark + position(self.sizes.sum(block * STRIDE, index))
    }

    /// The string at a position, given where it begins.
    #[inline]
    pub(crate) fn at(&self, index: usize, start: usize) -> &'a [u8] {
        &self.bytes[start..start + position(self.sizes.get(index))]
    }

    /// The string at a position.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        self.at(index, self.start(index))
    }

    /// Check that strings whose sizes were checked are keys: valid UTF-8, strictly ascending.
    ///
    /// # Errors
    /// The offset of the first string that is not, where the bytes begin at `offset`.
    pub(crate) fn check(&self, offset: usize) -> Result<()> {
        // A few at a time, so that they are still in the cache when their order is checked.
        let mut starts = (0..self.marks.len()).step_by(CACHED_BLOCKS);
        if starts.all(|start| self.are_keys(start..start + CACHED_BLOCKS)) {
            return Ok(());
        }
        if let Err(fault) = simdutf8::compat::from_utf8(self.bytes) {
            let at = offset + fault.valid_up_to();
            return Err(Error::damaged(at, Reason::KeyNotUtf8));
        }
        match each_width!(self.sizes, sizes => first_fault(sizes, self.bytes, 0)) {
            None => Ok(()),
            Some((at, reason)) => Err(Error::damaged(offset + at, reason)),
        }
    }

    /// Whether the strings of some blocks of [`STRIDE`] are keys, the first of them greater than the one before it.
    ///
    /// Where this holds for all blocks, it holds for the whole: each block begins and ends between two characters.
    pub(crate) fn are_keys(&self, blocks: Range<usize>) -> bool {
        let Some(start) = self.marks.get(blocks.start).copied() else {
            return true;
        };
        let first = blocks.start * STRIDE;
        let stop = (blocks.end * STRIDE).min(self.sizes.len());
        let end = self.marks.get(blocks.end).copied();
        let bytes = &self.bytes[start..end.unwrap_or(self.bytes.len())];
        if simdutf8::basic::from_utf8(bytes).is_err() {
            return false;
        }
        let (first, start) = match first.checked_sub(1) {
            None => (first, start),
            Some(before) => (before, start - position(self.sizes.get(before))),
        };
        let fault = each_width!(self.sizes, sizes => first_fault(&sizes[first..stop], self.bytes, start));
        fault.is_none()
    }
}

/// Check that sizes add up to the bytes, and mark where each block of strings begins.
///
/// # Errors
/// Sizes that do not add up, or a column wider than it must be.
pub(crate) fn check_sizes(sizes: Column<'_>, bytes: &[u8], offset: usize) -> Result<Vec<usize>> {
    let damaged = |reason| Err(Error::damaged(offset, reason));
    if sizes.width() != crate::column::width_of(sizes.max()) {
        return damaged(Reason::ColumnTooWide);
    }
    let (marks, total) = each_width!(sizes, numbers => marks(numbers));
    if total == bytes.len() as u64 {
        Ok(marks)
    } else {
        damaged(Reason::SizesDoNotAddUp)
    }
}

fn marks<N: Number>(sizes: &[N]) -> (Vec<usize>, u64) {
    let mut marks = Vec::with_capacity(sizes.len().div_ceil(STRIDE));
    let mut total = 0_u64;
    for block in sizes.chunks(STRIDE) {
        marks.push(position(total));
        total = total.saturating_add(crate::column::sum(block));
    }
    (marks, total)
}

/// The marks of strings that are being written.
pub(crate) fn marks_of(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let starts = sizes.scan(0, |end, size| {
        let start = *end;
        *end += size;
        Some(start)
    });
    starts.step_by(STRIDE).collect()
}

/// The first string that is not a key or not greater than the one before it; the first begins at `at`.
///
/// Most neighbours differ in their heads, each of which is read once.
fn first_fault<N: Number>(sizes: &[N], bytes: &[u8], at: usize) -> Option<(usize, Reason)> {
    let (first, rest) = sizes.split_first()?;
    let (mut before, mut at) = (at, at + position(first.get()));
    let mut head_before = head(bytes, before, at);
    for size in rest {
        let end = at + position(size.get());
        let head = head(bytes, at, end);
        let cut = bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        if cut && end > at {
            return Some((at, Reason::KeyInsideCharacter));
        }
        let clear = matches!((head_before, head), (Some(left), Some(right)) if left < right);
        if !clear && !ascends(bytes, before, at, end) {
            return Some((at, Reason::KeysDoNotAscend));
        }
        (before, at, head_before) = (at, end, head);
    }
    None
}

/// The first 16 bytes of a string as a number that orders like them; None for a shorter string.
#[inline]
fn head(bytes: &[u8], start: usize, end: usize) -> Option<u128> {
    let (head, _) = bytes.get(start..end)?.split_first_chunk::<16>()?;
    Some(u128::from_be_bytes(*head))
}

/// Whether `bytes[before..at]` < `bytes[at..end]`.
#[inline]
fn ascends(bytes: &[u8], before: usize, at: usize, end: usize) -> bool {
    let short = (at - before).min(end - at);
    let mut place = 0;
    while place < short {
        let (Some(left), Some(right)) = (word(bytes, before + place), word(bytes, at + place)) else {
            let order = bytes[before + place..at].cmp(&bytes[at + place..end]);
            return order == Ordering::Less;
        };
        let differ = left ^ right;
        if differ != 0 {
            let shift = differ.trailing_zeros() & !7;
            if place + (shift as usize >> 3) >= short {
                break;
            }
            return (left >> shift) & 0xff < (right >> shift) & 0xff;
        }
        place += 8;
    }
    at - before < end - at
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let (chunk, _) = bytes.get(at..)?.split_first_chunk::<8>()?;
    Some(u64::from_le_bytes(*chunk))
}
