//! The metadata: the real decisions of the controller, in one log that is always agreed on.
//!
//! Raft is a list of images here. Each node knows one of them, and seldom the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use klamm::engine::metadata::alter_partition::InSync;
use klamm::engine::metadata::change::{Change, ChangeSettings, Decided};
use klamm::engine::metadata::create_topics::NewTopicDefaults;
use klamm::engine::metadata::register_broker::{BrokerRegistration, Past};
use klamm::engine::metadata::{
    BrokerDefaults, BrokerState, Endpoint, MetadataCommand, MetadataImage, MetadataLimits,
    Partition,
};
use klamm::model::{BrokerId, ErrorCode, Incarnation, PartitionId, Refusal, TopicId};
use uuid::Uuid;

use crate::rules::Broken;
use crate::NODES;

pub const PARTITION: PartitionId = PartitionId {
    topic_id: TopicId(Uuid::from_u128(1)),
    partition: 0,
};

pub fn id(node: usize) -> BrokerId {
    BrokerId(node as i32)
}

pub fn incarnation(life: u64) -> Incarnation {
    Incarnation(Uuid::from_u128(u128::from(life)))
}

pub struct Metadata {
    images: Vec<Arc<MetadataImage>>,
    settings: ChangeSettings,
    broken: Broken,
}

impl Metadata {
    /// A topic with one partition, which all nodes have.
    pub fn new(broken: Broken) -> Metadata {
        let unclean = (broken == Broken::UncleanElection).to_string();
        let defaults = [
            ("min.insync.replicas", "2".to_string()),
            ("unclean.leader.election.enable", unclean),
        ];
        let defaults = BrokerDefaults::new(defaults).unwrap();
        let mut metadata = Metadata {
            images: vec![Arc::default()],
            settings: ChangeSettings {
                new_topics: NewTopicDefaults {
                    partitions: 1,
                    replication_factor: NODES as i16,
                },
                defaults,
                limits: MetadataLimits::default(),
                voters: (0..NODES).map(id).collect(),
            },
            broken,
        };
        for node in 0..NODES {
            metadata.register(node, node as u64, Past::Unknown, BTreeSet::new());
            metadata.set_there(node, true);
        }
        metadata.commit(&[MetadataCommand::CreateTopic {
            name: "orders".parse().unwrap(),
            id: PARTITION.topic_id,
            partitions: vec![(0..NODES).map(id).collect()],
            configs: BTreeMap::new(),
        }]);
        metadata
    }

    pub fn defaults(&self) -> BrokerDefaults {
        self.settings.defaults.clone()
    }

    pub fn newest(&self) -> usize {
        self.images.len() - 1
    }

    pub fn image(&self, number: usize) -> &Arc<MetadataImage> {
        &self.images[number]
    }

    pub fn latest(&self) -> &Arc<MetadataImage> {
        &self.images[self.newest()]
    }

    pub fn partition(&self) -> &Partition {
        self.latest().partition(PARTITION).unwrap()
    }

    fn commit(&mut self, commands: &[MetadataCommand]) {
        if commands.is_empty() {
            return;
        }
        let mut image = MetadataImage::clone(self.latest());
        commands.iter().for_each(|command| image.replay(command));
        self.images.push(Arc::new(image));
    }

    pub fn decide(&mut self, change: &Change) -> Decided {
        let change = match (self.broken, change.clone()) {
            (
                Broken::ProposalOfAnyLife,
                Change::AlterPartition {
                    leader,
                    broker_epoch,
                    mut proposal,
                },
            ) => {
                let image = self.latest();
                proposal.isr = (proposal.isr.iter())
                    .filter_map(|member| image.broker(member.broker))
                    .map(|broker| InSync {
                        broker: broker.id,
                        epoch: broker.epoch,
                    })
                    .collect();
                Change::AlterPartition {
                    leader,
                    broker_epoch,
                    proposal,
                }
            }
            (_, change) => change,
        };
        let mut decided = change.decide(self.latest(), &self.settings);
        let decided = decided.pop().unwrap_or_else(|| {
            let code = ErrorCode::InvalidRequest;
            Err(Refusal::from(code))
        });
        if let Ok(commands) = &decided {
            self.commit(commands);
        }
        decided
    }

    pub fn register(&mut self, node: usize, life: u64, past: Past, lost: BTreeSet<PartitionId>) {
        let registration = BrokerRegistration {
            cluster_id: None,
            id: id(node),
            incarnation: incarnation(life),
            endpoints: vec![Endpoint {
                listener: "native".into(),
                host: "localhost".into(),
                port: 7070,
            }],
            rack: None,
            past,
            lost,
            metadata_version_max: None,
        };
        let registered = self.decide(&Change::RegisterBroker(registration));
        registered.expect("it may register");
    }

    /// The controller has found that a broker is there, or isn't.
    pub fn set_there(&mut self, node: usize, is_there: bool) {
        let Some(known) = self.latest().broker(id(node)) else {
            return;
        };
        let (broker, epoch) = (known.id, known.epoch);
        let change = match (known.state, is_there) {
            (BrokerState::Fenced, true) => Change::UnfenceBroker { broker, epoch },
            (BrokerState::Unfenced | BrokerState::ShuttingDown, false) => {
                Change::FenceBroker { broker, epoch }
            }
            _ => return,
        };
        self.decide(&change).expect("its epoch is the present one");
    }

    /// Whether the life of a broker is the one that is registered.
    pub fn knows(&self, node: usize, life: u64) -> bool {
        let known = self.latest().broker(id(node));
        known.is_some_and(|broker| broker.incarnation == incarnation(life))
    }
}
