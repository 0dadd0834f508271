//! The client library: produce, consume and administrate over Klamm's MessagePack protocol.
//!
//! [`Client::connect`] finds the cluster; from it come any number of [`Producer`]s,
//! [`Consumer`]s and an [`Admin`]. All of them share its connections, one for each broker and
//! purpose (control, produce, fetch), and its knowledge of who leads which partition.
//!
//! ```no_run
//! use klamm::client::{Client, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7070").await?;
//!
//! let producer = client.producer(ProducerConfig::default());
//! let delivery = producer.send(ProducerRecord::to("orders").value(b"one coffee")).await?;
//! println!("it is at {}", delivery.await?.offset);
//!
//! let mut consumer = client.consumer(ConsumerConfig::default());
//! consumer.assign_topic("orders", StartAt::Beginning).await?;
//! for batch in &consumer.poll(Duration::from_secs(1)).await? {
//!     for record in batch.records() {
//!         println!("{}: {:?}", record.offset, record.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Consumers that share the work of a topic are in a group. Each reads some of its partitions, and when
//! one comes or goes the others give or take; [`GroupConfig`] says how. Members may be of any library of
//! Kafka's too.
//!
//! ```no_run
//! use klamm::client::{Client, ConsumerConfig, OffsetReset};
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7070").await?;
//! let mut consumer = client.consumer(ConsumerConfig {
//!     // Where the group has committed nothing yet.
//!     offset_reset: OffsetReset::Earliest,
//!     ..ConsumerConfig::default()
//! });
//! consumer.subscribe(["orders"], "baristas")?;
//! for _ in 0..10 {
//!     // What the last poll handed out is done, and will be committed.
//!     for batch in &consumer.poll(Duration::from_secs(1)).await? {
//!         for record in batch.records() {
//!             println!("{}: {:?}", record.offset, record.value);
//!         }
//!     }
//! }
//! consumer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! It runs on any tokio runtime with I/O and time enabled, and needs nothing of the broker: build
//! it with `default-features = false`.

mod admin;
mod cluster;
mod connection;
mod consumer;
mod consumer_protocol;
mod coordinator;
mod error;
mod groups;
mod metadata;
mod partitioner;
mod producer;

#[cfg(test)]
mod fake_broker;
#[cfg(test)]
mod tests;

pub use admin::{
    Admin, ConfigChange, Election, GroupMember, GroupMembers, NewTopic, PartitionLag,
    PartitionOutcome, PartitionTarget, Reassigning, Resource,
};
pub use cluster::{Client, ClientConfig};
pub use consumer::{
    Assignor, Batches, Commits, Consumer, ConsumerConfig, FetchedBatch, FetchedRecords,
    GroupConfig, OffsetReset, RebalanceListener, StartAt, TopicPartition,
};
pub use error::{ClientError, ProduceError};
pub use groups::GroupOffsets;
pub use metadata::{BrokerAddress, PartitionMetadata, TopicMetadata};
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{
    Acks, BatchOutcome, Delivery, DeliveryFuture, DeliveryListener, Idempotence, Producer,
    ProducerConfig, ProducerRecord, ProducerStats,
};
