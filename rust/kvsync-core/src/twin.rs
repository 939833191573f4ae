//! Two segments beside one another: how far they are the same.

use crate::column::{Column, Number, position};
use crate::each_width;
use crate::error::Result;
use crate::key;
use crate::segment::View;

/// Two segments to compare.
#[derive(Debug, Clone, Copy)]
pub struct Twins<'a> {
    /// One of them.
    pub a: View<'a>,
    /// The other.
    pub b: View<'a>,
    same_origins: bool,
}

/// Consecutive changes that are the same in both.
#[derive(Debug)]
pub struct Run<'a> {
    /// How many.
    pub count: usize,
    /// Their keys behind one another.
    pub keys: &'a [u8],
    sizes: Column<'a>,
    index: usize,
}

impl<'a> Twins<'a> {
    /// Put two segments side by side.
    pub fn new(a: View<'a>, b: View<'a>) -> Self {
        let same_origins = a.layout.origins == b.layout.origins;
        Self { a, b, same_origins }
    }

    /// The changes that are the same from a position of each on, at most so many.
    ///
    /// A place is a position and where its key begins. A column is compared as far as those before are
    /// the same. The stamps go first: they differ soonest.
    #[inline]
    pub fn run(
        &self,
        (i, start_a): (usize, usize),
        (j, start_b): (usize, usize),
        most: usize,
    ) -> Run<'a> {
        let (a, b) = (&self.a, &self.b);
        let (base_a, base_b) = (a.layout.stamp_base, b.layout.stamp_base);
        let stamps = |x, y| base_a.wrapping_add(x) == base_b.wrapping_add(y);
        let mut count = numbers((a.stamp, i), (b.stamp, j), most, stamps);
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
            keys,
            sizes: a.keys.sizes,
            index: i,
        }
    }

    /// Of so many changes from two positions on, how many are alike in all but stamp and key bytes.
    fn alike(&self, (i, j): (usize, usize), most: usize) -> usize {
        let (a, b) = (&self.a, &self.b);
        let equal = |x, y| x == y;
        let count = numbers((a.keys.sizes, i), (b.keys.sizes, j), most, equal);
        let count = if self.same_origins {
            numbers((a.origin, i), (b.origin, j), count, equal)
        } else {
            let origins = |x, y| a.layout.origins[position(x)] == b.layout.origins[position(y)];
            numbers((a.origin, i), (b.origin, j), count, origins)
        };
        let count = numbers((a.size, i), (b.size, j), count, equal);
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

/// How many numbers agree from a position of two columns on, at most so many.
#[inline]
fn numbers(
    (a, i): (Column<'_>, usize),
    (b, j): (Column<'_>, usize),
    most: usize,
    agree: impl Fn(u64, u64) -> bool,
) -> usize {
    each_width!(a, a => each_width!(b, b => {
        let pairs = a[i..][..most].iter().zip(&b[j..][..most]);
        let mut pairs = pairs.map(|(x, y)| (x.get(), y.get()));
        pairs.position(|(x, y)| !agree(x, y)).unwrap_or(most)
    }))
}

/// How many items agree from the beginning.
fn prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    if a == b {
        return a.len();
    }
    let mut pairs = a.iter().zip(b);
    pairs.position(|(x, y)| x != y).unwrap_or(a.len())
}
