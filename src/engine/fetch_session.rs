//! A fetch session (KIP-227): what a consumer fetches again and again, so that it needs to say only
//! what has changed, and is told only of partitions that have something new.
//!
//! A session belongs to its connection and ends with it, so nobody has to look for sessions that
//! nobody uses: a client whose session is gone is told so and opens another, as it does when a
//! broker of Kafka has evicted it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{ErrorCode, LeaderEpoch, Offset, TopicId};

/// `session_epoch` of a request that opens a session.
const EPOCH_INITIAL: i32 = 0;
/// `session_epoch` of a request that wants none, and closes the one it names.
const EPOCH_FINAL: i32 = -1;
/// The `session_id` of no session.
pub const NO_SESSION: i32 = 0;

/// A partition, as the client names its topic: by name, by id, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchKey {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: i32,
}

/// What is wanted of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchAsk {
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    pub partition_max_bytes: i32,
}

/// What a response tells of a partition, as far as a session cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub error_code: ErrorCode,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    pub has_records: bool,
    /// Whether it names a replica that is nearer (KIP-392).
    pub is_elsewhere: bool,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    pub wanted: Vec<(FetchKey, FetchAsk)>,
    pub forgotten: Vec<FetchKey>,
}

/// What is to be fetched, and how it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetching {
    /// What the response says; [`NO_SESSION`] outside of one.
    pub session_id: i32,
    pub extent: Extent,
    /// In the order in which they get a share of the response's bytes.
    pub wanted: Vec<(FetchKey, FetchAsk)>,
}

/// How much of what is wanted a response tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every partition.
    Full,
    /// Those that have something new.
    Incremental,
}

/// The session of one connection, if it has one.
#[derive(Debug, Default)]
pub struct FetchSession {
    open: Option<Open>,
}

/// Invariant: `places` has exactly the keys of `partitions`.
#[derive(Debug)]
struct Open {
    id: i32,
    /// Of the next request.
    epoch: i32,
    names: Names,
    /// By their place in the order, which grows without end.
    partitions: BTreeMap<u64, Partition>,
    places: HashMap<FetchKey, u64>,
    next_place: u64,
}

/// How a session's requests name topics: it may not change (KIP-516).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    ByName,
    ById,
}

#[derive(Debug)]
struct Partition {
    key: FetchKey,
    ask: FetchAsk,
    /// What the client was told last: high watermark and log start.
    told: Option<(Offset, Offset)>,
}

impl SessionRequest {
    /// How many partitions it may add to the connection's session.
    pub fn adds_at_most(&self) -> usize {
        match self.session_epoch {
            EPOCH_FINAL => 0,
            _ => self.wanted.len(),
        }
    }
}

impl FetchSession {
    /// How many partitions the session holds.
    pub fn partition_count(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.places.len())
    }

    /// Takes in a request. A session that it opens gets the id that `new_id` makes, which isn't
    /// [`NO_SESSION`], and one that would hold more than `partitions_max` isn't opened, or ends.
    pub fn begin(
        &mut self,
        request: SessionRequest,
        new_id: impl FnOnce() -> i32,
        partitions_max: usize,
    ) -> Result<Fetching, ErrorCode> {
        match request.session_epoch {
            EPOCH_FINAL => {
                self.close(request.session_id);
                Ok(full(NO_SESSION, request.wanted))
            }
            EPOCH_INITIAL => {
                self.close(request.session_id);
                Ok(self.open(request.wanted, new_id, partitions_max))
            }
            _ => self.go_on(request, partitions_max),
        }
    }

    fn close(&mut self, session_id: i32) {
        if self.open.as_ref().is_some_and(|open| open.id == session_id) {
            self.open = None;
        }
    }

    fn open(
        &mut self,
        wanted: Vec<(FetchKey, FetchAsk)>,
        new_id: impl FnOnce() -> i32,
        partitions_max: usize,
    ) -> Fetching {
        self.open = None;
        if wanted.is_empty() || wanted.len() > partitions_max {
            return full(NO_SESSION, wanted);
        }
        let id = new_id();
        let mut open = Open {
            id,
            epoch: 1,
            names: names(&wanted),
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (key, ask) in wanted.iter().cloned() {
            open.want(key, ask);
        }
        self.open = Some(open);
        full(id, wanted)
    }

    fn go_on(
        &mut self,
        request: SessionRequest,
        partitions_max: usize,
    ) -> Result<Fetching, ErrorCode> {
        let open = self.open.as_mut();
        let open = open
            .filter(|open| open.id == request.session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if open.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if !request.wanted.is_empty() && names(&request.wanted) != open.names {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for key in &request.forgotten {
            open.forget(key);
        }
        for (key, ask) in request.wanted {
            open.want(key, ask);
        }
        if open.places.len() > partitions_max {
            self.open = None;
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        open.epoch = epoch_after(open.epoch);
        let fetching = Fetching {
            session_id: open.id,
            extent: Extent::Incremental,
            wanted: open.wanted(),
        };
        if open.places.is_empty() {
            self.open = None;
        }
        Ok(fetching)
    }

    /// Whether a partition is in the response to the session's request; it is then taken for told.
    /// One that gave records goes to the end of the order, so that each has its turn.
    pub fn tell(&mut self, session_id: i32, extent: Extent, key: &FetchKey, told: Told) -> bool {
        let open = self.open.as_mut().filter(|open| open.id == session_id);
        let Some(open) = open else {
            return true;
        };
        let is_new = open.note(key, told);
        is_new || extent == Extent::Full
    }
}

fn full(session_id: i32, wanted: Vec<(FetchKey, FetchAsk)>) -> Fetching {
    Fetching {
        session_id,
        extent: Extent::Full,
        wanted,
    }
}

fn names(wanted: &[(FetchKey, FetchAsk)]) -> Names {
    match wanted.iter().any(|(key, _)| key.topic.is_empty()) {
        true => Names::ById,
        false => Names::ByName,
    }
}

/// After the largest comes 1: 0 opens a session.
fn epoch_after(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Open {
    /// Adds a partition at the end, or changes what is wanted of it.
    fn want(&mut self, key: FetchKey, ask: FetchAsk) {
        let known = self.places.get(&key).copied();
        if let Some(partition) = known.and_then(|place| self.partitions.get_mut(&place)) {
            partition.ask = ask;
            return;
        }
        self.places.insert(key.clone(), self.next_place);
        let told = None;
        self.partitions
            .insert(self.next_place, Partition { key, ask, told });
        self.next_place += 1;
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn wanted(&self) -> Vec<(FetchKey, FetchAsk)> {
        let partitions = self.partitions.values();
        partitions.map(|p| (p.key.clone(), p.ask.clone())).collect()
    }

    /// Whether this is news to the client.
    fn note(&mut self, key: &FetchKey, told: Told) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            return true;
        };
        let Some(mut partition) = self.partitions.remove(&place) else {
            return true;
        };
        let now = (told.high_watermark, told.log_start_offset);
        let is_error = !told.error_code.is_ok();
        let is_new =
            is_error || told.has_records || told.is_elsewhere || partition.told != Some(now);
        // After an error the client is told anew how things stand.
        partition.told = (!is_error).then_some(now);
        let place = match told.has_records {
            true => self.next_place,
            false => place,
        };
        self.next_place = self.next_place.max(place + 1);
        self.places.insert(key.clone(), place);
        self.partitions.insert(place, partition);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 10;

    fn key(partition: i32) -> FetchKey {
        FetchKey {
            topic: "t".into(),
            topic_id: TopicId::NONE,
            partition,
        }
    }

    fn ask(offset: i64) -> FetchAsk {
        FetchAsk {
            current_leader_epoch: LeaderEpoch::NONE,
            fetch_offset: Offset(offset),
            partition_max_bytes: 1000,
        }
    }

    fn request(id: i32, epoch: i32, wanted: &[(i32, i64)], forgotten: &[i32]) -> SessionRequest {
        SessionRequest {
            session_id: id,
            session_epoch: epoch,
            wanted: wanted.iter().map(|(p, o)| (key(*p), ask(*o))).collect(),
            forgotten: forgotten.iter().map(|p| key(*p)).collect(),
        }
    }

    fn told(high_watermark: i64, has_records: bool) -> Told {
        Told {
            error_code: ErrorCode::None,
            high_watermark: Offset(high_watermark),
            log_start_offset: Offset(0),
            has_records,
            is_elsewhere: false,
        }
    }

    /// A session of partitions 0 to 2 that the client has been told of, without records.
    fn session() -> FetchSession {
        let mut session = FetchSession::default();
        let wanted = [(0, 0), (1, 0), (2, 0)];
        let fetching = session
            .begin(request(0, 0, &wanted, &[]), || 7, ROOM)
            .unwrap();
        assert_eq!((fetching.session_id, fetching.extent), (7, Extent::Full));
        for partition in 0..3 {
            assert!(session.tell(7, Extent::Full, &key(partition), told(5, false)));
        }
        session
    }

    fn partitions(fetching: &Fetching) -> Vec<(i32, i64)> {
        let wanted = fetching.wanted.iter();
        wanted
            .map(|(k, a)| (k.partition, a.fetch_offset.0))
            .collect()
    }

    #[test]
    fn a_request_says_what_has_changed_and_the_answer_what_is_new() {
        let mut session = session();
        let fetching = session
            .begin(request(7, 1, &[(1, 9)], &[2]), || 8, ROOM)
            .unwrap();
        assert_eq!(fetching.extent, Extent::Incremental);
        assert_eq!(partitions(&fetching), [(0, 0), (1, 9)]);
        let mut tell = |p, t| session.tell(7, Extent::Incremental, &key(p), t);
        assert!(!tell(0, told(5, false)), "nothing is new");
        assert!(tell(1, told(6, false)), "the high watermark is");
        assert!(!tell(1, told(6, false)), "and was told");
        let trimmed = Told {
            log_start_offset: Offset(3),
            ..told(6, false)
        };
        assert!(tell(1, trimmed), "the log's start is");
        let elsewhere = Told {
            is_elsewhere: true,
            ..trimmed
        };
        assert!(!tell(1, trimmed));
        assert!(tell(1, elsewhere), "where to read is");
    }

    #[test]
    fn whoever_gave_records_goes_to_the_end() {
        let mut session = session();
        assert!(session.tell(7, Extent::Incremental, &key(0), told(5, true)));
        assert!(session.tell(7, Extent::Incremental, &key(1), told(5, true)));
        let fetching = session.begin(request(7, 1, &[], &[]), || 8, ROOM).unwrap();
        assert_eq!(partitions(&fetching), [(2, 0), (0, 0), (1, 0)]);
    }

    #[test]
    fn an_error_is_always_told_and_so_is_its_end() {
        let mut session = session();
        let failed = Told {
            error_code: ErrorCode::NotLeaderOrFollower,
            ..told(-1, false)
        };
        let mut tell = |t| session.tell(7, Extent::Incremental, &key(0), t);
        assert!(tell(failed));
        assert!(tell(failed));
        assert!(tell(told(5, false)));
        assert!(!tell(told(5, false)));
    }

    #[test]
    fn a_wrong_id_or_epoch_or_kind_of_name_is_refused() {
        let mut session = session();
        let refused = |session: &mut FetchSession, request| {
            session.begin(request, || 8, ROOM).map(drop).unwrap_err()
        };
        let not_found = refused(&mut session, request(8, 1, &[], &[]));
        assert_eq!(not_found, ErrorCode::FetchSessionIdNotFound);
        let epoch = refused(&mut session, request(7, 2, &[], &[]));
        assert_eq!(epoch, ErrorCode::InvalidFetchSessionEpoch);
        let mut by_id = request(7, 1, &[(0, 0)], &[]);
        by_id.wanted[0].0.topic = "".into();
        assert_eq!(
            refused(&mut session, by_id),
            ErrorCode::FetchSessionTopicIdError
        );
        assert!(session.begin(request(7, 1, &[], &[]), || 8, ROOM).is_ok());
        assert!(session.begin(request(7, 2, &[], &[]), || 8, ROOM).is_ok());
    }

    #[test]
    fn a_session_is_closed_replaced_or_ends_when_nothing_is_left_in_it() {
        let mut closed = session();
        let last = closed
            .begin(request(7, -1, &[(0, 3)], &[]), || 8, ROOM)
            .unwrap();
        assert_eq!((last.session_id, closed.partition_count()), (NO_SESSION, 0));
        assert_eq!(partitions(&last), [(0, 3)]);

        let mut replaced = session();
        let first = replaced
            .begin(request(7, 0, &[(1, 0)], &[]), || 8, ROOM)
            .unwrap();
        assert_eq!((first.session_id, replaced.partition_count()), (8, 1));

        let mut emptied = session();
        let none = emptied
            .begin(request(7, 1, &[], &[0, 1, 2]), || 8, ROOM)
            .unwrap();
        assert_eq!((none.wanted.len(), emptied.partition_count()), (0, 0));
    }

    #[test]
    fn there_is_no_session_without_room() {
        let mut session = FetchSession::default();
        let fetching = session
            .begin(request(0, 0, &[(0, 0), (1, 0)], &[]), || 7, 1)
            .unwrap();
        assert_eq!(
            (fetching.session_id, fetching.wanted.len()),
            (NO_SESSION, 2)
        );
        let mut session = FetchSession::default();
        session
            .begin(request(0, 0, &[(0, 0)], &[]), || 7, 1)
            .unwrap();
        let grown = session.begin(request(7, 1, &[(1, 0)], &[]), || 8, 1);
        assert_eq!(grown.map(drop), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(session.partition_count(), 0);
    }

    #[test]
    fn epochs_go_round_past_0() {
        assert_eq!(epoch_after(1), 2);
        assert_eq!(epoch_after(i32::MAX), 1);
    }
}
