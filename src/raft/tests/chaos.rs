//! Three voters, and five in each fifth round, and one node without a vote, among faults at random: killed, cut
//! off, all restarted at once, while messages are slow, lost and repeated and everybody writes. In each third round
//! logs are so short that whoever was away copies the state.
//!
//! `KLAMM_ROUNDS=50 cargo test raft::tests::chaos` runs more; `KLAMM_SEED=17` repeats a round's
//! faults, though not its moments.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, Instant};
use uuid::Uuid;

use super::cluster::{voters, Cluster, Dice, Weather};
use super::create;
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::{BrokerId, Incarnation, TopicId};
use crate::raft::{Raft, RaftSettings};

const WRITERS: i32 = 6;
const ROUND: Duration = Duration::from_secs(8);
/// After which a writer gives up, and takes the outcome for unknown.
const WRITE_PATIENCE: Duration = Duration::from_millis(1_500);
/// Each writer registers a broker of its own, again and again.
const BROKERS_FROM: i32 = 100;
/// Has no vote.
const OBSERVER: i32 = 9;

pub(super) fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_differs_among_faults_at_random() {
    let first = number_of("KLAMM_SEED").unwrap_or(1);
    let rounds = number_of("KLAMM_ROUNDS").unwrap_or(1);
    for seed in first..first + rounds {
        let written = round(seed).await;
        println!("KLAMM_SEED={seed}: {written}");
    }
}

/// What the writers know.
#[derive(Default)]
struct Written {
    topics: Mutex<Vec<u128>>,
    /// By broker: its last registration that was acknowledged.
    registered: Mutex<BTreeMap<BrokerId, u128>>,
    next: AtomicU64,
    stop: AtomicBool,
}

async fn round(seed: u64) -> String {
    let has_short_logs = seed.is_multiple_of(3);
    let settings = RaftSettings {
        snapshot_every_bytes: if has_short_logs { 2_000 } else { 20_000 },
        ..voters(if seed.is_multiple_of(5) { 5 } else { 3 })
    };
    let cluster = Arc::new(Cluster::with_observers(settings, &[OBSERVER], seed));
    cluster.start_all().await;
    cluster.leader().await;
    let written = Arc::new(Written::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let dice = Dice::new(seed << 8 | writer as u64);
        writers.spawn(write(cluster.clone(), written.clone(), writer, dice));
    }
    let faults = disturb(&cluster, &Dice::new(seed)).await;
    written.stop.store(true, Ordering::Relaxed);
    cluster.heal();
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let image = cluster.converge().await;
    let topics = written.topics.lock().unwrap().clone();
    for number in &topics {
        let id = TopicId(Uuid::from_u128(number + 1));
        assert!(
            image.topic(id).is_some(),
            "seed {seed}: topic {number} is lost"
        );
    }
    let registered = written.registered.lock().unwrap().clone();
    for (broker, last) in &registered {
        let found = incarnation(&image, *broker);
        assert!(
            found >= Some(*last),
            "seed {seed}: {broker} has registered {last}, and it says {found:?}"
        );
    }
    once_each(&cluster.oracle.images(), seed);
    cluster.stop().await;
    let topics = topics.len();
    format!(
        "{topics} topics acknowledged, version {}, {faults}",
        image.version()
    )
}

fn incarnation(image: &MetadataImage, broker: BrokerId) -> Option<u128> {
    Some(image.broker(broker)?.incarnation.0.as_u128())
}

/// A writer's registrations follow each other. One that took effect twice would come back after a
/// later one.
fn once_each(images: &[Arc<MetadataImage>], seed: u64) {
    let mut last = BTreeMap::new();
    for image in images {
        for broker in image.brokers() {
            let now = broker.incarnation.0.as_u128();
            let before = last.insert(broker.id, now);
            let version = image.version();
            assert!(
                before <= Some(now),
                "seed {seed}: {} goes from {before:?} back to {now} at version {version}",
                broker.id
            );
        }
    }
}

/// Writes one thing after the other, each asked of one node and once only.
async fn write(cluster: Arc<Cluster>, written: Arc<Written>, writer: i32, dice: Dice) {
    while !written.stop.load(Ordering::Relaxed) {
        let number = u128::from(written.next.fetch_add(1, Ordering::Relaxed) + 1);
        let Some(node) = somebody(&cluster, &dice) else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let broker = BrokerId(BROKERS_FROM + writer);
        let is_topic = dice.percent(20);
        let command = if is_topic {
            create(number)
        } else {
            register(broker, number)
        };
        let proposed = timeout(WRITE_PATIENCE, node.propose(vec![command])).await;
        if !matches!(proposed, Ok(Ok(_))) {
            sleep(Duration::from_millis(5 + dice.below(35))).await;
        } else if is_topic {
            written.topics.lock().unwrap().push(number);
        } else {
            written.registered.lock().unwrap().insert(broker, number);
        }
    }
}

/// Mostly who says that it leads, also if others say so too.
fn somebody(cluster: &Cluster, dice: &Dice) -> Option<Raft> {
    let mut nodes = cluster.leaders();
    if nodes.is_empty() || dice.percent(5) {
        nodes = cluster.running();
    }
    let picked = nodes.get(dice.below(nodes.len().max(1) as u64) as usize)?;
    cluster.net.node(*picked)
}

fn register(id: BrokerId, number: u128) -> MetadataCommand {
    MetadataCommand::RegisterBroker {
        id,
        incarnation: Incarnation(Uuid::from_u128(number)),
        endpoints: Vec::new(),
        rack: None,
        state: Default::default(),
        metadata_version_max: None,
    }
}

/// Faults, until the round is over. Says which.
async fn disturb(cluster: &Cluster, dice: &Dice) -> String {
    let end = Instant::now() + ROUND;
    let (mut kills, mut cuts, mut restarts) = (0, 0, 0);
    let nodes = cluster.nodes().to_vec();
    let any = |dice: &Dice| nodes[dice.below(nodes.len() as u64) as usize];
    while Instant::now() < end {
        match dice.below(12) {
            0 | 1 => {
                cluster.kill(any(dice)).await;
                kills += 1;
            }
            2 => {
                for leader in cluster.leaders() {
                    cluster.kill(leader).await;
                    kills += 1;
                }
            }
            3..=5 => cluster.start_all().await,
            6 => {
                cluster.cut_off(any(dice));
                cuts += 1;
            }
            7 => {
                for leader in cluster.leaders() {
                    cluster.cut_off(leader);
                    cuts += 1;
                }
            }
            8 => {
                // One way only.
                cluster.cut(any(dice), any(dice));
                cuts += 1;
            }
            9 | 10 => {
                cluster.heal();
                let is_lossy = dice.percent(50);
                cluster.set_weather(Weather {
                    slow: if dice.percent(40) { 30 } else { 0 },
                    lost: if is_lossy { 10 } else { 0 },
                    repeated: if is_lossy { 10 } else { 0 },
                });
            }
            _ => {
                for id in &nodes {
                    cluster.kill(*id).await;
                }
                cluster.start_all().await;
                restarts += 1;
            }
        }
        sleep(Duration::from_millis(50 + dice.below(600))).await;
    }
    format!("{kills} kills, {cuts} cuts, {restarts} restarts of all")
}
