//! Where the columns of a piece lie, and one entry of them.

use std::ops::Range;

use crate::column::Column;
use crate::envelope::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::pack::Reader;
use crate::reason::Reason;
use crate::row::{DIGEST_BYTES, NO_DIGEST};
use crate::strings::{self, Strings};

/// State of a key whose token is in the column of tokens.
pub(super) const HAS_TOKEN: u8 = 0;
/// State of a key whose token is its digest, which is not stored twice.
pub(super) const BY_DIGEST: u8 = 1;
/// State of a key that is gone.
pub(super) const GONE: u8 = 2;

/// What an inventory says of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key, valid UTF-8.
    pub key: &'a [u8],
    /// What was there; None where the key is gone.
    pub found: Option<Found<'a>>,
}

/// What a scan saw at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The storage's version token; empty where it proves nothing.
    pub token: &'a [u8],
    /// BLAKE3 of the value.
    pub digest: &'a [u8; DIGEST_BYTES],
}

impl Entry<'_> {
    /// How the entry is stored.
    pub(super) fn state(&self) -> u8 {
        match self.found {
            None => GONE,
            Some(found) if found.token == found.digest => BY_DIGEST,
            Some(_) => HAS_TOKEN,
        }
    }
}

/// The position of an entry, and where its key and its token begin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) index: usize,
    key: usize,
    token: usize,
}

/// The number of entries of a piece, and the ranges of its columns in the bytes around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) count: usize,
    pub(super) state: Range<usize>,
    pub(super) digest: Range<usize>,
    pub(super) token_size: Range<usize>,
    pub(super) token: Range<usize>,
    pub(super) key_size: Range<usize>,
    pub(super) key: Range<usize>,
    pub(super) token_marks: Vec<usize>,
    pub(super) key_marks: Vec<usize>,
}

/// The columns of a piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) keys: Strings<'a>,
    pub(super) tokens: Strings<'a>,
    pub(super) states: &'a [u8],
    pub(super) digests: &'a [[u8; DIGEST_BYTES]],
}

impl<'a> Columns<'a> {
    /// The entry at a place, and the place after it; None behind the last one.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Option<(Entry<'a>, Place)> {
        let state = *self.states.get(place.index)?;
        let key = self.keys.at(place.index, place.key);
        let token = self.tokens.at(place.index, place.token);
        let next = Place {
            index: place.index + 1,
            key: place.key + key.len(),
            token: place.token + token.len(),
        };
        Some((self.entry(place.index, key, token, state), next))
    }

    /// The entry at a position.
    pub(super) fn get(&self, index: usize) -> Entry<'a> {
        self.entry(index, self.keys.get(index), self.tokens.get(index), self.states[index])
    }

    #[inline]
    fn entry(&self, index: usize, key: &'a [u8], token: &'a [u8], state: u8) -> Entry<'a> {
        let digest = &self.digests[index];
        let token = if state == BY_DIGEST { &digest[..] } else { token };
        let found = (state != GONE).then_some(Found { token, digest });
        Entry { key, found }
    }
}

impl Places {
    /// Read and validate the body of the piece `name` that begins at `start` of `bytes`.
    pub(super) fn read_checked(bytes: &[u8], start: usize, name: &str) -> Result<Self> {
        let body = bytes.get(start..).unwrap_or_default();
        let mut places = Self::read(body, name)?;
        places.check(body)?;
        for (_, range) in places.columns_mut() {
            *range = range.start + start..range.end + start;
        }
        Ok(places)
    }

    fn read(body: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER_BYTES);
        reader.map(8)?;
        let mut places = Self {
            count: reader.name_and_count(name, DIGEST_BYTES)?,
            ..Self::default()
        };
        for (key, range) in places.columns_mut() {
            reader.key(key)?;
            *range = reader.bin()?;
        }
        reader.end()?;
        Ok(places)
    }

    fn check(&mut self, body: &[u8]) -> Result<()> {
        for (column, width) in [(&self.state, 1), (&self.digest, DIGEST_BYTES)] {
            if column.len() != self.count.saturating_mul(width) {
                return Err(Error::damaged(HEADER_BYTES + column.start, Reason::ColumnLength));
            }
        }
        self.token_marks = self.check_sizes(body, &self.token_size, &self.token)?;
        self.key_marks = self.check_sizes(body, &self.key_size, &self.key)?;
        let columns = self.view(body);
        columns.keys.check(HEADER_BYTES + self.key.start)?;
        match (0..self.count).find(|index| !is_sound(&columns, *index)) {
            None => Ok(()),
            Some(index) => Err(Error::damaged(
                HEADER_BYTES + self.state.start + index,
                Reason::EntryContradictsState,
            )),
        }
    }

    fn check_sizes(&self, body: &[u8], sizes: &Range<usize>, strings: &Range<usize>) -> Result<Vec<usize>> {
        let offset = HEADER_BYTES + sizes.start;
        let column = Column::new(&body[sizes.clone()], self.count);
        let column = column.ok_or(Error::damaged(offset, Reason::ColumnLength))?;
        strings::check_sizes(column, &body[strings.clone()], offset)
    }

    /// The columns in the bytes around the piece.
    pub(super) fn view<'a>(&'a self, bytes: &'a [u8]) -> Columns<'a> {
        let strings = |sizes: &Range<usize>, range: &Range<usize>, marks| Strings {
            sizes: Column::new(&bytes[sizes.clone()], self.count).unwrap_or(Column::One(&[])),
            bytes: &bytes[range.clone()],
            marks,
        };
        Columns {
            keys: strings(&self.key_size, &self.key, &self.key_marks),
            tokens: strings(&self.token_size, &self.token, &self.token_marks),
            states: &bytes[self.state.clone()],
            digests: bytes[self.digest.clone()].as_chunks().0,
        }
    }

    /// The columns in the order of the format.
    pub(super) const fn columns(&self) -> [(&'static str, &Range<usize>); 6] {
        [
            ("state", &self.state),
            ("digest", &self.digest),
            ("token_size", &self.token_size),
            ("token", &self.token),
            ("key_size", &self.key_size),
            ("key", &self.key),
        ]
    }

    const fn columns_mut(&mut self) -> [(&'static str, &mut Range<usize>); 6] {
        [
            ("state", &mut self.state),
            ("digest", &mut self.digest),
            ("token_size", &mut self.token_size),
            ("token", &mut self.token),
            ("key_size", &mut self.key_size),
            ("key", &mut self.key),
        ]
    }
}

/// Whether the token and the digest at a position are what the state there allows.
fn is_sound(columns: &Columns<'_>, index: usize) -> bool {
    let size = columns.tokens.sizes.get(index);
    let digest = &columns.digests[index];
    match columns.states[index] {
        // A token of any other length is not the digest, and most are.
        HAS_TOKEN => size != DIGEST_BYTES as u64 || columns.tokens.get(index) != digest,
        BY_DIGEST => size == 0,
        GONE => size == 0 && *digest == NO_DIGEST,
        _ => false,
    }
}
