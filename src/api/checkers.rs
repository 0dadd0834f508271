//! Threads for what would hold up an arbiter: decompressing batches to check them.
//!
//! They are as few as the machine's cores, so that however many connections send what is dear to
//! check, the arbiters have their share of the machine; whoever comes waits for its turn. Whoever
//! waits is a connection that isn't read from meanwhile, so the queue is bounded by them. They are
//! not the threads that wait for the disk: neither holds up the other.

use tokio::runtime::{Builder, Runtime};

/// The pool. Threads come when they are needed, and end when they are not.
pub struct Checkers {
    /// Taken when the pool is dropped.
    runtime: Option<Runtime>,
}

impl Checkers {
    pub fn start(threads: usize) -> std::io::Result<Checkers> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_name("checker")
            .build()?;
        Ok(Checkers {
            runtime: Some(runtime),
        })
    }

    /// Runs `job` when its turn comes. `None` if it has panicked, or if the pool is closed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let done = self.runtime.as_ref()?.spawn_blocking(job).await;
        done.inspect_err(|panic| log::error!("checking batches: {panic}"))
            .ok()
    }
}

impl Drop for Checkers {
    fn drop(&mut self) {
        // A runtime that waits for its threads may not be dropped on an arbiter.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
