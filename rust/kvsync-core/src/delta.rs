//! What each side lacks of the other.

use std::cmp::Ordering;

use crate::build::Builder;
use crate::cover::Cover;
use crate::cursor::Picks;
use crate::error::Result;
use crate::key;
use crate::merge::{Newest, Seeker};
use crate::row::Row;
use crate::segment::{Segment, View};
use crate::stretch::{Part, Stretch, divide};
use crate::twin::Twins;
use crate::uncovered::{Chosen, uncovered};
use crate::workers::{self, Workers};

/// So many changes are compared as a whole after one that differed.
const LEAST_REACH: usize = 8;
/// So many at most: each column is read for long without a change to another, and keys stay near.
const GREATEST_REACH: usize = 4096;

/// How many segments an outcome has.
const BUILDERS: usize = 6;

/// The outcome, for sides A and B.
#[derive(Debug)]
pub struct Delta {
    /// Changes to apply at A.
    pub to_a: Segment<Vec<u8>>,
    /// Changes to apply at B.
    pub to_b: Segment<Vec<u8>>,
    /// Changes to log at A, whose value it has already, to go at the same time.
    pub log_a: Segment<Vec<u8>>,
    /// Changes to log at B, whose value it has already, to go at the same time.
    pub log_b: Segment<Vec<u8>>,
    /// A's changes of the keys that both sides changed without knowing of each other, to another value or another time.
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
/// [`Error::ForgedKey`](crate::Error::ForgedKey) where a key that would go out is reserved.
pub fn delta(a: &[View<'_>], b: &[View<'_>], cover_a: &Cover, cover_b: &Cover, ordered: bool) -> Result<Delta> {
    delta_by(Workers::ALONE, [a, b], [cover_a, cover_b], ordered)
}

/// As [`delta`]; where much is lacking, several threads compare it by ranges of keys.
///
/// # Errors
/// As [`delta`].
pub fn delta_by(
    workers: Workers,
    [a, b]: [&[View<'_>]; 2],
    [cover_a, cover_b]: [&Cover; 2],
    ordered: bool,
) -> Result<Delta> {
    let views = || a.iter().chain(b);
    let stamped = views().map(|view| view.layout.stamp.len() + view.layout.origin.len());
    let threads = workers.for_bytes(stamped.sum());
    let chosen = workers::run(threads, views().count(), |index| match a.get(index) {
        Some(view) => uncovered(*view, cover_b),
        None => uncovered(b[index - a.len()], cover_a),
    });
    let chosen: Vec<Chosen> = chosen.into_iter().collect::<Result<_>>()?;
    let (for_b, for_a) = chosen.split_at(a.len());
    let (a, b) = (Stretch::new(a, for_b), Stretch::new(b, for_a));
    let threads = workers.for_bytes(a.cost_bytes().saturating_add(b.cost_bytes()));
    let parts = divide(a, b, threads);
    let outcomes = workers::run(threads, parts.len(), |part| {
        let (a, b) = &parts[part];
        Outcome::of(a, b, ordered)
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().collect::<Result<_>>()?;
    finish(threads, &outcomes)
}

/// The place of the one segment that a stretch has, where all of it is lacking on a side that has nothing to compare.
///
/// It is then the delta by itself, and nothing has to be copied.
///
/// # Errors
/// As [`delta`].
pub fn sole(given: &[View<'_>], taker: &[View<'_>], cover: &Cover) -> Result<Option<usize>> {
    if taker.iter().any(|view| !view.is_empty()) {
        return Ok(None);
    }
    let mut filled = (0..).zip(given).filter(|(_, view)| !view.is_empty());
    let (Some((place, view)), None) = (filled.next(), filled.next()) else {
        return Ok(None);
    };
    if !uncovered(*view, cover)?.is_range_of(view.len()) {
        return Ok(None);
    }
    if !key::is_harmless(view.keys.bytes) {
        for row in view {
            key::check_sent(row.key)?;
        }
    }
    Ok(Some(place))
}

/// Put the outcomes of ascending ranges of keys together.
fn finish(threads: usize, outcomes: &[Outcome]) -> Result<Delta> {
    let all: Vec<_> = outcomes.iter().map(Outcome::builders).collect();
    let joined = workers::run(threads, BUILDERS, |place| {
        let parts: Vec<&Builder> = all.iter().map(|builders| builders[place]).collect();
        Builder::join(&parts)
    });
    let mut joined = joined.into_iter();
    let mut next = || joined.next().unwrap_or_else(|| Builder::default().finish());
    Ok(Delta {
        to_a: next()?,
        to_b: next()?,
        log_a: next()?,
        log_b: next()?,
        conflict_a: next()?,
        conflict_b: next()?,
    })
}

impl Outcome {
    fn of(a: &Part<'_>, b: &Part<'_>, ordered: bool) -> Result<Self> {
        let mut outcome = Self::default();
        if let ([(a, for_b)], [(b, for_a)]) = (a.views(), b.views()) {
            let for_b = Picks::new(*a, for_b.clone());
            let for_a = Picks::new(*b, for_a.clone());
            outcome.compare_twins(&Twins::new(*a, *b), [for_b, for_a], ordered)?;
        } else {
            outcome.compare(Unknown::new(a), Unknown::new(b), ordered)?;
        }
        Ok(outcome)
    }

    /// What it consists of, in the order of a [`Delta`].
    const fn builders(&self) -> [&Builder; BUILDERS] {
        let Self {
            to_a,
            to_b,
            log_a,
            log_b,
            conflict_a,
            conflict_b,
        } = self;
        [to_a, to_b, log_a, log_b, conflict_a, conflict_b]
    }

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
        let mut reach = GREATEST_REACH;
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
            // To look far costs nothing where the stamps, which go first, say how far.
            reach = if run.by_stamp {
                GREATEST_REACH
            } else {
                (2 * run.count + LEAST_REACH).min(GREATEST_REACH)
            };
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
        // The same value that goes at another time has to be written again.
        let there = a.same_effect(b) && a.expires == b.expires;
        match a.order(b) {
            Ordering::Equal => {}
            Ordering::Greater if there => self.log_b.push(a),
            Ordering::Less if there => self.log_a.push(b),
            Ordering::Greater if ordered => self.to_b.push(a),
            Ordering::Less if ordered => self.to_a.push(b),
            _ => {
                self.conflict_a.push(a);
                self.conflict_b.push(b);
            }
        }
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
    fn new(part: &Part<'a>) -> Self {
        let picks = part.views().iter().filter(|(_, choice)| choice.len() > 0);
        let picks = picks.map(|(view, choice)| Picks::new(*view, choice.clone()));
        let others = part.others().map(Seeker::new);
        Self {
            candidates: Newest::new(picks),
            others: others.collect(),
        }
    }
}

impl<'a> Iterator for Unknown<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let others = &mut self.others;
        self.candidates.find(|row| {
            let newer = |found: Row<'_>| found.order(row) == Ordering::Greater;
            !others.iter_mut().any(|other| other.find(row.key).is_some_and(newer))
        })
    }
}
