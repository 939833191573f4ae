//! Stamps of the changes that scans found, for all sides of a run by one look at the clock.

use std::iter::Peekable;

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
    fn age(&self, put: usize, now_ms: u64) -> Age {
        match self.modified_ms.get(put).copied().flatten() {
            None if self.has_log => Age::Recent,
            None => Age::Old,
            // A time in the future says no more than that it was made since the last scan.
            Some(time) => match u64::try_from(time) {
                Ok(time) if time > now_ms => Age::Recent,
                Ok(time) => Age::Dated(time),
                Err(_) => Age::Dated(0),
            },
        }
    }

    /// The puts of one age, in the order of their keys.
    fn puts_of(&self, age: Age, now_ms: u64) -> impl Iterator<Item = Change> {
        let positions = 0..self.puts.len();
        positions
            .filter(move |put| self.age(*put, now_ms) == age)
            .map(Change::Put)
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
    /// The greatest stamp so far.
    last: u64,
}

impl Stamps {
    fn new(side: &Unstamped<'_>) -> Self {
        Self {
            puts: vec![0; side.puts.len()],
            flags: vec![0; side.puts.len()],
            deletes: vec![0; side.deletes.len()],
            last: side.clock,
        }
    }

    fn set(&mut self, change: Change, stamp: u64, flags: u8) {
        match change {
            Change::Put(index) => (self.puts[index], self.flags[index]) = (stamp, flags),
            Change::Delete(index) => self.deletes[index] = stamp,
        }
        self.last = self.last.max(stamp);
    }
}

/// Stamp what the scans of all sides of a run found, and return it as a segment for each.
///
/// A time that the storage tells is exact. All other changes were made at a time that nobody knows. A key that several
/// sides changed so gets one stamp on all of them: neither which side was scanned first nor how much was found there
/// decides which change is the greater, but its content.
///
/// # Errors
/// [`Error::ClockOverflow`] past 64 bits, [`Error::ReservedKey`], and what [`Builder::finish`] refuses.
pub fn stamp_found(sides: &[Unstamped<'_>], now_ms: u64) -> Result<Vec<Segment<Vec<u8>>>> {
    for side in sides {
        side.puts.keys().check_reserved()?;
        side.deletes.check_reserved()?;
    }
    let mut stamps: Vec<_> = sides.iter().map(Stamps::new).collect();
    let old = sides.iter().map(|side| side.puts_of(Age::Old, now_ms));
    let firsts: Result<Vec<_>> = sides.iter().map(|side| stamp_after(0, side.clock)).collect();
    stamp_alike(sides, &mut stamps, old.collect(), &firsts?)?;
    for (side, stamps) in sides.iter().zip(&mut stamps) {
        stamp_dated(side, stamps, now_ms)?;
    }
    let seen = stamps.iter().map(|stamps| stamps.last).max().unwrap_or(0);
    let first = stamp_after(now_ms, seen)?;
    let recent = sides.iter().map(|side| {
        let deletes = (0..side.deletes.len()).map(Change::Delete);
        side.merged(side.puts_of(Age::Recent, now_ms), deletes)
    });
    stamp_alike(sides, &mut stamps, recent.collect(), &vec![first; sides.len()])?;
    let built = sides.iter().zip(&stamps);
    built.map(|(side, stamps)| build(side, stamps)).collect()
}

/// Stamp changes whose time is not known, each by the place of its key among those of all sides.
fn stamp_alike(
    sides: &[Unstamped<'_>],
    stamps: &mut [Stamps],
    changes: Vec<impl Iterator<Item = Change>>,
    firsts: &[u64],
) -> Result<()> {
    let mut changes: Vec<Peekable<_>> = changes.into_iter().map(Iterator::peekable).collect();
    for place in 0_u64.. {
        let heads = changes.iter_mut().zip(sides);
        let heads = heads.filter_map(|(changes, side)| Some(side.key(*changes.peek()?)));
        let Some(least) = heads.min() else {
            break;
        };
        for (number, side) in sides.iter().enumerate() {
            if let Some(change) = changes[number].next_if(|change| side.key(*change) == least) {
                let stamp = firsts[number].checked_add(place).ok_or(Error::ClockOverflow)?;
                stamps[number].set(change, stamp, INEXACT);
            }
        }
    }
    Ok(())
}

/// Stamp values whose time the storage tells: exact, unless the stamp had to be a later one.
fn stamp_dated(side: &Unstamped<'_>, stamps: &mut Stamps, now_ms: u64) -> Result<()> {
    let dated = (0..side.puts.len()).filter_map(|put| match side.age(put, now_ms) {
        Age::Dated(time) => Some((side.modified_ms[put], time, put)),
        Age::Old | Age::Recent => None,
    });
    let mut dated: Vec<_> = dated.collect();
    // The keys ascend with their positions.
    dated.sort_unstable();
    for (told, time, put) in dated {
        let stamp = stamp_after(time, stamps.last)?;
        let is_exact = told == Some(i64::try_from(stamp >> COUNTER_BITS).unwrap_or(i64::MAX));
        stamps.set(Change::Put(put), stamp, if is_exact { 0 } else { INEXACT });
    }
    Ok(())
}

fn build(side: &Unstamped<'_>, stamps: &Stamps) -> Result<Segment<Vec<u8>>> {
    let count = side.puts.len() + side.deletes.len();
    let mut builder = Builder::with_capacity(count, side.puts.keys().key_bytes() + side.deletes.key_bytes());
    let puts = (0..side.puts.len()).map(Change::Put);
    let deletes = (0..side.deletes.len()).map(Change::Delete);
    for change in side.merged(puts, deletes) {
        let base = Row {
            key: side.key(change),
            origin: side.origin,
            stamp: 0,
            flags: INEXACT | TOMBSTONE,
            size: 0,
            expires: 0,
            digest: &NO_DIGEST,
        };
        builder.push(&match change {
            Change::Put(index) => {
                let value = side.puts.get(index);
                Row {
                    stamp: stamps.puts[index],
                    flags: stamps.flags[index],
                    size: value.size,
                    expires: value.expires,
                    digest: value.digest,
                    ..base
                }
            }
            Change::Delete(index) => Row {
                stamp: stamps.deletes[index],
                ..base
            },
        });
    }
    builder.finish()
}
