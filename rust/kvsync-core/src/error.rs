//! What the crate refuses, as data; prose is made from it where people read it.

use std::fmt;

use crate::reason::{ArgumentFault, ChangeFault, Reason};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything this crate refuses.
///
/// ```
/// use kvsync_core::{Error, Kind, Reason, envelope};
///
/// let error = envelope::open(Kind::Lease, b"").unwrap_err();
/// assert_eq!(error, Error::Damaged { offset: 0, reason: Reason::EnvelopeTooShort });
/// assert_eq!(error.to_string(), "damaged at byte 0: shorter than its envelope");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An object fails a check at `offset`, counted from the first byte of the (uncompressed) object.
    Damaged {
        /// Where, in bytes.
        offset: usize,
        /// What is wrong there.
        reason: Reason,
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
        /// What is wrong with the change.
        fault: ChangeFault,
    },
    /// An argument is out of its range.
    BadArgument(ArgumentFault),
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
    pub const fn damaged(offset: usize, reason: Reason) -> Self {
        Self::Damaged { offset, reason }
    }

    /// The same error, where its offset is to be counted from `bytes` earlier on.
    pub(crate) fn shifted(self, bytes: u64) -> Self {
        match self {
            Self::Damaged { offset, reason } => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                Self::damaged(offset.saturating_add(bytes), reason)
            }
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset, reason } => write!(out, "damaged at byte {offset}: {reason}"),
            Self::Newer { version } => write!(
                out,
                "written by a newer kvsync in format version {version}, which this one cannot read: upgrade kvsync"
            ),
            Self::ReservedKey { key } => write!(out, "key {key:?} is reserved for kvsync's index: choose another key"),
            Self::ForgedKey { key } => write!(
                out,
                "the index has a change of key {key:?}, which is reserved for the index itself"
            ),
            Self::Unordered { key } => write!(out, "the keys do not ascend in UTF-8 order at {key:?}"),
            Self::BadChange { key, fault } => write!(out, "the change of key {key:?} is not valid: {fault}"),
            Self::BadArgument(fault) => fault.fmt(out),
            Self::ClockOverflow => out.write_str("the clock passes 64 bits"),
            Self::TooLarge { length } => write!(out, "a length of {length} is more than the index format holds"),
        }
    }
}

impl std::error::Error for Error {}
