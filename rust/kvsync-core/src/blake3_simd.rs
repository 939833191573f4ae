//! BLAKE3 of many short values at once, one in each lane of the processor's widest vectors.
//!
//! Within a chunk of 1024 bytes every block depends on the block before it, so the `blake3` crate cannot use vectors
//! for a short value, and a batch of short values takes six times as long as it has to. Here, values with the same
//! number of blocks are digested side by side. Longer values go to the crate: their chunks fill its vectors.

use fearless_simd::{Level, Simd, dispatch, prelude::*};

use crate::row::DIGEST_BYTES;

const BLOCK: usize = 64;
const CHUNK: usize = 1024;
const CHUNK_BLOCKS: usize = CHUNK / BLOCK;
const WORDS: usize = BLOCK / size_of::<u32>();

/// The most lanes that a vector of words can have.
const LANES_MAX: usize = 16;

/// Fewer values than this are as fast one by one.
const GROUP_MIN: usize = 4;

const CHUNK_START: u32 = 1 << 0;
const CHUNK_END: u32 = 1 << 1;
const ROOT: u32 = 1 << 3;

const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

const PERMUTATION: [usize; WORDS] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// Which words of the message each round uses, in this order.
const SCHEDULE: [[usize; WORDS]; 7] = schedule();

const fn schedule() -> [[usize; WORDS]; 7] {
    let mut rounds = [[0; WORDS]; 7];
    let mut word = 0;
    while word < WORDS {
        rounds[0][word] = word;
        word += 1;
    }
    let mut round = 1;
    while round < rounds.len() {
        word = 0;
        while word < WORDS {
            rounds[round][word] = rounds[round - 1][PERMUTATION[word]];
            word += 1;
        }
        round += 1;
    }
    rounds
}

/// Write the BLAKE3 of each value to its position in `digests`; a position without a value stays as it is.
pub(crate) fn digest(values: &[Option<&[u8]>], digests: &mut [[u8; DIGEST_BYTES]]) {
    dispatch!(Level::new(), simd => in_groups(simd, values, digests));
}

/// Number of blocks of a value; an empty value has one as well.
fn blocks(value: &[u8]) -> usize {
    value.len().div_ceil(BLOCK).max(1)
}

/// Group the values by their number of blocks, and digest each group.
#[expect(
    clippy::inline_always,
    reason = "compiled once for each kind of vector, with its instructions"
)]
#[inline(always)]
fn in_groups<S: Simd>(simd: S, values: &[Option<&[u8]>], digests: &mut [[u8; DIGEST_BYTES]]) {
    let mut groups: [Group<'_>; CHUNK_BLOCKS] = Default::default();
    let found = values.iter().zip(0..);
    for (value, place) in found.filter_map(|(value, place)| Some(((*value)?, place))) {
        if value.len() > CHUNK {
            digests[place] = *blake3::hash(value).as_bytes();
            continue;
        }
        let group = &mut groups[blocks(value) - 1];
        group.push(value, place);
        if group.count == S::u32s::LEN {
            group.digest(simd, digests);
        }
    }
    for mut group in groups {
        if group.count >= GROUP_MIN {
            group.digest(simd, digests);
        }
        for (value, place) in group.members() {
            digests[*place] = *blake3::hash(value).as_bytes();
        }
    }
}

/// Values with the same number of blocks, and the positions of their digests.
#[derive(Default)]
struct Group<'a> {
    count: usize,
    members: [(&'a [u8], usize); LANES_MAX],
}

impl<'a> Group<'a> {
    fn push(&mut self, value: &'a [u8], place: usize) {
        self.members[self.count] = (value, place);
        self.count += 1;
    }

    fn members(&self) -> &[(&'a [u8], usize)] {
        &self.members[..self.count]
    }

    /// Digest all members and empty the group.
    #[expect(
        clippy::inline_always,
        reason = "compiled once for each kind of vector, with its instructions"
    )]
    #[inline(always)]
    fn digest<S: Simd>(&mut self, simd: S, digests: &mut [[u8; DIGEST_BYTES]]) {
        let lanes = S::u32s::LEN;
        let count = self.members().first().map_or(0, |(value, _)| blocks(value));
        let mut chain: [S::u32s; 8] = IV.map(|word| S::u32s::splat(simd, word));
        let mut words = [[0_u32; LANES_MAX]; WORDS];
        let mut sizes = [0_u32; LANES_MAX];
        for block in 0..count {
            for (lane, (value, _)) in self.members().iter().enumerate() {
                sizes[lane] = fill_lane(value, block, lane, &mut words);
            }
            let start = if block == 0 { CHUNK_START } else { 0 };
            let end = if block + 1 == count { CHUNK_END | ROOT } else { 0 };
            compress(
                simd,
                &mut chain,
                &words.map(|word| S::u32s::from_slice(simd, &word[..lanes])),
                S::u32s::from_slice(simd, &sizes[..lanes]),
                S::u32s::splat(simd, start | end),
            );
        }
        for (chained, at) in chain.iter().zip((0..DIGEST_BYTES).step_by(size_of::<u32>())) {
            let mut word = [0_u32; LANES_MAX];
            chained.store_slice(&mut word[..lanes]);
            for ((_, place), word) in self.members().iter().zip(word) {
                digests[*place][at..at + size_of::<u32>()].copy_from_slice(&word.to_le_bytes());
            }
        }
        self.count = 0;
    }
}

/// Write the words of a block into a lane, with zeros after its end, and return its number of bytes.
#[expect(clippy::inline_always, reason = "part of the innermost loop")]
#[inline(always)]
fn fill_lane(value: &[u8], block: usize, lane: usize, words: &mut [[u32; LANES_MAX]; WORDS]) -> u32 {
    let rest = &value[block * BLOCK..];
    let mut short = [0; BLOCK];
    let whole: &[u8; BLOCK] = rest.first_chunk().unwrap_or_else(|| {
        short[..rest.len()].copy_from_slice(rest);
        &short
    });
    for (word, bytes) in words.iter_mut().zip(whole.as_chunks().0) {
        word[lane] = u32::from_le_bytes(*bytes);
    }
    u32::try_from(rest.len().min(BLOCK)).unwrap_or(0)
}

/// Compress one block in each lane: section 2.2 of the BLAKE3 paper, for the first chunk.
#[expect(
    clippy::inline_always,
    reason = "compiled once for each kind of vector, with its instructions"
)]
#[inline(always)]
fn compress<S: Simd>(simd: S, chain: &mut [S::u32s; 8], message: &[S::u32s; WORDS], sizes: S::u32s, flags: S::u32s) {
    let mut state = [S::u32s::splat(simd, 0); 16];
    state[..8].copy_from_slice(chain);
    for (word, start) in state[8..12].iter_mut().zip(IV) {
        *word = S::u32s::splat(simd, start);
    }
    state[14] = sizes;
    state[15] = flags;
    for round in &SCHEDULE {
        let pair = |first: usize| [message[round[first]], message[round[first + 1]]];
        // Unrolled: constant indices keep the state in registers, which is twice as fast.
        mix::<S>(&mut state, [0, 4, 8, 12], pair(0));
        mix::<S>(&mut state, [1, 5, 9, 13], pair(2));
        mix::<S>(&mut state, [2, 6, 10, 14], pair(4));
        mix::<S>(&mut state, [3, 7, 11, 15], pair(6));
        mix::<S>(&mut state, [0, 5, 10, 15], pair(8));
        mix::<S>(&mut state, [1, 6, 11, 12], pair(10));
        mix::<S>(&mut state, [2, 7, 8, 13], pair(12));
        mix::<S>(&mut state, [3, 4, 9, 14], pair(14));
    }
    let (low, high) = state.split_at(8);
    for (chained, (low, high)) in chain.iter_mut().zip(low.iter().zip(high)) {
        *chained = *low ^ *high;
    }
}

#[expect(clippy::inline_always, reason = "part of the innermost loop")]
#[inline(always)]
fn mix<S: Simd>(state: &mut [S::u32s; 16], [a, b, c, d]: [usize; 4], [one, two]: [S::u32s; 2]) {
    let rotated = |word: S::u32s, by: u32| (word >> by) | (word << (u32::BITS - by));
    state[a] = state[a] + state[b] + one;
    state[d] = rotated(state[d] ^ state[a], 16);
    state[c] += state[d];
    state[b] = rotated(state[b] ^ state[c], 12);
    state[a] = state[a] + state[b] + two;
    state[d] = rotated(state[d] ^ state[a], 8);
    state[c] += state[d];
    state[b] = rotated(state[b] ^ state[c], 7);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(simd: impl Simd, values: &[Option<&[u8]>]) {
        let mut found = vec![[7; DIGEST_BYTES]; values.len()];
        in_groups(simd, values, &mut found);
        for (value, found) in values.iter().zip(found) {
            let expected = value.map_or([7; DIGEST_BYTES], |value| *blake3::hash(value).as_bytes());
            assert_eq!(found, expected, "{} bytes", value.map_or(0, <[u8]>::len));
        }
    }

    fn check_all(values: &[Option<&[u8]>]) {
        let level = Level::new();
        dispatch!(level, simd => check(simd, values));
        #[cfg(target_arch = "x86_64")]
        {
            level.as_avx2().into_iter().for_each(|simd| check(simd, values));
            level.as_sse4_2().into_iter().for_each(|simd| check(simd, values));
            level.as_sse2().into_iter().for_each(|simd| check(simd, values));
        }
    }

    #[test]
    fn every_size_alone_and_among_others() {
        let bytes: Vec<u8> = (0..3000_u32)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let sizes = (0..=CHUNK + 70).chain([2047, 2048, 2049, 5000]);
        let mixed: Vec<_> = sizes.map(|size| Some(&bytes[size / 3..][..size])).collect();
        check_all(&mixed);
        for size in [0, 1, 63, 64, 65, 128, 200, 1023, 1024] {
            let alike: Vec<_> = (0..37).map(|i| (i % 9 != 4).then(|| &bytes[i..][..size])).collect();
            (0..alike.len()).for_each(|count| check_all(&alike[..count]));
        }
    }
}
