//! Runs of changes merged block by block: the greatest change of each key wins.

use std::collections::BTreeMap;

use super::cut::Target;
use super::directory::Directory;
use super::needs::{Need, Wanted};
use super::run::{Cursor, Run, RunState};
use super::writer::BlockWriter;
use crate::error::{Error, Result};
use crate::reason::ArgumentFault;
use crate::row::Row;

/// A merge in the making: a cursor over the blocks of some runs, and a writer of the merged blocks.
///
/// A block between whose first key and the next block's no other run has a key is not read where it can stay as it is:
/// the new directory refers to it where it lies. Every call is given the same runs.
///
/// ```
/// use kvsync_core::blocks::{BlockMerge, BlockWriter, Run, Target};
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let mut merge = BlockMerge::new(&[Run::Segment(log.view())], Target::default(), "pack/1", 1 << 20)?;
/// let (base, pack) = merge.finish()?;
///
/// let newer = Segment::from_values(
///     NewValues { keys: &KeyList::from_iter(["b"]), values: &[None], expires: None },
///     Provenance { origin: 7, first_stamp: 200, flags: 0 },
/// )?;
/// let runs = [Run::Blocks(&base), Run::Segment(newer.view())];
/// let mut merge = BlockMerge::new(&runs, Target::default(), "pack/2", 1 << 20)?;
/// assert_eq!(merge.needs()[0].length, pack.len() as u64);
/// merge.feed(&runs, &[&pack])?;
/// let (merged, _) = merge.finish()?;
/// assert_eq!((merged.table().count(), merged.table().maxima()), (2, vec![(7, 200)]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockMerge {
    runs: Vec<RunState>,
    paged: bool,
    wanted: Wanted,
    read_ahead_bytes: u64,
    writer: BlockWriter,
    target: Target,
}

/// What a step of a merge comes to.
enum Step {
    /// It went on.
    Done,
    /// A run has to be fed first.
    Starved(usize),
    /// Nothing is left.
    End,
}

/// The run with the least key, that key, and the least key of the others.
struct Least<'a> {
    run: usize,
    key: &'a [u8],
    limit: Option<&'a [u8]>,
}

impl BlockMerge {
    /// Merge some runs into blocks of a target size, which are written to a pack of that name. About
    /// `read_ahead_bytes` of each run are asked for at once.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn new(runs: &[Run<'_>], target: Target, pack: &str, read_ahead_bytes: u64) -> Result<Self> {
        let mut writer = BlockWriter::new(target, pack);
        let states = runs.iter().map(|run| RunState::new(run, target, &mut writer)).collect();
        let mut merge = Self {
            runs: states,
            paged: false,
            wanted: Wanted::default(),
            read_ahead_bytes,
            writer,
            target,
        };
        for (number, run) in merge.runs.iter().enumerate() {
            merge.wanted.add(number, run.table(), run.pages());
        }
        if merge.wanted.is_empty() {
            merge.paged = true;
            merge.advance(runs)?;
        }
        Ok(merge)
    }

    /// The ranges that [`Self::feed`] has to be given, none once all is merged.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        self.wanted.needs()
    }

    /// Go on with the bytes of all the needed ranges, in their order. After an error, the merge is of no use.
    ///
    /// # Errors
    /// [`Error::Damaged`] with an offset in the pack where a block or page is not what the directory says; other ranges
    /// than were needed; [`Error::TooLarge`].
    pub fn feed(&mut self, runs: &[Run<'_>], ranges: &[&[u8]]) -> Result<()> {
        let parts = self.wanted.cut(ranges)?;
        if self.paged {
            for (run, index, bytes) in parts {
                self.runs[run].feed(index, bytes);
            }
        } else {
            let mut pages: Vec<BTreeMap<usize, &[u8]>> = vec![BTreeMap::new(); self.runs.len()];
            for (run, index, bytes) in parts {
                pages[run].insert(index, bytes);
            }
            for ((state, run), pages) in self.runs.iter_mut().zip(runs).zip(&pages) {
                state.expand(run, pages)?;
            }
            self.paged = true;
        }
        self.advance(runs)
    }

    /// Take the bytes of the pack that were written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.writer.take()
    }

    /// How many bytes the pack that is being written has so far.
    #[must_use]
    pub const fn pack_bytes(&self) -> u64 {
        self.writer.pack_bytes()
    }

    /// Begin another pack, once all of the one before was taken.
    ///
    /// # Errors
    /// As [`BlockWriter::begin_pack`].
    pub fn begin_pack(&mut self, name: &str) -> Result<()> {
        self.writer.begin_pack(name)
    }

    /// The directory of all that was merged, and the last bytes of the pack.
    ///
    /// # Errors
    /// Something is still needed, or [`Error::TooLarge`].
    pub fn finish(&mut self) -> Result<(Directory, Vec<u8>)> {
        if !self.wanted.is_empty() {
            return Err(Error::BadArgument(ArgumentFault::RangesAndNeeds));
        }
        let fresh = BlockWriter::new(self.target, "");
        std::mem::replace(&mut self.writer, fresh).finish()
    }

    /// Merge as far as the blocks that were fed go, and ask for the next ones.
    fn advance(&mut self, runs: &[Run<'_>]) -> Result<()> {
        self.wanted = Wanted::default();
        loop {
            match self.step(runs)? {
                Step::Done => {}
                Step::Starved(run) => {
                    self.ask(runs, run);
                    return Ok(());
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// Pass the next block on, or write changes up to the end of a block or the first key of another.
    fn step(&mut self, runs: &[Run<'_>]) -> Result<Step> {
        let Some(Least { run, key, limit }) = self.least(runs) else {
            return Ok(Step::End);
        };
        if let Some((block, pack)) = self.runs[run].untouched(limit)
            && self.writer.can_pass(key)
        {
            self.writer.pass(&block, pack)?;
            self.runs[run].skip_block();
            return Ok(Step::Done);
        }
        let has_key = |(state, run): (&RunState, &Run<'_>)| state.key(run) == Some(key);
        let least: Vec<bool> = self.runs.iter().zip(runs).map(has_key).collect();
        for (number, state) in self.runs.iter_mut().enumerate() {
            if least[number] && !state.begin()? {
                return Ok(Step::Starved(number));
            }
        }
        self.write(runs)?;
        Ok(Step::Done)
    }

    fn least<'a>(&'a self, runs: &[Run<'a>]) -> Option<Least<'a>> {
        let keys = || {
            self.runs
                .iter()
                .zip(runs)
                .map(|(state, run)| state.key(run))
                .enumerate()
        };
        let (number, key) = keys()
            .filter_map(|(number, key)| Some((number, key?)))
            .min_by_key(|(_, key)| *key)?;
        let limit = keys()
            .filter(|(other, _)| *other != number)
            .filter_map(|(_, key)| key)
            .min();
        Some(Least {
            run: number,
            key,
            limit,
        })
    }

    /// Write the changes of all current blocks up to the end of one, or to the first key of another block.
    fn write(&mut self, runs: &[Run<'_>]) -> Result<()> {
        let pairs = || self.runs.iter().zip(runs).enumerate();
        let bound = pairs().filter_map(|(_, (state, run))| state.next_block_key(run)).min();
        let mut cursors: Vec<Cursor<'_>> = pairs()
            .filter_map(|(number, (state, run))| state.cursor(number, run))
            .collect();
        while cursors.iter().all(Cursor::has_change) && write_least(&mut cursors, bound, &mut self.writer)? {}
        let places: Vec<_> = cursors.iter().map(Cursor::place).collect();
        for (number, place) in places {
            self.runs[number].go_to(place);
        }
        Ok(())
    }

    fn ask(&mut self, runs: &[Run<'_>], starved: usize) {
        for number in 0..runs.len() {
            let others = self.runs.iter().zip(runs).enumerate();
            let others: Vec<_> = others
                .filter(|(other, _)| *other != number)
                .map(|(_, other)| other)
                .collect();
            let state = &self.runs[number];
            let asked = state.to_ask(&others, number == starved, self.read_ahead_bytes);
            self.wanted.add(number, state.table(), asked);
        }
    }
}

/// Write the newest change of the least key, or all changes of one run before the next key of the others; false where
/// that key is not below the bound.
fn write_least(cursors: &mut [Cursor<'_>], bound: Option<&[u8]>, writer: &mut BlockWriter) -> Result<bool> {
    let Some((first, rest)) = cursors.split_first() else {
        return Ok(false);
    };
    let (mut least, mut key, mut limit) = (0, first.change.key, bound);
    for (place, cursor) in (1..).zip(rest) {
        let mut greater = cursor.change.key;
        if greater < key {
            std::mem::swap(&mut greater, &mut key);
            least = place;
        }
        limit = Some(limit.map_or(greater, |limit| limit.min(greater)));
    }
    if bound.is_some_and(|bound| key >= bound) {
        return Ok(false);
    }
    if limit == Some(key) {
        let same = cursors.iter_mut().filter(|cursor| cursor.change.key == key);
        let newest = same.map(Cursor::take).max_by(Row::order);
        newest.map_or(Ok(()), |row| writer.push(&row))?;
        return Ok(true);
    }
    let cursor = &mut cursors[least];
    while cursor.has_change() && limit.is_none_or(|limit| cursor.change.key < limit) {
        writer.push(&cursor.take())?;
    }
    Ok(true)
}
