//! Writers that go on whatever befalls the nodes, and remember what they were told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::client::{ProducerConfig, ProducerRecord};
use tokio::task::JoinHandle;

use crate::history::{Outcome, Sent};
use crate::nodes::Cluster;

const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    /// When each acknowledgement came.
    times: Mutex<Vec<Instant>>,
}

pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Vec<Sent>>>,
}

impl Writers {
    /// Each writes one record after the other to the only partition of a topic, with acks=all and as an
    /// idempotent producer of its own.
    pub async fn start(cluster: &Cluster, topic: &str, count: usize) -> Writers {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        for writer in 0..count {
            let producer = cluster.client().await.producer(ProducerConfig::default());
            let (shared, topic) = (shared.clone(), topic.to_owned());
            tasks.push(tokio::spawn(async move {
                let mut sent = Vec::new();
                while !shared.stop.load(SeqCst) {
                    let value = format!("writer {writer} record {}", sent.len()).into_bytes();
                    let record = ProducerRecord::to(&topic).value(&value);
                    let outcome = match producer.send(record).await {
                        Ok(delivery) => match delivery.await {
                            Ok(told) => Outcome::Acknowledged(told.offset.0),
                            Err(_) => Outcome::Unknown,
                        },
                        Err(_) => Outcome::Unknown,
                    };
                    if let Outcome::Acknowledged(_) = outcome {
                        shared.times.lock().unwrap().push(Instant::now());
                        shared.acknowledged.fetch_add(1, SeqCst);
                    }
                    sent.push(Sent {
                        writer,
                        value,
                        sends: 1,
                        outcome,
                    });
                }
                sent
            }));
        }
        Writers { shared, tasks }
    }

    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(SeqCst)
    }

    /// Until so many more are acknowledged.
    pub async fn await_more(&self, records: usize) {
        let begun = Instant::now();
        let wanted = self.acknowledged() + records;
        while self.acknowledged() < wanted {
            assert!(
                begun.elapsed() < WAIT_MAX,
                "nothing is acknowledged any more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Between two acknowledgements of any writer.
    pub fn longest_gap_since(&self, since: Instant) -> Duration {
        let times = self.shared.times.lock().unwrap();
        let mut last = since;
        let mut longest = Duration::ZERO;
        for time in times.iter().filter(|time| **time > since) {
            longest = longest.max(*time - last);
            last = *time;
        }
        longest
    }

    /// What all of them have sent.
    pub async fn stop(self) -> Vec<Sent> {
        self.shared.stop.store(true, SeqCst);
        let mut sent = Vec::new();
        for task in self.tasks {
            sent.extend(task.await.unwrap());
        }
        sent
    }
}
