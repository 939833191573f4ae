//! Runs of changes that are equal in two segments.

use crate::column::{Column, Number, each_width, position};
use crate::error::Result;
use crate::key;
use crate::pick::Place;
use crate::view::View;

/// How many numbers are compared at once.
const BLOCK: usize = 8;

/// Finds the runs of changes that are equal in two segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EqualRuns<'a> {
    a: View<'a>,
    b: View<'a>,
    same_origins: bool,
    any_expires: bool,
}

/// Consecutive changes that are equal in both segments.
#[derive(Debug)]
pub(crate) struct EqualRun<'a> {
    /// How many changes.
    pub(crate) count: usize,
    /// Whether every change with an equal stamp is equal, so that the stamps alone ended the run.
    pub(crate) ended_by_stamp: bool,
    /// Their keys, one after another.
    pub(crate) keys: &'a [u8],
    sizes: Column<'a>,
    index: usize,
}

impl<'a> EqualRuns<'a> {
    /// Put two segments side by side.
    pub(crate) fn new([a, b]: [View<'a>; 2]) -> Self {
        let same_origins = a.layout.origins == b.layout.origins;
        let any_expires = !a.expires.is_empty() || !b.expires.is_empty();
        Self {
            a,
            b,
            same_origins,
            any_expires,
        }
    }

    /// The run of equal changes that begins at a place of each segment, of at most `most` changes.
    ///
    /// A column is compared only as far as the columns before it are equal. The stamps go first, because they
    /// differ soonest.
    #[inline]
    pub(crate) fn run_at(&self, [at_a, at_b]: [Place; 2], most: usize) -> EqualRun<'a> {
        let (a, b) = (&self.a, &self.b);
        let (i, j) = (at_a.index, at_b.index);
        let base_difference = a.layout.stamp_base.wrapping_sub(b.layout.stamp_base);
        let stamps = |x: u64, y| x.wrapping_add(base_difference) ^ y;
        let stamped = numbers((a.stamp, i), (b.stamp, j), most, stamps);
        let mut count = stamped;
        if count > 0 {
            count = self.equal_columns((i, j), count);
        }
        let stop = at_a.key_start + position(a.keys.sizes.sum(i, i + count));
        let mut keys = &a.keys.bytes[at_a.key_start..stop];
        let other_keys = &b.keys.bytes[at_b.key_start..][..keys.len()];
        if keys != other_keys {
            let equal = prefix(keys, other_keys);
            (count, keys) = self.whole_keys(i, &keys[..equal]);
        }
        EqualRun {
            count,
            ended_by_stamp: count == stamped,
            keys,
            sizes: a.keys.sizes,
            index: i,
        }
    }

    /// Of `most` changes from two positions on, how many are equal in every column but stamp and key.
    fn equal_columns(&self, (i, j): (usize, usize), most: usize) -> usize {
        let (a, b) = (&self.a, &self.b);
        let count = same((a.keys.sizes, i), (b.keys.sizes, j), most);
        let count = if self.same_origins {
            same((a.origin, i), (b.origin, j), count)
        } else {
            let origin = |view: &View<'_>, place| view.layout.origins[position(place)];
            let origins = |x, y| origin(a, x) ^ origin(b, y);
            numbers((a.origin, i), (b.origin, j), count, origins)
        };
        let count = same((a.size, i), (b.size, j), count);
        let count = if self.any_expires {
            same_or_zero((a.expires, i), (b.expires, j), count)
        } else {
            count
        };
        let count = prefix(&a.flags[i..][..count], &b.flags[j..][..count]);
        prefix(&a.digest[i..][..count], &b.digest[j..][..count])
    }

    /// How many whole keys, from a position on, these bytes hold, and the bytes of those keys.
    fn whole_keys<'k>(&self, index: usize, bytes: &'k [u8]) -> (usize, &'k [u8]) {
        let (mut count, mut stop) = (0, 0);
        loop {
            let end = stop + position(self.a.keys.sizes.get(index + count));
            if end > bytes.len() {
                return (count, &bytes[..stop]);
            }
            (count, stop) = (count + 1, end);
        }
    }
}

impl EqualRun<'_> {
    /// Check that no key of the run is reserved.
    ///
    /// # Errors
    /// [`Error::ForgedKey`](crate::error::Error::ForgedKey) where a key is reserved.
    pub(crate) fn check(&self) -> Result<()> {
        if key::is_harmless(self.keys) {
            return Ok(());
        }
        let mut start = 0;
        for index in self.index..self.index + self.count {
            let stop = start + position(self.sizes.get(index));
            key::check_sent(&self.keys[start..stop])?;
            start = stop;
        }
        Ok(())
    }
}

/// How many numbers are equal from a position of each column on, at most `most`.
#[inline]
fn same((a, i): (Column<'_>, usize), (b, j): (Column<'_>, usize), most: usize) -> usize {
    match (a, b) {
        (Column::One(a), Column::One(b)) => prefix(&a[i..][..most], &b[j..][..most]),
        (Column::Two(a), Column::Two(b)) => prefix(&a[i..][..most], &b[j..][..most]),
        (Column::Four(a), Column::Four(b)) => prefix(&a[i..][..most], &b[j..][..most]),
        (Column::Eight(a), Column::Eight(b)) => prefix(&a[i..][..most], &b[j..][..most]),
        _ => numbers((a, i), (b, j), most, |x, y| x ^ y),
    }
}

/// As [`same`], where an empty column stands for zeros.
fn same_or_zero((a, i): (Column<'_>, usize), (b, j): (Column<'_>, usize), most: usize) -> usize {
    let zeros = |column: Column<'_>, start: usize| {
        each_width!(column, numbers => {
            let mut numbers = numbers[start..][..most].iter();
            numbers.position(|number| number.get() != 0).unwrap_or(most)
        })
    };
    match (a.is_empty(), b.is_empty()) {
        (false, false) => same((a, i), (b, j), most),
        (false, true) => zeros(a, i),
        (true, false) => zeros(b, j),
        (true, true) => most,
    }
}

/// How many numbers do not differ, by `differ`, from a position of each column on, at most `most`.
#[inline]
fn numbers(
    (a, i): (Column<'_>, usize),
    (b, j): (Column<'_>, usize),
    most: usize,
    differ: impl Fn(u64, u64) -> u64,
) -> usize {
    each_width!(a, a => each_width!(b, b => {
        agreeing(&a[i..][..most], &b[j..][..most], |x, y| differ(x.get(), y.get()))
    }))
}

/// How many pairs from the beginning do not differ.
///
/// Within a block there is no branch for each pair, so that it is compiled to vector instructions.
#[inline]
fn agreeing<S, T>(a: &[S], b: &[T], differ: impl Fn(&S, &T) -> u64) -> usize {
    let any = |a: &[S; BLOCK], b: &[T; BLOCK]| {
        let pairs = a.iter().zip(b);
        pairs.fold(0, |any, (x, y)| any | differ(x, y)) != 0
    };
    let blocks = a.as_chunks().0.iter().zip(b.as_chunks().0);
    let start = BLOCK * blocks.take_while(|(a, b)| !any(a, b)).count();
    let mut rest = a[start..].iter().zip(&b[start..]);
    let place = rest.position(|(x, y)| differ(x, y) != 0);
    place.map_or(a.len(), |place| start + place)
}

/// How many items from the beginning are equal.
fn prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    if a == b {
        return a.len();
    }
    agreeing(a, b, |x, y| u64::from(x != y))
}
