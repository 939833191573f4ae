//! Values compared with the changes that log them.

use std::ops::Range;

use crate::digest;
use crate::error::{Error, Result};
use crate::reason::ArgumentFault;
use crate::view::View;
use crate::workers::Workers;

impl View<'_> {
    /// Positions, among the puts of a range, of the values that differ from the logged one.
    ///
    /// `values` holds one value for each put of the range. A missing value always differs.
    ///
    /// ```
    /// use kvsync_core::{KeyList, NewValues, Provenance, Segment, Workers};
    ///
    /// let keys: KeyList = ["a", "b"].into_iter().collect();
    /// let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
    /// let log = Segment::from_values(new, Provenance { origin: 7, first_stamp: 100, flags: 0 })?;
    /// assert_eq!(log.view().mismatches(0..2, &[Some(b"1"), Some(b"3")], Workers::ALONE)?, [1]);
    /// # Ok::<(), kvsync_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Fewer or more values than puts.
    pub fn mismatches(&self, range: Range<usize>, values: &[Option<&[u8]>], workers: Workers) -> Result<Vec<usize>> {
        if values.len() != self.puts(range.clone()) {
            return Err(Error::BadArgument(ArgumentFault::ValuesAndPuts));
        }
        let puts = self.rows(range).filter(|row| !row.deletes());
        let digests = digest::of_values(values, workers);
        let pairs = puts.zip(values.iter().zip(&digests)).enumerate();
        let wrong = pairs.filter(|(_, (row, (value, digest)))| {
            value.is_none_or(|value| value.len() as u64 != row.size || *digest != row.digest)
        });
        Ok(wrong.map(|(position, _)| position).collect())
    }
}
