//! Members of the consumer protocol (KIP-848), by its requests alone: a hundred clients would cost more than the
//! broker. Each has a connection of its own, is heard from as often as the coordinator wants, and says at once when
//! it has given up or taken over what it was told to, as Kafka's clients do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::model::{ErrorCode, TopicId};
use klamm::protocol::consumer_group_heartbeat::{self, Request, Response, TopicPartitions};
use klamm::protocol::find_coordinator::{self, KEY_GROUP};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::members::{GROUP, SESSION, TOPIC};
use crate::nodes::{Cluster, NODES};
use crate::rebalance::{MEMBERS, PARTITIONS};
use crate::wire::Wire;
use crate::{summary, WAIT_MAX};

const JOIN: i32 = 0;
const LEAVE: i32 = -1;
/// How long a member may take to give up partitions.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// Until a coordinator that loads is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// What Linux counts CPU time in.
const TICK: Duration = Duration::from_millis(10);
/// How long members are left alone.
const REST: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Standing {
    epoch: i32,
    owned: BTreeSet<i32>,
    heartbeats: usize,
}

/// Where each member is, by its number.
#[derive(Clone, Default)]
struct Roll(Arc<Mutex<BTreeMap<usize, Standing>>>);

impl Roll {
    /// The epoch that all have reached, if so many share all partitions.
    fn epoch_of(&self, members: usize) -> Option<i32> {
        let roll = self.0.lock().unwrap();
        let mut standings = roll.values();
        let epoch = standings.next()?.epoch;
        let owned: Vec<i32> = roll.values().flat_map(|s| s.owned.clone()).collect();
        let all: BTreeSet<i32> = owned.iter().copied().collect();
        let each_has_one_owner = all.len() == owned.len() && all.len() == PARTITIONS;
        let is_so = roll.len() == members && standings.all(|standing| standing.epoch == epoch);
        (is_so && each_has_one_owner).then_some(epoch)
    }

    /// Until so many share all partitions, all of them in the same epoch after this one.
    async fn await_shared(&self, members: usize, before: i32) -> i32 {
        let begun = Instant::now();
        loop {
            match self.epoch_of(members).filter(|epoch| *epoch > before) {
                Some(epoch) => return epoch,
                None => sleep(Duration::from_millis(1)).await,
            }
            assert!(begun.elapsed() < WAIT_MAX, "they don't share");
        }
    }

    fn heartbeats(&self) -> usize {
        let roll = self.0.lock().unwrap();
        roll.values().map(|standing| standing.heartbeats).sum()
    }
}

struct Member {
    number: usize,
    roll: Roll,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Instant>,
}

impl Member {
    async fn start(coordinator: &str, number: usize, roll: &Roll) -> Member {
        let life = Life {
            wire: Wire::connect(coordinator).await,
            id: format!("member-{number}"),
            topic: TopicId::NONE,
            number,
            roll: roll.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        Member {
            number,
            roll: roll.clone(),
            stop,
            task: tokio::spawn(life.live(stopped)),
        }
    }

    /// It leaves; the answer is when it began to.
    async fn leave(self) -> Instant {
        self.stop.send(()).unwrap();
        let begun = self.task.await.unwrap();
        self.roll.0.lock().unwrap().remove(&self.number);
        begun
    }

    /// It says nothing more, and its connection is closed.
    async fn vanish(self) -> Instant {
        self.task.abort();
        let begun = Instant::now();
        // It has been told to end.
        let _ = self.task.await;
        self.roll.0.lock().unwrap().remove(&self.number);
        begun
    }
}

struct Life {
    wire: Wire,
    id: String,
    topic: TopicId,
    number: usize,
    roll: Roll,
}

impl Life {
    async fn live(mut self, mut stopped: oneshot::Receiver<()>) -> Instant {
        let mut request = Request {
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            subscribed_topic_names: Some(vec![TOPIC.into()]),
            topic_partitions: Some(Vec::new()),
            ..self.beat(JOIN)
        };
        let mut owned = BTreeSet::new();
        loop {
            let answer = self.ask(&request).await;
            let assigned = self.assigned(&answer);
            let changed = assigned.filter(|assigned| *assigned != owned);
            let has_changed = changed.is_some();
            owned = changed.unwrap_or(owned);
            self.note(answer.member_epoch, &owned);
            request = self.beat(answer.member_epoch);
            if has_changed {
                request.topic_partitions = Some(self.named(&owned));
                continue;
            }
            let ms = answer.heartbeat_interval_ms.try_into().unwrap();
            tokio::select! {
                () = sleep(Duration::from_millis(ms)) => {}
                _ = &mut stopped => break,
            }
        }
        let begun = Instant::now();
        let leave = self.beat(LEAVE);
        self.ask(&leave).await;
        begun
    }

    fn beat(&self, epoch: i32) -> Request {
        Request {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            ..Request::default()
        }
    }

    async fn ask(&mut self, request: &Request) -> Response {
        loop {
            let asked = self.wire.ask::<consumer_group_heartbeat::Api>(request);
            let answer = asked.await;
            match answer.error_code {
                ErrorCode::None => return answer,
                ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator => {
                    sleep(PAUSE).await;
                }
                code => panic!("{} is told {code}: {:?}", self.id, answer.error_message),
            }
        }
    }

    /// There is only one topic.
    fn assigned(&mut self, answer: &Response) -> Option<BTreeSet<i32>> {
        let topics = &answer.assignment.as_ref()?.topic_partitions;
        if let Some(topic) = topics.first() {
            self.topic = topic.topic_id;
        }
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        Some(partitions.copied().collect())
    }

    fn named(&self, owned: &BTreeSet<i32>) -> Vec<TopicPartitions> {
        match owned.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions {
                topic_id: self.topic,
                partitions: owned.iter().copied().collect(),
            }],
        }
    }

    fn note(&self, epoch: i32, owned: &BTreeSet<i32>) {
        let mut roll = self.roll.0.lock().unwrap();
        let standing = roll.entry(self.number).or_default();
        standing.epoch = epoch;
        standing.owned = owned.clone();
        standing.heartbeats += 1;
    }
}

/// A cluster with the topic, and where Kafka's clients reach the group's coordinator.
async fn start(settings: &[(&str, &str)]) -> (Cluster, String) {
    let cluster = Cluster::start_over(NODES.len(), |_, _, address| address.into(), settings);
    let client = cluster.client().await;
    cluster.create_with(&client, TOPIC, PARTITIONS as i32).await;
    let coordinator = coordinator(&cluster).await;
    (cluster, coordinator)
}

/// Many members, and the epoch in which they share all partitions.
async fn gather(coordinator: &str, roll: &Roll) -> (Vec<Member>, i32) {
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(Member::start(coordinator, number, roll).await);
    }
    let epoch = roll.await_shared(MEMBERS, 0).await;
    (members, epoch)
}

/// What heartbeats cost while nothing happens, of which there are as many as of 10,000 members by default.
pub async fn measure_rest() {
    let settings = [("KLAMM__GROUPS__CONSUMER_HEARTBEAT_INTERVAL_MS", "10")];
    let (cluster, coordinator) = start(&settings).await;
    let processes = processes(&cluster).await;
    let roll = Roll::default();
    let (members, _) = gather(&coordinator, &roll).await;
    let before = roll.heartbeats();
    let busy = cpu_while_resting(&processes).await;
    let heartbeats = (roll.heartbeats() - before) as f64;
    for member in members {
        member.leave().await;
    }
    let idle = cpu_while_resting(&processes).await;
    let used = busy.saturating_sub(idle).as_secs_f64();
    println!(
        "| {MEMBERS} members rest that are heard each 10 ms: heartbeats; CPU of all nodes for them, and for each | {:.0} a second; {:.1} % of a core, {:.1} µs |",
        heartbeats / REST.as_secs_f64(),
        100.0 * used / REST.as_secs_f64(),
        1e6 * used / heartbeats
    );
}

pub async fn measure(rounds: usize) {
    let session = SESSION.as_millis().to_string();
    let settings = [("KLAMM__GROUPS__CONSUMER_SESSION_TIMEOUT_MS", &*session)];
    let (_cluster, coordinator) = start(&settings).await;
    let (roll, begun) = (Roll::default(), Instant::now());
    let (mut members, mut epoch) = gather(&coordinator, &roll).await;
    let took = begun.elapsed().as_millis();
    println!("| {MEMBERS} members of the consumer protocol (KIP-848) share {PARTITIONS} partitions after they were started at once | {took} ms |");

    let (mut leaves, mut losses) = (Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        let going = members.swap_remove(round % members.len());
        let (times, begun) = match round < rounds {
            true => (&mut leaves, going.leave().await),
            false => (&mut losses, going.vanish().await),
        };
        epoch = roll.await_shared(MEMBERS - 1, epoch).await;
        times.push(begun.elapsed());
        let coming = Member::start(&coordinator, MEMBERS + round, &roll);
        members.push(coming.await);
        epoch = roll.await_shared(MEMBERS, epoch).await;
    }
    println!(
        "| one of {MEMBERS} leaves: until the others have all {PARTITIONS} partitions, each in the new epoch, KIP-848 | {} |",
        summary(leaves)
    );
    println!(
        "| one says nothing more, its session is {} s: the same | {} |",
        SESSION.as_secs(),
        summary(losses)
    );
    for member in members {
        member.leave().await;
    }
}

/// Where Kafka's clients reach the group's coordinator.
async fn coordinator(cluster: &Cluster) -> String {
    let nodes = cluster.kafka();
    let mut wire = Wire::connect(nodes.split(',').next().unwrap()).await;
    let request = find_coordinator::Request {
        coordinator_keys: vec![GROUP.into()],
        key_type: KEY_GROUP,
        ..Default::default()
    };
    let begun = Instant::now();
    loop {
        let answer = wire.ask::<find_coordinator::Api>(&request).await;
        let found = &answer.coordinators[0];
        if found.error_code.is_ok() {
            return format!("{}:{}", found.host, found.port);
        }
        assert!(begun.elapsed() < WAIT_MAX, "{found:?}");
        sleep(PAUSE).await;
    }
}

/// What all nodes together use meanwhile.
async fn cpu_while_resting(processes: &[u32]) -> Duration {
    let before = cpu(processes);
    sleep(REST).await;
    cpu(processes) - before
}

/// Each node tells its own.
async fn processes(cluster: &Cluster) -> Vec<u32> {
    let mut processes = Vec::new();
    for node in NODES {
        let client = cluster.client_of(node).await;
        let brokers = client.admin().describe_cluster().await.unwrap().brokers;
        let told = brokers.iter().find(|broker| broker.broker_id == node);
        processes.push(told.unwrap().process_id);
    }
    processes
}

/// User's and system's time of `/proc/<pid>/stat`, of threads that have ended too.
fn cpu(processes: &[u32]) -> Duration {
    let ticks = processes.iter().map(|process| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let fields = after_name.split_ascii_whitespace().skip(11).take(2);
        fields
            .map(|ticks| ticks.parse::<u32>().unwrap())
            .sum::<u32>()
    });
    ticks.sum::<u32>() * TICK
}
