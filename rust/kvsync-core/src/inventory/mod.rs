//! What the last scan of a storage saw: the version token and digest of every key.

mod build;
mod places;

use std::cmp::Ordering;

use crate::envelope::{self, HEADER_BYTES, Kind};
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::pack::Writer;
use crate::reason::ArgumentFault;
use crate::strings::{STRIDE, Strings};

use self::build::Table;
use self::places::{Columns, NAME, Places};

pub use self::build::Scanned;
pub use self::places::{Entry, NONCE_BYTES};

/// A validated inventory, over the bytes that hold it.
///
/// ```
/// use kvsync_core::{Inventory, KeyList, Kind, Scanned, envelope};
///
/// let keys: KeyList = ["a", "b"].into_iter().collect();
/// let scanned = Scanned { keys: &keys, tokens: &[b"v1", b"v2"], digests: &[&[1; 32], &[2; 32]] };
/// let object = Inventory::build(scanned)?.encode(&[0; 16], false)?;
///
/// let inventory = Inventory::parse(envelope::open(Kind::Inventory, &object)?, 0)?;
/// let now: KeyList = ["a", "c"].into_iter().collect();
/// let difference = inventory.compare(&now, &[b"v1", b"v1"])?;
/// assert_eq!((difference.changed, difference.removed), (vec![1], vec![&b"b"[..]]));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Inventory<B> {
    bytes: B,
    places: Places,
}

/// How the current keys of a storage differ from an inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Positions of the current keys that are new or may have changed.
    pub changed: Vec<usize>,
    /// Keys of the inventory that the storage has no longer.
    pub removed: Vec<&'a [u8]>,
}

impl Inventory<Vec<u8>> {
    /// Build an inventory of what a scan saw.
    ///
    /// # Errors
    /// Lists that differ in length, or more than the format holds.
    pub fn build(scanned: Scanned<'_>) -> Result<Self> {
        let mut table = Table::default();
        scanned.entries()?.iter().for_each(|entry| table.push(entry));
        Self::from_table(table)
    }

    fn from_table(table: Table) -> Result<Self> {
        let (bytes, places) = table.finish()?;
        Ok(Self { bytes, places })
    }
}

impl<B: AsRef<[u8]>> Inventory<B> {
    /// Validate the body that begins at `start` of `bytes`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the body is not an inventory.
    pub fn parse(bytes: B, start: usize) -> Result<Self> {
        let places = Places::read_checked(bytes.as_ref(), start)?;
        Ok(Self { bytes, places })
    }

    /// Convert the bytes that hold the inventory to another type; their content must stay the same.
    pub fn map_bytes<C>(self, convert: impl FnOnce(B) -> C) -> Inventory<C> {
        Inventory {
            bytes: convert(self.bytes),
            places: self.places,
        }
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.count
    }

    /// Whether there are no keys.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.count == 0
    }

    /// The nonce of the manifest at which the inventory was written; zeros before it is written.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.places.nonce
    }

    /// All entries, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let Columns { keys, tokens, digests } = self.columns();
        let mut starts = (0, 0);
        digests.iter().enumerate().map(move |(index, digest)| {
            let key = keys.at(index, starts.0);
            let token = tokens.at(index, starts.1);
            starts = (starts.0 + key.len(), starts.1 + token.len());
            Entry { key, token, digest }
        })
    }

    /// The entries of some keys in any order.
    #[must_use]
    pub fn find(&self, wanted: &[&str]) -> Vec<Option<Entry<'_>>> {
        let Columns { keys, tokens, digests } = self.columns();
        let find = |key: &&str| {
            let index = search(keys, key.as_bytes())?;
            Some(Entry {
                key: keys.get(index),
                token: tokens.get(index),
                digest: &digests[index],
            })
        };
        wanted.iter().map(find).collect()
    }

    /// Compare with the current keys of the storage, which must strictly ascend, and their tokens.
    ///
    /// # Errors
    /// [`Error::Unordered`](crate::Error::Unordered), or lists that differ in length.
    pub fn compare(&self, keys: &KeyList, tokens: &[&[u8]]) -> Result<Difference<'_>> {
        if keys.len() != tokens.len() {
            return Err(Error::BadArgument(ArgumentFault::KeysAndTokens));
        }
        keys.check_ascending()?;
        let mut difference = Difference::default();
        let mut known = self.iter().peekable();
        for (index, (key, token)) in keys.iter().zip(tokens).enumerate() {
            while let Some(removed) = known.next_if(|entry| entry.key < key) {
                difference.removed.push(removed.key);
            }
            let entry = known.next_if(|entry| entry.key == key);
            if entry.is_none_or(|entry| entry.token.is_empty() || entry.token != *token) {
                difference.changed.push(index);
            }
        }
        difference.removed.extend(known.map(|entry| entry.key));
        Ok(difference)
    }

    /// The inventory with some keys set and some removed; a key in both is removed.
    ///
    /// # Errors
    /// Lists that differ in length, or more than the format holds.
    pub fn updated(&self, scanned: Scanned<'_>, removed: &[&str]) -> Result<Inventory<Vec<u8>>> {
        let mut removed: Vec<&[u8]> = removed.iter().map(|key| key.as_bytes()).collect();
        removed.sort_unstable();
        let mut table = Table::default();
        let mut old = self.iter().peekable();
        let mut new = scanned.entries()?.into_iter().peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Inventory::from_table(table),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.key.cmp(new.key),
            };
            let before = old.next_if(|_| order.is_le());
            let after = new.next_if(|_| order.is_ge());
            if let Some(entry) = after.or(before)
                && removed.binary_search(&entry.key).is_err()
            {
                table.push(&entry);
            }
        }
    }

    /// Encode the whole object, envelope included.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a column passes 4 GiB.
    pub fn encode(&self, nonce: &[u8; NONCE_BYTES], compress: bool) -> Result<Vec<u8>> {
        let bytes = self.bytes.as_ref();
        let mut object = vec![0; HEADER_BYTES];
        let mut out = Writer(&mut object);
        out.map(8);
        out.str("name")?;
        out.str(NAME)?;
        out.str("count")?;
        out.uint(self.places.count as u64);
        out.str("nonce")?;
        out.bin(nonce)?;
        for (key, range) in self.places.columns() {
            out.str(key)?;
            out.bin(&bytes[range.clone()])?;
        }
        Ok(envelope::finish(Kind::Inventory, object, compress))
    }

    fn columns(&self) -> Columns<'_> {
        self.places.view(self.bytes.as_ref())
    }
}

/// The position of a key among ascending keys.
fn search(keys: Strings<'_>, key: &[u8]) -> Option<usize> {
    let begins_at_or_below = |block: usize| keys.at(block * STRIDE, keys.marks[block]) <= key;
    let (mut low, mut high) = (0, keys.marks.len());
    while low < high {
        let middle = low.midpoint(high);
        if begins_at_or_below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let block = low.checked_sub(1)?;
    let mut start = keys.marks[block];
    let stop = ((block + 1) * STRIDE).min(keys.sizes.len());
    for index in block * STRIDE..stop {
        let here = keys.at(index, start);
        if here == key {
            return Some(index);
        }
        start += here.len();
    }
    None
}
