//! The simulator: three nodes with the replicas of one partition, and their controller, in one thread under a
//! seed. The cores are the broker's own: the leader's and the follower's replica, the guardian, and all
//! decisions about the metadata. Only logs, links and Raft are models.
//!
//! What befalls them: messages are late, lost, and even twice or in another order; nodes are killed, and lose
//! what isn't synced, or the log, or the disk; actors die; clocks step; disks are slow; the controller takes
//! a broker for gone that isn't; metadata come late, requests for an ISR are lost, and so are the answers;
//! records are deleted.
//!
//! Held after each step: what was once committed at an offset is never another record, on whichever leader;
//! what can be read on any replica is committed, and lies within its log; nothing is acknowledged that fewer
//! replicas have than `min.insync.replicas`; whoever is in sync and there has all that is
//! committed; no log starts where nobody has deleted. In the end, when all is
//! well again, all replicas are in sync, their logs are equal, and hold every acknowledged record.
//!
//! In half of all worlds nothing is synced before it is acknowledged (`log.flush = "os"`). There a node is
//! killed only while another one has what it may lose.
//!
//! # The rules, and who breaks them
//!
//! A checker that has not been seen to fail is none: each rule can be broken on purpose ([`Broken`]), and is
//! found within [`SEEDS_TO_FIND`] seeds.
//!
//! | rule | switches |
//! |---|---|
//! | 1 a log is cut by leader epoch, never by high watermark (KIP-101) | `TruncateByHighWatermark` |
//! | 2 a look-up is repeated until the logs share offset and epoch (KIP-279) | `OneLookUp` |
//! | 3 pushes and look-ups are fenced by the epoch, and say what they continue (KIP-320) | `StalePushTaken`, `AnyPushFits`, `StartFitsAnything` |
//! | 4 the high watermark goes by acknowledgements of the ISR in this epoch; a follower's is within its log | `StaleAckTaken`, `AloneInSync`, `HighWatermarkAboveEnd` |
//! | 5 the ISR grows by those who have caught up, and changes when that is committed | `JoinsBehind`, `LeavesBeforeCommitted` |
//! | 6 nothing is committed with fewer than `min.insync.replicas` in sync (KIP-966) | `BelowMinimum` |
//! | 7 nobody is elected from outside of ISR and eligible leaders | `UncleanElection` |
//! | 8 the mark of a clean shutdown is good once; without it a broker is in no ISR and not eligible | `UncleanCountsAsClean`, `CleanMarkStays` |
//! | 9 a proposal for the ISR names lives (KIP-903) | `ProposalOfAnyLife`, `RetryInAnotherLife` |
//! | 10 acknowledged is what is synced | `AckBeforeSync` |
//! | 14 what is missing isn't begun empty without a proof | `LostLogBeginsEmpty` |
//!
//! `KLAMM_SEEDS` says how many seeds, and `KLAMM_SEED` which is the first.
#![cfg(feature = "broker")]

mod control;
mod links;
mod log;
mod metadata;
mod node;
mod random;
mod records;
mod rules;
mod truth;
mod world;

use rules::Broken;
use world::World;

const NODES: usize = 3;
const STEPS: usize = 4_000;
/// Seeds when nobody asks for more.
const SEEDS: u64 = 300;
/// Within so many seeds each broken rule is found.
const SEEDS_TO_FIND: u64 = 5_000;

/// How many records were acknowledged.
fn run(seed: u64, broken: Broken) -> Result<usize, String> {
    let mut world = World::new(seed, broken);
    world.run(STEPS)?;
    Ok(world.acknowledged())
}

#[test]
fn what_is_acknowledged_is_kept_and_all_logs_agree_under_any_seed() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (first, seeds) = (number("KLAMM_SEED", 1), number("KLAMM_SEEDS", SEEDS));
    let mut acknowledged = 0;
    for seed in first..first + seeds {
        match run(seed, Broken::Nothing) {
            Ok(count) => acknowledged += count as u64,
            Err(error) => panic!("seed {seed}, {error}"),
        }
    }
    println!("{seeds} seeds, {acknowledged} records acknowledged");
    // One seed may be all storm.
    let is_alive = seeds < 100 || acknowledged > 10 * seeds;
    assert!(is_alive, "{acknowledged} in {seeds} seeds");
}

#[test]
fn each_broken_rule_is_found() {
    let mut missed = Vec::new();
    for broken in Broken::ALL {
        let seeds = 1..=SEEDS_TO_FIND;
        let found = seeds
            .map(|seed| (seed, run(seed, broken)))
            .find(|(_, run)| run.is_err());
        match found {
            Some((seed, Err(error))) => println!("{broken:?}: seed {seed}, {error}"),
            _ => missed.push(broken),
        }
    }
    assert!(missed.is_empty(), "{missed:?} aren't found");
}
