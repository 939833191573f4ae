//! A table as bytes: columns behind a binary head.

use std::collections::BTreeSet;

use crate::column::{Column, position, width_of, write};
use crate::error::{Error, Result};
use crate::reason::Reason;
use crate::strings::{self, Strings};

use super::binary::{self, HEAD_BYTES, PART_BYTES_MAX, PartReader};
use super::sums::Sums;
use super::table::{Part, Place, Table};

/// Places of the widths in the head.
const COUNT: usize = 0;
const PACK: usize = 1;
const OFFSET: usize = 2;
const LENGTH: usize = 3;
const HELD: usize = 4;
const ORIGIN: usize = 5;
const MAX: usize = 6;
const KEY_SIZE: usize = 7;
/// Offsets in packs are below this, so that the end of a part is a number of 64 bits.
const OFFSET_MAX: u64 = 1 << 48;
/// Changes of one part are below this, so that their number is one of 64 bits in any table.
const COUNT_MAX: u64 = 1 << 48;

/// Encode a table, which has at least one part unless it is the root of an empty directory.
///
/// # Errors
/// [`Error::TooLarge`] where a page would pass 64 MiB.
pub fn encode_page(table: &Table) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append_page(table, &mut out)?;
    Ok(out)
}

/// Append a page.
pub(super) fn append_page(table: &Table, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let origins = origins_of(table);
    let maxima = || table.iter().flat_map(|part| part.maxima);
    let base = maxima().map(|(_, stamp)| *stamp).min().unwrap_or(0);
    let rank = |origin: u64| origins.partition_point(|other| *other < origin) as u64;
    let places: [Vec<u64>; 4] = [
        table.iter().map(|part| part.count).collect(),
        table.iter().map(|part| part.place.pack.into()).collect(),
        table.iter().map(|part| part.place.offset).collect(),
        table.iter().map(|part| part.place.length.into()).collect(),
    ];
    let rest: [Vec<u64>; 4] = [
        table.iter().map(|part| part.maxima.len() as u64).collect(),
        maxima().map(|(origin, _)| rank(*origin)).collect(),
        maxima().map(|(_, stamp)| stamp - base).collect(),
        table.iter().map(|part| part.first_key.len() as u64).collect(),
    ];
    let mut widths = [0; 8];
    for (width, numbers) in widths.iter_mut().zip(places.iter().chain(&rest)) {
        *width = width_of_all(numbers);
    }
    binary::append_head(out, [table.len(), origins.len()], widths)?;
    out.extend_from_slice(&base.to_le_bytes());
    out.extend(origins.iter().flat_map(|origin| origin.to_le_bytes()));
    append_columns(out, &places);
    out.extend(table.iter().flat_map(|part| part.checksum.to_le_bytes()));
    out.extend(table.iter().flat_map(|part| part.sums.changes.to_le_bytes()));
    out.extend(table.iter().flat_map(|part| part.sums.content.to_le_bytes()));
    append_columns(out, &rest);
    out.extend(table.iter().flat_map(|part| part.first_key));
    binary::seal(&mut out[start..])
}

/// The origins that occur, ascending.
fn origins_of(table: &Table) -> Vec<u64> {
    let origins = table.iter().flat_map(|part| part.maxima).map(|(origin, _)| *origin);
    origins.collect::<BTreeSet<_>>().into_iter().collect()
}

fn append_columns(out: &mut Vec<u8>, columns: &[Vec<u64>]) {
    for numbers in columns {
        write(out, width_of_all(numbers), numbers.iter().copied());
    }
}

fn width_of_all(numbers: &[u64]) -> usize {
    width_of(numbers.iter().copied().max().unwrap_or(0))
}

/// Validate a table.
///
/// ```
/// use kvsync_core::blocks::{Table, decode_page, encode_page};
///
/// let page = encode_page(&Table::default())?;
/// assert!(decode_page(&page)?.is_empty());
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Damaged`] where the bytes are not one table.
pub fn decode_page(page: &[u8]) -> Result<Table> {
    let mut reader = PartReader::new(page)?;
    let [count, origins] = reader.counts();
    let base = reader.word()?;
    let origins = read_origins(&mut reader, origins)?;
    let places = Places::read(&mut reader, count)?;
    let checksums = reader.chunks(count)?;
    let [changes, content] = [reader.chunks(count)?, reader.chunks(count)?];
    let (held, maxima) = read_maxima(&mut reader, count, &origins, base)?;
    let at = reader.offset();
    let sizes = reader.checked_numbers(count, KEY_SIZE)?;
    let keys = &page[reader.rest()];
    let marks = strings::check_sizes(sizes, keys, at)?;
    let strings = Strings {
        sizes,
        bytes: keys,
        marks: &marks,
    };
    strings.check(reader.offset())?;
    let mut table = Table::default();
    let mut maxima = maxima.as_slice();
    let mut start = 0;
    for index in 0..count {
        let own = maxima.split_off(..position(held.get(index))).unwrap_or_default();
        let first_key = strings.at(index, start);
        start += first_key.len();
        table.push(&Part {
            first_key,
            count: places.count.get(index),
            place: places.get(index),
            checksum: u64::from_le_bytes(checksums[index]),
            sums: Sums {
                changes: u128::from_le_bytes(changes[index]),
                content: u128::from_le_bytes(content[index]),
            },
            maxima: own,
        });
    }
    Ok(table)
}

fn read_origins(reader: &mut PartReader<'_>, count: usize) -> Result<Vec<u64>> {
    let at = reader.offset();
    let origins: Vec<u64> = reader
        .chunks(count)?
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    if origins.is_sorted_by(|left, right| left < right) {
        Ok(origins)
    } else {
        Err(Error::damaged(at, Reason::OriginsContradictCount))
    }
}

/// Where the parts lie, and how many changes each has.
struct Places<'a> {
    count: Column<'a>,
    pack: Column<'a>,
    offset: Column<'a>,
    length: Column<'a>,
}

impl<'a> Places<'a> {
    fn read(reader: &mut PartReader<'a>, count: usize) -> Result<Self> {
        let at = reader.offset();
        let places = Self {
            count: reader.checked_numbers(count, COUNT)?,
            pack: reader.checked_numbers(count, PACK)?,
            offset: reader.checked_numbers(count, OFFSET)?,
            length: reader.checked_numbers(count, LENGTH)?,
        };
        let lengths = HEAD_BYTES as u64..=PART_BYTES_MAX as u64;
        let sound = |index: usize| {
            let counted = 0 < places.count.get(index) && places.count.get(index) < COUNT_MAX;
            counted && lengths.contains(&places.length.get(index)) && places.offset.get(index) < OFFSET_MAX
        };
        if places.pack.max() > u32::MAX.into() || !(0..count).all(sound) {
            return Err(Error::damaged(at, Reason::PartOutOfRange));
        }
        Ok(places)
    }

    fn get(&self, index: usize) -> Place {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            pack: narrow(self.pack.get(index)),
            offset: self.offset.get(index),
            length: narrow(self.length.get(index)),
        }
    }
}

/// How many origins each part has, and the greatest stamp of each, part after part.
fn read_maxima<'a>(
    reader: &mut PartReader<'a>,
    count: usize,
    origins: &[u64],
    base: u64,
) -> Result<(Column<'a>, Vec<(u64, u64)>)> {
    let at = reader.offset();
    let contradiction = Err(Error::damaged(at, Reason::OriginsContradictCount));
    let held = reader.checked_numbers(count, HELD)?;
    let total = position(held.sum(0, count));
    let ranks = reader.checked_numbers(total, ORIGIN)?;
    let at = reader.offset();
    let stamps = reader.checked_numbers(total, MAX)?;
    let mut used = vec![false; origins.len()];
    let mut maxima = Vec::with_capacity(total);
    for index in 0..count {
        let start = maxima.len();
        let stop = start + position(held.get(index));
        for place in start..stop {
            let rank = position(ranks.get(place));
            let stamp = base.checked_add(stamps.get(place));
            let (Some(origin), Some(stamp)) = (origins.get(rank), stamp) else {
                return contradiction;
            };
            used[rank] = true;
            maxima.push((*origin, stamp));
        }
        let ascend = maxima[start..].is_sorted_by(|left, right| left.0 < right.0);
        if start == stop || !ascend {
            return contradiction;
        }
    }
    let least = (0..total).map(|place| stamps.get(place)).min().unwrap_or(base);
    if used.contains(&false) || least != 0 {
        return Err(Error::damaged(at, Reason::MaximaContradictStamps));
    }
    Ok((held, maxima))
}
