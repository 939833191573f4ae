//! Work divided among threads; the result does not depend on their number.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The smallest share of work, in bytes of index: it takes about twice as long as starting a thread.
const SHARE_BYTES: usize = 1024 * 1024;

/// How many threads a call may use, the caller's included, and how much work each must have.
///
/// ```
/// use kvsync_core::Workers;
///
/// let workers = Workers::new(4);
/// assert_eq!(workers.threads_for(100), 1);
/// assert_eq!(workers.threads_for(64 << 20), 4);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    threads: usize,
    share_bytes: usize,
}

impl Workers {
    /// The caller's thread only.
    pub const ALONE: Self = Self::new(1);

    /// At most `threads` threads, where there is enough work for all of them.
    #[must_use]
    pub const fn new(threads: usize) -> Self {
        let share_bytes = SHARE_BYTES;
        Self { threads, share_bytes }
    }

    /// The same number of threads, each for at least `share_bytes` bytes of index.
    #[must_use]
    pub const fn with_share(self, share_bytes: usize) -> Self {
        Self { share_bytes, ..self }
    }

    /// The smallest share of work, in bytes of index.
    pub(crate) fn share_bytes(self) -> usize {
        self.share_bytes.max(1)
    }

    /// How many threads to use for an amount of work, in bytes of index.
    #[must_use]
    pub fn threads_for(self, bytes: usize) -> usize {
        let shares = bytes / self.share_bytes();
        shares.clamp(1, self.threads.max(1))
    }
}

/// Run the jobs numbered 0 to `jobs`, and return their results in that order.
///
/// A free thread takes the next job. If a thread cannot be started, the others do its work.
pub(crate) fn run<T: Send>(threads: usize, jobs: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let helpers = threads.min(jobs).saturating_sub(1);
    if helpers == 0 {
        return (0..jobs).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take_all = || {
        let taken = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let taken = taken.take_while(|job| *job < jobs);
        taken.map(|job| (job, work(job))).collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, take_all).ok();
        let started: Vec<_> = (0..helpers).map_while(start).collect();
        let mut done = take_all();
        for helper in started {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
