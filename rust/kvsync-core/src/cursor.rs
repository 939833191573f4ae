//! A walk over the changes of a segment in key order.

use crate::column::position;
use crate::row::{DIGEST, Row};
use crate::segment::View;
use crate::strings::STRIDE;
use crate::uncovered::Choice;

/// An iterator over consecutive changes.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    view: View<'a>,
    index: usize,
    stop: usize,
    start: usize,
}

impl<'a> Cursor<'a> {
    /// The changes of a range of positions, cut to what there is.
    #[must_use]
    pub fn new(view: View<'a>, index: usize, stop: usize) -> Self {
        let stop = stop.min(view.len());
        let index = index.min(stop);
        let start = view.keys.start(index);
        Self {
            view,
            index,
            stop,
            start,
        }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        if self.index >= self.stop {
            return None;
        }
        let row = self.view.row_at(self.index, self.start);
        self.index += 1;
        self.start += row.key.len();
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.stop - self.index;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Cursor<'_> {}

/// So many changes are read in advance where few are picked.
const BATCH: usize = 256;
/// Picks count as few where their positions are so far apart in the mean.
const APART: usize = 4;

/// The changes at ascending positions, as a coverage filter leaves them.
#[derive(Debug)]
pub struct Picks<'a> {
    view: View<'a>,
    chosen: Choice<'a>,
    /// How many of the chosen positions were read.
    read: usize,
    /// Changes read in advance.
    batch: Vec<Row<'a>>,
    /// How many of them were given out.
    given: usize,
    /// A position not behind the last one read, and where its key begins.
    index: usize,
    start: usize,
}

impl<'a> Picks<'a> {
    pub(crate) const fn new(view: View<'a>, chosen: Choice<'a>) -> Self {
        Self {
            view,
            chosen,
            read: 0,
            batch: Vec::new(),
            given: 0,
            index: 0,
            start: 0,
        }
    }

    /// The position of the change that was given out last, and where its key begins.
    pub(crate) const fn here(&self) -> (usize, usize) {
        (self.index, self.start)
    }

    /// How many changes at consecutive positions are picked from the last one given out, at most `most`.
    ///
    /// None of them where changes are read in advance: there they are too few to be worth it.
    #[inline]
    pub(crate) fn run(&self, most: usize) -> usize {
        if self.given < self.batch.len() {
            return 0;
        }
        let given = self.read.saturating_sub(1);
        let places = match &self.chosen {
            Choice::Range(range) => return most.min(range.len() - given),
            Choice::List(places) => places,
        };
        let rest = &places[given..];
        let rest = &rest[..most.min(rest.len())];
        let [first, .., last] = rest else {
            return rest.len();
        };
        if position(u64::from(last - first)) == rest.len() - 1 {
            return rest.len();
        }
        let follows = |(place, expected): &(&u32, u32)| **place == *expected;
        rest.iter().zip(*first..).take_while(follows).count()
    }

    /// Leave out a run of changes, the last one given out being the first of them.
    pub(crate) fn skip_run(&mut self, count: usize, key_bytes: usize) {
        self.read += count - 1;
        self.index += count;
        self.start += key_bytes;
    }

    /// Read some changes in advance where few are picked.
    ///
    /// One after another, each would wait for memory several times. Read together they wait at once.
    fn read_batch(&mut self) {
        let Choice::List(places) = &self.chosen else {
            return;
        };
        let rest = &places[self.read..];
        let rest = &rest[..BATCH.min(rest.len())];
        let [first, .., last] = rest else {
            return;
        };
        if position(u64::from(last - first)) < APART * rest.len() {
            return;
        }
        let view = self.view;
        let row_at = |place: &u32| {
            let index = position(u64::from(*place));
            view.row_at(index, view.keys.start(index))
        };
        self.batch.clear();
        self.batch.extend(rest.iter().map(row_at));
        self.given = 0;
        self.read += rest.len();
        self.index = position(u64::from(*last));
        self.start = view.keys.start(self.index);
        touch(&self.batch);
    }
}

impl<'a> Iterator for Picks<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        if self.given == self.batch.len() {
            self.read_batch();
        }
        if let Some(row) = self.batch.get(self.given) {
            self.given += 1;
            return Some(*row);
        }
        let index = self.chosen.get(self.read)?;
        let near = index - self.index < STRIDE;
        self.start = if near {
            self.start + position(self.view.keys.sizes.sum(self.index, index))
        } else {
            self.view.keys.start(index)
        };
        self.index = index;
        self.read += 1;
        Some(self.view.row_at(index, self.start))
    }
}

/// Have the keys and digests of some changes brought near.
fn touch(rows: &[Row<'_>]) {
    let ends = |row: &Row<'_>| {
        let key = row.key.first().copied().unwrap_or(0) ^ row.key.last().copied().unwrap_or(0);
        key ^ row.digest[0] ^ row.digest[DIGEST - 1]
    };
    std::hint::black_box(rows.iter().fold(0, |sum, row| sum ^ ends(row)));
}
