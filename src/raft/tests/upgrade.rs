//! A node that doesn't know what the cluster speaks stops, says why, and has lost nothing when a later build starts.

use tempfile::TempDir;

use super::*;
use crate::model::ClusterId;
use crate::raft::copying::StateCopy;

fn knowing(metadata_version_max: u16) -> RaftSettings {
    RaftSettings {
        metadata_version_max,
        // Each write is followed by a snapshot.
        snapshot_every_bytes: 1,
        ..settings()
    }
}

fn bootstrap(metadata_version: u16) -> MetadataCommand {
    MetadataCommand::BootstrapCluster {
        cluster_id: ClusterId("klamm-1".into()),
        metadata_version,
    }
}

/// Why it doesn't start.
fn refused(dir: &Path, settings: RaftSettings) -> String {
    let store = MetaStore::open(dir).unwrap();
    let refused = Raft::start(settings, store, Arc::new(Alone));
    refused.unwrap_err().to_string()
}

const REASON: &str = "the cluster speaks metadata version 5, and this node knows none above 4";

#[tokio::test]
async fn a_node_that_does_not_know_the_version_of_its_metadata_does_not_start() {
    // It stands in the log, or in a snapshot.
    for snapshot_every_bytes in [1 << 20, 1] {
        let dir = TempDir::new().unwrap();
        let with = |metadata_version_max| RaftSettings {
            snapshot_every_bytes,
            ..knowing(metadata_version_max)
        };
        let raft = start_with(dir.path(), with(5));
        lead(&raft).await;
        raft.propose(vec![bootstrap(5)]).await.unwrap();
        for number in 0..20 {
            raft.propose(vec![create(number)]).await.unwrap();
        }
        let before = image(&raft);
        raft.shutdown().await;
        let said = refused(dir.path(), with(4));
        assert!(said.contains(REASON), "{said}");
        let raft = start_with(dir.path(), with(5));
        lead(&raft).await;
        assert_eq!(image(&raft), before);
        raft.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_stops_where_the_cluster_goes_on_to_a_version_that_it_does_not_know() {
    let dir = TempDir::new().unwrap();
    let raft = start_with(dir.path(), knowing(4));
    lead(&raft).await;
    raft.propose(vec![bootstrap(4)]).await.unwrap();
    let raise = MetadataCommand::SetMetadataVersion { version: 5 };
    let answer = raft.propose(vec![raise, create(1)]).await;
    assert_eq!(answer, Err(ProposeError::Unknown));
    let fault = raft.fault().await;
    assert!(fault.contains(REASON), "{fault}");
    assert_eq!(image(&raft).metadata_version(), 4);
    raft.shutdown().await;
    let raft = start_with(dir.path(), knowing(5));
    lead(&raft).await;
    let image = image(&raft);
    assert_eq!((image.metadata_version(), image.topic_count()), (5, 1));
    raft.shutdown().await;
}

#[tokio::test]
async fn the_metadata_of_a_later_version_are_not_taken_over() {
    let mut later = MetadataImage::default();
    later.replay(&bootstrap(5));
    let copy = || StateCopy {
        image: later.clone(),
        position: LogPosition { index: 7, term: 1 },
        beginning: LogPosition { index: 7, term: 1 },
        entries: Vec::new(),
    };
    let vote = HardState {
        current_term: 1,
        voted_for: None,
    };
    for (known, is_taken) in [(4, false), (5, true)] {
        let dir = TempDir::new().unwrap();
        let store = MetaStore::open(dir.path()).unwrap();
        let storage = Storage::open(&store, [1].into(), 1 << 20, known).unwrap();
        let installed = storage.install(copy(), vote.clone()).await;
        assert_eq!(installed.is_ok(), is_taken, "{installed:?}");
        let has_it = storage.state().images().borrow().cluster_id().is_some();
        assert_eq!(has_it, is_taken);
        let fault = storage.fault().borrow().clone();
        assert_eq!(fault.is_some_and(|fault| fault.contains(REASON)), !is_taken);
    }
}
