//! Unmodified clients of Kafka against a real broker: `rdkafka` (librdkafka, in C) and `rskafka` (in
//! Rust), and Klamm's own client beside them on the same topics.
//!
//! What works is listed in `docs/CLIENTS.md`: each test here makes its rows of the table, and fails
//! when the document has others. `KLAMM_UPDATE_DOCS=1 cargo test --test kafka` writes them anew.

#[path = "../broker_process/mod.rs"]
mod broker_process;

mod admin;
mod compaction;
mod crash;
mod entry;
mod exchange;
mod groups;
mod library;
mod limits;
mod log_files;
mod positions;
mod report;
mod topics;
