//! What the last scan of a storage saw: the version token and digest of every key.

use std::cmp::Ordering;
use std::ops::Range;

use crate::column::Column;
use crate::envelope::{self, HEADER, Kind};
use crate::error::{Error, Result};
use crate::layout::read_head;
use crate::listing::Listing;
use crate::pack::{Reader, Writer};
use crate::row::DIGEST;
use crate::scan::{Table, entries};
use crate::strings::{self, STRIDE, Strings};

const NAME: &str = "inventory";

/// Bytes of a manifest's nonce.
pub const NONCE: usize = 16;

/// A validated inventory and the bytes it lies in.
#[derive(Debug, Clone)]
pub struct Inventory<B> {
    bytes: B,
    places: Places,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    pub(crate) count: usize,
    pub(crate) nonce: [u8; NONCE],
    pub(crate) digest: Range<usize>,
    pub(crate) token_size: Range<usize>,
    pub(crate) token: Range<usize>,
    pub(crate) key_size: Range<usize>,
    pub(crate) key: Range<usize>,
    pub(crate) token_marks: Vec<usize>,
    pub(crate) key_marks: Vec<usize>,
}

/// What one scan saw of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key, valid UTF-8.
    pub key: &'a [u8],
    /// The storage's version token; empty where it is no proof.
    pub token: &'a [u8],
    /// BLAKE3 of the value.
    pub digest: &'a [u8; DIGEST],
}

/// How a listing differs from an inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Positions in the listing of keys that are new or may have changed.
    pub changed: Vec<usize>,
    /// Keys of the inventory that the listing lacks.
    pub gone: Vec<&'a [u8]>,
}

impl<B: AsRef<[u8]>> Inventory<B> {
    /// Validate the body that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not an inventory.
    pub fn parse(bytes: B, start: usize) -> Result<Self> {
        let body = bytes.as_ref().get(start..).unwrap_or_default();
        let mut places = Places::read(body)?;
        places.check(body)?;
        for place in places.all() {
            *place = place.start + start..place.end + start;
        }
        Ok(Self { bytes, places })
    }

    pub(crate) const fn assemble(bytes: B, places: Places) -> Self {
        Self { bytes, places }
    }

    /// The same inventory over other owned bytes.
    pub fn map_bytes<C>(self, change: impl FnOnce(B) -> C) -> Inventory<C> {
        Inventory {
            bytes: change(self.bytes),
            places: self.places,
        }
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.count == 0
    }

    /// The manifest nonce at which it was written; zeros where it was not yet.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE] {
        &self.places.nonce
    }

    /// All entries, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let (keys, tokens, digests) = self.columns();
        let mut starts = (0, 0);
        digests.iter().enumerate().map(move |(index, digest)| {
            let key = keys.at(index, starts.0);
            let token = tokens.at(index, starts.1);
            starts = (starts.0 + key.len(), starts.1 + token.len());
            Entry { key, token, digest }
        })
    }

    /// The entries of some keys in any order.
    #[must_use]
    pub fn find(&self, wanted: &[&str]) -> Vec<Option<Entry<'_>>> {
        let (keys, tokens, digests) = self.columns();
        let find = |key: &&str| {
            let index = search(keys, key.as_bytes())?;
            Some(Entry {
                key: keys.get(index),
                token: tokens.get(index),
                digest: &digests[index],
            })
        };
        wanted.iter().map(find).collect()
    }

    /// Compare with the current listing, keys strictly ascending.
    ///
    /// # Errors
    /// [`Error::Unordered`], or lists of unlike length.
    pub fn compare(&self, keys: &Listing, tokens: &[&[u8]]) -> Result<Difference<'_>> {
        if keys.len() != tokens.len() {
            return Err(bad("keys and tokens differ in length"));
        }
        keys.check_ascending()?;
        let mut difference = Difference::default();
        let mut seen = self.iter().peekable();
        for (index, (key, token)) in keys.iter().zip(tokens).enumerate() {
            while let Some(gone) = seen.next_if(|entry| entry.key < key) {
                difference.gone.push(gone.key);
            }
            let known = seen.next_if(|entry| entry.key == key);
            if known.is_none_or(|entry| entry.token.is_empty() || entry.token != *token) {
                difference.changed.push(index);
            }
        }
        difference.gone.extend(seen.map(|entry| entry.key));
        Ok(difference)
    }

    /// The inventory with some keys set and some removed; a key in both is removed.
    ///
    /// # Errors
    /// Lists of unlike length, or more than the format holds.
    pub fn updated(
        &self,
        keys: &Listing,
        tokens: &[&[u8]],
        digests: &[&[u8; DIGEST]],
        removed: &[&str],
    ) -> Result<Inventory<Vec<u8>>> {
        let fresh = entries(keys, tokens, digests)?;
        let mut removed: Vec<&[u8]> = removed.iter().map(|key| key.as_bytes()).collect();
        removed.sort_unstable();
        let mut table = Table::default();
        let mut old = self.iter().peekable();
        let mut fresh = fresh.into_iter().peekable();
        loop {
            let order = match (old.peek(), fresh.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(fresh)) => old.key.cmp(fresh.key),
            };
            let before = old.next_if(|_| order.is_le());
            let after = fresh.next_if(|_| order.is_ge());
            if let Some(entry) = after.or(before)
                && removed.binary_search(&entry.key).is_err()
            {
                table.push(&entry);
            }
        }
        table.finish()
    }

    /// The whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB.
    pub fn encode(&self, nonce: &[u8; NONCE], compress: bool) -> Result<Vec<u8>> {
        let bytes = self.bytes.as_ref();
        let places = &self.places;
        let mut object = vec![0; HEADER];
        let mut out = Writer(&mut object);
        out.map(8);
        out.str("name")?;
        out.str(NAME)?;
        out.str("count")?;
        out.uint(places.count as u64);
        out.str("nonce")?;
        out.bin(nonce)?;
        for (key, place) in [
            ("digest", &places.digest),
            ("token_size", &places.token_size),
            ("token", &places.token),
            ("key_size", &places.key_size),
            ("key", &places.key),
        ] {
            out.str(key)?;
            out.bin(&bytes[place.clone()])?;
        }
        Ok(envelope::finish(Kind::Inventory, object, compress))
    }

    fn columns(&self) -> (Strings<'_>, Strings<'_>, &[[u8; DIGEST]]) {
        let bytes = self.bytes.as_ref();
        let places = &self.places;
        let strings = |sizes: &Range<usize>, place: &Range<usize>, marks| Strings {
            sizes: Column::new(&bytes[sizes.clone()], places.count).unwrap_or(Column::One(&[])),
            bytes: &bytes[place.clone()],
            marks,
        };
        (
            strings(&places.key_size, &places.key, &places.key_marks),
            strings(&places.token_size, &places.token, &places.token_marks),
            bytes[places.digest.clone()].as_chunks().0,
        )
    }
}

impl Places {
    fn read(body: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER);
        reader.map(8)?;
        let count = read_head(&mut reader, body, NAME)?;
        reader.key("nonce")?;
        let offset = reader.offset();
        let nonce = body[reader.bin()?].try_into();
        let mut places = Self {
            count,
            nonce: nonce.map_err(|_| Error::damaged(offset, "nonce is not 16 bytes"))?,
            ..Self::default()
        };
        let names = ["digest", "token_size", "token", "key_size", "key"];
        for (key, place) in names.into_iter().zip(places.all()) {
            reader.key(key)?;
            *place = reader.bin()?;
        }
        reader.end()?;
        Ok(places)
    }

    const fn all(&mut self) -> [&mut Range<usize>; 5] {
        [
            &mut self.digest,
            &mut self.token_size,
            &mut self.token,
            &mut self.key_size,
            &mut self.key,
        ]
    }

    fn check(&mut self, body: &[u8]) -> Result<()> {
        if self.digest.len() != self.count.saturating_mul(DIGEST) {
            let offset = HEADER + self.digest.start;
            return Err(Error::damaged(offset, "length does not fit the count"));
        }
        let count = self.count;
        let measure = |sizes: &Range<usize>, place: &Range<usize>| {
            let offset = HEADER + sizes.start;
            let column = Column::new(&body[sizes.clone()], count)
                .ok_or(Error::damaged(offset, "length does not fit the count"))?;
            let marks = strings::measure(column, &body[place.clone()], offset)?;
            Ok((column, marks))
        };
        (_, self.token_marks) = measure(&self.token_size, &self.token)?;
        let (sizes, marks) = measure(&self.key_size, &self.key)?;
        self.key_marks = marks;
        let keys = Strings {
            sizes,
            bytes: &body[self.key.clone()],
            marks: &self.key_marks,
        };
        keys.check(HEADER + self.key.start)
    }
}

fn search(keys: Strings<'_>, key: &[u8]) -> Option<usize> {
    let begins = |mark: &usize, block: usize| keys.at(block * STRIDE, *mark) <= key;
    let (mut low, mut high) = (0, keys.marks.len());
    while low < high {
        let middle = low.midpoint(high);
        if begins(&keys.marks[middle], middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let block = low.checked_sub(1)?;
    let mut start = keys.marks[block];
    let stop = ((block + 1) * STRIDE).min(keys.sizes.len());
    for index in block * STRIDE..stop {
        let here = keys.at(index, start);
        if here == key {
            return Some(index);
        }
        start += here.len();
    }
    None
}

pub(crate) const fn bad(problem: &'static str) -> Error {
    Error::BadArgument { problem }
}
