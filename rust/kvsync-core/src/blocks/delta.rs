//! What each side misses of the other, block by block.

use std::collections::{BTreeMap, VecDeque};

use crate::cover::Cover;
use crate::delta::{Delta, DeltaBuilder, join};
use crate::error::Result;
use crate::view::View;

use super::chain::{Chain, Loaded};
use super::compare::{Compared, needed};
use super::directory::Directory;
use super::needs::{Need, Wanted};
use super::outline::Outline;
use super::window::{Patches, Window};

/// One of the two sides to compare.
#[derive(Debug, Clone, Copy)]
pub struct BlockSide<'a> {
    /// The blocks.
    pub directory: &'a Directory,
    /// Segments beside the blocks, small enough to be held.
    pub patches: &'a [View<'a>],
    /// The changes that the side holds.
    pub cover: &'a Cover,
}

/// A delta in the making: a cursor over the blocks of two sides.
///
/// Its result is that of [`delta()`](crate::delta()) over all changes of each side's blocks and its patches. Every call
/// is given the same sides.
///
/// ```
/// use kvsync_core::blocks::{BlockDelta, BlockSide, BlockWriter, Directory, Target};
/// use kvsync_core::{Cover, KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let mut writer = BlockWriter::new(Target::default(), "pack");
/// log.view().iter().try_for_each(|row| writer.push(&row))?;
/// let (full, pack) = writer.finish()?;
///
/// let (empty, cover) = (Directory::empty(Target::default()), Cover::default());
/// let side = |directory| BlockSide { directory, patches: &[], cover: &cover };
/// let sides = [side(&full), side(&empty)];
/// let mut delta = BlockDelta::new(sides, 1 << 20)?;
/// assert_eq!((delta.needs()[0].run, delta.needs()[0].length), (0, pack.len() as u64));
/// delta.feed(sides, &[&pack])?;
/// assert!(delta.needs().is_empty());
/// assert_eq!(delta.take()?.to_b.view().len(), 2);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockDelta {
    outlines: [Outline; 2],
    /// Whether the pages were read that have to be.
    paged: bool,
    wanted: Wanted,
    read_ahead_bytes: u64,
    chains: [Chain; 2],
    /// For each patch of each side, how many changes of it were compared.
    compared: [Vec<usize>; 2],
    done: bool,
    found: DeltaBuilder,
}

impl BlockDelta {
    /// Compare two directories. About `read_ahead_bytes` are asked for at once.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn new(sides: [BlockSide<'_>; 2], read_ahead_bytes: u64) -> Result<Self> {
        let outlines = sides.map(|side| Outline::new(side.directory));
        let compared = sides.map(|side| vec![0; side.patches.len()]);
        let mut delta = Self {
            outlines,
            paged: false,
            wanted: Wanted::default(),
            read_ahead_bytes,
            chains: Default::default(),
            compared,
            done: false,
            found: DeltaBuilder::default(),
        };
        delta.plan(sides)?;
        Ok(delta)
    }

    /// The ranges that [`Self::feed`] has to be given, none once the delta is complete.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        self.wanted.needs()
    }

    /// Go on with the bytes of all the needed ranges, in their order. After an error, the delta is of no use.
    ///
    /// # Errors
    /// [`Error::Damaged`] with an offset in the pack where a block or page is not what the directory says;
    /// [`Error::ForgedKey`] where a key to be sent is reserved; other ranges than were needed.
    pub fn feed(&mut self, sides: [BlockSide<'_>; 2], ranges: &[&[u8]]) -> Result<()> {
        let parts = self.wanted.cut(ranges)?;
        if self.paged {
            let mut fed = [VecDeque::new(), VecDeque::new()];
            for (run, _, bytes) in parts {
                fed[run].push_back(bytes);
            }
            self.compare(sides, fed)?;
            self.ask();
            return Ok(());
        }
        let mut pages = [BTreeMap::new(), BTreeMap::new()];
        for (run, index, bytes) in parts {
            pages[run].insert(index, bytes);
        }
        for run in [0, 1] {
            self.outlines[run].expand(sides[run].directory, &pages[run])?;
        }
        self.paged = true;
        self.plan(sides)
    }

    /// Take what was found since the last call.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the result is more than the format holds.
    pub fn take(&mut self) -> Result<Delta> {
        join(1, &[std::mem::take(&mut self.found)])
    }

    /// Ask for the pages that are needed; where none are, for the first blocks.
    fn plan(&mut self, sides: [BlockSide<'_>; 2]) -> Result<()> {
        let compared = [0, 1].map(|run| Compared {
            outline: &self.outlines[run],
            patches: sides[run].patches,
            cover: sides[run].cover,
        });
        let needed = needed(compared);
        let chosen = |run: usize, pages: bool| {
            let (needed, is_page) = (&needed[run], &self.outlines[run].is_page);
            let both = needed.iter().zip(is_page).enumerate();
            let wanted = both.filter(move |(_, (needed, is_page))| **needed && **is_page == pages);
            wanted.map(|(index, _)| index)
        };
        self.wanted = Wanted::default();
        for run in [0, 1] {
            self.wanted.add(run, &self.outlines[run].table, chosen(run, true));
        }
        if !self.wanted.is_empty() {
            return Ok(());
        }
        self.paged = true;
        for run in [0, 1] {
            self.chains[run].blocks = chosen(run, false).collect();
        }
        self.ask();
        if self.wanted.is_empty() {
            self.compare(sides, Default::default())?;
        }
        Ok(())
    }

    /// Ask for the next blocks of both sides, in the order of their first keys.
    fn ask(&mut self) {
        let tables = [0, 1].map(|run| &self.outlines[run].table);
        let first = [0, 1].map(|run| self.chains[run].asked);
        let mut bytes = 0;
        while bytes < self.read_ahead_bytes.max(1) {
            let parts = [0, 1].map(|run| self.chains[run].to_ask(tables[run]));
            let run = match parts {
                [None, None] => break,
                [Some(a), Some(b)] => usize::from(b.first_key < a.first_key),
                [a, _] => usize::from(a.is_none()),
            };
            bytes += parts[run].map_or(0, |part| u64::from(part.place.length));
            self.chains[run].asked += 1;
        }
        self.wanted = Wanted::default();
        for run in [0, 1] {
            let asked = self.chains[run].asked_from(first[run]);
            self.wanted.add(run, tables[run], asked);
        }
    }

    /// Compare up to the first block that was not asked for yet.
    fn compare<'p>(&mut self, sides: [BlockSide<'_>; 2], mut fed: [VecDeque<&'p [u8]>; 2]) -> Result<()> {
        let tables = [0, 1].map(|run| &self.outlines[run].table);
        let chains = &mut self.chains;
        let mut current: [Option<Loaded<'p>>; 2] = [0, 1].map(|run| chains[run].current.take());
        let mut patches = [0, 1].map(|run| Patches::new(sides[run].patches, &self.compared[run]));
        let covers = sides.map(|side| side.cover);
        while !self.done {
            for run in [0, 1] {
                if chains[run].begun
                    && current[run].is_none()
                    && let Some(bytes) = fed[run].pop_front()
                {
                    current[run] = Some(chains[run].load(tables[run], bytes, covers[1 - run])?);
                }
            }
            if [0, 1].iter().any(|run| chains[*run].begun && current[*run].is_none()) {
                break;
            }
            let stop = [0, 1].into_iter().filter_map(|run| chains[run].stop(tables[run])).min();
            let mut window = Window {
                heads: [0, 1].map(|run| {
                    current[run]
                        .as_ref()
                        .map(|loaded| loaded.head(chains[run].stop(tables[run])))
                }),
                found: &mut self.found,
                patches: &mut patches,
                covers,
            };
            window.compare(stop)?;
            let compared = window.heads.map(|head| head.map_or(0, |head| head.compared));
            self.done = stop.is_none();
            for run in [0, 1] {
                if let Some(loaded) = &mut current[run] {
                    loaded.compared = compared[run];
                }
                if chains[run].pass(tables[run], stop) {
                    current[run] = None;
                }
            }
        }
        for (run, loaded) in current.into_iter().enumerate() {
            self.chains[run].current = loaded.map(Loaded::into_owned);
        }
        self.compared = patches.map(Patches::compared);
        Ok(())
    }
}
