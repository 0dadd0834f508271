//! The fetch sessions of this broker: each belongs to a connection, and all of them together hold a
//! bounded number of partitions.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::engine::fetch_session::{
    Extent, FetchKey, FetchSession, Fetching, SessionRequest, Told,
};
use crate::model::ErrorCode;

/// Partitions in all sessions together. Beyond it clients fetch without a session, which costs them
/// larger requests and nothing else.
const PARTITIONS_MAX: usize = 100_000;

/// What all sessions share.
pub struct FetchSessions {
    room: Semaphore,
    last_id: AtomicI32,
}

impl Default for FetchSessions {
    fn default() -> FetchSessions {
        FetchSessions {
            room: Semaphore::new(PARTITIONS_MAX),
            last_id: AtomicI32::new(0),
        }
    }
}

impl FetchSessions {
    /// Ids go round, and are never 0 or below.
    fn next_id(&self) -> i32 {
        (self.last_id.fetch_add(1, Relaxed) & i32::MAX).max(1)
    }
}

/// The session of one connection.
pub struct SessionOfConnection {
    all: Arc<FetchSessions>,
    session: RefCell<FetchSession>,
    /// How much of the room for all sessions this one has.
    held: Cell<usize>,
}

impl SessionOfConnection {
    pub fn new(all: Arc<FetchSessions>) -> SessionOfConnection {
        SessionOfConnection {
            all,
            session: RefCell::default(),
            held: Cell::new(0),
        }
    }

    pub fn begin(&self, request: SessionRequest) -> Result<Fetching, ErrorCode> {
        let more = request.adds_at_most();
        let room = &self.all.room;
        let more = match room.try_acquire_many(u32::try_from(more).unwrap_or(u32::MAX)) {
            Ok(permit) => {
                permit.forget();
                more
            }
            Err(_) => 0,
        };
        let most = self.held.get() + more;
        let mut session = self.session.borrow_mut();
        let fetching = session.begin(request, || self.all.next_id(), most);
        self.held.set(session.partition_count());
        room.add_permits(most - session.partition_count());
        fetching
    }

    /// See [`FetchSession::tell`].
    pub fn tell(&self, fetching: (i32, Extent), key: &FetchKey, told: Told) -> bool {
        let (session_id, extent) = fetching;
        self.session
            .borrow_mut()
            .tell(session_id, extent, key, told)
    }
}

impl Drop for SessionOfConnection {
    fn drop(&mut self) {
        self.all.room.add_permits(self.held.get());
    }
}
