//! Readers that read all the while. What one has seen below the high watermark must never vanish or
//! change, whoever leads.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;
use std::time::Duration;

use klamm::client::{ConsumerConfig, StartAt};
use klamm::model::Offset;
use tokio::task::JoinHandle;

use crate::nodes::Cluster;
use crate::writers::{PARTITIONS, TOPIC};

/// How long a reader waits at once, so that it hears when it is to stop.
const POLL: Duration = Duration::from_millis(200);

/// One for each partition.
pub struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

/// Offsets and values, in the order in which they were seen.
pub type Seen = Vec<(i64, Vec<u8>)>;

impl Readers {
    pub async fn start(cluster: &Cluster) -> Readers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for partition in 0..PARTITIONS {
            let mut consumer = cluster.client().await.consumer(ConsumerConfig::default());
            let from = StartAt::Offset(Offset(0));
            consumer.assign(TOPIC, partition, from).await.unwrap();
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(SeqCst) {
                    // Nobody may be there to ask just now.
                    let Ok(batches) = consumer.poll(POLL).await else {
                        tokio::time::sleep(POLL).await;
                        continue;
                    };
                    for batch in &batches {
                        for record in batch.records() {
                            seen.push((record.offset.0, record.value.unwrap().to_vec()));
                        }
                    }
                }
                seen
            }));
        }
        Readers { stop, tasks }
    }

    /// What was seen of each partition.
    pub async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, SeqCst);
        let mut seen = Vec::new();
        for task in self.tasks {
            seen.push(task.await.unwrap());
        }
        seen
    }
}

/// Compares what was seen with all that is there in the end: nothing was skipped, seen twice, or was
/// something else.
pub fn check(seen: &[(i64, Vec<u8>)], read: &[(i64, Vec<u8>)]) -> Result<(), String> {
    for (number, (offset, value)) in seen.iter().enumerate() {
        if *offset != number as i64 {
            return Err(format!(
                "a reader saw offset {offset} where {number} was next"
            ));
        }
        match read.get(number) {
            Some((_, there)) if there == value => {}
            there => {
                let was = String::from_utf8_lossy(value);
                let is = there.map(|(_, value)| String::from_utf8_lossy(value));
                return Err(format!("a reader saw {was:?} at {offset}, and now {is:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn each_planted_violation_of_what_was_seen_is_found() {
    let all = |texts: &[&str]| -> Seen {
        let values = texts.iter().map(|text| text.as_bytes().to_vec());
        (0..).zip(values).collect()
    };
    let read = all(&["a", "b", "c"]);
    assert_eq!(check(&read[..2], &read), Ok(()));
    assert!(check(&all(&["a", "b", "x"]), &read).is_err(), "changed");
    assert!(check(&all(&["a", "b", "c", "d"]), &read).is_err(), "gone");
    assert!(
        check(&[read[0].clone(), read[2].clone()], &read).is_err(),
        "skipped"
    );
    assert!(
        check(&[read[0].clone(), read[0].clone()], &read).is_err(),
        "twice"
    );
}
