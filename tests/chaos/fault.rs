//! What can befall a cluster. Each fault is over when [`Fault::befall`] returns; healing is up to the
//! nodes.

use std::fmt;
use std::time::Duration;

use klamm::client::Client;
use klamm::model::BrokerId;
use tokio::time::sleep;

use crate::groups::{COORDINATORS, OFFSETS_TOPIC};
use crate::network::{others, Cut, Network};
use crate::nodes::{Cluster, NODES};
use crate::proxy::{Mischief, BOTH};
use crate::seed::Seed;
use crate::writers::{PARTITIONS, TOPIC};

/// How long a fault lasts at most that lasts. Longer than a broker's session, so that others take over,
/// and often shorter, so that they nearly do.
const LASTS_MAX_MS: u64 = 3_000;
/// A link's delay at most.
const DELAY_MAX_MS: u64 = 300;
/// How many bytes still fit a disk that is full: all that comes meanwhile, or a part of the next write.
#[cfg(feature = "chaos")]
const ROOM_MAX_BYTES: u64 = 256 << 10;

/// What it befalls.
pub struct Scene {
    pub cluster: Cluster,
    pub network: Network,
    pub client: Client,
}

/// Which node.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    Node(BrokerId),
    /// Whoever leads this partition.
    Leader(i32),
    /// Whoever coordinates the groups that are kept in this partition.
    Coordinator(i32),
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// Only the groups have something to bear.
    None(Duration),
    /// kill -9, and a new start.
    Kill(Victim, Duration),
    KillMajority(BrokerId, Duration),
    KillAll,
    /// SIGSTOP, and SIGCONT.
    Pause(Victim, Duration),
    /// In good order, one after the other.
    RollingRestart,
    /// In good order, all at once, under load.
    StopAll,
    /// From all others.
    CutOff(Victim, Cut, Duration),
    /// Two nodes don't reach each other; both reach the third.
    CutLink(BrokerId, BrokerId, Cut, Duration),
    Delay(Victim, Duration, Duration),
    Reset(Victim),
    /// Bytes are flipped, lost or repeated on all of a node's links.
    Garble(Victim, Mischief),
    #[cfg(feature = "chaos")]
    BreakActor(Victim, Breakage, Broken),
    /// Only so many more bytes fit for so long.
    #[cfg(feature = "chaos")]
    FillDisk(Victim, u64, Meanwhile, Duration),
    #[cfg(feature = "chaos")]
    PowerLoss(u64),
}

/// What happens while a disk is full.
#[cfg(feature = "chaos")]
#[derive(Clone, Copy, Debug)]
pub enum Meanwhile {
    Nothing,
    /// So that there is something to take over, with all that is to be written then.
    AnotherIsKilled,
}

/// What becomes of an actor.
#[cfg(feature = "chaos")]
#[derive(Clone, Copy, Debug)]
pub enum Breakage {
    Stop,
    Panic,
    Stall(Duration),
}

/// Which actor of a node.
#[cfg(feature = "chaos")]
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// The leader or follower of this partition.
    Replica(&'static str, i32),
    /// Of the groups that are kept in this partition.
    Coordinator(i32),
    Controller,
    Guardian,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Fault {
    /// Any, with equal chances of all kinds.
    pub fn draw(seed: &mut Seed) -> Fault {
        let victim = Victim::draw(seed);
        let lasts = Duration::from_millis(seed.below(LASTS_MAX_MS));
        let cut = [Cut::Mute, Cut::Deaf, Cut::Both][seed.below(3) as usize];
        let mischief = [Mischief::Flip, Mischief::Lose, Mischief::Repeat][seed.below(3) as usize];
        let kinds = if cfg!(feature = "chaos") { 15 } else { 12 };
        match seed.below(kinds) {
            0 => Fault::None(lasts),
            1 => Fault::Kill(victim, lasts),
            2 => Fault::KillMajority(node(seed), lasts),
            3 => Fault::KillAll,
            4 => Fault::Pause(victim, lasts),
            5 => Fault::RollingRestart,
            6 => Fault::StopAll,
            7 => Fault::CutOff(victim, cut, lasts),
            8 => {
                let from = node(seed);
                Fault::CutLink(from, BrokerId(from.0 % 3 + 1), cut, lasts)
            }
            9 => {
                let delay = Duration::from_millis(seed.below(DELAY_MAX_MS));
                Fault::Delay(victim, delay, lasts)
            }
            10 => Fault::Reset(victim),
            #[cfg(feature = "chaos")]
            12 => Fault::BreakActor(victim, Breakage::draw(seed, lasts), Broken::draw(seed)),
            #[cfg(feature = "chaos")]
            13 => {
                let meanwhile = match seed.below(2) {
                    0 => Meanwhile::Nothing,
                    _ => Meanwhile::AnotherIsKilled,
                };
                Fault::FillDisk(victim, seed.below(ROOM_MAX_BYTES), meanwhile, lasts)
            }
            #[cfg(feature = "chaos")]
            14 => Fault::PowerLoss(seed.below(u64::MAX)),
            _ => Fault::Garble(victim, mischief),
        }
    }

    pub async fn befall(&self, scene: &mut Scene) {
        match self {
            Fault::None(lasts) => sleep(*lasts).await,
            Fault::Kill(victim, lasts) => {
                let victim = victim.find(scene).await;
                scene.cluster.node(victim).kill();
                sleep(*lasts).await;
                scene.cluster.restart(&[victim]);
            }
            Fault::KillMajority(survivor, lasts) => {
                let victims = others(*survivor);
                kill(&mut scene.cluster, &victims);
                sleep(*lasts).await;
                scene.cluster.restart(&victims);
            }
            Fault::KillAll => {
                kill(&mut scene.cluster, &NODES);
                scene.cluster.restart(&NODES);
            }
            Fault::Pause(victim, lasts) => {
                let victim = victim.find(scene).await;
                scene.cluster.node(victim).signal("STOP");
                sleep(*lasts).await;
                scene.cluster.node(victim).signal("CONT");
            }
            Fault::RollingRestart => {
                for id in NODES {
                    scene.cluster.node(id).terminate();
                    scene.cluster.restart(&[id]);
                    // Else two may be away at once.
                    scene.cluster.await_in_sync(TOPIC).await;
                    scene.cluster.await_in_sync(OFFSETS_TOPIC).await;
                }
            }
            Fault::StopAll => {
                scene.cluster.stop();
                scene.cluster.restart(&NODES);
            }
            Fault::CutOff(victim, cut, lasts) => {
                let victim = victim.find(scene).await;
                for other in others(victim) {
                    scene.network.cut(victim, other, *cut);
                }
                sleep(*lasts).await;
                scene.network.heal();
            }
            Fault::CutLink(from, to, cut, lasts) => {
                scene.network.cut(*from, *to, *cut);
                sleep(*lasts).await;
                scene.network.heal();
            }
            Fault::Delay(victim, delay, lasts) => {
                let victim = victim.find(scene).await;
                scene.network.on_each_link(victim, |proxy| {
                    BOTH.into_iter().for_each(|way| proxy.delay(way, *delay));
                });
                sleep(*lasts).await;
                scene.network.heal();
            }
            Fault::Reset(victim) => {
                let victim = victim.find(scene).await;
                scene.network.on_each_link(victim, |proxy| proxy.reset());
            }
            Fault::Garble(victim, mischief) => {
                let victim = victim.find(scene).await;
                scene.network.on_each_link(victim, |proxy| {
                    BOTH.into_iter()
                        .for_each(|way| proxy.mischief(way, *mischief));
                });
            }
            #[cfg(feature = "chaos")]
            Fault::BreakActor(victim, breakage, broken) => {
                let victim = victim.find(scene).await;
                break_actor(&scene.client, victim, *breakage, *broken).await;
            }
            #[cfg(feature = "chaos")]
            Fault::FillDisk(victim, room, meanwhile, lasts) => {
                let victim = victim.find(scene).await;
                fill_disk(scene, victim, *room, *meanwhile, *lasts).await;
            }
            #[cfg(feature = "chaos")]
            Fault::PowerLoss(seed) => {
                kill(&mut scene.cluster, &NODES);
                let mut seed = Seed::new(*seed);
                for id in NODES {
                    crate::power::lose(&scene.cluster.node(id).data_dir(), &mut seed);
                }
                scene.cluster.restart(&NODES);
            }
        }
    }
}

impl Victim {
    fn draw(seed: &mut Seed) -> Victim {
        match seed.below(3) {
            0 => Victim::Node(node(seed)),
            1 => Victim::Leader(seed.below(PARTITIONS as u64) as i32),
            _ => Victim::Coordinator(seed.below(COORDINATORS as u64) as i32),
        }
    }

    /// Any node if nobody knows who it is.
    async fn find(&self, scene: &Scene) -> BrokerId {
        let (topic, partition) = match self {
            Victim::Node(id) => return *id,
            Victim::Leader(partition) => (TOPIC, *partition),
            Victim::Coordinator(partition) => (OFFSETS_TOPIC, *partition),
        };
        let leader = scene.cluster.leader_of(&scene.client, topic, partition);
        let any = NODES[partition as usize % NODES.len()];
        leader.await.unwrap_or(any)
    }
}

#[cfg(feature = "chaos")]
impl Breakage {
    fn draw(seed: &mut Seed, stall: Duration) -> Breakage {
        match seed.below(3) {
            0 => Breakage::Stop,
            1 => Breakage::Panic,
            _ => Breakage::Stall(stall),
        }
    }
}

#[cfg(feature = "chaos")]
impl Broken {
    fn draw(seed: &mut Seed) -> Broken {
        match seed.below(6) {
            0 => Broken::Controller,
            1 => Broken::Guardian,
            2 => Broken::Coordinator(seed.below(COORDINATORS as u64) as i32),
            3 => Broken::Replica(OFFSETS_TOPIC, seed.below(COORDINATORS as u64) as i32),
            _ => Broken::Replica(TOPIC, seed.below(PARTITIONS as u64) as i32),
        }
    }
}

fn node(seed: &mut Seed) -> BrokerId {
    NODES[seed.below(NODES.len() as u64) as usize]
}

fn kill(cluster: &mut Cluster, nodes: &[BrokerId]) {
    for id in nodes {
        cluster.node(*id).kill();
    }
}

/// The node may be unreachable just now: then nothing is broken.
#[cfg(feature = "chaos")]
async fn break_actor(client: &Client, node: BrokerId, breakage: Breakage, broken: Broken) {
    let (kinds, name): (&[&str], String) = match broken {
        Broken::Replica(topic, partition) => (
            &["partition_leader", "partition_follower"],
            format!("{topic}-{partition}"),
        ),
        Broken::Coordinator(partition) => (
            &["group_coordinator"],
            format!("{OFFSETS_TOPIC}-{partition}"),
        ),
        Broken::Controller => (&["controller"], "controller".into()),
        Broken::Guardian => (&["guardian"], "guardian".into()),
    };
    let (fault, stall) = match breakage {
        Breakage::Stop => ("stop", Duration::ZERO),
        Breakage::Panic => ("panic", Duration::ZERO),
        Breakage::Stall(time) => ("stall", time),
    };
    for kind in kinds {
        let admin = client.admin();
        let asked = admin.inject_fault(Some(node), kind, &name, fault, stall);
        if asked.await.is_ok() {
            println!("          {fault}: {kind} {name} of node {node}");
        }
    }
}

/// A broker whose disk is full serves on, and so it hears that there is room again.
#[cfg(feature = "chaos")]
async fn fill_disk(
    scene: &mut Scene,
    node: BrokerId,
    room: u64,
    meanwhile: Meanwhile,
    lasts: Duration,
) {
    let admin = scene.client.admin();
    if admin.fill_disk(Some(node), Some(room)).await.is_err() {
        return;
    }
    println!("          the disk of node {node} is full");
    sleep(lasts / 2).await;
    let other = others(node)[0];
    if let Meanwhile::AnotherIsKilled = meanwhile {
        scene.cluster.node(other).kill();
    }
    sleep(lasts / 2).await;
    admin.fill_disk(Some(node), None).await.unwrap();
    if let Meanwhile::AnotherIsKilled = meanwhile {
        scene.cluster.restart(&[other]);
    }
}
