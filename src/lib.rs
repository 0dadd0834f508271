//! Klamm: a distributed, partitioned, replicated log broker, built as a system of actors.
//!
//! The modules are the architecture, from the words that everything shares up to the process
//! that puts it all together. Each may import those above it that `docs/ARCHITECTURE.md` lists;
//! `tests/architecture.rs` fails on any other arrow.
//!
//! A request takes one way through the house:
//! connection → [`api`] → actor → [`engine`] → [`storage`].

pub mod model;
pub mod record;

pub mod protocol;

pub mod client;

#[cfg(feature = "broker")]
pub mod config;
#[cfg(feature = "broker")]
pub mod engine;
#[cfg(feature = "broker")]
pub mod storage;

#[cfg(feature = "broker")]
pub mod raft;

#[cfg(feature = "broker")]
pub mod actors;
#[cfg(feature = "broker")]
pub mod api;

#[cfg(feature = "broker")]
pub mod node;

#[cfg(feature = "cli")]
pub mod cli;
