//! Deltas against the model.

use kvsync_core::{Builder, Cover, DIGEST_BYTES, Error, Row, Segment, SingleSegment, View, digest, single_segment};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::delta_model::{compare, expected_delta, lists, missing, sides};
use crate::model::{Change, Log, any_cover, any_log, by, changes, key_list, logged, row, segment};

/// The position of the segment of `given` that is the whole delta from `given` to `taker`.
fn single(given: &[View<'_>], taker: &[View<'_>], cover: &Cover) -> Result<Option<usize>, Error> {
    let all = Cover::new((0..4).map(|origin| (origin, u64::MAX)).collect(), Vec::new()).unwrap();
    Ok(match single_segment(sides([given, taker], [&all, cover]))? {
        Some(SingleSegment::ToB(place)) => Some(place),
        _ => None,
    })
}

/// The cover of one origin's changes up to a stamp.
fn known_to(origin: u64, stamp: u64) -> Cover {
    Cover::new([(origin, stamp)].into(), Vec::new()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_delta_is_that_of_the_model(
        a in vec(any_log(60), 0..4),
        b in vec(any_log(60), 0..4),
        share in any_log(60),
        cover_a in any_cover(),
        cover_b in any_cover(),
    ) {
        let with = |logs: &[Log]| -> Vec<Log> { logs.iter().cloned().chain([share.clone()]).collect() };
        let (a, b) = (with(&a), with(&b));
        let for_b = missing(&a.concat(), &cover_b);
        let for_a = missing(&b.concat(), &cover_a);
        let expected = expected_delta(&for_a, &for_b);
        let segments = |logs: &[Log]| -> Vec<_> { logs.iter().map(|log| segment(log)).collect() };
        let (a, b) = (segments(&a), segments(&b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        let found = compare([&a, &b], [&cover_a, &cover_b]).unwrap();
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
        let found = lists(compare([&a, &b], [&cover_a, &cover_b]).unwrap());
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
}

#[test]
fn a_reserved_key_in_a_log_is_not_sent() {
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
    let outcome = compare([&[], &[forged.view()]], [&none, &none]);
    let key = "x/.KVSYNC/manifest".to_owned();
    assert_eq!(outcome.unwrap_err(), Error::ForgedKey { key: key.clone() });
    let only = single(&[forged.view()], &[], &none);
    assert_eq!(only.unwrap_err(), Error::ForgedKey { key });
    let known = known_to(1, 1);
    assert!(compare([&[], &[forged.view()]], [&known, &none]).is_ok());
}

#[test]
fn a_newer_covered_change_hides_an_older_missing_one_far_away() {
    let keys: Vec<String> = (0..5_000).map(|index| format!("{index:05}")).collect();
    let list = key_list(keys.iter().map(String::as_str));
    let values = vec![None; keys.len()];
    let old = logged(&list, &values, None, by(1, 1, 0)).unwrap();
    let some = key_list(keys.iter().step_by(301).map(String::as_str));
    let new = logged(&some, &vec![None; some.len()], None, by(2, 10_000, 0)).unwrap();
    let cover = known_to(2, 20_000);
    let log = [old.view(), new.view()];
    let found = compare([&log, &[]], [&Cover::default(), &cover]).unwrap();
    assert_eq!(found.to_b.view().len(), keys.len() - some.len());
    let known = known_to(1, 4_000);
    let found = compare([&log, &[]], [&Cover::default(), &known]).unwrap();
    let late = keys[4_000..].len() + keys[..4_000].iter().step_by(301).count();
    assert_eq!(found.to_b.view().len(), late);
}

#[test]
fn the_same_value_with_another_expiry_is_a_conflict() {
    let change = |stamp, expires| Change {
        origin: 1,
        stamp,
        flags: 0,
        size: 3,
        expires,
        digest: [7; DIGEST_BYTES],
    };
    let nothing = Cover::default();
    let found = |a: &[Change], b: &[Change]| {
        let log = |changes: &[Change]| -> Vec<_> {
            let one = |change: &Change| segment(&[("k".to_owned(), *change)]);
            changes.iter().map(one).collect()
        };
        let (a, b) = (log(a), log(b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        lists(compare([&a, &b], [&nothing, &nothing]).unwrap()).map(|list| list.len())
    };
    let older = change(1, 7);
    let conflict = [0, 0, 0, 0, 1, 1];
    for (mine, theirs, expected) in [
        (change(5, 9), change(6, 0), conflict),
        (change(5, 0), change(6, 9), conflict),
        (change(6, 8), change(5, 9), conflict),
        (change(5, 8), change(5, 9), conflict),
        (change(6, 9), change(5, 9), [0, 0, 0, 1, 0, 0]),
        (change(5, 0), change(6, 0), [0, 0, 1, 0, 0, 0]),
        (change(5, 9), change(5, 9), [0; 6]),
    ] {
        assert_eq!(found(&[mine], &[theirs]), expected);
        assert_eq!(found(&[older, mine], &[theirs]), expected);
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
    let cover = known_to(1, 35);
    let expected = expected_delta(&missing(&other, &cover), &missing(&log, &cover));
    let (a, b) = (segment(&log), segment(&other));
    let found = compare([&[a.view()], &[b.view()]], [&cover, &cover]).unwrap();
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
        let found = compare([&[same.view()], &[same.view()]], [&nothing, &nothing]).map(lists);
        let refused = |at| Err(Error::ForgedKey { key: key(at) });
        let expected = forged.map_or(Ok([const { Log::new() }; 6]), refused);
        assert_eq!(found, expected);
    }
}
