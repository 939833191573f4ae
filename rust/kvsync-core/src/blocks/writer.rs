//! Changes written as blocks, with the directory that describes them.

use std::collections::BTreeSet;

use crate::build::Builder;
use crate::column::position;
use crate::error::{Error, Result};
use crate::reason::ArgumentFault;
use crate::row::Row;

use super::binary::checksum_of;
use super::block::append_block;
use super::cut::{Cutter, Target};
use super::directory::{BLOCKS_MAX, Directory};
use super::page::append_page;
use super::sums::Summing;
use super::table::{Part, Place, Table};

/// Writes changes in strictly ascending key order as blocks, one after another.
///
/// ```
/// use kvsync_core::blocks::{BlockWriter, Target};
/// use kvsync_core::{KeyList, NewValues, Provenance, Segment};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
/// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
/// let mut writer = BlockWriter::new(Target::default(), "pack");
/// for row in &log.view() {
///     writer.push(&row)?;
/// }
/// let (directory, bytes) = writer.finish()?;
/// assert_eq!((directory.table().count(), directory.packs()), (2, &["pack".to_owned()][..]));
/// assert_eq!(bytes.len() as u64, directory.table().iter().map(|part| u64::from(part.place.length)).sum());
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockWriter {
    target: Target,
    cutter: Cutter,
    builder: Builder,
    summing: Summing,
    table: Table,
    /// The packs that parts may lie in, and the one that is being written.
    packs: Vec<String>,
    pack: u32,
    /// Where `out` begins in it.
    offset: u64,
    out: Vec<u8>,
    pack_bytes_max: u64,
    /// Whether the last block was passed on; what follows it begins another one.
    passed: bool,
}

impl BlockWriter {
    /// Begin with a pack of that name.
    #[must_use]
    pub fn new(target: Target, pack: &str) -> Self {
        Self {
            target,
            cutter: Cutter::new(target),
            builder: Builder::default(),
            summing: Summing::default(),
            table: Table::default(),
            packs: vec![pack.to_owned()],
            pack: 0,
            offset: 0,
            out: Vec::new(),
            pack_bytes_max: u64::MAX,
            passed: false,
        }
    }

    /// Call the pack full once it has so many bytes.
    pub(super) const fn limit_packs(&mut self, bytes: u64) {
        self.pack_bytes_max = bytes;
    }

    /// How many bytes make a pack full.
    pub(super) const fn pack_bytes_max(&self) -> u64 {
        self.pack_bytes_max
    }

    /// Whether it is time to begin another pack.
    pub(super) const fn is_full(&self) -> bool {
        self.pack_bytes() >= self.pack_bytes_max
    }

    /// How many bytes the blocks have together, the last one left out that is not complete.
    pub(super) fn block_bytes(&self) -> u64 {
        self.table.iter().map(|part| u64::from(part.place.length)).sum()
    }

    /// Append a change whose key is greater than all before.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where a block passes 64 MiB.
    pub fn push(&mut self, row: &Row<'_>) -> Result<()> {
        let cuts = self.cutter.cuts_before(row.key);
        if cuts {
            self.end_block()?;
        }
        self.passed = false;
        self.summing.add(row);
        self.builder.push(row);
        Ok(())
    }

    /// Tell whether a block that begins with this key can be passed on as it is.
    pub(super) fn can_pass(&self, first_key: &[u8]) -> bool {
        self.passed || self.is_empty() || self.cutter.would_cut_before(first_key)
    }

    fn is_empty(&self) -> bool {
        self.table.is_empty() && self.builder.is_empty()
    }

    /// Append a block of another pack; the next key, if any, is the first of the block that followed it there.
    pub(super) fn pass(&mut self, block: &Part<'_>, pack: u32) -> Result<()> {
        self.end_block()?;
        let place = Place { pack, ..block.place };
        self.table.push(&Part { place, ..*block });
        self.cutter = Cutter::new(self.target);
        self.passed = true;
        Ok(())
    }

    /// The number of a pack in which passed blocks lie.
    pub(super) fn add_pack(&mut self, name: &str) -> u32 {
        let known = self.packs.iter().position(|pack| pack == name);
        let place = known.unwrap_or_else(|| {
            self.packs.push(name.to_owned());
            self.packs.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Complete the block that is being written.
    pub(super) fn end_block(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let segment = self.builder.finish()?;
        let start = self.out.len();
        append_block(&segment, &mut self.out)?;
        let view = segment.view();
        let maxima: Vec<_> = view.maxima().collect();
        let sums = std::mem::take(&mut self.summing.sums);
        let (place, checksum) = self.written_from(start);
        self.table.push(&Part {
            first_key: view.keys.get(0),
            count: view.len() as u64,
            place,
            checksum,
            sums,
            maxima: &maxima,
        });
        self.builder.clear();
        Ok(())
    }

    /// Place and checksum of the part that was written last, from a place of `out` on.
    fn written_from(&self, start: usize) -> (Place, u64) {
        let place = Place {
            pack: self.pack,
            offset: self.offset + start as u64,
            length: u32::try_from(self.out.len() - start).unwrap_or(u32::MAX),
        };
        (place, checksum_of(&self.out[start..]))
    }

    /// How many bytes the pack that is being written has so far.
    #[must_use]
    pub const fn pack_bytes(&self) -> u64 {
        self.offset + self.out.len() as u64
    }

    /// Take the bytes of the pack that were written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.offset += self.out.len() as u64;
        std::mem::take(&mut self.out)
    }

    /// Begin another pack, once all of the one before was taken.
    ///
    /// # Errors
    /// Bytes were not taken, or there was a pack of that name.
    pub fn begin_pack(&mut self, name: &str) -> Result<()> {
        if !self.out.is_empty() || self.packs.iter().any(|pack| pack == name) {
            return Err(Error::BadArgument(ArgumentFault::PackNotFresh));
        }
        self.pack = self.add_pack(name);
        self.offset = 0;
        Ok(())
    }

    /// Write what is left, pages included, and return the directory with the last bytes of the pack.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<(Directory, Vec<u8>)> {
        self.end_block()?;
        let paged = self.table.len() > BLOCKS_MAX;
        self.number_packs(paged);
        if paged {
            self.write_pages()?;
        }
        let directory = Directory {
            target: self.target,
            paged,
            packs: self.packs,
            table: self.table,
        };
        Ok((directory, self.out))
    }

    /// Leave out packs that nothing lies in, and number the others by their names.
    fn number_packs(&mut self, paged: bool) {
        let mut used: BTreeSet<u32> = self.table.iter().map(|part| part.place.pack).collect();
        if paged {
            used.insert(self.pack);
        }
        let name = |pack: u32| self.packs[position(pack.into())].clone();
        let mut names: Vec<String> = used.iter().map(|pack| name(*pack)).collect();
        names.sort_unstable();
        let number = |pack: u32| {
            let place = names.binary_search(&name(pack)).unwrap_or(0);
            u32::try_from(place).unwrap_or(u32::MAX)
        };
        self.table.map_packs(number);
        self.pack = number(self.pack);
        self.packs = names;
    }

    /// Replace the table of blocks by one of pages.
    fn write_pages(&mut self) -> Result<()> {
        let blocks = std::mem::take(&mut self.table);
        let mut cutter = Cutter::of_pages();
        let mut page = Table::default();
        for block in blocks.iter() {
            if cutter.cuts_page_before(block.first_key) {
                self.end_page(&std::mem::take(&mut page))?;
            }
            page.push(&block);
        }
        self.end_page(&page)
    }

    fn end_page(&mut self, page: &Table) -> Result<()> {
        let start = self.out.len();
        append_page(page, &mut self.out)?;
        let (place, checksum) = self.written_from(start);
        self.table.push(&Part {
            first_key: page.first_key(0).unwrap_or_default(),
            count: page.count(),
            place,
            checksum,
            sums: page.sums(),
            maxima: &page.maxima(),
        });
        Ok(())
    }
}
