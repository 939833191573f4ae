//! Runs of pieces merged into one.

use std::sync::Arc;

use crate::error::Result;

use super::build::Table;
use super::piece::Piece;
use super::runs::{Next, Runs};

/// What becomes of merged entries.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// Leave out the keys that are gone: nothing is below that may have them.
    pub drops_gone: bool,
    /// A piece is cut once its columns have so many bytes.
    pub piece_bytes: usize,
    /// The first key to take; the first one there is if None.
    pub start: Option<Vec<u8>>,
    /// The key to stop before; take all if None.
    pub stop: Option<Vec<u8>>,
}

/// A merge of runs, which reads and builds one piece at a time.
#[derive(Debug)]
pub struct Merge<B> {
    runs: Runs<B>,
    options: MergeOptions,
    table: Table,
    is_done: bool,
}

impl<B: AsRef<[u8]>> Merge<B> {
    /// Begin to merge runs of so many pieces, the newest last.
    #[must_use]
    pub fn new(lengths: &[usize], options: MergeOptions) -> Self {
        Self {
            runs: Runs::new(lengths),
            options,
            table: Table::default(),
            is_done: false,
        }
    }

    /// A run whose next piece is needed to go on.
    #[must_use]
    pub fn needs(&self) -> Option<usize> {
        if self.is_done { None } else { self.runs.needs() }
    }

    /// Take the next piece of a run.
    ///
    /// # Errors
    /// There is no such run, or its keys do not ascend.
    pub fn supply(&mut self, run: usize, piece: Arc<Piece<B>>) -> Result<()> {
        self.runs.supply(run, piece)
    }

    /// Whether all is merged.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Go on until a piece is complete, or the next piece of a run is needed; return the one that is complete.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn step(&mut self) -> Result<Option<Piece<Vec<u8>>>> {
        let (table, options) = (&mut self.table, &self.options);
        let is_above = |key: &[u8]| options.stop.as_deref().is_some_and(|stop| key >= stop);
        let is_below = |key: &[u8]| options.start.as_deref().is_some_and(|start| key < start);
        self.is_done = self.runs.read(|lanes| {
            loop {
                match lanes.peek() {
                    Next::Starved => return false,
                    Next::End => return true,
                    Next::Entry(entry) if is_above(entry.key) => return true,
                    Next::Entry(_) if table.bytes() >= options.piece_bytes => return false,
                    Next::Entry(entry) => {
                        if !is_below(entry.key) && (entry.found.is_some() || !options.drops_gone) {
                            table.push(&entry);
                        }
                        lanes.advance();
                    }
                }
            }
        });
        let is_full = self.table.bytes() >= self.options.piece_bytes;
        if self.table.is_empty() || !(self.is_done || is_full) {
            return Ok(None);
        }
        Piece::from_table(&std::mem::take(&mut self.table)).map(Some)
    }
}
