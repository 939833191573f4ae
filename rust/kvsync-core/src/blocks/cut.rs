//! Where a new block begins: decided by the keys alone, so that equal contents are cut at equal places.

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};
use crate::reason::ArgumentFault;

/// What a change weighs besides its key: about as many bytes as it has in a block.
const CHANGE_WEIGHT: u64 = 54;
/// How many blocks a page has, about.
const PAGE_TARGET: u64 = 32;
/// The seed of the hash that cuts pages; the keys that begin a block have low hashes of the seed 0.
const PAGE_SEED: u64 = 1;

/// About how many bytes a block has.
///
/// ```
/// use kvsync_core::blocks::Target;
///
/// assert_eq!(Target::default().bytes(), 19_456);
/// assert!(Target::new(63).is_err() && Target::new(64).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(u32);

impl Target {
    /// The least target.
    pub const MIN: u32 = 64;
    /// The greatest target.
    pub const MAX: u32 = 1 << 20;

    /// A target in bytes.
    ///
    /// # Errors
    /// A number out of range.
    pub fn new(bytes: u32) -> Result<Self> {
        if (Self::MIN..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Error::BadArgument(ArgumentFault::TargetOutOfRange))
        }
    }

    /// The target in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The most changes that a block may have.
    pub(super) const fn count_max(self) -> u64 {
        4 * self.0 as u64 / CHANGE_WEIGHT + 2
    }
}

impl Default for Target {
    /// About the largest at which a hundred scattered differences among a million keys cost less than 3 MB.
    fn default() -> Self {
        Self(19 * 1024)
    }
}

/// Decides for each key, in ascending order, whether it begins a new block.
///
/// ```
/// use kvsync_core::blocks::{Cutter, Target};
///
/// let mut cutter = Cutter::new(Target::new(1000)?);
/// let keys: Vec<String> = (0..1000).map(|number| format!("{number:04}")).collect();
/// let cuts = keys.iter().filter(|key| cutter.cuts_before(key.as_bytes())).count();
/// assert!((30..90).contains(&cuts));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cutter {
    target: u64,
    seed: u64,
    weight: u64,
}

impl Cutter {
    /// Start before the first key.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target: target.0.into(),
            seed: 0,
            weight: 0,
        }
    }

    /// Cut blocks, each given by its first key, into pages.
    pub(super) const fn of_pages() -> Self {
        Self {
            target: PAGE_TARGET,
            seed: PAGE_SEED,
            weight: 0,
        }
    }

    /// Take the next key, and tell whether it begins a new block; the first key does not.
    pub fn cuts_before(&mut self, key: &[u8]) -> bool {
        self.take(key, CHANGE_WEIGHT + key.len() as u64)
    }

    /// Take the first key of the next block, and tell whether it begins a new page.
    pub(super) fn cuts_page_before(&mut self, key: &[u8]) -> bool {
        self.take(key, 1)
    }

    /// Tell whether a key would begin a new block, and take nothing.
    pub(super) fn would_cut_before(&self, key: &[u8]) -> bool {
        self.cuts(key, CHANGE_WEIGHT + key.len() as u64)
    }

    fn take(&mut self, key: &[u8], weight: u64) -> bool {
        let cuts = self.cuts(key, weight);
        self.weight = if cuts { weight } else { self.weight + weight };
        cuts
    }

    fn cuts(&self, key: &[u8], weight: u64) -> bool {
        let target = self.target;
        if 4 * self.weight < target {
            return false;
        }
        if self.weight >= 4 * target {
            return true;
        }
        let hash = XxHash3_64::oneshot_with_seed(self.seed, key);
        if self.weight < target {
            scaled(hash, 4 * target) < weight
        } else {
            scaled(hash, target) < 4 * weight
        }
    }
}

/// A hash as a fraction of 2^64, times a factor, rounded down.
const fn scaled(hash: u64, factor: u64) -> u64 {
    ((hash as u128 * factor as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(keys: &[String], target: u32) -> Vec<usize> {
        let mut cutter = Cutter::new(Target(target));
        let places = keys.iter().enumerate();
        let cuts = places.filter(|(_, key)| cutter.cuts_before(key.as_bytes()));
        cuts.map(|(place, _)| place).collect()
    }

    fn keys(count: u32) -> Vec<String> {
        (0..count).map(|number| format!("user/{number:08}")).collect()
    }

    #[test]
    fn blocks_are_neither_tiny_nor_huge_and_near_the_target() {
        let places = cuts(&keys(100_000), 4096);
        let lengths: Vec<_> = places.windows(2).map(|pair| 67 * (pair[1] - pair[0])).collect();
        assert!(lengths.iter().all(|length| (1024..=4 * 4096 + 67).contains(length)));
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((3000..6000).contains(&mean), "{mean}");
    }

    #[test]
    fn an_inserted_key_moves_only_cuts_nearby() {
        let all = keys(20_000);
        let before = cuts(&all, 2048);
        let mut moved = 0;
        for place in (500..20_000).step_by(997) {
            let mut more = all.clone();
            more.insert(place, format!("{}x", all[place - 1]));
            let after: Vec<_> = cuts(&more, 2048)
                .iter()
                .map(|cut| cut - usize::from(*cut > place))
                .collect();
            moved += before.iter().filter(|cut| !after.contains(cut)).count();
        }
        assert!(moved < 40, "20 keys moved {moved} cuts");
    }

    #[test]
    fn the_key_after_a_huge_one_begins_a_block() {
        let mut all = keys(300);
        all.extend((0..3).map(|number| format!("v{number}{}", "x".repeat(100_000))));
        assert!(cuts(&all, 64).ends_with(&[301, 302]));
    }
}
