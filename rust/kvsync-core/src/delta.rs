//! What each side misses of the other.

use std::cmp::Ordering;

use crate::build::Builder;
use crate::cover::Cover;
use crate::equal_runs::{EqualRun, EqualRuns};
use crate::error::Result;
use crate::key;
use crate::merge::Newest;
use crate::missing_rows::missing_rows;
use crate::pick::{PickedRows, Positions};
use crate::row::Row;
use crate::seek::Seeker;
use crate::segment::Segment;
use crate::segments_since::{KeyRange, SegmentsSince, split_by_keys};
use crate::view::View;
use crate::workers::{self, Workers};

/// How many changes are compared at once after one that differed.
const REACH_MIN: usize = 8;
/// How many at most: each column is read for long without a switch to another, and keys stay in the cache.
const REACH_MAX: usize = 4096;

/// How many segments a delta has.
const SEGMENTS: usize = 6;

/// One of the two sides to compare.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Segments of the side, among them every one with a change that the other side may miss.
    pub segments: &'a [View<'a>],
    /// The changes that the side holds.
    pub cover: &'a Cover,
}

/// Two sides to compare.
///
/// ```
/// use kvsync_core::{Cover, Side, Sides, Workers, delta};
///
/// let side = Side { segments: &[], cover: &Cover::default() };
/// let delta = delta(Sides { a: side, b: side }, Workers::ALONE)?;
/// assert!(delta.to_a.view().is_empty() && delta.conflict_a.view().is_empty());
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// Side A.
    pub a: Side<'a>,
    /// Side B.
    pub b: Side<'a>,
}

/// What each side misses of the other.
#[derive(Debug)]
pub struct Delta {
    /// Changes to apply at A.
    pub to_a: Segment<Vec<u8>>,
    /// Changes to apply at B.
    pub to_b: Segment<Vec<u8>>,
    /// Changes to log at A only, because A has their value with their expiry.
    pub log_a: Segment<Vec<u8>>,
    /// Changes to log at B only, because B has their value with their expiry.
    pub log_b: Segment<Vec<u8>>,
    /// A's changes of the keys that both sides changed concurrently, to another value or another expiry.
    pub conflict_a: Segment<Vec<u8>>,
    /// B's changes of the same keys.
    pub conflict_b: Segment<Vec<u8>>,
}

/// A segment that is the whole delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleSegment {
    /// A misses all of the segment at this position of B's segments, and B misses nothing.
    ToA(usize),
    /// B misses all of the segment at this position of A's segments, and A misses nothing.
    ToB(usize),
}

/// Compare the newest changes of two sides by what the other side holds.
///
/// Where much is missing, several threads compare it by ranges of keys. The result does not depend on their number.
///
/// ```
/// use kvsync_core::{Cover, KeyList, NewValues, Provenance, Segment, Side, Sides, Workers, delta};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let (holds_all, holds_first) = (Cover::new([(7, 101)].into(), vec![])?, Cover::new([(7, 100)].into(), vec![])?);
/// let sides = Sides {
///     a: Side { segments: &[log.view()], cover: &holds_all },
///     b: Side { segments: &[], cover: &holds_first },
/// };
/// let delta = delta(sides, Workers::new(2))?;
/// assert!(delta.to_b.view().iter().map(|row| row.stamp).eq([101]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::ForgedKey`](crate::Error::ForgedKey) where a key to be sent is reserved.
pub fn delta(sides: Sides<'_>, workers: Workers) -> Result<Delta> {
    let missing = missing_of_both(&sides, workers)?;
    let (for_b, for_a) = missing.split_at(sides.a.segments.len());
    let both = [
        SegmentsSince::new(sides.a.segments, for_b),
        SegmentsSince::new(sides.b.segments, for_a),
    ];
    let cost_bytes = both
        .iter()
        .map(SegmentsSince::cost_bytes)
        .fold(0, usize::saturating_add);
    let threads = workers.threads_for(cost_bytes);
    let ranges = split_by_keys(both, threads);
    let parts = workers::run(threads, ranges.len(), |range| {
        let (a, b) = &ranges[range];
        DeltaBuilder::of_range([a, b])
    });
    let parts: Vec<DeltaBuilder> = parts.into_iter().collect::<Result<_>>()?;
    join(threads, &parts)
}

/// The segment that is the whole delta, where one side has nothing to compare and misses all of one segment.
///
/// Nothing has to be copied then.
///
/// ```
/// use kvsync_core::{Cover, KeyList, NewValues, Provenance, Segment, Side, Sides, SingleSegment, single_segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let (holds_all, holds_nothing) = (Cover::new([(7, 101)].into(), vec![])?, Cover::default());
/// let sides = Sides {
///     a: Side { segments: &[log.view()], cover: &holds_all },
///     b: Side { segments: &[], cover: &holds_nothing },
/// };
/// assert_eq!(single_segment(sides)?, Some(SingleSegment::ToB(0)));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// As [`delta`].
pub fn single_segment(sides: Sides<'_>) -> Result<Option<SingleSegment>> {
    if let Some(place) = single_missing(sides.a.segments, &sides.b)? {
        return Ok(Some(SingleSegment::ToB(place)));
    }
    Ok(single_missing(sides.b.segments, &sides.a)?.map(SingleSegment::ToA))
}

/// The position of the only segment that is not empty, if `receiver` has no change and misses all of the segment's.
fn single_missing(segments: &[View<'_>], receiver: &Side<'_>) -> Result<Option<usize>> {
    if receiver.segments.iter().any(|view| !view.is_empty()) {
        return Ok(None);
    }
    let mut filled = (0..).zip(segments).filter(|(_, view)| !view.is_empty());
    let (Some((place, view)), None) = (filled.next(), filled.next()) else {
        return Ok(None);
    };
    if !missing_rows(*view, receiver.cover)?.is_first(view.len()) {
        return Ok(None);
    }
    if !key::is_harmless(view.keys.bytes) {
        for row in view {
            key::check_sent(row.key)?;
        }
    }
    Ok(Some(place))
}

/// The changes of each of A's segments that B misses, then of each of B's segments that A misses.
fn missing_of_both(sides: &Sides<'_>, workers: Workers) -> Result<Vec<Positions>> {
    let Sides { a, b } = sides;
    let views = || a.segments.iter().chain(b.segments);
    let stamped_bytes = views().map(|view| view.layout.stamp.len() + view.layout.origin.len());
    let threads = workers.threads_for(stamped_bytes.sum());
    let missing = workers::run(threads, views().count(), |number| match a.segments.get(number) {
        Some(view) => missing_rows(*view, b.cover),
        None => missing_rows(b.segments[number - a.segments.len()], a.cover),
    });
    missing.into_iter().collect()
}

/// Join the deltas of ascending ranges of keys.
pub(crate) fn join(threads: usize, parts: &[DeltaBuilder]) -> Result<Delta> {
    let parts: Vec<_> = parts.iter().map(DeltaBuilder::builders).collect();
    let joined = workers::run(threads, SEGMENTS, |place| {
        let builders: Vec<&Builder> = parts.iter().map(|builders| builders[place]).collect();
        Builder::join(&builders)
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

/// The delta of a range of keys.
#[derive(Debug, Default)]
pub(crate) struct DeltaBuilder {
    to_a: Builder,
    to_b: Builder,
    log_a: Builder,
    log_b: Builder,
    conflict_a: Builder,
    conflict_b: Builder,
}

impl DeltaBuilder {
    fn of_range([a, b]: [&KeyRange<'_>; 2]) -> Result<Self> {
        let mut delta = Self::default();
        if let ([(a, for_b)], [(b, for_a)]) = (a.views(), b.views()) {
            let for_b = PickedRows::new(*a, for_b.clone());
            let for_a = PickedRows::new(*b, for_a.clone());
            delta.compare_pair(&EqualRuns::new([*a, *b]), [for_b, for_a])?;
        } else {
            delta.compare([NewestMissing::new(a), NewestMissing::new(b)])?;
        }
        Ok(delta)
    }

    /// The builders in the order of the fields of a [`Delta`].
    const fn builders(&self) -> [&Builder; SEGMENTS] {
        [
            &self.to_a,
            &self.to_b,
            &self.log_a,
            &self.log_b,
            &self.conflict_a,
            &self.conflict_b,
        ]
    }

    fn compare<'a>(&mut self, rows: [impl Iterator<Item = Row<'a>>; 2]) -> Result<()> {
        let [mut for_b, mut for_a] = rows.map(Iterator::peekable);
        loop {
            let order = match (for_b.peek(), for_a.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(row_a), Some(row_b)) => row_a.key.cmp(row_b.key),
            };
            let row_a = for_b.next_if(|_| order.is_le());
            let row_b = for_a.next_if(|_| order.is_ge());
            self.add(row_a.as_ref(), row_b.as_ref())?;
        }
    }

    /// Add what only one side has: changes of A that B misses, or the other way round.
    pub(crate) fn compare_one<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>, of_a: bool) -> Result<()> {
        for row in rows {
            let row = Some(&row);
            self.add(row.filter(|_| of_a), row.filter(|_| !of_a))?;
        }
        Ok(())
    }

    /// Compare two segments; runs of changes that are equal in both are skipped as a whole.
    pub(crate) fn compare_pair(
        &mut self,
        equal_runs: &EqualRuns<'_>,
        [mut for_b, mut for_a]: [PickedRows<'_>; 2],
    ) -> Result<()> {
        let (mut next_a, mut next_b) = (for_b.next(), for_a.next());
        let mut reach = REACH_MAX;
        while let (Some(row_a), Some(row_b)) = (&next_a, &next_b) {
            let most = for_b.run_length(reach).min(for_a.run_length(reach));
            let run = equal_runs.run_at([for_b.place(), for_a.place()], most);
            let order = if run.count > 0 {
                run.check()?;
                for_b.skip_run(run.count, run.keys.len());
                for_a.skip_run(run.count, run.keys.len());
                Ordering::Equal
            } else {
                let order = row_a.key.cmp(row_b.key);
                let row_a = order.is_le().then_some(row_a);
                self.add(row_a, order.is_ge().then_some(row_b))?;
                order
            };
            reach = next_reach(&run);
            if order.is_le() {
                next_a = for_b.next();
            }
            if order.is_ge() {
                next_b = for_a.next();
            }
        }
        self.compare([next_a.into_iter().chain(for_b), next_b.into_iter().chain(for_a)])
    }

    /// Add the newest change of a key of A that B misses, and the one of B that A misses, if any.
    pub(crate) fn add(&mut self, a: Option<&Row<'_>>, b: Option<&Row<'_>>) -> Result<()> {
        if let Some(row) = a.or(b) {
            key::check_sent(row.key)?;
        }
        match (a, b) {
            (Some(row), None) => self.to_b.push(row),
            (None, Some(row)) => self.to_a.push(row),
            (Some(row_a), Some(row_b)) => self.add_both(row_a, row_b),
            (None, None) => {}
        }
        Ok(())
    }

    fn add_both(&mut self, a: &Row<'_>, b: &Row<'_>) {
        // The same value with another expiry has to be written again.
        let same_value = a.same_effect(b) && a.expires == b.expires;
        match a.order(b) {
            Ordering::Equal => {}
            Ordering::Greater if same_value => self.log_b.push(a),
            Ordering::Less if same_value => self.log_a.push(b),
            _ => {
                self.conflict_a.push(a);
                self.conflict_b.push(b);
            }
        }
    }
}

/// How many changes to compare at once after a run.
///
/// A long reach costs nothing where the stamps, which are compared first, end the run.
fn next_reach(run: &EqualRun<'_>) -> usize {
    if run.ended_by_stamp {
        REACH_MAX
    } else {
        (2 * run.count + REACH_MIN).min(REACH_MAX)
    }
}

/// The newest change of each key in a range, as far as the other side misses it.
///
/// A covered change may be newer than a missing one of the same key: then nothing of that key is missing. So each
/// candidate is looked up in every segment that has covered changes.
struct NewestMissing<'a> {
    candidates: Newest<'a, PickedRows<'a>>,
    with_covered_changes: Vec<Seeker<'a>>,
}

impl<'a> NewestMissing<'a> {
    fn new(range: &KeyRange<'a>) -> Self {
        let picks = range.views().iter().filter(|(_, picks)| picks.len() > 0);
        let picks = picks.map(|(view, picks)| PickedRows::new(*view, picks.clone()));
        Self {
            candidates: Newest::new(picks),
            with_covered_changes: range.with_covered_changes().map(Seeker::new).collect(),
        }
    }
}

impl<'a> Iterator for NewestMissing<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let seekers = &mut self.with_covered_changes;
        self.candidates.find(|row| {
            let newer = |found: Row<'_>| found.order(row) == Ordering::Greater;
            !seekers.iter_mut().any(|seeker| seeker.find(row.key).is_some_and(newer))
        })
    }
}
