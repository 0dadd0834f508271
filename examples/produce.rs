//! Sends numbered lines to a topic, and says where the last one is.
//!
//! `cargo run --example produce -- [HOST:PORT [TOPIC [RECORDS]]]`

use std::error::Error;

use klamm::client::{Client, NewTopic, ProducerConfig, ProducerRecord};
use klamm::model::ErrorCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("127.0.0.1:7070".into());
    let topic = arguments.next().unwrap_or("example".into());
    let records: u64 = arguments.next().unwrap_or("1000000".into()).parse()?;

    let client = Client::connect(bootstrap.as_str()).await?;
    let new = NewTopic {
        name: topic.clone(),
        ..NewTopic::default()
    };
    match client.admin().create_topic(&new).await {
        Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => Err(error)?,
        _ => {}
    }

    // Each record is acknowledged when it is on disk, is there once, and in order.
    let producer = client.producer(ProducerConfig::default());
    let mut last = None;
    for number in 0..records {
        let value = format!("line {number}");
        let record = ProducerRecord::to(&topic).value(value.as_bytes());
        // Doesn't wait for the record, but for room to send it.
        last = Some(producer.send(record).await?);
    }
    producer.flush().await;
    if let Some(error) = producer.first_error() {
        return Err(error.into());
    }
    if let Some(last) = last {
        let delivery = last.await?;
        println!(
            "the last is in partition {} at {}",
            delivery.partition, delivery.offset
        );
    }
    println!("{:?}", producer.stats());
    Ok(())
}
