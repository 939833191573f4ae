//! Sorted changes merged: the greatest change of each key wins.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use crate::build::Builder;
use crate::cover::Span;
use crate::digest::{self, NewestSum};
use crate::error::Result;
use crate::row::Row;
use crate::seek::Seeker;
use crate::segment::Segment;
use crate::view::View;

/// An iterator over the newest change of each key, from iterators that each ascend by key.
///
/// ```
/// use kvsync_core::{KeyList, NewValues, Newest, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let newest = Newest::new([log.view().rows(0..2), log.view().rows(1..2)]);
/// assert!(newest.eq(log.view().iter()));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Newest<'a, I> {
    heap: BinaryHeap<Head<'a, I>>,
}

#[derive(Debug)]
struct Head<'a, I> {
    row: Row<'a>,
    rest: I,
}

impl<I> Ord for Head<'_, I> {
    /// The heap's greatest is the least key, and of one key the greatest change.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = other.row.key.cmp(self.row.key);
        by_key.then_with(|| self.row.order(&other.row))
    }
}

impl<I> PartialOrd for Head<'_, I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I> PartialEq for Head<'_, I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<I> Eq for Head<'_, I> {}

impl<'a, I: Iterator<Item = Row<'a>>> Newest<'a, I> {
    /// Begin to merge iterators that each ascend by key.
    pub fn new(sources: impl IntoIterator<Item = I>) -> Self {
        let heads = sources.into_iter().filter_map(|mut rest| {
            let row = rest.next()?;
            Some(Head { row, rest })
        });
        Self { heap: heads.collect() }
    }

    fn pop(&mut self) -> Option<Row<'a>> {
        let mut top = self.heap.peek_mut()?;
        let row = top.row;
        if let Some(next) = top.rest.next() {
            top.row = next;
        } else {
            PeekMut::pop(top);
        }
        Some(row)
    }
}

impl<'a, I: Iterator<Item = Row<'a>>> Iterator for Newest<'a, I> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let row = self.pop()?;
        while self.heap.peek().is_some_and(|top| top.row.key == row.key) {
            self.pop();
        }
        Some(row)
    }
}

impl Segment<Vec<u8>> {
    /// Merge segments: the newest change of each key.
    ///
    /// ```
    /// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
    ///
    /// let keys: KeyList = ["a", "b"].into_iter().collect();
    /// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
    /// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
    /// let rest = log.view().without(&["a"])?;
    /// assert_eq!(Segment::merge(&[log.view(), rest.view()])?.view().len(), 2);
    /// # Ok::<(), kvsync_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where the result is more than the format holds.
    pub fn merge(segments: &[View<'_>]) -> Result<Self> {
        let count = segments.iter().map(View::len).sum();
        let key_bytes = segments.iter().map(|view| view.keys.bytes.len()).sum();
        let mut builder = Builder::with_capacity(count, key_bytes);
        Newest::new(segments.iter().map(View::iter)).for_each(|row| builder.push(&row));
        builder.finish()
    }
}

/// What is left of some changes once those that leave nothing are collected.
#[derive(Debug)]
pub struct Collected {
    /// The other changes.
    pub rest: Segment<Vec<u8>>,
    /// The greatest stamp of each origin among those that went.
    pub floor: BTreeMap<u64, u64>,
}

impl View<'_> {
    /// The segment without some keys, given in any order.
    ///
    /// ```
    /// use kvsync_core::Segment;
    ///
    /// assert!(Segment::from_rows(Vec::new())?.view().without(&["a"])?.view().is_empty());
    /// # Ok::<(), kvsync_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where the result is more than the format holds.
    pub fn without(&self, keys: &[&str]) -> Result<Segment<Vec<u8>>> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let mut keys = keys.into_iter().map(str::as_bytes).peekable();
        let mut builder = Builder::default();
        for row in self {
            while keys.next_if(|key| *key < row.key).is_some() {}
            if keys.peek() != Some(&row.key) {
                builder.push(&row);
            }
        }
        builder.finish()
    }

    /// The same changes without those that leave nothing and that nobody needs any more.
    ///
    /// Such a change is a delete, or a value that had expired by `expired_ms`, of an origin and up to a stamp in
    /// `limits`, whose key is not in `keep`.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn collected(&self, limits: &BTreeMap<u64, u64>, expired_ms: u64, keep: &HashSet<&[u8]>) -> Result<Collected> {
        let mut builder = Builder::default();
        let mut floor = BTreeMap::new();
        for row in self {
            let leaves_nothing = row.deletes() || (0 < row.expires && row.expires <= expired_ms);
            let allowed = limits.get(&row.origin).is_some_and(|limit| row.stamp <= *limit);
            if leaves_nothing && allowed && !keep.contains(row.key) {
                let greatest = floor.entry(row.origin).or_insert(0);
                *greatest = row.stamp.max(*greatest);
            } else {
                builder.push(&row);
            }
        }
        Ok(Collected {
            rest: builder.finish()?,
            floor,
        })
    }

    /// The same changes, with another origin for those in some spans; of several spans that hold a change the first
    /// counts.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn renamed(&self, spans: &[(Span, u64)]) -> Result<Segment<Vec<u8>>> {
        let mut builder = Builder::default();
        for mut row in self {
            if let Some((_, name)) = spans.iter().find(|(span, _)| span.holds(row.origin, row.stamp)) {
                row.origin = *name;
            }
            builder.push(&row);
        }
        builder.finish()
    }
}

/// The digest of the newest changes of some segments, as [`digest::of_newest`](crate::digest::of_newest).
///
/// The digest of the first segment, which is the oldest and usually the largest, is computed once and remembered by it.
///
/// ```
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment, digest, newest_digest};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// assert_eq!(newest_digest(&[&log, &log]), newest_digest(&[&log]));
/// assert_eq!(newest_digest(&[&log]), digest::of_newest(log.view().iter()));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[must_use]
pub fn newest_digest<B: AsRef<[u8]>>(segments: &[&Segment<B>]) -> [u8; 16] {
    let Some((oldest, newer)) = segments.split_first() else {
        return digest::of_newest(std::iter::empty());
    };
    let known = *oldest.digest.get_or_init(|| digest::of_newest(oldest.view().iter()));
    let (mut sum, mut oldest) = (NewestSum::of(known), Seeker::new(oldest.view()));
    for row in Newest::new(newer.iter().map(|segment| segment.view().iter())) {
        let old = oldest.find(row.key);
        if old.is_none_or(|old| row.order(&old).is_gt()) {
            if let Some(old) = old {
                sum.remove(&old);
            }
            sum.add(&row);
        }
    }
    sum.digest()
}
