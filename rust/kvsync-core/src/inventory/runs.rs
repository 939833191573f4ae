//! Runs of pieces, read side by side as one inventory, a piece of each at a time.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::reason::{ArgumentFault, Reason};

use super::piece::Piece;
use super::places::{Columns, Entry, Place};

/// Runs of pieces, the base first, then its patches, the newest last. The newest entry of a key counts.
///
/// Only one piece of each run is held. Whoever reads them loads the others one by one, as they are needed.
#[derive(Debug)]
pub(super) struct Runs<B> {
    runs: Vec<Run<B>>,
}

/// One run, and how far it was read.
#[derive(Debug)]
struct Run<B> {
    piece: Option<Arc<Piece<B>>>,
    place: Place,
    waiting: usize,
}

impl<B: AsRef<[u8]>> Runs<B> {
    /// Begin to read runs of so many pieces.
    pub(super) fn new(lengths: &[usize]) -> Self {
        let run = |waiting: &usize| Run {
            piece: None,
            place: Place::default(),
            waiting: *waiting,
        };
        Self {
            runs: lengths.iter().map(run).collect(),
        }
    }

    /// A run whose next piece is needed to go on.
    pub(super) fn needs(&self) -> Option<usize> {
        self.runs.iter().position(|run| run.waiting > 0 && run.is_at_end())
    }

    /// Take the next piece of a run.
    pub(super) fn supply(&mut self, run: usize, piece: Arc<Piece<B>>) -> Result<()> {
        let run = self.runs.get_mut(run);
        let run = run.ok_or(Error::BadArgument(ArgumentFault::NoSuchRun))?;
        let before = run.piece.as_ref().and_then(|piece| piece.last());
        if before.is_some() && piece.first() <= before {
            return Err(Error::damaged(0, Reason::KeysDoNotAscend));
        }
        run.waiting = run.waiting.saturating_sub(1);
        run.piece = Some(piece);
        run.place = Place::default();
        Ok(())
    }

    /// Read on with all runs side by side.
    pub(super) fn read<T>(&mut self, work: impl FnOnce(&mut Lanes<'_>) -> T) -> T {
        let pieces: Vec<_> = self.runs.iter().map(|run| run.piece.clone()).collect();
        let columns = pieces.iter().map(|piece| piece.as_ref().map(|piece| piece.columns()));
        let lanes = self.runs.iter().zip(columns);
        let lanes = lanes.map(|(run, columns)| Lane::new(columns, run.place, run.waiting > 0));
        let mut lanes = Lanes::new(lanes.collect());
        let result = work(&mut lanes);
        let places: Vec<_> = lanes.runs.iter().map(|lane| lane.place).collect();
        for (run, place) in self.runs.iter_mut().zip(places) {
            run.place = place;
        }
        result
    }
}

impl<B: AsRef<[u8]>> Run<B> {
    fn is_at_end(&self) -> bool {
        self.piece.as_ref().is_none_or(|piece| self.place.index >= piece.len())
    }
}

/// The rest of the piece at hand of one run.
#[derive(Debug)]
struct Lane<'a> {
    columns: Option<Columns<'a>>,
    place: Place,
    head: Option<(Entry<'a>, Place)>,
    has_more: bool,
}

impl<'a> Lane<'a> {
    fn new(columns: Option<Columns<'a>>, place: Place, has_more: bool) -> Self {
        let mut lane = Self {
            columns,
            place,
            head: None,
            has_more,
        };
        lane.look();
        lane
    }

    #[inline]
    fn look(&mut self) {
        self.head = self.columns.as_ref().and_then(|columns| columns.at(self.place));
    }

    #[inline]
    fn advance(&mut self) {
        if let Some((_, next)) = self.head {
            self.place = next;
            self.look();
        }
    }

    fn key(&self) -> Option<&'a [u8]> {
        self.head.map(|(entry, _)| entry.key)
    }

    fn is_starved(&self) -> bool {
        self.head.is_none() && self.has_more
    }
}

/// What comes next in an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// An entry.
    Entry(Entry<'a>),
    /// The next piece of a run is needed first.
    Starved,
    /// Nothing.
    End,
}

/// The pieces at hand of all runs, side by side.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    runs: Vec<Lane<'a>>,
    /// The newest of the patches with the least key, so that an entry of the base alone costs one comparison.
    patch: Option<usize>,
    /// The lane of the entry that comes next.
    lane: usize,
    next: Next<'a>,
}

impl<'a> Lanes<'a> {
    fn new(lanes: Vec<Lane<'a>>) -> Self {
        let mut lanes = Self {
            runs: lanes,
            patch: None,
            lane: 0,
            next: Next::End,
        };
        lanes.settle_all();
        lanes
    }

    /// What comes next.
    #[inline]
    pub(super) const fn peek(&self) -> Next<'a> {
        self.next
    }

    /// Go on behind the entry that comes next.
    #[inline]
    pub(super) fn advance(&mut self) {
        let Next::Entry(entry) = self.next else {
            return;
        };
        if self.lane == 0 {
            self.runs[0].advance();
            self.settle(self.runs[0].is_starved());
        } else {
            let same = |lane: &&mut Lane<'_>| lane.key() == Some(entry.key);
            self.runs.iter_mut().filter(same).for_each(Lane::advance);
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        self.patch = self.least_patch();
        self.settle(self.runs.iter().any(Lane::is_starved));
    }

    fn least_patch(&self) -> Option<usize> {
        let patches = self.runs.iter().enumerate().skip(1).rev();
        let keys = patches.filter_map(|(index, lane)| Some((lane.key()?, index)));
        // Of equal keys the first one found is the newest, and stays.
        let least = keys.reduce(|least, other| if other.0 < least.0 { other } else { least });
        least.map(|(_, index)| index)
    }

    #[inline]
    fn settle(&mut self, is_starved: bool) {
        let base = self.runs.first().and_then(Lane::key);
        let patch = self.patch.and_then(|patch| Some((patch, self.runs[patch].key()?)));
        self.lane = match (base, patch) {
            (Some(base), Some((patch, key))) if key <= base => patch,
            (None, Some((patch, _))) => patch,
            _ => 0,
        };
        let head = self.runs.get(self.lane).and_then(|lane| lane.head);
        self.next = match head {
            _ if is_starved => Next::Starved,
            Some((entry, _)) => Next::Entry(entry),
            None => Next::End,
        };
    }
}
