//! Deltas of logs that are almost the same.

use std::sync::LazyLock;

use kvsync_core::{Cover, DIGEST_BYTES, TOMBSTONE};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::delta_model::{compare, expected_delta, lists, missing};
use crate::model::{Change, Log, any_change, any_cover, any_expiry, segment};

/// Changes a column of `count` rows of one side, every `step`th from `first` on.
#[derive(Debug, Clone)]
struct Edit {
    side: usize,
    first: usize,
    step: usize,
    count: usize,
    column: u8,
    wide: bool,
}

impl Edit {
    fn apply(&self, log: &mut Log) {
        let places = (self.first..log.len()).step_by(self.step).take(self.count);
        for place in places.collect::<Vec<_>>().into_iter().rev() {
            let (key, change) = &mut log[place];
            match self.column {
                0 => change.stamp += if self.wide { 1 << 33 } else { 41 },
                1 => change.origin ^= if self.wide { 1 << 63 } else { 1 },
                2 => change.flags ^= 6,
                3 => change.size += if self.wide { 70_000 } else { 1 },
                4 => change.digest[if self.wide { 0 } else { DIGEST_BYTES - 1 }] ^= 1,
                5 => {
                    key.pop();
                    key.push_str(if self.wide { &LONG } else { "~" });
                }
                6 => key.push('+'),
                7 => change.expires += if self.wide { 1 << 41 } else { 1 },
                _ => drop(log.remove(place)),
            }
        }
    }
}

static LONG: LazyLock<String> = LazyLock::new(|| "z".repeat(300));

fn any_edit(rows: usize) -> impl Strategy<Value = Edit> {
    let step = prop_oneof![Just(1_usize), 2_usize..12, 12_usize..90];
    let count = prop_oneof![3 => Just(1_usize), 1 => 1_usize..700];
    let place = (0_usize..2, 0..rows, step, count);
    (place, 0_u8..9, any::<bool>()).prop_map(|((side, first, step, count), column, wide)| Edit {
        side,
        first,
        step,
        count,
        column,
        wide,
    })
}

/// Two long logs of the same changes, except for a few edits.
fn any_similar_pair() -> impl Strategy<Value = [Log; 2]> {
    let length = prop_oneof![1_usize..80, 80_usize..600, 600_usize..6_000];
    let edits = length.prop_flat_map(|rows| (Just(rows), vec(any_edit(rows), 0..6)));
    let kinds = (vec(any_change(0..=30), 7), any_expiry());
    (edits, kinds, 1_usize..6).prop_map(|((rows, edits), (mut kinds, expiry), tail)| {
        for kind in &mut kinds {
            kind.flags &= !TOMBSTONE;
        }
        expiry.apply(kinds.iter_mut());
        let row = |place: usize| {
            let change = kinds[place * place % kinds.len()];
            (format!("{place:05}{}-", "é".repeat(place % tail)), change)
        };
        let log: Log = (0..rows).map(row).collect();
        let mut pair = [log.clone(), log];
        for edit in &edits {
            edit.apply(&mut pair[edit.side]);
        }
        pair
    })
}

fn pair_cover() -> impl Strategy<Value = Cover> {
    let all = Cover::new((0..4).map(|origin| (origin, 35)).collect(), Vec::new()).unwrap();
    prop_oneof![2 => Just(Cover::default()), 1 => Just(all), 1 => any_cover()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_delta_of_long_similar_logs_is_that_of_the_model(
        pair in any_similar_pair(),
        cover_a in pair_cover(),
        cover_b in pair_cover(),
    ) {
        let [a, b] = &pair;
        let expected = expected_delta(&missing(b, &cover_a), &missing(a, &cover_b));
        let (a, b) = (segment(a), segment(b));
        let found = compare([&[a.view()], &[b.view()]], [&cover_a, &cover_b]).unwrap();
        prop_assert_eq!(lists(found), expected);
    }
}

/// The delta of two logs of equal changes, of which some differ by an edit.
fn delta_of_similar_logs(rows: usize, edit: &Edit) -> [Log; 6] {
    let change = Change {
        origin: 1,
        stamp: 5,
        flags: 0,
        size: 3,
        expires: 0,
        digest: [7; DIGEST_BYTES],
    };
    let log: Log = (0..rows).map(|place| (format!("{place:05}-"), change)).collect();
    let mut other = log.clone();
    edit.apply(&mut other);
    let (a, b) = (segment(&log), segment(&other));
    let nothing = Cover::default();
    lists(compare([&[a.view()], &[b.view()]], [&nothing, &nothing]).unwrap())
}

#[test]
fn one_difference_is_found_at_any_place_and_in_any_column() {
    for (rows, column) in [40, 2_100].into_iter().flat_map(|rows| (0..9).map(move |c| (rows, c))) {
        for first in (0..40).chain([1_030, 1_031, 1_032, 1_033, 2_060, 2_098, 2_099]) {
            let edit = Edit {
                side: 1,
                first,
                step: 1,
                count: 1,
                column,
                wide: first % 2 == 0,
            };
            let counts = delta_of_similar_logs(rows, &edit).map(|list| list.len());
            let expected = match column {
                _ if first >= rows => [0; 6],
                // A later stamp, or the greater of two changes by anything but the effect.
                0 | 2 | 3 => [0, 0, 1, 0, 0, 0],
                1 if first % 2 == 0 => [0, 0, 1, 0, 0, 0],
                1 => [0, 0, 0, 1, 0, 0],
                // Another value, or the same with another expiry.
                4 | 7 => [0, 0, 0, 0, 1, 1],
                5 | 6 => [1, 1, 0, 0, 0, 0],
                _ => [0, 1, 0, 0, 0, 0],
            };
            assert_eq!(counts, expected, "{rows} rows, {edit:?}");
        }
    }
}

#[test]
fn equal_columns_of_unlike_bases_differ() {
    for (column, place) in [(0, 2), (1, 2)] {
        let edit = Edit {
            side: 1,
            first: 0,
            step: 1,
            count: 300,
            column,
            wide: true,
        };
        let mut expected = [0; 6];
        expected[place] = 300;
        let counts = delta_of_similar_logs(300, &edit).map(|list| list.len());
        assert_eq!(counts, expected, "{edit:?}");
    }
}
