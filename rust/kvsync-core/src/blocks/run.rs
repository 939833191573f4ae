//! One of the runs of a merge, as far as it is merged.

use std::collections::BTreeMap;

use crate::column::{Column, position};
use crate::error::Result;
use crate::layout::Layout;
use crate::row::Row;
use crate::seek::Seeker;
use crate::view::View;

use super::chain::read_described;
use super::cut::Target;
use super::directory::Directory;
use super::outline::Outline;
use super::table::{Part, Table};
use super::writer::BlockWriter;

/// Some changes to merge.
#[derive(Debug, Clone, Copy)]
pub enum Run<'a> {
    /// A segment in blocks.
    Blocks(&'a Directory),
    /// A segment that is held.
    Segment(View<'a>),
}

/// How far a run is merged, and its blocks that were read.
#[derive(Debug, Default)]
pub(super) struct RunState {
    /// Empty for a segment that is held.
    outline: Outline,
    /// The number that each pack of the directory has in the merged one.
    packs: Vec<u32>,
    /// Whether its blocks may be passed on as they are.
    passes: bool,
    /// The first block that was neither merged nor begun.
    next: usize,
    fed: BTreeMap<usize, Vec<u8>>,
    fed_bytes: u64,
    /// Whether there is a current change, and where: in the current block, or in the segment that is held.
    begun: bool,
    bytes: Vec<u8>,
    layout: Layout,
    row: usize,
    key_start: usize,
}

impl RunState {
    pub(super) fn new(run: &Run<'_>, target: Target, writer: &mut BlockWriter) -> Self {
        match run {
            Run::Segment(view) => Self {
                begun: !view.is_empty(),
                ..Self::default()
            },
            Run::Blocks(directory) => Self {
                outline: Outline::new(directory),
                packs: directory.packs.iter().map(|name| writer.add_pack(name)).collect(),
                passes: directory.target == target,
                ..Self::default()
            },
        }
    }

    pub(super) const fn table(&self) -> &Table {
        &self.outline.table
    }

    /// The parts that are pages.
    pub(super) fn pages(&self) -> impl Iterator<Item = usize> + use<'_> {
        let pages = self.outline.is_page.iter().enumerate();
        pages.filter(|(_, is_page)| **is_page).map(|(index, _)| index)
    }

    pub(super) fn expand(&mut self, run: &Run<'_>, pages: &BTreeMap<usize, &[u8]>) -> Result<()> {
        match run {
            Run::Segment(_) => Ok(()),
            Run::Blocks(directory) => self.outline.expand(directory, pages),
        }
    }

    /// Read and write all blocks anew.
    pub(super) const fn rewrite(&mut self) {
        self.passes = false;
    }

    /// Keep a block until it is merged.
    pub(super) fn feed(&mut self, index: usize, bytes: &[u8]) {
        self.fed_bytes += bytes.len() as u64;
        self.fed.insert(index, bytes.to_vec());
    }

    fn take_fed(&mut self, index: usize) -> Option<Vec<u8>> {
        let bytes = self.fed.remove(&index)?;
        self.fed_bytes -= bytes.len() as u64;
        Some(bytes)
    }

    /// The next key.
    pub(super) fn key<'a>(&'a self, run: &Run<'a>) -> Option<&'a [u8]> {
        match run {
            _ if !self.begun => self.table().first_key(self.next),
            Run::Segment(view) => Some(view.keys.at(self.row, self.key_start)),
            Run::Blocks(_) => {
                let sizes = Column::new(&self.bytes[self.layout.key_size.clone()], self.layout.count)?;
                let start = self.layout.key.start + self.key_start;
                Some(&self.bytes[start..start + position(sizes.get(self.row))])
            }
        }
    }

    /// The next block, where it is not begun, all of its keys are below the next key of other runs, and it is cut as the
    /// merged blocks are.
    pub(super) fn untouched(&self, limit: Option<&[u8]>) -> Option<(Part<'_>, u32)> {
        let block = self.table().get(self.next)?;
        let end = self.table().first_key(self.next + 1);
        let below = limit.is_none_or(|limit| end.is_some_and(|end| end <= limit));
        let free = !self.begun && self.passes && below;
        free.then(|| (block, self.packs[position(block.place.pack.into())]))
    }

    /// Leave out the next block.
    pub(super) fn skip_block(&mut self) {
        self.take_fed(self.next);
        self.next += 1;
    }

    /// Have a current change; false where the next block was not fed.
    pub(super) fn begin(&mut self) -> Result<bool> {
        if self.begun {
            return Ok(true);
        }
        let index = self.next;
        let Some(bytes) = self.take_fed(index) else {
            return Ok(false);
        };
        if let Some(part) = self.table().get(index) {
            let layout = read_described(&part, self.table().first_key(index + 1), &bytes);
            self.layout = layout.map_err(|error| error.shifted(part.place.offset))?;
        }
        self.bytes = bytes;
        (self.next, self.begun, self.row, self.key_start) = (index + 1, true, 0, 0);
        Ok(true)
    }

    /// The first key of the next block, where none is begun.
    pub(super) fn next_block_key<'a>(&'a self, run: &Run<'a>) -> Option<&'a [u8]> {
        if self.begun { None } else { self.key(run) }
    }

    /// Where the current changes begin, if there are any.
    pub(super) fn cursor<'a>(&'a self, number: usize, run: &Run<'a>) -> Option<Cursor<'a>> {
        let view = match run {
            _ if !self.begun => return None,
            Run::Segment(view) => *view,
            Run::Blocks(_) => View::new(&self.bytes, &self.layout),
        };
        Some(Cursor {
            number,
            view,
            row: self.row,
            key_start: self.key_start,
            change: view.row_at(self.row, self.key_start),
        })
    }

    /// Go on to where a cursor is.
    pub(super) const fn go_to(&mut self, place: Place) {
        (self.row, self.key_start, self.begun) = (place.row, place.key_start, place.begun);
    }

    /// The next blocks, of about so many bytes, that other runs have keys in; the next one also where none has.
    pub(super) fn to_ask(&self, others: &[(&Self, &Run<'_>)], starved: bool, bytes_max: u64) -> Vec<usize> {
        let mut asked = Vec::new();
        let mut bytes = self.fed_bytes;
        let mut others: Vec<_> = others.iter().map(|(state, run)| Neighbour::new(state, run)).collect();
        for index in self.next..self.table().len() {
            let (Some(part), end) = (self.table().get(index), self.table().first_key(index + 1)) else {
                break;
            };
            let needed = starved && index == self.next;
            if bytes >= bytes_max && !needed {
                break;
            }
            if self.fed.contains_key(&index) {
                continue;
            }
            if needed || !self.passes || others.iter_mut().any(|other| other.reaches(part.first_key, end)) {
                bytes += u64::from(part.place.length);
                asked.push(index);
            }
        }
        asked
    }
}

/// A walk over the current block, or over a segment that is held.
pub(super) struct Cursor<'a> {
    number: usize,
    view: View<'a>,
    row: usize,
    key_start: usize,
    /// The current change; the last one after the end.
    pub(super) change: Row<'a>,
}

/// Where a cursor is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    row: usize,
    key_start: usize,
    begun: bool,
}

impl<'a> Cursor<'a> {
    /// Whether the end is not reached.
    pub(super) const fn has_change(&self) -> bool {
        self.row < self.view.len()
    }

    /// Return the current change, and go on.
    pub(super) fn take(&mut self) -> Row<'a> {
        let taken = self.change;
        self.row += 1;
        self.key_start += taken.key.len();
        if self.has_change() {
            self.change = self.view.row_at(self.row, self.key_start);
        }
        taken
    }

    /// The number of the run, and where in it the cursor is.
    pub(super) const fn place(&self) -> (usize, Place) {
        let place = Place {
            row: self.row,
            key_start: self.key_start,
            begun: self.has_change(),
        };
        (self.number, place)
    }
}

/// Tells in which ranges of keys, each after the one before, another run may have changes.
enum Neighbour<'a> {
    Segment(Seeker<'a>),
    /// Blocks adjoin each other, so any range after the next key may have changes; none is known to have none.
    Blocks(Option<&'a [u8]>),
}

impl<'a> Neighbour<'a> {
    fn new(state: &'a RunState, run: &Run<'a>) -> Self {
        match run {
            Run::Segment(view) => Self::Segment(Seeker::new(*view)),
            Run::Blocks(_) => Self::Blocks(state.key(run)),
        }
    }

    fn reaches(&mut self, first_key: &[u8], end: Option<&[u8]>) -> bool {
        match self {
            Self::Segment(seeker) => {
                let start = seeker.lower_bound(first_key);
                start < end.map_or(seeker.len(), |end| seeker.lower_bound(end))
            }
            Self::Blocks(key) => key.is_some_and(|key| end.is_none_or(|end| key < end)),
        }
    }
}
