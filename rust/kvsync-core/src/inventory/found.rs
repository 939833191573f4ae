//! What a scan found: the values that are new, or that may have changed, in columns.

use crate::byte_list::ByteList;
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::reason::ArgumentFault;
use crate::row::DIGEST_BYTES;

use super::build::{ColumnsOf, Table};
use super::page::Value;
use super::piece::Piece;
use super::places::{BY_DIGEST, Entry, Found};

type Digest = [u8; DIGEST_BYTES];

/// How a value stands to what was known of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No value was known there.
    New,
    /// Another value was known there.
    Changed,
    /// This value was known there, with another token or another time.
    Same,
}

impl Standing {
    fn of(digest: &Digest, known: Option<&Digest>) -> Self {
        match known {
            None => Self::New,
            Some(known) if known == digest => Self::Same,
            Some(_) => Self::Changed,
        }
    }
}

/// Values that a scan found, ascending by key.
///
/// ```
/// use kvsync_core::{FoundValues, Standing, Value};
///
/// let mut found = FoundValues::default();
/// found.push("a", Value { digest: &[1; 32], size: 5, expires: 0 }, None, Some(&[2; 32]));
/// assert_eq!(found.in_standing(Standing::Changed).collect::<Vec<_>>(), [0]);
/// assert_eq!(found.get(0).size, 5);
/// ```
#[derive(Debug, Default)]
pub struct FoundValues {
    keys: KeyList,
    digests: Vec<Digest>,
    sizes: Vec<u64>,
    standings: Vec<Standing>,
    /// Filled up to the last value that expires.
    expires: Vec<u64>,
    /// Tokens that do not follow from digest and time; empty, or of all values.
    tokens: ByteList,
}

impl FoundValues {
    /// Append a value, with its token unless that is its digest, and with the digest that was known at its key.
    ///
    /// Either all values have tokens of their own, or none.
    pub fn push(&mut self, key: &str, value: Value<'_>, token: Option<&[u8]>, known: Option<&Digest>) {
        if let Some(token) = token {
            self.tokens.push(token);
        }
        self.push_standing(key, value, Standing::of(value.digest, known));
    }

    fn push_standing(&mut self, key: &str, value: Value<'_>, standing: Standing) {
        if value.expires != 0 {
            self.expires.resize(self.keys.len(), 0);
            self.expires.push(value.expires);
        }
        self.keys.push(key);
        self.digests.push(*value.digest);
        self.sizes.push(value.size);
        self.standings.push(standing);
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Their keys.
    #[must_use]
    pub const fn keys(&self) -> &KeyList {
        &self.keys
    }

    /// The value at a position.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Value<'_> {
        Value {
            digest: &self.digests[index],
            size: self.sizes[index],
            expires: self.expires.get(index).copied().unwrap_or(0),
        }
    }

    /// The token of the value at a position.
    #[must_use]
    pub fn token(&self, index: usize) -> Vec<u8> {
        if self.tokens.len() == 0 {
            self.get(index).token()
        } else {
            self.tokens.get(index).to_vec()
        }
    }

    /// The positions of the values of one standing.
    pub fn in_standing(&self, standing: Standing) -> impl Iterator<Item = usize> {
        let standings = self.standings.iter().enumerate();
        standings
            .filter(move |(_, other)| **other == standing)
            .map(|(index, _)| index)
    }

    /// The position of a key, if a value was found there.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.keys.get(middle) < key.as_bytes() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < self.len() && self.keys.get(low) == key.as_bytes()).then_some(low)
    }

    /// Both together, in order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for 2^32 values, and [`Error::BadArgument`] where only one of both has tokens of its own.
    pub fn merge(parts: &[&Self]) -> Result<Self> {
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
        if parts
            .iter()
            .any(|part| (part.tokens.len() == 0) != (parts[0].tokens.len() == 0))
        {
            return Err(Error::BadArgument(ArgumentFault::KeysAndTokens));
        }
        let mut keys = KeyList::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut places = Vec::new();
        for part in parts {
            for index in 0..part.len() {
                keys.push(part.keys.str(index));
                places.push((part, index));
            }
        }
        let mut merged = Self::default();
        for place in keys.order()? {
            let (part, index) = places[place as usize];
            merged.push_from(part, index);
        }
        Ok(merged)
    }

    /// The values at the positions that `keeps` is true of.
    #[must_use]
    pub fn filtered(&self, keeps: impl Fn(usize) -> bool) -> Self {
        let mut rest = Self::default();
        let kept = (0..self.len()).filter(|index| keeps(*index));
        kept.for_each(|index| rest.push_from(self, index));
        rest
    }

    fn push_from(&mut self, other: &Self, index: usize) {
        if other.tokens.len() != 0 {
            self.tokens.push(other.tokens.get(index));
        }
        self.push_standing(other.keys.str(index), other.get(index), other.standings[index]);
    }

    /// What an inventory says of these values.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a column passes 4 GiB, and [`Error::Unordered`] where keys do not ascend.
    pub fn piece(&self) -> Result<Piece<Vec<u8>>> {
        self.keys.check_ascending()?;
        if self.tokens.len() == 0 && self.expires.is_empty() {
            return Piece::from_columns(ColumnsOf {
                states: &vec![BY_DIGEST; self.len()],
                digests: &self.digests,
                token_sizes: std::iter::repeat_n(0, self.len()),
                tokens: &[],
                key_sizes: (0..self.len()).map(|index| self.keys.get(index).len() as u64),
                keys: self.keys.bytes(),
            });
        }
        let mut table = Table::default();
        for index in 0..self.len() {
            let digest = &self.digests[index];
            let found = Found {
                token: &self.token(index),
                digest,
            };
            table.push(&Entry {
                key: self.keys.get(index),
                found: Some(found),
            });
        }
        Piece::from_table(&table)
    }
}

/// Keys of a listing whose values have to be read: the listing has not, and their tokens do not prove what they are.
#[derive(Debug, Default)]
pub struct Unread {
    keys: KeyList,
    tokens: ByteList,
    known: Vec<Option<Digest>>,
}

impl Unread {
    pub(super) fn push(&mut self, key: &str, token: &[u8], known: Option<&Digest>) {
        self.keys.push(key);
        self.tokens.push(token);
        self.known.push(known.copied());
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key at a position, its listed token, and the digest of the value that was known there.
    #[must_use]
    pub fn get(&self, index: usize) -> (&[u8], &[u8], Option<&Digest>) {
        (self.keys.get(index), self.tokens.get(index), self.known[index].as_ref())
    }
}
