//! The changes of a segment that a cover does not hold.

use crate::column::{Number, each_width, position};
use crate::cover::{Cover, Span};
use crate::error::{Error, Result};
use crate::pick::{Positions, index};
use crate::view::View;

/// How many changes are skipped at once where all of them are covered.
const GROUP: usize = 16;

/// What a cover holds of one origin of a segment, in numbers relative to the segment's stamp base.
#[derive(Clone, Copy)]
struct Bound {
    /// Stamps below this are covered.
    below: u64,
    /// Whether the cover may hold some of the other stamps as well.
    has_exceptions: bool,
}

impl Bound {
    fn new(view: &View<'_>, cover: &Cover, origin: u64) -> Self {
        let base = view.layout.stamp_base;
        let held = cover.vector().get(&origin).filter(|held| **held >= base);
        let below = held.map_or(0, |held| (held - base).saturating_add(1));
        Self {
            below,
            has_exceptions: below == u64::MAX || cover.has_exceptions(origin),
        }
    }
}

/// Positions of the changes that a cover does not hold.
pub(crate) fn missing_rows(view: View<'_>, cover: &Cover) -> Result<Positions> {
    let length = view.len();
    let count = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    if cover.covers_all(view.maxima()) {
        return Ok(Positions::Range(0..0));
    }
    let origins = view.layout.origins.iter();
    let bounds: Vec<Bound> = origins.map(|origin| Bound::new(&view, cover, *origin)).collect();
    let exceptions = bounds.iter().any(|bound| bound.has_exceptions);
    if !exceptions && bounds.iter().all(|bound| bound.below == 0) {
        return Ok(Positions::Range(0..count));
    }
    let mut missing = each_width!(view.stamp, stamps => each_width!(view.origin, origins => {
        above(stamps, origins, &bounds)
    }));
    if exceptions {
        let mut lookup = CoverLookup::new(cover);
        missing.retain(|place| {
            let origin = position(view.origin.get(index(*place)));
            let stamp = view.layout.stamp_base + view.stamp.get(index(*place));
            !(bounds[origin].has_exceptions && lookup.covers(view.layout.origins[origin], stamp))
        });
    }
    Ok(Positions::List(missing))
}

/// Looks up changes in a cover; quickest where a change lies in the span of the one before, or in the next.
struct CoverLookup<'a> {
    cover: &'a Cover,
    span: usize,
}

impl<'a> CoverLookup<'a> {
    const fn new(cover: &'a Cover) -> Self {
        Self { cover, span: 0 }
    }

    fn covers(&mut self, origin: u64, stamp: u64) -> bool {
        let spans = self.cover.exceptions();
        let ends_below = |span: &Span| (span.origin, span.last) < (origin, stamp);
        let follows = |place: usize| spans.get(place.wrapping_sub(1)).is_none_or(ends_below);
        let is_first = |place: usize| follows(place) && spans.get(place).is_none_or(|span| !ends_below(span));
        if !is_first(self.span) {
            self.span += 1;
            if !is_first(self.span) {
                self.span = spans.partition_point(ends_below);
            }
        }
        let begins_below = |span: &Span| span.origin == origin && span.first <= stamp;
        spans.get(self.span).is_some_and(begins_below) || self.cover.covers(origin, stamp)
    }
}

/// Positions of the stamps that reach the bounds of their origins.
fn above<S: Number, O: Number>(stamps: &[S], origins: &[O], bounds: &[Bound]) -> Vec<u32> {
    let least = bounds.iter().map(|bound| bound.below).min().unwrap_or(0);
    let mut missing = Vec::new();
    let groups = stamps.chunks(GROUP).zip(origins.chunks(GROUP));
    for ((stamps, origins), start) in groups.zip((0_u32..).step_by(GROUP)) {
        // No branch for each stamp, so that this is compiled to vector instructions.
        let reached = |any, stamp: &S| any | (stamp.get() >= least);
        if !stamps.iter().fold(false, reached) {
            continue;
        }
        let numbered = stamps.iter().zip(origins).zip(start..);
        let reaching = numbered.filter(|((stamp, origin), _)| {
            let bound = bounds.get(position(origin.get()));
            bound.is_none_or(|bound| stamp.get() >= bound.below)
        });
        missing.extend(reaching.map(|(_, place)| place));
    }
    missing
}
