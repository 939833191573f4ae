//! Digests: BLAKE3 of values, and one sum over the newest change of every key.

use twox_hash::XxHash3_128;

use crate::lanes;
use crate::row::{DIGEST, NO_DIGEST, Row};
use crate::workers::{self, Workers};

/// BLAKE3 of a value.
#[must_use]
pub fn of_value(value: &[u8]) -> [u8; DIGEST] {
    *blake3::hash(value).as_bytes()
}

/// To digest a byte takes as long as to go through so many of an index.
const COST: usize = 4;

/// Each thread takes so many parts, so that none of them waits long for the last one.
const PARTS: usize = 4;

/// BLAKE3 of each of many values, [`NO_DIGEST`] in the place of none.
#[must_use]
pub fn of_values(values: &[Option<&[u8]>], workers: Workers) -> Vec<[u8; DIGEST]> {
    let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
    let threads = workers.for_bytes(bytes.saturating_mul(COST));
    let parts = if threads == 1 { 1 } else { threads * PARTS };
    let parts: Vec<_> = values.chunks(values.len().div_ceil(parts).max(1)).collect();
    workers::run(threads, parts.len(), |part| {
        let mut digests = vec![NO_DIGEST; parts[part].len()];
        lanes::digest(parts[part], &mut digests);
        digests
    })
    .concat()
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
            assert_eq!(of_values(&values, Workers::with_share(threads, 100)), expected);
        };
        for count in [0, 1, 2, 9, 1000] {
            (1..5).for_each(|threads| found(count, threads));
        }
    }
}
