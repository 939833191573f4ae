//! Keys, stamps and the order of changes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use kvsync_core::{DIGEST_BYTES, Error, NO_DIGEST, Row, TOMBSTONE, check_key, is_reserved, stamp_after};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model::{any_key, key_list};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

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
fn changes_are_ordered_by_stamp_then_effect_then_origin() {
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
        change(2, 2, 0, &digest),
        change(2, 2, 2, &digest),
        expiring(1),
        expiring(1 << 41),
        change(2, 2, 4, &digest),
        change(2, 3, 0, &digest),
        change(2, 1, 0, &other),
        change(2, 1, TOMBSTONE, &NO_DIGEST),
        change(2, 2, TOMBSTONE, &NO_DIGEST),
        change(3, 0, 0, &digest),
    ];
    assert!(ascending.is_sorted_by(|left, right| left.order(right) == Ordering::Less));
}

#[test]
fn stamps_never_go_back() {
    assert_eq!(stamp_after(5, 0), Ok(5 << 16));
    assert_eq!(stamp_after(5, 9 << 16), Ok((9 << 16) + 1));
    assert_eq!(stamp_after(1 << 48, 0), Err(Error::ClockOverflow));
    assert_eq!(stamp_after(0, u64::MAX), Err(Error::ClockOverflow));
}
