//! Three voters in one process, whose messages are lost, late and doubled, and who are killed and
//! restarted from what is on disk.
//!
//! `KLAMM_ROUNDS` and `KLAMM_SEED` make it longer and repeat it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::env;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{copy, create};
use crate::engine::metadata::MetadataImage;
use crate::model::BrokerId;
use crate::raft::{
    Leadership, Raft, RaftReply, RaftRpc, RaftSettings, RaftTransport, RaftTransportError,
};
use crate::storage::meta::MetaStore;

const VOTERS: [BrokerId; 3] = [BrokerId(1), BrokerId(2), BrokerId(3)];
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A small generator of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[derive(Default)]
struct Weather {
    nodes: BTreeMap<BrokerId, Raft>,
    /// Messages from the first to the second are lost.
    cut: HashSet<(BrokerId, BrokerId)>,
    /// Of a hundred messages so many are late, and as many come twice.
    rough: u64,
    random: Option<Random>,
}

#[derive(Clone, Default)]
struct Net(Arc<Mutex<Weather>>);

struct Wire {
    net: Net,
    from: BrokerId,
}

impl Net {
    fn with<T>(&self, change: impl FnOnce(&mut Weather) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn leads(&self, from: BrokerId, to: BrokerId) -> bool {
        self.with(|weather| !weather.cut.contains(&(from, to)))
    }

    fn node(&self, id: BrokerId) -> Option<Raft> {
        self.with(|weather| weather.nodes.get(&id).cloned())
    }

    /// How late the next message is, and whether it comes again later.
    fn fate(&self) -> (Duration, Option<Duration>) {
        self.with(|weather| {
            let rough = weather.rough;
            let Some(random) = weather.random.as_mut() else {
                return (Duration::ZERO, None);
            };
            let late = random.next(100) < rough;
            let twice = random.next(100) < rough;
            let late = Duration::from_millis(if late { random.next(300) } else { 0 });
            let twice = twice.then(|| Duration::from_millis(random.next(800)));
            (late, twice)
        })
    }
}

#[async_trait]
impl RaftTransport for Wire {
    async fn call(&self, to: BrokerId, rpc: RaftRpc) -> Result<RaftReply, RaftTransportError> {
        let lost = || RaftTransportError {
            voter: to,
            reason: "lost".into(),
        };
        let (late, twice) = self.net.fate();
        sleep(late).await;
        let node = self.net.node(to).filter(|_| self.net.leads(self.from, to));
        let node = node.ok_or_else(lost)?;
        if let Some(later) = twice {
            let (node, rpc) = (node.clone(), rpc.clone());
            tokio::spawn(async move {
                sleep(later).await;
                let _ = node.handle(rpc).await;
            });
        }
        let answer = node.handle(rpc).await.map_err(|_| lost())?;
        match self.net.leads(to, self.from) {
            true => Ok(answer),
            false => Err(lost()),
        }
    }
}

struct Cluster {
    net: Net,
    dirs: BTreeMap<BrokerId, TempDir>,
}

impl Cluster {
    fn start() -> Cluster {
        let dirs = VOTERS.map(|id| (id, TempDir::new().unwrap()));
        let cluster = Cluster {
            net: Net::default(),
            dirs: BTreeMap::from(dirs),
        };
        VOTERS.iter().for_each(|id| cluster.start_node(*id));
        cluster
    }

    fn start_node(&self, id: BrokerId) {
        let settings = RaftSettings {
            heartbeat: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(200),
            election_timeout_max: Duration::from_millis(400),
            snapshot_every_bytes: 4_000,
            ..RaftSettings::new(id, VOTERS.to_vec())
        };
        let store = MetaStore::open(self.dirs[&id].path()).unwrap();
        let wire = Wire {
            net: self.net.clone(),
            from: id,
        };
        let raft = Raft::start(settings, store, Arc::new(wire)).unwrap();
        self.net.with(|weather| weather.nodes.insert(id, raft));
    }

    /// As kill -9 would: what is on disk at this moment is what the next life finds.
    fn kill(&mut self, id: BrokerId) {
        let Some(raft) = self.net.with(|weather| weather.nodes.remove(&id)) else {
            return;
        };
        let left = copy(self.dirs[&id].path());
        let old = self.dirs.insert(id, left);
        tokio::spawn(async move {
            raft.shutdown().await;
            drop(old);
        });
    }

    fn alive(&self) -> Vec<BrokerId> {
        self.net
            .with(|weather| weather.nodes.keys().copied().collect())
    }

    fn leader(&self) -> Option<BrokerId> {
        self.net.with(|weather| {
            let leads =
                |raft: &Raft| matches!(*raft.leadership().borrow(), Leadership::Leader { .. });
            weather
                .nodes
                .iter()
                .find(|(_, raft)| leads(raft))
                .map(|(id, _)| *id)
        })
    }

    fn isolate(&self, id: BrokerId) {
        self.net.with(|weather| {
            for other in VOTERS {
                weather.cut.insert((id, other));
                weather.cut.insert((other, id));
            }
        });
    }

    fn heal(&self) {
        self.net.with(|weather| {
            weather.cut.clear();
            weather.rough = 0;
        });
    }
}

/// Proposes topics with names of their own until it is told to stop; returns those that were
/// acknowledged.
async fn write(net: Net, first: u128, stop: Arc<Mutex<bool>>) -> Vec<u128> {
    let mut acknowledged = Vec::new();
    let mut number = first;
    while !*stop.lock().unwrap() {
        number += 1;
        let nodes: Vec<Raft> = net.with(|weather| weather.nodes.values().cloned().collect());
        for raft in nodes {
            let leads = matches!(*raft.leadership().borrow(), Leadership::Leader { .. });
            if leads {
                let proposed = timeout(Duration::from_secs(3), raft.propose(vec![create(number)]));
                if let Ok(Ok(_)) = proposed.await {
                    acknowledged.push(number);
                    break;
                }
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

fn names(image: &MetadataImage) -> BTreeSet<String> {
    image.topics().map(|topic| topic.name.to_string()).collect()
}

fn name(number: u128) -> String {
    match create(number) {
        crate::engine::metadata::MetadataCommand::CreateTopic { name, .. } => name.to_string(),
        _ => unreachable!(),
    }
}

async fn round(seed: u64, time: Duration) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut cluster = Cluster::start();
    cluster
        .net
        .with(|weather| weather.random = Some(Random(seed | 1)));
    let stop = Arc::new(Mutex::new(false));
    let writers: Vec<_> = (1..4u128)
        .map(|n| tokio::spawn(write(cluster.net.clone(), n << 32, stop.clone())))
        .collect();
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(50 + random.next(400))).await;
        let victim = VOTERS[random.next(3) as usize];
        match random.next(8) {
            0 => cluster.kill(victim),
            1 => cluster.leader().into_iter().for_each(|id| cluster.kill(id)),
            2 => cluster
                .leader()
                .into_iter()
                .for_each(|id| cluster.isolate(id)),
            3 => {
                let (from, to) = (victim, VOTERS[random.next(3) as usize]);
                cluster.net.with(|weather| weather.cut.insert((from, to)));
            }
            4 => cluster.net.with(|weather| weather.rough = 20),
            5 => {
                for id in cluster.alive() {
                    cluster.kill(id);
                }
            }
            _ => cluster.heal(),
        }
        if random.next(2) == 0 {
            let alive = cluster.alive();
            for id in VOTERS.iter().filter(|id| !alive.contains(id)) {
                cluster.start_node(*id);
            }
        }
    }
    cluster.heal();
    let alive = cluster.alive();
    for id in VOTERS.iter().filter(|id| !alive.contains(id)) {
        cluster.start_node(*id);
    }
    // It goes on by itself.
    let healed = Instant::now();
    let last = loop {
        assert!(
            healed.elapsed() < WAIT_MAX,
            "seed {seed}: no leader after healing"
        );
        let leader = cluster.leader().and_then(|id| cluster.net.node(id));
        if let Some(leader) = leader {
            if let Ok(image) = leader.propose(vec![create(1)]).await {
                break image;
            }
        }
        sleep(Duration::from_millis(10)).await;
    };
    *stop.lock().unwrap() = true;
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let leader = cluster.leader().and_then(|id| cluster.net.node(id));
    let leader = leader.expect("somebody leads");
    leader.barrier().await.unwrap();
    let image = leader.image().borrow().clone();
    assert!(image.version() >= last.version());
    let kept = names(&image);
    for number in &acknowledged {
        assert!(
            kept.contains(&name(*number)),
            "seed {seed}: {number} is lost"
        );
    }
    for id in VOTERS {
        let node = cluster.net.node(id).unwrap();
        let mut images = node.image();
        let caught_up = images.wait_for(|theirs| theirs.version() >= image.version());
        let caught_up = timeout(WAIT_MAX, caught_up).await;
        let theirs = caught_up
            .unwrap_or_else(|_| panic!("seed {seed}: {id} lags"))
            .unwrap()
            .clone();
        if theirs.version() == image.version() {
            assert_eq!(*theirs, *image, "seed {seed}: {id} has other metadata");
        }
        assert!(
            names(&theirs).is_superset(&kept),
            "seed {seed}: {id} lacks something"
        );
    }
    acknowledged.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_voters_acknowledge_is_kept_by_all_whatever_befalls_them() {
    let number = |name: &str, default: u64| {
        let set = env::var(name).ok();
        set.map_or(default, |text| text.parse().unwrap())
    };
    let seed = number("KLAMM_SEED", 1);
    for seed in seed..seed + number("KLAMM_ROUNDS", 2) {
        let acknowledged = round(seed, Duration::from_secs(4)).await;
        println!("seed {seed}: {acknowledged} acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_voter_leads_soon_after_the_leader_is_killed() {
    let mut cluster = Cluster::start();
    let mut gaps = Vec::new();
    for number in 0..6 {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < WAIT_MAX);
            let leader = cluster.leader().and_then(|id| cluster.net.node(id));
            if let Some(leader) = leader {
                let proposed = leader.propose(vec![create(100 + number)]);
                if timeout(Duration::from_secs(2), proposed)
                    .await
                    .is_ok_and(|p| p.is_ok())
                {
                    break;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        gaps.push(begun.elapsed());
        let victim = cluster.leader().unwrap();
        let alive = cluster.alive();
        for id in VOTERS.iter().filter(|id| !alive.contains(id)) {
            cluster.start_node(*id);
        }
        cluster.kill(victim);
    }
    println!("first, and after each kill: {gaps:?}");
}
