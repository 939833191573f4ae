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

/// More packs than this are too many where they are small.
const SMALL_PACKS_MAX: u64 = 256;
/// Packs are small that are on average less than this part of a full one.
const SMALL_SHARE: u64 = 16;

/// A merge in the making: a cursor over the blocks of some runs, and a writer of the merged blocks.
///
/// A block between whose first key and the next block's no other run has a key is not read where it can stay as it is:
/// the new directory refers to it where it lies. Every call is given the same runs.
///
/// ```
/// use kvsync_core::blocks::{BlockMerge, BlockWriter, MergeSizes, Run, Target};
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let mut merge = BlockMerge::new(&[Run::Segment(log.view())], Target::default(), "pack/1", MergeSizes::reading(1 << 20))?;
/// let (base, pack) = merge.finish()?;
///
/// let newer = Segment::from_values(
///     NewValues { keys: &KeyList::from_iter(["b"]), values: &[None], expires: None },
///     Provenance { origin: 7, first_stamp: 200, flags: 0 },
/// )?;
/// let runs = [Run::Blocks(&base), Run::Segment(newer.view())];
/// let mut merge = BlockMerge::new(&runs, Target::default(), "pack/2", MergeSizes::reading(1 << 20))?;
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
    done: bool,
    block_bytes: u64,
}

/// How much to read and to write at once.
#[derive(Debug, Clone, Copy)]
pub struct MergeSizes {
    /// About how many bytes of each run are asked for at once.
    pub read_ahead_bytes: u64,
    /// A pack is full once it has so many bytes; then another one has to be begun.
    pub pack_bytes: u64,
}

impl MergeSizes {
    /// Write one pack.
    #[must_use]
    pub const fn reading(read_ahead_bytes: u64) -> Self {
        Self {
            read_ahead_bytes,
            pack_bytes: u64::MAX,
        }
    }
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
    /// Merge some runs into blocks of a target size, which are written to a pack of that name.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn new(runs: &[Run<'_>], target: Target, pack: &str, sizes: MergeSizes) -> Result<Self> {
        let mut writer = BlockWriter::new(target, pack);
        writer.limit_packs(sizes.pack_bytes);
        let states = runs.iter().map(|run| RunState::new(run, target, &mut writer)).collect();
        let mut merge = Self {
            runs: states,
            paged: false,
            wanted: Wanted::default(),
            read_ahead_bytes: sizes.read_ahead_bytes,
            writer,
            target,
            done: false,
            block_bytes: 0,
        };
        for (number, run) in merge.runs.iter().enumerate() {
            merge.wanted.add(number, run.table(), run.pages());
        }
        if merge.wanted.is_empty() {
            merge.begin(runs)?;
        }
        Ok(merge)
    }

    /// Begin to merge, once all pages are read.
    fn begin(&mut self, runs: &[Run<'_>]) -> Result<()> {
        self.paged = true;
        if is_wasteful(&self.runs, self.writer.pack_bytes_max()) {
            self.runs.iter_mut().for_each(RunState::rewrite);
        }
        self.advance(runs)
    }

    /// Whether all is merged.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// The ranges that [`Self::feed`] has to be given: none once all is merged, or another pack has to be begun first.
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
            return self.begin(runs);
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
        if !self.done {
            return Err(Error::BadArgument(ArgumentFault::RangesAndNeeds));
        }
        self.writer.end_block()?;
        self.block_bytes = self.writer.block_bytes();
        let fresh = BlockWriter::new(self.target, "");
        std::mem::replace(&mut self.writer, fresh).finish()
    }

    /// How many bytes all merged blocks have together, once the merge is finished.
    #[must_use]
    pub const fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// Merge as far as the blocks that were fed go, and ask for the next ones.
    fn advance(&mut self, runs: &[Run<'_>]) -> Result<()> {
        self.wanted = Wanted::default();
        while !self.writer.is_full() {
            match self.step(runs)? {
                Step::Done => {}
                Step::Starved(run) => {
                    self.ask(runs, run);
                    return Ok(());
                }
                Step::End => {
                    self.done = true;
                    return Ok(());
                }
            }
        }
        Ok(())
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
        while !self.writer.is_full()
            && cursors.iter().all(Cursor::has_change)
            && write_least(&mut cursors, bound, &mut self.writer)?
        {}
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

/// Whether packs hold more than twice the bytes of the blocks that lie in them, or are many and small.
///
/// A pack ends with its last block here: pages behind that, which each merge writes anew, are little.
fn is_wasteful(runs: &[RunState], pack_bytes: u64) -> bool {
    let mut ends = BTreeMap::new();
    let mut live = 0;
    for (number, run) in runs.iter().enumerate() {
        for part in run.table().iter() {
            let end = ends.entry((number, part.place.pack)).or_insert(0);
            *end = part.place.end().max(*end);
            live += u64::from(part.place.length);
        }
    }
    let held: u64 = ends.values().sum();
    let packs = ends.len() as u64;
    held > 2 * live || (packs > SMALL_PACKS_MAX && held / packs < pack_bytes / SMALL_SHARE)
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
    while !writer.is_full() && cursor.has_change() && limit.is_none_or(|limit| cursor.change.key < limit) {
        writer.push(&cursor.take())?;
    }
    Ok(true)
}
