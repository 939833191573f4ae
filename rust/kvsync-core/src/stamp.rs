//! Stamps of the hybrid logical clock: 48 bits of milliseconds, 16 of counter.

use crate::error::{Error, Result};

pub(crate) const COUNTER_BITS: u32 = 16;

/// The least stamp at `now_ms` that is greater than `seen`, the greatest stamp seen so far.
///
/// ```
/// use kvsync_core::stamp_after;
///
/// assert_eq!(stamp_after(5, 0), Ok(5 << 16));
/// assert_eq!(stamp_after(5, 9 << 16), Ok((9 << 16) + 1));
/// ```
///
/// # Errors
/// [`Error::ClockOverflow`] past 64 bits.
pub fn stamp_after(now_ms: u64, seen: u64) -> Result<u64> {
    let next = seen.checked_add(1).ok_or(Error::ClockOverflow)?;
    if now_ms >> (u64::BITS - COUNTER_BITS) != 0 {
        return Err(Error::ClockOverflow);
    }
    Ok(next.max(now_ms << COUNTER_BITS))
}
