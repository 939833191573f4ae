//! An inventory in the making, from what a scan of a storage saw.

use std::ops::Range;

use crate::build::check_length;
use crate::column::{position, width_of, write};
use crate::error::Result;
use crate::inventory::{Entry, Inventory, Places, bad};
use crate::listing::Listing;
use crate::row::DIGEST;
use crate::strings;

/// An inventory of keys in any order; of one key given twice, the last counts.
///
/// # Errors
/// Lists of unlike length, or more than the format holds.
pub fn build(keys: &Listing, tokens: &[&[u8]], digests: &[&[u8; DIGEST]]) -> Result<Inventory<Vec<u8>>> {
    let mut table = Table::default();
    for entry in entries(keys, tokens, digests)? {
        table.push(&entry);
    }
    table.finish()
}

pub(crate) fn entries<'a>(
    keys: &'a Listing,
    tokens: &[&'a [u8]],
    digests: &[&'a [u8; DIGEST]],
) -> Result<Vec<Entry<'a>>> {
    if keys.len() != tokens.len() || keys.len() != digests.len() {
        return Err(bad("keys, tokens and digests differ in length"));
    }
    let entry = |index: u32| {
        let index = position(u64::from(index));
        Entry {
            key: keys.get(index),
            token: tokens[index],
            digest: digests[index],
        }
    };
    Ok(keys.order()?.into_iter().map(entry).collect())
}

/// Takes entries in strictly ascending key order.
#[derive(Debug, Default)]
pub(crate) struct Table {
    digests: Vec<[u8; DIGEST]>,
    token_sizes: Vec<u64>,
    tokens: Vec<u8>,
    key_sizes: Vec<u64>,
    keys: Vec<u8>,
}

impl Table {
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        self.digests.push(*entry.digest);
        self.token_sizes.push(entry.token.len() as u64);
        self.tokens.extend_from_slice(entry.token);
        self.key_sizes.push(entry.key.len() as u64);
        self.keys.extend_from_slice(entry.key);
    }

    pub(crate) fn finish(self) -> Result<Inventory<Vec<u8>>> {
        let mut out = Vec::new();
        let mut places = Places {
            count: self.digests.len(),
            token_marks: strings::marks_of(lengths(&self.token_sizes)),
            key_marks: strings::marks_of(lengths(&self.key_sizes)),
            ..Places::default()
        };
        let length = self.keys.len().max(self.tokens.len());
        check_length(length.max(places.count.saturating_mul(DIGEST)))?;
        out.extend_from_slice(self.digests.as_flattened());
        places.digest = 0..out.len();
        places.token_size = append_sizes(&mut out, &self.token_sizes);
        out.extend_from_slice(&self.tokens);
        places.token = places.token_size.end..out.len();
        places.key_size = append_sizes(&mut out, &self.key_sizes);
        out.extend_from_slice(&self.keys);
        places.key = places.key_size.end..out.len();
        Ok(Inventory::assemble(out, places))
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
