//! The client library's producer under load: idempotent, as it is by default, so each record is to
//! be in the log exactly once and in order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;
use std::thread::JoinHandle;

use klamm::client::{BatchOutcome, Client, ProducerConfig, ProducerRecord};

use crate::history::{check, Copies, Outcome, Sent};
use crate::load::Progress;
use crate::wire::Wire;

/// Small, so that many batches are under way.
const BATCH_BYTES: usize = 2 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
const VALUE_BYTES: usize = 200;

/// A producer at work in a thread of its own.
pub struct ClientLoad {
    topic: &'static str,
    stopped: Arc<AtomicBool>,
    progress: Arc<Progress>,
    sending: JoinHandle<Vec<Vec<Sent>>>,
}

impl ClientLoad {
    /// Sends to the partitions of the topic in turn.
    pub fn start(address: SocketAddr, topic: &'static str, partitions: i32) -> ClientLoad {
        let stopped = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::default());
        let (stop, progressing) = (stopped.clone(), progress.clone());
        let sending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let send = send_until(&stop, address, topic, partitions, progressing);
            runtime.unwrap().block_on(send)
        });
        ClientLoad {
            topic,
            stopped,
            progress,
            sending,
        }
    }

    /// Waits until so many more batches are acknowledged.
    pub fn wait_for_acknowledged(&self, more: usize) {
        self.progress.wait_for(more);
    }

    /// Ends it, and finds each record exactly once, in order, where it was delivered.
    pub fn end_and_check(self, wire: &mut Wire) {
        self.stopped.store(true, SeqCst);
        let sent = self.sending.join().expect("the sender panicked");
        for (partition, sent) in (0..).zip(&sent) {
            let read = wire.read_all(self.topic, partition);
            assert_eq!(check(sent, &read, Copies::One), Ok(()), "{partition}");
            assert_eq!(read.len(), sent.len());
        }
    }
}

/// Returns what became of each record, by partition. Every one of them must be delivered.
async fn send_until(
    stopped: &AtomicBool,
    address: SocketAddr,
    topic: &str,
    partitions: i32,
    progress: Arc<Progress>,
) -> Vec<Vec<Sent>> {
    let client = Client::connect(address.to_string().as_str()).await.unwrap();
    let listener = move |outcome: &BatchOutcome| {
        if outcome.result.is_ok() {
            progress.advance();
        }
    };
    let producer = client.producer(ProducerConfig {
        batch_bytes: BATCH_BYTES,
        buffer_bytes: BUFFER_BYTES,
        delivery_listener: Some(Arc::new(listener)),
        ..ProducerConfig::default()
    });
    let mut deliveries = Vec::new();
    while !stopped.load(SeqCst) {
        let value = format!("record {} {}", deliveries.len(), ".".repeat(VALUE_BYTES));
        let partition = deliveries.len() as i32 % partitions;
        let record = ProducerRecord::to(topic).partition(partition);
        let delivery = producer.send(record.value(value.as_bytes())).await.unwrap();
        deliveries.push((partition, value, delivery));
    }
    producer.flush().await;
    let mut sent = vec![Vec::new(); partitions as usize];
    for (partition, value, delivery) in deliveries {
        let delivery = delivery.await.unwrap_or_else(|e| panic!("{value}: {e}"));
        sent[partition as usize].push(Sent {
            writer: 0,
            value: value.into_bytes(),
            sends: 1,
            outcome: Outcome::Acknowledged(delivery.offset.0),
        });
    }
    sent
}
