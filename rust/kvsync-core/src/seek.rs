//! Lookup of keys in a segment.

use std::cmp::Ordering;

use crate::row::Row;
use crate::strings::STRIDE;
use crate::view::View;

impl<'a> View<'a> {
    /// The change of each of some keys; quickest where the keys ascend.
    #[must_use]
    pub fn find(&self, keys: &[&str]) -> Vec<Option<Row<'a>>> {
        let mut seeker = Seeker::new(*self);
        let find = |key: &&str| seeker.find(key.as_bytes());
        keys.iter().map(find).collect()
    }
}

/// Looks up keys one after another; a key that follows shortly after the one before takes few steps.
#[derive(Debug)]
pub(crate) struct Seeker<'a> {
    view: View<'a>,
    index: usize,
    key_start: usize,
}

impl<'a> Seeker<'a> {
    /// Start at the first key.
    pub(crate) const fn new(view: View<'a>) -> Self {
        Self {
            view,
            index: 0,
            key_start: 0,
        }
    }

    /// Number of changes.
    pub(crate) const fn len(&self) -> usize {
        self.view.len()
    }

    /// The change of a key.
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<Row<'a>> {
        Some(self.find_with_position(key)?.1)
    }

    /// The position and the change of a key.
    pub(crate) fn find_with_position(&mut self, key: &[u8]) -> Option<(usize, Row<'a>)> {
        let index = self.seek(key)?;
        Some((index, self.view.row_at(index, self.key_start)))
    }

    /// The first position whose key is not below `key`; the number of positions where all keys are below it.
    pub(crate) fn lower_bound(&mut self, key: &[u8]) -> usize {
        self.seek(key).unwrap_or(self.index)
    }

    /// The position of a key.
    fn seek(&mut self, key: &[u8]) -> Option<usize> {
        self.jump_to_block(key);
        while self.index < self.view.len() {
            let here = self.view.keys.at(self.index, self.key_start);
            match here.cmp(key) {
                Ordering::Less => {
                    self.index += 1;
                    self.key_start += here.len();
                }
                Ordering::Equal => return Some(self.index),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Go to the last block that begins at or below the key, unless it is the current one.
    fn jump_to_block(&mut self, key: &[u8]) {
        let blocks = self.view.keys.marks.len();
        let block = (self.index / STRIDE).min(blocks);
        let backward = self.index >= self.view.len() || self.view.keys.at(self.index, self.key_start) > key;
        let (mut low, mut high) = if backward {
            (0, (block + 1).min(blocks))
        } else {
            self.gallop(block, key)
        };
        while low + 1 < high {
            let middle = low.midpoint(high);
            if self.begins_above(middle, key) {
                high = middle;
            } else {
                low = middle;
            }
        }
        if low < blocks && (backward || low > block) {
            self.index = low * STRIDE;
            self.key_start = self.view.keys.marks[low];
        }
    }

    /// Bounds of the block that holds a key, at or after `block`, found in steps that double.
    fn gallop(&self, block: usize, key: &[u8]) -> (usize, usize) {
        let blocks = self.view.keys.marks.len();
        let mut step = 1;
        while block + step < blocks && !self.begins_above(block + step, key) {
            step *= 2;
        }
        (block + step / 2, (block + step).min(blocks))
    }

    fn begins_above(&self, block: usize, key: &[u8]) -> bool {
        let start = self.view.keys.marks[block];
        self.view.keys.at(block * STRIDE, start) > key
    }
}
