//! The task of a member: asks its coordinator what the membership says, and tells it what comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, Instant};

use super::assignor::{Assignor, Member as AssignedMember, PartitionCounts};
use super::commits::{Committer, Offsets};
use super::desk::{Polling, Standing};
use super::membership::{Effect, Event, Habits, Identity, Leads, Membership};
use super::{Commits, Handed, TopicPartition, LAST_COMMIT_TIMEOUT};
use crate::client::cluster::FOREVER;
use crate::client::consumer_protocol::{
    decode_assignment, encode_assignment, Subscription, NO_GENERATION, PROTOCOL_TYPE,
};
use crate::client::coordinator::refused;
use crate::client::groups::{code_of_offsets, offsets_told, request_of_offsets};
use crate::client::{Client, ClientError};
use crate::model::ErrorCode;
use crate::protocol::{heartbeat, join_group, leave_group, offset_fetch, sync_group, Opaque};

/// How much longer than any member may take the coordinator is waited for.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How long a member that goes waits until it is heard. Others wait for the end of its session otherwise.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a topic is looked for that isn't there: it may just have been made.
const MISSING_TOPIC_INTERVAL: Duration = Duration::from_secs(1);

type SyncAnswer = Result<Result<BTreeSet<TopicPartition>, ErrorCode>, ClientError>;

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

/// What a member asks its coordinator with.
#[derive(Clone)]
struct Voice {
    committer: Arc<Committer>,
    topics: Arc<BTreeSet<Arc<str>>>,
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
                self.calls
                    .spawn(async move { voice.sync(turn, identity, protocol, leads).await });
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

impl Voice {
    fn join_request(
        &self,
        member_id: String,
        generation: i32,
        owned: BTreeSet<TopicPartition>,
    ) -> join_group::Request {
        let config = &self.committer.config;
        let subscription = Subscription {
            topics: (*self.topics).clone(),
            generation: match owned.is_empty() {
                true => NO_GENERATION,
                false => generation,
            },
            owned,
        };
        let metadata = subscription.encode();
        let protocols = config.assignors.iter();
        let protocols = protocols.map(|assignor| join_group::JoinGroupRequestProtocol {
            name: assignor.name().to_owned(),
            metadata: Opaque(metadata.clone()),
        });
        join_group::Request {
            group_id: config.group_id.clone(),
            session_timeout_ms: millis(config.session_timeout),
            rebalance_timeout_ms: millis(config.max_poll_interval),
            member_id,
            group_instance_id: config.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: protocols.collect(),
            ..Default::default()
        }
    }

    async fn join(
        &self,
        request: join_group::Request,
    ) -> Result<join_group::Response, ClientError> {
        let wait = self.committer.config.max_poll_interval + JOIN_GRACE;
        let code = |response: &join_group::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        coordinator
            .call::<join_group::Api>(&request, wait, code)
            .await
    }

    async fn sync(
        &self,
        turn: u64,
        identity: Identity,
        protocol: String,
        leads: Option<Leads>,
    ) -> Outcome {
        let (assignments, counts) = match leads {
            None => (Vec::new(), None),
            Some(leads) => match self.assign(&protocol, leads).await {
                Ok((assignments, counts)) => (assignments, Some(counts)),
                Err(error) => return Outcome::Synced(turn, Err(error), None),
            },
        };
        let answer = self.ask_to_sync(identity, protocol, assignments).await;
        Outcome::Synced(turn, answer, counts)
    }

    /// As the leader: what each member gets, and what it was spread from.
    async fn assign(
        &self,
        protocol: &str,
        leads: Leads,
    ) -> Result<(Vec<sync_group::SyncGroupRequestAssignment>, PartitionCounts), ClientError> {
        let group = &self.committer.config.group_id;
        let assignor = Assignor::named(protocol);
        let inconsistent = ErrorCode::InconsistentGroupProtocol;
        let assignor = assignor.ok_or_else(|| refused(group, "JoinGroup", inconsistent))?;
        let members: Vec<AssignedMember> = leads.members.into_iter().map(member_told).collect();
        let topics = members
            .iter()
            .flat_map(|member| &member.subscription.topics);
        let topics: BTreeSet<Arc<str>> = topics.cloned().collect();
        let counts = count_partitions(&self.committer.shared.client, topics).await?;
        if leads.skips_assignment {
            return Ok((Vec::new(), counts));
        }
        let assigned = assignor.assign(&counts, &members).into_iter();
        let assignments =
            assigned.map(
                |(member_id, partitions)| sync_group::SyncGroupRequestAssignment {
                    member_id,
                    assignment: Opaque(encode_assignment(&partitions)),
                },
            );
        Ok((assignments.collect(), counts))
    }

    async fn ask_to_sync(
        &self,
        identity: Identity,
        protocol: String,
        assignments: Vec<sync_group::SyncGroupRequestAssignment>,
    ) -> SyncAnswer {
        let config = &self.committer.config;
        let request = sync_group::Request {
            group_id: config.group_id.clone(),
            generation_id: identity.generation,
            member_id: identity.member_id,
            group_instance_id: config.instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(protocol),
            assignments,
        };
        let wait = config.max_poll_interval + JOIN_GRACE;
        let code = |response: &sync_group::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        let answer = coordinator.call::<sync_group::Api>(&request, wait, code);
        let response = answer.await?;
        if !response.error_code.is_ok() {
            return Ok(Err(response.error_code));
        }
        match decode_assignment(&response.assignment.0) {
            Some(partitions) => Ok(Ok(partitions)),
            None => Err(ClientError::Garbled {
                address: format!("the leader of group {}", config.group_id),
                api: "SyncGroup",
                reason: "this is no assignment".to_owned(),
            }),
        }
    }

    async fn heartbeat(&self, identity: &Identity) -> Result<ErrorCode, ClientError> {
        let config = &self.committer.config;
        let request = heartbeat::Request {
            group_id: config.group_id.clone(),
            generation_id: identity.generation,
            member_id: identity.member_id.clone(),
            group_instance_id: config.instance_id.clone(),
        };
        let code = |response: &heartbeat::Response| Some(response.error_code);
        let coordinator = &self.committer.coordinator;
        let answer = coordinator.call::<heartbeat::Api>(&request, Duration::ZERO, code);
        Ok(answer.await?.error_code)
    }

    async fn fetch_offsets(
        &self,
        partitions: BTreeSet<TopicPartition>,
    ) -> Result<Offsets, ClientError> {
        let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partition_indexes)| {
            offset_fetch::OffsetFetchRequestTopic {
                name: name.to_string(),
                partition_indexes,
                ..Default::default()
            }
        });
        let group = self.committer.coordinator.group();
        let request = request_of_offsets(group, Some(topics.collect()));
        let coordinator = &self.committer.coordinator;
        let answer =
            coordinator.call::<offset_fetch::Api>(&request, Duration::ZERO, code_of_offsets);
        let told = offsets_told(group, answer.await?)?.into_iter();
        let named = told.map(|((topic, partition), offset)| ((topic.into(), partition), offset));
        Ok(named.collect())
    }

    /// Tries for a while to be heard.
    async fn leave(&self, member_id: String) {
        let config = &self.committer.config;
        let request = leave_group::Request {
            group_id: config.group_id.clone(),
            member_id: String::new(),
            members: vec![leave_group::MemberIdentity {
                member_id,
                group_instance_id: config.instance_id.clone(),
                reason: None,
            }],
        };
        let client = self.committer.shared.client.config();
        let telling = async {
            let mut failures = 0;
            loop {
                let code = |response: &leave_group::Response| Some(response.error_code);
                let coordinator = &self.committer.coordinator;
                let told = coordinator.call::<leave_group::Api>(&request, Duration::ZERO, code);
                let is_heard = match told.await {
                    Ok(response) => !response.error_code.is_retriable(),
                    Err(error) => !error.is_retriable(),
                };
                if is_heard {
                    return;
                }
                failures += 1;
                tokio::time::sleep(client.backoff(failures)).await;
            }
        };
        if timeout(LEAVE_TIMEOUT, telling).await.is_err() {
            log::debug!("a member of group {} leaves unheard", config.group_id);
        }
    }
}

/// What can't be read reads nothing.
fn member_told(told: join_group::JoinGroupResponseMember) -> AssignedMember {
    let subscription = Subscription::decode(&told.metadata.0);
    AssignedMember {
        id: told.member_id,
        instance_id: told.group_instance_id,
        subscription: subscription.unwrap_or(Subscription {
            topics: BTreeSet::new(),
            owned: BTreeSet::new(),
            generation: NO_GENERATION,
        }),
    }
}

/// How many partitions these topics have now; those that aren't there have none.
async fn count_partitions(
    client: &Client,
    topics: impl IntoIterator<Item = Arc<str>>,
) -> Result<PartitionCounts, ClientError> {
    let since = Instant::now();
    let mut counts = PartitionCounts::new();
    for topic in topics {
        let partitions = match client.topic_since(&topic, since).await {
            Ok(known) => known.partitions.len(),
            Err(error) if is_missing(&error) => 0,
            Err(error) => return Err(error),
        };
        counts.insert(topic, i32::try_from(partitions).unwrap_or(i32::MAX));
    }
    Ok(counts)
}

fn is_missing(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopicException)
    )
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
