//! Everything that a directory says of a block, checked.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::reason::Reason;
use crate::view::View;

use super::chain::read_described;
use super::cut::{Cutter, Target};
use super::sums::Sums;
use super::table::Part;

/// Check a block as readers do, and also its sums, and that it begins and ends where its keys say.
///
/// `next_key` is the first key of the next block, if there is one.
///
/// ```
/// use kvsync_core::blocks::{BlockWriter, Target, check_block};
/// use kvsync_core::{NO_DIGEST, Row, TOMBSTONE};
///
/// let mut writer = BlockWriter::new(Target::default(), "pack");
/// writer.push(&Row { key: b"a", origin: 7, stamp: 1, flags: TOMBSTONE, size: 0, expires: 0, digest: &NO_DIGEST })?;
/// let (directory, pack) = writer.finish()?;
/// let mut part = directory.table().get(0).unwrap();
/// assert!(check_block(&part, None, &pack, directory.target()).is_ok());
/// part.sums.content += 1;
/// assert!(check_block(&part, None, &pack, directory.target()).is_err());
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Damaged`] with an offset in the pack.
pub fn check_block(part: &Part<'_>, next_key: Option<&[u8]>, bytes: &[u8], target: Target) -> Result<()> {
    let checked = read_checked(part, next_key, bytes, target);
    checked.map(drop).map_err(|error| error.shifted(part.place.offset))
}

/// Validate a block as [`check_block`] does; offsets count from its first byte.
pub(super) fn read_checked(part: &Part<'_>, next_key: Option<&[u8]>, bytes: &[u8], target: Target) -> Result<Layout> {
    let layout = read_described(part, next_key, bytes)?;
    let view = View::new(bytes, &layout);
    if Sums::of(view.iter()) != part.sums {
        return Err(Error::damaged(0, Reason::OtherSums));
    }
    let mut cutter = Cutter::new(target);
    let cut_within = view.iter().any(|row| cutter.cuts_before(row.key));
    if cut_within || next_key.is_some_and(|key| !cutter.cuts_before(key)) {
        return Err(Error::damaged(0, Reason::WrongCut));
    }
    Ok(layout)
}
