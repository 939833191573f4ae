//! A listing of a storage, page by page, against its inventory.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::row::DIGEST_BYTES;

use super::found::{FoundValues, Unread};
use super::page::{Listed, Page};
use super::piece::Piece;
use super::runs::{Lanes, Next, Runs};

/// A walk along an inventory, which compares the listing of a storage with it.
///
/// ```
/// use std::sync::Arc;
/// use kvsync_core::{KeyList, Noted, Page, Piece, Walk};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let piece = Piece::build(Noted { keys: &keys, tokens: &[b"v1", b"v2"], digests: &[Some(&[1; 32]), Some(&[2; 32])] })?;
///
/// let mut walk = Walk::new(&[1]);
/// assert_eq!(walk.needs(), Some(0));
/// walk.supply(0, Arc::new(piece))?;
/// let page = Page::of_tokens(["a", "c"], [&b"v1"[..], b"v1"])?;
/// let compared = walk.compare(&page, 0)?;
/// assert_eq!((compared.gone, compared.stop), (vec![b"b".to_vec()], 2));
/// assert_eq!((walk.rest(), walk.known()), (vec![], 2));
/// let (found, unread) = walk.take();
/// assert_eq!((found.len(), unread.get(0)), (0, (&b"c"[..], &b"v1"[..], None)));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Walk<B> {
    runs: Runs<B>,
    last: Option<Vec<u8>>,
    known: usize,
    news: News,
}

/// What is new or may have changed.
#[derive(Debug, Default)]
struct News {
    found: FoundValues,
    unread: Unread,
}

impl News {
    fn take(&mut self, key: &str, listed: Listed<'_>, known: Option<&[u8; DIGEST_BYTES]>) {
        match listed {
            Listed::Value(value) => self.found.push(key, value, None, known),
            Listed::Token(token) => self.unread.push(key, token, known),
        }
    }
}

/// How far a page was compared, and what it does not list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
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
            news: News::default(),
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

    /// Compare the next page of the listing from `start` on; keys must strictly ascend over all pages.
    ///
    /// # Errors
    /// [`Error::Unordered`].
    pub fn compare(&mut self, page: &Page, start: usize) -> Result<Compared> {
        let mut compared = Compared::default();
        let keys = page.keys();
        let (last, known, news) = (self.last.as_deref(), &mut self.known, &mut self.news);
        compared.stop = self.runs.read(|lanes| {
            let mut before = last;
            for index in start..keys.len() {
                let key = keys.get(index);
                if before.is_some_and(|before| before >= key) {
                    return Err(unordered(key));
                }
                pass(lanes, Some(key), &mut compared.gone, known);
                match lanes.peek() {
                    Next::Starved => return Ok(index),
                    Next::Entry(entry) if entry.key == key => {
                        let (found, listed) = (entry.found, page.get(index));
                        *known += usize::from(found.is_some());
                        if found.is_none_or(|found| !listed.is_proven_by(found.token)) {
                            news.take(keys.str(index), listed, found.map(|found| found.digest));
                        }
                        lanes.advance();
                    }
                    _ => news.take(keys.str(index), page.get(index), None),
                }
                before = Some(key);
            }
            Ok(keys.len())
        })?;
        let last = compared.stop.checked_sub(1).filter(|index| *index >= start);
        if let Some(index) = last {
            self.last = Some(keys.get(index).to_vec());
        }
        Ok(compared)
    }

    /// What was found so far to be new or changed: what was read while it was listed, and what has to be read.
    pub fn take(&mut self) -> (FoundValues, Unread) {
        let news = std::mem::take(&mut self.news);
        (news.found, news.unread)
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
