//! A directory as far as its pages were read.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::reason::Reason;

use super::binary::checksum_of;
use super::directory::Directory;
use super::page::decode_page;
use super::table::Table;

/// The blocks of a directory, and the pages that were not read.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) table: Table,
    /// Whether each part is a page.
    pub(super) is_page: Vec<bool>,
}

impl Outline {
    pub(super) fn new(directory: &Directory) -> Self {
        Self {
            is_page: vec![directory.paged; directory.table.len()],
            table: directory.table.clone(),
        }
    }

    /// Put the blocks of some pages, given as they were read, into the place of these pages.
    pub(super) fn expand(&mut self, directory: &Directory, pages: &BTreeMap<usize, &[u8]>) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let old = std::mem::take(self);
        for (index, part) in old.table.iter().enumerate() {
            let Some(bytes) = pages.get(&index) else {
                self.push(&part, old.is_page[index]);
                continue;
            };
            let start = part.place.offset;
            let page = old
                .read_page(directory, index, bytes)
                .map_err(|error| error.shifted(start))?;
            for block in page.iter() {
                self.push(&block, false);
            }
        }
        Ok(())
    }

    fn push(&mut self, part: &super::table::Part<'_>, is_page: bool) {
        self.table.push(part);
        self.is_page.push(is_page);
    }

    /// Validate a page, which has to be the part at a position.
    pub(super) fn read_page(&self, directory: &Directory, index: usize, bytes: &[u8]) -> Result<Table> {
        let page = decode_page(bytes)?;
        directory.check_table(&page, false, 0)?;
        let last = page.len().checked_sub(1).and_then(|last| page.first_key(last));
        let within = self.table.first_key(index + 1).is_none_or(|next| last < Some(next));
        let described = self.table.get(index).is_some_and(|part| {
            let facts = (checksum_of(bytes), page.first_key(0), page.count(), page.sums());
            facts == (part.checksum, Some(part.first_key), part.count, part.sums) && page.maxima() == part.maxima
        });
        if described && within {
            Ok(page)
        } else {
            Err(Error::damaged(8, Reason::OtherPart))
        }
    }
}
