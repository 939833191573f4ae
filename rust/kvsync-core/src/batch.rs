//! Changes cut into consecutive batches.

use crate::error::{Error, Result};
use crate::reason::ArgumentFault;
use crate::view::View;

/// How much a batch may hold.
///
/// ```
/// use kvsync_core::BatchLimits;
///
/// let limits = BatchLimits { count_max: 3, bytes_max: 10 };
/// assert_eq!(limits.batches([1, 1, 1, 1, 90, 5])?, [(0, 3), (3, 4), (4, 5), (5, 6)]);
/// # Ok::<(), kvsync_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most changes, at least 1.
    pub count_max: usize,
    /// The most bytes of values. A larger value makes a batch of its own.
    pub bytes_max: u64,
}

impl BatchLimits {
    /// Cut changes with values of these sizes into ranges of positions, each of at least one change.
    ///
    /// # Errors
    /// A limit of no changes.
    pub fn batches(self, sizes: impl IntoIterator<Item = u64>) -> Result<Vec<(usize, usize)>> {
        if self.count_max == 0 {
            return Err(Error::BadArgument(ArgumentFault::EmptyBatch));
        }
        let mut batches = Vec::new();
        let (mut start, mut stop, mut bytes) = (0, 0, 0_u64);
        for size in sizes {
            let full = stop - start == self.count_max || bytes.saturating_add(size) > self.bytes_max;
            if full && stop > start {
                batches.push((start, stop));
                (start, bytes) = (stop, 0);
            }
            bytes = bytes.saturating_add(size);
            stop += 1;
        }
        if start < stop {
            batches.push((start, stop));
        }
        Ok(batches)
    }
}

impl View<'_> {
    /// Cut the changes into consecutive batches, as [`BatchLimits::batches`].
    ///
    /// # Errors
    /// A limit of no changes.
    pub fn batches(&self, limits: BatchLimits) -> Result<Vec<(usize, usize)>> {
        limits.batches((0..self.len()).map(|index| self.size.get(index)))
    }
}
