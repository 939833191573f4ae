//! A piece: an immutable part of an inventory, over the bytes that hold it.

use std::num::NonZeroUsize;

use crate::envelope::{self, HEADER_BYTES, Kind};
use crate::error::Result;
use crate::pack::Writer;
use crate::strings::{STRIDE, Strings};
use crate::view::View;

use super::build::{ColumnsOf, Noted, Table};
use super::page::Value;
use super::places::{Columns, Entry, Found, Place, Places};

/// A validated piece: entries of an inventory, ascending by key.
///
/// ```
/// use kvsync_core::{KeyList, Kind, Noted, Piece, envelope};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let noted = Noted { keys: &keys, tokens: &[b"v1", b""], digests: &[Some(&[1; 32]), None] };
/// let object = Piece::build(noted)?.encode("piece/1", false)?;
///
/// let piece = Piece::parse(envelope::open(Kind::Piece, &object)?, 0, "piece/1")?;
/// let found: Vec<_> = piece.iter().map(|entry| (entry.key, entry.found.is_some())).collect();
/// assert_eq!(found, [(&b"a"[..], true), (b"b", false)]);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Piece<B> {
    bytes: B,
    places: Places,
}

impl Piece<Vec<u8>> {
    /// Build a piece of what is noted of some keys.
    ///
    /// # Errors
    /// Lists that differ in length, or more than the format holds.
    pub fn build(noted: Noted<'_>) -> Result<Self> {
        let mut table = Table::default();
        noted.entries()?.for_each(|entry| table.push(&entry));
        Self::from_table(&table)
    }

    /// Build a piece of the values that some changes leave, in a storage whose tokens are digests.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn of_puts(changes: &View<'_>) -> Result<Self> {
        let mut table = Table::default();
        for row in changes.iter().filter(|row| !row.deletes()) {
            let value = Value {
                digest: row.digest,
                size: row.size,
                expires: row.expires,
            };
            // Only a value that expires has a token of its own, which takes memory of its own.
            let token = (row.expires != 0).then(|| value.token());
            let found = Found {
                token: token.as_deref().unwrap_or(row.digest),
                digest: row.digest,
            };
            table.push(&Entry {
                key: row.key,
                found: Some(found),
            });
        }
        Self::from_table(&table)
    }

    pub(super) fn from_columns<S, K>(columns: ColumnsOf<'_, S, K>) -> Result<Self>
    where
        S: Iterator<Item = u64> + Clone,
        K: Iterator<Item = u64> + Clone,
    {
        let (bytes, places) = columns.write()?;
        Ok(Self { bytes, places })
    }

    pub(super) fn from_table(table: &Table) -> Result<Self> {
        let (bytes, places) = table.finish()?;
        Ok(Self { bytes, places })
    }
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// Validate the body of the piece `name` that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the body is not that piece.
    pub fn parse(bytes: B, start: usize, name: &str) -> Result<Self> {
        let places = Places::read_checked(bytes.as_ref(), start, name)?;
        Ok(Self { bytes, places })
    }

    /// Convert the bytes that hold the piece to another type; their content must stay the same.
    pub fn map_bytes<C>(self, convert: impl FnOnce(B) -> C) -> Piece<C> {
        Piece {
            bytes: convert(self.bytes),
            places: self.places,
        }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.count
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.count == 0
    }

    /// How many bytes hold the piece.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// The first key.
    #[must_use]
    pub fn first(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.columns().keys.get(0))
    }

    /// The last key.
    #[must_use]
    pub fn last(&self) -> Option<&[u8]> {
        let last = self.len().checked_sub(1)?;
        Some(self.columns().keys.get(last))
    }

    /// All entries, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let columns = self.columns();
        let mut place = Place::default();
        std::iter::from_fn(move || {
            let (entry, next) = columns.at(place)?;
            place = next;
            Some(entry)
        })
    }

    /// The entries of some keys in any order.
    #[must_use]
    pub fn find(&self, wanted: &[&str]) -> Vec<Option<Entry<'_>>> {
        let columns = self.columns();
        let find = |key: &&str| {
            let index = rank(columns.keys, key.as_bytes());
            let entry = (index < self.len()).then(|| columns.get(index));
            entry.filter(|entry| entry.key == key.as_bytes())
        };
        wanted.iter().map(find).collect()
    }

    /// How many entries come before each of some keys.
    #[must_use]
    pub fn ranks(&self, keys: &[&str]) -> Vec<usize> {
        let columns = self.columns();
        keys.iter().map(|key| rank(columns.keys, key.as_bytes())).collect()
    }

    /// The first key, and every `step`th one after it.
    #[must_use]
    pub fn every(&self, step: NonZeroUsize) -> Vec<&[u8]> {
        let keys = self.columns().keys;
        (0..self.len())
            .step_by(step.get())
            .map(|index| keys.get(index))
            .collect()
    }

    /// Encode the whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn encode(&self, name: &str, compress: bool) -> Result<Vec<u8>> {
        let bytes = self.bytes.as_ref();
        let mut object = vec![0; HEADER_BYTES];
        let mut out = Writer(&mut object);
        out.map(8);
        out.str("name")?;
        out.str(name)?;
        out.str("count")?;
        out.uint(self.places.count as u64);
        for (key, range) in self.places.columns() {
            out.str(key)?;
            out.bin(&bytes[range.clone()])?;
        }
        Ok(envelope::finish(Kind::Piece, object, compress))
    }

    pub(super) fn columns(&self) -> Columns<'_> {
        self.places.view(self.bytes.as_ref())
    }
}

/// How many of some ascending keys are less than a key.
fn rank(keys: Strings<'_>, key: &[u8]) -> usize {
    let begins_below = |block: usize| keys.at(block * STRIDE, keys.marks[block]) < key;
    let (mut low, mut high) = (0, keys.marks.len());
    while low < high {
        let middle = low.midpoint(high);
        if begins_below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let Some(block) = low.checked_sub(1) else {
        return 0;
    };
    let mut start = keys.marks[block];
    let stop = ((block + 1) * STRIDE).min(keys.sizes.len());
    for index in block * STRIDE..stop {
        let here = keys.at(index, start);
        if here >= key {
            return index;
        }
        start += here.len();
    }
    stop
}
