//! Which copy of the metadata a voter has.
//!
//! A voter owes the others everything that it has acknowledged, its votes included. One whose disk was lost
//! or replaced has forgotten that, and would help to elect a leader which lacks what was committed. So each
//! copy has a [`DirectoryId`], drawn with the store and told with every message (KIP-853), and each voter
//! keeps on disk which copy of each other one it knows, from the first that it heard of it. Another copy under
//! the same number is a stranger, and takes no part until the cluster readmits it
//! (`docs/adr/0012-a-voter-is-its-copy-of-the-metadata.md`).
//!
//! The list of voters is kept too: who starts with another one would count other majorities.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_raft::NodeId;
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::log::has_entries_or_votes;
use super::RaftError;
use crate::model::DirectoryId;
use crate::storage::meta::{MetaBatch, MetaTree};

const KEY_DIRECTORY: &[u8] = b"d";

/// Whether a copy may vote and acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// It is new, and has to hear from the others first that they know no other one.
    Forming,
    Joined,
    /// It is that of a node without a vote, which promises nothing to anybody.
    Observing,
}

/// What a node is to the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Voter,
    /// It follows without a vote.
    Observer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    id: DirectoryId,
    voters: BTreeSet<NodeId>,
    standing: Standing,
    known: BTreeMap<NodeId, DirectoryId>,
}

/// This voter's copy, and those of the others that it knows.
#[derive(Debug)]
pub(super) struct Directory {
    tree: MetaTree,
    record: Mutex<Record>,
    /// Copies that were refused, so that each is told once.
    strangers: Mutex<BTreeSet<(NodeId, DirectoryId)>>,
}

impl Directory {
    /// Reads what is on disk, or draws an id for a new copy. What a voter's new copy has begun to take over from
    /// others and not finished is removed.
    pub fn open(
        tree: MetaTree,
        voters: &HashSet<NodeId>,
        role: Role,
    ) -> Result<Directory, RaftError> {
        let configured: BTreeSet<NodeId> = voters.iter().copied().collect();
        let stored = tree.get(KEY_DIRECTORY)?;
        let record = match stored {
            Some(bytes) => decode::<Record>("the record of the voters", &bytes)?,
            None => {
                // Stores of before this record was kept have taken part already.
                let has_joined = voters.len() == 1 || has_entries_or_votes(&tree)?;
                let record = Record {
                    id: DirectoryId::random(),
                    voters: configured.clone(),
                    standing: match role {
                        Role::Observer => Standing::Observing,
                        Role::Voter if has_joined => Standing::Joined,
                        Role::Voter => Standing::Forming,
                    },
                    known: BTreeMap::new(),
                };
                write(&tree, &record)?;
                record
            }
        };
        if record.voters != configured {
            return Err(RaftError::OtherVoters {
                stored: List(record.voters).to_string(),
                configured: List(configured).to_string(),
            });
        }
        if record.standing == Standing::Forming {
            clear(&tree)?;
        }
        Ok(Directory {
            tree,
            record: Mutex::new(record),
            strangers: Mutex::default(),
        })
    }

    pub fn id(&self) -> DirectoryId {
        self.record().id
    }

    /// The first copy that was heard of another voter.
    pub fn known(&self, voter: NodeId) -> Option<DirectoryId> {
        self.record().known.get(&voter).copied()
    }

    pub fn has_joined(&self) -> bool {
        self.record().standing == Standing::Joined
    }

    /// From now on it may vote and acknowledge. On disk when it returns.
    pub fn join(&self) -> Result<(), RaftError> {
        self.change(|record| record.standing = Standing::Joined)
    }

    /// Whether this is the copy that a voter is known to have: `readmitted`, if the cluster has let one in,
    /// or else the first that was heard of it. That is kept on disk when it returns. A node without a vote takes
    /// what is committed from any copy that the cluster lets speak.
    pub fn recognises(
        &self,
        voter: NodeId,
        id: DirectoryId,
        readmitted: Option<DirectoryId>,
    ) -> Result<bool, RaftError> {
        let (standing, first) = {
            let record = self.record();
            (record.standing, record.known.get(&voter).copied())
        };
        if standing == Standing::Observing {
            return Ok(true);
        }
        let is_known = match readmitted.or(first) {
            Some(known) => known == id,
            None => {
                self.change(|record| {
                    record.known.insert(voter, id);
                })?;
                true
            }
        };
        if !is_known && self.strangers().insert((voter, id)) {
            log::error!(
                "voter {voter} is here with another copy of the metadata, {id}, than the one that is known: \
                 its disk was lost or replaced, or a second node has its number. It takes no part; if the \
                 known one is lost for good, 'klamm cluster readmit {voter} {id}' lets this one in"
            );
        }
        Ok(is_known)
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), RaftError> {
        let mut record = self.record();
        let mut changed = record.clone();
        change(&mut changed);
        write(&self.tree, &changed)?;
        *record = changed;
        Ok(())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strangers(&self) -> MutexGuard<'_, BTreeSet<(NodeId, DirectoryId)>> {
        let strangers = self.strangers.lock();
        strangers.unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(tree: &MetaTree, record: &Record) -> Result<(), RaftError> {
    let mut batch = MetaBatch::default();
    batch.put(KEY_DIRECTORY, encode(record)?);
    tree.apply(batch)?;
    Ok(tree.flush()?)
}

/// Removes everything but the record.
fn clear(tree: &MetaTree) -> Result<(), RaftError> {
    let mut batch = MetaBatch::default();
    for entry in tree.scan_prefix(&[]) {
        let (key, _) = entry?;
        if key != KEY_DIRECTORY {
            batch.remove(&key);
        }
    }
    tree.apply(batch)?;
    Ok(tree.flush()?)
}

struct List(BTreeSet<NodeId>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.0.iter().map(NodeId::to_string).collect();
        f.write_str(&ids.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::meta::MetaStore;

    fn open(store: &MetaStore, voters: &[NodeId]) -> Result<Directory, RaftError> {
        let voters = voters.iter().copied().collect();
        Directory::open(store.tree("raft").unwrap(), &voters, Role::Voter)
    }

    #[test]
    fn a_copy_keeps_its_id_and_whom_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let [first, other, later] = [(); 3].map(|()| DirectoryId::random());
        let id = {
            let store = MetaStore::open(dir.path()).unwrap();
            let directory = open(&store, &[1, 2, 3]).unwrap();
            assert!(!directory.has_joined());
            assert!(directory.recognises(2, first, None).unwrap());
            assert!(!directory.recognises(2, other, None).unwrap());
            directory.join().unwrap();
            directory.id()
        };
        let store = MetaStore::open(dir.path()).unwrap();
        let directory = open(&store, &[3, 2, 1]).unwrap();
        assert_eq!(directory.id(), id);
        assert!(directory.has_joined());
        assert!(directory.recognises(2, first, None).unwrap());
        assert!(!directory.recognises(2, other, None).unwrap());
        // What the cluster has let in counts, and nothing else.
        assert!(directory.recognises(2, later, Some(later)).unwrap());
        assert!(!directory.recognises(2, first, Some(later)).unwrap());
    }

    #[test]
    fn other_voters_than_those_of_before_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = MetaStore::open(dir.path()).unwrap();
        assert!(open(&store, &[1]).unwrap().has_joined(), "it is alone");
        let refused = open(&store, &[1, 2, 3]).unwrap_err().to_string();
        assert!(refused.contains("1,2,3"), "{refused}");
    }

    #[test]
    fn a_new_copy_begins_anew_until_it_has_joined() {
        let dir = tempfile::tempdir().unwrap();
        let store = MetaStore::open(dir.path()).unwrap();
        let tree = store.tree("raft").unwrap();
        let id = open(&store, &[1, 2, 3]).unwrap().id();
        let mut batch = MetaBatch::default();
        batch.put(b"half a copy", vec![1]);
        tree.apply(batch).unwrap();
        let directory = open(&store, &[1, 2, 3]).unwrap();
        assert_eq!(directory.id(), id);
        assert_eq!(tree.get(b"half a copy").unwrap(), None);
        let mut batch = MetaBatch::default();
        batch.put(b"a copy", vec![1]);
        tree.apply(batch).unwrap();
        directory.join().unwrap();
        open(&store, &[1, 2, 3]).unwrap();
        assert_eq!(tree.get(b"a copy").unwrap(), Some(vec![1]));
    }
}
