//! Changes and logs, as plain maps and sorted lists, and any of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use kvsync_core::{
    Cover, DIGEST_BYTES, Error, KeyList, NO_DIGEST, NewValues, Provenance, Row, Segment, Span, TOMBSTONE, View,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// A change without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) origin: u64,
    pub(crate) stamp: u64,
    pub(crate) flags: u8,
    pub(crate) size: u64,
    pub(crate) expires: u64,
    pub(crate) digest: [u8; DIGEST_BYTES],
}

pub(crate) type Log = Vec<(String, Change)>;

pub(crate) type Model = BTreeMap<String, Change>;

pub(crate) fn row<'a>(key: &'a str, change: &'a Change) -> Row<'a> {
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

pub(crate) fn change_of(row: &Row<'_>) -> (String, Change) {
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

pub(crate) fn changes(view: View<'_>) -> Vec<(String, Change)> {
    view.iter().map(|row| change_of(&row)).collect()
}

pub(crate) fn newest(log: &[(String, Change)]) -> Model {
    let mut model = Model::new();
    for (key, change) in log {
        let kept = model.entry(key.clone()).or_insert(*change);
        if row(key, change).order(&row(key, kept)) == Ordering::Greater {
            *kept = *change;
        }
    }
    model
}

pub(crate) fn segment(log: &[(String, Change)]) -> Segment<Vec<u8>> {
    let rows = log.iter().map(|(key, change)| row(key, change));
    Segment::from_rows(rows.collect()).unwrap()
}

pub(crate) fn key_list<'a>(keys: impl IntoIterator<Item = &'a str>) -> KeyList {
    keys.into_iter().collect()
}

pub(crate) fn by(origin: u64, first_stamp: u64, flags: u8) -> Provenance {
    Provenance {
        origin,
        first_stamp,
        flags,
    }
}

pub(crate) fn logged(
    keys: &KeyList,
    values: &[Option<&[u8]>],
    expires: Option<Vec<u64>>,
    provenance: Provenance,
) -> Result<Segment<Vec<u8>>, Error> {
    Segment::from_values(NewValues { keys, values, expires }, provenance)
}

pub(crate) fn any_key() -> impl Strategy<Value = String> {
    let shared = "(a|b|shared/prefix/)(a|b|c|é|\u{1f642}|0{9}){0,3}";
    prop_oneof![4 => shared, 1 => "[^.~]{0,40}"]
}

pub(crate) fn any_change(stamps: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Change> {
    let sizes = prop_oneof![0_u64..4, Just(300), Just(70_000), Just(1 << 40)];
    (0_u64..4, stamps, 0_u8..8, sizes, 0_u8..3).prop_map(|(origin, stamp, flags, size, fill)| {
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

pub(crate) fn any_log(length: usize) -> impl Strategy<Value = Log> {
    let stamps = prop_oneof![0_u64..30, Just(1 << 17), Just(1 << 40), Just(u64::MAX)];
    let wide = stamps.prop_flat_map(|stamp| any_change(stamp..=stamp));
    let change = prop_oneof![4 => any_change(0..=30), 1 => wide];
    let log = vec((any_key(), change), 0..length);
    (log, any_expiry()).prop_map(|(mut log, expiry)| {
        expiry.apply(log.iter_mut().map(|(_, change)| change));
        log
    })
}

/// Makes none, some or all of some values expire.
#[derive(Debug, Clone)]
pub(crate) struct Expiry {
    pub(crate) eighths: u64,
    pub(crate) latest: u64,
    pub(crate) seed: u64,
}

impl Expiry {
    pub(crate) fn at(&self, place: usize) -> u64 {
        let chance = self.seed.rotate_left(u32::try_from(place % 64).unwrap());
        if chance % 8 < self.eighths {
            1 + chance / 8 % self.latest
        } else {
            0
        }
    }

    pub(crate) fn apply<'a>(&self, changes: impl Iterator<Item = &'a mut Change>) {
        let puts = changes.filter(|change| change.flags & TOMBSTONE == 0);
        for (place, change) in puts.enumerate() {
            change.expires = self.at(place);
        }
    }
}

pub(crate) fn any_expiry() -> impl Strategy<Value = Expiry> {
    let eighths = prop_oneof![4 => Just(0), 2 => 1_u64..8, 1 => Just(8)];
    let latest = select(&[1, 3, 300, 70_000, 1 << 41, u64::MAX]);
    (eighths, latest, any::<u64>()).prop_map(|(eighths, latest, seed)| Expiry { eighths, latest, seed })
}

pub(crate) fn any_cover() -> impl Strategy<Value = Cover> {
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
