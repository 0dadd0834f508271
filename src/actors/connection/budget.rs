//! The memory that the requests of all connections together may take.
//!
//! A connection's own limit keeps one peer in bounds, and not thousands of them. So whatever a
//! connection holds beyond a little of its own ([`OWN_BYTES`]) comes out of one budget: all that a
//! frame will take, before its bytes are read, or all that the frames of one read take. Nobody
//! waits for more while it holds a part, so nobody waits for ever; and whoever waits is served in
//! turn.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::reader::Ended;

/// What a connection may hold beside the budget, so that small requests are served whoever holds
/// all of it.
pub const OWN_BYTES: usize = 32 * 1024;

/// The budget, and how many wait for it.
pub struct Budget {
    bytes: Semaphore,
    bytes_max: usize,
    waiting: AtomicUsize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            bytes: Semaphore::new(bytes_max),
            bytes_max,
            waiting: AtomicUsize::new(0),
        })
    }

    /// Whether somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Whether more than half of it is taken.
    pub(super) fn is_scarce(&self) -> bool {
        self.bytes.available_permits() < self.bytes_max / 2
    }
}

/// What one connection has of the budget; it goes back with the connection.
pub struct Account {
    budget: Arc<Budget>,
    held: Cell<usize>,
    /// What of it isn't needed any more, and goes back with the next [`Account::settle`]: the budget
    /// is everybody's, and isn't touched for each request.
    due: Cell<usize>,
}

impl Account {
    pub(super) fn new(budget: Arc<Budget>) -> Account {
        Account {
            budget,
            held: Cell::new(0),
            due: Cell::new(0),
        }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Waits for so many bytes; whoever asks for more than there are gets all of them. Returns how
    /// many those are.
    pub(super) async fn take(&self, bytes: u32) -> Result<u32, Ended> {
        let budget = &self.budget;
        let bytes = bytes.min(u32::try_from(budget.bytes_max).unwrap_or(u32::MAX));
        // This overtakes nobody: what is given back goes to those who wait.
        let permit = match budget.bytes.try_acquire_many(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::count(&budget.waiting);
                let permit = budget.bytes.acquire_many(bytes).await;
                permit.map_err(|_| Ended::Closed)?
            }
        };
        permit.forget();
        self.held.set(self.held.get() + bytes as usize);
        Ok(bytes)
    }

    /// So many bytes aren't needed any more.
    pub(super) fn release(&self, bytes: u32) {
        self.due.set(self.due.get() + bytes as usize);
    }

    /// Gives back what was released.
    pub(super) fn settle(&self) {
        let due = self.due.take();
        if due > 0 {
            self.held.set(self.held.get() - due);
            self.budget.bytes.add_permits(due);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.bytes.add_permits(self.held.get());
    }
}

/// Somebody who waits, or has left.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn count(waiting: &AtomicUsize) -> Waiting<'_> {
        waiting.fetch_add(1, Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// What `future` has come to by now.
    fn now<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn who_waits_is_not_overtaken_and_is_counted_until_it_leaves() {
        let budget = Budget::new(100);
        let [first, large, small] = [0; 3].map(|_| Account::new(budget.clone()));
        assert_eq!(now(pin!(first.take(60))).unwrap().unwrap(), 60);
        assert!(budget.is_scarce() && !budget.is_wanted());
        let mut takes_much = Box::pin(large.take(80));
        assert!(now(takes_much.as_mut()).is_none());
        assert!(budget.is_wanted());
        let mut takes_little = pin!(small.take(10));
        assert!(
            now(takes_little.as_mut()).is_none(),
            "the large one was first"
        );
        first.release(60);
        assert!(now(takes_much.as_mut()).is_none());
        first.settle();
        assert!(now(takes_much.as_mut()).is_some());
        assert!(now(takes_little.as_mut()).is_some());
        assert!(!budget.is_wanted());

        let mut leaves = Box::pin(first.take(50));
        assert!(now(leaves.as_mut()).is_none());
        drop(leaves);
        assert!(!budget.is_wanted());
    }

    #[test]
    fn what_a_connection_held_goes_back_with_it_and_no_more() {
        let budget = Budget::new(100);
        let account = Account::new(budget.clone());
        let all = now(pin!(account.take(1_000))).unwrap().unwrap();
        assert_eq!(all, 100, "more than there is can't be had");
        account.release(30);
        account.settle();
        account.release(10);
        assert_eq!(budget.bytes.available_permits(), 30);
        drop(account);
        assert_eq!(budget.bytes.available_permits(), 100);
    }
}
