//! One change of one key, borrowed from wherever it is kept.

use std::cmp::Ordering;

/// Flag: the key was deleted.
pub const TOMBSTONE: u8 = 1;
/// Flag: a conflict policy made the change.
pub const DECISION: u8 = 2;
/// Bytes of a value's digest.
pub const DIGEST: usize = 32;
/// The digest of a tombstone.
pub const NO_DIGEST: [u8; DIGEST] = [0; DIGEST];

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key, valid UTF-8.
    pub key: &'a [u8],
    /// The replica that made the change.
    pub origin: u64,
    /// When, by that replica's hybrid logical clock.
    pub stamp: u64,
    /// [`TOMBSTONE`], [`DECISION`].
    pub flags: u8,
    /// Length of the value in bytes.
    pub size: u64,
    /// Wall-clock milliseconds since 1970 at which the value goes by itself, 0 for never.
    pub expires: u64,
    /// BLAKE3 of the value.
    pub digest: &'a [u8; DIGEST],
}

impl Row<'_> {
    /// Whether this is a tombstone.
    #[must_use]
    pub const fn deletes(&self) -> bool {
        self.flags & TOMBSTONE != 0
    }

    /// Whether both changes leave the same behind, for however long.
    #[must_use]
    pub fn same_effect(&self, other: &Self) -> bool {
        self.deletes() == other.deletes() && self.digest == other.digest
    }

    /// The total order of changes to one key: stamp, origin, put before delete, digest.
    ///
    /// Flags, size and expiry come last, so that two replicas agree even on changes that a faulty one made.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        let rank = |row: &Self| (row.stamp, row.origin, row.deletes());
        let rest = |row: &Self| (row.flags, row.size, row.expires);
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.digest.cmp(other.digest))
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}
