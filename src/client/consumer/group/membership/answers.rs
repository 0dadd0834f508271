//! What the coordinator answers, and what the member makes of it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{Asked, Effect, Event, Identity, Leads, Membership, Phase, TopicPartition};
use crate::client::coordinator::refused;
use crate::client::ClientError;
use crate::model::{ErrorCode, Offset};
use crate::protocol::join_group;

impl Membership {
    pub fn joined(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<join_group::Response, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Joining {
            return;
        }
        let response = match answer {
            Ok(response) => response,
            Err(error) => return self.rest_after(now, error),
        };
        match response.error_code {
            ErrorCode::None => self.sync(response),
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id;
                self.prepare_to_join();
            }
            code => self.refused_to_join(now, "JoinGroup", code),
        }
    }

    fn sync(&mut self, response: join_group::Response) {
        let leads = response.leader == response.member_id;
        self.member_id = response.member_id;
        self.generation = response.generation_id;
        self.phase = Phase::Syncing;
        self.turn += 1;
        self.effects.push(Effect::Sync {
            turn: self.turn,
            identity: Identity {
                member_id: self.member_id.clone(),
                generation: self.generation,
            },
            protocol: response.protocol_name.unwrap_or_default(),
            leads: leads.then_some(Leads {
                members: response.members,
                skips_assignment: response.skip_assignment,
            }),
        });
    }

    /// The code of an answer, or what is assigned.
    pub fn synced(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<Result<BTreeSet<TopicPartition>, ErrorCode>, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Syncing {
            return;
        }
        let assigned = match answer {
            Ok(Ok(assigned)) => assigned,
            Ok(Err(ErrorCode::RebalanceInProgress)) => return self.phase = Phase::Resting(now),
            Ok(Err(code)) => return self.refused_to_join(now, "SyncGroup", code),
            Err(error) => return self.rest_after(now, error),
        };
        self.failing = None;
        self.heartbeat_at = now + self.habits.heartbeat_interval;
        self.heartbeat_is_out = false;
        if let Some(identity) = self.identity() {
            self.effects.push(Effect::Tell(Event::Joined(identity)));
        }
        let is_new = |partition: &&TopicPartition| !self.owned.contains(*partition);
        self.new = assigned.iter().filter(is_new).cloned().collect();
        let owned = self.owned.iter();
        let revoked = owned.filter(|partition| !assigned.contains(*partition));
        let revoked: BTreeSet<TopicPartition> = revoked.cloned().collect();
        self.owned.extend(self.new.iter().cloned());
        if !revoked.is_empty() {
            self.revoke(revoked);
        }
        match self.new.is_empty() {
            true => self.phase = Phase::Stable,
            false => self.ask_for_offsets(),
        }
    }

    pub(super) fn ask_for_offsets(&mut self) {
        self.phase = Phase::Positioning(Asked::Now);
        self.effects.push(Effect::FetchOffsets {
            turn: self.turn,
            partitions: self.new.clone(),
        });
    }

    /// The code of an answer, or where the group has come to in what is new.
    pub fn positioned(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<BTreeMap<TopicPartition, Offset>, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Positioning(Asked::Now) {
            return;
        }
        match answer {
            Ok(offsets) => {
                self.failing = None;
                let new = std::mem::take(&mut self.new).into_iter();
                let assigned = new.map(|partition| {
                    let offset = offsets.get(&partition).copied();
                    (partition, offset)
                });
                let assigned = Event::Assigned(assigned.collect());
                self.effects.push(Effect::Tell(assigned));
                self.phase = Phase::Stable;
            }
            Err(error) if error.is_retriable() => {
                let pause = self.failed(now, error);
                self.phase = Phase::Positioning(Asked::At(now + pause));
            }
            Err(error) => self.fail(error),
        }
    }

    /// A heartbeat of this identity was answered.
    pub fn heard(&mut self, now: Instant, of: &Identity, answer: Result<ErrorCode, ClientError>) {
        if self.is_joining() || self.identity().as_ref() != Some(of) {
            return;
        }
        self.heartbeat_is_out = false;
        self.heartbeat_at = now + self.habits.heartbeat_interval;
        match answer {
            Ok(ErrorCode::None) => self.failing = None,
            Ok(ErrorCode::RebalanceInProgress) => {
                self.failing = None;
                self.wants_to_join = true;
            }
            Ok(code) if !code.is_retriable() => self.refused_to_join(now, "Heartbeat", code),
            Ok(code) => {
                let error = refused(&self.habits.group_id, "Heartbeat", code);
                self.heartbeat_at = now + self.failed(now, error);
            }
            Err(error) if error.is_retriable() => {
                self.heartbeat_at = now + self.failed(now, error);
            }
            Err(error) => self.fail(error),
        }
    }

    fn refused_to_join(&mut self, now: Instant, api: &'static str, code: ErrorCode) {
        let error = refused(&self.habits.group_id, api, code);
        match code {
            ErrorCode::UnknownMemberId => {
                self.member_id.clear();
                self.lose();
            }
            ErrorCode::IllegalGeneration => self.lose(),
            _ => {}
        }
        self.rest_after(now, error);
    }

    /// Joins later, if that can help.
    fn rest_after(&mut self, now: Instant, error: ClientError) {
        let joins_anew = matches!(
            error.code(),
            Some(
                ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::RebalanceInProgress
            )
        );
        if joins_anew {
            // The coordinator is there, however often the group rebalances: the application need not know.
            self.failing = None;
            self.phase = Phase::Resting(now + self.habits.client.backoff(1));
        } else if error.is_retriable() {
            let pause = self.failed(now, error);
            self.phase = Phase::Resting(now + pause);
        } else {
            self.fail(error);
        }
    }
}
