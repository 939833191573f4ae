//! Inventories against a map.

use std::collections::BTreeMap;

use kvsync_core::{DIGEST_BYTES, Entry, Inventory, KeyList, Kind, Scanned, envelope};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use crate::model::{any_key, key_list};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_inventory_matches_a_map(
        old in btree_map(any_key(), (vec(any::<u8>(), 0..4), any::<u8>()), 0..100),
        new in btree_map(any_key(), (vec(any::<u8>(), 0..4), any::<u8>()), 0..100),
        keep in any::<u64>(),
        removed in btree_set(any_key(), 0..20),
    ) {
        type Map = BTreeMap<String, (Vec<u8>, u8)>;
        fn columns(map: &Map) -> (KeyList, Vec<&[u8]>, Vec<[u8; DIGEST_BYTES]>) {
            let keys = key_list(map.keys().map(String::as_str));
            let tokens = map.values().map(|value| value.0.as_slice()).collect();
            (keys, tokens, map.values().map(|value| [value.1; DIGEST_BYTES]).collect())
        }
        fn map_of<B: AsRef<[u8]>>(inventory: &Inventory<B>) -> Map {
            let entry = |entry: Entry<'_>| {
                let key = String::from_utf8(entry.key.to_vec()).unwrap();
                (key, (entry.token.to_vec(), entry.digest[0]))
            };
            inventory.iter().map(entry).collect()
        }
        let mut new = new;
        for ((key, value), at) in old.iter().zip(0..) {
            if (keep >> (at % 64)) & 1 == 1 {
                new.insert(key.clone(), value.clone());
            }
        }
        let (keys, tokens, digests) = columns(&old);
        let digests = &digests.iter().collect::<Vec<_>>();
        let built = Inventory::build(Scanned { keys: &keys, tokens: &tokens, digests }).unwrap();
        let object = built.encode(&[7; 16], keep & 1 == 1).unwrap();
        let parsed = Inventory::parse(envelope::open(Kind::Inventory, &object).unwrap(), 0).unwrap();
        prop_assert_eq!(map_of(&parsed), old.clone());
        prop_assert_eq!(parsed.nonce(), &[7; 16]);

        let (keys, tokens, digests) = columns(&new);
        let difference = parsed.compare(&keys, &tokens).unwrap();
        let differs = |(key, value): (&String, &(Vec<u8>, u8))| {
            old.get(key).is_none_or(|known| known.0.is_empty() || known.0 != value.0)
        };
        let changed: Vec<_> = new.iter().enumerate().filter(|(_, entry)| differs(*entry)).map(|(at, _)| at).collect();
        prop_assert_eq!(difference.changed, changed);
        let gone: Vec<_> = old.keys().filter(|key| !new.contains_key(*key)).map(String::as_bytes).collect();
        prop_assert_eq!(difference.removed, gone);

        let wanted: Vec<&str> = new.keys().chain(old.keys()).map(String::as_str).collect();
        for (key, found) in wanted.iter().zip(parsed.find(&wanted)) {
            let found = found.map(|entry| (entry.token.to_vec(), entry.digest[0]));
            prop_assert_eq!(found.as_ref(), old.get(*key));
        }

        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        let digests = &digests.iter().collect::<Vec<_>>();
        let updated = parsed.updated(Scanned { keys: &keys, tokens: &tokens, digests }, &removed).unwrap();
        let mut model = old;
        model.extend(new);
        model.retain(|key, _| !removed.contains(&key.as_str()));
        prop_assert_eq!(map_of(&updated), model);
    }
}
