//! The native heart of kvsync: index format, merge and delta.
//!
//! Nothing in here knows Python, does input or output, or looks at a clock. The bytes are described
//! in `docs/index-format.md`.

pub mod build;
pub mod column;
pub mod cover;
pub mod cursor;
pub mod delta;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod inventory;
pub mod key;
pub mod layout;
pub mod listing;
pub mod merge;
pub mod pack;
pub mod row;
pub mod scan;
pub mod segment;
pub mod stamp;
pub mod strings;
mod twin;

pub use cover::Cover;
pub use delta::{Delta, delta};
pub use envelope::Kind;
pub use error::{Error, Result};
pub use inventory::Inventory;
pub use listing::Listing;
pub use row::Row;
pub use segment::{Segment, View};
