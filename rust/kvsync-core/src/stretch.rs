//! The segments of one side with what the other lacks of them, cut into ranges of keys.

use std::ops::Range;

use crate::merge::Seeker;
use crate::segment::View;
use crate::uncovered::{Choice, Chosen};

/// Ranges are cut for each thread, so that one that is done early has something left to do.
const PARTS_A_THREAD: usize = 4;

/// Segments of one side, and of each the positions that count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    views: &'a [View<'a>],
    chosen: &'a [Chosen],
}

/// What a range of keys holds of a stretch.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    stretch: Stretch<'a>,
    views: Vec<(View<'a>, Choice<'a>)>,
}

impl<'a> Stretch<'a> {
    pub(crate) const fn new(views: &'a [View<'a>], chosen: &'a [Chosen]) -> Self {
        Self { views, chosen }
    }

    /// About how much it is to compare, in bytes of index.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.chosen.iter().map(Chosen::cost_bytes).sum()
    }

    fn segments(&self) -> impl Iterator<Item = (View<'a>, &'a Chosen)> + use<'a> {
        self.views.iter().copied().zip(self.chosen)
    }

    /// Of each range of keys, from one cut to the next, what there is.
    fn cut(self, cuts: &[&[u8]]) -> Vec<Part<'a>> {
        let mut parts: Vec<_> = (0..=cuts.len()).map(|_| Part::empty(self)).collect();
        for (view, chosen) in self.segments() {
            let mut seeker = Seeker::new(view);
            let mut starts: Vec<_> = cuts.iter().map(|cut| seeker.reach(cut)).collect();
            starts.push(view.len());
            let mut start = 0;
            for (part, stop) in parts.iter_mut().zip(starts) {
                let range: Range<usize> = start..stop;
                part.views.push((view, chosen.within(&range)));
                start = stop;
            }
        }
        parts
    }
}

impl<'a> Part<'a> {
    const fn empty(stretch: Stretch<'a>) -> Self {
        Self {
            stretch,
            views: Vec::new(),
        }
    }

    /// The segments, and what counts of them here.
    pub(crate) fn views(&self) -> &[(View<'a>, Choice<'a>)] {
        &self.views
    }

    /// The segments that have changes which do not count, beside others that may.
    pub(crate) fn others(&self) -> impl Iterator<Item = View<'a>> + use<'a> {
        let several = self.stretch.views.len() > 1;
        let mixed = move |(view, chosen): &(View<'a>, &Chosen)| several && chosen.all().len() < view.len();
        self.stretch.segments().filter(mixed).map(|(view, _)| view)
    }
}

/// Cut two stretches by the same keys, into as many parts as some threads can do with.
pub(crate) fn divide<'a>(a: Stretch<'a>, b: Stretch<'a>, threads: usize) -> Vec<(Part<'a>, Part<'a>)> {
    let parts = if threads == 1 { 1 } else { threads * PARTS_A_THREAD };
    let segments = a.segments().chain(b.segments());
    let longest = segments.max_by_key(|(_, chosen)| chosen.all().len());
    let cut = |part: usize| {
        let (view, chosen) = longest?;
        let chosen = chosen.all();
        let place = chosen.get(chosen.len() * part / parts)?;
        Some(view.keys.get(place))
    };
    let cuts: Vec<&[u8]> = (1..parts).filter_map(cut).collect();
    a.cut(&cuts).into_iter().zip(b.cut(&cuts)).collect()
}
