//! Being in a group, as the application sees it.

use std::sync::Arc;

use super::group::Group;
use super::{Consumer, GroupConfig, RebalanceListener};
use crate::client::{ClientError, GroupOffsets};

#[cfg(doc)]
use super::{Commits, ConsumerConfig};

impl Consumer {
    /// Reads what a group assigns to it, as a member of the group: the partitions of these topics are
    /// spread over all members. It joins at once; partitions come and go while it is
    /// [polled](Consumer::poll), and each is read from where the group has committed, or where
    /// [`ConsumerConfig::offset_reset`] says if it has nothing committed.
    ///
    /// Records are handed out at least once: those that were handed out and not committed are handed
    /// out again by whoever has their partition next.
    pub fn subscribe<'a>(
        &mut self,
        topics: impl IntoIterator<Item = &'a str>,
        group: impl Into<GroupConfig>,
    ) -> Result<(), ClientError> {
        self.join(topics, group.into(), None)
    }

    /// The same, with one who is told which partitions come and go.
    pub fn subscribe_with<'a>(
        &mut self,
        topics: impl IntoIterator<Item = &'a str>,
        group: impl Into<GroupConfig>,
        listener: impl RebalanceListener + 'static,
    ) -> Result<(), ClientError> {
        self.join(topics, group.into(), Some(Box::new(listener)))
    }

    fn join<'a>(
        &mut self,
        topics: impl IntoIterator<Item = &'a str>,
        group: GroupConfig,
        listener: Option<Box<dyn RebalanceListener>>,
    ) -> Result<(), ClientError> {
        if self.group.is_some() || !self.shared.state().assigned().is_empty() {
            let message = "the consumer is in a group, or reads what it was told to";
            return Err(ClientError::Invalid(message.into()));
        }
        let topics = topics.into_iter().map(Arc::from).collect();
        self.group = Some(Group::join(&self.shared, topics, group, listener)?);
        self.drive();
        Ok(())
    }

    /// Leaves the group, and reads nothing of it any more. Before, it commits all that was handed
    /// out, unless [commits are explicit](Commits::Explicit).
    pub async fn unsubscribe(&mut self) -> Result<(), ClientError> {
        match self.group.take() {
            Some(group) => group.close(&self.shared).await,
            None => Ok(()),
        }
    }

    /// Ends it, as [`Consumer::unsubscribe`] does if it is in a group. One that is only dropped
    /// [leaves](Consumer::leave) its group too, but nobody waits until it has.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.unsubscribe().await
    }

    /// Leaves its group without committing anything, for an application that couldn't do what was
    /// handed out: whoever has its partitions next does it.
    pub async fn leave(mut self) {
        if let Some(group) = self.group.take() {
            group.leave().await;
        }
    }

    /// Commits all that was handed out, for the group.
    ///
    /// Errs with UNKNOWN_MEMBER_ID or ILLEGAL_GENERATION if the consumer isn't in the group any more,
    /// as it wasn't heard from: then others have its partitions, and what wasn't committed is done
    /// again.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.in_group()?.commit().await
    }

    /// Commits these offsets of partitions that it has, each that of the next record to be read; see
    /// [`Consumer::commit`].
    pub async fn commit_offsets(&mut self, offsets: &GroupOffsets) -> Result<(), ClientError> {
        self.in_group()?.commit_offsets(offsets).await
    }

    fn in_group(&self) -> Result<&Group, ClientError> {
        let group = self.group.as_ref();
        group.ok_or_else(|| ClientError::Invalid("the consumer is in no group".into()))
    }
}
