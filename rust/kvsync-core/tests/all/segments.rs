//! Segments against the newest changes of a log.

use std::collections::BTreeMap;

use kvsync_core::{
    ArgumentFault, BatchLimits, Collected, Error, INEXACT, Kind, NO_DIGEST, NewValues, Newest, Positions, Row, Segment,
    Span, Staged, TOMBSTONE, View, Workers, digest, envelope,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::model::{
    Change, Log, any_expiry, any_key, any_log, by, change_of, changes, key_list, logged, newest, segment,
};

fn list(positions: Positions) -> Vec<u32> {
    match positions {
        Positions::Range(range) => range.collect(),
        Positions::List(list) => list,
    }
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
        let exact = view.iter().filter(|row| row.flags & INEXACT == 0);
        prop_assert_eq!(built.exact_stamp_min(), exact.map(|row| row.stamp).min());
        prop_assert_eq!(view.tombstones(), built.tombstones());
        prop_assert_eq!(view.value_bytes(), built.value_bytes());
        prop_assert_eq!(view.expiring(), built.expiring());
    }

    #[test]
    fn a_note_is_kept_beside_the_changes_and_changes_nothing_else(
        log in any_log(60),
        note in vec(any::<u8>(), 0..300),
        other in vec(any::<u8>(), 0..300),
        compress: bool,
    ) {
        let built = segment(&log);
        prop_assert_eq!(built.note(), b"");
        let object = built.encode_with("s", &note, compress).unwrap();
        prop_assert_eq!(&built.encode_with("s", b"", compress).unwrap(), &built.encode("s", compress).unwrap());
        let body = envelope::open(Kind::Segment, &object).unwrap();
        let parsed = Segment::parse(body, 0, "s").unwrap();
        prop_assert_eq!(parsed.note(), &note);
        prop_assert_eq!(changes(parsed.view()), changes(built.view()));
        prop_assert_eq!(&parsed.encode("s", compress).unwrap(), &object);
        let replaced = parsed.encode_with("s", &other, compress).unwrap();
        prop_assert_eq!(&replaced, &built.encode_with("s", &other, compress).unwrap());
        prop_assert_eq!(replaced == object, note == other);
        let encoding = parsed.encoding("s", &other).unwrap();
        let mut plain = vec![0; encoding.len()];
        encoding.write(&mut plain);
        prop_assert_eq!(plain, built.encode_with("s", &other, false).unwrap());
        let alone = Segment::merge(&[parsed.view()]).unwrap();
        prop_assert_eq!(alone.note(), b"");
    }

    #[test]
    fn renaming_gives_other_origins_and_changes_nothing_else(
        log in any_log(200),
        spans in vec((0_u64..4, 0_u64..30, 0_u64..20, prop_oneof![0_u64..4, Just(1 << 63), Just(u64::MAX)]), 0..5),
    ) {
        let built = segment(&log);
        let span = |&(origin, first, more, name)| (Span { origin, first, last: first + more }, name);
        let spans: Vec<(Span, u64)> = spans.iter().map(span).collect();
        let mut expected: Log = newest(&log).into_iter().collect();
        for (_, change) in &mut expected {
            let inside = |span: &Span| span.origin == change.origin && (span.first..=span.last).contains(&change.stamp);
            if let Some((_, name)) = spans.iter().find(|(span, _)| inside(span)) {
                change.origin = *name;
            }
        }
        let renamed = built.view().renamed(&spans).unwrap();
        prop_assert_eq!(changes(renamed.view()), expected.clone());
        prop_assert_eq!(renamed.encode("s", false).unwrap(), segment(&expected).encode("s", false).unwrap());
        let none = built.view().renamed(&[]).unwrap();
        prop_assert_eq!(none.encode("s", false).unwrap(), built.encode("s", false).unwrap());
        prop_assert_eq!(digest::of_newest(renamed.view().iter()), digest::of_newest(built.view().iter()));
    }

    #[test]
    fn what_leaves_nothing_is_collected_up_to_the_limits(
        log in any_log(200),
        limits in btree_map(0_u64..4, prop_oneof![0_u64..30, Just(u64::MAX)], 0..5),
        expired_ms in prop_oneof![Just(0), 1_u64..400, Just(u64::MAX)],
        kept in vec(any_key(), 0..6),
    ) {
        let built = segment(&log);
        let model: Log = newest(&log).into_iter().collect();
        let keep = kept.iter().map(String::as_bytes).collect();
        let Collected { rest, floor } = built.view().collected(&limits, expired_ms, &keep).unwrap();
        let goes = |(key, change): &&(String, Change)| {
            let nothing = change.flags & TOMBSTONE != 0 || (1..=expired_ms).contains(&change.expires);
            nothing && limits.get(&change.origin).is_some_and(|limit| change.stamp <= *limit) && !kept.contains(key)
        };
        let left: Log = model.iter().filter(|change| !goes(change)).cloned().collect();
        prop_assert_eq!(changes(rest.view()), left.clone());
        prop_assert_eq!(rest.encode("s", false).unwrap(), segment(&left).encode("s", false).unwrap());
        let mut greatest = BTreeMap::new();
        for (_, change) in model.iter().filter(goes) {
            let stamp = greatest.entry(change.origin).or_insert(change.stamp);
            *stamp = change.stamp.max(*stamp);
        }
        prop_assert_eq!(floor, greatest);
        prop_assert_eq!(digest::of_newest(rest.view().iter()), digest::of_newest(built.view().iter()));
    }

    #[test]
    fn passing_changes_are_known_by_their_least_stamp(log in any_log(200)) {
        let built = segment(&log);
        let mut least = BTreeMap::new();
        for (_, change) in newest(&log).iter().filter(|(_, change)| change.flags & TOMBSTONE != 0 || change.expires > 0) {
            let stamp = least.entry(change.origin).or_insert(change.stamp);
            *stamp = change.stamp.min(*stamp);
        }
        prop_assert_eq!(built.view().passing(), least);
    }

    #[test]
    fn the_digest_is_of_values_that_stay_alone(log in any_log(200), other_origin in 4_u64..9, other_flags in 0_u8..4) {
        let digest_of = |log: &Log| digest::of_newest(segment(log).view().iter());
        let model: Log = newest(&log).into_iter().collect();
        let stays = |change: &Change| change.flags & TOMBSTONE == 0 && change.expires == 0;
        let staying: Log = model.iter().filter(|(_, change)| stays(change)).cloned().collect();
        prop_assert_eq!(digest_of(&model), digest_of(&staying));
        let mut others = staying.clone();
        for (_, change) in &mut others {
            (change.origin, change.flags) = (other_origin, other_flags << 1);
        }
        prop_assert_eq!(digest_of(&others), digest_of(&staying));
        for place in 0..staying.len().min(20) {
            let with = |edit: fn(&mut (String, Change))| {
                let mut edited = staying.clone();
                edit(&mut edited[place]);
                digest_of(&edited)
            };
            let edited = [
                with(|(key, _)| key.push('\u{7f}')),
                with(|(_, change)| change.stamp ^= 1 << 20),
                with(|(_, change)| change.digest[31] ^= 1),
                with(|(_, change)| change.expires = 1),
            ];
            prop_assert!(edited.iter().all(|edited| *edited != digest_of(&staying)));
        }
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
        let wrong: Vec<_> = stored.iter().map(|_| Some(&b"other value"[..])).collect();
        prop_assert_eq!(view.mismatches(0..view.len(), &wrong, Workers::new(2)).unwrap().len(), stored.len());
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
}

#[test]
fn distant_keys_are_found_in_any_direction() {
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
