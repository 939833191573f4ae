//! A column of numbers, all in the least width that holds the greatest.

/// A little-endian number of fixed width.
pub(crate) trait Number: Copy + Default {
    /// Width in bytes.
    const WIDTH: usize;

    /// The number.
    fn get(self) -> u64;

    /// Its low 32 bits.
    fn low(self) -> u32;

    /// The greater of two, found without widening them.
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
pub(crate) enum Column<'a> {
    /// Width 1.
    One(&'a [[u8; 1]]),
    /// Width 2.
    Two(&'a [[u8; 2]]),
    /// Width 4.
    Four(&'a [[u8; 4]]),
    /// Width 8.
    Eight(&'a [[u8; 8]]),
}

/// Evaluate an expression on a column's numbers, compiled once for each width.
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
pub(crate) use each_width;

impl<'a> Column<'a> {
    /// The column of `count` numbers that fills `bytes`, if there is such a width.
    pub(crate) fn new(bytes: &'a [u8], count: usize) -> Option<Self> {
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
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Four(_) => 4,
            Self::Eight(_) => 8,
        }
    }

    /// Number of numbers.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::One(numbers) => numbers.len(),
            Self::Two(numbers) => numbers.len(),
            Self::Four(numbers) => numbers.len(),
            Self::Eight(numbers) => numbers.len(),
        }
    }

    /// Whether there are no numbers.
    pub(crate) const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number at a position.
    #[inline]
    pub(crate) fn get(self, index: usize) -> u64 {
        each_width!(self, numbers => numbers[index].get())
    }

    /// The number at a position; 0 where there is none, as in an empty column, which stands for zeros.
    #[inline]
    pub(crate) fn get_or_zero(self, index: usize) -> u64 {
        each_width!(self, numbers => numbers.get(index).map_or(0, |number| number.get()))
    }

    /// The sum over a range of positions.
    #[inline]
    pub(crate) fn sum(self, start: usize, stop: usize) -> u64 {
        each_width!(self, numbers => sum(&numbers[start..stop]))
    }

    /// How many numbers are not 0.
    pub(crate) fn nonzero(self) -> usize {
        each_width!(self, numbers => numbers.iter().filter(|number| number.get() != 0).count())
    }

    /// The greatest number, 0 for an empty column.
    pub(crate) fn max(self) -> u64 {
        each_width!(self, numbers => max(numbers))
    }
}

/// How many narrow numbers are added up in 32 bits, where their sum has room, before it is widened.
const NARROW: usize = 1024;

/// The sum of numbers, saturating.
#[inline]
pub(crate) fn sum<N: Number>(numbers: &[N]) -> u64 {
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
pub(crate) fn max<N: Number>(numbers: &[N]) -> u64 {
    let numbers = numbers.iter().copied();
    numbers.fold(N::default(), N::greater).get()
}

/// The least width that holds a number.
pub(crate) const fn width_of(greatest: u64) -> usize {
    match greatest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// As [`width_of`] for a column that is left empty where all of its numbers are 0; its width is 0 then.
pub(crate) const fn width_if_any(greatest: u64) -> usize {
    match greatest {
        0 => 0,
        _ => width_of(greatest),
    }
}

/// Append numbers to `out`, each in `width` bytes; nothing where `width` is 0.
pub(crate) fn write(out: &mut Vec<u8>, width: usize, numbers: impl Iterator<Item = u64>) {
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

/// A number as an index, where it was checked against a length.
#[inline]
pub(crate) fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
