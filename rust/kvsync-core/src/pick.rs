//! Some changes of a segment, picked by their positions.

use std::ops::Range;

use crate::column::position;
use crate::row::{DIGEST_BYTES, Row};
use crate::strings::STRIDE;
use crate::view::View;

/// About how many bytes of the index are read for one change of a range.
const ROW_COST_BYTES: usize = 64;
/// A change by itself costs about as much as this many bytes of consecutive changes.
const SINGLE_ROW_COST_BYTES: usize = 512;

/// Ascending positions of some changes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// Consecutive positions, which take no memory.
    Range(Range<u32>),
    /// Single positions.
    List(Vec<u32>),
}

/// A part of some [`Positions`].
#[derive(Debug, Clone)]
pub(crate) enum PositionSlice<'a> {
    /// As [`Positions::Range`].
    Range(Range<u32>),
    /// As [`Positions::List`].
    List(&'a [u32]),
}

impl Positions {
    /// About how much it costs to compare the changes, in bytes of index read from the first to the last.
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            Self::Range(range) => range.len() * ROW_COST_BYTES,
            Self::List(list) => list.len().saturating_mul(SINGLE_ROW_COST_BYTES),
        }
    }

    /// Whether these are known to be the first `count` positions.
    pub(crate) fn is_first(&self, count: usize) -> bool {
        matches!(self, Self::Range(range) if range.start == 0 && range.len() == count)
    }

    pub(crate) fn as_slice(&self) -> PositionSlice<'_> {
        match self {
            Self::Range(range) => PositionSlice::Range(range.clone()),
            Self::List(list) => PositionSlice::List(list),
        }
    }

    /// The positions that lie in a range.
    pub(crate) fn within(&self, range: &Range<usize>) -> PositionSlice<'_> {
        let all = self.as_slice();
        let before = |stop: usize| match &all {
            PositionSlice::Range(all) => stop.clamp(index(all.start), index(all.end)) - index(all.start),
            PositionSlice::List(list) => list.partition_point(|position| index(*position) < stop),
        };
        let (start, stop) = (before(range.start), before(range.end));
        all.part(start..stop)
    }
}

impl PositionSlice<'_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    /// The position picked as number `number`.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<usize> {
        match self {
            Self::Range(range) => (number < range.len()).then(|| index(range.start) + number),
            Self::List(list) => list.get(number).copied().map(index),
        }
    }

    fn part(self, numbers: Range<usize>) -> Self {
        match self {
            Self::Range(range) => {
                let place = |number: usize| range.start + u32::try_from(number).unwrap_or(0);
                Self::Range(place(numbers.start)..place(numbers.end))
            }
            Self::List(list) => Self::List(&list[numbers]),
        }
    }
}

/// A stored position as an index.
#[inline]
pub(crate) fn index(place: u32) -> usize {
    position(u64::from(place))
}

/// How many changes are read in advance where few are picked.
const BATCH: usize = 256;
/// Picks count as few where their positions are this far apart on average.
const SPARSE_STEP: usize = 4;

/// The changes at ascending positions.
#[derive(Debug)]
pub(crate) struct PickedRows<'a> {
    view: View<'a>,
    picks: PositionSlice<'a>,
    /// How many of the picks were read.
    read: usize,
    /// Changes read in advance.
    batch: Vec<Row<'a>>,
    /// How many changes of the batch were returned.
    returned: usize,
    /// A position not after the last one read, and where its key begins.
    index: usize,
    key_start: usize,
}

impl<'a> PickedRows<'a> {
    pub(crate) const fn new(view: View<'a>, picks: PositionSlice<'a>) -> Self {
        Self {
            view,
            picks,
            read: 0,
            batch: Vec::new(),
            returned: 0,
            index: 0,
            key_start: 0,
        }
    }

    /// The position of the change that was returned last, and where its key begins.
    pub(crate) const fn place(&self) -> Place {
        Place {
            index: self.index,
            key_start: self.key_start,
        }
    }

    /// How many changes at consecutive positions are picked from the last one returned on, at most `most`.
    ///
    /// 0 where changes are read in advance: there the runs are too short to be worth comparing as a whole.
    #[inline]
    pub(crate) fn run_length(&self, most: usize) -> usize {
        if self.returned < self.batch.len() {
            return 0;
        }
        let last_returned = self.read.saturating_sub(1);
        let all = match &self.picks {
            PositionSlice::Range(range) => return most.min(range.len() - last_returned),
            PositionSlice::List(all) => all,
        };
        let rest = &all[last_returned..];
        let rest = &rest[..most.min(rest.len())];
        let [first, .., last] = rest else {
            return rest.len();
        };
        if index(last - first) == rest.len() - 1 {
            return rest.len();
        }
        let follows = |(place, expected): &(&u32, u32)| **place == *expected;
        rest.iter().zip(*first..).take_while(follows).count()
    }

    /// Skip a run of changes that begins with the last one returned.
    pub(crate) fn skip_run(&mut self, count: usize, key_bytes: usize) {
        self.read += count - 1;
        self.index += count;
        self.key_start += key_bytes;
    }

    /// Read some changes in advance where few are picked.
    ///
    /// Read one after another, each would wait for memory several times. Read together they wait at once.
    fn read_batch(&mut self) {
        let PositionSlice::List(all) = &self.picks else {
            return;
        };
        let rest = &all[self.read..];
        let rest = &rest[..BATCH.min(rest.len())];
        let [first, .., last] = rest else {
            return;
        };
        if index(last - first) < SPARSE_STEP * rest.len() {
            return;
        }
        let view = self.view;
        let row_at = |place: &u32| view.row_at(index(*place), view.keys.start(index(*place)));
        self.batch.clear();
        self.batch.extend(rest.iter().map(row_at));
        self.returned = 0;
        self.read += rest.len();
        self.index = index(*last);
        self.key_start = view.keys.start(self.index);
        touch(&self.batch);
    }
}

impl<'a> Iterator for PickedRows<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        if self.returned == self.batch.len() {
            self.read_batch();
        }
        if let Some(row) = self.batch.get(self.returned) {
            self.returned += 1;
            return Some(*row);
        }
        let index = self.picks.get(self.read)?;
        let near = index - self.index < STRIDE;
        self.key_start = if near {
            self.key_start + position(self.view.keys.sizes.sum(self.index, index))
        } else {
            self.view.keys.start(index)
        };
        self.index = index;
        self.read += 1;
        Some(self.view.row_at(index, self.key_start))
    }
}

/// A position in a segment, and where its key begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) key_start: usize,
}

/// Have the keys and digests of some changes loaded into the processor's cache.
fn touch(rows: &[Row<'_>]) {
    let ends = |row: &Row<'_>| {
        let key = row.key.first().copied().unwrap_or(0) ^ row.key.last().copied().unwrap_or(0);
        key ^ row.digest[0] ^ row.digest[DIGEST_BYTES - 1]
    };
    std::hint::black_box(rows.iter().fold(0, |sum, row| sum ^ ends(row)));
}
