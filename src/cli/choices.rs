//! Choices that several commands offer, as they are spelled on the command line.

use std::str::FromStr;

use clap::ValueEnum;

use crate::client;
use crate::model::{BrokerId, Timestamp};
use crate::record::Codec;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// When it was sent; nothing is acknowledged
    #[value(name = "0")]
    None,
    /// When the partition's leader has appended it
    #[value(name = "1")]
    Leader,
    /// When every in-sync replica has it on disk
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// Its number in a Produce request.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

impl From<Acks> for client::Acks {
    fn from(acks: Acks) -> client::Acks {
        match acks {
            Acks::None => client::Acks::None,
            Acks::Leader => client::Acks::Leader,
            Acks::All => client::Acks::All,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

/// A time as RFC 3339 writes it.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>();
    time.map(|time| Timestamp(time.as_millisecond()))
        .map_err(|error| error.to_string())
}

/// `NAME=VALUE`, as `--config` takes it.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} isn't NAME=VALUE")),
    }
}

/// Brokers' numbers, such as `1,2,3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerList(pub Vec<BrokerId>);

impl FromStr for BrokerList {
    type Err = String;

    fn from_str(text: &str) -> Result<BrokerList, String> {
        let id = |number: &str| number.trim().parse().map(BrokerId);
        let ids: Result<Vec<BrokerId>, _> = text.split(',').map(id).collect();
        ids.map(BrokerList)
            .map_err(|_| format!("{text:?} isn't a list of brokers, such as 1,2,3"))
    }
}
