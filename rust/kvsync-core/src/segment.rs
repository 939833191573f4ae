//! An immutable sorted set of changes, at most one for each key, over the bytes that hold it.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::check;
use crate::envelope::{self, HEADER_BYTES, Kind};
use crate::error::Result;
use crate::layout::{Layout, NOTE};
use crate::pack::Writer;
use crate::view::View;

/// A validated segment, over the bytes that hold it.
///
/// ```
/// use kvsync_core::{NO_DIGEST, Row, Segment, TOMBSTONE, decode};
///
/// let row = Row { key: b"a", origin: 7, stamp: 1, flags: TOMBSTONE, size: 0, expires: 0, digest: &NO_DIGEST };
/// let object = Segment::from_rows(vec![row])?.encode("segment/0000000000000001-0", false)?;
/// let segment = decode(object, "segment/0000000000000001-0")?;
/// assert_eq!(segment.view().iter().next(), Some(row));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Segment<B> {
    bytes: B,
    layout: Layout,
    /// The digest of all changes, once somebody asked for it.
    pub(crate) digest: OnceLock<[u8; 16]>,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Validate the body that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the body is not a segment of that name.
    pub fn parse(bytes: B, start: usize, name: &str) -> Result<Self> {
        let layout = check::read_checked(bytes.as_ref(), start, name)?;
        Ok(Self::assemble(bytes, layout))
    }

    pub(crate) const fn assemble(bytes: B, layout: Layout) -> Self {
        Self {
            bytes,
            layout,
            digest: OnceLock::new(),
        }
    }

    /// Convert the bytes that hold the segment to another type; their content must stay the same.
    pub fn map_bytes<C>(self, convert: impl FnOnce(B) -> C) -> Segment<C> {
        Segment {
            bytes: convert(self.bytes),
            layout: self.layout,
            digest: self.digest,
        }
    }

    /// How many bytes the segment takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// The bytes that hold the columns.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The columns.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self.bytes.as_ref(), &self.layout)
    }

    /// Encode the whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn encode(&self, name: &str, compress: bool) -> Result<Vec<u8>> {
        self.encode_with(name, self.note(), compress)
    }

    /// Encode the whole object with another note.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn encode_with(&self, name: &str, note: &[u8], compress: bool) -> Result<Vec<u8>> {
        let encoding = self.encoding(name, note)?;
        let mut object = vec![0; encoding.len()];
        encoding.write(&mut object);
        if compress {
            object = envelope::finish(Kind::Segment, object, true);
        }
        Ok(object)
    }

    /// What its writer noted beside the changes; empty but in an intent.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.bytes.as_ref()[self.layout.note.clone()]
    }

    /// Prepare the uncompressed object, so that it is written once, into memory of the caller's choice.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn encoding<'a>(&'a self, name: &str, note: &'a [u8]) -> Result<Encoding<'a>> {
        let mut pieces = vec![Cow::Owned(self.encode_facts(name)?)];
        for (key, range) in self.layout.columns() {
            let column = if key == NOTE {
                note
            } else {
                &self.bytes.as_ref()[range.clone()]
            };
            let mut head = Vec::new();
            let mut out = Writer(&mut head);
            out.str(key)?;
            out.bin_head(column.len())?;
            pieces.push(Cow::Owned(head));
            pieces.push(Cow::Borrowed(column));
        }
        Ok(Encoding(pieces))
    }

    /// Room for the envelope, and everything before the columns.
    fn encode_facts(&self, name: &str) -> Result<Vec<u8>> {
        let layout = &self.layout;
        let mut object = vec![0; HEADER_BYTES];
        let mut out = Writer(&mut object);
        out.map(14);
        out.str("name")?;
        out.str(name)?;
        out.str("count")?;
        out.uint(layout.count as u64);
        for (key, numbers) in [("origins", &layout.origins), ("max", &layout.maxima)] {
            out.str(key)?;
            out.array(numbers.len())?;
            for number in numbers {
                out.uint(*number);
            }
        }
        out.str("stamp_base")?;
        out.uint(layout.stamp_base);
        Ok(object)
    }
}

/// An object in pieces, ready to be written.
///
/// ```
/// use kvsync_core::Segment;
///
/// let segment = Segment::from_rows(Vec::new())?;
/// let encoding = segment.encoding("segment/0000000000000001-0", b"")?;
/// let mut object = vec![0; encoding.len()];
/// encoding.write(&mut object);
/// assert_eq!(object, segment.encode("segment/0000000000000001-0", false)?);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Encoding<'a>(Vec<Cow<'a, [u8]>>);

impl Encoding<'_> {
    /// How many bytes the object has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an object is never empty")]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// Write the object into exactly [`Self::len`] bytes.
    ///
    /// # Panics
    /// Given fewer bytes.
    pub fn write(&self, object: &mut [u8]) {
        let mut rest = &mut *object;
        for piece in &self.0 {
            let (start, after) = rest.split_at_mut(piece.len());
            start.copy_from_slice(piece);
            rest = after;
        }
        envelope::fill(Kind::Segment, object);
    }
}
