//! The native core of kvsync: index format, merge and delta.
//!
//! The core knows no Python, does no input or output, and reads no clock. Several threads divide large work, with the
//! same result for any number of them. `docs/index-format.md` describes the bytes.
//!
//! | to | use |
//! |---|---|
//! | read index objects | [`decode`], [`decode_all`], [`Segment::parse`], [`Piece::parse`] |
//! | look at changes | [`Segment::view`], [`View`], [`Row`] |
//! | log changes | [`Staged`], [`Segment::from_values`], [`Segment::from_rows`], [`Builder`] |
//! | merge and compare | [`Segment::merge`], [`newest_digest`], [`delta()`], [`single_segment`], [`Cover`] |
//! | find changes by a scan | [`Walk`], [`Correction`], [`Merge`] |
//! | keep a large segment in blocks | [`blocks`] |
//! | write index objects | [`Segment::encode`], [`Piece::encode`], [`envelope::seal`] |
//!
//! # Example
//! ```
//! use kvsync_core::{Cover, KeyList, NewValues, Provenance, Segment, Side, Sides, Workers, decode, delta};
//!
//! // A replica logs two puts.
//! let keys: KeyList = ["a", "b"].into_iter().collect();
//! let new = NewValues { keys: &keys, values: &[Some(b"1"), Some(b"2")], expires: None };
//! let provenance = Provenance { origin: 7, first_stamp: 100, flags: 0 };
//! let name = "segment/0000000000000001-0";
//! let object = Segment::from_values(new, provenance)?.encode(name, true)?;
//!
//! // Another replica, which holds the first of them, reads the log.
//! let log = decode(object, name)?;
//! let (mine, theirs) = (Cover::new([(7, 100)].into(), vec![])?, Cover::new([(7, 101)].into(), vec![])?);
//! let sides = Sides {
//!     a: Side { segments: &[], cover: &mine },
//!     b: Side { segments: &[log.view()], cover: &theirs },
//! };
//! let missing = delta(sides, Workers::ALONE)?.to_a;
//! assert!(missing.view().iter().map(|row| row.key).eq([b"b"]));
//! # Ok::<(), kvsync_core::Error>(())
//! ```

// Values, and errors.
mod byte_list;
mod column;
mod cover;
mod error;
mod key;
mod key_list;
mod reason;
mod row;
mod stamp;
mod strings;

// Work on several cores.
mod blake3_simd;
pub mod digest;
mod workers;

// Bytes.
mod check;
mod column_writer;
mod decode;
pub mod envelope;
mod layout;
pub mod pack;
mod segment;
mod view;

// Reading and building segments.
mod batch;
mod build;
mod pick;
mod seek;
mod staged;
mod verify;

// Comparing and merging.
mod delta;
mod equal_runs;
mod merge;
mod missing_rows;
mod segments_since;

// Large segments.
pub mod blocks;

// Scans.
mod filter;
mod glob;
mod inventory;
mod stamping;

pub use batch::BatchLimits;
pub use build::Builder;
pub use cover::{Cover, Span};
pub use decode::{decode, decode_all};
pub use delta::{Delta, Side, Sides, SingleSegment, delta, single_segment};
pub use envelope::{Body, Kind};
pub use error::{Error, Result};
pub use filter::Filter;
pub use inventory::{
    Compared, Corrected, Correction, Entry, Found, FoundValues, Held, Listed, Merge, MergeOptions, Noted, Page, Piece,
    Standing, Unread, Value, Walk,
};
pub use key::{check_key, is_reserved};
pub use key_list::KeyList;
pub use merge::{Collected, Newest, newest_digest};
pub use pick::Positions;
pub use reason::{ArgumentFault, ChangeFault, MsgpackType, Reason};
pub use row::{DECISION, DIGEST_BYTES, INEXACT, NO_DIGEST, Row, TOMBSTONE};
pub use segment::{Encoding, Segment};
pub use staged::{NewValues, Provenance, Staged, StagedPart};
pub use stamp::stamp_after;
pub use stamping::{Stamped, Unstamped, stamp_found};
pub use view::{Rows, View};
pub use workers::Workers;
