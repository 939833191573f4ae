//! Segments built from values: first the order of their keys, which is all that writing them takes, then their digests.

use std::borrow::Borrow;
use std::ops::Range;

use crate::batch::BatchLimits;
use crate::build::Builder;
use crate::column::{width_if_any, width_of};
use crate::column_writer::{ColumnWriter, Widths, check_length};
use crate::digest;
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::layout::{Layout, Totals};
use crate::pick::{Positions, index};
use crate::reason::{ArgumentFault, ChangeFault};
use crate::row::{DECISION, DIGEST_BYTES, TOMBSTONE};
use crate::seek::Seeker;
use crate::segment::Segment;
use crate::strings::marks_of;
use crate::view::View;
use crate::workers::Workers;

/// Keys with their new values, as a caller gives them. Of a key given several times, the last value counts.
#[derive(Debug)]
pub struct NewValues<'a, K> {
    /// The keys, in any order.
    pub keys: K,
    /// The value of each key, `None` for a delete.
    pub values: &'a [Option<&'a [u8]>],
    /// When each value expires, in milliseconds since 1970, 0 for never. `None` where no value expires.
    pub expires: Option<Vec<u64>>,
}

/// Which replica makes some changes, and from which stamp on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    /// The replica that makes the changes.
    pub origin: u64,
    /// The stamp of the first change in key order; those after it follow without a gap.
    pub first_stamp: u64,
    /// The flags of every change: 0, or [`DECISION`](crate::DECISION).
    pub flags: u8,
}

impl Segment<Vec<u8>> {
    /// Build the segment that logs some values, with consecutive stamps in key order.
    ///
    /// # Errors
    /// As [`Staged::new`].
    pub fn from_values<K: Borrow<KeyList>>(new: NewValues<'_, K>, provenance: Provenance) -> Result<Self> {
        let values = new.values;
        Staged::new(new, provenance)?.segment(values, Workers::ALONE)
    }
}

/// Changes that are checked and in order, whose digests are still to be computed. Nothing is left to be refused.
///
/// ```
/// use kvsync_core::{BatchLimits, KeyList, NewValues, Provenance, Staged, Workers};
///
/// let keys: KeyList = ["b", "a"].into_iter().collect();
/// let values: [Option<&[u8]>; 2] = [Some(b"two"), None];
/// let provenance = Provenance { origin: 7, first_stamp: 100, flags: 0 };
/// let staged = Staged::new(NewValues { keys, values: &values, expires: None }, provenance)?;
/// assert_eq!(staged.part(0..2).deletes, [1]);
/// let segment = staged.segment(&values, Workers::ALONE)?;
/// assert!(segment.view().iter().map(|row| row.stamp).eq([100, 101]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Staged<K> {
    keys: K,
    /// The given position of each change, ascending by key.
    order: Vec<u32>,
    /// Whether each given value is a delete; empty where none is.
    deletes: Vec<bool>,
    expires: Option<Vec<u64>>,
    provenance: Provenance,
    /// Whether all are puts, given in key order.
    is_plain: bool,
}

/// A range of staged changes, by their positions as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedPart {
    /// The puts.
    pub puts: Positions,
    /// When each put expires, where any expiry was given.
    pub expires: Option<Vec<u64>>,
    /// The deletes.
    pub deletes: Vec<u32>,
}

impl<K: Borrow<KeyList>> Staged<K> {
    /// Check changes and put their keys in order.
    ///
    /// # Errors
    /// Lists that differ in length, a reserved key, an unknown flag, a stamp past 64 bits, or a delete that expires.
    pub fn new(new: NewValues<'_, K>, provenance: Provenance) -> Result<Self> {
        let NewValues { keys, values, expires } = new;
        let list = keys.borrow();
        check_count(list, values.len())?;
        if provenance.flags & !DECISION != 0 {
            return Err(Error::BadArgument(ArgumentFault::UnknownFlag));
        }
        if let Some(expires) = &expires {
            check_expires(list, values, expires)?;
        }
        list.check_reserved()?;
        let order = list.order()?;
        check_length(list.key_bytes().max(order.len().saturating_mul(DIGEST_BYTES)))?;
        let steps = order.len().saturating_sub(1) as u64;
        provenance.first_stamp.checked_add(steps).ok_or(Error::ClockOverflow)?;
        let deletes = deletes_of(values);
        let in_order = order.len() == list.len() && (0..).zip(&order).all(|(place, given)| place == *given);
        Ok(Self {
            is_plain: deletes.is_empty() && in_order,
            keys,
            order,
            deletes,
            expires,
            provenance,
        })
    }

    /// Number of changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Cut the changes into batches, given the size of the value at a given position.
    ///
    /// # Errors
    /// As [`BatchLimits::batches`].
    pub fn batches(&self, limits: BatchLimits, size: impl Fn(usize) -> u64) -> Result<Vec<(usize, usize)>> {
        limits.batches(self.order.iter().map(|place| size(index(*place))))
    }

    /// A range of the changes, cut to the changes that exist.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> StagedPart {
        if self.is_plain {
            let range = clamp(&range, self.len());
            let expires = self.expires.as_ref();
            return StagedPart {
                expires: expires.map(|expires| expires[index(range.start)..index(range.end)].to_vec()),
                puts: Positions::Range(range),
                deletes: Vec::new(),
            };
        }
        let places = self
            .order
            .get(range.start..range.end.min(self.len()))
            .unwrap_or_default();
        let is_delete = |place: &&u32| self.deletes.get(index(**place)).copied().unwrap_or(false);
        let puts: Vec<u32> = places.iter().filter(|place| !is_delete(place)).copied().collect();
        let expires = self.expires.as_ref();
        StagedPart {
            expires: expires.map(|expires| puts.iter().map(|place| expires[index(*place)]).collect()),
            puts: Positions::List(puts),
            deletes: places.iter().filter(is_delete).copied().collect(),
        }
    }

    /// The given positions of the puts in a range of `changes`; `None` where one of them was not staged here.
    ///
    /// `own` is the segment of these changes, as [`Self::segment`] built it.
    #[must_use]
    pub fn find_puts(&self, own: View<'_>, changes: View<'_>, range: Range<usize>) -> Option<Positions> {
        if self.is_plain && std::ptr::eq(own.layout, changes.layout) {
            return Some(Positions::Range(clamp(&range, self.len())));
        }
        let mut seeker = Seeker::new(own);
        let puts = changes.rows(range).filter(|change| !change.deletes());
        let places = puts.map(|change| {
            let (position, own) = seeker.find_with_position(change.key)?;
            let same = (own.origin, own.stamp) == (change.origin, change.stamp);
            same.then(|| self.order[position])
        });
        places.collect::<Option<_>>().map(Positions::List)
    }

    /// Build the segment, given the same values again; `workers` compute the digests.
    ///
    /// # Errors
    /// Fewer or more values than were given first.
    pub fn segment(&self, values: &[Option<&[u8]>], workers: Workers) -> Result<Segment<Vec<u8>>> {
        check_count(self.keys.borrow(), values.len())?;
        let Some(last) = (self.order.len() as u64).checked_sub(1) else {
            return Builder::default().finish();
        };
        let first_stamp = self.provenance.first_stamp;
        let mut layout = Layout {
            count: self.order.len(),
            origins: vec![self.provenance.origin],
            maxima: vec![first_stamp + last],
            stamp_base: first_stamp,
            ..Layout::default()
        };
        let digests = digest::of_values(values, workers);
        let ordered = Ordered {
            order: &self.order,
            keys: self.keys.borrow(),
            values,
            expires: self.expires.as_deref().unwrap_or_default(),
        };
        let bytes = ordered.write(self.provenance.flags, &digests, &mut layout);
        Ok(Segment::assemble(bytes, layout))
    }
}

/// Changes in the order of their keys.
#[derive(Clone, Copy)]
struct Ordered<'a> {
    order: &'a [u32],
    keys: &'a KeyList,
    values: &'a [Option<&'a [u8]>],
    /// Empty where no value expires.
    expires: &'a [u64],
}

impl<'a> Ordered<'a> {
    fn places(self) -> impl Iterator<Item = usize> + use<'a> {
        self.order.iter().map(|place| index(*place))
    }

    fn sizes(self) -> impl Iterator<Item = u64> + use<'a> {
        self.places()
            .map(move |place| self.values[place].map_or(0, |value| value.len() as u64))
    }

    fn expires(self) -> impl Iterator<Item = u64> + use<'a> {
        self.places().map_while(move |place| self.expires.get(place).copied())
    }

    fn key_sizes(self) -> impl Iterator<Item = usize> + use<'a> {
        self.places().map(move |place| self.keys.get(place).len())
    }

    fn write(self, flags: u8, digests: &[[u8; DIGEST_BYTES]], layout: &mut Layout) -> Vec<u8> {
        let widths = self.widths();
        let mut columns = ColumnWriter::new(layout.count, &widths, self.keys.key_bytes());
        layout.stamp = columns.numbers(widths.stamp, 0..layout.count as u64);
        layout.origin = columns.numbers(widths.origin, self.places().map(|_| 0));
        let tombstone = |place: usize| u8::from(self.values[place].is_none()) * TOMBSTONE;
        let flags = self.places().map(|place| u64::from(flags | tombstone(place)));
        layout.flags = columns.numbers(1, flags);
        layout.size = columns.numbers(widths.size, self.sizes());
        layout.expires = columns.numbers(widths.expires, self.expires());
        layout.digest = columns.pieces(self.places().map(|place| digests[place].as_slice()));
        layout.key_size = columns.numbers(widths.key_size, self.key_sizes().map(|size| size as u64));
        layout.key = columns.pieces(self.places().map(|place| self.keys.get(place)));
        layout.key_marks = marks_of(self.key_sizes());
        layout.totals = self.totals();
        columns.finish()
    }

    fn widths(self) -> Widths {
        Widths {
            stamp: width_of(self.order.len().saturating_sub(1) as u64),
            origin: 1,
            size: width_of(self.sizes().max().unwrap_or(0)),
            expires: width_if_any(self.expires().max().unwrap_or(0)),
            key_size: width_of(self.key_sizes().max().unwrap_or(0) as u64),
        }
    }

    fn totals(self) -> Totals {
        Totals {
            tombstones: self.places().filter(|place| self.values[*place].is_none()).count(),
            value_bytes: self.sizes().fold(0, u64::saturating_add),
            expiring: self.expires().filter(|time| *time != 0).count(),
        }
    }
}

/// Whether each value is a delete; empty where none is.
fn deletes_of(values: &[Option<&[u8]>]) -> Vec<bool> {
    if values.iter().all(Option::is_some) {
        return Vec::new();
    }
    values.iter().map(Option::is_none).collect()
}

/// A range cut to `count` positions, of which there are fewer than 2^32.
fn clamp(range: &Range<usize>, count: usize) -> Range<u32> {
    let stop = range.end.min(count);
    let narrow = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    narrow(range.start.min(stop))..narrow(stop)
}

const fn check_count(keys: &KeyList, values: usize) -> Result<()> {
    if keys.len() == values {
        Ok(())
    } else {
        Err(Error::BadArgument(ArgumentFault::KeysAndValues))
    }
}

fn check_expires(keys: &KeyList, values: &[Option<&[u8]>], expires: &[u64]) -> Result<()> {
    if keys.len() != expires.len() {
        return Err(Error::BadArgument(ArgumentFault::KeysAndExpiries));
    }
    let mut pairs = values.iter().zip(expires);
    match pairs.position(|(value, expires)| value.is_none() && *expires != 0) {
        None => Ok(()),
        Some(place) => Err(Error::BadChange {
            key: keys.text(place).unwrap_or_default(),
            fault: ChangeFault::TombstoneExpires,
        }),
    }
}
