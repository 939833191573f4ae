//! Two directories compared: which of their parts have to be read for a delta.

use crate::cover::Cover;
use crate::seek::Seeker;
use crate::view::View;

use super::outline::Outline;
use super::sums::Sums;
use super::table::{Part, Table};

/// One side of a comparison.
#[derive(Clone, Copy)]
pub(super) struct Compared<'a> {
    pub(super) outline: &'a Outline,
    /// Segments beside the blocks.
    pub(super) patches: &'a [View<'a>],
    pub(super) cover: &'a Cover,
}

/// Whether each part of A, and of B, has to be read.
///
/// A part is not needed where the other side's vector covers it, unless it may have a newer change of a key of which a
/// patch has one that is missing. Nor are parts needed that are equal on both sides and beside which no patch has
/// changes, where both covers treat them alike.
pub(super) fn needed(sides: [Compared<'_>; 2]) -> [Vec<bool>; 2] {
    let [a, b] = sides;
    let mut needed = [uncovered(&a, b.cover), uncovered(&b, a.cover)];
    let alike = a.cover == b.cover;
    let mut seekers: Vec<_> = a
        .patches
        .iter()
        .chain(b.patches)
        .map(|view| Seeker::new(*view))
        .collect();
    for region in regions([&a.outline.table, &b.outline.table]) {
        let [of_a, of_b] = &region.parts;
        let patched = seekers.iter_mut().any(|seeker| {
            let start = seeker.lower_bound(region.first_key);
            let stop = region.end.map_or(usize::MAX, |end| seeker.lower_bound(end));
            start < stop.min(seeker.len())
        });
        let parts = || of_a.clone().filter_map(|index| a.outline.table.get(index));
        let unknown = || parts().all(|part| [a.cover, b.cover].iter().all(|cover| knows_nothing(cover, &part)));
        if region.equal && !patched && (alike || unknown()) {
            needed[0][of_a.clone()].fill(false);
            needed[1][of_b.clone()].fill(false);
        }
    }
    needed
}

/// Whether each part has changes that the other side's cover may not hold, or may hide such changes of a patch.
fn uncovered(side: &Compared<'_>, cover: &Cover) -> Vec<bool> {
    let table = &side.outline.table;
    let mut seekers: Vec<_> = side.patches.iter().map(|view| (*view, Seeker::new(*view))).collect();
    let mut hides = |index: usize, part: &Part<'_>| {
        let stamp_max = part.stamp_max();
        seekers.iter_mut().any(|(view, seeker)| {
            let start = seeker.lower_bound(part.first_key);
            let stop = table
                .first_key(index + 1)
                .map_or(view.len(), |end| seeker.lower_bound(end));
            let mut rows = view.rows(start..stop);
            rows.any(|row| row.stamp <= stamp_max && !cover.covers(row.origin, row.stamp))
        })
    };
    let parts = table.iter().enumerate();
    let needed = parts.map(|(index, part)| !cover.covers_all(part.maxima.iter().copied()) || hides(index, &part));
    needed.collect()
}

/// Whether a cover holds no change of any origin of a part.
fn knows_nothing(cover: &Cover, part: &Part<'_>) -> bool {
    let mut origins = part.maxima.iter().map(|(origin, _)| origin);
    origins.all(|origin| !cover.vector().contains_key(origin) && !cover.has_exceptions(*origin))
}

/// A range of keys that begins and ends between two parts of either side.
struct Region<'a> {
    first_key: &'a [u8],
    /// The first key after it.
    end: Option<&'a [u8]>,
    /// The parts of each side.
    parts: [std::ops::Range<usize>; 2],
    /// Whether both sides have the same changes in it.
    equal: bool,
}

/// The least regions that both tables together can be divided into.
fn regions(tables: [&Table; 2]) -> impl Iterator<Item = Region<'_>> {
    let mut start = [0; 2];
    std::iter::from_fn(move || {
        let mut stop = start;
        let mut totals = [(0, Sums::default()); 2];
        let first_key = least(tables, start)?;
        loop {
            let next = least(tables, stop);
            let firsts = [0, 1].map(|side| tables[side].first_key(stop[side]));
            if stop != start && firsts[0] == firsts[1] {
                break;
            }
            for side in [0, 1] {
                if let Some(part) = tables[side].get(stop[side]).filter(|part| Some(part.first_key) == next) {
                    let (count, sums) = totals[side];
                    totals[side] = (part.count.wrapping_add(count), sums.plus(part.sums));
                    stop[side] += 1;
                }
            }
        }
        let parts = [0, 1].map(|side| start[side]..stop[side]);
        start = stop;
        Some(Region {
            first_key,
            end: tables[0].first_key(stop[0]),
            parts,
            equal: totals[0] == totals[1],
        })
    })
}

/// The least first key of the parts at some positions.
fn least(tables: [&Table; 2], places: [usize; 2]) -> Option<&[u8]> {
    let firsts = [0, 1].map(|side| tables[side].first_key(places[side]));
    firsts.into_iter().flatten().min()
}
