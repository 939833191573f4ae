//! A listing of a storage, page by page, against its inventory.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::reason::ArgumentFault;
use crate::row::DIGEST_BYTES;

use super::piece::Piece;
use super::runs::{Lanes, Next, Runs};

/// A walk along an inventory, which compares the listing of a storage with it.
///
/// ```
/// use std::sync::Arc;
/// use kvsync_core::{KeyList, Noted, Piece, Walk};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let piece = Piece::build(Noted { keys: &keys, tokens: &[b"v1", b"v2"], digests: &[Some(&[1; 32]), Some(&[2; 32])] })?;
///
/// let mut walk = Walk::new(&[1]);
/// assert_eq!(walk.needs(), Some(0));
/// walk.supply(0, Arc::new(piece))?;
/// let page = walk.compare(&["a", "c"], &[b"v1", b"v1"], 0)?;
/// assert_eq!((page.changed, page.gone, page.stop), (vec![(1, None)], vec![b"b".to_vec()], 2));
/// assert_eq!((walk.rest(), walk.known()), (vec![], 2));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Walk<B> {
    runs: Runs<B>,
    last: Option<Vec<u8>>,
    known: usize,
}

/// How a page of a listing differs from the inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Positions of the keys that are new or may have changed, each with the digest that was known.
    pub changed: Vec<(usize, Option<[u8; DIGEST_BYTES]>)>,
    /// Known keys that the storage has no longer.
    pub gone: Vec<Vec<u8>>,
    /// Up to where the page was compared: the next piece is needed to go on.
    pub stop: usize,
}

impl<B: AsRef<[u8]>> Walk<B> {
    /// Begin at the first key of an inventory, whose runs have so many pieces.
    #[must_use]
    pub fn new(lengths: &[usize]) -> Self {
        Self {
            runs: Runs::new(lengths),
            last: None,
            known: 0,
        }
    }

    /// A run whose next piece is needed to go on.
    #[must_use]
    pub fn needs(&self) -> Option<usize> {
        self.runs.needs()
    }

    /// Take the next piece of a run.
    ///
    /// # Errors
    /// There is no such run, or its keys do not ascend.
    pub fn supply(&mut self, run: usize, piece: Arc<Piece<B>>) -> Result<()> {
        self.runs.supply(run, piece)
    }

    /// How many known keys were passed.
    #[must_use]
    pub const fn known(&self) -> usize {
        self.known
    }

    /// Compare the next keys of the listing from `start` on, and their tokens; keys must strictly ascend over all pages.
    ///
    /// # Errors
    /// [`Error::Unordered`], or lists that differ in length.
    pub fn compare(&mut self, keys: &[&str], tokens: &[&[u8]], start: usize) -> Result<Page> {
        if keys.len() != tokens.len() {
            return Err(Error::BadArgument(ArgumentFault::KeysAndTokens));
        }
        let mut page = Page::default();
        let (last, known) = (self.last.as_deref(), &mut self.known);
        page.stop = self.runs.read(|lanes| {
            let mut before = last;
            for (index, key) in keys.iter().enumerate().skip(start) {
                let key = key.as_bytes();
                if before.is_some_and(|before| before >= key) {
                    return Err(unordered(key));
                }
                pass(lanes, Some(key), &mut page.gone, known);
                match lanes.peek() {
                    Next::Starved => return Ok(index),
                    Next::Entry(entry) if entry.key == key => {
                        let found = entry.found;
                        *known += usize::from(found.is_some());
                        if found.is_none_or(|found| found.token.is_empty() || found.token != tokens[index]) {
                            page.changed.push((index, found.map(|found| *found.digest)));
                        }
                        lanes.advance();
                    }
                    _ => page.changed.push((index, None)),
                }
                before = Some(key);
            }
            Ok(keys.len())
        })?;
        let compared = page.stop.checked_sub(1).filter(|index| *index >= start);
        if let Some(index) = compared {
            self.last = Some(keys[index].as_bytes().to_vec());
        }
        Ok(page)
    }

    /// The known keys behind the listing: all of them up to where the next piece is needed.
    pub fn rest(&mut self) -> Vec<Vec<u8>> {
        let mut gone = Vec::new();
        let known = &mut self.known;
        self.runs.read(|lanes| pass(lanes, None, &mut gone, known));
        gone
    }
}

/// Pass the entries before a key, or all, and note the known keys among them.
fn pass(lanes: &mut Lanes<'_>, key: Option<&[u8]>, gone: &mut Vec<Vec<u8>>, known: &mut usize) {
    while let Next::Entry(entry) = lanes.peek() {
        if key.is_some_and(|key| entry.key >= key) {
            return;
        }
        if entry.found.is_some() {
            *known += 1;
            gone.push(entry.key.to_vec());
        }
        lanes.advance();
    }
}

fn unordered(key: &[u8]) -> Error {
    let key = String::from_utf8_lossy(key).into_owned();
    Error::Unordered { key }
}
