//! Hostile bodies: each is refused, and none costs memory or time beyond its length.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use kvsync_core::envelope::{self, HEADER_BYTES, RATIO_MAX};
use kvsync_core::pack::{Reader, Writer};
use kvsync_core::{Error, Kind, Piece, Reason, Segment};

/// The parts of a segment's body, to be damaged one by one.
#[derive(Clone)]
struct Parts {
    entries: u8,
    keys: [&'static str; 14],
    count: u64,
    origins: Vec<u64>,
    maxima: Vec<u64>,
    stamp_base: u64,
    columns: [Vec<u8>; 9],
    tail: Vec<u8>,
}

/// Indices in [`Parts::columns`].
const STAMP: usize = 0;
const ORIGIN: usize = 1;
const FLAGS: usize = 2;
const SIZE: usize = 3;
const EXPIRES: usize = 4;
const DIGEST: usize = 5;
const KEY_SIZE: usize = 6;
const KEY: usize = 7;
const NOTE: usize = 8;

const NAMES: [&str; 14] = [
    "name",
    "count",
    "origins",
    "max",
    "stamp_base",
    "stamp",
    "origin",
    "flags",
    "size",
    "expires",
    "digest",
    "key_size",
    "key",
    "note",
];

fn valid() -> Parts {
    Parts {
        entries: 14,
        keys: NAMES,
        count: 3,
        origins: vec![4, 9],
        maxima: vec![102, 101],
        stamp_base: 100,
        columns: [
            vec![0, 1, 2],
            vec![0, 1, 0],
            vec![0, 1, 2],
            vec![5, 0, 7],
            vec![0, 0, 9],
            [[1; 32], [0; 32], [2; 32]].concat(),
            vec![1, 2, 3],
            "aéég".into(),
            vec![7, 7],
        ],
        tail: vec![],
    }
}

fn body(parts: &Parts) -> Vec<u8> {
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    out.map(parts.entries);
    out.str(parts.keys[0]).unwrap();
    out.str("s").unwrap();
    out.str(parts.keys[1]).unwrap();
    out.uint(parts.count);
    for (key, numbers) in [(2, &parts.origins), (3, &parts.maxima)] {
        out.str(parts.keys[key]).unwrap();
        out.array(numbers.len()).unwrap();
        for number in numbers {
            out.uint(*number);
        }
    }
    out.str(parts.keys[4]).unwrap();
    out.uint(parts.stamp_base);
    for (key, column) in parts.keys[5..].iter().zip(&parts.columns) {
        out.str(key).unwrap();
        out.bin(column).unwrap();
    }
    body.extend_from_slice(&parts.tail);
    body
}

fn parse(body: &[u8]) -> Result<Vec<u8>, Error> {
    let object = envelope::seal(Kind::Segment, body, false);
    let body = envelope::open(Kind::Segment, &object)?;
    Segment::parse(body, 0, "s")?.encode("s", false)
}

fn refused(damage: impl FnOnce(&mut Parts)) {
    let mut parts = valid();
    damage(&mut parts);
    let length = body(&parts).len() + HEADER_BYTES;
    match parse(&body(&parts)) {
        Err(Error::Damaged { offset, .. }) => assert!((HEADER_BYTES..=length).contains(&offset)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_parts_are_valid() {
    let sealed = envelope::seal(Kind::Segment, &body(&valid()), false);
    assert_eq!(parse(&body(&valid())).unwrap(), sealed);
}

#[test]
fn keys_must_ascend_and_be_text() {
    refused(|parts| parts.columns[KEY] = "aéabz".into());
    refused(|parts| parts.columns[KEY] = "baaéb".into());
    refused(|parts| parts.columns[KEY] = b"a\xc3\xa9\xc3\xa9\xff".into());
    refused(|parts| parts.columns[KEY] = b"aaa\xed\xa0\x80".into());
    refused(|parts| parts.columns[KEY_SIZE] = vec![1, 1, 4]);
    refused(|parts| parts.columns[KEY_SIZE] = vec![0, 0, 6]);
    refused(|parts| parts.columns[KEY_SIZE] = vec![2, 1, 3]);
}

#[test]
fn maps_are_exactly_as_described() {
    refused(|parts| parts.entries = 13);
    refused(|parts| parts.entries = 15);
    refused(|parts| parts.tail = vec![0xc0]);
    for place in 0..NAMES.len() {
        refused(|parts| parts.keys[place] = "other");
        refused(|parts| parts.keys[place] = NAMES[(place + 1) % NAMES.len()]);
        refused(|parts| parts.keys[place] = "");
    }
}

#[test]
fn columns_fit_the_count() {
    refused(|parts| parts.count = 2);
    refused(|parts| parts.count = 4);
    refused(|parts| parts.count = 0);
    refused(|parts| parts.count = u64::MAX);
    for column in 0..8 {
        if column != EXPIRES {
            refused(|parts| parts.columns[column].clear());
        }
        refused(|parts| parts.columns[column].push(0));
        refused(|parts| parts.columns[column].truncate(2));
    }
}

#[test]
fn columns_are_as_narrow_as_possible() {
    for column in [STAMP, ORIGIN, SIZE, EXPIRES, KEY_SIZE] {
        for width in [2, 4, 8] {
            refused(|parts| {
                let wide = parts.columns[column].iter().flat_map(|number| {
                    let mut bytes = vec![0; width];
                    bytes[0] = *number;
                    bytes
                });
                parts.columns[column] = wide.collect();
            });
        }
    }
}

#[test]
fn lengths_that_overflow_are_refused() {
    let wide = |numbers: [u64; 3]| numbers.map(u64::to_le_bytes).concat();
    refused(|parts| parts.columns[KEY_SIZE] = wide([1, 2, u64::MAX]));
    refused(|parts| parts.columns[KEY_SIZE] = wide([u64::MAX, 2, 7]));
    refused(|parts| parts.columns[KEY_SIZE] = wide([1 << 63, 1 << 63, 6]));
    refused(|parts| parts.stamp_base = u64::MAX);
}

#[test]
fn stamp_base_and_maxima_are_exact() {
    refused(|parts| parts.origins = vec![9, 4]);
    refused(|parts| parts.origins = vec![4, 4]);
    refused(|parts| parts.origins = vec![4]);
    refused(|parts| parts.origins = vec![4, 9, 10]);
    refused(|parts| parts.maxima = vec![102]);
    refused(|parts| parts.maxima = vec![101, 102]);
    refused(|parts| parts.maxima = vec![103, 101]);
    refused(|parts| parts.stamp_base = 99);
    refused(|parts| parts.columns[STAMP] = vec![1, 2, 3]);
    refused(|parts| {
        parts.stamp_base = 99;
        parts.columns[STAMP] = vec![1, 2, 3];
    });
    refused(|parts| {
        parts.origins = vec![4];
        parts.maxima = vec![102];
    });
    refused(|parts| parts.columns[ORIGIN] = vec![0, 2, 0]);
    refused(|parts| parts.columns[ORIGIN] = vec![0, 0, 0]);
}

#[test]
fn an_empty_segment_has_one_form() {
    let empty = Parts {
        count: 0,
        origins: vec![],
        maxima: vec![],
        stamp_base: 0,
        columns: [const { vec![] }; 9],
        ..valid()
    };
    assert!(parse(&body(&empty)).is_ok());
    for column in 0..8 {
        let mut filled = empty.clone();
        filled.columns[column].push(0);
        assert!(parse(&body(&filled)).is_err());
    }
    let based = Parts {
        stamp_base: 5,
        ..empty.clone()
    };
    assert!(parse(&body(&based)).is_err());
    let known = Parts {
        origins: vec![4],
        maxima: vec![0],
        ..empty
    };
    assert!(parse(&body(&known)).is_err());
}

#[test]
fn flags_are_known_and_tombstones_have_no_value() {
    refused(|parts| parts.columns[FLAGS][0] = 8);
    refused(|parts| parts.columns[FLAGS][0] = 0x80);
    refused(|parts| parts.columns[FLAGS][0] = 1);
    refused(|parts| parts.columns[SIZE][1] = 1);
    refused(|parts| parts.columns[DIGEST][40] = 1);
}

#[test]
fn the_column_of_expiries_is_empty_unless_a_value_expires() {
    let mut never = valid();
    never.columns[EXPIRES].clear();
    let sealed = envelope::seal(Kind::Segment, &body(&never), false);
    assert_eq!(parse(&body(&never)).unwrap(), sealed);
    for width in [1, 2, 4, 8] {
        refused(|parts| parts.columns[EXPIRES] = vec![0; 3 * width]);
    }
    refused(|parts| parts.columns[EXPIRES] = vec![0, 1, 9]);
    for length in [1, 2, 4, 5, 9, 25, 48] {
        refused(|parts| parts.columns[EXPIRES] = vec![0xff; length]);
    }
}

#[test]
fn a_note_is_any_bytes_and_nothing_else() {
    for length in [0, 1, 255, 256, 70_000] {
        let mut noted = valid();
        noted.columns[NOTE] = vec![0xc1; length];
        let sealed = envelope::seal(Kind::Segment, &body(&noted), false);
        assert_eq!(parse(&body(&noted)).unwrap(), sealed);
    }
    let valid = body(&valid());
    let head = valid.len() - 4;
    assert_eq!(valid[head..], [0xc4, 2, 7, 7]);
    let others: [&[u8]; 8] = [
        &[],
        &[0xc0],
        &[0xa2, 7, 7],
        &[0x92, 7, 7],
        &[0xc4, 1, 7, 7],
        &[0xc4, 3, 7, 7],
        &[0xc6, 0xff, 0xff, 0xff, 0xff, 7, 7],
        &[0xc7, 2, 7, 7, 7],
    ];
    for other in others {
        let damaged = [&valid[..head], other].concat();
        assert!(matches!(parse(&damaged), Err(Error::Damaged { .. })), "{other:x?}");
    }
    let longer = [&valid[..head], &[0xc6, 0, 0, 0, 2, 7, 7]].concat();
    assert_eq!(parse(&longer).unwrap()[HEADER_BYTES..], valid);
}

#[test]
fn other_types_are_refused_everywhere() {
    let valid = body(&valid());
    assert!(parse(&valid).is_ok());
    // nil, false, floats, fixext, ext, negative numbers, a map, deep arrays
    for marker in [
        0xc0, 0xc1, 0xc2, 0xca, 0xcb, 0xd4, 0xd8, 0xc7, 0xc9, 0xff, 0xe0, 0x81, 0xdf, 0xdd, 0xdb, 0xc6, 0x91,
    ] {
        for place in 0..valid.len() - 150 {
            let mut damaged = valid.clone();
            damaged[place] = marker;
            if let Ok(object) = parse(&damaged) {
                assert_eq!(object[HEADER_BYTES..], damaged, "{marker:x} at {place}");
            }
        }
    }
    assert!(parse(&vec![0x91; 100_000]).is_err());
    assert!(parse(&vec![0x81; 100_000]).is_err());
    assert!(parse(&[]).is_err());
}

#[test]
fn integers_of_any_form_are_read_and_written_short() {
    let short = body(&valid());
    let place = short.windows(6).position(|six| six == b"count\x03").unwrap() + 5;
    let forms: [&[u8]; 9] = [
        &[0xcc, 3],
        &[0xcd, 0, 3],
        &[0xce, 0, 0, 0, 3],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0xd0, 3],
        &[0xd1, 0, 3],
        &[0xd2, 0, 0, 0, 3],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 3],
        &[3],
    ];
    for form in forms {
        let long = [&short[..place], form, &short[place + 1..]].concat();
        assert_eq!(parse(&long).unwrap()[HEADER_BYTES..], short, "{form:x?}");
    }
    for negative in [
        &[0xd0, 0x80][..],
        &[0xd1, 0xff, 0xff],
        &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let outcome = Reader::new(negative, HEADER_BYTES).uint();
        assert_eq!(outcome, Err(Error::damaged(HEADER_BYTES, Reason::NegativeInteger)));
    }
}

fn compressed(frame: &[u8], length: u64) -> Result<Vec<u8>, Error> {
    let mut object = envelope::seal(Kind::Segment, frame, false);
    object[6] = 1;
    object[8..16].copy_from_slice(&length.to_le_bytes());
    envelope::repair_checksum(&mut object);
    envelope::open(Kind::Segment, &object).map(std::borrow::Cow::into_owned)
}

#[test]
fn compression_bombs_are_refused_before_they_cost_memory() {
    let bomb = zstd::bulk::compress(&vec![0; 1 << 26], 19).unwrap();
    assert!((bomb.len() as u64) * RATIO_MAX < 1 << 26);
    for length in [1 << 26, 1 << 40, u64::MAX, 0, bomb.len() as u64 * RATIO_MAX] {
        let outcome = compressed(&bomb, length);
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{length}");
    }
}

#[test]
fn a_body_that_passes_the_ratio_is_stored_plain() {
    let object = envelope::seal(Kind::Lost, &vec![0; 1 << 20], true);
    assert_eq!(object[6], 0);
    assert_eq!(object.len(), HEADER_BYTES + (1 << 20));
    assert_eq!(envelope::open(Kind::Lost, &object).unwrap().len(), 1 << 20);
}

#[test]
fn a_compressed_body_is_exactly_one_frame() {
    let text = b"abcabcabcabcabcabcabcabcabcabcabc".repeat(3);
    let frame = zstd::bulk::compress(&text, 3).unwrap();
    assert_eq!(compressed(&frame, 99).unwrap(), text);
    assert!(compressed(&frame, 98).is_err());
    assert!(compressed(&frame, 100).is_err());
    assert!(compressed(&frame.repeat(2), 198).is_err());
    assert!(compressed(&frame[..frame.len() - 1], 99).is_err());
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9], frame.as_slice()].concat();
    assert!(compressed(&skippable, 99).is_err());
    assert!(compressed(&[frame.as_slice(), &[0]].concat(), 99).is_err());
    assert!(compressed(&[], 0).is_err());
}

#[test]
fn unknown_flags_kinds_and_lengths_are_refused() {
    let object = envelope::seal(Kind::Lease, b"body", false);
    assert!(matches!(
        envelope::open(Kind::Lost, &object),
        Err(Error::Damaged { offset: 4, .. })
    ));
    for (place, value) in [(6, 2), (6, 0x80), (7, 1), (8, 3), (8, 5), (15, 1), (0, 0), (4, 9)] {
        let mut damaged = object.clone();
        damaged[place] = value;
        envelope::repair_checksum(&mut damaged);
        assert!(envelope::open(Kind::Lease, &damaged).is_err(), "{place}");
    }
}

#[test]
fn a_piece_is_checked_alike() {
    let name = "piece/00000000000000000000000000000001";
    let parts: [(&str, &[u8]); 6] = [
        ("state", &[0, 1]),
        ("digest", &[7; 64]),
        ("token_size", &[2, 0]),
        ("token", b"to"),
        ("key_size", &[1, 1]),
        ("key", b"ab"),
    ];
    let body = |parts: &[(&str, &[u8])]| {
        let mut body = Vec::new();
        let mut out = Writer(&mut body);
        out.map(8);
        out.str("name").unwrap();
        out.str(name).unwrap();
        out.str("count").unwrap();
        out.uint(2);
        for (key, bytes) in parts {
            out.str(key).unwrap();
            out.bin(bytes).unwrap();
        }
        body
    };
    assert!(Piece::parse(body(&parts), 0, name).is_ok());
    assert!(Piece::parse(body(&parts), 0, "piece/2").is_err());
    let replacements: [(usize, &[u8]); 14] = [
        (0, &[0]),
        (0, &[0, 1, 0]),
        (0, &[0, 2]),
        (0, &[0, 3]),
        (0, &[1, 1]),
        (1, &[7; 63]),
        (1, &[7; 96]),
        (2, &[3, 0]),
        (2, &[2, 0, 0, 0]),
        (2, &[0, 2]),
        (4, &[1, 2]),
        (5, b"ba"),
        (5, b"aa"),
        (5, b"a\xff"),
    ];
    for (place, bytes) in replacements {
        let mut damaged = parts;
        damaged[place].1 = bytes;
        let outcome = Piece::parse(body(&damaged), 0, name);
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{place} {bytes:?}");
    }
}
