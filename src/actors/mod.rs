//! The actors: each a mailbox round a state machine or a log, so that its changes happen one after
//! the other.
//!
//! | actor | one for each | holds |
//! |---|---|---|
//! | [`connection`] | client connection | the requests that are not yet answered |
//! | [`partition_leader`] | partition led here | the log, and who waits for it |
//! | [`partition_follower`] | partition followed here | the log |
//! | [`peer`] | link to or from another node | what is on its way, and who waits for an answer |
//! | [`group_coordinator`] | partition of `__consumer_offsets` led here | its groups, and who waits |
//! | [`controller`] | node | nothing: decides on the metadata image, proposes to the quorum |
//! | [`guardian`] | node | who lives, and who must be rebuilt |
//!
//! Nobody outside holds an `Addr`. Callers hold a typed handle ([`handle::Handle`]), behind which
//! the guardian puts the actor's next life when one has panicked. Mailboxes are bounded: a full one
//! is answered, never queued behind. Requests flow one way, connection → coordinator → partition, and
//! no two actors await each other.

pub mod connection;
pub mod controller;
pub mod coordinator;
mod epochs;
pub mod group_coordinator;
pub mod guardian;
pub mod handle;
pub mod log_dir;
pub mod log_keeper;
pub mod log_leases;
pub mod partition_follower;
pub mod partition_handle;
pub mod partition_leader;
pub mod partitions;
pub mod peer;
pub mod replication;
pub mod vitals;

#[cfg(feature = "chaos")]
pub mod chaos;
