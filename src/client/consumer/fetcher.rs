//! Fetches for a consumer: decides what to ask whom, and takes in what comes.
//!
//! A broker has one fetch that waits for records (a long poll) at a time, for all partitions that
//! it leads and that need records. What comes to need records meanwhile, after a seek, say, is
//! asked for at once by a second fetch that doesn't wait; a partition of which that brings nothing
//! joins the next long poll. The driver itself never waits for an answer: what asks for leaders or
//! offsets runs beside it, like the fetches.
//!
//! A leader that hangs doesn't answer, and keeps its connections. So when an answer is late, it is looked whether
//! another broker leads by now, and if so, that one is asked.
//!
//! A leader may send a consumer that says where it runs to a replica in its rack. It is fetched from there until
//! that fails, or for as long as what is known of a topic counts.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, Instant};

use super::fetched::survey;
use super::room::Charge;
use super::state::{Needs, Wanted};
use super::{ConsumerConfig, OffsetReset, Shared};
use crate::client::cluster::{leader_in, LATE, LOOK_INTERVAL};
use crate::client::connection::Purpose;
use crate::client::ClientError;
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};
use crate::protocol::fetch;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

/// How many fetches a broker has at most: one of each [`Patience`].
const FETCHES_A_BROKER_MAX: usize = 2;

/// Whether a fetch waits for records that aren't there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Patience {
    Waits,
    Looks,
}

/// Starts what has to be asked, and keeps an eye on it.
struct Driver {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    fetches: HashMap<(BrokerId, Patience), AbortHandle>,
}

/// Runs as long as the consumer lives; what it started ends with it.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut driver = Driver {
        shared: shared.clone(),
        tasks: JoinSet::new(),
        fetches: HashMap::new(),
    };
    loop {
        let wake_at = driver.start_what_is_due();
        let pause = async {
            match wake_at {
                Some(wake_at) => sleep_until(wake_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wanted.notified() => {}
            () = pause => {}
            Some(_) = driver.tasks.join_next() => {}
        }
    }
}

impl Driver {
    /// Starts all that is due, and answers when to look again if nothing happens before.
    fn start_what_is_due(&mut self) -> Option<Instant> {
        while self.tasks.try_join_next().is_some() {}
        self.fetches.retain(|_, task| !task.is_finished());
        let due = self.shared.state().due(Instant::now());
        let mut by_leader: Vec<(BrokerId, Vec<Wanted>)> = Vec::new();
        let mut by_topic: HashMap<Arc<str>, (Instant, Vec<Wanted>)> = HashMap::new();
        for wanted in due {
            match self.next_step(&wanted) {
                Step::Fetch(leader) => match by_leader.iter_mut().find(|it| it.0 == leader) {
                    Some((_, group)) => group.push(wanted),
                    None => by_leader.push((leader, vec![wanted])),
                },
                Step::Learn(since) => {
                    let topic = wanted.key.0.clone();
                    let group = by_topic.entry(topic).or_insert((since, Vec::new()));
                    group.0 = group.0.max(since);
                    group.1.push(wanted);
                }
                Step::Reset => {
                    let resetting = reset(self.shared.clone(), wanted.clone());
                    self.begin(&[wanted], resetting);
                }
                Step::Fail(error) => {
                    self.shared.state().begin(&wanted);
                    self.shared.failed(&wanted, error);
                }
            }
        }
        for (topic, (since, group)) in by_topic {
            let learning = learn(self.shared.clone(), topic, since, group.clone());
            self.begin(&group, learning);
        }
        self.fetch_from_all(by_leader);
        let config = &self.shared.config;
        let mut state = self.shared.state();
        if state.tell_overdue(Instant::now(), config) {
            self.shared.came.notify_one();
        }
        state.wake_at(config)
    }

    fn next_step(&self, wanted: &Wanted) -> Step {
        let (topic, partition) = &wanted.key;
        match wanted.needs {
            Needs::Offset => Step::Reset,
            Needs::Leader(since) => Step::Learn(since),
            Needs::Records => {
                if let Some(replica) = wanted.nearby {
                    return Step::Fetch(replica);
                }
                match self.shared.client.known_leader(topic, *partition) {
                    Some(Ok(leader)) => Step::Fetch(leader),
                    Some(Err(error)) => Step::Fail(error),
                    None => Step::Learn(Instant::now()),
                }
            }
        }
    }

    /// Runs what asks for these partitions beside the driver.
    fn begin(
        &mut self,
        wanted: &[Wanted],
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let mut state = self.shared.state();
        wanted.iter().for_each(|wanted| state.begin(wanted));
        drop(state);
        self.tasks.spawn(task)
    }

    /// Starts fetches in the order of the partitions' turns, as long as there is room for what
    /// they may bring.
    fn fetch_from_all(&mut self, by_leader: Vec<(BrokerId, Vec<Wanted>)>) {
        let config = &self.shared.config;
        let mut leaders: Vec<_> = self.fetches.keys().map(|key| key.0).collect();
        leaders.extend(by_leader.iter().map(|group| group.0));
        leaders.sort();
        leaders.dedup();
        let share = self.shared.room.share(FETCHES_A_BROKER_MAX * leaders.len());
        let bytes_max = share.min(usize::try_from(config.fetch_bytes_max).unwrap_or(1));
        for (leader, mut group) in by_leader {
            let is_free = |patience| !self.fetches.contains_key(&(leader, patience));
            let patience = match is_free(Patience::Waits) {
                true => Patience::Waits,
                false => Patience::Looks,
            };
            if patience == Patience::Looks {
                group.retain(|wanted| !wanted.is_drained);
            }
            if group.is_empty() || !is_free(patience) {
                continue;
            }
            let Some(charge) = self.shared.room.take(bytes_max) else {
                return;
            };
            let request = request(&group, patience, bytes_max, &self.shared.config);
            let fetch = fetch(self.shared.clone(), leader, request, group.clone(), charge);
            let task = self.begin(&group, fetch);
            self.fetches.insert((leader, patience), task);
        }
    }
}

/// What a partition needs next.
enum Step {
    Fetch(BrokerId),
    Learn(Instant),
    Reset,
    Fail(ClientError),
}

/// The request for these partitions, which one broker leads, in their order: the broker fills its
/// answer with the first.
fn request(
    wanted: &[Wanted],
    patience: Patience,
    bytes_max: usize,
    config: &ConsumerConfig,
) -> fetch::Request {
    let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
    let mut topics: Vec<fetch::FetchTopic> = Vec::new();
    for wanted in wanted {
        let (topic, partition) = &wanted.key;
        if topics.last().is_none_or(|last| *last.topic != **topic) {
            topics.push(fetch::FetchTopic {
                topic: topic.to_string(),
                topic_id: TopicId::NONE,
                partitions: Vec::new(),
            });
        }
        let partition = fetch::FetchPartition {
            partition: *partition,
            current_leader_epoch: LeaderEpoch::NONE,
            fetch_offset: wanted.from,
            partition_max_bytes: config.partition_bytes_max.min(bytes_max),
            ..Default::default()
        };
        if let Some(last) = topics.last_mut() {
            last.partitions.push(partition);
        }
    }
    fetch::Request {
        max_wait_ms: match patience {
            Patience::Waits => i32::try_from(config.max_wait.as_millis()).unwrap_or(i32::MAX),
            Patience::Looks => 0,
        },
        min_bytes: 1,
        max_bytes: bytes_max,
        topics,
        rack_id: config.client_rack.clone().unwrap_or_default(),
        ..Default::default()
    }
}

async fn fetch(
    shared: Arc<Shared>,
    leader: BrokerId,
    request: fetch::Request,
    wanted: Vec<Wanted>,
    charge: Charge,
) {
    let answer = tokio::select! {
        answer = ask(&shared, leader, &request) => Some(answer),
        () = overtaken(&shared, leader, &request, &wanted) => None,
    };
    let Some(answer) = answer else {
        for wanted in &wanted {
            shared.failed(
                wanted,
                partition_error(wanted, ErrorCode::NotLeaderOrFollower),
            );
        }
        return shared.came.notify_one();
    };
    match answer {
        Ok(response) if response.error_code.is_ok() => {
            take_in(&shared, wanted, response, charge);
        }
        Ok(response) => {
            for wanted in &wanted {
                shared.failed(wanted, partition_error(wanted, response.error_code));
            }
        }
        Err(error) => {
            for wanted in &wanted {
                shared.failed(wanted, error.clone());
            }
        }
    }
    shared.came.notify_one();
}

async fn ask(
    shared: &Shared,
    leader: BrokerId,
    request: &fetch::Request,
) -> Result<fetch::Response, ClientError> {
    let connection = shared.client.broker(leader, Purpose::Fetch).await?;
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    connection.call::<fetch::Api>(request, wait).await
}

/// Returns when an answer is late, and one of the partitions isn't to be had where it was asked for any more.
async fn overtaken(shared: &Shared, asked: BrokerId, request: &fetch::Request, wanted: &[Wanted]) {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let mut look_at = Instant::now() + wait + LATE;
    loop {
        sleep_until(look_at).await;
        for Wanted { key, nearby, .. } in wanted {
            let (topic, partition) = key;
            // Asked once for all of its partitions. If nobody can say it, the answer may still come.
            let Ok(topic) = shared.client.topic_since(topic, look_at).await else {
                continue;
            };
            let serves = match nearby {
                Some(_) => topic
                    .partition(*partition)
                    .is_some_and(|partition| partition.in_sync.contains(&asked)),
                None => leader_in(&topic, *partition).map_or(true, |leader| leader == asked),
            };
            if !serves {
                return;
            }
        }
        look_at = Instant::now() + LOOK_INTERVAL;
    }
}

/// Takes in what a broker answered for each of the partitions, once.
fn take_in(shared: &Shared, wanted: Vec<Wanted>, response: fetch::Response, mut charge: Charge) {
    let topics = response.responses.iter();
    let all = topics.flat_map(|topic| topic.partitions.iter().map(move |data| (topic, data)));
    charge.settle(all.clone().map(|(_, data)| data.records.0.len()).sum());
    let charge = Arc::new(charge);
    let mut missing: HashMap<(&str, i32), &Wanted> = wanted
        .iter()
        .map(|wanted| ((&*wanted.key.0, wanted.key.1), wanted))
        .collect();
    for (topic, data) in all {
        if let Some(wanted) = missing.remove(&(&*topic.topic, data.partition_index)) {
            take_in_partition(shared, wanted, data, &charge);
        }
    }
    for wanted in missing.into_values() {
        let error = partition_error(wanted, ErrorCode::UnknownServerError);
        shared.failed(wanted, error);
    }
}

fn take_in_partition(
    shared: &Shared,
    wanted: &Wanted,
    data: &fetch::PartitionData,
    charge: &Arc<Charge>,
) {
    match data.error_code {
        ErrorCode::None if data.preferred_read_replica != BrokerId::NONE => {
            let until = Instant::now() + shared.client.config().metadata_age_max;
            let replica = data.preferred_read_replica;
            shared.state().redirected(wanted, replica, until);
        }
        ErrorCode::OffsetOutOfRange if wanted.nearby.is_some() => {
            shared.state().ask_leader(wanted);
        }
        ErrorCode::None => {
            let survey = survey(&data.records.0, wanted.from);
            let mut state = shared.state();
            state.take_in(wanted, data.high_watermark, survey, charge);
        }
        ErrorCode::OffsetOutOfRange if shared.config.offset_reset == OffsetReset::Error => {
            let error = ClientError::OffsetOutOfRange {
                topic: wanted.key.0.to_string(),
                partition: wanted.key.1,
                offset: wanted.from,
            };
            shared.state().halt(wanted, error);
        }
        ErrorCode::OffsetOutOfRange => shared.state().out_of_range(wanted),
        code => shared.failed(wanted, partition_error(wanted, code)),
    }
}

/// Asks who leads these partitions of a topic.
async fn learn(shared: Arc<Shared>, topic: Arc<str>, since: Instant, wanted: Vec<Wanted>) {
    match shared.client.topic_since(&topic, since).await {
        Ok(_) => {
            let mut state = shared.state();
            wanted.iter().for_each(|wanted| state.learnt(wanted));
        }
        Err(error) => {
            for wanted in &wanted {
                shared.failed(wanted, error.clone());
            }
        }
    }
    shared.came.notify_one();
}

/// Asks where a partition starts or ends whose next offset isn't there.
async fn reset(shared: Arc<Shared>, wanted: Wanted) {
    let (topic, partition) = &wanted.key;
    let timestamp = match shared.config.offset_reset {
        OffsetReset::Latest => LATEST_TIMESTAMP,
        OffsetReset::Earliest | OffsetReset::Error => EARLIEST_TIMESTAMP,
    };
    let admin = shared.client.admin();
    match admin.list_offset(topic, *partition, timestamp).await {
        Ok(offset) => {
            let again_at = Instant::now() + shared.client.config().backoff(1);
            shared.state().reset(&wanted, offset, again_at);
        }
        Err(error) => shared.failed(&wanted, error),
    }
    shared.came.notify_one();
}

fn partition_error(wanted: &Wanted, code: ErrorCode) -> ClientError {
    ClientError::Partition {
        topic: wanted.key.0.to_string(),
        partition: wanted.key.1,
        code,
        message: String::new(),
    }
}
