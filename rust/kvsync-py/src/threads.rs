//! How many threads a call may use.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use kvsync_core::Workers;

/// More threads would only wait for memory.
const THREADS_MAX: usize = 8;

/// One thread for each processor that the process may use. Asked once, because the answer takes file reads.
pub(crate) fn workers() -> Workers {
    static THREADS: OnceLock<usize> = OnceLock::new();
    let ask = || available_parallelism().map_or(1, NonZero::get);
    Workers::new((*THREADS.get_or_init(ask)).min(THREADS_MAX))
}
