//! The decisions about brokers and partitions as a script: each line with `>` asks for a change, and what
//! follows it is what becomes of it: the refusal, or the brokers and partitions that are changed by it.
//! A heading begins with three brokers that are there.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::engine::golden::assert_plays;
use crate::engine::metadata::alter_partition::{InSync, IsrProposal};
use crate::engine::metadata::change::{Change, ChangeSettings, Decided};
use crate::engine::metadata::create_topics::NewTopicDefaults;
use crate::engine::metadata::elect_leaders::ElectionType;
use crate::engine::metadata::reassign::{Reassignment, ReplicationFactor};
use crate::engine::metadata::register_broker::{BrokerRegistration, Past};
use crate::model::{LeaderEpoch, PartitionEpoch, PartitionId, TopicPartition};

pub fn settings() -> ChangeSettings {
    ChangeSettings {
        new_topics: NewTopicDefaults {
            partitions: 1,
            replication_factor: 1,
        },
        defaults: BrokerDefaults::default(),
        limits: MetadataLimits::default(),
        voters: Vec::new(),
    }
}

struct Script {
    image: MetadataImage,
    lives: u128,
}

impl Script {
    fn new() -> Script {
        Script {
            image: cluster(3),
            lives: 1_000,
        }
    }

    fn run(&mut self, event: &str) -> String {
        let words: Vec<&str> = event.split_whitespace().collect();
        let before = self.image.clone();
        let decided = match words[..] {
            ["topic", name, ref rest @ ..] => {
                self.create(name, rest);
                Ok(Vec::new())
            }
            ["broker", id] => {
                let id = id.parse().unwrap();
                self.image.replay(&register(id, 100 + id as u128, None));
                Ok(Vec::new())
            }
            _ => self.decide(&words),
        };
        match decided {
            Err(refusal) => format!("refused: {refusal}\n"),
            Ok(commands) => {
                commands
                    .iter()
                    .for_each(|command| self.image.replay(command));
                told(&before, &self.image)
            }
        }
    }

    /// `topic t 1,2,3 2,3,1 min=2 unclean`
    fn create(&mut self, name: &str, rest: &[&str]) {
        let mut partitions = Vec::new();
        let mut configs = BTreeMap::new();
        for word in rest {
            let set = match word.split_once('=') {
                Some(("min", value)) => Some(("min.insync.replicas", value)),
                _ if *word == "unclean" => Some(("unclean.leader.election.enable", "true")),
                _ => None,
            };
            match set {
                Some((config, value)) => {
                    configs.insert(config.to_owned(), value.to_owned());
                }
                None => partitions.push(ids(word)),
            }
        }
        self.image.replay(&MetadataCommand::CreateTopic {
            name: name.parse().unwrap(),
            id: id_of(name),
            partitions,
            configs,
        });
    }

    fn decide(&mut self, words: &[&str]) -> Decided {
        let change = match *words {
            ["fence", broker] => Change::FenceBroker {
                broker: id(broker),
                epoch: self.epoch(broker),
            },
            ["fence", broker, "epoch", epoch] => Change::FenceBroker {
                broker: id(broker),
                epoch: BrokerEpoch(epoch.parse().unwrap()),
            },
            ["unfence", broker] => Change::UnfenceBroker {
                broker: id(broker),
                epoch: self.epoch(broker),
            },
            ["shutdown", broker] => Change::ControlledShutdown {
                broker: id(broker),
                epoch: self.epoch(broker),
            },
            ["restart", broker, past] => self.restart(broker, past),
            ["isr", partition, "by", leader, isr, ref rest @ ..] => {
                self.alter_partition(partition, leader, isr, rest)
            }
            ["elect", election, partition] => Change::ElectLeaders {
                election: match election {
                    "preferred" => ElectionType::Preferred,
                    "unclean" => ElectionType::Unclean,
                    other => panic!("{other:?} is no election"),
                },
                partitions: vec![name_of(partition)],
            },
            ["lead", partition, leader] => Change::ChangeLeader {
                partition: partition_id(partition),
                leader: id(leader),
                seen: self.partition(partition).leader_epoch,
            },
            ["reassign", partition, replicas, ref rest @ ..] => Change::ReassignPartitions {
                factor: match rest {
                    [] => ReplicationFactor::MayChange,
                    ["same", "factor"] => ReplicationFactor::Stays,
                    other => panic!("{other:?} is no rule"),
                },
                partitions: vec![Reassignment {
                    partition: name_of(partition),
                    replicas: Some(ids(replicas)),
                }],
            },
            ["cancel", partition] => Change::ReassignPartitions {
                factor: ReplicationFactor::Stays,
                partitions: vec![Reassignment {
                    partition: name_of(partition),
                    replicas: None,
                }],
            },
            ["unregister", broker] => Change::UnregisterBroker { broker: id(broker) },
            _ => panic!("{words:?} is no change"),
        };
        change.decide(&self.image, &settings()).pop().unwrap()
    }

    /// With another incarnation; `kept` means that the broker has all that it acknowledged.
    fn restart(&mut self, broker: &str, past: &str) -> Change {
        self.lives += 1;
        let epoch = self.epoch(broker);
        Change::RegisterBroker(BrokerRegistration {
            cluster_id: None,
            id: id(broker),
            incarnation: Incarnation(Uuid::from_u128(self.lives)),
            endpoints: vec![endpoint(7070)],
            rack: None,
            lost: Default::default(),
            metadata_version_max: None,
            past: match past {
                "kept" => Past::Kept(epoch),
                "kept-of-before" => Past::Kept(BrokerEpoch(epoch.0 - 1)),
                "unclean" => Past::Unclean(epoch),
                "wiped" => Past::Unknown,
                other => panic!("{other:?} is no past"),
            },
        })
    }

    /// In the epochs of now, unless others are named: `leader-epoch 7`, `partition-epoch 7`, `broker-epoch 7`
    /// of the leader, `member-epoch 7` of all members.
    fn alter_partition(&self, partition: &str, leader: &str, isr: &str, rest: &[&str]) -> Change {
        let named = |what| {
            let at = rest.iter().position(|word| *word == what)?;
            Some(rest[at + 1].parse::<i64>().unwrap())
        };
        let now = self.partition(partition);
        let leader_epoch = named("leader-epoch").map(|epoch| LeaderEpoch(epoch as i32));
        let partition_epoch = named("partition-epoch").map(|epoch| PartitionEpoch(epoch as i32));
        let broker_epoch = named("broker-epoch").map(BrokerEpoch);
        let member = |broker: BrokerId| InSync {
            broker,
            epoch: named("member-epoch")
                .map_or_else(|| self.epoch(&broker.to_string()), BrokerEpoch),
        };
        Change::AlterPartition {
            leader: id(leader),
            broker_epoch: broker_epoch.unwrap_or_else(|| self.epoch(leader)),
            proposal: IsrProposal {
                partition: partition_id(partition),
                leader_epoch: leader_epoch.unwrap_or(now.leader_epoch),
                partition_epoch: partition_epoch.unwrap_or(now.partition_epoch),
                isr: ids(isr).into_iter().map(member).collect(),
            },
        }
    }

    fn epoch(&self, broker: &str) -> BrokerEpoch {
        let known = self.image.broker(id(broker));
        known.map_or(BrokerEpoch(-1), |known| known.epoch)
    }

    fn partition(&self, name: &str) -> Partition {
        let unknown = Partition {
            replicas: Vec::new(),
            leader: BrokerId::NONE,
            leader_epoch: LeaderEpoch(0),
            isr: Vec::new(),
            eligible_leaders: Vec::new(),
            partition_epoch: PartitionEpoch(0),
            last_known_leader: BrokerId::NONE,
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
        };
        let found = self.image.partition(partition_id(name));
        found.cloned().unwrap_or(unknown)
    }
}

/// What is other than it was.
fn told(before: &MetadataImage, after: &MetadataImage) -> String {
    let mut told = String::new();
    for broker in before.brokers() {
        match after.broker(broker.id) {
            None => told += &format!("broker {} is gone\n", broker.id),
            Some(now) if now != broker => {
                told += &format!("broker {} {:?}\n", broker.id, now.state);
            }
            Some(_) => {}
        }
    }
    for topic in after.topics() {
        for (number, now) in (0..).zip(&topic.partitions) {
            let id = PartitionId {
                topic_id: topic.id,
                partition: number,
            };
            if before.partition(id) != Some(&**now) {
                told += &format!("{}-{number}: {}\n", topic.name, describe(now));
            }
        }
    }
    if told.is_empty() {
        told += "nothing changes\n";
    }
    told
}

fn describe(partition: &Partition) -> String {
    let list = |ids: &[BrokerId]| {
        let ids: Vec<String> = ids.iter().map(BrokerId::to_string).collect();
        ids.join(",")
    };
    let mut told = format!(
        "leader {} epoch {} replicas {} isr {}",
        partition.leader,
        partition.leader_epoch,
        list(&partition.replicas),
        list(&partition.isr)
    );
    for (what, ids) in [
        ("eligible", &partition.eligible_leaders),
        ("adding", &partition.adding_replicas),
        ("removing", &partition.removing_replicas),
    ] {
        if !ids.is_empty() {
            told += &format!(" {what} {}", list(ids));
        }
    }
    if partition.last_known_leader != BrokerId::NONE {
        told += &format!(" last {}", partition.last_known_leader);
    }
    told
}

fn id(text: &str) -> BrokerId {
    BrokerId(text.parse().unwrap())
}

fn ids(text: &str) -> Vec<BrokerId> {
    let numbers = text.split(',').filter(|number| *number != "none");
    numbers.map(id).collect()
}

fn id_of(topic: &str) -> TopicId {
    topic_id(
        topic
            .bytes()
            .fold(0, |id, byte| id * 256 + u128::from(byte)),
    )
}

fn name_of(partition: &str) -> TopicPartition {
    let (topic, partition) = partition.rsplit_once('-').unwrap();
    TopicPartition {
        topic: topic.parse().unwrap(),
        partition: partition.parse().unwrap(),
    }
}

fn partition_id(partition: &str) -> PartitionId {
    let name = name_of(partition);
    PartitionId {
        topic_id: id_of(name.topic.as_str()),
        partition: name.partition,
    }
}

#[test]
fn every_decision_is_as_written() {
    let golden = include_str!("decisions.golden");
    assert_plays(golden, Script::new, Script::run);
}
