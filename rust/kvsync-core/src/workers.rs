//! Work that is divided among threads; what comes out does not depend on how many there are.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A thread is worth starting for so many bytes of index: they take about twice as long as it takes to start.
const SHARE_BYTES: usize = 1024 * 1024;

/// How many threads a call may use, the caller's among them, and for how much work each.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    threads: usize,
    share_bytes: usize,
}

impl Workers {
    /// The caller's thread.
    pub const ALONE: Self = Self::new(1);

    /// As many threads as that, where there is enough for all of them to do.
    #[must_use]
    pub const fn new(threads: usize) -> Self {
        Self::with_share(threads, SHARE_BYTES)
    }

    /// As many threads as that, each for at least so many bytes of index.
    #[must_use]
    pub const fn with_share(threads: usize, share_bytes: usize) -> Self {
        Self { threads, share_bytes }
    }

    /// The least work of a thread, in bytes of index.
    pub(crate) fn share_bytes(self) -> usize {
        self.share_bytes.max(1)
    }

    /// How many threads so many bytes of index are worth.
    #[must_use]
    pub fn for_bytes(self, bytes: usize) -> usize {
        let shares = bytes / self.share_bytes();
        shares.clamp(1, self.threads.max(1))
    }
}

/// Do the jobs of numbers 0 to `jobs`, and give what each comes to, in that order.
///
/// A thread that is free takes the next job. One that cannot be started is done without.
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
