//! Segments made from changes: each column in its least width.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::column::{position, width_of, write};
use crate::digest;
use crate::error::{Error, Result};
use crate::key;
use crate::layout::Layout;
use crate::row::{DECISION, DIGEST, NO_DIGEST, Row, TOMBSTONE};
use crate::segment::Segment;
use crate::strings::STRIDE;

/// Takes changes in strictly ascending key order.
#[derive(Debug, Default)]
pub struct Builder {
    origins: BTreeMap<u64, u32>,
    maxima: Vec<u64>,
    last_origin: Option<(u64, u32)>,
    stamp: Vec<u64>,
    origin: Vec<u32>,
    flags: Vec<u8>,
    size: Vec<u64>,
    digest: Vec<[u8; DIGEST]>,
    key_size: Vec<u32>,
    key: Vec<u8>,
}

impl Builder {
    /// A builder with room for so many changes.
    #[must_use]
    pub fn with_capacity(changes: usize, key_bytes: usize) -> Self {
        Self {
            stamp: Vec::with_capacity(changes),
            origin: Vec::with_capacity(changes),
            flags: Vec::with_capacity(changes),
            size: Vec::with_capacity(changes),
            digest: Vec::with_capacity(changes),
            key_size: Vec::with_capacity(changes),
            key: Vec::with_capacity(key_bytes),
            ..Self::default()
        }
    }

    /// Append a change whose key is greater than all before.
    pub fn push(&mut self, row: &Row<'_>) {
        let origin = self.origin_of(row.origin, row.stamp);
        self.origin.push(origin);
        self.stamp.push(row.stamp);
        self.flags.push(row.flags);
        self.size.push(row.size);
        self.digest.push(*row.digest);
        // A longer key makes `key` too long as well, which `finish` refuses.
        self.key_size.push(u32::try_from(row.key.len()).unwrap_or(u32::MAX));
        self.key.extend_from_slice(row.key);
    }

    fn origin_of(&mut self, origin: u64, stamp: u64) -> u32 {
        let place = match self.last_origin {
            Some((last, place)) if last == origin => place,
            _ => {
                let next = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
                *self.origins.entry(origin).or_insert(next)
            }
        };
        self.last_origin = Some((origin, place));
        match self.maxima.get_mut(position(u64::from(place))) {
            Some(most) => *most = stamp.max(*most),
            None => self.maxima.push(stamp),
        }
        place
    }

    /// The segment.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn finish(self) -> Result<Segment<Vec<u8>>> {
        let count = self.flags.len();
        let longest = self.key.len().max(count.saturating_mul(DIGEST));
        if u32::try_from(longest).is_err() {
            return Err(Error::TooLarge { length: longest });
        }
        let (origins, places) = self.origin_table();
        let mut layout = Layout {
            count,
            maxima: places.iter().map(|(_, most)| *most).collect(),
            origins,
            stamp_base: self.stamp.iter().copied().min().unwrap_or(0),
            tombstones: self.flags.iter().filter(|flag| *flag & TOMBSTONE != 0).count(),
            value_bytes: self.size.iter().fold(0, |sum: u64, size| sum.saturating_add(*size)),
            marks: self.marks(),
            ..Layout::default()
        };
        let bytes = self.write(&mut layout);
        Ok(Segment::assemble(bytes, layout))
    }

    /// The origins ascending, with the greatest stamp of each.
    fn origin_table(&self) -> (Vec<u64>, Vec<(u32, u64)>) {
        let places = self.origins.values();
        let most = |place: &u32| (*place, self.maxima[position(u64::from(*place))]);
        (self.origins.keys().copied().collect(), places.map(most).collect())
    }

    fn marks(&self) -> Vec<usize> {
        let blocks = self.key_size.chunks(STRIDE);
        let starts = blocks.scan(0, |start, block| {
            let mark = *start;
            *start += block.iter().map(|size| position(u64::from(*size))).sum::<usize>();
            Some(mark)
        });
        starts.collect()
    }

    fn write(self, layout: &mut Layout) -> Vec<u8> {
        let base = layout.stamp_base;
        let mut order = vec![0_u64; self.origins.len()];
        for (rank, place) in self.origins.values().enumerate() {
            order[position(u64::from(*place))] = rank as u64;
        }
        let most = |numbers: &[u64]| numbers.iter().copied().max().unwrap_or(0);
        let widths = [
            width_of(most(&self.stamp) - base),
            width_of(order.len().saturating_sub(1) as u64),
            width_of(most(&self.size)),
            width_of(u64::from(self.key_size.iter().copied().max().unwrap_or(0))),
        ];
        let row = widths.iter().sum::<usize>() + 1 + DIGEST;
        let mut out = Vec::with_capacity(layout.count * row + self.key.len());
        let end = |out: &Vec<u8>, last: &mut usize| {
            let place = *last..out.len();
            *last = out.len();
            place
        };
        let last = &mut 0;
        write(&mut out, widths[0], self.stamp.iter().map(|stamp| stamp - base));
        layout.stamp = end(&out, last);
        let ranks = self.origin.iter().map(|place| order[position(u64::from(*place))]);
        write(&mut out, widths[1], ranks);
        layout.origin = end(&out, last);
        out.extend_from_slice(&self.flags);
        layout.flags = end(&out, last);
        write(&mut out, widths[2], self.size.iter().copied());
        layout.size = end(&out, last);
        out.extend_from_slice(self.digest.as_flattened());
        layout.digest = end(&out, last);
        write(&mut out, widths[3], self.key_size.iter().map(|size| u64::from(*size)));
        layout.key_size = end(&out, last);
        out.extend_from_slice(&self.key);
        layout.key = end(&out, last);
        out
    }
}

/// A segment of values just seen: consecutive stamps from `stamp` in key order, `None` a delete.
///
/// Of one key given twice, the last value counts.
///
/// # Errors
/// Lists of unlike length, a reserved key, an unknown flag, a stamp past 64 bits.
pub fn from_values(
    keys: &[&str],
    values: &[Option<&[u8]>],
    origin: u64,
    stamp: u64,
    flags: u8,
) -> Result<Segment<Vec<u8>>> {
    if keys.len() != values.len() {
        return Err(bad("keys and values differ in length"));
    }
    if flags & !DECISION != 0 {
        return Err(bad("unknown flag"));
    }
    keys.iter().try_for_each(|key| key::check(key))?;
    let order = ascending(keys)?;
    let mut builder = Builder::with_capacity(order.len(), keys.iter().map(|key| key.len()).sum());
    for (index, stamp) in order.iter().zip(0..).map(|(index, step)| (*index, stamp.checked_add(step))) {
        let index = position(u64::from(index));
        let (digest, size) = match values[index] {
            Some(value) => (digest::of_value(value), value.len() as u64),
            None => (NO_DIGEST, 0),
        };
        let tombstone = if values[index].is_none() { TOMBSTONE } else { 0 };
        builder.push(&Row {
            key: keys[index].as_bytes(),
            origin,
            stamp: stamp.ok_or(Error::ClockOverflow)?,
            flags: flags | tombstone,
            size,
            digest: &digest,
        });
    }
    builder.finish()
}

/// A segment of changes in any order; of one key given twice, the greatest change counts.
///
/// # Errors
/// A reserved key, an unknown flag, a tombstone with a size or digest.
pub fn from_rows(mut rows: Vec<Row<'_>>) -> Result<Segment<Vec<u8>>> {
    rows.iter().try_for_each(check_row)?;
    rows.sort_by(|left, right| left.key.cmp(right.key).then_with(|| right.order(left)));
    rows.dedup_by(|later, kept| later.key == kept.key);
    let mut builder = Builder::default();
    rows.iter().for_each(|row| builder.push(row));
    builder.finish()
}

fn check_row(row: &Row<'_>) -> Result<()> {
    let text = String::from_utf8_lossy(row.key);
    key::check(&text)?;
    let problem = if row.flags & !(TOMBSTONE | DECISION) != 0 {
        "unknown flag"
    } else if row.deletes() && (row.size != 0 || *row.digest != NO_DIGEST) {
        "tombstone with a size or digest"
    } else {
        return Ok(());
    };
    Err(Error::BadChange {
        key: text.into_owned(),
        problem,
    })
}

const fn bad(problem: &'static str) -> Error {
    Error::BadArgument { problem }
}

/// The positions of keys in ascending order; of one key given twice, the last position.
///
/// # Errors
/// [`Error::TooLarge`] for 2^32 keys.
pub fn ascending(keys: &[&str]) -> Result<Vec<u32>> {
    let length = keys.len();
    let count = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
    if keys.windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok((0..count).collect());
    }
    let common = common_prefix(keys);
    let head = |key: &str| -> u128 {
        let rest = &key.as_bytes()[common..];
        let mut head = [0; 16];
        let length = rest.len().min(16);
        head[..length].copy_from_slice(&rest[..length]);
        u128::from_be_bytes(head)
    };
    let mut order: Vec<(u128, u32)> = keys.iter().map(|key| head(key)).zip(0..count).collect();
    let by_key = |left: &(u128, u32), right: &(u128, u32)| -> Ordering {
        let text = |entry: &(u128, u32)| keys[position(u64::from(entry.1))];
        left.0.cmp(&right.0).then_with(|| text(left).cmp(text(right)))
    };
    order.sort_by(by_key);
    // Stable: of equal keys the last given comes last, and replaces the ones before it.
    order.dedup_by(|later, kept| {
        let same = by_key(later, kept) == Ordering::Equal;
        if same {
            kept.1 = later.1;
        }
        same
    });
    Ok(order.into_iter().map(|(_, index)| index).collect())
}

fn common_prefix(keys: &[&str]) -> usize {
    let Some((first, rest)) = keys.split_first() else {
        return 0;
    };
    rest.iter().fold(first.len(), |length, key| {
        let pairs = first.bytes().zip(key.bytes()).take(length);
        pairs.take_while(|(left, right)| left == right).count()
    })
}
