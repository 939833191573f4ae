//! Any body in an intact envelope is either refused, or written again as the same bytes.
//!
//! `cargo +nightly fuzz run --fuzz-dir rust/fuzz decode rust/fuzz/corpus tests/golden/v1`

#![no_main]

use kvsync_core::blocks::Directory;
use kvsync_core::envelope::{self, HEADER_BYTES};
use kvsync_core::{Builder, Kind, Piece, Segment};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "segment/0000000000000001-0";
const PIECE: &str = "piece/00000000000000000000000000000003";

fuzz_target!(|data: &[u8]| {
    let mut object = data.to_vec();
    repair_envelope(&mut object);
    let kind = object.get(4).and_then(|kind| Kind::try_from(*kind).ok());
    let kind = kind.unwrap_or(Kind::Segment);
    if let Ok(body) = envelope::open(kind, &object) {
        match kind {
            Kind::Segment => segment(&body),
            Kind::Piece => piece(&body),
            Kind::Directory => directory(&body),
            _ => same(&envelope::seal(kind, &body, false)[HEADER_BYTES..], &body),
        }
    }
});

/// Give an object an envelope that lets a reader reach the body.
fn repair_envelope(object: &mut [u8]) {
    let Some((header, body)) = object.split_first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    header[..4].copy_from_slice(b"kvsy");
    header[5] = envelope::VERSION;
    if header[6] & 1 == 0 {
        header[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    }
    envelope::repair_checksum(object);
}

fn segment(body: &[u8]) {
    let Ok(parsed) = Segment::parse(body, 0, NAME) else {
        return;
    };
    let mut builder = Builder::default();
    let mut before = None;
    for row in parsed.view().iter() {
        assert!(str::from_utf8(row.key).is_ok() && before < Some(row.key));
        before = Some(row.key);
        builder.push(&row);
    }
    let built = builder.finish().unwrap();
    let built = built.encode_with(NAME, parsed.note(), false).unwrap();
    assert_eq!(built, parsed.encode(NAME, false).unwrap());
    same(&built[HEADER_BYTES..], body);
}

fn piece(body: &[u8]) {
    if let Ok(parsed) = Piece::parse(body, 0, PIECE) {
        let keys: Vec<_> = parsed.iter().map(|entry| entry.key).collect();
        assert!(keys.is_sorted_by(|left, right| left < right));
        assert!(keys.iter().all(|key| str::from_utf8(key).is_ok()));
        let again = parsed.encode(PIECE, false).unwrap();
        same(&again[HEADER_BYTES..], body);
    }
}

fn directory(body: &[u8]) {
    if let Ok(parsed) = Directory::parse(body, NAME) {
        same(&parsed.encode(NAME, false).unwrap()[HEADER_BYTES..], body);
    }
}

/// Longer forms of integers are read; nothing else may differ.
fn same(again: &[u8], body: &[u8]) {
    assert!(again == body || again.len() <= body.len());
}
