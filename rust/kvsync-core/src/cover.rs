//! What a replica holds: a version vector with exceptions.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::reason::ArgumentFault;

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

impl Span {
    /// Whether the span holds a change.
    #[must_use]
    pub const fn holds(&self, origin: u64, stamp: u64) -> bool {
        self.origin == origin && self.first <= stamp && stamp <= self.last
    }
}

/// A set of changes: a version vector with exceptions, in its one normal form.
///
/// The vector covers every change of an origin up to a stamp. The exceptions are the changes held beyond
/// it: spans that neither reach into the vector nor touch each other. A span that begins right after the
/// vector stays a span, because only the replica may decide to raise its vector.
///
/// ```
/// use kvsync_core::{Cover, Span};
///
/// let span = |first, last| Span { origin: 7, first, last };
/// let cover = Cover::new([(7, 10)].into(), vec![span(12, 12), span(13, 13)])?;
/// assert!(cover.covers(7, 9) && !cover.covers(7, 11) && cover.covers(7, 13));
/// assert_eq!((cover.vector()[&7], cover.exceptions().len()), (10, 1));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cover {
    vector: BTreeMap<u64, u64>,
    exceptions: Vec<Span>,
}

impl Cover {
    /// Build the cover of a vector and of spans in any order, which may overlap.
    ///
    /// # Errors
    /// A span that ends before it begins.
    pub fn new(vector: BTreeMap<u64, u64>, exceptions: Vec<Span>) -> Result<Self> {
        if exceptions.iter().any(|span| span.first > span.last) {
            return Err(Error::BadArgument(ArgumentFault::SpanBackwards));
        }
        Ok(Self::normal(vector, exceptions))
    }

    fn normal(vector: BTreeMap<u64, u64>, mut exceptions: Vec<Span>) -> Self {
        exceptions.retain_mut(|span| match vector.get(&span.origin) {
            Some(held) if span.last <= *held => false,
            Some(held) if span.first <= *held => {
                span.first = held + 1;
                true
            }
            _ => true,
        });
        exceptions.sort_unstable();
        exceptions.dedup_by(|later, kept| {
            let touch = later.origin == kept.origin && later.first <= kept.last.saturating_add(1);
            if touch {
                kept.last = kept.last.max(later.last);
            }
            touch
        });
        Self { vector, exceptions }
    }

    /// The stamp of each origin up to which every change is held.
    #[must_use]
    pub const fn vector(&self) -> &BTreeMap<u64, u64> {
        &self.vector
    }

    /// The spans held beyond the vector, ascending, not touching each other.
    #[must_use]
    pub fn exceptions(&self) -> &[Span] {
        &self.exceptions
    }

    /// Whether one change is held.
    #[must_use]
    pub fn covers(&self, origin: u64, stamp: u64) -> bool {
        self.vector.get(&origin).is_some_and(|held| stamp <= *held) || self.span_at(origin, stamp).is_some()
    }

    /// Whether the vector alone covers every change up to these stamps of these origins.
    #[must_use]
    pub fn covers_all(&self, maxima: impl IntoIterator<Item = (u64, u64)>) -> bool {
        let held = |(origin, stamp)| self.vector.get(&origin).is_some_and(|held| stamp <= *held);
        maxima.into_iter().all(held)
    }

    /// Whether every change of `other` is held.
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
        let held = |(origin, stamp): (&u64, &u64)| self.vector.get(origin).is_some_and(|held| stamp <= held);
        other.vector.iter().all(held) && other.exceptions.iter().all(within)
    }

    /// Whether there are spans of an origin.
    #[must_use]
    pub(crate) fn has_exceptions(&self, origin: u64) -> bool {
        let before = self.exceptions.partition_point(|span| span.origin < origin);
        self.exceptions.get(before).is_some_and(|span| span.origin == origin)
    }

    fn span_at(&self, origin: u64, stamp: u64) -> Option<&Span> {
        let begun = |span: &Span| (span.origin, span.first) <= (origin, stamp);
        let before = self.exceptions.partition_point(begun).checked_sub(1)?;
        let span = self.exceptions.get(before)?;
        (span.origin == origin && stamp <= span.last).then_some(span)
    }
}
