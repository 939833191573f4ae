//! The core compared with plain models: maps, sets and sorted lists.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod arguments;
mod blocks;
mod covers;
mod delta_model;
mod deltas;
mod inventories;
mod keys;
mod model;
mod segments;
mod similar_logs;
