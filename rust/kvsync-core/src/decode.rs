//! Objects decoded into segments, many at once.

use std::ops::Range;

use crate::check::Check;
use crate::envelope::{self, Body, HEADER_BYTES, Kind};
use crate::error::{Error, Result};
use crate::layout::{Layout, Totals};
use crate::segment::Segment;
use crate::workers::{self, Workers};

/// The keys of a thread's smallest share are checked in this many parts, each of which stays in the cache.
const KEY_PARTS: usize = 4;

/// Open and validate one object.
///
/// ```
/// use kvsync_core::{Error, Reason, decode};
///
/// let error = decode(b"too short", "segment/0000000000000001-0").unwrap_err();
/// assert_eq!(error, Error::Damaged { offset: 9, reason: Reason::EnvelopeTooShort });
/// ```
///
/// # Errors
/// As [`envelope::open`] and [`Segment::parse`].
pub fn decode<B: AsRef<[u8]>>(data: B, name: &str) -> Result<Segment<Body<B>>> {
    let (body, start) = Body::open(Kind::Segment, data)?;
    Segment::parse(body, start, name)
}

/// Open and validate objects, each given with its name.
///
/// Several threads check large objects. The result is as if [`decode`] were called for one after another.
///
/// ```
/// use kvsync_core::{Segment, Workers, decode_all};
///
/// let object = Segment::from_rows(Vec::new())?.encode("segment/0000000000000001-0", false)?;
/// let objects = vec![(&object[..], "segment/0000000000000001-0"), (&object[..3], "segment/0000000000000002-0")];
/// let (index, error) = decode_all(objects, Workers::ALONE).unwrap_err();
/// assert_eq!((index, error.to_string().as_str()), (1, "damaged at byte 3: shorter than its envelope"));
/// # Ok::<(), kvsync_core::Error>(())
/// ```
///
/// # Errors
/// The position and the error of the first object that is refused.
pub fn decode_all<B: AsRef<[u8]> + Sync>(
    objects: Vec<(B, &str)>,
    workers: Workers,
) -> std::result::Result<Vec<Segment<Body<B>>>, (usize, Error)> {
    let mut sound = find_sound(&objects, workers).into_iter();
    let decode = |(index, (data, name))| match sound.next().flatten() {
        Some(object) => Ok(object.finish(data)),
        // Small, or damaged: checked in the order of the format, which decides which fault is reported.
        None => decode(data, name).map_err(|error| (index, error)),
    };
    objects.into_iter().enumerate().map(decode).collect()
}

/// A segment whose columns are not all checked yet.
struct PartlyChecked {
    inflated: Option<Vec<u8>>,
    layout: Layout,
}

/// One of the checks that an object needs.
enum Part {
    Checksum,
    Stamps,
    Totals,
    Keys(Range<usize>),
}

/// The objects that pass every check, as several threads find them; nothing where all are small.
fn find_sound<B: AsRef<[u8]> + Sync>(objects: &[(B, &str)], workers: Workers) -> Vec<Option<PartlyChecked>> {
    let bytes = |(data, _): &(B, &str)| data.as_ref().len();
    let threads = workers.threads_for(objects.iter().map(bytes).sum());
    if threads == 1 {
        return Vec::new();
    }
    let mut begun = begin_all(objects, threads);
    let parts = parts(&begun, workers.share_bytes());
    let outcomes = workers::run(threads, parts.len(), |part| {
        let (index, part) = &parts[part];
        let object = begun[*index].as_ref()?;
        object.check(objects[*index].0.as_ref(), part)
    });
    for ((index, _), outcome) in parts.iter().zip(outcomes) {
        let object = begun[*index].take().zip(outcome);
        begun[*index] = object.map(|(object, totals)| object.with(totals));
    }
    begun
}

fn begin_all<B: AsRef<[u8]> + Sync>(objects: &[(B, &str)], threads: usize) -> Vec<Option<PartlyChecked>> {
    let plain = |(data, _): &(B, &str)| envelope::peek(Kind::Segment, data.as_ref()).is_some();
    // To begin takes long only where an object has to be decompressed.
    let threads = if objects.iter().all(plain) { 1 } else { threads };
    workers::run(threads, objects.len(), |index| {
        let (data, name) = &objects[index];
        PartlyChecked::begin(data.as_ref(), name)
    })
}

/// All checks of all objects, the long ones first, so that all threads end at about the same time.
fn parts(objects: &[Option<PartlyChecked>], share_bytes: usize) -> Vec<(usize, Part)> {
    let begun = || {
        let numbered = objects.iter().enumerate();
        numbered.filter_map(|(index, object)| Some((index, object.as_ref()?)))
    };
    let plain = begun().filter(|(_, object)| object.inflated.is_none());
    let mut parts: Vec<_> = plain.map(|(index, _)| (index, Part::Checksum)).collect();
    parts.extend(begun().map(|(index, _)| (index, Part::Stamps)));
    parts.extend(begun().map(|(index, _)| (index, Part::Totals)));
    for (index, object) in begun() {
        let blocks = object.layout.key_marks.len();
        let bytes = object.layout.key.len().max(1);
        let part_bytes = share_bytes / KEY_PARTS;
        let step = (part_bytes.saturating_mul(blocks) / bytes).clamp(1, blocks.max(1));
        let starts = (0..blocks).step_by(step);
        parts.extend(starts.map(|start| (index, Part::Keys(start..start + step))));
    }
    parts
}

impl PartlyChecked {
    /// Read everything before the columns; None where anything is wrong.
    fn begin(data: &[u8], name: &str) -> Option<Self> {
        let (body, inflated) = match envelope::peek(Kind::Segment, data) {
            Some(body) => (body, None),
            None => (&[][..], Some(envelope::open(Kind::Segment, data).ok()?.into_owned())),
        };
        let body = inflated.as_deref().unwrap_or(body);
        let mut layout = Layout::read(body, name).ok()?;
        layout.key_marks = Check { body }.key_sizes(&layout).ok()?;
        Some(Self { inflated, layout })
    }

    /// Run one check; None where it fails.
    fn check(&self, data: &[u8], part: &Part) -> Option<Totals> {
        let body = match &self.inflated {
            Some(body) => body,
            None => data.get(HEADER_BYTES..)?,
        };
        let (check, layout) = (Check { body }, &self.layout);
        let sound = match part {
            Part::Totals => return check.totals(layout).ok(),
            Part::Checksum => envelope::is_intact(data),
            Part::Stamps => check.origins(layout).and_then(|()| check.stamps(layout)).is_ok(),
            Part::Keys(blocks) => check.keys(layout).are_keys(blocks.clone()),
        };
        sound.then(Totals::default)
    }

    fn with(mut self, totals: Totals) -> Self {
        let own = &mut self.layout.totals;
        own.tombstones += totals.tombstones;
        own.value_bytes = own.value_bytes.saturating_add(totals.value_bytes);
        own.expiring += totals.expiring;
        self
    }

    fn finish<B: AsRef<[u8]>>(self, data: B) -> Segment<Body<B>> {
        let Self { inflated, mut layout } = self;
        let Some(body) = inflated else {
            layout.shift(HEADER_BYTES);
            return Segment::assemble(Body::Shared(data), layout);
        };
        Segment::assemble(Body::Owned(body), layout)
    }
}
