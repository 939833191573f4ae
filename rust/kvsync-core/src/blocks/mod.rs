//! A large segment in blocks: small parts that are cut by content, and a directory that describes each of them.
//!
//! Two directories are compared before any block is read. Delta and merge are cursors: they say which ranges they need
//! next, and the caller reads these and feeds them. So memory is bounded by the ranges, not by the segment.
//!
//! | to | use |
//! |---|---|
//! | cut changes into blocks | [`BlockWriter`], [`Cutter`], [`Target`] |
//! | read and write one block or page | [`decode_block`], [`encode_block`], [`decode_page`], [`encode_page`] |
//! | describe blocks | [`Directory`], [`Table`], [`Part`], [`Place`], [`Sums`] |
//! | read changes: all, or those of some keys | [`BlockReader`], [`Scrutiny`] |
//! | compare two directories | [`BlockDelta`], [`BlockSide`], [`Need`] |
//! | merge | [`BlockMerge`], [`MergeSizes`], [`Run`] |
//! | verify | [`check_block`] |
//!
//! `docs/index-format.md` describes the bytes.

mod binary;
mod block;
mod chain;
mod compare;
mod cut;
mod delta;
mod directory;
mod merge;
mod needs;
mod outline;
mod page;
mod reader;
mod run;
mod sums;
mod table;
mod verify;
mod window;
mod writer;

pub use binary::PART_BYTES_MAX;
pub use block::{decode_block, encode_block};
pub use cut::{Cutter, Target};
pub use delta::{BlockDelta, BlockSide};
pub use directory::Directory;
pub use merge::{BlockMerge, MergeSizes};
pub use needs::Need;
pub use page::{decode_page, encode_page};
pub use reader::{BlockReader, Scrutiny};
pub use run::Run;
pub use sums::Sums;
pub use table::{Part, Place, Table};
pub use verify::check_block;
pub use writer::BlockWriter;
