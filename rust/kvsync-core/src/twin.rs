//! Two segments beside one another: how far they are the same.

use crate::column::{Column, Number, position};
use crate::each_width;
use crate::error::Result;
use crate::key;
use crate::segment::View;

/// So many numbers are compared at once.
const BLOCK: usize = 8;

/// Two segments to compare.
#[derive(Debug, Clone, Copy)]
pub struct Twins<'a> {
    /// One of them.
    pub a: View<'a>,
    /// The other.
    pub b: View<'a>,
    same_origins: bool,
    expiring: bool,
}

/// Consecutive changes that are the same in both.
#[derive(Debug)]
pub struct Run<'a> {
    /// How many.
    pub count: usize,
    /// Whether all that have the same stamps are the same.
    pub by_stamp: bool,
    /// Their keys behind one another.
    pub keys: &'a [u8],
    sizes: Column<'a>,
    index: usize,
}

impl<'a> Twins<'a> {
    /// Put two segments side by side.
    pub fn new(a: View<'a>, b: View<'a>) -> Self {
        let same_origins = a.layout.origins == b.layout.origins;
        let expiring = !a.expires.is_empty() || !b.expires.is_empty();
        Self {
            a,
            b,
            same_origins,
            expiring,
        }
    }

    /// The changes that are the same from a position of each on, at most so many.
    ///
    /// A place is a position and where its key begins. A column is compared as far as those before are
    /// the same. The stamps go first: they differ soonest.
    #[inline]
    pub fn run(&self, (i, start_a): (usize, usize), (j, start_b): (usize, usize), most: usize) -> Run<'a> {
        let (a, b) = (&self.a, &self.b);
        let ahead = a.layout.stamp_base.wrapping_sub(b.layout.stamp_base);
        let stamps = |x: u64, y| x.wrapping_add(ahead) ^ y;
        let stamped = numbers((a.stamp, i), (b.stamp, j), most, stamps);
        let mut count = stamped;
        if count > 0 {
            count = self.alike((i, j), count);
        }
        let stop = start_a + position(a.keys.sizes.sum(i, i + count));
        let mut keys = &a.keys.bytes[start_a..stop];
        let others = &b.keys.bytes[start_b..][..keys.len()];
        if keys != others {
            let same = prefix(keys, others);
            (count, keys) = self.whole(i, &keys[..same]);
        }
        Run {
            count,
            by_stamp: count == stamped,
            keys,
            sizes: a.keys.sizes,
            index: i,
        }
    }

    /// Of so many changes from two positions on, how many are alike in all but stamp and key bytes.
    fn alike(&self, (i, j): (usize, usize), most: usize) -> usize {
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
        let count = if self.expiring {
            same_or_zero((a.expires, i), (b.expires, j), count)
        } else {
            count
        };
        let count = prefix(&a.flags[i..][..count], &b.flags[j..][..count]);
        prefix(&a.digest[i..][..count], &b.digest[j..][..count])
    }

    /// How many keys from a position on these bytes hold wholly, and their bytes.
    fn whole<'k>(&self, index: usize, bytes: &'k [u8]) -> (usize, &'k [u8]) {
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

impl Run<'_> {
    /// Check that its keys may go out.
    ///
    /// # Errors
    /// [`crate::Error::ForgedKey`] where one is reserved.
    pub fn check(&self) -> Result<()> {
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

/// How many numbers are the same from a position of two columns on, at most so many.
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

/// As [`same`]; a column that is empty stands for zeros.
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

/// How many numbers do not differ from a position of two columns on, at most so many.
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

/// How many pairs do not differ from the beginning.
///
/// A block is looked at without a branch a pair, so that it is compiled to vector instructions.
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

/// How many items agree from the beginning.
fn prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    if a == b {
        return a.len();
    }
    agreeing(a, b, |x, y| u64::from(x != y))
}
