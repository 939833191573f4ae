//! The directory of a segment in blocks: one object that describes its blocks, or the pages that describe them.

use crate::envelope::{self, HEADER_BYTES, Kind};
use crate::error::{Error, Result};
use crate::pack::{Reader, Writer};
use crate::reason::Reason;

use super::cut::Target;
use super::page::{append_page, decode_page};
use super::table::Table;

/// The most parts that a directory of depth 1 has; where there are more blocks, it describes pages.
pub(super) const BLOCKS_MAX: usize = 1024;
/// The most packs.
const PACKS_MAX: usize = 65_536;
/// The most bytes of a pack's name.
const NAME_BYTES_MAX: usize = 255;

/// What one segment in blocks consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub(super) target: Target,
    pub(super) paged: bool,
    pub(super) packs: Vec<String>,
    pub(super) table: Table,
}

impl Directory {
    /// The directory of no changes.
    ///
    /// ```
    /// use kvsync_core::blocks::{Directory, Target};
    ///
    /// let empty = Directory::empty(Target::default());
    /// let object = empty.encode("segment/0000000000000001-0", false)?;
    /// assert_eq!(Directory::decode(&object, "segment/0000000000000001-0")?, empty);
    /// # Ok::<(), kvsync_core::Error>(())
    /// ```
    #[must_use]
    pub fn empty(target: Target) -> Self {
        Self {
            target,
            paged: false,
            packs: Vec::new(),
            table: Table::default(),
        }
    }

    /// Open and validate the object of a name.
    ///
    /// # Errors
    /// As [`envelope::open`], and [`Error::Damaged`] where the body is not a directory of that name.
    pub fn decode(data: &[u8], name: &str) -> Result<Self> {
        Self::parse(&envelope::open(Kind::Directory, data)?, name)
    }

    /// Validate a body.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the body is not a directory of that name.
    pub fn parse(body: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER_BYTES);
        reader.map(5)?;
        reader.key("name")?;
        let at = reader.offset();
        if body[reader.str()?] != *name.as_bytes() {
            return Err(Error::damaged(at, Reason::OtherName));
        }
        let target = read_target(&mut reader)?;
        let paged = read_depth(&mut reader)?;
        let packs = read_packs(&mut reader, body)?;
        reader.key("table")?;
        let range = reader.bin()?;
        reader.end()?;
        let start = range.start + HEADER_BYTES;
        let table = decode_page(&body[range]).map_err(|error| error.shifted(start as u64))?;
        let directory = Self {
            target,
            paged,
            packs,
            table,
        };
        directory.check_table(&directory.table, paged, start)?;
        Ok(directory)
    }

    /// Check what a table says of parts, given whether they are pages and where its bytes begin.
    pub(super) fn check_table(&self, table: &Table, paged: bool, start: usize) -> Result<()> {
        let wrong = |part: &super::table::Part<'_>| {
            let pack = usize::try_from(part.place.pack).unwrap_or(usize::MAX);
            pack >= self.packs.len() || (!paged && part.count > self.target.count_max())
        };
        let many = !paged && table.len() > BLOCKS_MAX;
        if many || table.iter().any(|part| wrong(&part)) {
            return Err(Error::damaged(start, Reason::PartOutOfRange));
        }
        Ok(())
    }

    /// Encode the whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there are more packs than the format holds, or a name of one is too long.
    pub fn encode(&self, name: &str, compress: bool) -> Result<Vec<u8>> {
        let longest = self.packs.iter().map(String::len).max().unwrap_or(0);
        for (length, most) in [(self.packs.len(), PACKS_MAX), (longest, NAME_BYTES_MAX)] {
            if length > most {
                return Err(Error::TooLarge { length });
            }
        }
        let mut object = vec![0; HEADER_BYTES];
        let mut out = Writer(&mut object);
        out.map(5);
        out.str("name")?;
        out.str(name)?;
        out.str("target")?;
        out.uint(self.target.bytes().into());
        out.str("depth")?;
        out.uint(if self.paged { 2 } else { 1 });
        out.str("packs")?;
        out.array(self.packs.len())?;
        for pack in &self.packs {
            out.str(pack)?;
        }
        out.str("table")?;
        let mut table = Vec::new();
        append_page(&self.table, &mut table)?;
        out.bin(&table)?;
        Ok(envelope::finish(Kind::Directory, object, compress))
    }

    /// About how many bytes a block has.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Whether the table describes pages, not blocks.
    #[must_use]
    pub const fn is_paged(&self) -> bool {
        self.paged
    }

    /// The names of the objects in which blocks and pages lie, ascending.
    #[must_use]
    pub fn packs(&self) -> &[String] {
        &self.packs
    }

    /// The blocks or pages.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }
}

fn read_target(reader: &mut Reader<'_>) -> Result<Target> {
    reader.key("target")?;
    let at = reader.offset();
    let target = u32::try_from(reader.uint()?).ok();
    let target = target.and_then(|bytes| Target::new(bytes).ok());
    target.ok_or(Error::damaged(at, Reason::TargetOutOfRange))
}

fn read_depth(reader: &mut Reader<'_>) -> Result<bool> {
    reader.key("depth")?;
    let at = reader.offset();
    match reader.uint()? {
        1 => Ok(false),
        2 => Ok(true),
        _ => Err(Error::damaged(at, Reason::DepthOutOfRange)),
    }
}

fn read_packs(reader: &mut Reader<'_>, body: &[u8]) -> Result<Vec<String>> {
    reader.key("packs")?;
    let at = reader.offset();
    let count = reader.array()?;
    let mut packs: Vec<String> = Vec::new();
    for _ in 0..count {
        let range = reader.str()?;
        let name = str::from_utf8(&body[range]).ok();
        let name = name.filter(|name| name.len() <= NAME_BYTES_MAX && packs.last().is_none_or(|last| &**last < *name));
        packs.push(name.ok_or(Error::damaged(at, Reason::BadPacks))?.to_owned());
    }
    if packs.len() > PACKS_MAX {
        return Err(Error::damaged(at, Reason::BadPacks));
    }
    Ok(packs)
}
