//! The blocks of one side that a delta reads, one after another.

use std::borrow::Cow;

use crate::cover::Cover;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::missing_rows::missing_rows;
use crate::pick::Positions;
use crate::reason::Reason;
use crate::view::View;

use super::binary::checksum_of;
use super::block::read_block;
use super::table::{Part, Table};
use super::window::Head;

/// The blocks of one side that have to be read.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Their positions in the table.
    pub(super) blocks: Vec<usize>,
    /// How many of them were asked for.
    pub(super) asked: usize,
    /// The number of the first that is not compared as a whole.
    next: usize,
    /// Whether all keys before it are compared, so that it is what comes next.
    pub(super) begun: bool,
    pub(super) current: Option<Loaded<'static>>,
}

impl Chain {
    /// The first block that was not asked for.
    pub(super) fn to_ask<'t>(&self, table: &'t Table) -> Option<Part<'t>> {
        table.get(*self.blocks.get(self.asked)?)
    }

    /// The blocks that were asked for, from a number on.
    pub(super) fn asked_from(&self, first: usize) -> impl Iterator<Item = usize> + use<'_> {
        self.blocks[first..self.asked].iter().copied()
    }

    /// The next key at which a block of the chain begins or ends, if any.
    pub(super) fn stop<'t>(&self, table: &'t Table) -> Option<&'t [u8]> {
        let index = *self.blocks.get(self.next)?;
        table.first_key(index + usize::from(self.begun))
    }

    /// Go on to a key at which a block of either chain begins or ends; tell whether the current block ends there.
    pub(super) fn pass(&mut self, table: &Table, stop: Option<&[u8]>) -> bool {
        let ends = self.begun && self.stop(table) == stop;
        if ends {
            self.begun = false;
            self.next += 1;
        }
        self.begun = self.begun || (stop.is_some() && self.stop(table) == stop);
        ends
    }

    /// Validate the next block.
    pub(super) fn load<'p>(&self, table: &Table, bytes: &'p [u8], cover: &Cover) -> Result<Loaded<'p>> {
        let index = self.blocks[self.next];
        let Some(part) = table.get(index) else {
            return Err(Error::damaged(0, Reason::OtherPart));
        };
        let layout = read_described(&part, table.first_key(index + 1), bytes);
        let layout = layout.map_err(|error| error.shifted(part.place.offset))?;
        let missing = missing_rows(View::new(bytes, &layout), cover)?;
        Ok(Loaded {
            bytes: Cow::Borrowed(bytes),
            layout,
            missing,
            compared: 0,
        })
    }
}

/// Validate a block that has to be the one described, its keys below `end`. The sums are not checked.
pub(super) fn read_described(part: &Part<'_>, end: Option<&[u8]>, bytes: &[u8]) -> Result<Layout> {
    let mut layout = Layout::default();
    read_block(bytes, &mut layout)?;
    let view = View::new(bytes, &layout);
    let same = checksum_of(bytes) == part.checksum
        && view.len() as u64 == part.count
        && view.maxima().eq(part.maxima.iter().copied())
        && view.keys.get(0) == part.first_key;
    if same && end.is_none_or(|end| view.keys.get(view.len() - 1) < end) {
        Ok(layout)
    } else {
        Err(Error::damaged(0, Reason::OtherPart))
    }
}

/// A block, and how much of it was compared.
#[derive(Debug)]
pub(super) struct Loaded<'p> {
    bytes: Cow<'p, [u8]>,
    layout: Layout,
    missing: Positions,
    pub(super) compared: usize,
}

impl Loaded<'_> {
    /// The rest of the block, which ends at a key.
    pub(super) fn head<'v>(&'v self, end: Option<&'v [u8]>) -> Head<'v> {
        let view = View::new(&self.bytes, &self.layout);
        Head::new(view, &self.missing, self.compared, end)
    }

    pub(super) fn into_owned(self) -> Loaded<'static> {
        Loaded {
            bytes: Cow::Owned(self.bytes.into_owned()),
            ..self
        }
    }
}
