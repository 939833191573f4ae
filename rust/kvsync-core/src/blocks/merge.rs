//! Runs of changes merged block by block: the greatest change of each key wins.

use std::collections::BTreeMap;

use super::cut::Target;
use super::directory::Directory;
use super::needs::{Need, Wanted};
use super::run::{Run, RunState};
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
    /// [`Error::Damaged`] with an offset in the pack where a block or page is not what the directory says; other parts
    /// than were needed; [`Error::TooLarge`].
    pub fn feed(&mut self, runs: &[Run<'_>], parts: &[&[u8]]) -> Result<()> {
        let pieces = self.wanted.cut(parts)?;
        if self.paged {
            for (run, index, bytes) in pieces {
                self.runs[run].feed(index, bytes);
            }
        } else {
            let mut pages: Vec<BTreeMap<usize, &[u8]>> = vec![BTreeMap::new(); self.runs.len()];
            for (run, index, bytes) in pieces {
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
            return Err(Error::BadArgument(ArgumentFault::PartsAndNeeds));
        }
        let fresh = BlockWriter::new(self.target, "");
        std::mem::replace(&mut self.writer, fresh).finish()
    }

    /// Merge as far as the blocks that were fed go, and ask for the next ones.
    fn advance(&mut self, runs: &[Run<'_>]) -> Result<()> {
        self.wanted = Wanted::default();
        let mut limit = Vec::new();
        loop {
            match self.step(runs, &mut limit)? {
                Step::Done => {}
                Step::Starved(run) => {
                    self.ask(runs, run);
                    return Ok(());
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// Write the newest change of the least key, or all changes of one run up to the next key of another one.
    fn step(&mut self, runs: &[Run<'_>], buffer: &mut Vec<u8>) -> Result<Step> {
        let Some((run, limit)) = self.least(runs) else {
            return Ok(Step::End);
        };
        // A copy, since the run is about to change.
        let limit = limit.map(|limit| {
            buffer.clear();
            buffer.extend_from_slice(limit);
            &**buffer
        });
        let state = &mut self.runs[run];
        let key = state.key(&runs[run]);
        if limit.is_some() && key == limit {
            return self.write_newest(runs, limit.unwrap_or_default());
        }
        if let (Some((block, pack)), Some(key)) = (state.untouched(limit), key)
            && self.writer.can_pass(key)
        {
            self.writer.pass(&block, pack)?;
            state.skip_block();
            return Ok(Step::Done);
        }
        if !state.begin()? {
            return Ok(Step::Starved(run));
        }
        state.write_below(&runs[run], limit, &mut self.writer)?;
        Ok(Step::Done)
    }

    /// The run with the least key, and the least key of the others.
    fn least<'a>(&'a self, runs: &[Run<'a>]) -> Option<(usize, Option<&'a [u8]>)> {
        let (mut least, mut limit) = (None::<(&[u8], usize)>, None::<&[u8]>);
        for (number, (state, run)) in self.runs.iter().zip(runs).enumerate() {
            let Some(key) = state.key(run) else {
                continue;
            };
            let greater = match least {
                Some((before, _)) if before <= key => key,
                before => {
                    least = Some((key, number));
                    match before {
                        Some((before, _)) => before,
                        None => continue,
                    }
                }
            };
            limit = Some(limit.map_or(greater, |limit| limit.min(greater)));
        }
        least.map(|(_, number)| (number, limit))
    }

    /// Write the greatest change of a key that several runs have.
    fn write_newest(&mut self, runs: &[Run<'_>], key: &[u8]) -> Result<Step> {
        let has = |state: &RunState, run: &Run<'_>| state.key(run) == Some(key);
        for (number, (state, run)) in self.runs.iter_mut().zip(runs).enumerate() {
            if has(state, run) && !state.begin()? {
                return Ok(Step::Starved(number));
            }
        }
        let holders = self.runs.iter().zip(runs).filter(|(state, run)| has(state, run));
        let newest = holders.map(|(state, run)| state.current(run)).max_by(Row::order);
        newest.map_or(Ok(()), |row| self.writer.push(&row))?;
        for (state, run) in self.runs.iter_mut().zip(runs) {
            if has(state, run) {
                state.advance(run);
            }
        }
        Ok(Step::Done)
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
