//! Whole objects as segments, many at once.

use std::ops::Range;

use crate::check::{Check, Totals};
use crate::envelope::{self, Body, HEADER, Kind};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::segment::Segment;
use crate::workers::{self, Workers};

/// The keys of a thread's least share are checked in so many parts, which stay near meanwhile.
const KEY_PARTS: usize = 4;

/// Open and validate one object.
///
/// # Errors
/// As [`envelope::open`] and [`Segment::parse`].
pub fn decode<B: AsRef<[u8]>>(data: B, name: &str) -> Result<Segment<Body<B>>> {
    let (body, start) = Body::open(Kind::Segment, data)?;
    Segment::parse(body, start, name)
}

/// Open and validate objects, each given with its name.
///
/// Large ones are checked by several threads. The outcome is that of [`decode`] of one after another.
///
/// # Errors
/// The position and the error of the first object that has one.
pub fn decode_all<B: AsRef<[u8]> + Sync>(
    objects: Vec<(B, &str)>,
    workers: Workers,
) -> std::result::Result<Vec<Segment<Body<B>>>, (usize, Error)> {
    let mut sound = find_sound(&objects, workers).into_iter();
    let decode = |(index, (data, name))| match sound.next().flatten() {
        Some(draft) => Ok(draft.finish(data)),
        // Small, or at fault: then the order of the checks tells which fault to name.
        None => decode(data, name).map_err(|error| (index, error)),
    };
    objects.into_iter().enumerate().map(decode).collect()
}

/// A segment whose columns are not all checked yet.
struct Draft {
    inflated: Option<Vec<u8>>,
    layout: Layout,
}

/// One of the checks that an object needs.
enum Part {
    Checksum,
    Stamps,
    Flags,
    Keys(Range<usize>),
}

/// The objects that pass every check, as found by several threads; nothing where they are small.
fn find_sound<B: AsRef<[u8]> + Sync>(objects: &[(B, &str)], workers: Workers) -> Vec<Option<Draft>> {
    let bytes = |(data, _): &(B, &str)| data.as_ref().len();
    let threads = workers.for_bytes(objects.iter().map(bytes).sum());
    if threads == 1 {
        return Vec::new();
    }
    let plain = |(data, _): &(B, &str)| envelope::peek(Kind::Segment, data.as_ref()).is_some();
    // To begin takes long only where something has to be decompressed.
    let beginners = if objects.iter().all(plain) { 1 } else { threads };
    let mut drafts = workers::run(beginners, objects.len(), |index| {
        let (data, name) = &objects[index];
        Draft::begin(data.as_ref(), name)
    });
    let parts = parts(&drafts, workers.share_bytes());
    let outcomes = workers::run(threads, parts.len(), |part| {
        let (index, part) = &parts[part];
        let draft = drafts[*index].as_ref()?;
        draft.check(objects[*index].0.as_ref(), part)
    });
    for ((index, _), outcome) in parts.iter().zip(outcomes) {
        let draft = drafts[*index].take().zip(outcome);
        drafts[*index] = draft.map(|(draft, totals)| draft.with(totals));
    }
    drafts
}

/// All checks of all objects, the long ones first, that no thread is left with one in the end.
fn parts(drafts: &[Option<Draft>], share_bytes: usize) -> Vec<(usize, Part)> {
    let begun = || {
        let numbered = drafts.iter().enumerate();
        numbered.filter_map(|(index, draft)| Some((index, draft.as_ref()?)))
    };
    let plain = begun().filter(|(_, draft)| draft.inflated.is_none());
    let mut parts: Vec<_> = plain.map(|(index, _)| (index, Part::Checksum)).collect();
    parts.extend(begun().map(|(index, _)| (index, Part::Stamps)));
    parts.extend(begun().map(|(index, _)| (index, Part::Flags)));
    for (index, draft) in begun() {
        let blocks = draft.layout.marks.len();
        let bytes = draft.layout.key.len().max(1);
        let part_bytes = share_bytes / KEY_PARTS;
        let step = (part_bytes.saturating_mul(blocks) / bytes).clamp(1, blocks.max(1));
        let starts = (0..blocks).step_by(step);
        parts.extend(starts.map(|start| (index, Part::Keys(start..start + step))));
    }
    parts
}

impl Draft {
    /// Read what stands before the columns; None where anything is wrong.
    fn begin(data: &[u8], name: &str) -> Option<Self> {
        let (body, inflated) = match envelope::peek(Kind::Segment, data) {
            Some(body) => (body, None),
            None => (&[][..], Some(envelope::open(Kind::Segment, data).ok()?.into_owned())),
        };
        let body = inflated.as_deref().unwrap_or(body);
        let mut layout = Layout::read(body, name).ok()?;
        layout.marks = Check { body }.key_sizes(&layout).ok()?;
        Some(Self { inflated, layout })
    }

    /// Make one check; None where it fails.
    fn check(&self, data: &[u8], part: &Part) -> Option<Totals> {
        let body = match &self.inflated {
            Some(body) => body,
            None => data.get(HEADER..)?,
        };
        let (check, layout) = (Check { body }, &self.layout);
        let sound = match part {
            Part::Flags => return check.flags(layout).ok(),
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
            layout.shift(HEADER);
            return Segment::assemble(Body::Shared(data), layout);
        };
        Segment::assemble(Body::Owned(body), layout)
    }
}
