//! The runtime of coordinators: it hosts a core ([`Core`]) for each partition of an internal topic that
//! is led here.
//!
//! A coordinator lives as long as its node leads the partition in one leader epoch. It loads by replaying
//! the partition up to what its log holds at the start, once that is committed; asked meanwhile, it
//! answers COORDINATOR_LOAD_IN_PROGRESS. What its core wants written it appends with acks=all, fenced by
//! the epoch, and replays when it is committed. If it can't tell any more what became of a write (the
//! leader is gone, or another epoch has begun), it ends, and whoever waits is told NOT_COORDINATOR: the
//! records alone say what holds, and the next coordinator reads them.
//!
//! So nothing that a coordinator answers rests on a record that isn't committed, and no two coordinators
//! of one partition write side by side.
//!
//! | file | |
//! |---|---|
//! | `actor.rs` | the actor: carries out what the core says |
//! | `load.rs` | the partition's records, replayed |
//! | `keeper.rs` | who lives: follows the leadership of the partitions |
//! | `handle.rs` | the way to the coordinators of this node |
//!
//! Why it is built so: [ADR 0017](../../../docs/adr/0017-a-coordinator-lives-as-long-as-an-epoch.md).

mod actor;
mod handle;
mod keeper;
mod load;

#[cfg(test)]
mod tests;

use std::time::Instant;

use tokio::sync::oneshot;

use crate::engine::coordinator::Core;
use crate::model::{ErrorCode, Timestamp};

pub use actor::Coordinator;
pub use handle::Coordinators;
pub use keeper::{keep, Hosting};

/// Whom a core answers. Dropped, it says NOT_COORDINATOR.
pub type Ticket<A> = oneshot::Sender<Result<A, ErrorCode>>;

/// A core that this runtime hosts.
pub trait Hosted: Core<Ticket = Ticket<<Self as Core>::Answer>> + Send + Unpin + 'static {}

impl<C> Hosted for C where C: Core<Ticket = Ticket<<C as Core>::Answer>> + Send + Unpin + 'static {}

/// The time that a core is told: the wall clock's at its start, and from there on without any jumps, so
/// that a clock that is set ends no session.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            wall: Timestamp::now(),
            started: Instant::now(),
        }
    }

    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_millis());
        Timestamp(self.wall.0.saturating_add(passed.unwrap_or(i64::MAX)))
    }
}
