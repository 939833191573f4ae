//! A range of keys in which each side has at most one block, compared.

use std::cmp::Ordering;

use crate::cover::Cover;
use crate::delta::DeltaBuilder;
use crate::equal_runs::EqualRuns;
use crate::error::Result;
use crate::pick::{PickedRows, Positions};
use crate::row::Row;
use crate::seek::Seeker;
use crate::view::{Rows, View};

/// What is left to compare of the block of one side.
pub(super) struct Head<'v> {
    view: View<'v>,
    missing: &'v Positions,
    seeker: Seeker<'v>,
    /// The first key after the block.
    end: Option<&'v [u8]>,
    /// How many changes were compared.
    pub(super) compared: usize,
}

impl<'v> Head<'v> {
    pub(super) const fn new(view: View<'v>, missing: &'v Positions, compared: usize, end: Option<&'v [u8]>) -> Self {
        Self {
            view,
            missing,
            seeker: Seeker::new(view),
            end,
            compared,
        }
    }

    /// The missing changes before a key, which count as compared from now on.
    fn before(&mut self, stop: Option<&[u8]>) -> PickedRows<'v> {
        let start = self.compared;
        self.compared = match stop {
            Some(key) if self.end != stop => self.seeker.lower_bound(key),
            _ => self.view.len(),
        };
        PickedRows::new(self.view, self.missing.within(&(start..self.compared)))
    }

    /// The change of a key, all before which are compared.
    fn at(&mut self, key: &[u8]) -> Option<Row<'v>> {
        let row = self.seeker.find(key)?;
        self.compared += 1;
        Some(row)
    }
}

/// The segments beside the blocks of one side, as far as they are not compared.
pub(super) struct Patches<'a> {
    rows: Vec<(Rows<'a>, Option<Row<'a>>, usize)>,
}

impl<'a> Patches<'a> {
    /// Begin after some changes of each patch.
    pub(super) fn new(patches: &[View<'a>], compared: &[usize]) -> Self {
        let begin = |(view, compared): (&View<'a>, &usize)| {
            let mut rows = view.rows(*compared..view.len());
            let head = rows.next();
            (rows, head, *compared)
        };
        Self {
            rows: patches.iter().zip(compared).map(begin).collect(),
        }
    }

    /// How many changes of each patch were compared.
    pub(super) fn compared(self) -> Vec<usize> {
        self.rows.into_iter().map(|(_, _, compared)| compared).collect()
    }

    fn next_key(&self) -> Option<&'a [u8]> {
        self.rows
            .iter()
            .filter_map(|(_, head, _)| head.map(|row| row.key))
            .min()
    }

    /// The newest change of a key; all changes of that key count as compared from now on.
    fn take(&mut self, key: &[u8]) -> Option<Row<'a>> {
        let mut newest = None;
        for (rows, head, compared) in &mut self.rows {
            if let Some(row) = head.take_if(|row| row.key == key) {
                *head = rows.next();
                *compared += 1;
                newest = newer(newest, Some(row));
            }
        }
        newest
    }
}

/// A range of keys in which each side has at most one block.
pub(super) struct Window<'w, 'v, 'p> {
    pub(super) heads: [Option<Head<'v>>; 2],
    pub(super) found: &'w mut DeltaBuilder,
    pub(super) patches: &'w mut [Patches<'p>; 2],
    pub(super) covers: [&'p Cover; 2],
}

impl Window<'_, '_, '_> {
    /// Compare all keys before one, or all keys.
    ///
    /// The few keys of which patches have changes are compared one by one, and blocks alone between them, so that the
    /// time of a change does not depend on how many patches there are.
    pub(super) fn compare(&mut self, stop: Option<&[u8]>) -> Result<()> {
        loop {
            let [a, b] = self.patches.each_ref().map(Patches::next_key);
            let key = a.into_iter().chain(b).min();
            let Some(key) = key.filter(|key| stop.is_none_or(|stop| *key < stop)) else {
                return self.compare_blocks(stop);
            };
            self.compare_blocks(Some(key))?;
            self.compare_key(key)?;
        }
    }

    fn compare_blocks(&mut self, stop: Option<&[u8]>) -> Result<()> {
        match &mut self.heads {
            [None, None] => Ok(()),
            [Some(a), Some(b)] => {
                let rows = [a.before(stop), b.before(stop)];
                self.found.compare_pair(&EqualRuns::new([a.view, b.view]), rows)
            }
            [Some(a), None] => self.found.compare_one(a.before(stop), true),
            [None, Some(b)] => self.found.compare_one(b.before(stop), false),
        }
    }

    fn compare_key(&mut self, key: &[u8]) -> Result<()> {
        let [a, b] = [0, 1].map(|side| {
            let block = self.heads[side].as_mut().and_then(|head| head.at(key));
            let newest = newer(block, self.patches[side].take(key));
            let cover = self.covers[1 - side];
            newest.filter(|row| !cover.covers(row.origin, row.stamp))
        });
        self.found.add(a.as_ref(), b.as_ref())
    }
}

fn newer<'a>(one: Option<Row<'a>>, other: Option<Row<'a>>) -> Option<Row<'a>> {
    match (one, other) {
        (Some(left), Some(right)) if left.order(&right) == Ordering::Less => other,
        (None, _) => other,
        _ => one,
    }
}
