//! What can befall a cluster. Each fault is over when [`Fault::befall`] returns; healing is up to the
//! nodes.

use std::fmt;
use std::time::Duration;

use klamm::client::Client;
use tokio::time::sleep;

use crate::cluster::{Cluster, NODES, PARTITIONS};
use crate::proxy::{Mischief, Way, BOTH};
use crate::seed::Seed;

/// How long a fault lasts at most that lasts. Longer than a broker's session, so that others take over,
/// and often shorter, so that they nearly do.
const LASTS_MAX_MS: u64 = 3_000;
/// A link's delay at most.
const DELAY_MAX_MS: u64 = 300;

/// One or several nodes.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    Node(i32),
    /// Whoever leads this partition.
    Leader(i32),
}

/// In which directions bytes between two nodes don't pass.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// What the node says isn't heard.
    Mute,
    /// It hears nothing.
    Deaf,
    Both,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// kill -9, and a new start.
    Kill(Victim, Duration),
    KillMajority(i32, Duration),
    KillAll,
    /// SIGSTOP, and SIGCONT.
    Pause(Victim, Duration),
    /// In good order, one after the other.
    RollingRestart,
    /// From all others.
    CutOff(Victim, Cut, Duration),
    /// Two nodes don't reach each other; both reach the third.
    CutLink(i32, i32, Cut, Duration),
    Delay(Victim, Duration, Duration),
    Reset(Victim),
    /// Bytes are flipped, lost or repeated on all of a node's links.
    Garble(Victim, Mischief),
    #[cfg(feature = "chaos")]
    BreakActor(Victim, Breakage, Broken),
    #[cfg(feature = "chaos")]
    PowerLoss(u64),
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
    Replica(i32),
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
        let victim = match seed.below(2) {
            0 => Victim::Node(node(seed)),
            _ => Victim::Leader(seed.below(PARTITIONS as u64) as i32),
        };
        let lasts = Duration::from_millis(seed.below(LASTS_MAX_MS));
        let cut = match seed.below(3) {
            0 => Cut::Mute,
            1 => Cut::Deaf,
            _ => Cut::Both,
        };
        let mischief = match seed.below(3) {
            0 => Mischief::Flip,
            1 => Mischief::Lose,
            _ => Mischief::Repeat,
        };
        let kinds = if cfg!(feature = "chaos") { 12 } else { 10 };
        match seed.below(kinds) {
            0 => Fault::Kill(victim, lasts),
            1 => Fault::KillMajority(node(seed), lasts),
            2 => Fault::KillAll,
            3 => Fault::Pause(victim, lasts),
            4 => Fault::RollingRestart,
            5 => Fault::CutOff(victim, cut, lasts),
            6 => {
                let from = node(seed);
                Fault::CutLink(from, from % 3 + 1, cut, lasts)
            }
            7 => {
                let delay = Duration::from_millis(seed.below(DELAY_MAX_MS));
                Fault::Delay(victim, delay, lasts)
            }
            8 => Fault::Reset(victim),
            #[cfg(feature = "chaos")]
            10 => {
                let breakage = match seed.below(3) {
                    0 => Breakage::Stop,
                    1 => Breakage::Panic,
                    _ => Breakage::Stall(lasts),
                };
                let broken = match seed.below(4) {
                    0 => Broken::Controller,
                    1 => Broken::Guardian,
                    _ => Broken::Replica(seed.below(PARTITIONS as u64) as i32),
                };
                Fault::BreakActor(victim, breakage, broken)
            }
            #[cfg(feature = "chaos")]
            11 => Fault::PowerLoss(seed.below(u64::MAX)),
            _ => Fault::Garble(victim, mischief),
        }
    }

    pub async fn befall(&self, cluster: &mut Cluster, client: &Client) {
        match self {
            Fault::Kill(victim, lasts) => {
                let victim = victim.find(cluster, client).await;
                cluster.node(victim).kill();
                sleep(*lasts).await;
                start(cluster, &[victim]);
            }
            Fault::KillMajority(survivor, lasts) => {
                let victims = others(*survivor);
                kill(cluster, &victims);
                sleep(*lasts).await;
                start(cluster, &victims);
            }
            Fault::KillAll => {
                kill(cluster, &NODES);
                start(cluster, &NODES);
            }
            Fault::Pause(victim, lasts) => {
                let victim = victim.find(cluster, client).await;
                cluster.node(victim).signal("STOP");
                sleep(*lasts).await;
                cluster.node(victim).signal("CONT");
            }
            Fault::RollingRestart => {
                for id in NODES {
                    cluster.node(id).terminate();
                    start(cluster, &[id]);
                    // Else two may be away at once.
                    cluster.await_in_sync().await;
                }
            }
            Fault::CutOff(victim, cut, lasts) => {
                let victim = victim.find(cluster, client).await;
                for other in others(victim) {
                    cut_link(cluster, victim, other, *cut);
                }
                sleep(*lasts).await;
                heal(cluster);
            }
            Fault::CutLink(from, to, cut, lasts) => {
                cut_link(cluster, *from, *to, *cut);
                sleep(*lasts).await;
                heal(cluster);
            }
            Fault::Delay(victim, delay, lasts) => {
                let victim = victim.find(cluster, client).await;
                on_each_link(cluster, victim, |proxy| {
                    BOTH.into_iter().for_each(|way| proxy.delay(way, *delay));
                });
                sleep(*lasts).await;
                heal(cluster);
            }
            Fault::Reset(victim) => {
                let victim = victim.find(cluster, client).await;
                on_each_link(cluster, victim, |proxy| proxy.reset());
            }
            Fault::Garble(victim, mischief) => {
                let victim = victim.find(cluster, client).await;
                on_each_link(cluster, victim, |proxy| {
                    BOTH.into_iter()
                        .for_each(|way| proxy.mischief(way, *mischief));
                });
            }
            #[cfg(feature = "chaos")]
            Fault::BreakActor(victim, breakage, broken) => {
                let victim = victim.find(cluster, client).await;
                break_actor(client, victim, *breakage, *broken).await;
            }
            #[cfg(feature = "chaos")]
            Fault::PowerLoss(seed) => {
                kill(cluster, &NODES);
                let mut seed = Seed::new(*seed);
                for id in NODES {
                    crate::power::lose(&cluster.node(id).data_dir(), &mut seed);
                }
                start(cluster, &NODES);
            }
        }
    }
}

impl Victim {
    /// Any node if nobody knows who leads.
    async fn find(&self, cluster: &Cluster, client: &Client) -> i32 {
        match self {
            Victim::Node(id) => *id,
            Victim::Leader(partition) => {
                let leader = cluster.leader(client, *partition).await;
                leader.map_or(NODES[*partition as usize % NODES.len()], |id| id.0)
            }
        }
    }
}

fn node(seed: &mut Seed) -> i32 {
    NODES[seed.below(NODES.len() as u64) as usize]
}

fn others(id: i32) -> Vec<i32> {
    NODES.into_iter().filter(|other| *other != id).collect()
}

fn kill(cluster: &mut Cluster, nodes: &[i32]) {
    for id in nodes {
        cluster.node(*id).kill();
    }
}

fn start(cluster: &mut Cluster, nodes: &[i32]) {
    for id in nodes {
        cluster.node(*id).restart();
    }
    for id in nodes {
        cluster.node(*id).wait();
    }
}

/// Between two nodes, whichever of them has dialled.
fn cut_link(cluster: &Cluster, of: i32, to: i32, cut: Cut) {
    let (ours, theirs) = (cluster.way(of, to), cluster.way(to, of));
    if matches!(cut, Cut::Mute | Cut::Both) {
        ours.cut(Way::There);
        theirs.cut(Way::Back);
    }
    if matches!(cut, Cut::Deaf | Cut::Both) {
        ours.cut(Way::Back);
        theirs.cut(Way::There);
    }
}

fn heal(cluster: &Cluster) {
    for id in NODES {
        on_each_link(cluster, id, |proxy| proxy.heal());
    }
}

fn on_each_link(cluster: &Cluster, id: i32, does: impl Fn(&crate::proxy::Proxy)) {
    for other in others(id) {
        does(cluster.way(id, other));
        does(cluster.way(other, id));
    }
}

/// The node may be unreachable just now: then nothing is broken.
#[cfg(feature = "chaos")]
async fn break_actor(client: &Client, node: i32, breakage: Breakage, broken: Broken) {
    use klamm::model::BrokerId;

    let (kinds, name): (&[&str], String) = match broken {
        Broken::Replica(partition) => (
            &["partition_leader", "partition_follower"],
            format!("{}-{partition}", crate::cluster::TOPIC),
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
        let asked = admin.inject_fault(Some(BrokerId(node)), kind, &name, fault, stall);
        if asked.await.is_ok() {
            println!("          {fault}: {kind} {name} of node {node}");
        }
    }
}
