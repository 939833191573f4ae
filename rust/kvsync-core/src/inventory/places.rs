//! Where the columns of an inventory lie, and one entry of them.

use std::ops::Range;

use crate::column::Column;
use crate::envelope::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::pack::Reader;
use crate::reason::Reason;
use crate::row::DIGEST_BYTES;
use crate::strings::{self, Strings};

/// The name of an inventory among the index objects.
pub(super) const NAME: &str = "inventory";

/// Bytes of a manifest's nonce.
pub const NONCE_BYTES: usize = 16;

/// What one scan saw of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key, valid UTF-8.
    pub key: &'a [u8],
    /// The storage's version token; empty where it proves nothing.
    pub token: &'a [u8],
    /// BLAKE3 of the value.
    pub digest: &'a [u8; DIGEST_BYTES],
}

/// An inventory's facts, and the ranges of its columns in the bytes around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) count: usize,
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) digest: Range<usize>,
    pub(super) token_size: Range<usize>,
    pub(super) token: Range<usize>,
    pub(super) key_size: Range<usize>,
    pub(super) key: Range<usize>,
    pub(super) token_marks: Vec<usize>,
    pub(super) key_marks: Vec<usize>,
}

/// The columns of an inventory.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) keys: Strings<'a>,
    pub(super) tokens: Strings<'a>,
    pub(super) digests: &'a [[u8; DIGEST_BYTES]],
}

impl Places {
    /// Read and validate the body that begins at `start` of `bytes`.
    pub(super) fn read_checked(bytes: &[u8], start: usize) -> Result<Self> {
        let body = bytes.get(start..).unwrap_or_default();
        let mut places = Self::read(body)?;
        places.check(body)?;
        for (_, range) in places.columns_mut() {
            *range = range.start + start..range.end + start;
        }
        Ok(places)
    }

    fn read(body: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(body, HEADER_BYTES);
        reader.map(8)?;
        let count = reader.name_and_count(NAME, DIGEST_BYTES)?;
        reader.key("nonce")?;
        let offset = reader.offset();
        let nonce = body[reader.bin()?].try_into();
        let mut places = Self {
            count,
            nonce: nonce.map_err(|_| Error::damaged(offset, Reason::NonceLength))?,
            ..Self::default()
        };
        for (key, range) in places.columns_mut() {
            reader.key(key)?;
            *range = reader.bin()?;
        }
        reader.end()?;
        Ok(places)
    }

    fn check(&mut self, body: &[u8]) -> Result<()> {
        if self.digest.len() != self.count.saturating_mul(DIGEST_BYTES) {
            let offset = HEADER_BYTES + self.digest.start;
            return Err(Error::damaged(offset, Reason::ColumnLength));
        }
        (_, self.token_marks) = self.check_sizes(body, &self.token_size, &self.token)?;
        let (sizes, marks) = self.check_sizes(body, &self.key_size, &self.key)?;
        self.key_marks = marks;
        let keys = Strings {
            sizes,
            bytes: &body[self.key.clone()],
            marks: &self.key_marks,
        };
        keys.check(HEADER_BYTES + self.key.start)
    }

    fn check_sizes<'b>(
        &self,
        body: &'b [u8],
        sizes: &Range<usize>,
        strings: &Range<usize>,
    ) -> Result<(Column<'b>, Vec<usize>)> {
        let offset = HEADER_BYTES + sizes.start;
        let column = Column::new(&body[sizes.clone()], self.count);
        let column = column.ok_or(Error::damaged(offset, Reason::ColumnLength))?;
        let marks = strings::check_sizes(column, &body[strings.clone()], offset)?;
        Ok((column, marks))
    }

    /// The columns in the bytes around the inventory.
    pub(super) fn view<'a>(&'a self, bytes: &'a [u8]) -> Columns<'a> {
        let strings = |sizes: &Range<usize>, range: &Range<usize>, marks| Strings {
            sizes: Column::new(&bytes[sizes.clone()], self.count).unwrap_or(Column::One(&[])),
            bytes: &bytes[range.clone()],
            marks,
        };
        Columns {
            keys: strings(&self.key_size, &self.key, &self.key_marks),
            tokens: strings(&self.token_size, &self.token, &self.token_marks),
            digests: bytes[self.digest.clone()].as_chunks().0,
        }
    }

    /// The columns in the order of the format.
    pub(super) const fn columns(&self) -> [(&'static str, &Range<usize>); 5] {
        [
            ("digest", &self.digest),
            ("token_size", &self.token_size),
            ("token", &self.token),
            ("key_size", &self.key_size),
            ("key", &self.key),
        ]
    }

    const fn columns_mut(&mut self) -> [(&'static str, &mut Range<usize>); 5] {
        [
            ("digest", &mut self.digest),
            ("token_size", &mut self.token_size),
            ("token", &mut self.token),
            ("key_size", &mut self.key_size),
            ("key", &mut self.key),
        ]
    }
}
