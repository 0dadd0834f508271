//! How a new copy of the metadata begins to take part: before async-raft runs, it greets the other voters.
//!
//! It may be the copy of a voter that never had one, when a cluster is formed, or one that takes the place of
//! a copy which was lost. It doesn't know which, and the second must not pass for the first: so it joins only
//! when so many others recognise it that one of them would know of an earlier copy. And if there is something
//! to be copied already, it hears all others first, and copies it from the leader: what an earlier copy has
//! acknowledged and voted stays true (`docs/adr/0012-a-voter-is-its-copy-of-the-metadata.md` has the proof).
//!
//! Meanwhile it answers the greetings of those who form the cluster with it, and nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use async_raft::storage::HardState;
use async_raft::NodeId;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{sleep, Duration, Instant};

use super::copying::{fetch, StateCopy, Wanted};
use super::directory::Directory;
use super::network::Speaker;
use super::rpc::{Greeted, Reply, Request};
use super::server::{greet, open_envelope, reply_bytes, Asked};
use super::storage::Storage;
use super::RaftError;

/// How often it is said what is waited for.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// What the greetings come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody has anything, and nobody knows an earlier copy.
    Fresh,
    /// The leader's state has to be copied; no vote may be given up to this term.
    Copy { term: u64 },
    /// Too few were heard.
    Wait { heard: usize, needed: usize },
    /// Somebody knows another copy.
    Stranger,
}

/// Decides by the answers of those that were heard.
fn verdict(others: usize, heard: &[Greeted]) -> Verdict {
    if heard.iter().any(|greeted| !greeted.is_recognised) {
        return Verdict::Stranger;
    }
    let has_state = heard.iter().any(|greeted| greeted.has_entries);
    // Those who aren't heard must be too few to have formed a majority with an earlier copy.
    let needed = match has_state {
        true => others,
        false => others / 2 + 1,
    };
    if heard.len() < needed {
        let heard = heard.len();
        return Verdict::Wait { heard, needed };
    }
    match has_state {
        true => Verdict::Copy {
            term: heard.iter().map(|greeted| greeted.term).max().unwrap_or(0),
        },
        false => Verdict::Fresh,
    }
}

pub(super) struct Forming<'a> {
    pub speaker: &'a Speaker,
    pub others: &'a HashSet<NodeId>,
    pub directory: &'a Directory,
    pub storage: &'a Arc<Storage>,
    pub patience: Duration,
    pub heartbeat: Duration,
}

impl Forming<'_> {
    /// Returns when this copy may take part.
    pub async fn run(&self, asked: &mut mpsc::Receiver<Asked>) -> Result<(), RaftError> {
        tokio::select! {
            joined = self.join() => joined,
            () = self.answer(asked) => Err(RaftError::Stopped),
        }
    }

    async fn join(&self) -> Result<(), RaftError> {
        let mut said: Option<(Verdict, Instant)> = None;
        loop {
            let heard = self.greet_all().await;
            let verdict = verdict(self.others.len(), &heard);
            let is_news =
                said.is_none_or(|(what, when)| what != verdict || when.elapsed() >= SAY_INTERVAL);
            if is_news {
                self.say(verdict);
                said = Some((verdict, Instant::now()));
            }
            match verdict {
                Verdict::Fresh => return self.directory.join(),
                Verdict::Copy { term } => {
                    if let Some(copy) = self.copy().await? {
                        self.install(copy, term).await?;
                        return self.directory.join();
                    }
                }
                Verdict::Wait { .. } | Verdict::Stranger => {}
            }
            sleep(self.heartbeat).await;
        }
    }

    fn say(&self, verdict: Verdict) {
        let (node, id) = (self.speaker.id, self.directory.id());
        match verdict {
            Verdict::Fresh => log::info!("the voters form a cluster"),
            Verdict::Copy { .. } => {
                log::info!("the metadata are copied from their leader, once there is one");
            }
            Verdict::Wait { heard, needed } => log::info!(
                "this voter's copy of the metadata is new: it joins when {needed} others answer, and {heard} do"
            ),
            Verdict::Stranger => log::error!(
                "the other voters know another copy of this voter's metadata: its disk was lost or replaced, \
                 or a second node has its number. This copy takes no part until they let it in: \
                 'klamm cluster readmit {node} {id}', asked of one of them, if the known one is lost for good"
            ),
        }
    }

    async fn greet_all(&self) -> Vec<Greeted> {
        let greetings = self.others.iter().map(|voter| {
            let greeting = self.speaker.call(*voter, Request::Greet);
            tokio::time::timeout(self.patience, greeting)
        });
        let answers = join_all(greetings).await;
        let greeted = answers.into_iter().filter_map(|answer| match answer {
            Ok(Ok(Reply::Greeted(greeted))) => Some(greeted),
            _ => None,
        });
        greeted.collect()
    }

    /// The leader's state; `None` if nobody says that he leads, or if it has changed meanwhile.
    async fn copy(&self) -> Result<Option<StateCopy>, RaftError> {
        for voter in self.others {
            let copy = fetch(self.speaker, *voter, Wanted::Latest).await?;
            if copy.is_some() {
                return Ok(copy);
            }
        }
        Ok(None)
    }

    /// Takes it over as a voter that has given its vote in `term` to itself: so it gives it to nobody else up to
    /// then.
    async fn install(&self, copy: StateCopy, term: u64) -> Result<(), RaftError> {
        let hard_state = HardState {
            current_term: term.max(copy.position.term),
            voted_for: Some(self.speaker.id),
        };
        let installed = self.storage.install(copy, hard_state).await;
        installed.map_err(|error| RaftError::Damaged(error.to_string()))
    }

    /// Answers greetings until nobody can ask any more.
    async fn answer(&self, asked: &mut mpsc::Receiver<Asked>) {
        while let Some(Asked { from, rpc, answer }) = asked.recv().await {
            let greeted =
                open_envelope(from, &rpc, self.others).and_then(|envelope| {
                    match envelope.message {
                        Request::Greet => greet(self.directory, self.storage, &envelope),
                        _ => Err(RaftError::Forming),
                    }
                });
            let reply = greeted.and_then(|reply| reply_bytes(self.directory, reply));
            let _ = answer.send(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted(is_recognised: bool, has_entries: bool, term: u64) -> Greeted {
        Greeted {
            is_recognised,
            has_entries,
            term,
        }
    }

    #[test]
    fn a_cluster_is_formed_when_nobody_else_could_know_an_earlier_copy() {
        let new = greeted(true, false, 0);
        let waits = |heard, needed| Verdict::Wait { heard, needed };
        assert_eq!(verdict(2, &[]), waits(0, 2));
        assert_eq!(verdict(2, &[new]), waits(1, 2));
        assert_eq!(verdict(2, &[new, new]), Verdict::Fresh);
        assert_eq!(verdict(4, &[new, new]), waits(2, 3));
        assert_eq!(verdict(4, &[new, new, new]), Verdict::Fresh);
        // One that stands for election, and can't win it alone.
        let stands = greeted(true, false, 3);
        assert_eq!(verdict(2, &[new, stands]), Verdict::Fresh);
    }

    #[test]
    fn what_is_there_is_copied_once_all_are_heard() {
        let (new, old) = (greeted(true, false, 2), greeted(true, true, 7));
        let waits = |heard, needed| Verdict::Wait { heard, needed };
        assert_eq!(verdict(2, &[old]), waits(1, 2));
        assert_eq!(verdict(2, &[old, new]), Verdict::Copy { term: 7 });
        assert_eq!(verdict(4, &[old, old, old]), waits(3, 4));
    }

    #[test]
    fn one_who_knows_another_copy_is_enough() {
        let (old, knows) = (greeted(true, true, 7), greeted(false, true, 7));
        assert_eq!(verdict(2, &[old, knows]), Verdict::Stranger);
        assert_eq!(verdict(2, &[knows]), Verdict::Stranger);
    }
}
