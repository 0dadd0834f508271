//! Shares a topic's records with all other members of a group: start it several times, and stop one.
//!
//! `cargo run --example group -- [HOST:PORT [TOPIC [GROUP]]]`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use klamm::client::{Client, ConsumerConfig, OffsetReset, RebalanceListener, TopicPartition};
use klamm::model::Offset;

/// Says what comes and goes.
struct Says;

impl RebalanceListener for Says {
    fn on_joined(&mut self, member_id: &str, generation: i32) {
        println!("{member_id} in generation {generation}");
    }

    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        println!("+ {partitions:?}");
        BTreeMap::new()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        println!("- {partitions:?}");
        BTreeMap::new()
    }

    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        println!("lost: {partitions:?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("127.0.0.1:7070".into());
    let topic = arguments.next().unwrap_or("example".into());
    let group = arguments.next().unwrap_or("examples".into());

    let client = Client::connect(bootstrap.as_str()).await?;
    let mut consumer = client.consumer(ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    });
    consumer.subscribe_with([topic.as_str()], group.as_str(), Says)?;
    loop {
        let polled = tokio::select! {
            polled = consumer.poll(Duration::from_secs(60)) => polled?,
            // What was printed is committed, and the others go on after it.
            _ = tokio::signal::ctrl_c() => return Ok(consumer.close().await?),
        };
        for batch in &polled {
            for record in batch.records() {
                let value = String::from_utf8_lossy(record.value.unwrap_or(b"(none)"));
                println!("{} {}: {value}", batch.partition(), record.offset);
            }
        }
    }
}
