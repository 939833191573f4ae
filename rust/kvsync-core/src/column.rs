//! A column of numbers, all of the least width that holds the greatest.

/// A little-endian number of fixed width.
pub trait Number: Copy + Default {
    /// Width in bytes.
    const WIDTH: usize;

    /// The number.
    fn get(self) -> u64;

    /// Its low 32 bits.
    fn low(self) -> u32;

    /// The greater of two, found without widening them.
    #[must_use]
    fn greater(self, other: Self) -> Self;
}

macro_rules! number {
    ($($width:literal $integer:ty),*) => {$(
        impl Number for [u8; $width] {
            const WIDTH: usize = $width;

            #[inline(always)]
            fn get(self) -> u64 {
                u64::from(<$integer>::from_le_bytes(self))
            }

            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "the rest is left out")]
            fn low(self) -> u32 {
                self.get() as u32
            }

            #[inline(always)]
            fn greater(self, other: Self) -> Self {
                let number = <$integer>::from_le_bytes;
                number(self).max(number(other)).to_le_bytes()
            }
        }
    )*};
}

number!(1 u8, 2 u16, 4 u32, 8 u64);

/// A column of numbers inside an object's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Width 1.
    One(&'a [[u8; 1]]),
    /// Width 2.
    Two(&'a [[u8; 2]]),
    /// Width 4.
    Four(&'a [[u8; 4]]),
    /// Width 8.
    Eight(&'a [[u8; 8]]),
}

/// Run an expression on a column's numbers, compiled once for each width.
#[macro_export]
macro_rules! each_width {
    ($column:expr, $numbers:ident => $body:expr) => {
        match $column {
            $crate::column::Column::One($numbers) => $body,
            $crate::column::Column::Two($numbers) => $body,
            $crate::column::Column::Four($numbers) => $body,
            $crate::column::Column::Eight($numbers) => $body,
        }
    };
}

impl<'a> Column<'a> {
    /// The column of `count` numbers that fills `bytes`, if there is such a width.
    #[must_use]
    pub fn new(bytes: &'a [u8], count: usize) -> Option<Self> {
        if count == 0 {
            return bytes.is_empty().then_some(Self::One(&[]));
        }
        if !bytes.len().is_multiple_of(count) {
            return None;
        }
        match bytes.len() / count {
            1 => Some(Self::One(bytes.as_chunks().0)),
            2 => Some(Self::Two(bytes.as_chunks().0)),
            4 => Some(Self::Four(bytes.as_chunks().0)),
            8 => Some(Self::Eight(bytes.as_chunks().0)),
            _ => None,
        }
    }

    /// Width of its numbers in bytes.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Four(_) => 4,
            Self::Eight(_) => 8,
        }
    }

    /// How many numbers.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::One(numbers) => numbers.len(),
            Self::Two(numbers) => numbers.len(),
            Self::Four(numbers) => numbers.len(),
            Self::Eight(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number at a position.
    #[must_use]
    #[inline]
    pub fn get(self, index: usize) -> u64 {
        each_width!(self, numbers => numbers[index].get())
    }

    /// The number at a position; 0 where there is none, as in an empty column that stands for zeros.
    #[must_use]
    #[inline]
    pub fn get_or_zero(self, index: usize) -> u64 {
        each_width!(self, numbers => numbers.get(index).map_or(0, |number| number.get()))
    }

    /// The sum over a range of positions.
    #[must_use]
    #[inline]
    pub fn sum(self, start: usize, stop: usize) -> u64 {
        each_width!(self, numbers => sum(&numbers[start..stop]))
    }

    /// How many numbers are not 0.
    #[must_use]
    pub fn nonzero(self) -> usize {
        each_width!(self, numbers => numbers.iter().filter(|number| number.get() != 0).count())
    }

    /// The greatest number, 0 for an empty column.
    #[must_use]
    pub fn max(self) -> u64 {
        each_width!(self, numbers => max(numbers))
    }
}

/// So many numbers of few bytes are added up before their sum is widened, in which it has room.
const NARROW: usize = 1024;

/// The sum of numbers, saturating.
#[inline]
pub fn sum<N: Number>(numbers: &[N]) -> u64 {
    if N::WIDTH == 8 {
        let add = |total: u64, number: &N| total.saturating_add(number.get());
        return numbers.iter().fold(0, add);
    }
    if N::WIDTH == 4 {
        return numbers.iter().map(|number| number.get()).sum();
    }
    let narrow = |numbers: &[N]| numbers.iter().map(|number| number.low()).sum::<u32>();
    numbers.chunks(NARROW).map(narrow).map(u64::from).sum()
}

/// The greatest of numbers, 0 where there are none.
#[inline]
pub fn max<N: Number>(numbers: &[N]) -> u64 {
    let numbers = numbers.iter().copied();
    numbers.fold(N::default(), N::greater).get()
}

/// The least width that holds a number.
#[must_use]
pub const fn width_of(greatest: u64) -> usize {
    match greatest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// As [`width_of`], of a column that is left empty where all of its numbers are 0: then 0.
#[must_use]
pub const fn width_if_any(greatest: u64) -> usize {
    match greatest {
        0 => 0,
        _ => width_of(greatest),
    }
}

/// Append numbers to `out`, each in `width` bytes; none of them where that is 0.
pub fn write(out: &mut Vec<u8>, width: usize, numbers: impl Iterator<Item = u64>) {
    match width {
        0 => {}
        1 => out.extend(numbers.map(|number| number.to_le_bytes()[0])),
        2 => extend::<2>(out, numbers),
        4 => extend::<4>(out, numbers),
        _ => extend::<8>(out, numbers),
    }
}

fn extend<const N: usize>(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let bytes = number.to_le_bytes();
        out.extend_from_slice(&bytes[..N]);
    }
}

/// A number that was checked against a length, as an index.
#[must_use]
#[inline]
pub fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
