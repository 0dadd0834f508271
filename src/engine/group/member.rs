//! A member of a classic group, as its coordinator knows it.

use std::sync::Arc;

use bytes::Bytes;

use super::settings::NEW_MEMBER_JOIN_TIMEOUT_MS;
use super::stored::StoredMember;
use super::{JoinRequest, MemberId};
use crate::model::Timestamp;

/// `T` is whom to answer.
pub(super) struct Member<T> {
    pub id: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The best first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// As it was committed.
    pub assignment: Bytes,
    /// It has joined, and waits for the others.
    pub joining: Option<T>,
    /// It waits for its assignment.
    pub syncing: Option<T>,
    /// It has asked for its assignment of this generation.
    pub has_synced: bool,
    /// It has never been told of a generation.
    pub is_new: bool,
    /// When it is taken for gone.
    pub session_until: Timestamp,
    /// When that is looked at next.
    pub session_timer: Option<Timestamp>,
}

impl<T> Member<T> {
    pub fn new(id: MemberId, request: &JoinRequest) -> Member<T> {
        let mut member = Member {
            id,
            instance: request.instance.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            has_synced: false,
            is_new: true,
            session_until: Timestamp(i64::MAX),
            session_timer: None,
        };
        member.update(request);
        member
    }

    /// One that a former coordinator has assigned to.
    pub fn restored(stored: &StoredMember, protocol: Option<&Arc<str>>) -> Member<T> {
        let protocol = protocol.map(|protocol| (protocol.clone(), stored.subscription.clone()));
        Member {
            id: stored.member.clone(),
            instance: stored.instance.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: protocol.into_iter().collect(),
            assignment: stored.assignment.clone(),
            joining: None,
            syncing: None,
            has_synced: true,
            is_new: false,
            session_until: Timestamp(i64::MAX),
            session_timer: None,
        }
    }

    /// It wants something else than before.
    pub fn update(&mut self, request: &JoinRequest) {
        self.session_timeout_ms = request.session_timeout_ms;
        self.rebalance_timeout_ms = match request.rebalance_timeout_ms {
            ..0 => request.session_timeout_ms,
            given => given,
        };
        self.protocols = request.protocols.clone();
    }

    /// What it says in this protocol; nothing if it doesn't speak it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| **name == *protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub fn metadata_bytes(&self) -> usize {
        let sizes = self.protocols.iter();
        sizes.map(|(name, data)| name.len() + data.len()).sum()
    }

    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| **name == *protocol)
    }

    /// It is heard from: its session begins anew.
    pub fn is_heard(&mut self, now: Timestamp) {
        let timeout_ms = match self.is_new {
            true => NEW_MEMBER_JOIN_TIMEOUT_MS,
            false => self.session_timeout_ms.into(),
        };
        self.session_until = Timestamp(now.0.saturating_add(timeout_ms));
    }

    /// Whether it can't be heard because it waits for us.
    pub fn is_held_by_us(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub fn stored(&self, protocol: &str, assignment: Bytes) -> StoredMember {
        StoredMember {
            member: self.id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
