//! Digests: BLAKE3 of values, and one sum over the newest change of every key.

use twox_hash::XxHash3_128;

use crate::lanes;
use crate::row::{DIGEST, NO_DIGEST, Row};

/// BLAKE3 of a value.
#[must_use]
pub fn of_value(value: &[u8]) -> [u8; DIGEST] {
    *blake3::hash(value).as_bytes()
}

/// BLAKE3 of each of many values, [`NO_DIGEST`] in the place of none.
#[must_use]
pub fn of_values(values: &[Option<&[u8]>]) -> Vec<[u8; DIGEST]> {
    let mut digests = vec![NO_DIGEST; values.len()];
    lanes::digest(values, &mut digests);
    digests
}

/// BLAKE3 of a value that comes in parts.
#[derive(Default)]
pub struct Parts(blake3::Hasher);

impl Parts {
    /// Take in the next part.
    pub fn push(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts so far.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST] {
        *self.0.finalize().as_bytes()
    }
}

/// The digest of the newest changes, kept little-endian; it detects accidents, not forgery.
#[must_use]
pub fn of_newest<'a>(newest: impl Iterator<Item = Row<'a>>) -> [u8; 16] {
    let mut buffer = Vec::new();
    let mut sum = 0_u128;
    for row in newest {
        buffer.clear();
        buffer.extend_from_slice(&(row.key.len() as u64).to_le_bytes());
        buffer.extend_from_slice(row.key);
        buffer.extend_from_slice(&row.origin.to_le_bytes());
        buffer.extend_from_slice(&row.stamp.to_le_bytes());
        buffer.push(row.flags);
        buffer.extend_from_slice(&row.size.to_le_bytes());
        buffer.extend_from_slice(&row.expires.to_le_bytes());
        buffer.extend_from_slice(row.digest);
        sum = sum.wrapping_add(XxHash3_128::oneshot(&buffer));
    }
    sum.to_le_bytes()
}
