//! The columns of a segment, and a walk over its changes in key order.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::column::{self, Column};
use crate::layout::Layout;
use crate::row::{DIGEST_BYTES, INEXACT, Row, TOMBSTONE};
use crate::strings::Strings;

/// The columns of a segment, borrowed from its bytes.
///
/// ```
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let view = log.view();
/// assert_eq!((view.len(), view.value_bytes(), view.stamp_max()), (2, 2, 101));
/// assert!(view.rows(1..9).map(|row| row.key).eq([b"b"]));
/// assert_eq!(view.find(&["a", "c"])[1], None);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) stamp: Column<'a>,
    pub(crate) origin: Column<'a>,
    pub(crate) flags: &'a [u8],
    pub(crate) size: Column<'a>,
    /// Empty where no value expires.
    pub(crate) expires: Column<'a>,
    pub(crate) digest: &'a [[u8; DIGEST_BYTES]],
    pub(crate) keys: Strings<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn new(bytes: &'a [u8], layout: &'a Layout) -> Self {
        // The layout was made from these bytes: every column has its width, or is empty.
        let numbers =
            |range: &Range<usize>| Column::new(&bytes[range.clone()], layout.count).unwrap_or(Column::One(&[]));
        Self {
            layout,
            stamp: numbers(&layout.stamp),
            origin: numbers(&layout.origin),
            flags: &bytes[layout.flags.clone()],
            size: numbers(&layout.size),
            expires: numbers(&layout.expires),
            digest: bytes[layout.digest.clone()].as_chunks().0,
            keys: Strings {
                sizes: numbers(&layout.key_size),
                bytes: &bytes[layout.key.clone()],
                marks: &layout.key_marks,
            },
        }
    }

    /// Number of changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.layout.count
    }

    /// Whether there are no changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.layout.count == 0
    }

    /// The greatest stamp of each origin, ascending by origin.
    pub fn maxima(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let layout = self.layout;
        let origins = layout.origins.iter().copied();
        origins.zip(layout.maxima.iter().copied())
    }

    /// The least stamp of each origin among deletes and values that expire, ascending by origin.
    #[must_use]
    pub fn passing(&self) -> BTreeMap<u64, u64> {
        let mut least = BTreeMap::new();
        if self.tombstones() + self.expiring() == 0 {
            return least;
        }
        for row in self.iter().filter(|row| row.deletes() || row.expires != 0) {
            let stamp = least.entry(row.origin).or_insert(row.stamp);
            *stamp = row.stamp.min(*stamp);
        }
        least
    }

    /// The least stamp, 0 where there is none.
    #[must_use]
    pub const fn stamp_min(&self) -> u64 {
        self.layout.stamp_base
    }

    /// The least stamp among the changes whose time is exact.
    #[must_use]
    pub fn exact_stamp_min(&self) -> Option<u64> {
        let exact = self.iter().filter(|row| row.flags & INEXACT == 0);
        exact.map(|row| row.stamp).min()
    }

    /// The greatest stamp, 0 where there is none.
    #[must_use]
    pub fn stamp_max(&self) -> u64 {
        self.layout.maxima.iter().copied().max().unwrap_or(0)
    }

    /// Sum of the sizes of all values.
    #[must_use]
    pub const fn value_bytes(&self) -> u64 {
        self.layout.totals.value_bytes
    }

    /// Number of tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> usize {
        self.layout.totals.tombstones
    }

    /// Number of values that expire.
    #[must_use]
    pub const fn expiring(&self) -> usize {
        self.layout.totals.expiring
    }

    /// The change at a position, given where its key begins.
    #[must_use]
    #[inline]
    pub(crate) fn row_at(&self, index: usize, key_start: usize) -> Row<'a> {
        let origin = column::position(self.origin.get(index));
        Row {
            key: self.keys.at(index, key_start),
            origin: self.layout.origins[origin],
            stamp: self.layout.stamp_base + self.stamp.get(index),
            flags: self.flags[index],
            size: self.size.get(index),
            expires: self.expires.get_or_zero(index),
            digest: &self.digest[index],
        }
    }

    /// The changes in a range of positions, cut to the positions that exist.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Rows<'a> {
        let range = self.clamp(range);
        Rows {
            view: *self,
            index: range.start,
            stop: range.end,
            key_start: self.keys.start(range.start),
        }
    }

    /// All changes, ascending by key.
    #[must_use]
    pub fn iter(&self) -> Rows<'a> {
        self.rows(0..self.len())
    }

    /// When each put of a range expires, in milliseconds since 1970; 0 for never.
    #[must_use]
    pub fn expires(&self, range: Range<usize>) -> Vec<u64> {
        let puts = self.clamp(range).filter(|index| self.flags[*index] & TOMBSTONE == 0);
        puts.map(|index| self.expires.get_or_zero(index)).collect()
    }

    /// The keys of the values that have expired by a time.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> Vec<&'a [u8]> {
        let indices = 0..self.expires.len();
        let expired = indices.filter(|index| (1..=now_ms).contains(&self.expires.get(*index)));
        expired.map(|index| self.keys.get(index)).collect()
    }

    /// Number of puts in a range.
    #[must_use]
    pub fn puts(&self, range: Range<usize>) -> usize {
        let flags = self.flags[self.clamp(range)].iter();
        flags.filter(|flags| *flags & TOMBSTONE == 0).count()
    }

    /// A range cut to the positions that exist; empty where it ends before it begins.
    fn clamp(&self, range: Range<usize>) -> Range<usize> {
        let stop = range.end.min(self.len());
        range.start.min(stop)..stop
    }
}

impl<'a> IntoIterator for &View<'a> {
    type Item = Row<'a>;
    type IntoIter = Rows<'a>;

    fn into_iter(self) -> Rows<'a> {
        self.iter()
    }
}

/// An iterator over consecutive changes of a segment.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    view: View<'a>,
    index: usize,
    stop: usize,
    key_start: usize,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        if self.index >= self.stop {
            return None;
        }
        let row = self.view.row_at(self.index, self.key_start);
        self.index += 1;
        self.key_start += row.key.len();
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let rest = self.stop - self.index;
        (rest, Some(rest))
    }
}

impl ExactSizeIterator for Rows<'_> {}
