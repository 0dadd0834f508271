//! Three voters in one process, and others that follow them, over a network that cuts, delays, loses and repeats
//! messages. A node is killed by taking its store as it is on disk at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, JoinHandle};
use tokio::time::{sleep, timeout};

use super::{copy, create};
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::BrokerId;
use crate::raft::{
    Leadership, Raft, RaftReply, RaftRpc, RaftSettings, RaftTransport, RaftTransportError,
};
use crate::storage::fs::Random;
use crate::storage::meta::MetaStore;

/// After which something that has to happen counts as failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// After which a message without an answer has failed.
const CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// Random numbers that tasks share.
pub(super) struct Dice(Mutex<Random>);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Mutex::new(Random::new(seed)))
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.0.lock().unwrap().below(limit)
    }

    pub fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How bad the network is, in percent of the messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Weather {
    pub slow: u64,
    pub lost: u64,
    pub repeated: u64,
}

/// One life of a voter.
#[derive(Clone)]
struct Life {
    raft: Raft,
    /// Cleared when it is killed: from then on nobody hears it, though it may take a while to end.
    is_alive: Arc<AtomicBool>,
}

/// The network between the voters.
pub(super) struct Net {
    nodes: Mutex<BTreeMap<BrokerId, Life>>,
    /// From the first to the second nothing gets through.
    cuts: Mutex<BTreeSet<(BrokerId, BrokerId)>>,
    weather: Mutex<Weather>,
    dice: Dice,
    runtime: runtime::Handle,
    pub messages: AtomicU64,
}

impl Net {
    fn is_open(&self, from: BrokerId, to: BrokerId) -> bool {
        !self.cuts.lock().unwrap().contains(&(from, to))
    }

    pub fn node(&self, id: BrokerId) -> Option<Raft> {
        self.life(id).map(|life| life.raft)
    }

    fn life(&self, id: BrokerId) -> Option<Life> {
        self.nodes.lock().unwrap().get(&id).cloned()
    }

    async fn delay(&self) {
        let slow = self.weather.lock().unwrap().slow;
        if self.dice.percent(slow) {
            sleep(Duration::from_millis(self.dice.below(400))).await;
        }
    }

    async fn deliver(&self, from: BrokerId, to: BrokerId, rpc: RaftRpc) -> Option<RaftReply> {
        self.delay().await;
        let Weather { lost, repeated, .. } = *self.weather.lock().unwrap();
        if !self.is_open(from, to) || self.dice.percent(lost) {
            return None;
        }
        let life = self.life(to)?;
        let answer = life.raft.handle(from, rpc.clone()).await.ok();
        // What it may have done after it was killed isn't in what was copied.
        let answer = answer.filter(|_| life.is_alive.load(Ordering::SeqCst));
        if self.dice.percent(repeated) {
            sleep(Duration::from_millis(self.dice.below(800))).await;
            if self.is_open(from, to) {
                let _ = self.node(to)?.handle(from, rpc).await;
            }
        }
        self.delay().await;
        // Those who are gone, or cut off meanwhile, get no answer.
        answer.filter(|_| self.is_open(to, from) && !self.dice.percent(lost))
    }
}

/// One voter's end of it.
struct Wire {
    id: BrokerId,
    is_alive: Arc<AtomicBool>,
    net: Arc<Net>,
}

#[async_trait]
impl RaftTransport for Wire {
    async fn call(&self, voter: BrokerId, rpc: RaftRpc) -> Result<RaftReply, RaftTransportError> {
        self.net.messages.fetch_add(1, Ordering::Relaxed);
        let failed = |reason: &str| RaftTransportError {
            voter,
            reason: reason.into(),
        };
        if !self.is_alive.load(Ordering::SeqCst) {
            return Err(failed("the sender is dead"));
        }
        let (answer, answered) = oneshot::channel();
        let (net, from) = (self.net.clone(), self.id);
        // What is on the way arrives, even if who sent it has given up or died.
        self.net.runtime.spawn(async move {
            if let Some(reply) = net.deliver(from, voter, rpc).await {
                let _ = answer.send(reply);
            }
        });
        match timeout(CALL_TIMEOUT, answered).await {
            Ok(reply) => reply.map_err(|_| failed("lost")),
            Err(_) => Err(failed("no answer in time")),
        }
    }
}

pub(super) struct Cluster {
    pub net: Arc<Net>,
    settings: RaftSettings,
    /// The voters, and then those without a vote.
    nodes: Vec<BrokerId>,
    dirs: Mutex<BTreeMap<BrokerId, TempDir>>,
    watchers: Mutex<Vec<JoinHandle<()>>>,
    pub oracle: Arc<Oracle>,
}

impl Cluster {
    /// Nobody runs yet. The node in the settings is replaced by each node's own id.
    pub fn new(settings: RaftSettings, seed: u64) -> Cluster {
        Cluster::with_observers(settings, &[], seed)
    }

    /// One with nodes that have no vote.
    pub fn with_observers(settings: RaftSettings, observers: &[i32], seed: u64) -> Cluster {
        let voters = settings.voters.iter().copied();
        let observers = observers.iter().copied().map(BrokerId);
        let nodes: Vec<BrokerId> = voters.chain(observers).collect();
        let dirs = nodes.iter().map(|id| (*id, TempDir::new().unwrap()));
        Cluster {
            dirs: Mutex::new(dirs.collect()),
            net: Arc::new(Net {
                nodes: Mutex::default(),
                cuts: Mutex::default(),
                weather: Mutex::default(),
                dice: Dice::new(seed),
                runtime: runtime::Handle::current(),
                messages: AtomicU64::new(0),
            }),
            settings,
            nodes,
            watchers: Mutex::default(),
            oracle: Arc::default(),
        }
    }

    /// One in which all run.
    pub async fn started(settings: RaftSettings, seed: u64) -> Cluster {
        let cluster = Cluster::new(settings, seed);
        cluster.start_all().await;
        cluster
    }

    /// All of them.
    pub fn nodes(&self) -> &[BrokerId] {
        &self.nodes
    }

    pub fn voters(&self) -> &[BrokerId] {
        &self.settings.voters
    }

    pub fn dir(&self, id: BrokerId) -> std::path::PathBuf {
        self.dirs.lock().unwrap()[&id].path().to_path_buf()
    }

    pub fn replace_dir(&self, id: BrokerId, dir: TempDir) {
        self.dirs.lock().unwrap().insert(id, dir);
    }

    pub fn running(&self) -> Vec<BrokerId> {
        self.net.nodes.lock().unwrap().keys().copied().collect()
    }

    pub fn node(&self, id: BrokerId) -> Raft {
        self.net.node(id).expect("it runs")
    }

    pub async fn start(&self, id: BrokerId) {
        let dir = self.dir(id);
        let settings = RaftSettings {
            node: id,
            ..self.settings.clone()
        };
        let is_alive = Arc::new(AtomicBool::new(true));
        let wire = Arc::new(Wire {
            id,
            is_alive: is_alive.clone(),
            net: self.net.clone(),
        });
        let started = spawn_blocking(move || {
            let store = MetaStore::open(&dir).unwrap();
            Raft::start(settings, store, wire).unwrap()
        });
        let raft = started.await.unwrap();
        let (oracle, mut images) = (self.oracle.clone(), raft.image());
        self.watchers.lock().unwrap().push(tokio::spawn(async move {
            while images.changed().await.is_ok() {
                let image = images.borrow_and_update().clone();
                oracle.sees(id, &image);
            }
        }));
        let life = Life { raft, is_alive };
        self.net.nodes.lock().unwrap().insert(id, life);
    }

    pub async fn start_all(&self) {
        for id in self.nodes.clone() {
            if self.net.node(id).is_none() {
                self.start(id).await;
            }
        }
    }

    /// Ends a node without warning. The next start finds what was on disk when nobody heard it
    /// any more.
    pub async fn kill(&self, id: BrokerId) {
        let Some(Life { raft, is_alive }) = self.net.nodes.lock().unwrap().remove(&id) else {
            return;
        };
        is_alive.store(false, Ordering::SeqCst);
        let dir = self.dir(id);
        // It is still being written, which is harder than a crash.
        let copied = spawn_blocking(move || copy(&dir)).await.unwrap();
        let old = self.dirs.lock().unwrap().insert(id, copied);
        tokio::spawn(async move {
            raft.shutdown().await;
            drop(old);
        });
    }

    pub fn cut_off(&self, id: BrokerId) {
        for other in self.nodes.clone() {
            self.cut(id, other);
            self.cut(other, id);
        }
    }

    pub fn cut(&self, from: BrokerId, to: BrokerId) {
        self.net.cuts.lock().unwrap().insert((from, to));
    }

    pub fn heal(&self) {
        self.net.cuts.lock().unwrap().clear();
        self.set_weather(Weather::default());
    }

    pub fn set_weather(&self, weather: Weather) {
        *self.net.weather.lock().unwrap() = weather;
    }

    /// Those who say that they lead, the latest term last.
    pub fn leaders(&self) -> Vec<BrokerId> {
        let nodes = self.net.nodes.lock().unwrap();
        let mut leaders: Vec<(u64, BrokerId)> = Vec::new();
        for (id, life) in nodes.iter() {
            if let Leadership::Leader { term } = *life.raft.leadership().borrow() {
                leaders.push((term, *id));
            }
        }
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, id)| id).collect()
    }

    /// Somebody who leads, as soon as there is one.
    pub async fn leader(&self) -> BrokerId {
        let found = async {
            loop {
                if let Some(leader) = self.leaders().pop() {
                    return leader;
                }
                self.any_leadership_changes().await;
            }
        };
        timeout(PATIENCE, found)
            .await
            .expect("somebody should lead by now")
    }

    async fn any_leadership_changes(&self) {
        let nodes: Vec<Life> = self.net.nodes.lock().unwrap().values().cloned().collect();
        let leads = nodes.into_iter().map(|life| {
            Box::pin(async move {
                let mut leadership = life.raft.leadership();
                let leads = |now: &Leadership| matches!(now, Leadership::Leader { .. });
                if leadership.wait_for(leads).await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        let any = futures_util::future::select_all(leads);
        // Somebody may be started meanwhile.
        let _ = timeout(Duration::from_millis(100), any).await;
    }

    /// Proposes until it is acknowledged.
    pub async fn write(&self, commands: Vec<MetadataCommand>) -> Arc<MetadataImage> {
        let written = async {
            loop {
                let leader = self.leader().await;
                if let Some(raft) = self.net.node(leader) {
                    if let Ok(image) = raft.propose(commands.clone()).await {
                        return image;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, written)
            .await
            .expect("it should be written by now")
    }

    /// Returns when all nodes have the same image, with everything that was acknowledged. Fails if
    /// they don't get there.
    pub async fn converge(&self) -> Arc<MetadataImage> {
        self.heal();
        self.start_all().await;
        let marker = 1_000_000 + self.net.messages.fetch_add(1, Ordering::Relaxed);
        let image = self.write(vec![create(marker.into())]).await;
        for id in self.nodes.clone() {
            let mut images = self.node(id).image();
            let there = images.wait_for(|now| now.version() >= image.version());
            let there = timeout(PATIENCE, there).await;
            let now = there
                .unwrap_or_else(|_| panic!("{id} doesn't catch up: {:#?}", self.describe()))
                .unwrap()
                .clone();
            self.oracle.sees(id, &now);
        }
        self.oracle.check();
        image
    }

    /// What each voter says of itself.
    fn describe(&self) -> Vec<String> {
        let nodes = self.net.nodes.lock().unwrap();
        let describe = |(id, life): (&BrokerId, &Life)| {
            let (leadership, image) = (life.raft.leadership(), life.raft.image());
            let fault = life.raft.fault().now_or_never();
            let (leadership, version) = (*leadership.borrow(), image.borrow().version());
            format!("{id}: {leadership:?}, version {version}, fault {fault:?}")
        };
        nodes.iter().map(describe).collect()
    }

    pub async fn stop(&self) {
        let nodes = std::mem::take(&mut *self.net.nodes.lock().unwrap());
        for life in nodes.into_values() {
            life.raft.shutdown().await;
        }
        for watcher in self.watchers.lock().unwrap().drain(..) {
            watcher.abort();
        }
    }
}

/// What no voter may contradict.
#[derive(Default)]
pub(super) struct Oracle {
    images: Mutex<BTreeMap<u64, (BrokerId, Arc<MetadataImage>)>>,
    wrong: Mutex<Vec<String>>,
}

impl Oracle {
    /// All voters have the same image at the same version.
    pub fn sees(&self, id: BrokerId, image: &Arc<MetadataImage>) {
        let mut images = self.images.lock().unwrap();
        let first = images
            .entry(image.version())
            .or_insert_with(|| (id, image.clone()));
        if first.1 != *image {
            let (version, other) = (image.version(), first.0);
            drop(images);
            self.is_wrong(format!("{id} and {other} differ at version {version}"));
        }
    }

    pub fn is_wrong(&self, what: String) {
        eprintln!("WRONG: {what}");
        self.wrong.lock().unwrap().push(what);
    }

    /// Each image that was seen.
    pub fn images(&self) -> Vec<Arc<MetadataImage>> {
        let images = self.images.lock().unwrap();
        images.values().map(|(_, image)| image.clone()).collect()
    }

    pub fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

pub(super) fn three_voters() -> RaftSettings {
    voters(3)
}

pub(super) fn voters(count: i32) -> RaftSettings {
    let voters: Vec<BrokerId> = (1..=count).map(BrokerId).collect();
    RaftSettings::new(voters[0], voters)
}
