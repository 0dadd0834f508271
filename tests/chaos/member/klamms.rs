//! A member by Klamm's own client, which commits by itself what it has handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use klamm::client::{
    Client, ClientConfig, Commits, Consumer, ConsumerConfig, GroupConfig, OffsetReset,
    RebalanceListener, TopicPartition,
};
use klamm::model::Offset;
use tokio::runtime;

use super::{Life, Task};
use super::{COMMIT_INTERVAL, HEARTBEAT_INTERVAL, MAX_POLL_INTERVAL, POLL, SESSION};
use crate::writers::TOPIC;

/// Before it looks again after an error: nobody may be there to ask just now.
const REST: Duration = Duration::from_millis(20);

pub fn work(task: &Task, leaves: impl Fn() -> bool) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let life = Arc::new(Mutex::new(Life::begin(task)));
        let mut consumer = join(task, life.clone()).await;
        while !leaves() {
            let Ok(batches) = consumer.poll(POLL).await else {
                tokio::time::sleep(REST).await;
                continue;
            };
            // Before the next poll: from then on it may be committed.
            let mut life = life.lock().unwrap();
            for batch in &batches {
                for record in batch.records() {
                    life.given(batch.partition(), record.offset.0, record.value.unwrap());
                }
            }
        }
        life.lock().unwrap().leaves = true;
        // It may be out of the group.
        let _ = consumer.close().await;
    });
}

async fn join(task: &Task, life: Arc<Mutex<Life>>) -> Consumer {
    let config = || ClientConfig {
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(100),
        ..ClientConfig::from(&*task.bootstrap)
    };
    let client = loop {
        match Client::connect(config()).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(REST).await,
        }
    };
    let mut consumer = client.consumer(ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        max_wait: POLL,
        ..ConsumerConfig::default()
    });
    let group = GroupConfig {
        group_id: task.manner.group().into(),
        session_timeout: SESSION,
        heartbeat_interval: HEARTBEAT_INTERVAL,
        max_poll_interval: MAX_POLL_INTERVAL,
        commits: Commits::Automatic(COMMIT_INTERVAL),
        ..GroupConfig::default()
    };
    let joined = consumer.subscribe_with([TOPIC], group, Listener(life));
    joined.unwrap();
    consumer
}

/// Notes what comes and goes.
struct Listener(Arc<Mutex<Life>>);

impl Listener {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.0.lock().unwrap()
    }
}

fn numbers(partitions: &[TopicPartition]) -> BTreeSet<i32> {
    partitions.iter().map(|(_, number)| *number).collect()
}

impl RebalanceListener for Listener {
    fn on_joined(&mut self, _: &str, generation: i32) {
        self.life().comes_into(generation);
    }

    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.life().takes(&numbers(partitions));
        BTreeMap::new()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.life().gives_up(numbers(partitions));
        BTreeMap::new()
    }

    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        let mut life = self.life();
        life.generation = -1;
        life.loses(&numbers(partitions));
    }
}
