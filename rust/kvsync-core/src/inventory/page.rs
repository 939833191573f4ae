//! A page of a listing: keys, each with its version token, or with what was read of its value.

use crate::byte_list::ByteList;
use crate::digest;
use crate::error::{Error, Result};
use crate::key_list::KeyList;
use crate::reason::ArgumentFault;
use crate::row::{DIGEST_BYTES, NO_DIGEST};
use crate::workers::Workers;

/// The size of a value that was not read.
const NOT_READ: u64 = u64::MAX;

/// What a listing says of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'a> {
    /// A version token of the storage; empty where it proves nothing.
    Token(&'a [u8]),
    /// A value that was read.
    Value(Value<'a>),
}

/// What is known of a value once it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its BLAKE3.
    pub digest: &'a [u8; DIGEST_BYTES],
    /// Its bytes.
    pub size: u64,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
}

impl Value<'_> {
    /// The token of a value in a storage whose tokens are digests: the digest, and the time if it expires.
    #[must_use]
    pub fn token(&self) -> Vec<u8> {
        let mut token = self.digest.to_vec();
        if self.expires != 0 {
            token.extend_from_slice(&self.expires.to_le_bytes());
        }
        token
    }

    #[inline]
    fn has_token(&self, token: &[u8]) -> bool {
        if self.expires == 0 {
            return token == self.digest;
        }
        let time = token.split_at_checked(DIGEST_BYTES);
        time.is_some_and(|(digest, time)| digest == self.digest && time == self.expires.to_le_bytes())
    }
}

impl Listed<'_> {
    /// Whether this proves that the value is still the one that a token was taken from.
    #[inline]
    pub(super) fn is_proven_by(&self, token: &[u8]) -> bool {
        match self {
            Self::Token(listed) => !token.is_empty() && *listed == token,
            Self::Value(value) => value.has_token(token),
        }
    }
}

/// A page of a listing, in ascending order of its keys.
///
/// Its storage either gives tokens of its own, or reads the values: then their digests are the tokens, and the page
/// knows their sizes, too.
///
/// ```
/// use kvsync_core::{Listed, Page, Workers, digest};
///
/// let mut page = Page::default();
/// page.add_values(["a", "b"], &[Some(b"1"), None], &[], Workers::ALONE)?;
/// let Listed::Value(value) = page.get(0) else { unreachable!() };
/// assert_eq!((value.digest, value.size), (&digest::of_value(b"1"), 1));
/// assert_eq!(page.get(1), Listed::Token(b""));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Page {
    keys: KeyList,
    /// Of all keys, or of none.
    tokens: ByteList,
    digests: Vec<[u8; DIGEST_BYTES]>,
    sizes: Vec<u64>,
    /// Filled up to the last value that expires.
    expires: Vec<u64>,
    value_bytes: u64,
}

impl Page {
    /// A page of keys with tokens.
    ///
    /// # Errors
    /// Lists that differ in length.
    pub fn of_tokens<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        tokens: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        let mut page = Self::default();
        keys.into_iter().for_each(|key| page.keys.push(key));
        tokens.into_iter().for_each(|token| page.tokens.push(token));
        if page.keys.len() != page.tokens.len() {
            return Err(Error::BadArgument(ArgumentFault::KeysAndTokens));
        }
        Ok(page)
    }

    /// Append keys with their values, of which `None` could not be read, and when they expire, if any of them does.
    ///
    /// # Errors
    /// Lists that differ in length, or a page of tokens.
    pub fn add_values<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
        values: &[Option<&[u8]>],
        expires: &[u64],
        workers: Workers,
    ) -> Result<()> {
        self.begin_values(keys, values.len(), expires)?;
        self.digests.extend(digest::of_values(values, workers));
        for value in values {
            let size = value.map_or(NOT_READ, |value| value.len() as u64);
            self.sizes.push(size);
            self.value_bytes += value.map_or(0, |_| size);
        }
        Ok(())
    }

    /// Append keys with the digests and sizes of their values, which were read elsewhere.
    ///
    /// # Errors
    /// Lists that differ in length, or a page of tokens.
    pub fn add_digests<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
        digests: &[Option<(&[u8; DIGEST_BYTES], u64)>],
        expires: &[u64],
    ) -> Result<()> {
        self.begin_values(keys, digests.len(), expires)?;
        for known in digests {
            self.digests.push(known.map_or(NO_DIGEST, |(digest, _)| *digest));
            self.sizes.push(known.map_or(NOT_READ, |(_, size)| size));
            self.value_bytes += known.map_or(0, |(_, size)| size);
        }
        Ok(())
    }

    fn begin_values<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
        count: usize,
        expires: &[u64],
    ) -> Result<()> {
        let start = self.keys.len();
        keys.into_iter().for_each(|key| self.keys.push(key));
        let differs = self.keys.len() - start != count || !(expires.is_empty() || expires.len() == count);
        if differs || self.tokens.len() != 0 {
            return Err(Error::BadArgument(ArgumentFault::KeysAndValues));
        }
        if expires.iter().any(|time| *time != 0) {
            self.expires.resize(start, 0);
            self.expires.extend_from_slice(expires);
        }
        Ok(())
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many bytes the values have that were read.
    #[must_use]
    pub const fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &KeyList {
        &self.keys
    }

    /// What is listed at a position.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Listed<'_> {
        match self.sizes.get(index) {
            None => Listed::Token(self.tokens.get(index)),
            Some(&NOT_READ) => Listed::Token(&[]),
            Some(&size) => Listed::Value(Value {
                digest: &self.digests[index],
                size,
                expires: self.expires.get(index).copied().unwrap_or(0),
            }),
        }
    }

    /// The version tokens of all keys.
    pub fn tokens(&self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.len()).map(|index| match self.get(index) {
            Listed::Token(token) => token.to_vec(),
            Listed::Value(value) => value.token(),
        })
    }
}
