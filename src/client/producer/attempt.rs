//! One batch on its way: an attempt to have it appended, and what became of that.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{sleep_until, Instant};

use super::buffer::{Batch, Partition};
use super::record::{Appended, Receipt};
use super::{Acks, Shared};
use crate::client::cluster::{is_stale_metadata, leader_in, LATE, LOOK_INTERVAL};
use crate::client::connection::{Call, Purpose};
use crate::client::ClientError;
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::{produce, Records};
use crate::record::BatchHeader;

/// A batch that was built, and sent at least once or is about to be.
pub(super) struct Sent {
    pub bytes: Bytes,
    pub records: i32,
    pub receipt: Arc<Receipt>,
    pub opened_at: Instant,
    pub reserved: usize,
    pub call: Option<Call<produce::Api>>,
    /// Which broker the last attempt was sent to, and when.
    pub asked: Option<(BrokerId, Instant)>,
    /// An attempt may have appended it, although no answer said so.
    pub in_doubt: bool,
    /// It was appended; its turn to be settled comes.
    pub appended: Option<Appended>,
    /// What became of the last attempt, if that failed.
    pub failure: Option<Failure>,
}

impl Sent {
    pub(super) fn new(batch: &Batch) -> Sent {
        Sent {
            bytes: Bytes::new(),
            records: batch.builder.len() as i32,
            receipt: batch.receipt.clone(),
            opened_at: batch.opened_at,
            reserved: batch.reserved,
            call: None,
            asked: None,
            in_doubt: false,
            appended: None,
            failure: None,
        }
    }

    pub(super) fn note(&mut self, outcome: Result<Appended, Failure>) {
        self.call = None;
        match outcome {
            Ok(appended) => self.appended = Some(appended),
            Err(failure) => {
                self.in_doubt |= matches!(failure, Failure::Retry { .. });
                self.failure = Some(failure);
            }
        }
    }

    /// Whether it is the first of its producer in the partition.
    pub(super) fn begins_sequence(&self) -> bool {
        BatchHeader::decode(&self.bytes).is_ok_and(|header| header.base_sequence == 0)
    }
}

/// Why an attempt failed.
pub(super) enum Failure {
    /// A retry can help; whether the batch was appended isn't known.
    Retry { error: String, metadata: Metadata },
    /// The broker has not appended it, and never will.
    Refused(ErrorCode, String),
    /// The broker doesn't know the producer, and the batch isn't its first: an earlier one isn't
    /// there yet, or the broker has forgotten the producer (KIP-360).
    Forgotten(String),
    /// Nothing more can be appended.
    Fatal(ErrorCode, String),
    /// It was not sent, and no retry helps that.
    Unsendable(ClientError),
}

impl Failure {
    pub(super) const NOT_SENT: Failure = Failure::Retry {
        error: String::new(),
        metadata: Metadata::Fresh,
    };

    /// Whoever was asked doesn't answer, and somebody else leads.
    pub(super) fn overtaken() -> Failure {
        Failure::Retry {
            error: "the leader doesn't answer, and leads no more".into(),
            metadata: Metadata::Fresh,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Refused { code, message, .. } if is_final(code) => {
                Failure::Refused(code, message)
            }
            error @ (ClientError::UnsupportedApi { .. }
            | ClientError::ForeignCluster { .. }
            | ClientError::Invalid(_)) => Failure::Unsendable(error),
            error => Failure::Retry {
                error: error.to_string(),
                metadata: Metadata::Stale,
            },
        }
    }
}

/// Whether what is known of the partition's leader can be relied on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    Fresh,
    Stale,
}

/// Sends a batch to the partition's leader, which it returns; no call if no answer comes. Gives up if that can't
/// be done soon, and another broker leads by then.
pub(super) async fn transmit(
    shared: &Shared,
    partition: &Partition,
    batch: &Bytes,
) -> Result<(BrokerId, Option<Call<produce::Api>>), ClientError> {
    let leader = shared
        .client
        .leader(&partition.topic, partition.index)
        .await?;
    tokio::select! {
        // Mostly it is sent at once, and nobody has to look.
        biased;
        call = transmit_to(leader, shared, partition, batch) => call.map(|call| (leader, call)),
        () = superseded(shared, partition, leader, Instant::now()) => Err(ClientError::Partition {
            topic: partition.topic.to_string(),
            partition: partition.index,
            code: ErrorCode::NotLeaderOrFollower,
            message: format!("broker {leader} can't be reached, and leads no more"),
        }),
    }
}

async fn transmit_to(
    leader: BrokerId,
    shared: &Shared,
    partition: &Partition,
    batch: &Bytes,
) -> Result<Option<Call<produce::Api>>, ClientError> {
    let config = &shared.config;
    let connection = shared.client.broker(leader, Purpose::Produce).await?;
    let request = produce::Request {
        acks: config.acks.code(),
        timeout_ms: i32::try_from(config.replication_timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: vec![produce::TopicProduceData {
            name: partition.topic.to_string(),
            partition_data: vec![produce::PartitionProduceData {
                index: partition.index,
                records: Records(batch.clone()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    if config.acks == Acks::None {
        connection.tell::<produce::Api>(&request).await?;
        return Ok(None);
    }
    let timeout = config.replication_timeout;
    let call = connection.begin::<produce::Api>(&request, timeout).await?;
    Ok(Some(call))
}

/// Returns when what was asked of a broker then is late, and another one leads the partition.
pub(super) async fn superseded(
    shared: &Shared,
    partition: &Partition,
    asked: BrokerId,
    since: Instant,
) {
    let mut look_at = since + LATE;
    loop {
        sleep_until(look_at).await;
        // If nobody can say it, the answer may still come.
        let known = shared.client.topic_since(&partition.topic, look_at).await;
        let leader = known.and_then(|topic| leader_in(&topic, partition.index));
        if leader.is_ok_and(|leader| leader != asked) {
            return;
        }
        look_at = Instant::now() + LOOK_INTERVAL;
    }
}

/// Reads the answer for the one partition of a request.
pub(super) fn outcome(answer: Result<produce::Response, ClientError>) -> Result<Appended, Failure> {
    let response = answer?;
    let partitions = response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partition_responses);
    let Some(partition) = partitions.into_iter().next() else {
        return Err(Failure::Retry {
            error: "the response doesn't mention the partition".into(),
            metadata: Metadata::Fresh,
        });
    };
    let message = partition.error_message.unwrap_or_default();
    match partition.error_code {
        ErrorCode::None => Ok(Appended {
            base_offset: partition.base_offset,
            log_append_time: partition.log_append_time_ms,
        }),
        // It is there, and the broker no longer knows where.
        ErrorCode::DuplicateSequenceNumber => Ok(Appended::UNKNOWN),
        code @ (ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch) => {
            Err(Failure::Fatal(code, message))
        }
        ErrorCode::UnknownProducerId => Err(Failure::Forgotten(message)),
        code if is_final(code) => Err(Failure::Refused(code, message)),
        code => Err(Failure::Retry {
            error: format!("{code}: {message}"),
            metadata: match is_stale_metadata(code) {
                true => Metadata::Stale,
                false => Metadata::Fresh,
            },
        }),
    }
}

/// Whether a broker that answers so has not appended the batch, and never will. Of an error that
/// it doesn't name, or that this client doesn't know, nobody can say that.
fn is_final(code: ErrorCode) -> bool {
    !code.is_retriable() && code != ErrorCode::UnknownServerError
}
