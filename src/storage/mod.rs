//! storage

pub mod meta;
