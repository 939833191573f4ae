//! One change of one key, borrowed from the bytes that hold it.

use std::cmp::Ordering;

/// Flag: the key was deleted.
pub const TOMBSTONE: u8 = 1;
/// Flag: a conflict policy made the change.
pub const DECISION: u8 = 2;
/// Flag: the time in the stamp is not exactly when the change was made.
pub const INEXACT: u8 = 4;
/// Every flag that a change may have.
pub(crate) const FLAGS: u8 = TOMBSTONE | DECISION | INEXACT;
/// Bytes of a value's digest.
pub const DIGEST_BYTES: usize = 32;
/// The digest of a tombstone.
pub const NO_DIGEST: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];

/// One change.
///
/// ```
/// use kvsync_core::{NO_DIGEST, Row, TOMBSTONE};
///
/// let delete = Row { key: b"a", origin: 7, stamp: 2, flags: TOMBSTONE, size: 0, expires: 0, digest: &NO_DIGEST };
/// let put = Row { stamp: 1, flags: 0, size: 5, digest: &[1; 32], ..delete };
/// assert!(delete.deletes() && delete.order(&put).is_gt());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key, valid UTF-8.
    pub key: &'a [u8],
    /// The replica that made the change.
    pub origin: u64,
    /// The time of the change by that replica's hybrid logical clock.
    pub stamp: u64,
    /// Any of [`TOMBSTONE`], [`DECISION`] and [`INEXACT`].
    pub flags: u8,
    /// Length of the value in bytes.
    pub size: u64,
    /// When the value expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// BLAKE3 of the value.
    pub digest: &'a [u8; DIGEST_BYTES],
}

impl Row<'_> {
    /// Whether the change is a delete.
    #[must_use]
    pub const fn deletes(&self) -> bool {
        self.flags & TOMBSTONE != 0
    }

    /// Whether both changes have the same value, or none, whenever it expires.
    #[must_use]
    pub fn same_effect(&self, other: &Self) -> bool {
        self.deletes() == other.deletes() && self.digest == other.digest
    }

    /// The total order of changes to one key: stamp, put before delete, digest, origin.
    ///
    /// Of two changes with one stamp, the content decides: origins are random. Flags, size and expiry come last, so
    /// that replicas agree even on changes that a faulty replica made.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        let rank = |row: &Self| (row.stamp, row.deletes());
        let rest = |row: &Self| (row.origin, row.flags, row.size, row.expires);
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.digest.cmp(other.digest))
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}
