//! What holds after any decisions in any order, held against a model of the records: who leads has every
//! committed one, unless the topic or the operator has given that up, or nobody is left who is known to.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::decisions::settings;
use super::*;
use crate::engine::metadata::alter_partition::{InSync, IsrProposal};
use crate::engine::metadata::change::Change;
use crate::engine::metadata::elect_leaders::ElectionType;
use crate::engine::metadata::reassign::{Reassignment, ReplicationFactor};
use crate::engine::metadata::register_broker::{BrokerRegistration, Past};
use crate::model::{PartitionId, TopicPartition};

const BROKERS: i32 = 5;

/// Something happens; to which broker, partition and set of brokers is drawn.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write,
    Fence,
    Unfence,
    ShutDown,
    /// With everything, without the end of the log, or without anything.
    RestartWhole,
    RestartTorn,
    RestartWiped,
    /// The leader finds that these are in sync.
    AlterIsr,
    ElectPreferred,
    ElectUnclean,
    Reassign,
    Cancel,
    Rebuild,
    Unregister,
}

fn step() -> impl Strategy<Value = Step> {
    use Step as S;
    prop_oneof![
        8 => Just(S::Write),
        5 => Just(S::Fence),
        8 => Just(S::Unfence),
        2 => Just(S::ShutDown),
        2 => Just(S::RestartWhole),
        2 => Just(S::RestartTorn),
        1 => Just(S::RestartWiped),
        10 => Just(S::AlterIsr),
        2 => Just(S::ElectPreferred),
        1 => Just(S::ElectUnclean),
        5 => Just(S::Reassign),
        2 => Just(S::Cancel),
        1 => Just(S::Rebuild),
        1 => Just(S::Unregister),
    ]
}

/// The records of one partition: only their number counts.
#[derive(Clone, Default)]
struct Records {
    committed: u32,
    at: BTreeMap<BrokerId, u32>,
}

struct World {
    image: MetadataImage,
    records: BTreeMap<PartitionId, Records>,
    lives: u128,
}

impl World {
    /// A topic where two must be in sync, one where one is enough, and one where anybody may lead.
    fn new() -> World {
        let mut image = cluster(BROKERS);
        let mut records = BTreeMap::new();
        for (number, name, config) in [
            (1, "two", ("min.insync.replicas", "2")),
            (2, "one", ("min.insync.replicas", "1")),
            (3, "any", ("unclean.leader.election.enable", "true")),
        ] {
            let command = MetadataCommand::CreateTopic {
                name: name.parse().unwrap(),
                id: topic_id(number),
                partitions: vec![brokers(&[1, 2, 3])],
                configs: BTreeMap::from([(config.0.to_owned(), config.1.to_owned())]),
            };
            image.replay(&command);
            let id = PartitionId {
                topic_id: topic_id(number),
                partition: 0,
            };
            records.insert(id, Records::default());
        }
        World {
            image,
            records,
            lives: 1_000,
        }
    }

    fn topic(&self, id: PartitionId) -> &Topic {
        self.image.topic(id.topic_id).unwrap()
    }

    fn partition(&self, id: PartitionId) -> Partition {
        self.image.partition(id).unwrap().clone()
    }

    fn epoch(&self, broker: BrokerId) -> BrokerEpoch {
        let known = self.image.broker(broker);
        known.map_or(BrokerEpoch(-1), |known| known.epoch)
    }

    fn run(&mut self, step: Step, broker: BrokerId, number: u128, drawn: &[BrokerId]) {
        let id = PartitionId {
            topic_id: topic_id(number),
            partition: 0,
        };
        let epoch = self.epoch(broker);
        let name = TopicPartition {
            topic: self.topic(id).name.clone(),
            partition: 0,
        };
        let reassign = |replicas| Change::ReassignPartitions {
            factor: ReplicationFactor::MayChange,
            partitions: vec![Reassignment {
                partition: name.clone(),
                replicas,
            }],
        };
        let elect = |election| Change::ElectLeaders {
            election,
            partitions: vec![name.clone()],
        };
        let change = match step {
            Step::Write => return self.write(id),
            Step::Fence => Change::FenceBroker { broker, epoch },
            Step::Unfence => Change::UnfenceBroker { broker, epoch },
            Step::ShutDown => Change::ControlledShutdown { broker, epoch },
            Step::RestartWhole => self.restart(broker, Past::Kept(epoch)),
            Step::RestartTorn => self.restart(broker, Past::Unclean(epoch)),
            Step::RestartWiped => self.restart(broker, Past::Unknown),
            Step::AlterIsr => self.alter_isr(id, drawn),
            Step::ElectPreferred => elect(ElectionType::Preferred),
            Step::ElectUnclean => elect(ElectionType::Unclean),
            Step::Reassign => reassign(Some(drawn.to_vec())),
            Step::Cancel => reassign(None),
            Step::Rebuild => Change::ChangeLeader {
                partition: id,
                leader: self.partition(id).leader,
                seen: self.partition(id).leader_epoch,
            },
            Step::Unregister => Change::UnregisterBroker { broker },
        };
        let Ok(commands) = change.decide(&self.image, &settings()).pop().unwrap() else {
            return;
        };
        let before = self.image.clone();
        commands
            .iter()
            .for_each(|command| self.image.replay(command));
        let has_lost = match step {
            Step::RestartTorn | Step::RestartWiped | Step::Unregister => Some(broker),
            _ => None,
        };
        self.check(&before, has_lost, matches!(step, Step::ElectUnclean));
    }

    /// What the leader may commit is then at all who are in sync.
    fn write(&mut self, id: PartitionId) {
        let now = self.partition(id);
        let configs = &self.topic(id).configs;
        let min = TopicConfig::min_insync_replicas(configs, &settings().defaults);
        let may_commit = now.isr.len() >= now.min_in_sync(min) && now.eligible_leaders.is_empty();
        if now.leader == BrokerId::NONE || !may_commit {
            return;
        }
        let records = self.records.get_mut(&id).unwrap();
        records.committed += 1;
        for member in &now.isr {
            records.at.insert(*member, records.committed);
        }
    }

    fn restart(&mut self, broker: BrokerId, past: Past) -> Change {
        for records in self.records.values_mut() {
            let has = records.at.entry(broker).or_default();
            *has = match past {
                Past::Kept(_) => *has,
                Past::Unclean(_) => has.saturating_sub(1),
                Past::Unknown => 0,
            };
        }
        self.lives += 1;
        Change::RegisterBroker(BrokerRegistration {
            cluster_id: None,
            id: broker,
            incarnation: Incarnation(Uuid::from_u128(self.lives)),
            endpoints: vec![endpoint(7070)],
            rack: None,
            past,
            lost: Default::default(),
            metadata_version_max: None,
        })
    }

    /// The leader and those of the drawn ones that are there: they have caught up.
    fn alter_isr(&mut self, id: PartitionId, drawn: &[BrokerId]) -> Change {
        let now = self.partition(id);
        let is_member = |member: &BrokerId| {
            let wanted = *member == now.leader || drawn.contains(member);
            wanted && self.image.is_active(*member)
        };
        let isr: Vec<BrokerId> = now.replicas.iter().copied().filter(is_member).collect();
        if now.leader != BrokerId::NONE {
            let records = self.records.get_mut(&id).unwrap();
            for member in &isr {
                records.at.insert(*member, records.committed);
            }
        }
        let member = |broker: BrokerId| InSync {
            broker,
            epoch: self.epoch(broker),
        };
        Change::AlterPartition {
            leader: now.leader,
            broker_epoch: self.epoch(now.leader),
            proposal: IsrProposal {
                partition: id,
                leader_epoch: now.leader_epoch,
                partition_epoch: now.partition_epoch,
                isr: isr.into_iter().map(member).collect(),
            },
        }
    }

    fn check(&mut self, before: &MetadataImage, has_lost: Option<BrokerId>, is_unclean: bool) {
        for id in self.records.keys().copied().collect::<Vec<_>>() {
            let (was, now) = (before.partition(id).unwrap(), self.partition(id));
            sound(&self.image, &now);
            assert!(now.leader_epoch >= was.leader_epoch);
            assert!(now.partition_epoch >= was.partition_epoch);
            assert!(now.leader == was.leader || now.leader_epoch > was.leader_epoch);
            let configs = &self.topic(id).configs;
            let allows = TopicConfig::allows_unclean_election(configs, &settings().defaults);
            let mut known = was.isr.iter().chain(&was.eligible_leaders);
            let is_hopeless = known.all(|id| has_lost == Some(*id));
            let is_last_hope = is_hopeless && was.last_known_leader == now.leader;
            let records = self.records.get_mut(&id).unwrap();
            // Whose replica it isn't any more, its data is removed.
            records.at.retain(|broker, _| now.replicas.contains(broker));
            if now.leader == BrokerId::NONE || now.leader == was.leader {
                continue;
            }
            let has = records.at.get(&now.leader).copied().unwrap_or(0);
            if is_unclean || allows || is_last_hope {
                // What it lacks is gone, and said to be.
                records.committed = records.committed.min(has);
            } else {
                let (leader, committed) = (now.leader, records.committed);
                assert!(
                    has >= committed,
                    "{leader} has {has} of {committed}: {was:?} {now:?}"
                );
            }
        }
    }
}

/// What is promised of a partition itself.
fn sound(image: &MetadataImage, now: &Partition) {
    let is_replica = |id: &BrokerId| now.replicas.contains(id);
    assert!(now.isr.iter().all(is_replica), "{now:?}");
    assert!(now.eligible_leaders.iter().all(is_replica), "{now:?}");
    assert!(now.adding_replicas.iter().all(is_replica), "{now:?}");
    assert!(now.removing_replicas.iter().all(is_replica), "{now:?}");
    assert!(!now.eligible_leaders.iter().any(|id| now.isr.contains(id)));
    assert!(now.isr.iter().all(|id| image.is_active(*id)), "{now:?}");
    // Who is in sync can lead: an ISR without a leader, and a leader without one, are never.
    assert_eq!(now.leader == BrokerId::NONE, now.isr.is_empty(), "{now:?}");
    assert!(now.leader == BrokerId::NONE || now.isr.contains(&now.leader));
    assert!(now.leader == BrokerId::NONE || now.last_known_leader == BrokerId::NONE);
    assert!(!now.replicas_to_be().is_empty(), "{now:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 256,
        ..ProptestConfig::default()
    })]

    #[test]
    fn who_leads_has_every_committed_record_whatever_befalls_the_brokers(
        steps in vec(
            (step(), 1..=BROKERS, 1..=3u128, prop::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=4)),
            1..120,
        ),
    ) {
        let mut world = World::new();
        for (step, broker, number, drawn) in steps {
            world.run(step, BrokerId(broker), number, &brokers(&drawn));
        }
    }

    /// However a partition was moved, once all brokers are there and in sync it is where it shall be.
    #[test]
    fn a_reassignment_ends_when_all_are_there(
        targets in vec(
            (prop::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=4).prop_shuffle(), any::<bool>()),
            1..6,
        ),
    ) {
        let mut world = World::new();
        let all = brokers(&[1, 2, 3, 4, 5]);
        let id = PartitionId { topic_id: topic_id(1), partition: 0 };
        let mut last = Vec::new();
        for (target, catches_up) in targets {
            last = brokers(&target);
            world.run(Step::Reassign, BrokerId(1), 1, &last);
            if catches_up {
                let some = &all[..3];
                world.run(Step::AlterIsr, BrokerId(1), 1, some);
            }
        }
        world.run(Step::AlterIsr, BrokerId(1), 1, &all);
        // The first may have taken away its leader; the next one finds the rest.
        world.run(Step::AlterIsr, BrokerId(1), 1, &all);
        let now = world.partition(id);
        prop_assert!(!now.is_reassigning(), "{now:?}");
        prop_assert_eq!(now.replicas, last);
    }
}
