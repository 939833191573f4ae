//! The changes that a cover lacks.

use std::ops::Range;

use crate::column::{Number, position};
use crate::cover::{Cover, Span};
use crate::each_width;
use crate::error::{Error, Result};
use crate::segment::View;

/// So many changes are passed over as a whole where all of them are covered.
const PACE: usize = 16;

/// About so many bytes are read for a change.
const ROW_BYTES: usize = 64;
/// A change by itself takes as long as so many bytes of changes that follow one another.
const SINGLE_BYTES: usize = 512;

/// Ascending positions of some changes of a segment.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    /// These and all between them, which costs no memory.
    Range(Range<u32>),
    /// Single ones.
    List(Vec<u32>),
}

/// A part of what was chosen.
#[derive(Debug, Clone)]
pub(crate) enum Choice<'a> {
    /// As [`Chosen::Range`].
    Range(Range<u32>),
    /// As [`Chosen::List`].
    List(&'a [u32]),
}

impl Chosen {
    /// About how much it is to compare them, in bytes of index read from the first to the last.
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            Self::Range(range) => range.len() * ROW_BYTES,
            Self::List(list) => list.len().saturating_mul(SINGLE_BYTES),
        }
    }

    /// Whether these are known to be so many, from the first on.
    pub(crate) fn is_range_of(&self, count: usize) -> bool {
        matches!(self, Self::Range(range) if range.start == 0 && range.len() == count)
    }

    pub(crate) fn all(&self) -> Choice<'_> {
        match self {
            Self::Range(range) => Choice::Range(range.clone()),
            Self::List(list) => Choice::List(list),
        }
    }

    /// Those of a range of positions.
    pub(crate) fn within(&self, range: &Range<usize>) -> Choice<'_> {
        let all = self.all();
        let before = |stop: usize| match &all {
            Choice::Range(all) => stop.clamp(index(all.start), index(all.end)) - index(all.start),
            Choice::List(list) => list.partition_point(|place| index(*place) < stop),
        };
        let (start, stop) = (before(range.start), before(range.end));
        all.part(start, stop)
    }
}

impl Choice<'_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    /// The position chosen as number `number`.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<usize> {
        match self {
            Self::Range(range) => (number < range.len()).then(|| index(range.start) + number),
            Self::List(list) => list.get(number).copied().map(index),
        }
    }

    fn part(self, start: usize, stop: usize) -> Self {
        match self {
            Self::Range(range) => {
                let place = |number: usize| range.start + u32::try_from(number).unwrap_or(0);
                Self::Range(place(start)..place(stop))
            }
            Self::List(list) => Self::List(&list[start..stop]),
        }
    }
}

fn index(place: u32) -> usize {
    position(u64::from(place))
}

/// What a cover says of one origin of a segment, in the segment's own numbers.
#[derive(Clone, Copy)]
struct Bound {
    /// Stamps below this are covered.
    below: u64,
    /// For the others the cover itself must be asked.
    ask: bool,
}

impl Bound {
    fn new(view: &View<'_>, cover: &Cover, origin: u64) -> Self {
        let base = view.layout.stamp_base;
        let held = cover.vector().get(&origin).filter(|held| **held >= base);
        let below = held.map_or(0, |held| (held - base).saturating_add(1));
        Self {
            below,
            ask: below == u64::MAX || cover.has_exceptions(origin),
        }
    }
}

/// Positions of the changes that a cover lacks.
pub(crate) fn uncovered(view: View<'_>, cover: &Cover) -> Result<Chosen> {
    let length = view.len();
    let count = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    if cover.covers_all(view.maxima()) {
        return Ok(Chosen::Range(0..0));
    }
    let origins = view.layout.origins.iter();
    let bounds: Vec<Bound> = origins.map(|origin| Bound::new(&view, cover, *origin)).collect();
    let ask = bounds.iter().any(|bound| bound.ask);
    if !ask && bounds.iter().all(|bound| bound.below == 0) {
        return Ok(Chosen::Range(0..count));
    }
    let mut picks = each_width!(view.stamp, stamps => each_width!(view.origin, origins => {
        above(stamps, origins, &bounds)
    }));
    if ask {
        let mut near = Nearby::new(cover);
        picks.retain(|pick| {
            let origin = position(view.origin.get(index(*pick)));
            let stamp = view.layout.stamp_base + view.stamp.get(index(*pick));
            !(bounds[origin].ask && near.covers(view.layout.origins[origin], stamp))
        });
    }
    Ok(Chosen::List(picks))
}

/// Asks a cover; quickest where the answer lies in the span of the last one, or in the next.
struct Nearby<'a> {
    cover: &'a Cover,
    place: usize,
}

impl<'a> Nearby<'a> {
    const fn new(cover: &'a Cover) -> Self {
        Self { cover, place: 0 }
    }

    fn covers(&mut self, origin: u64, stamp: u64) -> bool {
        let spans = self.cover.exceptions();
        let ends_below = |span: &Span| (span.origin, span.last) < (origin, stamp);
        let after = |place: usize| spans.get(place.wrapping_sub(1)).is_none_or(ends_below);
        let found = |place: usize| after(place) && spans.get(place).is_none_or(|span| !ends_below(span));
        if !found(self.place) {
            self.place += 1;
            if !found(self.place) {
                self.place = spans.partition_point(ends_below);
            }
        }
        let begun = |span: &Span| span.origin == origin && span.first <= stamp;
        spans.get(self.place).is_some_and(begun) || self.cover.covers(origin, stamp)
    }
}

/// Positions of the stamps that reach the bounds of their origins.
fn above<S: Number, O: Number>(stamps: &[S], origins: &[O], bounds: &[Bound]) -> Vec<u32> {
    let least = bounds.iter().map(|bound| bound.below).min().unwrap_or(0);
    let mut picks = Vec::new();
    let paces = stamps.chunks(PACE).zip(origins.chunks(PACE));
    for ((stamps, origins), start) in paces.zip((0_u32..).step_by(PACE)) {
        // Without a branch a stamp.
        let reached = |any, stamp: &S| any | (stamp.get() >= least);
        if !stamps.iter().fold(false, reached) {
            continue;
        }
        let numbered = stamps.iter().zip(origins).zip(start..);
        let lacking = numbered.filter(|((stamp, origin), _)| {
            let bound = bounds.get(position(origin.get()));
            bound.is_none_or(|bound| stamp.get() >= bound.below)
        });
        picks.extend(lacking.map(|(_, place)| place));
    }
    picks
}
