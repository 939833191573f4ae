//! Time and memory of logs in blocks beside logs in whole segments.
//!
//! `cargo run --release --example blocks -- delta 1000000` compares two logs, ours in turns with whole segments.
//! `… -- write 10000000 FOLDER`, then `… -- stream-merge FOLDER` and `… -- stream-delta FOLDER`, each a process of its
//! own, show the peak of memory.

#![expect(clippy::unwrap_used, reason = "a failure is to stop the measurement")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kvsync_core::blocks::{BlockDelta, BlockMerge, BlockSide, BlockWriter, Directory, MergeSizes, Need, Run, Target};
use kvsync_core::{Builder, Cover, DIGEST_BYTES, Delta, Row, Side, Sides, Workers, decode_all, delta};

const NAME: &str = "segment/0000000000000001-0";
const ORIGINS: [u64; 3] = [0x1111_1111_1111_1111, 0x9999_9999_9999_9999, 0x4ccc_cccc_cccc_cccc];
const START_MS: u64 = 1_790_000_000_000;
const MONTH_MS: u64 = 30 * 24 * 3600 * 1000;
const READ_AHEAD: u64 = 1 << 20;
const ROUNDS: usize = 7;

/// Where the changes are that only one side has: each hundredth key of a side, or the last ones, or a hundred in all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Scattered,
    Tail,
    Few,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// Call `write` with each change of both logs, ascending by key, and the sides that have it.
fn generate(count: u64, spread: Spread, mut write: impl FnMut([bool; 2], &Row<'_>)) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut number = 0;
    let missing = count / 100;
    let total = count + missing;
    let step = total / 100;
    for place in 0..total {
        number += 1 + random.below(900_000_000_000 / total);
        let letters: String = (0..2 + number % 21)
            .map(|_| char::from(b'a' + random.next().to_le_bytes()[2] % 26))
            .collect();
        let key = format!("user/{number:012}/{letters}");
        let chance = random.below(total);
        let alone = match spread {
            Spread::Scattered => chance < 2 * missing,
            Spread::Tail => place >= count - missing,
            Spread::Few => place % step == step / 2,
        };
        let side = usize::from(random.next() & 1 << 20 == 0);
        let origin = if alone {
            ORIGINS[side]
        } else {
            ORIGINS[usize::try_from(random.below(3)).unwrap()]
        };
        let ms = START_MS + random.below(MONTH_MS) + if alone { MONTH_MS } else { 0 };
        let mut digest = [0; DIGEST_BYTES];
        for word in digest.as_chunks_mut::<8>().0 {
            *word = random.next().to_le_bytes();
        }
        let row = Row {
            key: key.as_bytes(),
            origin,
            stamp: ms << 16,
            flags: 0,
            size: 16 + random.below(4080),
            expires: 0,
            digest: &digest,
        };
        write([!alone || side == 0, !alone || side == 1], &row);
    }
}

fn covers() -> [Cover; 2] {
    let common = (START_MS + MONTH_MS) << 16;
    let newest = (START_MS + 2 * MONTH_MS) << 16;
    [0, 1].map(|side| {
        let known = |origin| (origin, if origin == ORIGINS[side] { newest } else { common });
        Cover::new(ORIGINS.into_iter().map(known).collect(), Vec::new()).unwrap()
    })
}

struct InBlocks {
    directory: Directory,
    object: Vec<u8>,
    pack: Vec<u8>,
}

#[derive(Default)]
struct Cost {
    bytes: u64,
    ranges: usize,
}

fn by_blocks(logs: &[InBlocks; 2], covers: &[Cover; 2], cost: &mut Cost) -> Vec<Delta> {
    let directories = logs.each_ref().map(|log| Directory::decode(&log.object, NAME).unwrap());
    let sides = [0, 1].map(|side| BlockSide {
        directory: &directories[side],
        patches: &[],
        cover: &covers[side],
    });
    let mut delta = BlockDelta::new(sides, READ_AHEAD).unwrap();
    let mut found = Vec::new();
    *cost = Cost {
        bytes: logs.iter().map(|log| log.object.len() as u64).sum(),
        ranges: 0,
    };
    while !delta.needs().is_empty() {
        cost.bytes += delta.needs().iter().map(|need| need.length).sum::<u64>();
        cost.ranges += delta.needs().len();
        let ranges: Vec<_> = delta
            .needs()
            .iter()
            .map(|need| range(&logs[need.run].pack, need))
            .collect();
        delta.feed(sides, &ranges).unwrap();
    }
    found.push(delta.take().unwrap());
    found
}

fn range<'a>(pack: &'a [u8], need: &Need) -> &'a [u8] {
    let start = usize::try_from(need.offset).unwrap();
    &pack[start..start + usize::try_from(need.length).unwrap()]
}

fn by_segments(objects: &[Vec<u8>; 2], covers: &[Cover; 2]) -> Vec<Delta> {
    let segments = decode_all(objects.iter().map(|object| (object, NAME)).collect(), Workers::ALONE).unwrap();
    let views = [segments[0].view(), segments[1].view()];
    let side = |side: usize| Side {
        segments: &views[side..=side],
        cover: &covers[side],
    };
    let sides = Sides { a: side(0), b: side(1) };
    vec![delta(sides, Workers::ALONE).unwrap()]
}

fn sizes(found: &[Delta]) -> [usize; 6] {
    let sizes = |delta: &Delta| {
        let all = [
            &delta.to_a,
            &delta.to_b,
            &delta.log_a,
            &delta.log_b,
            &delta.conflict_a,
            &delta.conflict_b,
        ];
        all.map(|segment| segment.view().len())
    };
    found.iter().map(sizes).fold([0; 6], |sum, more| {
        std::array::from_fn(|place| sum[place] + more[place])
    })
}

/// How many milliseconds the processor worked, which a busy machine does not stretch.
fn time<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = worked_ns();
    let found = work();
    ((worked_ns() - start) / 1e6, found)
}

fn worked_ns() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn compare(count: u64, target: u32, spread: Spread) {
    let mut builders = [Builder::default(), Builder::default()];
    let mut writers = [0, 1].map(|_| BlockWriter::new(Target::new(target).unwrap(), "pack/1"));
    generate(count, spread, |has, row| {
        for side in [0, 1].into_iter().filter(|side| has[*side]) {
            builders[side].push(row);
            writers[side].push(row).unwrap();
        }
    });
    let objects = builders.map(|builder| builder.finish().unwrap().encode(NAME, false).unwrap());
    let logs = writers.map(|writer| {
        let (directory, pack) = writer.finish().unwrap();
        let object = directory.encode(NAME, false).unwrap();
        InBlocks {
            directory,
            object,
            pack,
        }
    });
    let bytes = objects[0].len();
    let in_blocks = logs[0].pack.len() + logs[0].object.len();
    println!(
        "{count} {spread:?}, target {target}: {} parts, {:.2} % more bytes",
        logs[0].directory.table().len(),
        100.0 * (in_blocks as f64 / bytes as f64 - 1.0)
    );
    for (name, covers) in [
        ("all compared", [Cover::default(), Cover::default()]),
        ("by vectors", covers()),
    ] {
        let (mut ours, mut theirs, mut cost) = (Vec::new(), Vec::new(), Cost::default());
        for _ in 0..ROUNDS {
            let (ms, whole) = time(|| by_segments(&objects, &covers));
            theirs.push(ms);
            let (ms, blocks) = time(|| by_blocks(&logs, &covers, &mut cost));
            ours.push(ms);
            assert_eq!(sizes(&blocks), sizes(&whole));
            assert!(blocks[0].to_a.view().iter().eq(whole[0].to_a.view().iter()));
            assert!(blocks[0].to_b.view().iter().eq(whole[0].to_b.view().iter()));
        }
        for times in [&mut ours, &mut theirs] {
            times.sort_unstable_by(f64::total_cmp);
        }
        println!(
            "  {name}: blocks {:.2} ms (median {:.2}), segments {:.2} ms ({:.2}), ratio {:.2} ({:.2}); {:.2} MB in {} ranges",
            ours[0],
            ours[ROUNDS / 2],
            theirs[0],
            theirs[ROUNDS / 2],
            ours[0] / theirs[0],
            ours[ROUNDS / 2] / theirs[ROUNDS / 2],
            cost.bytes as f64 / 1e6,
            cost.ranges
        );
    }
}

fn write(count: u64, folder: &Path) {
    let mut writers = [0, 1].map(|side| BlockWriter::new(Target::default(), &format!("pack/{side}")));
    let mut files = [0, 1].map(|side| File::create(folder.join(side.to_string())).unwrap());
    generate(count, Spread::Scattered, |has, row| {
        for side in [0, 1].into_iter().filter(|side| has[*side]) {
            writers[side].push(row).unwrap();
            if row.size == 16 {
                files[side].write_all(&writers[side].take()).unwrap();
            }
        }
    });
    for (side, (writer, file)) in writers.into_iter().zip(&mut files).enumerate() {
        let (directory, rest) = writer.finish().unwrap();
        file.write_all(&rest).unwrap();
        fs::write(
            folder.join(format!("{side}.directory")),
            directory.encode(NAME, false).unwrap(),
        )
        .unwrap();
    }
    println!("written, peak {:.1} MiB", peak_mib());
}

/// The most memory that this process had.
fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

struct Stored {
    directories: [Directory; 2],
    files: [File; 2],
}

impl Stored {
    fn open(folder: &Path) -> Self {
        let directory = |side| fs::read(folder.join(format!("{side}.directory"))).unwrap();
        Self {
            directories: [0, 1].map(|side| Directory::decode(&directory(side), NAME).unwrap()),
            files: [0, 1].map(|side| File::open(folder.join(side.to_string())).unwrap()),
        }
    }

    fn read(&self, needs: &[Need]) -> Vec<Vec<u8>> {
        let read = |need: &Need| {
            let mut range = vec![0; usize::try_from(need.length).unwrap()];
            self.files[need.run].read_exact_at(&mut range, need.offset).unwrap();
            range
        };
        needs.iter().map(read).collect()
    }
}

fn stream_delta(folder: &Path) {
    let stored = Stored::open(folder);
    let cover = Cover::default();
    let sides = stored.directories.each_ref().map(|directory| BlockSide {
        directory,
        patches: &[],
        cover: &cover,
    });
    let mut sum = [0; 6];
    let (ms, ()) = time(|| {
        let mut delta = BlockDelta::new(sides, READ_AHEAD).unwrap();
        while !delta.needs().is_empty() {
            let ranges = stored.read(delta.needs());
            delta
                .feed(sides, &ranges.iter().map(Vec::as_slice).collect::<Vec<_>>())
                .unwrap();
            let more = sizes(&[delta.take().unwrap()]);
            sum = std::array::from_fn(|place| sum[place] + more[place]);
        }
    });
    println!("delta {sum:?} in {ms:.0} ms, peak {:.1} MiB", peak_mib());
}

fn stream_merge(folder: &Path) {
    let stored = Stored::open(folder);
    let runs = stored.directories.each_ref().map(Run::Blocks);
    let mut out = File::create(folder.join("merged")).unwrap();
    let (ms, directory) = time(|| {
        let mut merge =
            BlockMerge::new(&runs, Target::default(), "pack/merged", MergeSizes::reading(READ_AHEAD)).unwrap();
        while !merge.needs().is_empty() {
            let ranges = stored.read(merge.needs());
            merge
                .feed(&runs, &ranges.iter().map(Vec::as_slice).collect::<Vec<_>>())
                .unwrap();
            out.write_all(&merge.take()).unwrap();
        }
        let (directory, rest) = merge.finish().unwrap();
        out.write_all(&rest).unwrap();
        directory
    });
    let count = directory.table().count();
    println!(
        "merged {count} in {ms:.0} ms, {:.1} ns a change, peak {:.1} MiB",
        ms * 1e6 / count as f64,
        peak_mib()
    );
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |place: usize| arguments.get(place).and_then(|text| text.parse().ok());
    let folder = || PathBuf::from(arguments.last().unwrap());
    match arguments.first().map(String::as_str) {
        Some("write") => write(number(1).unwrap(), &folder()),
        Some("stream-delta") => stream_delta(&folder()),
        Some("stream-merge") => stream_merge(&folder()),
        _ => {
            let target = number(2).and_then(|target: u64| u32::try_from(target).ok());
            let target = target.unwrap_or(Target::default().bytes());
            for spread in [Spread::Scattered, Spread::Tail, Spread::Few] {
                compare(number(1).unwrap_or(1_000_000), target, spread);
            }
        }
    }
}
