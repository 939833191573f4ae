//! One block: consecutive changes as columns behind a binary head.

use std::ops::Range;

use crate::check::Check;
use crate::column::Column;
use crate::envelope::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::reason::Reason;
use crate::row::DIGEST_BYTES;
use crate::segment::Segment;

use super::binary::{self, HEAD_BYTES, PartReader};

/// Places of the widths in the head.
const STAMP: usize = 0;
const ORIGIN: usize = 1;
const SIZE: usize = 2;
const EXPIRES: usize = 3;
const KEY_SIZE: usize = 4;
const ZEROS: Range<usize> = 21..24;

// The checks of columns count offsets from the end of an envelope, which is as long as the head of a block.
const _: () = assert!(HEAD_BYTES == HEADER_BYTES);

/// Validate one block.
///
/// ```
/// use kvsync_core::blocks::{decode_block, encode_block};
/// use kvsync_core::{NO_DIGEST, Row, Segment, TOMBSTONE};
///
/// let row = Row { key: b"a", origin: 7, stamp: 1, flags: TOMBSTONE, size: 0, expires: 0, digest: &NO_DIGEST };
/// let block = encode_block(&Segment::from_rows(vec![row])?)?;
/// assert!(decode_block(&block)?.view().iter().eq([row]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Damaged`] where the bytes are not one block.
pub fn decode_block<B: AsRef<[u8]>>(block: B) -> Result<Segment<B>> {
    let mut layout = Layout::default();
    read_block(block.as_ref(), &mut layout)?;
    Ok(Segment::assemble(block, layout))
}

/// Validate one block, and read its facts and the ranges of its columns.
pub(super) fn read_block(bytes: &[u8], layout: &mut Layout) -> Result<()> {
    let mut reader = PartReader::new(bytes)?;
    read_facts(&mut reader, layout)?;
    read_columns(&mut reader, layout)?;
    let check = Check {
        body: &bytes[HEAD_BYTES..],
    };
    layout.shift_back(HEAD_BYTES);
    check.origins(layout)?;
    check.stamps(layout)?;
    layout.totals = check.totals(layout)?;
    layout.key_marks = check.key_sizes(layout)?;
    check.keys(layout).check(HEADER_BYTES + layout.key.start)?;
    layout.shift(HEAD_BYTES);
    Ok(())
}

fn read_facts(reader: &mut PartReader<'_>, layout: &mut Layout) -> Result<()> {
    let [count, origins] = reader.counts();
    if count == 0 {
        return Err(Error::damaged(8, Reason::OriginsContradictCount));
    }
    if reader.bytes[ZEROS] != [0; 3] {
        return Err(Error::damaged(ZEROS.start, Reason::HeadNotZero));
    }
    layout.count = count;
    layout.stamp_base = reader.word()?;
    for numbers in [&mut layout.origins, &mut layout.maxima] {
        numbers.clear();
        let words = reader.chunks(origins)?.iter();
        numbers.extend(words.map(|word| u64::from_le_bytes(*word)));
    }
    Ok(())
}

fn read_columns(reader: &mut PartReader<'_>, layout: &mut Layout) -> Result<()> {
    let count = layout.count;
    layout.stamp = reader.numbers(count, STAMP, false)?;
    layout.origin = reader.numbers(count, ORIGIN, false)?;
    layout.flags = reader.column(count, 1)?;
    layout.size = reader.numbers(count, SIZE, false)?;
    layout.expires = reader.numbers(count, EXPIRES, true)?;
    layout.digest = reader.column(count, DIGEST_BYTES)?;
    layout.key_size = reader.numbers(count, KEY_SIZE, false)?;
    layout.key = reader.rest();
    layout.note = reader.bytes.len()..reader.bytes.len();
    Ok(())
}

/// Encode the changes of a segment, of which there is at least one, as one block.
///
/// # Errors
/// [`Error::TooLarge`] where the block would pass 64 MiB; an empty segment is refused likewise.
pub fn encode_block<B: AsRef<[u8]>>(segment: &Segment<B>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append_block(segment, &mut out)?;
    Ok(out)
}

/// Append a block.
pub(super) fn append_block<B: AsRef<[u8]>>(segment: &Segment<B>, out: &mut Vec<u8>) -> Result<()> {
    let view = segment.view();
    let layout = view.layout;
    if view.is_empty() {
        return Err(Error::TooLarge { length: 0 });
    }
    let width = |numbers: Column<'_>| if numbers.is_empty() { 0 } else { numbers.width() };
    let [stamp, origin, size] = [view.stamp, view.origin, view.size].map(width);
    let [expires, key_size] = [view.expires, view.keys.sizes].map(width);
    let start = out.len();
    let counts = [layout.count, layout.origins.len()];
    binary::append_head(out, counts, [stamp, origin, size, expires, key_size, 0, 0, 0])?;
    out.extend_from_slice(&layout.stamp_base.to_le_bytes());
    for numbers in [&layout.origins, &layout.maxima] {
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    let columns = layout.columns();
    for (_, range) in &columns[..columns.len() - 1] {
        out.extend_from_slice(&segment.bytes()[(*range).clone()]);
    }
    binary::seal(&mut out[start..])
}
