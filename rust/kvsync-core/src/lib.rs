//! The native heart of kvsync: index format, merge and delta.
//!
//! Nothing in here knows Python, does input or output, or looks at a clock. Large work is divided among
//! as many threads as the caller allows, with the same outcome for any number of them. The bytes are
//! described in `docs/index-format.md`.

pub mod build;
mod check;
pub mod column;
pub mod cover;
pub mod cursor;
pub mod decode;
pub mod delta;
pub mod digest;
pub mod draft;
pub mod envelope;
pub mod error;
pub mod inventory;
pub mod key;
mod lanes;
pub mod layout;
pub mod listing;
pub mod merge;
pub mod pack;
pub mod row;
pub mod scan;
pub mod segment;
pub mod stamp;
mod stretch;
pub mod strings;
mod twin;
mod uncovered;
pub mod workers;

pub use cover::Cover;
pub use decode::{decode, decode_all};
pub use delta::{Delta, delta, delta_by, sole};
pub use draft::Draft;
pub use envelope::{Body, Kind};
pub use error::{Error, Result};
pub use inventory::Inventory;
pub use listing::Listing;
pub use row::Row;
pub use segment::{Segment, View};
pub use workers::Workers;
