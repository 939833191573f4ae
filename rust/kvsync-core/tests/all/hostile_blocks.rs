//! Hostile blocks, pages and directories: each is refused, and none costs memory or time beyond its length.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kvsync_core::blocks::{
    BlockDelta, BlockSide, BlockWriter, Directory, Part, Table, Target, decode_block, decode_page, encode_page,
};
use kvsync_core::pack::Writer;
use kvsync_core::{ArgumentFault, Cover, Error, Kind, Reason, Row, envelope};
use twox_hash::XxHash3_64;

const NAME: &str = "segment/1";

/// The directory and the pack of some changes.
fn log(count: u64) -> (Directory, Vec<u8>) {
    let mut writer = BlockWriter::new(Target::new(1000).unwrap(), "pack/1");
    for place in 0..count {
        let key = format!("{place:06}");
        let row = Row {
            key: key.as_bytes(),
            origin: 1 + place % 2,
            stamp: place,
            flags: 0,
            size: 3,
            expires: 0,
            digest: &[7; 32],
        };
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap()
}

/// A part with some of its bytes replaced, and its checksum repaired.
fn with(part: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut part = part.to_vec();
    part[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = XxHash3_64::oneshot(&part[8..]);
    part[..8].copy_from_slice(&sum.to_le_bytes());
    part
}

fn damage(offset: usize, reason: Reason) -> Error {
    Error::Damaged { offset, reason }
}

#[test]
fn wrong_heads_of_blocks_are_refused() {
    let (directory, pack) = log(5);
    assert_eq!(directory.table().len(), 1);
    assert!(decode_block(&pack).is_ok());
    for (at, bytes, error) in [
        (8, &[0; 4][..], damage(8, Reason::OriginsContradictCount)),
        (8, &[255; 4], damage(64, Reason::CountPassesEnd)),
        (12, &[255; 4], damage(32, Reason::CountPassesEnd)),
        (16, &[3], damage(16, Reason::ColumnLength)),
        (16, &[0], damage(16, Reason::ColumnLength)),
        (19, &[5], damage(19, Reason::ColumnLength)),
        (20, &[0], damage(20, Reason::ColumnLength)),
        (21, &[1], damage(21, Reason::HeadNotZero)),
        (23, &[1], damage(21, Reason::HeadNotZero)),
    ] {
        assert_eq!(
            decode_block(with(&pack, at, bytes)).unwrap_err(),
            error,
            "{at}: {bytes:?}"
        );
    }
    let mut longer = pack.clone();
    longer.push(b'x');
    assert!(decode_block(with(&longer, 21, &[0])).is_err());
}

#[test]
fn wrong_heads_of_pages_are_refused() {
    let (directory, _) = log(100);
    let page = encode_page(directory.table()).unwrap();
    assert_eq!(&decode_page(&page).unwrap(), directory.table());
    for (at, bytes, error) in [
        (8, &[255; 4][..], damage(48, Reason::CountPassesEnd)),
        (12, &[255; 4], damage(32, Reason::CountPassesEnd)),
        (16, &[3], damage(16, Reason::ColumnLength)),
        (40, &[0], damage(32, Reason::OriginsContradictCount)),
        (48, &[0], damage(48, Reason::PartOutOfRange)),
    ] {
        assert_eq!(
            decode_page(&with(&page, at, bytes)).unwrap_err(),
            error,
            "{at}: {bytes:?}"
        );
    }
    let nothing = encode_page(&Table::default()).unwrap();
    assert_eq!(
        decode_page(&with(&nothing, 18, &[8])).unwrap_err(),
        damage(32, Reason::ColumnTooWide)
    );
}

fn directory(target: u64, depth: u64, packs: &[&str], table: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut out = Writer(&mut body);
    out.map(5);
    out.str("name").unwrap();
    out.str(NAME).unwrap();
    out.str("target").unwrap();
    out.uint(target);
    out.str("depth").unwrap();
    out.uint(depth);
    out.str("packs").unwrap();
    out.array(packs.len()).unwrap();
    for pack in packs {
        out.str(pack).unwrap();
    }
    out.str("table").unwrap();
    out.bin(table).unwrap();
    envelope::seal(Kind::Directory, &body, false)
}

#[test]
fn limits_of_directories_are_kept() {
    let (sound, _) = log(100);
    let page = encode_page(sound.table()).unwrap();
    let read = |target, depth, packs: &[&str], table: &[u8]| match Directory::decode(
        &directory(target, depth, packs, table),
        NAME,
    ) {
        Ok(_) => None,
        Err(Error::Damaged { reason, .. }) => Some(reason),
        Err(error) => unreachable!("{error}"),
    };
    let long = "x".repeat(256);
    assert_eq!(read(1000, 1, &["pack/1"], &page), None);
    assert_eq!(read(63, 1, &["pack/1"], &page), Some(Reason::TargetOutOfRange));
    assert_eq!(
        read((1 << 20) + 1, 1, &["pack/1"], &page),
        Some(Reason::TargetOutOfRange)
    );
    assert_eq!(read(u64::MAX, 1, &["pack/1"], &page), Some(Reason::TargetOutOfRange));
    assert_eq!(read(1000, 0, &["pack/1"], &page), Some(Reason::DepthOutOfRange));
    assert_eq!(read(1000, 3, &["pack/1"], &page), Some(Reason::DepthOutOfRange));
    assert_eq!(read(1000, 1, &[], &page), Some(Reason::PartOutOfRange));
    assert_eq!(read(1000, 1, &["a", "a"], &page), Some(Reason::BadPacks));
    assert_eq!(read(1000, 1, &[&long], &page), Some(Reason::BadPacks));
    // Blocks of that many changes do not come of so small a target.
    assert_eq!(read(64, 1, &["pack/1"], &page), Some(Reason::PartOutOfRange));
    assert_eq!(read(64, 2, &["pack/1"], &page), None);
    let mut many = Table::default();
    for place in 0..1025 {
        let first_key = format!("{place:06}");
        let first_key = first_key.as_bytes();
        many.push(&Part {
            first_key,
            ..sound.table().get(0).unwrap()
        });
    }
    let many = encode_page(&many).unwrap();
    assert_eq!(read(1000, 1, &["pack/1"], &many), Some(Reason::PartOutOfRange));
}

/// The error of a delta of a log with nothing, where the directory says something else of a part.
fn refused(log: &(Directory, Vec<u8>), change: impl Fn(usize, &mut Part<'_>)) -> Option<Error> {
    let mut table = Table::default();
    for (index, part) in log.0.table().iter().enumerate() {
        let mut part = part;
        change(index, &mut part);
        table.push(&part);
    }
    let depth = if log.0.is_paged() { 2 } else { 1 };
    let object = directory(1000, depth, &["pack/1"], &encode_page(&table).unwrap());
    let forged = Directory::decode(&object, NAME).unwrap();
    let (empty, none) = (Directory::empty(Target::default()), Cover::default());
    let side = |directory| BlockSide {
        directory,
        patches: &[],
        cover: &none,
    };
    let sides = [side(&forged), side(&empty)];
    let mut delta = BlockDelta::new(sides, 1 << 20).unwrap();
    while !delta.needs().is_empty() {
        let range = |need: &kvsync_core::blocks::Need| {
            let start = usize::try_from(need.offset).unwrap();
            &log.1[start..start + usize::try_from(need.length).unwrap()]
        };
        let ranges: Vec<_> = delta.needs().iter().map(range).collect();
        if let Err(error) = delta.feed(sides, &ranges) {
            return Some(error);
        }
    }
    None
}

#[test]
fn a_block_or_page_that_is_not_the_one_described_is_refused() {
    for count in [100, 30_000] {
        let log = log(count);
        assert_eq!(log.0.is_paged(), count > 100);
        assert_eq!(refused(&log, |_, _| ()), None);
        let lie = |change: &dyn Fn(&mut Part<'_>)| {
            let error = refused(&log, |index, part| {
                if index == 1 {
                    change(part);
                }
            });
            let Some(Error::Damaged { offset, reason }) = error else {
                unreachable!("{error:?}");
            };
            // A wrong first key may as well be found at the end of the part before.
            let mut starts = log.0.table().iter().take(2).map(|part| part.place.offset);
            assert!(
                starts.any(|start| (start..start + 9).contains(&(offset as u64))),
                "{offset}"
            );
            assert_eq!(reason, Reason::OtherPart);
        };
        lie(&|part| part.count += 1);
        lie(&|part| part.maxima = &part.maxima[..1]);
        lie(&|part| part.first_key = &part.first_key[..part.first_key.len() - 1]);
        lie(&|part| part.checksum += 1);
        if log.0.is_paged() {
            lie(&|part| part.sums.changes += 1);
        }
    }
}

#[test]
fn parts_that_are_not_those_needed_are_refused() {
    let (full, pack) = log(100);
    let (empty, none) = (Directory::empty(Target::default()), Cover::default());
    let side = |directory| BlockSide {
        directory,
        patches: &[],
        cover: &none,
    };
    let sides = [side(&full), side(&empty)];
    let mut delta = BlockDelta::new(sides, 1 << 20).unwrap();
    let fault = Err(Error::BadArgument(ArgumentFault::RangesAndNeeds));
    for ranges in [&[][..], &[&pack[1..]], &[&pack[..], &[]]] {
        assert_eq!(delta.feed(sides, ranges), fault);
    }
    assert_eq!(delta.feed(sides, &[&pack]), Ok(()));
    assert_eq!(delta.take().unwrap().to_b.view().len(), 100);
}
