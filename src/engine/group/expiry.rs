//! What is forgotten in time: offsets of groups that have had no members for long, and groups that have
//! nothing left.

use super::context::{after, Context, Timer};
use super::offsets::forget;
use super::rebalance::Group;
use super::shard::GroupShard;
use super::{GroupId, GroupState};
use crate::model::Timestamp;

impl<T> GroupShard<T> {
    pub(super) fn expire(&mut self, now: Timestamp) {
        let interval_ms = self.context.settings.offsets_retention_check_interval_ms;
        let next = after(now, interval_ms);
        self.context.set_timer(next, Timer::Retention);
        let consumers = &self.consumers;
        let classic = self.groups.iter_mut();
        for (_, group) in classic.filter(|(id, _)| !consumers.contains_key(*id)) {
            group.expire(&mut self.context, now);
        }
        let ids: Vec<GroupId> = self.consumers.keys().cloned().collect();
        for id in ids {
            self.expire_consumers(now, &id);
        }
    }

    fn expire_consumers(&mut self, now: Timestamp, id: &GroupId) {
        let consumers = self.consumers.get(id);
        let Some(since) = consumers.and_then(|consumers| consumers.at_rest_since()) else {
            return;
        };
        let retention_ms = self.context.settings.offsets_retention_ms;
        let offsets = self.groups.get(id).map(|group| &group.offsets);
        let old = offsets.map(|offsets| offsets.expired(now, since, retention_ms));
        let old = old.unwrap_or_default();
        match offsets.is_none_or(|offsets| offsets.are_all(&old)) {
            true => self.delete_consumers(id, None),
            false => forget(&mut self.context, id, old),
        }
    }
}

impl<T> Group<T> {
    fn expire(&mut self, context: &mut Context<T>, now: Timestamp) {
        let is_at_rest = self.state == GroupState::Empty && self.pending.is_empty();
        if !is_at_rest {
            return;
        }
        let retention_ms = context.settings.offsets_retention_ms;
        let old = self.offsets.expired(now, self.state_since, retention_ms);
        let was_there = self.stored.is_some() || self.generation > 0;
        if self.offsets.are_all(&old) && was_there {
            self.delete(context, None, Vec::new());
        } else {
            forget(context, &self.id, old);
        }
    }
}
