//! Work divided among threads gives the result of one thread, errors included.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::ops::Range;

use kvsync_core::envelope::{self, HEADER_BYTES};
use kvsync_core::{
    Body, Builder, Cover, DIGEST_BYTES, Delta, Error, NO_DIGEST, Reason, Row, Segment, Side, Sides, Span, TOMBSTONE,
    View, Workers, decode, decode_all, delta,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A change in short: key, origin, stamp, flags, a number for the digest, and expiry.
type Change = (String, u64, u64, u8, u8, u64);

fn segment(log: &[Change]) -> Segment<Vec<u8>> {
    let digests: Vec<_> = log.iter().map(digest).collect();
    let rows = log.iter().zip(&digests).map(|(change, digest)| Row {
        key: change.0.as_bytes(),
        origin: change.1,
        stamp: change.2,
        flags: change.3,
        size: u64::from(change.4) * u64::from(!change.3 & TOMBSTONE),
        expires: change.5 * u64::from(!change.3 & TOMBSTONE),
        digest,
    });
    Segment::from_rows(rows.collect()).unwrap()
}

fn digest(change: &Change) -> [u8; DIGEST_BYTES] {
    match change.3 & TOMBSTONE {
        0 => [change.4; DIGEST_BYTES],
        _ => NO_DIGEST,
    }
}

fn any_log(length: usize) -> impl Strategy<Value = Vec<Change>> {
    let key = "(a|b|c|shared/prefix/of/all/)(a|b|c|é|\u{1f642}|0{9}){0,4}";
    let stamp = prop_oneof![8 => 0_u64..40, 1 => Just(1 << 40)];
    let expires = prop_oneof![3 => Just(0..1), 1 => Just(0..3), 1 => Just(1 << 40..1 << 41)];
    expires.prop_flat_map(move |expires: Range<u64>| {
        let change = (key, 0_u64..5, stamp.clone(), 0_u8..4, 0_u8..3, expires);
        vec(change, 0..length)
    })
}

const fn single((origin, stamp): (u64, u64)) -> Span {
    Span {
        origin,
        first: stamp,
        last: stamp,
    }
}

fn any_cover() -> impl Strategy<Value = Cover> {
    (btree_map(0_u64..5, 0_u64..40, 0..5), vec((0_u64..5, 0_u64..40), 0..9))
        .prop_map(|(vector, dots)| Cover::new(vector, dots.into_iter().map(single).collect()).unwrap())
}

fn any_workers() -> impl Strategy<Value = Workers> {
    let shares = prop_oneof![Just(0_usize), 1_usize..300, 300_usize..9_000];
    (2_usize..6, shares).prop_map(|(threads, share)| Workers::new(threads).with_share(share))
}

/// How an object is damaged before it is read.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Name,
    Cut(usize),
    Flip { place: usize, bit: u8, repair: bool },
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let flip = (any::<usize>(), 0_u8..8, any::<bool>());
    prop_oneof![
        12 => Just(Damage::None),
        1 => Just(Damage::Name),
        1 => any::<usize>().prop_map(Damage::Cut),
        3 => flip.prop_map(|(place, bit, repair)| Damage::Flip { place, bit, repair }),
    ]
}

fn object(log: &[Change], compress: bool, damage: &Damage) -> Vec<u8> {
    let name = if matches!(damage, Damage::Name) { "t" } else { "s" };
    let mut object = segment(log).encode(name, compress).unwrap();
    match damage {
        Damage::None | Damage::Name => {}
        Damage::Cut(place) => object.truncate(place % object.len()),
        Damage::Flip { place, bit, repair } => {
            let place = place % object.len();
            object[place] ^= 1 << bit;
            if *repair {
                envelope::repair_checksum(&mut object);
            }
        }
    }
    object
}

type Outcome = Result<Vec<Vec<u8>>, (usize, Error)>;

/// Everything that a segment can be asked for.
fn description<B: AsRef<[u8]>>(segment: &Segment<Body<B>>) -> Vec<u8> {
    let view = segment.view();
    let totals = format!(
        "{:?} {} {} {} {:?}",
        view.maxima().collect::<Vec<_>>(),
        view.tombstones(),
        view.value_bytes(),
        view.expiring(),
        view.rows(view.len() / 2..view.len()).next(),
    );
    let object = segment.encode("s", false).unwrap();
    [totals.into_bytes(), object].concat()
}

fn one_by_one(objects: &[Vec<u8>]) -> Outcome {
    let numbered = objects.iter().enumerate();
    let decode = |(index, data)| match decode(data, "s") {
        Ok(segment) => Ok(description(&segment)),
        Err(error) => Err((index, error)),
    };
    numbered.map(decode).collect()
}

fn together(objects: &[Vec<u8>], workers: Workers) -> Outcome {
    let named = objects.iter().map(|data| (data, "s")).collect();
    let segments = decode_all(named, workers)?;
    Ok(segments.iter().map(description).collect())
}

fn objects_of(found: &Delta) -> [Vec<u8>; 6] {
    let Delta {
        to_a,
        to_b,
        log_a,
        log_b,
        conflict_a,
        conflict_b,
    } = found;
    [to_a, to_b, log_a, log_b, conflict_a, conflict_b].map(|segment| {
        let view = segment.view();
        let totals = (view.tombstones(), view.value_bytes(), view.expiring());
        let object = segment.encode("s", false).unwrap();
        [object, format!("{totals:?}").into_bytes()].concat()
    })
}

fn compare_by(workers: Workers, [a, b]: [&[View<'_>]; 2], [cover_a, cover_b]: [&Cover; 2]) -> Result<Delta, Error> {
    let sides = Sides {
        a: Side {
            segments: a,
            cover: cover_a,
        },
        b: Side {
            segments: b,
            cover: cover_b,
        },
    };
    delta(sides, workers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_decoded_together_are_those_decoded_one_by_one(
        parts in vec((any_log(400), any::<bool>(), any_damage()), 0..5),
        workers in any_workers(),
    ) {
        let build = |(log, compress, damage): &(Vec<Change>, bool, Damage)| object(log, *compress, damage);
        let objects: Vec<_> = parts.iter().map(build).collect();
        prop_assert_eq!(together(&objects, workers), one_by_one(&objects));
    }

    #[test]
    fn a_delta_by_ranges_of_keys_is_the_delta(
        a in vec(any_log(300), 0..4),
        b in vec(any_log(300), 0..4),
        share in any_log(400),
        covers in [any_cover(), any_cover()],
        knows_nothing: [bool; 2],
        workers in any_workers(),
    ) {
        let with = |logs: &[Vec<Change>]| -> Vec<_> { logs.iter().chain([&share]).map(|log| segment(log)).collect() };
        let (a, b) = (with(&a), with(&b));
        let a: Vec<_> = a.iter().map(Segment::view).collect();
        let b: Vec<_> = b.iter().map(Segment::view).collect();
        let cover = |side: usize| if knows_nothing[side] { Cover::default() } else { covers[side].clone() };
        let [cover_a, cover_b] = [cover(0), cover(1)];
        let whole = compare_by(Workers::ALONE, [&a, &b], [&cover_a, &cover_b]).unwrap();
        let parts = compare_by(workers, [&a, &b], [&cover_a, &cover_b]).unwrap();
        prop_assert_eq!(objects_of(&parts), objects_of(&whole));
    }

    #[test]
    fn the_first_fault_of_keys_is_the_one_that_is_named(
        keys in vec("(aaaaaaaaaaaaaaa|a{0,3}|\u{0}{0,2})(é|b|\u{0}|\u{1f642}){0,4}", 1..90),
        turns in prop_oneof![Just(1_u8), 2_u8..30, Just(128)],
        faults in vec((any::<usize>(), 0_u8..3), 0..3),
        blocks in any::<bool>(),
        workers in any_workers(),
    ) {
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let turn = |turn: u8| keys.iter().map(move |key| [&[turn], key.as_bytes()].concat());
        let mut keys: Vec<Vec<u8>> = (0..turns).flat_map(turn).collect();
        for (place, kind) in &faults {
            let place = place % keys.len();
            let place = if blocks { place / 64 * 64 } else { place };
            damage_keys(&mut keys, place, *kind);
        }
        let (object, sizes) = object_of_keys(&keys);
        let expected = first_fault(&sizes, &keys.concat(), object.len());
        prop_assert_eq!(decode(&object, "s").err(), expected.clone());
        let found = decode_all(vec![(&object, "s")], workers);
        prop_assert_eq!(found.err().map(|(_, error)| error), expected);
    }
}

fn damage_keys(keys: &mut [Vec<u8>], place: usize, kind: u8) {
    match kind {
        0 => keys[place].push(0xff),
        // A character that the end of its key cuts in two.
        1 if place + 1 < keys.len() => {
            keys[place].push(0xc3);
            keys[place + 1].insert(0, 0xa9);
        }
        _ => keys.swap(place, (place + 1) % keys.len().min(place + 2)),
    }
}

/// An object with these keys, valid or not, and their lengths.
fn object_of_keys(keys: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let mut builder = Builder::default();
    for key in keys {
        builder.push(&Row {
            key,
            origin: 1,
            stamp: 5,
            flags: 0,
            size: 3,
            expires: 0,
            digest: &[7; DIGEST_BYTES],
        });
    }
    let object = builder.finish().unwrap().encode("s", false).unwrap();
    (object, keys.iter().map(Vec::len).collect())
}

/// The first fault in the order of the format: UTF-8 of all keys first, then each key beside the one before it.
fn first_fault(sizes: &[usize], bytes: &[u8], length: usize) -> Option<Error> {
    // The keys are the last column but for an empty note.
    let offset = length - b"\xa4note\xc4\0".len() - bytes.len();
    if let Err(fault) = str::from_utf8(bytes) {
        let at = offset + fault.valid_up_to();
        return Some(Error::damaged(at, Reason::KeyNotUtf8));
    }
    let (mut before, mut at) = (0, sizes[0]);
    for size in &sizes[1..] {
        let key = &bytes[at..at + size];
        if key.first().is_some_and(|byte| byte & 0xc0 == 0x80) {
            return Some(Error::damaged(offset + at, Reason::KeyInsideCharacter));
        }
        if bytes[before..at] >= *key {
            return Some(Error::damaged(offset + at, Reason::KeysDoNotAscend));
        }
        (before, at) = (at, at + size);
    }
    None
}

fn many(rows: usize) -> Vec<Change> {
    let numbers = (0..=u8::MAX).cycle().take(rows);
    let change = |(place, number): (usize, u8)| {
        let key = format!("some/shared/folder/{place:06}/é");
        let origin = u64::from(number % 3);
        let expires = u64::from(number % 5) << 40;
        (key, origin, place as u64, number % 3, number, expires)
    };
    (0..rows).zip(numbers).map(change).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_the_same_error() {
    let sound = object(&many(150), false, &Damage::None);
    let before = object(&many(90), true, &Damage::None);
    let workers = Workers::new(3).with_share(64);
    for place in 0..sound.len() {
        for repair in [false, true] {
            let mut damaged = sound.clone();
            damaged[place] ^= 1 << (place % 8);
            if repair {
                envelope::repair_checksum(&mut damaged);
            }
            let objects = [before.clone(), damaged, sound.clone()];
            assert_eq!(together(&objects, workers), one_by_one(&objects), "{place} {repair}");
        }
    }
}

#[test]
fn of_several_damaged_objects_the_first_is_named() {
    let mut objects = vec![object(&many(400), false, &Damage::None); 5];
    objects[4][HEADER_BYTES + 9] ^= 1;
    objects[2].truncate(7);
    objects[3].clear();
    for threads in 1..5 {
        let found = together(&objects, Workers::new(threads).with_share(1));
        let expected = Error::damaged(7, Reason::EnvelopeTooShort);
        assert_eq!(found, Err((2, expected)));
    }
}

#[test]
fn threads_are_started_only_for_enough_work() {
    let workers = Workers::new(4).with_share(100);
    let counts = [0, 99, 100, 199, 200, 399, 400, 9_999].map(|bytes| workers.threads_for(bytes));
    assert_eq!(counts, [1, 1, 1, 1, 2, 3, 4, 4]);
    assert_eq!(Workers::new(0).with_share(0).threads_for(usize::MAX), 1);
    assert_eq!(Workers::ALONE.threads_for(usize::MAX), 1);
    assert_eq!(Workers::new(2).threads_for((2 << 20) - 1), 1);
    assert_eq!(Workers::new(2).threads_for(2 << 20), 2);
}

#[test]
fn objects_around_the_threshold_are_the_same() {
    let object = object(&many(300), false, &Damage::None);
    for share in object.len() - 1..=object.len() + 1 {
        for count in 1..=3 {
            let objects = vec![object.clone(); count];
            let workers = Workers::new(2).with_share(share);
            assert_eq!(together(&objects, workers), one_by_one(&objects));
        }
    }
}

#[test]
fn the_first_reserved_key_is_refused_by_any_thread() {
    let mut builder = Builder::default();
    let key = |place: usize| match place {
        700 | 1_900 => format!("{place:05}/.kvsync"),
        _ => format!("{place:05}/a"),
    };
    for place in 0..2_000 {
        builder.push(&Row {
            key: key(place).as_bytes(),
            origin: 1,
            stamp: 5,
            flags: 0,
            size: 3,
            expires: 0,
            digest: &[7; DIGEST_BYTES],
        });
    }
    let forged = builder.finish().unwrap();
    let nothing = Cover::default();
    let sides: [[&[View<'_>]; 2]; 3] = [
        [&[forged.view()], &[forged.view()]],
        [&[forged.view()], &[]],
        [&[], &[forged.view(), forged.view()]],
    ];
    for side in sides {
        let found = compare_by(Workers::new(3).with_share(1), side, [&nothing, &nothing]);
        assert_eq!(found.err(), Some(Error::ForgedKey { key: key(700) }));
    }
}
