//! The broker as its users meet it: a process of its own, a data directory, and a socket.
//!
//! Each test starts its own broker on a free port and a directory that is removed afterwards, so
//! they run side by side. Nothing is awaited by sleeping: a test waits for a line of the broker's
//! log, for an answer, or for the end of the process, and fails with the broker's log if that
//! takes longer than [`harness::WAIT_MAX`].

mod calls;
mod harness;
mod wire;

mod batches;
mod client_load;
mod history;
mod load;
mod seed;

mod admin;
mod config_and_start;
mod crash;
mod disk_full;
mod fetch;
mod groups;
mod hostile_frames;
mod hostile_load;
mod hostile_requests;
mod idempotence;
mod kafka_apis;
mod kafka_hostile;
mod kafka_listener;
mod lost_and_found;
mod produce;
mod stop;

#[cfg(feature = "chaos")]
mod chaos;
