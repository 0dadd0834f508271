//! Putting many logs on disk side by side.
//!
//! The partitions' actors submit their [`SyncJob`]s here and are called back. How the jobs are
//! carried out stays behind [`Syncer`], so that ways can be measured against each other
//! (`benches/sync.rs`; `docs/adr/0003-group-commit.md` has the figures). Each log has at most
//! one job at a time, so the queue is bounded by the number of logs.
//!
//! A sync that fails ends the process: the kernel may have marked the pages clean, so that trying
//! again would say "done" of bytes that are lost. At the next start the disk is read again.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::log::{Covered, LogError, SyncJob};

/// What happens when a sync fails.
pub trait FatalDisk: Send + Sync {
    /// Told of a sync that failed. The job's callback is never called.
    fn sync_failed(&self, dir: &Path, error: &io::Error);
}

/// Says what failed, and ends the process at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct AbortProcess;

impl FatalDisk for AbortProcess {
    fn sync_failed(&self, dir: &Path, error: &io::Error) {
        log::error!(
            "can't sync {}: {error}; what was written since the last sync may be lost, so this \
             process ends, and the disk is read again at the next start",
            dir.display()
        );
        std::process::abort();
    }
}

/// Ends the process if the error is that of a sync: outside of the pool too, a sync that failed is
/// never tried again.
pub fn abort_if_fatal(error: &LogError) {
    if error.is_fatal() {
        log::error!("{error}; this process ends, and the disk is read again at the next start");
        std::process::abort();
    }
}

/// Called on a thread of the syncer, once the job's bytes are on disk.
pub type SyncDone = Box<dyn FnOnce(Covered) + Send>;

/// Carries out sync jobs, off the caller's thread.
pub trait Syncer: Send + Sync {
    fn submit(&self, job: SyncJob, done: SyncDone);
}

/// From how many waiting jobs on one sync of the whole file system takes the place of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFileSystem {
    Never,
    FromJobs(usize),
}

/// A pool of threads, each of which syncs one log at a time; when many logs wait, one thread
/// syncs the file system that holds them all.
#[derive(Debug)]
pub struct SyncPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    fatal: Arc<dyn FatalDisk>,
    whole: SyncFileSystem,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(SyncJob, SyncDone)>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("whole", &self.whole)
            .finish()
    }
}

impl SyncPool {
    /// Starts `threads` threads, which sync in the way that measured best. Dropping the pool waits
    /// for all jobs that were submitted.
    pub fn start(threads: usize, fatal: Arc<dyn FatalDisk>) -> io::Result<SyncPool> {
        Self::with(threads, SyncFileSystem::FromJobs(WHOLE_FROM_JOBS), fatal)
    }

    /// Starts a pool that syncs the whole file system when `whole` says so.
    pub fn with(
        threads: usize,
        whole: SyncFileSystem,
        fatal: Arc<dyn FatalDisk>,
    ) -> io::Result<SyncPool> {
        let shared = Arc::new(Shared {
            fatal,
            whole,
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let spawn = |n| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("sync-{n}"))
                .stack_size(SYNC_STACK_BYTES)
                .spawn(move || shared.work())
        };
        let threads = (0..threads).map(spawn).collect::<io::Result<_>>()?;
        Ok(SyncPool { shared, threads })
    }
}

/// From so many waiting jobs on, syncing the whole file system was faster.
const WHOLE_FROM_JOBS: usize = 64;

/// Threads that only call the kernel need little.
const SYNC_STACK_BYTES: usize = 128 << 10;

impl Syncer for SyncPool {
    fn submit(&self, job: SyncJob, done: SyncDone) {
        self.shared.queue().jobs.push_back((job, done));
        self.shared.changed.notify_one();
    }
}

impl Drop for SyncPool {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a sync thread has panicked");
            }
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(jobs) = self.take() {
            match <[_; 1]>::try_from(jobs) {
                Ok([(job, done)]) => self.sync_one(job, done),
                Err(jobs) => self.sync_all(jobs),
            }
        }
    }

    /// Waits for jobs: one, or all that wait when they are many. `None` at the end.
    fn take(&self) -> Option<Vec<(SyncJob, SyncDone)>> {
        let mut queue = self.queue();
        loop {
            let waiting = queue.jobs.len();
            match self.whole {
                SyncFileSystem::FromJobs(n) if waiting >= n.max(2) => {
                    return Some(queue.jobs.drain(..).collect());
                }
                _ => {}
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(vec![job]);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sync_one(&self, job: SyncJob, done: SyncDone) {
        match job.run() {
            Ok(()) => done(job.covers()),
            Err(e) => self.fatal.sync_failed(job.dir(), &e),
        }
    }

    fn sync_all(&self, jobs: Vec<(SyncJob, SyncDone)>) {
        let Some((first, _)) = jobs.first() else {
            return;
        };
        if let Err(e) = first.sync_file_system() {
            self.fatal.sync_failed(first.dir(), &e);
            return;
        }
        for (job, done) in jobs {
            match job.finish_after_file_system() {
                Ok(()) => done(job.covers()),
                Err(e) => self.fatal.sync_failed(job.dir(), &e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc::{channel, Sender};

    use super::*;
    use crate::model::{LeaderEpoch, Offset, Timestamp};
    use crate::record::{Batch, BatchBuilder, Codec, ProducerStamp};
    use crate::storage::fs::{create_dir_durably, FaultyFs};
    use crate::storage::lease::Lease;
    use crate::storage::log::{Log, LogConfig, Shutdown};
    use crate::storage::witness::LogHome;

    /// Tells a test what a real broker would die of.
    struct Report(Mutex<Sender<(PathBuf, String)>>);

    impl FatalDisk for Report {
        fn sync_failed(&self, dir: &Path, error: &io::Error) {
            let report = self.0.lock().unwrap();
            report.send((dir.to_owned(), error.to_string())).unwrap();
        }
    }

    fn dirty_log(fs: &FaultyFs, n: usize) -> Log {
        create_dir_durably(fs, Path::new("/data/logs")).unwrap();
        let dir = PathBuf::from(format!("/data/logs/{n}"));
        let config = LogConfig::default();
        let now = Timestamp(1);
        let fs = Arc::new(fs.clone());
        let log = Log::open(
            fs,
            &LogHome::unwitnessed(&dir),
            config,
            Shutdown::Unclean,
            now,
            Lease::none(),
        );
        let mut log = log.unwrap();
        let mut builder = BatchBuilder::with_capacity(100);
        builder.append(now, None, Some(b"value"), &[]);
        let batch = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
        let batch = Batch::parse(batch).unwrap();
        let appended = log.append(&[batch], LeaderEpoch(0), now).unwrap();
        assert!(appended[0].is_ok());
        log
    }

    #[test]
    fn every_log_is_on_disk_when_it_is_called_back_whichever_way_it_is_synced() {
        for whole in [SyncFileSystem::Never, SyncFileSystem::FromJobs(3)] {
            let fs = FaultyFs::new(1);
            let (reports, _) = channel();
            let pool = SyncPool::with(2, whole, Arc::new(Report(Mutex::new(reports)))).unwrap();
            let mut logs: Vec<Log> = (0..20).map(|n| dirty_log(&fs, n)).collect();
            let (sender, done) = channel();
            for (n, log) in logs.iter().enumerate() {
                let sender = sender.clone();
                let job = log.begin_sync().unwrap();
                pool.submit(
                    job,
                    Box::new(move |covered| sender.send((n, covered)).unwrap()),
                );
            }
            for _ in 0..logs.len() {
                let (n, covered) = done.recv().unwrap();
                logs[n].complete_sync(covered);
            }
            for log in &logs {
                assert_eq!(log.synced_offset(), Offset(1));
            }
            let after = fs.crash();
            for n in 0..logs.len() {
                let dir = PathBuf::from(format!("/data/logs/{n}"));
                let fs = Arc::new(after.clone());
                let config = LogConfig::default();
                let now = Timestamp(1);
                let log = Log::open(
                    fs,
                    &LogHome::unwitnessed(&dir),
                    config,
                    Shutdown::Unclean,
                    now,
                    Lease::none(),
                );
                assert_eq!(log.unwrap().end_offset(), Offset(1));
            }
        }
    }

    #[test]
    fn a_sync_that_fails_is_fatal_and_releases_nobody() {
        for whole in [SyncFileSystem::Never, SyncFileSystem::FromJobs(2)] {
            let fs = FaultyFs::new(1);
            let (reports, reported) = channel();
            let (sender, done) = channel();
            let fatal = Arc::new(Report(Mutex::new(reports)));
            let pool = SyncPool::with(1, whole, fatal).unwrap();
            let logs: Vec<Log> = (0..4).map(|n| dirty_log(&fs, n)).collect();
            fs.fail_syncs();
            for log in &logs {
                let sender = sender.clone();
                let job = log.begin_sync().unwrap();
                pool.submit(job, Box::new(move |covered| sender.send(covered).unwrap()));
            }
            drop((pool, sender));
            let (dir, error) = reported.recv().unwrap();
            assert!(dir.starts_with("/data/logs"), "{dir:?}");
            assert!(error.contains("error"), "{error}");
            assert!(done.recv().is_err(), "somebody was released");
        }
    }
}
