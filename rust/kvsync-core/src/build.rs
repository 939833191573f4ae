//! Segments built from changes: each column in its least width.

use std::collections::BTreeMap;
use std::iter::repeat_n;

use crate::column::{position, width_if_any, width_of};
use crate::column_writer::{ColumnWriter, Widths, check_length};
use crate::error::{Error, Result};
use crate::key;
use crate::layout::{Layout, Totals};
use crate::reason::ChangeFault;
use crate::row::{DIGEST_BYTES, FLAGS, NO_DIGEST, Row, TOMBSTONE};
use crate::segment::Segment;
use crate::strings::marks_of;

/// Builds a segment from changes in strictly ascending key order.
///
/// ```
/// use kvsync_core::{Builder, NO_DIGEST, Row, TOMBSTONE};
///
/// let mut builder = Builder::default();
/// for key in ["a", "b"] {
///     let (key, digest) = (key.as_bytes(), &NO_DIGEST);
///     builder.push(&Row { key, origin: 7, stamp: 1, flags: TOMBSTONE, size: 0, expires: 0, digest });
/// }
/// assert_eq!(builder.finish()?.view().len(), 2);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    origins: BTreeMap<u64, u32>,
    maxima: Vec<u64>,
    last_origin: Option<(u64, u32)>,
    stamp: Vec<u64>,
    origin: Vec<u32>,
    flags: Vec<u8>,
    size: Vec<u64>,
    /// Filled up to the last value that expires.
    expires: Vec<u64>,
    digest: Vec<[u8; DIGEST_BYTES]>,
    key_size: Vec<u32>,
    key: Vec<u8>,
}

impl Builder {
    /// Append a change whose key is greater than all before.
    pub fn push(&mut self, row: &Row<'_>) {
        if row.expires != 0 {
            self.push_expires(row.expires);
        }
        let origin = self.origin_of(row.origin, row.stamp);
        self.origin.push(origin);
        self.stamp.push(row.stamp);
        self.flags.push(row.flags);
        self.size.push(row.size);
        self.digest.push(*row.digest);
        // A key whose size does not fit makes `key` too long as well, which `finish` refuses.
        self.key_size.push(u32::try_from(row.key.len()).unwrap_or(u32::MAX));
        self.key.extend_from_slice(row.key);
    }

    /// Whether there are no changes.
    pub(crate) const fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Forget all changes, but keep the memory.
    pub(crate) fn clear(&mut self) {
        self.origins.clear();
        self.maxima.clear();
        self.last_origin = None;
        self.stamp.clear();
        self.origin.clear();
        self.flags.clear();
        self.size.clear();
        self.expires.clear();
        self.digest.clear();
        self.key_size.clear();
        self.key.clear();
    }

    /// Set the expiry of the change that is being appended; the changes before it that have none get 0.
    #[cold]
    fn push_expires(&mut self, expires: u64) {
        self.expires.resize(self.flags.len(), 0);
        self.expires.push(expires);
    }

    /// Join the changes of some builders, the keys of each greater than those of the builders before it.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn join(parts: &[&Self]) -> Result<Segment<Vec<u8>>> {
        let filled = parts.iter().copied();
        let filled: Vec<_> = filled.filter(|part| !part.flags.is_empty()).collect();
        if let [only] = filled[..] {
            return only.finish();
        }
        let count = filled.iter().map(|part| part.flags.len()).sum();
        let key_bytes = filled.iter().map(|part| part.key.len()).sum();
        let mut whole = Self::with_capacity(count, key_bytes);
        if filled.iter().any(|part| !part.expires.is_empty()) {
            whole.expires.reserve_exact(count);
        }
        for part in filled {
            whole.append(part);
        }
        whole.finish()
    }

    /// Reserve room for all changes and keys at once: growing in steps would copy all of it several times.
    pub(crate) fn with_capacity(count: usize, key_bytes: usize) -> Self {
        Self {
            stamp: Vec::with_capacity(count),
            origin: Vec::with_capacity(count),
            flags: Vec::with_capacity(count),
            size: Vec::with_capacity(count),
            digest: Vec::with_capacity(count),
            key_size: Vec::with_capacity(count),
            key: Vec::with_capacity(key_bytes),
            ..Self::default()
        }
    }

    fn append(&mut self, other: &Self) {
        if !other.expires.is_empty() {
            self.expires.resize(self.flags.len(), 0);
            self.expires.extend_from_slice(&other.expires);
        }
        let mut places = vec![0; other.origins.len()];
        for (origin, place) in &other.origins {
            let place = position(u64::from(*place));
            places[place] = self.origin_of(*origin, other.maxima[place]);
        }
        let place = |place: &u32| places[position(u64::from(*place))];
        self.origin.extend(other.origin.iter().map(place));
        self.stamp.extend_from_slice(&other.stamp);
        self.flags.extend_from_slice(&other.flags);
        self.size.extend_from_slice(&other.size);
        self.digest.extend_from_slice(&other.digest);
        self.key_size.extend_from_slice(&other.key_size);
        self.key.extend_from_slice(&other.key);
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

    /// Build the segment of the changes so far.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn finish(&self) -> Result<Segment<Vec<u8>>> {
        let count = self.flags.len();
        let longest = self.key.len().max(count.saturating_mul(DIGEST_BYTES));
        check_length(longest)?;
        let (origins, places) = self.origin_table();
        let mut layout = Layout {
            count,
            maxima: places.iter().map(|(_, most)| *most).collect(),
            origins,
            stamp_base: self.stamp.iter().copied().min().unwrap_or(0),
            totals: self.totals(),
            key_marks: marks_of(self.key_size.iter().map(|size| position(u64::from(*size)))),
            ..Layout::default()
        };
        let bytes = self.write(&mut layout);
        Ok(Segment::assemble(bytes, layout))
    }

    fn totals(&self) -> Totals {
        let add = |sum: u64, size: &u64| sum.saturating_add(*size);
        Totals {
            tombstones: self.flags.iter().filter(|flag| *flag & TOMBSTONE != 0).count(),
            value_bytes: self.size.iter().fold(0, add),
            expiring: self.expires.iter().filter(|time| **time != 0).count(),
        }
    }

    /// The origins ascending, with the greatest stamp of each.
    fn origin_table(&self) -> (Vec<u64>, Vec<(u32, u64)>) {
        let places = self.origins.values();
        let most = |place: &u32| (*place, self.maxima[position(u64::from(*place))]);
        (self.origins.keys().copied().collect(), places.map(most).collect())
    }

    fn write(&self, layout: &mut Layout) -> Vec<u8> {
        let widths = self.widths(layout);
        let ranks = self.ranks();
        let mut columns = ColumnWriter::new(layout.count, &widths, self.key.len());
        let stamps = self.stamp.iter().map(|stamp| stamp - layout.stamp_base);
        layout.stamp = columns.numbers(widths.stamp, stamps);
        let origins = self.origin.iter().map(|place| ranks[position(u64::from(*place))]);
        layout.origin = columns.numbers(widths.origin, origins);
        layout.flags = columns.bytes(&self.flags);
        layout.size = columns.numbers(widths.size, self.size.iter().copied());
        let never = layout.count - self.expires.len();
        let expires = self.expires.iter().copied().chain(repeat_n(0, never));
        layout.expires = columns.numbers(widths.expires, expires);
        layout.digest = columns.bytes(self.digest.as_flattened());
        let key_sizes = self.key_size.iter().map(|size| u64::from(*size));
        layout.key_size = columns.numbers(widths.key_size, key_sizes);
        layout.key = columns.bytes(&self.key);
        columns.finish()
    }

    fn widths(&self, layout: &Layout) -> Widths {
        let greatest = |numbers: &[u64]| numbers.iter().copied().max().unwrap_or(0);
        let longest_key = self.key_size.iter().copied().max().unwrap_or(0);
        Widths {
            stamp: width_of(greatest(&self.stamp) - layout.stamp_base),
            origin: width_of(layout.origins.len().saturating_sub(1) as u64),
            size: width_of(greatest(&self.size)),
            expires: width_if_any(greatest(&self.expires)),
            key_size: width_of(u64::from(longest_key)),
        }
    }

    /// The position of each origin among the ascending ones.
    fn ranks(&self) -> Vec<u64> {
        let mut ranks = vec![0; self.origins.len()];
        for (rank, place) in (0..).zip(self.origins.values()) {
            ranks[position(u64::from(*place))] = rank;
        }
        ranks
    }
}

impl Segment<Vec<u8>> {
    /// Build a segment from changes in any order; of several changes of a key, the greatest counts.
    ///
    /// # Errors
    /// A reserved key, an unknown flag, or a tombstone with a size, digest or expiry.
    pub fn from_rows(mut rows: Vec<Row<'_>>) -> Result<Self> {
        rows.iter().try_for_each(check_row)?;
        rows.sort_by(|left, right| left.key.cmp(right.key).then_with(|| right.order(left)));
        rows.dedup_by(|later, kept| later.key == kept.key);
        let mut builder = Builder::default();
        for row in &rows {
            builder.push(row);
        }
        builder.finish()
    }
}

fn check_row(row: &Row<'_>) -> Result<()> {
    let text = String::from_utf8_lossy(row.key);
    key::check_key(&text)?;
    let fault = if row.flags & !FLAGS != 0 {
        ChangeFault::UnknownFlag
    } else if row.deletes() && (row.size != 0 || *row.digest != NO_DIGEST) {
        ChangeFault::TombstoneWithValue
    } else if row.deletes() && row.expires != 0 {
        ChangeFault::TombstoneExpires
    } else {
        return Ok(());
    };
    Err(Error::BadChange {
        key: text.into_owned(),
        fault,
    })
}
