//! Commits: how fast they are, and how long there are none when their coordinator's node is killed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use klamm::client::{
    Client, ClientConfig, Commits, Consumer, ConsumerConfig, GroupConfig, GroupOffsets, OffsetReset,
};
use klamm::model::Offset;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::nodes::Cluster;
use crate::{summary, WAIT_MAX};

const TOPIC: &str = "committed";
const GROUP: &str = "committers";
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// So many members commit at the same time.
const MEMBERS: usize = 50;
/// And so many while nodes are killed.
const FEW_MEMBERS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// How many commits are acknowledged between one kill and the next.
const COMMITS_BETWEEN: usize = 200;

/// When each commit was acknowledged.
type Acknowledged = Arc<Mutex<Vec<(Instant, Duration)>>>;

/// Members that commit one offset after the other, each of a partition of its own.
struct Committers {
    stop: Arc<AtomicBool>,
    acknowledged: Acknowledged,
    tasks: Vec<JoinHandle<usize>>,
}

impl Committers {
    async fn start(cluster: &Cluster, members: usize) -> Committers {
        let client = cluster.client().await;
        cluster.create_with(&client, TOPIC, members as i32).await;
        let mut consumers = Vec::new();
        for _ in 0..members {
            consumers.push(joined(&cluster.bootstrap()).await);
        }
        let mut committers = Committers {
            stop: Arc::default(),
            acknowledged: Acknowledged::default(),
            tasks: Vec::new(),
        };
        let consumers = await_shared(consumers).await;
        for consumer in consumers {
            let (stop, acknowledged) = (committers.stop.clone(), committers.acknowledged.clone());
            let task = tokio::spawn(commit_on(consumer, stop, acknowledged));
            committers.tasks.push(task);
        }
        committers
    }

    /// Until so many more are acknowledged.
    async fn await_more(&self, count: usize) {
        let (begun, before) = (Instant::now(), self.acknowledged.lock().unwrap().len());
        while self.acknowledged.lock().unwrap().len() < before + count {
            assert!(begun.elapsed() < WAIT_MAX, "commits don't go on");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The longest time without an acknowledgement.
    fn longest_gap_since(&self, since: Instant) -> Duration {
        let acknowledged = self.acknowledged.lock().unwrap();
        let after = acknowledged.iter().map(|(at, _)| *at);
        let after = after.filter(|at| *at >= since);
        let mut times: Vec<Instant> = std::iter::once(since).chain(after).collect();
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// Answers how many commits failed.
    async fn stop(self) -> usize {
        self.stop.store(true, Relaxed);
        let mut failed = 0;
        for task in self.tasks {
            failed += task.await.unwrap();
        }
        failed
    }
}

async fn joined(bootstrap: &str) -> Consumer {
    let config = ClientConfig {
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(100),
        ..ClientConfig::from(bootstrap)
    };
    let client = Client::connect(config).await.unwrap();
    let mut consumer = client.consumer(ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    });
    let group = GroupConfig {
        commits: Commits::Explicit,
        ..GroupConfig::from(GROUP)
    };
    consumer.subscribe([TOPIC], group).unwrap();
    consumer
}

/// Until each of the members has one partition.
async fn await_shared(consumers: Vec<Consumer>) -> Vec<Consumer> {
    let (begun, count) = (Instant::now(), consumers.len());
    let sharing = Arc::new(Mutex::new(vec![0; count]));
    let mut tasks = Vec::new();
    for (number, mut consumer) in consumers.into_iter().enumerate() {
        let sharing = sharing.clone();
        tasks.push(tokio::spawn(async move {
            while sharing.lock().unwrap().iter().any(|has| *has != 1) {
                consumer.poll(Duration::from_millis(20)).await.unwrap();
                sharing.lock().unwrap()[number] = consumer.assignment().len();
                assert!(begun.elapsed() < WAIT_MAX, "they don't share");
            }
            consumer
        }));
    }
    let mut shared = Vec::new();
    for task in tasks {
        shared.push(task.await.unwrap());
    }
    shared
}

async fn commit_on(
    mut consumer: Consumer,
    stop: Arc<AtomicBool>,
    acknowledged: Acknowledged,
) -> usize {
    let (topic, partition) = consumer.assignment().remove(0);
    let (mut next, mut failed) = (0, 0);
    while !stop.load(Relaxed) {
        next += 1;
        let offsets = [((topic.to_string(), partition), Offset(next))];
        let offsets = GroupOffsets::from(offsets);
        let begun = Instant::now();
        match consumer.commit_offsets(&offsets).await {
            Ok(()) => {
                let now = Instant::now();
                acknowledged.lock().unwrap().push((now, now - begun));
            }
            Err(error) => {
                eprintln!("a commit failed: {error}");
                failed += 1;
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    failed
}

pub async fn measure_rate() {
    let cluster = Cluster::start();
    let committers = Committers::start(&cluster, MEMBERS).await;
    sleep(WARM_UP).await;
    committers.acknowledged.lock().unwrap().clear();
    let begun = Instant::now();
    sleep(MEASURED).await;
    let taken = std::mem::take(&mut *committers.acknowledged.lock().unwrap());
    let seconds = begun.elapsed().as_secs_f64();
    let failed = committers.stop().await;
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    for (_, latency) in &taken {
        latencies.saturating_record(latency.as_micros() as u64);
    }
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "| {MEMBERS} members commit, synced on three nodes | {:.0} a second; p50 {:.2}, p99 {:.2}, most {:.2} ms; {failed} failed |",
        taken.len() as f64 / seconds,
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
}

pub async fn measure_fail_over(rounds: usize) {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    let committers = Committers::start(&cluster, FEW_MEMBERS).await;
    let (mut of_others, mut of_controllers) = (Vec::new(), Vec::new());
    // Until there are enough of both, or it is clear that chance doesn't want it.
    for _ in 0..6 * rounds {
        if of_others.len() >= rounds && of_controllers.len() >= rounds {
            break;
        }
        committers.await_more(COMMITS_BETWEEN).await;
        let victim = cluster.leader(&client, OFFSETS_TOPIC).await;
        let controller = cluster.controller(&client).await;
        let begun = Instant::now();
        cluster.node(victim).kill();
        committers.await_more(COMMITS_BETWEEN).await;
        let gap = committers.longest_gap_since(begun);
        match victim == controller {
            true => of_controllers.push(gap),
            false => of_others.push(gap),
        }
        cluster.node(victim).restart();
        cluster.node(victim).wait();
        cluster.await_in_sync(OFFSETS_TOPIC).await;
    }
    let failed = committers.stop().await;
    println!(
        "| kill -9 of the coordinator's node: longest time between two acknowledged commits | {}; {failed} failed |",
        summary(of_others)
    );
    println!(
        "| the same where it is the active controller too | {} |",
        summary(of_controllers)
    );
}
