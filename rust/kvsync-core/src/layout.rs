//! Where the columns of a segment lie, and their validation in the order of the format.

use std::ops::Range;

use crate::check::{Check, Totals};
use crate::envelope::HEADER;
use crate::error::{Error, Result};
use crate::pack::Reader;
use crate::row::DIGEST;

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
    /// Empty where no value expires.
    pub(crate) expires: Range<usize>,
    pub(crate) digest: Range<usize>,
    pub(crate) key_size: Range<usize>,
    pub(crate) key: Range<usize>,
    pub(crate) marks: Vec<usize>,
    pub(crate) totals: Totals,
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
        layout.totals = check.flags(&layout)?;
        layout.marks = check.key_sizes(&layout)?;
        check.keys(&layout).check(HEADER + layout.key.start)?;
        layout.shift(start);
        Ok(layout)
    }

    /// The columns in the order of the format.
    pub(crate) fn columns(&self) -> [(&'static str, &Range<usize>); 8] {
        [
            ("stamp", &self.stamp),
            ("origin", &self.origin),
            ("flags", &self.flags),
            ("size", &self.size),
            ("expires", &self.expires),
            ("digest", &self.digest),
            ("key_size", &self.key_size),
            ("key", &self.key),
        ]
    }

    /// The small facts and places, with nothing checked but their form.
    pub(crate) fn read(body: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER);
        reader.map(13)?;
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
            ("expires", &mut layout.expires),
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

    /// Count the places from `start` bytes before the body on.
    pub(crate) fn shift(&mut self, start: usize) {
        for place in [
            &mut self.stamp,
            &mut self.origin,
            &mut self.flags,
            &mut self.size,
            &mut self.expires,
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
