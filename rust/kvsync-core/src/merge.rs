//! Many sorted stretches as one: the greatest change of each key wins.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::build::Builder;
use crate::error::Result;
use crate::row::Row;
use crate::segment::{Segment, View};
use crate::strings::STRIDE;

/// The newest change of each key over some iterators that each ascend by key.
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
    /// Begin to merge.
    pub fn new(stretches: impl IntoIterator<Item = I>) -> Self {
        let heads = stretches.into_iter().filter_map(|mut rest| {
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

/// Merge segments into one.
///
/// # Errors
/// [`crate::Error::TooLarge`] where the outcome passes what the format holds.
pub fn merge(segments: &[View<'_>]) -> Result<Segment<Vec<u8>>> {
    let count = segments.iter().map(View::len).sum();
    let key_bytes = segments.iter().map(|view| view.keys.bytes.len()).sum();
    let mut builder = Builder::with_room(count, key_bytes);
    Newest::new(segments.iter().map(View::iter)).for_each(|row| builder.push(&row));
    builder.finish()
}

/// A segment without some keys, given in any order.
///
/// # Errors
/// [`crate::Error::TooLarge`] where the outcome passes what the format holds.
pub fn without(segment: View<'_>, keys: &[&str]) -> Result<Segment<Vec<u8>>> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let mut keys = keys.into_iter().map(str::as_bytes).peekable();
    let mut builder = Builder::default();
    for row in &segment {
        while keys.next_if(|key| *key < row.key).is_some() {}
        if keys.peek() != Some(&row.key) {
            builder.push(&row);
        }
    }
    builder.finish()
}

/// Looks up keys; each takes few steps where it is near and behind the one before.
#[derive(Debug)]
pub struct Seeker<'a> {
    view: View<'a>,
    index: usize,
    start: usize,
}

impl<'a> Seeker<'a> {
    /// At the first key.
    #[must_use]
    pub const fn new(view: View<'a>) -> Self {
        Self {
            view,
            index: 0,
            start: 0,
        }
    }

    /// The change of a key.
    pub fn find(&mut self, key: &[u8]) -> Option<Row<'a>> {
        let index = self.seek(key)?;
        Some(self.view.row_at(index, self.start))
    }

    /// The position and the change of a key.
    pub fn locate(&mut self, key: &[u8]) -> Option<(usize, Row<'a>)> {
        let index = self.seek(key)?;
        Some((index, self.view.row_at(index, self.start)))
    }

    /// The first position whose key is not below a key; the number of positions where all are.
    pub(crate) fn reach(&mut self, key: &[u8]) -> usize {
        self.seek(key).unwrap_or(self.index)
    }

    /// The position of a key.
    pub fn seek(&mut self, key: &[u8]) -> Option<usize> {
        self.leap(key);
        while self.index < self.view.len() {
            let here = self.view.keys.at(self.index, self.start);
            match here.cmp(key) {
                Ordering::Less => {
                    self.index += 1;
                    self.start += here.len();
                }
                Ordering::Equal => return Some(self.index),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Go to the last block that begins at or below the key, unless it is the one at hand.
    fn leap(&mut self, key: &[u8]) {
        let begins_above = |block: usize| self.block_key(block) > key;
        let blocks = self.view.keys.marks.len();
        let block = (self.index / STRIDE).min(blocks);
        let behind = self.index >= self.view.len() || self.view.keys.at(self.index, self.start) > key;
        let (mut low, mut high) = if behind {
            (0, (block + 1).min(blocks))
        } else {
            let mut step = 1;
            while block + step < blocks && !begins_above(block + step) {
                step *= 2;
            }
            (block + step / 2, (block + step).min(blocks))
        };
        while low + 1 < high {
            let middle = low.midpoint(high);
            if begins_above(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        if low < blocks && (behind || low > block) {
            self.index = low * STRIDE;
            self.start = self.view.keys.marks[low];
        }
    }

    fn block_key(&self, block: usize) -> &'a [u8] {
        let start = self.view.keys.marks[block];
        self.view.keys.at(block * STRIDE, start)
    }
}
