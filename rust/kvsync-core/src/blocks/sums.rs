//! Sums over changes: equal sums say that two sets of changes are equal.

use twox_hash::XxHash3_128;

use crate::row::{Row, TOMBSTONE};

/// Sums, modulo 2^128, over the hashes of some changes. They detect accidents, not forgery.
///
/// ```
/// use kvsync_core::blocks::Sums;
/// use kvsync_core::{NO_DIGEST, Row, TOMBSTONE};
///
/// let row = Row { key: b"a", origin: 7, stamp: 1, flags: TOMBSTONE, size: 0, expires: 0, digest: &NO_DIGEST };
/// let (one, other) = (Sums::of([row]), Sums::of([Row { stamp: 2, ..row }]));
/// assert!(one.changes != other.changes && one.content == other.content);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Over the whole of each change.
    pub changes: u128,
    /// Over what each change leaves: its key with a value, an expiry, or a delete.
    pub content: u128,
}

impl Sums {
    /// The sums over some changes.
    pub fn of<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Self {
        let mut summing = Summing::default();
        for row in rows {
            summing.add(&row);
        }
        summing.sums
    }

    /// The sums over both sets of changes.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            changes: self.changes.wrapping_add(other.changes),
            content: self.content.wrapping_add(other.content),
        }
    }
}

/// Adds up changes one after another.
#[derive(Debug, Default)]
pub(super) struct Summing {
    pub(super) sums: Sums,
    buffer: Vec<u8>,
}

impl Summing {
    pub(super) fn add(&mut self, row: &Row<'_>) {
        let content = self.content(row);
        let mut change = [0; 41];
        change[..16].copy_from_slice(&content.to_le_bytes());
        change[16..24].copy_from_slice(&row.origin.to_le_bytes());
        change[24..32].copy_from_slice(&row.stamp.to_le_bytes());
        change[32..40].copy_from_slice(&row.size.to_le_bytes());
        change[40] = row.flags;
        let changes = XxHash3_128::oneshot(&change);
        self.sums = self.sums.plus(Sums { changes, content });
    }

    fn content(&mut self, row: &Row<'_>) -> u128 {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(&(row.key.len() as u64).to_le_bytes());
        buffer.extend_from_slice(row.key);
        buffer.push(row.flags & TOMBSTONE);
        buffer.extend_from_slice(&row.expires.to_le_bytes());
        buffer.extend_from_slice(row.digest);
        XxHash3_128::oneshot(buffer)
    }
}
