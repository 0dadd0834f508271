//! The ISR: the leader asks the controller for the one that it finds, and goes by the one that the
//! metadata say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;

use super::PartitionLeader;
use crate::actors::controller::ControllerHandle;
use crate::engine::metadata::alter_partition::{InSync, IsrProposal as Asked};
use crate::engine::metadata::change::{Change, Decided};
use crate::engine::metadata::MetadataImage;
use crate::engine::replica::IsrProposal;
use crate::model::{BrokerId, ErrorCode, Incarnation, PartitionEpoch, Timestamp};

/// After which a proposal whose outcome isn't known is made again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Whom a leader asks for an ISR.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// The latest that this node knows.
    fn image(&self) -> Arc<MetadataImage>;

    async fn change(&self, change: Change) -> Decided;
}

#[async_trait]
impl Metadata for ControllerHandle {
    fn image(&self) -> Arc<MetadataImage> {
        self.latest_image()
    }

    async fn change(&self, change: Change) -> Decided {
        self.change_one(change).await
    }
}

/// What a leader needs to ask for an ISR.
pub struct IsrKeeping {
    metadata: Arc<dyn Metadata>,
    /// A follower that lacks something for longer isn't in sync: `replica.lag.time.max.ms`.
    lag_max: Duration,
    /// In which life each follower has last acknowledged something.
    pub(super) lives: HashMap<BrokerId, Incarnation>,
}

impl IsrKeeping {
    pub fn new(metadata: Arc<dyn Metadata>, lag_max: Duration) -> IsrKeeping {
        IsrKeeping {
            metadata,
            lag_max,
            lives: HashMap::new(),
        }
    }

    pub(super) fn metadata(&self) -> Arc<dyn Metadata> {
        self.metadata.clone()
    }

    /// The latest metadata that this node knows.
    pub(super) fn image(&self) -> Arc<MetadataImage> {
        self.metadata.image()
    }
}

impl PartitionLeader {
    /// Asks for another ISR if there is reason to.
    pub(super) fn propose_isr(&mut self, context: &mut Context<Self>) {
        let lag_max_ms = i64::try_from(self.isr.lag_max.as_millis()).unwrap_or(i64::MAX);
        let image = self.isr.metadata.image();
        let may_join = |id| image.is_active(id);
        let now = Timestamp::now();
        let Some(proposal) = self.replica.propose_isr(lag_max_ms, now, may_join) else {
            return;
        };
        match self.change_to(&proposal) {
            Some(change) => self.ask_for(proposal, change, context),
            None => {
                // A member has another life than the one that we know: it has to say what it has.
                let released = self.replica.isr_refused();
                self.release(released);
            }
        }
    }

    /// However often it is asked for, the members' lives are those in which they were found in sync.
    fn ask_for(&mut self, proposal: IsrProposal, change: Change, context: &mut Context<Self>) {
        let metadata = self.isr.metadata.clone();
        let asked = change.clone();
        let asked = async move { metadata.change(asked).await };
        context.spawn(asked.into_actor(self).map(move |decided, leader, context| {
            leader.isr_decided(proposal, change, decided, context);
        }));
    }

    /// With the broker epoch of each member (KIP-903).
    pub(super) fn change_to(&self, proposal: &IsrProposal) -> Option<Change> {
        let image = self.isr.metadata.image();
        let member = |id: &BrokerId| {
            let broker = image.broker(*id)?;
            let is_known = *id == self.node || self.isr.lives.get(id) == Some(&broker.incarnation);
            is_known.then_some(InSync {
                broker: *id,
                epoch: broker.epoch,
            })
        };
        Some(Change::AlterPartition {
            leader: self.node,
            broker_epoch: image.broker(self.node)?.epoch,
            proposal: Asked {
                partition: self.pushing.partition,
                leader_epoch: proposal.leader_epoch,
                partition_epoch: PartitionEpoch(proposal.partition_epoch),
                isr: proposal.isr.iter().map(member).collect::<Option<_>>()?,
            },
        })
    }

    fn isr_decided(
        &mut self,
        proposal: IsrProposal,
        change: Change,
        decided: Decided,
        context: &mut Context<Self>,
    ) {
        if self.replica.proposed() != Some(&proposal) {
            // The metadata have moved on.
            return;
        }
        let refusal = match decided {
            // It comes with the metadata.
            Ok(commands) if !commands.is_empty() => return,
            Ok(_) => None,
            Err(refusal) => Some(refusal),
        };
        match refusal.as_ref().map(|refusal| refusal.code) {
            // Decided on what the metadata are by now, which comes.
            Some(ErrorCode::InvalidUpdateVersion | ErrorCode::FencedLeaderEpoch) => {}
            None | Some(ErrorCode::IneligibleReplica | ErrorCode::InvalidRequest) => {
                let released = self.replica.isr_refused();
                self.release(released);
            }
            Some(_) => {
                context.run_later(RETRY_INTERVAL, move |leader, context| {
                    if leader.replica.proposed() == Some(&proposal) {
                        leader.ask_for(proposal, change, context);
                    }
                });
            }
        }
        if let Some(refusal) = refusal {
            log::info!("{}: the ISR stays: {refusal}", self.vitals.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
    use uuid::Uuid;

    use super::super::tests::{lead_beside, registered, NODE, WAIT_MAX};
    use super::*;
    use crate::actors::peer::PeerIdentity;
    use crate::actors::replication::Said;
    use crate::engine::replica::Ack;
    use crate::model::{LeaderEpoch, Offset};

    const FOLLOWER: BrokerId = BrokerId(2);

    /// Metadata that nobody can change: it isn't known what becomes of what is asked for.
    struct Unreachable {
        image: Mutex<Arc<MetadataImage>>,
        asked: UnboundedSender<Change>,
    }

    #[async_trait]
    impl Metadata for Unreachable {
        fn image(&self) -> Arc<MetadataImage> {
            self.image.lock().unwrap().clone()
        }

        async fn change(&self, change: Change) -> Decided {
            self.asked.send(change).unwrap();
            Err(ErrorCode::RequestTimedOut.into())
        }
    }

    #[actix_rt::test]
    async fn what_is_asked_for_again_names_the_lives_in_which_members_were_found_in_sync() {
        let (first, second) = (7, 8);
        let image = registered(&MetadataImage::default(), NODE, 1);
        let image = registered(&image, FOLLOWER, first);
        let found_in = image.broker(FOLLOWER).unwrap().epoch;
        let (sender, mut asked) = unbounded_channel();
        let metadata = Arc::new(Unreachable {
            image: Mutex::new(Arc::new(image)),
            asked: sender,
        });

        let leader = lead_beside(FOLLOWER, metadata.clone());
        let says = |life, to| {
            let from = PeerIdentity {
                node: FOLLOWER,
                incarnation: Incarnation(Uuid::from_u128(life)),
                version: 1,
            };
            let ack = Ack {
                leader_epoch: LeaderEpoch(0),
                written: Offset(to),
                synced: Offset(to),
                log_start: Offset(0),
            };
            leader.acked(&from, Said::Ack(ack));
        };
        says(first, 1);
        let change = asked.recv().await.unwrap();

        // It comes back with another disk, and says so before the leader asks again.
        let image = registered(&metadata.image(), FOLLOWER, second);
        assert_ne!(image.broker(FOLLOWER).unwrap().epoch, found_in);
        *metadata.image.lock().unwrap() = Arc::new(image);
        says(second, 0);
        let again = tokio::time::timeout(WAIT_MAX, asked.recv()).await.unwrap();
        assert_eq!(again, Some(change.clone()));
        let Change::AlterPartition { proposal, .. } = change else {
            panic!("{change:?}");
        };
        let follower = proposal.isr.iter().find(|member| member.broker == FOLLOWER);
        assert_eq!(follower.unwrap().epoch, found_in);
    }
}
