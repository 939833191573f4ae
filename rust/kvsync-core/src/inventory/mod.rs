//! What the last scan of a storage saw: the version token and digest of every key, in runs of pieces.

mod build;
mod correction;
mod found;
mod merge;
mod page;
mod piece;
mod places;
mod runs;
mod walk;

pub use self::build::Noted;
pub use self::correction::{Corrected, Correction, Held};
pub use self::found::{FoundValues, Standing, Unread};
pub use self::merge::{Merge, MergeOptions};
pub use self::page::{Listed, Page, Value};
pub use self::piece::Piece;
pub use self::places::{Entry, Found};
pub use self::walk::{Compared, Walk};
