//! The core compared with plain models (maps, sets and sorted lists), fed garbage, and held against objects of released
//! format versions: one binary, since to link one takes longer than to run its tests.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod arguments;
mod blocks;
mod covers;
mod delta_model;
mod deltas;
mod golden;
mod hostile;
mod hostile_blocks;
mod inventories;
mod keys;
mod model;
mod segments;
mod similar_logs;
mod workers;
