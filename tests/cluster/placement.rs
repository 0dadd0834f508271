//! Partitions that move between real nodes, elections that are asked for, and brokers that are given up.

use klamm::client::{Client, ClientError, Election, PartitionTarget, Reassigning};
use klamm::model::{BrokerId, ErrorCode};

use crate::command_line::{fails, works};
use crate::history::{check, Copies};
use crate::nodes::Cluster;
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

/// Asks for other replicas of the only partition, or for none others any more.
pub async fn reassign(client: &Client, topic: &str, replicas: Option<&[i32]>) -> ErrorCode {
    let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
    let target = PartitionTarget {
        topic: topic.into(),
        partition: 0,
        replicas,
    };
    let outcomes = client.admin().reassign_partitions(&[target]).await.unwrap();
    code(&outcomes[0].result)
}

fn code(result: &Result<(), ClientError>) -> ErrorCode {
    match result {
        Ok(()) => ErrorCode::None,
        Err(error) => error.code().unwrap(),
    }
}

async fn under_way(client: &Client) -> Vec<Reassigning> {
    client.admin().list_reassignments().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_under_load_there_and_back_and_nothing_is_lost() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_on(&client, "orders", &[1, 2]).await;
    let writers = Writers::start(&cluster, "orders", 3).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let (none, refused) = (ErrorCode::None, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&client, "orders", Some(&[2, 4])).await, refused);
    assert_eq!(reassign(&client, "orders", Some(&[2, 3])).await, none);
    cluster.await_placed("orders", &[2, 3]).await;
    assert_eq!(under_way(&client).await, []);
    cluster.await_gone(BrokerId(1)).await;
    writers.await_more(RECORDS_BETWEEN).await;
    // It has everything: the other one may go.
    cluster.node(BrokerId(2)).kill();
    cluster.node(BrokerId(2)).restart();
    cluster.node(BrokerId(2)).wait();
    cluster.await_placed("orders", &[2, 3]).await;
    writers.await_more(RECORDS_BETWEEN).await;
    // Back to a node that has had it.
    assert_eq!(reassign(&client, "orders", Some(&[1, 2])).await, none);
    cluster.await_placed("orders", &[1, 2]).await;
    cluster.await_gone(BrokerId(3)).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
    assert!(
        cluster.log(BrokerId(1)) == cluster.log(BrokerId(2)),
        "the replicas differ"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reassignment_waits_for_its_replicas_outlives_all_nodes_and_can_be_cancelled() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_on(&client, "orders", &[1, 2]).await;
    let writers = Writers::start(&cluster, "orders", 1).await;
    writers.await_more(RECORDS_BETWEEN).await;
    cluster.node(BrokerId(3)).kill();
    // One that has no connection to it.
    let client = cluster.client().await;
    assert_eq!(
        reassign(&client, "orders", Some(&[3, 2])).await,
        ErrorCode::None
    );
    writers.await_more(RECORDS_BETWEEN).await;
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let expected = Reassigning {
        topic: "orders".into(),
        partition: 0,
        replicas: ids(&[3, 2, 1]),
        adding: ids(&[3]),
        removing: ids(&[1]),
    };
    assert_eq!(under_way(&client).await, [expected]);
    // The active controller is one of these.
    for id in [1, 2] {
        cluster.node(BrokerId(id)).kill();
    }
    for id in [1, 2, 3] {
        cluster.node(BrokerId(id)).restart();
    }
    for id in [1, 2, 3] {
        cluster.node(BrokerId(id)).wait();
    }
    cluster.await_placed("orders", &[3, 2]).await;
    cluster.await_gone(BrokerId(1)).await;
    writers.await_more(RECORDS_BETWEEN).await;

    cluster.node(BrokerId(1)).kill();
    let client = cluster.client().await;
    assert_eq!(
        reassign(&client, "orders", Some(&[1, 2])).await,
        ErrorCode::None
    );
    assert_eq!(under_way(&client).await.len(), 1);
    assert_eq!(reassign(&client, "orders", None).await, ErrorCode::None);
    assert_eq!(
        reassign(&client, "orders", None).await,
        ErrorCode::NoReassignmentInProgress
    );
    cluster.node(BrokerId(1)).restart();
    cluster.node(BrokerId(1)).wait();
    cluster.await_placed("orders", &[2, 3]).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_elected_when_asked_for_the_quorum_is_told_and_a_broker_is_given_up() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    let admin = client.admin();
    cluster.create_on(&client, "orders", &[1, 2, 3]).await;
    cluster.create_on(&client, "alone", &[3]).await;
    cluster.node(BrokerId(1)).kill();
    cluster.node(BrokerId(1)).restart();
    cluster.node(BrokerId(1)).wait();
    cluster.await_in_sync("orders").await;
    let orders = [("orders".to_owned(), 0)];
    let elected = admin
        .elect_leaders(Election::Preferred, Some(&orders))
        .await;
    // The controller does so by itself sooner or later.
    let elected = code(&elected.unwrap()[0].result);
    assert!(
        [ErrorCode::None, ErrorCode::ElectionNotNeeded].contains(&elected),
        "{elected}"
    );
    cluster.await_leader("orders", BrokerId(1)).await;
    assert_eq!(
        admin
            .elect_leaders(Election::Preferred, None)
            .await
            .unwrap(),
        []
    );

    // Every node tells the same of the voters.
    let leader = admin.describe_quorum().await.unwrap().leader_id;
    for id in 1..=3 {
        let quorum = cluster.quorum_at(BrokerId(id)).await;
        let voters: Vec<i32> = quorum
            .current_voters
            .iter()
            .map(|v| v.replica_id.0)
            .collect();
        assert_eq!((quorum.leader_id, voters), (leader, vec![1, 2, 3]));
    }

    let there = admin.unregister_broker(BrokerId(3)).await;
    assert_eq!(code(&there), ErrorCode::InvalidRequest);
    cluster.node(BrokerId(3)).kill();
    let client = cluster.client().await;
    let admin = client.admin();
    cluster.await_fenced(&client, BrokerId(3)).await;
    let alone = [("alone".to_owned(), 0), ("nowhere".to_owned(), 0)];
    let elected = admin.elect_leaders(Election::Unclean, Some(&alone)).await;
    let codes: Vec<_> = elected.unwrap().iter().map(|o| code(&o.result)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::EligibleLeadersNotAvailable, unknown]);
    admin.unregister_broker(BrokerId(3)).await.unwrap();
    cluster.await_brokers(&client, &[1, 2]).await;
    // With its disk it is one of the cluster again, and has what only it has.
    cluster.node(BrokerId(3)).restart();
    cluster.node(BrokerId(3)).wait();
    cluster.await_placed("alone", &[3]).await;
    cluster.await_in_sync("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_plans_moves_verifies_cancels_and_drains() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_on(&client, "orders", &[1, 2]).await;
    let plan = works(
        &cluster,
        &["topic", "reassign", "plan", "orders", "--brokers", "2,3"],
    );
    assert!(
        plan.contains(r#""topic":"orders","partition":0,"replicas":["#),
        "{plan}"
    );
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("plan.json");
    std::fs::write(&file, &plan).unwrap();
    let file = file.to_str().unwrap();
    let verify = ["topic", "reassign", "verify", "--file", file];
    let said = fails(&cluster, &verify);
    assert!(
        said.contains("orders-0 is on 1,2 and doesn't move"),
        "{said}"
    );
    let said = works(
        &cluster,
        &["topic", "reassign", "execute", "--file", file, "--wait"],
    );
    assert!(said.contains("orders-0 moves to "), "{said}");
    let said = works(&cluster, &verify);
    assert!(said.contains("orders-0 has moved"), "{said}");
    cluster.await_gone(BrokerId(1)).await;

    let said = works(&cluster, &["cluster", "drain", "2", "--dry-run"]);
    assert!(said.contains("orders-0 would move to "), "{said}");
    works(&cluster, &["cluster", "drain", "2"]);
    cluster.await_gone(BrokerId(2)).await;
    let said = works(&cluster, &["cluster", "drain", "2"]);
    assert!(said.contains("nothing has to move"), "{said}");

    // One that can't be had: it moves until it is cancelled.
    cluster.node(BrokerId(2)).kill();
    let client = cluster.client().await;
    assert_eq!(
        reassign(&client, "orders", Some(&[2, 3])).await,
        ErrorCode::None
    );
    let said = works(&cluster, &["topic", "reassign", "list"]);
    assert!(said.contains("orders"), "{said}");
    let said = works(&cluster, &["topic", "reassign", "cancel"]);
    assert!(said.contains("orders-0 doesn't move any more"), "{said}");
    let said = works(&cluster, &["topic", "reassign", "cancel"]);
    assert!(said.contains("nothing moves"), "{said}");
    works(&cluster, &["topic", "elect"]);
    let said = works(&cluster, &["cluster", "status"]);
    assert!(said.contains("metadata: voter "), "{said}");
    for (id, runs) in [(1, true), (2, false), (3, true)] {
        let process = cluster.node(BrokerId(id)).process_id().to_string();
        let shows = |line: &str| line.split_whitespace().any(|word| word == process);
        assert_eq!(said.lines().any(shows), runs, "{id} is {process}: {said}");
    }
    let said = works(&cluster, &["cluster", "unregister", "2"]);
    assert!(said.contains("broker 2 is no more"), "{said}");
    let said = fails(&cluster, &["cluster", "drain", "3"]);
    assert!(said.contains("no broker is left"), "{said}");
}
