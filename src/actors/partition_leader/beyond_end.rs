//! Reads beyond the log's end ([`BeyondEnd`](crate::engine::replica::BeyondEnd)): the leader asks for the ISR that it
//! has, which the controller grants only to who leads.

use actix::prelude::*;

use super::PartitionLeader;
use crate::engine::replica::Beyond;
use crate::model::{ErrorCode, Offset, Refusal, Timestamp};

impl PartitionLeader {
    /// Refuses a read beyond the end as long as somebody else may lead, and know more.
    pub(super) fn check_end(
        &mut self,
        offset: Offset,
        context: &mut Context<Self>,
    ) -> Result<(), Refusal> {
        if offset <= self.keeper.log.end_offset() || !self.replica.has_others() {
            return Ok(());
        }
        match self.beyond_end.read(offset, Timestamp::now()) {
            Beyond::OutOfRange => return Ok(()),
            Beyond::Ask => self.ask_whether_it_leads(offset, context),
            Beyond::Wait => {}
        }
        let end = self.keeper.log.end_offset();
        Err(Refusal::new(
            ErrorCode::OffsetNotAvailable,
            format!(
                "offset {offset} lies beyond {end}, and it isn't confirmed that this is the leader"
            ),
        ))
    }

    fn ask_whether_it_leads(&mut self, offset: Offset, context: &mut Context<Self>) {
        let isr = self.replica.unchanged_isr();
        // `None` where a member has another life than the one that is known here: it says soon what it has.
        let Some(change) = self.change_to(&isr) else {
            return;
        };
        let metadata = self.isr.metadata();
        let asked = async move { metadata.change(change).await };
        context.spawn(asked.into_actor(self).map(move |decided, leader, _| {
            let is_same = leader.replica.epoch() == isr.leader_epoch;
            match decided {
                Ok(_) if is_same => leader.beyond_end.confirmed(offset, Timestamp::now()),
                Ok(_) => {}
                Err(refusal) => log::info!(
                    "{}: somebody reads at {offset}, beyond the end, and who leads isn't known: {refusal}",
                    leader.vitals.name()
                ),
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::super::isr::Metadata;
    use super::super::tests::{lead_beside, registered, NODE, WAIT_MAX};
    use super::super::{FirstBatch, Read};
    use crate::engine::metadata::change::{Change, Decided};
    use crate::engine::metadata::MetadataImage;
    use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset};

    /// Metadata that can't be reached at first.
    struct CutOff {
        image: Arc<MetadataImage>,
        is_healed: AtomicBool,
    }

    #[async_trait]
    impl Metadata for CutOff {
        fn image(&self) -> Arc<MetadataImage> {
            self.image.clone()
        }

        async fn change(&self, _: Change) -> Decided {
            match self.is_healed.load(Ordering::SeqCst) {
                true => Ok(Vec::new()),
                false => Err(ErrorCode::RequestTimedOut.into()),
            }
        }
    }

    #[actix_rt::test]
    async fn an_offset_beyond_the_end_is_out_of_range_only_for_who_is_sure_to_lead() {
        let image = registered(&MetadataImage::default(), NODE, 1);
        let metadata = Arc::new(CutOff {
            image: Arc::new(image),
            is_healed: AtomicBool::new(false),
        });
        let leader = lead_beside(BrokerId(2), metadata.clone());
        // Of the log's one record.
        let end = Offset(1);
        let read = async |offset| {
            let read = Read {
                current_leader_epoch: LeaderEpoch::NONE,
                offset,
                bytes_max: 1 << 20,
                first: FirstBatch::Always,
                rack: None,
                reader: None,
            };
            let found = leader.read(read).await.unwrap().found;
            found.err().map(|refusal| refusal.code)
        };
        let beyond = Offset(end.0 + 1);
        for _ in 0..10 {
            assert_eq!(read(beyond).await, Some(ErrorCode::OffsetNotAvailable));
        }
        assert_eq!(read(end).await, None);

        metadata.is_healed.store(true, Ordering::SeqCst);
        let confirmed = async {
            while read(beyond).await == Some(ErrorCode::OffsetNotAvailable) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, confirmed).await.unwrap();
        assert_eq!(read(beyond).await, Some(ErrorCode::OffsetOutOfRange));
    }
}
