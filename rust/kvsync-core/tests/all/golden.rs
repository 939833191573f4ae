//! Objects of every released format version stay readable, and any damage to them is noticed.
//!
//! After a deliberate change of the format: `cargo test --test all -- --ignored write_goldens`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use kvsync_core::blocks::{BlockWriter, Directory, Target, decode_block, decode_page, encode_block, encode_page};
use kvsync_core::envelope::{self, HEADER_BYTES, VERSION};
use kvsync_core::pack::Writer;
use kvsync_core::{
    Cover, DECISION, Error, INEXACT, KeyList, Kind, NO_DIGEST, Noted, Piece, Row, Segment, Side, Sides, Span,
    TOMBSTONE, Workers, delta, digest,
};
use twox_hash::XxHash3_64;

const STAMP: u64 = 1_700_000_000_000 << 16;
const EXPIRES: u64 = 1_700_086_400_000;
const BIG: &[u8] = &[0x55; 70_000];
const NONCE: [u8; 16] = *b"0123456789abcdef";

/// Key, origin, stamp, flags, value and expiry.
struct Change(String, u64, u64, u8, &'static [u8], u64);

fn segment(name: &str, changes: &[Change], compress: bool) -> Vec<u8> {
    noted(name, changes, b"", compress)
}

fn noted(name: &str, changes: &[Change], note: &[u8], compress: bool) -> Vec<u8> {
    let digests: Vec<_> = changes
        .iter()
        .map(|change| match change.3 & TOMBSTONE {
            0 => digest::of_value(change.4),
            _ => NO_DIGEST,
        })
        .collect();
    let rows = changes.iter().zip(&digests).map(|(change, digest)| Row {
        key: change.0.as_bytes(),
        origin: change.1,
        stamp: change.2,
        flags: change.3,
        size: change.4.len() as u64,
        expires: change.5,
        digest,
    });
    let built = Segment::from_rows(rows.collect()).unwrap();
    built.encode_with(name, note, compress).unwrap()
}

fn small() -> Vec<Change> {
    let long = "long/".repeat(60);
    vec![
        Change(String::new(), 7, STAMP, 0, b"", 0),
        Change("a".into(), 7, STAMP + 1, 0, b"one", 0),
        Change("a/b".into(), 7, STAMP + 2, TOMBSTONE, b"", 0),
        Change("ключ/é/漢/🙂".into(), 7, STAMP + 9, DECISION, b"two", 0),
        Change(long, 7, STAMP + 3, TOMBSTONE | DECISION, b"", 0),
    ]
}

fn several() -> Vec<Change> {
    let mut changes = small();
    changes.push(Change("b".into(), u64::MAX, STAMP + (5 << 32), 0, b"far", 0));
    changes.push(Change("c".into(), 1, STAMP - 1, 0, BIG, 0));
    changes
}

fn expiring() -> Vec<Change> {
    let mut changes = small();
    changes[1].5 = EXPIRES;
    changes[3].5 = EXPIRES + 3_600_000;
    changes
}

/// A put and two deletes whose time is not exact; one of the deletes is a decision.
fn inexact() -> Vec<Change> {
    let mut changes = small();
    for place in [1, 2, 4] {
        changes[place].3 |= INEXACT;
    }
    changes
}

fn many(count: u64, origins: u64) -> Vec<Change> {
    let change = |index: u64| {
        let key = format!("key/{index:05}");
        Change(key, 1000 + index % origins, STAMP + index * 3, 0, b"x", 0)
    };
    (0..count).map(change).collect()
}

const PIECE: &str = "piece/00000000000000000000000000000003";

/// A patch: a token, one that proves nothing, one that is the digest, and a key that is gone.
fn piece() -> Vec<u8> {
    let digests = [digest::of_value(b"1"), digest::of_value(b"2"), digest::of_value(b"3")];
    let keys: KeyList = ["b", "b/é", "c", "d"].into_iter().collect();
    let tokens: [&[u8]; 4] = [b"token-1", b"", &digests[2], b""];
    let digests = [Some(&digests[0]), Some(&digests[1]), Some(&digests[2]), None];
    let noted = Noted {
        keys: &keys,
        tokens: &tokens,
        digests: &digests,
    };
    Piece::build(noted).unwrap().encode(PIECE, false).unwrap()
}

/// A base of two pieces, and a patch that lives in the inventory.
fn inventory() -> Vec<u8> {
    let patch = piece();
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    out.map(4);
    text(&mut out, "name", "inventory");
    bin(&mut out, "nonce", &NONCE);
    out.str("runs").unwrap();
    out.array(2).unwrap();
    out.array(2).unwrap();
    entry(
        &mut out,
        "piece/00000000000000000000000000000001",
        "a",
        [9_000, 1 << 20, 77],
        None,
    );
    entry(
        &mut out,
        "piece/00000000000000000000000000000002",
        "m",
        [4, 300, u64::MAX],
        None,
    );
    out.array(1).unwrap();
    let checksum = envelope::checksum(&patch).unwrap();
    entry(&mut out, PIECE, "b", [4, patch.len() as u64, checksum], Some(&patch));
    out.str("garbage").unwrap();
    out.array(1).unwrap();
    out.str("piece/00000000000000000000000000000009").unwrap();
    envelope::seal(Kind::Inventory, &body, false)
}

/// Name, first key, number of entries, bytes, checksum, and the piece itself.
fn entry(out: &mut Writer<'_>, name: &str, first: &str, numbers: [u64; 3], inline: Option<&[u8]>) {
    out.array(6).unwrap();
    out.str(name).unwrap();
    out.str(first).unwrap();
    for number in numbers {
        out.uint(number);
    }
    match inline {
        Some(bytes) => out.bin(bytes).unwrap(),
        None => out.0.push(0xc0),
    }
}

fn pairs(out: &mut Writer<'_>, key: &str, pairs: &[(u64, u64)]) {
    out.str(key).unwrap();
    out.array(pairs.len()).unwrap();
    for (left, right) in pairs {
        out.array(2).unwrap();
        out.uint(*left);
        out.uint(*right);
    }
}

/// Number, stamp and mark.
type Point = [u64; 3];

const POINTS: [Point; 3] = [
    [1, STAMP + 2, 0x1111_2222_3333_4444],
    [3, STAMP + 9, 0],
    [2, STAMP + 6, u64::MAX],
];

/// The name of a branch.
const BRANCH: u64 = 1 << 63 | 7;

/// Some 64-bit numbers, one after another.
fn words<'a>(numbers: impl IntoIterator<Item = &'a u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn chains(out: &mut Writer<'_>, chains: &[(u64, &[Point])]) {
    out.array(chains.len()).unwrap();
    for (origin, points) in chains {
        out.array(2).unwrap();
        out.uint(*origin);
        out.bin(&words(points.as_flattened())).unwrap();
    }
}

/// What the giver of some changes can prove of them.
fn note() -> Vec<u8> {
    let mut note = Vec::new();
    let mut out = Writer(&mut note);
    out.array(2).unwrap();
    chains(&mut out, &[(1, &POINTS[..1]), (7, &POINTS[..2])]);
    out.array(1).unwrap();
    out.array(6).unwrap();
    uints(
        &mut out,
        &[u64::MAX, STAMP + (5 << 32), STAMP + (5 << 32), 8, STAMP + (6 << 32), 77],
    );
    note
}

fn manifest() -> Vec<u8> {
    let inline = segment("segment/0000000000000001-0", &small(), false);
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    // A map of 20: segments and inventories have fewer entries, so the writer knows only short maps.
    out.0.extend([0xde, 0, 20]);
    text(&mut out, "name", "manifest");
    number(&mut out, "replica", 7);
    number(&mut out, "place", u64::MAX - 7);
    number(&mut out, "generation", 3);
    bin(&mut out, "nonce", &NONCE);
    number(&mut out, "clock", STAMP + 9);
    out.str("chains").unwrap();
    chains(
        &mut out,
        &[(7, &POINTS[..2]), (9, &[[4, STAMP, 5]]), (BRANCH, &POINTS[2..])],
    );
    out.str("exceptions").unwrap();
    out.array(1).unwrap();
    out.array(6).unwrap();
    uints(&mut out, &[9, STAMP + 5, STAMP + 6, 6, STAMP + 8, 99]);
    out.str("missing").unwrap();
    out.array(1).unwrap();
    out.array(9).unwrap();
    change(&mut out, "a", &[7, STAMP + 1, 0, 3], b"one");
    out.str("unreadable").unwrap();
    out.bin(&digest::of_value(b"older")).unwrap();
    out.str("unreconciled").unwrap();
    out.array(1).unwrap();
    out.array(7).unwrap();
    change(&mut out, "b", &[9, STAMP, 0, 3], b"two");
    out.str("segments").unwrap();
    out.array(1).unwrap();
    out.array(8).unwrap();
    out.str("segment/0000000000000001-0").unwrap();
    for (stamp, count) in [(STAMP + 9, 5), (STAMP + 2, 2)] {
        out.array(1).unwrap();
        out.array(2).unwrap();
        uints(&mut out, &[7, stamp, count]);
    }
    out.uint(inline.len() as u64);
    out.uint(envelope::checksum(&inline).unwrap());
    out.bin(&inline).unwrap();
    out.str("peers").unwrap();
    out.array(1).unwrap();
    out.array(6).unwrap();
    out.uint(9);
    out.str("folder:copy").unwrap();
    out.uint(STAMP + 2);
    out.bin(&[1, 1, 0]).unwrap();
    out.bin(&[2, 0, 0]).unwrap();
    out.uint(99);
    pairs(&mut out, "gone", &[(5, 1), (6, 2), (8, 3)]);
    pairs(&mut out, "collected", &[(7, STAMP + 1)]);
    number(&mut out, "collected_ms", 1_700_000_500_000);
    out.str("intents").unwrap();
    out.array(1).unwrap();
    out.array(2).unwrap();
    out.str("segment/0000000000000002-0").unwrap();
    out.uint(1_700_000_600_000);
    out.str("garbage").unwrap();
    out.array(1).unwrap();
    out.str("segment/0000000000000003-0").unwrap();
    out.str("digest").unwrap();
    out.0.push(0xc0);
    bin(&mut out, "inventory", b"fedcba9876543210");
    bin(&mut out, "lease", b"0123456789abcdef0123456789abcdef");
    envelope::seal(Kind::Manifest, &body, false)
}

fn change(out: &mut Writer<'_>, key: &str, numbers: &[u64], value: &[u8]) {
    out.str(key).unwrap();
    uints(out, numbers);
    out.bin(&digest::of_value(value)).unwrap();
    out.uint(EXPIRES);
}

fn lease() -> Vec<u8> {
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    out.map(10);
    text(&mut out, "name", "lease");
    text(&mut out, "state", "released");
    bin(&mut out, "token", &NONCE);
    text(&mut out, "owner", "host 1 process 2 thread 3");
    number(&mut out, "renewals", 4);
    number(&mut out, "acquired", 1_700_000_000_000);
    number(&mut out, "expires", 1_700_000_060_000);
    text(
        &mut out,
        "machine",
        "golden 01234567-89ab-cdef-0123-456789abcdef pid:[4026531836] time:[4026531834]",
    );
    number(&mut out, "pid", 4711);
    number(&mut out, "started", 123_456);
    envelope::seal(Kind::Lease, &body, false)
}

fn lost() -> Vec<u8> {
    let values: [&[u8]; 2] = [b"lost", b""];
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    out.map(7);
    text(
        &mut out,
        "name",
        "lost/018bcfe568000000-d2f25bd36e7f929548d2038ba5a154ac",
    );
    out.str("key").unwrap();
    out.array(2).unwrap();
    out.str("a").unwrap();
    out.str("b").unwrap();
    for (name, numbers) in [("origin", [7, 9]), ("stamp", [STAMP, STAMP + 5]), ("flags", [0, 2])] {
        out.str(name).unwrap();
        out.array(2).unwrap();
        uints(&mut out, &numbers);
    }
    for (name, shown) in [
        ("digest", values.map(|value| digest::of_value(value).to_vec())),
        ("value", values.map(<[u8]>::to_vec)),
    ] {
        out.str(name).unwrap();
        out.array(2).unwrap();
        for bytes in shown {
            out.bin(&bytes).unwrap();
        }
    }
    envelope::seal(Kind::Lost, &body, false)
}

fn uints(out: &mut Writer<'_>, numbers: &[u64]) {
    for number in numbers {
        out.uint(*number);
    }
}

fn text(out: &mut Writer<'_>, key: &str, value: &str) {
    out.str(key).unwrap();
    out.str(value).unwrap();
}

fn number(out: &mut Writer<'_>, key: &str, value: u64) {
    out.str(key).unwrap();
    out.uint(value);
}

fn bin(out: &mut Writer<'_>, key: &str, value: &[u8]) {
    out.str(key).unwrap();
    out.bin(value).unwrap();
}

/// A directory, and the pack that its blocks and pages lie in.
fn in_blocks(changes: &[Change]) -> (Vec<u8>, Vec<u8>) {
    let name = "segment/0000000000000001-0";
    let object = segment(name, changes, false);
    let segment = Segment::parse(&object[HEADER_BYTES..], 0, name).unwrap();
    let mut writer = BlockWriter::new(
        Target::new(Target::MIN).unwrap(),
        "pack/00000000000000000000000000000001",
    );
    for row in &segment.view() {
        writer.push(&row).unwrap();
    }
    let (directory, pack) = writer.finish().unwrap();
    (directory.encode(name, false).unwrap(), pack)
}

fn goldens() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let name = "segment/0000000000000001-0";
    let of = |changes: &[Change]| segment(name, changes, false);
    vec![
        ("segment-empty", Kind::Segment, of(&[])),
        ("segment-small", Kind::Segment, of(&small())),
        ("segment-expires", Kind::Segment, of(&expiring())),
        ("segment-inexact", Kind::Segment, of(&inexact())),
        ("segment-origins-3", Kind::Segment, of(&several())),
        ("segment-origins-300", Kind::Segment, of(&many(300, 300))),
        ("segment-zstd", Kind::Segment, segment(name, &many(300, 3), true)),
        ("segment-note", Kind::Segment, noted(name, &several(), &note(), false)),
        ("directory", Kind::Directory, in_blocks(&several()).0),
        ("directory-paged", Kind::Directory, in_blocks(&many(3000, 3)).0),
        ("inventory", Kind::Inventory, inventory()),
        ("piece", Kind::Piece, piece()),
        ("manifest", Kind::Manifest, manifest()),
        ("lease", Kind::Lease, lease()),
        ("lost", Kind::Lost, lost()),
    ]
}

fn path(name: &str) -> PathBuf {
    let folder = "../../tests/golden/v1";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join(folder).join(name).with_extension("bin")
}

/// Open an object, decode it where the core knows its kind, and encode it again.
fn reopen(kind: Kind, data: &[u8]) -> Result<Vec<u8>, Error> {
    let body = envelope::open(kind, data)?;
    let compress = data[6] & 1 != 0;
    match kind {
        Kind::Segment => {
            let name = "segment/0000000000000001-0";
            Segment::parse(body, 0, name)?.encode(name, compress)
        }
        Kind::Piece => Piece::parse(body, 0, PIECE)?.encode(PIECE, compress),
        Kind::Directory => {
            Directory::parse(&body, "segment/0000000000000001-0")?.encode("segment/0000000000000001-0", compress)
        }
        _ => Ok(envelope::seal(kind, &body, compress)),
    }
}

#[test]
#[ignore = "replaces the goldens"]
fn write_goldens() {
    for (name, _, data) in goldens() {
        fs::write(path(name), data).unwrap();
    }
    fs::write(path("pack"), in_blocks(&several()).1).unwrap();
}

#[test]
fn the_golden_pack_is_written_and_read_unchanged_and_any_damage_to_it_is_noticed() {
    let pack = fs::read(path("pack")).unwrap();
    assert_eq!(pack, in_blocks(&several()).1);
    let directory = fs::read(path("directory")).unwrap();
    let directory = Directory::decode(&directory, "segment/0000000000000001-0").unwrap();
    let mut end = 0;
    for piece in directory.table().iter() {
        let start = end;
        end += usize::try_from(piece.place.length).unwrap();
        let mut block = pack[start..end].to_vec();
        assert_eq!(encode_block(&decode_block(&block).unwrap()).unwrap(), block);
        for place in 0..block.len() {
            for bit in 0..8 {
                block[place] ^= 1 << bit;
                assert!(
                    matches!(decode_block(&block), Err(Error::Damaged { .. })),
                    "{start}: {place}, {bit}"
                );
                block[place] ^= 1 << bit;
            }
            assert!(matches!(decode_block(&block[..place]), Err(Error::Damaged { .. })));
        }
    }
    assert_eq!(end, pack.len());
}

#[test]
fn flips_behind_a_repaired_checksum_of_a_block_or_page_are_refused_or_mean_something_else() {
    let (directory, pack) = in_blocks(&several());
    let directory = Directory::decode(&directory, "segment/0000000000000001-0").unwrap();
    let page = encode_page(directory.table()).unwrap();
    let again = |page: &[u8]| decode_page(page).and_then(|table| encode_page(&table));
    flip_all(&page, again);
    let mut start = 0;
    for piece in directory.table().iter() {
        let end = start + usize::try_from(piece.place.length).unwrap();
        flip_all(&pack[start..end], |block| {
            decode_block(block).and_then(|segment| encode_block(&segment))
        });
        start = end;
    }
}

fn flip_all(piece: &[u8], again: impl Fn(&[u8]) -> Result<Vec<u8>, Error>) {
    let mut piece = piece.to_vec();
    for place in 8..piece.len() {
        for bit in 0..8 {
            piece[place] ^= 1 << bit;
            let sum = XxHash3_64::oneshot(&piece[8..]);
            piece[..8].copy_from_slice(&sum.to_le_bytes());
            match again(&piece) {
                Ok(again) => assert_eq!(again, piece, "{place}, {bit}"),
                Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{place}, {bit}: {error}"),
            }
            piece[place] ^= 1 << bit;
        }
    }
}

#[test]
fn goldens_are_written_and_read_unchanged() {
    for (name, kind, data) in goldens() {
        let golden = fs::read(path(name)).unwrap();
        // A newer zstd may compress differently; the body is fixed.
        let ours = envelope::open(kind, &data).unwrap();
        assert_eq!(envelope::open(kind, &golden).unwrap(), ours, "{name}");
        assert_eq!(golden[6] & 1, u8::from(name == "segment-zstd"), "{name}");
        assert_eq!(reopen(kind, &golden).unwrap(), data, "{name}");
        if golden[6] == 0 {
            assert_eq!(golden, data, "{name}");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_damage() {
    for (name, kind, _) in goldens() {
        let mut data = fs::read(path(name)).unwrap();
        for place in 0..data.len() {
            for bit in 0..8 {
                data[place] ^= 1 << bit;
                let outcome = reopen(kind, &data);
                assert!(matches!(outcome, Err(Error::Damaged { .. })), "{name}: {place}, {bit}");
                data[place] ^= 1 << bit;
            }
        }
        for length in 0..data.len() {
            let outcome = reopen(kind, &data[..length]);
            assert!(matches!(outcome, Err(Error::Damaged { .. })), "{name}: {length}");
        }
    }
}

#[test]
fn flips_behind_a_repaired_checksum_are_refused_or_mean_something_else() {
    for (name, kind, _) in goldens() {
        let mut data = fs::read(path(name)).unwrap();
        if !matches!(kind, Kind::Segment | Kind::Piece | Kind::Directory) || data[6] != 0 {
            continue;
        }
        for place in HEADER_BYTES..data.len() {
            for bit in 0..8 {
                data[place] ^= 1 << bit;
                envelope::repair_checksum(&mut data);
                if let Ok(again) = reopen(kind, &data) {
                    assert_eq!(again, data, "{name}: {place}, {bit}");
                }
                data[place] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn an_intact_object_of_a_higher_version_is_newer() {
    for (name, kind, _) in goldens() {
        let mut data = fs::read(path(name)).unwrap();
        data[5] = VERSION + 1;
        envelope::repair_checksum(&mut data);
        let version = VERSION + 1;
        assert_eq!(reopen(kind, &data), Err(Error::Newer { version }), "{name}");
        data[5] = 0;
        envelope::repair_checksum(&mut data);
        let outcome = reopen(kind, &data);
        assert!(matches!(outcome, Err(Error::Damaged { offset: 5, .. })));
    }
}

#[test]
fn the_origin_column_of_300_is_two_bytes_wide_and_usable() {
    let data = fs::read(path("segment-origins-300")).unwrap();
    let body = envelope::open(Kind::Segment, &data).unwrap();
    let segment = Segment::parse(body, 0, "segment/0000000000000001-0").unwrap();
    let view = segment.view();
    assert_eq!(view.maxima().count(), 300);
    let spans = (0..300).map(|index| Span {
        origin: 1000 + index,
        first: 0,
        last: u64::MAX,
    });
    let all = Cover::new([].into(), spans.collect()).unwrap();
    let none = Cover::default();
    let missing = |cover| {
        let sides = Sides {
            a: Side {
                segments: &[view],
                cover: &none,
            },
            b: Side { segments: &[], cover },
        };
        delta(sides, Workers::ALONE).unwrap().to_b.view().len()
    };
    assert_eq!((missing(&all), missing(&none)), (0, 300));
}
