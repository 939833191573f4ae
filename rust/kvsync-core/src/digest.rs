//! Digests: BLAKE3 of values, and one sum over the newest changes of all keys.

use twox_hash::XxHash3_128;

use crate::blake3_simd;
use crate::row::{DIGEST_BYTES, NO_DIGEST, Row};
use crate::workers::{self, Workers};

/// BLAKE3 of a value.
///
/// ```
/// use kvsync_core::digest;
///
/// assert_eq!(digest::of_value(b"value")[..4], [0x06, 0x44, 0x4a, 0x49]);
/// ```
#[must_use]
pub fn of_value(value: &[u8]) -> [u8; DIGEST_BYTES] {
    *blake3::hash(value).as_bytes()
}

/// Computing the digest of a byte takes as long as reading this many bytes of an index.
const COST: usize = 4;

/// How many parts there are for each thread, so that no thread waits long for the last one.
const PARTS_PER_THREAD: usize = 4;

/// BLAKE3 of each of many values; [`NO_DIGEST`] for each `None`.
///
/// ```
/// use kvsync_core::{NO_DIGEST, Workers, digest};
///
/// let digests = digest::of_values(&[Some(b"value"), None], Workers::new(2));
/// assert_eq!(digests, [digest::of_value(b"value"), NO_DIGEST]);
/// ```
#[must_use]
pub fn of_values(values: &[Option<&[u8]>], workers: Workers) -> Vec<[u8; DIGEST_BYTES]> {
    let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
    let threads = workers.threads_for(bytes.saturating_mul(COST));
    let parts = if threads == 1 { 1 } else { threads * PARTS_PER_THREAD };
    let parts: Vec<_> = values.chunks(values.len().div_ceil(parts).max(1)).collect();
    workers::run(threads, parts.len(), |part| {
        let mut digests = vec![NO_DIGEST; parts[part].len()];
        blake3_simd::digest(parts[part], &mut digests);
        digests
    })
    .concat()
}

/// BLAKE3 of a value that comes in parts.
///
/// ```
/// use kvsync_core::digest::{self, Hasher};
///
/// let mut hasher = Hasher::default();
/// hasher.update(b"val");
/// hasher.update(b"ue");
/// assert_eq!(hasher.digest(), digest::of_value(b"value"));
/// ```
#[derive(Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Add the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts so far.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        *self.0.finalize().as_bytes()
    }
}

/// The digest of the values that some newest changes leave, little-endian. It detects accidents, not forgery.
///
/// Neither deletes nor values that expire are in it: a log may forget them, at a time of its own.
///
/// ```
/// use kvsync_core::digest;
///
/// assert_eq!(digest::of_newest(std::iter::empty()), [0; 16]);
/// ```
#[must_use]
pub fn of_newest<'a>(newest: impl Iterator<Item = Row<'a>>) -> [u8; 16] {
    let mut sum = NewestSum::of([0; 16]);
    newest.for_each(|row| sum.add(&row));
    sum.digest()
}

/// The sum that a digest of newest changes is, while changes come and go.
pub(crate) struct NewestSum {
    sum: u128,
    buffer: Vec<u8>,
}

impl NewestSum {
    /// Go on with a digest.
    pub(crate) const fn of(digest: [u8; 16]) -> Self {
        Self {
            sum: u128::from_le_bytes(digest),
            buffer: Vec::new(),
        }
    }

    /// Take in a change that is the newest of its key.
    pub(crate) fn add(&mut self, row: &Row<'_>) {
        self.sum = self.sum.wrapping_add(self.term(row));
    }

    /// Take out a change that was the newest of its key.
    pub(crate) fn remove(&mut self, row: &Row<'_>) {
        self.sum = self.sum.wrapping_sub(self.term(row));
    }

    /// The digest of what is in the sum.
    pub(crate) const fn digest(&self) -> [u8; 16] {
        self.sum.to_le_bytes()
    }

    fn term(&mut self, row: &Row<'_>) -> u128 {
        if row.deletes() || row.expires != 0 {
            return 0;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&(row.key.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(row.key);
        self.buffer.extend_from_slice(&row.stamp.to_le_bytes());
        self.buffer.extend_from_slice(row.digest);
        XxHash3_128::oneshot(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let bytes: Vec<u8> = (0..4000_u32).flat_map(u32::to_be_bytes).collect();
        let found = |count: usize, threads: usize| {
            let values: Vec<_> = (0..count)
                .map(|i| (i % 7 != 3).then(|| &bytes[i..][..(i * 37) % 1500]))
                .collect();
            let expected = values.iter().map(|value| value.map_or(NO_DIGEST, of_value));
            let expected: Vec<_> = expected.collect();
            assert_eq!(of_values(&values, Workers::new(threads).with_share(100)), expected);
        };
        for count in [0, 1, 2, 9, 1000] {
            (1..5).for_each(|threads| found(count, threads));
        }
    }
}
