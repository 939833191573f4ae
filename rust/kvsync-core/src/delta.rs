//! What each side lacks of the other.

use std::cmp::Ordering;

use crate::build::Builder;
use crate::column::{Number, position};
use crate::cover::{Cover, Span};
use crate::cursor::Picks;
use crate::each_width;
use crate::error::{Error, Result};
use crate::key;
use crate::merge::{Newest, Seeker};
use crate::row::Row;
use crate::segment::{Segment, View};
use crate::strings::STRIDE;
use crate::twin::Twins;

/// So many changes are compared as a whole after one that differed.
const LEAST_REACH: usize = 8;
/// So many at most, that one column of them stays near until the next is compared.
const GREATEST_REACH: usize = 1024;

/// The outcome, for sides A and B.
#[derive(Debug)]
pub struct Delta {
    /// Changes to apply at A.
    pub to_a: Segment<Vec<u8>>,
    /// Changes to apply at B.
    pub to_b: Segment<Vec<u8>>,
    /// Changes to log at A, whose value it has already.
    pub log_a: Segment<Vec<u8>>,
    /// Changes to log at B, whose value it has already.
    pub log_b: Segment<Vec<u8>>,
    /// A's changes of the keys that both sides changed without knowing of each other.
    pub conflict_a: Segment<Vec<u8>>,
    /// B's changes of the same keys.
    pub conflict_b: Segment<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Outcome {
    to_a: Builder,
    to_b: Builder,
    log_a: Builder,
    log_b: Builder,
    conflict_a: Builder,
    conflict_b: Builder,
}

/// Compare the newest changes of two stretches by what the other side holds.
///
/// With `ordered`, the greater of two changes of a key wins instead of being a conflict.
///
/// # Errors
/// [`Error::ForgedKey`] where a key that would go out is reserved.
pub fn delta(
    a: &[View<'_>],
    b: &[View<'_>],
    cover_a: &Cover,
    cover_b: &Cover,
    ordered: bool,
) -> Result<Delta> {
    let mut outcome = Outcome::default();
    if let ([a], [b]) = (a, b) {
        let for_b = Picks::new(*a, uncovered(*a, cover_b)?);
        let for_a = Picks::new(*b, uncovered(*b, cover_a)?);
        outcome.compare_twins(&Twins::new(*a, *b), [for_b, for_a], ordered)?;
    } else {
        outcome.compare(
            Unknown::new(a, cover_b)?,
            Unknown::new(b, cover_a)?,
            ordered,
        )?;
    }
    outcome.finish()
}

impl Outcome {
    fn compare<'a>(
        &mut self,
        for_b: impl Iterator<Item = Row<'a>>,
        for_a: impl Iterator<Item = Row<'a>>,
        ordered: bool,
    ) -> Result<()> {
        let (mut for_b, mut for_a) = (for_b.peekable(), for_a.peekable());
        loop {
            let order = match (for_b.peek(), for_a.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(row_a), Some(row_b)) => row_a.key.cmp(row_b.key),
            };
            let row_a = for_b.next_if(|_| order.is_le());
            let row_b = for_a.next_if(|_| order.is_ge());
            self.add(row_a.as_ref(), row_b.as_ref(), ordered)?;
        }
    }

    /// Compare two segments; runs of changes that are the same in both are left out as a whole.
    fn compare_twins(
        &mut self,
        twins: &Twins<'_>,
        [mut for_b, mut for_a]: [Picks<'_>; 2],
        ordered: bool,
    ) -> Result<()> {
        let (mut next_a, mut next_b) = (for_b.next(), for_a.next());
        let mut reach = LEAST_REACH;
        while let (Some(row_a), Some(row_b)) = (&next_a, &next_b) {
            let most = for_b.run(reach).min(for_a.run(reach));
            let run = twins.run(for_b.here(), for_a.here(), most);
            let order = if run.count > 0 {
                run.check()?;
                for_b.skip_run(run.count, run.keys.len());
                for_a.skip_run(run.count, run.keys.len());
                Ordering::Equal
            } else {
                let order = row_a.key.cmp(row_b.key);
                let row_a = order.is_le().then_some(row_a);
                self.add(row_a, order.is_ge().then_some(row_b), ordered)?;
                order
            };
            reach = (2 * run.count + LEAST_REACH).min(GREATEST_REACH);
            if order.is_le() {
                next_a = for_b.next();
            }
            if order.is_ge() {
                next_b = for_a.next();
            }
        }
        self.compare(
            next_a.into_iter().chain(for_b),
            next_b.into_iter().chain(for_a),
            ordered,
        )
    }

    fn add(&mut self, a: Option<&Row<'_>>, b: Option<&Row<'_>>, ordered: bool) -> Result<()> {
        if let Some(row) = a.or(b) {
            key::check_sent(row.key)?;
        }
        match (a, b) {
            (Some(row), None) => self.to_b.push(row),
            (None, Some(row)) => self.to_a.push(row),
            (Some(row_a), Some(row_b)) => self.add_both(row_a, row_b, ordered),
            (None, None) => {}
        }
        Ok(())
    }

    fn add_both(&mut self, a: &Row<'_>, b: &Row<'_>, ordered: bool) {
        let same = a.same_effect(b);
        match a.order(b) {
            Ordering::Equal => {}
            Ordering::Greater if same => self.log_b.push(a),
            Ordering::Less if same => self.log_a.push(b),
            Ordering::Greater if ordered => self.to_b.push(a),
            Ordering::Less if ordered => self.to_a.push(b),
            _ => {
                self.conflict_a.push(a);
                self.conflict_b.push(b);
            }
        }
    }

    fn finish(self) -> Result<Delta> {
        Ok(Delta {
            to_a: self.to_a.finish()?,
            to_b: self.to_b.finish()?,
            log_a: self.log_a.finish()?,
            log_b: self.log_b.finish()?,
            conflict_a: self.conflict_a.finish()?,
            conflict_b: self.conflict_b.finish()?,
        })
    }
}

/// The newest change of each key over a stretch, as far as a cover lacks it.
///
/// A covered change may be newer than an uncovered one of its key: then nothing of the key is lacking.
/// So each candidate is looked up in every segment that has covered changes.
struct Unknown<'a> {
    candidates: Newest<'a, Picks<'a>>,
    others: Vec<Seeker<'a>>,
}

impl<'a> Unknown<'a> {
    fn new(stretch: &[View<'a>], cover: &Cover) -> Result<Self> {
        let mut picked = Vec::new();
        let mut others = Vec::new();
        for view in stretch {
            let picks = uncovered(*view, cover)?;
            if picks.len() < view.len() && stretch.len() > 1 {
                others.push(Seeker::new(*view));
            }
            if !picks.is_empty() {
                picked.push(Picks::new(*view, picks));
            }
        }
        Ok(Self {
            candidates: Newest::new(picked),
            others,
        })
    }
}

impl<'a> Iterator for Unknown<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let others = &mut self.others;
        self.candidates.find(|row| {
            let newer = |found: Row<'_>| found.order(row) == Ordering::Greater;
            !others
                .iter_mut()
                .any(|other| other.find(row.key).is_some_and(newer))
        })
    }
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
            ask: below == u64::MAX || cover.has_ahead(origin),
        }
    }
}

/// Positions of the changes that a cover lacks.
fn uncovered(view: View<'_>, cover: &Cover) -> Result<Vec<u32>> {
    let length = view.len();
    u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    if cover.covers_all(view.maxima()) {
        return Ok(Vec::new());
    }
    let origins = view.layout.origins.iter();
    let bounds: Vec<Bound> = origins
        .map(|origin| Bound::new(&view, cover, *origin))
        .collect();
    let mut picks = match bounds.as_slice() {
        bounds if bounds.iter().all(|bound| bound.below == 0) => (0..).take(length).collect(),
        [bound] => each_width!(view.stamp, stamps => above(stamps, bound.below)),
        bounds => each_width!(view.stamp, stamps => each_width!(view.origin, origins => {
            above_each(stamps, origins, bounds)
        })),
    };
    if bounds.iter().any(|bound| bound.ask) {
        let mut near = Nearby::new(cover);
        picks.retain(|pick| {
            let index = position(u64::from(*pick));
            let origin = position(view.origin.get(index));
            let stamp = view.layout.stamp_base + view.stamp.get(index);
            !(bounds[origin].ask && near.covers(view.layout.origins[origin], stamp))
        });
    }
    Ok(picks)
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
        let spans = self.cover.ahead();
        let ends_below = |span: &Span| (span.origin, span.last) < (origin, stamp);
        let after = |place: usize| spans.get(place.wrapping_sub(1)).is_none_or(ends_below);
        let found =
            |place: usize| after(place) && spans.get(place).is_none_or(|span| !ends_below(span));
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

fn above<S: Number>(stamps: &[S], below: u64) -> Vec<u32> {
    let mut picks = Vec::new();
    let blocks = stamps.chunks(STRIDE).zip((0_u32..).step_by(STRIDE));
    for (block, start) in blocks {
        if crate::column::max(block) < below {
            continue;
        }
        let numbered = block.iter().zip(start..);
        let lacking = numbered.filter(|(stamp, _)| stamp.get() >= below);
        picks.extend(lacking.map(|(_, index)| index));
    }
    picks
}

fn above_each<S: Number, O: Number>(stamps: &[S], origins: &[O], bounds: &[Bound]) -> Vec<u32> {
    let numbered = stamps.iter().zip(origins).zip(0..);
    let lacking = numbered.filter(|((stamp, origin), _)| {
        let bound = bounds.get(position(origin.get()));
        bound.is_none_or(|bound| stamp.get() >= bound.below)
    });
    lacking.map(|(_, index)| index).collect()
}
