//! What must hold of a segment's columns; each check can be made without the others.

use std::ops::Range;

use crate::column::{self, Column, Number, each_width, position};
use crate::envelope::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::layout::{Layout, Totals};
use crate::reason::Reason;
use crate::row::{DIGEST_BYTES, FLAGS, NO_DIGEST, TOMBSTONE};
use crate::strings::{self, Strings};

/// Read and validate the body that begins at `start` of `bytes`, in the order of the format.
///
/// # Errors
/// [`Error::Damaged`] wherever the body departs from the format.
pub(crate) fn read_checked(bytes: &[u8], start: usize, name: &str) -> Result<Layout> {
    let body = bytes.get(start..).unwrap_or_default();
    let mut layout = Layout::read(body, name)?;
    let check = Check { body };
    check.origins(&layout)?;
    check.stamps(&layout)?;
    layout.totals = check.totals(&layout)?;
    layout.key_marks = check.key_sizes(&layout)?;
    check.keys(&layout).check(HEADER_BYTES + layout.key.start)?;
    layout.shift(start);
    Ok(layout)
}

/// The checks of the columns in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) body: &'a [u8],
}

impl<'a> Check<'a> {
    fn numbers(&self, place: &Range<usize>, count: usize) -> Result<Column<'a>> {
        let bytes = &self.body[place.clone()];
        Column::new(bytes, count).ok_or(damage(place, Reason::ColumnLength))
    }

    pub(crate) fn origins(&self, layout: &Layout) -> Result<()> {
        let Layout { origins, maxima, .. } = layout;
        let ascend = origins.windows(2).all(|pair| pair[0] < pair[1]);
        let any = origins.is_empty() == (layout.count == 0);
        if !ascend || !any || maxima.len() != origins.len() || origins.len() > layout.count {
            return Err(damage(&layout.stamp, Reason::OriginsContradictCount));
        }
        if layout.count == 0 && layout.stamp_base != 0 {
            return Err(damage(&layout.stamp, Reason::StampBaseOfNothing));
        }
        let column = self.numbers(&layout.origin, layout.count)?;
        let greatest = origins.len().saturating_sub(1) as u64;
        if column.width() != column::width_of(greatest) || column.max() > greatest {
            return Err(damage(&layout.origin, Reason::OriginOutOfRange));
        }
        Ok(())
    }

    /// Check the stamps; [`Self::origins`] checks that the origins are in range.
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
            return Err(damage(&layout.stamp, Reason::StampsContradictBase));
        }
        let base = layout.stamp_base;
        let absolute = found.iter().map(|most| base.checked_add((*most)?));
        if absolute.ne(layout.maxima.iter().copied().map(Some)) {
            return Err(damage(&layout.stamp, Reason::MaximaContradictStamps));
        }
        Ok(())
    }

    /// Check flags, sizes, expiries and digests, and sum them up.
    pub(crate) fn totals(&self, layout: &Layout) -> Result<Totals> {
        let flags = self.flags(layout)?;
        let digests = self.body[layout.digest.clone()].as_chunks::<DIGEST_BYTES>().0;
        let sizes = self.numbers(&layout.size, layout.count)?;
        if sizes.width() != column::width_of(sizes.max()) {
            return Err(damage(&layout.size, Reason::ColumnTooWide));
        }
        let tombstones = count_tombstones(flags);
        let totals = Totals {
            tombstones,
            value_bytes: sizes.sum(0, layout.count),
            expiring: self.expires(layout, tombstones)?,
        };
        let mut rows = flags.iter().zip(digests).enumerate();
        let has_value = |(index, (flag, digest)): (usize, (&u8, &[u8; DIGEST_BYTES]))| {
            flag & TOMBSTONE != 0 && (*digest != NO_DIGEST || sizes.get(index) != 0)
        };
        if tombstones > 0 && rows.any(has_value) {
            return Err(damage(&layout.flags, Reason::TombstoneWithValue));
        }
        Ok(totals)
    }

    fn flags(&self, layout: &Layout) -> Result<&'a [u8]> {
        let flags = &self.body[layout.flags.clone()];
        if flags.len() != layout.count || layout.digest.len() / DIGEST_BYTES != layout.count {
            return Err(damage(&layout.flags, Reason::ColumnLength));
        }
        if !layout.digest.len().is_multiple_of(DIGEST_BYTES) {
            return Err(damage(&layout.digest, Reason::ColumnLength));
        }
        let all = flags.iter().fold(0, |all, flag| all | flag);
        if all & !FLAGS != 0 {
            return Err(damage(&layout.flags, Reason::UnknownFlag));
        }
        Ok(flags)
    }

    /// Check the expiries, and count the values that expire.
    fn expires(&self, layout: &Layout, tombstones: usize) -> Result<usize> {
        let place = &layout.expires;
        if place.is_empty() {
            return Ok(0);
        }
        let expires = self.numbers(place, layout.count)?;
        let greatest = expires.max();
        if greatest == 0 || expires.width() != column::width_of(greatest) {
            return Err(damage(place, Reason::ColumnTooWide));
        }
        let expiring = expires.nonzero();
        if tombstones == 0 {
            return Ok(expiring);
        }
        let flags = self.body[layout.flags.clone()].iter();
        let mut deleted = flags.zip(0..).filter(|(flag, _)| *flag & TOMBSTONE != 0);
        if deleted.any(|(_, index)| expires.get(index) != 0) {
            return Err(damage(place, Reason::TombstoneExpires));
        }
        Ok(expiring)
    }

    /// Check the sizes of the keys, and mark where every block of keys begins.
    pub(crate) fn key_sizes(&self, layout: &Layout) -> Result<Vec<usize>> {
        let sizes = self.numbers(&layout.key_size, layout.count)?;
        let keys = &self.body[layout.key.clone()];
        strings::check_sizes(sizes, keys, HEADER_BYTES + layout.key_size.start)
    }

    /// The keys, whose sizes were checked.
    pub(crate) fn keys(&self, layout: &'a Layout) -> Strings<'a> {
        let sizes = &self.body[layout.key_size.clone()];
        Strings {
            sizes: Column::new(sizes, layout.count).unwrap_or(Column::One(&[])),
            bytes: &self.body[layout.key.clone()],
            marks: &layout.key_marks,
        }
    }
}

const fn damage(range: &Range<usize>, reason: Reason) -> Error {
    Error::damaged(HEADER_BYTES + range.start, reason)
}

/// Count the tombstones, in one quick pass where there are none.
fn count_tombstones(flags: &[u8]) -> usize {
    let all = flags.iter().fold(0, |all, flag| all | flag);
    if all & TOMBSTONE == 0 {
        return 0;
    }
    flags.iter().filter(|flag| *flag & TOMBSTONE != 0).count()
}

/// The least stamp, and the greatest of the only origin.
fn extremes<N: Number>(numbers: &[N]) -> (u64, Vec<Option<u64>>) {
    let widen = |(least, greatest): (u64, u64), number: &N| (least.min(number.get()), greatest.max(number.get()));
    let (least, greatest) = numbers.iter().fold((u64::MAX, 0), widen);
    (least, vec![Some(greatest)])
}

/// Adjacent changes go to different accumulators, so that no addition waits for the one before it.
const ACCUMULATORS: usize = 4;

/// The least stamp, and the greatest of each origin; None for an origin that does not occur.
fn maxima<S: Number, O: Number>(stamps: &[S], origins: &[O], count: usize) -> (u64, Vec<Option<u64>>) {
    let mut accumulators = vec![[0; ACCUMULATORS]; count];
    let mut least = [u64::MAX; ACCUMULATORS];
    let pairs = stamps.chunks(ACCUMULATORS).zip(origins.chunks(ACCUMULATORS));
    for (stamps, origins) in pairs {
        for (number, (stamp, origin)) in stamps.iter().zip(origins).enumerate() {
            least[number] = stamp.get().min(least[number]);
            if let Some(most) = accumulators.get_mut(position(origin.get())) {
                most[number] = stamp.get().max(most[number]);
            }
        }
    }
    let most = |accumulators: &[u64; ACCUMULATORS]| accumulators.iter().copied().max();
    let mut maxima: Vec<_> = accumulators.iter().map(most).collect();
    // A maximum of 0 means either that the stamp 0 occurred, or that no stamp did.
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
