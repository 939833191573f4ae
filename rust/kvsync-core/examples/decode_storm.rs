//! Millions of mutated index objects against the decoders.
//!
//! `cargo run --release --example decode_storm -- [executions] [seed]`
//!
//! Golden objects are mutated and their checksum is repaired, so that the checks behind it are reached. Every object is
//! either refused, or decodes to rows from which the same bytes are built again (except for longer forms of integers).
//! Its rows keep every promise of the format and pass through delta and lookups, and several threads come to the same
//! result. Accepted mutants are mutated further.

#![expect(clippy::unwrap_used, reason = "a failure is to stop the storm")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use kvsync_core::blocks::{Directory, decode_block, decode_page, encode_block, encode_page};
use kvsync_core::envelope::{self, HEADER_BYTES};
use kvsync_core::{
    Builder, Cover, Error, KeyList, Kind, NO_DIGEST, Noted, Piece, Row, Segment, Side, Sides, Span, View, Workers,
    decode_all, delta,
};
use twox_hash::XxHash3_64;

const NAME: &str = "segment/0000000000000001-0";
const PIECE: &str = "piece/00000000000000000000000000000003";
const POOL_MAX: usize = 512;
const LENGTH_MAX: usize = 2000;
/// Starting threads takes longer than all other work, so only some objects are decoded by several threads as well.
const THREADED_EVERY: u64 = 50;
const SEEDS: [(&str, Kind); 8] = [
    ("segment-empty", Kind::Segment),
    ("segment-small", Kind::Segment),
    ("segment-expires", Kind::Segment),
    ("segment-origins-3", Kind::Segment),
    ("segment-zstd", Kind::Segment),
    ("segment-note", Kind::Segment),
    ("piece", Kind::Piece),
    ("directory", Kind::Directory),
];

/// What some bytes are to be read as.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Object(Kind),
    Block,
    Page,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from((self.next() >> 11) % limit).unwrap()
    }

    fn byte(&mut self) -> u8 {
        let interesting = [0, 1, 2, 3, 0x7f, 0x80, 0xa3, 0xc4, 0xcc, 0xcf, 0xd3, 0xe2, 0xff];
        match self.below(3) {
            0 => self.next().to_le_bytes()[3],
            _ => interesting[self.below(interesting.len())],
        }
    }
}

#[derive(Default)]
struct Count {
    refused: u64,
    same: u64,
    longer: u64,
}

fn main() {
    let mut arguments = env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().unwrap());
    let (executions, seed) = (number(10_000_000), number(1));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut pool = seeds();
    let seeds = pool.len();
    let mut count = Count::default();
    for execution in 0..executions {
        let place = random.below(pool.len());
        let (form, mut object) = pool[place].clone();
        for _ in 0..=random.below(3) {
            mutate(form, &mut object, &mut random);
        }
        repair_checksum(form, &mut object);
        let outcome = run(form, &object);
        if execution % THREADED_EVERY == 0 && form == Form::Object(Kind::Segment) {
            let by_threads = decode_all(vec![(&object, NAME)], Workers::new(2).with_share(1));
            let error = by_threads.err().map(|(_, error)| error);
            assert_eq!(error.as_ref(), outcome.as_ref().err());
        }
        match outcome {
            Err(_) => {
                count.refused += 1;
                continue;
            }
            Ok(true) => count.same += 1,
            Ok(false) => count.longer += 1,
        }
        if pool.len() < POOL_MAX {
            pool.push((form, object));
        } else if object.len() <= LENGTH_MAX {
            let place = seeds + random.below(POOL_MAX - seeds);
            pool[place] = (form, object);
        }
    }
    let Count { refused, same, longer } = count;
    println!(
        "{executions} executions, seed {seed}: {refused} refused, {same} accepted and identical, \
         {longer} accepted with longer integers, none wrong"
    );
}

fn seeds() -> Vec<(Form, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1");
    let read = |name: &str| fs::read(folder.join(name).with_extension("bin")).unwrap();
    let objects = SEEDS.into_iter().map(|(name, kind)| (Form::Object(kind), read(name)));
    let mut seeds: Vec<_> = objects.collect();
    let directory = Directory::decode(&read("directory"), NAME).unwrap();
    seeds.push((Form::Page, encode_page(directory.table()).unwrap()));
    let pack = read("pack");
    for block in directory.table().iter() {
        let start = usize::try_from(block.place.offset).unwrap();
        let length = usize::try_from(block.place.length).unwrap();
        seeds.push((Form::Block, pack[start..start + length].to_vec()));
    }
    seeds
}

fn repair_checksum(form: Form, object: &mut [u8]) {
    if matches!(form, Form::Object(_)) {
        envelope::repair_checksum(object);
    } else if let Some((checksum, rest)) = object.split_first_chunk_mut::<8>() {
        *checksum = XxHash3_64::oneshot(rest).to_le_bytes();
    }
}

fn mutate(form: Form, object: &mut Vec<u8>, random: &mut Random) {
    let is_object = matches!(form, Form::Object(_));
    let first = match random.below(50) {
        _ if !is_object => 8,
        0 => 4,
        _ => HEADER_BYTES,
    };
    let span = object.len().saturating_sub(first);
    if span == 0 {
        object.push(random.byte());
        return;
    }
    let place = first + random.below(span);
    match random.below(9) {
        0..=2 => object[place] ^= 1 << random.below(8),
        3 => object[place] = random.byte(),
        4 => object[place] = object[place].wrapping_add(1),
        5 => object[place] = object[place].wrapping_sub(1),
        6 => {
            let other = first + random.below(span);
            object.swap(place, other);
        }
        7 => object.insert(place, random.byte()),
        _ => {
            let stop = (place + 1 + random.below(8)).min(object.len());
            match random.below(3) {
                0 => drop(object.drain(place..stop)),
                1 => object.truncate(stop),
                _ => object.extend_from_within(place..stop),
            }
        }
    }
    if is_object && object.len() >= HEADER_BYTES && object[6] & 1 == 0 && random.below(20) != 0 {
        let length = object.len().saturating_sub(HEADER_BYTES) as u64;
        object[8..16].copy_from_slice(&length.to_le_bytes());
    }
}

/// Whether an accepted object is the one encoding of its rows.
fn run(form: Form, object: &[u8]) -> Result<bool, Error> {
    let kind = match form {
        Form::Object(kind) => kind,
        Form::Block => {
            let block = decode_block(object)?;
            segment(&Segment::parse(
                &envelope::open(Kind::Segment, &block.encode(NAME, false)?)?[..],
                0,
                NAME,
            )?);
            assert_eq!(encode_block(&block).unwrap(), object);
            return Ok(true);
        }
        Form::Page => {
            assert_eq!(encode_page(&decode_page(object)?).unwrap(), object);
            return Ok(true);
        }
    };
    let body = envelope::open(kind, object)?;
    let again = match kind {
        Kind::Segment => segment(&Segment::parse(&*body, 0, NAME)?),
        Kind::Directory => Directory::parse(&body, NAME)?.encode(NAME, false).unwrap(),
        _ => piece(&Piece::parse(&*body, 0, PIECE)?),
    };
    let bare = envelope::open(kind, &again).unwrap();
    if bare == body {
        return Ok(true);
    }
    // It had longer forms of integers; what is written has the shortest, and differs in nothing else.
    assert!(bare.len() <= body.len());
    let differ = bare.len() != body.len() || kind != Kind::Piece;
    assert!(differ, "a piece that differs in its columns");
    assert!(run(form, &again).unwrap());
    Ok(false)
}

fn segment(parsed: &Segment<&[u8]>) -> Vec<u8> {
    let view = parsed.view();
    let rows: Vec<Row<'_>> = view.iter().collect();
    promises(view, &rows);
    let mut builder = Builder::default();
    for row in &rows {
        builder.push(row);
    }
    let built = builder.finish().unwrap();
    let keys: Vec<&str> = rows.iter().map(|row| str::from_utf8(row.key).unwrap()).collect();
    let found = built.view().find(&keys);
    assert!(rows.iter().zip(found).all(|(row, found)| found == Some(*row)));
    let single = |row: &Row<'_>| Span {
        origin: row.origin,
        first: row.stamp,
        last: row.stamp,
    };
    let half = Cover::new(BTreeMap::new(), rows.iter().step_by(2).map(single).collect()).unwrap();
    let (none, same) = (Cover::default(), built.view());
    let sides = Sides {
        a: Side {
            segments: &[view],
            cover: &half,
        },
        b: Side {
            segments: &[same],
            cover: &none,
        },
    };
    if let Ok(delta) = delta(sides, Workers::ALONE) {
        assert_eq!(delta.conflict_a.view().len(), 0);
        assert!(delta.to_b.view().len() <= rows.len());
    }
    let object = built.encode_with(NAME, parsed.note(), false).unwrap();
    assert_eq!(object, parsed.encode(NAME, false).unwrap());
    object
}

fn promises(view: View<'_>, rows: &[Row<'_>]) {
    assert_eq!(rows.len(), view.len());
    assert!(rows.windows(2).all(|pair| pair[0].key < pair[1].key));
    for row in rows {
        assert!(row.flags < 8);
        let bare = row.size == 0 && row.expires == 0 && *row.digest == NO_DIGEST;
        assert!(!row.deletes() || bare);
    }
    for (origin, most) in view.maxima() {
        let stamps = rows.iter().filter(|row| row.origin == origin);
        assert_eq!(stamps.map(|row| row.stamp).max(), Some(most));
    }
    let dead = rows.iter().filter(|row| row.deletes()).count();
    assert_eq!(dead, view.tombstones());
    let expiring = rows.iter().filter(|row| row.expires != 0).count();
    assert_eq!(expiring, view.expiring());
    assert_eq!(expiring, view.expired(u64::MAX).len());
}

fn piece(parsed: &Piece<&[u8]>) -> Vec<u8> {
    let mut keys = KeyList::default();
    let (mut tokens, mut digests) = (Vec::new(), Vec::new());
    for entry in parsed.iter() {
        keys.push(str::from_utf8(entry.key).unwrap());
        tokens.push(entry.found.map_or(&[][..], |found| found.token));
        digests.push(entry.found.map(|found| found.digest));
    }
    keys.check_ascending().unwrap();
    let noted = Noted {
        keys: &keys,
        tokens: &tokens,
        digests: &digests,
    };
    Piece::build(noted).unwrap().encode(PIECE, false).unwrap()
}
