//! The task of a member: asks its coordinator what the membership says, and tells it what comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, Instant};

use super::assignor::PartitionCounts;
use super::commits::{Committer, Offsets};
use super::desk::{Polling, Standing};
use super::membership::{Effect, Event, Habits, Identity, Membership};
use super::voice::{count_partitions, SyncAnswer, Voice};
use super::{Commits, Handed, LAST_COMMIT_TIMEOUT};
use crate::client::cluster::FOREVER;
use crate::client::ClientError;
use crate::model::ErrorCode;
use crate::protocol::join_group;

/// How often a topic is looked for that isn't there: it may just have been made.
const MISSING_TOPIC_INTERVAL: Duration = Duration::from_secs(1);

/// What came of something that was asked.
enum Outcome {
    Joined(u64, Result<join_group::Response, ClientError>),
    /// With what the topics were like, if this member has assigned them.
    Synced(u64, SyncAnswer, Option<PartitionCounts>),
    Heard(Identity, Result<ErrorCode, ClientError>),
    Positioned(u64, Result<Offsets, ClientError>),
    /// What the topics are like now.
    Watched(Option<PartitionCounts>),
}

/// What the leader has assigned, and when to look whether that has changed.
struct Watch {
    counts: PartitionCounts,
    at: Instant,
}

impl Watch {
    fn new(counts: PartitionCounts, now: Instant, age_max: Duration) -> Watch {
        let is_missing = counts.values().any(|count| *count == 0);
        let pause = match is_missing {
            true => age_max.min(MISSING_TOPIC_INTERVAL),
            false => age_max.min(FOREVER),
        };
        Watch {
            counts,
            at: now + pause,
        }
    }
}

struct Member {
    voice: Voice,
    membership: Membership,
    calls: JoinSet<Outcome>,
    /// Each answers the turn of the revocation that it belongs to, if it does.
    commits: JoinSet<Option<u64>>,
    commit_at: Option<Instant>,
    watch: Option<Watch>,
}

/// Runs until the application has enough of it.
pub(super) async fn run(committer: Arc<Committer>, topics: BTreeSet<Arc<str>>) {
    let (now, config) = (Instant::now(), &committer.config);
    let habits = Habits {
        group_id: config.group_id.clone(),
        is_static: config.instance_id.is_some(),
        is_cooperative: config.is_cooperative(),
        heartbeat_interval: config.heartbeat_interval,
        max_poll_interval: config.max_poll_interval,
        client: committer.shared.client.config().clone(),
        consumer: committer.shared.config.clone(),
    };
    let mut member = Member {
        membership: Membership::new(habits, now),
        calls: JoinSet::new(),
        commits: JoinSet::new(),
        commit_at: match config.commits {
            Commits::Automatic(interval) => Some(now + interval),
            Commits::Explicit => None,
        },
        watch: None,
        voice: Voice {
            committer,
            topics: Arc::new(topics),
        },
    };
    member.work().await;
    member.end().await;
}

impl Member {
    async fn work(&mut self) {
        let desk = self.voice.committer.desk.clone();
        while !desk.ends() {
            let now = Instant::now();
            self.hear_the_application(now);
            let effects = self.membership.act(now);
            // Before the application hears of anything: it may commit at once.
            self.show();
            for effect in effects {
                self.carry_out(effect);
            }
            self.start_what_is_due(now);
            let wake_at = self.wake_at();
            tokio::select! {
                () = desk.called.notified() => {}
                () = sleep_until(wake_at) => {}
                Some(Ok(outcome)) = self.calls.join_next() => self.take_in(outcome),
                Some(Ok(given_up)) = self.commits.join_next() => {
                    if let Some(turn) = given_up {
                        self.membership.given_up(turn);
                    }
                }
            }
        }
    }

    fn hear_the_application(&mut self, now: Instant) {
        let desk = &self.voice.committer.desk;
        match desk.polling() {
            Polling::Now => self.membership.polls(now),
            Polling::Since(at) => self.membership.polled(at),
        }
        if desk.take_suspicion() {
            self.membership.suspect(now);
        }
        if let Some(given_up) = desk.take_given_up() {
            let (committer, within) = (self.voice.committer.clone(), self.session_timeout());
            self.commits.spawn(async move {
                let offsets = given_up.offsets;
                let committed = committer.commit(within, |_| Ok(offsets.clone()));
                if let Err(error) = committed.await {
                    // Whoever has them next does again what isn't committed.
                    log::warn!("what a member gives up can't be committed: {error}");
                }
                Some(given_up.turn)
            });
        }
    }

    fn session_timeout(&self) -> Duration {
        self.voice.committer.config.session_timeout
    }

    fn show(&self) {
        self.voice.committer.desk.show(Standing {
            identity: self.membership.identity(),
            is_joining: self.membership.is_joining(),
        });
    }

    fn carry_out(&mut self, effect: Effect) {
        let voice = self.voice.clone();
        match effect {
            Effect::Join {
                turn,
                member_id,
                generation,
                owned,
            } => {
                let request = voice.join_request(member_id, generation, owned);
                self.calls
                    .spawn(async move { Outcome::Joined(turn, voice.join(request).await) });
            }
            Effect::Sync {
                turn,
                identity,
                protocol,
                leads,
            } => {
                self.watch = None;
                self.calls.spawn(async move {
                    let (answer, counts) = voice.sync(identity, protocol, leads).await;
                    Outcome::Synced(turn, answer, counts)
                });
            }
            Effect::Heartbeat(identity) => {
                self.calls.spawn(async move {
                    let answer = voice.heartbeat(&identity).await;
                    Outcome::Heard(identity, answer)
                });
            }
            Effect::FetchOffsets { turn, partitions } => {
                self.calls.spawn(async move {
                    Outcome::Positioned(turn, voice.fetch_offsets(partitions).await)
                });
            }
            Effect::Leave { member_id } => {
                tokio::spawn(async move { voice.leave(member_id).await });
            }
            Effect::Tell(event) => self.tell(event),
        }
    }

    fn tell(&self, event: Event) {
        let committer = &self.voice.committer;
        match event {
            Event::Failed(error) if self.membership.is_ended() => committer.desk.refuse(error),
            event => committer.desk.tell(event),
        }
        committer.shared.came.notify_one();
    }

    fn start_what_is_due(&mut self, now: Instant) {
        if let Commits::Automatic(interval) = self.voice.committer.config.commits {
            if self.commit_at.is_some_and(|at| at <= now) {
                self.commit_at = Some(now + interval);
                self.commit_what_is_done(interval);
            }
        }
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.at <= now) {
            let client = self.voice.committer.shared.client.clone();
            let age_max = client.config().metadata_age_max;
            *watch = Watch::new(std::mem::take(&mut watch.counts), now, age_max);
            let topics: Vec<Arc<str>> = watch.counts.keys().cloned().collect();
            self.calls.spawn(async move {
                let counts = count_partitions(&client, topics).await;
                Outcome::Watched(counts.ok())
            });
        }
    }

    fn commit_what_is_done(&mut self, interval: Duration) {
        // One is still being tried.
        if !self.commits.is_empty() || self.membership.identity().is_none() {
            return;
        }
        let committer = self.voice.committer.clone();
        self.commits.spawn(async move {
            let wanted = committer.commit(interval, |state| Ok(state.uncommitted(Handed::Done)));
            if let Err(error) = wanted.await {
                log::warn!("an automatic commit failed, and is tried again: {error}");
            }
            None
        });
    }

    fn wake_at(&self) -> Instant {
        let watch = self.watch.as_ref().map(|watch| watch.at);
        let times = [self.membership.wake_at(), self.commit_at, watch];
        let next = times.into_iter().flatten().min();
        next.unwrap_or_else(|| Instant::now() + FOREVER)
    }

    fn take_in(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Joined(turn, answer) => self.membership.joined(now, turn, answer),
            Outcome::Synced(turn, answer, counts) => {
                let age_max = self.voice.committer.shared.client.config().metadata_age_max;
                self.watch = counts.map(|counts| Watch::new(counts, now, age_max));
                self.membership.synced(now, turn, answer);
            }
            Outcome::Heard(identity, answer) => self.membership.heard(now, &identity, answer),
            Outcome::Positioned(turn, answer) => self.membership.positioned(now, turn, answer),
            Outcome::Watched(Some(counts)) => {
                if self.watch.as_ref().is_some_and(|it| it.counts != counts) {
                    self.membership.topics_changed();
                }
            }
            Outcome::Watched(None) => {}
        }
    }

    /// What is being committed is waited for, so that it isn't done again, and then the others are told.
    async fn end(mut self) {
        let commits = async { while self.commits.join_next().await.is_some() {} };
        let _ = timeout(LAST_COMMIT_TIMEOUT, commits).await;
        self.calls.abort_all();
        for effect in self.membership.end() {
            if let Effect::Leave { member_id } = effect {
                self.voice.leave(member_id).await;
            }
        }
    }
}
