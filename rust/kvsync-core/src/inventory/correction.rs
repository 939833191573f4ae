//! What the log knows of a storage, held against its inventory.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::Arc;

use crate::error::Result;
use crate::row::{DIGEST_BYTES, Row};
use crate::view::{Rows, View};

use super::build::Table;
use super::piece::Piece;
use super::places::{Entry, Found};
use super::runs::{Next, Runs};

type Digest = [u8; DIGEST_BYTES];
/// A key, and the digest of what is there instead of its newest value, if anything.
type Instead = (Vec<u8>, Option<Digest>);

/// What the log alone does not say of a storage.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The keys of missing values, ascending, each with the digest of what is there instead, if anything.
    pub instead: Vec<Instead>,
    /// Values that expire up to then may be gone.
    pub expired_ms: u64,
    /// A token stays proof where the log names the value that it was taken from.
    pub keeps_tokens: bool,
}

/// A patch of an inventory in the making: with it, the inventory has what the log says is there.
///
/// The log and the inventory are read side by side, a piece of each run at a time.
#[derive(Debug)]
pub struct Correction<B> {
    runs: Runs<B>,
    held: Held,
    /// How many changes of the log, and how many of the keys in `held`, were passed.
    passed: (usize, usize),
    table: Table,
    expired: Vec<(Vec<u8>, Digest)>,
    is_done: bool,
}

/// A patch that corrects an inventory.
#[derive(Debug)]
pub struct Corrected {
    /// The patch.
    pub patch: Piece<Vec<u8>>,
    /// Keys of values that may have expired, each with its digest; no value is expected there.
    pub expired: Vec<(Vec<u8>, Digest)>,
}

impl<B: AsRef<[u8]>> Correction<B> {
    /// Begin at the first key of an inventory, whose runs have so many pieces.
    #[must_use]
    pub fn new(lengths: &[usize], held: Held) -> Self {
        Self {
            runs: Runs::new(lengths),
            held,
            passed: (0, 0),
            table: Table::default(),
            expired: Vec::new(),
            is_done: false,
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

    /// Whether all of the log and the inventory were compared.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Go on along the newest changes of the log until the next piece of a run is needed.
    pub fn step(&mut self, newest: &View<'_>) {
        let (table, keeps_tokens) = (&mut self.table, self.held.keeps_tokens);
        let mut expected = Expected {
            rows: newest.rows(self.passed.0..newest.len()).peekable(),
            held: &self.held,
            passed: self.passed,
            expired: &mut self.expired,
        };
        self.is_done = self.runs.read(|lanes| {
            loop {
                let known = match lanes.peek() {
                    Next::Starved => return false,
                    Next::Entry(entry) => Some(entry),
                    Next::End => None,
                };
                let there = expected.peek();
                let order = match (known, there) {
                    (None, None) => return true,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(entry), Some((key, _))) => entry.key.cmp(key),
                };
                let known = known.filter(|_| order.is_le());
                let there = there.filter(|_| order.is_ge());
                push_difference(table, known, there, keeps_tokens);
                if order.is_le() {
                    lanes.advance();
                }
                if order.is_ge() {
                    expected.advance();
                }
            }
        });
        self.passed = expected.passed;
    }

    /// The patch.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn finish(self) -> Result<Corrected> {
        Ok(Corrected {
            patch: Piece::from_table(&self.table)?,
            expired: self.expired,
        })
    }
}

/// Note of one key what the inventory says otherwise.
fn push_difference(table: &mut Table, known: Option<Entry<'_>>, there: Option<(&[u8], &Digest)>, keeps_tokens: bool) {
    let found = known.and_then(|entry| entry.found);
    match (there, found) {
        (Some((_, digest)), Some(found)) if found.digest == digest && (keeps_tokens || found.token.is_empty()) => {}
        (Some((key, digest)), _) => {
            let found = Some(Found { token: &[], digest });
            table.push(&Entry { key, found });
        }
        (None, Some(_)) => {
            if let Some(Entry { key, .. }) = known {
                table.push(&Entry { key, found: None });
            }
        }
        (None, None) => {}
    }
}

/// The values that have to be there, ascending by key: those of the log, but for what is held instead of some.
struct Expected<'a, 'e> {
    rows: Peekable<Rows<'a>>,
    held: &'a Held,
    passed: (usize, usize),
    expired: &'e mut Vec<(Vec<u8>, Digest)>,
}

impl<'a> Expected<'a, '_> {
    /// The key and digest of the next value.
    fn peek(&mut self) -> Option<(&'a [u8], &'a Digest)> {
        loop {
            let (order, row, held) = self.heads();
            match (order, row, held) {
                (Ordering::Less, Some(row), _) if row.deletes() => self.pass_row(),
                (Ordering::Less, Some(row), _) if (1..=self.held.expired_ms).contains(&row.expires) => {
                    self.expired.push((row.key.to_vec(), *row.digest));
                    self.pass_row();
                }
                (Ordering::Less, Some(row), _) => return Some((row.key, row.digest)),
                (Ordering::Equal, Some(_), _) => self.pass_row(),
                (_, _, Some((key, Some(digest)))) => return Some((key, digest)),
                (_, _, Some(_)) => self.passed.1 += 1,
                (_, _, None) => return None,
            }
        }
    }

    /// Go on behind the value that was returned last.
    fn advance(&mut self) {
        match self.heads().0 {
            Ordering::Less => self.pass_row(),
            _ => self.passed.1 += 1,
        }
    }

    /// The next change of the log and the next key where something else is held, and which comes first.
    fn heads(&mut self) -> (Ordering, Option<Row<'a>>, Option<&'a Instead>) {
        let row = self.rows.peek().copied();
        let held = self.held.instead.get(self.passed.1);
        let order = match (row, held) {
            (Some(row), Some((key, _))) => row.key.cmp(key),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        (order, row, held)
    }

    fn pass_row(&mut self) {
        self.rows.next();
        self.passed.0 += 1;
    }
}
