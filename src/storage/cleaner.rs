//! Compacting many logs, a few at a time.
//!
//! Each log has at most one [`Compaction`] at a time, so the queue is bounded by the number of logs. A
//! thread takes one from its beginning to its end, so there are as many maps of keys as threads, and what
//! they take together is bounded by the settings.
//!
//! A log is its owner's. What the thread has cleaned it hands over through [`LogOwner`], and waits.

use std::collections::VecDeque;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::log::{Compacted, Compaction, LogError, Replaced, Replacement};

/// Where the owner answers. Where it drops this, it is gone.
pub type ReplaceReply = SyncSender<Result<Replaced, LogError>>;

/// The owner of a log that is cleaned. Both are called on a thread of the cleaner.
pub trait LogOwner: Send {
    /// Calls [`Log::replace`], and answers.
    ///
    /// [`Log::replace`]: super::log::Log::replace
    fn replace(&self, replacement: Replacement, reply: ReplaceReply);

    /// It is over; called once.
    fn done(&self, result: Result<Compacted, LogError>);
}

/// The threads that clean logs.
#[derive(Debug)]
pub struct Cleaner {
    shared: Arc<Shared>,
    map_bytes: usize,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Compaction, Box<dyn LogOwner>)>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Cleaner {
    /// Starts `threads` threads, whose maps take at most `maps_bytes` together (Kafka's
    /// `log.cleaner.threads` and `log.cleaner.dedupe.buffer.size`). Dropping the cleaner waits for what
    /// has begun, and gives up the rest.
    pub fn start(threads: usize, maps_bytes: usize) -> io::Result<Cleaner> {
        let shared = Arc::new(Shared::default());
        let spawn = |n| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("cleaner-{n}"))
                .spawn(move || shared.work())
        };
        let handles = (0..threads).map(spawn).collect::<io::Result<_>>()?;
        Ok(Cleaner {
            shared,
            map_bytes: maps_bytes / threads.max(1),
            threads: handles,
        })
    }

    /// What the map of one compaction may take.
    pub fn map_bytes(&self) -> usize {
        self.map_bytes
    }

    pub fn submit(&self, compaction: Compaction, owner: Box<dyn LogOwner>) {
        self.shared.queue().jobs.push_back((compaction, owner));
        self.shared.changed.notify_one();
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a cleaner has panicked");
            }
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((compaction, owner)) = self.take() {
            // One that panics is the matter of its log, and not of all others.
            let result = catch_unwind(AssertUnwindSafe(|| {
                compaction.run(|replacement| ask_owner(&*owner, replacement))
            }));
            let panicked = |_| Err(LogError::Failed("the cleaner has panicked".into()));
            owner.done(result.unwrap_or_else(panicked));
        }
    }

    fn take(&self) -> Option<(Compaction, Box<dyn LogOwner>)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn ask_owner(owner: &dyn LogOwner, replacement: Replacement) -> Result<Replaced, LogError> {
    let (reply, answer) = sync_channel(1);
    owner.replace(replacement, reply);
    answer.recv().unwrap_or(Err(LogError::Superseded))
}
