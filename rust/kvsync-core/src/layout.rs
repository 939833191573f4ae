//! Where the columns of a segment lie, found and validated in one pass over each.

use std::ops::Range;

use crate::column::{self, Column, Number, position};
use crate::each_width;
use crate::envelope::HEADER;
use crate::error::{Error, Result};
use crate::pack::Reader;
use crate::row::{DECISION, DIGEST, NO_DIGEST, TOMBSTONE};
use crate::strings;

/// A segment's small facts, and the places of its columns in the bytes around it.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub(crate) count: usize,
    pub(crate) origins: Vec<u64>,
    pub(crate) maxima: Vec<u64>,
    pub(crate) stamp_base: u64,
    pub(crate) stamp: Range<usize>,
    pub(crate) origin: Range<usize>,
    pub(crate) flags: Range<usize>,
    pub(crate) size: Range<usize>,
    pub(crate) digest: Range<usize>,
    pub(crate) key_size: Range<usize>,
    pub(crate) key: Range<usize>,
    pub(crate) marks: Vec<usize>,
    pub(crate) tombstones: usize,
    pub(crate) value_bytes: u64,
}

impl Layout {
    /// Read and validate the body that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`] wherever it departs from the format.
    pub fn parse(bytes: &[u8], start: usize, name: &str) -> Result<Self> {
        let body = bytes.get(start..).unwrap_or_default();
        let mut layout = Self::read(body, name)?;
        let check = Check { body };
        check.origins(&layout)?;
        check.stamps(&layout)?;
        check.flags(&mut layout)?;
        let sizes = check.numbers(&layout.key_size, layout.count)?;
        let keys = &body[layout.key.clone()];
        layout.marks = strings::measure(sizes, keys, HEADER + layout.key_size.start)?;
        strings::check_keys(sizes, keys, HEADER + layout.key.start)?;
        layout.shift(start);
        Ok(layout)
    }

    /// The columns in the order of the format.
    pub(crate) fn columns(&self) -> [(&'static str, &Range<usize>); 7] {
        [
            ("stamp", &self.stamp),
            ("origin", &self.origin),
            ("flags", &self.flags),
            ("size", &self.size),
            ("digest", &self.digest),
            ("key_size", &self.key_size),
            ("key", &self.key),
        ]
    }

    pub(crate) fn stored_bytes(&self) -> usize {
        self.columns().iter().map(|(_, place)| place.len()).sum()
    }

    fn read(body: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER);
        reader.map(12)?;
        let count = read_head(&mut reader, body, name)?;
        reader.key("origins")?;
        let origins = read_numbers(&mut reader)?;
        reader.key("max")?;
        let maxima = read_numbers(&mut reader)?;
        reader.key("stamp_base")?;
        let mut layout = Self {
            count,
            origins,
            maxima,
            stamp_base: reader.uint()?,
            ..Self::default()
        };
        let places = [
            ("stamp", &mut layout.stamp),
            ("origin", &mut layout.origin),
            ("flags", &mut layout.flags),
            ("size", &mut layout.size),
            ("digest", &mut layout.digest),
            ("key_size", &mut layout.key_size),
            ("key", &mut layout.key),
        ];
        for (key, place) in places {
            reader.key(key)?;
            *place = reader.bin()?;
        }
        reader.end()?;
        Ok(layout)
    }

    fn shift(&mut self, start: usize) {
        for place in [
            &mut self.stamp,
            &mut self.origin,
            &mut self.flags,
            &mut self.size,
            &mut self.digest,
            &mut self.key_size,
            &mut self.key,
        ] {
            *place = place.start + start..place.end + start;
        }
    }
}

/// The entries `name`, which must be the expected one, and `count`.
pub(crate) fn read_head(reader: &mut Reader<'_>, body: &[u8], name: &str) -> Result<usize> {
    reader.key("name")?;
    let offset = reader.offset();
    let place = reader.str()?;
    if body.get(place) != Some(name.as_bytes()) {
        return Err(Error::damaged(offset, "an object of another name"));
    }
    reader.key("count")?;
    let offset = reader.offset();
    let count = usize::try_from(reader.uint()?).unwrap_or(usize::MAX);
    if count > reader.remaining() / DIGEST {
        return Err(Error::damaged(offset, "count passes the end"));
    }
    Ok(count)
}

fn read_numbers(reader: &mut Reader<'_>) -> Result<Vec<u64>> {
    let length = reader.array()?;
    (0..length).map(|_| reader.uint()).collect()
}

struct Check<'a> {
    body: &'a [u8],
}

impl<'a> Check<'a> {
    fn numbers(&self, place: &Range<usize>, count: usize) -> Result<Column<'a>> {
        let bytes = &self.body[place.clone()];
        Column::new(bytes, count).ok_or(damage(place, "length does not fit the count"))
    }

    fn origins(&self, layout: &Layout) -> Result<()> {
        let Layout {
            origins, maxima, ..
        } = layout;
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

    fn stamps(&self, layout: &Layout) -> Result<()> {
        let stamps = self.numbers(&layout.stamp, layout.count)?;
        let origins = self.numbers(&layout.origin, layout.count)?;
        if layout.count == 0 {
            return Ok(());
        }
        let (least, greatest) = each_width!(stamps, numbers => extremes(numbers));
        if least != 0 || stamps.width() != column::width_of(greatest) {
            return Err(damage(
                &layout.stamp,
                "stamps do not fit stamp_base or width",
            ));
        }
        let found = match layout.origins.len() {
            1 => vec![Some(greatest)],
            count => each_width!(stamps, stamps => each_width!(origins, origins => {
                maxima(stamps, origins, count)
            })),
        };
        let base = layout.stamp_base;
        let absolute = found.iter().map(|most| base.checked_add((*most)?));
        if absolute.ne(layout.maxima.iter().copied().map(Some)) {
            return Err(damage(
                &layout.stamp,
                "origins or max contradict the stamps",
            ));
        }
        Ok(())
    }

    fn flags(&self, layout: &mut Layout) -> Result<()> {
        let flags = &self.body[layout.flags.clone()];
        let digests = &self.body[layout.digest.clone()];
        if flags.len() != layout.count || digests.len() / DIGEST != layout.count {
            return Err(damage(&layout.flags, "length does not fit the count"));
        }
        let (digests, rest) = digests.as_chunks::<DIGEST>();
        if !rest.is_empty() {
            return Err(damage(&layout.digest, "length does not fit the count"));
        }
        if flags.iter().fold(0, |all, flag| all | flag) & !(TOMBSTONE | DECISION) != 0 {
            return Err(damage(&layout.flags, "unknown flag"));
        }
        let sizes = self.numbers(&layout.size, layout.count)?;
        let dead = flags.iter().map(|flag| usize::from(flag & TOMBSTONE));
        layout.tombstones = dead.sum();
        if sizes.width() != column::width_of(sizes.max()) {
            return Err(damage(&layout.size, "column wider than it must be"));
        }
        layout.value_bytes = sizes.sum(0, layout.count);
        if layout.tombstones == 0 {
            return Ok(());
        }
        let deleted = flags.iter().zip(digests).enumerate();
        let mut deleted = deleted.filter(|(_, (flag, _))| *flag & TOMBSTONE != 0);
        if deleted.any(|(index, (_, digest))| *digest != NO_DIGEST || sizes.get(index) != 0) {
            return Err(damage(&layout.flags, "tombstone with a size or digest"));
        }
        Ok(())
    }
}

const fn damage(place: &Range<usize>, damage: &'static str) -> Error {
    Error::damaged(HEADER + place.start, damage)
}

fn extremes<N: Number>(numbers: &[N]) -> (u64, u64) {
    let widen = |(least, greatest): (u64, u64), number: &N| {
        (least.min(number.get()), greatest.max(number.get()))
    };
    numbers.iter().fold((u64::MAX, 0), widen)
}

fn maxima<S: Number, O: Number>(stamps: &[S], origins: &[O], count: usize) -> Vec<Option<u64>> {
    let mut maxima = vec![None; count];
    for (stamp, origin) in stamps.iter().zip(origins) {
        if let Some(most) = maxima.get_mut(position(origin.get())) {
            *most = (*most).max(Some(stamp.get()));
        }
    }
    maxima
}
