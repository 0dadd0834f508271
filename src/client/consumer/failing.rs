//! A partition that can't be read now: since when, and how long that is kept from the application.

use tokio::time::Instant;

use super::ConsumerConfig;
use crate::client::ClientError;
use crate::model::ErrorCode;

/// Errors in a row, each of which a retry can help.
#[derive(Debug)]
pub(super) struct Failing {
    failures: u32,
    /// Since the first, or since `poll` was last told.
    since: Instant,
    /// Since when the brokers say that there is no such topic or partition.
    unknown_since: Option<Instant>,
    last: ClientError,
    told: Told,
}

/// Whether `poll` was told the last error.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

fn says_unknown(error: &ClientError) -> bool {
    let code = error.code();
    code.is_some_and(|code| {
        matches!(
            code,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        )
    })
}

impl Failing {
    pub(super) fn new(error: ClientError, now: Instant) -> Failing {
        Failing {
            failures: 1,
            since: now,
            unknown_since: says_unknown(&error).then_some(now),
            last: error,
            told: Told::No,
        }
    }

    /// One more; answers how many there are.
    pub(super) fn again(&mut self, error: ClientError, now: Instant) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.unknown_since = match says_unknown(&error) {
            true => self.unknown_since.or(Some(now)),
            false => None,
        };
        self.last = error;
        self.told = Told::No;
        self.failures
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When `poll` is told, unless it was.
    pub(super) fn deadline(&self, config: &ConsumerConfig) -> Option<Instant> {
        if self.told == Told::Yes {
            return None;
        }
        let any = self.since + config.retry_timeout;
        let unknown = self.unknown_since;
        Some(unknown.map_or(any, |since| any.min(since + config.unknown_topic_timeout)))
    }

    /// The error to be told; patience begins anew.
    pub(super) fn tell(&mut self, now: Instant) -> ClientError {
        self.since = now;
        self.unknown_since = self.unknown_since.map(|_| now);
        self.told = Told::Yes;
        self.last.clone()
    }
}
