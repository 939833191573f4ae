//! An inventory in the making, from what a scan of a storage saw.

use std::ops::Range;

use crate::column::{position, width_of, write};
use crate::column_writer::check_length;
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::reason::ArgumentFault;
use crate::row::DIGEST_BYTES;
use crate::strings::marks_of;

use super::places::{Entry, Places};

/// What a scan saw: keys in any order, each with its token and digest. Of a key given several times, the last counts.
#[derive(Debug, Clone, Copy)]
pub struct Scanned<'a> {
    /// The keys.
    pub keys: &'a KeyList,
    /// The storage's version token of each key; empty where it proves nothing.
    pub tokens: &'a [&'a [u8]],
    /// BLAKE3 of each value.
    pub digests: &'a [&'a [u8; DIGEST_BYTES]],
}

impl<'a> Scanned<'a> {
    /// The entries in ascending order of their keys.
    pub(super) fn entries(self) -> Result<Vec<Entry<'a>>> {
        let Self { keys, tokens, digests } = self;
        if keys.len() != tokens.len() || keys.len() != digests.len() {
            return Err(Error::BadArgument(ArgumentFault::KeysTokensAndDigests));
        }
        let entry = |place: u32| {
            let index = position(u64::from(place));
            Entry {
                key: keys.get(index),
                token: tokens[index],
                digest: digests[index],
            }
        };
        Ok(keys.order()?.into_iter().map(entry).collect())
    }
}

/// Takes entries in strictly ascending key order.
#[derive(Debug, Default)]
pub(super) struct Table {
    digests: Vec<[u8; DIGEST_BYTES]>,
    token_sizes: Vec<u64>,
    tokens: Vec<u8>,
    key_sizes: Vec<u64>,
    keys: Vec<u8>,
}

impl Table {
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        self.digests.push(*entry.digest);
        self.token_sizes.push(entry.token.len() as u64);
        self.tokens.extend_from_slice(entry.token);
        self.key_sizes.push(entry.key.len() as u64);
        self.keys.extend_from_slice(entry.key);
    }

    /// The columns one after another, and where each lies.
    pub(super) fn finish(self) -> Result<(Vec<u8>, Places)> {
        let mut out = Vec::new();
        let mut places = Places {
            count: self.digests.len(),
            token_marks: marks_of(lengths(&self.token_sizes)),
            key_marks: marks_of(lengths(&self.key_sizes)),
            ..Places::default()
        };
        let length = self.keys.len().max(self.tokens.len());
        check_length(length.max(places.count.saturating_mul(DIGEST_BYTES)))?;
        out.extend_from_slice(self.digests.as_flattened());
        places.digest = 0..out.len();
        places.token_size = append_sizes(&mut out, &self.token_sizes);
        out.extend_from_slice(&self.tokens);
        places.token = places.token_size.end..out.len();
        places.key_size = append_sizes(&mut out, &self.key_sizes);
        out.extend_from_slice(&self.keys);
        places.key = places.key_size.end..out.len();
        Ok((out, places))
    }
}

fn append_sizes(out: &mut Vec<u8>, sizes: &[u64]) -> Range<usize> {
    let start = out.len();
    let greatest = sizes.iter().copied().max().unwrap_or(0);
    write(out, width_of(greatest), sizes.iter().copied());
    start..out.len()
}

fn lengths(sizes: &[u64]) -> impl Iterator<Item = usize> {
    sizes.iter().map(|size| position(*size))
}
