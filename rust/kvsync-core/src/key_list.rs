//! A caller's keys, copied once into one piece of memory.

use crate::column::position;
use crate::error::{Error, Result};
use crate::key;

/// A caller's keys in any order, one after another in memory.
///
/// ```
/// use kvsync_core::KeyList;
///
/// let keys: KeyList = ["b", "a", "b"].into_iter().collect();
/// assert_eq!(keys.order()?, [1, 2]);
/// assert!(keys.check_ascending().is_err());
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    unordered: Option<usize>,
}

impl KeyList {
    /// An empty list with room for `keys` keys.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        Self {
            ends: Vec::with_capacity(keys),
            ..Self::default()
        }
    }

    /// Append a key.
    pub fn push(&mut self, key: &str) {
        let index = self.ends.len();
        if self.unordered.is_none() && index > 0 && self.get(index - 1) >= key.as_bytes() {
            self.unordered = Some(index);
        }
        self.bytes.extend_from_slice(key.as_bytes());
        self.ends.push(self.bytes.len());
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key at a position.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// The key at a position as the text that it was given as.
    #[must_use]
    #[inline]
    pub fn str(&self, index: usize) -> &str {
        str::from_utf8(self.get(index)).unwrap_or_default()
    }

    /// The keys as given.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All keys, one after another.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes all keys have.
    #[must_use]
    pub const fn key_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Refuse reserved keys.
    ///
    /// # Errors
    /// [`Error::ReservedKey`] with the first reserved key.
    pub fn check_reserved(&self) -> Result<()> {
        if key::is_harmless(&self.bytes) {
            return Ok(());
        }
        (0..self.len()).try_for_each(|index| key::check_key(self.str(index)))
    }

    /// Refuse keys that do not strictly ascend.
    ///
    /// # Errors
    /// [`Error::Unordered`] with the first key that is not greater than the one before it.
    pub fn check_ascending(&self) -> Result<()> {
        let text = |index| self.text(index).unwrap_or_default();
        let error = |index| Err(Error::Unordered { key: text(index) });
        self.unordered.map_or(Ok(()), error)
    }

    /// The positions in ascending order of their keys; of a key given several times, the last position.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for 2^32 keys.
    pub fn order(&self) -> Result<Vec<u32>> {
        let length = self.len();
        let count = u32::try_from(length).map_err(|_| Error::TooLarge { length })?;
        if self.unordered.is_none() {
            return Ok((0..count).collect());
        }
        let common = self.common_prefix();
        let entry = |(key, index): (&[u8], u32)| Entry {
            head: head(&key[common..]),
            index,
        };
        let mut order: Vec<Entry> = self.iter().zip(0..count).map(entry).collect();
        let key = |entry: &Entry| self.get(position(u64::from(entry.index)));
        order.sort_unstable_by(|left, right| {
            let by_head = left.head.cmp(&right.head);
            let by_key = by_head.then_with(|| key(left).cmp(key(right)));
            by_key.then_with(|| right.index.cmp(&left.index))
        });
        order.dedup_by(|later, kept| later.head == kept.head && key(later) == key(kept));
        Ok(order.iter().map(|entry| entry.index).collect())
    }

    fn common_prefix(&self) -> usize {
        let mut keys = self.iter();
        let first = keys.next().unwrap_or_default();
        keys.fold(first.len(), |length, key| {
            let pairs = first[..length].iter().zip(key);
            pairs.take_while(|(left, right)| left == right).count()
        })
    }

    /// The key at a position as text, if there is such a position.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<String> {
        let known = index < self.len();
        known.then(|| String::from_utf8_lossy(self.get(index)).into_owned())
    }
}

impl<'a> FromIterator<&'a str> for KeyList {
    fn from_iter<I: IntoIterator<Item = &'a str>>(keys: I) -> Self {
        let mut list = Self::default();
        keys.into_iter().for_each(|key| list.push(key));
        list
    }
}

/// A position with the first bytes of its key, which decide most comparisons without a look at the key.
struct Entry {
    head: [u64; 2],
    index: u32,
}

fn head(key: &[u8]) -> [u64; 2] {
    let mut head = [0; 16];
    let length = key.len().min(16);
    head[..length].copy_from_slice(&key[..length]);
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|place| head[at + place]));
    [word(0), word(8)]
}
