//! The pure state machines: no clock, no randomness, no I/O and no `async`.
//!
//! Each takes what happened and returns what to do; the actors carry it out. So the same core runs
//! in the broker, in a golden script and in a simulator.

pub mod controller;
pub mod coordinator;
pub mod fetch_session;
pub mod group;
pub mod guardian;
pub mod metadata;
pub mod replica;

#[cfg(test)]
mod golden;
