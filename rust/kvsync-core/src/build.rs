//! Segments made from changes: each column in its least width.

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::ops::Range;

use crate::check::Totals;
use crate::column::{position, width_if_any, width_of, write};
use crate::error::{Error, Result};
use crate::key;
use crate::layout::Layout;
use crate::row::{DECISION, DIGEST, NO_DIGEST, Row, TOMBSTONE};
use crate::segment::Segment;
use crate::strings;

pub(crate) const EXPIRING_TOMBSTONE: &str = "tombstone that expires";

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
    /// As far as the last value that expires.
    expires: Vec<u64>,
    digest: Vec<[u8; DIGEST]>,
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
        // A longer key makes `key` too long as well, which `finish` refuses.
        self.key_size.push(u32::try_from(row.key.len()).unwrap_or(u32::MAX));
        self.key.extend_from_slice(row.key);
    }

    /// Keep the expiry of the change that is just being appended; those before without one have 0.
    #[cold]
    fn push_expires(&mut self, expires: u64) {
        self.expires.resize(self.flags.len(), 0);
        self.expires.push(expires);
    }

    /// The segment of the changes of some builders, the keys of each greater than those before.
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
        let mut whole = Self::with_room(count, key_bytes);
        if filled.iter().any(|part| !part.expires.is_empty()) {
            whole.expires.reserve_exact(count);
        }
        for part in filled {
            whole.append(part);
        }
        whole.finish()
    }

    /// With room for so many changes, and bytes of their keys: to grow in steps would copy all of it several times.
    pub(crate) fn with_room(count: usize, key_bytes: usize) -> Self {
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

    /// The segment.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn finish(&self) -> Result<Segment<Vec<u8>>> {
        let count = self.flags.len();
        let longest = self.key.len().max(count.saturating_mul(DIGEST));
        check_length(longest)?;
        let (origins, places) = self.origin_table();
        let mut layout = Layout {
            count,
            maxima: places.iter().map(|(_, most)| *most).collect(),
            origins,
            stamp_base: self.stamp.iter().copied().min().unwrap_or(0),
            totals: Totals {
                tombstones: self.flags.iter().filter(|flag| *flag & TOMBSTONE != 0).count(),
                value_bytes: self.size.iter().fold(0, |sum: u64, size| sum.saturating_add(*size)),
                expiring: self.expires.iter().filter(|time| **time != 0).count(),
            },
            marks: strings::marks_of(self.key_size.iter().map(|size| position(u64::from(*size)))),
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

    fn write(&self, layout: &mut Layout) -> Vec<u8> {
        let base = layout.stamp_base;
        let mut order = vec![0_u64; self.origins.len()];
        for (rank, place) in self.origins.values().enumerate() {
            order[position(u64::from(*place))] = rank as u64;
        }
        let most = |numbers: &[u64]| numbers.iter().copied().max().unwrap_or(0);
        let longest = self.key_size.iter().copied().max().unwrap_or(0);
        let widths = [
            width_of(most(&self.stamp) - base),
            width_of(order.len().saturating_sub(1) as u64),
            width_of(most(&self.size)),
            width_of(u64::from(longest)),
            width_if_any(most(&self.expires)),
        ];
        let mut sheet = Sheet::new(layout.count, &widths, self.key.len());
        let stamps = self.stamp.iter().map(|stamp| stamp - base);
        layout.stamp = sheet.numbers(widths[0], stamps);
        let ranks = self.origin.iter().map(|place| order[position(u64::from(*place))]);
        layout.origin = sheet.numbers(widths[1], ranks);
        layout.flags = sheet.bytes(&self.flags);
        layout.size = sheet.numbers(widths[2], self.size.iter().copied());
        let never = layout.count - self.expires.len();
        let expires = self.expires.iter().copied().chain(repeat_n(0, never));
        layout.expires = sheet.numbers(widths[4], expires);
        layout.digest = sheet.bytes(self.digest.as_flattened());
        let key_sizes = self.key_size.iter().map(|size| u64::from(*size));
        layout.key_size = sheet.numbers(widths[3], key_sizes);
        layout.key = sheet.bytes(&self.key);
        sheet.out
    }
}

/// Columns behind one another.
pub(crate) struct Sheet {
    pub(crate) out: Vec<u8>,
}

impl Sheet {
    pub(crate) fn new(count: usize, widths: &[usize], key_bytes: usize) -> Self {
        let row = widths.iter().sum::<usize>() + 1 + DIGEST;
        Self {
            out: Vec::with_capacity(count * row + key_bytes),
        }
    }

    pub(crate) fn numbers(&mut self, width: usize, numbers: impl Iterator<Item = u64>) -> Range<usize> {
        let start = self.out.len();
        write(&mut self.out, width, numbers);
        start..self.out.len()
    }

    fn bytes(&mut self, bytes: &[u8]) -> Range<usize> {
        self.pieces(std::iter::once(bytes))
    }

    pub(crate) fn pieces<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Range<usize> {
        let start = self.out.len();
        pieces.for_each(|piece| self.out.extend_from_slice(piece));
        start..self.out.len()
    }
}

/// A segment of changes in any order; of one key given twice, the greatest change counts.
///
/// # Errors
/// A reserved key, an unknown flag, a tombstone with a size, digest or expiry.
pub fn from_rows(mut rows: Vec<Row<'_>>) -> Result<Segment<Vec<u8>>> {
    rows.iter().try_for_each(check_row)?;
    rows.sort_by(|left, right| left.key.cmp(right.key).then_with(|| right.order(left)));
    rows.dedup_by(|later, kept| later.key == kept.key);
    let mut builder = Builder::default();
    for row in &rows {
        builder.push(row);
    }
    builder.finish()
}

fn check_row(row: &Row<'_>) -> Result<()> {
    let text = String::from_utf8_lossy(row.key);
    key::check(&text)?;
    let problem = if row.flags & !(TOMBSTONE | DECISION) != 0 {
        "unknown flag"
    } else if row.deletes() && (row.size != 0 || *row.digest != NO_DIGEST) {
        "tombstone with a size or digest"
    } else if row.deletes() && row.expires != 0 {
        EXPIRING_TOMBSTONE
    } else {
        return Ok(());
    };
    Err(Error::BadChange {
        key: text.into_owned(),
        problem,
    })
}

pub(crate) const fn bad(problem: &'static str) -> Error {
    Error::BadArgument { problem }
}

/// Refuse a column that a msgpack bin cannot hold.
pub(crate) fn check_length(length: usize) -> Result<()> {
    let fits = u32::try_from(length).is_ok();
    if fits { Ok(()) } else { Err(Error::TooLarge { length }) }
}
