//! What a replica holds: a version vector, and single changes beyond it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Every stamp from `first` to `last` of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The replica that made the changes.
    pub origin: u64,
    /// The least stamp.
    pub first: u64,
    /// The greatest stamp.
    pub last: u64,
}

/// A set of changes in its one normal form.
///
/// The vector holds whole stretches, every change of an origin up to a stamp. Beyond it, `ahead`
/// holds spans that neither reach into the vector nor touch each other. A span that begins right
/// after the vector stays a span: that the vector may be raised is the replica's to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cover {
    vector: BTreeMap<u64, u64>,
    ahead: Vec<Span>,
}

impl Cover {
    /// The cover of a vector and any spans.
    ///
    /// # Errors
    /// A span that ends before it begins.
    pub fn new(vector: BTreeMap<u64, u64>, ahead: Vec<Span>) -> Result<Self> {
        if ahead.iter().any(|span| span.first > span.last) {
            return Err(Error::BadArgument {
                problem: "a range of stamps ends before it begins",
            });
        }
        Ok(Self::normal(vector, ahead))
    }

    fn normal(vector: BTreeMap<u64, u64>, mut ahead: Vec<Span>) -> Self {
        ahead.retain_mut(|span| match vector.get(&span.origin) {
            Some(held) if span.last <= *held => false,
            Some(held) if span.first <= *held => {
                span.first = held + 1;
                true
            }
            _ => true,
        });
        ahead.sort_unstable();
        ahead.dedup_by(|later, kept| {
            let touch = later.origin == kept.origin && later.first <= kept.last.saturating_add(1);
            if touch {
                kept.last = kept.last.max(later.last);
            }
            touch
        });
        Self { vector, ahead }
    }

    /// The greatest stamp of each origin up to which everything is held.
    #[must_use]
    pub const fn vector(&self) -> &BTreeMap<u64, u64> {
        &self.vector
    }

    /// What is held beyond the vector, ascending, not touching.
    #[must_use]
    pub fn ahead(&self) -> &[Span] {
        &self.ahead
    }

    /// Whether a change is held.
    #[must_use]
    pub fn covers(&self, origin: u64, stamp: u64) -> bool {
        self.vector.get(&origin).is_some_and(|held| stamp <= *held)
            || self.span_at(origin, stamp).is_some()
    }

    /// Whether all changes of a stretch with these maxima are held, by the vector alone.
    #[must_use]
    pub fn covers_all(&self, maxima: impl IntoIterator<Item = (u64, u64)>) -> bool {
        let held = |(origin, stamp)| self.vector.get(&origin).is_some_and(|held| stamp <= *held);
        maxima.into_iter().all(held)
    }

    /// Whether everything that the other holds is held.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let within = |span: &Span| {
            let held = self.vector.get(&span.origin);
            let first = held.map_or(span.first, |held| span.first.max(held.saturating_add(1)));
            let below = held.is_some_and(|held| span.last <= *held);
            below
                || self
                    .span_at(span.origin, first)
                    .is_some_and(|mine| span.last <= mine.last)
        };
        let held = |(origin, stamp): (&u64, &u64)| {
            self.vector.get(origin).is_some_and(|held| stamp <= held)
        };
        other.vector.iter().all(held) && other.ahead.iter().all(within)
    }

    /// What either holds.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut vector = self.vector.clone();
        for (origin, stamp) in &other.vector {
            raise(&mut vector, *origin, *stamp);
        }
        let ahead = self.ahead.iter().chain(&other.ahead).copied().collect();
        Self::normal(vector, ahead)
    }

    /// This and some single changes.
    #[must_use]
    pub fn with_dots(&self, dots: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let single = |(origin, stamp)| Span {
            origin,
            first: stamp,
            last: stamp,
        };
        let mut ahead = self.ahead.clone();
        ahead.extend(dots.into_iter().map(single));
        Self::normal(self.vector.clone(), ahead)
    }

    /// This and everything of an origin up to a stamp.
    #[must_use]
    pub fn with_stamp(&self, origin: u64, stamp: u64) -> Self {
        let mut vector = self.vector.clone();
        raise(&mut vector, origin, stamp);
        Self::normal(vector, self.ahead.clone())
    }

    /// Whether spans of an origin are held.
    #[must_use]
    pub(crate) fn has_ahead(&self, origin: u64) -> bool {
        let before = self.ahead.partition_point(|span| span.origin < origin);
        self.ahead
            .get(before)
            .is_some_and(|span| span.origin == origin)
    }

    fn span_at(&self, origin: u64, stamp: u64) -> Option<&Span> {
        let begun = |span: &Span| (span.origin, span.first) <= (origin, stamp);
        let before = self.ahead.partition_point(begun).checked_sub(1)?;
        let span = self.ahead.get(before)?;
        (span.origin == origin && stamp <= span.last).then_some(span)
    }
}

fn raise(vector: &mut BTreeMap<u64, u64>, origin: u64, stamp: u64) {
    let held = vector.entry(origin).or_insert(stamp);
    *held = stamp.max(*held);
}
