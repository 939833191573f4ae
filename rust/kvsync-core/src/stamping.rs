//! Stamps of the changes that scans found, for all sides of a run by one look at the clock.

use std::iter::Peekable;
use std::ops::Range;

use crate::build::Builder;
use crate::error::{Error, Result};
use crate::inventory::FoundValues;
use crate::key_list::KeyList;
use crate::row::{INEXACT, NO_DIGEST, Row, TOMBSTONE};
use crate::segment::Segment;
use crate::stamp::{COUNTER_BITS, stamp_after};

/// What a scan found on one side.
#[derive(Debug, Clone, Copy)]
pub struct Unstamped<'a> {
    /// The values that were put there.
    pub puts: &'a FoundValues,
    /// When each of them was put, in milliseconds since 1970, where the storage says so; empty if it never does.
    pub modified_ms: &'a [Option<i64>],
    /// Keys where nothing is any more, ascending.
    pub deletes: &'a KeyList,
    /// When each of them was deleted, as for puts.
    pub deleted_ms: &'a [Option<i64>],
    /// The replica that makes the changes.
    pub origin: u64,
    /// The greatest stamp that it has seen.
    pub clock: u64,
    /// Whether it has a log. Without one, a value of unknown age counts as old: it must not beat what a peer knows.
    pub has_log: bool,
}

/// What is known of the time of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    Dated(u64),
    Recent,
}

impl Unstamped<'_> {
    /// The time that the storage tells of a change.
    fn told(&self, change: Change) -> Option<i64> {
        match change {
            Change::Put(index) => self.modified_ms.get(index).copied().flatten(),
            Change::Delete(index) => self.deleted_ms.get(index).copied().flatten(),
        }
    }

    fn age(&self, change: Change, now_ms: u64) -> Age {
        match self.told(change) {
            None if self.has_log || matches!(change, Change::Delete(_)) => Age::Recent,
            None => Age::Old,
            // A time in the future says no more than that it was made since the last scan.
            Some(time) => match u64::try_from(time) {
                Ok(time) if time > now_ms => Age::Recent,
                Ok(time) => Age::Dated(time),
                Err(_) => Age::Dated(0),
            },
        }
    }

    /// The changes of one age, in the order of their keys.
    fn of_age(&self, age: Age, now_ms: u64) -> impl Iterator<Item = Change> {
        self.all().filter(move |change| self.age(*change, now_ms) == age)
    }

    /// All changes, in the order of their keys.
    fn all(&self) -> impl Iterator<Item = Change> {
        let puts = (0..self.puts.len()).map(Change::Put);
        let deletes = (0..self.deletes.len()).map(Change::Delete);
        self.merged(puts, deletes)
    }

    fn key(&self, change: Change) -> &[u8] {
        match change {
            Change::Put(index) => self.puts.keys().get(index),
            Change::Delete(index) => self.deletes.get(index),
        }
    }

    /// Changes of two ascending sequences in one.
    fn merged<'a>(
        &'a self,
        puts: impl Iterator<Item = Change> + 'a,
        deletes: impl Iterator<Item = Change> + 'a,
    ) -> impl Iterator<Item = Change> + 'a {
        let (mut puts, mut deletes) = (puts.peekable(), deletes.peekable());
        std::iter::from_fn(move || match (puts.peek(), deletes.peek()) {
            (Some(put), Some(delete)) if self.key(*delete) < self.key(*put) => deletes.next(),
            (Some(_), _) => puts.next(),
            (None, _) => deletes.next(),
        })
    }
}

/// A change of one side, by its position.
#[derive(Debug, Clone, Copy)]
enum Change {
    Put(usize),
    Delete(usize),
}

/// The stamps and flags of one side's changes, by their position.
#[derive(Debug)]
struct Stamps {
    puts: Vec<u64>,
    flags: Vec<u8>,
    deletes: Vec<u64>,
    delete_flags: Vec<u8>,
    /// The greatest stamp so far.
    last: u64,
}

impl Stamps {
    fn new(side: &Unstamped<'_>) -> Self {
        Self {
            puts: vec![0; side.puts.len()],
            flags: vec![0; side.puts.len()],
            deletes: vec![0; side.deletes.len()],
            delete_flags: vec![0; side.deletes.len()],
            last: side.clock,
        }
    }

    /// Whether a put of unknown age has its stamp: then it has its flag.
    fn has(&self, change: Change) -> bool {
        matches!(change, Change::Put(index) if self.flags[index] != 0)
    }

    fn set(&mut self, change: Change, stamp: u64, flags: u8) {
        match change {
            Change::Put(index) => (self.puts[index], self.flags[index]) = (stamp, flags),
            Change::Delete(index) => (self.deletes[index], self.delete_flags[index]) = (stamp, flags),
        }
        self.last = self.last.max(stamp);
    }
}

/// What one side has to log.
#[derive(Debug)]
pub struct Stamped {
    /// All that was found there.
    pub changes: Segment<Vec<u8>>,
    /// The stamps of those of them that are changes of the first side; empty where there are none.
    pub shared: Range<u64>,
}

/// Stamp what the scans of all sides of a run found, and return it as a segment for each.
///
/// A time that the storage tells is exact. All other changes were made at a time that nobody knows. A key that several
/// sides changed so gets one stamp on all of them: neither which side was scanned first nor how much was found there
/// decides which change is the greater, but its content.
///
/// Of an old value that all sides hold, none of which has a log, all log one change: that of the first side. These have
/// the least stamps, without a gap.
///
/// # Errors
/// [`Error::ClockOverflow`] past 64 bits, [`Error::ReservedKey`], and what [`Builder::finish`] refuses.
pub fn stamp_found(sides: &[Unstamped<'_>], now_ms: u64) -> Result<Vec<Stamped>> {
    for side in sides {
        side.puts.keys().check_reserved()?;
        side.deletes.check_reserved()?;
    }
    let mut stamps: Vec<_> = sides.iter().map(Stamps::new).collect();
    let shared = stamp_old(sides, &mut stamps, now_ms)?;
    for (side, stamps) in sides.iter().zip(&mut stamps) {
        stamp_dated(side, stamps, now_ms)?;
    }
    let seen = stamps.iter().map(|stamps| stamps.last).max().unwrap_or(0);
    let first = stamp_after(now_ms, seen)?;
    let recent = sides.iter().map(|side| side.of_age(Age::Recent, now_ms));
    let mut place = Place(0);
    by_key(sides, recent, |found| place.stamp(found, &mut stamps, |_| first))?;
    let built = sides.iter().zip(&stamps).enumerate();
    built
        .map(|(number, (side, stamps))| {
            let shared = if number == 0 { 0..0 } else { shared.clone() };
            let changes = build(side, stamps, sides[0].origin, &shared)?;
            Ok(Stamped { changes, shared })
        })
        .collect()
}

/// Stamp values of unknown age in storages without a log, those first that all sides hold; return the stamps of these.
fn stamp_old(sides: &[Unstamped<'_>], stamps: &mut [Stamps], now_ms: u64) -> Result<Range<u64>> {
    let old = || sides.iter().map(|side| side.of_age(Age::Old, now_ms));
    let firsts: Vec<_> = sides
        .iter()
        .map(|side| stamp_after(0, side.clock))
        .collect::<Result<_>>()?;
    let mut place = Place(0);
    let mut stamp = |found: &[Option<Change>], stamps: &mut [Stamps]| place.stamp(found, stamps, |side| firsts[side]);
    if sides.len() < 2 || firsts.iter().any(|first| *first != firsts[0]) {
        by_key(sides, old(), |found| stamp(found, stamps))?;
        return Ok(0..0);
    }
    let mut count = 0;
    by_key(sides, old(), |found| {
        if is_shared(sides, found) {
            count += 1;
            stamp(found, stamps)?;
        }
        Ok(())
    })?;
    let rest = old()
        .zip(&*stamps)
        .map(|(old, stamps)| old.filter(|put| !stamps.has(*put)));
    let rest: Vec<Vec<_>> = rest.map(Iterator::collect).collect();
    by_key(sides, rest.into_iter().map(Vec::into_iter), |found| {
        stamp(found, stamps)
    })?;
    Ok(firsts[0]..firsts[0].saturating_add(count))
}

/// Whether all sides hold the same value of a key.
fn is_shared(sides: &[Unstamped<'_>], found: &[Option<Change>]) -> bool {
    let value = |number: usize| match found[number] {
        Some(Change::Put(index)) => Some(sides[number].puts.get(index)),
        _ => None,
    };
    let first = value(0);
    first.is_some() && (1..found.len()).all(|number| value(number) == first)
}

/// Call a function with the changes of each key, by side.
fn by_key<I: Iterator<Item = Change>>(
    sides: &[Unstamped<'_>],
    changes: impl Iterator<Item = I>,
    mut take: impl FnMut(&[Option<Change>]) -> Result<()>,
) -> Result<()> {
    let mut changes: Vec<Peekable<I>> = changes.map(Iterator::peekable).collect();
    let mut found = vec![None; sides.len()];
    loop {
        let heads = changes.iter_mut().zip(sides);
        let heads = heads.filter_map(|(changes, side)| Some(side.key(*changes.peek()?)));
        let Some(least) = heads.min() else {
            return Ok(());
        };
        for ((found, changes), side) in found.iter_mut().zip(&mut changes).zip(sides) {
            *found = changes.next_if(|change| side.key(*change) == least);
        }
        take(&found)?;
    }
}

/// How many keys got a stamp that says no more than their order.
struct Place(u64);

impl Place {
    /// Stamp the changes of the next key, whose time is not known.
    fn stamp(&mut self, found: &[Option<Change>], stamps: &mut [Stamps], first: impl Fn(usize) -> u64) -> Result<()> {
        for (number, change) in found.iter().enumerate() {
            if let Some(change) = *change {
                let stamp = first(number).checked_add(self.0).ok_or(Error::ClockOverflow)?;
                stamps[number].set(change, stamp, INEXACT);
            }
        }
        self.0 += 1;
        Ok(())
    }
}

/// Stamp changes whose time the storage tells: exact, unless the stamp had to be a later one.
fn stamp_dated(side: &Unstamped<'_>, stamps: &mut Stamps, now_ms: u64) -> Result<()> {
    let dated = side.all().filter_map(|change| match side.age(change, now_ms) {
        Age::Dated(time) => Some((side.told(change), time, change)),
        Age::Old | Age::Recent => None,
    });
    let mut dated: Vec<_> = dated.collect();
    // Stable: of one time, they stay in the order of their keys.
    dated.sort_by_key(|(told, time, _)| (*told, *time));
    for (told, time, change) in dated {
        let stamp = stamp_after(time, stamps.last)?;
        let is_exact = told == Some(i64::try_from(stamp >> COUNTER_BITS).unwrap_or(i64::MAX));
        stamps.set(change, stamp, if is_exact { 0 } else { INEXACT });
    }
    Ok(())
}

fn build(side: &Unstamped<'_>, stamps: &Stamps, first: u64, shared: &Range<u64>) -> Result<Segment<Vec<u8>>> {
    let count = side.puts.len() + side.deletes.len();
    let mut builder = Builder::with_capacity(count, side.puts.keys().key_bytes() + side.deletes.key_bytes());
    for change in side.all() {
        let row = Row {
            key: side.key(change),
            origin: side.origin,
            stamp: 0,
            flags: TOMBSTONE,
            size: 0,
            expires: 0,
            digest: &NO_DIGEST,
        };
        builder.push(&match change {
            Change::Put(index) => {
                let value = side.puts.get(index);
                let is_shared = shared.contains(&stamps.puts[index]);
                Row {
                    origin: if is_shared { first } else { side.origin },
                    stamp: stamps.puts[index],
                    flags: stamps.flags[index],
                    size: value.size,
                    expires: value.expires,
                    digest: value.digest,
                    ..row
                }
            }
            Change::Delete(index) => Row {
                stamp: stamps.deletes[index],
                flags: TOMBSTONE | stamps.delete_flags[index],
                ..row
            },
        });
    }
    builder.finish()
}
