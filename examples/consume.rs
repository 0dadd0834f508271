//! Prints a topic's records from the beginning, and goes on as they come.
//!
//! `cargo run --example consume -- [HOST:PORT [TOPIC]]`

use std::error::Error;
use std::time::Duration;

use klamm::client::{Client, ConsumerConfig, StartAt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("127.0.0.1:7070".into());
    let topic = arguments.next().unwrap_or("example".into());

    let client = Client::connect(bootstrap.as_str()).await?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign_topic(&topic, StartAt::Beginning).await?;
    loop {
        let batches = consumer.poll(Duration::from_secs(60)).await?;
        for batch in &batches {
            for record in batch.records() {
                let value = String::from_utf8_lossy(record.value.unwrap_or(b"(none)"));
                println!("{} {}: {value}", batch.partition(), record.offset);
            }
        }
    }
}
