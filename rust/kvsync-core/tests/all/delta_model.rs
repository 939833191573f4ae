//! The delta as its definition says it, and calls of the real one.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use kvsync_core::{Cover, Delta, Error, Side, Sides, View, Workers, delta};

use crate::model::{Change, Log, Model, changes, newest, row};

pub(crate) fn compare(logs: [&[View<'_>]; 2], covers: [&Cover; 2]) -> Result<Delta, Error> {
    delta(sides(logs, covers), Workers::ALONE)
}

pub(crate) fn sides<'a>([a, b]: [&'a [View<'a>]; 2], [cover_a, cover_b]: [&'a Cover; 2]) -> Sides<'a> {
    let side = |segments, cover| Side { segments, cover };
    Sides {
        a: side(a, cover_a),
        b: side(b, cover_b),
    }
}

/// What a cover misses of the newest changes.
pub(crate) fn missing(log: &[(String, Change)], cover: &Cover) -> Model {
    let mut model = newest(log);
    model.retain(|_, change| !cover.covers(change.origin, change.stamp));
    model
}

/// The six lists of a delta, given what each side misses.
pub(crate) fn expected_delta(for_a: &Model, for_b: &Model) -> [Log; 6] {
    let mut expected: [Log; 6] = std::array::from_fn(|_| Log::new());
    for key in for_a.keys().chain(for_b.keys()).collect::<BTreeSet<_>>() {
        let (place, change) = match (for_b.get(key), for_a.get(key)) {
            (Some(mine), None) => (1, *mine),
            (None, Some(theirs)) => (0, *theirs),
            (Some(mine), Some(theirs)) => {
                let (left, right) = (row(key, mine), row(key, theirs));
                let same = left.deletes() == right.deletes() && mine.digest == theirs.digest;
                let there = same && mine.expires == theirs.expires;
                match left.order(&right) {
                    Ordering::Equal => continue,
                    Ordering::Greater if there => (3, *mine),
                    Ordering::Less if there => (2, *theirs),
                    _ => {
                        expected[4].push((key.clone(), *mine));
                        (5, *theirs)
                    }
                }
            }
            (None, None) => continue,
        };
        expected[place].push((key.clone(), change));
    }
    expected
}

pub(crate) fn lists(found: Delta) -> [Log; 6] {
    let Delta {
        to_a,
        to_b,
        log_a,
        log_b,
        conflict_a,
        conflict_b,
    } = found;
    [to_a, to_b, log_a, log_b, conflict_a, conflict_b].map(|segment| changes(segment.view()))
}
