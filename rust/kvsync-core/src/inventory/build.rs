//! Pieces in the making, from what a scan of a storage saw.

use std::ops::Range;

use crate::column::{position, width_of, write};
use crate::column_writer::check_length;
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::reason::ArgumentFault;
use crate::row::{DIGEST_BYTES, NO_DIGEST};
use crate::strings::marks_of;

use super::places::{Entry, Found, HAS_TOKEN, Places};

/// What is noted of some keys, in any order. Of a key given several times, the last counts.
#[derive(Debug, Clone, Copy)]
pub struct Noted<'a> {
    /// The keys.
    pub keys: &'a KeyList,
    /// The storage's version token of each key; empty where it proves nothing.
    pub tokens: &'a [&'a [u8]],
    /// BLAKE3 of each value; None where the key is gone.
    pub digests: &'a [Option<&'a [u8; DIGEST_BYTES]>],
}

impl<'a> Noted<'a> {
    /// The entries in ascending order of their keys.
    pub(super) fn entries(self) -> Result<impl Iterator<Item = Entry<'a>>> {
        let Self { keys, tokens, digests } = self;
        if keys.len() != tokens.len() || keys.len() != digests.len() {
            return Err(Error::BadArgument(ArgumentFault::KeysTokensAndDigests));
        }
        let entry = move |place: u32| {
            let index = position(u64::from(place));
            let found = |digest| Found {
                token: tokens[index],
                digest,
            };
            Entry {
                key: keys.get(index),
                found: digests[index].map(found),
            }
        };
        Ok(keys.order()?.into_iter().map(entry))
    }
}

/// Takes entries in strictly ascending key order.
#[derive(Debug, Default)]
pub(super) struct Table {
    states: Vec<u8>,
    digests: Vec<[u8; DIGEST_BYTES]>,
    token_sizes: Vec<u64>,
    tokens: Vec<u8>,
    key_sizes: Vec<u64>,
    keys: Vec<u8>,
}

impl Table {
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        let state = entry.state();
        let token = match entry.found {
            Some(found) if state == HAS_TOKEN => found.token,
            _ => &[],
        };
        self.states.push(state);
        self.digests.push(entry.found.map_or(NO_DIGEST, |found| *found.digest));
        self.token_sizes.push(token.len() as u64);
        self.tokens.extend_from_slice(token);
        self.key_sizes.push(entry.key.len() as u64);
        self.keys.extend_from_slice(entry.key);
    }

    /// How many bytes the columns take, with sizes of one byte.
    pub(super) const fn bytes(&self) -> usize {
        self.states.len() * (DIGEST_BYTES + 3) + self.tokens.len() + self.keys.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The columns one after another, and where each lies.
    pub(super) fn finish(&self) -> Result<(Vec<u8>, Places)> {
        ColumnsOf {
            states: &self.states,
            digests: &self.digests,
            token_sizes: self.token_sizes.iter().copied(),
            tokens: &self.tokens,
            key_sizes: self.key_sizes.iter().copied(),
            keys: &self.keys,
        }
        .write()
    }
}

/// The columns of entries, in strictly ascending key order.
pub(super) struct ColumnsOf<'a, S, K> {
    pub(super) states: &'a [u8],
    pub(super) digests: &'a [[u8; DIGEST_BYTES]],
    pub(super) token_sizes: S,
    pub(super) tokens: &'a [u8],
    pub(super) key_sizes: K,
    pub(super) keys: &'a [u8],
}

impl<S: Iterator<Item = u64> + Clone, K: Iterator<Item = u64> + Clone> ColumnsOf<'_, S, K> {
    /// The columns one after another, and where each lies.
    pub(super) fn write(self) -> Result<(Vec<u8>, Places)> {
        let count = self.states.len();
        let mut out = Vec::with_capacity(count * (DIGEST_BYTES + 3) + self.tokens.len() + self.keys.len());
        let mut places = Places {
            count,
            token_marks: marks_of(self.token_sizes.clone().map(position)),
            key_marks: marks_of(self.key_sizes.clone().map(position)),
            ..Places::default()
        };
        let length = self.keys.len().max(self.tokens.len());
        check_length(length.max(places.count.saturating_mul(DIGEST_BYTES)))?;
        places.state = append(&mut out, self.states);
        places.digest = append(&mut out, self.digests.as_flattened());
        places.token_size = append_sizes(&mut out, self.token_sizes);
        places.token = append(&mut out, self.tokens);
        places.key_size = append_sizes(&mut out, self.key_sizes);
        places.key = append(&mut out, self.keys);
        Ok((out, places))
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(bytes);
    start..out.len()
}

fn append_sizes(out: &mut Vec<u8>, sizes: impl Iterator<Item = u64> + Clone) -> Range<usize> {
    let start = out.len();
    let greatest = sizes.clone().max().unwrap_or(0);
    write(out, width_of(greatest), sizes);
    start..out.len()
}
