//! Somebody who writes at a fixed rate while something else is going on.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use klamm::client::{Client, DeliveryFuture, Producer, ProducerConfig, ProducerRecord};
use tokio::task::JoinHandle;
use tokio::time::interval;

const RECORD_BYTES: usize = 1024;
/// Between two records.
const WRITE_INTERVAL: Duration = Duration::from_millis(2);

/// One record after the other, at a fixed rate; microseconds from when each was due.
pub struct LiveWriter {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Histogram<u64>>,
}

impl LiveWriter {
    /// Writes to this topic from now on.
    pub fn start(client: &Client, topic: &str) -> LiveWriter {
        let stop = Arc::new(AtomicBool::new(false));
        let producer = client.producer(ProducerConfig {
            linger: Duration::ZERO,
            ..ProducerConfig::default()
        });
        let task = tokio::spawn(write_on(producer, topic.to_owned(), stop.clone()));
        LiveWriter { stop, task }
    }

    /// Stops when all is acknowledged, and tells of it on a line.
    pub async fn stop(self, what: &str) {
        self.stop.store(true, SeqCst);
        report(what, self.task.await.unwrap());
    }
}

async fn write_on(producer: Producer, topic: String, stop: Arc<AtomicBool>) -> Histogram<u64> {
    let (told, mut deliveries) = tokio::sync::mpsc::channel::<(Instant, DeliveryFuture)>(100_000);
    let measuring = tokio::spawn(async move {
        let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        while let Some((due, delivery)) = deliveries.recv().await {
            delivery.await.unwrap();
            latencies.saturating_record(due.elapsed().as_micros() as u64);
        }
        latencies
    });
    let value = incompressible(RECORD_BYTES);
    // With the first one a producer introduces itself, which isn't what is measured.
    let first = ProducerRecord::to(&topic).value(&value);
    producer.send(first).await.unwrap().await.unwrap();
    let mut ticks = interval(WRITE_INTERVAL);
    while !stop.load(SeqCst) {
        let due = ticks.tick().await.into_std();
        let record = ProducerRecord::to(&topic).value(&value);
        let delivery = producer.send(record).await.unwrap();
        told.send((due, delivery)).await.unwrap();
    }
    drop(told);
    measuring.await.unwrap()
}

fn report(what: &str, latencies: Histogram<u64>) {
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "the live writer {what}: {} records, p50 {:.2}, p99 {:.2}, max {:.2} ms",
        latencies.len(),
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
}

pub fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
