//! The segments of one side with the changes that the other does not hold, split into ranges of keys.

use std::ops::Range;

use crate::pick::{PositionSlice, Positions};
use crate::seek::Seeker;
use crate::view::View;

/// How many ranges there are for each thread, so that one that is done early finds more work.
const RANGES_PER_THREAD: usize = 4;

/// The segments of one side, and the positions of the missing changes in each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentsSince<'a> {
    views: &'a [View<'a>],
    missing: &'a [Positions],
}

/// The part of some [`SegmentsSince`] that lies in a range of keys.
#[derive(Debug)]
pub(crate) struct KeyRange<'a> {
    whole: SegmentsSince<'a>,
    views: Vec<(View<'a>, PositionSlice<'a>)>,
}

impl<'a> SegmentsSince<'a> {
    pub(crate) const fn new(views: &'a [View<'a>], missing: &'a [Positions]) -> Self {
        Self { views, missing }
    }

    /// About how much it costs to compare, in bytes of index.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.missing.iter().map(Positions::cost_bytes).sum()
    }

    fn segments(&self) -> impl Iterator<Item = (View<'a>, &'a Positions)> + use<'a> {
        self.views.iter().copied().zip(self.missing)
    }

    /// Split at some keys into the ranges between them.
    fn split(self, cuts: &[&[u8]]) -> Vec<KeyRange<'a>> {
        let mut parts: Vec<_> = (0..=cuts.len()).map(|_| KeyRange::empty(self)).collect();
        for (view, missing) in self.segments() {
            let mut seeker = Seeker::new(view);
            let mut starts: Vec<_> = cuts.iter().map(|cut| seeker.lower_bound(cut)).collect();
            starts.push(view.len());
            let mut start = 0;
            for (part, stop) in parts.iter_mut().zip(starts) {
                let range: Range<usize> = start..stop;
                part.views.push((view, missing.within(&range)));
                start = stop;
            }
        }
        parts
    }
}

impl<'a> KeyRange<'a> {
    const fn empty(whole: SegmentsSince<'a>) -> Self {
        Self {
            whole,
            views: Vec::new(),
        }
    }

    /// The segments, and the positions of their missing changes in this range.
    pub(crate) fn views(&self) -> &[(View<'a>, PositionSlice<'a>)] {
        &self.views
    }

    /// The segments that have covered changes, where there are several segments.
    pub(crate) fn with_covered_changes(&self) -> impl Iterator<Item = View<'a>> + use<'a> {
        let several = self.whole.views.len() > 1;
        let mixed = move |(view, missing): &(View<'a>, &Positions)| several && missing.as_slice().len() < view.len();
        self.whole.segments().filter(mixed).map(|(view, _)| view)
    }
}

/// Split both sides at the same keys, into enough ranges for some threads.
pub(crate) fn split_by_keys([a, b]: [SegmentsSince<'_>; 2], threads: usize) -> Vec<(KeyRange<'_>, KeyRange<'_>)> {
    let parts = if threads == 1 { 1 } else { threads * RANGES_PER_THREAD };
    let segments = a.segments().chain(b.segments());
    let longest = segments.max_by_key(|(_, missing)| missing.as_slice().len());
    let cut = |part: usize| {
        let (view, missing) = longest?;
        let missing = missing.as_slice();
        let place = missing.get(missing.len() * part / parts)?;
        Some(view.keys.get(place))
    };
    let cuts: Vec<&[u8]> = (1..parts).filter_map(cut).collect();
    a.split(&cuts).into_iter().zip(b.split(&cuts)).collect()
}
