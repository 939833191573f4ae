//! Any bytes behind a sound checksum are either refused, or written again as the same block or page.
//!
//! `cargo +nightly fuzz run --fuzz-dir rust/fuzz blocks rust/fuzz/corpus tests/golden/v1`

#![no_main]

use kvsync_core::blocks::{Sums, decode_block, decode_page, encode_block, encode_page};
use kvsync_core::Builder;
use libfuzzer_sys::fuzz_target;
use twox_hash::XxHash3_64;

fuzz_target!(|data: &[u8]| {
    let mut piece = data.to_vec();
    let Some((checksum, rest)) = piece.split_first_chunk_mut::<8>() else {
        return;
    };
    *checksum = XxHash3_64::oneshot(rest).to_le_bytes();
    if let Ok(block) = decode_block(&piece) {
        let mut builder = Builder::default();
        block.view().iter().for_each(|row| builder.push(&row));
        let built = builder.finish().unwrap();
        assert_eq!(encode_block(&built).unwrap(), piece);
        assert_eq!(Sums::of(built.view().iter()), Sums::of(block.view().iter()));
    }
    if let Ok(page) = decode_page(&piece) {
        assert!(page.iter().map(|described| described.first_key).is_sorted_by(|left, right| left < right));
        assert_eq!(encode_page(&page).unwrap(), piece);
    }
});
