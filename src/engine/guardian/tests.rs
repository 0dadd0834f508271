//! The guardian's decisions as a script: each line with `>` is an event, and what follows it is
//! what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::*;
use crate::engine::golden::assert_plays;
use crate::engine::metadata::{BrokerState, MetadataCommand, PartitionChange};

const NODE: BrokerId = BrokerId(1);
const LIFE: Incarnation = Incarnation(Uuid::from_u128(7));

struct Script {
    image: MetadataImage,
    guardian: Guardianship,
    /// What the next guardian finds.
    found: BTreeMap<PartitionId, Found>,
}

impl Script {
    fn new() -> Script {
        Script {
            image: MetadataImage::default(),
            guardian: Guardianship::new(NODE, LIFE, BrokerDefaults::default()),
            found: BTreeMap::new(),
        }
    }

    fn run(&mut self, event: &str) -> Vec<Effect> {
        let words: Vec<&str> = event.split_whitespace().collect();
        match words[..] {
            ["create", topic, partitions] => self.change(MetadataCommand::CreateTopic {
                name: topic.parse().unwrap(),
                id: topic_id(topic),
                partitions: vec![vec![NODE, BrokerId(2)]; partitions.parse().unwrap()],
                configs: BTreeMap::new(),
            }),
            ["delete", topic] => self.change(MetadataCommand::DeleteTopic {
                id: topic_id(topic),
            }),
            ["retain", topic, ms] => self.change(MetadataCommand::SetTopicConfigs {
                id: topic_id(topic),
                set: BTreeMap::from([("retention.ms".into(), ms.into())]),
                removed: BTreeSet::new(),
            }),
            ["leader", partition, leader, "epoch", epoch] => {
                self.change(MetadataCommand::ChangePartitionLeader {
                    partition: partition_id(partition),
                    leader: BrokerId(leader.parse().unwrap()),
                    leader_epoch: LeaderEpoch(epoch.parse().unwrap()),
                })
            }
            ["replicas", partition, replicas] => self.move_to(partition_id(partition), replicas),
            ["settled", partition] => {
                let effect = self.guardian.settled(partition_id(partition));
                Vec::from_iter(effect)
            }
            ["there", "is", partition, ref what @ ..] => {
                let found = found(what);
                self.found.insert(partition_id(partition), found);
                Vec::new()
            }
            ["inherits", partition, ref what @ ..] => {
                let id = partition_id(partition);
                Vec::from_iter(self.guardian.inherit(id, &self.image, found(what)))
            }
            ["a", "guardian", "that", "knows", "nothing"] => {
                self.guardian = Script::new().guardian;
                Vec::new()
            }
            ["another", "guardian"] => {
                self.guardian = Script::new().guardian;
                self.reconcile()
            }
            ["opened", partition, "life", life] => {
                let life = life.parse().unwrap();
                self.guardian.opened(partition_id(partition), life, Ok(()))
            }
            ["failed", partition, "life", life] => {
                let life = life.parse().unwrap();
                let reason = Unopened::Broken("the disk is gone".into());
                let id = partition_id(partition);
                self.guardian.opened(id, life, Err(reason))
            }
            ["full", partition, "life", life] => {
                let life = life.parse().unwrap();
                let reason = Unopened::NoRoom("the disk is full".into());
                let id = partition_id(partition);
                self.guardian.opened(id, life, Err(reason))
            }
            ["missing", partition, "life", life] => {
                let life = life.parse().unwrap();
                let reason = Unopened::Missing("no directory".into());
                let id = partition_id(partition);
                self.guardian.opened(id, life, Err(reason))
            }
            ["unreadable", partition, "life", life] => {
                let life = life.parse().unwrap();
                let reason = Unopened::Corrupt("a bad checksum".into());
                let id = partition_id(partition);
                self.guardian.opened(id, life, Err(reason))
            }
            ["corrupt", partition, "life", life] => {
                let life = life.parse().unwrap();
                Vec::from_iter(self.guardian.corrupt(partition_id(partition), life))
            }
            ["kept", partition] => Vec::from_iter(self.guardian.log_kept(partition_id(partition))),
            ["registered", "life", life] => self.change(MetadataCommand::RegisterBroker {
                id: NODE,
                incarnation: Incarnation(Uuid::from_u128(life.parse().unwrap())),
                endpoints: Vec::new(),
                rack: None,
                state: BrokerState::Unfenced,
                metadata_version_max: None,
            }),
            ["isr", partition, members] => self.members(partition, Some(members), None),
            ["eligible", partition, members] => self.members(partition, None, Some(members)),
            ["released", partition, "life", life] => {
                let life = life.parse().unwrap();
                self.guardian
                    .released(partition_id(partition), life, Ok(()))
            }
            ["lost", partition, "life", life, "after", age] => {
                let (life, lost) = (life.parse().unwrap(), Err(time(age)));
                self.guardian.released(partition_id(partition), life, lost)
            }
            ["died", partition, "life", life, "after", age] => {
                let life = life.parse().unwrap();
                self.guardian.died(partition_id(partition), life, time(age))
            }
            ["close"] => self.guardian.close(),
            ["refused", partition, "epoch", seen, "after", after] => {
                let seen = LeaderEpoch(seen.parse().unwrap());
                let id = partition_id(partition);
                let effect = self.guardian.epoch_refused(id, seen, time(after));
                Vec::from_iter(effect)
            }
            _ => panic!("{event:?} is no event"),
        }
    }

    fn members(
        &mut self,
        partition: &str,
        isr: Option<&str>,
        eligible: Option<&str>,
    ) -> Vec<Effect> {
        let id = partition_id(partition);
        let ids = |text: &str| {
            let ids = text.split(',').filter(|id| *id != "none");
            ids.map(|id| BrokerId(id.parse().unwrap())).collect()
        };
        let change = PartitionChange {
            partition: id.partition,
            seen: self.image.partition(id).unwrap().partition_epoch,
            isr: isr.map(ids),
            eligible_leaders: eligible.map(ids),
            ..PartitionChange::default()
        };
        self.change(MetadataCommand::ChangePartitions {
            topic: id.topic_id,
            changes: vec![change],
        })
    }

    fn change(&mut self, command: MetadataCommand) -> Vec<Effect> {
        self.image.replay(&command);
        self.reconcile()
    }

    /// The first of them leads.
    fn move_to(&mut self, id: PartitionId, replicas: &str) -> Vec<Effect> {
        let replicas = replicas.split(',').map(|id| BrokerId(id.parse().unwrap()));
        let replicas: Vec<BrokerId> = replicas.collect();
        let change = PartitionChange {
            partition: id.partition,
            seen: self.image.partition(id).unwrap().partition_epoch,
            leader: replicas.first().copied(),
            isr: Some(replicas.clone()),
            replicas: Some(replicas),
            ..PartitionChange::default()
        };
        self.change(MetadataCommand::ChangePartitions {
            topic: id.topic_id,
            changes: vec![change],
        })
    }

    fn reconcile(&mut self) -> Vec<Effect> {
        let found = &self.found;
        self.guardian.reconcile(&self.image, |id, _| {
            found.get(&id).copied().unwrap_or(Found::Nothing)
        })
    }

    fn tell(&self, effect: &Effect) -> String {
        match effect {
            Effect::Open {
                id,
                life,
                config,
                last_user,
                if_lost,
                after,
            } => format!(
                "open {}{} life {life} retention {} of {last_user:?} after {after:?}",
                name(id),
                match if_lost {
                    IfLost::Refuse => "",
                    IfLost::BeginEmpty => " or begin it empty,",
                },
                retention(config)
            ),
            Effect::Start {
                id,
                role,
                life,
                assignment,
            } => format!(
                "start {} {role:?} life {life} {}",
                name(id),
                told(assignment)
            ),
            Effect::Release { id, life } => format!("release {} life {life}", name(id)),
            Effect::Update { id, assignment } => {
                format!("update {} {}", name(id), told(assignment))
            }
            Effect::TakeOffline { id, reason } => format!("offline {}: {reason}", name(id)),
            Effect::Mourn { id } => format!("mourn {}", name(id)),
            Effect::RaiseEpoch { id, seen, after } => {
                format!("raise {} epoch {seen} after {after:?}", name(id))
            }
            Effect::GiveUpLog { id, after } => {
                format!("give up the log of {} after {after:?}", name(id))
            }
            Effect::Close { id, fate } => format!("close {} {fate:?}", name(id)),
            Effect::Settle { id, fate } => format!("settle {} {fate:?}", name(id)),
            Effect::Publish => {
                let published = self.guardian.published();
                let names: Vec<String> = published.map(|(id, _, _)| name(&id)).collect();
                format!("publish [{}]", names.join(" "))
            }
            Effect::Touch => "touch".into(),
            Effect::AllClosed { well: true } => "all closed".into(),
            Effect::AllClosed { well: false } => "all closed, and not all well".into(),
        }
    }
}

fn told(assignment: &Assignment) -> String {
    let partition = &assignment.partition;
    format!(
        "leader {} epoch {} retention {}",
        partition.leader,
        partition.leader_epoch,
        retention(&assignment.config)
    )
}

fn retention(config: &TopicConfig) -> i64 {
    config.retention_ms.unwrap_or(-1)
}

fn found(words: &[&str]) -> Found {
    match *words {
        ["leading", "life", life] => Found::AtWork {
            role: Role::Leader,
            life: life.parse().unwrap(),
        },
        ["following", "life", life] => Found::AtWork {
            role: Role::Follower,
            life: life.parse().unwrap(),
        },
        ["offline", "life", life] => Found::Offline {
            life: life.parse().unwrap(),
        },
        ["dead", "life", life, "after", age] => Found::Dead {
            life: life.parse().unwrap(),
            age: time(age),
        },
        _ => panic!("{words:?} can't be found"),
    }
}

/// Milliseconds.
fn time(text: &str) -> Duration {
    Duration::from_millis(text.trim_end_matches("ms").parse().unwrap())
}

/// A topic's id is its name.
fn topic_id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    TopicId(Uuid::from_bytes(bytes))
}

fn partition_id(text: &str) -> PartitionId {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    PartitionId {
        topic_id: topic_id(topic),
        partition: partition.parse().unwrap(),
    }
}

fn name(id: &PartitionId) -> String {
    let bytes = id.topic_id.0.as_bytes();
    let name = std::str::from_utf8(bytes).unwrap().trim_end_matches('\0');
    format!("{name}-{}", id.partition)
}

#[test]
fn every_transition_is_as_written() {
    let golden = include_str!("guardian.golden");
    assert_plays(golden, Script::new, |script, event| {
        let effects = script.run(event);
        let told = effects.iter().map(|effect| script.tell(effect) + "\n");
        told.collect()
    });
}
