//! The changes of a segment in blocks, read one block after another.

use std::collections::BTreeMap;

use crate::build::Builder;
use crate::error::{Error, Result};
use crate::reason::Reason;
use crate::seek::Seeker;
use crate::segment::Segment;
use crate::view::View;

use super::chain::read_described;
use super::cut::Cutter;
use super::directory::{BLOCKS_MAX, Directory};
use super::needs::{Need, Wanted};
use super::outline::Outline;
use super::table::Table;
use super::verify::read_checked;

/// What a reader makes of blocks and pages that are not as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scrutiny {
    /// It refuses what no reader takes.
    #[default]
    Usual,
    /// It refuses also wrong sums and wrong cuts.
    Thorough,
    /// It leaves out what is damaged.
    Lenient,
}

/// A cursor over the changes of a directory: all of them, or those of some keys.
///
/// Of a directory's blocks it reads those that may hold one of the keys.
///
/// ```
/// use kvsync_core::blocks::{BlockReader, BlockWriter, Scrutiny, Target};
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let mut writer = BlockWriter::new(Target::default(), "pack");
/// log.view().iter().try_for_each(|row| writer.push(&row))?;
/// let (directory, pack) = writer.finish()?;
///
/// let mut reader = BlockReader::new(&directory, Some(&[b"b".as_slice()]), Scrutiny::Usual, 1 << 20);
/// assert_eq!(reader.needs()[0].length, pack.len() as u64);
/// reader.feed(&directory, &[&pack])?;
/// assert!(reader.needs().is_empty());
/// assert!(reader.take()?.view().iter().map(|row| row.key).eq([b"b"]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockReader {
    outline: Outline,
    /// Whether the pages were read that have to be.
    paged: bool,
    wanted: Wanted,
    read_ahead_bytes: u64,
    scrutiny: Scrutiny,
    /// The keys to look for, ascending; None for all.
    keys: Option<Vec<Vec<u8>>>,
    /// The blocks to read, and how many of them were asked for.
    blocks: Vec<usize>,
    asked: usize,
    /// The pack of the part that was read last.
    pack: u32,
    found: Builder,
}

impl BlockReader {
    /// Begin to read; about `read_ahead_bytes` are asked for at once.
    #[must_use]
    pub fn new(directory: &Directory, keys: Option<&[&[u8]]>, scrutiny: Scrutiny, read_ahead_bytes: u64) -> Self {
        let keys = keys.map(|keys| {
            let mut keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        });
        let mut reader = Self {
            outline: Outline::new(directory),
            paged: false,
            wanted: Wanted::default(),
            read_ahead_bytes,
            scrutiny,
            keys,
            blocks: Vec::new(),
            asked: 0,
            pack: 0,
            found: Builder::default(),
        };
        reader.plan();
        reader
    }

    /// The ranges that [`Self::feed`] has to be given, none once all is read.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        self.wanted.needs()
    }

    /// Go on with the bytes of all the needed ranges, in their order. After an error, the reader is of no use.
    ///
    /// # Errors
    /// [`Error::Damaged`] with an offset in the pack [`Self::pack`] where a block or page is not what the directory
    /// says; other ranges than were needed.
    pub fn feed(&mut self, directory: &Directory, ranges: &[&[u8]]) -> Result<()> {
        let parts = self.wanted.cut(ranges)?;
        if self.paged {
            for (_, index, bytes) in parts {
                self.read(directory, index, bytes)?;
            }
            self.ask();
            return Ok(());
        }
        let mut pages = BTreeMap::new();
        for (_, index, bytes) in parts {
            let place = self.outline.table.get(index).map(|part| part.place);
            self.pack = place.map_or(0, |place| place.pack);
            match self.outline.read_page(directory, index, bytes) {
                Ok(_) => _ = pages.insert(index, bytes),
                Err(error) if self.scrutiny != Scrutiny::Lenient => {
                    return Err(error.shifted(place.map_or(0, |place| place.offset)));
                }
                Err(_) => {}
            }
        }
        self.outline.expand(directory, &pages)?;
        if self.scrutiny == Scrutiny::Thorough {
            check_pages(directory.table(), &self.outline.table)?;
        }
        self.paged = true;
        self.plan();
        Ok(())
    }

    /// Take the changes that were read since the last call; the keys ascend from call to call.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the result is more than the format holds.
    pub fn take(&mut self) -> Result<Segment<Vec<u8>>> {
        let found = self.found.finish();
        self.found.clear();
        found
    }

    /// The pack of the part that was read last.
    #[must_use]
    pub const fn pack(&self) -> u32 {
        self.pack
    }

    /// How many bytes the blocks have together that are known so far.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        let blocks = self.outline.table.iter().zip(&self.outline.is_page);
        let lengths = blocks.filter(|(_, is_page)| !**is_page);
        lengths.map(|(part, _)| u64::from(part.place.length)).sum()
    }

    /// Ask for the pages that are needed; where none are, for the first blocks.
    fn plan(&mut self) {
        let needed = self.needed();
        let is_page = &self.outline.is_page;
        self.wanted = Wanted::default();
        if !self.paged {
            let pages = needed.iter().copied().filter(|index| is_page[*index]);
            self.wanted.add(0, &self.outline.table, pages);
            if !self.wanted.is_empty() {
                return;
            }
        }
        self.paged = true;
        self.blocks = needed.into_iter().filter(|index| !is_page[*index]).collect();
        self.ask();
    }

    /// The parts that may hold one of the keys.
    fn needed(&self) -> Vec<usize> {
        let table = &self.outline.table;
        let Some(keys) = &self.keys else {
            return (0..table.len()).collect();
        };
        let mut keys = keys.iter().peekable();
        let mut needed = Vec::new();
        for index in 0..table.len() {
            let (first, end) = (table.first_key(index), table.first_key(index + 1));
            while keys.next_if(|key| Some(&***key) < first).is_some() {}
            if keys.peek().is_some_and(|key| end.is_none_or(|end| &***key < end)) {
                needed.push(index);
            }
        }
        needed
    }

    fn ask(&mut self) {
        let first = self.asked;
        let mut bytes = 0;
        while bytes < self.read_ahead_bytes.max(1)
            && let Some(index) = self.blocks.get(self.asked)
        {
            let part = self.outline.table.get(*index);
            bytes += part.map_or(0, |part| u64::from(part.place.length));
            self.asked += 1;
        }
        self.wanted = Wanted::default();
        let asked = self.blocks[first..self.asked].iter().copied();
        self.wanted.add(0, &self.outline.table, asked);
    }

    fn read(&mut self, directory: &Directory, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(part) = self.outline.table.get(index) else {
            return Err(Error::damaged(0, Reason::OtherPart));
        };
        self.pack = part.place.pack;
        let end = self.outline.table.first_key(index + 1);
        let layout = match self.scrutiny {
            Scrutiny::Thorough => read_checked(&part, end, bytes, directory.target()),
            Scrutiny::Usual | Scrutiny::Lenient => read_described(&part, end, bytes),
        };
        match layout {
            Ok(layout) => append(&mut self.found, self.keys.as_deref(), View::new(bytes, &layout)),
            Err(error) if self.scrutiny != Scrutiny::Lenient => return Err(error.shifted(part.place.offset)),
            Err(_) => {}
        }
        Ok(())
    }
}

/// Append the changes of some keys, or all.
fn append(found: &mut Builder, keys: Option<&[Vec<u8>]>, view: View<'_>) {
    let Some(keys) = keys else {
        view.iter().for_each(|row| found.push(&row));
        return;
    };
    let (first, last) = (view.keys.get(0), view.keys.get(view.len() - 1));
    let start = keys.partition_point(|key| **key < *first);
    let stop = keys.partition_point(|key| **key <= *last);
    let mut seeker = Seeker::new(view);
    for key in &keys[start..stop] {
        if let Some(row) = seeker.find(key) {
            found.push(&row);
        }
    }
}

/// Check that a directory has pages because its blocks are many, and that these are cut where the keys say.
fn check_pages(pages: &Table, blocks: &Table) -> Result<()> {
    let mut cutter = Cutter::of_pages();
    let keys = (0..blocks.len()).filter_map(|index| blocks.first_key(index));
    let begin = keys
        .enumerate()
        .filter(|(index, key)| cutter.cuts_page_before(key) || *index == 0);
    let firsts = (0..pages.len()).map(|index| pages.first_key(index));
    if blocks.len() > BLOCKS_MAX && begin.map(|(_, key)| Some(key)).eq(firsts) {
        Ok(())
    } else {
        Err(Error::damaged(0, Reason::WrongCut))
    }
}
