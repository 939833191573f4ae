//! What can go wrong, as data; prose for people is made from it.

use std::fmt;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything this crate refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An object fails a check at `offset`, counted from the first byte of the (uncompressed) object.
    Damaged {
        /// Where, in bytes.
        offset: usize,
        /// What is wrong there.
        damage: &'static str,
    },
    /// An intact object of a higher format version.
    Newer {
        /// Its version.
        version: u8,
    },
    /// A caller's key has a component that folds to the reserved name.
    ReservedKey {
        /// The key.
        key: String,
    },
    /// A peer's index has a change of a reserved key.
    ForgedKey {
        /// The key.
        key: String,
    },
    /// Keys that must ascend do not, from this one on.
    Unordered {
        /// The first key that is not greater than the one before it.
        key: String,
    },
    /// A change contradicts itself or the format.
    BadChange {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An argument is out of its range.
    BadArgument {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The 64 bits of a stamp are used up.
    ClockOverflow,
    /// A column or object passes what the format can hold.
    TooLarge {
        /// Its length in bytes or entries.
        length: usize,
    },
}

impl Error {
    /// Damage at an offset.
    #[must_use]
    pub const fn damaged(offset: usize, damage: &'static str) -> Self {
        Self::Damaged { offset, damage }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset, damage } => write!(out, "damaged at byte {offset}: {damage}"),
            Self::Newer { version } => {
                write!(out, "written by a newer kvsync: format version {version}")
            }
            Self::ReservedKey { key } => write!(out, "key {key:?} is reserved for kvsync's index"),
            Self::ForgedKey { key } => write!(out, "the index has key {key:?}, which is reserved for the index itself"),
            Self::Unordered { key } => {
                write!(out, "keys do not ascend in UTF-8 order at {key:?}")
            }
            Self::BadChange { key, problem } => write!(out, "change of key {key:?}: {problem}"),
            Self::BadArgument { problem } => out.write_str(problem),
            Self::ClockOverflow => out.write_str("the clock passes 64 bits"),
            Self::TooLarge { length } => write!(out, "{length} is more than the format holds"),
        }
    }
}

impl std::error::Error for Error {}
