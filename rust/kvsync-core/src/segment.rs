//! An immutable sorted set of changes, at most one a key, over the bytes that hold it.

use std::borrow::Cow;
use std::ops::Range;

use crate::column::{self, Column};
use crate::cursor::Cursor;
use crate::envelope::{self, HEADER, Kind};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::merge::Seeker;
use crate::pack::Writer;
use crate::row::{DIGEST, Row, TOMBSTONE};
use crate::strings::Strings;
use crate::workers::Workers;

/// A validated segment and the bytes it lies in.
#[derive(Debug, Clone)]
pub struct Segment<B> {
    bytes: B,
    layout: Layout,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Validate the body that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not a segment of that name.
    pub fn parse(bytes: B, start: usize, name: &str) -> Result<Self> {
        let layout = Layout::parse(bytes.as_ref(), start, name)?;
        Ok(Self { bytes, layout })
    }

    pub(crate) const fn assemble(bytes: B, layout: Layout) -> Self {
        Self { bytes, layout }
    }

    /// The same segment over other owned bytes.
    pub fn map_bytes<C>(self, change: impl FnOnce(B) -> C) -> Segment<C> {
        Segment {
            bytes: change(self.bytes),
            layout: self.layout,
        }
    }

    /// How many bytes it takes in memory, compressed or not where it came from.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Its columns.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self.bytes.as_ref(), &self.layout)
    }

    /// The whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn encode(&self, name: &str, compress: bool) -> Result<Vec<u8>> {
        let outline = self.outline(name)?;
        let mut object = vec![0; outline.len()];
        outline.write(&mut object);
        if compress {
            object = envelope::finish(Kind::Segment, object, true);
        }
        Ok(object)
    }

    /// The object as it is stored without compression, yet to be written.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn outline(&self, name: &str) -> Result<Outline<'_>> {
        let bytes = self.bytes.as_ref();
        let layout = &self.layout;
        let mut head = vec![0; HEADER];
        let mut out = Writer(&mut head);
        out.map(13);
        out.str("name")?;
        out.str(name)?;
        out.str("count")?;
        out.uint(layout.count as u64);
        for (key, numbers) in [("origins", &layout.origins), ("max", &layout.maxima)] {
            out.str(key)?;
            out.array(numbers.len())?;
            for number in numbers {
                out.uint(*number);
            }
        }
        out.str("stamp_base")?;
        out.uint(layout.stamp_base);
        let mut pieces = vec![Cow::Owned(head)];
        for (key, place) in layout.columns() {
            let mut head = Vec::new();
            let mut out = Writer(&mut head);
            out.str(key)?;
            out.bin_head(place.len())?;
            pieces.push(Cow::Owned(head));
            pieces.push(Cow::Borrowed(&bytes[place.clone()]));
        }
        Ok(Outline(pieces))
    }
}

/// An object in pieces, so that it is written once, wherever it is to be.
#[derive(Debug)]
pub struct Outline<'a>(Vec<Cow<'a, [u8]>>);

impl Outline<'_> {
    /// How many bytes the object has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// Write the object into as many bytes as it has.
    ///
    /// # Panics
    /// Given fewer bytes.
    pub fn write(&self, object: &mut [u8]) {
        let mut rest = &mut *object;
        for piece in &self.0 {
            let (place, after) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = after;
        }
        envelope::fill(Kind::Segment, object);
    }
}

/// The columns of a segment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) stamp: Column<'a>,
    pub(crate) origin: Column<'a>,
    pub(crate) flags: &'a [u8],
    pub(crate) size: Column<'a>,
    /// Empty where no value expires.
    pub(crate) expires: Column<'a>,
    pub(crate) digest: &'a [[u8; DIGEST]],
    /// The keys.
    pub keys: Strings<'a>,
}

impl<'a> View<'a> {
    fn new(bytes: &'a [u8], layout: &'a Layout) -> Self {
        // The layout was made from these bytes: every column has its width, or is empty.
        let numbers =
            |place: &Range<usize>| Column::new(&bytes[place.clone()], layout.count).unwrap_or(Column::One(&[]));
        Self {
            layout,
            stamp: numbers(&layout.stamp),
            origin: numbers(&layout.origin),
            flags: &bytes[layout.flags.clone()],
            size: numbers(&layout.size),
            expires: numbers(&layout.expires),
            digest: bytes[layout.digest.clone()].as_chunks().0,
            keys: Strings {
                sizes: numbers(&layout.key_size),
                bytes: &bytes[layout.key.clone()],
                marks: &layout.marks,
            },
        }
    }

    /// Number of changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.layout.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.layout.count == 0
    }

    /// The greatest stamp of each origin, ascending by origin.
    pub fn maxima(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let layout = self.layout;
        let origins = layout.origins.iter().copied();
        origins.zip(layout.maxima.iter().copied())
    }

    /// The greatest stamp, 0 where there is none.
    #[must_use]
    pub fn stamp_max(&self) -> u64 {
        self.layout.maxima.iter().copied().max().unwrap_or(0)
    }

    /// Sum of the sizes of all values.
    #[must_use]
    pub const fn value_bytes(&self) -> u64 {
        self.layout.totals.value_bytes
    }

    /// Number of tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> usize {
        self.layout.totals.tombstones
    }

    /// Number of values that expire.
    #[must_use]
    pub const fn expiring(&self) -> usize {
        self.layout.totals.expiring
    }

    /// The change at a position, given where its key begins.
    #[must_use]
    #[inline]
    pub fn row_at(&self, index: usize, start: usize) -> Row<'a> {
        let origin = column::position(self.origin.get(index));
        Row {
            key: self.keys.at(index, start),
            origin: self.layout.origins[origin],
            stamp: self.layout.stamp_base + self.stamp.get(index),
            flags: self.flags[index],
            size: self.size.get(index),
            expires: self.expires.get_or_zero(index),
            digest: &self.digest[index],
        }
    }

    /// The changes in a range of positions, cut to what there is.
    #[must_use]
    pub fn rows(&self, start: usize, stop: usize) -> Cursor<'a> {
        Cursor::new(*self, start, stop)
    }

    /// All changes, ascending by key.
    #[must_use]
    pub fn iter(&self) -> Cursor<'a> {
        self.rows(0, self.len())
    }

    /// The newest change of each of some keys; quickest where they ascend.
    #[must_use]
    pub fn find(&self, keys: &[&str]) -> Vec<Option<Row<'a>>> {
        let mut seeker = Seeker::new(*self);
        let find = |key: &&str| seeker.find(key.as_bytes());
        keys.iter().map(find).collect()
    }

    /// As [`batches`].
    ///
    /// # Errors
    /// A limit of no changes.
    pub fn batches(&self, count_max: usize, bytes_max: u64) -> Result<Vec<(usize, usize)>> {
        let sizes = (0..self.len()).map(|index| self.size.get(index));
        batches(sizes, count_max, bytes_max)
    }

    /// Positions among the puts of a range whose value is not the logged one; a missing value never is.
    #[must_use]
    pub fn mismatches(&self, start: usize, stop: usize, values: &[Option<&[u8]>], workers: Workers) -> Vec<usize> {
        let puts = self.rows(start, stop).filter(|row| !row.deletes());
        let digests = crate::digest::of_values(values, workers);
        let pairs = puts.zip(values.iter().zip(&digests)).enumerate();
        let wrong = pairs.filter(|(_, (row, (value, digest)))| {
            value.is_none_or(|value| value.len() as u64 != row.size || *digest != row.digest)
        });
        wrong.map(|(position, _)| position).collect()
    }

    /// When each put of a range expires, 0 for never.
    #[must_use]
    pub fn expires(&self, start: usize, stop: usize) -> Vec<u64> {
        let places = start..stop.min(self.len());
        let puts = places.filter(|index| self.flags[*index] & TOMBSTONE == 0);
        puts.map(|index| self.expires.get_or_zero(index)).collect()
    }

    /// The keys of the values that have expired by a time.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> Vec<&'a [u8]> {
        let places = 0..self.expires.len();
        let expired = places.filter(|index| (1..=now_ms).contains(&self.expires.get(*index)));
        expired.map(|index| self.keys.get(index)).collect()
    }

    /// Number of puts in a range.
    #[must_use]
    pub fn puts(&self, start: usize, stop: usize) -> usize {
        let flags = self.flags.get(start..stop.min(self.len()));
        let puts = flags.unwrap_or_default().iter();
        puts.filter(|flags| *flags & TOMBSTONE == 0).count()
    }
}

impl<'a> IntoIterator for &View<'a> {
    type Item = Row<'a>;
    type IntoIter = Cursor<'a>;

    fn into_iter(self) -> Cursor<'a> {
        self.iter()
    }
}

/// Consecutive ranges of at most so many changes and value bytes, each of at least one change.
///
/// # Errors
/// A limit of no changes.
pub fn batches(sizes: impl Iterator<Item = u64>, count_max: usize, bytes_max: u64) -> Result<Vec<(usize, usize)>> {
    if count_max == 0 {
        return Err(Error::BadArgument {
            problem: "a batch needs at least one change",
        });
    }
    let mut batches = Vec::new();
    let (mut start, mut stop, mut bytes) = (0, 0, 0_u64);
    for size in sizes {
        let full = stop - start == count_max || bytes.saturating_add(size) > bytes_max;
        if full && stop > start {
            batches.push((start, stop));
            (start, bytes) = (stop, 0);
        }
        bytes = bytes.saturating_add(size);
        stop += 1;
    }
    if start < stop {
        batches.push((start, stop));
    }
    Ok(batches)
}
