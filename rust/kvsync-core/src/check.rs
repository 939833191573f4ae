//! What must hold of a segment's columns; each check can be made without the others.

use std::ops::Range;

use crate::column::{self, Column, Number, position};
use crate::each_width;
use crate::envelope::HEADER;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::row::{DECISION, DIGEST, NO_DIGEST, TOMBSTONE};
use crate::strings::{self, Strings};

/// The checks of the columns in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) body: &'a [u8],
}

/// What the flags, sizes and expiries come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) tombstones: usize,
    pub(crate) value_bytes: u64,
    pub(crate) expiring: usize,
}

impl<'a> Check<'a> {
    fn numbers(&self, place: &Range<usize>, count: usize) -> Result<Column<'a>> {
        let bytes = &self.body[place.clone()];
        Column::new(bytes, count).ok_or(damage(place, "length does not fit the count"))
    }

    pub(crate) fn origins(&self, layout: &Layout) -> Result<()> {
        let Layout { origins, maxima, .. } = layout;
        let ascend = origins.windows(2).all(|pair| pair[0] < pair[1]);
        let any = origins.is_empty() == (layout.count == 0);
        if !ascend || !any || maxima.len() != origins.len() || origins.len() > layout.count {
            return Err(damage(&layout.stamp, "origins or max contradict the rest"));
        }
        if layout.count == 0 && layout.stamp_base != 0 {
            return Err(damage(&layout.stamp, "stamp_base of no changes"));
        }
        let column = self.numbers(&layout.origin, layout.count)?;
        let greatest = origins.len().saturating_sub(1) as u64;
        if column.width() != column::width_of(greatest) || column.max() > greatest {
            return Err(damage(&layout.origin, "origin out of range or too wide"));
        }
        Ok(())
    }

    /// Check the stamps; that the origins are in range is for [`Self::origins`] to say.
    pub(crate) fn stamps(&self, layout: &Layout) -> Result<()> {
        let stamps = self.numbers(&layout.stamp, layout.count)?;
        let origins = self.numbers(&layout.origin, layout.count)?;
        if layout.count == 0 {
            return Ok(());
        }
        let (least, found) = match layout.origins.len() {
            1 => each_width!(stamps, numbers => extremes(numbers)),
            count => each_width!(stamps, stamps => each_width!(origins, origins => {
                maxima(stamps, origins, count)
            })),
        };
        let greatest = found.iter().copied().flatten().max().unwrap_or(0);
        if least != 0 || stamps.width() != column::width_of(greatest) {
            return Err(damage(&layout.stamp, "stamps do not fit stamp_base or width"));
        }
        let base = layout.stamp_base;
        let absolute = found.iter().map(|most| base.checked_add((*most)?));
        if absolute.ne(layout.maxima.iter().copied().map(Some)) {
            return Err(damage(&layout.stamp, "origins or max contradict the stamps"));
        }
        Ok(())
    }

    pub(crate) fn flags(&self, layout: &Layout) -> Result<Totals> {
        let flags = &self.body[layout.flags.clone()];
        let digests = &self.body[layout.digest.clone()];
        if flags.len() != layout.count || digests.len() / DIGEST != layout.count {
            return Err(damage(&layout.flags, "length does not fit the count"));
        }
        let (digests, rest) = digests.as_chunks::<DIGEST>();
        if !rest.is_empty() {
            return Err(damage(&layout.digest, "length does not fit the count"));
        }
        let all = flags.iter().fold(0, |all, flag| all | flag);
        if all & !(TOMBSTONE | DECISION) != 0 {
            return Err(damage(&layout.flags, "unknown flag"));
        }
        let sizes = self.numbers(&layout.size, layout.count)?;
        let dead = |flag: &&u8| **flag & TOMBSTONE != 0;
        let tombstones = match all & TOMBSTONE {
            0 => 0,
            _ => flags.iter().filter(dead).count(),
        };
        if sizes.width() != column::width_of(sizes.max()) {
            return Err(damage(&layout.size, "column wider than it must be"));
        }
        let totals = Totals {
            tombstones,
            value_bytes: sizes.sum(0, layout.count),
            expiring: self.expires(layout, tombstones)?,
        };
        if tombstones == 0 {
            return Ok(totals);
        }
        let deleted = flags.iter().zip(digests).enumerate();
        let mut deleted = deleted.filter(|(_, (flag, _))| *flag & TOMBSTONE != 0);
        if deleted.any(|(index, (_, digest))| *digest != NO_DIGEST || sizes.get(index) != 0) {
            return Err(damage(&layout.flags, "tombstone with a size or digest"));
        }
        Ok(totals)
    }

    /// How many values expire, if the column that says when is as it must be.
    fn expires(&self, layout: &Layout, tombstones: usize) -> Result<usize> {
        let place = &layout.expires;
        if place.is_empty() {
            return Ok(0);
        }
        let expires = self.numbers(place, layout.count)?;
        let greatest = expires.max();
        if greatest == 0 || expires.width() != column::width_of(greatest) {
            return Err(damage(place, "column wider than it must be"));
        }
        let expiring = expires.nonzero();
        if tombstones == 0 {
            return Ok(expiring);
        }
        let flags = self.body[layout.flags.clone()].iter();
        let mut deleted = flags.zip(0..).filter(|(flag, _)| *flag & TOMBSTONE != 0);
        if deleted.any(|(_, index)| expires.get(index) != 0) {
            return Err(damage(place, "tombstone that expires"));
        }
        Ok(expiring)
    }

    /// The marks of the keys, if their sizes are as they must be.
    pub(crate) fn key_sizes(&self, layout: &Layout) -> Result<Vec<usize>> {
        let sizes = self.numbers(&layout.key_size, layout.count)?;
        let keys = &self.body[layout.key.clone()];
        strings::measure(sizes, keys, HEADER + layout.key_size.start)
    }

    /// The keys, whose sizes were checked.
    pub(crate) fn keys(&self, layout: &'a Layout) -> Strings<'a> {
        let sizes = &self.body[layout.key_size.clone()];
        Strings {
            sizes: Column::new(sizes, layout.count).unwrap_or(Column::One(&[])),
            bytes: &self.body[layout.key.clone()],
            marks: &layout.marks,
        }
    }
}

const fn damage(place: &Range<usize>, damage: &'static str) -> Error {
    Error::damaged(HEADER + place.start, damage)
}

/// The least stamp and the greatest of the only origin.
fn extremes<N: Number>(numbers: &[N]) -> (u64, Vec<Option<u64>>) {
    let widen = |(least, greatest): (u64, u64), number: &N| (least.min(number.get()), greatest.max(number.get()));
    let (least, greatest) = numbers.iter().fold((u64::MAX, 0), widen);
    (least, vec![Some(greatest)])
}

/// Changes that follow one another are kept apart, so that none waits for the one before it.
const LANES: usize = 4;

/// The least stamp, and the greatest of each origin, None for one that does not occur.
fn maxima<S: Number, O: Number>(stamps: &[S], origins: &[O], count: usize) -> (u64, Vec<Option<u64>>) {
    let mut lanes = vec![[0; LANES]; count];
    let mut least = [u64::MAX; LANES];
    let pairs = stamps.chunks(LANES).zip(origins.chunks(LANES));
    for (stamps, origins) in pairs {
        for (lane, (stamp, origin)) in stamps.iter().zip(origins).enumerate() {
            least[lane] = stamp.get().min(least[lane]);
            if let Some(most) = lanes.get_mut(position(origin.get())) {
                most[lane] = stamp.get().max(most[lane]);
            }
        }
    }
    let most = |lanes: &[u64; LANES]| lanes.iter().copied().max();
    let mut maxima: Vec<_> = lanes.iter().map(most).collect();
    // Nothing greater than 0 was seen of these: either 0 was, or nothing.
    if maxima.contains(&Some(0)) {
        let mut seen = vec![false; count];
        let places = origins.iter().map(|origin| position(origin.get()));
        places.for_each(|place| {
            if let Some(seen) = seen.get_mut(place) {
                *seen = true;
            }
        });
        for (most, seen) in maxima.iter_mut().zip(seen) {
            *most = most.filter(|_| seen);
        }
    }
    (least.into_iter().min().unwrap_or(0), maxima)
}
