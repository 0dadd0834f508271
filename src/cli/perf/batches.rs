//! Record batches to send: each is built anew, as a producer would, from bytes that are like text
//! to a compressor.

use bytes::Bytes;

use super::super::choices::Acks;
use super::super::error::CliError;
use super::machine::noise;
use crate::model::Timestamp;
use crate::protocol::{produce, Records};
use crate::record::{BatchBuilder, Codec, ProducerStamp};

/// Values are windows into so many bytes, each at another place.
const POOL_BYTES: usize = 1024 * 1024;
/// From one value's window to the next: an odd number, so that they differ for long.
const WINDOW_STEP: usize = 97;
/// How long the broker may wait for its in-sync replicas.
const TIMEOUT_MS: i32 = 30_000;

/// Makes produce requests of one batch each, for the given partitions in turn.
pub struct Batches {
    topic: String,
    partitions: Vec<i32>,
    turn: usize,
    acks: Acks,
    codec: Codec,
    record_bytes: usize,
    pool: Vec<u8>,
    window: usize,
    builder: BatchBuilder,
}

impl Batches {
    pub fn new(
        topic: &str,
        partitions: Vec<i32>,
        acks: Acks,
        codec: Codec,
        record_bytes: usize,
    ) -> Batches {
        Batches {
            topic: topic.to_owned(),
            partitions,
            turn: 0,
            acks,
            codec,
            record_bytes,
            pool: text_like(POOL_BYTES + record_bytes),
            window: 0,
            builder: BatchBuilder::default(),
        }
    }

    /// A request with one batch of so many records.
    pub fn request(&mut self, records: u64) -> Result<produce::Request, CliError> {
        let batch = self.build(records)?;
        let index = self.partitions[self.turn];
        self.turn = (self.turn + 1) % self.partitions.len();
        Ok(produce::Request {
            acks: self.acks.code(),
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![produce::TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![produce::PartitionProduceData {
                    index,
                    records: Records(batch),
                }],
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn build(&mut self, records: u64) -> Result<Bytes, CliError> {
        let now = Timestamp::now();
        for _ in 0..records {
            let value = &self.pool[self.window..self.window + self.record_bytes];
            self.builder.append(now, None, Some(value), &[]);
            self.window = (self.window + WINDOW_STEP) % POOL_BYTES;
        }
        self.builder
            .build(self.codec, ProducerStamp::NONE)
            .map_err(|error| CliError::failed(error.to_string()))
    }
}

/// The error that a response holds, if any.
pub fn refusal(response: &produce::Response) -> Option<String> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions
        .filter(|partition| !partition.error_code.is_ok())
        .map(|partition| match &partition.error_message {
            Some(message) => format!("{}: {message}", partition.error_code),
            None => partition.error_code.to_string(),
        })
        .next()
}

/// Noise of 32 letters and digits: a compressor makes five eighths of it.
fn text_like(length: usize) -> Vec<u8> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut bytes = noise(length);
    for byte in &mut bytes {
        *byte = LETTERS[usize::from(*byte % 32)];
    }
    bytes
}
