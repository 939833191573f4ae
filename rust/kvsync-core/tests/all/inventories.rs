//! Inventories in runs of pieces against a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvsync_core::{DIGEST_BYTES, Kind, Merge, MergeOptions, Noted, Page, Piece, Walk, envelope};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::model::{any_key, key_list};

/// Token and digest; None for a key that is gone.
type Value = Option<(Vec<u8>, u8)>;
type Map = BTreeMap<String, Value>;
type Memory = Piece<Vec<u8>>;

fn any_value() -> impl Strategy<Value = Value> {
    let by_digest = any::<u8>().prop_map(|digest| (vec![digest; DIGEST_BYTES], digest));
    proptest::option::weighted(0.8, prop_oneof![(vec(any::<u8>(), 0..4), any::<u8>()), by_digest])
}

fn piece(map: &Map) -> Memory {
    let keys = key_list(map.keys().map(String::as_str));
    let tokens: Vec<&[u8]> = map
        .values()
        .map(|value| value.as_ref().map_or(&[][..], |value| &value.0))
        .collect();
    let digests: Vec<_> = map
        .values()
        .map(|value| value.as_ref().map(|value| [value.1; DIGEST_BYTES]))
        .collect();
    let digests: Vec<_> = digests.iter().map(Option::as_ref).collect();
    let noted = Noted {
        keys: &keys,
        tokens: &tokens,
        digests: &digests,
    };
    Piece::build(noted).unwrap()
}

fn map_of<B: AsRef<[u8]>>(pieces: &[Piece<B>]) -> Map {
    let entries = pieces.iter().flat_map(Piece::iter);
    let value = |found: kvsync_core::Found<'_>| (found.token.to_vec(), found.digest[0]);
    let entry =
        |entry: kvsync_core::Entry<'_>| (String::from_utf8(entry.key.to_vec()).unwrap(), entry.found.map(value));
    entries.map(entry).collect()
}

/// A map as a run of small pieces.
fn run(map: &Map, length: usize) -> Vec<Arc<Memory>> {
    let entries: Vec<_> = map.iter().collect();
    let part = |part: &[(&String, &Value)]| {
        part.iter()
            .map(|(key, value)| ((*key).clone(), (*value).clone()))
            .collect()
    };
    entries
        .chunks(length)
        .map(|chunk| Arc::new(piece(&part(chunk))))
        .collect()
}

/// Supply whatever is needed from runs, of which so many pieces were taken.
fn supply(needs: Option<usize>, runs: &[Vec<Arc<Memory>>], taken: &mut [usize]) -> Option<(usize, Arc<Memory>)> {
    let run = needs?;
    taken[run] += 1;
    Some((run, runs[run][taken[run] - 1].clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_of_pieces_match_a_map(
        maps in vec(btree_map(any_key(), any_value(), 0..60), 0..5),
        mut listed in btree_map(any_key(), (vec(any::<u8>(), 0..4), any::<u8>()).prop_map(Some), 0..60),
        keep in any::<u64>(),
        length in 1_usize..9,
        page in 1_usize..20,
    ) {
        let mut model: Map = maps.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let parsed = |map: &Map| {
            let object = piece(map).encode("piece/1", keep & 1 == 1).unwrap();
            let body = envelope::open(Kind::Piece, &object).unwrap().into_owned();
            map_of(&[Piece::parse(body, 0, "piece/1").unwrap()])
        };
        for map in &maps {
            prop_assert_eq!(&parsed(map), map);
        }
        let runs: Vec<_> = maps.iter().map(|map| run(map, length)).collect();
        let lengths: Vec<_> = runs.iter().map(Vec::len).collect();

        for drops_gone in [false, true] {
            let (start, stop) = (listed.keys().next().cloned(), listed.keys().nth(20).cloned());
            let bytes = |key: &Option<String>| key.as_ref().map(|key| key.as_bytes().to_vec());
            let options = MergeOptions { drops_gone, piece_bytes: 90, start: bytes(&start), stop: bytes(&stop) };
            let mut merge = Merge::new(&lengths, options);
            let (mut pieces, mut taken) = (Vec::new(), vec![0; runs.len()]);
            while !merge.is_done() {
                while let Some((run, piece)) = supply(merge.needs(), &runs, &mut taken) {
                    merge.supply(run, piece).unwrap();
                }
                pieces.extend(merge.step().unwrap());
            }
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let within = |(key, value): &(&String, &Value)| {
                start.as_ref().is_none_or(|start| *key >= start)
                    && stop.as_ref().is_none_or(|stop| *key < stop)
                    && (value.is_some() || !drops_gone)
            };
            let expected: Map = model.iter().filter(within).map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(map_of(&pieces), expected);
        }

        model.retain(|_, value| value.is_some());
        for ((key, value), at) in model.iter().zip(0..) {
            if (keep >> (at % 64)) & 1 == 1 {
                listed.insert(key.clone(), value.clone());
            }
        }
        let keys: Vec<&str> = listed.keys().map(String::as_str).collect();
        let tokens: Vec<&[u8]> = listed.values().flatten().map(|value| &*value.0).collect();
        let (mut walk, mut taken) = (Walk::new(&lengths), vec![0; runs.len()]);
        let mut gone = Vec::new();
        for (keys, tokens) in keys.chunks(page).zip(tokens.chunks(page)) {
            let page = Page::of_tokens(keys.iter().copied(), tokens.iter().copied()).unwrap();
            let mut start = 0;
            while start < keys.len() {
                while let Some((run, piece)) = supply(walk.needs(), &runs, &mut taken) {
                    walk.supply(run, piece).unwrap();
                }
                let compared = walk.compare(&page, start).unwrap();
                gone.extend(compared.gone);
                start = compared.stop;
            }
        }
        loop {
            while let Some((run, piece)) = supply(walk.needs(), &runs, &mut taken) {
                walk.supply(run, piece).unwrap();
            }
            gone.extend(walk.rest());
            if walk.needs().is_none() {
                break;
            }
        }
        let differs = |(key, token): (&&str, &&[u8])| {
            let known = model.get(*key).and_then(Option::as_ref);
            let same = known.is_some_and(|known| !known.0.is_empty() && known.0 == *token);
            (!same).then_some((key.as_bytes().to_vec(), token.to_vec(), known.map(|known| known.1)))
        };
        let expected: Vec<_> = keys.iter().zip(&tokens).filter_map(differs).collect();
        let (found, unread) = walk.take();
        let entry = |(key, token, known): (&[u8], &[u8], Option<&[u8; DIGEST_BYTES]>)| {
            (key.to_vec(), token.to_vec(), known.map(|known| known[0]))
        };
        let changed: Vec<_> = (0..unread.len()).map(|index| entry(unread.get(index))).collect();
        prop_assert!(found.is_empty());
        prop_assert_eq!(changed, expected);
        let missed: Vec<_> = model.keys().filter(|key| !listed.contains_key(*key)).map(|key| key.as_bytes().to_vec()).collect();
        prop_assert_eq!(gone, missed);
        prop_assert_eq!(walk.known(), model.len());
    }
}
