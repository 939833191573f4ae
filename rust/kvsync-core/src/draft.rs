//! Segments made from values just seen: first their order, which is all that writing them takes, then their digests.

use std::borrow::Borrow;

use crate::build::{Builder, EXPIRING_TOMBSTONE, Sheet, bad, check_length};
use crate::check::Totals;
use crate::column::{position, width_if_any, width_of};
use crate::digest;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::listing::Listing;
use crate::row::{DECISION, DIGEST, TOMBSTONE};
use crate::segment::Segment;
use crate::strings;
use crate::workers::Workers;

/// A segment of values just seen: consecutive stamps from `stamp` in key order, `None` a delete.
///
/// Of one key given twice, the last value counts. Without `expires`, none of them ever goes by itself.
///
/// # Errors
/// Lists of unlike length, a reserved key, an unknown flag, a stamp past 64 bits, a delete that expires.
pub fn from_values(
    keys: &Listing,
    values: &[Option<&[u8]>],
    expires: Option<Vec<u64>>,
    origin: u64,
    stamp: u64,
    flags: u8,
) -> Result<Segment<Vec<u8>>> {
    let draft = Draft::new(keys, values, expires, origin, stamp, flags)?;
    draft.segment(values, Workers::ALONE)
}

/// What [`from_values`] has found out before it takes a digest: nothing is left that could be refused.
#[derive(Debug)]
pub struct Draft<K> {
    keys: K,
    order: Vec<u32>,
    expires: Option<Vec<u64>>,
    origin: u64,
    stamp: u64,
    flags: u8,
}

impl<K: Borrow<Listing>> Draft<K> {
    /// Put the keys of some values in order.
    ///
    /// # Errors
    /// As [`from_values`].
    pub fn new(
        keys: K,
        values: &[Option<&[u8]>],
        expires: Option<Vec<u64>>,
        origin: u64,
        stamp: u64,
        flags: u8,
    ) -> Result<Self> {
        let listing = keys.borrow();
        check_count(listing, values.len())?;
        if flags & !DECISION != 0 {
            return Err(bad("unknown flag"));
        }
        if let Some(expires) = &expires {
            check_expires(listing, values, expires)?;
        }
        listing.check_reserved()?;
        let order = listing.order()?;
        check_length(listing.bytes().max(order.len().saturating_mul(DIGEST)))?;
        let steps = order.len().saturating_sub(1) as u64;
        stamp.checked_add(steps).ok_or(Error::ClockOverflow)?;
        Ok(Self {
            keys,
            order,
            expires,
            origin,
            stamp,
            flags,
        })
    }

    /// The position in what was given of each change of the segment.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// When the value at a position of what was given expires, 0 for never; None where none of them does.
    #[must_use]
    pub fn expires(&self) -> Option<&[u64]> {
        self.expires.as_deref()
    }

    /// The segment of the values that it was made from, digested by `workers`.
    ///
    /// # Errors
    /// As many values as other ones.
    pub fn segment(&self, values: &[Option<&[u8]>], workers: Workers) -> Result<Segment<Vec<u8>>> {
        check_count(self.keys.borrow(), values.len())?;
        let Some(last) = (self.order.len() as u64).checked_sub(1) else {
            return Builder::default().finish();
        };
        let mut layout = Layout {
            count: self.order.len(),
            origins: vec![self.origin],
            maxima: vec![self.stamp + last],
            stamp_base: self.stamp,
            ..Layout::default()
        };
        let digests = digest::of_values(values, workers);
        let bytes = self.write(values, &digests, &mut layout);
        Ok(Segment::assemble(bytes, layout))
    }

    fn write(&self, values: &[Option<&[u8]>], digests: &[[u8; DIGEST]], layout: &mut Layout) -> Vec<u8> {
        let keys = self.keys.borrow();
        let places = || self.order.iter().map(|index| position(u64::from(*index)));
        let sizes = || places().map(|index| values[index].map_or(0, |value| value.len() as u64));
        let expires = self.expires.as_deref().unwrap_or_default();
        let expires = || places().map_while(|index| expires.get(index).copied());
        let key_sizes = || places().map(|index| keys.get(index).len());
        let count = layout.count as u64;
        let widths = [
            width_of(count - 1),
            1,
            width_of(sizes().max().unwrap_or(0)),
            width_of(key_sizes().max().unwrap_or(0) as u64),
            width_if_any(expires().max().unwrap_or(0)),
        ];
        let mut sheet = Sheet::new(layout.count, &widths, keys.bytes());
        layout.stamp = sheet.numbers(widths[0], 0..count);
        layout.origin = sheet.numbers(1, places().map(|_| 0));
        let deletes = |index: usize| u8::from(values[index].is_none()) * TOMBSTONE;
        let flags = places().map(|index| u64::from(self.flags | deletes(index)));
        layout.flags = sheet.numbers(1, flags);
        layout.size = sheet.numbers(widths[2], sizes());
        layout.expires = sheet.numbers(widths[4], expires());
        layout.digest = sheet.pieces(places().map(|index| digests[index].as_slice()));
        layout.key_size = sheet.numbers(widths[3], key_sizes().map(|size| size as u64));
        layout.key = sheet.pieces(places().map(|index| keys.get(index)));
        layout.marks = strings::marks_of(key_sizes());
        layout.totals = Totals {
            tombstones: places().filter(|index| values[*index].is_none()).count(),
            value_bytes: sizes().fold(0, u64::saturating_add),
            expiring: expires().filter(|time| *time != 0).count(),
        };
        sheet.out
    }
}

const fn check_count(keys: &Listing, values: usize) -> Result<()> {
    if keys.len() == values {
        Ok(())
    } else {
        Err(bad("keys and values differ in length"))
    }
}

fn check_expires(keys: &Listing, values: &[Option<&[u8]>], expires: &[u64]) -> Result<()> {
    if keys.len() != expires.len() {
        return Err(bad("keys and expiries differ in length"));
    }
    let mut pairs = values.iter().zip(expires);
    match pairs.position(|(value, expires)| value.is_none() && *expires != 0) {
        None => Ok(()),
        Some(index) => Err(Error::BadChange {
            key: keys.text(index).unwrap_or_default(),
            problem: EXPIRING_TOMBSTONE,
        }),
    }
}
