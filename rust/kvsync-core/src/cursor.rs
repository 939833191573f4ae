//! A walk over the changes of a segment in key order.

use crate::column::position;
use crate::row::Row;
use crate::segment::View;

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

/// The changes at ascending positions, as a coverage filter leaves them.
#[derive(Debug)]
pub struct Picks<'a> {
    view: View<'a>,
    rest: std::vec::IntoIter<u32>,
    index: usize,
    start: usize,
}

impl<'a> Picks<'a> {
    pub(crate) fn new(view: View<'a>, picks: Vec<u32>) -> Self {
        Self {
            view,
            rest: picks.into_iter(),
            index: 0,
            start: 0,
        }
    }
}

impl<'a> Iterator for Picks<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        let index = position(u64::from(self.rest.next()?));
        let near = index - self.index < crate::strings::STRIDE;
        self.start = if near {
            self.start + position(self.view.keys.sizes.sum(self.index, index))
        } else {
            self.view.keys.start(index)
        };
        self.index = index;
        Some(self.view.row_at(index, self.start))
    }
}
