//! Logs in blocks against the same logs as segments.

use std::collections::BTreeMap;

use kvsync_core::blocks::{
    BlockDelta, BlockMerge, BlockSide, BlockWriter, Directory, MergeSizes, Need, Run, Table, Target, check_block,
    decode_block, decode_page, encode_block, encode_page,
};
use kvsync_core::{Cover, Segment, View};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::delta_model::{compare, lists};
use crate::model::{Log, any_change, any_cover, any_log, changes, segment};

const PACK: &str = "pack/1";

/// Packs by their names.
type Packs = BTreeMap<String, Vec<u8>>;

/// A log in blocks.
struct InBlocks {
    directory: Directory,
    packs: Packs,
}

impl InBlocks {
    fn new(view: View<'_>, target: u32) -> Self {
        Self::named(view, target, PACK)
    }

    fn named(view: View<'_>, target: u32, pack: &str) -> Self {
        let mut writer = BlockWriter::new(Target::new(target).unwrap(), pack);
        let mut bytes = Vec::new();
        for row in &view {
            writer.push(&row).unwrap();
            if bytes.len().is_multiple_of(3) {
                bytes.extend(writer.take());
            }
        }
        let (directory, rest) = writer.finish().unwrap();
        bytes.extend(rest);
        let packs = Packs::from([(pack.to_owned(), bytes)]);
        Self { directory, packs }
    }

    fn read(&self, pack: u32, offset: u64, length: u64) -> &[u8] {
        let name = &self.directory.packs()[usize::try_from(pack).unwrap()];
        let start = usize::try_from(offset).unwrap();
        &self.packs[name][start..start + usize::try_from(length).unwrap()]
    }

    fn ranges(&self, needs: &[Need], run: usize) -> Vec<&[u8]> {
        let own = needs.iter().filter(|need| need.run == run);
        own.map(|need| self.read(need.pack, need.offset, need.length)).collect()
    }

    /// The table of all blocks.
    fn blocks(&self) -> Table {
        if !self.directory.is_paged() {
            return self.directory.table().clone();
        }
        let mut blocks = Table::default();
        for part in self.directory.table().iter() {
            let page = decode_page(self.read(part.place.pack, part.place.offset, part.place.length.into())).unwrap();
            assert_eq!(
                (page.count(), page.sums(), page.first_key(0)),
                (part.count, part.sums, Some(part.first_key))
            );
            for block in page.iter() {
                blocks.push(&block);
            }
        }
        blocks
    }

    /// All changes, each block checked against the directory.
    fn rows(&self) -> Log {
        let mut rows = Log::new();
        let blocks = self.blocks();
        for (index, part) in blocks.iter().enumerate() {
            let bytes = self.read(part.place.pack, part.place.offset, part.place.length.into());
            check_block(&part, blocks.first_key(index + 1), bytes, self.directory.target()).unwrap();
            rows.extend(changes(decode_block(bytes).unwrap().view()));
        }
        rows
    }
}

/// The merge of some runs, written to `pack`, and how many bytes it read.
fn merged(logs: &[&InBlocks], segments: &[View<'_>], target: u32, pack: &str, read_ahead: u64) -> (InBlocks, u64) {
    let blocks = logs.iter().map(|log| Run::Blocks(&log.directory));
    let runs: Vec<_> = blocks.chain(segments.iter().map(|view| Run::Segment(*view))).collect();
    let sizes = MergeSizes::reading(read_ahead);
    let mut merge = BlockMerge::new(&runs, Target::new(target).unwrap(), pack, sizes).unwrap();
    let (mut bytes, mut read) = (Vec::new(), 0);
    while !merge.needs().is_empty() {
        let needs = merge.needs().to_vec();
        read += needs.iter().map(|need| need.length).sum::<u64>();
        let ranges: Vec<_> = (0..logs.len()).flat_map(|run| logs[run].ranges(&needs, run)).collect();
        merge.feed(&runs, &ranges).unwrap();
        bytes.extend(merge.take());
    }
    let (directory, rest) = merge.finish().unwrap();
    bytes.extend(merge.take());
    bytes.extend(rest);
    let mut packs = Packs::from([(pack.to_owned(), bytes)]);
    for log in logs {
        packs.extend(log.packs.clone());
    }
    (InBlocks { directory, packs }, read)
}

/// The delta of two logs in blocks with patches, and how many bytes of each it read.
fn delta_of(
    logs: [&InBlocks; 2],
    patches: [&[View<'_>]; 2],
    covers: [&Cover; 2],
    read_ahead: u64,
) -> ([Log; 6], [u64; 2]) {
    let sides = [0, 1].map(|run| BlockSide {
        directory: &logs[run].directory,
        patches: patches[run],
        cover: covers[run],
    });
    let mut delta = BlockDelta::new(sides, read_ahead).unwrap();
    let mut found: [Log; 6] = lists(delta.take().unwrap());
    let mut read = [0; 2];
    while !delta.needs().is_empty() {
        let needs = delta.needs().to_vec();
        for need in &needs {
            read[need.run] += need.length;
        }
        let ranges: Vec<_> = [0, 1]
            .into_iter()
            .flat_map(|run| logs[run].ranges(&needs, run))
            .collect();
        delta.feed(sides, &ranges).unwrap();
        for (all, more) in found.iter_mut().zip(lists(delta.take().unwrap())) {
            all.extend(more);
        }
    }
    (found, read)
}

fn any_target() -> impl Strategy<Value = u32> {
    select(&[64, 200, 1000, 20_000])
}

/// A log of some dozens to thousands of changes.
fn any_long_log() -> impl Strategy<Value = Log> {
    let length = prop_oneof![2 => 1_usize..400, 1 => 400_usize..4_000];
    (length, vec(any_change(0..=30), 9)).prop_map(|(length, kinds)| {
        let change = |place: usize| kinds[place * place % kinds.len()];
        (0..length)
            .map(|place| (format!("{place:05}"), change(place)))
            .collect()
    })
}

/// Changes of few of the keys of a long log, and of others.
fn any_patch() -> impl Strategy<Value = Log> {
    let key =
        prop_oneof![8 => (0_usize..500).prop_map(|place| format!("{place:05}")), 1 => "[0-9]{1,3}", 1 => "z{0,2}"];
    vec((key, any_change(0..=40)), 0..12)
}

/// A log with some of its changes replaced or left out.
fn any_branch(log: Log) -> impl Strategy<Value = Log> {
    let edits = vec((0..log.len().max(1), any_change(0..=30), any::<bool>()), 0..5);
    edits.prop_map(move |edits| {
        let mut log = log.clone();
        for (place, change, removed) in edits {
            if place < log.len() {
                if removed {
                    log.remove(place);
                } else {
                    log[place].1 = change;
                }
            }
        }
        log
    })
}

fn covers() -> impl Strategy<Value = [Cover; 2]> {
    let all = Cover::new((0..4).map(|origin| (origin, 30)).collect(), Vec::new()).unwrap();
    let none = Cover::default();
    prop_oneof![
        2 => Just([none.clone(), none]),
        2 => Just([all.clone(), all]),
        1 => any_cover().prop_map(|cover| [cover.clone(), cover]),
        2 => [any_cover(), any_cover()],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_hold_the_changes_and_are_encoded_in_one_way(log in any_log(200), target in any_target()) {
        let whole = segment(&log);
        let blocks = InBlocks::new(whole.view(), target);
        prop_assert_eq!(blocks.rows(), changes(whole.view()));
        let object = blocks.directory.encode("segment/1", true).unwrap();
        prop_assert_eq!(&Directory::decode(&object, "segment/1").unwrap(), &blocks.directory);
        for part in blocks.blocks().iter() {
            let bytes = blocks.read(part.place.pack, part.place.offset, part.place.length.into());
            let rows = decode_block(bytes).unwrap();
            let rows = rows.view().iter().collect();
            prop_assert_eq!(&*encode_block(&Segment::from_rows(rows).unwrap()).unwrap(), bytes);
        }
        let page = encode_page(blocks.directory.table()).unwrap();
        prop_assert_eq!(&decode_page(&page).unwrap(), blocks.directory.table());
    }

    #[test]
    fn the_delta_of_blocks_is_that_of_segments(
        (a, b) in any_long_log().prop_flat_map(|log| (any_branch(log.clone()), any_branch(log))),
        patches in [vec(any_patch(), 0..3), vec(any_patch(), 0..3)],
        covers in covers(),
        targets in [any_target(), any_target()],
        same_target in any::<bool>(),
        read_ahead in select(&[0, 500, 10_000, 1_000_000]),
    ) {
        let targets = if same_target { [targets[0]; 2] } else { targets };
        let bases = [segment(&a), segment(&b)];
        let patches = patches.map(|logs| logs.iter().map(|log| segment(log)).collect::<Vec<_>>());
        let views = patches.each_ref().map(|segments| segments.iter().map(Segment::view).collect::<Vec<_>>());
        let whole = [0, 1].map(|run| [&[bases[run].view()], &views[run][..]].concat());
        let expected = lists(compare([&whole[0], &whole[1]], [&covers[0], &covers[1]]).unwrap());
        let blocks = [0, 1].map(|run| InBlocks::new(bases[run].view(), targets[run]));
        let both = [&blocks[0], &blocks[1]];
        let (found, _) = delta_of(both, [&views[0], &views[1]], [&covers[0], &covers[1]], read_ahead);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn merged_blocks_are_those_of_the_merged_segment(
        base in any_long_log(),
        others in vec(any_patch(), 0..2),
        patches in vec(any_patch(), 0..3),
        targets in [any_target(), any_target()],
        same_target in any::<bool>(),
        read_ahead in select(&[0, 500, 10_000, 1_000_000]),
    ) {
        let target = if same_target { targets[0] } else { targets[1] };
        let bases: Vec<_> = std::iter::once(&base).chain(&others).map(|log| segment(log)).collect();
        let patches: Vec<_> = patches.iter().map(|log| segment(log)).collect();
        let views: Vec<_> = patches.iter().map(Segment::view).collect();
        let pack = |number: usize| format!("pack/{number}");
        let numbered = bases.iter().enumerate();
        let runs: Vec<_> = numbered.map(|(number, base)| InBlocks::named(base.view(), targets[0], &pack(number))).collect();
        let all: Vec<_> = bases.iter().chain(&patches).map(Segment::view).collect();
        let expected = Segment::merge(&all).unwrap();
        let (found, _) = merged(&runs.iter().collect::<Vec<_>>(), &views, target, "pack/new", read_ahead);
        prop_assert_eq!(found.rows(), changes(expected.view()));
        let anew = InBlocks::new(expected.view(), target);
        let facts = |log: &InBlocks| log.blocks().iter().map(|part| (part.first_key.to_vec(), part.checksum)).collect::<Vec<_>>();
        prop_assert_eq!(facts(&found), facts(&anew));
        let object = found.directory.encode("segment/1", false).unwrap();
        prop_assert_eq!(Directory::decode(&object, "segment/1").unwrap(), found.directory);
    }
}

fn long(count: usize) -> Log {
    let change = crate::model::Change {
        origin: 1,
        stamp: 5,
        flags: 0,
        size: 3,
        expires: 0,
        digest: [7; 32],
    };
    (0..count).map(|place| (format!("{place:06}"), change)).collect()
}

#[test]
fn equal_and_covered_blocks_are_not_read() {
    let log = long(20_000);
    let mut other = log.clone();
    other[7_000].1.stamp = 9;
    other[13_000].1.stamp = 9;
    let both = [&log, &other].map(|log| InBlocks::new(segment(log).view(), 1000));
    let both = [&both[0], &both[1]];
    assert!(both[0].directory.is_paged());
    let none = Cover::default();
    let (found, read) = delta_of(both, [&[], &[]], [&none, &none], 1000);
    assert_eq!(found.map(|list| list.len()), [0, 0, 2, 0, 0, 0]);
    assert!(read.iter().all(|bytes| *bytes < 40_000), "{read:?}");
    let [cover_a, cover_b] = [5, 9].map(|stamp| Cover::new([(1, stamp)].into(), vec![]).unwrap());
    let (found, read) = delta_of(both, [&[], &[]], [&cover_a, &cover_b], 1000);
    assert_eq!(found.map(|list| list.len()), [2, 0, 0, 0, 0, 0]);
    assert!(read[0] == 0 && read[1] < 40_000, "{read:?}");
    let (found, read) = delta_of(both, [&[], &[]], [&cover_b, &cover_b], 1000);
    assert_eq!((found.map(|list| list.len()), read), ([0; 6], [0; 2]));
}

#[test]
fn a_merge_reads_and_writes_little_more_than_the_blocks_that_change() {
    let base = InBlocks::new(segment(&long(20_000)).view(), 1000);
    let mut few: Log = long(20_000).into_iter().step_by(4_000).collect();
    for (_, change) in &mut few {
        change.stamp = 9;
    }
    let patch = segment(&few);
    let (found, read) = merged(&[&base], &[patch.view()], 1000, "pack/2", 4_000);
    let pages: u64 = base
        .directory
        .table()
        .iter()
        .map(|page| u64::from(page.place.length))
        .sum();
    assert!(read < pages + 5 * 4_000, "{read} bytes, {pages} of them pages");
    assert_eq!(found.directory.packs(), [PACK, "pack/2"]);
    let pages: u64 = found
        .directory
        .table()
        .iter()
        .map(|page| u64::from(page.place.length))
        .sum();
    assert!((found.packs["pack/2"].len() as u64) < pages + 5 * 4_000);
    let (nothing, read) = merged(&[&found], &[], 1000, "pack/3", 4_000);
    assert_eq!((nothing.rows().len(), read), (20_000, pages));
}

#[test]
fn a_patch_has_the_blocks_read_only_where_they_may_be_newer() {
    let log = long(2_000);
    let blocks = InBlocks::new(segment(&log).view(), 1000);
    let mut change = log[700].clone();
    let [cover_a, cover_b] = [9, 5].map(|stamp| Cover::new([(1, stamp)].into(), vec![]).unwrap());
    let read_with = |change: &(String, crate::model::Change), covers: [&Cover; 2]| {
        let patch = segment(std::slice::from_ref(change));
        let (found, read) = delta_of([&blocks, &blocks], [&[patch.view()], &[]], covers, 1000);
        (found.map(|list| list.len()), read)
    };
    change.1.stamp = 9;
    assert_eq!(read_with(&change, [&cover_a, &cover_b]), ([0, 1, 0, 0, 0, 0], [0, 0]));
    (change.1.origin, change.1.stamp) = (2, 4);
    let (found, read) = read_with(&change, [&cover_a, &cover_b]);
    assert_eq!(found, [0; 6]);
    assert!(read[0] > 0 && read[1] == 0);
    change.1.stamp = 9;
    change.1.digest = [8; 32];
    let none = Cover::default();
    let (found, read) = read_with(&change, [&none, &none]);
    assert_eq!(found, [0, 0, 0, 0, 1, 1]);
    assert!(read.iter().all(|bytes| (100..5000).contains(bytes)), "{read:?}");
}
