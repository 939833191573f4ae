//! What a cursor has to be fed with next.

use crate::error::{Error, Result};
use crate::reason::ArgumentFault;

use super::table::{Place, Table};

/// The most bytes of one range.
const RANGE_BYTES_MAX: u64 = 8 << 20;

/// A range of bytes to be read and fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The directory that the range belongs to: 0 for A and 1 for B, or the number of a run of a merge.
    pub run: usize,
    /// The position of the object among the packs of that directory.
    pub pack: u32,
    /// Where the range begins in that object.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Ranges to be read, and the parts in them.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    needs: Vec<Need>,
    /// The run and the position of each part, and the number of its range.
    parts: Vec<(usize, usize, usize)>,
    places: Vec<Place>,
}

impl Wanted {
    /// Want some parts of a run, ascending; neighbours are read as one range.
    pub(super) fn add(&mut self, run: usize, table: &Table, parts: impl IntoIterator<Item = usize>) {
        for index in parts {
            if let Some(part) = table.get(index) {
                self.add_place(run, part.place);
                self.parts.push((run, index, self.needs.len() - 1));
                self.places.push(part.place);
            }
        }
    }

    fn add_place(&mut self, run: usize, place: Place) {
        let follows = |need: &&mut Need| {
            let same = (need.run, need.pack, need.offset + need.length) == (run, place.pack, place.offset);
            same && need.length + u64::from(place.length) <= RANGE_BYTES_MAX
        };
        match self.needs.last_mut().filter(follows) {
            Some(need) => need.length += u64::from(place.length),
            None => self.needs.push(Need {
                run,
                pack: place.pack,
                offset: place.offset,
                length: place.length.into(),
            }),
        }
    }

    pub(super) fn needs(&self) -> &[Need] {
        &self.needs
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }

    /// Cut what was read into the parts: run, position and bytes of each.
    ///
    /// # Errors
    /// The ranges are not those that were needed.
    pub(super) fn cut<'p>(&self, ranges: &[&'p [u8]]) -> Result<Vec<(usize, usize, &'p [u8])>> {
        let lengths = self.needs.iter().map(|need| need.length);
        if !lengths.eq(ranges.iter().map(|range| range.len() as u64)) {
            return Err(Error::BadArgument(ArgumentFault::RangesAndNeeds));
        }
        let mut rests = ranges.to_vec();
        let cut = |((run, index, range), place): (&(usize, usize, usize), &Place)| {
            let length = usize::try_from(place.length).unwrap_or(usize::MAX);
            let (part, rest) = rests[*range].split_at(length);
            rests[*range] = rest;
            (*run, *index, part)
        };
        Ok(self.parts.iter().zip(&self.places).map(cut).collect())
    }
}
