//! What a directory says of its parts: blocks, or pages that describe blocks.

use super::sums::Sums;

/// Where a part lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The position of the object among the packs of the directory.
    pub pack: u32,
    /// Where the part begins in that object, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
}

impl Place {
    /// Where the part ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// What a directory says of one part: a block, or a page of such descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The first key.
    pub first_key: &'a [u8],
    /// How many changes.
    pub count: u64,
    /// Where it lies.
    pub place: Place,
    /// The checksum in its head.
    pub checksum: u64,
    /// The sums over its changes.
    pub sums: Sums,
    /// The greatest stamp of each origin that occurs, ascending by origin.
    pub maxima: &'a [(u64, u64)],
}

impl Part<'_> {
    /// The greatest stamp.
    #[must_use]
    pub fn stamp_max(&self) -> u64 {
        self.maxima.iter().map(|(_, stamp)| *stamp).max().unwrap_or(0)
    }
}

/// Parts in ascending order of their first keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    facts: Vec<Facts>,
    keys: Vec<u8>,
    maxima: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    key_end: usize,
    maxima_end: usize,
    count: u64,
    place: Place,
    checksum: u64,
    sums: Sums,
}

impl Table {
    /// Append a part whose keys are greater than all before.
    pub fn push(&mut self, part: &Part<'_>) {
        self.keys.extend_from_slice(part.first_key);
        self.maxima.extend_from_slice(part.maxima);
        self.facts.push(Facts {
            key_end: self.keys.len(),
            maxima_end: self.maxima.len(),
            count: part.count,
            place: part.place,
            checksum: part.checksum,
            sums: part.sums,
        });
    }

    /// Number of parts.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are no parts.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The part at a position, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Part<'_>> {
        let facts = self.facts.get(index)?;
        let before = index.checked_sub(1).map(|before| &self.facts[before]);
        let maxima_start = before.map_or(0, |before| before.maxima_end);
        Some(Part {
            first_key: self.first_key(index)?,
            count: facts.count,
            place: facts.place,
            checksum: facts.checksum,
            sums: facts.sums,
            maxima: &self.maxima[maxima_start..facts.maxima_end],
        })
    }

    /// The first key of the part at a position, if there is one.
    #[must_use]
    pub fn first_key(&self, index: usize) -> Option<&[u8]> {
        let end = self.facts.get(index)?.key_end;
        let start = index.checked_sub(1).map_or(0, |before| self.facts[before].key_end);
        Some(&self.keys[start..end])
    }

    /// About how many bytes the table takes in memory.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.keys.len() + size_of::<Facts>() * self.facts.len() + size_of::<(u64, u64)>() * self.maxima.len()
    }

    /// All parts.
    pub fn iter(&self) -> impl Iterator<Item = Part<'_>> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Number of changes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.facts.iter().fold(0, |sum, facts| sum.saturating_add(facts.count))
    }

    /// The sums over all changes.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.facts
            .iter()
            .fold(Sums::default(), |sums, facts| sums.plus(facts.sums))
    }

    /// The greatest stamp of each origin, ascending by origin.
    #[must_use]
    pub fn maxima(&self) -> Vec<(u64, u64)> {
        let mut maxima = self.maxima.clone();
        maxima.sort_unstable();
        maxima.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        maxima
    }

    /// Change the pack of each part.
    pub(super) fn map_packs(&mut self, map: impl Fn(u32) -> u32) {
        for facts in &mut self.facts {
            facts.place.pack = map(facts.place.pack);
        }
    }
}
