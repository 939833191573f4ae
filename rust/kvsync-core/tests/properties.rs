//! The core against plain models: maps, sets and sorted lists.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kvsync_core::{
    ArgumentFault, BatchLimits, Builder, Cover, DIGEST_BYTES, Delta, Entry, Error, Inventory, KeyList, Kind, NO_DIGEST,
    NewValues, Newest, Positions, Provenance, Row, Scanned, Segment, Side, Sides, SingleSegment, Span, Staged,
    TOMBSTONE, View, Workers, check_key, delta, digest, envelope, is_reserved, single_segment, stamp_after,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// A change without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    origin: u64,
    stamp: u64,
    flags: u8,
    size: u64,
    expires: u64,
    digest: [u8; DIGEST_BYTES],
}

type Log = Vec<(String, Change)>;
type Model = BTreeMap<String, Change>;

fn row<'a>(key: &'a str, change: &'a Change) -> Row<'a> {
    Row {
        key: key.as_bytes(),
        origin: change.origin,
        stamp: change.stamp,
        flags: change.flags,
        size: change.size,
        expires: change.expires,
        digest: &change.digest,
    }
}

fn change_of(row: &Row<'_>) -> (String, Change) {
    let key = String::from_utf8(row.key.to_vec()).unwrap();
    let change = Change {
        origin: row.origin,
        stamp: row.stamp,
        flags: row.flags,
        size: row.size,
        expires: row.expires,
        digest: *row.digest,
    };
    (key, change)
}

fn changes(view: View<'_>) -> Vec<(String, Change)> {
    view.iter().map(|row| change_of(&row)).collect()
}

fn newest(log: &[(String, Change)]) -> Model {
    let mut model = Model::new();
    for (key, change) in log {
        let kept = model.entry(key.clone()).or_insert(*change);
        if row(key, change).order(&row(key, kept)) == Ordering::Greater {
            *kept = *change;
        }
    }
    model
}

fn segment(log: &[(String, Change)]) -> Segment<Vec<u8>> {
    let rows = log.iter().map(|(key, change)| row(key, change));
    Segment::from_rows(rows.collect()).unwrap()
}

fn key_list<'a>(keys: impl IntoIterator<Item = &'a str>) -> KeyList {
    keys.into_iter().collect()
}

fn by(origin: u64, first_stamp: u64, flags: u8) -> Provenance {
    Provenance {
        origin,
        first_stamp,
        flags,
    }
}

fn compare(logs: [&[View<'_>]; 2], covers: [&Cover; 2], ordered: bool) -> Result<Delta, Error> {
    delta(sides(logs, covers, ordered), Workers::ALONE)
}

fn sides<'a>([a, b]: [&'a [View<'a>]; 2], [cover_a, cover_b]: [&'a Cover; 2], ordered: bool) -> Sides<'a> {
    let side = |segments, cover| Side { segments, cover };
    Sides {
        a: side(a, cover_a),
        b: side(b, cover_b),
        ordered,
    }
}

/// The position of the segment of `given` that is the whole delta from `given` to `taker`.
fn single(given: &[View<'_>], taker: &[View<'_>], cover: &Cover) -> Result<Option<usize>, Error> {
    let all = Cover::new((0..4).map(|origin| (origin, u64::MAX)).collect(), Vec::new()).unwrap();
    Ok(match single_segment(sides([given, taker], [&all, cover], false))? {
        Some(SingleSegment::ToB(place)) => Some(place),
        _ => None,
    })
}

fn logged(
    keys: &KeyList,
    values: &[Option<&[u8]>],
    expires: Option<Vec<u64>>,
    provenance: Provenance,
) -> Result<Segment<Vec<u8>>, Error> {
    Segment::from_values(NewValues { keys, values, expires }, provenance)
}

fn list(positions: Positions) -> Vec<u32> {
    match positions {
        Positions::Range(range) => range.collect(),
        Positions::List(list) => list,
    }
}

fn any_key() -> impl Strategy<Value = String> {
    let shared = "(a|b|shared/prefix/)(a|b|c|é|\u{1f642}|0{9}){0,3}";
    prop_oneof![4 => shared, 1 => "[^.~]{0,40}"]
}

fn any_change(stamps: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Change> {
    let sizes = prop_oneof![0_u64..4, Just(300), Just(70_000), Just(1 << 40)];
    (0_u64..4, stamps, 0_u8..4, sizes, 0_u8..3).prop_map(|(origin, stamp, flags, size, fill)| {
        let tombstone = flags & TOMBSTONE != 0;
        Change {
            origin,
            stamp,
            flags,
            size: if tombstone { 0 } else { size },
            expires: 0,
            digest: if tombstone { NO_DIGEST } else { [fill; DIGEST_BYTES] },
        }
    })
}

fn any_log(length: usize) -> impl Strategy<Value = Log> {
    let stamps = prop_oneof![0_u64..30, Just(1 << 17), Just(1 << 40), Just(u64::MAX)];
    let wide = stamps.prop_flat_map(|stamp| any_change(stamp..=stamp));
    let change = prop_oneof![4 => any_change(0..=30), 1 => wide];
    let log = vec((any_key(), change), 0..length);
    (log, any_expiry()).prop_map(|(mut log, expiry)| {
        expiry.apply(log.iter_mut().map(|(_, change)| change));
        log
    })
}

/// Lets none, some or all of some values expire.
#[derive(Debug, Clone)]
struct Expiry {
    eighths: u64,
    latest: u64,
    seed: u64,
}

impl Expiry {
    fn at(&self, place: usize) -> u64 {
        let chance = self.seed.rotate_left(u32::try_from(place % 64).unwrap());
        if chance % 8 < self.eighths {
            1 + chance / 8 % self.latest
        } else {
            0
        }
    }

    fn apply<'a>(&self, changes: impl Iterator<Item = &'a mut Change>) {
        let puts = changes.filter(|change| change.flags & TOMBSTONE == 0);
        for (place, change) in puts.enumerate() {
            change.expires = self.at(place);
        }
    }
}

fn any_expiry() -> impl Strategy<Value = Expiry> {
    let eighths = prop_oneof![4 => Just(0), 2 => 1_u64..8, 1 => Just(8)];
    let latest = select(&[1, 3, 300, 70_000, 1 << 41, u64::MAX]);
    (eighths, latest, any::<u64>()).prop_map(|(eighths, latest, seed)| Expiry { eighths, latest, seed })
}

fn any_cover() -> impl Strategy<Value = Cover> {
    let spans = vec((0_u64..4, 0_u64..30, 0_u64..6), 0..6);
    (btree_map(0_u64..4, 0_u64..30, 0..4), spans).prop_map(|(vector, spans)| {
        let span = |(origin, first, more)| Span {
            origin,
            first,
            last: first + more,
        };
        Cover::new(vector, spans.into_iter().map(span).collect()).unwrap()
    })
}

/// What a cover holds, as far as these tests go.
fn dots(cover: &Cover) -> BTreeSet<(u64, u64)> {
    let all = (0..4).flat_map(|origin| (0..40).map(move |stamp| (origin, stamp)));
    all.filter(|(origin, stamp)| cover.covers(*origin, *stamp)).collect()
}

fn is_normal(cover: &Cover) -> bool {
    let beyond = |span: &Span| cover.vector().get(&span.origin).is_none_or(|held| span.first > *held);
    let apart = |pair: &[Span]| (pair[0].origin, pair[0].last.saturating_add(1)) < (pair[1].origin, pair[1].first);
    cover.exceptions().iter().all(beyond) && cover.exceptions().windows(2).all(apart)
}

/// What a cover misses of the newest changes.
fn missing(log: &[(String, Change)], cover: &Cover) -> Model {
    let mut model = newest(log);
    model.retain(|_, change| !cover.covers(change.origin, change.stamp));
    model
}

/// The six lists of a delta, given what each side misses.
fn expected_delta(for_a: &Model, for_b: &Model, ordered: bool) -> [Log; 6] {
    let mut expected: [Log; 6] = std::array::from_fn(|_| Log::new());
    for key in for_a.keys().chain(for_b.keys()).collect::<BTreeSet<_>>() {
        let (place, change) = match (for_b.get(key), for_a.get(key)) {
            (Some(mine), None) => (1, *mine),
            (None, Some(theirs)) => (0, *theirs),
            (Some(mine), Some(theirs)) => {
                let (left, right) = (row(key, mine), row(key, theirs));
                let same = left.deletes() == right.deletes() && mine.digest == theirs.digest;
                let there = same && mine.expires == theirs.expires;
                match left.order(&right) {
                    Ordering::Equal => continue,
                    order if there || ordered => {
                        let base = if there { 2 } else { 0 };
                        if order == Ordering::Greater {
                            (base + 1, *mine)
                        } else {
                            (base, *theirs)
                        }
                    }
                    _ => {
                        expected[4].push((key.clone(), *mine));
                        (5, *theirs)
                    }
                }
            }
            (None, None) => continue,
        };
        expected[place].push((key.clone(), change));
    }
    expected
}

fn lists(found: Delta) -> [Log; 6] {
    let Delta {
        to_a,
        to_b,
        log_a,
        log_b,
        conflict_a,
        conflict_b,
    } = found;
    [to_a, to_b, log_a, log_b, conflict_a, conflict_b].map(|segment| changes(segment.view()))
}

/// Changes a column of some rows of one side: `count` of them, every `step`th from `first` on.
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
                2 => change.flags ^= 2,
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
    fn a_segment_is_the_newest_of_its_rows_and_survives_encoding(log in any_log(200), compress: bool) {
        let built = segment(&log);
        let model: Log = newest(&log).into_iter().collect();
        prop_assert_eq!(changes(built.view()), model.clone());
        let object = built.encode("segment/x", compress).unwrap();
        let body = envelope::open(Kind::Segment, &object).unwrap();
        let parsed = Segment::parse(body.clone(), 0, "segment/x").unwrap();
        prop_assert_eq!(changes(parsed.view()), model);
        prop_assert_eq!(parsed.encode("segment/x", compress).unwrap(), object.clone());
        if body.len() + envelope::HEADER_BYTES == object.len() {
            let inside = Segment::parse(object.as_slice(), envelope::HEADER_BYTES, "segment/x").unwrap();
            prop_assert_eq!(changes(inside.view()), changes(parsed.view()));
        }
        let (view, built) = (parsed.view(), built.view());
        prop_assert!(view.maxima().eq(built.maxima()));
        prop_assert_eq!(view.stamp_max(), built.stamp_max());
        prop_assert_eq!(view.tombstones(), built.tombstones());
        prop_assert_eq!(view.value_bytes(), built.value_bytes());
        prop_assert_eq!(view.expiring(), built.expiring());
    }

    #[test]
    fn expiries_are_those_of_the_puts(log in any_log(200), start in 0_usize..200, more in 0_usize..200) {
        let built = segment(&log);
        let object = built.encode("s", false).unwrap();
        let parsed = Segment::parse(object.as_slice(), envelope::HEADER_BYTES, "s").unwrap();
        let model: Log = newest(&log).into_iter().collect();
        let stop = (start + more).min(model.len());
        let part = model.get(start..stop).unwrap_or_default().iter().map(|(_, change)| change);
        let puts: Vec<_> = part.filter(|change| change.flags & TOMBSTONE == 0).map(|change| change.expires).collect();
        let times = [0, 1, 2, 150, 300, 1 << 40, u64::MAX];
        for view in [built.view(), parsed.view()] {
            prop_assert_eq!(view.expires(start..start + more), puts.clone());
            prop_assert_eq!(view.expiring(), model.iter().filter(|(_, change)| change.expires > 0).count());
            for now in times {
                let due = |change: &Change| 0 < change.expires && change.expires <= now;
                let expired = model.iter().filter(|(_, change)| due(change));
                let keys: Vec<_> = expired.map(|(key, _)| key.as_bytes()).collect();
                prop_assert_eq!(view.expired(now), keys);
            }
        }
    }

    #[test]
    fn values_get_consecutive_stamps_in_key_order(
        pairs in vec((any_key(), proptest::option::of(vec(any::<u8>(), 0..5))), 0..200),
        sort: bool,
        expiry in any_expiry(),
        given: bool,
    ) {
        let mut pairs = pairs;
        if sort {
            pairs.sort();
            pairs.dedup_by(|right, left| right.0 == left.0);
        }
        let keys = key_list(pairs.iter().map(|(key, _)| key.as_str()));
        let values: Vec<_> = pairs.iter().map(|(_, value)| value.as_deref()).collect();
        let time = |place| if given { expiry.at(place) } else { 0 };
        let at = |(place, value): (usize, &Option<_>)| value.map_or(0, |_: &[u8]| time(place));
        let expires: Vec<u64> = values.iter().enumerate().map(at).collect();
        let built = logged(&keys, &values, given.then(|| expires.clone()), by(5, 1000, 2)).unwrap();
        let model: BTreeMap<_, _> = pairs.iter().cloned().collect();
        let last: BTreeMap<_, _> = pairs.iter().zip(&expires).map(|((key, _), expires)| (key, *expires)).collect();
        let expected = model.iter().zip(1000..).map(|((key, value), stamp)| {
            let change = Change {
                origin: 5,
                stamp,
                flags: 2 | u8::from(value.is_none()),
                size: value.as_ref().map_or(0, |value| value.len() as u64),
                expires: last[key],
                digest: value.as_ref().map_or(NO_DIGEST, |value| digest::of_value(value)),
            };
            (key.clone(), change)
        });
        let expected: Log = expected.collect();
        prop_assert_eq!(changes(built.view()), expected.clone());
        prop_assert_eq!(built.encode("s", false).unwrap(), segment(&expected).encode("s", false).unwrap());
        let object = built.encode("s", false).unwrap();
        let parsed = Segment::parse(object.as_slice(), envelope::HEADER_BYTES, "s").unwrap();
        let view = parsed.view();
        let puts = || model.values().filter(|value| value.is_some());
        let stored: Vec<_> = puts().map(|value| value.as_deref()).collect();
        prop_assert_eq!(view.mismatches(0..view.len(), &stored, Workers::new(2)).unwrap(), Vec::<usize>::new());
        let spoilt: Vec<_> = stored.iter().map(|_| Some(&b"other value"[..])).collect();
        prop_assert_eq!(view.mismatches(0..view.len(), &spoilt, Workers::new(2)).unwrap().len(), stored.len());
        let absent = vec![None; stored.len()];
        prop_assert_eq!(view.mismatches(0..view.len(), &absent, Workers::new(2)).unwrap().len(), stored.len());
        let more = vec![None; stored.len() + 1];
        let refused = Err(Error::BadArgument(ArgumentFault::ValuesAndPuts));
        prop_assert_eq!(view.mismatches(0..view.len(), &more, Workers::new(2)), refused);
    }

    #[test]
    fn staged_changes_are_taken_apart_by_position(
        pairs in vec((any_key(), proptest::option::of(vec(any::<u8>(), 0..5))), 0..60),
        sort: bool,
        puts_only: bool,
        expiry in any_expiry(),
        given: bool,
        start in 0_usize..60,
        more in 0_usize..60,
    ) {
        let mut pairs = pairs;
        if sort {
            pairs.sort();
            pairs.dedup_by(|right, left| right.0 == left.0);
        }
        if puts_only {
            pairs.retain(|(_, value)| value.is_some());
        }
        let values: Vec<_> = pairs.iter().map(|(_, value)| value.as_deref()).collect();
        let at = |(place, value): (usize, &Option<_>)| value.map_or(0, |_: &[u8]| expiry.at(place));
        let expires: Vec<u64> = values.iter().enumerate().map(at).collect();
        let keys = key_list(pairs.iter().map(|(key, _)| key.as_str()));
        let new = NewValues { keys, values: &values, expires: given.then(|| expires.clone()) };
        let staged = Staged::new(new, by(5, 1000, 0)).unwrap();
        let last: BTreeMap<&str, u32> = (0..).zip(&pairs).map(|(place, (key, _))| (key.as_str(), place)).collect();
        prop_assert_eq!(staged.len(), last.len());
        let range = start..start + more;
        let all: Vec<u32> = last.into_values().collect();
        let places = all.get(start..range.end.min(all.len())).unwrap_or_default();
        let value = |place: &u32| values[usize::try_from(*place).unwrap()];
        let (puts, deletes): (Vec<u32>, Vec<u32>) = places.iter().partition(|place| value(place).is_some());
        let part = staged.part(range.clone());
        prop_assert_eq!(list(part.puts), puts.clone());
        prop_assert_eq!(part.deletes, deletes);
        let times = puts.iter().map(|place| expires[usize::try_from(*place).unwrap()]);
        prop_assert_eq!(part.expires, given.then(|| times.collect::<Vec<_>>()));

        let [own, same] = [(); 2].map(|()| staged.segment(&values, Workers::ALONE).unwrap());
        for changes in [own.view(), same.view()] {
            prop_assert_eq!(staged.find_puts(own.view(), changes, range.clone()).map(list), Some(puts.clone()));
        }
        let limits = BatchLimits { count_max: 7, bytes_max: 20 };
        let size = |place: usize| values[place].map_or(0, |value| value.len() as u64);
        prop_assert_eq!(staged.batches(limits, size), own.view().batches(limits));
        let unknown = logged(&key_list(["~~"]), &[Some(b"x")], None, by(5, 9, 0)).unwrap();
        prop_assert_eq!(staged.find_puts(own.view(), unknown.view(), 0..1), None);
    }

    #[test]
    fn merging_keeps_the_newest_of_each_key(logs in vec(any_log(150), 0..6)) {
        let segments: Vec<_> = logs.iter().map(|log| segment(log)).collect();
        let views: Vec<_> = segments.iter().map(Segment::view).collect();
        let merged = Segment::merge(&views).unwrap();
        let model = newest(&logs.concat());
        prop_assert_eq!(changes(merged.view()), model.into_iter().collect::<Log>());
        let whole = digest::of_newest(merged.view().iter());
        let parts = digest::of_newest(Newest::new(views.iter().map(View::iter)));
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn lookups_and_removals_match_a_map(log in any_log(400), others in vec(any_key(), 0..30), pick: u64) {
        let built = segment(&log);
        let model = newest(&log);
        let known = log.iter().map(|(key, _)| key).zip(0_u64..).filter(|(_, at)| (pick >> (at % 64)) & 1 == 0);
        let keys: Vec<&str> = known.map(|(key, _)| key.as_str()).chain(others.iter().map(String::as_str)).collect();
        for (key, found) in keys.iter().zip(built.view().find(&keys)) {
            prop_assert_eq!(found.map(|row| change_of(&row).1), model.get(*key).copied());
        }
        let rest = built.view().without(&keys).unwrap();
        let mut left = model;
        left.retain(|key, _| !keys.contains(&key.as_str()));
        prop_assert_eq!(changes(rest.view()), left.into_iter().collect::<Log>());
    }

    #[test]
    fn batches_are_consecutive_and_within_their_limits(
        log in any_log(200),
        count_max in 1_usize..40,
        bytes_max in 0_u64..200_000,
    ) {
        let built = segment(&log);
        let view = built.view();
        let mut next = 0;
        for (start, stop) in view.batches(BatchLimits { count_max, bytes_max }).unwrap() {
            prop_assert_eq!(start, next);
            prop_assert!(start < stop && stop - start <= count_max);
            let bytes: u64 = view.rows(start..stop).map(|row| row.size).sum();
            prop_assert!(bytes <= bytes_max || stop - start == 1);
            next = stop;
        }
        prop_assert_eq!(next, view.len());
        let none = BatchLimits { count_max: 0, bytes_max };
        prop_assert_eq!(view.batches(none), Err(Error::BadArgument(ArgumentFault::EmptyBatch)));
    }

    #[test]
    fn the_delta_of_long_similar_logs_is_that_of_the_model(
        pair in any_similar_pair(),
        cover_a in pair_cover(),
        cover_b in pair_cover(),
        ordered: bool,
    ) {
        let [a, b] = &pair;
        let expected = expected_delta(&missing(b, &cover_a), &missing(a, &cover_b), ordered);
        let (a, b) = (segment(a), segment(b));
        let found = compare([&[a.view()], &[b.view()]], [&cover_a, &cover_b], ordered).unwrap();
        prop_assert_eq!(lists(found), expected);
    }

    #[test]
    fn the_delta_is_that_of_the_model(
        a in vec(any_log(60), 0..4),
        b in vec(any_log(60), 0..4),
        share in any_log(60),
        cover_a in any_cover(),
        cover_b in any_cover(),
        ordered: bool,
    ) {
        let with = |logs: &[Log]| -> Vec<Log> { logs.iter().cloned().chain([share.clone()]).collect() };
        let (a, b) = (with(&a), with(&b));
        let for_b = missing(&a.concat(), &cover_b);
        let for_a = missing(&b.concat(), &cover_a);
        let expected = expected_delta(&for_a, &for_b, ordered);
        let segments = |logs: &[Log]| -> Vec<_> { logs.iter().map(|log| segment(log)).collect() };
        let (a, b) = (segments(&a), segments(&b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        let found = compare([&a, &b], [&cover_a, &cover_b], ordered).unwrap();
        prop_assert_eq!(lists(found), expected);
    }

    #[test]
    fn a_single_segment_is_the_whole_delta(
        a in vec(any_log(8), 0..3),
        b in vec(any_log(1), 0..2),
        cover_a in any_cover(),
        cover_b in prop_oneof![Just(Cover::default()), any_cover()],
    ) {
        let segments = |logs: &[Log]| -> Vec<_> { logs.iter().map(|log| segment(log)).collect() };
        let (a, b) = (segments(&a), segments(&b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        let found = lists(compare([&a, &b], [&cover_a, &cover_b], false).unwrap());
        let only = single(&a, &b, &cover_b).unwrap();
        if let Some(place) = only {
            prop_assert_eq!(&found[1], &changes(a[place]));
            prop_assert_eq!(found.iter().flatten().count(), found[1].len());
        }
        let filled: Vec<_> = a.iter().filter(|view| !view.is_empty()).collect();
        let nothing_else = filled.len() == 1 && b.iter().all(View::is_empty);
        prop_assert_eq!(only.is_some() && nothing_else, only.is_some());
        prop_assert!(only.is_some() || !nothing_else || cover_b != Cover::default());
    }

    #[test]
    fn covers_are_sets_in_one_normal_form(
        [x, y, z] in [any_cover(), any_cover(), any_cover()],
        dot in (0_u64..4, 0_u64..40),
    ) {
        prop_assert!(is_normal(&x));
        let union = x.union(&y);
        prop_assert!(is_normal(&union));
        prop_assert_eq!(&union, &y.union(&x));
        prop_assert_eq!(x.union(&y.union(&z)), union.union(&z));
        prop_assert_eq!(&x.union(&x), &x);
        prop_assert_eq!(&union.union(&y), &union);
        prop_assert_eq!(dots(&union), dots(&x).union(&dots(&y)).copied().collect());
        prop_assert!(union.includes(&x) && union.includes(&y) && x.includes(&x));
        if x.includes(&y) {
            prop_assert!(dots(&x).is_superset(&dots(&y)));
            prop_assert_eq!(&union, &x);
        }
        if union == x {
            prop_assert!(x.includes(&y));
        }
        let more = x.with_dots([dot]);
        prop_assert!(is_normal(&more) && more.covers(dot.0, dot.1) && more.includes(&x));
        let mut expected = dots(&x);
        expected.insert(dot);
        prop_assert_eq!(dots(&more), expected);
        let raised = x.with_stamp(dot.0, dot.1);
        prop_assert!(is_normal(&raised) && raised.covers_all([dot]) && raised.includes(&more));
        prop_assert_eq!(Cover::new(x.vector().clone(), x.exceptions().to_vec()).unwrap(), x.clone());
        prop_assert!(x.covers_all(x.vector().iter().map(|(origin, stamp)| (*origin, *stamp))));
        prop_assert_eq!(x.covers_all([dot]), x.vector().get(&dot.0).is_some_and(|held| dot.1 <= *held));
    }

    #[test]
    fn an_inventory_matches_a_map(
        old in btree_map(any_key(), (vec(any::<u8>(), 0..4), any::<u8>()), 0..100),
        new in btree_map(any_key(), (vec(any::<u8>(), 0..4), any::<u8>()), 0..100),
        keep in any::<u64>(),
        removed in btree_set(any_key(), 0..20),
    ) {
        type Map = BTreeMap<String, (Vec<u8>, u8)>;
        fn columns(map: &Map) -> (KeyList, Vec<&[u8]>, Vec<[u8; DIGEST_BYTES]>) {
            let keys = key_list(map.keys().map(String::as_str));
            let tokens = map.values().map(|value| value.0.as_slice()).collect();
            (keys, tokens, map.values().map(|value| [value.1; DIGEST_BYTES]).collect())
        }
        fn map_of<B: AsRef<[u8]>>(inventory: &Inventory<B>) -> Map {
            let entry = |entry: Entry<'_>| {
                let key = String::from_utf8(entry.key.to_vec()).unwrap();
                (key, (entry.token.to_vec(), entry.digest[0]))
            };
            inventory.iter().map(entry).collect()
        }
        let mut new = new;
        for ((key, value), at) in old.iter().zip(0..) {
            if (keep >> (at % 64)) & 1 == 1 {
                new.insert(key.clone(), value.clone());
            }
        }
        let (keys, tokens, digests) = columns(&old);
        let digests = &digests.iter().collect::<Vec<_>>();
        let built = Inventory::build(Scanned { keys: &keys, tokens: &tokens, digests }).unwrap();
        let object = built.encode(&[7; 16], keep & 1 == 1).unwrap();
        let parsed = Inventory::parse(envelope::open(Kind::Inventory, &object).unwrap(), 0).unwrap();
        prop_assert_eq!(map_of(&parsed), old.clone());
        prop_assert_eq!(parsed.nonce(), &[7; 16]);

        let (keys, tokens, digests) = columns(&new);
        let difference = parsed.compare(&keys, &tokens).unwrap();
        let differs = |(key, value): (&String, &(Vec<u8>, u8))| {
            old.get(key).is_none_or(|known| known.0.is_empty() || known.0 != value.0)
        };
        let changed: Vec<_> = new.iter().enumerate().filter(|(_, entry)| differs(*entry)).map(|(at, _)| at).collect();
        prop_assert_eq!(difference.changed, changed);
        let gone: Vec<_> = old.keys().filter(|key| !new.contains_key(*key)).map(String::as_bytes).collect();
        prop_assert_eq!(difference.removed, gone);

        let wanted: Vec<&str> = new.keys().chain(old.keys()).map(String::as_str).collect();
        for (key, found) in wanted.iter().zip(parsed.find(&wanted)) {
            let found = found.map(|entry| (entry.token.to_vec(), entry.digest[0]));
            prop_assert_eq!(found.as_ref(), old.get(*key));
        }

        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        let digests = &digests.iter().collect::<Vec<_>>();
        let updated = parsed.updated(Scanned { keys: &keys, tokens: &tokens, digests }, &removed).unwrap();
        let mut model = old;
        model.extend(new);
        model.retain(|key, _| !removed.contains(&key.as_str()));
        prop_assert_eq!(map_of(&updated), model);
    }

    #[test]
    fn listings_are_ordered_like_their_keys(keys in vec(any_key(), 0..100)) {
        let list = key_list(keys.iter().map(String::as_str));
        let order = list.order().unwrap();
        let mut last = BTreeMap::new();
        for (key, index) in keys.iter().zip(0_u32..) {
            last.insert(key.as_bytes(), index);
        }
        prop_assert_eq!(order, last.into_values().collect::<Vec<_>>());
        let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
        prop_assert_eq!(list.check_ascending().is_ok(), ascending);
    }

    #[test]
    fn reserved_names_are_found_in_every_disguise(
        before in select(&["", "a/", "a\\", "/", "..//", "é/"]),
        case in any::<u8>(),
        ignored in vec((0_usize..8, select(&['\u{200c}', '\u{feff}', '\u{2060}', '\u{ad}'])), 0..3),
        tail in select(&["", " ", ".", ". .", "::$INDEX_ALLOCATION", " :x"]),
        after in select(&["", "/x", "\\x", "/"]),
    ) {
        for name in [".kvsync", "kvsync~1", ".\u{212a}v\u{17f}ync"] {
            let cased = name.chars().enumerate().map(|(at, letter)| {
                if (case >> at) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            });
            let mut letters: Vec<char> = cased.collect();
            for (at, letter) in &ignored {
                letters.insert((*at).min(letters.len()), *letter);
            }
            let middle: String = letters.into_iter().collect();
            let text = format!("{before}{middle}{tail}{after}");
            prop_assert!(is_reserved(&text), "{:?}", text);
            prop_assert!(check_key(&text).is_err());
            let longer = format!("{before}x{middle}{after}");
            prop_assert!(!is_reserved(&longer), "{:?}", longer);
        }
    }
}

#[test]
fn ordinary_keys_with_dots_are_free() {
    for text in [
        "",
        ".",
        "..",
        "a.b",
        ".kvsyncs",
        ".kvsyn",
        "kvsync",
        "a/.kvsync2/b",
        "kvsync~",
        "kvsync~x",
        "kvsync.",
        ".kvsync x",
        "k~1",
        "~",
        "./kvsync",
        ". kvsync",
        "..kvsync",
    ] {
        assert!(!is_reserved(text), "{text:?}");
    }
}

#[test]
fn a_peers_reserved_key_is_refused_on_its_way_out() {
    let digest = digest::of_value(b"evil");
    let mut builder = Builder::default();
    builder.push(&Row {
        key: b"x/.KVSYNC/manifest",
        origin: 1,
        stamp: 1,
        flags: 0,
        size: 4,
        expires: 0,
        digest: &digest,
    });
    let forged = builder.finish().unwrap();
    let none = Cover::default();
    let outcome = compare([&[], &[forged.view()]], [&none, &none], false);
    let key = "x/.KVSYNC/manifest".to_owned();
    assert_eq!(outcome.unwrap_err(), Error::ForgedKey { key: key.clone() });
    let only = single(&[forged.view()], &[], &none);
    assert_eq!(only.unwrap_err(), Error::ForgedKey { key });
    let known = none.with_stamp(1, 1);
    assert!(compare([&[], &[forged.view()]], [&known, &none], false).is_ok());
}

#[test]
fn wrong_arguments_are_refused() {
    let keys = key_list(["a", ".kvsync/x"]);
    let values: [Option<&[u8]>; 2] = [Some(b"1"), None];
    let reserved = logged(&keys, &values, None, by(1, 1, 0));
    assert!(matches!(reserved, Err(Error::ReservedKey { .. })));
    let keys = key_list(["a", "b"]);
    assert!(logged(&keys, &values[..1], None, by(1, 1, 0)).is_err());
    assert!(logged(&keys, &values, None, by(1, 1, TOMBSTONE)).is_err());
    let late = logged(&keys, &values, None, by(1, u64::MAX, 0));
    assert_eq!(late.unwrap_err(), Error::ClockOverflow);
    assert!(logged(&keys, &values, None, by(1, u64::MAX - 1, 0)).is_ok());
    assert!(logged(&keys, &values, Some(vec![9, 0]), by(1, 1, 0)).is_ok());
    assert!(logged(&keys, &values, Some(vec![9]), by(1, 1, 0)).is_err());
    assert!(logged(&keys, &values, Some(vec![]), by(1, 1, 0)).is_err());
    let expiring = logged(&keys, &values, Some(vec![0, 9]), by(1, 1, 0));
    assert!(matches!(expiring, Err(Error::BadChange { key, .. }) if key == "b"));
    let change = Change {
        origin: 1,
        stamp: 1,
        flags: TOMBSTONE,
        size: 1,
        expires: 0,
        digest: NO_DIGEST,
    };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let change = Change {
        size: 0,
        expires: 1,
        ..change
    };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let change = Change { flags: 4, ..change };
    assert!(Segment::from_rows(vec![row("a", &change)]).is_err());
    let backwards = Span {
        origin: 1,
        first: 2,
        last: 1,
    };
    assert!(Cover::new(BTreeMap::new(), vec![backwards]).is_err());
}

#[test]
fn changes_are_ordered_by_stamp_then_origin_then_effect() {
    let (digest, other) = ([1; DIGEST_BYTES], [2; DIGEST_BYTES]);
    let change = |stamp, origin, flags, digest| Row {
        key: b"k",
        origin,
        stamp,
        flags,
        size: 0,
        expires: 0,
        digest,
    };
    let expiring = |expires| Row {
        expires,
        ..change(2, 2, 2, &digest)
    };
    let ascending = [
        change(1, 9, TOMBSTONE, &NO_DIGEST),
        change(2, 1, TOMBSTONE, &NO_DIGEST),
        change(2, 2, 0, &digest),
        change(2, 2, 2, &digest),
        expiring(1),
        expiring(1 << 41),
        change(2, 2, 0, &other),
        change(2, 2, TOMBSTONE, &NO_DIGEST),
        change(3, 0, 0, &digest),
    ];
    assert!(ascending.is_sorted_by(|left, right| left.order(right) == Ordering::Less));
}

#[test]
fn far_keys_are_found_by_leaps_in_any_direction() {
    let keys: Vec<String> = (0..20_000).map(|index| format!("{:06}", index * 2)).collect();
    let values = vec![None; keys.len()];
    let list = key_list(keys.iter().map(String::as_str));
    let built = logged(&list, &values, None, by(1, 1, 0)).unwrap();
    let view = built.view();
    for step in [1, 2, 63, 64, 65, 129, 500, 1000, 3001, 19_999] {
        let mut some: Vec<&str> = keys.iter().step_by(step).map(String::as_str).collect();
        for _ in 0..2 {
            let found = view.find(&some);
            let right = |(key, row): (&&str, &Option<Row<'_>>)| row.is_some_and(|row| row.key == key.as_bytes());
            assert!(some.iter().zip(&found).all(right), "step {step}");
            some.reverse();
        }
        let between: Vec<String> = some.iter().map(|key| format!("{key}x")).collect();
        let between: Vec<&str> = between.iter().map(String::as_str).collect();
        assert!(view.find(&between).iter().all(Option::is_none));
        let scattered = (0..some.len()).map(|index| some[index * 7919 % some.len()]);
        let scattered: Vec<&str> = scattered.collect();
        assert!(view.find(&scattered).iter().all(Option::is_some));
    }
    let ends = view.find(&["", "zzz", "000000", "", "039998", "040000", "000000"]);
    let found: Vec<bool> = ends.iter().map(Option::is_some).collect();
    assert_eq!(found, [false, false, true, false, true, false, true]);
}

#[test]
fn a_newer_covered_change_hides_an_older_missing_one_far_away() {
    let keys: Vec<String> = (0..5_000).map(|index| format!("{index:05}")).collect();
    let list = key_list(keys.iter().map(String::as_str));
    let values = vec![None; keys.len()];
    let old = logged(&list, &values, None, by(1, 1, 0)).unwrap();
    let some = key_list(keys.iter().step_by(301).map(String::as_str));
    let new = logged(&some, &vec![None; some.len()], None, by(2, 10_000, 0)).unwrap();
    let cover = Cover::default().with_stamp(2, 20_000);
    let log = [old.view(), new.view()];
    let found = compare([&log, &[]], [&Cover::default(), &cover], false).unwrap();
    assert_eq!(found.to_b.view().len(), keys.len() - some.len());
    let known = Cover::default().with_stamp(1, 4_000);
    let found = compare([&log, &[]], [&Cover::default(), &known], false).unwrap();
    let late = keys[4_000..].len() + keys[..4_000].iter().step_by(301).count();
    assert_eq!(found.to_b.view().len(), late);
}

#[test]
fn stamps_never_go_back() {
    assert_eq!(stamp_after(5, 0), Ok(5 << 16));
    assert_eq!(stamp_after(5, 9 << 16), Ok((9 << 16) + 1));
    assert_eq!(stamp_after(1 << 48, 0), Err(Error::ClockOverflow));
    assert_eq!(stamp_after(0, u64::MAX), Err(Error::ClockOverflow));
}

/// The delta of many equal changes, and one that a third of the way differs in one column.
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
    lists(compare([&[a.view()], &[b.view()]], [&nothing, &nothing], false).unwrap())
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
                // Another value, or the same one that goes later.
                4 | 7 => [0, 0, 0, 0, 1, 1],
                5 | 6 => [1, 1, 0, 0, 0, 0],
                _ => [0, 1, 0, 0, 0, 0],
            };
            assert_eq!(counts, expected, "{rows} rows, {edit:?}");
        }
    }
}

#[test]
fn the_same_value_with_another_expiry_is_not_there() {
    let change = |stamp, expires| Change {
        origin: 1,
        stamp,
        flags: 0,
        size: 3,
        expires,
        digest: [7; DIGEST_BYTES],
    };
    let nothing = Cover::default();
    let found = |a: &[Change], b: &[Change], ordered| {
        let log = |changes: &[Change]| -> Vec<_> {
            let one = |change: &Change| segment(&[("k".to_owned(), *change)]);
            changes.iter().map(one).collect()
        };
        let (a, b) = (log(a), log(b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        lists(compare([&a, &b], [&nothing, &nothing], ordered).unwrap()).map(|list| list.len())
    };
    let older = change(1, 7);
    for ordered in [false, true] {
        for (mine, theirs, plain) in [
            (change(5, 9), change(6, 0), [1, 0, 0, 0, 0, 0]),
            (change(5, 0), change(6, 9), [1, 0, 0, 0, 0, 0]),
            (change(6, 8), change(5, 9), [0, 1, 0, 0, 0, 0]),
            (change(5, 8), change(5, 9), [1, 0, 0, 0, 0, 0]),
            (change(6, 9), change(5, 9), [0, 0, 0, 1, 0, 0]),
            (change(5, 0), change(6, 0), [0, 0, 1, 0, 0, 0]),
            (change(5, 9), change(5, 9), [0; 6]),
        ] {
            let undecided = !ordered && plain[0] + plain[1] > 0;
            let expected = if undecided { [0, 0, 0, 0, 1, 1] } else { plain };
            assert_eq!(found(&[mine], &[theirs], ordered), expected);
            assert_eq!(found(&[older, mine], &[theirs], ordered), expected);
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

#[test]
fn few_missing_changes_may_turn_into_many() {
    let change = Change {
        origin: 1,
        stamp: 5,
        flags: 0,
        size: 3,
        expires: 0,
        digest: [7; DIGEST_BYTES],
    };
    let mut log: Log = (0..4_000).map(|place| (format!("{place:05}-"), change)).collect();
    let few = (0..2_560).step_by(10);
    few.chain(2_555..2_900).for_each(|place| log[place].1.stamp = 50);
    let mut other = log.clone();
    for place in [70, 2_540, 2_559, 2_600, 2_899] {
        other[place].1.digest[0] = 0;
    }
    let cover = Cover::default().with_stamp(1, 35);
    let expected = expected_delta(&missing(&other, &cover), &missing(&log, &cover), false);
    let (a, b) = (segment(&log), segment(&other));
    let found = compare([&[a.view()], &[b.view()]], [&cover, &cover], false).unwrap();
    assert_eq!(lists(found), expected);
}

#[test]
fn a_reserved_key_is_refused_amid_equal_changes() {
    for (forged, length) in [(None, 300), (Some(0), 300), (Some(150), 300), (Some(299), 300)] {
        let key = |place: usize| match forged {
            Some(at) if at == place => format!("{place:05}/.KVsync"),
            _ => format!("{place:05}/a.txt~"),
        };
        let mut builder = Builder::default();
        let change = Change {
            origin: 1,
            stamp: 5,
            flags: 0,
            size: 3,
            expires: 0,
            digest: [7; DIGEST_BYTES],
        };
        (0..length).for_each(|place| builder.push(&row(&key(place), &change)));
        let same = builder.finish().unwrap();
        let nothing = Cover::default();
        let found = compare([&[same.view()], &[same.view()]], [&nothing, &nothing], true).map(lists);
        let refused = |at| Err(Error::ForgedKey { key: key(at) });
        let expected = forged.map_or(Ok([const { Log::new() }; 6]), refused);
        assert_eq!(found, expected);
    }
}
